"""A perceptron that tells spirals apart which wind around each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Parts, spirals
from wengert.nn import functional as F
from wengert.trace import Tensor, no_grad

from ..recipe import Recipe, classification

__all__ = ["RECIPE"]

SIGNS = ".:-=+*#%@"


def _data(task: Mapping[str, Any]) -> Parts:
    made = spirals(task["points"], arms=task["arms"], turns=task["turns"], noise=task["noise"])
    return made.split()


def _perceptron(rng: np.random.Generator, task: Mapping[str, Any], parts: Parts) -> nn.Module:
    width = task["width"]
    return nn.Sequential(
        nn.Linear(2, width, rng=rng),
        nn.GELU(),
        nn.Linear(width, width, rng=rng),
        nn.GELU(),
        nn.Linear(width, task["arms"], rng=rng, init="xavier"),
    )


def _map(model: nn.Module, parts: Parts) -> list[str]:
    """What the network says of every place of the square from -1 to 1."""
    x, y = np.meshgrid(np.linspace(-1, 1, 56), np.linspace(1, -1, 24))
    places = np.stack([x, y], axis=-1).astype(np.float32)
    with no_grad():
        answers = model(Tensor(places)).numpy().argmax(axis=-1)
    signs = np.array(list(SIGNS))[:: max(1, len(SIGNS) // (answers.max() + 1))]
    return ["  " + "".join(signs[row % len(signs)]) for row in answers]


RECIPE = Recipe(
    name="spiral",
    summary="two (or three) spirals told apart by a perceptron; draws the regions it found",
    data=_data,
    model=_perceptron,
    loss=lambda model, points, arms: F.cross_entropy(model(Tensor(points)), arms),
    measure=classification(lambda logits, arms: logits.argmax(axis=1) == arms),
    predict=lambda model, points: model(Tensor(points)).numpy().argmax(axis=1),
    optimizers={
        "adam": {"lr": 5e-3},
        "adamw": {"lr": 5e-3, "weight_decay": 0.01},
        "sgd": {"lr": 0.2, "momentum": 0.9},
    },
    epochs=60,
    batch_size=32,
    task={"arms": 2, "points": 1500, "turns": 1.5, "noise": 0.03, "width": 64},
    least={"arms": 1, "points": 1, "width": 1},
    inputs="points",
    schedule="cosine",
    every=2,
    show=_map,
)
