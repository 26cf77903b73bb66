"""Locks that are open in a forked process.

A fork copies the thread that asks for it and no other: a lock that another one held would stay shut
in the child. Runs may be left half done there, and `lock` opens theirs. A recording, during which
tensors hold no numbers, and a compilation, during which LLVM's own lock is held, are waited for.
"""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet

__all__ = ["BUILDING", "RECORDING", "lock"]

RECORDING = threading.RLock()  # while a function is recorded, its tensors hold no numbers
BUILDING = threading.RLock()  # while machine code is made
_made: WeakSet[Any] = WeakSet()


def lock(again: bool = False) -> Any:
    """A lock; `again`: one that a thread may take more than once."""
    made: Any = threading.RLock() if again else threading.Lock()
    _made.add(made)
    return made


def before() -> None:
    RECORDING.acquire()
    BUILDING.acquire()


def after() -> None:
    BUILDING.release()
    RECORDING.release()


def in_child() -> None:
    after()
    for made in list(_made):
        made._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)
