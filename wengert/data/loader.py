"""Batches in an order that can be repeated and resumed."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wengert import random
from wengert.errors import ArgumentError, OptionError, verbatim
from wengert.given import call

from .asked import source_of, whole

__all__ = ["Batch", "Loader", "Source"]

Batch = tuple[Any, ...]


class Source(Protocol):
    """Where examples come from: how many there are, and those of any rows."""

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The arrays of these examples, such as (inputs, labels)."""
        ...


class Loader:
    """The batches of a source, epoch after epoch.

    The order of epoch e is the permutation that the stream keyed by (seed, e) draws, so a position
    is two numbers, and a loader that is put there goes on exactly where the other one stood.

    Args:
        source: anything with `__len__` and `batch(rows)`, such as a `Dataset`.
        batch_size: examples in a batch; the last one of an epoch may be smaller.
        shuffle: a new order every epoch; else that of the source.
        seed: of the orders, an int or several.
        drop_last: leave out a last batch that is smaller.
        prefetch: how many batches a thread makes ready ahead.
        transform: (batch, generator) -> batch, such as noise or cropping; the generator is keyed by
            the seed, the epoch and the number of the batch.

    Example:
        >>> from wengert.data import Dataset
        >>> d = Dataset(np.arange(10.0)[:, None], np.arange(10))
        >>> loader = Loader(d, batch_size=4, seed=0)
        >>> [len(labels) for _, labels in loader], loader.epoch
        ([4, 4, 2], 1)
        >>> first = next(iter(loader))[1]; here = loader.state_dict(); rest = [y for _, y in loader]
        >>> again = Loader(d, batch_size=4, seed=0); again.load_state_dict(here)
        >>> all((a == b).all() for a, b in zip(rest, [y for _, y in again], strict=True))
        True
    """

    def __init__(
        self,
        source: Source,
        batch_size: int = 32,
        *,
        shuffle: bool = True,
        seed: int | tuple[int, ...] = 0,
        drop_last: bool = False,
        prefetch: int = 0,
        transform: Callable[[Batch, np.random.Generator], Batch] | None = None,
    ) -> None:
        for name, value, low in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0)):
            whole("Loader", name, value, low)
        for name, value in (("shuffle", shuffle), ("drop_last", drop_last)):
            if not isinstance(value, bool | np.bool_):
                raise OptionError(f"Loader({name}={value!r})", f"{name} is True or False")
        source_of("Loader(source)", source)
        if transform is not None and not callable(transform):
            raise OptionError(
                "Loader(transform=...)", "a transform is a function of a batch and a generator",
                operands=[("transform", transform)],
            )  # fmt: skip
        if not len(source):
            raise OptionError("Loader(source)", "the source has no examples")
        self.source, self.batch_size, self.shuffle = source, int(batch_size), shuffle
        self.seed = tuple(seed) if isinstance(seed, tuple | list) else (seed,)
        random.generator(self.seed)  # refuses what is no seed
        self.drop_last, self.prefetch, self.transform = drop_last, prefetch, transform
        self.epoch = self.position = 0
        if not len(self):
            raise OptionError(
                "Loader(drop_last=True)",
                f"{len(source)} examples do not fill a batch of {batch_size}",
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self.source) / self.batch_size
        return math.floor(n) if self.drop_last else math.ceil(n)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows of an epoch, in their order."""
        n = len(self.source)
        if not self.shuffle:
            return np.arange(n)
        return random.generator((*self.seed, epoch)).permutation(n)

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the epoch; after the last batch the next epoch stands at its start."""
        made = self._made(self.epoch, self.position)
        for batch in _ahead(made, self.prefetch) if self.prefetch else made:
            self.position += 1
            if self.position == len(self):
                self.epoch, self.position = self.epoch + 1, 0
            yield batch

    def _made(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self.order(epoch)
        for i in range(start, len(self)):
            batch = self.source.batch(order[i * self.batch_size : (i + 1) * self.batch_size])
            if self.transform is not None:
                rng = random.generator((*self.seed, epoch, i))
                batch = call("Loader(transform=f)", "f", self.transform, batch, rng)
                if batch is None:
                    raise ArgumentError("Loader(transform=f)", "f returned None, not a batch")
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The position: how many epochs, and how many batches of the next, were handed out."""
        return {
            "epoch": self.epoch, "position": self.position, "seed": list(self.seed),
            "examples": len(self.source), "batch_size": self.batch_size,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a position of a loader with the same source, batch size and seed."""
        mine, what = self.state_dict(), "Loader.load_state_dict(state)"
        if not isinstance(state, Mapping) or set(mine) - set(state):
            raise OptionError(what, f"a state has {', '.join(mine)}", operands=[("state", state)])
        for name in ("seed", "examples", "batch_size"):
            if state[name] != mine[name]:
                raise OptionError(
                    what,
                    f"{name} is another one, so the position means other examples",
                    operands=[("here", verbatim(mine[name])), ("state", verbatim(state[name]))],
                )
        epoch, position = (whole("state", k, state[k], 0) for k in ("epoch", "position"))
        if position >= len(self):
            raise OptionError(
                what, f"position={position} is past the end: an epoch has {len(self)} batches"
            )
        self.epoch, self.position = epoch, position


_END = object()


def _ahead(batches: Iterator[Batch], n: int) -> Iterator[Batch]:
    """The same batches, made by a thread that is at most n of them ahead."""
    ready: queue.Queue[Any] = queue.Queue(n)
    stopped = threading.Event()

    def put(item: Any) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put((batch, None))
                if stopped.is_set():
                    return
            put((_END, None))
        except BaseException as error:  # for the one who asks for the batch
            put((_END, error))

    thread = threading.Thread(target=work, name="wengert-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is _END:
                return
            yield batch
    finally:
        stopped.set()
        thread.join()
