"""Memory before a run against memory in it, category by category."""

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, OptionError, UnknownNameError
from wengert.nn import functional as F
from wengert.optim import AdamW
from wengert.train import memory
from wengert.train.memory import Breakdown, rows, units

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


def pooled():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2, rng=0), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, rng=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.3, rng=0), nn.Linear(32 * 16, 10, rng=3),
    )  # fmt: skip
    x = RNG.normal(size=(192, 16, 16, 3)).astype(np.float32)
    return model, lambda m, x, y: F.cross_entropy(m(x), y), (x, RNG.integers(0, 10, 192))


def deconvolved():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, rng=0), nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 2, stride=2, rng=1), nn.Sigmoid(),
    )  # fmt: skip
    x = RNG.random(size=(256, 28, 28, 1)).astype(np.float32)
    return model, lambda m, x: F.mse_loss(m(x), x), (x,)


class Writer(nn.Module):
    def __init__(self, kind, **options):
        self.table = nn.Embedding(VOCAB, 32, rng=0)
        self.rnn = kind(32, 64, rng=1, **options)
        self.head = nn.Linear(128 if options.get("bidirectional") else 64, VOCAB, rng=2)

    def forward(self, x):
        return self.head(self.rnn(self.table(x))[0])


def recurrent(kind, **options):
    x = RNG.integers(0, VOCAB, (64, 40))
    loss = lambda m, x: F.cross_entropy(m(x).reshape(-1, VOCAB), x.reshape(-1))
    return Writer(kind, **options), loss, (x,)


def encoder():
    model = nn.TransformerEncoder(2, 64, 4, 128, rng=0)
    x = RNG.normal(size=(16, 64, 64)).astype(np.float32)
    return model, lambda m, x: (m(x) ** 2).mean(), (x,)


KINDS = {
    "perceptron": perceptron,
    "convolutional": convolutional,
    "pooled": pooled,
    "deconvolved": deconvolved,
    "lstm": lambda: recurrent(nn.LSTM, layers=2),
    "two ways": lambda: recurrent(nn.LSTM, bidirectional=True),
    "gru": lambda: recurrent(nn.GRU),
    "rnn": lambda: recurrent(nn.RNN),
    "gpt": gpt,
    "encoder": encoder,
}


@pytest.mark.parametrize("amp", ["off", "float16", "bfloat16"])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_predicted_is_what_is_measured(name, amp):
    model, loss, batch = KINDS[name]()
    optimizer = {"off": "adamw", "float16": "adam", "bfloat16": "sgd"}[amp]
    before = {k: v.copy() for k, v in model.state_dict().items()}
    predicted = memory(model, loss, batch, optimizer=optimizer, amp=amp)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    assert all(p.grad is None for p in model.parameters())
    measured = memory.measured(model, loss, batch, optimizer=optimizer, amp=amp)
    slack = 100_000  # nodes, tensors and rules, which are not arrays
    for name in ("parameters", "gradients", "state", "scratch", "activations", "batch"):
        got, want = getattr(predicted, name), getattr(measured, name)
        assert abs(got - want) <= 0.02 * want + slack, (name, got, want)
    assert abs(predicted.peak - measured.peak) <= 0.1 * measured.peak


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
def test_a_gpt_without_storage_is_that_with_it(sizes, amp):
    layers, width, heads, vocab, context, batch = sizes
    model = nn.GPT(vocab, layers, heads, width, context, rng=0)
    x = RNG.integers(0, vocab, (batch, context))
    report = memory.gpt(*sizes, amp=amp)
    loss = lambda m, x, y: F.cross_entropy(m(x).reshape(-1, vocab), y.reshape(-1))
    real = memory(model, loss, (x, x), amp=amp)
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


def test_units():
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


def test_a_model_that_is_larger_than_the_memory_there_is():
    class Tower(nn.Module):
        def __init__(self, width):
            self.first = nn.Conv2d(3, width, 7, rng=0)
            self.second = nn.Conv2d(width, width, 3, rng=1)
            self.head = nn.LSTM(width, width, rng=2)
            self.scale = nn.Parameter(np.ones(1, np.float32))

        def forward(self, x):
            y = F.gelu(self.second(F.gelu(self.first(x))))
            return self.head(y.mean(axis=2))[0] * self.scale

    report = memory(lambda: Tower(100_000), batch=(2, 16, 16, 3), optimizer="sgd")
    weights = 49 * 3 * 100_000 + 9 * 100_000**2 + 8 * 100_000**2 + 6 * 100_000 + 1
    assert report.parameters == 4 * weights
    assert report.peak > 2 * report.parameters
    small = memory(lambda: Tower(6), batch=(2, 16, 16, 3), optimizer="sgd")
    real = memory(Tower(6), batch=(2, 16, 16, 3), optimizer="sgd")
    assert str(small) == str(real)


def test_programs_that_ask_for_values():
    model, _, (x, y) = perceptron()
    plain = memory(model, lambda m, x, y: F.cross_entropy(m(x), y), (x, y))

    def of_the_input(m, x, y):
        assert float(np.max(y)) < 10
        return F.cross_entropy(m(x), y)

    assert memory(model, of_the_input, (x, y)) == plain

    def of_the_result(m, x, y):
        loss = F.cross_entropy(m(x), y)
        return loss if loss.item() > 0 else -loss

    found = memory(model, of_the_result, (x, y))  # a straight line through two small runs
    assert found.activations == pytest.approx(plain.activations, rel=0.02)
    assert found.peak == pytest.approx(plain.peak, rel=0.15)
    assert all(p.grad is None for p in model.parameters())


def test_gradients_and_hollow_models_are_left_as_they_were():
    model = nn.Linear(3, 2, rng=0)
    model(np.ones((2, 3), np.float32)).sum().backward()
    before = model.weight.grad.numpy().copy()
    memory(model, batch=(4, 3))
    np.testing.assert_array_equal(model.weight.grad.numpy(), before)
    with nn.unallocated():
        hollow = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    memory(hollow, batch=(4, 3))
    assert hollow.layers[0].weight.grad is None
    np.testing.assert_array_equal(hollow.layers[1].running_mean.numpy(), 0)


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
