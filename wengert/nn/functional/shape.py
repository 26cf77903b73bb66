"""Padding, resampling and windows. Channels come last."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError, verbatim
from wengert.ops import elementwise as e
from wengert.ops.index import HOLE, Gather, GetItem, Pad
from wengert.ops.spatial import EDGES, Fold, Resample, Unfold, places
from wengert.trace import Tensor, bind
from wengert.types import shape_of

from .conv import batched, count, given, per_axis

__all__ = [
    "fold",
    "grid_sample",
    "interpolate",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "unfold",
]


def pad(x: Any, widths: Any, mode: str = "constant", value: float = 0.0) -> Any:
    """Numbers around an array.

    Args:
        widths: a pair (before, after) for each of the last axes before the channels, as
            `((1, 1), (2, 2))` for the rows and columns of `[N, H, W, C]`; or one for every axis of
            x. A negative width cuts off.
        mode: "constant"; "reflect" mirrors without repeating the edge, "replicate" repeats the edge
            and "circular" goes on at the other side.
        value: what "constant" fills in.

    Raises:
        ShapeError: widths that are no pairs (PyTorch's flat form is refused, and turned round in
            the message), more of them than axes, or an edge wider than what it mirrors.
        OptionError: another mode.

    Example:
        >>> pad(np.array([[1.0], [2.0], [3.0]]), ((2, 1),), "reflect").ravel()
        array([3., 2., 1., 2., 3., 2.])
    """
    x = given("pad", x)
    shape = shape_of(x)
    pairs = paired(x, widths)
    after = 1 if len(pairs) < len(shape) else 0
    full: list[Any] = [(0, 0)] * (len(shape) - len(pairs) - after) + pairs + [(0, 0)] * after
    for axis, (n, (a, b)) in enumerate(zip(shape, full)):
        if max(0, -a) + max(0, -b) > n:
            raise ShapeError(
                "pad(x, widths)", f"axis {axis} has {n} places, fewer than are cut off",
                operands=[("x", x), ("widths", verbatim(widths))],
            )  # fmt: skip
    cut = tuple(slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(shape, full))
    if any(a < 0 or b < 0 for a, b in full):
        x = bind(GetItem(cut), x)
        shape = shape_of(x)
        full = [(max(0, a), max(0, b)) for a, b in full]
    if mode == "constant":
        wide = tuple(full)
        y = bind(Pad(wide), x)
        if value == 0:
            return y
        frame = np.full(shape_of(y), value, y.dtype)
        frame[tuple(slice(a, a + n) for n, (a, _) in zip(shape, wide))] = 0
        return y + frame
    if mode not in EDGES:
        listed = ", ".join(f'"{m}"' for m in EDGES)
        raise OptionError(f"pad(mode={mode!r})", f'mode is one of "constant", {listed}')
    for axis, (a, b) in enumerate(full):
        if a or b:
            limit = {"reflect": shape[axis] - 1, "circular": shape[axis]}.get(mode)
            if limit is not None and max(a, b) > limit:
                raise ShapeError(
                    f"pad(x, mode={mode!r})",
                    f"axis {axis} has {shape[axis]} places and takes at most {limit} on a side",
                    operands=[("x", x)],
                )
            x = bind(Resample(axis, (mode, a, b)), x)
    return x


def paired(x: Any, widths: Any) -> list[tuple[int, int]]:
    """The widths as pairs, one for each axis that has some."""
    w: Any = widths.value() if isinstance(widths, Tensor) else widths
    w = w.tolist() if isinstance(w, np.ndarray) else w
    each = list(w) if isinstance(w, list | tuple) else [w]
    pairs = [tuple(w) if isinstance(w, list | tuple) else (w,) for w in each]
    whole = all(isinstance(v, int | np.integer) for w in pairs for v in w)
    if whole and len(pairs) <= len(shape_of(x)) and all(len(w) == 2 for w in pairs):
        return [(int(a), int(b)) for a, b in pairs]
    flat = whole and len(pairs) % 2 == 0 and all(len(w) == 1 for w in pairs)  # as PyTorch's are
    told = [(*a, *b) for a, b in zip(pairs[-2::-2], pairs[::-2])] if flat else []
    raise ShapeError(
        "pad(x, widths)", "widths has a pair (before, after) of whole numbers for each axis",
        operands=[("x", x), ("widths", verbatim(repr(widths)))],
        fix=f"pad(x, {told}), in the order of the axes" if flat else None,
    )  # fmt: skip


MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area")
KINDS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}


def interpolate(
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = False,
) -> Any:
    """An image of another size.

        y[o] = sum_i w(o, i) x[i],  axis by axis

    Place o of y lies at (o + 1/2) n / m - 1/2 in x, or with align_corners at o (n - 1) / (m - 1).

    Shapes: x `[N, *S, C]`, y `[N, *size, C]`, with one to three axes of space. What has its
    channels first is resized along the wrong axes, unnoticed: transpose it first.

    Args:
        size: the new lengths: one for all axes, or one for each.
        scale_factor: in place of size: so many places of y to one of x; m = floor(n scale_factor).
        mode: "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area".

    Raises:
        OptionError: both of size and scale_factor or neither; another mode.

    Example:
        >>> interpolate(np.array([[[0.0], [2.0]]]), 4, mode="linear").ravel()
        array([0. , 0.5, 1.5, 2. ])

    References:
        R. Keys (1981), Cubic Convolution Interpolation for Digital Image Processing.
    """
    x = given("interpolate", x)
    axes = len(shape_of(x)) - 2
    if not 1 <= axes <= 3:
        raise ShapeError("interpolate(x)", "x is [N, *S, C], channels last", operands=[("x", x)])
    if mode not in MODES or KINDS.get(mode, axes) != axes:
        rule = (
            f'"{mode}" is for {KINDS[mode]} axes of space, and x has {axes}'
            if mode in KINDS
            else "mode is one of " + ", ".join(f'"{m}"' for m in MODES)
        )
        raise OptionError(f"interpolate(mode={mode!r})", rule)
    if (size is None) == (scale_factor is None):
        raise OptionError("interpolate(size, scale_factor)", "one of the two is given")
    old = shape_of(x)[1:-1]
    if size is not None:
        new = per_axis("interpolate", "size", size, axes)
        steps = [n / m for n, m in zip(old, new)]
    else:
        factors = scales("interpolate", scale_factor, axes)
        new = tuple(max(1, math.floor(n * f)) for n, f in zip(old, factors))
        steps = [1 / float(f) for f in factors]
    align_corners = bool(align_corners)
    for i, (n, m, step) in enumerate(zip(old, new, steps)):
        if align_corners and mode in KINDS:
            step = (n - 1) / (m - 1) if m > 1 else 0.0
        plan: tuple[Any, ...]
        if mode == "area":
            plan = ("area", m)
        elif mode in KINDS:
            plan = ("cubic" if mode == "bicubic" else "linear", m, step, align_corners)
        else:
            plan = ("nearest", m, step, 0.5 if mode == "nearest-exact" else 0.0)
        x = bind(Resample(i + 1, plan), x)
    return x


def scales(what: str, factor: Any, axes: int) -> tuple[float, ...]:
    """A factor for each axis."""
    each = tuple(factor) if isinstance(factor, tuple | list | np.ndarray) else (factor,) * axes
    real = all(isinstance(f, int | float | np.number) and 0 < f < math.inf for f in each)
    if len(each) != axes or not real:
        raise OptionError(f"{what}(scale_factor={factor!r})", "a positive number, or one per axis")
    return each


def unfold(x: Any, kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    """The windows of an image, one row each.

        y[n, o, (k, c)] = x[n, s o + d k - p, c]

    Shapes: x `[N, *S, C]`, y `[N, L, K C]` with L windows of K places; the order is that of a
    weight `[*K, C, M]` as a matrix.

    Args:
        kernel: a length for each axis of space, or one for all.
        stride, padding, dilation: as in `conv2d`; zeros around x.

    Example:
        >>> unfold(np.arange(4.0).reshape(1, 4, 1), 2)[0]
        array([[0., 1.],
               [1., 2.],
               [2., 3.]])
    """
    x = given("unfold", x)
    axes = len(shape_of(x)) - 2
    if axes < 1:
        raise ShapeError("unfold(x)", "x is [N, *S, C], channels last", operands=[("x", x)])
    k, s, p, d = window("unfold", axes, kernel, stride, padding, dilation)
    if any(p):
        x = bind(Pad(((0, 0), *((v, v) for v in p), (0, 0))), x)
    y = bind(Unfold(k, s, d), x)
    shape = shape_of(y)
    return y.reshape((shape[0], math.prod(shape[1 : axes + 1]), math.prod(shape[axes + 1 :])))


def window(what: str, axes: int, *sizes: Any) -> tuple[tuple[int, ...], ...]:
    k, s, p, d = sizes
    return (
        per_axis(what, "kernel", k, axes),
        per_axis(what, "stride", s, axes),
        per_axis(what, "padding", p, axes, 0),
        per_axis(what, "dilation", d, axes),
    )


def fold(
    x: Any, size: Any, kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Any:
    """Windows added up into an image: the transpose of `unfold`.

        y[n, s o + d k - p, c] += x[n, o, (k, c)]

    Shapes: x `[N, L, K C]`, y `[N, *size, C]`.

    Args:
        size: of the image, a length for each axis of space.
        kernel, stride, padding, dilation: as in `unfold`.

    Example:
        >>> fold(np.ones((1, 3, 2)), (4,), 2).ravel()
        array([1., 2., 2., 1.])
    """
    x = given("fold", x)
    axes = len(size) if isinstance(size, tuple | list | np.ndarray) else 1
    size = per_axis("fold", "size", size, axes)
    k, s, p, d = window("fold", axes, kernel, stride, padding, dilation)
    wide = tuple(n + 2 * v for n, v in zip(size, p))
    out = places(wide, k, s, d)
    shape = shape_of(x)
    if len(shape) != 3 or shape[1] != math.prod(out) or shape[2] % math.prod(k):
        raise ShapeError(
            "fold(x, size, kernel)",
            f"x is [N, {math.prod(out)}, {math.prod(k)} C]: {list(out)} windows of {list(k)}",
            operands=[("x", x)],
        )
    y = bind(Fold(k, s, d, wide), x.reshape((shape[0], *out, *k, shape[2] // math.prod(k))))
    if not any(p):
        return y
    return bind(GetItem((slice(None), *(slice(v, v + n) for v, n in zip(p, size)))), y)


def pixel_shuffle(x: Any, factor: int) -> Any:
    """Channels moved into space: an image `factor` times as large.

    Shapes: x `[N, H, W, C r^2]`, y `[N, H r, W r, C]`; channel c r^2 + i r + j goes to (i, j).

    References:
        W. Shi et al. (2016), arXiv:1609.05158.
    """
    x, single = batched("pixel_shuffle", x, 2)
    n, h, w, c = shape_of(x)
    r = count("pixel_shuffle", "factor", factor, 1)
    if c % (r * r):
        raise ShapeError(
            f"pixel_shuffle(x, {factor})",
            f"the channels are a multiple of {r * r}",
            operands=[("x", x, f"axis -1 is {c}")],
        )
    y = x.reshape((n, h, w, c // r**2, r, r)).transpose(0, 1, 4, 2, 5, 3)
    y = y.reshape((n, h * r, w * r, c // r**2))
    return y[0] if single else y


def pixel_unshuffle(x: Any, factor: int) -> Any:
    """Space moved into channels: the inverse of `pixel_shuffle`.

    Shapes: x `[N, H r, W r, C]`, y `[N, H, W, C r^2]`.
    """
    x, single = batched("pixel_unshuffle", x, 2)
    n, h, w, c = shape_of(x)
    r = count("pixel_unshuffle", "factor", factor, 1)
    if h % r or w % r:
        raise ShapeError(
            f"pixel_unshuffle(x, {factor})",
            f"height and width are multiples of {r}",
            operands=[("x", x, f"{h} by {w}")],
        )
    y = x.reshape((n, h // r, r, w // r, r, c)).transpose(0, 1, 3, 5, 2, 4)
    y = y.reshape((n, h // r, w // r, c * r * r))
    return y[0] if single else y


def grid_sample(
    x: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Any:
    """The values of an image at given points, with derivatives in image and points.

        y[n, o] = sum of the four pixels around grid[n, o], weighted by nearness

    Shapes: x `[N, H, W, C]`, grid `[N, OH, OW, 2]` of (across, down), y `[N, OH, OW, C]`.

    Args:
        grid: -1 and 1 are the edges of the image, or with align_corners the outermost pixels'
            centres.
        mode: "bilinear" or "nearest"; the nearest pixel has no derivative in the point.
        padding_mode: outside the image "zeros", or "border": the nearest pixel.

    Example:
        >>> x = np.array([[[[0.0], [2.0]]]])
        >>> grid_sample(x, np.array([[[[0.0, 0.0]]]])).item()
        1.0

    References:
        M. Jaderberg et al. (2015), Spatial Transformer Networks, arXiv:1506.02025.
    """
    x, grid = given("grid_sample", x), given("grid_sample", grid)
    sx, sg = shape_of(x), shape_of(grid)
    if len(sx) != 4 or len(sg) != 4 or sg[0] != sx[0] or sg[3] != 2:
        raise ShapeError(
            "grid_sample(x, grid)",
            "x is [N, H, W, C] and grid [N, OH, OW, 2]",
            operands=[("x", x), ("grid", grid)],
        )
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border"):
        raise OptionError(
            f"grid_sample(mode={mode!r}, padding_mode={padding_mode!r})",
            'mode is "bilinear" or "nearest", padding_mode "zeros" or "border"',
        )
    spots = []
    for n, u in zip((sx[2], sx[1]), (grid[..., 0], grid[..., 1])):
        v = (u + 1) * ((n - 1) / 2) if align_corners else ((u + 1) * n - 1) * 0.5
        spots.append(e.clip(v, 0.0, float(n - 1)) if padding_mode == "border" else v)
    across, down = spots
    lane = np.arange(sx[0])[:, None, None]

    def pixel(i: Any, j: Any) -> Any:
        """x at row i and column j, and 0 outside."""
        inside = (i >= 0) & (i < sx[1]) & (j >= 0) & (j < sx[2])
        rows = e.clip(i, 0, sx[1] - 1).astype(np.intp)
        columns = e.clip(j, 0, sx[2] - 1).astype(np.intp)
        y = bind(Gather((HOLE, HOLE, HOLE)), x, lane, rows, columns)
        return e.where(inside[..., None], y, 0.0)

    if mode == "nearest":
        return pixel(e.rint(down), e.rint(across))
    top, left = e.floor(down), e.floor(across)
    b, r = (down - top)[..., None], (across - left)[..., None]
    upper = pixel(top, left) * (1 - r) + pixel(top, left + 1) * r
    lower = pixel(top + 1, left) * (1 - r) + pixel(top + 1, left + 1) * r
    return upper * (1 - b) + lower * b
