"""Pooling against an obvious loop, scipy, PyTorch, and its own transposes."""

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

import wengert as wg
from wengert import nn
from wengert.errors import DTypeError, OptionError, ShapeError
from wengert.nn import functional as F
from wengert.ops import conv_native, pool_kernels, pool_native
from wengert.ops.pool import MaxPool, MaxTap, SumPool, SumSpread, TapPick, TapPut
from wengert.testing import check_grads


def windows(x, kernel, stride, padding, dilation):
    """(place, the numbers of x in its window `[N, places, C]`, their flat places), by a loop."""
    size = x.shape[1:-1]
    flat = x.reshape(len(x), -1, x.shape[-1])
    counts = [
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    ]
    for o in itertools.product(*map(range, counts)):
        at = []
        for k in itertools.product(*map(range, kernel)):
            i = [s * a + d * b - p[0] for s, a, d, b, p in zip(stride, o, dilation, k, padding)]
            if all(0 <= a < n for a, n in zip(i, size)):
                at.append(int(np.ravel_multi_index(i, size)))
        yield counts, o, flat[:, at], at


def slow(x, f, *how):
    y = None
    for counts, o, part, _ in windows(x, *how):
        y = np.empty((len(x), *counts, x.shape[-1])) if y is None else y
        y[(slice(None), *o)] = f(part, axis=1)
    return y


