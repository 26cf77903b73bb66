"""Composite operations written in smaller ones, which a backend can fuse.

`COMPOSITE` is the table: class of operations -> the same value as a composition, a function of the
operation and its operands, or None where the line had better stay. Each computes what the
operation's `impl` computes, by the same steps in the same order, so that the values are the same to
the bit over operands in row-major order, but for

    Normalize over the last axis alone, whose mean square is a sum in place of a dot product, and
    Norm and SquaredNorm of all axes (`whole`), for the same reason, and
    Attention, whose products are taken a tile at a time:

there a sum of n terms is rounded in another order, a few ulps of the sum of their sizes.
`POINTWISE` does the same for elementwise operations that are a few calls of NumPy; bit-exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...graph import Graph, Line, Var
from ...ops import elementwise as e
from ...ops.attention import Attention
from ...ops.contract import Affine, matmul
from ...ops.dropout import Dropout
from ...ops.fused import (
    CrossEntropy,
    LogSoftmax,
    LogSumExp,
    MeanCrossEntropy,
    Norm,
    Softmax,
    SquaredNorm,
    check_labels,
)
from ...ops.linear import Reshape, Sum, Transpose, drop
from ...ops.losses import SoftCrossEntropy
from ...ops.norm import Normalize
from ...ops.order import Max
from ...types import Array, Aval, shape_of
from .rewriting import Rewriter, rewrite

__all__ = ["COMPOSITE", "POINTWISE", "expand", "hold_labels", "label_checks"]

DEPTH = 4
Table = Mapping[Any, Callable[..., Any]]


def expand(graph: Graph, table: Table | None = None) -> Graph:
    """Lines of composite operations written as compositions, by `table` (default: COMPOSITE).

    A cross-entropy no longer refuses a label that names no class: the caller asks `label_checks`
    first, and holds those inputs to their ranges with `hold_labels` before each run. One whose
    labels are computed by the graph stays.

    >>> import numpy as np
    >>> from wengert.ops.fused import Softmax
    >>> from wengert.transforms.staging import stage
    >>> print(expand(stage(lambda x: Softmax(0)(x), np.ones(3)).graph))
    in   %0: float64[3]
    %1: float64[1] = Max(axes=(0,), keepdims=True)(%0)
    %2: bool[1] = isfinite(%1)
    %3: float64[1] = where(%2, %1, 0.0)
    %4: float64[3] = sub(%0, %3)
    %5: float64[3] = exp(%4)
    %6: float64[1] = Sum(axes=(0,), keepdims=True)(%5)
    %7: float64[3] = div(%5, %6)
    out  %7
    """
    entries = COMPOSITE if table is None else table
    labels = label_sources(graph)

    def expanded(r: Rewriter, line: Line, xs: tuple[Any, ...]) -> Any:
        entry = entries.get(line.op) or entries.get(type(line.op))
        if entry is None or not any(isinstance(x, Var) for x in xs):
            return None
        if type(line.op) in LABELLED and not known_labels(line, labels):
            return None
        y = entry(line.op, *xs)
        if y is None or Aval.of(y) != line.outputs[0].aval:  # of mixed dtypes, it rounds elsewhere
            return None
        done.append(line)
        return y

    for _ in range(DEPTH):  # a composition may hold another
        done: list[Line] = []
        graph = rewrite(graph, expanded)
        if not done:
            break
        labels = label_sources(graph)
    return graph


# ------------------------------------------------------------------ labels


LABELLED = (CrossEntropy, MeanCrossEntropy)


def label_sources(graph: Graph) -> dict[int, tuple[int, int | None]]:
    """For variables that are inputs, rearranged or not: (which input, the number it may hold).

    Such a number is no label, as where(b != -100, b, 0) has 0 in its place; None if there is none.
    """
    source: dict[int, tuple[int, int | None]] = {v.n: (i, None) for i, v in enumerate(graph.inputs)}
    others: dict[int, tuple[int, int]] = {}  # where a variable is not a number
    for line in graph.lines:
        xs = [x.n if isinstance(x, Var) else None for x in line.inputs]
        y = line.outputs[0].n
        if type(line.op) in (Reshape, Transpose) or line.op is e.copy:
            if xs[0] in source:
                source[y] = source[xs[0]]
        elif line.op is e.ne and xs[0] is not None and isinstance(line.inputs[1], int | np.integer):
            others[y] = xs[0], int(line.inputs[1])
        elif line.op is e.where and xs[0] in others and xs[1] in source and xs[2] is None:
            (b, number), (i, spared) = others[xs[0]], source[xs[1]]
            if b == xs[1] and spared is None and np.array_equal(line.inputs[2], 0):
                source[y] = i, number
    return source


def known_labels(line: Line, source: dict[int, tuple[int, int | None]]) -> bool:
    """Whether the labels can be held to their range outside the graph, or are right already."""
    logits, labels = line.inputs
    shape = shape_of(logits)
    if not shape or shape_of(labels) != shape[:-1] or labels.dtype.kind not in "iu":
        return False
    if isinstance(labels, Var):
        return labels.n in source
    return bool(np.all((labels >= 0) & (labels < shape[-1])))


def label_checks(graph: Graph) -> list[tuple[int, int, int | None, Line]]:
    """What stands for every refusal of a cross-entropy that `expand` takes away.

    (input, number of classes, a number that it may hold besides or None, line)
    """
    source = label_sources(graph)
    found = []
    for line in graph.lines:
        if type(line.op) in LABELLED and known_labels(line, source):
            logits, labels = line.inputs
            if isinstance(labels, Var):
                i, spared = source[labels.n]
                found.append((i, shape_of(logits)[-1], spared, line))
    return found


def hold_labels(
    checks: Sequence[tuple[int, int, int | None, Line]], arrays: Sequence[Array]
) -> None:
    """Raise the operation's own error if an input holds a label that names no class.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> loss = lambda a, b: CrossEntropy()(a, b)
    >>> a, b = np.zeros((2, 3)), np.array([0, 3])
    >>> checks = label_checks(stage(loss, a, b).graph)
    >>> hold_labels(checks, [a, b])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    wengert.AxisError: [WG103] cross_entropy(logits, labels): label 3 is outside the 3 classes...
    """
    for i, classes, spared, line in checks:
        b = arrays[i] if spared is None else np.where(arrays[i] == spared, 0, arrays[i])
        if not b.size or (b.max() < classes and b.min() >= 0):
            continue
        logits, labels = (Aval.of(x.aval if isinstance(x, Var) else x) for x in line.inputs)
        a = np.broadcast_to(np.zeros((), logits.dtype), logits.shape)
        b = b.reshape(labels.shape)
        try:
            check_labels(a, b)
        except (ValueError, TypeError, IndexError) as error:
            raise line.op.refusal((a, b), error) from error


# ------------------------------------------------------------------ compositions


def floating(x: Array) -> bool:
    return x.dtype.kind == "f" and 0 not in shape_of(x)


def shifted(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """(m, e^(x - m), their sum) with m = max x, or 0 where that is not finite."""
    m = Max(axes, True)(x)
    m = e.where(e.isfinite(m), m, 0.0)
    y = e.exp(e.sub(x, m))
    return m, y, Sum(axes, True)(y)


def without(y: Array, axes: tuple[int, ...]) -> Array:
    """y without its axes of length 1 there."""
    return Reshape(drop(shape_of(y), axes))(y)


def affine(op: Affine, a: Array, b: Array, c: Array) -> Any:
    return e.add(matmul(a, b), c)


def softmax(op: Softmax, x: Array) -> Any:
    if not floating(x):
        return None
    _, y, s = shifted(x, (op.axis,))
    return e.div(y, s)


def log_softmax(op: LogSoftmax, x: Array) -> Any:
    if not floating(x):
        return None
    m, _, s = shifted(x, (op.axis,))
    return e.sub(e.sub(x, m), e.log(s))


def log_sum_exp(op: LogSumExp, x: Array) -> Any:
    if not floating(x):
        return None
    m, _, s = shifted(x, op.axes)
    y = e.add(m, e.log(s))
    return y if op.keepdims else without(y, op.axes)


def cross_entropy(op: Any, a: Array, b: Array) -> Any:
    if not floating(a):
        return None
    last = len(shape_of(a)) - 1
    m, _, s = shifted(a, (last,))
    chosen = e.eq(Reshape((*shape_of(b), 1))(b), np.arange(shape_of(a)[-1]))
    picked = Sum((last,), True)(e.where(chosen, a, 0.0))
    return without(e.add(e.log(s), e.sub(m, picked)), (last,))


def mean_cross_entropy(op: MeanCrossEntropy, a: Array, b: Array) -> Any:
    if a.dtype.itemsize < 4:  # NumPy takes the mean of half precision in single
        return None
    rows = cross_entropy(op, a, b)
    if rows is None:
        return None
    axes = tuple(range(len(shape_of(b))))
    return e.div(Sum(axes, False)(rows), float(math.prod(shape_of(b))))


def soft_cross_entropy(op: SoftCrossEntropy, a: Array, b: Array) -> Any:
    if not floating(a) or b.dtype.kind != "f":
        return None
    last = len(shape_of(a)) - 1
    m, _, s = shifted(a, (last,))
    away = e.add(e.sub(m, a), e.log(s))
    return Sum((last,), False)(e.mul(e.where(e.ne(b, 0), away, 0.0), b))


def average(x: Array, axes: tuple[int, ...]) -> Array:
    """The mean over axes, which stay as axes of length 1."""
    n = math.prod([shape_of(x)[a] for a in axes])
    for a in axes:
        x = Sum((a,), True)(x)
    return e.mul(x, 1.0 / max(n, 1))


def normalize(op: Normalize, x: Array) -> Any:
    if x.dtype.kind != "f":
        return None
    c = e.sub(x, average(x, op.axes)) if op.center else x
    root = e.sqrt(e.add(average(e.mul(c, c), op.axes), op.eps))
    return e.mul(c, e.div(1.0, root))


def dropout(op: Dropout, a: Array, b: Array) -> Any:
    if a.dtype.kind != "f" or b.dtype != bool:
        return None
    return e.where(b, e.mul(a, op.scale), 0.0)


def norm(op: Any, x: Array) -> Any:
    """The root of the sum of squares, and the scaled one where squares over- or underflow."""
    if not floating(x):
        return None
    y = e.sqrt(Sum(op.axes, True)(e.mul(x, x)))
    info = np.finfo(y.dtype)
    tiny = float(np.sqrt(info.tiny) / info.eps)
    size = e.abs(x)
    top = Max(op.axes, True)(size)
    unit = e.where(e.logical_and(e.gt(top, 0.0), e.isfinite(top)), top, 1.0)
    scaled = e.mul(unit, e.sqrt(Sum(op.axes, True)(e.square(e.div(size, unit)))))
    y = e.where(e.logical_and(e.gt(y, tiny), e.lt(y, math.inf)), y, scaled)
    return y if op.keepdims else without(y, op.axes)


def squared_norm(op: SquaredNorm, x: Array) -> Any:
    y = norm(op, x)
    return None if y is None else e.square(y)


def attention(op: Attention, q: Array, k: Array, v: Array, b: Array) -> Any:
    """As its pullback has it, so that both share the weights."""
    return matmul(op.weights(q, k, b), v)


COMPOSITE: Table = {
    Affine: affine,
    Attention: attention,
    Softmax: softmax,
    LogSoftmax: log_softmax,
    LogSumExp: log_sum_exp,
    CrossEntropy: cross_entropy,
    MeanCrossEntropy: mean_cross_entropy,
    SoftCrossEntropy: soft_cross_entropy,
    Normalize: normalize,
    Dropout: dropout,
    Norm: norm,
    SquaredNorm: squared_norm,
}


# ------------------------------------------------------------------ point by point


def by_cosh2(op: Any, a: Array, b: Array) -> Any:
    c = e.cosh(b)
    return e.div(e.div(a, c), c)


def abs2(op: Any, x: Array) -> Any:
    return e.square(e.abs(x))


def relu(op: Any, x: Array) -> Any:
    return e.maximum(x, 0)


def elu(op: Any, x: Array) -> Any:
    return e.where(e.gt(x, 0), x, e.expm1(e.minimum(x, 0))) if x.dtype.kind == "f" else None


def log_sigmoid(op: Any, x: Array) -> Any:
    return e.neg(e.softplus(e.neg(x))) if x.dtype.kind == "f" else None


def turn(op: Any, a: Array, b: Array) -> Any:
    return e.div(e.cosine(b, a), e.hypot(a, b))


POINTWISE: Table = {
    e.by_cosh2: by_cosh2,
    e.abs2: abs2,
    e.relu: relu,
    e.elu: elu,
    e.log_sigmoid: log_sigmoid,
    e.turn: turn,
}
