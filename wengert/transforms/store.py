"""Writing into values: in the buffer itself when nobody else holds it, in a copy otherwise.

Ownership is the reference count: a residual that the tape keeps raises it, and so does a view
that NumPy made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import trace
from ..errors import LevelError, UnsupportedError
from ..ops.index import Write, put
from ..trace import SOLE, Leaf, Tensor, View, bare, generation, getrefcount, lens, make, ndarray
from ..types import RAW


def store_into(x: Tensor, path: tuple[Any, ...], v: Any) -> None:
    """x.data[path] = v: in the buffer itself when nobody else holds it, in a copy otherwise."""
    d = x.data
    if isinstance(d, Tensor) or isinstance(v, Tensor) or not isinstance(d, RAW):
        x.data = store_above(d, path, v)
        return
    x.data = None
    try:
        if d.__class__ is not ndarray:
            d = np.array(d)
        elif getrefcount(d) > SOLE or d.base is not None or not d.flags.writeable:
            d = d.copy(order="K")
        put(d, path, v)
    except (ValueError, TypeError, IndexError) as error:
        x.data = d
        raise Write(path).refusal((d, v), error) from error
    finally:
        x.data = d


def store_above(d: Any, path: tuple[Any, ...], v: Any) -> Any:
    """The same for values of a level below, or graph variables: on a fresh handle."""
    if isinstance(d, Tensor):
        if type(d.node) is Leaf:  # a tangent that nothing was computed from yet: it stays a leaf
            return Write(path)(d, v)
        t = make(d.data, d.node, d.level, Tensor if type(d) is View else type(d))
    elif isinstance(v, Tensor):
        t = make(d, None, trace.EAGER)
    else:
        return Write(path)(d, v)
    write(t, path, v)
    return t


def write(x: Tensor, path: tuple[Any, ...], v: Any) -> None:
    """x[path] = v for a root x: x joins v's level when that is higher."""
    tracer = getattr(trace.HERE, "trace", None) if trace.MODES else None
    if tracer is not None:
        tracer.wrote(x)
    if not x.level.alive:
        raise LevelError(
            "an in-place write",
            "an earlier call of a transform wrote here, and its value ended with it",
            operands=[("x", x)],
            fix="make the buffer inside the function, where each call gets one of its own; to keep "
            "a number for later, write {x}[..] = value.detach()",
        )
    if isinstance(v, Tensor) and v.level.depth > x.level.depth:
        v = bare(v, v.level)
        if x.level is not trace.EAGER or x.node is not None:
            x.data = make(x.data, x.node, x.level, type(x))
        x.node = None
        x.level = v.level
        x.__class__ = v.level.cls
    elif isinstance(v, Tensor) and v.level is not x.level:
        v = bare(v, x.level)
    seen = generation(x)
    x.level.write(x, path, v)
    x.store = seen + 1


def writable(t: Tensor) -> np.ndarray[Any, Any]:
    """The tensor's own buffer, safe to write: copied first if the tape or a view still holds it.

    For optimizers: `w = writable(p); w -= lr * g`.
    """
    d = t.data
    if d.__class__ is not ndarray or t.level is not trace.EAGER or lens(t) is not None:
        raise LevelError("writable(tensor)", "only an eager tensor has a buffer of its own")
    if trace.MODES and (tracer := getattr(trace.HERE, "trace", None)) is not None:
        tracer.wrote(t)
        d = t.data
        if d.__class__ is not ndarray:
            raise UnsupportedError(
                "writable(tensor)", "NumPy code that writes a buffer is not recorded",
                operands=[("tensor", t)], fix="with wg.no_grad(): tensor -= step",
            )  # fmt: skip
    t.data = None
    if getrefcount(d) > SOLE or d.base is not None or not d.flags.writeable:
        d = d.copy(order="K")
    t.data = d
    t.store = generation(t) + 1
    return d