@st.composite
def problems(draw):
    axes = draw(st.integers(1, 3))
    each = lambda s: tuple(draw(s) for _ in range(axes))
    kernel, stride, dilation = (
        each(st.integers(1, 4)),
        each(st.integers(1, 3)),
        each(st.integers(1, 2)),
    )
    half = [d * (k - 1) // 2 for k, d in zip(kernel, dilation)]
    padding = tuple((draw(st.integers(0, h)), draw(st.integers(0, h))) for h in half)
    size = tuple(d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal((draw(st.integers(1, 3)), *size, draw(st.integers(1, 3))))
    if draw(st.booleans()):
        x = np.round(x)  # with ties
    return x, kernel, stride, padding, dilation


@settings(max_examples=100, deadline=None)
@given(problems())
def test_values_and_transposes_against_a_loop(problem):
    x, *how = problem
    y = MaxPool(*how)(x)
    np.testing.assert_array_equal(y, slow(x, np.max, *how))
    total = SumPool(*how)(x)
    np.testing.assert_allclose(total, slow(x, np.sum, *how), rtol=1e-12, atol=1e-12)

    u = np.random.default_rng(0).standard_normal(y.shape)
    gx = wg.vjp(MaxPool(*how), x)[1](u)[0]
    gs = SumSpread(*how, x.shape[1:-1])(u)
    want_max, want_sum = np.zeros((len(x), math.prod(x.shape[1:-1]), x.shape[-1])), 0
    want_sum = want_max.copy()
    for _, o, part, at in windows(x, *how):
        first = np.argmax(part, axis=1)
        for n, c in np.ndindex(len(x), x.shape[-1]):
            want_max[n, at[first[n, c]], c] += u[(n, *o, c)]
            want_sum[n, at, c] += u[(n, *o, c)]
    np.testing.assert_allclose(gx, want_max.reshape(x.shape), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gs, want_sum.reshape(x.shape), rtol=1e-12, atol=1e-12)

    dx = np.random.default_rng(1).standard_normal(x.shape)
    assert abs((wg.jvp(MaxPool(*how), (x,), (dx,))[1] * u).sum() - (gx * dx).sum()) < 1e-10
    assert abs((SumPool(*how)(dx) * u).sum() - (gs * dx).sum()) < 1e-10


@pytest.mark.parametrize("k", [2, 9])
def test_many_taps_and_few_take_different_roads_to_the_same(k):
    rng = np.random.default_rng(k)
    x = np.round(rng.standard_normal((2, 3 * k, 2 * k, 3)) * 2)
    for padding, stride in (((0, 0), k), ((1, 1), k), ((1, 0), 2)):
        how = ((k, k), (stride, stride), (padding,) * 2, (1, 1))
        y = MaxPool(*how)(x)
        taps = MaxTap(*how)(x, y)
        np.testing.assert_array_equal(TapPick(*how)(x, taps), y)
        u = rng.standard_normal(y.shape)
        back = TapPut(*how, x.shape[1:-1])(u, taps)
        assert (back * x).sum() == pytest.approx((u * y).sum())
        for _, o, part, _ in windows(x, *how):
            number = taps[(slice(None), *o)]
            i, j = np.unravel_index(number, (k, k))
            i, j = stride * o[0] + i - padding[0], stride * o[1] + j - padding[0]
            first = np.take_along_axis(part, np.argmax(part, 1)[:, None], 1)[:, 0]
            n, c = np.arange(2)[:, None], np.arange(3)
            np.testing.assert_array_equal(x[n, i, j, c], first)


def test_values_of_scipy():
    x = np.random.default_rng(0).standard_normal((9, 8))
    how = ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    y = MaxPool(*how)(x[None, ..., None])[0, ..., 0]
    np.testing.assert_array_equal(
        y, scipy.ndimage.maximum_filter(x, 3, mode="constant", cval=-np.inf)
    )
    y = F.avg_pool2d(x[None, ..., None], 3, stride=1, padding=1)[0, ..., 0]
    np.testing.assert_allclose(y, scipy.ndimage.uniform_filter(x, 3, mode="constant"), atol=1e-14)


MAXIMA = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
    {"kernel_size": 3, "stride": 1, "dilation": 2, "padding": 1},
    {"kernel_size": 2, "stride": 2, "ceil_mode": True},
]


def last(t):
    return np.moveaxis(t.detach().numpy(), 1, -1)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", range(len(MAXIMA)))
def test_max_pool_of_torch(axes, ties, case, torch):
    how = MAXIMA[case]
    rng = np.random.default_rng(case)
    x = rng.standard_normal((2, *(7, 8, 6)[:axes], 3))
    x = np.round(x) if ties else x
    f, g = getattr(F, f"max_pool{axes}d"), getattr(torch.nn.functional, f"max_pool{axes}d")
    tx = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)), requires_grad=True)
    ty, ti = g(tx, return_indices=True, **how)
    y, i = f(x, return_indices=True, **how)
    np.testing.assert_array_equal(y, last(ty))
    np.testing.assert_array_equal(i, last(ti))
    u = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.ascontiguousarray(np.moveaxis(u, -1, 1))))
    gx = wg.vjp(lambda x: f(x, **how), x)[1](u)[0]
    np.testing.assert_allclose(gx, last(tx.grad), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", [c for c, how in enumerate(MAXIMA) if "dilation" not in how])
def test_avg_pool_of_torch(axes, count_include_pad, case, torch):
    how = {**MAXIMA[case], "count_include_pad": count_include_pad}
    rng = np.random.default_rng(case)
    x = rng.standard_normal((2, *(7, 8, 6)[:axes], 3))
    f, g = getattr(F, f"avg_pool{axes}d"), getattr(torch.nn.functional, f"avg_pool{axes}d")
    tx = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)), requires_grad=True)
    ty = g(tx, **how)
    y, pull = wg.vjp(lambda x: f(x, **how), x)
    np.testing.assert_allclose(y, last(ty), rtol=1e-12, atol=1e-14)
    u = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.ascontiguousarray(np.moveaxis(u, -1, 1))))
    np.testing.assert_allclose(pull(u)[0], last(tx.grad), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5, (None, 3, 7)])
def test_adaptive_pooling_of_torch(axes, size, torch):
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal((2, *(7, 6, 9)[:axes], 3)), 1)
    size = size[:axes] if isinstance(size, tuple) else size
    tx = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)), requires_grad=True)
    for kind in ("avg", "max"):
        f = getattr(F, f"adaptive_{kind}_pool{axes}d")
        g = getattr(torch.nn.functional, f"adaptive_{kind}_pool{axes}d")
        tsize = size[0] if axes == 1 and isinstance(size, tuple) else size
        tsize = 7 if tsize is None else tsize
        y, pull = wg.vjp(lambda x, f=f: f(x, size), x)
        ty = g(tx, tsize)
        np.testing.assert_allclose(y, last(ty), rtol=1e-12, atol=1e-14)
        u = rng.standard_normal(y.shape)
        tx.grad = None
        ty.backward(torch.tensor(np.ascontiguousarray(np.moveaxis(u, -1, 1))))
        np.testing.assert_allclose(pull(u)[0], last(tx.grad), rtol=1e-12, atol=1e-14)
    places = f(x, size, return_indices=True)[1]
    np.testing.assert_array_equal(places, last(g(tx, tsize, return_indices=True)[1]))


