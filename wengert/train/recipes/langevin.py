"""Langevin dynamics: noise makes of gradient descent a sampler, here of a known posterior.

The model is Bayesian linear regression, whose posterior is a normal distribution that can be
written down:

    y = X w + noise,  w ~ N(0, 1),  noise ~ N(0, s^2)
    w | X, y ~ N(m, C),   C = (X^T X / s^2 + 1)^-1,   m = C X^T y / s^2

References:
    M. Welling, Y. W. Teh (2011), Bayesian Learning via Stochastic Gradient Langevin Dynamics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import nn, random
from wengert.create import tensor
from wengert.data import Dataset, Parts
from wengert.trace import Tensor, no_grad

from ..recipe import Recipe

__all__ = ["RECIPE", "exact"]


def _data(task: Mapping[str, Any]) -> Parts:
    n, d = task["examples"], task["dimensions"]
    rng = random.generator((task["data_seed"], 3))
    x = rng.standard_normal((n, d))
    x[:, 1:] += 0.5 * x[:, :1]  # so that the posterior is not round
    y = x @ rng.standard_normal((d, 1)) + task["deviation"] * rng.standard_normal((n, 1))
    made = Dataset(x, y, name="linear", licence="no rights: made of a formula")
    return Parts(made, made, made)


def exact(x: NDArray[Any], y: NDArray[Any], deviation: float) -> tuple[Any, Any]:
    """Mean and covariance of the posterior.

    Example:
        >>> mean, covariance = exact(np.ones((3, 1)), np.full((3, 1), 2.0), 1.0)
        >>> mean, covariance  # three examples and the prior: 1 / (3 + 1)
        (array([1.5]), array([[0.25]]))
    """
    precision = x.T @ x / deviation**2 + np.eye(x.shape[1])
    covariance = np.linalg.inv(precision)
    return (covariance @ x.T @ y / deviation**2)[:, 0], covariance


class Chain(nn.Module):
    """Weights that wander through the posterior, and sums over the places where they were."""

    def __init__(self, rng: np.random.Generator, d: int, n: int, task: Mapping[str, Any]) -> None:
        self.w = nn.Parameter(rng.standard_normal((d, 1)))
        self.n, self.deviation, self.burn_in = n, task["deviation"], task["burn_in"]
        self.steps = tensor(np.zeros(1))
        self.total = tensor(np.zeros(d))
        self.squares = tensor(np.zeros((d, d)))

    def forward(self, x: Any) -> Any:
        return x @ self.w

    def potential(self, x: Any, y: Any) -> Any:
        """-log p(w, y | x) of all n examples, estimated by these, up to a constant."""
        wrong = np.mean((self(x) - y) ** 2) * (0.5 * self.n / self.deviation**2)
        return wrong + 0.5 * np.sum(self.w**2)

    def count(self) -> None:
        """Note where the weights stand, once the chain has forgotten where it began."""
        with no_grad():
            self.steps += 1
            w = np.where(self.steps > self.burn_in, self.w[:, 0], 0.0)
            self.total += w
            self.squares += np.outer(w, w)

    def found(self) -> tuple[Any, Any]:
        """Mean and covariance over the places."""
        n = max(1.0, float(self.steps.data[0]) - self.burn_in)
        mean = self.total.data / n
        return mean, self.squares.data / n - np.outer(mean, mean)


def _loss(model: Any, x: Any, y: Any) -> Any:
    model.count()
    return model.potential(Tensor(x), y)


def _measure(model: Any, part: Any) -> dict[str, float]:
    """How far mean and deviations of the chain are from the exact ones, in exact deviations."""
    x, y = part.arrays
    mean, covariance = exact(x, y, model.deviation)
    own_mean, own = model.found()
    sd = np.sqrt(np.diag(covariance))
    return {
        "loss": float(model.potential(Tensor(x), y).item()),
        "mean_error": float(np.max(abs(own_mean - mean) / sd)),
        "deviation_error": float(np.max(abs(np.sqrt(np.diag(own).clip(0)) / sd - 1))),
    }


def _predict(model: Any, x: NDArray[Any]) -> NDArray[Any]:
    """The mean of what the samples say."""
    return x @ model.found()[0][:, None]


def _show(model: Any, parts: Parts) -> list[str]:
    x, y = parts.train.arrays
    mean, covariance = exact(x, y, model.deviation)
    own_mean, own = model.found()
    rows = zip(own_mean, mean, np.sqrt(np.diag(own)), np.sqrt(np.diag(covariance)))
    table = [
        f"  {i:>6}  {a:>12.4f} {b:>8.4f} {c:>18.4f} {d:>8.4f}"
        for i, (a, b, c, d) in enumerate(rows)
    ]
    return ["  weight   mean: chain    exact   deviation: chain    exact", *table]


RECIPE = Recipe(
    name="langevin",
    summary="samples of a posterior by noisy descent (SGLD), against the exact answer",
    data=_data,
    model=lambda rng, task, parts: Chain(
        rng, parts.train.images.shape[1], len(parts.train), task
    ),
    loss=_loss,
    measure=_measure,
    predict=_predict,
    optimizers={"sgld": {"lr": 4e-4}},
    epochs=20000,
    batch_size=200,
    task={
        "examples": 200, "dimensions": 4, "deviation": 1.0, "burn_in": 500, "data_seed": 0,
    },
    least={"examples": 1, "dimensions": 1, "deviation": 1e-6},
    every=1000,
    inputs="inputs",
    show=_show,
)  # fmt: skip
