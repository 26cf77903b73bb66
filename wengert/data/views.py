"""Sources made of others: some rows, several in a row, and a function of the batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from wengert.errors import DataError, OptionError, ShapeError

from .dataset import Parts, held_out
from .loader import Batch, Source

__all__ = ["Concat", "Map", "Standardise", "Subset", "split"]


class View:
    """A source that takes its name, citation and licence from another one."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)


class Subset(View):
    """Some rows of a source, in this order.

    Example:
        >>> from wengert.data import Arrays
        >>> some = Subset(Arrays(np.arange(10.0)), [7, 2, 2])
        >>> some.batch(np.array([0, 1]))
        (array([7., 2.]),)
    """

    def __init__(self, source: Source, rows: Any) -> None:
        super().__init__(source)
        try:
            self.rows = np.arange(len(source))[np.asarray(rows, dtype=None if len(rows) else int)]
        except IndexError as error:
            raise OptionError(
                "Subset(source, rows)",
                f"rows are numbers of examples, from 0 to {len(source) - 1}, or a mask: {error}",
            ) from None

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Any) -> Batch:
        """The arrays of these rows of the subset."""
        return self.source.batch(self.rows[rows])

    @property
    def sha256(self) -> str:
        """A fingerprint of the source and of the rows."""
        return _joined(self.source.sha256, self.rows.astype("<i8").tobytes().hex())


class Concat:
    """Sources one after the other, as one.

    Example:
        >>> from wengert.data import Arrays
        >>> both = Concat([Arrays(np.arange(3.0)), Arrays(np.arange(10.0, 15.0))])
        >>> len(both), both.batch(np.array([4, 0, 3]))
        (8, (array([11.,  0., 10.]),))
    """

    def __init__(self, sources: Sequence[Any]) -> None:
        if not sources:
            raise OptionError("Concat([])", "there is no source")
        self.sources = list(sources)
        self.starts = np.array([0, *accumulate(len(s) for s in self.sources)])
        for about in ("name", "citation", "licence"):
            texts = [getattr(s, about, "") for s in self.sources]
            setattr(self, about, "; ".join(dict.fromkeys(t for t in texts if t)))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def batch(self, rows: Any) -> Batch:
        """The arrays of these rows, whatever source each stands in."""
        rows = np.arange(len(self))[rows]
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        here = [(i, rows[owners == i] - self.starts[i]) for i in np.unique(owners)]
        parts = [self.sources[i].batch(own) for i, own in here]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        try:
            return tuple(np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True))
        except ValueError as error:
            shapes = [" and ".join(str(list(a.shape[1:])) for a in part) for part in parts]
            raise ShapeError(
                "Concat(sources)", f"their items are unlike: {', '.join(shapes)}: {error}"
            ) from None

    @property
    def sha256(self) -> str:
        """A fingerprint of all of them."""
        return _joined(*(s.sha256 for s in self.sources))


class Map(View):
    """A source whose batches go through a function that draws no random numbers.

    Random changes, such as noise, belong into the `transform` of a `Loader`, which hands them a
    generator.

    Args:
        source: where the batches come from.
        f: batch -> batch.

    Example:
        >>> from wengert.data import Arrays
        >>> Map(Arrays(np.arange(3.0)), lambda batch: (batch[0] * 2,)).batch(np.array([2]))
        (array([4.]),)
    """

    def __init__(self, source: Source, f: Callable[[Batch], Batch]) -> None:
        super().__init__(source)
        self.f = f

    def batch(self, rows: Any) -> Batch:
        """The function of the source's batch."""
        return self.f(self.source.batch(rows))


class Standardise:
    """Inputs with mean 0 and deviation 1 in every column, by numbers taken from one part alone.

        x -> (x - mean) / deviation

    A column that never changes is only shifted.

    Args:
        mean, deviation: a number for each column.
        which: the place of the inputs in a batch.

    Example:
        >>> from wengert.data import Dataset
        >>> parts = Dataset(np.random.default_rng(0).normal(5, 3, (100, 2)), np.zeros(100)).split()
        >>> standard = Standardise.fit(parts.train)
        >>> train, validation, test = standard.parts(parts)
        >>> x, y = train.batch(slice(None))
        >>> bool(abs(x.mean()) < 1e-12), bool(abs(x.std(0) - 1).max() < 1e-12)
        (True, True)
    """

    def __init__(self, mean: Any, deviation: Any, which: int = 0) -> None:
        self.mean, self.deviation, self.which = np.asarray(mean), np.asarray(deviation), which

    @classmethod
    def fit(cls, source: Source, *, which: int = 0, chunk: int = 4096) -> Standardise:
        """Mean and deviation of a source, in one pass over its batches.

        References:
            T. Chan, G. Golub, R. LeVeque (1983), Algorithms for computing the sample variance.
        """
        n, mean, square = 0, np.zeros(()), np.zeros(())
        for start in range(0, len(source), chunk):
            rows = np.arange(start, min(start + chunk, len(source)))
            x = np.asarray(source.batch(rows)[which], dtype=np.float64)
            m, own = len(x), x.mean(axis=0)
            away = own - mean
            square = square + ((x - own) ** 2).sum(axis=0) + away**2 * (n * m / (n + m))
            mean = mean + away * (m / (n + m))
            n += m
        if not n or not np.isfinite(mean).all():
            wrong = "there are no examples" if not n else "a column has numbers that are not finite"
            raise DataError("Standardise.fit(source)", wrong)
        deviation = np.sqrt(square / n)
        return cls(mean, np.where(deviation > 1e-12 * abs(mean), deviation, 1.0), which)

    def __call__(self, batch: Batch) -> Batch:
        x = batch[self.which]
        y = ((x - self.mean) / self.deviation).astype(x.dtype if x.dtype.kind == "f" else float)
        return (*batch[: self.which], y, *batch[self.which + 1 :])

    def parts(self, parts: Parts) -> Parts:
        """The three parts, all changed by the same numbers."""
        return Parts(*(Map(part, self) for part in parts))


def split(source: Source, labels: Any = None, *, test: int = 5, validation: int = 8) -> Parts:
    """Three disjoint parts of any source, without random numbers.

    Args:
        source: what is divided.
        labels: a class for each example, so that the parts hold them in equal shares.
        test: every so many examples one is for the test part.
        validation: of the rest, every so many one is for the validation part.

    Example:
        >>> from wengert.data import Arrays
        >>> [len(part) for part in split(Arrays(np.arange(80.0)))]
        [56, 8, 16]
    """
    where = held_out(np.zeros(len(source), int) if labels is None else labels, test, validation)
    return Parts(*(Subset(source, np.nonzero(where == part)[0]) for part in range(3)))


def _joined(*texts: str) -> str:
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()
