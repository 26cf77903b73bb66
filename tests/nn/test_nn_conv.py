"""Convolution and pooling as layers: values, sizes, starts, what is printed and what is refused."""

import math

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import OptionError, ShapeError, UnknownNameError
from wengert.nn import functional as F

rng = np.random.default_rng(0)


def torch_weight(w, torch):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(w, (-1, -2), (0, 1))))


def first(x, torch):
    return torch.tensor(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


CONV = [
    {},
    {"padding": 1, "stride": 2},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "groups": 2},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 2, "padding_mode": "replicate"},
    {"padding": "same", "padding_mode": "circular"},
]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("case", range(len(CONV)))
def test_convolution_of_torch(axes, case, torch):
    how = CONV[case]
    if axes == 3 and how.get("padding_mode") == "reflect":
        how = {**how, "padding": 1}
    layer = getattr(nn, f"Conv{axes}d")(4, 6, 3, rng=0, dtype=np.float64, **how)
    layer.bias = nn.Parameter(rng.standard_normal(6))
    peer = getattr(torch.nn, f"Conv{axes}d")(4, 6, 3, dtype=torch.float64, **how)
    w = layer.weight.numpy()
    with torch.no_grad():
        peer.weight.copy_(torch_weight(w, torch))
        peer.bias.copy_(torch.tensor(layer.bias.numpy().copy()))
    x = rng.standard_normal((2, *(7, 6, 5)[:axes], 4))
    tx = first(x, torch).requires_grad_()
    t = wg.tensor(x, requires_grad=True)
    y, ty = layer(t), peer(tx)
    np.testing.assert_allclose(y.numpy(), np.moveaxis(ty.detach().numpy(), 1, -1), atol=1e-12)
    (y * y).sum().backward()
    (ty * ty).sum().backward()
    for ours, theirs in (
        (t.grad, np.moveaxis(tx.grad.numpy(), 1, -1)),
        (layer.weight.grad, np.moveaxis(peer.weight.grad.numpy(), (0, 1), (-1, -2))),
        (layer.bias.grad, peer.bias.grad.numpy()),
    ):
        np.testing.assert_allclose(ours.value(), theirs, rtol=1e-11, atol=1e-11)


