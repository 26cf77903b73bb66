"""Label smoothing, stochastic depth and scaling, each shown on the gradient itself."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.amp import GradScaler
from wengert.nn import functional as F
from wengert.optim import SGD

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.5])
def test_label_smoothing_pulls_towards_the_smoothed_label(eps):
    """gz = (p - ((1 - eps) onehot + eps / K)) / n"""
    z, y = RNG.normal(size=(6, 5)), RNG.integers(0, 5, 6)
    got = wg.grad(lambda z: F.cross_entropy(z, y, label_smoothing=eps))(z)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    target = (1 - eps) * np.eye(5)[y] + eps / 5
    np.testing.assert_allclose(got, (e / e.sum(1, keepdims=True) - target) / 6, rtol=0, atol=1e-15)


def test_stochastic_depth_gives_the_deterministic_gradient_in_the_mean():
    """y = x w + depth(x v): a dropped branch has no gradient, and the mean is that of all."""
    p, draws, rng = 0.3, 4000, np.random.default_rng(1)
    x, v = RNG.normal(size=(1, 3)), RNG.normal(size=(3, 2))
    full = wg.grad(lambda v: np.sum(x @ v))(v)
    f = wg.grad(lambda v: np.sum(F.stochastic_depth(x @ v, p, rng=rng)))
    each = np.stack([f(v) for _ in range(draws)])
    dropped = (each == 0.0).all(axis=(1, 2))
    np.testing.assert_allclose(
        each[~dropped], np.broadcast_to(full / (1 - p), each[~dropped].shape)
    )
    share = dropped.mean()
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / draws)
    error = np.abs(full) * np.sqrt(p / (1 - p) / draws)
    assert (np.abs(each.mean(axis=0) - full) < 4 * error).all()


@pytest.mark.parametrize("scale", [2.0**-3, 2.0**5, 2.0**16])
def test_a_power_of_two_scales_without_a_trace(scale):
    model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.Tanh(), nn.Linear(8, 1, rng=1))
    x = RNG.normal(size=(16, 4)).astype(np.float32)
    model(x).mean().backward()
    plain = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    scaler = GradScaler(scale)
    scaler.scale(model(x).mean()).backward()
    for p, g in zip(model.parameters(), plain):
        np.testing.assert_array_equal(p.grad.numpy(), g * np.float32(scale))
    scaler.unscale_(SGD(model.parameters(), lr=0.1))
    for p, g in zip(model.parameters(), plain):
        np.testing.assert_array_equal(p.grad.numpy(), g)
