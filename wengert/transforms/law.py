"""One call of a function that brings its own derivative rules, as one operation.

A rule is a map that is linear in the tangent (`push`) or in the cotangent (`pull`). Whichever is
missing is the transpose of the other, found by recording the linear map on a tape of its own and
pulling through it:

    dx -> J(x) dx        transposed    gy -> J(x)^T gy
    gy -> J(x)^T gy      transposed    dx -> J(x) dx

The tape, forward mode and vmap see one operation, `Custom`, whose rules are ordinary code: run on
recorded values they are recorded, which is every higher order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np

from .. import tree
from ..errors import ArgumentError, LevelError, TapeExitError, UnsupportedError, verbatim
from ..ops.index import Concatenate
from ..ops.linear import Sum
from ..owned import own
from ..primitive import Primitive, Rule, live_arguments, zeros_like
from ..structural import cast, densify
from ..trace import EAGER, HERE, SOLE, Tensor, decay, getrefcount, looked, make, push
from ..types import RAW, Array, Aval, dtype_of, is_inexact, shape_of
from .pairing import agree, bottom, elsewhere, inner, same_pairing
from .vjp import Recorded
from .vmap import Batched, VMap, unbatch

LOST = (TapeExitError, LevelError, UnsupportedError)  # code for plain arrays met a tensor


# ------------------------------------------------------------------ laws: a value and its rules


class Law:
    """A function of flat lists of arrays, with its derivatives.

    `call` gives the value; `push` is linear in the tangents and `pull` in the cotangents, where
    None is zero, in the result too; or no gradient at all, in that of `pull`, if `holes`.
    """

    name = "custom"
    opaque = False  # its value can be had from plain arrays alone
    materialize = True  # cotangents that are missing come as zeros, not None
    holes = False  # whether None from `pull` ends the sweep there

    def call(self, xs: list[Array], want: bool) -> tuple[list[Array], tree.Tree, Any]:
        """(outputs, their structure, residuals): residuals are wanted for a pull to come."""
        raise NotImplementedError

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        raise NotImplementedError

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        raise NotImplementedError

    def lanes(self, n: int, dims: Sequence[int | None]) -> Law:
        """The same law for n lanes at once, along a first axis of the arguments with dims[i] 0."""
        return Lanes(self, n, dims)

    def infer(self, *avals: Aval) -> Any:
        raise UnsupportedError(
            f"{self.name} in a staged function", "its shapes are not known without running it"
        )


class Custom(Primitive):
    """One call of a function that brings its own derivative rules.

    y = f(x_1, .., x_n),  dy = push(x, dx),  gx = pull(x, gy).
    """

    variadic: ClassVar[bool] = True

    def __init__(self, law: Law, want: bool = False) -> None:
        self.law, self.want = law, want
        self.outputs = 1  # type: ignore[misc]
        self.out: Any = None
        self.like: list[Aval] = []
        self.residuals: Any = None
        self.frame: Any = None

    def __repr__(self) -> str:
        return self.law.name

    def title(self) -> str:
        return self.law.name

    def __call__(self, *xs: Array) -> Any:
        if any(hasattr(x, "graph") for x in xs) and not any(isinstance(x, Tensor) for x in xs):
            return self.staged(xs)
        if not any(isinstance(x, Tensor) for x in xs):
            return self.impl(*xs)
        return Primitive.__call__(self, *xs)

    def refusal(self, xs: tuple[Array, ...], error: Exception) -> Exception:
        return error  # the user's own

    def impl(self, *xs: Array) -> Any:
        shown = [locked(x) for x in xs]
        ys, self.out, residuals = self.law.call(shown, self.want)
        leaves, structure = tree.flatten(residuals)
        del residuals
        ys = own_outputs(ys, leaves, self.law.name)
        self.residuals = tree.unflatten(structure, kept(leaves, [*shown, *ys]))
        return self.settle(ys)

    def settle(self, ys: list[Array]) -> Any:
        """What an operation returns: one value bare, several in a tuple."""
        self.like = [Aval.of(y) for y in ys]
        self.outputs = len(ys)  # type: ignore[misc]
        return ys[0] if len(ys) == 1 else tuple(ys)

    def staged(self, xs: Sequence[Array]) -> Any:
        """In a graph: the function's own operations; one opaque line for code that has none."""
        if self.law.opaque:
            graph = next(x.graph for x in xs if hasattr(x, "graph"))
            avals = self.infer(*[x.aval if hasattr(x, "aval") else Aval.of(x) for x in xs])
            self.like = list(avals) if isinstance(avals, tuple) else [avals]
            self.outputs = len(self.like)  # type: ignore[misc]
            self.out = tree.flatten([0] * self.outputs)[1]
            return graph.emit(self, xs)
        tracer = getattr(HERE, "trace", None)
        tracer = tracer if hasattr(tracer, "enter") else None
        first = tracer.enter() if tracer is not None else 0
        ys, self.out, _ = self.law.call([as_tensor(x) for x in xs], False)
        ys = [as_variable(y) for y in ys]
        if tracer is not None:
            tracer.leave(first, self.law, xs, ys)
        return self.settle(ys)

    def infer(self, *avals: Aval) -> Any:
        return self.law.infer(*avals)

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Any:
        ys = [y] if self.outputs == 1 else list(y)
        slopes = self.law.push(xs, dxs, ys)
        out = [None if d is None or not is_inexact(dtype_of(v)) else cast_to(d, v)
               for d, v in zip(slopes, ys)]  # fmt: skip
        return out[0] if self.outputs == 1 else tuple(out)

    def rule(self, mask: int) -> Rule | None:
        live = live_arguments(mask)
        return ruled(self.law.name, self.outputs, live)

    def cache(self) -> Any:
        """The residuals that are arrays, given up to the tape: it keeps them as it keeps others."""
        residuals, self.residuals = self.residuals, None
        if residuals is None:
            return None
        leaves, structure = tree.flatten(residuals)
        at = [i for i, r in enumerate(leaves) if isinstance(r, np.ndarray) or type(r) is Lane]
        kept = tuple([leaves[i].data if type(leaves[i]) is Lane else leaves[i] for i in at])
        lanes = [type(leaves[i]) is Lane for i in at]
        for i in at:
            leaves[i] = None
        self.frame = (at, lanes, leaves, structure)
        return kept

    def uncached(self, cache: Any) -> Any:
        """The residuals, from the arrays that the tape kept."""
        if cache is None:
            return None
        at, lanes, leaves, structure = self.frame
        leaves = list(leaves)
        for i, lane, r in zip(at, lanes, cache):
            leaves[i] = Lane(r) if lane else r
        return tree.unflatten(structure, leaves)

    def batch(self, xs: list[Array], dims: list[int | None]) -> Any:
        n = next(shape_of(x)[0] for x, d in zip(xs, dims) if d is not None)
        many = Custom(law=self.law.lanes(n, dims), want=self.want)
        y = many(*xs)
        self.outputs, self.out = many.outputs, many.out  # type: ignore[misc]
        self.like = [Aval(a.shape[1:], a.dtype) for a in many.like]
        return y


