"""Layers that pad, resize, shuffle and cut up: PyTorch's numbers with the channels last."""

import copy
import pickle

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.nn import functional as F

R = np.random.default_rng(0).standard_normal
SPACE = {1: (5,), 2: (4, 5), 3: (3, 4, 5)}
PADS = {
    "ZeroPad": ("constant", ()),
    "ConstantPad": ("constant", (1.5,)),
    "ReflectionPad": ("reflect", ()),
    "ReplicationPad": ("replicate", ()),
    "CircularPad": ("circular", ()),
}
FLAT = {1: (2, 1), 2: (2, 1, 0, 3), 3: (2, 1, 0, 3, 1, 2)}
PAIRS = {1: ((2, 1),), 2: ((0, 3), (2, 1)), 3: ((1, 2), (0, 3), (2, 1))}


def picture(axes):
    return R((2, *SPACE[axes], 2))


def against(torch, ours, theirs, x, back=lambda y: y.movedim(1, -1)):
    """Value and gradient of one and the other, which has its channels second."""
    a, b = wg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, want = ours(a), back(theirs(b.movedim(-1, 1)))
    np.testing.assert_allclose(y.numpy(), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    (y * gy).sum().backward()
    (want * torch.tensor(gy)).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ padding


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", PADS)
def test_pads_are_pytorchs(torch, name, axes):
    layer, own = getattr(nn, f"{name}{axes}d"), getattr(torch.nn, f"{name}{axes}d")
    value = PADS[name][1]
    for padding in (1, FLAT[axes], 0):
        against(torch, layer(padding, *value), own(padding, *value), picture(axes))
    if name in ("ZeroPad", "ConstantPad"):  # a negative one cuts off
        cut = (-1, 2) * axes
        against(torch, layer(cut, *value), own(cut, *value), picture(axes))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", PADS)
def test_pads_are_f_pad(name, axes):
    mode, value = PADS[name]
    kind, x = getattr(nn, f"{name}{axes}d"), picture(axes)
    want = F.pad(x, PAIRS[axes], mode, *value)
    for padding in (PAIRS[axes], list(map(list, PAIRS[axes])), FLAT[axes], np.array(PAIRS[axes])):
        layer = kind(padding, *value)
        assert layer.padding == PAIRS[axes]
        np.testing.assert_array_equal(layer(x), want)
        np.testing.assert_array_equal(layer(x[0]), want[0])
    told = f"{name}{axes}d({PAIRS[axes]}{', 1.5' * len(value)})"
    assert repr(layer) == told
    again = eval(f"nn.{told}")
    np.testing.assert_array_equal(again(x), want)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x), want)
    assert repr(kind(np.int64(2), *value)) == f"{name}{axes}d(2{', 1.5' * len(value)})"
    assert layer.state_dict() == {}
    assert kind.__name__ in nn.__all__


@pytest.mark.parametrize("bad", [1.5, "same", True, (1, 2, 3), ((1, 2, 3),), None, ((0.5, 1),) * 2])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", PADS)
def test_padding_of_another_form(name, axes, bad):
    with pytest.raises(OptionError) as caught:
        getattr(nn, f"{name}{axes}d")(bad, *PADS[name][1])
    text = str(caught.value)
    assert f"{name}{axes}d(padding={bad!r}): padding is a whole number, {axes} pair" in text
    assert "test_nn_shapes.py" in text


def test_pictures_that_cannot_be_padded():
    for x in (np.ones((5, 2)), np.ones(3), np.ones((2, 3, 4, 5, 6)), 1.0):
        with pytest.raises(ShapeError, match=r"ZeroPad2d\(x\): x is \[N, H, W, C\], channels last"):
            nn.ZeroPad2d(1)(x)
    with pytest.raises(ArgumentError, match="x is an array of numbers"):
        nn.ZeroPad2d(1)("abc")
    with pytest.raises(ShapeError, match="at most 3 on a side"):
        nn.ReflectionPad2d(4)(picture(2))
    with pytest.raises(ShapeError, match="at most 4 on a side"):
        nn.CircularPad2d(5)(picture(2))
    with pytest.raises(OptionError, match="value is a number"):
        nn.ConstantPad1d(1, "x")
    with pytest.raises(ShapeError, match="fewer than are cut off"):
        nn.ZeroPad1d(-3)(picture(1))


# ------------------------------------------------------------------ size