def test_adaptive_pooling_in_words():
    x = np.random.default_rng(0).standard_normal((2, 7, 5, 3))
    mean, top = F.adaptive_avg_pool2d(x, (3, 2)), F.adaptive_max_pool2d(x, (3, 2))
    for i, j in np.ndindex(3, 2):
        rows = slice(i * 7 // 3, -(-(i + 1) * 7 // 3))
        part = x[:, rows, j * 5 // 2 : -(-(j + 1) * 5 // 2)]
        np.testing.assert_allclose(mean[:, i, j], part.mean((1, 2)), rtol=1e-12)
        np.testing.assert_array_equal(top[:, i, j], part.max((1, 2)))


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_lp_pool_of_torch(axes, p, torch):
    x = np.abs(np.random.default_rng(0).standard_normal((2, *(7, 8)[:axes], 3)))
    f, g = getattr(F, f"lp_pool{axes}d"), getattr(torch.nn.functional, f"lp_pool{axes}d")
    tx = torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)), requires_grad=True)
    ty = g(tx, p, 3, stride=2)
    ty.sum().backward()
    np.testing.assert_allclose(f(x, p, 3, stride=2), last(ty), rtol=1e-12)
    gx = wg.grad(lambda x: f(x, p, 3, stride=2).sum())(x)
    np.testing.assert_allclose(gx, last(tx.grad), rtol=1e-12)


def test_lp_pool_of_zeros_has_the_gradient_zero():
    x = np.zeros((1, 4, 1))
    x[0, 3] = -2.0
    for p in (1.5, 2, 3):
        y, g = wg.value_and_grad(lambda x, p=p: F.lp_pool1d(x, p, 2).sum())(x)
        assert y == pytest.approx(2)
        np.testing.assert_allclose(g.ravel(), [0, 0, 0, -1], atol=1e-15)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_unpooling_of_torch(axes, torch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *(7, 8, 6)[:axes], 3))
    how = {"kernel_size": 3, "stride": 2}
    y, i = getattr(F, f"max_pool{axes}d")(x, return_indices=True, **how)
    size = x.shape[1:-1]
    z, pull = wg.vjp(
        lambda y: getattr(F, f"max_unpool{axes}d")(y, i, 3, stride=2, output_size=size), y
    )
    ty, ti = getattr(torch.nn.functional, f"max_pool{axes}d")(
        torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1))), return_indices=True, **how
    )
    tz = getattr(torch.nn.functional, f"max_unpool{axes}d")(ty, ti, 3, stride=2, output_size=size)
    np.testing.assert_array_equal(z, last(tz))
    u = rng.standard_normal(z.shape)
    v = rng.standard_normal(y.shape)
    assert (pull(u)[0] * v).sum() == pytest.approx(
        (u * wg.jvp(pull_of(i, axes, size), (y,), (v,))[1]).sum()
    )


def pull_of(i, axes, size):
    return lambda y: getattr(F, f"max_unpool{axes}d")(y, i, 3, stride=2, output_size=size)


def test_all_orders_and_lanes():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 5, 6, 2))
    check_grads(lambda x: np.sin(F.max_pool2d(x, 3, stride=2, padding=1)), (x,), order=2)
    check_grads(lambda x: np.sin(F.avg_pool2d(x, 2, padding=1, count_include_pad=False)), (x,))
    check_grads(lambda x: F.lp_pool2d(x, 3, 2), (x + np.sign(x),))  # |x|^3 is not smooth at 0
    check_grads(lambda x: np.sin(F.adaptive_max_pool2d(x, (3, 4))), (x,))
    f = lambda x: np.sum(F.max_pool2d(np.tanh(x), 2) ** 2)
    each = wg.vmap(wg.grad(f))(x)
    for a, b in zip(each, x):
        np.testing.assert_allclose(a, wg.grad(f)(b), rtol=1e-12)


