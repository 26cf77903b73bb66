"""Forward mode: dual numbers. A tangent rides along with each value, at a level of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import ArgumentError, DTypeError, ShapeError, verbatim
from ..given import call, function, numeric
from ..ops.elementwise import mul, mul_mask
from ..ops.index import Write
from ..primitive import Constant
from ..structural import broadcast, cast, densify
from ..trace import SOLE, Level, Tensor, decay, getrefcount, looked, make, push
from ..types import BOOL, RAW, dtype_of, is_inexact, shape_of
from .conventions import kink_mask, kinked_tangent
from .store import store_above, store_into

__all__ = ["jvp"]


class Dual(Tensor):
    """x + dx eps: `data` is x, `node` the tangent dx, or None for zero."""

    __slots__ = ()


class JVP(Level):
    """Forward mode at one level."""

    __slots__ = ()
    cls = Dual

    def process(self, op: Any, xs: Any) -> Any:
        values: list[Any] = []
        tangents: list[Any] = []
        for x in xs:
            mine = isinstance(x, Tensor) and x.level is self
            values.append(x.data if mine else x)
            tangents.append(x.node if mine else None)
        y = op(*values)
        kinks = kink_mask(op, values, y) if trace.MODES else None
        if kinks is not None and is_inexact(dtype_of(y)):
            dy = None if isinstance(op, Constant) else tangent(op, values, tangents, y)
            return make(y, kinked_tangent(dy, kinks, y), self, Dual)
        if isinstance(op, Constant) or all(d is None for d in tangents):
            return y
        if op.outputs > 1:
            slopes = op.push(values, [densify(d) for d in tangents], y)
            return tuple([v if d is None else make(v, d, self, Dual) for v, d in zip(y, slopes)])
        return make(y, tangent(op, values, tangents, y), self, Dual)

    def write(self, x: Tensor, path: tuple[Any, ...], v: Any) -> None:
        dv = None
        if isinstance(v, Tensor) and v.level is self:
            dv, v = v.node, v.data
        if not is_inexact(x.data.dtype):
            dv = None
        store_into(x, path, v)
        if x.node is None and dv is None:
            return
        dx = np.zeros(shape_of(x.data), x.data.dtype) if x.node is None else densify(x.node)
        x.node = None
        zero = np.zeros((), x.data.dtype) if dv is None else densify(dv)
        if isinstance(dx, Tensor) or isinstance(zero, Tensor):
            x.node = store_above(dx, path, zero)
        else:
            x.node = Write(path)(dx, zero)

    def detach(self, t: Tensor) -> Any:
        d = t.data
        return d.detach() if isinstance(d, Tensor) else make(trace.cut(d), None, eager())


def eager() -> Level:
    return trace.EAGER


def tangent(op: Any, xs: list[Any], dxs: list[Any], y: Any) -> Any:
    """dy = J dx for one operation, of y's shape and dtype."""
    if not is_inexact(dtype_of(y)):
        return None
    if op is mul and any(dtype_of(x) == BOOL for x in xs):
        op = mul_mask
    if not op.diagonal:
        dxs = [densify(d) for d in dxs]
    with np.errstate(all="ignore"):
        dy = op.push(xs, dxs, y)
    if dy is None:
        return None
    if shape_of(dy) != shape_of(y) or (
        getattr(dy, "mask", None) is not None and shape_of(dy.mask) != shape_of(y)
    ):
        dy = broadcast(densify(dy), shape_of(y))
    if dtype_of(dy) != dtype_of(y) and dtype_of(dy) is not None:
        dy = cast(densify(dy), y.dtype)
    return dy


