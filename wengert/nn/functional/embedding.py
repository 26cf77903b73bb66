"""Rows of a table by number."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.ops.elementwise import eq, where
from wengert.ops.embedding import AddRows, Embedding
from wengert.trace import Tensor, bind
from wengert.transforms.custom import stop_gradient
from wengert.types import shape_of

__all__ = ["embedding", "embedding_bag", "one_hot"]


def indices(index: Any) -> Any:
    return index if isinstance(index, Tensor) else np.asarray(index)


def embedding(index: Any, table: Any, padding_idx: int | None = None) -> Any:
    """The rows of a table with these numbers.

        y[i] = table[index[i]];   the gradient adds up what the places of a row received

    Shapes: index `[*B]` of integers, table `[n, *F]`, y `[*B, *F]`.

    Args:
        padding_idx: the number of a row that gets no gradient; -1 is the last row.

    Raises:
        AxisError: a number outside the table; the message has the number and its place.
        DTypeError: numbers that are not integers.

    There is no `max_norm`: it would change the table as it is read. Divide the rows instead,
    `table / np.maximum(1, np.linalg.norm(table, axis=-1, keepdims=True) / max_norm)`.

    Example:
        >>> embedding([2, 0], np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        array([[5., 6.],
               [1., 2.]])
    """
    b = indices(index)
    y = bind(Embedding(), table, b)
    if padding_idx is None:
        return y
    n = shape_of(table)[0]
    if not -n <= padding_idx < n:
        raise OptionError(
            f"embedding(padding_idx={padding_idx})", f"the table has rows 0 to {n - 1}"
        )
    pad = eq(b, padding_idx % n).reshape((*shape_of(b), *(1,) * (len(shape_of(table)) - 1)))
    return where(pad, stop_gradient(y), y)


def one_hot(index: Any, n: int | None = None, dtype: Any = np.int64) -> Any:
    """A last axis with 1 at the place of each number, and 0 elsewhere.

        y[i, k] = 1 if index[i] = k else 0

    Shapes: index `[*B]`, y `[*B, n]`.

    Args:
        n: how many places; None for the largest number and one.
        dtype: of the result. No derivative is wanted of it.

    Raises:
        AxisError: a number outside 0 to n - 1.

    Example:
        >>> one_hot([0, 2], 3)
        array([[1, 0, 0],
               [0, 0, 1]])
    """
    b = indices(index)
    if n is None:
        value = b.value() if isinstance(b, Tensor) else b
        n = int(value.max()) + 1 if value.size else 0
    return bind(Embedding(), np.eye(n, dtype=dtype), b)


def embedding_bag(
    index: Any,
    table: Any,
    offsets: Any = None,
    mode: str = "mean",
    weight: Any = None,
    padding_idx: int | None = None,
) -> Any:
    """The sum or the mean of rows of a table, bag by bag.

        y[j] = sum_{i in bag j} weight[i] table[index[i]]        and over their number for the mean

    An empty bag gives 0. A bag leaves out the padding row.

    Shapes: index `[N, L]`, a bag a row, or `[M]` with offsets `[N]`; table `[n, F]`, y `[N, F]`.

    Args:
        offsets: where each bag starts in a flat index.
        mode: "mean" or "sum".
        weight: a factor for each number of index, with mode="sum".

    Example:
        >>> table = np.array([[1.0], [10.0], [100.0]])
        >>> embedding_bag([[0, 1], [2, 2]], table, mode="sum").ravel()
        array([ 11., 200.])
        >>> embedding_bag([0, 1, 2], table, offsets=[0, 2]).ravel()
        array([  5.5, 100. ])
    """
    if mode not in ("mean", "sum"):
        raise OptionError(f"embedding_bag(mode={mode!r})", 'mode is "mean" or "sum"')
    if weight is not None and mode != "sum":
        raise OptionError("embedding_bag(weight)", 'a weight goes with mode="sum"')
    b = indices(index)
    shape = shape_of(b)
    if (len(shape) == 2) == (offsets is not None) or len(shape) not in (1, 2):
        raise ShapeError(
            "embedding_bag(index, table, offsets)",
            "index is [N, L], or flat with offsets",
            operands=[("index", b), ("offsets", offsets)],
        )
    y = bind(Embedding(), table, b)
    kept: Any = np.ones(shape, y.dtype)
    if padding_idx is not None:
        kept = where(eq(b, padding_idx % shape_of(table)[0]), 0.0, kept)
    if weight is not None:
        if shape_of(weight) != shape:
            raise ShapeError(
                "embedding_bag(index, table, weight)",
                "weight has a number for each of index",
                operands=[("index", b), ("weight", weight)],
            )
        factor = weight * kept
    else:
        factor = kept
    if weight is not None or padding_idx is not None:
        y = y * factor[..., None]
    if len(shape) == 2:
        total, count = y.sum(1), kept.sum(1)
    else:
        starts = np.asarray(offsets)
        if starts.size and (starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > shape[0]):
            raise OptionError(
                "embedding_bag(offsets)", f"offsets rise from 0 to at most {shape[0]}"
            )
        bag = np.searchsorted(starts, np.arange(shape[0]), side="right") - 1
        total = bind(AddRows(len(starts)), y, bag)
        count = bind(AddRows(len(starts)), kept, bag)
    return total if mode == "sum" else total / np.maximum(count, 1)[:, None]
