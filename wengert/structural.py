"""Structural zeros: "no gradient here", carried instead of multiplied.

The branch that `where` did not take, an index that was not read and a boolean factor send no
gradient at all, which is not 0 times whatever stands there: 0 * inf is nan. A `Masked` cotangent
has a mask, and outside it the value is anything. Elementwise rules run unchanged and hand the mask
on; the first operation that is not elementwise fills the holes with zeros. An `At` cotangent is
zero except where one indexing read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .trace import OPS, SOLE, Tensor, getrefcount, ndarray
from .types import RAW, Array, Shape, shape_of


class Masked:
    """A tangent or cotangent that exists only where `mask` is true."""

    __slots__ = ("full", "mask", "value")

    def __init__(self, value: Array, mask: Array) -> None:
        self.value, self.mask = value, mask
        self.full = False  # whether value is 0 outside of the mask

    @property
    def shape(self) -> Shape:
        return shape_of(self.value)

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    def dense(self) -> Array:
        """The value with zeros; an array keeps them, so that they are filled in once."""
        if self.full:
            return self.value
        if self.value.__class__ is ndarray is self.mask.__class__:
            own = getrefcount(self.value) <= SOLE and self.value.base is None
            self.value = filled(self.value, self.mask, own and self.value.flags.writeable)
        elif hasattr(self.value, "like"):  # a hollow one
            self.value = OPS["where"](self.mask, self.value, 0.0)
        else:  # recorded, and by each program anew
            return OPS["where"](self.mask, self.value, 0.0)
        self.full = True
        return self.value

    def even(self) -> Masked:
        """With a mask of the value's shape, to index both alike: a rule's mask may be broadcast."""
        value, mask = shape_of(self.value), shape_of(self.mask)
        if value == mask:
            return self
        shape = np.broadcast_shapes(value, mask)
        return Masked(broadcast(self.value, shape), broadcast(self.mask, shape))


BITS = {np.dtype(f"f{n}"): np.dtype(f"i{n}") for n in (2, 4, 8)}


def filled(value: Any, mask: Any, own: bool = False) -> Any:
    """value where mask is true and 0 elsewhere, whatever value is there: its bits, and -1 or 0.

    In its own memory where that is allowed.
    """
    bits = BITS.get(value.dtype)
    if bits is None or value.shape != mask.shape:
        return np.where(mask, value, 0.0)
    if own:
        whole = value.view(bits)
        np.bitwise_and(whole, -mask.view(np.int8), out=whole)
        return value
    return (value.view(bits) & -mask.view(np.int8)).view(value.dtype)


CUT = 1 << 13  # numbers of a block
LARGE = 1 << 12  # numbers from which on it pays


def chosen(mask: Any, a: Any, b: Any) -> Any:
    """np.where(mask, a, b), by bits where it pays.

    NumPy takes a branch for each number: a mask without order costs several times as long as one
    that is true throughout.
    """
    plain = mask.__class__ is ndarray is a.__class__ and mask.size >= LARGE
    if plain and mask.dtype == bool and a.shape == mask.shape and a.flags.c_contiguous:
        if b.__class__ in (float, int) and b == 0 and math.copysign(1, b) > 0 and a.dtype in BITS:
            return filled(a, mask)
        if b.__class__ is ndarray and b.shape == a.shape and a.dtype == b.dtype == F32:
            return mixed(mask, a, b)
    return np.where(mask, a, b)


F32 = np.dtype(np.float32)


def mixed(mask: Any, a: Any, b: Any) -> Any:
    """b ^ ((a ^ b) & mask), a block at a time."""
    y, bits = np.empty(a.shape, a.dtype), BITS[a.dtype]
    lines = [x.reshape(-1) for x in (y.view(bits), a.view(bits))]
    others = np.ascontiguousarray(b).view(bits).reshape(-1), mask.reshape(-1).view(np.int8)
    for i in range(0, y.size, CUT):
        out, left, right, m = (x[i : i + CUT] for x in (*lines, *others))
        np.bitwise_xor(left, right, out=out)
        np.bitwise_and(out, np.negative(m), out=out)
        np.bitwise_xor(out, right, out=out)
    return y


class At:
    """A cotangent of shape `shape` that is zero except at the index that `op` read."""

    __slots__ = ("op", "shape", "value")

    def __init__(self, shape: Shape, op: Any, value: Array) -> None:
        self.shape, self.op, self.value = shape, op, value

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    def dense(self) -> Array:
        value = densify(self.value)
        return OPS["AddAt"](self.op)(np.zeros(self.shape, value.dtype), value)

    def masked(self) -> Masked:
        mask = np.zeros(self.shape, bool)
        if isinstance(self.value, Masked):
            mask[self.op.index] = True
            read = OPS["AddAt"](self.op)(
                np.zeros(self.shape), OPS["where"](self.value.mask, 1.0, 0.0)
            )
            return Masked(self.dense(), OPS["gt"](read, 0.0))
        mask[self.op.index] = True
        return Masked(self.dense(), mask)


class Parts:
    """The cotangents of an operation with several outputs; None where an output was not used."""

    __slots__ = ("values",)

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values

    def merge(self, other: Parts) -> Parts:
        pairs = zip(self.values, other.values)
        return Parts(tuple([b if a is None else a if b is None else plus(a, b) for a, b in pairs]))

    def dense(self) -> tuple[Any, ...]:
        return tuple([densify(v) for v in self.values])


STRUCTURED = (Masked, At, Parts)


def densify(g: Any) -> Any:
    return g.dense() if isinstance(g, STRUCTURED) else g


def masked(d: Any, mask: Array) -> Masked:
    """d where mask is true, and no gradient elsewhere."""
    if isinstance(d, Masked):
        return Masked(d.value, OPS["logical_and"](d.mask, mask))
    return Masked(d, mask)


def apply_diagonal(pull: Callable[..., Any], g: Any, res: Any, single: bool = True) -> Any:
    """A diagonal map on a structured cotangent: run it on the value, hand the mask on."""
    if isinstance(g, At):
        g = g.masked()
    if not isinstance(g, Masked):
        return pull(g, *res)
    out = pull(g.value, *res)
    if single:
        return masked(out, g.mask)
    each = {id(x): masked(x, g.mask) for x in out}  # those that are alike are filled once
    return tuple([each[id(x)] for x in out])


def plus(a: Any, b: Any) -> Any:
    """The sum of two tangents or cotangents of one value."""
    if a.__class__ is ndarray is b.__class__:
        return a + b
    if isinstance(a, Parts):
        return a.merge(b)
    if isinstance(a, At) and isinstance(b, At):
        a = a.masked()
    if isinstance(b, At) and isinstance(a, Masked):
        b = b.masked()
    elif isinstance(a, At) and isinstance(b, Masked):
        a = a.masked()
    if isinstance(a, Masked) and isinstance(b, Masked):
        return Masked(a.dense() + b.dense(), OPS["logical_or"](a.mask, b.mask))
    return densify(a) + densify(b)


def absorb(c: Any, at: At) -> Any:
    """c + at, into c's own buffer; the caller holds c alone."""
    value: Any = at.value
    mask: Any = True
    if value.__class__ is Masked and value.value.__class__ is ndarray is value.mask.__class__:
        value, mask = value.dense(), value.mask
    if isinstance(value, ndarray | np.generic):
        if c.__class__ is ndarray:
            if c.base is None and c.flags.writeable and c.dtype == value.dtype:
                at.op.add_into(c, value)
                return c
        elif c.__class__ is Masked and c.value.__class__ is ndarray is c.mask.__class__:
            own = getrefcount(c.value) <= SOLE and getrefcount(c.mask) <= SOLE
            own = own and c.mask.shape == c.value.shape
            if own and c.value.base is None is c.mask.base and c.value.flags.writeable:
                index = at.op.index
                c.value[index] = np.where(c.mask[index], c.value[index], 0)
                if mask is True:
                    c.mask[index] = True
                else:
                    np.logical_or.at(c.mask, index, mask)
                at.op.add_into(c.value, value)
                return c
    return plus(c, at)


