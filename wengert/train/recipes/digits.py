"""A perceptron that reads handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert import nn
from wengert.data import digits
from wengert.nn import functional as F
from wengert.trace import Tensor

from ..recipe import Recipe, classification

__all__ = ["RECIPE"]


def _perceptron(rng: np.random.Generator, task: Any, parts: Any) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128, rng=rng),
        nn.ReLU(),
        nn.Linear(128, 64, rng=rng),
        nn.ReLU(),
        nn.Linear(64, 10, rng=rng, init="xavier"),
    )


RECIPE = Recipe(
    name="digits",
    summary="a 64-128-64-10 network that reads 1,797 real handwritten digits",
    data=lambda task: digits().split(),
    model=_perceptron,
    loss=lambda model, images, labels: F.cross_entropy(model(Tensor(images)), labels),
    measure=classification(lambda logits, labels: logits.argmax(axis=1) == labels),
    predict=lambda model, images: model(Tensor(images)).numpy().argmax(axis=1),
    optimizers={
        "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
        "adam": {"lr": 3e-3},
        "adamw": {"lr": 3e-3, "weight_decay": 0.1},
    },
    epochs=30,
    batch_size=32,
    inputs="images",
    schedule="cosine",
)
