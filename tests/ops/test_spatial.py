"""Resampling and windows against NumPy, SciPy and obvious loops."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import OptionError, ShapeError
from wengert.nn import functional as F
from wengert.ops.spatial import Resample, ResampleBack

rng = np.random.default_rng(0)
NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("widths", [((2, 1), (0, 3)), ((4, 4), (1, 0)), ((0, 0), (0, 0))])
def test_edges_as_numpy_pads(mode, widths):
    x = rng.standard_normal((2, 5, 6, 3))
    want = np.pad(x, ((0, 0), *widths, (0, 0)), NUMPY[mode])
    np.testing.assert_array_equal(F.pad(x, widths, mode), want)


def test_padding_with_a_constant_and_cutting_off():
    x = rng.standard_normal((2, 5, 3))
    np.testing.assert_array_equal(
        F.pad(x, ((1, 2),), value=4.0), np.pad(x, ((0, 0), (1, 2), (0, 0)), constant_values=4.0)
    )
    np.testing.assert_array_equal(F.pad(x, ((-1, -2),)), x[:, 1:-2])
    np.testing.assert_array_equal(
        F.pad(x, ((0, 0), (1, 0), (0, 2))), np.pad(x, ((0, 0), (1, 0), (0, 2)))
    )
    g = wg.grad(lambda x: F.pad(x, ((-1, 1),), "replicate")[:, -2:].sum())(x)
    np.testing.assert_array_equal(g[:, -1], 2)
    assert not g[:, :-1].any()
    with pytest.raises(ShapeError, match="at most 4 on a side"):
        F.pad(x, ((5, 0),), "reflect")
    with pytest.raises(OptionError, match='"constant", "reflect", "replicate", "circular"'):
        F.pad(x, ((1, 0),), "mirror")


def test_linear_interpolation_reproduces_straight_lines():
    x = (3 * np.arange(6.0) - 1)[None, :, None]
    y = F.interpolate(x, 11, mode="linear", align_corners=True)
    np.testing.assert_allclose(y[0, :, 0], 3 * np.arange(0, 5.01, 0.5) - 1, rtol=1e-14)
    inside = F.interpolate(x, 12, mode="linear")[0, 1:-1, 0]
    np.testing.assert_allclose(np.diff(inside), 1.5, rtol=1e-12)


def test_cubic_interpolation_reproduces_constants_and_passes_through_points():
    x = rng.standard_normal((1, 4, 5, 1))
    ones = F.interpolate(np.ones((1, 4, 5, 1)), (7, 9), mode="bicubic")
    np.testing.assert_allclose(ones, 1, rtol=1e-14)
    y = F.interpolate(x, (7, 9), mode="bicubic", align_corners=True)
    np.testing.assert_allclose(y[:, ::2, ::2], x, rtol=1e-12)


def test_area_is_the_mean_of_each_part():
    x = rng.standard_normal((2, 6, 3))
    want = x.reshape(2, 3, 2, 3).mean(2)
    np.testing.assert_allclose(F.interpolate(x, 3, mode="area"), want, rtol=1e-14)


@pytest.mark.parametrize(
    "plan",
    [
        ("reflect", 3, 3), ("circular", 2, 4), ("nearest", 9, 0.5, 0.5), ("linear", 11, 0.4, False),
        ("cubic", 3, 1.7, False), ("area", 7),
    ],
)  # fmt: skip
def test_the_transpose_is_the_transposed_matrix(plan):
    a = Resample(0, plan)(np.eye(5))
    m = len(a)
    np.testing.assert_allclose(ResampleBack(0, plan, 5)(np.eye(m)), a.T, atol=1e-15)


@pytest.mark.parametrize("kernel", [(2, 3), (1, 1), (3, 2)])
@pytest.mark.parametrize("stride", [1, (2, 1)])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize("dilation", [1, (1, 2)])
def test_windows_by_loops_and_their_sums(kernel, stride, padding, dilation):
    x = rng.standard_normal((2, 6, 7, 2))
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    s, p, d = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation))
    wide = np.pad(x, ((0, 0), (p[0],) * 2, (p[1],) * 2, (0, 0)))
    rows = []
    for i in range(0, wide.shape[1] - d[0] * (kernel[0] - 1), s[0]):
        for j in range(0, wide.shape[2] - d[1] * (kernel[1] - 1), s[1]):
            patch = wide[:, i : i + d[0] * kernel[0] : d[0], j : j + d[1] * kernel[1] : d[1]]
            rows.append(patch[:, : kernel[0], : kernel[1]].reshape(2, -1))
    want = np.stack(rows, 1)
    y = F.unfold(x, kernel, **options)
    np.testing.assert_array_equal(y, want)
    gy = rng.standard_normal(want.shape)
    folded = F.fold(gy, (6, 7), kernel, **options)
    (pulled,) = wg.vjp(lambda x: F.unfold(x, kernel, **options), x)[1](gy)
    np.testing.assert_allclose(folded, pulled, rtol=1e-13)


def test_convolution_is_a_product_with_windows():
    x, w = rng.standard_normal((2, 6, 7, 2)), rng.standard_normal((3, 2, 2, 4))
    y = F.unfold(x, (3, 2)) @ w.reshape(-1, 4)
    np.testing.assert_allclose(y.reshape(2, 4, 6, 4), F.conv2d(x, w), rtol=1e-11, atol=1e-13)


def test_shuffles_are_inverse():
    x = rng.standard_normal((2, 4, 6, 3))
    np.testing.assert_array_equal(F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2), x)
    y = F.pixel_shuffle(np.arange(4.0).reshape(1, 1, 1, 4), 2)[0, :, :, 0]
    np.testing.assert_array_equal(y, [[0, 1], [2, 3]])
    with pytest.raises(ShapeError, match="multiple of 9"):
        F.pixel_shuffle(x, 3)


def test_sampling_at_the_pixels_gives_the_pixels():
    x = rng.standard_normal((2, 4, 5, 3))
    down, across = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 5), indexing="ij")
    grid = np.broadcast_to(np.stack([across, down], -1), (2, 4, 5, 2))
    for mode in ("bilinear", "nearest"):
        y = F.grid_sample(x, grid, mode, align_corners=True)
        np.testing.assert_allclose(np.asarray(y), x, rtol=1e-12, atol=1e-12)
    out = F.grid_sample(x, grid + 9)
    assert not np.asarray(out).any()


def test_widths_in_a_row_are_refused_with_the_pairs_to_write():
    with pytest.raises(ShapeError) as caught:
        F.pad(np.ones((2, 3, 4, 1)), (1, 2, 0, 3))
    assert "fix: pad(x, [(0, 3), (1, 2)]), in the order of the axes" in str(caught.value)
    with pytest.raises(ShapeError, match="a pair"):
        F.pad(np.ones((2, 3)), (1, 2, 3))


@pytest.mark.parametrize(
    "widths",
    [1, None, (1,), (1, 2, 3), "ab", (("a", "b"),), ((1.5, 2),), ((1, 1),) * 5, ((1, 2, 3),)],
)
def test_widths_that_are_no_pairs_are_refused(widths):
    with pytest.raises(ShapeError, match=r"pair \(before, after\) of whole numbers") as caught:
        F.pad(np.ones((2, 4, 5, 3)), widths)
    assert "test_spatial.py" in str(caught.value)


def test_the_flat_form_of_pytorch_is_turned_round():
    with pytest.raises(ShapeError, match=r"fix: pad\(x, \[\(0, 1\), \(1, 2\)\]\), in the order"):
        F.pad(np.ones((2, 4, 5, 3)), (1, 2, 0, 1))


def test_more_than_there_is_cannot_be_cut_off():
    with pytest.raises(ShapeError, match="axis 1 has 4 places, fewer than are cut off"):
        F.pad(np.ones((2, 4, 5, 3)), ((-3, -2), (0, 0)))
    assert F.pad(np.ones((2, 4, 5, 3)), ((-2, -2), (0, 0))).shape == (2, 0, 5, 3)
    assert F.pad(np.ones((2, 4, 5, 3)), np.array([[1, 0], [0, 2]])).shape == (2, 5, 7, 3)
