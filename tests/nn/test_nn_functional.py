"""Losses: their values, their gradients, and the broadcast that they refuse."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import OptionError, ShapeError
from wengert.nn import functional as F


def test_mse_and_l1_values_and_gradients():
    p = wg.tensor([1.0, -2.0, 3.0], requires_grad=True)
    t = np.array([0.0, 0.0, 5.0])
    loss = F.mse_loss(p, t)
    assert loss.item() == pytest.approx((1 + 4 + 4) / 3)
    loss.backward()
    np.testing.assert_allclose(p.grad.numpy(), 2 * (p.numpy() - t) / 3)
    p.grad = None
    F.l1_loss(p, t).backward()
    np.testing.assert_allclose(p.grad.numpy(), np.sign(p.numpy() - t) / 3)


def test_the_cosine_of_long_vectors_in_half_precision():
    x, y = np.full((2, 600), 50, np.float16)
    assert abs(float(F.cosine_similarity(x, y)) - 1) < 2e-3


def test_reductions():
    p, t = np.array([1.0, 2.0]), np.array([0.0, 0.0])
    assert F.mse_loss(p, t, reduction="sum") == 5
    np.testing.assert_array_equal(F.mse_loss(p, t, reduction="none"), [1, 4])
    with pytest.raises(OptionError, match='reduction is one of "mean", "sum" and "none"'):
        F.mse_loss(p, t, reduction="average")


def test_a_column_against_a_row_is_refused_with_the_fix():
    prediction = wg.tensor(np.ones((5, 1)), requires_grad=True)
    target = np.ones(5)
    with pytest.raises(ShapeError) as caught:
        F.mse_loss(prediction, target)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "[WG101] mse_loss(prediction, target): a loss compares number with number: the shapes must "
        "be equal; broadcasting would compare 25 pairs, as [5, 5]"
    )
    assert lines[1:4] == [
        "    prediction : float64[5, 1]",
        "    target     : float64[5]",
        "  fix: prediction.squeeze(-1)",
    ]
    assert lines[4].startswith("  at:  tests/nn/test_nn_functional.py:")
    assert F.mse_loss(eval("prediction.squeeze(-1)"), target).item() == 0


@pytest.mark.parametrize(
    ("p", "t", "fix"),
    [
        ((5,), (5, 1), "target.squeeze(-1)"),
        ((1, 5), (5, 1), "target.reshape(1, 5)"),
        ((2, 3, 1), (2, 3), "prediction.squeeze(-1)"),
        ((5,), (), None),
        ((5, 2), (2, 5), None),
        ((5, 2), (4, 2), None),
    ],
)
@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss])
def test_the_fix_is_computed_or_left_out(loss, p, t, fix):
    prediction, target = np.ones(p), np.ones(t)
    with pytest.raises(ShapeError) as caught:
        loss(prediction, target)
    text = str(caught.value)
    if fix is None:
        assert "fix:" not in text
        return
    assert f"  fix: {fix}\n" in text
    right, left = np.ones(p), np.ones(t)
    fixed = eval(fix, {"prediction": right, "target": left})
    if fix.startswith("prediction"):
        right = fixed
    else:
        left = fixed
    assert loss(right, left) == 0


def test_cross_entropy_gradient_is_prediction_minus_label():
    logits = wg.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], requires_grad=True)
    labels = np.array([1, 0])
    loss = F.cross_entropy(logits, labels)
    y_hat = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    assert loss.item() == pytest.approx(-np.log(y_hat[[0, 1], labels]).mean())
    loss.backward()
    np.testing.assert_allclose(logits.grad.numpy(), (y_hat - np.eye(3)[labels]) / 2, rtol=1e-12)


def test_cross_entropy_refuses_labels_of_another_length():
    with pytest.raises(ShapeError, match="cross_entropy"):
        F.cross_entropy(wg.tensor(np.zeros((4, 3)), requires_grad=True), np.zeros(5, int))


@pytest.mark.parametrize("norm", [
    lambda x: F.layer_norm(x, 64), lambda x: F.rms_norm(x, 64), lambda x: F.group_norm(x, 4),
    lambda x: F.instance_norm(x), lambda x: F.batch_norm(x, None, None, training=True),
])  # fmt: skip
def test_norms_of_half_numbers_have_squares_beyond_float16(norm):
    x = (200 * np.random.default_rng(0).normal(size=(8, 20, 64))).astype(np.float16)
    half, exact = [wg.tensor(v, requires_grad=True) for v in (x, x.astype(float))]
    y, want = norm(half), norm(exact)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.numpy(), want.numpy(), atol=3e-3)
    (y * np.sign(x)).sum().backward()
    (want * np.sign(x)).sum().backward()
    assert np.abs(half.grad.numpy() - exact.grad.numpy()).max() < 1e-5
