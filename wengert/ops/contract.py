"""Products that sum: matmul and einsum. Each is linear in either argument, and its transposes are
products of the same kind."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..nest import Nest
from ..primitive import General, Multilinear, op
from ..structural import broadcast, unbroadcast
from ..trace import ndarray
from ..types import Array, Aval, Shape, shape_of
from .index import GetItem
from .linear import Reshape, Sum, Transpose, drop
from .products import by_transpose, plainly, transpose_by

SHORT = 256  # numbers of a row up to which it is repeated
ALONE = 1 << 18  # numbers of a matrix that BLAS multiplies by a vector on one thread


def swap(x: Array) -> Array:
    """Exchange the last two axes."""
    return x.swapaxes(-1, -2)


def expand(x: Array, axis: int) -> Array:
    """A new axis of length 1 at -1 or -2."""
    s = shape_of(x)
    k = len(s) + 1 + axis
    return Reshape((*s[:k], 1, *s[k:]))(x)


def flat(x: Array) -> Array:
    """All but the last axis as one."""
    s = shape_of(x)
    return x if len(s) == 2 else Reshape((math.prod(s[:-1]), s[-1]))(x)


@lru_cache(32)
def ones(n: int, dtype: Any) -> Any:
    return np.ones(n, dtype)


def rows(g: Any) -> Any:
    """The sum over rows, the cotangent of a bias, as products with ones: BLAS does it faster.

    In parts that it does on one thread: its others would be awake for long after, in the way.
    """
    if g.__class__ is not ndarray:
        return g.sum(axis=0)
    most = max(1, ALONE // max(1, g.shape[1]))
    y = np.dot(ones(min(most, len(g)), g.dtype), g[:most])
    for i in range(most, len(g), most):
        part = g[i : i + most]
        y += np.dot(ones(len(part), g.dtype), part)
    return y


def add_row(a: Any, c: Any) -> None:
    """a += c, a line of a's last two axes at a time: NumPy's loop is as long as an axis."""
    short = c.shape == a.shape[-1:] and c.size <= SHORT
    if short and a.ndim > 2 and a.flags.c_contiguous and a.size:
        wide = np.tile(c, a.shape[-2])
        a = a.reshape(-1, wide.size)
        a += wide
    else:
        a += c


@op
class MatMul(Multilinear):
    """Matrix product:  y[.., i, j] = sum_k a[.., i, k] b[.., k, j].

    A 1-d operand is a row or a column.

    ga = gy b^T,  gb = a^T gy, each summed over the batch axes that were broadcast.
    """

    args = ("a", "b")

    examples: ClassVar[Any] = [
        ((), (2, 3), (3, 4)),
        ((), (3,), (3,)),
        ((), (3,), (3, 2)),
        ((), (2, 3), (3,)),
        ((), (5, 2, 3), (3, 4)),
        ((), (2, 3), (5, 3, 2)),
        ((), (5, 1, 2, 3), (4, 3, 2)),
        ((), (3,), (2, 3, 2)),
        ((), (2, 2, 3), (3,)),
    ]

    def __repr__(self) -> str:
        return "matmul"

    def impl(self, a: Array, b: Array) -> Array:
        if np.ndim(b) == 2 and np.ndim(a) > 2 and a.flags.c_contiguous and a.size:
            y = plainly(a.reshape(-1, a.shape[-1]), b)  # one product in place of many
            return y.reshape(*a.shape[:-1], b.shape[1])
        return plainly(a, b)

    def infer(self, a: Aval, b: Aval) -> Aval:
        m, n = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
        if a.shape[-1] != (b.shape[-2] if b.ndim > 1 else b.shape[0]):
            raise ValueError("inner dimensions disagree")
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return Aval((*lead, *m, *n), np.result_type(a.dtype, b.dtype))

    def vjp_a(self, g: Array, a_shape: Shape, b: Array) -> Array:
        nb = len(shape_of(b))
        if len(a_shape) == 1:
            if nb == 1:
                return g * b
            return unbroadcast(Reshape(shape_of(b)[:-1])(matmul(b, expand(g, -1))), a_shape)
        if nb == 1:
            return unbroadcast(expand(g, -1) * b, a_shape)
        if len(a_shape) == 2 == nb:
            return by_transpose(g, b)
        if nb == 2:
            return Reshape(a_shape)(by_transpose(flat(g), b))
        return unbroadcast(matmul(g, swap(b)), a_shape)

    def vjp_b(self, g: Array, a: Array, b_shape: Shape) -> Array:
        na = len(shape_of(a))
        if na == 1:
            return (
                g * a if len(b_shape) == 1 else unbroadcast(expand(a, -1) * expand(g, -2), b_shape)
            )
        if len(b_shape) == 1:
            y = matmul(swap(flat(a)), Reshape((math.prod(shape_of(g)), 1))(g))
            return Reshape(b_shape)(y)
        if len(b_shape) == 2:
            return transpose_by(flat(a), flat(g))
        return unbroadcast(matmul(swap(a), g), b_shape)

    def batch(self, xs: Any, dims: Any) -> Array:
        (a, b), (da, db) = xs, dims
        ranks = [len(shape_of(x)) - (d is not None) for x, d in zip(xs, dims)]
        row, column = ranks[0] == 1, ranks[1] == 1
        if row:
            a = expand(a, -2)
        if column:
            b = expand(b, -1)
        rank = max(2, *ranks)
        if da is not None:
            a = self._lanes(a, rank)
        if db is not None:
            b = self._lanes(b, rank)
        y = matmul(a, b)
        s = shape_of(y)
        if row:
            s = (*s[:-2], s[-1])
        if column:
            s = s[:-1]
        return Reshape(s)(y) if row or column else y

    @staticmethod
    def _lanes(x: Array, rank: int) -> Array:
        s = shape_of(x)
        missing = rank + 1 - len(s)
        return Reshape((s[0],) + (1,) * missing + s[1:])(x) if missing else x

    def lower(self, a: Aval, b: Aval) -> Nest | None:
        if a.ndim != 2 or b.ndim != 2:
            return None
        return Nest((a.shape[0], b.shape[1], a.shape[1]), ((0, 2), (2, 1)), (0, 1), "add", "mul")

    @classmethod
    def title(cls) -> str:
        return "matmul"

    def diagnose(self, xs: Any, error: Exception) -> Any:
        a, b = (shape_of(x) for x in xs)
        if not a or not b:
            return "a 0-d operand has no axis to sum over", None, "a * b multiplies by a number"
        inner = b[-2] if len(b) > 1 else b[0]
        if a[-1] == inner:
            return "batch axes do not broadcast", None, None
        where = "-2" if len(b) > 1 else "-1"
        notes = [f"axis -1 is {a[-1]}", f"axis {where} is {inner}"]
        fix = None
        if len(a) == len(b) == 2:
            tries = {
                "matmul(a, b.T)": (a, b[::-1]),
                "matmul(a.T, b)": (a[::-1], b),
                "matmul(b, a)": (b, a),
            }
            fits = [(t, (p[0], q[1])) for t, (p, q) in tries.items() if p[1] == q[0]]
            if fits:
                dtype = np.result_type(*(x.dtype for x in xs))
                fix = f"{fits[0][0]} has matching shapes, giving {dtype}{list(fits[0][1])}"
        return "inner dimensions disagree", notes, fix


matmul = MatMul()


@op
class Einsum(Multilinear):
    """Two-operand Einstein sum:  y[out] = sum over the other labels of a[a_labels] b[b_labels].

    Every label of one operand stands in the other or in `out`, and none twice in one operand; then
    ga = einsum(out, b -> a)(gy, b)  and  gb = einsum(a, out -> b)(a, gy).
    """

    a_labels: str
    b_labels: str
    out: str
    args = ("a", "b")

    examples: ClassVar[Any] = [
        (("ij", "jk", "ik"), (2, 3), (3, 4)),
        (("bij", "bkj", "kbi"), (2, 3, 4), (2, 2, 4)),
        (("i", "j", "ji"), (2,), (3,)),
        (("ij", "ij", ""), (2, 3), (2, 3)),
    ]

    def __repr__(self) -> str:
        return f"Einsum('{self.a_labels},{self.b_labels}->{self.out}')"

    def _sizes(self, a: Shape, b: Shape) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for labels, shape in ((self.a_labels, a), (self.b_labels, b)):
            for l, n in zip(labels, shape, strict=True):
                if sizes.setdefault(l, n) != n:
                    raise ValueError(
                        f"label {l!r} is {sizes[l]} in one operand and {n} in the other"
                    )
        return sizes

    def impl(self, a: Array, b: Array) -> Array:
        la, lb, out = self.a_labels, self.b_labels, self.out
        sizes = self._sizes(a.shape, b.shape)
        both = [l for l in la if l in lb]
        batch, inner = [l for l in both if l in out], [l for l in both if l not in out]
        fa, fb = [l for l in la if l not in lb], [l for l in lb if l not in la]
        if len(inner) == 0:  # nothing is summed: an aligned product
            return self._aligned(a, la) * self._aligned(b, lb)

        def shaped(x: Array, labels: str, *groups: list[str]) -> Array:
            x = x.transpose([labels.index(l) for group in groups for l in group])
            return x.reshape([math.prod(sizes[l] for l in group) for group in groups])

        y = np.matmul(shaped(a, la, batch, fa, inner), shaped(b, lb, batch, inner, fb))
        have = [*batch, *fa, *fb]
        return y.reshape([sizes[l] for l in have]).transpose([have.index(l) for l in out])

    def _aligned(self, x: Array, labels: str) -> Array:
        x = x.transpose([labels.index(l) for l in self.out if l in labels])
        sizes = iter(x.shape)
        return x.reshape([next(sizes) if l in labels else 1 for l in self.out])

    def infer(self, a: Aval, b: Aval) -> Aval:
        sizes = self._sizes(a.shape, b.shape)
        return Aval(tuple(sizes[l] for l in self.out), np.result_type(a.dtype, b.dtype))

    def vjp_a(self, g: Array, b: Array) -> Array:
        return Einsum(self.out, self.b_labels, self.a_labels)(g, b)

    def vjp_b(self, g: Array, a: Array) -> Array:
        return Einsum(self.a_labels, self.out, self.b_labels)(a, g)

    def batch(self, xs: Any, dims: Any) -> Array:
        used = self.a_labels + self.b_labels + self.out
        new = next(c for c in LABELS if c not in used)
        la, lb = (new if d is not None else "" for d in dims)
        return Einsum(la + self.a_labels, lb + self.b_labels, new + self.out)(*xs)

    def lower(self, a: Aval, b: Aval) -> Nest | None:
        sizes = self._sizes(a.shape, b.shape)
        order = list(dict.fromkeys(self.out + self.a_labels + self.b_labels))
        loads = tuple(tuple(order.index(l) for l in ls) for ls in (self.a_labels, self.b_labels))
        reduces = len(order) > len(self.out)
        return Nest(
            tuple(sizes[l] for l in order),
            loads,
            tuple(range(len(self.out))),
            "add" if reduces else None,
            "mul",
        )

    @classmethod
    def title(cls) -> str:
        return "einsum"


LABELS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + "".join(
    map(chr, range(0x3B1, 0x3CA))
)


def contract(labels: list[str], out: str, xs: list[Array]) -> Array:
    """einsum of any number of operands, as a sequence of sums, transposes and products of two."""
    labels, xs = list(labels), list(xs)
    for k, (ls, x) in enumerate(zip(labels, xs)):
        if len(ls) != len(shape_of(x)):
            raise ValueError(f"operand {k} has {len(shape_of(x))} axes for the labels {ls!r}")
        labels[k], xs[k] = _diagonals(ls, x)
    while True:
        for k, ls in enumerate(labels):
            rest = out + "".join(labels[:k] + labels[k + 1 :])
            alone = tuple(i for i, l in enumerate(ls) if l not in rest)
            if alone:
                xs[k] = Sum(alone, False)(xs[k])
                labels[k] = "".join(drop(ls, alone))
        if len(xs) == 1:
            break
        i, j = _cheapest(labels, out, xs)
        (lb, b), (la, a) = (labels.pop(j), xs.pop(j)), (labels.pop(i), xs.pop(i))
        rest = out + "".join(labels)
        kept = "".join(l for l in dict.fromkeys(la + lb) if l in rest)
        if not labels:
            kept = out
        labels.append(kept)
        xs.append(Einsum(la, lb, kept)(a, b))
    perm = tuple(labels[0].index(l) for l in out)
    return xs[0] if perm == tuple(range(len(perm))) else Transpose(perm)(xs[0])


def _diagonals(ls: str, x: Array) -> tuple[str, Array]:
    for l in dict.fromkeys(ls):
        if ls.count(l) > 1:
            axes = [i for i, c in enumerate(ls) if c == l]
            others = [i for i, c in enumerate(ls) if c != l]
            x = Transpose((*axes, *others))(x)
            sizes = {shape_of(x)[i] for i in range(len(axes))}
            if len(sizes) > 1:
                raise ValueError(f"label {l!r} names axes of different lengths {sorted(sizes)}")
            x = GetItem((np.arange(sizes.pop()),) * len(axes))(x)
            ls = l + "".join(ls[i] for i in others)
    return ls, x


def _cheapest(labels: list[str], out: str, xs: list[Array]) -> tuple[int, int]:
    """The pair whose product is smallest: greedy, and the user's order among equals."""
    if len(xs) == 2:
        return 0, 1
    sizes = {l: n for ls, x in zip(labels, xs) for l, n in zip(ls, shape_of(x))}

    def cost(i: int, j: int) -> tuple[int, int, int]:
        rest = out + "".join(ls for k, ls in enumerate(labels) if k not in (i, j))
        kept = [l for l in dict.fromkeys(labels[i] + labels[j]) if l in rest]
        return math.prod(sizes[l] for l in kept), i, j

    return min(cost(i, j) for i in range(len(xs)) for j in range(i + 1, len(xs)))[1:]


