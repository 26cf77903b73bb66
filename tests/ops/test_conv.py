"""Convolution against a slow obvious loop, scipy, PyTorch, and its own transposes."""

import numpy as np
import pytest
import scipy.signal
from convolutions import problems, slow
from hypothesis import given, settings

import wengert as wg
from wengert import native
from wengert.errors import MissingExtraError, ShapeError
from wengert.ops import conv_kernels, conv_native
from wengert.ops.conv import Conv, ConvInput, ConvWeight, out_size
from wengert.testing import check_op


@settings(max_examples=120, deadline=None)
@given(problems())
def test_all_three_against_the_definition(problem):
    x, w, *how = problem
    y = Conv(*how)(x, w)
    np.testing.assert_allclose(y, slow(x, w, *how), rtol=1e-12, atol=1e-12)
    u = np.random.default_rng(0).standard_normal(y.shape)
    back = ConvInput(*how, x.shape[1:-1])(u, w)
    grown = ConvWeight(*how, w.shape[:-2])(x, u)
    assert back.shape == x.shape
    assert grown.shape == w.shape
    # <u, Conv(x, w)> = <ConvInput(u, w), x> = <ConvWeight(x, u), w> for every x and w: bilinear, so
    # also along random directions
    dx, dw = np.random.default_rng(1).standard_normal(x.shape), w * 0.5 + 1
    scale = 1e-11 * (1 + np.abs(u).sum())
    assert abs((u * slow(dx, w, *how)).sum() - (back * dx).sum()) < scale
    assert abs((u * slow(x, dw, *how)).sum() - (grown * dw).sum()) < scale


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_values_of_scipy(axes):
    rng = np.random.default_rng(axes)
    x, w = rng.standard_normal((7, 6, 5)[:axes]), rng.standard_normal((3, 2, 4)[:axes])
    y = Conv((1,) * axes, ((0, 0),) * axes, (1,) * axes, 1)(x[None, ..., None], w[..., None, None])
    np.testing.assert_allclose(y[0, ..., 0], scipy.signal.correlate(x, w, "valid"), rtol=1e-12)


