"""Linear maps over space: resampling along an axis, and windows; each beside its transpose.

Resample <-> ResampleBack        Unfold <-> Fold
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..primitive import Linear, op
from ..types import Array, Aval, Shape

__all__ = ["Fold", "Resample", "ResampleBack", "Unfold", "length_of"]

Plan = tuple[Any, ...]  # (kind, numbers): see `taps`
EDGES = ("reflect", "replicate", "circular")


def length_of(plan: Plan, n: int) -> int:
    """How long an axis of length n is afterwards."""
    return n + plan[1] + plan[2] if plan[0] in EDGES else plan[1]


@lru_cache(maxsize=256)
def taps(plan: Plan, n: int) -> tuple[Any, Any]:
    """(which places, with which weights or None for 1): y[o] = sum_j w[j, o] x[i[j, o]].

    Plans: (an edge mode, before, after); ("nearest", m, scale, offset); ("linear", m, scale, align)
    and ("cubic", m, scale, align) with `scale` places of x to one of y; ("area", m).
    """
    kind = plan[0]
    m = length_of(plan, n)
    o = np.arange(m)
    if kind in EDGES:
        o = o - plan[1]
        if kind == "replicate":
            i = np.clip(o, 0, n - 1)
        elif kind == "circular":
            i = o % n
        else:
            period = max(1, 2 * (n - 1))
            i = np.abs((o + n - 1) % period - (n - 1))
        return i[None], None
    if kind == "nearest":
        return np.minimum(np.floor((o + plan[3]) * plan[2]).astype(int), n - 1)[None], None
    if kind == "area":
        start, end = o * n // m, -(-(o + 1) * n // m)
        j = np.arange((end - start).max(initial=1))[:, None]
        inside = j < end - start
        return np.where(inside, start + j, start), inside / (end - start)
    scale, align = plan[2:]
    at = o * scale if align else (o + 0.5) * scale - 0.5
    if kind == "linear":
        at = np.clip(at, 0, n - 1)
        low = np.minimum(np.floor(at).astype(int), n - 1)
        part = at - low
        return np.stack([low, np.minimum(low + 1, n - 1)]), np.stack([1 - part, part])
    low = np.floor(at).astype(int)
    t = at - low
    weights = np.stack([cubic(t + 1), cubic(t), cubic(1 - t), cubic(2 - t)])
    return np.clip(low + np.arange(-1, 3)[:, None], 0, n - 1), weights


def cubic(t: Any) -> Any:
    """Keys' kernel at distance t, with slope -3/4 at 1."""
    a = -0.75
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, far)


@lru_cache(maxsize=256)
def turns(plan: Plan, n: int) -> tuple[tuple[Any, Any, Any], ...]:
    """The taps in parts without a place twice, to add into: (tap, outputs, places)."""
    index, _ = taps(plan, n)
    out = []
    for j, i in enumerate(index):
        order = np.argsort(i, kind="stable")
        ordered = i[order]
        first = np.r_[True, ordered[1:] != ordered[:-1]] if len(i) else np.zeros(0, bool)
        run = np.arange(len(i)) - np.maximum.accumulate(np.where(first, np.arange(len(i)), 0))
        for r in range(run.max(initial=-1) + 1):
            chosen = order[run == r]
            out.append((j, chosen, i[chosen]))
    return tuple(out)