class Kept(Primitive):
    """A law as a line of a program that is to be differentiated."""

    variadic: ClassVar[bool] = True

    def __init__(self, law: Law, out: tuple[Aval, ...]) -> None:
        self.law, self.out = law, out
        self.outputs = len(out)  # type: ignore[misc]

    def __repr__(self) -> str:
        return self.law.name

    def infer(self, *avals: Aval) -> Any:
        return self.out if self.outputs > 1 else self.out[0]

    def again(self, *xs: Array) -> Any:
        """A call of the law, recorded wherever an argument is."""
        return Custom(law=self.law, want=any(isinstance(x, Tensor) and x.recorded() for x in xs))(
            *xs
        )

    def impl(self, *xs: Array) -> Any:
        return self.again(*xs)


class Light:
    """What a rule remembers of its operation: no residuals, which a sweep must free."""

    variadic, diagonal, keeps_mask, args = True, False, False, ()

    def __init__(self, name: str, outputs: int) -> None:
        self.name, self.outputs = name, outputs

    def __repr__(self) -> str:
        return self.name


@lru_cache(4096)
def ruled(name: str, outputs: int, live: tuple[int, ...]) -> Rule:
    """One rule for all calls alike: a part that runs twice is known again by it."""
    rule = Rule(Light(name, outputs), live, ("op", "live", "xs", "cache"), pull)
    rule.single = False
    return rule


