"""Formulas swell, the tape does not; and the counts are right."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp

import wengert as wg
from wengert import symbolic
from wengert.symbolic.swell import FAMILIES, dag, tree_size


def preorder(y):
    return sum(1 for _ in sp.preorder_traversal(y))


def test_counts():
    x = sp.Symbol("x", real=True)
    y = sp.diff(sp.sin(x * sp.exp(x)) ** 2, x)
    assert tree_size([y]) == preorder(y)
    assert dag([y]) == len(set(sp.preorder_traversal(y)))


def test_the_logistic_map_doubles_and_its_tape_grows_by_a_constant():
    rows = symbolic.swell("logistic map", range(1, 8), limit=0).rows
    written = [row["derivative"] for row in rows]
    tape = [row["tape"] for row in rows]
    assert all(b > 2 * a for a, b in pairwise(written))
    assert len(set(np.diff(tape[1:]))) == 1
    assert all(row["simplified"] is None for row in rows)


def test_speelpenning_is_quadratic_written_out_and_linear_on_the_tape():
    rows = symbolic.swell("Speelpenning's product", (4, 8, 16), limit=0).rows
    assert [row["derivative"] for row in rows] == [n * n for n in (4, 8, 16)]
    steps = np.diff([row["tape"] for row in rows])
    assert steps[1] == 2 * steps[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_formula_is_the_derivative(name):
    family, at = FAMILIES[name]
    f, x = family(3), at(3)
    s = symbolic.symbols(f, x)
    g = symbolic.function(symbolic.gradient(f, x), s if np.shape(x) == () else
                          np.array(s.tolist(), object))  # fmt: skip
    np.testing.assert_allclose(g(np.asarray(x)), wg.grad(f)(np.asarray(x)), rtol=1e-13)


def test_a_family_of_ones_own_and_the_tables():
    table = symbolic.swell(lambda n: lambda x: x**n, (2, 3), 2.0)
    assert [row["formula"] for row in table.rows] == [3, 3]
    assert table.markdown().splitlines()[0].startswith("| depth | formula |")
    assert len(str(table).splitlines()) == 3


def test_picture():
    pytest.importorskip("matplotlib")
    table = symbolic.swell("nested sin(exp(..))", (1, 2, 4), limit=0)
    svg = wg.viz.swell({"nested": table, "again": table})
    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == wg.viz.swell({"nested": table, "again": table})


def test_what_is_no_family():
    with pytest.raises(wg.errors.ArgumentError, match="no such family") as e:
        symbolic.swell("logistic", (1, 2))
    assert "'logistic map'" in e.value.fix
    with pytest.raises(wg.errors.ArgumentError, match=r"family\(depth\) is a function"):
        symbolic.swell(lambda x: np.sin(x) * x, (1, 2))
