"""The derivative tables: every operation and all that is known about it."""

from . import contract, elementwise, fft, fused, linalg, linear, order, singular, spectral

__all__ = [
    "contract",
    "elementwise",
    "fft",
    "fused",
    "linalg",
    "linear",
    "order",
    "singular",
    "spectral",
]
