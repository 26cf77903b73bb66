"""Lines of a graph gathered into fused loop nests.

A group has a *space*, a list of axes with their sizes. Every value in it is a scalar statement that
varies along some of the axes: each axis of the value is a run of axes of the space (several, if the
value is a reshape that joined them; none, if it has length 1). A line joins the group of one of its
operands if its shape fits the space and nothing between the two has to happen first; the space
grows by an inner axis, and an axis is cut in two, where that makes it fit.

A sum (or maximum, ..) along all trailing axes is a reduction of the row, and its value may be used
within the group; any other is folded, and is there once the kernel is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..graph import Line, Var
from ..ops.linear import Broadcast, Cast, CastConstant, Reshape, Sum, Transpose
from ..ops.order import Max, Min, Prod
from ..primitive import Elementwise
from ..types import DType
from .kernel import Fold, Kernel, Operand, Statement, Store
from .views import View, compact

__all__ = ["Group", "Misfit", "compute_types", "fusible", "joined"]

Piece = tuple[int, int]  # (axis of the space, size); FREE for one along which the value is the same
Axes = tuple[tuple[Piece, ...], ...]
FREE = -1
REDUCE: dict[type, str] = {Sum: "add", Max: "max", Min: "min", Prod: "mul"}
LARGE = 1 << 14  # numbers from which on a sum of all of them is folded, in pieces
Supported = Callable[[str, tuple[DType, ...]], bool]


class Misfit(Exception):
    """A line does not fit into a group."""


def name_of(op: Any) -> str | None:
    """The registry's name of an elementwise operation."""
    if isinstance(op, Elementwise) or type(op).__name__ == "Flat":
        return str(op.name)
    return None


def dtype_like(x: Any) -> Any:
    """A dtype, or the Python type of a number that yields to any dtype."""
    if isinstance(x, Var):
        weak = {"f": float, "i": int, "c": complex}.get(x.dtype.kind)
        return weak if x.aval.weak and weak is not None else x.dtype
    if type(x) in (int, float, complex):
        return type(x)
    return np.asarray(x).dtype


def compute_types(line: Line) -> tuple[DType, ...] | None:
    """The dtypes that an elementwise line's operands are cast to before it; None if unknown."""
    op, out = line.op, line.outputs[0].dtype
    given = [dtype_like(x) for x in line.inputs]
    f = getattr(op, "f", None)
    if isinstance(f, np.ufunc) and f.nin == len(given):
        try:
            found = f.resolve_dtypes((*given, *[None] * f.nout))
        except TypeError:
            return None
        return tuple(found[: f.nin]) if found[f.nin] == out else None
    if op.name == "where":
        return (np.dtype(bool), out, out)
    if out.kind == "b":
        return None
    return (out,) * len(given)


def fusible(line: Line, supported: Supported) -> bool:
    """Whether a line can be part of a fused kernel."""
    op = line.op
    if len(line.outputs) != 1 or line.outputs[0].size == 0:
        return False
    kinds = [x.dtype for x in line.inputs if isinstance(x, Var)]
    if type(op) in REDUCE:
        (x,) = line.inputs
        out = line.outputs[0].dtype
        word = {"add": "add", "mul": "mul", "max": "maximum", "min": "minimum"}[REDUCE[type(op)]]
        return (
            isinstance(x, Var) and x.size > 0
            and supported("copy", (x.dtype,)) and supported(word, (out, out))
        )  # fmt: skip
    if isinstance(op, Cast | CastConstant):
        x = line.inputs[0]
        return (
            isinstance(x, Var) and supported("copy", (x.dtype,)) and supported("copy", (op.dtype,))
        )
    name = name_of(op)
    if name is None or not kinds:
        return False
    types = compute_types(line)
    return (
        types is not None
        and supported(name, types)
        and all(supported("copy", (k,)) for k in (*kinds, line.outputs[0].dtype))
    )


