"""Ctrl-C and SIGTERM, held back until a place where a run can be left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["held_back"]


@contextmanager
def held_back() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM inside the block only add to the list: nobody is cut off while writing.

    A second Ctrl-C gets through.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def remember(number: int, frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
