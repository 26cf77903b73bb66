"""Normalisation: formulas, rows without a spread, and running statistics."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import OptionError, ShapeError
from wengert.nn import functional as F
from wengert.ops.norm import Normalize

rng = np.random.default_rng(0)


def formula(x, axes, eps, center=True):
    c = x - x.mean(axes, keepdims=True) if center else x
    return c / np.sqrt((c * c).mean(axes, keepdims=True) + eps)


@pytest.mark.parametrize("axes", [(2,), (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("size", [3, 300])
def test_value_and_gradient_are_those_of_the_formula(axes, center, size):
    x = rng.standard_normal((4, 3, size)) + 2
    gy = rng.standard_normal(x.shape)
    op = Normalize(axes, 1e-5, center)
    np.testing.assert_allclose(op(x), formula(x, axes, 1e-5, center), rtol=1e-12, atol=1e-13)
    composed = wg.vjp(lambda x: formula(x, axes, 1e-5, center), x)[1](gy)[0]
    np.testing.assert_allclose(wg.vjp(op, x)[1](gy)[0], composed, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("center", [True, False])
def test_equal_numbers_have_finite_derivatives_of_every_order(center):
    x = np.array([[3.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
    f = lambda x: (Normalize((1,), 1e-5, center)(x) * np.array([1.0, 2.0, 4.0])).sum()
    g = wg.grad(f)(x)
    h = wg.hessian(f)(x)
    assert np.isfinite(g).all()
    assert np.isfinite(h).all()
    if center:
        root = 1e-5**-0.5
        want = (np.array([1, 2, 4]) - 7 / 3) * root
        np.testing.assert_allclose(g, [want, want], rtol=1e-12)
        np.testing.assert_allclose(h, 0, atol=1e-6)  # (x - mean)^2 has no slope where it is 0


def test_a_large_mean_costs_no_digits():
    x = np.array([[1e8, 1e8 + 1, 1e8 + 2]])
    np.testing.assert_allclose(F.layer_norm(x, 3, eps=0.0), [[-(1.5**0.5), 0, 1.5**0.5]])
    y = F.layer_norm(x.astype(np.float32) * np.float32(1e-4), 3)
    assert y.dtype == np.float32


def test_running_statistics_and_evaluation():
    mean, var = wg.tensor(np.zeros(3)), wg.tensor(np.ones(3))
    want_mean, want_var = np.zeros(3), np.ones(3)
    for k in range(3):
        x = rng.standard_normal((5, 2, 3)) * (k + 1) + k
        leaf = wg.tensor(x, requires_grad=True)
        F.batch_norm(leaf, mean, var, training=True, momentum=0.2).sum().backward()
        want_mean = 0.8 * want_mean + 0.2 * x.mean((0, 1))
        want_var = 0.8 * want_var + 0.2 * x.var((0, 1), ddof=1)
    np.testing.assert_allclose(mean.numpy(), want_mean, rtol=1e-12)
    np.testing.assert_allclose(var.numpy(), want_var, rtol=1e-12)
    assert not mean.requires_grad
    y = F.batch_norm(x, mean, var)
    np.testing.assert_allclose(np.asarray(y), (x - want_mean) / np.sqrt(want_var + 1e-5))
    np.testing.assert_allclose(mean.numpy(), want_mean)  # evaluation changes nothing


def test_statistics_are_updated_under_grad_and_refused_under_vmap():
    x = rng.standard_normal((4, 3))
    mean, var = np.zeros(3), np.ones(3)
    wg.grad(lambda x: F.batch_norm(x, mean, var, training=True).sum())(x)
    np.testing.assert_allclose(mean, 0.1 * x.mean(0))
    lanes = rng.standard_normal((2, 4, 3))
    with pytest.raises(ShapeError, match="every lane has statistics of its own"):
        wg.vmap(lambda x: F.batch_norm(x, mean, var, training=True))(lanes)
    own = wg.vmap(lambda x: F.batch_norm(x, None, None, training=True))(lanes)
    np.testing.assert_allclose(own, formula(lanes, (1,), 1e-5), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    x = np.ones((2, 3, 4))
    with pytest.raises(ShapeError, match="the last axes of x are normalised"):
        F.layer_norm(x, 3)
    with pytest.raises(ShapeError, match=r"weight has the shape .* \[4\]"):
        F.layer_norm(x, 4, np.ones(3))
    with pytest.raises(OptionError, match="4 channels are cut into groups of equal size: 1, 2, 4"):
        F.group_norm(x, 3)
    with pytest.raises(ShapeError, match="more than one number"):
        F.batch_norm(np.ones((1, 4)), None, None, training=True)
    with pytest.raises(wg.errors.DTypeError, match="real and floating point"):
        F.layer_norm(np.ones((2, 3), int), 3)
