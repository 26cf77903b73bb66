"""The network of 1986 that learns exclusive or."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Parts, xor
from wengert.nn import functional as F
from wengert.trace import Tensor

from ..recipe import Recipe, classification

__all__ = ["RECIPE"]


def _network(rng: np.random.Generator, task: Any, parts: Any) -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 2, rng=rng, init="xavier", dtype=np.float64),
        nn.Sigmoid(),
        nn.Linear(2, 1, rng=rng, init="xavier", dtype=np.float64),
        nn.Sigmoid(),
    )


def _truth_table(model: nn.Module, parts: Parts) -> list[str]:
    cases = parts.test
    answers = model(cases.images)
    rows = [
        f"  {a:.0f}  {b:.0f}  {y:7.0f}  {answer:9.3f}"
        for (a, b), (y,), answer in zip(cases.images, cases.labels, answers.numpy().ravel())
    ]
    return ["  a  b  a xor b    network", *rows]


RECIPE = Recipe(
    name="xor",
    summary="the 2-2-1 network of 1986 that learns exclusive or; shows the truth table",
    data=lambda task: Parts(*[xor()] * 3),
    model=_network,
    loss=lambda model, cases, target: F.mse_loss(model(Tensor(cases)), target),
    measure=classification(lambda y, target: np.abs(y - target)[:, 0] < 0.1),
    predict=lambda model, cases: model(Tensor(cases)).numpy(),
    optimizers={
        "sgd": {"lr": 1.0, "momentum": 0.9},
        "adam": {"lr": 0.05},
        "adamw": {"lr": 0.05, "weight_decay": 0.0},
    },
    epochs=1000,
    batch_size=4,
    every=20,
    draws=20,
    solved=lambda measures: measures["accuracy"] == 1.0,
    show=_truth_table,
)
