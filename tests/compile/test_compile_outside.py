"""What a compiled function meets outside: streams of random numbers, and functions it is given."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn, trace
from wengert.nn import functional as F
from wengert.optim import SGD
from wengert.primitive import Elementwise

pytest.importorskip("llvmlite")


def test_a_call_that_leaves_the_short_way_draws_once():
    """Somebody holds the memory of a parameter: the program may not write into it."""

    def losses(compiled):
        stream = np.random.default_rng(0)
        model = nn.Sequential(
            nn.Linear(4, 8, rng=0), nn.Dropout(0.5, rng=stream), nn.Linear(8, 1, rng=1)
        )
        optimizer = SGD(model.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            y = (model(x) ** 2).mean()
            y.backward()
            optimizer.step()
            return y

        step = wg.compile(step, wait=True) if compiled else step
        x, out = np.ones((3, 4), np.float32), []
        for i in range(8):
            held = model.layers[0].weight.data if i in (4, 6) else None
            before = None if held is None else held.copy()
            out.append(step(x).item())
            assert held is None or np.array_equal(held, before)
        return out, stream.bit_generator.state

    (eager, state), (compiled, again) = losses(False), losses(True)
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)
    assert again == state


def test_what_a_function_among_the_arguments_closes_over_is_watched():
    def scaled(by):
        return lambda x: x * by[0]

    by = [2.0]
    f, call = scaled(by), wg.compile(lambda f, x: f(x))
    x = np.ones(2)
    assert call(f, x).tolist() == [2.0, 2.0]
    by[0] = 3.0
    assert call(f, x).tolist() == [3.0, 3.0]
    assert call(scaled([5.0]), x).tolist() == [5.0, 5.0]


def test_an_operation_of_the_users_own_may_fill_its_caches():
    own = Elementwise("own_cube", lambda x: x**3, lambda d, x: d * (3 * x * x))
    try:
        f = wg.compile(lambda x: np.sum(2 * own(x)))
        x = np.array([1.0, -2.0])
        assert f(x) == f(x) == -14.0
        assert repr(f).endswith("1 variants>")
        np.testing.assert_allclose(wg.grad(f)(x), 6 * x**2)
    finally:
        del trace.OPS["own_cube"]


def test_the_mask_of_an_attention_is_a_constant_of_both_passes():
    """So that they share its softmax; and it is no array to watch."""
    xs = [np.random.default_rng(i).normal(size=(2, 64, 8)).astype(np.float32) for i in range(4)]

    def both(g, *xs):
        y, back = wg.vjp(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True), *xs)
        return (y, *back(g))

    f = wg.compile(both, wait=True)
    for one, other in zip(f(*xs), both(*xs), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)
    assert "inputs: 4 arguments\n" in f.explain()
