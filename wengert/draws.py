"""Numbers that are not computed from arrays, and are drawn anew at every run of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import trace
from .trace import HERE

__all__ = ["live"]


def live(
    draw: Callable[[], Any], stream: Any = None, undo: Callable[[], None] | None = None
) -> Any:
    """draw(): plain numbers that are not computed from arrays, such as random ones.

    While a program is recorded, every later run of it draws again, in the same order. What a draw
    moves, the generator `stream` or what `undo` puts back, is as before if the recording fails.
    """
    if (
        trace.MODES
        and (tracer := getattr(HERE, "trace", None)) is not None
        and hasattr(tracer, "live")
    ):
        return tracer.live(draw, stream, undo)
    return draw()
