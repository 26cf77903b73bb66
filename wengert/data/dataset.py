"""What a data set is: examples, labels, and where they come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wengert.errors import ShapeError

__all__ = ["Dataset", "Parts"]


class Parts(NamedTuple):
    """One data set in the three parts of supervised learning.

    `train` is learned from, `validation` guides choices while learning, and `test` is looked at
    once, at the end.
    """

    train: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True, eq=False)
class Dataset:
    """n examples with one label each.

    Args:
        images: `float[n, d]`, one example a row.
        labels: `int[n]` for classes, or `float[n, k]` for targets.
        name: a short name, used in reports.
        citation: whom to cite.
        licence: what one may do with the data.

    Raises:
        ShapeError: the images and labels differ in number.

    Example:
        >>> import numpy as np
        >>> three = Dataset(np.eye(3), np.arange(3), name="three")
        >>> len(three), three[1:].labels
        (3, array([1, 2]))
    """

    images: NDArray[Any]
    labels: NDArray[Any]
    name: str = "data"
    citation: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ShapeError(
                f"Dataset(images, labels, name={self.name!r})",
                "the numbers of examples and labels disagree",
                operands=[
                    ("images", self.images, f"{len(self.images)} examples"),
                    ("labels", self.labels, f"{len(self.labels)} labels"),
                ],
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> Dataset:
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def batch(self, rows: Any) -> tuple[Any, ...]:
        """(images, labels) of some examples, as a `Loader` asks for them."""
        return self.images[rows], self.labels[rows]

    @property
    def sha256(self) -> str:
        """A fingerprint of the values, the shapes and the dtypes; equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for part in (self.images, self.labels):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def split(self, *, test: int = 5, validation: int = 8) -> Parts:
        """Three disjoint parts, by a rule that uses no random numbers.

        Of every class, in the order of the data, the middle one of each `test` examples goes to
        the test part; of those that are left, the middle one of each `validation` to the
        validation part; the rest is for training. The parts are the same for every seed, on every
        machine, and hold the classes in equal shares.

        Example:
            >>> import numpy as np
            >>> d = Dataset(np.arange(80.0)[:, None], np.arange(80) % 2)
            >>> [len(part) for part in d.split()]
            [56, 8, 16]
        """
        where = np.zeros(len(self), dtype=np.int64)
        for label in np.unique(self.labels):
            (own,) = np.nonzero(self.labels == label)
            held_out = np.arange(len(own)) % test == test // 2
            rest = own[~held_out]
            where[own[held_out]] = 2
            where[rest[validation // 2 :: validation]] = 1
        return Parts(self[where == 0], self[where == 1], self[where == 2])
