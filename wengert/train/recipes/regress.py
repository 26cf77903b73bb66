"""How far diabetes has come after a year, from ten measurements of a patient.

`--set data=FILE.csv --set target=COLUMN` estimates a column of any table instead.

References:
    B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004), Least Angle Regression, Annals of
    Statistics 32(2). A linear model explains about half of the variance; so does a small network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert import nn
from wengert.create import tensor
from wengert.data import Parts, Standardise, bundled, csv
from wengert.errors import DataError, OptionError, verbatim
from wengert.nn import functional as F
from wengert.trace import Tensor

from ..recipe import Recipe

__all__ = ["RECIPE", "r_squared"]


def _data(task: Mapping[str, Any]) -> Parts:
    own = task["data"].endswith(".csv")
    source = csv(task["data"], task["target"] or -1, fill="mean") if own else bundled(task["data"])
    if source.labels.dtype.kind != "f":
        raise OptionError(
            f"--set data={task['data']}", "its labels are classes, not numbers to be estimated",
            fix="--set data=diabetes",
        )  # fmt: skip
    parts = source.split()
    for name, part in parts._asdict().items():
        if len(part) and (part.labels == part.labels[0]).all():
            raise DataError(
                "wengert train regress", f"the target is one number everywhere in the {name} part, "
                "which leaves no variance to explain",
                operands=[(n, verbatim(f"{len(p)} examples")) for n, p in parts._asdict().items()],
            )  # fmt: skip
    return parts


class Regression(nn.Module):
    """A network between two changes of scale, which are kept with its weights.

    y = mean_y + deviation_y network((x - mean_x) / deviation_x)
    """

    def __init__(self, network: nn.Module, of_x: Standardise, of_y: Standardise) -> None:
        self.network = network
        self.mean_x, self.deviation_x = tensor(of_x.mean), tensor(of_x.deviation)
        self.mean_y, self.deviation_y = tensor(of_y.mean), tensor(of_y.deviation)

    def forward(self, x: Any) -> Any:
        scaled = (x - self.mean_x) / self.deviation_x
        return self.network(scaled) * self.deviation_y + self.mean_y


def _network(rng: np.random.Generator, task: Mapping[str, Any], parts: Parts) -> nn.Module:
    x, y = parts.train.batch(np.arange(1))
    n_in, n_out, width = x.shape[1], y.shape[1], task["width"]

    def linear(n: int, m: int) -> nn.Linear:
        return nn.Linear(n, m, rng=rng, init="xavier", dtype=np.float64)

    layers = [linear(n_in, width), nn.Tanh(), linear(width, n_out)] if width else []
    return Regression(
        nn.Sequential(*(layers or [linear(n_in, n_out)])),
        Standardise.fit(parts.train),
        Standardise.fit(parts.train, which=1),
    )


def _loss(model: Any, x: Any, y: Any) -> Any:
    return F.mse_loss(model(Tensor(x)) / model.deviation_y, y / model.deviation_y)


def r_squared(model: nn.Module, part: Any) -> dict[str, float]:
    """The share of the variance that is explained, and the root mean square error.

    R2 = 1 - sum (y - model(x))^2 / sum (y - mean(y))^2
    """
    x, y = part.batch(np.arange(len(part)))
    wrong = (model(Tensor(x)).numpy() - y) ** 2
    unexplained = wrong.sum() / ((y - y.mean(axis=0)) ** 2).sum()
    return {"loss": unexplained, "R2": 1 - unexplained, "error": float(np.sqrt(wrong.mean()))}


RECIPE = Recipe(
    name="regress",
    summary="how far diabetes comes in a year, from ten measurements (scikit-learn's set); R2",
    data=_data,
    model=_network,
    loss=_loss,
    measure=r_squared,
    predict=lambda model, x: model(Tensor(x)).numpy(),
    optimizers={
        "adamw": {"lr": 2e-3, "weight_decay": 0.3},
        "adam": {"lr": 2e-3},
        "sgd": {"lr": 0.02, "momentum": 0.9},
    },
    epochs=60,
    batch_size=32,
    task={"data": "diabetes", "target": "", "width": 16},
    inputs="measurements",
    schedule="cosine",
)
