"""The derivative tables: every operation and all that is known about it."""

from . import contract, elementwise, fused, linear, order

__all__ = ["contract", "elementwise", "fused", "linear", "order"]
