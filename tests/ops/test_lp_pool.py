"""The p-norm of windows, over the whole range of its dtype."""

import itertools

import mpmath
import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.nn import functional as F
from wengert.testing import check_grads

ULPS = {"float16": 1, "float32": 4, "float64": 4}


def exact(x, p, k, s):
    """(values, gradient of their sum) of lp_pool1d over `[W]`, in 60 digits."""
    with mpmath.workdps(60):
        v = [mpmath.mpf(float(a)) for a in x]
        y, g = [], [mpmath.mpf(0)] * len(v)
        for start in range(0, len(v) - k + 1, s):
            total = mpmath.fsum(abs(a) ** p for a in v[start : start + k])
            y.append(total ** (mpmath.mpf(1) / p))
            for i in range(start, start + k):
                if v[i]:
                    g[i] += mpmath.sign(v[i]) * (abs(v[i]) / y[-1]) ** (p - 1)
    return y, g


def off(got, want, dtype):
    """The largest distance, in units of the last place of the right answer."""
    info = np.finfo(dtype)
    worst = 0.0
    for a, b in zip(np.ravel(got), want):
        ulp = max(abs(float(b)) * float(info.eps), float(info.smallest_subnormal))
        worst = max(worst, float(abs(mpmath.mpf(float(a)) - b)) / ulp)
    return worst


@pytest.mark.parametrize(("k", "s"), [(2, 2), (3, 1)])
@pytest.mark.parametrize("p", [1.5, 2, 3, 7.5])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_from_the_smallest_to_the_largest_numbers(dtype, p, k, s, way):
    info = np.finfo(dtype)
    middle = np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.25, -0.75, 2.5])
    top = float(info.max) / 16
    scales = [1.0, top, top**0.5, float(info.tiny), float(info.tiny) ** 0.5 / 8]
    f = lambda x: F.lp_pool1d(x, p, k, stride=s)
    f = wg.compile(f) if way == "compiled" else f
    small = np.dtype(dtype).type(2**-6)  # so that the sum of them all fits
    for scale in scales:
        x = (middle * scale).astype(dtype)
        want, slope = exact(x, p, k, s)
        y = np.asarray(f(x[None, :, None]))
        assert y.dtype == dtype
        assert off(y, want, dtype) <= ULPS[dtype] * max(1, p / 2), scale
        g = wg.grad(lambda x: (f(x[None, :, None]) * small).sum())(x) / small
        assert g.dtype == dtype
        assert off(g, slope, dtype) <= 4 * ULPS[dtype] * p, scale


def test_half_numbers_whose_squares_overflow():
    x = np.full((1, 4, 4, 1), 300, np.float16)
    y, g = wg.value_and_grad(lambda x: F.lp_pool2d(x, 2, 2).sum())(x)
    assert y == 4 * 600
    np.testing.assert_array_equal(g, np.full_like(x, 0.5))
    np.testing.assert_array_equal(nn.LPPool2d(2, 4)(x), [[[[1200]]]])
    cube = np.full((1, 2, 2, 2, 1), 300, np.float16)
    np.testing.assert_array_equal(F.lp_pool3d(cube, 3, 2), [[[[[600]]]]])


def test_small_and_large_windows_side_by_side():
    x = np.array([1e-30, 1e-30, 1e30, 1e30, 0, 0], np.float32)[None, :, None]
    y, g = F.lp_pool1d(x, 2, 2), wg.grad(lambda x: F.lp_pool1d(x, 2, 2).sum())(x)
    np.testing.assert_allclose(np.ravel(y), [2**0.5 * 1e-30, 2**0.5 * 1e30, 0], rtol=3e-7)
    np.testing.assert_allclose(np.ravel(g), [0.5**0.5] * 4 + [0, 0], rtol=3e-7)


def by_hand(x, p, k, s, pad):
    """lp_pool2d window by window, of `[H, W]`."""
    x = np.pad(x, [pad, pad])
    rows = [range(0, n - k + 1, s) for n in x.shape]
    return np.array([[np.sum(abs(x[i : i + k, j : j + k]) ** p) ** (1 / p) for j in rows[1]]
                     for i in rows[0]])  # fmt: skip


@pytest.mark.parametrize(
    ("p", "k", "s", "pad"), [*itertools.product([2, 3.5], [2, 3], [1, 2], [0, 1])]
)
def test_windows_are_those_of_the_other_pools(p, k, s, pad):
    x = np.random.default_rng(0).standard_normal((7, 6))
    y = F.lp_pool2d(x[None, :, :, None], p, k, stride=s, padding=pad)
    np.testing.assert_allclose(y[0, :, :, 0], by_hand(x, p, k, s, (pad, pad)), rtol=1e-13)
    single = F.lp_pool2d(x[:, :, None], p, k, stride=s, padding=pad)
    np.testing.assert_array_equal(single, y[0])


@pytest.mark.parametrize("p", [2, 3, 3.5])
@pytest.mark.parametrize("how", [{}, {"stride": 1}, {"padding": 1, "ceil_mode": True}])
def test_every_order_and_lanes(p, how):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 5, 6, 2))
    x += np.sign(x)
    f = lambda x: F.lp_pool2d(x, p, 2, **how)
    check_grads(f, (x,), order=2)
    np.testing.assert_allclose(wg.vmap(f)(np.stack([x, x[::-1]])), np.stack([f(x), f(x[::-1])]))


def test_the_curvature_of_a_window_with_a_zero_in_it():
    """(a^2 + 0^2)^(1/2) bends across the zero: 1/a. Of a window of zeros nobody knows it."""
    h = wg.hessian(lambda x: F.lp_pool1d(x[None, :, None], 2, 2).sum())(np.array([4.0, 0.0]))
    np.testing.assert_allclose(h, [[0, 0], [0, 0.25]], atol=1e-15)
    h = wg.hessian(lambda x: F.lp_pool1d(x[None, :, None], 2, 2).sum())(np.zeros(2))
    assert np.isnan(h).any()


@pytest.mark.parametrize("p", [0.5, 1.5, 3, 7.5, 100, -1, -2, -7.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_p_norms_of_vectors_of_any_size(p, dtype):
    info = np.finfo(dtype)
    middle = np.array([1.0, -2.0, 0.5, 3.0])
    for scale in (1.0, float(info.max) / 1e6, float(info.tiny), float(info.tiny) * 1e-3):
        x = (middle * scale).astype(dtype)
        want, slope = exact(x, mpmath.mpf(p), 4, 4)
        y, g = wg.value_and_grad(lambda x: np.linalg.norm(x, p))(x)
        assert off(y, want, dtype) <= 2 * max(4, abs(p)), scale
        if scale > info.tiny / 2 and abs(p) < 50:  # below it y has no digits to divide by
            assert off(g, slope, dtype) <= 8 * max(4, abs(p)), scale
