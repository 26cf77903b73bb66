"""Products that sum, with NumPy's signatures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ops.contract import LABELS, contract, matmul
from ..trace import bind
from ..types import shape_of
from .shape import ravel, reshape
from .table import METHODS, implements, into, tensor


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    """NumPy's dot: a product of numbers, vectors or matrices; of more axes, last with second last."""
    a, b = tensor(a), tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        y = a * b
    elif a.ndim <= 2 and b.ndim <= 2:
        y = bind(matmul, a, b)
    else:
        y = tensordot(a, b, ((-1,), (-2 if b.ndim > 1 else -1,)))
    return y if out is None else into(out, y)


@implements(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    """sum conj(a) b over all numbers."""
    return bind(matmul, np.conjugate(ravel(a)), ravel(b))


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
    return y if out is None else into(out, y)


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Sum over pairs of axes:  y[i.., j..] = sum_k a[i.., k..] b[k.., j..]."""
    a, b = tensor(a), tensor(b)
    if isinstance(axes, int | np.integer):
        n = int(axes)
        xa, xb = list(range(a.ndim - n, a.ndim)), list(range(n))
    else:
        xa, xb = ([x] if np.ndim(x) == 0 else list(x) for x in axes)
    xa, xb = [i % a.ndim for i in xa] if a.ndim else [], [i % b.ndim for i in xb] if b.ndim else []
    if len(xa) != len(xb) or any(a.shape[i] != b.shape[j] for i, j in zip(xa, xb)):
        raise matmul.refusal((a, b), ValueError("shape-mismatch for sum"))
    fa, fb = [i for i in range(a.ndim) if i not in xa], [j for j in range(b.ndim) if j not in xb]
    k = math.prod(a.shape[i] for i in xa)
    left = reshape(np.transpose(a, fa + xa), (math.prod(a.shape[i] for i in fa), k))
    right = reshape(np.transpose(b, xb + fb), (k, math.prod(b.shape[j] for j in fb)))
    return reshape(left @ right, (*(a.shape[i] for i in fa), *(b.shape[j] for j in fb)))


@implements(np.einsum)
def einsum(*operands: Any, out: Any = None, optimize: Any = True, **kw: Any) -> Any:
    """Einstein's sum over labelled axes, with every form of subscripts.

    Each operand's cotangent is an einsum of the others with gy.
    """
    if isinstance(operands[0], str):
        spec, xs = operands[0].replace(" ", ""), [tensor(x) for x in operands[1:]]
    else:
        spec, xs = _from_lists(operands)
    left, arrow, right = spec.partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise ValueError(f"{len(terms)} subscripts for {len(xs)} operands in '{spec}'")
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
        right = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in dots))
    else:
        right = right.replace("...", dots)
    y = contract(terms, right, _stretched(terms, xs))
    return y if out is None else into(out, y)


def _stretched(terms: list[str], xs: list[Any]) -> list[Any]:
    """Axes of length 1 under a label that is longer elsewhere are dropped: they broadcast."""
    sizes: dict[str, int] = {}
    for t, x in zip(terms, xs):
        for c, n in zip(t, shape_of(x)):
            sizes[c] = max(sizes.get(c, 1), n)
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


def outer_method(f: Any) -> Any:
    """ufunc.outer: f of every pair."""

    def apply(a: Any, b: Any) -> Any:
        a, b = tensor(a), tensor(b)
        return f(reshape(a, a.shape + (1,) * b.ndim), b)

    return apply


for _f in (np.add, np.subtract, np.multiply, np.true_divide, np.power, np.maximum, np.minimum):
    METHODS[_f, "outer"] = outer_method(_f)
