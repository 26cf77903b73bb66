"""Batching: a function of one example becomes a function of many, without a loop."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, LevelError, describe, user_frame, verbatim
from ..given import call, function, numeric
from ..ops.index import align_value, batch_path
from ..ops.linear import Broadcast, moveaxis
from ..source import source_of
from ..trace import Level, Tensor, cut, getframe, make, push
from ..types import Shape, shape_of
from .jvp import eager, handed_out, inward, surfaced
from .store import store_into

__all__ = ["vmap"]


class Batched(Tensor):
    """Many values at once: `data` has the lanes along axis `node` = 0, or none for node None."""

    __slots__ = ()

    @property
    def requires_grad(self) -> bool:
        return isinstance(self.data, Tensor) and self.data.recorded()

    def recorded(self) -> bool:
        return self.node is not None or self.requires_grad


class VMap(Level):
    """One batch axis, of n lanes; `name` is what collectives call it."""

    __slots__ = ("n", "name")
    cls = Batched

    def __init__(self, depth: int, n: int, name: Hashable = None) -> None:
        Level.__init__(self, depth)
        self.n = n
        self.name = name

    def shape(self, t: Tensor) -> Shape:
        s = shape_of(t.data)
        return s if t.node is None else s[1:]

    def primal(self, t: Tensor) -> Any:
        if t.node is None:
            return t.data
        raise branch_error(t)

    def lane(self, t: Tensor, below: Any) -> Any:
        if t.node is None or not isinstance(below, np.ndarray) or not len(below):
            return below
        return below[0, ...]  # an array even where a lane is one number

    def process(self, op: Any, xs: Any) -> Any:
        values: list[Any] = []
        dims: list[int | None] = []
        for x in xs:
            mine = isinstance(x, Tensor) and x.level is self
            values.append(x.data if mine else x)
            dims.append(x.node if mine else None)
        if getattr(op, "axis", None) is self:
            return op.across(self, values[0], dims[0])
        lanes = None if all(d is None for d in dims) else 0
        y = op(*values) if lanes is None else op.batch(values, dims)
        if op.outputs > 1:
            return tuple([make(v, lanes, self, Batched) for v in y])
        return make(y, lanes, self, Batched)

    def write(self, x: Tensor, path: tuple[Any, ...], v: Any) -> None:
        dv = None
        if isinstance(v, Tensor) and v.level is self:
            v, dv = v.data, v.node
        if x.node is None and dv is not None:
            x.data = Broadcast((self.n, *shape_of(x.data)))(x.data)
            x.node = 0
        if x.node is not None:
            v = align_value(x.data, v, dv, path)
            path = batch_path(path, self.n)
        store_into(x, path, v)

    def detach(self, t: Tensor) -> Any:
        d = t.data
        if isinstance(d, Tensor):
            d = d.detach()
            d = d.data if d.level is eager() else d
        else:
            d = cut(d)
        return make(d, t.node, self, Batched)


def vmap(
    f: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable = None,
    axis_size: int | None = None,
) -> Callable[..., Any]:
    """Apply f to every slice of its arguments along an axis, and stack the results.

    Args:
        f: a function of pytrees of arrays.
        in_axes: the batch axis of every argument: one int, or a tuple or list with an int or None
            (the argument is the same in every lane) per argument, or pytrees of those. Dicts are
            matched by their keys; one that stands alone is that of the single argument.
        out_axes: where the batch axis goes in the results, in the same manner.
        axis_name: what `wg.psum` and the other collectives call the batch axis.
        axis_size: its length, where no argument has it.

    Raises:
        ArgumentError: the batch axes have different lengths, an axis does not exist, or the axes
            have another structure than the values.
        LevelError: f branches on a value that differs from lane to lane.

    >>> import numpy as np
    >>> vmap(np.dot)(np.ones((5, 3)), np.arange(15.0).reshape(5, 3))
    array([ 3., 12., 21., 30., 39.])
    """

    function("vmap(f)", "f", f)

    @wraps(f)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        axes = _axes(in_axes, args, structure, len(tree.leaves(kwargs)))
        wrap = any(isinstance(x, Tensor) for x in leaves)
        leaves = [inward(x) for x in leaves]
        n = _lanes(leaves, axes, _names(structure), axis_size)
        with push(VMap, n, axis_name) as level:
            lanes = []
            for x, a in zip(leaves, axes):
                if a is None:
                    lanes.append(shared(x, level))
                else:
                    x = moveaxis(x, a % len(shape_of(x)), 0)
                    lanes.append(make(x, 0, level, Batched))
            args_, kwargs_ = tree.unflatten(structure, lanes)
            ys, shape = tree.flatten(call("vmap(f)", "f", f, *args_, **kwargs_))
            outs = _spread("out_axes", out_axes, shape, "result")
            names = tree.paths(shape, "result")
            numeric("vmap(f)", names, ys)
            ys = [unbatch(y, level, a, p) for y, a, p in zip(ys, outs, names)]
        return tree.unflatten(shape, handed_out(ys, wrap))

    return mapped


def shared(x: Any, level: Level) -> Any:
    """An argument that all lanes share. A copy of an array may be written with batched values."""
    if type(x) is np.ndarray and x.ndim and x.dtype.kind in "fc":
        return make(x, None, level, Batched)
    return x


def unbatch(y: Any, level: Any, axis: int | None = 0, path: str = "result") -> Any:
    """The result with its lanes along `axis`; a value that all lanes share is repeated."""
    y = surfaced(y, level)
    if isinstance(y, Tensor) and y.level is level:
        y, batched = y.data, y.node is not None
    else:
        y, batched = inward(y), False
    if axis is None:
        if batched:
            raise ArgumentError("vmap(f, out_axes=None)", "the result differs from lane to lane")
        return y
    if not batched:
        y = Broadcast((level.n, *shape_of(y)))(np.asarray(y) if not hasattr(y, "dtype") else y)
    rank = len(shape_of(y))
    if not -rank <= axis < rank:
        raise ArgumentError(
            "vmap(f, out_axes)",
            f"axis {axis} does not exist",
            operands=[(path, y, "with the lanes in front")],
        )
    return moveaxis(y, 0, axis % rank)


def _axes(in_axes: Any, args: Any, structure: Any, n_kwargs: int) -> list[int | None]:
    if isinstance(in_axes, dict) and len(args) == 1:
        in_axes = (in_axes,)
    if isinstance(in_axes, tuple | list):
        if len(in_axes) != len(args):
            raise ArgumentError(
                "vmap(f, in_axes)", f"in_axes has {len(in_axes)} entries for {len(args)} arguments"
            )
        out: list[int | None] = []
        for i, (a, arg) in enumerate(zip(in_axes, args, strict=True)):
            out += _spread("in_axes", a, tree.flatten(arg)[1], f"argument {i}")
        return out + [0] * n_kwargs
    if in_axes is None or isinstance(in_axes, int | np.integer):
        return [None if in_axes is None else int(in_axes)] * structure.size
    raise ArgumentError(
        "vmap(f, in_axes)",
        f"in_axes is an int, or has one entry for each of {len(args)} arguments",
        operands=[("in_axes", in_axes)],
    )


def _names(structure: Any) -> list[str]:
    """The path of every leaf of (args, kwargs), in the words of the caller."""
    args, kwargs = structure.children
    out = []
    for i, child in enumerate(args.children):
        out += tree.paths(child, f"argument {i}")
    for key, child in zip(kwargs.aux, kwargs.children, strict=True):
        out += tree.paths(child, f"argument {key}")
    return out


def _spread(what: str, axes: Any, structure: Any, path: str) -> list[int | None]:
    """One axis for each leaf, out of an int, None, or a tree that is a prefix of the structure."""
    if axes is None or isinstance(axes, int | np.integer):
        return [None if axes is None else int(axes)] * structure.size
    keys = tree.keys_of(structure)
    if keys is None:
        keys = tuple([k.strip("[].") for k in structure.keys])
    if isinstance(axes, dict) and structure.kind not in (list, tuple, None):
        _same_keys(what, axes, keys, path)
        items = [axes[k] for k in keys]
    elif isinstance(axes, tuple | list) and structure.kind not in (dict, None):
        items = list(axes)
    else:
        items = None
    if items is None or len(items) != len(structure.children):
        raise ArgumentError(
            f"vmap(f, {what})",
            f"the axes do not match the structure of {path}",
            operands=[("axes", axes), (path, verbatim(structure))],
        )
    return [
        a
        for item, child, key in zip(items, structure.children, structure.keys, strict=True)
        for a in _spread(what, item, child, path + key)
    ]


def _same_keys(what: str, axes: dict[Any, Any], keys: Any, path: str) -> None:
    missing = [k for k in keys if k not in axes]
    unknown = [k for k in axes if k not in keys]
    if missing or unknown:
        faults = [f"{word} {', '.join(map(repr, ks))}" for word, ks in
                  (("missing", missing), ("unknown", unknown)) if ks]  # fmt: skip
        whole = "{" + ", ".join(f"{k!r}: {axes.get(k, 0)!r}" for k in keys) + "}"
        raise ArgumentError(
            f"vmap(f, {what})",
            f"the keys of the axes are not those of {path}: {'; '.join(faults)}",
            operands=[("axes", axes), (path, verbatim(f"keys {', '.join(map(repr, keys))}"))],
            fix=f"{whole} for {path}",
        )


def branch_error(t: Tensor) -> LevelError:
    frame = user_frame(getframe(1))
    text = source_of(frame.f_code, frame.f_lasti)
    if not t.level.alive:
        return LevelError(
            f"`{text}`" if text else "a value that outlived its vmap",
            "a value of a vmap that has returned: it stood for many lanes",
            operands=[("value", t)],
            fix="return it from the mapped function",
        )
    return LevelError(
        f"`{text}` under vmap" if 0 < len(text) <= 60 else f"a value under vmap: {describe(t)}",
        "it differs from lane to lane, so it has no single number to branch on or to print",
        fix="wg.where(condition, a, b) computes both sides and chooses lane by lane",
    )


def _lanes(xs: list[Any], axes: list[int | None], paths: list[str], n: int | None = None) -> int:
    sizes: dict[str, int] = {}
    for x, a, p in zip(xs, axes, paths):
        if a is not None:
            s = shape_of(x)
            if not -len(s) <= a < len(s):
                raise ArgumentError(
                    "vmap(f, in_axes)",
                    f"axis {a} does not exist",
                    operands=[(p, x)],
                    fix=f"an axis from {-len(s)} to {len(s) - 1}" if s else "in_axes=None for it",
                )
            sizes[p] = s[a]
    if n is not None:
        sizes = {"axis_size": n, **sizes}
    if not sizes:
        raise ArgumentError(
            "vmap(f, in_axes)", "no argument has a batch axis", fix="vmap(f, axis_size=n)"
        )
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{p}: {n}" for p, n in sizes.items())
        raise ArgumentError(
            "vmap(f)",
            f"batch axes of different lengths: {text}",
            fix="in_axes says which axis of each argument counts the lanes; None for an argument "
            "that all lanes share",
        )
    return next(iter(sizes.values()))
