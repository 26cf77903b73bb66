"""Sequences of different lengths, filled up to equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import OptionError, ShapeError

from .asked import rows_of, whole
from .dataset import fingerprint
from .loader import Batch

__all__ = ["Sequences", "collate"]


def collate(
    sequences: Sequence[Any], *, fill: float = 0, length: int | None = None
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sequences as one array, filled up at their ends, and their lengths.

    Shapes: each sequence `[t, ...]`, with equal shapes after the first axis; the array
    `[n, T, ...]`, the lengths `int64[n]`.

    Args:
        sequences: one for each example.
        fill: what stands after the end.
        length: T; None for the longest of them. Longer ones are refused.

    Example:
        >>> collate([[1, 2, 3], [4]], fill=-1)
        (array([[ 1,  2,  3],
               [ 4, -1, -1]]), array([3, 1]))
    """
    arrays = listed("collate(sequences)", sequences)
    if length is not None:
        whole("collate", "length", length, 0)
    if not arrays:
        raise OptionError("collate([])", "there is no sequence")
    shapes = {a.shape[1:] if a.ndim else None for a in arrays}
    if len(shapes) != 1 or None in shapes:
        odd = next(
            i for i, a in enumerate(arrays) if not a.ndim or a.shape[1:] != arrays[0].shape[1:]
        )
        raise ShapeError(
            "collate(sequences)", "all axes but the first must agree",
            operands=[("sequences[0]", arrays[0]), (f"sequences[{odd}]", arrays[odd])],
        )  # fmt: skip
    lengths = np.array([len(a) for a in arrays])
    longest = int(lengths.max()) if length is None else length
    if lengths.max() > longest:
        i = int(lengths.argmax())
        raise ShapeError(
            f"collate(sequences, length={length})", f"a sequence has {lengths[i]} places",
            operands=[(f"sequences[{i}]", arrays[i])], fix=f"length={lengths[i]}",
        )  # fmt: skip
    dtype = np.result_type(*arrays)
    out = np.empty((len(arrays), longest, *arrays[0].shape[1:]), dtype=dtype)
    out[...] = filling(fill, dtype)
    for row, a in zip(out, arrays, strict=True):
        row[: len(a)] = a
    return out, lengths


def listed(what: str, sequences: Any) -> list[Any]:
    """The sequences as arrays."""
    try:
        return [np.asarray(s) for s in sequences]
    except (TypeError, ValueError):
        raise OptionError(
            what, "it takes a list of sequences", operands=[("sequences", sequences)]
        ) from None


def filling(fill: Any, dtype: Any) -> Any:
    """What stands after the end, as a number of this dtype; refused where it would be another."""
    with np.errstate(all="ignore"):
        try:
            value = np.asarray(fill).astype(dtype)
            same = value.ndim == 0 and (value == fill or (dtype.kind in "fc" and fill != fill))
        except (TypeError, ValueError, OverflowError):
            same = False
        if dtype.kind in "fc" and not same:  # 0.1 is none of float32's, and rounded as usual
            same = isinstance(fill, int | float | complex | np.number)
    if not same:
        raise OptionError(
            f"collate(fill={fill!r})", f"it is a number that the sequences' {dtype} can hold",
            fix="sequences of floats" if dtype.kind in "iub" else None,
        )  # fmt: skip
    return value


class Sequences:
    """A source of sequences; a batch is (filled up, lengths, *labels).

    Args:
        sequences: arrays of different lengths.
        labels: further arrays, one row for each sequence.
        fill: what stands after the end.
        length: to which length to fill up; None for the longest of each batch.
        name, citation, licence: where they come from.

    Example:
        >>> source = Sequences([[1.0], [2.0, 3.0], [4.0]], np.array([0, 1, 1]))
        >>> [part.tolist() for part in source.batch(np.array([2, 1]))]
        [[[4.0, 0.0], [2.0, 3.0]], [1, 2], [1, 1]]
    """

    def __init__(
        self,
        sequences: Sequence[Any],
        *labels: Any,
        fill: float = 0,
        length: int | None = None,
        name: str = "sequences",
        citation: str = "",
        licence: str = "",
    ) -> None:
        self.sequences = listed("Sequences(sequences)", sequences)
        self.labels = tuple(np.asarray(a) for a in labels)
        self.fill, self.length = fill, length
        self.name, self.citation, self.licence = name, citation, licence
        for i, a in enumerate(self.labels):
            if not a.ndim or len(a) != len(self.sequences):
                raise ShapeError(
                    "Sequences(sequences, *labels)", "one label for each sequence is needed",
                    operands=[(f"labels[{i}]", a, f"for {len(self.sequences)} sequences")],
                )  # fmt: skip

    def __len__(self) -> int:
        return len(self.sequences)

    def batch(self, rows: Any) -> Batch:
        """These sequences, filled up, with their lengths and labels."""
        rows = rows_of("Sequences.batch(rows)", len(self), rows)
        some = [self.sequences[i] for i in rows]
        filled, lengths = collate(some, fill=self.fill, length=self.length)
        return (filled, lengths, *(a[rows] for a in self.labels))

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of all sequences and labels."""
        return fingerprint([*self.sequences, *self.labels])