TRANSPOSED = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": 3, "groups": 2},
    {"dilation": 2, "padding": 2},
    {"stride": 1, "dilation": 2, "output_padding": 1},
    {"stride": 2, "dilation": 3, "padding": 1, "output_padding": 2},
]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("case", range(len(TRANSPOSED)))
def test_transposed_convolution_of_torch(axes, case, torch):
    how = TRANSPOSED[case]
    layer = getattr(nn, f"ConvTranspose{axes}d")(4, 6, 3, rng=0, dtype=np.float64, **how)
    peer = getattr(torch.nn, f"ConvTranspose{axes}d")(4, 6, 3, dtype=torch.float64, **how)
    with torch.no_grad():
        peer.weight.copy_(torch_weight(layer.weight.numpy(), torch))
        peer.bias.zero_()
    x = rng.standard_normal((2, *(5, 4, 3)[:axes], 4))
    y, ty = layer(x), peer(first(x, torch))
    np.testing.assert_allclose(y.numpy(), np.moveaxis(ty.detach().numpy(), 1, -1), atol=1e-12)
    (y * y).sum().backward()
    (ty * ty).sum().backward()
    theirs = np.moveaxis(peer.weight.grad.numpy(), (0, 1), (-1, -2))
    np.testing.assert_allclose(layer.weight.grad.value(), theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_transposed_convolution_is_the_transpose(stride):
    w = rng.standard_normal((3, 3, 2, 5))
    x, u = rng.standard_normal((2, 10, 10, 2)), None
    y = F.conv2d(x, w, stride=stride, padding=1)
    u = rng.standard_normal(y.shape)
    left = (10 + 2 - 3) % stride
    back = F.conv_transpose2d(u, w, stride=stride, padding=1, output_padding=left)
    assert back.shape == x.shape
    assert (u * y).sum() == pytest.approx((back * x).sum())


@pytest.mark.parametrize(("size", "stride", "kernel"), [(7, 1, 3), (8, 2, 3), (9, 2, 4), (5, 3, 2)])
def test_same_padding_gives_one_place_a_stride(size, stride, kernel):
    y = F.conv1d(np.ones((1, size, 1)), np.ones((kernel, 1, 1)), stride=stride, padding="same")
    assert y.shape[1] == -(-size // stride)


def test_one_sample_without_a_batch_axis():
    layer = nn.Conv2d(3, 4, 3, rng=0)
    x = rng.standard_normal((2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(x[0]).numpy(), layer(x).numpy()[0], atol=1e-6)
    np.testing.assert_array_equal(F.max_pool2d(x[0], 2), F.max_pool2d(x, 2)[0])
    circular = nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular", rng=0)
    np.testing.assert_allclose(circular(x[0, 0]).numpy(), circular(x[0]).numpy()[0], atol=1e-6)


def test_per_sample_gradients():
    layer = nn.Conv2d(2, 3, 3, padding="same", rng=0, dtype=np.float64)
    x = rng.standard_normal((4, 5, 5, 2))
    loss = lambda layer, x: np.sum(np.tanh(F.max_pool2d(layer(x), 2)) ** 2)
    each = wg.vmap(wg.grad(loss), in_axes=(None, 0))(layer, x)
    for i in range(4):
        one = wg.grad(loss)(layer, x[i])
        for ours, alone in ((each.weight, one.weight), (each.bias, one.bias)):
            np.testing.assert_allclose(ours.value()[i], alone.value(), rtol=1e-10, atol=1e-12)


def test_signals_keep_their_size():
    x = rng.standard_normal((4, 20, 20, 16))
    for layer in (
        nn.Conv2d(16, 64, 3, rng=0, dtype=np.float64),
        nn.Conv2d(16, 64, 5, groups=4, rng=0, dtype=np.float64),
        nn.ConvTranspose2d(16, 64, 3, rng=0, dtype=np.float64),
        nn.ConvTranspose2d(16, 64, 4, stride=2, rng=0, dtype=np.float64),
    ):
        y = layer(x).numpy()[:, 4:-4, 4:-4]  # no border
        assert (y**2).mean() == pytest.approx(2, rel=0.15), layer
    w = nn.Conv2d(16, 64, 3, groups=4, init="xavier", rng=0).weight.numpy()
    bound = math.sqrt(6 / (9 * 4 + 9 * 16))
    assert 0.95 * bound < np.abs(w).max() <= bound


def test_a_small_network_learns():
    x = rng.standard_normal((64, 8, 8, 1)).astype(np.float32)
    labels = (x[:, :4].mean((1, 2, 3)) > x[:, 4:].mean((1, 2, 3))).astype(int)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same", rng=0), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding="same", rng=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 2, rng=2),
    )  # fmt: skip
    optimizer = wg.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = wg.cross_entropy(model(x), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 < losses[0]


LAYERS = {
    "Conv2d(3, 8, 3)": lambda: nn.Conv2d(3, 8, 3),
    "Conv1d(4, 8, 5, stride=2, padding='same', bias=False)": lambda: nn.Conv1d(
        4, 8, 5, stride=2, padding="same", bias=False
    ),
    "Conv2d(4, 8, (3, 5), padding=((1, 2), (0, 0)), groups=2)": lambda: nn.Conv2d(
        4, 8, (3, 5), padding=((1, 2), (0, 0)), groups=2
    ),
    "Conv3d(1, 2, 3, padding=1, padding_mode='reflect')": lambda: nn.Conv3d(
        1, 2, 3, padding=1, padding_mode="reflect"
    ),
    "ConvTranspose2d(8, 3, 4, stride=2, padding=1)": lambda: nn.ConvTranspose2d(
        8, 3, 4, stride=2, padding=1
    ),
    "MaxPool2d(2)": lambda: nn.MaxPool2d(2),
    "MaxPool2d(3, stride=2, padding=1, ceil_mode=True)": lambda: nn.MaxPool2d(
        3, 2, padding=1, ceil_mode=True
    ),
    "AvgPool1d(3, stride=1, count_include_pad=False)": lambda: nn.AvgPool1d(
        3, 1, count_include_pad=False
    ),
    "LPPool2d(2, 3)": lambda: nn.LPPool2d(2, 3),
    "AdaptiveAvgPool2d((1, None))": lambda: nn.AdaptiveAvgPool2d((1, None)),
    "AdaptiveMaxPool3d(2)": lambda: nn.AdaptiveMaxPool3d(2),
    "GlobalAvgPool()": nn.GlobalAvgPool,
    "Flatten()": nn.Flatten,
    "Flatten(start=2)": lambda: nn.Flatten(2),
}


@pytest.mark.parametrize("text", LAYERS)
def test_layers_say_what_they_are(text):
    assert repr(LAYERS[text]()) == text


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.Conv2d(3, 8, 3)(np.ones((2, 3, 9, 9))), ShapeError, "transpose(0, 2, 3, 1)"),
        (lambda: nn.Conv2d(3, 8, 3)(np.ones((3, 9, 9))), ShapeError, "transpose(1, 2, 0)"),
        (lambda: nn.Conv2d(3, 8, 3)(np.ones((2, 9, 9, 5))), ShapeError, "Conv2d(5, 8, ...)"),
        (lambda: nn.Conv2d(3, 8, 3)(np.ones((9, 3))), ShapeError, "[N, H, W, C]"),
        (lambda: nn.Conv1d(3, 8, 5)(np.ones((2, 4, 3))), ShapeError, "larger than x"),
        (lambda: nn.Conv2d(3, 8, 3, layout="NCHW"), OptionError, "x.transpose(0, 2, 3, 1)"),
        (lambda: nn.Conv1d(3, 8, 3, layout="NCW"), OptionError, "x.transpose(0, 2, 1)"),
        (lambda: nn.Conv2d(3, 8, 3, groups=2), OptionError, "groups=1"),
        (lambda: nn.Conv2d(3, 8, 0), OptionError, "kernel_size"),
        (lambda: nn.Conv2d(3, 8, 3, padding="full"), OptionError, "same"),
        (lambda: nn.Conv2d(3, 8, 3, padding_mode="mirror"), OptionError, "reflect"),
        (lambda: nn.Conv2d(3, 8, 3, init="best"), UnknownNameError, "he"),
        (
            lambda: nn.ConvTranspose1d(3, 8, 3, padding="same")(np.ones((1, 5, 3))),
            OptionError,
            "=(1,)",
        ),
        (
            lambda: nn.ConvTranspose1d(3, 8, 3, output_padding=1)(np.ones((1, 5, 3))),
            OptionError,
            "less than",
        ),
        (lambda: nn.ConvTranspose1d(3, 8, 2, padding=3)(np.ones((1, 2, 3))), ShapeError, "left"),
        (
            lambda: F.conv1d(np.ones((1, 5, 3)), np.ones((2, 3, 4)), np.ones(1)),
            ShapeError,
            "4 channels",
        ),
        (lambda: nn.MaxPool2d((2, 2, 2)), OptionError, "kernel_size"),
        (lambda: nn.MaxPool2d(2)(np.ones((4, 4))), ShapeError, "channels last"),
        (lambda: nn.Flatten(3, 1), OptionError, "after"),
        (lambda: nn.GlobalMaxPool()(np.ones((3, 4))), ShapeError, "places"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_the_layout_that_there_is_may_be_said():
    assert nn.Conv2d(3, 8, 3, layout="NHWC").n_in == 3


def test_layers_of_pooling_are_the_functions():
    x = rng.standard_normal((2, 6, 7, 3))
    np.testing.assert_array_equal(
        nn.MaxPool2d(3, 2, padding=1)(x), F.max_pool2d(x, 3, stride=2, padding=1)
    )
    np.testing.assert_array_equal(
        nn.AvgPool2d(2, divisor_override=3)(x), F.avg_pool2d(x, 2, divisor_override=3)
    )
    np.testing.assert_array_equal(nn.LPPool2d(3, 2)(x), F.lp_pool2d(x, 3, 2))
    np.testing.assert_array_equal(nn.AdaptiveAvgPool2d((3, 2))(x), F.adaptive_avg_pool2d(x, (3, 2)))
    y, at = nn.MaxPool2d(2, return_indices=True)(x)
    np.testing.assert_array_equal(
        nn.MaxUnpool2d(2)(y, at, (6, 7)), F.max_unpool2d(y, at, 2, output_size=(6, 7))
    )
    np.testing.assert_array_equal(nn.Flatten()(x), x.reshape(2, -1))
    np.testing.assert_array_equal(nn.Flatten(1, 2)(x), x.reshape(2, 42, 3))
    np.testing.assert_allclose(nn.GlobalAvgPool()(x), x.mean((1, 2)))
    np.testing.assert_array_equal(nn.GlobalMaxPool()(x), x.max((1, 2)))


def test_half_precision_is_near():
    layer = nn.Conv2d(4, 8, 3, padding=1, rng=0)
    x = rng.standard_normal((2, 8, 8, 4)).astype(np.float32)
    want = wg.grad(lambda m: np.sum(F.avg_pool2d(m(x), 2) ** 2))(layer).weight.value()
    with wg.amp.autocast("bfloat16"):
        loss = (F.avg_pool2d(layer(x), 2) ** 2).sum()
    loss.backward()
    np.testing.assert_allclose(layer.weight.grad.value(), want, atol=0.02 * np.abs(want).max())


def test_half_precision_of_numbers_that_it_holds_is_exact():
    x = rng.permutation(128).reshape(1, 8, 8, 2).astype(np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    grads = []
    for enabled in (False, True):
        t = wg.tensor(x, requires_grad=True)
        with wg.amp.autocast("bfloat16", enabled=enabled):
            h = F.conv2d(t, np.eye(2, dtype=np.float32)[None, None]) * one
            y = F.max_pool2d(h, 3, stride=2, padding=1)
        (y * y).sum().backward()
        grads.append(t.grad.value())
    np.testing.assert_array_equal(*grads)
