"""What a data set is: arrays with one example a row, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from wengert.errors import OptionError, ShapeError

from .asked import no_rows, whole

__all__ = ["Arrays", "Dataset", "Parts", "fingerprint"]

CHUNK = 1 << 22  # how many bytes of a large array are in memory at a time


class Parts(NamedTuple):
    """One data set in the three parts of supervised learning.

    `train` is learned from, `validation` guides choices while learning, and `test` is looked at
    once, at the end.
    """

    train: Any
    validation: Any
    test: Any


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array in blocks of rows that fit into memory."""
    size = max(1, CHUNK // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), size):
        yield array[start : start + size]


def fingerprint(arrays: Iterable[NDArray[Any]]) -> str:
    """The SHA-256 of values, shapes and dtypes; equal data, equal fingerprint.

    Example:
        >>> fingerprint([np.arange(3.0)])[:12], fingerprint([np.arange(3)])[:12]
        ('74cc823074f3', '129d7c8430ee')
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for block in chunks(array):
            digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


class Arrays:
    """n examples in any number of arrays, one example a row of each.

    The arrays may be memory-mapped (`wengert.data.mapped`): only the rows of a batch are read.

    Args:
        arrays: arrays with equally long first axes.
        name: a short name, used in reports.
        citation: whom to cite.
        licence: what one may do with the data.

    Raises:
        ShapeError: the arrays differ in the number of examples.

    Example:
        >>> pairs = Arrays(np.eye(3), np.arange(3), np.ones((3, 2)), name="three")
        >>> len(pairs), [a.shape for a in pairs.batch(np.array([0, 2]))]
        (3, [(2, 3), (2,), (2, 2)])
    """

    names: tuple[str, ...] = ()
    columns: Sequence[str] = ()  # what the columns of the first array are called, if known
    classes: Sequence[str] = ()  # what the numbers of the last array stand for, if known

    def __init__(
        self, *arrays: Any, name: str = "data", citation: str = "", licence: str = ""
    ) -> None:
        if not arrays:
            raise OptionError(f"{type(self).__name__}()", "there is no array")
        self.arrays = tuple([self._array(i, a) for i, a in enumerate(arrays)])
        self.name, self.citation, self.licence = name, citation, licence
        lengths = [a.shape[0] if a.ndim else None for a in self.arrays]
        if len({*lengths}) != 1 or None in lengths:
            raise self._refusal(lengths)

    def _array(self, i: int, a: Any) -> Any:
        try:
            return np.asanyarray(a)
        except ValueError:
            name = self.names[i] if self.names else f"arrays[{i}]"
            raise ShapeError(
                f"{type(self).__name__}(...)", f"{name} has rows of different lengths",
                fix="wg.data.Sequences fills them up",
            ) from None  # fmt: skip

    def _refusal(self, lengths: list[int | None]) -> ShapeError:
        names = self.names or tuple(f"arrays[{i}]" for i in range(len(lengths)))
        rule = "the first axes must be equally long, one example a row"
        things = ["examples"] * len(names)
        if self.names:
            rule = "the numbers of examples and labels disagree"
            things[1:] = self.names[1:]
        notes = ["has no axis" if k is None else f"{k} {t}" for k, t in zip(lengths, things)]
        what = f"{type(self).__name__}({', '.join(names)}, name={self.name!r})"
        return ShapeError(what, rule, operands=list(zip(names, self.arrays, notes)))

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, rows: Any) -> Self:
        """The same data set with these rows alone: a slice, indices or a mask."""
        what, n = f"{type(self).__name__}[rows]", len(self)
        if isinstance(rows, int | np.integer):
            if not -n <= rows < n:  # this is also what ends a loop over the rows
                raise no_rows(what, n, rows)
            rows = slice(rows, rows + 1 or None)
        own = object.__new__(type(self))
        own.__dict__.update(self.__dict__)
        try:
            own.arrays = tuple([a[rows] for a in self.arrays])
        except IndexError:
            raise no_rows(what, n, rows) from None
        return own

    def __repr__(self) -> str:
        shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in self.arrays)
        return f"{type(self).__name__}({shapes}, name={self.name!r})"

    def batch(self, rows: Any) -> tuple[Any, ...]:
        """The arrays of some examples, as a `Loader` asks for them."""
        try:
            if rows is not None:
                return tuple([np.asarray(a[rows]) for a in self.arrays])
        except IndexError:
            pass
        raise no_rows(f"{type(self).__name__}.batch(rows)", len(self), rows)

    @property
    def sha256(self) -> str:
        """A fingerprint of the values, the shapes and the dtypes; equal data, equal fingerprint."""
        return fingerprint(self.arrays)

    def split(self, *, test: int = 5, validation: int = 8) -> Parts:
        """Three disjoint parts, by a rule that uses no random numbers.

        Where the last array has one whole number for each example, these are classes: of every
        class, in the order of the data, the middle one of each `test` examples goes to the test
        part; of those that are left, the middle one of each `validation` to the validation part;
        the rest is for training. Otherwise all examples are one class. The parts are the same for
        every seed, on every machine, and hold the classes in equal shares.

        Example:
            >>> d = Dataset(np.arange(80.0)[:, None], np.arange(80) % 2)
            >>> [len(part) for part in d.split()]
            [56, 8, 16]
        """
        last = self.arrays[-1]
        by_class = last.ndim == 1 and last.dtype.kind in "iub"
        where = held_out(last if by_class else np.zeros(len(self), int), test, validation)
        return Parts(self[where == 0], self[where == 1], self[where == 2])


def held_out(labels: NDArray[Any], test: int, validation: int) -> NDArray[np.int64]:
    """0, 1 or 2 for each example: training, validation, test."""
    whole("split", "test", test)
    whole("split", "validation", validation)
    where = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        (own,) = np.nonzero(labels == label)
        out = np.arange(len(own)) % test == test // 2
        rest = own[~out]
        where[own[out]] = 2
        where[rest[validation // 2 :: validation]] = 1
    return where


class Dataset(Arrays):
    """n examples with one label each.

    Args:
        images: `float[n, d]`, one example a row; any other shape will do.
        labels: `int[n]` for classes, or `float[n, k]` for targets.
        name: a short name, used in reports.
        citation: whom to cite.
        licence: what one may do with the data.

    Raises:
        ShapeError: the images and labels differ in number.

    Example:
        >>> three = Dataset(np.eye(3), np.arange(3), name="three")
        >>> len(three), three[1:].labels
        (3, array([1, 2]))
    """

    names = ("images", "labels")

    def __init__(
        self, images: Any, labels: Any, name: str = "data", citation: str = "", licence: str = ""
    ) -> None:
        super().__init__(images, labels, name=name, citation=citation, licence=licence)

    @property
    def images(self) -> Any:
        """The examples."""
        return self.arrays[0]

    @property
    def labels(self) -> Any:
        """What is to be said of each."""
        return self.arrays[1]

    inputs, targets = images, labels
