"""Taylor mode: a value carries a truncated power series, at a level of its own.

K derivatives along a curve cost O(K^2) to O(K^3) times the function, where K nested `jvp` cost 2^K.
Linear operations map each coefficient; products are Cauchy products; elementary functions have the
recurrences of `wengert.transforms.series`. Every other operation needs no rule of its own:
y = f(x) has y' = J(x) x', and the tangent rule that it has, run on series one order shorter, gives
the series of y'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import ArgumentError, ShapeError
from ..given import call, function, numeric
from ..ops import elementwise as e
from ..ops.contract import Affine, matmul
from ..ops.index import Write
from ..ops.linalg import Solve
from ..ops.scan import Recurrence
from ..primitive import Constant, Elementwise, General, Linear, Multilinear, parameters
from ..structural import broadcast, cast, densify
from ..trace import Level, Tensor, make, push
from ..types import BOOL, dtype_of, is_inexact, shape_of
from .conventions import kink_mask, kinked_tangent
from .jvp import eager, handed_out, inward, surfaced, tangent
from .series import TABLE, Series, cauchy, derivative, integral, plus
from .store import store_above, store_into
from .vjp import check_inputs

__all__ = ["jet"]


class Jet(Tensor):
    """x(t) = c_0 + c_1 t + .. : `data` is c_0, `node` the list of the others; None for zero."""

    __slots__ = ()


# Elementwise, and constant in slope around a point: the slope maps every coefficient alike.
FLAT_SLOPES = {
    e.add, e.sub, e.neg, e.positive, e.copy, e.conj, e.real, e.imag, e.where,
    e.relu, e.maximum, e.minimum, e.fmax, e.fmin, e.clip, e.copysign, e.nextafter,
    e.remainder, e.fmod,
}  # fmt: skip


class Taylor(Level):
    """Power series at one level. `known` remembers what one evaluation has found, by operands."""

    __slots__ = ("known", "running")
    cls = Jet

    def __init__(self, depth: int) -> None:
        Level.__init__(self, depth)
        self.known: dict[Any, list[Any]] = {}
        self.running = 0

    def process(self, op: Any, xs: Any) -> Any:
        values: list[Any] = []
        series: list[Any] = []
        order: int | None = None
        for x in xs:
            mine = isinstance(x, Tensor) and x.level is self
            values.append(x.data if mine else x)
            series.append(x.node if mine else None)
            if mine and x.node is not None:
                order = len(x.node) if order is None else min(order, len(x.node))
        if order is None or isinstance(op, Constant):
            return self.constant(op, values, order)
        series = [None if s is None or not any_of(s[:order]) else s[:order] for s in series]
        if all(s is None for s in series):
            return self.constant(op, values, order)
        if op.outputs == 1 and kinked(op):
            y = op(*values)
            kinks = kink_mask(op, values, y)
            with np.errstate(all="ignore"):
                found = self.coefficients(op, values, series, order, y)
            if kinks is not None:
                found = [kinked_tangent(c, kinks, y) for c in found]
            return self.jet(y, found)
        with np.errstate(all="ignore"):
            y, found = self.remembered(op, values, series, order)
        if op.outputs > 1:
            return tuple([self.jet(v, c) for v, c in zip(y, found)])
        return self.jet(y, found)

    def constant(self, op: Any, values: list[Any], order: int | None) -> Any:
        y = op(*values)
        if order is None or not kinked(op) or not is_inexact(dtype_of(y)):
            return y
        kinks = kink_mask(op, values, y)
        return y if kinks is None else self.jet(y, [kinked_tangent(None, kinks, y)] * order)

    def jet(self, y: Any, coefficients: list[Any]) -> Any:
        if not any_of(coefficients):
            return y
        return make(y, list(coefficients), self, Jet)

    # ---- one operation
    def remembered(self, op: Any, values: list[Any], series: list[Any], order: int) -> Any:
        """(y, its coefficients); the same operands, asked for a longer series, go on from there."""
        key = (id(op), *map(id, values))
        entry = self.known.get(key)
        if entry is not None and not same_prefix(entry[1], series):
            entry = None
        if entry is None:
            y = op(*values)
            entry = self.known[key] = [values, series, y, None, op]
        y, found = entry[2], entry[3]
        have = 0 if found is None else len(found[0] if op.outputs > 1 else found)
        if have < order:
            self.running += 1
            try:
                found = self.coefficients(op, values, series, order, y, found)
            finally:
                self.running -= 1
            entry[1], entry[3] = series, found
        if not self.running:
            self.known.clear()
        if op.outputs > 1:
            return y, [c[:order] for c in found]
        return y, found[:order]

    def coefficients(
        self, op: Any, values: Any, series: Any, order: int, y: Any, found: Any = None
    ) -> Any:
        """The coefficients 1 .. order of y = op(x), of its shape and dtype."""
        if op.outputs == 1 and not is_inexact(dtype_of(y)):
            return [None] * order
        got = self.by_recurrence(op, values, series, order, y)
        if got is None:
            return self.by_slope(op, values, series, order, y, found)
        return [fitted(c, y) for c in got]

    def by_recurrence(self, op: Any, values: Any, series: Any, order: int, y: Any) -> Any:
        boolean = any(dtype_of(x) == BOOL for x in values)
        if isinstance(op, Linear) or (boolean and op in (e.mul, e.mul_mask)) or flat(op, values):
            return [
                tangent(op, values, [None if s is None else s[k] for s in series], y)
                if any(s is not None and s[k] is not None for s in series)
                else None
                for k in range(order)
            ]
        if isinstance(op, Elementwise):
            rule = TABLE.get(op)
            got = None if rule is None else rule(whole(values, series, order), y)
            return None if got is None else got[1:]
        if isinstance(op, Multilinear) and len(values) == 2:
            a, b = whole(values, series, order)
            return [cauchy(op, a, b, k) for k in range(1, order + 1)]
        if isinstance(op, Affine):
            a, b, c = whole(values, series, order)
            return [plus(cauchy(matmul, a, b, k), c[k]) for k in range(1, order + 1)]
        if isinstance(op, Solve):
            a, b = whole(values, series, order)
            return solved(lambda r: op(values[0], r), matmul, a, b, y)
        if isinstance(op, Recurrence):
            a, b = whole(values, series, order)
            run = lambda r: op(values[0], fitted(r, y))
            return solved(run, lambda c, v: -(c * op._past(v)), a, b, y)
        return None

    def by_slope(
        self, op: Any, values: Any, series: Any, order: int, y: Any, found: Any = None
    ) -> Any:
        """From y' = J(x) x': one run of the tangent rule, or one a coefficient if it reads y."""
        if not reads_value(op, series):
            slope = self.tangent(op, values, series, order, y, None)
            return integral(slope)
        many = op.outputs > 1
        found = found or ([[] for _ in y] if many else [])
        for k in range(len(found[0] if many else found), order):
            slope = self.tangent(op, values, series, k + 1, y, found)
            if many:
                found = [[*c, integral(s)[k]] for c, s in zip(found, slope)]
            else:
                found = [*found, integral(slope)[k]]
        return found

    def tangent(self, op: Any, values: Any, series: Any, order: int, y: Any, found: Any) -> Any:
        """The coefficients 0 .. order - 1 of y', given those of y up to the same."""
        k = order - 1
        xs = [x if s is None else self.jet(x, s[:k]) for x, s in zip(values, series)]
        dxs: list[Any] = []
        for x, s in zip(values, series):
            if s is None:
                dxs.append(None)
                continue
            first, *rest = derivative([None, *s[:order]])
            zero = first is None
            first = np.zeros(shape_of(x), dtype_of(x)) if zero else first
            dxs.append(self.jet(first, rest))
        if op.outputs > 1:
            ys = [self.jet(v, c[:k]) for v, c in zip(y, found)]
            slopes = op.push(xs, dxs, tuple(ys))
            return [
                [None] * order if s is None else self.split(fitted(densify(s), v), order)
                for v, s in zip(y, slopes)
            ]
        dy = tangent(op, xs, dxs, y if found is None else self.jet(y, found[:k]))
        return [None] * order if dy is None else self.split(fitted(densify(dy), y), order)

    def split(self, d: Any, order: int) -> Series:
        if isinstance(d, Tensor) and d.level is self:
            return [d.data, *d.node[: order - 1], *[None] * (order - 1 - len(d.node))]
        return [d] + [None] * (order - 1)

    # ---- writing and leaving
    def write(self, x: Tensor, path: tuple[Any, ...], v: Any) -> None:
        new = None
        if isinstance(v, Tensor) and v.level is self:
            new, v = v.node, v.data
        if not is_inexact(x.data.dtype):
            new = None
        old = x.node
        store_into(x, path, v)
        if old is None and new is None:
            return
        order = len(old or new or ())
        out: list[Any] = []
        for k in range(order):
            dx = None if old is None else old[k]
            dv = None if new is None else new[k]
            if dx is None and dv is None:
                out.append(None)
                continue
            dx = np.zeros(shape_of(x.data), x.data.dtype) if dx is None else dx
            dv = np.zeros((), x.data.dtype) if dv is None else dv
            above = isinstance(dx, Tensor) or isinstance(dv, Tensor)
            out.append(store_above(dx, path, dv) if above else Write(path)(dx, dv))
        x.node = out

    def detach(self, t: Tensor) -> Any:
        d = t.data
        return d.detach() if isinstance(d, Tensor) else make(trace.cut(d), None, eager())


