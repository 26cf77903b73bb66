"""Optimizers: they read `p.grad` and write `p` in place."""

from . import schedules
from .adam import Adam, AdamW
from .around import SAM, Lookahead
from .base import Group, Optimizer
from .clip import (
    clip_by_global_norm,
    clip_grad_adaptive_,
    clip_grad_norm_,
    clip_grad_value_,
    global_norm,
)
from .ema import EMA, SWA
from .kfac import KFAC
from .kin import Lion, NAdam, RAdam
from .lbfgs import LBFGS
from .muon import Muon
from .noise import SGLD, GradientNoise
from .rms import Adadelta, Adagrad, Adamax, RMSprop
from .second import HessianFree
from .sgd import SGD
from .squares import levenberg_marquardt

__all__ = [
    "EMA",
    "KFAC",
    "LBFGS",
    "SAM",
    "SGD",
    "SGLD",
    "SWA",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientNoise",
    "Group",
    "HessianFree",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "clip_by_global_norm",
    "clip_grad_adaptive_",
    "clip_grad_norm_",
    "clip_grad_value_",
    "global_norm",
    "levenberg_marquardt",
    "schedules",
]
