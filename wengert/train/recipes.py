"""Recipes: all that is fixed before training starts, as data. A new one is one more entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wengert import nn
from wengert.data import Dataset, Parts, digits, xor
from wengert.errors import UnknownNameError, verbatim
from wengert.nn import functional as F
from wengert.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["OPTIMIZERS", "RECIPES", "Recipe", "find"]

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
V = TypeVar("V")


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    Args:
        name: what the command line calls it.
        summary: one line for the list of recipes.
        data: gives the training, validation and test parts.
        model: gives a network with fresh weights, drawn from the generator.
        loss: (prediction, labels) -> a number to make small.
        right: (prediction, labels) -> for each example, whether it is answered right.
        optimizers: the optimizers that work here with their settings; the first is the default.
        epochs: passes over the training part.
        batch_size: examples per step.
        inputs: what pictures call an example.
        schedule: how the learning rate goes on: `constant`, or `cosine`, which falls to 0.
        every: write and report every so many epochs.
        draws: how many times to draw new weights if not everything is right at the end. With 1 the
            run ends after `epochs`; with more it also ends as soon as everything is right.
        show: (network, data) -> lines to print at the end.
    """

    name: str
    summary: str
    data: Callable[[], Parts]
    model: Callable[[np.random.Generator], nn.Module]
    loss: Callable[[Any, Any], Any]
    right: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]
    optimizers: Mapping[str, Mapping[str, float]]
    epochs: int
    batch_size: int
    inputs: str = "inputs"
    schedule: str = "constant"
    every: int = 1
    draws: int = 1
    show: Callable[[nn.Module, Dataset], list[str]] | None = None


def _perceptron(rng: np.random.Generator) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 128, rng=rng),
        nn.ReLU(),
        nn.Linear(128, 64, rng=rng),
        nn.ReLU(),
        nn.Linear(64, 10, rng=rng, init="xavier"),
    )


def _network_of_1986(rng: np.random.Generator) -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 2, rng=rng, init="xavier", dtype=np.float64),
        nn.Sigmoid(),
        nn.Linear(2, 1, rng=rng, init="xavier", dtype=np.float64),
        nn.Sigmoid(),
    )


def _truth_table(model: nn.Module, cases: Dataset) -> list[str]:
    answers = model(cases.images)
    rows = [
        f"  {a:.0f}  {b:.0f}  {y:7.0f}  {answer:9.3f}"
        for (a, b), (y,), answer in zip(cases.images, cases.labels, answers.numpy().ravel())
    ]
    return ["  a  b  a xor b    network", *rows]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits",
            summary="a 64-128-64-10 network that reads 1,797 real handwritten digits",
            data=lambda: digits().split(),
            model=_perceptron,
            loss=F.cross_entropy,
            right=lambda logits, labels: logits.argmax(axis=1) == labels,
            optimizers={
                "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},
                "adam": {"lr": 3e-3},
                "adamw": {"lr": 3e-3, "weight_decay": 0.1},
            },
            epochs=30,
            batch_size=32,
            inputs="images",
            schedule="cosine",
        ),
        Recipe(
            name="xor",
            summary="the 2-2-1 network of 1986 that learns exclusive or; shows the truth table",
            data=lambda: Parts(*[xor()] * 3),
            model=_network_of_1986,
            loss=F.mse_loss,
            right=lambda y, target: np.abs(y - target)[:, 0] < 0.1,
            optimizers={
                "sgd": {"lr": 1.0, "momentum": 0.9},
                "adam": {"lr": 0.05},
                "adamw": {"lr": 0.05, "weight_decay": 0.0},
            },
            epochs=1000,
            batch_size=4,
            every=20,
            draws=20,
            show=_truth_table,
        ),
    )
}


def find(kind: str, name: str, known: Mapping[str, V]) -> V:
    """known[name], or an error that lists what there is.

    Example:
        >>> find("recipe", "digit", RECIPES)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        wengert.UnknownNameError: [WG302] recipe 'digit': there is no such recipe
            known : digits, xor
          fix: did you mean digits?
          at:  ...
    """
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=1)
    raise UnknownNameError(
        f"{kind} {name!r}",
        f"there is no such {kind}",
        operands=[("known", verbatim(", ".join(known)))],
        fix=f"did you mean {close[0]}?" if close else None,
    )
