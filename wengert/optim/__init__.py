"""Optimizers: they read `p.grad` and write `p` in place."""

from .adam import Adam, AdamW
from .base import Group, Optimizer
from .clip import clip_by_global_norm, clip_grad_norm_, clip_grad_value_, global_norm
from .ema import EMA
from .sgd import SGD

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "Group",
    "Optimizer",
    "clip_by_global_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "global_norm",
]
