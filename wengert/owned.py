"""Arrays that the tape keeps and the user may change: the tape keeps copies of its own."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

_owned: dict[int, tuple[Any, Any]] = {}
HERE = threading.local()  # .note(array, copy): whoever records a program knows one by the other


def own(a: Any) -> Any:
    """A private copy of an array that the tape must keep and the user may change.

    Small arrays are copied. A large one is copied once and the copy shared by every node that
    keeps it, for as long as the two are equal bit for bit.
    """
    if a.__class__ is not np.ndarray or immutable(a):
        return a
    kept = _copy(a)
    note = getattr(HERE, "note", None)
    if note is not None:
        note(a, kept)
    return kept


def immutable(a: Any) -> bool:
    """Whether nobody can ever write an array: its numbers are those of a `bytes`.

    >>> immutable(np.frombuffer(b"abc", np.uint8)), immutable(np.zeros(3))
    (True, False)
    """
    while a.__class__ is np.ndarray:
        a = a.base
    return a.__class__ is bytes


def _copy(a: Any) -> Any:
    if a.nbytes <= 4096 or a.dtype.hasobject:
        return a.copy()
    known = _owned.get(id(a))
    if known is not None and known[0]() is a:
        kept = known[1]()
        if kept is not None and kept.shape == a.shape and kept.dtype == a.dtype and _same(kept, a):
            return kept
    kept = a.copy()
    key = id(a)
    _owned[key] = (weakref.ref(a, lambda _: _owned.pop(key, None)), weakref.ref(kept))
    return kept


def _same(a: Any, b: Any) -> bool:
    bits = f"u{a.itemsize}" if a.itemsize in (1, 2, 4, 8) else None
    if bits is None:
        return bool(np.array_equal(a, b))
    return bool((a.view(bits) == b.view(bits)).all())
