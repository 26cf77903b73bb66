"""What a loader refuses."""

import numpy as np
import pytest

from wengert.data import Arrays, Loader
from wengert.errors import OptionError


@pytest.mark.parametrize(("name", "values"), [
    ("prefetch", ["x", -1, 2.5, None, True]), ("shuffle", ["x", 2, None, np.ones(2)]),
    ("drop_last", ["x", 2, None, np.ones(2)]), ("seed", ["x", -1, 2.5, None, (0.5,)]),
    ("batch_size", ["x", 0, 2.5, None, True]),
])  # fmt: skip
def test_options_of_another_kind_are_refused(name, values):
    source = Arrays(np.ones((5, 2)), np.arange(5))
    for value in values:
        with pytest.raises(OptionError):
            Loader(source, **{name: value})


@pytest.mark.parametrize("source", [np.ones((5, 2)), [1, 2, 3], None])
def test_what_is_no_source_is_refused(source):
    with pytest.raises(OptionError, match="a source has a length and gives batch"):
        Loader(source)
