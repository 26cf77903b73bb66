"""Losses where they are hard: extreme logits, certain probabilities, ignored rows."""

import numpy as np
import pytest
from mpmath import mp, mpf

import wengert as wg
from wengert.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    OptionError,
    ShapeError,
)
from wengert.nn import functional as F

rng = np.random.default_rng(0)
X = np.array([-800.0, -40.0, -1e-3, 0.0, 1e-20, 0.5, 36.0, 40.0, 700.0])


@pytest.mark.parametrize("t", [0.0, 1.0, 0.25])
def test_binary_cross_entropy_of_any_logit_to_the_last_digits(t):
    def truth(x):
        x = mpf(x)
        return t * mp.log1p(mp.exp(-x)) + (1 - t) * mp.log1p(mp.exp(x))

    def slope(x):
        x = mpf(x)
        return (1 - t) / (1 + mp.exp(-x)) - t / (1 + mp.exp(x))

    f = lambda x: F.binary_cross_entropy_with_logits(x, np.full(len(X), t), reduction="sum")
    each = F.binary_cross_entropy_with_logits(X, np.full(len(X), t), reduction="none")
    np.testing.assert_allclose(each, [float(truth(x)) for x in X], rtol=1e-15)
    np.testing.assert_allclose(wg.grad(f)(X), [float(slope(x)) for x in X], rtol=1e-14)
    ends = np.where(np.arange(len(X)) % 2, np.inf, -np.inf)
    assert np.isfinite(wg.grad(f)(ends)).all()


def test_certain_probabilities():
    p, t = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0])
    each = F.binary_cross_entropy(p, t, reduction="none")
    np.testing.assert_array_equal(each, [0, 0, np.inf, np.inf])
    with np.errstate(divide="ignore"):
        g = wg.grad(lambda p: F.binary_cross_entropy(p, t, reduction="sum"))(p)
    np.testing.assert_array_equal(g[:2], [1, -1])  # of -log(1 - p) at 0 and of -log p at 1
    assert np.isinf(g[2:]).all()
    with pytest.raises(ArgumentError, match=r"reaches from -0\.1 to 0\.5"):
        F.binary_cross_entropy(np.array([-0.1, 0.5]), np.ones(2))


def test_divergence_of_distributions_with_zeros():
    p = np.array([[0.5, 0.5, 0.0]])
    q = np.array([[0.25, 0.75, 0.0]])
    with np.errstate(divide="ignore"):
        log_q, log_p = np.log(q), np.log(p)
    want = (0.5 * np.log(2) + 0.5 * np.log(2 / 3)).item()
    assert F.kl_div(log_q, p).item() == pytest.approx(want, rel=1e-14)
    assert F.kl_div(log_q, log_p, log_target=True).item() == pytest.approx(want, rel=1e-14)
    g = wg.grad(lambda l: F.kl_div(l, p))(log_q)
    np.testing.assert_allclose(g, -p)
    g = wg.grad(lambda l: F.kl_div(l, log_p, log_target=True))(log_q)
    np.testing.assert_allclose(g, -p)


def test_ignored_rows_take_no_part_whatever_stands_there():
    z = rng.standard_normal((3, 4))
    z[1] = np.nan
    labels = np.array([0, -100, 3])
    f = lambda z: F.cross_entropy(z, labels, ignore_index=-100)
    rest = lambda z: F.cross_entropy(z[[0, 2]], labels[[0, 2]])
    assert f(z).item() == rest(z).item()
    g = wg.grad(f)(z)
    np.testing.assert_allclose(g[[0, 2]], wg.grad(rest)(z)[[0, 2]])
    assert not g[1].any()
    assert wg.cross_entropy(z, labels, ignore_index=-100, reduction="sum").item() == pytest.approx(
        2 * rest(z).item()
    )
    with np.errstate(invalid="ignore"):
        z[1] = 0
        assert np.isnan(F.nll_loss(z, np.full(3, 7), ignore_index=7).item())  # the mean of none


def test_probabilities_as_labels():
    z = rng.standard_normal((5, 3))
    t = rng.random((5, 3))
    want = -(t * np.log(np.exp(z) / np.exp(z).sum(1, keepdims=True))).sum(1)
    np.testing.assert_allclose(F.cross_entropy(z, t, reduction="none"), want, rtol=1e-12)
    hard = np.eye(3)[[0, 2, 1, 1, 0]]
    assert F.cross_entropy(z, hard).item() == pytest.approx(
        wg.cross_entropy(z, hard.argmax(1)).item(), rel=1e-14
    )
    low = np.array([[0.0, -np.inf, 1.0]])
    assert np.isfinite(F.cross_entropy(low, np.array([[0.5, 0.0, 0.5]])).item())


def test_smoothing_is_a_mixture_with_the_uniform():
    z = rng.standard_normal((6, 4))
    labels = rng.integers(0, 4, 6)
    mixed = 0.7 * np.eye(4)[labels] + 0.3 / 4
    a = F.cross_entropy(z, labels, label_smoothing=0.3)
    assert a.item() == pytest.approx(F.cross_entropy(z, mixed).item(), rel=1e-14)


