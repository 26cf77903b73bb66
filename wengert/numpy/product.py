"""Products that sum, with NumPy's signatures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops import elementwise as e
from ..ops.contract import LABELS, contract, matmul
from ..trace import bind
from ..types import shape_of
from .check import ordered_axes, refuse
from .shape import moveaxis, ravel, reshape, stack, transpose
from .table import finish, implements, tensor


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """NumPy's dot: a product of numbers, vectors, matrices; of more axes, last with second last."""
    a, b = tensor(a), tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        y = a * b
    elif a.ndim <= 2 and b.ndim <= 2:
        y = bind(matmul, a, b)
    else:
        y = tensordot(a, b, ((-1,), (-2 if b.ndim > 1 else -1,)))
    return finish(y, out)


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    """sum conj(a) b over all numbers."""
    a, b = ravel(a), ravel(b)
    return bind(matmul, e.conj(a) if a.dtype.kind == "c" else a, b)


@implements(np.inner)
def inner(a: Any, b: Any) -> Any:
    """Sum over the last axes of both."""
    a, b = tensor(a), tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return tensordot(a, b, ((-1,), (-1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    """y[i, j] = a[i] b[j]."""
    y = reshape(a, (-1, 1)) * reshape(b, (1, -1))
    return finish(y, out)


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Sum over pairs of axes:  y[i.., j..] = sum_k a[i.., k..] b[k.., j..]."""
    a, b = tensor(a), tensor(b)
    if isinstance(axes, int | np.integer):
        n = int(axes)
        if n > min(a.ndim, b.ndim):
            raise ShapeError(
                f"tensordot(a, b, {n})", f"{n} axes are needed", operands=[("a", a), ("b", b)]
            )
        xa, xb = list(range(a.ndim - n, a.ndim)), list(range(n))
    else:
        pairs = [[x] if np.ndim(x) == 0 else list(x) for x in axes]
        xa, xb = (list(ordered_axes("tensordot", x, tuple(p))) for x, p in zip((a, b), pairs))
    if len(xa) != len(xb) or [i for i, j in zip(xa, xb) if a.shape[i] != b.shape[j]]:
        raise ShapeError(
            f"tensordot(a, b, {axes!r})",
            "the axes summed over differ",
            operands=[("a", a), ("b", b)],
        )
    fa, fb = [i for i in range(a.ndim) if i not in xa], [j for j in range(b.ndim) if j not in xb]
    k = math.prod(a.shape[i] for i in xa)
    left = reshape(transpose(a, fa + xa), (math.prod(a.shape[i] for i in fa), k))
    right = reshape(transpose(b, xb + fb), (k, math.prod(b.shape[j] for j in fb)))
    return reshape(left @ right, (*(a.shape[i] for i in fa), *(b.shape[j] for j in fb)))


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    """Kronecker product: every a times the whole of b."""
    a, b = tensor(a), tensor(b)
    n = max(a.ndim, b.ndim)
    sa, sb = (1,) * (n - a.ndim) + a.shape, (1,) * (n - b.ndim) + b.shape
    a = reshape(a, tuple(k for i in sa for k in (i, 1)))
    b = reshape(b, tuple(k for j in sb for k in (1, j)))
    return reshape(a * b, tuple(i * j for i, j in zip(sa, sb)))


@implements(np.cross)
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    """Vector product in three dimensions (or its third component in two)."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    for x in (a, b):
        if x.shape[-1] not in (2, 3):
            raise ShapeError(
                "cross(a, b)", "vectors of length 3 are needed", operands=[("a", a), ("b", b)]
            )
    (p, q, *r), (u, v, *w) = ([x[..., i] for i in range(x.shape[-1])] for x in (a, b))
    z = p * v - q * u
    if not r and not w:
        return z
    x = q * w[0] if w else None
    y = -(p * w[0]) if w else None
    if r:
        x = -(r[0] * v) if x is None else x - r[0] * v
        y = r[0] * u if y is None else y + r[0] * u
    return moveaxis(stack([x, y, z], -1), -1, axisc)


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """A product of several matrices, from left to right."""
    if len(arrays) < 2:
        raise ArgumentError("multi_dot(arrays)", "two matrices or more are needed")
    y = tensor(arrays[0])
    for a in arrays[1:]:
        y = dot(y, a)
    return finish(y, out)


@implements(np.einsum)
def einsum(*operands: Any, out: Any = None, optimize: Any = True, **kw: Any) -> Any:
    """Einstein's sum over labelled axes, with every form of subscripts.

    Each operand's cotangent is an einsum of the others with gy.
    """
    kw = {k: v for k, v in kw.items() if (k, v) not in (("order", "K"), ("casting", "safe"))}
    refuse("einsum", **kw)
    if isinstance(operands[0], str):
        spec, xs = operands[0].replace(" ", ""), [tensor(x) for x in operands[1:]]
    else:
        spec, xs = _from_lists(operands)
    left, arrow, right = spec.partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise ArgumentError(
            f"einsum({spec!r}, ...)", f"{len(terms)} subscripts for {len(xs)} operands"
        )
    for t, x in zip(terms, xs):
        letters = t.replace("...", "")
        if len(letters) != x.ndim and ("..." not in t or len(letters) > x.ndim):
            raise ShapeError(
                f"einsum({spec!r}, ...)", f"'{t}' does not label every axis", operands=[("x", x)]
            )
    odd = set(right) - set(left.replace(",", "")) - {"."}
    if odd:
        raise ArgumentError(
            f"einsum({spec!r}, ...)", f"the result's label {min(odd)!r} is in no operand"
        )
    free = [c for c in LABELS if c not in spec]
    rank = [len(shape_of(x)) - len(t.replace("...", "")) for t, x in zip(terms, xs) if "..." in t]
    dots = "".join(free[: max(rank, default=0)])
    if "..." in spec:
        full = []
        for t, x in zip(terms, xs):
            n = len(shape_of(x)) - len(t.replace("...", ""))
            full.append(t.replace("...", dots[len(dots) - n :]))
        terms = full
    if not arrow:
        letters = "".join(terms)
        right = dots + "".join(
            sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots)
        )
    else:
        right = right.replace("...", dots)
    y = contract(terms, right, _stretched(spec, terms, xs))
    return finish(y, out)


def _stretched(spec: str, terms: list[str], xs: list[Any]) -> list[Any]:
    """Axes of length 1 under a label that is longer elsewhere are dropped: they broadcast."""
    sizes: dict[str, int] = {}
    for t, x in zip(terms, xs):
        for c, n in zip(t, shape_of(x)):
            have = sizes.setdefault(c, n)
            if 1 not in (have, n) and have != n:
                names = [(t, x) for t, x in zip(terms, xs)]
                raise ShapeError(
                    f"einsum({spec!r}, ...)", f"axis {c!r} is {have} and {n}", operands=names
                )
            sizes[c] = n if have == 1 else have
    for k, (t, x) in enumerate(zip(terms, xs)):
        ones = [i for i, (c, n) in enumerate(zip(t, shape_of(x))) if n == 1 and sizes[c] != 1]
        if ones:
            terms[k] = "".join(c for i, c in enumerate(t) if i not in ones)
            xs[k] = reshape(x, tuple(n for i, n in enumerate(shape_of(x)) if i not in ones))
    return xs


def _from_lists(operands: Any) -> tuple[str, list[Any]]:
    """einsum(a, [0, 1], b, [1, 2], [0, 2]) as a subscript string."""
    pairs, out = operands, None
    if len(pairs) % 2:
        *pairs, out = pairs

    def text(labels: Any) -> str:
        return "".join("..." if l is Ellipsis else LABELS[l] for l in labels)

    xs = [tensor(x) for x in pairs[::2]]
    spec = ",".join(text(l) for l in pairs[1::2])
    return (spec if out is None else f"{spec}->{text(out)}"), xs
