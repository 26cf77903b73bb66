"""What recurrent networks share: an operation for a whole sequence, whose loop is not recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..hollow import Hollow, hollow
from ..primitive import General
from ..types import Array, Aval, Shape, shape_of
from . import recurrent_native
from .attention import summed_to
from .contract import matmul
from .elementwise import where
from .index import Concatenate
from .linear import Broadcast, Reshape, moveaxis
from .products import transpose_by

__all__ = ["Recurrent"]

CAP = {2: 10.0, 4: 85.0, 8: 700.0}  # whose exponential is finite, by the bytes of a number


class Recurrent(General):
    """What the three share: places in time, a state, and which examples go on at a place.

    Shapes: x `[T, *L, N, gates H]`, w `[*L, H, gates H]`, states `[*L, N, H]`, m `[T, *L, N]` or
    a single True. Axes L, which `vmap` adds, are broadcast. With `reverse` time runs back.

    Where m is False the state stays: sequences of different lengths, of which the last places
    are not there. The derivative rules run over time again, from the values before the gates,
    which are kept; on arrays they write into buffers, on anything else they are recorded.
    """

    variadic = True
    needs = ("impl", "infer", "push", "vjp", "batch")
    wide: ClassVar[int]  # H numbers of x for one of the state, so many times
    kept: ClassVar[int]  # the same for z
    sides: ClassVar[int]  # of z: as x enters it and as h w does, where they differ
    states: ClassVar[int]
    operands: ClassVar[tuple[str, ...]]
    reverse: bool

    def argnames(self, n: int) -> tuple[str, ...]:
        return self.operands

    # ---- shapes
    def _shape(self, xs: Sequence[Any]) -> Shape:
        """`[*L, N]`."""
        shapes = dict(zip(self.operands, map(shape_of, xs)))
        if any(x.dtype.kind != "f" for x in xs[:-1]):
            raise TypeError("the numbers must be real and floating point")
        x, w, m = shapes["x"], shapes["w"], shapes["m"]
        if len(x) < 3 or len(w) < 2:
            raise ValueError("x has axes of time, examples and gates, w of state and gates")
        n = w[-2]
        if w[-1] != self.wide * n or x[-1] != self.wide * n:
            raise ValueError(f"x and w have {self.wide} times the {n} numbers of the state")
        first = [s for k, s in shapes.items() if k in ("h", "c")]
        b = shapes.get("b", (1, n))
        if b[-2:] != (1, n):
            raise ValueError(f"b has an axis of 1 and one of {n}")
        if any(len(s) < 2 or s[-1] != n or s[-2] not in (1, x[-2]) for s in first):
            raise ValueError(f"a state has {x[-2]} examples of {n} numbers")
        if m and (len(m) != len(x) - 1 or m[0] != x[0]):
            raise ValueError("m has the axes of x, without the last")
        return np.broadcast_shapes(
            x[1:-1], (*w[:-2], 1), b[:-1], *[s[:-1] for s in first], m[1:] if m else (1,)
        )

    def infer(self, *xs: Aval) -> Any:
        shape, t, n = self._shape(xs), xs[0].shape[0], xs[1].shape[-2]
        dtype = np.result_type(*[x.dtype for x in xs[:-1]])
        return (
            *[Aval((t, *shape, n), dtype)] * self.states, Aval((t, *shape, self.kept * n), dtype),
        )  # fmt: skip

    def _times(self, t: int) -> range:
        return range(t - 1, -1, -1) if self.reverse else range(t)

    def _ahead(self, xs: Sequence[Array]) -> tuple[Any, ...]:
        """(outputs to be filled, the first state) of plain operands."""
        dtype = np.result_type(*[x.dtype for x in xs[:-1]])
        shape, t, n = self._shape(xs), xs[0].shape[0], xs[1].shape[-2]
        first = xs[-1 - self.states : -1]
        return (
            [np.empty((t, *shape, k * n), dtype) for k in (*(1,) * self.states, self.kept)],
            [np.broadcast_to(s, (*shape, n)).astype(dtype) for s in first],
        )  # fmt: skip

    # ---- derivatives
    def push(self, xs: list[Array], dxs: list[Array | None], y: Any) -> Any:
        count, shape, m = self.states, shape_of(y[0])[1:], xs[-1]
        rows: list[Any] = [None] * shape_of(xs[0])[0]
        olds = [spread(s, shape) for s in xs[-1 - count : -1]]
        ds = [
            np.zeros(shape, y[0].dtype) if d is None else spread(d, shape)
            for d in dxs[-1 - count : -1]
        ]
        for t in self._times(len(rows)):
            dz = self._inward(t, olds[0], ds[0], xs, dxs, shape)
            now = [v[t] for v in y]
            news = self.along(olds, ds, now, dz)
            if shape_of(m):
                news = [where(column(m[t]), a, b) for a, b in zip(news, ds)]
            rows[t] = (*news, dz)
            olds, ds = now[:count], news
        if not rows:
            return tuple([np.zeros(shape_of(v), v.dtype) for v in y])
        return tuple(map(stacked, zip(*rows)))

    def _inward(self, t: int, h: Array, dh: Array, xs: Any, dxs: Any, shape: Shape) -> Array:
        """The tangent of z at one place."""
        d = matmul(dh, xs[1])
        if dxs[1] is not None:
            d = d + matmul(h, dxs[1])
        if dxs[0] is not None:
            d = d + dxs[0][t]
        return spread(d, (*shape[:-1], shape_of(d)[-1]))

    def along(self, olds: Any, ds: Any, now: Any, dz: Array) -> list[Array]:
        """The tangents of the new states, from those of the old ones and of z."""
        raise NotImplementedError

    def vjp(self, g: Any, live: tuple[int, ...], xs: Any, y: Any) -> tuple[Any, ...]:
        if isinstance(y[0], Hollow):
            return self._weighed(live, xs, y)
        count, shape, m = self.states, shape_of(y[0])[1:], xs[-1]
        t, n, last = shape_of(xs[0])[0], shape_of(xs[1])[-2], len(xs) - 1
        plain = all(
            v.__class__ is np.ndarray for v in (*xs[:-1], *y, *g) if v is not None
        ) and not hasattr(m, "level")
        rows: list[Any] = [None] * t
        buffers = (
            [np.empty((t, *shape[:-1], self.wide * n), y[0].dtype) for _ in range(self.sides)]
            if plain
            else None
        )
        ds: list[Any] = [np.zeros(shape, y[0].dtype)] * count
        first = [spread(s, shape) for s in xs[last - count : last]]
        order = self._times(t)
        back = np.ascontiguousarray(turned(xs[1])) if plain else turned(xs[1])  # a faster product
        done = None
        if buffers and g[count] is None and not shape_of(m):
            done = self._native(g, first, back, y, buffers)
        ds = done or ds
        for i in range(t - 1, -1, -1) if done is None else ():
            at = order[i]
            olds = [y[k][order[i - 1]] for k in range(count)] if i else first
            ds = [d if s is None else s[at] + d for s, d in zip(g, ds)]
            into = buffers and [b[at] for b in buffers]
            row, news = self.back(olds, ds, [v[at] for v in y], into)
            if shape_of(m):
                go = column(m[at])
                row = self.only(go, row)
                news = [where(go, new, d) for new, d in zip(news, ds)]
            row = row if g[count] is None else self.add(row, g[count][at])
            news[0] = news[0] + through(row[-1], back)
            rows[at], ds = row, news
        sides = buffers or [stacked(s) for s in zip(*rows)]
        found: dict[int, Any] = {last - count + k: d for k, d in enumerate(ds)}
        if not t:
            found |= {i: np.zeros(shape_of(xs[i]), xs[i].dtype) for i in range(last - count)}
        else:
            found |= self.collected(sides, first[0], xs, y, live)
        return tuple([summed_to(found[i], shape_of(xs[i])) for i in live])

    def _native(self, g: Any, first: Any, back: Array, y: Any, sides: Any) -> Any:
        """The cotangents of the first states, and those of z in `sides`; None if not worth it."""
        states = "hc"[: self.states]
        ds = {f"d{k}": np.zeros(y[0].shape[1:], y[0].dtype) for k in states}
        arrays = {"back": back, "z": y[-1], "gx": sides[0], "gw": sides[-1], **ds}
        arrays |= dict(zip(("y", "cells"), y[:-1])) | dict(zip(states, first))
        arrays |= {k: v for k, v in zip(("gy", "gc"), g) if v is not None}
        arrays["carry"] = np.empty_like(ds["dh"])
        done = recurrent_native.backward(self._cell(), self.reverse, arrays)
        return list(ds.values()) if done else None

    def _cell(self) -> str:
        return type(self).__name__.lower()

    def _done(self, xs: Sequence[Array], old: Sequence[Array], out: Sequence[Array]) -> bool:
        """Whether machine code has run forwards, and what is to be filled in is."""
        if xs[-1].ndim:
            return False
        arrays = dict(zip(self.operands[:-1], xs)) | dict(zip("hc", old)) | {"z": out[-1]}
        arrays |= dict(zip(("y", "cells"), out[:-1]))
        return recurrent_native.forward(self._cell(), self.reverse, arrays)

    def _weighed(self, live: tuple[int, ...], xs: Any, y: Any) -> tuple[Any, ...]:
        """Hollow cotangents, in the buffers that those of arrays are written to."""
        wide = (*shape_of(y[0])[:-1], self.wide * shape_of(xs[1])[-2])
        sides = [hollow(wide, y[0].dtype) for _ in range(self.sides)]
        return tuple([sides[0] if i == 0 else hollow(shape_of(xs[i]), xs[i].dtype) for i in live])

    def collected(self, sides: Any, h0: Any, xs: Any, y: Any, live: Any) -> dict[int, Any]:
        """The cotangents of x and w, from those of z at all places."""
        gx, gw, t = sides[0], sides[-1], shape_of(sides[0])[0]
        found = {0: gx}
        if 1 in live:
            ends = (t - 1, slice(1, t), slice(0, t - 1)) if self.reverse else (
                0, slice(0, t - 1), slice(1, t)
            )  # fmt: skip
            start, before, after = ends
            found[1] = matmul(turned(h0), gw[start])
            if t > 1:
                found[1] = found[1] + outer(y[0][before], gw[after])
        return found

    def back(self, olds: Any, ds: Any, now: Any, into: Any) -> tuple[list[Array], list[Array]]:
        """(cotangents of z, as x and as h w enter it; cotangents of the old states but through w).

        `into` has buffers for the first, where all is plain.
        """
        raise NotImplementedError

    def only(self, go: Array, row: list[Array]) -> list[Array]:
        """The cotangents of z where an example goes on."""
        if any(r.__class__ is not np.ndarray for r in row):
            return [where(go, r, 0.0) for r in row]
        for r in row:
            np.copyto(r, 0, where=~go)
        return row

    def add(self, row: Any, gz: Array) -> list[Array]:
        """The cotangents of z, with what comes from outside."""
        if row[0].__class__ is np.ndarray is gz.__class__:
            row[0] += gz
            return list(row)
        return [row[0] + gz]

    def batch(self, xs: Any, dims: Any) -> Any:
        out = []
        time = shape_of(xs[0])[0 if dims[0] is None else 1]
        for i, (x, d) in enumerate(zip(xs, dims)):
            at = int(i in (0, len(xs) - 1))  # time stands in front of the lanes
            s = shape_of(x)
            if d is None:
                x = Reshape((*s[:at], 1, *s[at:]))(x) if s else x
            elif len(s) == 1:
                x = Broadcast((time, *s, 1))(Reshape((*s, 1))(x))  # m, the same at all places
            else:
                x = moveaxis(x, 0, at)
            out.append(x)
        return tuple([moveaxis(y, 1, 0) for y in self(*out)])


# ------------------------------------------------------------------ helpers


def column(m: Array) -> Array:
    return Reshape((*shape_of(m), 1))(m)


def spread(x: Array, shape: Shape) -> Array:
    return x if shape_of(x) == shape else x + np.zeros(shape, x.dtype)


def stacked(rows: Sequence[Array]) -> Array:
    return Concatenate(0)(*[Reshape((1, *shape_of(r)))(r) for r in rows])


def turned(w: Array) -> Array:
    return w.swapaxes(-1, -2)


def through(h: Array, w: Array, out: Any = None) -> Array:
    """h w; in one product where all lanes have one w."""
    if h.__class__ is not np.ndarray or w.__class__ is not np.ndarray:
        return matmul(h, w)
    if h.ndim > 2 and w.size == w.shape[-2] * w.shape[-1]:
        flat = None if out is None else out.reshape(-1, w.shape[-1])
        y = np.matmul(h.reshape(-1, h.shape[-1]), w.reshape(w.shape[-2:]), out=flat)
        return y.reshape(*h.shape[:-1], w.shape[-1])
    return np.matmul(h, w, out=out)


def outer(h: Array, g: Array) -> Array:
    """sum h^T g over places and examples: `[T, *L, N, H]`, `[T, *L, N, K]` to `[*L, H, K]`."""

    lanes = shape_of(h)[1:-2]

    def flat(x: Array) -> Array:
        t, *lanes, n, k = shape_of(x)
        if lanes:
            x = moveaxis(x, 0, len(lanes))
        return Reshape((*lanes, t * n, k))(x)

    h, g = flat(h), flat(g)
    return matmul(turned(h), g) if lanes else transpose_by(h, g)


def parts(x: Array, count: int) -> list[Array]:
    """The last axis cut into equal parts."""
    n = shape_of(x)[-1] // count
    return [x[..., i * n : (i + 1) * n] for i in range(count)]


def joined(*xs: Array) -> Array:
    return Concatenate(len(shape_of(xs[0])) - 1)(*xs)


def capped(x: Array, factor: Any = 1) -> tuple[Array, Array]:
    """(1 + e, e / (1 + e)), e = exp(factor x) kept finite: plain arrays.

    The quotient of the two, e / (1 + e)^2, loses no digits: it is sigmoid' where factor is 1, and
    a quarter of tanh' where it is 2.
    """
    e = np.multiply(x, factor) if factor != 1 else x
    return quotients(e, np.empty_like(x) if e is x else e)


def quotients(x: Array, e: Array) -> tuple[Array, Array]:
    """(1 + e^x, e^x / (1 + e^x)), the second in `e`."""
    cap = x.dtype.type(CAP.get(x.itemsize, 700.0))
    if not x.size or x.max() <= cap:
        np.exp(x, out=e)
    else:
        np.exp(np.minimum(x, cap, out=e), out=e)
    q = e + e.dtype.type(1)
    e /= q
    return q, e


def plain_sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), which is 0 where e^-x overflows."""
    e = np.negative(x)
    with np.errstate(over="ignore"):
        np.exp(e, out=e)
    e += e.dtype.type(1)
    return np.reciprocal(e, out=e)


def hold(news: Sequence[Array], olds: Sequence[Array], m: Array) -> None:
    """The old states where m is False."""
    for new, old in zip(news, olds):
        np.copyto(new, old, where=~m[..., None])
