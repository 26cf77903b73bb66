"""Whole programs, staged from NumPy and from networks, through the pipeline and the backend."""

import numpy as np
import pytest
from passes_checks import assert_same

import wengert as wg
import wengert.nn.functional as F
from wengert import nn
from wengert.compile.backends.numpy import build
from wengert.compile.memory import check, peak
from wengert.compile.passes.expand import COMPOSITE, POINTWISE
from wengert.compile.passes.pipeline import optimize
from wengert.compile.passes.remat import remat
from wengert.graph import evaluate, verify
from wengert.transforms.staging import stage

TABLE = {**COMPOSITE, **POINTWISE}
RNG = np.random.default_rng(0)


def programs(staged, *arrays, rtol=2e-5):
    """The staged graph as a program, and as it is evaluated."""
    g = staged.graph
    xs = [*arrays, *(np.asarray(t.data) for t in staged.state)]
    made = optimize(g, table=TABLE, debug=True)
    program = build(made)
    check(program.plan)
    with np.errstate(all="ignore"):
        want, exact = evaluate(g, *xs), evaluate(made, *xs)
    for _ in range(2):
        assert_same(program(*xs), exact)
    for a, b in zip(exact, want, strict=True):
        size = np.abs(b).max(initial=0)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * size)
    return made, program


def training(model, loss, x, y):
    def step(x, y):
        value = loss(model(x), y)
        value.backward()
        with wg.no_grad():
            for p in model.parameters():
                p -= p.grad * 0.1
        return value

    return stage(step, x, y)


def test_a_step_of_a_network_is_a_line_of_calls():
    model = nn.Sequential(
        nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)
    )
    x, y = RNG.standard_normal((12, 20)).astype("f"), RNG.integers(0, 4, 12)
    _, program = programs(training(model, F.cross_entropy, x, y), x, y)
    assert program.allocating == ()
    assert program.plan.size <= 1.1 * program.plan.lower_bound


def test_a_convolutional_step():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 5)
    )
    x, y = RNG.standard_normal((6, 8, 8, 1)).astype("f"), RNG.integers(0, 5, 6)
    programs(training(model, F.cross_entropy, x, y), x, y)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(32),
        nn.MultiheadAttention(32, 4),
        nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32), nn.Sigmoid()),
    ],
    ids=["layernorm", "attention", "feed-forward"],
)
def test_layers_forward(layer):
    x = RNG.standard_normal((2, 16, 32)).astype("f")
    programs(stage(layer, x), x)


def test_a_gradient_and_a_hessian():
    def energy(x):
        return np.sum(np.tanh(x) ** 2 * np.exp(-x / 4.0)) + np.sum(x[1:] * x[:-1])

    x = RNG.standard_normal(7)
    for f in (wg.grad(energy), wg.hessian(energy)):
        programs(stage(f, x), x, rtol=1e-12)


def test_large_elementwise_functions_keep_their_temporaries_small():
    x = RNG.standard_normal((200, 300)).astype("f")
    model = nn.Sequential(nn.GELU(), nn.Sigmoid(), nn.SiLU())
    _, program = programs(stage(model, x), x)
    assert "f0(f1, v" in program.source


def test_rows_of_a_table():
    table = nn.Embedding(9, 5)
    i = RNG.integers(0, 9, (3, 4))
    _, program = programs(stage(table, i), i)
    assert program.allocating == ()
    with pytest.raises(IndexError, match="row 9 at"):
        program(np.full((3, 4), 9), *[np.asarray(t.data) for t in stage(table, i).state])


def test_a_deep_chain_in_less_memory():
    """The elementwise values that a backward pass keeps are computed again from the products."""

    def f(x, w):
        def loss(x):
            for _ in range(8):
                h = x @ w
                x = np.sin(h) * np.exp(np.cos(h))
            return np.sum(x)

        return wg.grad(loss)(x)

    x, w = RNG.standard_normal((40, 30)), RNG.standard_normal((30, 30))
    g = optimize(stage(f, x, w).graph)
    small = remat(g, 0)
    verify(small)
    assert peak(small) < 0.6 * peak(g)
    assert_same(build(small)(x, w), evaluate(g, x, w))
    assert build(small).plan.lower_bound < 0.6 * build(g).plan.lower_bound
