"""The library of vector functions: each an always-inline function of a module, of any lane count.

    module = Module(mathematics=add, fma=True)
    f.math("exp", x)                               a call of exp_float_16, say

Accuracy: 2 ulps in float32, 4 in float64, over the whole domain, subnormal numbers in and out; inf
and nan as NumPy has them. `tests/compile/test_native_mathematics.py` measures it against mpmath.
"""

from __future__ import annotations

from ..ir import Function, Module, vector
from . import activations, exponential, gaussian, powers, quotients, trigonometry
from .lanes import FUNCTIONS

__all__ = ["ARITY", "add"]

MODULES = activations, exponential, gaussian, powers, quotients, trigonometry  # fill the table
#: the functions there are, and the number of arguments of each
ARITY = {name: entry[1] for name, entry in FUNCTIONS.items()}


def add(module: Module, name: str, kind: str, width: int) -> str:
    """Add the function to the module, of `width` lanes of "float" or "double"; its symbol."""
    body, arity, *wide = FUNCTIONS[name]
    symbol, lane = f"{name}_{kind}_{width}", vector(kind, width)
    names = ["x"] if arity == 1 else ["a", "b"]
    f = Function(
        module, symbol, [(n, lane) for n in names], lane,
        attributes="alwaysinline nounwind", linkage="internal",
    )  # fmt: skip
    xs = [f[n] for n in names]
    if kind == "float" and wide[module.fma]:
        y = body(f, "short", *(f.cast("fpext", x, "double") for x in xs))
        f.ret(f.cast("fptrunc", y, "float"))
    else:
        f.ret(body(f, kind, *xs))
    return symbol
