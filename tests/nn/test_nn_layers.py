"""Layers compute what they say, start well, and refuse what does not fit."""

import math

import numpy as np
import pytest

from wengert import nn
from wengert.errors import ShapeError, UnknownNameError
from wengert.nn import init


def test_linear_is_an_affine_map_of_the_last_axis():
    layer = nn.Linear(3, 2, rng=0, dtype=np.float64)
    w, b = layer.weight.numpy(), layer.bias.numpy()
    for shape in ((3,), (4, 3), (5, 4, 3)):
        x = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_allclose(layer(x).numpy(), x @ w + b, rtol=1e-12)


def test_linear_without_bias():
    layer = nn.Linear(3, 2, bias=False, rng=0)
    assert layer.bias is None
    assert repr(layer) == "Linear(3, 2, bias=False)"
    assert not layer(np.zeros((1, 3), np.float32)).numpy().any()


def test_float32_stays_float32_forwards_and_backwards():
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.GELU(), nn.Linear(4, 1, rng=0), nn.Softplus())
    y = model(np.ones((2, 3), np.float32))
    y.sum().backward()
    assert y.dtype == np.float32
    assert {str(p.grad.dtype) for p in model.parameters()} == {"float32"}


@pytest.mark.parametrize(
    ("layer", "f"),
    [
        (nn.ReLU(), lambda x: np.maximum(x, 0)),
        (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (nn.Tanh(), np.tanh),
        (nn.Softplus(), lambda x: np.log1p(np.exp(x))),
        (nn.GELU(), lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
    ],
    ids=lambda v: type(v).__name__,
)
def test_activations(layer, f):
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(np.asarray(layer(x)), f(x), rtol=1e-12, atol=1e-15)


def test_he_and_xavier_keep_the_size_of_signals():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 300))
    relu = np.maximum(x @ init.he(rng, 300, 300), 0)
    assert (relu**2).mean() == pytest.approx(1, rel=0.1)
    assert (x @ init.xavier(rng, 300, 300)).std() == pytest.approx(1, rel=0.1)


def test_the_same_seed_gives_the_same_weights():
    a, b, c = (nn.Linear(4, 4, rng=seed).weight.numpy() for seed in (7, 7, 8))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_one_generator_gives_different_layers():
    rng = np.random.default_rng(0)
    a, b = (nn.Linear(4, 4, rng=rng).weight.numpy() for _ in range(2))
    assert not np.array_equal(a, b)


def test_unknown_init():
    with pytest.raises(UnknownNameError, match=r"Linear\(init='hee'\)") as caught:
        nn.Linear(2, 2, init="hee")
    assert "fix: init='he' or 'xavier'" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "note", "fix"),
    [
        ((5, 8, 8), "axis -1 is 8", "x.reshape(5, 64)"),
        ((64, 5), "axis -1 is 5", "x.T"),
        ((5, 60), "axis -1 is 60", "Linear(60, 10) for this x"),
        ((), "has no axis", None),
    ],
)
def test_linear_refuses_other_widths_with_the_fix(shape, note, fix):
    model = nn.Sequential(nn.Linear(64, 10, rng=0))
    with pytest.raises(ShapeError) as caught:
        model(np.ones(shape))
    text = str(caught.value)
    assert "Linear(64, 10)(x): the last axis of x must have length 64" in text
    assert note in text
    assert "layers.0.weight : float32[64, 10]   axis -2 is 64" in text
    assert (f"fix: {fix}" in text) if fix else ("fix:" not in text)
    assert "test_nn_layers.py" in text
