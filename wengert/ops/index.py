"""Linear maps that pick and place: indexing, writing, joining, each beside its transpose.

GetItem <-> AddAt        Gather <-> ScatterAdd        Concatenate, Pad <-> slices
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import Linear, op
from ..structural import At, Masked, densify, unbroadcast
from ..trace import OPS, SOLE, getrefcount, ndarray
from ..types import RAW, Array, Aval, Shape, shape_of
from .linear import Broadcast, Reshape, Transpose, after, inverse, moveaxis

Index = tuple[Any, ...]


def is_basic(index: Index) -> bool:
    """Whether NumPy would return a view: integers, slices, None and Ellipsis alone."""
    for i in index:
        if i.__class__ is int or i.__class__ is slice or i is None or i is Ellipsis:
            continue
        if isinstance(i, bool | np.bool) or not isinstance(i, int | np.integer):
            return False
    return True


def normal_index(index: Index) -> Index:
    """Lists, and True, which is not 1, as arrays: later changes to the user's list do not show."""
    return tuple([as_index(i) if isinstance(i, list | bool | np.bool) else i for i in index])


def as_index(i: Any) -> np.ndarray[Any, Any]:
    """An index array; an empty list has no floats in it, but no numbers at all."""
    a = np.asarray(i)
    return a if a.size else a.astype(np.intp)


def advanced(index: Index) -> tuple[int, bool]:
    """(rank of the broadcast index arrays, whether slices stand between them).

    NumPy puts the indexed axes first when they do, and where they stand otherwise.
    """
    places = [k for k, i in enumerate(index) if i is not None and not _sliced(i)]
    arrays = [np.asarray(i) for i in index if i is not None and not _sliced(i)]
    shapes = [(1,) if a.dtype == bool else a.shape for a in arrays]
    split = bool(places) and places[-1] - places[0] + 1 != len(places)
    return (len(np.broadcast_shapes(*((1,) * len(s) for s in shapes))) if shapes else 0), split


def _sliced(i: Any) -> bool:
    return i is Ellipsis or isinstance(i, slice)


@op
class GetItem(Linear):
    """y = x[index], for every form of NumPy indexing with concrete indices.

    Its transpose adds into zeros at that index:  gx = 0;  gx[index] += gy.
    """

    index: Index
    keeps_mask = True

    examples: ClassVar[Any] = [
        (((1,),), (3, 2)),
        (((slice(None, None, -2), None, Ellipsis),), (3, 2)),
        (((np.array([2, 0, 2]),),), (3, 2)),
        (((slice(None), np.array([[0, 1], [1, 1]])),), (3, 2)),
        (((np.array([0, 1]), slice(None), np.array([1, 1])),), (2, 3, 2)),
        (((np.array([True, False, True]),),), (3, 2)),
    ]

    @property
    def view(self) -> bool:
        return is_basic(self.index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GetItem) and index_key(self.index) == index_key(other.index)

    def __hash__(self) -> int:
        return hash(index_key(self.index))

    def __repr__(self) -> str:
        return f"GetItem[{', '.join(map(index_text, self.index))}]"

    def impl(self, x: Array) -> Array:
        return x[self.index]

    def infer(self, x: Aval) -> Aval:
        return Aval(np.broadcast_to(np.zeros((), x.dtype), x.shape)[self.index].shape, x.dtype)

    def vjp(self, g: Any, x_shape: Shape) -> Any:
        g = g.masked() if isinstance(g, At) else g
        return At(x_shape, self, g.even() if isinstance(g, Masked) else densify(g))

    def batch(self, xs: Any, dims: Any) -> Array:
        y = GetItem((slice(None), *self.index))(*xs)
        rank, split = (0, False) if is_basic(self.index) else advanced(self.index)
        return moveaxis(y, rank, 0) if split else y

    def add_into(self, buffer: Array, v: Array) -> None:
        if is_basic(self.index):
            buffer[self.index] += v
        elif (
            len(self.index) == 1
            and buffer.ndim > 1
            and buffer.size > 128 * len(buffer)
            and self.index[0].dtype.kind in "iu"
        ):
            add_rows(buffer, self.index[0], v)
        else:
            np.add.at(buffer, self.index, v)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return str(error).split("\n")[0], None, None


def add_rows(buffer: Array, i: Array, v: Array) -> None:
    """np.add.at for long rows, ten times faster."""
    rows = np.broadcast_to(v, i.shape + buffer.shape[1:]).reshape((i.size, *buffer.shape[1:]))
    for k, row in zip(i.ravel().tolist(), rows):
        buffer[k] += row


