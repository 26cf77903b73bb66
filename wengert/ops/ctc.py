"""Connectionist temporal classification: the sum over all alignments of a sequence of labels."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import General, op
from ..structural import broadcast
from ..trace import OPS
from ..types import Array, Aval, Shape, shape_of
from .elementwise import exp, logaddexp, logical_and, where
from .index import HOLE, Concatenate, Gather, GetItem, ScatterAdd
from .linear import Reshape, Sum

__all__ = ["CTC"]

NEVER = -1e30  # log of a probability of 0 that can be added up and has slopes


@op
class CTC(General):
    """y[n] = -log sum of prod_t e^(a[n, t, path_t]) over the paths that spell the labels b[n].

    A path spells the labels if these are left when repetitions, and then blanks, are taken out.
    States s are the labels with a blank before, between and after them; with alpha_t(s) the
    log-sum of the beginnings of paths that are in s at t, and beta_t(s) of their ends after t,

        alpha_t(s) = a[t, l_s] + log(e^alpha_t-1(s) + e^alpha_t-1(s-1) + e^alpha_t-1(s-2))
        ga[t, k] = -gy sum_{s: l_s = k} e^(alpha_t(s) + beta_t(s) + y)

    without s-2 where it is a blank or the same label. y is inf, and ga nan, where no path is short
    enough or all of them are excluded; with `forgive` both are 0. A class that is excluded at a
    step has a = -inf and ga = 0 there: no path goes through it. nan stays nan.

    Shapes: a `[N, T, C]`, b `[N, S]`, c and d `[N]`: the lengths of a and b; y `[N]`.

    References:
        A. Graves et al. (2006), Connectionist Temporal Classification.
    """

    blank: int
    forgive: bool = False

    args = ("a", "b", "c", "d")
    shown = ("log_p", "labels", "lengths", "label_lengths")
    examples: ClassVar[Any] = [
        ((0,), (2, 4, 3), np.array([[1, 2], [2, 2]]), np.array([4, 4]), np.array([2, 2])),
        ((2,), (2, 4, 3), np.array([[1, 0], [1, 0]]), np.array([3, 4]), np.array([1, 0])),
        ((0, True), (2, 2, 2), np.array([[1, 1], [1, 1]]), np.array([2, 2]), np.array([2, 1])),
    ]

    def impl(self, a: Array, b: Array, c: Array, d: Array) -> Array:
        check(self.blank, a, b, c, d)
        with np.errstate(invalid="ignore"):
            y = States(self.blank, a, b, c, d).cost()
            return np.where(y > -NEVER / 2, 0.0 if self.forgive else np.inf, y).astype(
                a.dtype, copy=False
            )

    def infer(self, a: Aval, b: Aval, c: Aval, d: Aval) -> Aval:
        return Aval(a.shape[:1], a.dtype)

    def jvp_a(self, da: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
        share = States(self.blank, a, b, c, d).shares(self.forgive)
        return -Sum((1, 2), False)(da * share)

    def vjp_a(self, g: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
        g = Reshape((*shape_of(g), 1, 1))(g)
        return -g * States(self.blank, a, b, c, d).shares(self.forgive)

    def batch(self, xs: Any, dims: Any) -> Array:
        lanes = next(shape_of(x)[0] for x, k in zip(xs, dims) if k is not None)
        n = shape_of(xs[0])[dims[0] is not None]
        flat = []
        for x, k in zip(xs, dims):
            x = x if k is not None else broadcast(x, (lanes, *shape_of(x)))
            flat.append(Reshape((lanes * n, *shape_of(x)[2:]))(x))
        return Reshape((lanes, n))(self(*flat))

    def diagnose(self, xs: Any, error: Exception) -> Any:
        a, b = shape_of(xs[0]), shape_of(xs[1])
        fix = None
        if len(a) == 3 and b and a[1] == b[0] != a[0]:
            fix = "{log_p}.swapaxes(0, 1): samples come first"
        return str(error), None, fix

    @classmethod
    def title(cls) -> str:
        return "ctc_loss"


def check(blank: int, a: Array, b: Array, c: Array, d: Array) -> None:
    if a.ndim != 3 or b.ndim != 2 or b.shape[0] != a.shape[0]:
        raise ValueError("log_p is [N, T, C], and labels are [N, S]")
    if c.shape != a.shape[:1] or d.shape != a.shape[:1]:
        raise ValueError("there is a length of log_p and of the labels for each sample")
    if a.dtype.kind != "f" or any(x.dtype.kind not in "iu" for x in (b, c, d)):
        raise TypeError("log_p is real; labels and lengths are integers")
    if not 0 <= blank < a.shape[2]:
        raise IndexError(f"the blank {blank} is outside the {a.shape[2]} classes")
    for name, x, top in (("log_p", c, a.shape[1]), ("labels", d, b.shape[1])):
        if x.size and (x.max() > top or x.min() < 0):
            raise ValueError(f"a length of {name} is outside 0 to {top}")
    real = b[np.arange(b.shape[1]) < d[:, None]]
    if real.size and (real.max() >= a.shape[2] or real.min() < 0):
        bad = real.max() if real.max() >= a.shape[2] else real.min()
        raise IndexError(f"label {bad} is outside the {a.shape[2]} classes")
    if (real == blank).any():
        raise ValueError(f"a label is {blank}, the blank")


class States:
    """The labels with blanks around them, and the log-sums over paths through them."""

    def __init__(self, blank: int, a: Array, b: Array, c: Array, d: Array) -> None:
        b, c, d = map(plain, (b, c, d))
        shape: Shape = shape_of(a)
        (n, steps, _), s = shape, b.shape[1]
        self.shape, self.lengths, self.dtype = shape, c, a.dtype
        states = np.full((n, 2 * s + 1), blank)
        states[:, 1::2] = np.where(np.arange(s) < d[:, None], b, blank)
        self.skips = np.zeros(states.shape, bool)
        self.skips[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
        place = np.arange(2 * s + 1)
        self.last = (place == 2 * d[:, None]) | (place == 2 * d[:, None] - 1)
        self.first = np.broadcast_to(place < 2, states.shape)
        self.index = (
            np.arange(n)[:, None, None],
            np.arange(steps)[:, None],
            states[:, None, :],
        )
        a = where(OPS["lt"](a, NEVER), NEVER, a)  # nan stays
        self.emitted = Gather((HOLE, HOLE, HOLE))(a, *self.index)
        self.never = np.full((), NEVER, a.dtype)

    def moved(self, x: Array, by: int, skips: Array) -> Array:
        """x[s - by], and never where there is none."""
        gap = np.full((shape_of(x)[0], min(abs(by), shape_of(x)[1])), self.never)
        if by > 0:
            parts = gap, GetItem((slice(None), slice(None, -by)))(x)
        else:
            parts = GetItem((slice(None), slice(-by, None)))(x), gap
        y = Concatenate(1)(*parts)
        return y if skips is None else where(skips, y, self.never)

    def at(self, t: int) -> Array:
        return GetItem((slice(None), t))(self.emitted)

    def starts(self) -> list[Array]:
        """alpha_t for each step; past the end of a sample it stays."""
        out: list[Array] = []
        for t in range(self.shape[1]):
            if t == 0:
                x = where(self.first, self.at(0), self.never)
                x = where((self.lengths > 0)[:, None], x, start(self.first, self.never))
            else:
                old = out[-1]
                x = logaddexp(old, self.moved(old, 1, None))
                x = logaddexp(x, self.moved(old, 2, self.skips)) + self.at(t)
                x = where((t < self.lengths)[:, None], x, old)
            out.append(x)
        return out

    def cost(self, alphas: list[Array] | None = None) -> Array:
        alphas = self.starts() if alphas is None else alphas
        if not alphas:
            return np.where(self.last[:, 0], 0.0, -NEVER)
        ends = where(self.last, alphas[-1], self.never)
        return -OPS["LogSumExp"]((1,), False)(ends)

    def shares(self, forgive: bool) -> Array:
        """How much of the sum goes through class k at step t."""
        alphas = self.starts()
        if not alphas:
            return np.zeros(self.shape, self.dtype)
        cost = self.cost(alphas)
        lost = OPS["gt"](cost, -NEVER / 2)
        cost = Reshape((*shape_of(cost), 1, 1))(cost)
        skips: Any = np.concatenate([self.skips[:, 2:], np.zeros_like(self.skips[:, :2])], 1)
        final = where(self.last, np.zeros((), self.dtype), self.never)
        beta, betas = final, [final]
        for t in range(self.shape[1] - 2, -1, -1):
            x = beta + self.at(t + 1)
            y = logaddexp(x, self.moved(x, -1, None))
            y = logaddexp(y, self.moved(x, -2, skips))
            beta = where((t < self.lengths - 1)[:, None], y, final)
            betas.append(beta)
        through = stacked(alphas) + stacked(betas[::-1]) + cost
        inside = np.arange(self.shape[1])[:, None] < self.lengths[:, None, None]
        share = where(inside, exp(where(inside, through, self.never)), np.zeros((), self.dtype))
        shares = ScatterAdd((HOLE, HOLE, HOLE), self.shape)(share, *self.index)
        lost = Reshape((*shape_of(lost), 1, 1))(lost)
        return where(logical_and(lost, inside), 0.0 if forgive else np.nan, shares)


def start(first: Array, never: Array) -> Array:
    """Before the first step of an empty sample: in the first blank."""
    place = np.zeros(first.shape, bool)
    place[:, 0] = True
    return np.where(place, never.dtype.type(0), never)


def stacked(xs: list[Array]) -> Array:
    shape = shape_of(xs[0])
    return Concatenate(1)(*[Reshape((shape[0], 1, *shape[1:]))(x) for x in xs])


def plain(x: Any) -> Any:
    while hasattr(x, "level"):
        x = x.data
    return x