class Value:
    """A statement of a group, as an array: which axes of the space each of its axes runs along."""

    __slots__ = ("at", "axes")

    def __init__(self, at: int, axes: Axes) -> None:
        self.at, self.axes = at, axes


class Load:
    __slots__ = ("dtype", "strides", "view")

    def __init__(self, view: View, dtype: DType, strides: dict[int, int]) -> None:
        self.view, self.dtype, self.strides = view, dtype, strides


class Group:
    """A fused kernel in the making."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.order: list[int] = []
        self.size: dict[int, int] = {}
        self.body: list[tuple[str, tuple[int, ...], DType, Any]] = []
        self.values: dict[int, Value] = {}
        self.reduced: tuple[int, ...] | None = None
        self.folds: list[tuple[Any, int, str, list[Piece], bool]] = []
        self.lines: list[Line] = []
        self.loads: dict[Any, int] = {}
        self.fresh = 0
        self.grown = False

    # ---- the space
    def axis(self, n: int, last: bool = True) -> int:
        a = self.fresh
        self.fresh += 1
        self.size[a] = n
        self.order.append(a)
        return a

    def split(self, a: int, sizes: tuple[int, int]) -> tuple[int, int]:
        """One axis as two, in every statement made so far."""
        outer, inner = self.fresh, self.fresh + 1
        self.fresh += 2
        n_inner = sizes[1]
        self.size[outer], self.size[inner] = sizes
        at = self.order.index(a)
        self.order[at : at + 1] = [outer, inner]
        pair = ((outer, sizes[0]), (inner, n_inner))

        def cut(pieces: Iterable[Piece]) -> list[Piece]:
            return [q for p in pieces for q in (pair if p[0] == a else (p,))]

        for v in self.values.values():
            v.axes = tuple([tuple(cut(run)) for run in v.axes])
        for _, _, _, extra in self.body:
            if isinstance(extra, Load) and a in extra.strides:
                s = extra.strides.pop(a)
                extra.strides[outer], extra.strides[inner] = s * n_inner, s
        self.folds = [(v, at_, c, cut(kept), rows) for v, at_, c, kept, rows in self.folds]
        if self.reduced is not None and a in self.reduced:
            self.reduced = tuple(
                [p for b in self.reduced for p in ((outer, inner) if b == a else (b,))]
            )
        self.loads = {}
        return outer, inner

    # ---- statements
    def add(self, op: str, args: tuple[int, ...], dtype: DType, extra: Any = None) -> int:
        self.body.append((op, args, dtype, extra))
        return len(self.body) - 1

    def cast(self, at: int, dtype: DType) -> int:
        return at if self.body[at][2] == dtype else self.add("cast", (at,), dtype)

    def number(self, x: Any, dtype: DType) -> int:
        value = np.asarray(x).reshape(()).astype(dtype)[()]
        key = "number", dtype, value.tobytes()
        if key not in self.loads:
            self.loads[key] = self.add("const", (), dtype, value)
        return self.loads[key]

    def load(self, view: View, dtype: DType, axes: Axes) -> int:
        strides: dict[int, int] = {}
        for run, n, s in zip(axes, view.shape, view.strides):
            if n == 1:
                continue
            for a, k in reversed(run):
                strides[a] = s
                s *= k
        key = id(view.base), view.offset, dtype, tuple(sorted(strides.items()))
        if key not in self.loads:
            self.loads[key] = self.add("load", (), dtype, Load(view, dtype, strides))
        return self.loads[key]


def through(group: Group, ops: list[Any], value: Value) -> Value:
    """A value of a group seen through window operations."""
    axes = value.axes
    for op in ops:
        if isinstance(op, Transpose):
            axes = tuple([axes[p] for p in op.perm])
        elif isinstance(op, Broadcast):
            shape = shape_of(axes)
            lead = len(op.shape) - len(shape)
            old = [()] * lead + list(axes)
            axes = tuple([
                run if math.prod(k for _, k in run) == n else ((FREE, n),)
                for run, n in zip(old, op.shape)
            ])  # fmt: skip
        elif isinstance(op, Reshape):
            shape = shape_of(axes)
            axes = reshape(group, axes, shape[: op.lanes] + op.shape)
        else:
            axes = picked(op.index, axes)
    return Value(value.at, axes)


def picked(index: tuple[Any, ...], axes: Axes) -> Axes:
    """A basic index that drops and adds axes of length 1 and keeps the others whole."""
    shape, at = shape_of(axes), 0
    out: list[tuple[Piece, ...]] = []
    rest = len(axes) - sum(1 for i in index if i is not None and i is not Ellipsis)
    items = [*index] if Ellipsis in index else [*index, Ellipsis]
    for i in items:
        if i is None:
            out.append(())
        elif i is Ellipsis:
            out += axes[at : at + rest]
            at += rest
        elif isinstance(i, slice):
            if i.indices(shape[at]) != (0, shape[at], 1):
                raise Misfit("a slice of a value that is not stored")
            out.append(axes[at])
            at += 1
        else:
            if shape[at] != 1:
                raise Misfit("an index of a value that is not stored")
            at += 1
    return tuple(out)


def shape_of(axes: Axes) -> tuple[int, ...]:
    return tuple([math.prod(k for _, k in run) for run in axes])


def reshape(group: Group, axes: Axes, shape: tuple[int, ...]) -> Axes:
    """The axes of a reshape: runs are joined, and axes of the space cut where one ends within."""
    flat = [p for run in axes for p in run]
    out: list[tuple[Piece, ...]] = []
    for n in shape:
        run: list[Piece] = []
        while n > 1:
            a, k = flat.pop(0)
            if n % k == 0:
                run.append((a, k))
                n //= k
            elif k % n == 0:
                if a == FREE:
                    pair = ((FREE, n), (FREE, k // n))
                else:
                    o, i = group.split(a, (n, k // n))
                    pair = ((o, n), (i, k // n))
                    swap = {a: pair}
                    flat = [q for p in flat for q in swap.get(p[0], (p,))]
                    out = [tuple([q for p in r for q in swap.get(p[0], (p,))]) for r in out]
                    run = [q for p in run for q in swap.get(p[0], (p,))]
                run.append(pair[0])
                flat.insert(0, pair[1])
                n = 1
            else:
                raise Misfit("a reshape across axes")
        out.append(tuple(run))
    return tuple(out)


class Operands:
    """What a line's operands are to a group: statements of it, windows on storage, or numbers."""

    def __init__(self, group: Group, line: Line, sources: Any, seen: dict[int, View]) -> None:
        self.items: list[Any] = []
        for x in line.inputs:
            if not isinstance(x, Var):
                a = np.asarray(x)
                if a.size == 1:
                    self.items.append(("number", a, a.shape))
                else:
                    self.items.append(("view", View(a, 0, compact(a.shape), a.shape), a.dtype))
                continue
            root, ops = sources(x)
            if root is not None and root in group.values:
                self.items.append(("value", through(group, ops, group.values[root]), x.dtype))
            else:
                self.items.append(("view", seen[x.n], x.dtype))

    def shapes(self) -> list[tuple[int, ...]]:
        out = []
        for kind, x, more in self.items:
            out.append(
                more if kind == "number" else x.shape if kind == "view" else shape_of(x.axes)
            )
        return out


