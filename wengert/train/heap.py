"""Memory that stays with the process from one step to the next."""

from __future__ import annotations

import ctypes

__all__ = ["keep_memory"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
SIZES = (1 << 31) - 1, 1 << 25  # bytes: without limit, or the most that an older glibc takes


def keep_memory() -> bool:
    """Let the C library keep the memory that arrays give back, for the arrays that come next.

    Otherwise glibc returns most of it to the system at the end of a training step, and the next
    step's arrays are new pages, each of which the system fills with zeros first: a third of the
    time of a small convolutional network's step. The price is that the process keeps what it
    once had, until it ends. `wengert train` does this; it holds for the whole process.

    Returns:
        whether it was done: False where the C library has no such setting.

    Example:
        >>> keep_memory() in (True, False)
        True

    References:
        mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    large = any(mallopt(MMAP_THRESHOLD, size) for size in SIZES)  # arrays of their own mapping too
    return large and bool(mallopt(TRIM_THRESHOLD, SIZES[0]))
