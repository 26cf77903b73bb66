"""One eager training step of four networks, against PyTorch eager.

    MLP    784-512-512-10, relu, batch 128
    CNN    28x28x1, two 3x3 convolutions of 16 and 32 channels, each with relu and a 2x2 maximum
    LSTM   batch 32, 64 places, 64 -> 128, a linear layer at every place
    GPT    4 layers, 256 features, 8 heads, context 128, batch 8, 65 tokens

forward, cross-entropy, backward and Adam's or AdamW's step, float32, from the same weights on the
same data; both sides must have arrived at the same loss before they are timed. PyTorch's CNN runs
in both of its layouts. `--where` prints where the time of our step goes instead.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import _torch_nets
import numpy as np
from _harness import Case, cases, main, peer

import wengert as wg
from wengert import nn, optim
from wengert.nn import functional as F

Step = Callable[[], float]
TARGET = 1.0


class Recurrent(nn.Module):
    """An LSTM, and a linear layer at every place."""

    def __init__(self) -> None:
        self.lstm = nn.LSTM(64, 128, rng=0)
        self.head = nn.Linear(128, 32, rng=1, init="xavier")

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0])


def perceptron() -> Any:
    sizes = [784, 512, 512, 10]
    layers: list[nn.Module] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m, rng=len(layers)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, rng=0), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, rng=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 32, 10, rng=2, init="xavier"),
    )  # fmt: skip


def gpt() -> Any:
    return nn.GPT(65, n_layer=4, n_head=8, d_model=256, context=128, rng=0)


def data(name: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    if name == "MLP":
        return rng.normal(size=(128, 784)).astype(np.float32), rng.integers(10, size=128)
    if name == "CNN":
        return rng.normal(size=(64, 28, 28, 1)).astype(np.float32), rng.integers(10, size=64)
    if name == "LSTM":
        x = rng.normal(size=(32, 64, 64)).astype(np.float32)
        return x, rng.integers(32, size=(32, 64))
    tokens = rng.integers(65, size=(8, 129))
    return tokens[:, :-1], tokens[:, 1:]


def ours(name: str, model: Any) -> Step:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3) if name == "GPT" else (
        optim.Adam(model.parameters(), lr=1e-3)
    )  # fmt: skip
    x, y = data(name)
    inputs = x if name == "GPT" else wg.tensor(x)

    def step() -> float:
        logits = model(inputs)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def theirs(torch: Any, name: str, model: Any, channels_last: bool = False) -> Step:
    kind = torch.optim.AdamW if name == "GPT" else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=1e-3)
    x, y = (torch.from_numpy(a) for a in data(name))
    if name == "CNN":
        x = x.permute(0, 3, 1, 2)
        form = torch.channels_last if channels_last else torch.contiguous_format
        x = x.contiguous(memory_format=form)

    def step() -> float:
        logits = model(x)
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


MODELS: dict[str, Callable[[], Any]] = {
    "MLP": perceptron,
    "CNN": convolutional,
    "LSTM": Recurrent,
    "GPT": gpt,
}


def pairs(torch: Any, name: str) -> Iterator[tuple[str, Step, Step]]:
    model = MODELS[name]()
    state = model.state_dict()
    if name == "CNN":
        for last in (False, True):
            peer_model = _torch_nets.convolutional(torch, state, last)
            form = "torch, channels last" if last else "torch"
            twin = MODELS[name]()
            yield form, ours(name, twin), theirs(torch, name, peer_model, last)
        return
    make = {
        "MLP": _torch_nets.perceptron,
        "LSTM": _torch_nets.recurrent,
        "GPT": lambda torch, state: _torch_nets.gpt(torch, state, 8),
    }[name]
    yield "torch", ours(name, model), theirs(torch, name, make(torch, state))


def programs() -> Iterator[Case]:
    torch = peer("torch")
    if torch is None:
        return
    for name in MODELS:
        for against, a, b in pairs(torch, name):
            for _ in range(3):
                here, there = a(), b()
            np.testing.assert_allclose(here, there, rtol=1e-3, err_msg=name)
            yield Case(name, against, a, b, TARGET)


def where() -> None:
    """The functions that our steps spend their time in."""
    for name, make in MODELS.items():
        step = ours(name, make())
        for _ in range(3):
            step()
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(10):
            step()
        profile.disable()
        print(f"\n{name}: 10 steps")
        pstats.Stats(profile).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    if "--where" in sys.argv:
        where()
    else:
        main(__doc__, cases(programs))
