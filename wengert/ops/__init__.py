"""The derivative tables: every operation and all that is known about it."""

from . import contract, conv, elementwise, fft, fused, linalg, linear, order, singular, spectral

__all__ = [
    "contract",
    "conv",
    "elementwise",
    "fft",
    "fused",
    "linalg",
    "linear",
    "order",
    "singular",
    "spectral",
]