CASES = {
    "one image": ((1, 9, 8, 5), (3, 3, 5, 7), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "1x1": ((2, 6, 6, 8), (1, 1, 8, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 strided": ((2, 7, 6, 8), (1, 1, 8, 4), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    "stride beyond the kernel": ((2, 9, 9, 3), (2, 2, 3, 4), (3, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "even kernel": ((2, 8, 7, 3), (4, 2, 3, 4), (2, 1), ((1, 2), (0, 1)), (1, 1), 1),
    "dilated": ((2, 11, 9, 4), (3, 3, 4, 2), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    "grouped": ((3, 8, 8, 6), (3, 3, 2, 9), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "depthwise": ((3, 9, 9, 8), (3, 3, 1, 8), (1, 1), ((1, 1), (1, 1)), (1, 1), 8),
    "depthwise strided": ((3, 9, 9, 8), (3, 3, 1, 8), (2, 2), ((1, 1), (1, 1)), (1, 1), 8),
    "depthwise, two out of each": ((2, 7, 7, 4), (3, 3, 1, 8), (1, 2), ((1, 1),) * 2, (1, 1), 4),
    "wide": ((2, 30, 40, 16), (3, 3, 16, 32), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "a large image": ((1, 120, 130, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "a long signal": ((2, 5000, 3), (9, 3, 5), (2,), ((4, 4),), (1,), 1),
    "a volume": ((2, 6, 7, 8, 3), (3, 2, 3, 3, 4), (1, 2, 1), ((1, 1),) * 3, (1, 1, 2), 1),
    "large padding": ((1, 3, 3, 2), (3, 3, 2, 2), (1, 1), ((5, 4), (3, 6)), (1, 1), 1),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_of_torch(name, dtype, torch):
    shape, w_shape, stride, padding, dilation, groups = CASES[name]
    axes = len(stride)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    op = Conv(stride, padding, dilation, groups)
    y, pull = wg.vjp(op, x, w)
    u = rng.standard_normal(y.shape).astype(dtype)
    gx, gw = pull(u)
    assert y.dtype == gx.dtype == gw.dtype == dtype

    first = lambda a: torch.tensor(np.ascontiguousarray(np.moveaxis(a, -1, 1)))
    tx = first(x).requires_grad_()
    tw = torch.tensor(np.ascontiguousarray(np.moveaxis(w, (-1, -2), (0, 1)))).requires_grad_()
    padded = torch.nn.functional.pad(tx, [p for pair in padding[::-1] for p in pair])
    f = getattr(torch.nn.functional, f"conv{axes}d")
    ty = f(padded, tw, stride=stride, dilation=dilation, groups=groups)
    ty.backward(first(u))
    tol = 1e-12 if dtype == np.float64 else 1e-5
    for ours, theirs in (
        (y, np.moveaxis(ty.detach().numpy(), 1, -1)),
        (gx, np.moveaxis(tx.grad.numpy(), 1, -1)),
        (gw, np.moveaxis(tw.grad.numpy(), (0, 1), (-1, -2))),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tol * np.abs(theirs).max())


@pytest.mark.parametrize("name", ["dilated", "grouped", "depthwise strided", "even kernel"])
def test_laws_at_more_places(name):
    shape, w_shape, *how = CASES[name]
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, *shape[1:])), rng.standard_normal(w_shape)
    op = Conv(*how)
    check_op(op, x, w, order=1)
    u = rng.standard_normal(op(x, w).shape)
    check_op(ConvInput(*how, x.shape[1:-1]), u, w, order=1)
    check_op(ConvWeight(*how, w.shape[:-2]), x, u, order=1)


def test_per_sample_gradients_are_a_stack_of_single_ones():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 6, 6, 3)), rng.standard_normal((3, 3, 3, 2))
    op = Conv((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    loss = lambda w, x: np.sum(np.tanh(op(x[None], w)))
    each = wg.vmap(wg.grad(loss), in_axes=(None, 0))(w, x)
    for i in range(4):
        np.testing.assert_allclose(each[i], wg.grad(loss)(w, x[i]), rtol=1e-12, atol=1e-13)


def test_hessian_by_both_nestings():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 5, 2)), rng.standard_normal((3, 2, 2))
    op = Conv((2,), ((1, 1),), (1,), 1)
    f = lambda w: np.sum(np.sin(op(x, w)) ** 2)
    reverse = wg.jacrev(wg.grad(f))(w)
    np.testing.assert_allclose(wg.hessian(f)(w), reverse, rtol=1e-10, atol=1e-12)
    v = rng.standard_normal(w.shape)
    h = 1e-5
    slope = (wg.grad(f)(w + h * v) - wg.grad(f)(w - h * v)) / (2 * h)
    np.testing.assert_allclose(wg.hvp(f, w, v), slope, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float16, np.complex128, np.complex64])
def test_other_numbers(dtype):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 5, 3)), rng.standard_normal((3, 3, 3, 4))
    if np.dtype(dtype).kind == "c":
        x, w = x + 1j * x[::-1], w - 2j * w[::-1]
    x, w = x.astype(dtype), w.astype(dtype)
    how = ((1, 2), ((1, 1), (0, 1)), (1, 1), 1)
    y = Conv(*how)(x, w)
    assert y.dtype == dtype
    wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
    want = slow(x.astype(wide), w.astype(wide), *how)
    close = {np.float16: 1e-2, np.complex64: 1e-5, np.complex128: 1e-12}[dtype]
    np.testing.assert_allclose(y, want, rtol=0, atol=close * np.abs(want).max())
    assert ConvInput(*how, (6, 5))(y, w).dtype == ConvWeight(*how, (3, 3))(x, y).dtype == dtype


def test_integers_become_what_the_weights_are():
    x = np.arange(12, dtype=np.uint8).reshape(1, 12, 1)
    y = Conv((1,), ((0, 0),), (1,), 1)(x, np.ones((2, 1, 1), np.float32))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.ravel(), 2 * np.arange(11) + 1)


DEPTHWISE = {
    "usual": ((2, 33, 34, 21), (3, 3), (1, 1), (1, 1)),
    "strided": ((3, 29, 31, 16), (3, 5), (2, 3), (1, 1)),
    "dilated": ((2, 30, 31, 5), (3, 2), (1, 2), (2, 3)),
    "a line": ((3, 900, 19), (9,), (1,), (1,)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_with_and_without_a_compiler(name, dtype, monkeypatch):
    shape, kernel, stride, dilation = DEPTHWISE[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((*kernel, 1, shape[-1])).astype(dtype)
    how = (stride, ((1, 2),) * len(kernel), dilation, shape[-1])
    tol = 1e-12 if dtype == np.float64 else 2e-5

    def missing(module, extra):
        raise MissingExtraError(f"import {module}", "it is not installed")

    found = []
    for compiler in (True, False):
        conv_native.compiled.cache_clear()
        monkeypatch.setattr(conv_native, "WORTH", 1)
        if not compiler:
            monkeypatch.setattr(native, "need", missing)
        y = Conv(*how)(x, w)
        u = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
        found.append((y, ConvInput(*how, shape[1:-1])(u, w), ConvWeight(*how, kernel)(x, u)))
    conv_native.compiled.cache_clear()
    (y, gx, gw), (y2, gx2, gw2) = found
    np.testing.assert_array_equal(y, y2)  # to the bit
    np.testing.assert_array_equal(gx, gx2)
    np.testing.assert_allclose(gw, gw2, rtol=0, atol=tol * np.abs(gw2).max())
    want = slow(x.astype(float), w.astype(float), *how)
    np.testing.assert_allclose(y, want, rtol=0, atol=tol * np.abs(want).max())


def test_a_compiler_is_used_where_there_is_one(monkeypatch):
    pytest.importorskip("llvmlite", reason="the compiled kernels were left out")
    x, w = np.ones((1, 9, 9, 4)), np.ones((9, 4))
    y = np.empty((1, 7, 7, 4))
    how = (w, y, (3, 3), (1, 1), (1, 1))
    assert not conv_native.forward(x, *how)  # too little to be worth it
    monkeypatch.setattr(conv_native, "WORTH", 1)
    assert conv_native.forward(x, *how)
    np.testing.assert_array_equal(y, 9)
    assert not conv_native.forward(x.astype(np.float32), *how)


@pytest.mark.parametrize("few", [0, 99])
@pytest.mark.parametrize("places", [0, 1 << 60])
def test_all_roads_lead_to_the_same(few, places, monkeypatch):
    monkeypatch.setattr(conv_kernels, "FEW", few)
    monkeypatch.setattr(conv_kernels, "PLACES", places)
    names = ["one image", "even kernel", "dilated", "grouped", "depthwise strided", "a volume"]
    for limit in (1, 3000, 1 << 20):
        for name in ("COLUMNS", "SUMMED", "LINES", "IMAGES"):
            monkeypatch.setattr(conv_kernels, name, limit)
        for name in names:
            shape, w_shape, *how = CASES[name]
            rng = np.random.default_rng(0)
            x, w = rng.standard_normal(shape), rng.standard_normal(w_shape)
            want = slow(x, w, *how)
            np.testing.assert_allclose(Conv(*how)(x, w), want, rtol=1e-11, atol=1e-11)
            u, dx = rng.standard_normal(want.shape), rng.standard_normal(shape)
            back = (ConvInput(*how, shape[1:-1])(u, w) * dx).sum()
            grown = (ConvWeight(*how, w_shape[:-2])(x, u) * w).sum()
            assert back == pytest.approx((u * slow(dx, w, *how)).sum(), rel=1e-9, abs=1e-9)
            assert grown == pytest.approx((u * want).sum(), rel=1e-9, abs=1e-9)


def test_strided_operands_and_nothing():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 4, 9, 8)), rng.standard_normal((5, 4, 3, 3))
    how = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    a, b = np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))
    want = Conv(*how)(np.ascontiguousarray(a), np.ascontiguousarray(b))
    np.testing.assert_allclose(Conv(*how)(a, b), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        Conv(*how)(a[:, ::-1, ::-1], b[::-1, ::-1])[:, ::-1, ::-1], want, rtol=1e-12, atol=1e-12
    )
    assert Conv(*how)(a[:0], b).shape == (0, 9, 8, 5)
    assert not ConvWeight(*how, (3, 3))(a[:0], want[:0]).any()