def pull(
    g: Any, op: Custom, live: tuple[int, ...], xs: Sequence[Array], cache: Any
) -> tuple[Array | None, ...]:
    parts = [g] if op.outputs == 1 else list(g)
    fill = op.law.materialize
    gs = [
        np.zeros(a.shape, a.dtype) if g is None and fill else densify(g)
        for g, a in zip(parts, op.like)
    ]
    # residuals of plain arrays are constants to every other level: those compute them again
    plain = not any(isinstance(x, Tensor) or hasattr(x, "graph") for x in xs)
    got = op.law.pull(list(xs), gs, live, op.uncached(cache) if plain else None)
    none = (lambda x: None) if op.law.holes else tangent_zero
    return tuple([none(xs[i]) if v is None else cast_to(v, xs[i]) for i, v in zip(live, got)])


def cast_to(d: Array, x: Array) -> Array:
    d, dtype = as_variable(d), dtype_of(x)
    return d if dtype is None or dtype_of(d) == dtype else cast(d, dtype)


def tangent_zero(x: Array) -> Array:
    dtype = dtype_of(x)
    return zeros_like(x) if is_inexact(dtype) else np.zeros(shape_of(x))


def filled(ds: Sequence[Array | None], xs: Sequence[Array]) -> list[Array]:
    return [tangent_zero(x) if d is None else d for d, x in zip(ds, xs)]


def locked(x: Array) -> Array:
    """A view that the function cannot write: the tape may keep what is under it."""
    if x.__class__ is not np.ndarray:
        return x
    x = x.view()
    x.flags.writeable = False
    return x


def own_outputs(ys: list[Array], residuals: list[Any], name: str) -> list[Array]:
    """Plain arrays that nobody else holds: a function may hand out the same buffer again."""
    out = []
    ys.reverse()
    while ys:
        y = ys.pop()
        if isinstance(y, Tensor):
            y = looked(decay(y))
        if isinstance(y, Tensor):
            if y.recorded():
                raise closed_over(name, y)
            y = y.value()
        if y.__class__ is not np.ndarray:
            y = np.asarray(y)
        elif (
            y.base is not None
            or not y.flags.writeable
            or getrefcount(y) > SOLE + sum([r is y for r in residuals])
        ):
            y = y.copy()
        out.append(y if y.ndim else y[()])
    return out


def kept(leaves: list[Any], safe: list[Array]) -> list[Any]:
    """Residuals that later writes by the user cannot reach."""
    fixed = {id(v) for v in safe}
    out = []
    leaves.reverse()
    while leaves:
        r = leaves.pop()
        if isinstance(r, Tensor) and r.recorded():
            raise closed_over("the residuals of a custom function", r)
        if r.__class__ is np.ndarray and id(r) not in fixed and getrefcount(r) > SOLE:
            r = own(r)
        out.append(r)
    return out


def closed_over(name: str, x: Any) -> UnsupportedError:
    return UnsupportedError(
        name,
        "it reads a value from outside that is being differentiated (or batched), and its rule "
        "says nothing of that value",
        operands=[("depends on", x)],
        fix="pass the value as an argument; or wg.stop_gradient(value) where it is read, if no "
        "gradient is wanted through it",
    )


# ------------------------------------------------------------------ transposition, lanes


_straight: WeakSet[Any] = WeakSet()  # whose rules have been found linear


def transpose(
    f: Callable[[list[Array]], list[Array]], at: list[Array], gs: list[Array], name: str, owner: Any
) -> list[Array]:
    """A^T g of a linear map A, given as code: recorded at zero, and pulled.

    The first time for an owner of rules it is held to be linear at another point as well.
    """
    got, _ = transposed_at(f, at, gs, name)
    if owner not in _straight:
        HERE.__dict__.setdefault("packers", []).append(None)  # no checkpoint counts this run
        try:
            straight = linear(f, at, gs, name)
        finally:
            HERE.packers.pop()
        if straight is False:
            raise crooked(name)
        if straight:
            _straight.add(owner)
    return got


def linear(f: Any, at: list[Array], gs: list[Array], name: str) -> bool | None:
    """Whether A^T g is at p what it is at zero, and <A^T g, p> = <g, A p>; None if unknown here."""
    rng = np.random.default_rng(0)
    if not all(isinstance(g, RAW) for g in gs):  # lanes, or values that are not known yet
        gs = [elsewhere(g, rng) for g in gs]
    values, _ = transposed_at(f, at, gs, name)
    point = [elsewhere(a, rng) for a in at]
    others, ys = transposed_at(f, point, gs, name, zero=False)
    values, others, ys = ([bottom(v) for v in vs] for vs in (values, others, ys))
    if not all(isinstance(v, RAW) for v in [*values, *others, *ys]):
        return None
    if not all(map(agree, values, others)):
        return False
    return same_pairing(gs, ys, point, values)