@op
class Affine(General):
    """A linear layer in one operation:  y = a b + c,  a [.., n, k], b [k, m], c [m].

    ga = gy b^T,  gb = a^T gy,  gc = sum over rows of gy.
    """

    args = ("a", "b", "c")

    examples: ClassVar[Any] = [
        ((), (4, 3), (3, 2), (2,)),
        ((), (2, 4, 3), (3, 2), (2,)),
        ((), (3,), (3, 2), (2,)),
    ]

    def __repr__(self) -> str:
        return "affine"

    def impl(self, a: Array, b: Array, c: Array) -> Array:
        y = matmul.impl(a, b)
        if y.dtype is c.dtype and y.ndim > 0:
            y += c
            return y
        return y + c

    def infer(self, a: Aval, b: Aval, c: Aval) -> Aval:
        y = matmul.infer(a, b)
        return Aval(np.broadcast_shapes(y.shape, c.shape), np.result_type(y.dtype, c.dtype))

    def jvp_a(self, da: Array, b: Array) -> Array:
        return matmul(da, b)

    def jvp_b(self, db: Array, a: Array) -> Array:
        return matmul(a, db)

    def jvp_c(self, dc: Array, y_shape: Shape) -> Array:
        return broadcast(dc, y_shape)

    def vjp_a(self, g: Array, a_shape: Shape, b: Array) -> Array:
        return matmul.vjp_a(g, a_shape, b)

    def vjp_b(self, g: Array, a: Array, b_shape: Shape) -> Array:
        return matmul.vjp_b(g, a, b_shape)

    def vjp_c(self, g: Array, c_shape: Shape) -> Array:
        if len(shape_of(g)) >= 2 and g.shape[-1:] == c_shape:
            return rows(flat(g))
        return unbroadcast(g, c_shape)

    def batch(self, xs: Any, dims: Any) -> Array:
        a, b, c = xs
        y = matmul(a, b) if dims[0] is None is dims[1] else matmul.batch([a, b], dims[:2])
        if dims[2] is not None:
            s = shape_of(c)
            rank = len(shape_of(y)) - (dims[0] is not None or dims[1] is not None)
            c = Reshape((s[0],) + (1,) * (rank - len(s) + 1) + s[1:])(c)
        return y + c

    @classmethod
    def title(cls) -> str:
        return "affine"

    def diagnose(self, xs: Any, error: Exception) -> Any:
        a, b, _ = xs
        if shape_of(a)[-1:] != shape_of(b)[-2:-1]:
            rule, notes, fix = matmul.diagnose((a, b), error)
            return rule, [*(notes or ["", ""]), ""], fix
        return "the bias does not broadcast to the product", None, None


affine = Affine()
