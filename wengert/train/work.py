"""What operations need beside their operands and results, while they run: bytes, by their names.

Most elementwise operations need nothing, or a block of a fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from wengert.ops import attention, attention_native, conv_direct, conv_kernels, pool_native
from wengert.primitive import Elementwise
from wengert.types import Aval, Shape

__all__ = ["work"]

BLOCK = 1 << 18  # what the accurate elementwise functions work in at a time
# How many times the size of the largest operand.
TIMES = {
    "by_cosh2": 1.0, "bce_logits": 3.5, "elu": 1.25, "log_sigmoid": 1.25, "softsign": 3.25,
    "times_log": 2.25, "times_log1m": 2.25, "unit_vector": 1.25, "Softmax": 1.0,
    "LogSoftmax": 2.0, "LogSumExp": 2.0, "CrossEntropy": 2.0, "MeanCrossEntropy": 2.0,
    "SoftCrossEntropy": 2.0, "Norm": 1.0,
    "AddAt": 1.0,
}  # fmt: skip

Avals = Sequence[Aval]


def work(op: Any, xs: Avals, ys: Avals) -> int:
    """The bytes that op(xs) = ys needs for itself."""
    name = op.name if isinstance(op, Elementwise) else type(op).__name__
    largest = max([room(x) for x in (*xs, *ys)], default=0)
    if name in TIMES:
        return int(TIMES[name] * largest)
    if name in OWN:
        return OWN[name](op, xs, ys)
    return min(BLOCK, largest // 4) if isinstance(op, Elementwise) else 0


def room(x: Aval) -> int:
    return math.prod(x.shape) * x.dtype.itemsize


def convolution(op: Any, xs: Avals, ys: Avals) -> int:
    """Images with their padding, and columns of patches; or a table of where the patches are."""
    weights = type(op).__name__ == "ConvWeight"
    x, w, y = (xs[0], ys[0], xs[1]) if weights else (xs[0], xs[1], ys[0])
    wide = [s + a + b for s, (a, b) in zip(x.shape[1:-1], op.padding)]
    columns = room(x) * math.prod(w.shape[:-2]) // math.prod(op.stride)
    return by_either(x, w.shape, y.shape, op.groups, wide, min(columns, conv_kernels.SUMMED))


def by_either(x: Aval, w: Shape, y: Shape, groups: int, wide: Sequence[int], columns: int) -> int:
    places, kernel = y[1:-1], w[:-2]
    depthwise = w[-2] == 1 < groups
    if not depthwise and conv_direct.suits(x.shape, x.dtype, places, w, groups):
        table = conv_direct.room_of_table(places, kernel)
        return table if table > conv_direct.KEPT else 0
    return padded(x, wide, columns)


def padded(x: Aval, wide: Sequence[int], columns: int) -> int:
    """The columns beside a lot of images."""
    n, size = x.shape[0], x.shape[1:-1]
    if tuple(wide) == size or not room(x):
        return columns
    lot = min(n, max(1, conv_kernels.IMAGES // max(1, room(x) // n)))
    return lot * (room(x) // n * math.prod(wide) // math.prod(size)) + columns


def transposed(op: Any, xs: Avals, ys: Avals) -> int:
    """A convolution for each remainder by the stride, whose result is copied to its places."""
    u, w, y = xs[0], xs[1].shape, ys[0]
    taps = [-(-k // s) for k, s in zip(w, op.stride)]
    some = [-(-n // s) for n, s in zip(op.size, op.stride)]
    steps = math.prod(op.stride)
    columns = room(u) * math.prod(taps)
    parts = 2 * room(y) // steps if steps > 1 else 0
    wide = [n + k - 1 for n, k in zip(some, taps)]
    turned = (*taps, w[-1] // op.groups, w[-2] * op.groups)
    part = y.shape[0], *some, turned[-1]
    columns = min(columns, conv_kernels.COLUMNS)
    return by_either(u, turned, part, op.groups, wide, columns) + parts


def normalize(op: Any, xs: Avals, ys: Avals) -> int:
    """The squares, but along the last axis."""
    return 0 if op.axes == (len(xs[0].shape) - 1,) else room(xs[0])


def attend(op: Any, xs: Avals, ys: Avals) -> int:
    """A tile of scores, and what is made of it."""
    sizes = attention_native.sizes_of(*xs[:3])
    if attention_native.worth(ys[0].shape[:-2], sizes, xs[0].dtype):
        return attention_native.scratch("forward", sizes, xs[0].dtype)
    q, k = xs[0].shape, xs[1].shape
    scores = math.prod(q[:-1]) * k[-2] * xs[0].dtype.itemsize
    return int(1.35 * min(scores, attention.TILE))


def pool(op: Any, xs: Avals, ys: Avals) -> int:
    return room(ys[0])


def maximum(op: Any, xs: Avals, ys: Avals) -> int:
    """Of windows: nothing where machine code looks at them, and images with their border."""
    x, y = xs[0], ys[0]
    if type(op).__name__ == "TapPut":
        x, y = y, x
    if not pool_native.worth(op, math.prod(y.shape), x.dtype):
        return room(y) if type(op).__name__ == "MaxPool" else max(map(room, (*xs, *ys)))
    wide = [s + a + b for s, (a, b) in zip(x.shape[1:-1], op.padding)]
    return padded(x, wide, 0)


OWN: dict[str, Callable[[Any, Avals, Avals], int]] = {
    "Conv": convolution, "ConvInput": transposed, "ConvWeight": convolution,
    "Normalize": normalize, "Attention": attend, "MaxPool": maximum, "MaxTap": maximum,
    "TapPut": maximum, "SumPool": pool,
}  # fmt: skip
