"""Calls into C that no program repeats: printing, files, clocks, entropy, random numbers.

While a function is recorded, every call of a C function in it is looked at before it happens
(`refusal`). Calls by the house itself, and by Python's own machinery of imports and source lines,
are none of the function's doing.
"""

from __future__ import annotations

import array
import builtins
import collections
import functools
import io
import random as python_random
import re
import warnings
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FrameType, ModuleType
from typing import Any

import numpy as np

from ..trace import Tensor

__all__ = ["refusal"]

CALLS: dict[Any, str] = {
    builtins.print: "prints",
    builtins.input: "reads from the terminal",
    builtins.open: "opens a file",
    builtins.exec: "runs code from a string",
    builtins.eval: "runs code from a string",
    warnings.warn: "warns",
}
MODULES = {
    "time": "uses the clock",
    "posix": "asks the operating system",
    "nt": "asks the operating system",
    "_thread": "starts a thread",
    "_socket": "uses the network",
    "_posixsubprocess": "starts a process",
    "_winapi": "starts a process",
    "_random": "draws from Python's random",
}
HARMLESS = {"fspath", "getpid", "getcwd", "stat", "lstat", "cpu_count", "get_ident", "fsencode",
            "allocate_lock", "RLock", "_get_main_thread_ident", "scandir",
            "get_native_id"}  # fmt: skip
FILES = {"write", "writelines", "read", "readline", "readlines", "readinto", "seek", "truncate",
         "__next__", "getvalue"}  # fmt: skip
MACHINERY = ("importlib.", "linecache", "tokenize", "traceback", "inspect", "ast")
WATCHED: tuple[Any, ...] = (  # whose methods in C are known: immutable, or compared afterwards
    str, bytes, int, float, complex, list, tuple, dict, set, frozenset, bytearray, range, slice,
    type, ModuleType, np.ndarray, np.generic, np.dtype, np.ufunc, np.random.Generator, Tensor,
    collections.deque, array.array, functools.partial, re.Pattern, re.Match, Iterator,
    BuiltinFunctionType, property, type(None), type(NotImplemented), memoryview,
    type({}.keys()), type({}.values()), type({}.items()), BaseException,
)  # fmt: skip
NOW = {"now", "today", "utcnow"}  # of datetime


def refusal(frame: FrameType, f: Any, mine: Callable[[FrameType], int]) -> str | None:
    """What the C function f, about to be called in a frame, does that a program would not.

    Args:
        frame: that calls.
        f: what is called.
        mine: frame -> 2 if its code is the user's own.
    """
    if f.__class__ is not BuiltinFunctionType:
        return None
    owner = f.__self__
    told: str | None = None
    if owner is None or isinstance(owner, ModuleType):
        told = CALLS.get(f)
        if told is None and f.__name__ not in HARMLESS:
            told = MODULES.get(f.__module__ or "")
    elif isinstance(owner, io.IOBase | io.TextIOBase):
        told = "uses a file" if f.__name__ in FILES else None
    elif isinstance(owner, python_random.Random):
        told = "draws from Python's random"
    elif isinstance(owner, type):
        if owner.__module__ == "datetime" and f.__name__ in NOW:
            told = "uses the clock"
    elif not isinstance(owner, WATCHED) and mine(frame) == 2 and not hasattr(owner, "__dict__"):
        kind = type(owner)
        if kind.__module__ not in ("_thread", "_contextvars", "wengert", "_weakref"):
            told = f"calls `{f.__name__}` of a {kind.__qualname__}, which cannot be watched,"
    if told is not None and behind(frame, mine):
        return None
    return told


def behind(frame: Any, mine: Callable[[Any], int]) -> bool:
    """Whether the house, or Python's machinery, calls on its own account."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(MACHINERY):
            return True
        kind = mine(frame)
        if kind != 3:
            return kind != 2
        frame = frame.f_back
    return True
