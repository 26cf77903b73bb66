"""Losses kept as one operation for speed and accuracy; the laws hold each to its parts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import GradientWarning, warned
from ..primitive import Elementwise, General, align, op
from ..structural import unbroadcast
from ..trace import bind
from ..types import Array, Aval, Shape, dtype_of, shape_of
from . import accurate
from .elementwise import eq, log, log1p, logical_and, ne, sigmoid, where
from .fused import LogSumExp, Softmax, cross_entropy_rows, mean_cross_entropy, one_hot
from .linear import Reshape, Sum

__all__ = [
    "SoftCrossEntropy",
    "bce_logits",
    "general_cross_entropy",
    "times_log",
    "times_log1m",
]


def _times_log(a: Array, b: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(a, 0) & np.equal(b, 0), 0, a * np.log(b))[()]


def _times_log1m(a: Array, b: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(a, 0) & np.equal(b, 1), 0, a * np.log1p(-b))[()]


def _bce_logits(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore"):
        off = np.where(np.equal(b, 0), 0, b * accurate.softplus(-a))
        on = np.where(np.equal(b, 1), 0, (1 - b) * accurate.softplus(a))
    return (off + on)[()]


def ratio(a: Array, b: Array) -> Array:
    """a / b, and 0 / 0 = 0."""
    none = logical_and(eq(a, 0), eq(b, 0))
    return where(none, 0.0, a / where(none, 1.0, b))


times_log = Elementwise(
    "times_log", _times_log,
    lambda d, b: d * log(b), lambda d, a, b: d * ratio(a, b),
)  # fmt: skip
times_log1m = Elementwise(
    "times_log1m", _times_log1m,
    lambda d, b: d * log1p(-b), lambda d, a, b: d * -ratio(a, 1 - b),
)  # fmt: skip
bce_logits = Elementwise(  # sigmoid(a) - b loses its digits where a is large and b is 1
    "bce_logits", _bce_logits,
    lambda d, a, b: d * ((1 - b) * sigmoid(a) - b * sigmoid(-a)), lambda d, a: d * -a,
)  # fmt: skip


@op
class SoftCrossEntropy(General):
    """Cross-entropy of logits with weights on all classes:  y = sum_k b_k (logsumexp(a) - a_k).

    Over the last axis; b_k = 0 leaves a class out, whatever its logit is.

        ga = gy (sum(b) softmax(a) - b),        gb = gy (logsumexp(a) - a)

    Shapes: a `[.., k]`, b broadcastable to that, y `[..]`.
    """

    args = ("a", "b")
    shown = ("logits", "targets")
    examples: ClassVar[Any] = [
        ((), (4, 3), np.array([0.2, 0.5, 0.3])),
        ((), (2, 2, 3), (2, 2, 3)),
        ((), (3,), (3,)),
    ]

    def impl(self, a: Array, b: Array) -> Array:
        _shape(a.shape, b.shape)
        m = np.maximum.reduce(a, axis=-1, keepdims=True)
        m = np.where(np.isfinite(m), m, 0)
        with np.errstate(divide="ignore", over="ignore"):
            total = np.log(np.add.reduce(np.exp(a - m), axis=-1, keepdims=True))
        away = (m - a) + total
        return np.add.reduce(np.where(np.not_equal(b, 0), away, 0) * b, axis=-1)

    def infer(self, a: Aval, b: Aval) -> Aval:
        return Aval(_shape(a.shape, b.shape), np.result_type(a.dtype, b.dtype))

    def _away(self, a: Array) -> Array:
        return LogSumExp((len(shape_of(a)) - 1,), True)(a) - a

    def jvp_a(self, da: Array, a: Array, b: Array) -> Array:
        last = len(shape_of(a)) - 1
        mean = Sum((last,), True)(Softmax(last)(a) * da)
        return Sum((last,), False)(b * (mean - da))

    def jvp_b(self, db: Array, a: Array, b: Array) -> Array:
        return Sum((len(shape_of(a)) - 1,), False)(where(eq(db, 0.0), 0.0, self._away(a)) * db)

    def vjp_a(self, g: Array, a: Array, b: Array) -> Array:
        rank = len(shape_of(a))
        total = Sum((len(shape_of(b)) - 1,), True)(b)
        g = Reshape((*shape_of(g), 1))(g)
        return g * (total * Softmax(rank - 1)(a) - b)

    def vjp_b(self, g: Array, a: Array, b_shape: Shape) -> Array:
        return unbroadcast(Reshape((*shape_of(g), 1))(g) * self._away(a), b_shape)

    def batch(self, xs: Any, dims: Any) -> Array:
        a, b = align(xs, dims)
        if dims[0] is None:
            a = a + 0.0 * b
        return self(a, b)

    @classmethod
    def title(cls) -> str:
        return "cross_entropy"


def _shape(a: Shape, b: Shape) -> Shape:
    if not a or np.broadcast_shapes(a, b) != a:
        raise ValueError("soft targets have the shape of the logits")
    return a[:-1]


def reached(dtype: Any, number: int | None) -> bool:
    """Whether an integer of a dtype may be this number; -100 is no uint8."""
    if number is None or dtype.kind not in "iu":
        return False
    info = np.iinfo(dtype)
    return bool(info.min <= number <= info.max)


def twice(logits: Any) -> None:
    warned(
        GradientWarning,
        "cross_entropy(logits, labels)",
        "the logits are the result of a softmax, and cross_entropy takes a softmax itself",
        operands=[("logits", logits)],
        fix="leave out the softmax: the gradients are small and training is slow with two",
    )


def general_cross_entropy(
    logits: Any,
    labels: Any,
    weight: Any,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
) -> Any:
    """Cross-entropy with options; see `cross_entropy`."""
    k = shape_of(logits)[-1]
    counted: Any = None
    if dtype_of(labels).kind == "f" and shape_of(labels) == shape_of(logits):  # type: ignore[union-attr]
        soft = labels
        if label_smoothing:
            soft = soft * (1 - label_smoothing) + label_smoothing / k
        rows = bind(SoftCrossEntropy(), logits, soft if weight is None else soft * weight)
    else:
        here: Any = None
        safe = labels
        if reached(labels.dtype, ignore_index):
            here = ne(labels, ignore_index)
            safe = where(here, labels, 0).astype(labels.dtype)
            logits = where(Reshape((*shape_of(here), 1))(here), logits, 0.0)  # inf and nan too
        if label_smoothing:
            target = one_hot(safe, k, logits.dtype) * (1 - label_smoothing) + label_smoothing / k
            bind(cross_entropy_rows, logits, safe)  # refuses labels that do not fit
            rows = bind(SoftCrossEntropy(), logits, target if weight is None else target * weight)
        elif reduction == "mean" and weight is None and here is None:
            return mean_cross_entropy(logits, labels)
        else:
            rows = cross_entropy_rows(logits, safe)
        own = None if weight is None else weight[safe]
        if own is not None and not label_smoothing:
            rows = rows * own
        if here is not None:
            rows = where(here, rows, 0.0)
            counted = where(here, rows.dtype.type(1) if own is None else own, rows.dtype.type(0))
        else:
            counted = own
    if reduction == "none":
        return rows
    axes = tuple(range(len(shape_of(rows))))
    total = Sum(axes, False)(rows)
    if reduction == "sum":
        return total
    n = int(np.prod(shape_of(rows))) if counted is None else Sum(axes, False)(counted)
    return total / n