def crooked(name: str) -> ArgumentError:
    return ArgumentError(
        f"the rule of {name}",
        "it is not linear in the tangent (or cotangent), so it has no transpose, and "
        "serves one mode alone",
        fix="a rule for the other mode as well: defjvp and defvjp, jvp and backward",
    )


def transposed_at(
    f: Callable[[list[Array]], list[Array]],
    at: list[Array],
    gs: list[Array],
    name: str,
    zero: bool = True,
) -> tuple[list[Array], list[Any]]:
    """(A^T g, the value of the map) as the map is at a point."""
    rec = Recorded(f, at, f)
    nodes, values = [], []
    for y in rec.out:
        value, node = rec.split(y) if y is not None else (None, None)
        if zero and isinstance(value, RAW) and np.any((value != 0) & np.isfinite(value)):
            raise ArgumentError(
                f"the rule of {name}",
                "it is not linear: at a zero tangent (or cotangent) it does not give zero",
                operands=[("value at zero", verbatim(str(value)))],
            )
        nodes.append(node)
        values.append(np.zeros(()) if value is None else value)
    return rec.pull(nodes, gs, keep=False), values


def by_columns(
    f: Callable[[list[Array]], list[Array]],
    at: list[Array],
    gs: list[Array],
    name: str = "",
    owner: Any = None,
) -> list[Array]:
    """The same for code that takes plain arrays alone: one call for each element of `at`.

    Without an owner f is known to be linear.
    """
    rng = np.random.default_rng(0)
    point = [elsewhere(a, rng) for a in at]
    out, sums = [], [np.zeros(())] * len(gs)
    for i, x in enumerate(at):
        column = np.zeros(np.shape(x), np.result_type(x))
        values = []
        for k in range(column.size):
            column.flat[k] = 1
            ys = f([column.copy() if j == i else zeros_like(a) for j, a in enumerate(at)])
            values.append(inner(gs, ys))
            sums = [t if y is None else t + point[i].flat[k] * y for t, y in zip(sums, ys)]
            column.flat[k] = 0
        values = [np.asarray(v) if isinstance(v, RAW) else v for v in values]
        out.append(stacked(values).reshape(column.shape) if values else column)
    if owner is not None and owner not in _straight and all(isinstance(t, RAW) for t in sums):
        ys = [np.zeros(()) if y is None else y for y in f([p.copy() for p in point])]
        if not all(map(agree, sums, ys)):
            raise crooked(name)
        _straight.add(owner)
    return out


def stacked(xs: list[Array]) -> Array:
    shape = shape_of(xs[0])
    return Concatenate(0)(*[np.reshape(x, (1, *shape)) for x in xs])