@pytest.mark.parametrize(
    ("n", "k", "s", "p", "d"), [(7, 3, 2, 1, 1), (8, 2, 3, 0, 2), (5, 5, 1, 0, 1)]
)
def test_how_many_places(n, k, s, p, d):
    count = sum(1 for i in range(-p, n + p, 1) if (i + p) % s == 0 and i + d * (k - 1) < n + p)
    assert out_size(n, k, s, (p, p), d) == count


@pytest.mark.parametrize(
    ("x", "w", "words"),
    [
        ((2, 3, 8, 8), (3, 3, 3, 4), ["channels come last", "transpose(0, 2, 3, 1)"]),
        ((2, 8, 8, 5), (3, 3, 3, 4), ["axis -1 is 5", "axis -2 is 3"]),
        ((8, 8, 3), (3, 3, 3, 4), ["3 axes", "[None] adds a batch axis"]),
        ((2, 2, 2, 3), (3, 3, 3, 4), ["larger than x"]),
        ((2, 8, 8, 3), (4, 3, 5, 5), [".transpose(2, 3, 1, 0)"]),
        ((2, 3, 8, 8), (4, 3, 5, 5), ["transpose(0, 2, 3, 1) and ", ".transpose(2, 3, 1, 0)"]),
    ],
)
def test_what_does_not_fit_is_refused(x, w, words):
    op = Conv((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    for given_x in (np.ones(x), wg.tensor(np.ones(x))):
        with pytest.raises(ShapeError) as error:
            op(given_x, np.ones(w))
        for word in ["weight", *words]:
            assert word in str(error.value)


def test_transposes_refuse_too():
    op = ConvInput((1, 1), ((0, 0), (0, 0)), (1, 1), 1, (6, 6))
    with pytest.raises(ShapeError, match="conv_transpose"):
        op(np.ones((2, 4, 4, 3)), np.ones((3, 3, 2, 5)))
    with pytest.raises(ShapeError):
        ConvWeight((1,), ((0, 0),), (1,), 1, (3,))(np.ones((2, 6, 1)), np.ones((3, 4, 1)))
