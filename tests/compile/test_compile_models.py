"""Networks of every kind, trained by a compiled step: the same curve as uncompiled."""

import numpy as np
import pytest
from calls import BACKENDS
from steps import Task, follows

import wengert as wg
from wengert import nn, optim
from wengert.nn import functional as F

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def step_of(model, loss, make=lambda p: optim.SGD(p, lr=0.05, momentum=0.9)):
    optimizer = make(model.parameters())

    def step(*data):
        optimizer.zero_grad()
        value = loss(model, *data)
        value.backward()
        optimizer.step()
        return value.detach()

    return Task(step, lambda: [*model.parameters(), *model.buffers()])


def images(i):
    rng = np.random.default_rng(i)
    return rng.normal(size=(4, 12, 12, 2)).astype(np.float32), rng.integers(0, 3, 4)


def series(i):
    rng = np.random.default_rng(i)
    return rng.normal(size=(4, 5, 6)).astype(np.float32), rng.integers(0, 3, 4)


def words(i):
    return (np.random.default_rng(i).integers(0, 11, (3, 8)),)


def of_images(*layers):
    def make():
        task = step_of(nn.Sequential(*layers), lambda m, x, y: F.cross_entropy(m(x), y))
        task.data = images
        return task

    return make


def conv():
    return of_images(
        nn.Conv2d(2, 4, 3, bias=False, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, rng=1), nn.GELU(), nn.Flatten(), nn.Linear(54, 3, rng=2),
    )()  # fmt: skip


def strided_conv():
    return of_images(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, rng=0), nn.GroupNorm(2, 4), nn.SiLU(),
        nn.AvgPool2d(2), nn.Dropout(0.2), nn.Flatten(), nn.Linear(36, 3, rng=2),
    )()  # fmt: skip


def recurrent(kind):
    def make():
        class Model(nn.Module):
            def __init__(self):
                self.inner = kind(6, 8, rng=0)
                self.out = nn.Linear(8, 3, rng=1)

            def forward(self, x):
                h = self.inner(x)
                h = h[0] if isinstance(h, tuple) else h
                return self.out(h[:, -1])

        task = step_of(Model(), lambda m, x, y: F.cross_entropy(m(x), y))
        task.data = series
        return task

    return make


def tied():
    class Model(nn.Module):
        def __init__(self):
            self.words = nn.Embedding(11, 6, rng=0)
            self.mix = nn.Linear(6, 6, rng=1)

        def forward(self, t):
            return np.tanh(self.mix(self.words(t))) @ self.words.weight.T

    def loss(m, t):
        return F.cross_entropy(m(t).reshape(-1, 11), t.reshape(-1))

    task = step_of(Model(), loss, lambda p: optim.Adam(p, lr=0.01))
    task.data = words
    return task


def gpt():
    model = nn.GPT(11, 2, 2, 16, 8, rng=0)

    def loss(m, t):
        return F.cross_entropy(m(t[:, :-1]).reshape(-1, 11), t[:, 1:].reshape(-1))

    task = step_of(model, loss)
    task.data = words
    return task


def attention():
    class Model(nn.Module):
        def __init__(self):
            self.mix = nn.MultiheadAttention(6, 2, rng=0)
            self.norm = nn.LayerNorm(6)
            self.out = nn.Linear(6, 3, rng=1)

        def forward(self, x):
            y = self.mix(x)
            return self.out(self.norm(x + y).mean(axis=1))

    task = step_of(Model(), lambda m, x, y: F.cross_entropy(m(x), y))
    task.data = series
    return task


def residual():
    class Block(nn.Module):
        def __init__(self, rng):
            self.norm, self.one = nn.RMSNorm(6), nn.Linear(6, 12, rng=rng)
            self.two = nn.Linear(12, 6, rng=rng + 1)

        def forward(self, x):
            return x + self.two(F.gelu(self.one(self.norm(x))))

    class Model(nn.Module):
        def __init__(self):
            self.blocks = [Block(2 * k) for k in range(3)]
            self.shared = Block(9)

        def forward(self, x):
            for block in self.blocks:
                x = self.shared(block(x))
            return x

    task = step_of(Model(), lambda m, x, y: np.mean(np.square(m(x)[:, 0] - y[:, None])))
    task.data = series
    return task


def checkpointed():
    class Model(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(6, 6, rng=k) for k in range(4)]
            self.drop = nn.Dropout(0.3)

        def forward(self, x):
            for layer in self.layers:
                x = wg.checkpoint(lambda x, layer=layer: self.drop(np.tanh(layer(x))))(x)
            return x

    task = step_of(Model(), lambda m, x, y: np.mean(np.square(m(x)[:, 0] - y[:, None])))
    task.data = series
    return task


def regression_in_float64():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20, 3))
    w, b = (wg.tensor(v, requires_grad=True) for v in (np.zeros((3, 1)), np.zeros(1)))
    optimizer = optim.Adam([w, b], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = np.mean((x @ w + b - np.sum(x, 1, keepdims=True)) ** 2) + 0.01 * np.sum(w * w)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Task(step, lambda: [w, b], data=lambda i: (a * (1 + i / 10),))


MODELS = {
    "conv": (conv, 2e-4), "strided conv": (strided_conv, 1e-4),
    "lstm": (recurrent(nn.LSTM), 1e-4), "gru": (recurrent(nn.GRU), 1e-4),
    "rnn": (recurrent(nn.RNN), 1e-4), "tied": (tied, 1e-4), "gpt": (gpt, 1e-3),
    "attention": (attention, 1e-4), "residual": (residual, 1e-4),
    "float64": (regression_in_float64, 1e-9),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_same_curve(name, backend):
    make, rtol = MODELS[name]
    follows(make, backend, calls=5, rtol=rtol, variants=1)


def test_the_same_curve_with_checkpoints(backend):
    step = follows(checkpointed, backend, calls=4, rtol=1e-4, refused=None)
    assert step is not None
