"""Activations as layers: one line each, from the functions that they call."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import ArgumentError

from . import functional as F
from .functional import activations as f
from .functional.conv import count
from .module import Module, Parameter
from .options import Optioned

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "GeGLU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class Activation(Optioned):
    """A function without parameters, as a layer. Its options are those of the function."""

    def forward(self, x: Any) -> Any:
        space = self.__dict__
        return type(self).call(x, *[space[name] for name in self.options])


def layer(name: str, call: Any, equation: str, **options: Any) -> type[Activation]:
    """The class of an activation: `call(x, *options)`, with what the options are if not given."""
    space: dict[str, Any] = {"call": staticmethod(call), "options": options, "__doc__": equation}
    if not options:
        space["forward"] = lambda self, x: call(x)
    return type(name, (Activation,), {**space, "__module__": __name__, "__qualname__": name})


# fmt: off
ReLU = layer("ReLU", F.relu, "y = max(x, 0)")
ReLU6 = layer("ReLU6", f.relu6, "y = min(max(x, 0), 6)")
LeakyReLU = layer("LeakyReLU", f.leaky_relu, "y = x if x > 0 else slope x", slope=0.01)
ELU = layer("ELU", f.elu, "y = x if x > 0 else alpha (e^x - 1)", alpha=1.0)
SELU = layer("SELU", f.selu, "y = 1.0507 (x if x > 0 else 1.6733 (e^x - 1))")
CELU = layer("CELU", f.celu, "y = x if x > 0 else alpha (e^(x / alpha) - 1)", alpha=1.0)
GELU = layer("GELU", f.gelu, "y = x P(N(0, 1) <= x)", approximate="none")
SiLU = layer("SiLU", F.silu, "y = x / (1 + e^-x)")
Mish = layer("Mish", f.mish, "y = x tanh(log(1 + e^x))")
Sigmoid = layer("Sigmoid", F.sigmoid, "y = 1 / (1 + e^-x)")
LogSigmoid = layer("LogSigmoid", F.log_sigmoid, "y = -log(1 + e^-x)")
Softplus = layer("Softplus", f.softplus, "y = log(1 + e^(beta x)) / beta", beta=1.0)
Softsign = layer("Softsign", f.softsign, "y = x / (1 + |x|)")
Tanh = layer("Tanh", F.tanh, "y = tanh(x)")
Tanhshrink = layer("Tanhshrink", f.tanhshrink, "y = x - tanh(x)")
Hardtanh = layer("Hardtanh", f.hardtanh, "y = min(max(x, low), high)", low=-1.0, high=1.0)
Hardsigmoid = layer("Hardsigmoid", f.hardsigmoid, "y = min(max(x / 6 + 1/2, 0), 1)")
Hardswish = layer("Hardswish", f.hardswish, "y = x min(max(x / 6 + 1/2, 0), 1)")
Softshrink = layer("Softshrink", f.softshrink, "y = x moved by size towards 0", size=0.5)
Hardshrink = layer("Hardshrink", f.hardshrink, "y = x if |x| > size else 0", size=0.5)
Threshold = layer("Threshold", f.threshold, "y = x if x > limit else value", limit=0.0, value=0.0)
Softmax = layer("Softmax", F.softmax, "y_i = e^(x_i) / sum_j e^(x_j) along an axis", axis=-1)
LogSoftmax = layer("LogSoftmax", F.log_softmax, "y = log softmax(x) along an axis", axis=-1)
Softmin = layer("Softmin", f.softmin, "y = softmax(-x) along an axis", axis=-1)
GLU = layer("GLU", f.glu, "y = a sigmoid(b), a and b the halves of x along an axis", axis=-1)
SwiGLU = layer("SwiGLU", f.swiglu, "y = a silu(b), a and b the halves of x along an axis", axis=-1)
GeGLU = layer("GeGLU", f.geglu, "y = a gelu(b), a and b the halves of x along an axis", axis=-1)
# fmt: on


class PReLU(Module):
    """y = x if x > 0 else weight x, with a weight that is trained.

    Shapes: x `[..., n]`; weight `[n]`, or `[1]` for all channels.

    Args:
        n: how many channels, the last axis, have a weight of their own; 1 for one weight.
        slope: what the weights start at.

    Example:
        >>> PReLU()(np.array([-2.0, 3.0]))
        tensor([-0.5,  3. ], grad_fn=where)

    References:
        K. He et al. (2015), Delving Deep into Rectifiers, arXiv:1502.01852.
    """

    def __init__(self, n: int = 1, slope: float = 0.25, *, dtype: Any = np.float32) -> None:
        if isinstance(slope, bool) or not isinstance(slope, int | float | np.number):
            raise ArgumentError(f"PReLU(slope={slope!r})", "slope is a number")
        self.weight = Parameter(np.full(count("PReLU", "n", n, 1), slope, dtype))

    def forward(self, x: Any) -> Any:
        return f.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return "" if self.weight.size == 1 else str(self.weight.size)
