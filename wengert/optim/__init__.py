"""Optimizers: they read `p.grad` and write `p` in place."""

from .adam import Adam, AdamW
from .base import Group, Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Group", "Optimizer"]