def align(group: Group, operands: Operands, shape: tuple[int, ...]) -> Axes:
    """Along which axes of the space a broadcast of the operands to `shape` runs."""
    out: list[Any] = [None] * len(shape)
    for kind, x, _ in operands.items:
        if kind != "value":
            continue
        lead = len(shape) - len(x.axes)
        for j, run in enumerate(x.axes, lead):
            if math.prod(k for _, k in run) != shape[j] or shape[j] == 1:
                continue
            if all(a == FREE for a, _ in run):
                continue
            if any(a == FREE for a, _ in run):
                raise Misfit("an axis that is partly a broadcast")
            if out[j] is None:
                out[j] = run
            elif out[j] != run:
                raise Misfit("operands run along different axes")
    used = [a for run in out if run for a, _ in run]
    if len(set(used)) != len(used):
        raise Misfit("two axes run along one")
    left = [a for a in group.order if a not in used]
    # the missing ones, from the right: an axis of the space as long, between its neighbours
    for j in reversed(range(len(shape))):
        if shape[j] == 1:
            out[j] = ()
        if out[j] is not None:
            continue
        after = min((group.order.index(a) for run in out[j + 1 :] if run for a, _ in run),
                    default=len(group.order))  # fmt: skip
        fits = [a for a in left if group.size[a] == shape[j] and group.order.index(a) < after]
        if fits:
            out[j] = ((fits[-1], shape[j]),)
            left.remove(fits[-1])
    missing = [j for j, run in enumerate(out) if run is None]
    if missing:
        if group.order and (
            group.reduced is not None or group.folds or group.grown or len(missing) > 1
            or any(run for run in out[missing[0] + 1 :])
        ):  # fmt: skip
            raise Misfit("a larger space")
        group.grown = bool(group.order)
        for j in missing:
            out[j] = ((group.axis(shape[j]), shape[j]),)
    return tuple(out)


