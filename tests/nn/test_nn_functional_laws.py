"""Laws of every public function of `wengert.nn.functional`: dtypes, orders, lanes, checkpoints."""

import re

import numpy as np
import pytest
from functional_table import TABLE

import wengert as wg
from wengert import tree
from wengert.nn import functional as F
from wengert.testing import check_grads

ROWS = pytest.mark.parametrize(
    ("f", "xs"),
    [pytest.param(*r[1:3], id=r[0]) for r in TABLE],
)


def test_the_table_has_every_public_name():
    assert {label.split("(")[0] for label, *_ in TABLE} == set(F.__all__)


@ROWS
def test_float32_in_float32_out(f, xs):
    xs = tuple(x.astype(np.float32) for x in xs)
    dx = tuple(np.ones_like(x) for x in xs)
    y, pull = wg.vjp(f, *xs)
    assert f(*xs).dtype == y.dtype == np.float32
    assert wg.jvp(f, xs, dx)[1].dtype == np.float32
    gy = np.ones_like(np.asarray(y))
    assert {np.asarray(g).dtype for g in pull(gy)} == {np.dtype(np.float32)}
    _, twice = wg.jvp(lambda *xs: wg.vjp(f, *xs)[1](gy), xs, dx)
    assert {np.asarray(g).dtype for g in tree.leaves(twice)} == {np.dtype(np.float32)}
    leaves = [wg.tensor(x, requires_grad=True) for x in xs]
    loss = f(*leaves)
    assert loss.dtype == np.float32
    loss.sum().backward()
    assert {x.grad.dtype for x in leaves if x.grad is not None} == {np.dtype(np.float32)}


# a mask for each lane; statistics and places that are not those of a lane are refused
NO_LANES = re.compile(r"dropout|gumbel|stochastic|batch_norm\(training=True|indices")


@pytest.mark.parametrize(
    ("f", "xs"),
    [
        pytest.param(f, xs, id=label)
        for label, f, xs, _ in TABLE
        if not NO_LANES.search(label) or "p=0," in label
    ],
)
def test_lanes(f, xs):
    pairs = [np.stack([x, x[::-1]]) for x in xs]
    y = wg.vmap(f)(*pairs)
    for i in (0, 1):
        want = f(*[p[i] for p in pairs])
        np.testing.assert_allclose(np.asarray(y)[i], np.asarray(want), rtol=1e-10, atol=1e-12)


@ROWS
def test_checkpointed(f, xs):
    def g(h):
        return wg.grad(lambda *xs: (h(*xs) ** 2).sum(), argnums=tuple(range(len(xs))))(*xs)

    for a, b in zip(g(f), g(wg.checkpoint(f)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("f", "xs", "order"), [pytest.param(*r[1:], id=r[0]) for r in TABLE if r[3]]
)
def test_second_order(f, xs, order):
    check_grads(f, xs, order)
