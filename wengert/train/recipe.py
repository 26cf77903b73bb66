"""A recipe: all that is fixed before training starts, as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wengert.data import Batch, Parts
from wengert.errors import OptionError, UnknownNameError, verbatim
from wengert.nn import Module
from wengert.trace import Tensor

__all__ = ["Recipe", "classification", "find"]

V = TypeVar("V")


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    Args:
        name: what the command line calls it.
        summary: one line for the list of recipes.
        data: (task) -> the training, validation and test parts.
        model: (generator, task, parts) -> a network with fresh weights, drawn from the generator.
        loss: (network, *batch) -> the mean loss of a batch of the training part.
        measure: (network, part) -> what is reported of a part, by name; "loss" or "accuracy" first.
        optimizers: the optimizers that work here with their settings; the first is the default.
        epochs: passes over the training part.
        batch_size: examples per step.
        run: other options that differ from `Options`' own, such as `{"clip_norm": 1.0}`.
        task: the recipe's own options and their defaults, such as `{"text": ""}`, handed to `data`
            and `model`. A value is of the kind of its default; numbers are at least 0.
        least: what numbers among them are at least, where that is not 0.
        weight: (*batch) -> how much a batch counts; the number of its examples if left out.
        inputs: what pictures call an example.
        schedule: how the learning rate goes on, one of `SCHEDULES`.
        every: write and report every so many epochs.
        draws: how many times to draw new weights if the problem is not solved at the end. With 1
            the run ends after `epochs`; with more it also ends as soon as `solved` says so.
        solved: (what `measure` said of the training part) -> whether that is the end.
        show: (network, parts) -> lines to print at the end.
        predict: (network, inputs) -> answers, for `wengert predict`.
        sample: (network, parts, generator, prompt, length, temperature) -> text, for `wengert
            sample`.
        read: (text, parts) -> inputs that `predict` takes, where these are text.
        transform: (batch, generator) -> batch, a random change of the examples of every step.
        pictures: (network, parts) -> grids of grey pictures by name, `float[rows, columns, h, w]`
            in [0, 1], drawn at the end.
    """

    name: str
    summary: str
    data: Callable[[Mapping[str, Any]], Parts]
    model: Callable[[np.random.Generator, Mapping[str, Any], Parts], Module]
    loss: Callable[..., Any]
    measure: Callable[[Module, Any], dict[str, float]]
    optimizers: Mapping[str, Mapping[str, Any]]
    epochs: int
    batch_size: int
    run: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    weight: Callable[..., float] | None = None
    inputs: str = "inputs"
    schedule: str = "constant"
    every: int = 1
    draws: int = 1
    solved: Callable[[Mapping[str, float]], bool] = lambda measures: False
    show: Callable[[Module, Parts], list[str]] | None = None
    predict: Callable[[Module, NDArray[Any]], NDArray[Any]] | None = None
    sample: Callable[..., str] | None = None
    read: Callable[[str, Parts], NDArray[Any]] | None = None
    transform: Callable[[Batch, np.random.Generator], Batch] | None = None
    pictures: Callable[[Module, Parts], Mapping[str, NDArray[Any]]] | None = None


def check_option(recipe: Recipe, name: str, value: Any) -> None:
    """Refuse a value of a recipe's own option that is of another kind, or too small."""
    default, low = recipe.task[name], recipe.least.get(name, 0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        good, kind = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        good, kind = isinstance(value, str), "a text"
    elif isinstance(default, int):
        good = number and isinstance(value, int) and value >= low
        kind = f"a whole number, at least {low:g}"
    else:
        good = number and math.isfinite(value) and value >= low
        kind = f"a finite number, at least {low:g}"
    if not good:
        shown = f"{default!r}" if isinstance(default, str) else f"{default:g}"
        raise OptionError(
            f"wengert train {recipe.name} --set {name}={value!r}", f"{name} is {kind}",
            fix=f"--set {name}={shown}, as the recipe has it",
        )  # fmt: skip


def classification(
    right: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]], batch: int = 4096
) -> Callable[[Module, Any], dict[str, float]]:
    """The measure of recipes whose answers are right or wrong: the share of right ones.

    Args:
        right: (predictions, labels) -> for each example, whether it is answered right.
        batch: how many examples are looked at together.
    """

    def measure(model: Module, part: Any) -> dict[str, float]:
        count = 0
        for start in range(0, len(part), batch):
            rows = np.arange(start, min(start + batch, len(part)))
            images, labels = part.batch(rows)
            count += int(right(model(Tensor(images)).numpy(), labels).sum())
        return {"accuracy": count / len(part)}

    return measure


def find(kind: str, name: str, known: Mapping[str, V]) -> V:
    """known[name], or an error that lists what there is.

    Example:
        >>> find("recipe", "digit", {"digits": 1, "xor": 2})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        wengert.UnknownNameError: [WG302] recipe 'digit': there is no such recipe
            known : digits, xor
          fix: did you mean digits?
          at:  ...
    """
    if isinstance(name, str) and name in known:
        return known[name]
    close = get_close_matches(str(name), known, n=3)
    name = str(name)
    close.sort(key=lambda k: sorted(k) != sorted(name))  # swapped letters before others
    raise UnknownNameError(
        f"{kind} {name!r}",
        f"there is no such {kind}",
        operands=[("known", verbatim(", ".join(known)))] if known else [],
        fix=f"did you mean {close[0]}?" if close else None,
    )