def test_losses_refuse_what_does_not_fit():
    z, labels = np.zeros((2, 3)), np.array([0, 1])
    for bad, error in (
        ({"weight": np.ones(2)}, ShapeError),
        ({"label_smoothing": 1.5}, OptionError),
        ({"reduction": "average"}, OptionError),
    ):
        with pytest.raises(error):
            F.cross_entropy(z, labels, **bad)
    with pytest.raises(AxisError, match="label 3 is outside the 3 classes"):
        F.cross_entropy(z, np.array([0, 3]), label_smoothing=0.1)
    with pytest.raises(AxisError, match="label 3 is outside the 3 classes, 0 to 2"):
        F.nll_loss(z, np.array([0, 3]))
    with pytest.raises(DTypeError, match="integers"):
        F.nll_loss(z, np.array([0.0, 1.0]))
    with pytest.raises(ShapeError, match=r"labels\.squeeze\(-1\)"):
        F.nll_loss(z, labels[:, None])
    with pytest.raises(ArgumentError, match="one is 0") as caught:
        F.hinge_loss(np.zeros(3), np.array([0, 1, 1]))
    assert "fix: 2 * target - 1" in str(caught.value)
    losses = "huber_loss smooth_l1_loss kl_div hinge_loss soft_margin_loss poisson_nll_loss"
    for name in [*losses.split(), "binary_cross_entropy", "binary_cross_entropy_with_logits"]:
        f = getattr(F, name)
        with pytest.raises(ShapeError, match="compare 9 pairs"):
            f(np.ones((3, 1)), np.ones(3))
    with pytest.raises(ShapeError, match="compare 9 pairs"):
        F.triplet_margin_loss(np.ones((3, 1)), np.ones(3), np.ones(3))


def test_hinge_and_cosine_by_hand():
    np.testing.assert_array_equal(
        F.hinge_loss(np.array([2.0, 0.5, -1.0]), np.array([1, 1, -1]), reduction="none"),
        [0, 0.5, 0],
    )
    a, b = np.array([[1.0, 0.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [4.0, 3.0]])
    got = F.cosine_embedding_loss(a, b, np.array([1, -1]), 0.5, reduction="none")
    np.testing.assert_allclose(got, [1 - 0.5**0.5, 0.46], rtol=1e-14)
    zero = wg.grad(lambda a: F.cosine_similarity(a, b).sum())(np.zeros((2, 2)))
    assert np.isfinite(zero).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore", [None, 1])
@pytest.mark.parametrize("weight", [None, np.ones(2, np.float32)])
def test_float32_stays_float32(reduction, ignore, weight):
    x = np.zeros((3, 2), np.float32)
    labels = np.array([0, 1, 1])
    options = {"reduction": reduction, "ignore_index": ignore, "weight": weight}
    assert F.nll_loss(x, labels, **options).dtype == np.float32
    for smoothing in (0.0, 0.1):
        assert F.cross_entropy(x, labels, label_smoothing=smoothing, **options).dtype == np.float32
    log_p = np.log(np.full((1, 3, 2), 0.5, np.float32))
    assert F.ctc_loss(log_p, np.array([[1]]), reduction=reduction).dtype == np.float32


def operands(n, dtype):
    """What each loss takes, for n examples; targets of 1 and -1 and counts are whole numbers."""
    rng = np.random.default_rng(n)
    x, y, z = (rng.uniform(0.1, 0.9, (n, 4)).astype(dtype) for _ in range(3))
    labels, signs = np.arange(n) % 4, np.where(np.arange(n) % 2, 1, -1)
    numbers = dict.fromkeys(("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"), (x, y))
    return {
        **numbers,
        "binary_cross_entropy": (x, (y > 0.5).astype(int)),
        "binary_cross_entropy_with_logits": (x, (y > 0.5).astype(int)),
        "kl_div": (np.log(x), y), "poisson_nll_loss": (x, (9 * y).astype(int)),
        "gaussian_nll_loss": (x, y, z), "cross_entropy": (x, labels),
        "nll_loss": (np.log(x), labels), "multi_margin_loss": (x, labels),
        "ctc_loss": (np.zeros((n, 6, 4), dtype) - 1, np.ones((n, 2), int)),
        "hinge_loss": (x[:, 0], signs), "soft_margin_loss": (x[:, 0], signs),
        "hinge_embedding_loss": (x[:, 0], signs),
        "margin_ranking_loss": (x[:, 0], y[:, 0], signs), "triplet_margin_loss": (x, y, z),
        "cosine_embedding_loss": (x, y, signs),
    }  # fmt: skip


NAMES = list(operands(1, float))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_losses_of_float32_stay_float32_with_targets_of_whole_numbers(name, reduction):
    for dtype in (np.float32, np.float64):
        first, *others = operands(5, dtype)[name]
        x = wg.tensor(first, requires_grad=True)
        y = getattr(F, name)(x, *others, reduction=reduction)
        assert y.dtype == dtype
        y.sum().backward()
        assert x.grad.dtype == dtype
        assert np.isfinite(x.grad.numpy()).all()
        wide = getattr(F, name)(first.astype(float), *others, reduction=reduction)
        np.testing.assert_allclose(y.numpy(), wide, rtol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_no_examples_have_a_sum_and_no_mean(name):
    first, *others = operands(0, np.float32)[name]
    f = getattr(F, name)
    for given in (first, wg.tensor(first, requires_grad=True)):
        with pytest.raises(ShapeError, match="nothing to take the mean of"):
            f(given, *others, reduction="mean")
        assert np.asarray(f(first, *others, reduction="none")).shape[0] == 0
    x = wg.tensor(first, requires_grad=True)
    y = f(x, *others, reduction="sum")
    assert y.item() == 0
    y.backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_made_of_numbers_is_refused(name):
    good = operands(3, np.float32)[name]
    for i in range(len(good)):
        for bad in (np.full(good[i].shape, "a"), [[1, 2], [3]], good[i].astype(complex), None):
            with pytest.raises((ShapeError, DTypeError, ArgumentError)) as caught:
                getattr(F, name)(*good[:i], bad, *good[i + 1 :])
            assert "test_losses.py" in str(caught.value)
