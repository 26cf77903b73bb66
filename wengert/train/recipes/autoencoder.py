"""Digits squeezed through a narrow layer and drawn again from what came through.

References:
    G. Hinton, R. Salakhutdinov (2006), Reducing the Dimensionality of Data with Neural Networks,
    Science 313.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import nn
from wengert.data import Parts, digits
from wengert.nn import functional as F
from wengert.trace import Tensor, no_grad

from ..recipe import Recipe

__all__ = ["RECIPE"]

SHADES = " .:-=+*#%@"


def _network(rng: np.random.Generator, task: Mapping[str, Any], parts: Parts) -> nn.Module:
    width, code = task["width"], task["code"]
    return nn.Sequential(
        nn.Linear(64, width, rng=rng),
        nn.ReLU(),
        nn.Linear(width, code, rng=rng, init="xavier"),
        nn.Linear(code, width, rng=rng),
        nn.ReLU(),
        nn.Linear(width, 64, rng=rng, init="xavier"),
        nn.Sigmoid(),
    )


def _error(model: nn.Module, part: Any) -> dict[str, float]:
    """The mean square error of a pixel, and the share of the variance that came through."""
    images, _ = part.batch(np.arange(len(part)))
    wrong = (model(Tensor(images)).numpy() - images) ** 2
    variance = ((images - images.mean(axis=0)) ** 2).mean()
    return {"loss": wrong.mean(), "R2": 1 - wrong.mean() / variance}


def _drawn_again(model: nn.Module, parts: Parts) -> NDArray[Any]:
    """One example of every class of the test part above its reconstruction."""
    images, labels = parts.test.batch(np.arange(len(parts.test)))
    _, first = np.unique(labels, return_index=True)
    with no_grad():
        again = model(Tensor(images[first])).numpy()
    return np.stack([images[first], again]).reshape(2, -1, 8, 8).clip(0, 1)


def _show(model: nn.Module, parts: Parts) -> list[str]:
    lines = []
    for title, row in zip(("given", "drawn again"), _drawn_again(model, parts)):
        lines.append(f"  {title}")
        for y in range(8):
            grey = (row[:, y] * (len(SHADES) - 1)).round().astype(int)
            lines.append("  " + " ".join("".join(SHADES[g] for g in digit) for digit in grey))
    return lines


RECIPE = Recipe(
    name="autoencoder",
    summary="digits squeezed through 8 numbers and drawn again; a picture of both",
    data=lambda task: digits().split(),
    model=_network,
    loss=lambda model, images, labels: F.mse_loss(model(Tensor(images)), images),
    measure=_error,
    predict=lambda model, images: model(Tensor(images)).numpy(),
    optimizers={
        "adam": {"lr": 3e-3},
        "adamw": {"lr": 3e-3, "weight_decay": 1e-3},
        "sgd": {"lr": 2.0, "momentum": 0.9},
    },
    epochs=60,
    batch_size=32,
    task={"code": 8, "width": 128},
    least={"code": 1, "width": 1},
    inputs="images",
    schedule="cosine",
    every=2,
    show=_show,
    pictures=lambda model, parts: {"reconstructions": _drawn_again(model, parts)},
)
