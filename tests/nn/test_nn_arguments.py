"""What layers are made of: sizes, probabilities and names of another kind are refused by name."""

import numpy as np
import pytest

from wengert import nn
from wengert.errors import ArgumentError, OptionError, UnknownNameError

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