def test_nan_is_the_maximum_and_takes_the_gradient():
    x = np.array([1.0, np.nan, 5.0, 2.0]).reshape(1, 4, 1)
    y, pull = wg.vjp(lambda x: F.max_pool1d(x, 2), x)
    assert np.isnan(y[0, 0, 0])
    assert y[0, 1, 0] == 5
    np.testing.assert_array_equal(pull(np.array([[[3.0], [4.0]]]))[0].ravel(), [0, 3, 4, 0])


def test_minus_infinity_in_x_is_not_the_padding():
    x = np.full((1, 3, 1), -np.inf)
    y, places = F.max_pool1d(x, 3, padding=1, return_indices=True)
    assert y.item() == -np.inf
    assert places.item() == 0
    assert wg.vjp(lambda x: F.max_pool1d(x, 3, padding=1), x)[1](np.ones_like(y))[0][0, 0, 0] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8])
def test_dtypes_are_kept(dtype):
    x = np.arange(16).reshape(1, 4, 4, 1).astype(dtype)
    y = F.max_pool2d(x, 3, stride=2, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.ravel(), [5, 7, 13, 15])
    if np.dtype(dtype).kind == "f":
        for f in (F.avg_pool2d, F.max_pool2d):
            g = wg.grad(lambda x, f=f: f(x, 2, padding=1).sum())(x)
            assert g.dtype == dtype
        assert F.avg_pool2d(x, 3, padding=1, count_include_pad=False).dtype == dtype
        assert F.adaptive_avg_pool2d(x, 3).dtype == dtype


def test_conventions_see_ties():
    f = lambda x: F.max_pool1d(x, 2).sum()
    x = np.array([1.0, 1.0, 3.0, 2.0]).reshape(1, 4, 1)
    assert wg.grad(f)(x).ravel().tolist() == [1, 0, 1, 0]
    with wg.conventions(kinks="nan"):
        got = wg.grad(f)(x).ravel()
    assert np.isnan(got[0])
    assert got[2] == 1
    with wg.conventions(kinks="raise"), pytest.raises(wg.errors.KinkError):
        wg.grad(f)(x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.max_pool2d(np.ones((1, 2, 2, 1)), 3), ShapeError, "larger than x"),
        (lambda: F.max_pool1d(np.ones((1, 4, 1)), 2, padding=2), ShapeError, "in the padding"),
        (lambda: F.max_pool2d(np.ones((2, 2)), 2), ShapeError, "channels last"),
        (lambda: F.max_pool2d(np.ones((1, 4, 4, 1)), 0), OptionError, "kernel_size"),
        (lambda: F.max_pool2d(np.ones((1, 4, 4, 1)), (2, 2, 2)), OptionError, "or 2 of them"),
        (lambda: F.max_pool1d(np.ones((1, 4, 1), complex), 2), DTypeError, "real numbers"),
        (lambda: F.lp_pool1d(np.ones((1, 4, 1)), np.inf, 2), OptionError, "max_pool1d"),
        (lambda: F.avg_pool1d(np.ones((1, 4, 1)), 2, padding="some"), OptionError, "same"),
        (lambda: F.adaptive_avg_pool2d(np.ones((1, 4, 4, 1)), (1, 2, 3)), OptionError, "output"),
        (
            lambda: F.max_unpool1d(np.ones((1, 2, 1)), np.array([[[0], [9]]]), 2),
            ShapeError,
            "0 to 9",
        ),
        (lambda: F.max_unpool1d(np.ones((1, 2, 1)), np.ones((1, 2, 1)), 2), DTypeError, "integers"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("call", [
    lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.lp_pool2d(x, 2, 2),
    lambda x: nn.MaxPool2d(2)(x), lambda x: nn.AvgPool2d((2, 1))(x),
])  # fmt: skip
def test_a_picture_whose_channels_come_first_and_do_not_fit_is_told_so(call):
    x = np.ones((2, 1, 28, 28), np.float32)
    with pytest.raises(ShapeError) as caught:
        call(x)
    text = str(caught.value)
    assert "axis 1 is 1" in text
    assert "fix: x.transpose(0, 2, 3, 1) if its channels come first" in text
    with pytest.raises(ShapeError, match=r"fix: x.transpose\(1, 2, 0\) if its channels come first"):
        call(x := np.ones((1, 28, 28), np.float32))
    with pytest.raises(ShapeError) as caught:
        call(np.ones((2, 1, 1, 28), np.float32))  # does not fit either way
    assert "fix:" not in str(caught.value)


SETTINGS = [  # kernel, stride, padding, dilation, size
    ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (6, 8)),
    ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (7, 5)),  # a rest at the end
    ((2, 3), (4, 5), ((0, 0), (0, 0)), (2, 2), (11, 16)),  # gaps
    ((3,), (3,), ((0, 0),), (1,), (13,)),
    ((2, 2), (2, 2), ((1, 0), (0, 1)), (1, 1), (5, 7)),
    ((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), (7, 9)),  # windows that meet
    ((2, 2, 2), (2, 2, 2), ((0, 0),) * 3, (1, 1, 1), (4, 4, 5)),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 16, 37, 100])
