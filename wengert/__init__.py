"""wengert: backpropagation for NumPy.

import numpy as np, wengert as wg

def energy(x):                      # plain NumPy
    return np.sum(np.tanh(x) ** 2)

wg.grad(energy)(np.ones(3))
"""

import importlib
from typing import Any as _Any

from . import errors, numpy, ops, trace, transforms, tree
from .create import full, ones, tensor, zeros
from .errors import WengertError, explain
from .numpy.reduce import log_softmax, logsumexp, softmax
from .numpy.select import where
from .ops.elementwise import erf, erfc, gelu, log_sigmoid, relu, sigmoid, silu, softplus
from .ops.road import cross_entropy
from .trace import Tensor, enable_grad, no_grad
from .transforms.conventions import conventions
from .transforms.hooks import Handle
from .transforms.jacobian import hessian, hvp, jacfwd, jacobian, jacrev
from .transforms.jvp import jvp
from .transforms.vjp import grad, value_and_grad, vjp
from .transforms.vmap import vmap
from .version import __version__

__all__ = [
    "Handle",
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

_LATER = (
    "amp",
    "autograd",
    "compile",
    "data",
    "nn",
    "numeric",
    "optim",
    "random",
    "sklearn",
    "symbolic",
    "testing",
    "train",
    "viz",
)
_HOMES = {  # where a name is found once somebody asks for it
    "transforms.modes": ("inference_mode", "is_grad_enabled", "set_grad_enabled"),
    "transforms.disk": ("save_on_disk",),
    "transforms.residuals": ("saved_tensors_hooks",),
    "transforms.custom": ("custom_jvp", "custom_vjp", "stop_gradient"),
    "transforms.external": ("external",),
    "transforms.linearize": ("linear_transpose", "linearize"),
    "transforms.custom_gradient": ("custom_gradient",),
    "transforms.gradient_tape": ("GradientTape",),
    "transforms.variable": ("Variable",),
    "transforms.collective": (
        "all_gather",
        "axis_index",
        "axis_size",
        "pmax",
        "pmean",
        "pmin",
        "psum",
    ),
    "transforms.checkpoint": ("checkpoint", "checkpoint_name", "checkpoint_sequential"),
    "transforms.budget": ("memory_budget",),
    "transforms.control": ("cond", "fori_loop", "map", "scan", "switch", "while_loop"),
    "transforms.implicit": ("custom_fixed_point", "custom_linear_solve", "custom_root"),
    "transforms.argmin": ("argmin", "quadratic_program", "ridge"),
    "transforms.ode": ("odeint",),
    "transforms.taylor": ("jet",),
    "transforms.curvature": (
        "batch_jacobian",
        "fisher_product",
        "gauss_newton_product",
        "hessian_diagonal",
        "laplacian",
        "per_sample_grad",
        "vhp",
    ),
    "transforms.estimators": ("magic_box", "reparameterized", "score_function", "straight_through"),
    "transforms.unroll": ("adapt", "maml", "unroll"),
    "transforms.debug": ("debug",),
    "transforms.explain": ("explain_gradient",),
    "transforms.memory": ("explain_memory",),
    "comparison": ("compare",),
    "nn.stateless": ("functional_call",),
}
_NAMES = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> _Any:
    """Rooms that are opened when somebody first asks for them: `wg.nn`, `wg.checkpoint`."""
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        made = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = made
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_LATER, *_NAMES])