def index_key(index: Index) -> Any:
    def key(i: Any) -> Any:
        if isinstance(i, slice):
            return ("slice", i.start, i.stop, i.step)
        if isinstance(i, np.ndarray):
            return ("array", i.shape, str(i.dtype), i.tobytes())
        return (type(i) is bool, i)

    return tuple(map(key, index))


def index_text(i: Any) -> str:
    if isinstance(i, slice):
        parts = ["" if v is None else str(v) for v in (i.start, i.stop, i.step)]
        return ":".join(parts if i.step is not None else parts[:2])
    if isinstance(i, np.ndarray):
        return f"{i.dtype}{list(i.shape)}"
    return "..." if i is Ellipsis else str(i)


def walk(x: Array, path: tuple[Any, ...]) -> Array:
    for step in path:
        x = step(x)
    return x


def window(buffer: Array, path: tuple[Any, ...]) -> tuple[Array, Index]:
    """The part of a plain buffer that a path leads to, as (array, index)."""
    for step in path[:-1]:
        buffer = step.impl(buffer)
    return buffer, path[-1].index


def put(buffer: Array, path: tuple[Any, ...], v: Any) -> None:
    """buffer[path] = v, in place.

    A buffer stored in another order than the one that the path was made for has no such window
    where the path reshapes, and is written number by number.
    """
    part, index = window(buffer, path)
    if len(path) == 1 or part.size == 0 or np.may_share_memory(part, buffer):
        part[index] = v
        return
    part, index = window(np.arange(buffer.size).reshape(buffer.shape), path)
    places = part[index]
    buffer.flat[np.ravel(places)] = np.ravel(np.broadcast_to(v, np.shape(places)))


def repeats(i: Array, n: int) -> bool:
    """Whether an index array names a place twice, on an axis of length n."""
    places = np.sort(np.where(i < 0, i + n, i), axis=None)
    return bool((places[1:] == places[:-1]).any())


def batch_path(path: tuple[Any, ...], lanes: int) -> tuple[Any, ...]:
    """The same path, lane by lane.

    Index arrays on both sides of a slice put their axes first, before a batch axis that is a slice;
    there the lanes are one more index array.
    """
    out: list[Any] = []
    for step in path:
        if isinstance(step, GetItem):
            first: Any = slice(None)
            rank, split = (0, False) if is_basic(step.index) else advanced(step.index)
            if split:
                first = np.arange(lanes).reshape((lanes,) + (1,) * rank)
            out.append(GetItem((first, *step.index)))
        elif isinstance(step, Reshape):
            out.append(Reshape(step.shape, step.lanes + 1))
        else:
            out.append(Transpose((0, *after(step.perm))))
    return tuple(out)


def align_value(x: Array, v: Array, d: int | None, path: tuple[Any, ...]) -> Array:
    """v, batched, with ones after its batch axis, to broadcast into x[path] lane by lane."""
    if d is None:
        return v
    hole = walk(np.broadcast_to(np.zeros(()), shape_of(x)), batch_path(path, shape_of(x)[0]))
    s = shape_of(v)
    missing = hole.ndim - len(s)
    return Reshape((s[0],) + (1,) * missing + s[1:])(v) if missing > 0 else v


def batch_target(xs: Any, dims: Any) -> Array:
    x, v = xs
    return x if dims[0] is not None else Broadcast((shape_of(v)[0], *shape_of(x)))(x)


@op
class AddAt(Linear):
    """y = x, but y[index] += v; an index that occurs twice is added to twice.

    gx = gy;  gv = gy[index], summed to v's shape.
    """

    at: GetItem
    args = ("a", "b")

    examples: ClassVar[Any] = [
        ((GetItem((np.array([0, 0, 2]),)),), (3, 2), (3, 2)),
        ((GetItem((slice(0, 2),)),), (3,), ()),
    ]

    def impl(self, x: Array, v: Array) -> Array:
        y = np.array(x, dtype=np.result_type(x, v))
        self.at.add_into(y, v)
        return y

    def infer(self, x: Aval, v: Aval) -> Aval:
        return Aval(x.shape, np.result_type(x.dtype, v.dtype))

    def vjp_a(self, g: Array) -> Array:
        return g

    def vjp_b(self, g: Array, b_shape: Shape) -> Array:
        return unbroadcast(self.at(g), b_shape)

    def batch(self, xs: Any, dims: Any) -> Array:
        x = batch_target(xs, dims)
        (at,) = batch_path((self.at,), shape_of(x)[0])
        return AddAt(at)(x, align_value(x, xs[1], dims[1], (self.at,)))


