"""Sources made of others: some rows, several in a row, and a function of the batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from wengert.errors import ArgumentError, DataError, OptionError, ShapeError, verbatim
from wengert.given import call

from .asked import rows_of, source_of, whole
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
        super().__init__(source_of("Subset(source, rows)", source))
        try:
            if not isinstance(rows, slice):
                rows = np.asarray(rows, dtype=None if len(rows) else int)
            self.rows = np.arange(len(source))[rows]
            fits = self.rows.ndim == 1
        except (IndexError, TypeError, ValueError):
            fits = False
        if not fits:
            raise OptionError(
                "Subset(source, rows)",
                f"rows are numbers of examples, from 0 to {len(source) - 1}, a slice or a mask",
                operands=[("rows", rows)],
            )

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Any) -> Batch:
        """The arrays of these rows of the subset."""
        return self.source.batch(self.rows[rows_of("Subset.batch(rows)", len(self), rows)])

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
        if not isinstance(sources, list | tuple):
            raise OptionError(
                "Concat(sources)", "it takes a list of sources", operands=[("sources", sources)],
                fix="Concat([{sources}, ...])" if hasattr(sources, "batch") else None,
            )  # fmt: skip
        if not sources:
            raise OptionError("Concat([])", "there is no source")
        self.sources = [source_of("Concat(sources)", s) for s in sources]
        self.starts = np.array([0, *accumulate(len(s) for s in self.sources)])
        for about in ("name", "citation", "licence"):
            texts = [getattr(s, about, "") for s in self.sources]
            setattr(self, about, "; ".join(dict.fromkeys(t for t in texts if t)))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def batch(self, rows: Any) -> Batch:
        """The arrays of these rows, whatever source each stands in."""
        rows = rows_of("Concat.batch(rows)", len(self), rows)
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
        super().__init__(source_of("Map(source, f)", source))
        if not callable(f):
            raise OptionError("Map(source, f)", "f is a function", operands=[("f", f)])
        self.f = f

    def batch(self, rows: Any) -> Batch:
        """The function of the source's batch."""
        batch = call("Map(source, f)", "f", self.f, self.source.batch(rows))
        if batch is None:
            raise ArgumentError("Map(source, f)", "f returned None, not a batch")
        return batch


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
        if not (self.deviation > 0).all():
            raise OptionError("Standardise(mean, deviation)", "every deviation is above 0",
                              operands=[("deviation", self.deviation)])  # fmt: skip

    @classmethod
    def fit(cls, source: Source, *, which: int = 0, chunk: int = 4096) -> Standardise:
        """Mean and deviation of a source, in one pass over its batches.

        References:
            T. Chan, G. Golub, R. LeVeque (1983), Algorithms for computing the sample variance.
        """
        what = "Standardise.fit(source)"
        source_of(what, source)
        whole("Standardise.fit", "chunk", chunk)
        n, mean, square = 0, np.zeros(()), np.zeros(())
        for start in range(0, len(source), chunk):
            rows = np.arange(start, min(start + chunk, len(source)))
            x = _numbers(what, source.batch(rows), which, start)
            with np.errstate(over="ignore"):
                m, own = len(x), x.mean(axis=0)
                away = own - mean
                square = square + ((x - own) ** 2).sum(axis=0) + away**2 * (n * m / (n + m))
                mean = mean + away * (m / (n + m))
            n += m
        if not n:
            raise DataError(what, "there are no examples")
        if not np.isfinite(square).all():
            column = verbatim(f"column {int(np.argmin(np.isfinite(square)))}, counted from 0")
            raise DataError(what, "numbers are too large to be squared", operands=[("at", column)])
        deviation = np.sqrt(square / n)
        return cls(mean, np.where(deviation > 1e-12 * abs(mean), deviation, 1.0), which)

    def __call__(self, batch: Batch) -> Batch:
        x = batch[self.which]
        for name, own in (("mean", self.mean), ("deviation", self.deviation)):
            if own.ndim and own.shape != x.shape[x.ndim - own.ndim :]:
                raise ShapeError("Standardise(mean, deviation)(batch)", "the columns are others",
                                 operands=[(f"batch[{self.which}]", x), (name, own)])  # fmt: skip
        y = ((x - self.mean) / self.deviation).astype(x.dtype if x.dtype.kind == "f" else float)
        return (*batch[: self.which], y, *batch[self.which + 1 :])

    def parts(self, parts: Parts) -> Parts:
        """The three parts, all changed by the same numbers."""
        return Parts(*(Map(part, self) for part in parts))


def _numbers(what: str, batch: Batch, which: int, start: int) -> Any:
    """One array of a batch in float64, all of it finite."""
    if not isinstance(which, int | np.integer) or not -len(batch) <= which < len(batch):
        raise OptionError(
            f"Standardise.fit(which={which!r})", f"a batch of the source has {len(batch)} arrays"
        )
    x = np.asarray(batch[which])
    if x.dtype.kind not in "fiub":
        raise DataError(what, "columns are of real numbers", operands=[(f"batch[{which}]", x)])
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        row, *place = np.argwhere(~np.isfinite(x))[0].tolist()
        column = f", column {', '.join(map(str, place))}" if place else ""
        raise DataError(
            what, "a column has numbers that are not finite",
            operands=[("first", verbatim(f"row {start + row}{column}, counted from 0"))],
        )  # fmt: skip
    return x


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
    source_of("split(source)", source)
    if labels is not None and np.shape(labels) != (len(source),):
        raise ShapeError(
            "split(source, labels)", f"there is one label for each of the {len(source)} examples",
            operands=[("labels", np.asarray(labels))],
        )  # fmt: skip
    labels = np.zeros(len(source), int) if labels is None else np.asarray(labels)
    where = held_out(labels, test, validation)
    return Parts(*(Subset(source, np.nonzero(where == part)[0]) for part in range(3)))


def _joined(*texts: str) -> str:
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()
