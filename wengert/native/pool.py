"""One pool of threads for all generated code of the process.

    wg_parallel(ptr fn, ptr ctx, i32 n)     fn(ctx, i) for every i of 0 .. n - 1, each exactly once,
                                            in any order and on any thread; back when all are done

The threads are created by the native half (`pool_code`) at the first region, know nothing of
Python, and take chunks for themselves. After a region they spin for some 300 microseconds, as long
as Python takes from one operation to the next, and then sleep until there is another. A region
inside a region, and a region while another Python thread has one running, runs on its caller alone.
The child of a fork has threads of its own, from its first region on.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import OptionError
from .cache import compiled
from .engine import add_symbol
from .pool_code import FUTEX, source
from .target import target

__all__ = ["default_threads", "parallel", "prepare", "set_threads", "threads"]

VARIABLE = "WENGERT_NUM_THREADS"
MOST = 1024
SPIN = 300e-6  # seconds
_lock = threading.Lock()
_asked: int | None = None  # by set_threads, before the pool is there


class Pool:
    """The native half in memory, and how Python speaks to it."""

    def __init__(self, waiting: str) -> None:
        self.waiting, self.threads = waiting, 1
        here = target()
        self.library = compiled(source(here.triple, waiting), here).forever()
        self.address = self.library.address("parallel")
        call = self.library.function
        pointers = ctypes.c_void_p, ctypes.c_void_p
        self.run = call("parallel", None, *pointers, ctypes.c_int32)
        if waiting == "none":
            return
        self.resize = call("resize", ctypes.c_int32, ctypes.c_int32)
        self.reset = call("reset")
        self.alive = call("alive", ctypes.c_int32)
        self.reset()
        pauses = call("pauses", None, ctypes.c_int32)
        took = min(timed(pauses, 500) for _ in range(5))
        call("set_spin", None, ctypes.c_int32)(max(1, min(1_000_000, int(500 * SPIN / took))))

    def set(self, n: int) -> None:
        if self.waiting == "none":
            return
        while not self.resize(n):  # a region is running in another thread
            time.sleep(1e-4)
        self.threads = n


def timed(f: Any, n: int) -> float:
    start = time.perf_counter()
    f(n)
    return max(time.perf_counter() - start, 1e-9)


def kind_of_waiting() -> str:
    """How threads wait on this system."""
    machine = target().triple.partition("-")[0]
    if os.name != "posix" or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return "none"
    return "futex" if sys.platform == "linux" and machine in FUTEX else "condition"


@lru_cache(1)
def made() -> Pool:
    pool = Pool(kind_of_waiting())
    if hasattr(os, "register_at_fork") and pool.waiting != "none":
        os.register_at_fork(after_in_child=lambda: in_child(pool))
    add_symbol("wg_parallel", pool.address)
    return pool


def in_child(pool: Pool) -> None:
    """The threads, and whoever held the lock, stayed with the parent."""
    global _lock
    _lock = threading.Lock()
    pool.reset()


def prepare() -> Pool:
    """The pool, which is made and given its threads at the first call.

    Raises:
        OptionError: `WENGERT_NUM_THREADS` is not a number of threads.
        MissingExtraError: llvmlite is not installed.
    """
    with _lock:
        first = made.cache_info().currsize == 0
        pool = made()
        if first:
            pool.set(_asked or default_threads())
        return pool


def parallel(fn: int, ctx: int, n: int) -> None:
    """`wg_parallel` from Python: fn is the address of a native function (ptr ctx, i32 i).

    Example:
        >>> visit = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)
        >>> seen = []
        >>> f = visit(lambda ctx, i: seen.append(i))
        >>> parallel(ctypes.cast(f, ctypes.c_void_p).value, 0, 3)
        >>> sorted(seen)
        [0, 1, 2]
    """
    prepare().run(fn, ctx, n)


def threads() -> int:
    """How many threads work on a region, the caller among them."""
    if made.cache_info().currsize:
        return made().threads
    return _asked or default_threads()


def set_threads(n: int) -> None:
    """From now on, regions are worked on by n threads.

    Waits for a region that is running. Not to be called from inside one.

    Raises:
        OptionError: n is not between 1 and 1024.
    """
    global _asked
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
        raise OptionError(
            f"set_threads({n!r})", f"not a number of threads: 1 to {MOST}", fix="set_threads(1)"
        )
    with _lock:
        _asked = n
        if made.cache_info().currsize:
            made().set(n)


def default_threads() -> int:
    """`WENGERT_NUM_THREADS`, else OMP_NUM_THREADS, else the cores that this process may use.

    Raises:
        OptionError: `WENGERT_NUM_THREADS` is not a number of threads.
    """
    own = os.environ.get(VARIABLE, "")
    if own:
        if own.isdecimal() and 1 <= int(own) <= MOST:
            return int(own)
        raise OptionError(
            f"{VARIABLE}={own}", f"not a number of threads: 1 to {MOST}", fix=f"unset {VARIABLE}"
        )
    shared = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if shared.isdecimal() and int(shared) >= 1:
        return min(int(shared), MOST)
    return min(usable_cores(), MOST)


def usable_cores() -> int:
    """Cores of the process's affinity mask, or fewer if its container has less time than that."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such limit
        return cores