def any_of(coefficients: Sequence[Any]) -> bool:
    return any(c is not None for c in coefficients)


def kinked(op: Any) -> bool:
    return bool(trace.MODES)


def flat(op: Any, values: list[Any]) -> bool:
    """Whether the slope is constant around a point, so that it maps every coefficient alike."""
    if op is e.abs:
        return getattr(dtype_of(values[0]), "kind", "f") != "c"
    return isinstance(op, Elementwise) and op in FLAT_SLOPES


def whole(values: list[Any], series: list[Any], order: int) -> list[Series]:
    return [[x, *([None] * order if s is None else s)] for x, s in zip(values, series)]


def same_prefix(old: list[Any], new: list[Any]) -> bool:
    for a, b in zip(old, new):
        if (a is None) != (b is None):
            return False
        if a is not None and any(x is not y for x, y in zip(a, b)):
            return False
    return True


def solved(
    inverse: Callable[[Any], Any], product: Callable[[Any, Any], Any], a: Series, b: Series, y: Any
) -> Series:
    """a y = b for the coefficients of y: a_0 y_k = b_k - sum_{j>0} a_j y_(k-j)."""
    out = [y]
    for k in range(1, len(a)):
        rest = b[k]
        for j in range(1, k + 1):
            if a[j] is not None and out[k - j] is not None:
                rest = plus(rest, -product(a[j], out[k - j]))
        out.append(None if rest is None else inverse(rest))
    return out[1:]


