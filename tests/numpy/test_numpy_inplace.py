# ruff: noqa: E501 - a table has one case a line
# fmt: off
"""Functions that write into a tensor, and out=: the same values as NumPy's, with the right gradients."""

import numpy as np
import pytest
from numpy_checks import Case, arr, check_gradients, check_second, check_values, check_vmap

import wengert as wg

M = np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]])
A, V = arr(3, 4), arr(4)


def changed(write):
    """write(buffer, v) on a copy of x, as a function of x and v."""

    def f(x, v):
        y = x.copy()
        write(y, v)
        return y

    return f


def method_sort(y, v):
    y[0] = v
    y.sort(axis=0)


def method_partition(y, v):
    y[1] = v
    y.partition(1, axis=0)
    y[2:] = 0.0
    y[:1] = 0.0


def fill(y, v):
    y[1:].fill(2.0)
    y[0] = v


WRITES = {
    "add.at": lambda y, v: np.add.at(y, (slice(None), [0, 1, 1, 2]), v),
    "add.at rows": lambda y, v: np.add.at(y, [0, 0, 2], v),
    "subtract.at": lambda y, v: np.subtract.at(y, [1, 1], v),
    "multiply.at": lambda y, v: np.multiply.at(y, [0, 0, 2], v),
    "multiply.at points": lambda y, v: np.multiply.at(y, ([0, 0, 1], [1, 1, 2]), v[:3]),
    "true_divide.at": lambda y, v: np.divide.at(y, [1, 0, 1], v),
    "maximum.at": lambda y, v: np.maximum.at(y, [2, 2, 1], v),
    "negative.at": lambda y, v: np.negative.at(y, [0, 0, 2]),
    "exp.at": lambda y, v: np.exp.at(y, ([0, 1], [1, 1])),
    "put": lambda y, v: np.put(y, [0, 5, -1], v),
    "put repeated": lambda y, v: np.put(y, [1, 2, 3, 4, 5, 6], v[:2]),
    "put clip": lambda y, v: np.put(y, [0, 99], v, mode="clip"),
    "put wrap": lambda y, v: np.put(y, [0, 99], v, mode="wrap"),
    "x.put": lambda y, v: y.put([0, 3], v),
    "put_along_axis": lambda y, v: np.put_along_axis(y, np.array([[0, 2, 1, 0]]), v, 0),
    "put_along_axis None": lambda y, v: np.put_along_axis(y, np.array([7, 8]), v[:2], None),
    "fill_diagonal": lambda y, v: np.fill_diagonal(y, v),
    "fill_diagonal number": lambda y, v: np.fill_diagonal(y, 3.0),
    "copyto": lambda y, v: np.copyto(y, v),
    "copyto where": lambda y, v: np.copyto(y, v, where=M),
    "putmask": lambda y, v: np.putmask(y, M, v),
    "place": lambda y, v: np.place(y, M, v[:3]),
    "x.sort": method_sort,
    "x.partition": method_partition,
    "x.fill": fill,
    "row": lambda y, v: y.__setitem__(1, v),
    "column": lambda y, v: y.__setitem__((slice(None), 2), v[:3]),
    "mask": lambda y, v: y.__setitem__(M, 2.0),
    "lists": lambda y, v: y.__setitem__(([0, 2], [1, 3]), v[:2]),
    "apart": lambda y, v: y.reshape(3, 2, 2).__setitem__(([0, 2], slice(None), [1, 0]), v[:2]),
    "add.at apart": lambda y, v: np.add.at(y.reshape(3, 2, 2), ([0, 0], slice(None), [1, 1]), v[:2]),
    "sin out": lambda y, v: np.sin(y * 2, out=y),
    "add out where": lambda y, v: np.add(y, v, out=y, where=M),
    "sum out": lambda y, v: np.sum(y * v, axis=0, out=y[0]),
    "cumsum out": lambda y, v: np.cumsum(y, axis=1, out=y),
    "max out": lambda y, v: np.max(y, axis=1, out=y[:, 0]),
    "mean out": lambda y, v: np.mean(y, axis=0, out=y[2]),
    "clip out": lambda y, v: np.clip(y, -0.5, 0.5, out=y),
    "take out": lambda y, v: np.take(y, [3, 2, 1, 0], axis=1, out=y),
    "dot out": lambda y, v: np.dot(y, np.diag(v), out=y),
    "concatenate out": lambda y, v: np.concatenate([y[1:], v[None]], out=y),
    "einsum out": lambda y, v: np.einsum("ij,j->ij", y, v, out=y),
    "multiply.reduce out": lambda y, v: np.multiply.reduce(y, axis=0, out=y[0]),
    "iadd": lambda y, v: y.__iadd__(v),
    "imul view": lambda y, v: y[:, 1:3].__imul__(v[:2]),
}
CASES = [
    Case(name, changed(w), (A, V), dtypes="" if name in ("maximum.at", "clip out", "max out", "exp.at", "x.partition", "x.fill") else "f")
    for name, w in WRITES.items()
]
each = pytest.mark.parametrize("c", CASES, ids=[c.name for c in CASES])


