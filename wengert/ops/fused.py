"""Compositions kept as one operation for speed and accuracy; the laws hold each to its parts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import General, op
from ..structural import broadcast
from ..trace import OPS, Tensor, bind, looked, make
from ..types import Array, Aval, Shape, shape_of
from .contract import affine
from .elementwise import abs, abs2, conj, eq, exp, unit_vector, where
from .linear import Reshape, Sum, after, drop, keep

__all__ = [
    "CrossEntropy",
    "LogSoftmax",
    "LogSumExp",
    "MeanCrossEntropy",
    "Norm",
    "Softmax",
    "affine",
]


def shifted_exp(x: Array, axis: Any) -> tuple[Array, Array, Array]:
    """(m, e^(x - m), their sum) with m = max x, so that nothing overflows. Plain arrays."""
    m = np.maximum.reduce(x, axis=axis, keepdims=True)
    if not np.isfinite(m).all():
        m = np.where(np.isfinite(m), m, 0)
    e = np.exp(x - m)
    return m, e, np.add.reduce(e, axis=axis, keepdims=True)


@op
class LogSumExp(General):
    """y = log sum_i e^(x_i),  i over `axes`;  computed as m + log sum e^(x - m),  m = max x.

    gx = gy softmax(x) = gy e^(x - y).
    """

    axes: tuple[int, ...]
    keepdims: bool

    examples: ClassVar[Any] = [(((0,), False), (3, 4)), (((0, 1), True), (2, 3))]

    def impl(self, x: Array) -> Array:
        with np.errstate(divide="ignore", over="ignore"):
            m, _, s = shifted_exp(x, self.axes)
            y = m + np.log(s)
        return y if self.keepdims else y.reshape(drop(x.shape, self.axes))[()]

    def infer(self, x: Aval) -> Aval:
        shape = keep(x.shape, self.axes) if self.keepdims else drop(x.shape, self.axes)
        return Aval(shape, np.exp(np.empty(0, x.dtype)).dtype)

    def _weights(self, x: Array, y: Array) -> Array:
        y = y if self.keepdims else Reshape(keep(shape_of(x), self.axes))(y)
        return exp(x - where(eq(y, -np.inf), 0.0, y).astype(x.dtype))

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        return Sum(self.axes, self.keepdims)(dx * self._weights(x, y))

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        g = g if self.keepdims else Reshape(keep(shape_of(x), self.axes))(g)
        return g * self._weights(x, y)

    def batch(self, xs: Any, dims: Any) -> Array:
        return LogSumExp(after(self.axes), self.keepdims)(*xs)


@op
class Softmax(General):
    """y_i = e^(x_i) / sum_j e^(x_j) along `axis`.

    The Jacobian diag(y) - y y^T is symmetric:  gx = y (gy - <gy, y>),  without forming it.
    """

    axis: int

    examples: ClassVar[Any] = [((0,), (3, 4)), ((1,), (2, 3))]

    def impl(self, x: Array) -> Array:
        _, e, s = shifted_exp(x, self.axis)
        return e / s

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.exp(np.empty(0, x.dtype)).dtype)

    def jvp(self, dx: Array, y: Array) -> Array:
        return y * (dx - Sum((self.axis,), True)(dx * y))

    def vjp(self, g: Array, y: Array) -> Array:
        return self.jvp(g, y)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Softmax(self.axis + 1)(*xs)


@op
class LogSoftmax(General):
    """y = x - logsumexp(x) along `axis`.   gx = gy - e^y sum gy."""

    axis: int

    examples: ClassVar[Any] = [((0,), (3, 4)), ((1,), (2, 3))]

    def impl(self, x: Array) -> Array:
        m, _, s = shifted_exp(x, self.axis)
        return (x - m) - np.log(s)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.exp(np.empty(0, x.dtype)).dtype)

    def jvp(self, dx: Array, y: Array) -> Array:
        return dx - Sum((self.axis,), True)(exp(y) * dx)

    def vjp(self, g: Array, y: Array) -> Array:
        return g - exp(y) * Sum((self.axis,), True)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return LogSoftmax(self.axis + 1)(*xs)


@op
class CrossEntropy(General):
    """Cross-entropy of logits with integer labels:  y = logsumexp(a) - a[b], over the last axis.

    With y_hat = softmax(a) and the label as a one-hot vector,  ga = gy (y_hat - onehot(b)).
    """

    args = ("a", "b")
    shown = ("logits", "labels")

    examples: ClassVar[Any] = [((), (4, 3), np.array([0, 2, 1, 1])), ((), (3,), np.array(2))]

    def __repr__(self) -> str:
        return "cross_entropy"

    def impl(self, a: Array, b: Array) -> Array:
        check_labels(a, b)
        m, _, s = shifted_exp(a, -1)
        picked = np.take_along_axis(a, b[..., None], -1)
        return (np.log(s) + (m - picked))[..., 0]

    def infer(self, a: Aval, b: Aval) -> Aval:
        check_kinds(a, b)
        return Aval(b.shape, a.dtype)

    def jvp_a(self, da: Array, a: Array, b: Array) -> Array:
        picked = da * one_hot(b, shape_of(a)[-1], da.dtype)
        return Sum((len(shape_of(a)) - 1,), False)(Softmax(len(shape_of(a)) - 1)(a) * da - picked)

    def vjp_a(self, g: Array, a: Array, b: Array) -> Array:
        k = shape_of(a)[-1]
        g = Reshape((*shape_of(b), 1))(g)
        return g * (Softmax(len(shape_of(a)) - 1)(a) - one_hot(b, k, a.dtype))

    def batch(self, xs: Any, dims: Any) -> Array:
        a, b = xs
        if dims[0] is None:
            a = broadcast(a, (shape_of(b)[0], *shape_of(a)))
        if dims[1] is None:
            b = broadcast(b, (shape_of(a)[0], *shape_of(b)))
        return cross_entropy_rows(a, b)

    @classmethod
    def title(cls) -> str:
        return "cross_entropy"

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return str(error), None, labels_fix(*xs)


cross_entropy_rows = CrossEntropy()


def check_kinds(a: Any, b: Any) -> None:
    if not a.shape or b.shape != a.shape[:-1]:
        raise ValueError(
            f"labels need the shape of the logits without the last axis, {list(a.shape[:-1])}"
        )
    if a.dtype.kind == "c":
        raise TypeError("the logits are real")
    if b.dtype.kind not in "iu":
        raise TypeError("labels are integers, the index of the right class")


def check_labels(a: Array, b: Array) -> None:
    check_kinds(a, b)
    if b.size and (b.max() >= a.shape[-1] or b.min() < 0):
        bad = b.max() if b.max() >= a.shape[-1] else b.min()
        raise IndexError(f"label {bad} is outside the {a.shape[-1]} classes")


def check_rows(rows: Any) -> None:
    if not rows.size:
        raise ValueError("there is nothing to take the mean of: no examples")


def labels_fix(a: Array, b: Array) -> str | None:
    """What to write for labels that are one-hot, floats, a column, or counted from 1."""
    shape = shape_of(a)
    if shape_of(b) == shape:
        return "{labels}.argmax(-1) if each row is one-hot; {labels}.astype(float) as probabilities"
    if shape_of(b) == (*shape[:-1], 1):
        return "{labels}.squeeze(-1)"
    if shape_of(b) != shape[:-1]:
        return None
    if b.dtype.kind not in "iuf" or not b.size:
        return None
    if b.dtype.kind == "f":
        whole = bool(np.all(b == np.round(b)))
        return "{labels}.astype(int)" if whole else None
    low, high, k = int(b.min()), int(b.max()), shape[-1]
    fix = f"labels count from 0 to {k - 1}"
    if low == 1 and high == k:
        return f"{fix}: {{labels}} - 1"
    return (
        f"{fix}; logits for {high + 1} classes need a last axis of {high + 1}" if low >= 0 else fix
    )


def one_hot(b: Array, k: int, dtype: Any) -> Array:
    return eq(Reshape((*shape_of(b), 1))(b), np.arange(k)).astype(dtype)


@op
class MeanCrossEntropy(General):
    """Mean over all rows of the cross-entropy of logits with integer labels.

    y = mean_i(logsumexp(a_i) - a_i[b_i]);   ga = gy (softmax(a) - onehot(b)) / n.
    """

    args = ("a", "b")
    shown = ("logits", "labels")

    examples: ClassVar[Any] = [
        ((), (4, 3), np.array([0, 2, 1, 1])),
        ((), (2, 2, 3), np.array([[0, 2], [1, 1]])),
    ]

    def __repr__(self) -> str:
        return "mean_cross_entropy"

    def impl(self, a: Array, b: Array) -> Array:
        rows = cross_entropy_rows.impl(a, b)
        check_rows(rows)
        return np.mean(rows)

    def infer(self, a: Aval, b: Aval) -> Aval:
        check_rows(cross_entropy_rows.infer(a, b))
        return Aval((), a.dtype)

    def jvp_a(self, da: Array, a: Array, b: Array) -> Array:
        dy = cross_entropy_rows.jvp_a(da, a, b)
        return Sum(tuple(range(len(shape_of(dy)))), False)(dy) / count(b)

    def vjp_a(self, g: Array, a: Array, b: Array) -> Array:
        return cross_entropy_rows.vjp_a(broadcast(g / count(b), shape_of(b)), a, b)

    def batch(self, xs: Any, dims: Any) -> Array:
        rows = cross_entropy_rows.batch(xs, dims)
        axes = tuple(range(1, len(shape_of(rows))))
        n = np.prod([shape_of(rows)[i] for i in axes])
        return Sum(axes, False)(rows) / n

    @classmethod
    def title(cls) -> str:
        return "cross_entropy"

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return str(error), None, labels_fix(*xs)


mean_cross_entropy = MeanCrossEntropy()


def count(b: Array) -> int:
    return int(np.prod(shape_of(b)))


@op
class Norm(General):
    """Euclidean length:  y = sqrt(sum |x_i|^2),  i over `axes`, scaled against overflow.

    gx = gy x / y, and the subgradient 0 at the origin. There the next order does not exist: nan.
    """

    axes: tuple[int, ...]
    keepdims: bool
    whole: bool = False  # all axes, added up as one dot product, as np.linalg.norm(x) does

    examples: ClassVar[Any] = [
        (((0,), False), (3, 4)),
        (((0, 1), True), (2, 3)),
        (((0, 1), False, True), (2, 3)),
    ]

    def impl(self, x: Array) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            if self.whole and x.ndim == len(self.axes):
                v = x.ravel(order="K")
                s = v.real.dot(v.real) + v.imag.dot(v.imag) if v.dtype.kind == "c" else v.dot(v)
                y = np.sqrt(s).reshape((1,) * x.ndim)
            else:
                s = np.real(np.conjugate(x) * x)
                y = np.sqrt(np.add.reduce(s, axis=self.axes, keepdims=True))
            info = np.finfo(y.dtype)
            tiny = np.sqrt(info.tiny) / info.eps  # below it squares have lost digits
            if not ((y > tiny) & (y < np.inf)).all():
                y = np.where((y > tiny) & (y < np.inf), y, self._scaled(x))
        return y if self.keepdims else y.reshape(drop(x.shape, self.axes))[()]

    def _scaled(self, x: Array) -> Array:
        size = np.abs(x)
        top = np.maximum.reduce(size, axis=self.axes, keepdims=True, initial=0)
        unit = np.where((top > 0) & np.isfinite(top), top, 1)
        return unit * np.sqrt(np.add.reduce(np.square(size / unit), axis=self.axes, keepdims=True))

    def infer(self, x: Aval) -> Aval:
        shape = keep(x.shape, self.axes) if self.keepdims else drop(x.shape, self.axes)
        return Aval(shape, np.sqrt(np.abs(np.empty(0, x.dtype))).dtype)

    def _kept(self, v: Array, shape: Shape) -> Array:
        return v if self.keepdims else Reshape(keep(shape, self.axes))(v)

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        along = dx * conj(unit_vector(x, self._kept(y, shape_of(x))))
        return OPS["real"](Sum(self.axes, self.keepdims)(along))

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        shape = shape_of(x)
        return self._kept(g, shape) * conj(unit_vector(x, self._kept(y, shape)))

    def batch(self, xs: Any, dims: Any) -> Array:
        return Norm(after(self.axes), self.keepdims)(*xs)


@op
class SquaredNorm(General):
    """y = |x|^2 as the square of `Norm`, to the bit;  gx = 2 gy conj(x), right at the origin too.

    Its derivatives know nothing of the root in between, which has none at 0.
    """

    axes: tuple[int, ...]
    keepdims: bool
    whole: bool = False

    examples: ClassVar[Any] = [(((0,), False), (3, 4)), (((0, 1), True), np.zeros((2, 2)))]

    def impl(self, x: Array) -> Array:
        return np.square(Norm(self.axes, self.keepdims, self.whole).impl(x))

    def infer(self, x: Aval) -> Aval:
        return Norm(self.axes, self.keepdims, self.whole).infer(x)

    def jvp(self, dx: Array, x: Array) -> Array:
        along = Sum(self.axes, self.keepdims)(dx * conj(x)) * 2
        return OPS["real"](along) if along.dtype.kind == "c" else along

    def vjp(self, g: Array, x: Array) -> Array:
        g = g if self.keepdims else Reshape(keep(shape_of(x), self.axes))(g)
        return g * (conj(x) * 2)

    def batch(self, xs: Any, dims: Any) -> Array:
        return SquaredNorm(after(self.axes), self.keepdims)(*xs)


class Length:
    """What a tensor is the length of, kept in its `store`: |x|^2 is smooth where |x| is not."""

    __slots__ = ("norm", "x")

    def __init__(self, norm: Any, x: Tensor) -> None:
        x = looked(x)
        self.norm = norm
        self.x = make(x.data, x.node, x.level, type(x))  # as it is now, whatever is written later


def length(norm: Any, x: Any) -> Any:
    """norm(x), which remembers x."""
    y = bind(norm, x)
    if isinstance(y, Tensor) and y.recorded():
        y.store = Length(norm, x)
    return y


def squared(y: Tensor) -> Any:
    """y^2 if y is the length of something, by way of that; None for any other tensor."""
    known = getattr(y, "store", None)
    if known.__class__ is Length:
        n = known.norm
        if n is abs:
            return bind(abs2, known.x)
        return bind(SquaredNorm(n.axes, n.keepdims, n.whole), known.x)
    node = y.node if y.__class__ is Tensor else None
    if node is not None and node.rule is not None and node.rule.op is abs and node.res:
        x = node.res[0]
        x = x.unpack() if hasattr(x, "unpack") else x  # kept elsewhere
        return bind(abs2, make(x, node.parents[0], y.level))
    return None
