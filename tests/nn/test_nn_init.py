"""First weights: their moments within the error of the draws, their structure, and refusals."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import OptionError, ShapeError, UnknownNameError
from wengert.nn import init

CONV = (3, 3, 40, 60)  # fan_in 360, fan_out 540
VARIANCES = [
    (init.xavier_uniform, {}, 2 / 900),
    (init.xavier_normal, {"gain": 2.0}, 8 / 900),
    (init.he_normal, {}, 2 / 360),
    (init.he_uniform, {"mode": "fan_out"}, 2 / 540),
    (init.he_normal, {"nonlinearity": "leaky_relu", "a": 0.5}, 2 / 1.25 / 360),
    (init.lecun_normal, {}, 1 / 360),
    (init.lecun_uniform, {}, 1 / 360),
    (init.normal, {"mean": 0.0, "std": 0.3}, 0.09),
    (init.uniform, {"low": -0.3, "high": 0.3}, 0.03),
    (init.truncated_normal, {"std": 1.0}, 0.7737413035760713),  # scipy.stats.truncnorm(-2, 2).var()
]


@pytest.mark.parametrize(("rule", "options", "variance"), VARIANCES, ids=lambda v: str(v)[:24])
def test_mean_and_variance_within_five_standard_errors(rule, options, variance):
    w = rule(CONV, **options, rng=0)
    n, spread = w.size, (w - w.mean()) ** 2
    assert w.shape == CONV
    assert abs(w.mean()) < 5 * np.sqrt(variance / n)
    assert abs(spread.mean() - variance) < 5 * spread.std() / np.sqrt(n)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 2, 3, 7), (4, 4)])
def test_orthogonal(shape):
    w = init.orthogonal(shape, gain=2.0, rng=0).reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_orthogonal_matrices_have_no_preferred_sign():
    signs = [np.sign(init.orthogonal((3, 3), rng=s)[0, 0]) for s in range(400)]
    assert abs(np.mean(signs)) < 5 / np.sqrt(400)


def test_kernels_that_hand_their_channels_on():
    layer = nn.Conv2d(4, 4, 3, padding=1, rng=0, dtype=np.float64)
    init.dirac(layer.weight)
    init.zeros(layer.bias)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 4))
    np.testing.assert_allclose(layer(x).numpy(), x, atol=1e-15)
    grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2, rng=0, dtype=np.float64)
    init.dirac(grouped.weight, groups=2)
    np.testing.assert_allclose(grouped(x).numpy(), x, atol=1e-15)


def test_parameters_are_filled_in_place_and_still_train():
    layer = nn.Linear(3, 2, rng=0)
    w = layer.weight
    assert init.constant(w, 0.5) is w
    assert w.dtype == np.float32
    assert (w.numpy() == 0.5).all()
    init.eye(w)
    np.testing.assert_array_equal(w.numpy(), np.eye(3, 2))
    layer(np.ones((1, 3), np.float32)).sum().backward()
    assert w.grad is not None
    assert (init.ones((2,)) == 1).all()


def test_sparse_columns():
    w = init.sparse((50, 8), 0.3, std=2.0, rng=0)
    np.testing.assert_array_equal((w == 0).sum(axis=0), 15)
    assert 1 < w[w != 0].std() < 3


def test_truncated_normal_stays_between_its_bounds():
    w = init.truncated_normal((2000,), mean=1.0, std=2.0, low=0.0, high=1.5, rng=0)
    assert w.min() >= 0
    assert w.max() <= 1.5
    with pytest.raises(OptionError, match="low is less than high"):
        init.truncated_normal((2,), low=1.0, high=0.0)
    with pytest.raises(OptionError, match="a thousandth"):
        init.truncated_normal((2,), low=8.0, high=9.0)


def test_layers_take_any_rule_by_name_and_the_default_stream():
    q = nn.Linear(4, 4, init="orthogonal", rng=0, dtype=np.float64).weight.numpy()
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=1e-12)
    wg.random.seed(3)
    a = init.normal((3,))
    wg.random.seed(3)
    np.testing.assert_array_equal(init.normal((3,)), a)


def test_refusals():
    with pytest.raises(UnknownNameError, match="known : linear, conv1d"):
        init.calculate_gain("softsign")
    with pytest.raises(OptionError, match="fan_in"):
        init.he_normal((2, 2), mode="fan")
    for rule in (init.xavier_uniform, init.orthogonal, init.eye, init.dirac):
        with pytest.raises(ShapeError):
            rule((3,))
    with pytest.raises(OptionError):
        init.sparse((3,), 0.5)


def test_gains_against_torch(torch):
    for name, a in [("linear", None), ("tanh", None), ("relu", None), ("selu", None),
                    ("leaky_relu", 0.2), ("leaky_relu", None), ("sigmoid", None),
                    ("conv2d", None), ("conv_transpose3d", None)]:  # fmt: skip
        want = torch.nn.init.calculate_gain(name, a)
        assert init.calculate_gain(name, a) == pytest.approx(want, rel=1e-15)
