"""Every function of the NumPy table, through the generic checks."""

import numpy as np
import numpy_cases_a  # noqa: F401  (fills the registry)
import numpy_cases_b  # noqa: F401
import numpy_cases_c  # noqa: F401
import numpy_cases_d  # noqa: F401
import pytest
from numpy_checks import (
    CASES,
    check_gradients,
    check_nested,
    check_ownership,
    check_second,
    check_staged,
    check_values,
    check_vmap,
    quiet,
)

import wengert as wg
from wengert.numpy import table

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
each = lambda cases: pytest.mark.parametrize("c", cases, ids=[c.name for c in cases])


@each(CASES)
def test_values_are_numpys(c):
    check_values(c)


@each([c for c in CASES if c.grad])
def test_first_derivatives(c):
    check_gradients(c)


@each([c for c in CASES if c.grad and c.second])
def test_second_derivatives(c):
    check_second(c)


@each([c for c in CASES if c.vmap])
def test_vmap_is_a_stack_of_calls(c):
    check_vmap(c)


@each([c for c in CASES if c.grad and len(c.xs) > 1])
def test_operands_that_change_later_do_not_matter(c):
    check_ownership(c)


@each([c for c in CASES if c.vmap])
def test_staging_knows_every_function_without_values(c):
    check_staged(c)


@pytest.mark.slow
@each([c for c in CASES if c.vmap and c.grad])
def test_transforms_nest(c):
    check_nested(c)


def test_the_names_of_cases_are_unique():
    names = [c.name for c in CASES]
    assert sorted({n for n in names if names.count(n) > 1}) == []


def test_every_function_of_the_table_has_a_case(monkeypatch):
    asked = set()

    class Spy(dict):
        def get(self, key, default=None):
            asked.add(key)
            return dict.get(self, key, default)

    monkeypatch.setattr(table, "FUNCTIONS", Spy(table.FUNCTIONS))
    for c in CASES:
        quiet(c.f, *(wg.tensor(x) for x in c.xs))
    ours = {f for f in (*table.FUNCTIONS, *table.BY_VALUE) if f.__module__ == "numpy"}
    silent = {f.__name__ for f in ours - asked}
    assert silent - ELSEWHERE == set()


ELSEWHERE = {
    "copyto",
    "put",
    "put_along_axis",
    "fill_diagonal",
    "putmask",
    "place",
    "i0",
}  # in place: test_numpy_inplace.py, or a special function


def test_numpy_is_the_reference():
    assert np.sum(wg.tensor([1.0, 2.0])).item() == 3.0
