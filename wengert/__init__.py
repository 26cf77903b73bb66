"""wengert: backpropagation for NumPy.

import numpy as np, wengert as wg

def energy(x):                      # plain NumPy
    return np.sum(np.tanh(x) ** 2)

wg.grad(energy)(np.ones(3))
"""

import importlib
from types import ModuleType

from . import errors, numpy, ops, trace, transforms, tree
from .create import full, ones, tensor, zeros
from .errors import WengertError, explain
from .numpy.reduce import log_softmax, logsumexp, softmax
from .numpy.select import where
from .ops.elementwise import erf, erfc, gelu, log_sigmoid, relu, sigmoid, silu, softplus
from .ops.road import cross_entropy
from .trace import Tensor, enable_grad, no_grad
from .transforms.conventions import conventions
from .transforms.jacobian import hessian, hvp, jacfwd, jacobian, jacrev
from .transforms.jvp import jvp
from .transforms.vjp import grad, value_and_grad, vjp
from .transforms.vmap import vmap
from .version import __version__

__all__ = [
    "Tensor",
    "WengertError",
    "__version__",
    "conventions",
    "cross_entropy",
    "enable_grad",
    "erf",
    "erfc",
    "errors",
    "explain",
    "full",
    "gelu",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "no_grad",
    "numpy",
    "ones",
    "ops",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tensor",
    "trace",
    "transforms",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
    "where",
    "zeros",
]

_LATER = ("data", "nn", "optim", "testing", "train", "viz")


def __getattr__(name: str) -> ModuleType:
    """wg.nn, wg.optim and the others on the upper floors, imported when they are first used."""
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_LATER])