def statement(group: Group, item: Any, dtype: DType, axes: Axes) -> int:
    kind, x, more = item
    if kind == "number":
        return group.number(x, dtype)
    if kind == "value":
        return group.cast(x.at, dtype)
    return group.cast(group.load(x, more, axes[len(axes) - len(x.shape) :]), dtype)


def join(group: Group, line: Line, sources: Any, seen: dict[int, View], plain: bool) -> None:
    """Add a line to a group, or raise Misfit (the group may then be spoilt: see `joined`).

    `plain`: reductions are folded, whatever they run along.
    """
    op, out = line.op, line.outputs[0]
    operands = Operands(group, line, sources, seen)
    if type(op) in REDUCE:
        reduce(group, line, operands, plain)
        return
    axes = align(group, operands, out.shape)
    if isinstance(op, Cast | CastConstant):
        at = statement(group, operands.items[0], np.dtype(op.dtype), axes)
    else:
        types = compute_types(line)
        assert types is not None
        args = [statement(group, x, t, axes) for x, t in zip(operands.items, types)]
        at = group.add(str(name_of(op)), tuple(args), out.dtype)
    group.values[out.n] = Value(at, axes)
    group.lines.append(line)


def reduce(group: Group, line: Line, operands: Operands, plain: bool) -> None:
    op, out = line.op, line.outputs[0]
    (item,) = operands.items
    shape = operands.shapes()[0]
    axes = align(group, operands, shape)
    at = statement(group, item, out.dtype, axes)
    gone = {a for i in op.axes for a, _ in axes[i]}
    kept = [run for i, run in enumerate(axes) if i not in op.axes]
    new = tuple([() if i in op.axes else run for i, run in enumerate(axes)])
    if not op.keepdims:
        new = tuple(kept)
    combine = REDUCE[type(op)]
    if not gone:
        group.values[out.n] = Value(at, new)
        group.lines.append(line)
        return
    trailing = set(group.order[-len(gone) :]) == gone
    whole = len(gone) == len([a for a in group.order if group.size[a] > 1])
    count = math.prod(group.size[a] for a in gone)
    row = tuple([a for a in group.order if a in gone])
    fits = group.reduced is None or group.reduced == row
    if trailing and fits and not plain and not (whole and count > LARGE):
        at = group.add(f"row_{combine}", (at,), out.dtype)
        group.reduced = row
        group.values[out.n] = Value(at, new)
    else:
        runs = {a for run in axes for a, _ in run}
        still = [a for a in group.order if a not in runs and group.size[a] > 1]
        rows = bool(still)
        if rows and (group.reduced is None or set(still) != set(group.reduced)):
            raise Misfit("a sum of a value that varies along a part of the space")
        pieces = [p for run in kept for p in run]
        group.folds.append((out, at, combine, pieces, rows))
    group.lines.append(line)


