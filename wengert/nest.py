"""Loop nests over labelled axes: what a kernel computes, as pure data.

    out[o...] = combine over the other labels of body(load_0, load_1, ...)

`loads[i]` names the label that runs along each axis of operand i; None is an axis of length 1, read
at index 0. With body "mul" and combine "add" this is einsum; with another body, a fused kernel.
Every backend reads this one structure, and `evaluate` is the slow, obvious reference for them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
}
START = {"add": 0, "mul": 1}


class Nest(NamedTuple):
    """One loop nest. `sizes[l]` is the extent of label l; `out` names the labels of the result."""

    sizes: tuple[int, ...]
    loads: tuple[tuple[int | None, ...], ...]
    out: tuple[int, ...]
    combine: str | None = None  # None when no label is reduced
    body: str = "id"  # the name of an elementwise operation, or "id"

    @property
    def reduced(self) -> tuple[int, ...]:
        return tuple(l for l in range(len(self.sizes)) if l not in self.out)

    def __str__(self) -> str:
        def at(labels: tuple[int | None, ...]) -> str:
            return "[" + ",".join("0" if l is None else chr(105 + l) for l in labels) + "]"

        args = ", ".join(f"x{n}{at(labels)}" for n, labels in enumerate(self.loads))
        ranges = " ".join(f"{chr(105 + l)}<{n}" for l, n in enumerate(self.sizes))
        body = args if self.body == "id" else f"{self.body}({args})"
        return f"y{at(self.out)} {self.combine or ''}= {body}  for {ranges}"


def verify(nest: Nest, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Raise ValueError unless the nest is well formed and its loads stay inside the operands."""
    labels = range(len(nest.sizes))
    if any(l not in labels for l in nest.out) or len(set(nest.out)) != len(nest.out):
        raise ValueError(f"out {nest.out} is not a set of labels of {nest}")
    if (nest.combine is None) != (not nest.reduced):
        raise ValueError(f"reduced labels {nest.reduced} and combine {nest.combine!r} disagree")
    if nest.combine is not None and nest.combine not in COMBINE:
        raise ValueError(f"unknown combine {nest.combine!r}")
    if len(shapes) != len(nest.loads):
        raise ValueError(f"{len(shapes)} operands for {len(nest.loads)} loads")
    for shape, load in zip(shapes, nest.loads, strict=True):
        if len(shape) != len(load):
            raise ValueError(f"an operand of shape {shape} is read with {len(load)} labels")
        for n, l in zip(shape, load, strict=True):
            if l is None and n != 1:
                raise ValueError(f"an axis of length {n} is read at index 0 alone")
            if l is not None and (l not in labels or nest.sizes[l] > n):
                raise ValueError(f"label {l} runs past an axis of length {n}")


def evaluate(
    nest: Nest, operands: tuple[Any, ...], bodies: Mapping[str, Callable[..., Any]]
) -> Any:
    """The slow, obvious meaning of a nest: one Python loop per label.

    >>> matmul = Nest((2, 2, 3), ((0, 2), (2, 1)), (0, 1), "add", "mul")
    >>> a, b = np.arange(6.0).reshape(2, 3), np.ones((3, 2))
    >>> evaluate(matmul, (a, b), {"mul": np.multiply})
    array([[ 3.,  3.],
           [12., 12.]])
    """
    verify(nest, tuple(np.shape(x) for x in operands))
    body: Callable[..., Any] = (lambda x: x) if nest.body == "id" else bodies[nest.body]
    out: dict[tuple[int, ...], Any] = {}
    dtype = None
    for point in itertools.product(*(range(n) for n in nest.sizes)):
        loads = [
            x[tuple(0 if l is None else point[l] for l in load)] if np.ndim(x) else x
            for x, load in zip(operands, nest.loads, strict=True)
        ]
        value: Any = body(*loads)
        dtype = np.asarray(value).dtype
        key = tuple(point[l] for l in nest.out)
        out[key] = COMBINE[nest.combine](out[key], value) if nest.combine and key in out else value
    shape = tuple(nest.sizes[l] for l in nest.out)
    if dtype is None:
        with np.errstate(all="ignore"):
            empty = [np.zeros((), getattr(x, "dtype", float)) for x in operands]
            dtype = np.asarray(body(*empty)).dtype
    y = np.full(shape, START.get(nest.combine or "", 0), dtype)
    for key, value in out.items():
        y[key] = value
    return y