@each
def test_values(c):
    check_values(c)


@each
def test_first_derivatives(c):
    check_gradients(c)


@each
def test_second_derivatives(c):
    check_second(c)


@each
def test_vmap(c):
    check_vmap(c, each=False)


@pytest.mark.parametrize("f", [lambda x: x.copy(), lambda x: x.astype(x.dtype), lambda x: x.flatten(), np.copy, lambda x: np.roll(x, 0), lambda x: x.round().astype(float), lambda x: np.tile(x, 1)])
def test_what_numpy_copies_is_a_copy(f):
    x = wg.tensor([1.0, 2.0])
    y = f(x)
    y[0] = 9.0
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("f", [lambda x: x.reshape(2, 1), lambda x: x[::-1], lambda x: x.T, lambda x: np.ravel(x), lambda x: np.expand_dims(x, 0), lambda x: np.flip(x), lambda x: np.squeeze(x[None]), lambda x: np.atleast_2d(x), lambda x: np.split(x, 1)[0]])
def test_what_numpy_views_is_a_view(f):
    a, x = np.array([1.0, 2.0]), wg.tensor([1.0, 2.0])
    f(a)[...] = 9.0
    f(x)[...] = 9.0
    assert x.tolist() == a.tolist() == [9.0, 9.0]


def test_out_returns_the_buffer_itself():
    x, y = wg.tensor([1.0, 2.0]), wg.zeros(2)
    assert np.sin(x, out=y) is y
    assert np.cumsum(x, out=y) is y
    a = np.zeros(2)
    assert np.sin(x, out=a) is a
    np.testing.assert_array_equal(a, np.sin([1.0, 2.0]))


def test_out_casts_as_numpy_does():
    x = wg.tensor([1.5, 2.5])
    with pytest.raises(wg.WengertError, match="no 'same_kind' cast"):
        np.add(x, 1, out=wg.zeros(2, dtype=int))
    with pytest.raises(wg.WengertError, match="no 'same_kind' cast"):
        np.add(x, 1, out=np.zeros(2, int))
    y = wg.zeros(2, dtype=int)
    np.add(x, 1, out=y, casting="unsafe")
    assert y.tolist() == [2, 3]


def test_an_index_that_changes_later_does_not_matter():
    calls = [
        lambda x, i: np.take(x, i), lambda x, i: x[i], lambda x, i: np.bincount(i, weights=x), lambda x, i: added(x, i),
        lambda x, i: np.take_along_axis(x, i, 0), lambda x, i: np.delete(x, i[:1]), lambda x, i: np.repeat(x, i + 1),
        lambda x, i: np.choose(i % 2, [x, x * x]), lambda x, i: np.compress(i > 0, x),
    ]
    for call in calls:
        grads = []
        for spoil in (False, True):
            x, i = wg.tensor([1.0, 2.0, 3.0], requires_grad=True), np.array([2, 0, 1])
            y = call(x, i)
            i[:] = 1 if spoil else i
            (y * np.arange(1.0, 1.0 + y.size)).sum().backward()
            grads.append(x.grad.tolist())
        assert grads[0] == grads[1]


def added(x, i):
    y = wg.zeros(3)
    np.add.at(y, i, x)
    return y