@op
class Write(Linear):
    """y = x, but y[path] = v: the assignment `x[path] = v` as a function.

    Linear in both:  gx = gy, zero at the path;  gv = gy[path], summed to v's shape. Where an index
    occurs twice the last value stays, and the others get no gradient.
    """

    path: tuple[Any, ...]
    args = ("a", "b")
    shown = ("x", "v")

    examples: ClassVar[Any] = [
        (((GetItem((1,)),),), (3, 2), (2,)),
        (((GetItem((slice(1, None),)), Transpose((1, 0)), GetItem((0,))),), (3, 2), ()),
    ]

    def impl(self, x: Array, v: Array) -> Array:
        y = np.array(x)
        put(y, self.path, v)
        return y

    def infer(self, x: Aval, v: Aval) -> Aval:
        return x

    @classmethod
    def title(cls) -> str:
        return "assignment"

    def diagnose(self, xs: Any, error: Exception) -> Any:
        if not isinstance(error, ValueError):
            return str(error), None, None
        try:
            place = np.empty(shape_of(xs[0]), bool)
            for step in self.path:
                place = step.impl(place)
        except (ValueError, IndexError):
            return str(error), None, None
        rule = f"a value of shape {list(shape_of(xs[1]))} does not fit the place, of shape "
        return f"{rule}{list(place.shape)}", None, None

    def vjp_a(self, g: Any) -> Any:
        if isinstance(g, At):
            g = g.masked()
        if isinstance(g, Masked):
            g = g.even()
            return Masked(self.vjp_a(g.value), self._clear(g.mask))
        return self(g, np.zeros((), g.dtype))

    def _clear(self, mask: Array) -> Array:
        return self.impl(mask, False) if isinstance(mask, RAW) else self(mask, np.False_)

    def vjp_b(self, g: Any, b_shape: Shape) -> Any:
        if isinstance(g, At):
            g = g.masked()
        if isinstance(g, Masked):
            g = g.even()
            v = walk(g.value, self.path)
            if shape_of(v) == b_shape:
                mask, last = walk(g.mask, self.path), self._last(shape_of(g.value))
                return Masked(v, mask if last is None else OPS["logical_and"](mask, last))
            g = g.dense()
        v, last = walk(g, self.path), self._last(shape_of(g))
        if last is not None:
            v = Masked(v, last) if shape_of(v) == b_shape else OPS["where"](last, v, 0.0)
        return v if isinstance(v, Masked) else unbroadcast(v, b_shape)

    def _last(self, shape: Shape) -> Any:
        """Which of the written values are still there: of several at one place, the last."""
        index = self.path[-1].index if isinstance(self.path[-1], GetItem) else ()
        arrays = [i for i in index if i.__class__ is ndarray and i.dtype.kind != "b"]
        if not arrays:
            return None
        part, index = window(np.broadcast_to(np.zeros((), np.intp), shape), self.path)
        if len(index) == 1 and not repeats(arrays[0], part.shape[0]):
            return None
        turn = np.arange(part[index].size).reshape(part[index].shape)
        places = np.empty(part.shape, np.intp)
        places[index] = turn
        last = places[index] == turn
        return None if last.all() else last

    def pull_owned(self, g: Any, live: tuple[int, ...], b_shape: Shape) -> Any:
        """Both cotangents out of one buffer that the sweep holds alone: O(size of the slot)."""
        buffer, mask = (g.value, g.mask) if isinstance(g, Masked) else (g, None)
        if live == (0,):
            put(buffer, self.path, 0)
            if mask is not None:
                put(mask, self.path, False)
            return g
        part, index = window(buffer, self.path)
        gv: Any = np.array(part[index])
        put(buffer, self.path, 0)
        last = self._last(buffer.shape)
        if mask is not None:
            part, index = window(mask, self.path)
            gm = np.array(part[index])
            put(mask, self.path, False)
            gm = gm if last is None else gm & last
        elif last is not None:
            gm = last
        if mask is not None or last is not None:
            gv = Masked(gv, gm) if gv.shape == b_shape else np.where(gm, gv, 0)
        if not isinstance(gv, Masked):
            gv = unbroadcast(gv, b_shape)
        return (g, gv) if len(live) == 2 else gv

    def batch(self, xs: Any, dims: Any) -> Array:
        x = batch_target(xs, dims)
        path = batch_path(self.path, shape_of(x)[0])
        return Write(path)(x, align_value(x, xs[1], dims[1], self.path))