def joined(
    group: Group, line: Line, sources: Any, seen: dict[int, View], plain: bool
) -> Group | None:
    """The group with the line, or None if it does not fit; the given one is left as it is."""
    twin = Group(group.index)
    twin.order, twin.size, twin.fresh = list(group.order), dict(group.size), group.fresh
    twin.body = [
        (o, a, d, Load(e.view, e.dtype, dict(e.strides)) if isinstance(e, Load) else e)
        for o, a, d, e in group.body
    ]
    twin.values = {n: Value(v.at, v.axes) for n, v in group.values.items()}
    twin.reduced, twin.folds, twin.lines = group.reduced, list(group.folds), list(group.lines)
    twin.loads, twin.grown = dict(group.loads), group.grown
    try:
        join(twin, line, sources, seen, plain)
    except Misfit:
        return None
    return twin


# ------------------------------------------------------------------ the kernel


def kernel_of(group: Group, stored: list[Var]) -> tuple[Kernel, list[Any]]:
    """The kernel of a group that stores these variables, and what its arguments are.

    Arguments are bases of views (variables or constant arrays).
    """
    order = [a for a in group.order if group.size[a] > 1]
    row = [a for a in (group.reduced or ()) if group.size[a] > 1]
    if not row and len(order) > 1:  # a single axis is the first, which is cut into pieces
        row = [order[-1]]
    lead = [a for a in order if a not in row]
    assert order[len(lead) :] == row
    sizes = [group.size[a] for a in lead]
    length = math.prod(group.size[a] for a in row)
    args: list[Any] = []
    known: dict[int, int] = {}

    def argument(base: Any) -> int:
        if id(base) not in known:
            known[id(base)] = len(args)
            args.append(base)
        return known[id(base)]

    def operand(base: Any, dtype: DType, offset: int, strides: dict[int, int]) -> Operand:
        inner = 0
        if row:
            inner = strides.get(row[-1], 0)
            step = inner
            for a in reversed(row):
                if strides.get(a, 0) != step:
                    raise Misfit("a row that does not lie end to end")
                step *= group.size[a]
        along = tuple([strides.get(a, 0) for a in lead])
        if not along:
            along = (0,)
        return Operand(argument(base), dtype, offset, (*along, inner))

    body = []
    for op, inputs, dtype, extra in group.body:
        if isinstance(extra, Load):
            at = operand(extra.view.base, dtype, extra.view.offset, extra.strides)
            body.append(Statement("load", (), dtype, at))
        else:
            body.append(Statement(op, inputs, dtype, None, extra))
    outputs: list[Store | Fold] = []
    for v in stored:
        value = group.values.get(v.n)
        if value is None:
            continue
        strides: dict[int, int] = {}
        step = 1
        for run in reversed(value.axes):
            for a, k in reversed(run):
                strides[a] = step
                step *= k
        if any(a == FREE for run in value.axes for a, _ in run):
            raise Misfit("a broadcast that is stored")
        if any(a not in strides for a in lead):
            raise Misfit("a value that several points store")
        covered = [a for a in row if a in strides]
        if covered and len(covered) != len(row):
            raise Misfit("a value that several points of a row store")
        outputs.append(Store(value.at, operand(v, v.dtype, 0, strides)))
    for v, at_, combine, pieces, rows in group.folds:
        strides, step = {}, 1
        for a, k in reversed(pieces):
            strides[a] = step
            step *= k
        outputs.append(Fold(at_, combine, operand(v, v.dtype, 0, strides), 0, rows))
    if not sizes:
        sizes = [1]
    space = (*sizes, max(1, length))
    return Kernel(space, tuple(body), tuple(outputs)), args
