"""Learning to learn: weights from which one step on a few points gives a whole sine curve.

    meta-loss(w) = mean over tasks of  loss(w - lr dloss(w, support), query)

References:
    C. Finn, P. Abbeel, S. Levine (2017), Model-Agnostic Meta-Learning for Fast Adaptation of Deep
    Networks, ICML, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Parts, sines
from wengert.trace import Tensor
from wengert.transforms.unroll import adapt
from wengert.transforms.vmap import vmap

from ..recipe import Recipe

__all__ = ["RECIPE"]

STEPS = (1, 5)  # of the adaptation that is reported


class FewShot(nn.Module):
    """A network, and how it is fitted to a task."""

    def __init__(self, network: nn.Module, lr: float, steps: int, order: str) -> None:
        self.network = network
        self.lr, self.steps, self.order = lr, steps, order

    def forward(self, x: Any) -> Any:
        return self.network(x)

    def after(self, steps: int, x: Any, y: Any, to_x: Any, order: str | None = None) -> Any:
        """The answers at to_x[tasks, m, 1] of networks fitted to x, y, [tasks, n, 1]."""

        def one(x: Any, y: Any, to_x: Any) -> Any:
            adapted = adapt(
                _loss, self.network, x, y, lr=self.lr, steps=steps, order=order or self.order
            )
            return adapted(to_x)

        return vmap(one)(x, y, to_x)


def _loss(network: Any, x: Any, y: Any) -> Any:
    return np.mean((network(x) - y) ** 2)


def _network(rng: np.random.Generator, task: Mapping[str, Any], parts: Parts) -> nn.Module:
    width = task["width"]
    layers = [
        nn.Linear(1, width, rng=rng, dtype=np.float64), nn.Tanh(),
        nn.Linear(width, width, rng=rng, init="xavier", dtype=np.float64), nn.Tanh(),
        nn.Linear(width, 1, rng=rng, init="xavier", dtype=np.float64),
    ]  # fmt: skip
    return FewShot(nn.Sequential(*layers), task["inner_lr"], task["steps"], task["order"])


def _data(task: Mapping[str, Any]) -> Parts:
    shots = task["shots"]
    return Parts(*(sines(n, shots=shots, seed=i) for i, n in enumerate((task["tasks"], 100, 200))))


def _meta_loss(model: Any, x: Any, y: Any, to_x: Any, to_y: Any) -> Any:
    return np.mean((model.after(model.steps, x, y, to_x) - to_y) ** 2)


def _few_shot_error(model: Any, part: Any) -> dict[str, float]:
    """The mean square error on new points after one step, before any, and after five."""
    x, y, to_x, to_y = part.batch(np.arange(min(len(part), 200)))
    found = {"loss": np.mean((model.after(STEPS[0], x, y, to_x, "first") - to_y) ** 2)}
    found["error_0"] = np.mean((model(Tensor(to_x)) - to_y) ** 2)
    found[f"error_{STEPS[1]}"] = np.mean((model.after(STEPS[1], x, y, to_x, "first") - to_y) ** 2)
    return {name: float(value) for name, value in found.items()}


RECIPE = Recipe(
    name="maml-sine",
    summary="weights from which one step on ten points gives a sine curve (MAML)",
    data=_data,
    model=_network,
    loss=_meta_loss,
    measure=_few_shot_error,
    optimizers={
        "adam": {"lr": 3e-3},
        "adamw": {"lr": 3e-3, "weight_decay": 0.0},
        "sgd": {"lr": 0.01, "momentum": 0.9},
    },
    epochs=20,
    batch_size=25,
    task={
        "tasks": 2500, "shots": 10, "width": 40, "inner_lr": 0.02, "steps": 1, "order": "second",
    },
    least={"tasks": 1, "shots": 1, "width": 1},
    inputs="points",
    schedule="cosine",
)  # fmt: skip