def ours(g: Any) -> bool:
    """Whether the arrays inside g, which the caller holds alone, are its own too."""
    if g.__class__ is ndarray:
        return g.base is None and g.flags.writeable
    if g.__class__ is Masked and g.value.__class__ is ndarray is g.mask.__class__:
        alone = getrefcount(g.value) <= SOLE and getrefcount(g.mask) <= SOLE
        own = g.value.base is None is g.mask.base and g.value.flags.writeable
        return alone and own and g.value.shape == g.mask.shape
    return False


# ------------------------------------------------------------------ indexing by recorded indices
class Hole:
    """Stands in a Gather's index where the next index operand goes."""

    def __repr__(self) -> str:
        return "*"


HOLE = Hole()


def filled(template: Index, indices: Any) -> Index:
    it = iter(indices)
    return tuple(next(it) if i is HOLE else i for i in template)


def batch_indices(template: Index, idx: Any, dims: Any, lanes: int | None) -> Any:
    """(template, indices, permutation of the result or None) of an index that differs by lane.

    `lanes` is the number of lanes if the indexed array is batched as well, else None.
    """
    holes = [k for k, i in enumerate(template) if i is HOLE or isinstance(i, int | np.integer)]
    split = holes[-1] - holes[0] + 1 != len(holes)
    before = 0 if split else sum(1 for i in template[: holes[0]])
    rank = max(len(shape_of(i)) - (d is not None) for i, d in zip(idx, dims))
    out = []
    for i, d in zip(idx, dims):
        s = shape_of(i)
        if d is not None:
            i = Reshape((s[0],) + (1,) * (rank - len(s) + 1) + s[1:])(i)
        out.append(i)
    if lanes is not None:
        out.insert(0, np.arange(lanes).reshape((lanes,) + (1,) * rank))
        template = (HOLE, *template)
        moved = before and not split  # the arrays are apart now, and NumPy puts them first
        return template, out, ("block", rank, before) if moved else None
    return template, out, ("lane", before) if before and not split else None


def place_batch(y: Array, how: Any, undo: bool = False) -> Array:
    if how is None:
        return y
    n = len(shape_of(y))
    if how[0] == "lane":
        return moveaxis(y, 0, how[1]) if undo else moveaxis(y, how[1], 0)
    _, rank, before = how
    block, pre = range(1, 1 + rank), range(1 + rank, 1 + rank + before)
    perm = (0, *pre, *block, *range(1 + rank + before, n))
    return Transpose(inverse(perm) if undo else perm)(y)


def explicit(template: Index, ndim: int) -> Index:
    """The template with its Ellipsis written out as slices."""
    used = sum(1 for i in template if i is not None and i is not Ellipsis)
    fill = (slice(None),) * (ndim - used)
    if Ellipsis in [i for i in template if i is Ellipsis]:
        k = next(k for k, i in enumerate(template) if i is Ellipsis)
        return (*template[:k], *fill, *template[k + 1 :])
    return (*template, *fill)


@op
class Gather(Linear):
    """y = x[template], index operands in the holes: indexing by traced or batched integers."""

    template: Index
    variadic = True

    examples: ClassVar[Any] = [
        (((HOLE,),), (3, 2), np.array([2, 0, 2])),
        (((slice(None), HOLE),), (3, 2), np.array([[0, 1], [1, 1]])),
        (((HOLE, slice(None), HOLE),), (2, 3, 2), np.array([0, 1]), np.array([1, 1])),
    ]

    def __hash__(self) -> int:
        return hash(index_key(self.template))

    def impl(self, x: Array, *idx: Array) -> Array:
        return x[filled(self.template, idx)]

    def infer(self, x: Aval, *idx: Aval) -> Aval:
        like = tuple(np.broadcast_to(np.zeros((), i.dtype), i.shape) for i in idx)
        return Aval(
            self.impl(np.broadcast_to(np.zeros((), x.dtype), x.shape), *like).shape, x.dtype
        )

    def push(self, xs: Any, dxs: Any, y: Array) -> Array | None:
        return self(dxs[0], *xs[1:]) if dxs[0] is not None else None

    def vjp(self, g: Array, live: Any, xs: Any, shapes: Any) -> tuple[Any, ...]:
        return (ScatterAdd(self.template, shapes[0])(densify(g), *xs[1:]),)

    def batch(self, xs: Any, dims: Any) -> Array:
        x, *idx = xs
        ndim = len(shape_of(x)) - (dims[0] is not None)
        template = explicit(self.template, ndim)
        if all(d is None for d in dims[1:]):
            return GetItem(filled(template, idx)).batch((x,), (0,))
        lanes = shape_of(x)[0] if dims[0] is not None else None
        template, idx, how = batch_indices(template, idx, dims[1:], lanes)
        return place_batch(Gather(template)(x, *idx), how)


