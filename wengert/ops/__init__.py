"""The derivative tables: every operation and all that is known about it.

Those of neural networks are in `neural`, and are registered when `wengert.nn` is first used.
"""

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