def test_the_gradient_of_a_maximum_is_the_same_on_every_road(channels, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    for *how, size in SETTINGS:
        x = rng.integers(-2, 2, (3, *size, channels)).astype(dtype)  # many ties
        x[0, 0] = -np.inf
        pool = MaxPool(*how)
        y = pool(x)
        u = rng.normal(size=y.shape).astype(dtype)
        if any(k * d > s for k, s, d in zip(how[0], how[1], how[3])):
            u = rng.integers(-9, 9, y.shape).astype(dtype)  # sums are exact in any order
        u[1, 0] = np.inf
        want = TapPut(*how, size)(u, MaxTap(*how)(x, y))
        slow = np.zeros_like(x)
        for number, o, i in pool.taps(size):
            slow[i] += np.where(MaxTap(*how)(x, y)[o] == number, u[o], 0)
        np.testing.assert_array_equal(want, slow)
        for worth, cache in ((1, 1 << 20), (1 << 60, 1 << 20), (1 << 60, 1)):
            monkeypatch.setattr(conv_native, "WORTH", worth)
            monkeypatch.setattr(pool_kernels, "CACHE", cache)
            got = pool.vjp(u, x, y)
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, want)
            turned = [a[..., ::-1] for a in (u, x, y)]
            np.testing.assert_array_equal(pool.vjp(*turned)[..., ::-1], want)
            np.testing.assert_array_equal(pool(x), y)


def test_a_compiler_is_used_for_maxima_where_there_is_one(monkeypatch):
    pytest.importorskip("llvmlite", reason="the compiled kernels were left out")
    how = MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
    x = np.arange(64.0).reshape(1, 4, 4, 4)
    y, gx = how(x), np.zeros_like(x)
    assert not pool_native.put(y, x, y, gx, how)  # too little to be worth it
    monkeypatch.setattr(conv_native, "WORTH", 1)
    assert pool_native.put(y, x, y, gx, how)
    np.testing.assert_array_equal(gx[0, 1::2, 1::2], y[0])
    assert np.count_nonzero(gx) == y.size
    assert not pool_native.put(y, x.astype(np.float32), y, gx, how)
    z = np.empty_like(y)
    assert pool_native.largest(x, z, how)
    np.testing.assert_array_equal(z, x[:, 1::2, 1::2])
    meeting = MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    y, gx = meeting(x), np.zeros_like(x)
    assert pool_native.put(y, x, np.ones_like(y), gx, meeting, apart=False)
    assert gx[0, :, :, 0].sum() == y[0, :, :, 0].size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 16, 37])
def test_the_maximum_is_the_same_on_every_road(channels, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    for *how, size in SETTINGS:
        x = rng.normal(size=(3, *size, channels)).astype(dtype)
        x[0, 0], x[1, 1], x[2, 2, ..., 0] = -np.inf, np.inf, np.nan
        found = []
        for worth in (1, 1 << 60):
            monkeypatch.setattr(conv_native, "WORTH", worth)
            found.append(MaxPool(*how)(x))
        np.testing.assert_array_equal(*found)
        monkeypatch.setattr(conv_native, "WORTH", 1)
        monkeypatch.setattr(pool_native, "IMAGES", 1)  # images one by one
        np.testing.assert_array_equal(MaxPool(*how)(x), found[0])