@op
class ScatterAdd(Linear):
    """y = 0 of `shape`;  y[template] += x, index operands in the holes. Transpose of Gather."""

    template: Index
    shape: Shape
    variadic = True

    examples: ClassVar[Any] = [
        (((HOLE,), (3, 2)), (3, 2), np.array([2, 0, 2])),
        (((slice(None), HOLE), (3, 2)), (3, 2, 2), np.array([[0, 1], [1, 1]])),
    ]

    def __hash__(self) -> int:
        return hash((index_key(self.template), self.shape))

    def impl(self, x: Array, *idx: Array) -> Array:
        y = np.zeros(self.shape, x.dtype)
        np.add.at(y, filled(self.template, idx), x)
        return y

    def infer(self, x: Aval, *idx: Aval) -> Aval:
        return Aval(self.shape, x.dtype)

    def push(self, xs: Any, dxs: Any, y: Array) -> Array | None:
        return self(dxs[0], *xs[1:]) if dxs[0] is not None else None

    def vjp(self, g: Array, live: Any, xs: Any) -> tuple[Any, ...]:
        return (Gather(self.template)(g, *xs[1:]),)

    def batch(self, xs: Any, dims: Any) -> Array:
        x, *idx = xs
        lanes = next(shape_of(v)[0] for v, d in zip(xs, dims) if d is not None)
        x = x if dims[0] is not None else Broadcast((lanes, *shape_of(x)))(x)
        template = explicit(self.template, len(self.shape))
        template, idx, how = batch_indices(template, idx, dims[1:], lanes)
        return ScatterAdd(template, (lanes, *self.shape))(place_batch(x, how, undo=True), *idx)


# ------------------------------------------------------------------ joining


@op
class Concatenate(Linear):
    """Arrays one after another along an axis.  Its transpose cuts the cotangent up again."""

    axis: int
    variadic = True

    examples: ClassVar[Any] = [((0,), (2, 3), (1, 3)), ((1,), (2, 1), (2, 0), (2, 2))]

    def impl(self, *xs: Array) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def infer(self, *xs: Aval) -> Aval:
        shape = list(xs[0].shape)
        shape[self.axis] = sum(x.shape[self.axis] for x in xs)
        return Aval(tuple(shape), np.result_type(*(x.dtype for x in xs)))

    def vjp(self, g: Array, live: tuple[int, ...], shapes: tuple[Shape, ...]) -> tuple[Array, ...]:
        ends = np.cumsum([s[self.axis] for s in shapes]).tolist()
        lead = (slice(None),) * self.axis
        return tuple(
            GetItem((*lead, slice(ends[i] - shapes[i][self.axis], ends[i])))(g) for i in live
        )

    def batch(self, xs: Any, dims: Any) -> Array:
        n = next(shape_of(x)[0] for x, d in zip(xs, dims) if d is not None)
        xs = [x if d is not None else Broadcast((n, *shape_of(x)))(x) for x, d in zip(xs, dims)]
        return Concatenate(self.axis + 1)(*xs)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        shapes = [shape_of(x) for x in xs]
        fits = [
            k for k in range(len(shapes[0]))
            if len({(*s[:k], *s[k + 1 :]) for s in shapes}) == 1 and len(set(map(len, shapes))) == 1
        ]  # fmt: skip
        fix = f"axis={fits[0]} has matching shapes" if len(fits) == 1 else None
        return f"shapes differ outside axis {self.axis}", None, fix

    @classmethod
    def title(cls) -> str:
        return "concatenate"


@op
class Pad(Linear):
    """Zeros around an array: `widths` per axis, before and after.  Its transpose cuts them off."""

    widths: tuple[tuple[int, int], ...]

    examples: ClassVar[Any] = [((((1, 2), (0, 1)),), (2, 3)), ((((0, 0),),), (2,)), (((),), ())]

    def impl(self, x: Array) -> Array:
        y = np.zeros(self._shape(x.shape), x.dtype)
        y[self._inside(x.shape)] = x
        return y

    def _shape(self, shape: Shape) -> Shape:
        return tuple(n + a + b for n, (a, b) in zip(shape, self.widths, strict=True))

    def _inside(self, shape: Shape) -> tuple[slice, ...]:
        return tuple(slice(a, a + n) for n, (a, _) in zip(shape, self.widths, strict=True))

    def infer(self, x: Aval) -> Aval:
        return Aval(self._shape(x.shape), x.dtype)

    def vjp(self, g: Array, x_shape: Shape) -> Array:
        return GetItem(self._inside(x_shape))(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Pad(((0, 0), *self.widths))(*xs)
