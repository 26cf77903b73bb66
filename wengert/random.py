"""Random numbers that can be drawn again: counter-based streams, seeded, saved and rewound.

Everything in the house that draws (dropout, noise, shuffling) draws from a `numpy.random.Generator`
that it was given, or else from the default stream here. A stream's state is a small plain dict, so
a checkpointed part draws the same numbers when it runs again, and a resumed run goes on where the
interrupted one stood.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .errors import OptionError

__all__ = ["default", "generator", "get_state", "rewound", "seed", "set_state", "states"]

_lock = threading.Lock()
_streams: list[Any] = []  # the default stream, once somebody needs it


def generator(seed: Any = None) -> np.random.Generator:
    """A stream of its own: counter-based (Philox, Salmon et al. 2011), keyed by the seed.

    Args:
        seed: an integer or a sequence of them; None for a seed from the operating system. A
            generator is returned as it is.

    >>> bool(generator(7).random() == generator(7).random())
    True
    """
    if isinstance(seed, np.random.Generator):
        return seed
    try:
        return np.random.Generator(np.random.Philox(seed))
    except (TypeError, ValueError):
        raise not_a_seed(seed) from None


def not_a_seed(seed: Any) -> OptionError:
    return OptionError(
        f"rng={seed!r}", "what is drawn from is a generator, or a seed: a whole number, at least 0"
    )


def default() -> np.random.Generator:
    """The stream that is drawn from when nobody gives another."""
    if not _streams:
        with _lock:
            if not _streams:
                _streams.append(generator())
    stream: np.random.Generator = _streams[0]
    return stream


def seed(n: Any) -> None:
    """Start the default stream anew from a seed.

    >>> seed(1); a = default().random(); seed(1)
    >>> bool(a == default().random())
    True
    """
    set_state(generator(n).bit_generator.state)


def get_state() -> Any:
    """Where the default stream stands; `set_state` goes back there."""
    return default().bit_generator.state


def set_state(state: Any) -> None:
    """Put the default stream where `get_state` found it."""
    default().bit_generator.state = state


def states(streams: Iterable[np.random.Generator] = ()) -> list[Any]:
    """Where the default stream, NumPy's own global one and the given ones stand."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - users draw from it
    return [get_state(), legacy, *[s.bit_generator.state for s in streams]]


@contextmanager
def rewound(saved: list[Any], streams: Iterable[np.random.Generator] = ()) -> Iterator[None]:
    """Inside the block every stream stands where `states` found it; afterwards where it was.

    >>> before = states()
    >>> a = default().random(3)
    >>> with rewound(before):
    ...     b = default().random(3)
    >>> bool((a == b).all())
    True
    """
    streams = list(streams)
    now = states(streams)
    _restore(saved, streams)
    try:
        yield
    finally:
        _restore(now, streams)


def _restore(saved: list[Any], streams: list[np.random.Generator]) -> None:
    mine, legacy, *others = saved
    set_state(mine)
    np.random.set_state(legacy)  # noqa: NPY002
    for stream, state in zip(streams, others, strict=True):
        stream.bit_generator.state = state
