"""Estimators of gradients of expectations: unbiased, by their own standard errors, and compared."""

import math

import mpmath
import numpy as np
import pytest

import wengert as wg
from wengert.transforms.estimators import FAMILIES

N = 200_000


def unbiased(estimates, truth, sigmas=4.5):
    """The mean of independent estimates is the truth, to within its standard error."""
    estimates = np.asarray(estimates)
    error = estimates.std(axis=0, ddof=1) / len(estimates) ** 0.5
    off = np.abs(estimates.mean(axis=0) - truth)
    assert (off <= sigmas * error + 1e-12).all(), (estimates.mean(axis=0), truth, error)
    return error


# family: parameters, the expectation of x^2 (or x) as a function of them
MOMENTS = {
    "normal": ((1.2, 0.7), lambda m, s: m**2 + s**2, lambda x: x**2),
    "lognormal": ((0.2, 0.4), lambda m, s: np.exp(2 * m + 2 * s**2), lambda x: x**2),
    "uniform": ((0.5, 2.0), lambda a, b: (a * a + a * b + b * b) / 3, lambda x: x**2),
    "exponential": ((1.7,), lambda r: 2 / r**2, lambda x: x**2),
    "weibull": ((1.3, 2.0), None, lambda x: x),
    "laplace": ((0.4, 0.8), lambda m, b: m**2 + 2 * b**2, lambda x: x**2),
    "logistic": ((0.4, 0.8), lambda m, s: m**2 + s**2 * np.pi**2 / 3, lambda x: x**2),
    "gumbel": ((0.4, 0.8), lambda m, b: m + 0.5772156649015329 * b, lambda x: x),
    "cauchy": ((0.4, 0.8), lambda m, b: np.exp(-b) * np.cos(m), lambda x: np.cos(x)),
}


@pytest.mark.parametrize("family", sorted(MOMENTS))
def test_pathwise_gradients_are_unbiased(family):
    parameters, expectation, f = MOMENTS[family]
    if family == "weibull":
        s, k = parameters
        truth = np.array([
            math.gamma(1 + 1 / k),
            -s * math.gamma(1 + 1 / k) * float(mpmath.digamma(1 + 1 / k)) / k**2,
        ])  # fmt: skip
    else:
        truth = np.array(wg.grad(expectation, tuple(range(len(parameters))))(*parameters))
    draw = wg.reparameterized(family)
    repeated = [np.full(N, p) for p in parameters]  # a parameter a sample: a gradient a sample

    def total(*ps):
        return np.sum(f(draw(*ps, rng=3)))

    each = np.stack(wg.grad(total, tuple(range(len(parameters))))(*repeated), axis=1)
    unbiased(each, truth)


def test_every_family_is_tested():
    assert set(MOMENTS) | {"gumbel_softmax"} == set(FAMILIES)


def test_relaxed_categories():
    logits = np.log(np.array([0.2, 0.5, 0.3]))
    draw = wg.reparameterized("gumbel_softmax")
    x = draw(logits, 0.5, shape=(N,), rng=0)
    assert x.shape == (N, 3)
    np.testing.assert_allclose(x.sum(-1), 1.0)
    chosen = np.eye(3)[x.argmax(-1)]
    unbiased(chosen, [0.2, 0.5, 0.3])  # the largest is a sample of the categories themselves

    def g(logits, temperature):
        return np.sum(draw(logits, temperature, shape=(4,), rng=1) ** 2)

    assert wg.numeric.gradcheck(g, (logits, 0.5))


def test_draws_shapes_and_types():
    draw = wg.reparameterized("normal")
    assert draw(np.zeros((2, 1)), np.ones(3), shape=5, rng=0).shape == (5, 2, 3)
    assert draw(np.zeros(2, np.float32), np.ones(2, np.float32), rng=0).dtype == np.float32
    a = draw(0.0, 1.0, shape=(3,), rng=7)
    np.testing.assert_array_equal(a, draw(0.0, 1.0, shape=(3,), rng=7))
    wg.random.seed(5)
    a = draw(0.0, 1.0, shape=(3,))
    wg.random.seed(5)
    np.testing.assert_array_equal(a, draw(0.0, 1.0, shape=(3,)))
    own = wg.reparameterized(lambda z, a: a * z**2, lambda rng, shape: rng.random(shape))
    assert wg.grad(lambda a: np.sum(own(a, shape=(4,), rng=0)))(2.0) > 0
    with pytest.raises(wg.errors.ArgumentError, match="no such family"):
        wg.reparameterized("normale")
    with pytest.raises(wg.errors.ArgumentError, match="needs its noise"):
        wg.reparameterized(lambda z, a: a * z)


def log_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std)


@pytest.mark.parametrize("baseline", ["leave-one-out", None, 1.5])
@pytest.mark.parametrize("n", [2, 8])
def test_score_function_is_unbiased(baseline, n):
    rng = np.random.default_rng(0)
    rounds = 4000
    mean, std = 0.7, 1.3
    x = mean + std * rng.standard_normal((rounds, n))

    def surrogate(mean, std, x):
        return wg.score_function(lambda x: log_normal(x, mean, std), x, np.square, baseline)

    g = wg.vmap(wg.grad(surrogate, (0, 1)), in_axes=(None, None, 0))(mean, std, x)
    unbiased(np.stack(g, axis=1), [2 * mean, 2 * std])
    assert surrogate(mean, std, x[0]) == pytest.approx(np.mean(x[0] ** 2))


