"""The derivative tables: every operation and all that is known about it."""

from . import (
    attention,
    contract,
    conv,
    dropout,
    elementwise,
    embedding,
    fft,
    fused,
    linalg,
    linear,
    losses,
    norm,
    order,
    pool,
    singular,
    spectral,
)

__all__ = [
    "attention",
    "contract",
    "conv",
    "dropout",
    "elementwise",
    "embedding",
    "fft",
    "fused",
    "linalg",
    "linear",
    "losses",
    "norm",
    "order",
    "pool",
    "singular",
    "spectral",
]