def jvp(f: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """Value and directional derivative:  (f(x), J_f(x) dx), in one forward pass.

    Args:
        f: a function of one or more pytrees of arrays.
        primals: the tuple of arguments x (a bare array for a function of one argument).
        tangents: the direction dx, of the same structure, shapes and dtypes.
        has_aux: f returns (value, aux); aux is handed through.

    Raises:
        ShapeError: a tangent does not have the shape of its primal.

    >>> import numpy as np
    >>> y, dy = jvp(lambda x: np.sin(x) * x, (2.0,), (1.0,))
    >>> bool(np.isclose(dy, np.cos(2.0) * 2.0 + np.sin(2.0)))
    True
    """
    function("jvp(f, primals, tangents)", "f", f)
    bundle = isinstance(primals, tuple)
    xs, structure = tree.flatten(primals if bundle else (primals,))
    dxs, other = tree.flatten(tangents if bundle else (tangents,))
    if structure != other:
        dxs, other = reordered(structure, tangents if bundle else (tangents,), dxs, other)
    if structure != other:
        raise ShapeError(
            "jvp(f, primals, tangents)",
            "primals and tangents differ in structure",
            operands=[("primals", verbatim(str(structure))), ("tangents", verbatim(str(other)))],
        )
    wrap = any(isinstance(x, Tensor) for x in xs)
    with push(JVP) as level:
        duals = [dual(x, dx, level) for x, dx in zip(xs, dxs)]
        out = call("jvp(f, primals, tangents)", "f", f, *tree.unflatten(structure, duals))
        aux = None
        if has_aux:
            out, aux = with_aux("jvp", out)
        leaves, shape = tree.flatten(out)
        numeric("jvp(f, primals, tangents)", lambda: tree.paths(shape, "f(x)"), leaves)
        ys, dys = [], []
        if trace.MODES and (watch := getattr(trace.HERE, "watch", None)) is not None:
            watch.results(level, leaves)
        for y in leaves:
            y = surfaced(y, level)
            if isinstance(y, Tensor) and y.level is level:
                ys.append(y.data)
                dys.append(
                    np.zeros(shape_of(y.data), y.data.dtype) if y.node is None else densify(y.node)
                )
            else:
                ys.append(y)
                dys.append(np.zeros(shape_of(y), dtype_of(y) or float))
    value = tree.unflatten(shape, handed_out(ys, wrap))
    slope = tree.unflatten(shape, handed_out(dys, wrap))
    return (value, slope, lower(aux)) if has_aux else (value, slope)


def with_aux(what: str, out: Any) -> Any:
    """The two parts of what a function with has_aux=True returns."""
    if isinstance(out, tuple | list) and len(out) == 2:
        return out
    raise ArgumentError(
        f"{what}(f, has_aux=True)",
        "f returns a pair: its value, and what is handed through",
        operands=[("f gave", verbatim(str(tree.flatten(out)[1])))],
        fix="return value, aux; or leave out has_aux",
    )


def reordered(shape: Any, x: Any, xs: list[Any], other: Any) -> tuple[list[Any], Any]:
    """The leaves of x in the order of `shape`, where they differ in the order of dicts alone."""
    try:
        found = tree.flatten_up_to(shape, x)
    except ArgumentError:
        return xs, other
    again = tree.structure(tree.unflatten(shape, found))
    return (found, again) if again == shape else (xs, other)


def dual(x: Any, dx: Any, level: Level) -> Tensor:
    x = inward(x)
    return make(x, tangent_of(x, dx), level, Dual)


def tangent_of(x: Any, dx: Any) -> Any:
    """dx as a tangent of x: of its shape and dtype."""
    dx = inward(dx, tangent=True)
    if shape_of(x) != shape_of(dx) and not hasattr(dx, "mask"):
        raise ShapeError(
            "jvp(f, primals, tangents)",
            "a tangent has the shape of its primal",
            operands=[("primal", x), ("tangent", dx)],
        )
    if is_complex(dx) and not is_complex(x):
        raise DTypeError(
            "jvp(f, primals, tangents)",
            "the tangent of a real number is real",
            operands=[("primal", x), ("tangent", dx)],
        )
    if not hasattr(dx, "mask") and dtype_of(dx) != dtype_of(x) and dtype_of(x) is not None:
        return (
            cast(dx, x.dtype)
            if is_inexact(dtype_of(dx)) or isinstance(dx, Tensor)
            else np.asarray(dx, x.dtype)
        )
    return dx


def is_complex(x: Any) -> bool:
    return getattr(dtype_of(x), "kind", "f") == "c"


def inward(x: Any, tangent: bool = False) -> Any:
    """What a transform holds of an argument: an array, or the recorded tensor of a level below."""
    if isinstance(x, Tensor):
        x = looked(x)
        return x.data if x.level is eager() and x.node is None else x
    if isinstance(x, np.ndarray | np.generic) or hasattr(x, "mask") or hasattr(x, "graph"):
        return x
    if isinstance(x, int | float | complex | list):
        return np.asarray(x)[()] if not isinstance(x, list) else np.asarray(x)
    return x


def surfaced(y: Any, level: Level) -> Any:
    """A result as a value of `level` or below: what was on its ambient tape has come off it."""
    y = looked(y)
    while isinstance(y, Tensor) and y.level.depth > level.depth:
        y = looked(y.level.primal(y))
    return y


def outward(y: Any, wrap: bool) -> Any:
    """A transform's result: an array for arrays, a tensor when a tensor was passed in."""
    if wrap and isinstance(y, RAW):
        return make(np.asarray(y), None, eager())
    if hasattr(y, "graph"):  # while a program is recorded all arrays are tensors
        return make(y, None, eager())
    return y[()] if y.__class__ is np.ndarray and y.ndim == 0 else y


def handed_out(ys: list[Any], wrap: bool) -> list[Any]:
    """A transform's results: tensors if tensors came in; else arrays that nobody else holds.

    A result may be a residual, the caller's own array, or another of the results; writing to it
    must not reach them.
    """
    out = []
    while ys:
        y = ys.pop()
        if not wrap and y.__class__ is np.ndarray and y.ndim:
            if getrefcount(y) > SOLE or y.base is not None or not y.flags.writeable:
                y = y.copy()
        else:
            y = outward(y, wrap)
        out.append(y)
    return out[::-1]


def lower(x: Any) -> Any:
    """aux without the level that has just been popped."""
    leaves, structure = tree.flatten(x)
    return tree.unflatten(structure, handed_out([decay(v) for v in leaves], wrap=False))
