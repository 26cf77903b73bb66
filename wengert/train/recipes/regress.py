"""How far diabetes has come after a year, from ten measurements of a patient.

References:
    B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), Least Angle Regression, Annals of
    Statistics 32(2). A linear model explains about half of the variance; so does a small network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Parts, Standardise, bundled
from wengert.errors import UnknownNameError
from wengert.nn import functional as F
from wengert.trace import Tensor

from ..recipe import Recipe

__all__ = ["RECIPE", "r_squared"]


def _data(task: Mapping[str, Any]) -> Parts:
    source = bundled(task["data"])
    if source.labels.dtype.kind != "f":
        raise UnknownNameError(
            f"--set data={task['data']}", "its labels are classes, not numbers to be estimated",
            fix="--set data=diabetes",
        )  # fmt: skip
    parts = source.split()
    parts = Standardise.fit(parts.train).parts(parts)
    return Standardise.fit(parts.train, which=1).parts(parts)


def _network(rng: np.random.Generator, task: Mapping[str, Any], parts: Parts) -> nn.Module:
    x, y = parts.train.batch(np.arange(1))
    n_in, n_out, width = x.shape[1], y.shape[1], task["width"]
    if not width:
        return nn.Sequential(nn.Linear(n_in, n_out, rng=rng, init="xavier", dtype=np.float64))
    return nn.Sequential(
        nn.Linear(n_in, width, rng=rng, init="xavier", dtype=np.float64),
        nn.Tanh(),
        nn.Linear(width, n_out, rng=rng, init="xavier", dtype=np.float64),
    )


def r_squared(model: nn.Module, part: Any) -> dict[str, float]:
    """The mean square error, and the share of the variance that is explained.

    R2 = 1 - sum (y - model(x))^2 / sum (y - mean(y))^2
    """
    x, y = part.batch(np.arange(len(part)))
    wrong = (model(Tensor(x)).numpy() - y) ** 2
    return {"loss": wrong.mean(), "R2": 1 - wrong.sum() / ((y - y.mean(axis=0)) ** 2).sum()}


RECIPE = Recipe(
    name="regress",
    summary="how far diabetes comes in a year, from ten measurements (scikit-learn's set); R2",
    data=_data,
    model=_network,
    loss=lambda model, x, y: F.mse_loss(model(Tensor(x)), y),
    measure=r_squared,
    predict=lambda model, x: model(Tensor(x)).numpy(),
    optimizers={
        "adamw": {"lr": 2e-3, "weight_decay": 0.3},
        "adam": {"lr": 2e-3},
        "sgd": {"lr": 0.02, "momentum": 0.9},
    },
    epochs=60,
    batch_size=32,
    task={"data": "diabetes", "width": 16},
    inputs="measurements",
    schedule="cosine",
)
