"""Memory before a run against memory in it, category by category."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, OptionError, UnknownNameError
from wengert.nn import functional as F
from wengert.optim import AdamW
from wengert.train import memory
from wengert.train.memory import Breakdown, interpolated, rows, units

RNG = np.random.default_rng(0)
VOCAB = 65


def perceptron():
    model = nn.Sequential(
        nn.Linear(784, 256, rng=0), nn.ReLU(), nn.Linear(256, 256, rng=1), nn.Tanh(),
        nn.Linear(256, 10, rng=2),
    )  # fmt: skip
    x = RNG.normal(size=(1024, 784)).astype(np.float32)
    return model, lambda m, x, y: F.cross_entropy(m(x), y), (x, RNG.integers(0, 10, 1024))


def convolutional():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, rng=0), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, rng=1),
        nn.ReLU(),
    )  # fmt: skip
    x = RNG.normal(size=(256, 16, 16, 3)).astype(np.float32)
    return model, lambda m, x: (m(x) ** 2).mean(), (x,)


def gpt():
    model = nn.GPT(VOCAB, 2, 4, 64, 64, rng=0)
    x = RNG.integers(0, VOCAB, (16, 64))
    return model, lambda m, x: F.cross_entropy(m(x).reshape(-1, VOCAB), x.reshape(-1)), (x,)


@pytest.mark.parametrize(("make", "optimizer", "amp"), [
    (perceptron, "adamw", "off"), (perceptron, "sgd", "off"), (perceptron, "adam", "bfloat16"),
    (convolutional, "adamw", "off"), (convolutional, "adam", "float16"),
    (gpt, "adamw", "off"), (gpt, "adam", "bfloat16"),
])  # fmt: skip
def test_what_is_predicted_is_what_is_measured(make, optimizer, amp):
    model, loss, batch = make()
    before = {k: v.copy() for k, v in model.state_dict().items()}
    predicted = memory(model, loss, batch, optimizer=optimizer, amp=amp)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    assert all(p.grad is None for p in model.parameters())
    measured = memory.measured(model, loss, batch, optimizer=optimizer, amp=amp)
    slack = 30_000  # nodes, tensors and rules, which are not arrays
    for name in ("parameters", "gradients", "state", "scratch", "activations", "batch"):
        got, want = getattr(predicted, name), getattr(measured, name)
        assert abs(got - want) <= 0.02 * want + slack, (name, got, want)
    limit = 0.15 if make is convolutional and amp != "off" else 0.1  # columns of half numbers
    assert abs(predicted.peak - measured.peak) <= limit * measured.peak


def test_prediction_needs_no_room_for_the_batch():
    import tracemalloc

    model, loss, _ = gpt()
    x = np.zeros((4, 64), np.int64)
    memory(model, loss, (x,))
    tracemalloc.start()
    report = memory(model, loss, (x,), examples=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.activations > 5e10
    assert peak < 2e7


def test_parts_need_less_and_checkpoints_too():
    model, loss, batch = perceptron()
    whole = memory(model, loss, batch)
    parts = memory(model, loss, batch, accumulate=8)
    assert parts.activations * 8 == pytest.approx(whole.activations, rel=0.01)
    assert parts.parameters == whole.parameters
    deep = nn.Sequential(*[m for i in range(16) for m in (nn.Linear(32, 32, rng=i), nn.Tanh())])
    plain = memory(deep, batch=(512, 32))
    again = memory(deep, batch=(512, 32), checkpointing="sqrt")
    assert again.activations < 0.6 * plain.activations


def test_frozen_parameters_have_no_gradient_and_no_state():
    model = nn.Sequential(nn.Linear(10, 10, rng=0), nn.Linear(10, 10, rng=1))
    for p in model.layers[0].parameters():
        p.requires_grad = False
    report = memory(model, batch=(8, 10), optimizer="adam")
    own = sum(p.nbytes for p in model.layers[1].parameters())
    assert report.gradients == own
    assert report.state == 2 * own
    assert report.parameters == 2 * own


def test_random_streams_and_buffers_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4, rng=0), nn.BatchNorm1d(4), nn.Dropout(0.5))
    wg.random.seed(3)
    here = wg.random.get_state()
    before = model.state_dict()
    memory(model, batch=(16, 4))
    assert str(wg.random.get_state()) == str(here)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


@pytest.mark.parametrize(
    "sizes", [(3, 24, 3, 31, 12, 5), (1, 32, 4, 20, 16, 2), (5, 8, 1, 10, 20, 3)]
)
@pytest.mark.parametrize("amp", ["off", "bfloat16"])
def test_a_gpt_is_known_from_small_ones(sizes, amp):
    layers, width, heads, vocab, context, batch = sizes
    model = nn.GPT(vocab, layers, heads, width, context, rng=0)
    x = RNG.integers(0, vocab, (batch, context))
    report = memory.gpt(*sizes, amp=amp)
    real = memory(
        model, lambda m, x: F.cross_entropy(m(x).reshape(-1, vocab), x.reshape(-1)), (x,), amp=amp
    )
    for name in ("parameters", "gradients", "state", "scratch"):
        assert getattr(report, name) == getattr(real, name)
    assert report.activations == real.activations


def test_the_one_of_175_billion_parameters():
    report = memory.gpt(96, 12288, 96, 50257, 2048)
    assert 174.5e9 < report.parameters / 4 < 175e9
    text = str(report)
    assert "GPT with 174,6" in text
    assert "698 GB" in text
    assert "1.4 TB" in text
    assert report.state == 2 * report.parameters
    assert report.peak > report.parameters + report.gradients + report.state


def test_polynomials_and_units():
    f = lambda a, b, c: 3 * a * a * b - 7 * a * c + 2
    assert interpolated(f, (3, 2, 2), (0, 0, 4), (1000, 17, 123)) == f(1000, 17, 123)
    assert [units(n) for n in (0, 999, 1000, 7e11, 999e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "700 GB",
        "999 GB",
    ]
    assert rows("adamw")[0] == 2
    assert isinstance(memory(nn.Linear(2, 1, rng=0), batch=(3, 2)), Breakdown)
    w = wg.tensor(np.zeros(10), requires_grad=True)
    assert sum(a.nbytes for a in AdamW([w]).state_dict()["arrays"].values()) == 160


def test_wrong_questions():
    model = nn.Linear(2, 1, rng=0)
    with pytest.raises(ArgumentError, match="a batch has arrays"):
        memory(model)
    with pytest.raises(ArgumentError, match="recorded number"):
        memory(model, lambda m, x: 3.0, (np.ones((2, 2), np.float32),))
    with pytest.raises(UnknownNameError):
        memory(model, batch=(2, 2), optimizer="adamx")
    with pytest.raises(UnknownNameError):
        memory(model, batch=(2, 2), amp="float8")
    with pytest.raises(OptionError, match="evenly"):
        memory.gpt(1, 10, 3, 10, 10)
    with pytest.raises(OptionError, match="whole number"):
        memory.gpt(0, 10, 5, 10, 10)
