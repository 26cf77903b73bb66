"""Each identity of matrix calculus against wg.jacobian and against central differences."""

from pathlib import Path

import numpy as np
import pytest

import wengert as wg
from wengert.symbolic import layout
from wengert.symbolic.identities import MM, TABLE, commutation, constants_of, identities


def as_printed(j, y, group):
    return layout.flat(j, np.shape(y)) if group == MM else j


def difference(f, x, h=1e-5):
    """Central differences with one step of Richardson's, the axes of the value first."""
    x = np.asarray(x, float)
    columns = []
    for i in np.ndindex(*x.shape):
        e = np.zeros(x.shape)
        e[i] = h

        def slope(n, e=e):
            return (f(x + n * e) - f(x - n * e)) / (2 * n * h)

        columns.append((4 * slope(1) - slope(2)) / 3)
    y = np.stack(columns, -1)
    return y.reshape(*y.shape[:-1], *x.shape)


def test_there_are_forty():
    assert len(TABLE) >= 40
    assert len({i.function for i in TABLE}) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda i: i.function)
def test_identity(row):
    k, x = constants_of(0), row.sample(np.random.default_rng(10))
    f = lambda x: row.f(x, k)
    want = row.closed(x, k)
    got = as_printed(wg.jacobian(f)(x), f(x), row.group)
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * max(1, np.abs(want).max()))
    slow = as_printed(difference(f, x), f(x), row.group)
    np.testing.assert_allclose(slow, want, rtol=1e-7, atol=1e-8 * max(1, np.abs(want).max()))


def test_a_wrong_row_fails():
    """The check sees a transposed gradient."""
    row = next(i for i in TABLE if i.function == r"\operatorname{tr}(A X B)")
    k, x = constants_of(0), row.sample(np.random.default_rng(0))
    wrong = row.closed(x, k).T
    assert not np.allclose(wg.grad(lambda x: row.f(x, k))(x), wrong, rtol=1e-3)


def test_the_table_is_printed():
    text = identities()
    rows = [line for line in text.splitlines() if line.startswith("| $")]
    assert len(rows) == len(TABLE)
    assert all(line.count(" | ") + line.count("| ") >= 5 for line in rows)
    assert identities("latex").count(r"\\") >= len(TABLE)


SHAPES = [((), ()), ((3,), ()), ((), (4,)), ((3,), (4,)), ((2, 3), ()), ((), (2, 3)),
          ((3,), (2, 4)), ((2, 3), (4,)), ((2, 3), (4, 5))]  # fmt: skip


@pytest.mark.parametrize(("ys", "xs"), SHAPES)
def test_layouts(ys, xs):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((*ys, *xs))
    f = lambda x: np.sum(table * x, axis=tuple(range(len(ys), table.ndim)))
    x = rng.standard_normal(xs)
    j = layout.jacobian_in(f)(x)
    d = layout.jacobian_in(f, "denominator")(x)
    np.testing.assert_allclose(j, table, rtol=1e-14)
    assert j.shape == (*ys, *xs)
    assert d.shape == (*xs, *ys)
    for i in np.ndindex(*ys):
        for k in np.ndindex(*xs):
            assert d[k + i] == j[i + k]
    np.testing.assert_array_equal(layout.convert(d, len(xs), "numerator"), j)
    m = layout.flat(j, ys)
    vec = lambda v: np.reshape(v, -1, order="F")
    np.testing.assert_allclose(m @ vec(x), vec(f(x)), rtol=1e-12)
    np.testing.assert_array_equal(layout.unflat(m, ys, xs), j)
    np.testing.assert_array_equal(layout.flat(j, ys, "denominator"), m.T)
    np.testing.assert_array_equal(layout.unflat(m.T, ys, xs, "denominator"), j)
    if len(ys) + len(xs) <= 2:
        b = layout.book(j, ys)
        assert b.shape == ((xs[1], xs[0]) if len(xs) == 2 else ys if len(ys) == 2 else
                           (int(np.prod(ys)), int(np.prod(xs))))  # fmt: skip
        np.testing.assert_array_equal(layout.book(j, ys, "denominator"), b.T)
    else:
        with pytest.raises(wg.errors.ShapeError):
            layout.book(j, ys)


def test_layouts_refuse():
    with pytest.raises(wg.errors.ArgumentError):
        layout.convert(np.ones((2, 2)), 1, "sideways")
    with pytest.raises(wg.errors.ShapeError):
        layout.convert(np.ones((2, 2)), 3)
    with pytest.raises(wg.errors.ShapeError):
        layout.flat(np.ones((2, 3)), (3,))


def test_the_commutation_matrix():
    x = np.arange(6.0).reshape(3, 2)
    vec = lambda v: np.reshape(v, -1, order="F")
    np.testing.assert_array_equal(commutation(3, 2) @ vec(x), vec(x.T))


def test_the_guide_has_the_table_as_it_is():
    page = Path(__file__).parents[2] / "docs" / "guides" / "matrix_calculus.md"
    assert identities() in page.read_text()