def reads_value(op: Any, series: list[Any]) -> bool:
    """Whether the tangent rule, for the arguments that have a series, reads the operation's value.

    What has a `push` of its own is taken to read it.
    """
    live = [i for i, s in enumerate(series) if s is not None]
    if isinstance(op, Elementwise):
        names = [n for i in live if op.partials[i] for n in parameters(op.partials[i])[1:]]
        return "y" in names or op.forward is not None
    if type(op).push is not General.push:
        return True
    args = op.argnames(len(series))
    rules = [getattr(op, "jvp" if len(args) == 1 else f"jvp_{args[i]}", None) for i in live]
    return any("y" in parameters(r) for r in rules if r is not None)


def fitted(c: Any, y: Any) -> Any:
    """A coefficient of y's shape and dtype."""
    if c is None:
        return None
    c = densify(c)
    if shape_of(c) != shape_of(y):
        c = broadcast(c, shape_of(y))
    if dtype_of(c) != dtype_of(y) and dtype_of(c) is not None and dtype_of(y) is not None:
        c = cast(c, y.dtype)
    return c


def jet(
    f: Callable[..., Any], primals: Any, series: Any, *, factorial_scaled: bool = True
) -> tuple[Any, Any]:
    """Value and K derivatives of f along a curve:  y(t) = f(x(t)) from those of x at t = 0.

    With x_k = d^k x/dt^k and y_k = d^k y/dt^k at 0, which are derivatives and not divided by k!:
    y_1 = f'(x) x_1,  y_2 = f''(x) x_1 x_1 + f'(x) x_2,  and so on (Faa di Bruno). The K-th
    derivative of f along a line is y_K with x_1 = v and all other x_k = 0.

    Args:
        f: a function of one or more pytrees of arrays.
        primals: the tuple of arguments x.
        series: for each argument the list [x_1, .., x_K], each of the argument's structure.
        factorial_scaled: False for the coefficients of the power series, y_k / k!, both in and out.

    Returns:
        (y, [y_1, .., y_K]); where f's value is a tree, a tree of such lists.

    Raises:
        ArgumentError: the lists differ in length, or are empty, or number other than the arguments.
        ShapeError: a derivative does not have the shape of its primal.

    >>> y, (y1, y2, y3) = jet(lambda x: x ** 3, (2.0,), ([1.0, 0.0, 0.0],))
    >>> [float(v) for v in (y, y1, y2, y3)]
    [8.0, 12.0, 12.0, 6.0]

    References:
        Griewank & Walther, Evaluating Derivatives (2008), chapter 13.
    """
    what = "jet(f, primals, series)"
    function(what, "f", f)
    primals = tuple(primals) if isinstance(primals, tuple | list) else (primals,)
    if not isinstance(series, tuple | list) or len(series) != len(primals):
        raise ArgumentError(
            what,
            f"one series for each of the {len(primals)} arguments",
            operands=[("series", series)],
            fix="(series,) for f's only argument" if len(primals) == 1 else None,
        )
    if not all(isinstance(s, tuple | list) for s in series):
        raise ArgumentError(what, "a series is the list [x_1, .., x_K]", fix="([x_1, .., x_K],)")
    orders = sorted({len(s) for s in series})
    if len(orders) != 1 or orders[0] < 1:
        raise ArgumentError(what, f"the series have the lengths {[len(s) for s in series]}")
    (order,) = orders
    xs, structure = tree.flatten(primals)
    check_inputs("jet", xs, tree.paths(structure))
    columns = []
    for k in range(order):
        terms, other = tree.flatten(tuple(s[k] for s in series))
        if other != structure:
            raise ArgumentError(
                what,
                f"x_{k + 1} has another structure than the primals",
                operands=[("primals", str(structure)), (f"x_{k + 1}", str(other))],
            )
        columns.append(terms)
    wrap = any(isinstance(x, Tensor) for x in (*xs, *[c for col in columns for c in col]))
    scale = [math.factorial(k) if factorial_scaled else 1 for k in range(1, order + 1)]
    with push(Taylor) as level:
        jets = []
        for i, x in enumerate(xs):
            x = inward(x)
            terms = [
                coefficient(col[i], x, n, k + 1) for k, (col, n) in enumerate(zip(columns, scale))
            ]
            jets.append(make(x, terms, level, Jet))
        ys, shape = tree.flatten(call(what, "f", f, *tree.unflatten(structure, jets)))
        numeric(what, lambda: tree.paths(shape, "f(x)"), ys)
        values, tables = [], []
        for y in ys:
            y = surfaced(y, level)
            mine = isinstance(y, Tensor) and y.level is level
            v = y.data if mine else inward(y)
            got = y.node if mine and y.node is not None else [None] * order
            values.append(v)
            tables.append(
                [
                    np.zeros(shape_of(v), dtype_of(v) or float) if c is None else times_whole(c, n)
                    for c, n in zip(got, scale)
                ]
            )
    value = tree.unflatten(shape, handed_out(values, wrap))
    return value, tree.unflatten(shape, [handed_out(t, wrap) for t in tables])


def coefficient(term: Any, x: Any, n: int, k: int) -> Any:
    """x_k / k! as an array of x's dtype; None where it is a plain zero."""
    c = inward(term)
    if shape_of(c) != shape_of(x):
        raise ShapeError(
            "jet(f, primals, series)",
            "a derivative has the shape of its primal",
            operands=[("primal", x), (f"x_{k}", c)],
        )
    if isinstance(c, np.ndarray | np.generic):
        if not c.any():
            return None
        c = np.asarray(c, dtype_of(x)) if dtype_of(x) is not None else c
    elif dtype_of(c) != dtype_of(x):
        c = cast(c, x.dtype)
    return c if n == 1 else c / n


def times_whole(c: Any, n: int) -> Any:
    return c if n == 1 else c * n