class Lanes(Law):
    """A law under one batch axis: run once on batched values, or lane by lane where that fails."""

    def __init__(self, law: Law, n: int, dims: Sequence[int | None]) -> None:
        self.law, self.n, self.dims = law, n, tuple(dims)
        self.name, self.opaque = law.name, law.opaque

    @property
    def materialize(self) -> bool:
        return self.law.materialize

    @property
    def holes(self) -> bool:
        return self.law.holes

    def infer(self, *avals: Aval) -> Any:
        lanes = [Aval(a.shape[1:], a.dtype) if d is not None else a
                 for a, d in zip(avals, self.dims)]  # fmt: skip
        out = self.law.infer(*lanes)
        many = [Aval((self.n, *a.shape), a.dtype) for a in (out if type(out) is tuple else (out,))]
        return tuple(many) if type(out) is tuple else many[0]

    def wrap(self, xs: Sequence[Array], level: Any, dims: Sequence[int | None]) -> list[Array]:
        return [x if d is None or x is None else make(x, 0, level, Batched)
                for x, d in zip(xs, dims)]  # fmt: skip

    def lane(self, xs: Sequence[Array], i: int, dims: Sequence[int | None]) -> list[Array]:
        return [x if d is None or x is None else x[i] for x, d in zip(xs, dims)]

    def gather(self, rows: list[list[Array | None]]) -> list[Array | None]:
        return [None if any(v is None for v in column) else stacked(list(column))
                for column in zip(*rows)]  # fmt: skip

    def call(self, xs: list[Array], want: bool) -> Any:
        if not self.law.opaque or not self.n:
            try:
                with push(VMap, self.n) as level:
                    ys, out, residuals = self.law.call(self.wrap(xs, level, self.dims), want)
                    ys = [unbatch(y, level) for y in ys]
                    leaves, shape = tree.flatten(residuals)
                    leaves = [lane_leaf(r, level) for r in leaves]
                return ys, out, (leaves, shape) if want and residuals is not None else None
            except LOST as error:
                if not self.n:
                    raise UnsupportedError(
                        f"vmap({self.name})", "no lanes, and code that takes plain arrays alone"
                    ) from error
        rows = []
        for i in range(self.n):
            ys, out, _ = self.law.call(self.lane(xs, i, self.dims), False)
            values: list[Array | None] = [
                np.asarray(y.value() if isinstance(y, Tensor) else y) for y in ys
            ]
            rows.append(values)
        return self.gather(rows), out, None

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        with push(VMap, self.n) as level:
            got = self.law.push(
                self.wrap(xs, level, self.dims),
                self.wrap(dxs, level, self.dims),
                self.wrap(ys, level, [0] * len(ys)),
            )
            return [None if d is None else unbatch(d, level) for d in got]

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        with push(VMap, self.n) as level:
            if residuals is not None:
                leaves, shape = residuals
                leaves = [make(r.data, 0, level, Batched) if type(r) is Lane else r
                          for r in leaves]  # fmt: skip
                residuals = tree.unflatten(shape, leaves)
            got = self.law.pull(
                self.wrap(xs, level, self.dims),
                self.wrap(gs, level, [0] * len(gs)),
                live,
                residuals,
            )
            got = [None if v is None else unbatch(v, level) for v in got]
        return [v if v is None or self.dims[k] is not None else Sum((0,), False)(v)
                for k, v in zip(live, got)]  # fmt: skip


class Lane:
    """A residual that has the batch axis in front."""

    def __init__(self, data: Array) -> None:
        self.data = data


def lane_leaf(r: Any, level: Any) -> Any:
    r = looked(r)
    if isinstance(r, Tensor) and r.level is level:
        return Lane(r.data) if r.node is not None else r.data
    return r


def apply(law: Law, xs: list[Array]) -> Any:
    """One call of a law: its value, recorded wherever an argument is."""
    want = any(isinstance(x, Tensor) and x.recorded() for x in xs)
    op = Custom(law=law, want=want)
    # the tape may keep an array that the caller goes on to write
    ys = op(*[own(x) if want else x for x in xs])
    return tree.unflatten(op.out, [ys] if op.outputs == 1 else list(ys))


def as_tensor(x: Array) -> Array:
    """A graph variable as a tensor, which NumPy's functions take."""
    return make(x, None, EAGER) if hasattr(x, "graph") else x


def as_variable(x: Any) -> Any:
    """And back: an eager tensor that is not recorded is what it holds."""
    x = looked(x)
    return x.data if isinstance(x, Tensor) and x.level is EAGER and x.node is None else x


class Slope(Law):
    """A derivative rule that needs plain arrays, as one opaque operation without a derivative.

    vmap runs it lane by lane.
    """

    opaque = True

    def __init__(self, law: Law, f: Callable[..., Any], split: tuple[int, ...], why: Exception):
        self.f, self.split, self.why = f, split, why
        self.name = f"the derivative of {law.name}"

    def call(self, xs: list[Array], want: bool) -> Any:
        parts, rest = [], list(xs)
        for n in self.split:
            parts.append(rest[:n])
            rest = rest[n:]
        got = self.f(*parts)
        return [*got], tree.flatten([*got])[1], None

    def push(self, *args: Any) -> Any:
        raise UnsupportedError(
            f"a second derivative: {self.name}",
            "the rule computes with plain arrays, so it cannot be differentiated itself",
            fix="write the rule with functions of numpy on the arrays it is given",
        ) from self.why

    pull = push  # type: ignore[assignment]


def plainly(law: Law, f: Callable[..., Any], *parts: list[Array]) -> list[Array]:
    """f(*parts), as one operation on plain arrays if it cannot take tensors."""
    try:
        return f(*parts)
    except LOST as why:
        xs = [x for part in parts for x in part]
        if not any(isinstance(x, Tensor) for x in xs):
            raise
        return apply(Slope(law, f, tuple(map(len, parts)), why), xs)