def fit(g: Any, shape: Shape, dtype: Any) -> Any:
    """Sum a cotangent over the axes that were broadcast, and cast it to the source's dtype."""
    if g.__class__ is ndarray:
        if g.shape != shape:
            g = unbroadcast(g, shape) if g.shape[1:] != shape or g.size > MANY else np.add.reduce(g)
        if dtype is None or g.dtype is dtype:
            return g
        return cast(g, dtype)
    if isinstance(g, Masked):
        have = shape_of(g.value)
        if have == shape == shape_of(g.mask):
            return g if dtype is None or g.dtype == dtype else Masked(cast(g.value, dtype), g.mask)
        full = np.broadcast_shapes(have, shape_of(g.mask))
        value = fit(broadcast(g.dense(), full), shape, dtype)
        return Masked(value, reached(broadcast(g.mask, full), shape))
    if isinstance(g, At):
        return fit(g.masked(), shape, dtype)
    if shape_of(g) != shape:
        g = unbroadcast(g, shape)
    if dtype is not None and getattr(g, "dtype", None) != dtype:
        g = cast(g, dtype)
    return g


def reached(mask: Any, shape: Shape) -> Any:
    """Where any of the numbers that one was broadcast to has a gradient."""
    if mask.__class__ is ndarray and mask.shape[mask.ndim - len(shape) :] == shape:
        return over_rows(np.logical_or, mask, shape)
    if hasattr(mask, "like"):  # hollow
        return mask.like(mask.dtype, shape)
    return OPS["gt"](unbroadcast(OPS["where"](mask, 1.0, 0.0), shape), 0.0)


