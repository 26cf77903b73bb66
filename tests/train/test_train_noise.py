"""The noise of gradients, on models whose noise is known."""

import numpy as np
import pytest

from wengert import nn
from wengert.errors import ArgumentError, OptionError
from wengert.nn import functional as F
from wengert.train import gradient_noise
from wengert.train.noise import fitted, per_example
from wengert.viz.noise import gradient_noise_curve

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
Y = X @ np.array([[1.0], [-1.0], [2.0]]) + RNG.normal(size=(400, 1))


def least_squares():
    """A linear model and its examples' gradients 2 (x w + b - y) (x, 1), by hand."""
    model = nn.Linear(3, 1, rng=0, dtype=np.float64)
    r = X @ model.weight.numpy() + model.bias.numpy() - Y
    each = 2 * r * np.concatenate([X, np.ones((400, 1))], axis=1)
    return model, lambda m, x, y: F.mse_loss(m(x), y), each


def test_the_variance_of_a_linear_model_is_that_of_the_closed_form():
    model, loss, each = least_squares()
    np.testing.assert_allclose(per_example(model, loss, (X, Y), 400), each, rtol=1e-12, atol=1e-13)
    g = each.mean(axis=0)
    sigma2 = float(((each - g) ** 2).sum(axis=1).mean())
    report = gradient_noise(model, loss, (X, Y), draws=400, rng=1)
    for m, v, e in zip(report.sizes, report.variances, report.errors):
        assert abs(v - sigma2 / m) < 4.5 * e
    assert abs(report.slope + 1.0) < 4 * report.slope_error < 0.2
    assert report.sigma2 == pytest.approx(sigma2, rel=0.1)
    assert report.norm2 == pytest.approx(float(g @ g), rel=1e-12)
    assert report.scale == pytest.approx(report.sigma2 / report.norm2)
    assert "slope -" in str(report)


def test_nothing_is_left_behind():
    model, loss, _ = least_squares()
    model.weight.grad = np.full((3, 1), 7.0)
    before = model.state_dict()
    gradient_noise(model, loss, (X[:20], Y[:20]), sizes=(1, 4), draws=3, rng=0)
    np.testing.assert_array_equal(model.weight.grad.numpy(), 7.0)
    assert model.bias.grad is None
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


def test_the_picture():
    pytest.importorskip("matplotlib")
    model, loss, _ = least_squares()
    report = gradient_noise(model, loss, (X, Y), draws=20, rng=1)
    picture = gradient_noise_curve(report, "least squares")
    assert picture.lstrip().startswith("<?xml")
    assert picture == gradient_noise_curve(report, "least squares")


def test_a_slope_of_another_kind_is_seen():
    sizes = [1, 4, 16]
    _, slope, error = fitted(sizes, [1.0, 0.5, 0.25], [0.01, 0.005, 0.0025])
    assert slope == pytest.approx(-0.5)
    assert abs(slope + 1.0) > 10 * error


def test_wrong_questions():
    model, loss, _ = least_squares()
    for wrong in ({"sizes": (4,)}, {"sizes": (0, 2)}, {"draws": 1}):
        with pytest.raises(OptionError):
            gradient_noise(model, loss, (X, Y), **wrong)
    with pytest.raises(ArgumentError, match="one length"):
        gradient_noise(model, loss, (X, Y[:5]))
    with pytest.raises(ArgumentError, match="recorded number"):
        gradient_noise(model, lambda m, x, y: 1.0, (X, Y))
    with pytest.raises(ArgumentError, match="no noise"):
        gradient_noise(model, lambda m, x, y: m.weight.sum() + m.bias.sum(), (X, Y), draws=2)
