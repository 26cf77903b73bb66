"""A small convolutional network that reads handwritten digits.

References:
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-Based Learning Applied to Document
    Recognition, Proceedings of the IEEE 86(11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Dataset, Parts, digits
from wengert.data.augment import shift
from wengert.nn import functional as F
from wengert.trace import Tensor

from ..recipe import Recipe, classification

__all__ = ["RECIPE"]


def _data(task: Mapping[str, Any]) -> Parts:
    d = digits()
    images = d.images.reshape(-1, 8, 8, 1)
    return Dataset(images, d.labels, d.name, d.citation, d.licence).split()


class Net(nn.Module):
    """Two convolutions, a pool, one more convolution, and a layer that reads the rest."""

    def __init__(self, rng: np.random.Generator, width: int, dropout: float) -> None:
        self.layers = [
            nn.Conv2d(1, width, 3, padding=1, rng=rng),
            nn.Conv2d(width, width, 3, padding=1, rng=rng),
            nn.Conv2d(width, 2 * width, 3, padding=1, rng=rng),
        ]
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout, rng=rng)
        self.head = nn.Linear(4 * 4 * 2 * width, 10, rng=rng, init="xavier")

    def forward(self, x: Any) -> Any:
        first, second, third = self.layers
        x = F.relu(first(x))
        x = self.pool(F.relu(second(x)))
        x = F.relu(third(x))
        return self.head(self.dropout(x.reshape(x.shape[0], -1)))


RECIPE = Recipe(
    name="digits-cnn",
    summary="a small convolutional network that reads the digits, trained on shifted copies",
    data=_data,
    model=lambda rng, task, parts: Net(rng, task["width"], task["dropout"]),
    loss=lambda model, images, labels: F.cross_entropy(model(Tensor(images)), labels),
    measure=classification(lambda logits, labels: logits.argmax(axis=1) == labels),
    predict=lambda model, images: model(Tensor(images.reshape(-1, 8, 8, 1))).numpy().argmax(axis=1),
    optimizers={
        "adamw": {"lr": 3e-3, "weight_decay": 0.05},
        "adam": {"lr": 3e-3},
        "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    },
    epochs=30,
    batch_size=32,
    task={"width": 32, "dropout": 0.5},
    least={"width": 1},
    inputs="images",
    schedule="cosine",
    transform=shift(1),
)