def test_discrete_samples_and_steps():
    rng = np.random.default_rng(0)
    p = 0.3
    x = rng.random((4000, 6)) < p
    f = lambda x: np.where(x, 5.0, -1.0)

    def surrogate(p, x):
        return wg.score_function(lambda x: np.log(np.where(x, p, 1 - p)), x, f)

    g = wg.vmap(wg.grad(surrogate), in_axes=(None, 0))(p, x)
    unbiased(g, 6.0)  # d/dp [5 p - (1 - p)]


@pytest.mark.parametrize("baseline", ["leave-one-out", None])
def test_higher_orders_are_unbiased(baseline):
    """E x^2 w = (m^2 + s^2) w: its derivatives in m and w to order 3, f depending on w itself."""
    rng = np.random.default_rng(0)
    m, w = 0.7, 1.1
    x = m + rng.standard_normal((60_000, 4))

    def surrogate(m, w, x):
        return wg.score_function(
            lambda x: log_normal(x, m, 1.0), x, lambda x: x**2 * w * w, baseline
        )

    def estimates(*nums):
        g = surrogate
        for k in nums:
            g = wg.grad(g, k)
        return wg.vmap(g, in_axes=(None, None, 0))(m, w, x)

    unbiased(estimates(0), 2 * m * w * w)
    unbiased(estimates(1), 2 * w * (m * m + 1))
    unbiased(estimates(0, 0), 2 * w * w)
    unbiased(estimates(0, 1), 4 * m * w)
    unbiased(estimates(0, 0, 1), 4 * w)
    unbiased(estimates(0, 0, 0), 0.0)


def test_a_plain_surrogate_is_wrong_at_second_order():
    """Without the magic box the second derivative misses dlogp^2: the test above can fail."""
    rng = np.random.default_rng(0)
    x = 0.7 + rng.standard_normal((20_000, 1))
    plain = lambda m, x: np.mean(log_normal(x, m, 1.0) * x**2)
    second = wg.vmap(wg.grad(wg.grad(plain)), in_axes=(None, 0))(0.7, x)
    with pytest.raises(AssertionError):
        unbiased(second, 2.0)


def test_variances():
    """Pathwise below the score function with a baseline, which is below the one without."""
    rng = np.random.default_rng(0)
    n, rounds, mean = 16, 3000, 2.0
    eps = rng.standard_normal((rounds, n))
    path = 2 * (mean + eps).mean(axis=1)
    x = mean + eps

    def scores(baseline):
        f = lambda m, x: wg.score_function(lambda x: log_normal(x, m, 1.0), x, np.square, baseline)
        return wg.vmap(wg.grad(f), in_axes=(None, 0))(mean, x)

    with_, without = scores("leave-one-out"), scores(None)
    for estimates in (path, with_, without):
        unbiased(estimates, 2 * mean)
    assert path.var() * n == pytest.approx(4.0, rel=0.15)  # var 2x
    # with e = x - mean: (x^2 - E x^2) e = 2 mean e^2 + e^3 - e, of variance 8 mean^2 + 10;
    # without a baseline x^2 e, of variance mean^4 + 14 mean^2 + 15
    assert with_.var() * n == pytest.approx(8 * mean**2 + 10, rel=0.15)
    assert without.var() * n == pytest.approx(mean**4 + 14 * mean**2 + 15, rel=0.15)
    assert 5 * path.var() < with_.var() < without.var() / 1.5


def test_straight_through():
    x = np.array([-1.0, 0.3, 2.0])
    soft = lambda x: 1 / (1 + np.exp(-x))
    f = lambda x: wg.straight_through(x > 0, soft(x))
    np.testing.assert_array_equal(f(x), [0.0, 1.0, 1.0])
    g = wg.grad(lambda x: np.sum(f(x)))(x)
    np.testing.assert_allclose(g, soft(x) * (1 - soft(x)), rtol=1e-14)
    y, dy = wg.jvp(f, x, np.ones(3))
    np.testing.assert_array_equal(y, [0.0, 1.0, 1.0])
    np.testing.assert_allclose(dy, g, rtol=1e-14)
    with pytest.raises(wg.errors.ShapeError, match="one shape"):
        wg.straight_through(np.ones(2), np.ones(3))


def test_refusals():
    with pytest.raises(wg.errors.ShapeError, match="one number for each sample"):
        wg.score_function(lambda x: np.sum(x), np.ones(3), np.square)
    with pytest.raises(wg.errors.ArgumentError, match="no such baseline"):
        wg.score_function(lambda x: x, np.ones(3), np.square, "mean")
    with pytest.raises(wg.errors.ArgumentError, match="baseline=None"):
        wg.score_function(lambda x: x, np.ones(1), np.square)
