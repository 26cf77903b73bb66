"""CTC against the sum over every path, one by one."""

import itertools

import numpy as np
import pytest

import wengert as wg
from wengert.errors import AxisError, ShapeError
from wengert.nn import functional as F
from wengert.testing import check_grads

rng = np.random.default_rng(0)


def spelt(path, blank):
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def by_every_path(log_p, labels, blank):
    """(-log of the sum over paths, its gradient) for one sample."""
    steps, classes = log_p.shape
    total, gradient = 0.0, np.zeros_like(log_p)
    for path in itertools.product(range(classes), repeat=steps):
        if spelt(path, blank) == tuple(labels):
            p = np.exp(log_p[np.arange(steps), path].sum())
            total += p
            gradient[np.arange(steps), path] -= p
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.log(total), gradient / total


@pytest.mark.parametrize("blank", [0, 2])
def test_value_and_gradient_by_every_path(blank):
    cases = [(5, [1, 1]), (4, [1, 0 if blank else 2]), (3, []), (2, [1]), (2, [1, 1]), (5, [1])]
    n, width = len(cases), 2
    labels = np.full((n, width), 1)
    for i, (_, spell) in enumerate(cases):
        labels[i, : len(spell)] = spell
    lengths = np.array([t for t, _ in cases])
    sizes = np.array([len(s) for _, s in cases])
    x = rng.standard_normal((n, 5, 3))  # need not be normalised
    f = lambda x: F.ctc_loss(x, labels, lengths, sizes, blank=blank, reduction="none")
    y, pull = wg.vjp(f, x)
    (g,) = pull(np.ones(n))
    for i, (t, spell) in enumerate(cases):
        want, slope = by_every_path(x[i, :t], spell, blank)
        assert y[i] == pytest.approx(want, rel=1e-12)
        if np.isinf(want):
            assert np.isnan(g[i, :t]).all()
        else:
            np.testing.assert_allclose(g[i, :t], slope, rtol=1e-11, atol=1e-14)
        assert not g[i, t:].any()
    forgiving = lambda x: F.ctc_loss(x, labels, lengths, sizes, blank=blank, zero_infinity=True)
    assert np.isfinite(wg.grad(forgiving)(x)).all()


def test_second_derivatives():
    x = rng.standard_normal((2, 4, 3))
    labels = np.array([[1, 1], [2, 1]])
    check_grads(lambda x: F.ctc_loss(wg.log_softmax(x), labels, [4, 3]), (x,), 2)


def test_a_step_that_excludes_a_class():
    x = np.log(np.full((1, 3, 3), 1 / 3))
    x[0, 1, 2] = -np.inf
    f = lambda x: F.ctc_loss(x, np.array([[2]]))
    want, _ = by_every_path(x[0], [2], 0)
    assert f(x).item() == pytest.approx(want, rel=1e-13)
    assert np.isfinite(wg.grad(f)(x)).all()
    assert np.isfinite(wg.hessian(f)(x)).all()


def test_what_does_not_fit_is_refused():
    x = np.zeros((4, 2, 3))  # as PyTorch orders it, times first
    with pytest.raises(ShapeError, match="samples come first"):
        F.ctc_loss(x, np.array([[1], [2]]), [4, 4], [1, 1])
    with pytest.raises(ShapeError, match="a label is 0, the blank"):
        F.ctc_loss(x, np.zeros((4, 1), int))
    with pytest.raises(AxisError, match="label 3 is outside the 3 classes"):
        F.ctc_loss(x, np.full((4, 1), 3))
    with pytest.raises(ShapeError, match="outside 0 to 2"):
        F.ctc_loss(x, np.ones((4, 1), int), [2, 2, 2, 3])


@pytest.mark.parametrize("forgive", [False, True])
def test_what_lies_behind_the_end_has_no_gradient_even_when_the_loss_is_infinite(forgive):
    x = wg.tensor(rng.normal(size=(2, 4, 3)), requires_grad=True)
    log_p = wg.log_softmax(x, axis=-1)
    loss = F.ctc_loss(
        log_p, np.array([[1, 1], [2, 1]]), np.array([2, 3]), np.array([2, 2]),
        reduction="sum", zero_infinity=forgive,
    )  # fmt: skip
    loss.backward()
    assert np.isfinite(loss.item()) == forgive  # two equal labels need three steps, and have two
    g = x.grad.numpy()
    assert np.isnan(g[0, :2]).all() != forgive
    np.testing.assert_array_equal(g[0, 2:], 0.0)
    assert np.isfinite(g[1]).all()
    np.testing.assert_array_equal(g[1, 3:], 0.0)


@pytest.mark.parametrize("forgive", [False, True])
def test_nan_is_neither_infinite_nor_forgiven(forgive):
    x = rng.normal(size=(2, 4, 3))
    x[0, 1, 0] = np.nan
    x[1, 3, 0] = np.nan  # behind the end of its sample
    args = np.array([[1, 2], [2, 1]]), np.array([4, 3])
    f = lambda x: F.ctc_loss(x, *args, reduction="none", zero_infinity=forgive)
    y, pull = wg.vjp(f, x)
    (g,) = pull(np.ones(2))
    assert np.isnan(y[0])
    assert np.isnan(g[0]).any()
    assert y[1] == pytest.approx(by_every_path(x[1, :3], [2, 1], 0)[0])
    assert np.isfinite(g[1]).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("forgive", [False, True])
def test_gradients_are_those_of_pytorch_but_where_a_class_is_excluded(torch, forgive, reduction):
    """PyTorch has nan at a log-probability of -inf, where no path goes and the slope is 0."""
    x = rng.normal(size=(4, 6, 4))
    x[3, 2, 3] = -np.inf
    labels, lengths = np.array([[1, 2], [3, 3], [1, 1], [3, 3]]), np.array([6, 5, 2, 6])
    sizes, how = np.array([2, 2, 0, 2]), {"reduction": reduction, "zero_infinity": forgive}
    theirs = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.ctc_loss(
        torch.log_softmax(theirs, -1).transpose(0, 1),
        *[torch.tensor(a) for a in (labels, lengths, sizes)],
        **how,
    )
    y.backward()
    f = lambda x: F.ctc_loss(wg.log_softmax(x), labels, lengths, sizes, **how)
    value, g = wg.value_and_grad(f)(x)
    assert value == pytest.approx(y.item(), rel=1e-12)
    want = theirs.grad.numpy()
    assert np.isnan(want[3, 2]).all()
    want[3, 2] = by_differences(f, x, 3, 2)
    np.testing.assert_allclose(g, want, rtol=1e-6, atol=1e-8)


def by_differences(f, x, n, t, h=1e-6):
    """Along each finite number of a step; 0 at -inf, where e^x is 0."""
    out = np.zeros(x.shape[2])
    for k in range(x.shape[2]):
        if np.isfinite(x[n, t, k]):
            up, down = x.copy(), x.copy()
            up[n, t, k] += h
            down[n, t, k] -= h
            out[k] = (f(up) - f(down)).item() / (2 * h)
    return out