def cast(g: Any, dtype: Any) -> Any:
    """To the dtype of the source; the cotangent of a real source is real."""
    if not isinstance(g, Tensor) and isinstance(g, RAW):
        g = np.asarray(g)
        return (g.real if g.dtype.kind == "c" and dtype.kind != "c" else g).astype(dtype)
    if g.dtype.kind == "c" and dtype.kind != "c":
        g = OPS["real"](g)
    return g if g.dtype == dtype else OPS["Cast"](np.dtype(dtype))(g)


def broadcast(x: Any, shape: Shape) -> Any:
    have = shape_of(x)
    return x if have == shape else OPS["Broadcast"](shape)(x)


def unbroadcast(g: Any, shape: Shape) -> Any:
    """The transpose of broadcasting: sum over the axes that were added or stretched."""
    have = shape_of(g)
    if have == shape:
        return g
    if len(have) < len(shape) or any(n not in (1, m) for n, m in zip(shape[::-1], have[::-1])):
        return broadcast(g, shape)  # a rule that dropped axes, e.g. d of a broadcast constant
    extra = len(have) - len(shape)
    if extra and have[extra:] == shape and g.__class__ is ndarray:
        return over_rows(np.add, g, shape)
    if extra:
        g = OPS["Sum"](tuple(range(extra)), False)(g)
    ones = tuple(i for i, (m, n) in enumerate(zip(have[extra:], shape)) if n == 1 and m != 1)
    return OPS["Sum"](ones, True)(g) if ones else g


MANY = 1 << 12  # numbers from which on the way they are added matters
ROW = 2048  # numbers of a row from which on NumPy adds rows as fast as it can


def over_rows(f: Any, x: Any, shape: Shape) -> Any:
    """f, which is add or the like, over the axes in front of the last ones, `shape`, of an array.

    Short rows are joined first: NumPy starts anew for each. That makes several sums of each, too,
    whose rounding errors stay smaller than those of one.
    """
    n, total = math.prod(shape), x.size
    if total <= MANY or not 1 < n <= ROW // 2 or not x.flags.c_contiguous:
        return f.reduce(x, axis=tuple(range(x.ndim - len(shape))))
    many = ROW // n
    whole = total // (n * many) * n * many
    x = x.reshape(-1)
    y = f.reduce(f.reduce(x[:whole].reshape(-1, n * many)).reshape(many, *shape))
    return y if whole == total else f(y, f.reduce(x[whole:].reshape(-1, *shape)))
