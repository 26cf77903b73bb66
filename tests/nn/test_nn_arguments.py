"""What layers are made of: sizes, probabilities and names of another kind are refused by name."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, DTypeError, OptionError, ShapeError, UnknownNameError

LAYERS = [
    (nn.Linear, {"n_in": 3, "n_out": 2}),
    (nn.Bilinear, {"n_a": 3, "n_b": 2, "n_out": 2}),
    (nn.Embedding, {"n": 5, "d": 3}),
    (nn.PositionalEncoding, {"n": 5, "d": 4}),
    *[(kind, {"n_in": 3, "n": 2, "layers": 2}) for kind in (nn.RNN, nn.LSTM, nn.GRU)],
    *[(kind, {"n_in": 3, "n": 2}) for kind in (nn.RNNCell, nn.LSTMCell, nn.GRUCell)],
    (nn.MultiheadAttention, {"d": 4, "heads": 2, "kv_heads": 1, "d_context": 3}),
    (nn.FeedForward, {"d": 4, "hidden": 8}),
    (nn.TransformerBlock, {"d": 4, "heads": 2, "hidden": 8, "kv_heads": 2}),
    (nn.TransformerEncoder, {"depth": 1, "d": 4, "heads": 2}),
    (nn.TransformerDecoder, {"depth": 1, "d": 4, "heads": 2}),
    (nn.Transformer, {"d": 4, "heads": 2, "encoder": 1, "decoder": 1}),
    (nn.GPT, {"vocab": 5, "n_layer": 1, "n_head": 2, "d_model": 4, "context": 6}),
    (nn.LayerNorm, {"shape": 4}),
    (nn.RMSNorm, {"shape": 4}),
    (nn.GroupNorm, {"groups": 2, "n": 4}),
    (nn.BatchNorm1d, {"n": 4}),
    (nn.BatchNorm2d, {"n": 4}),
    (nn.InstanceNorm2d, {"n": 4}),
    (nn.PReLU, {"n": 4}),
    (nn.Conv2d, {"n_in": 2, "n_out": 3, "kernel_size": 2, "stride": 1, "groups": 1}),
    (nn.MaxPool2d, {"kernel_size": 2}),
]


@pytest.mark.parametrize(("kind", "sizes"), LAYERS, ids=lambda v: getattr(v, "__name__", ""))
def test_sizes_are_whole_numbers(kind, sizes):
    kind(**sizes)
    kind(**{name: np.int64(value) for name, value in sizes.items()})
    for name in sizes:
        for value in (-1, 2.5, "x", float("nan"), {}, (0.5, "x")):
            with pytest.raises(OptionError) as caught:
                kind(**{**sizes, name: value})
            assert "test_nn_arguments.py" in str(caught.value)


@pytest.mark.parametrize("make", [
    lambda p: nn.Dropout(p), lambda p: nn.StochasticDepth(p), lambda p: nn.LSTM(2, 3, dropout=p),
    lambda p: nn.MultiheadAttention(4, 2, dropout=p), lambda p: nn.FeedForward(4, dropout=p),
    lambda p: nn.GPT(5, 1, 2, 4, 6, dropout=p),
])  # fmt: skip
def test_probabilities(make):
    make(0.5)
    for value in (-0.1, 1.5, float("nan"), "x", None, (0.5,), np.array([0.5, 0.5])):
        with pytest.raises(OptionError, match="is a probability, from 0 to 1"):
            make(value)


@pytest.mark.parametrize("make", [
    lambda v: nn.Linear(2, 3, init=v), lambda v: nn.Conv1d(2, 3, 2, init=v),
    lambda v: nn.Conv1d(2, 3, 2, padding_mode=v), lambda v: nn.FeedForward(4, activation=v),
    lambda v: nn.TransformerBlock(4, 2, norm=v), lambda v: nn.Linear(2, 3, rng=v),
    lambda v: nn.Dropout(0.5, rng=v), lambda v: nn.Embedding(3, 2, std=v),
    lambda v: nn.LPPool1d(v, 2), lambda v: nn.Flatten(v), lambda v: nn.PReLU(2, v),
    lambda v: nn.Embedding(3, 2, padding=v),
])  # fmt: skip
def test_names_seeds_and_numbers_of_another_kind(make):
    for value in ("xyz", {}, [0.5], np.array([1.0, 2.0])):
        with pytest.raises((OptionError, UnknownNameError, ArgumentError)):
            make(value)


def test_a_row_that_is_not_there_cannot_be_padding():
    with pytest.raises(OptionError, match="padding is less than 3"):
        nn.Embedding(3, 2, padding=3)


def test_paddings_may_be_arrays():
    x = np.ones((1, 5, 6, 2), np.float32)
    a = nn.Conv2d(2, 3, 2, padding=(1, 2), rng=0)(x)
    b = nn.Conv2d(2, 3, 2, padding=np.array([1, 2]), rng=0)(x)
    np.testing.assert_array_equal(a.numpy(), b.numpy())


ON_X = [
    (lambda: nn.Linear(4, 3, rng=0), (5, 4)),
    (lambda: nn.Conv1d(4, 3, 2, rng=0), (5, 6, 4)),
    (lambda: nn.Conv2d(4, 3, 2, rng=0), (5, 6, 6, 4)),
    (lambda: nn.ConvTranspose2d(4, 3, 2, stride=2, rng=0), (5, 3, 3, 4)),
    (lambda: nn.BatchNorm1d(4), (5, 4)),
    (lambda: nn.BatchNorm2d(4), (5, 3, 3, 4)),
    (lambda: nn.LayerNorm(4), (5, 4)),
    (lambda: nn.GroupNorm(2, 4), (5, 3, 4)),
    (lambda: nn.MaxPool2d(2), (5, 4, 4, 3)),
    (lambda: nn.AvgPool2d(2), (5, 4, 4, 3)),
    (lambda: nn.AdaptiveAvgPool2d(2), (5, 5, 4, 3)),
    (lambda: nn.GlobalAvgPool(), (5, 4, 4, 3)),
    (lambda: nn.GlobalMaxPool(), (5, 4, 4, 3)),
    (lambda: nn.Flatten(), (5, 4, 4, 3)),
    (lambda: nn.ZeroPad2d(1), (5, 4, 4, 3)),
    (lambda: nn.ReflectionPad1d(1), (5, 4, 3)),
    (lambda: nn.Upsample(scale_factor=2), (5, 4, 4, 3)),
    (lambda: nn.UpsamplingBilinear2d(3), (5, 4, 4, 3)),
    (lambda: nn.PixelShuffle(2), (5, 4, 4, 8)),
    (lambda: nn.PixelUnshuffle(2), (5, 4, 4, 2)),
    (lambda: nn.Unfold(2), (5, 4, 4, 3)),
    (lambda: nn.Fold((2, 2), 2), (5, 1, 12)),
    (lambda: nn.LSTM(4, 3, rng=0), (5, 6, 4)),
    (lambda: nn.GRUCell(4, 3, rng=0), (5, 4)),
    (lambda: nn.MultiheadAttention(4, 2, rng=0), (5, 6, 4)),
    (lambda: nn.TransformerBlock(4, 2, rng=0), (5, 6, 4)),
    (lambda: nn.FeedForward(4, rng=0), (5, 6, 4)),
]


@pytest.mark.parametrize(("make", "shape"), ON_X, ids=lambda v: str(v) if type(v) is tuple else "")
def test_lists_are_arrays_and_other_things_are_refused(make, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def value(y):
        y = y[0] if isinstance(y, tuple) else y
        return y.numpy() if isinstance(y, wg.Tensor) else y

    if shape[1:] != (4,) or not isinstance(make(), nn.LayerNorm):
        np.testing.assert_allclose(
            value(make()(x.tolist())), value(make()(x)), rtol=1e-4, atol=1e-5
        )
    for bad in (None, "text", [[1.0], [1.0, 2.0]], np.ones(7, np.float32), np.float32(1)):
        with pytest.raises((ArgumentError, OptionError, ShapeError, DTypeError)) as caught:
            make()(bad)
        assert "test_nn_arguments.py" in str(caught.value)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.BatchNorm2d(4)])
def test_no_examples_have_no_variance(layer):
    shape = (0, 4) if isinstance(layer, nn.BatchNorm1d) else (0, 3, 3, 4)
    with pytest.raises(ShapeError, match="a channel needs more than one number"):
        layer(np.ones(shape, np.float32))
    np.testing.assert_array_equal(layer.running_mean.numpy(), 0)
    assert layer.eval()(np.ones(shape, np.float32)).shape == shape


@pytest.mark.parametrize("layer", [nn.GlobalAvgPool(), nn.GlobalMaxPool()])
def test_no_places_cannot_be_pooled(layer):
    with pytest.raises(ShapeError, match="there are no places between"):
        layer(np.ones((2, 0, 3, 4), np.float32))