UPSAMPLES = [
    (axes, options)
    for axes, modes in ((1, ("nearest", "linear")), (2, ("nearest", "bilinear", "bicubic")),
                        (3, ("nearest", "trilinear")))
    for mode in modes
    for size in ({"size": 7}, {"size": (7, 3, 2)[:axes]}, {"scale_factor": 2},
                 {"scale_factor": (1.7, 2, 0.6)[:axes]})
    for align in ((False, True) if mode != "nearest" else (None,))
    for options in ({**size, "mode": mode, "align_corners": align},)
]  # fmt: skip


@pytest.mark.parametrize(("axes", "options"), UPSAMPLES)
def test_upsample_is_pytorchs(torch, axes, options):
    against(torch, nn.Upsample(**options), torch.nn.Upsample(**options), picture(axes))


@pytest.mark.parametrize("name", ["UpsamplingNearest2d", "UpsamplingBilinear2d"])
@pytest.mark.parametrize("options", [{"size": 7}, {"size": (3, 9)}, {"scale_factor": 2}])
def test_upsampling_of_pictures(torch, name, options):
    ours = getattr(nn, name)(**options)
    against(torch, ours, getattr(torch.nn, name)(**options), picture(2))
    x = picture(2)
    np.testing.assert_array_equal(ours(x[0]), ours(x)[0])
    with pytest.raises(ShapeError, match=rf"{name}\(x\): x is \[N, H, W, C\]"):
        ours(picture(3))


def test_upsample_says_what_it_is():
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2)"
    assert repr(nn.Upsample((4, 4), mode="bilinear", align_corners=True)) == (
        "Upsample(size=(4, 4), mode='bilinear', align_corners=True)"
    )
    assert repr(nn.UpsamplingBilinear2d(8)) == "UpsamplingBilinear2d(size=8)"


@pytest.mark.parametrize("options", [
    {}, {"size": 3, "scale_factor": 2}, {"size": 0}, {"size": 2.5}, {"size": "x"},
    {"scale_factor": -1}, {"scale_factor": "x"}, {"scale_factor": float("nan")},
    {"scale_factor": float("inf")}, {"scale_factor": (2, None)}, {"size": 3, "mode": "cubic"},
    {"size": 3, "mode": 3}, {"size": 3, "align_corners": "no"},
])  # fmt: skip
def test_upsamples_that_make_no_sense(options):
    with pytest.raises(OptionError) as caught:
        nn.Upsample(**options)
    assert "Upsample(" in str(caught.value)
    assert "test_nn_shapes.py" in str(caught.value)


def test_upsamples_that_do_not_fit():
    with pytest.raises(OptionError, match='"bilinear" is for 2 axes'):
        nn.Upsample(3, mode="bilinear")(picture(1))
    with pytest.raises(OptionError, match="or 2 of them"):
        nn.Upsample((3, 3, 3))(picture(2))
    with pytest.raises(OptionError, match="a positive number, or one per axis"):
        nn.Upsample(scale_factor=(2, 2, 2))(picture(2))
    with pytest.raises(ShapeError, match="channels last"):
        nn.Upsample(3)(np.ones((2, 3)))
    with pytest.raises(ArgumentError, match="its options are size, scale_factor"):
        nn.Upsample(3, factor=2)
    for factor in ("x", None, (2, "x"), float("nan")):
        with pytest.raises(OptionError, match=r"interpolate\(s"):
            F.interpolate(picture(1), scale_factor=factor)


# ------------------------------------------------------------------ shuffles and windows


def test_shuffles_are_pytorchs_and_inverse(torch):
    x = R((2, 2, 3, 8))
    against(torch, nn.PixelShuffle(2), torch.nn.PixelShuffle(2), x)
    y = nn.PixelShuffle(2)(x)
    against(torch, nn.PixelUnshuffle(2), torch.nn.PixelUnshuffle(2), y)
    np.testing.assert_array_equal(nn.PixelUnshuffle(2)(y), x)
    np.testing.assert_array_equal(nn.PixelShuffle(upscale_factor=2)(x[0]), y[0])
    assert repr(nn.PixelShuffle(2)) == "PixelShuffle(2)"
    assert repr(nn.PixelUnshuffle(downscale_factor=3)) == "PixelUnshuffle(3)"
    for kind in (nn.PixelShuffle, nn.PixelUnshuffle):
        for bad in (0, 1.5, "x", (2, 2)):
            with pytest.raises(OptionError, match=r"factor=.*is an integer from 1 on"):
                kind(bad)
    for f in (F.pixel_shuffle, F.pixel_unshuffle):
        with pytest.raises(OptionError, match="factor is an integer from 1 on"):
            f(x, 2.5)
    with pytest.raises(ShapeError, match="the channels are a multiple of 9"):
        nn.PixelShuffle(3)(x)
    with pytest.raises(ShapeError, match="height and width are multiples of 3"):
        nn.PixelUnshuffle(3)(x)


WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 0), "stride": (1, 2)},
    {"kernel_size": 3, "padding": 1},
]


@pytest.mark.parametrize("options", WINDOWS)
def test_windows_are_pytorchs_in_another_order(torch, options):
    """PyTorch has `[N, C K, L]`, channels before places; here `[N, L, K C]`."""
    x = R((2, 5, 6, 3))
    k = options["kernel_size"]
    k = k if isinstance(k, tuple) else (k, k)

    def ordered(y):
        return y.reshape(2, 3, k[0] * k[1], -1).permute(0, 3, 2, 1).flatten(2)

    unfold = nn.Unfold(**options)
    against(torch, unfold, torch.nn.Unfold(**options), x, ordered)
    y = unfold(x)

    def channels_first(w):
        w = w.movedim(1, -1)  # `against` has moved the last axis
        return w.reshape(2, -1, k[0] * k[1], 3).permute(0, 3, 2, 1).flatten(1, 2)

    own = torch.nn.Fold((5, 6), **options)
    against(torch, nn.Fold((5, 6), **options), lambda w: own(channels_first(w)), y)


def test_windows_of_any_axes_and_what_they_say():
    for axes in (1, 2, 3):
        x = picture(axes)
        want = F.unfold(x, 2, stride=2, padding=1)
        np.testing.assert_array_equal(nn.Unfold(2, padding=1, stride=2)(x), want)
        want = F.fold(want, SPACE[axes], 2, stride=2, padding=1)
        y = nn.Unfold(2, padding=1, stride=2)(x)
        np.testing.assert_array_equal(nn.Fold(SPACE[axes], 2, 1, 1, 2)(y), want)
    assert repr(nn.Unfold((2, 3), stride=(2, 2))) == "Unfold((2, 3), stride=2)"
    assert repr(nn.Fold(4, 2, padding=1)) == "Fold((4, 4), 2, padding=1)"
    for name in ("kernel_size", "dilation", "padding", "stride"):
        for bad in (-1, 0.5, "x", None, (1, -1)):
            with pytest.raises(OptionError, match=f"{name} is an integer from"):
                nn.Unfold(**{"kernel_size": 2, name: bad})
    for bad in (0, 2.5, "x", None, (3, 0)):
        with pytest.raises(OptionError, match="output_size is an integer from 1 on"):
            nn.Fold(bad, 2)
    for bad in (0, "x", None, (3, 0)):
        with pytest.raises(OptionError, match="size is an integer from 1 on"):
            F.fold(np.ones((1, 2, 2)), bad, 2)
    with pytest.raises(ShapeError, match=r"x is \[N, 9, 4 C\]"):
        nn.Fold(4, 2)(np.ones((1, 8, 4)))
    with pytest.raises(OptionError, match="kernel is an integer from 1 on, or 3 of them"):
        nn.Unfold((2, 2))(picture(3))


# ------------------------------------------------------------------ in a model


def test_they_stand_in_a_model(tmp_path):
    model = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(2, 8, 3, rng=0), nn.PixelShuffle(2),
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Unfold(2, stride=2),
    )  # fmt: skip
    x = R((2, 4, 4, 2)).astype(np.float32)
    y = model(x)
    shapes = [r.shape for r in nn.summary(model, (2, 4, 4, 2)).rows]
    assert shapes == [
        (2, 81, 8), (2, 6, 6, 2), (2, 4, 4, 8), (2, 8, 8, 2), (2, 9, 9, 2), (2, 18, 18, 2),
        (2, 81, 8),
    ]  # fmt: skip
    assert y.dtype == np.float32
    compiled = wg.compile(lambda x: model(x))
    np.testing.assert_allclose(compiled(x).numpy(), y.numpy(), rtol=1e-5, atol=1e-6)
    nn.save(model, tmp_path / "m.safetensors", layout="torch")
    nn.load_into(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(model(x).numpy(), y.numpy())
