"""A program seen from outside: real numbers in, real numbers out, and every call counted.

Differences need no more of a function than its values. Here a function of pytrees becomes a
function of one vector: each complex number is two coordinates, a tensor is handed in as a tensor
and a module as a module, and what is not floating point stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, DTypeError, UnsupportedError
from ..given import call, function, numeric
from ..trace import EAGER, Leaf, Tensor, make
from ..types import is_inexact

__all__ = ["Layout", "Program"]

OUTSIDE = (ValueError, ArithmeticError, np.linalg.LinAlgError)  # what a step out of a domain raises


class Layout:
    """Where each number of a pytree stands in one vector of real coordinates."""

    def __init__(self, x: Any, prefix: str = "") -> None:
        leaves, self.structure = tree.flatten(x)
        self.leaves = leaves
        self.paths = tree.paths(self.structure, prefix)
        self.arrays = [array_of(v) for v in leaves]
        self.live = [is_inexact(getattr(a, "dtype", None)) for a in self.arrays]
        self.starts, n = [], 0
        for a, live in zip(self.arrays, self.live):
            self.starts.append(n)
            n += a.size * (1 + (a.dtype.kind == "c")) if live else 0
        self.size = n

    @property
    def eps(self) -> float:
        """The unit roundoff of the least precise floating-point leaf."""
        return max([_eps(a) for a, live in zip(self.arrays, self.live) if live], default=2.0**-52)

    def vector(self, leaves: list[Any] | None = None) -> Any:
        """The coordinates of leaves of this layout: its own, or those given."""
        arrays = self.arrays if leaves is None else [array_of(v) for v in leaves]
        wide = np.longdouble if any(_long(a) for a in arrays) else np.float64
        out = np.zeros(self.size, wide)
        for a, mine, live, start in zip(arrays, self.arrays, self.live, self.starts):
            if not live:
                continue
            n = mine.size
            out[start : start + n] = a.real.reshape(-1)
            if mine.dtype.kind == "c":
                out[start + n : start + 2 * n] = a.imag.reshape(-1)
        return out

    def parts(self, z: Any, like: bool = True) -> list[Any]:
        """The leaves that have these coordinates; what is not floating point is None."""
        out: list[Any] = []
        for a, live, start in zip(self.arrays, self.live, self.starts):
            if not live:
                out.append(None)
                continue
            n = a.size
            part: Any = z[start : start + n]
            if a.dtype.kind == "c":
                part = part + 1j * z[start + n : start + 2 * n]
            out.append(part.reshape(a.shape).astype(a.dtype if like else part.dtype))
        return out

    def build(self, z: Any, like: bool = True) -> Any:
        """The pytree with these coordinates: arrays for arrays, tensors for tensors."""
        made = [
            old if new is None else lifted(new, old)
            for new, old in zip(self.parts(z, like), self.leaves)
        ]
        return tree.unflatten(self.structure, made)

    def where(self, k: int) -> tuple[str, tuple[int, ...], str]:
        """(path of the leaf, index in it, "", "real part" or "imaginary part") of a coordinate."""
        i = max(i for i, s in enumerate(self.starts) if s <= k and self.live[i])
        a = self.arrays[i]
        at = k - self.starts[i]
        part = ""
        if a.dtype.kind == "c":
            part = "imaginary part" if at >= a.size else "real part"
            at %= a.size
        index = tuple(int(j) for j in np.unravel_index(at, a.shape)) if a.ndim else ()
        return self.paths[i], index, part


def _eps(a: Any) -> float:
    try:
        return float(np.finfo(a.dtype).eps)
    except ValueError:  # a half type from outside NumPy
        return 2.0**-7 if "bfloat16" in str(a.dtype) else 2.0**-3


def _long(a: Any) -> bool:
    return a.dtype in (np.longdouble, np.clongdouble)


def some_numbers(program: Program) -> None:
    """Refuse an input, or a value, without a number in it."""
    for name, v in (("x", program.x), ("f(x)", program.y)):
        if not v.size:
            raise ArgumentError(program.what, f"{name} has no number in it", operands=[(name, v)])


def array_of(v: Any) -> Any:
    return np.asarray(v.value() if isinstance(v, Tensor) else v)


def lifted(new: Any, old: Any) -> Any:
    """A new value in the dress of the old one."""
    if isinstance(old, Tensor):
        node = Leaf(EAGER, old.name) if old.requires_grad else None
        return make(new, node, EAGER)
    return new[()] if new.ndim == 0 else new


class Program:
    """f at points near its arguments, as a map from real vectors to real vectors.

    Args:
        f: a function of pytrees.
        args: its positional arguments.
        kwargs: its other arguments, which stay as they are.
        what: the call to name in an error.
    """

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: Any = None, what: str = "f(x)"
    ) -> None:
        self.f, self.kwargs, self.what = f, kwargs or {}, what
        function(what, "f", f)
        self.input = Layout(args)
        numeric(what, [f"x{p}" for p in self.input.paths], self.input.leaves)
        if not any(self.input.live):
            raise DTypeError(
                what,
                "there is no floating-point number among the arguments",
                operands=[(f"x{p}", v) for p, v in zip(self.input.paths, self.input.leaves)][:4],
                fix="x.astype(float)",
            )
        self.calls = 0
        self.x = self.input.vector()
        self.output: Any = None
        if not np.isfinite(self.x).all():
            raise ArgumentError(what, "the point is not finite", operands=[("x", args[0])])
        out = self.raw(self.x)
        self.output = Layout(out)
        self.y = self.output.vector()
        if not any(self.output.live):
            raise DTypeError(
                what,
                "the value has no floating-point number in it",
                operands=[(f"y{p}", v) for p, v in zip(self.output.paths, self.output.leaves)][:4],
            )
        self.eps = max(self.input.eps, self.output.eps)

    def raw(self, z: Any, like: bool = True) -> Any:
        self.calls += 1
        with np.errstate(all="ignore"):
            return call(self.what, "f", self.f, *self.input.build(z, like), **self.kwargs)

    def at(self, z: Any) -> Any:
        """The value's coordinates; nan where the function is not defined."""
        try:
            out = self.raw(z)
        except OUTSIDE:
            return np.full(self.output.size, np.nan)
        return self.read(out)

    def read(self, out: Any) -> Any:
        leaves, structure = tree.flatten(out)
        mine = self.output
        same = structure == mine.structure and all(
            np.shape(array_of(v)) == a.shape for v, a in zip(leaves, mine.arrays)
        )
        if not same:
            raise UnsupportedError(
                self.what,
                "the value has another structure or shape near x than at x",
                operands=[("at x", str(mine.structure)), ("near x", str(structure))],
            )
        return mine.vector(leaves)

    def line(self, d: Any) -> Callable[[float], Any]:
        """t -> f(x + t d)"""
        return lambda t: self.at(self.x + t * d)

    def scale(self, d: Any) -> float:
        """The step along d that changes x by about its own size."""
        moved = np.abs(d) > 0
        length = float(np.abs(d).max(initial=0.0)) or 1.0
        size = float(np.abs(self.x[moved]).max(initial=0.0))
        if size < 1e-3:
            with np.errstate(over="ignore"):
                typical = float(np.sqrt(np.mean(self.x**2))) if self.x.size > 1 else 0.0
            size = min(max(typical, size), 1.0) or 1.0
            size = max(size, 1e-3)
        return 2.0 ** round(math.log2(size / length))

    def unit(self, k: int) -> Any:
        e = np.zeros_like(self.x)
        e[k] = 1
        return e