@op
class Resample(Linear):
    """y[o] = sum_j w_j(o) x[i_j(o)] along an axis: edges repeated, or values in between.

    Its transpose adds back:  gx[i_j(o)] += w_j(o) gy[o].

    References:
        R. Keys (1981), Cubic Convolution Interpolation for Digital Image Processing.
    """

    axis: int
    plan: Plan

    examples: ClassVar[Any] = [
        ((1, ("reflect", 2, 1)), (2, 4, 2)),
        ((0, ("replicate", 1, 2)), (3,)),
        ((0, ("circular", 2, 0)), (3, 2)),
        ((1, ("nearest", 5, 0.6, 0.0)), (2, 3)),
        ((0, ("linear", 5, 0.6, False)), (3, 2)),
        ((1, ("linear", 2, 3.0, True)), (2, 4)),
        ((0, ("cubic", 7, 4 / 7, False)), (4, 2)),
        ((0, ("area", 3)), (5, 2)),
    ]

    def impl(self, x: Array) -> Array:
        n = x.shape[self.axis]
        if n == 0:
            raise ValueError(f"axis {self.axis} has no places to take values from")
        index, weights = taps(self.plan, n)
        shape = (1,) * self.axis + (-1,) + (1,) * (x.ndim - self.axis - 1)
        if weights is None:
            return np.take(x, index[0], axis=self.axis)
        y = None
        for i, w in zip(index, weights):
            part = np.take(x, i, axis=self.axis)
            part *= w.astype(real_of(x.dtype)).reshape(shape)
            y = part if y is None else np.add(y, part, out=y)
        return y

    def infer(self, x: Aval) -> Aval:
        shape = list(x.shape)
        shape[self.axis] = length_of(self.plan, shape[self.axis])
        return Aval(tuple(shape), x.dtype)

    def vjp(self, g: Array, x_shape: Shape) -> Array:
        return ResampleBack(self.axis, self.plan, x_shape[self.axis])(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Resample(self.axis + 1, self.plan)(*xs)


def real_of(dtype: Any) -> Any:
    return np.empty(0, dtype).real.dtype


@op
class ResampleBack(Linear):
    """y[i_j(o)] += w_j(o) x[o] along an axis, of length n: the transpose of `Resample`."""

    axis: int
    plan: Plan
    n: int

    examples: ClassVar[Any] = [
        ((1, ("reflect", 2, 1), 4), (2, 7, 2)),
        ((0, ("nearest", 5, 0.6, 0.0), 3), (5, 2)),
        ((0, ("cubic", 7, 4 / 7, False), 4), (7, 2)),
        ((0, ("area", 3), 5), (3, 2)),
    ]

    def impl(self, x: Array) -> Array:
        shape = list(x.shape)
        shape[self.axis] = self.n
        y = np.zeros(shape, x.dtype)
        _, weights = taps(self.plan, self.n)
        lead = (slice(None),) * self.axis
        wide = (1,) * self.axis + (-1,) + (1,) * (x.ndim - self.axis - 1)
        for j, outputs, places in turns(self.plan, self.n):
            part = x[(*lead, outputs)]
            if weights is not None:
                part *= weights[j][outputs].astype(real_of(x.dtype)).reshape(wide)
            y[(*lead, places)] += part
        return y

    def infer(self, x: Aval) -> Aval:
        shape = list(x.shape)
        shape[self.axis] = self.n
        return Aval(tuple(shape), x.dtype)

    def vjp(self, g: Array) -> Array:
        return Resample(self.axis, self.plan)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return ResampleBack(self.axis + 1, self.plan, self.n)(*xs)


# ------------------------------------------------------------------ windows

Ints = tuple[int, ...]


def places(size: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> Ints:
    """How many windows fit along each axis."""
    out = tuple(
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(size, kernel, stride, dilation)
    )
    if min(out, default=1) < 1:
        raise ValueError(f"a window of {list(kernel)} does not fit into {list(size)}")
    return out


@op
class Unfold(Linear):
    """Windows:  y[n, o, k, c] = x[n, s o + d k, c],  o and k with a part for each axis of space.

    Its transpose adds what the windows share:  gx[n, s o + d k, c] += gy[n, o, k, c].

    Shapes: x `[N, *S, C]`, y `[N, *O, *K, C]`. The first `lanes` axes are batch axes too.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    lanes: int = 0

    examples: ClassVar[Any] = [
        (((2,), (1,), (1,)), (2, 4, 2)),
        (((2, 2), (2, 1), (1, 2)), (1, 4, 5, 2)),
    ]

    def impl(self, x: Array) -> Array:
        lead, size = self._split(x.shape)
        out = places(size, self.kernel, self.stride, self.dilation)
        st = x.strides[len(lead) : -1]
        steps = tuple(a * b for a, b in zip(st, self.stride))
        inner = tuple(a * b for a, b in zip(st, self.dilation))
        y = np.lib.stride_tricks.as_strided(
            x,
            (*lead, *out, *self.kernel, x.shape[-1]),
            (*x.strides[: len(lead)], *steps, *inner, x.strides[-1]),
            writeable=False,
        )
        return np.array(y, order="C")

    def _split(self, shape: Shape) -> tuple[Shape, Ints]:
        if len(shape) != len(self.kernel) + 2 + self.lanes:
            raise ValueError(f"x has {len(self.kernel)} axes of space between samples and channels")
        return shape[: self.lanes + 1], shape[self.lanes + 1 : -1]

    def infer(self, x: Aval) -> Aval:
        lead, size = self._split(x.shape)
        out = places(size, self.kernel, self.stride, self.dilation)
        return Aval((*lead, *out, *self.kernel, x.shape[-1]), x.dtype)

    def vjp(self, g: Array, x_shape: Shape) -> Array:
        size = self._split(x_shape)[1]
        return Fold(self.kernel, self.stride, self.dilation, size, self.lanes)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Unfold(self.kernel, self.stride, self.dilation, self.lanes + 1)(*xs)


@op
class Fold(Linear):
    """Windows added up:  y[n, s o + d k, c] += x[n, o, k, c],  y of `size`. Transpose of Unfold.

    Shapes: x `[N, *O, *K, C]`, y `[N, *S, C]`.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    size: Ints
    lanes: int = 0

    examples: ClassVar[Any] = [
        (((2,), (1,), (1,), (4,)), (2, 3, 2, 2)),
        (((2, 2), (2, 1), (1, 2), (4, 5)), (1, 2, 3, 2, 2, 2)),
    ]

    def impl(self, x: Array) -> Array:
        lead, out = self._split(x.shape)
        y = np.zeros((*lead, *self.size, x.shape[-1]), x.dtype)
        first = (slice(None),) * len(lead)
        for k in np.ndindex(*self.kernel):
            spots = tuple(
                slice(d * i, d * i + s * (o - 1) + 1, s)
                for i, s, d, o in zip(k, self.stride, self.dilation, out)
            )
            y[first + spots] += x[first + (slice(None),) * len(out) + k]
        return y

    def _split(self, shape: Shape) -> tuple[Shape, Ints]:
        out = places(self.size, self.kernel, self.stride, self.dilation)
        rank = len(out)
        lead = shape[: self.lanes + 1]
        if shape[len(lead) : -1] != (*out, *self.kernel) or len(shape) != len(lead) + 2 * rank + 1:
            raise ValueError(
                f"windows of {list(self.kernel)} in {list(self.size)} are {list(out)}, and x is "
                f"[N, *{list(out)}, *{list(self.kernel)}, C]"
            )
        return lead, out

    def infer(self, x: Aval) -> Aval:
        lead, _ = self._split(x.shape)
        return Aval((*lead, *self.size, x.shape[-1]), x.dtype)

    def vjp(self, g: Array) -> Array:
        return Unfold(self.kernel, self.stride, self.dilation, self.lanes)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Fold(self.kernel, self.stride, self.dilation, self.size, self.lanes + 1)(*xs)
