"""Every registered operation keeps the laws, so a new one is tested by existing."""

import pytest

from wengert import testing
from wengert.trace import OPS


@pytest.mark.parametrize("name", sorted(OPS))
def test_laws(name):
    count = 0
    for op, xs in testing.examples(name):
        testing.check_op(op, *xs)
        count += 1
    assert count, f"{name} has no example at which the laws can be run"
