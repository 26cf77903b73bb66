"""A way into machine code that takes Python's objects as they are.

CPython hands a built-in function the addresses of its arguments. An array has the address of its
numbers 16 bytes on, and a float its number there; reading them takes a nanosecond each, where
asking for them in Python takes two microseconds. Whether the objects are laid out so is tried once;
where they are not, programs are called through a table that Python fills.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any

import numpy as np

from ....graph import Var
from ....native.ir import Function, Module, Value
from ....ops.losses import reached

__all__ = ["function", "possible", "write", "write_check"]

DATA = 16  # bytes from the start of an object
FASTCALL = 0x80


class Method(ctypes.Structure):
    """What CPython knows of a built-in function."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]  # fmt: skip


@lru_cache(1)
def possible() -> bool:
    """Whether objects are laid out as this file has it."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    a, x = np.arange(3.0), 0.7853981633974483
    y = np.float32(0.5)

    def word(of: Any, kind: Any) -> Any:
        return kind.from_address(id(of) + DATA).value

    return (
        word(a, ctypes.c_size_t) == a.ctypes.data
        and word(x, ctypes.c_double) == x
        and word(np.float64(x), ctypes.c_double) == x
        and word(y, ctypes.c_float) == 0.5
    )


def write(module: Module, native: Any) -> None:
    """ptr entry(ptr self, ptr args, i64 n): fill the table, ask about labels, run.

    `self` is the table, as an array. Gives 0, or 1 where a label is out of its range; for a program
    of one number, the number.
    """
    arguments = [("self", "ptr"), ("args", "ptr"), ("n", "i64")]
    f = Function(module, "entry", arguments, "ptr")
    table = f.load(f.at(f["self"], DATA, "i8"), "ptr")
    steps = native.steps
    given = [*steps.inputs, *([] if native.scalar else steps.outputs)]
    pointers: list[Value | None] = []
    for k, v in enumerate(given):
        if not isinstance(v, Var):
            pointers.append(None)
            continue
        p = f.at(f.load(f["args"], "ptr", k), DATA, "i8")
        if not (k < len(steps.inputs) and v.aval.weak):
            p = f.load(p, "ptr")
        f.store(p, table, 1 + k)
        pointers.append(p)
    refuse(f, native, [pointers[i] for i, *_ in native.checks])
    module.declare("declare ptr @PyLong_FromLong(i64)")
    if native.releases:
        module.declare("declare ptr @PyEval_SaveThread()")
        module.declare("declare void @PyEval_RestoreThread(ptr)")
        state = f.call("PyEval_SaveThread", "ptr")
    f.raw(f"call void @segment_0(ptr {table.name})")
    if native.releases:
        f.raw(f"call void @PyEval_RestoreThread(ptr {state.name})")
    if native.scalar:
        module.declare("declare ptr @PyFloat_FromDouble(double)")
        x = f.load(f.load(table, "ptr", 1 + len(steps.inputs)), "double")
        f.ret(f.call("PyFloat_FromDouble", "ptr", x))
    else:
        f.ret(f.call("PyLong_FromLong", "ptr", f.const(0, "i64")))


def refuse(f: Function, native: Any, labels: list[Any]) -> None:
    """Return 1 where a label is out of its range."""
    for (i, count, spared), p in zip(native.checks, labels):
        v = native.steps.inputs[i]
        bad = f.slot(f.const(0, "i1"))
        kind = f"i{8 * v.dtype.itemsize}"
        with f.loop(0, v.size) as at:
            x = f.load(p, kind, at)
            wrong = f.compare("uge", x, count)
            if reached(v.dtype, spared):
                wrong = wrong & f.compare("ne", x, spared)
            f.set(bad, f.get(bad, "i1") | wrong)
        with f.when(f.get(bad, "i1")):
            one = f.call("PyLong_FromLong", "ptr", f.const(1, "i64"))
            f.raw(f"ret ptr {one.name}")
            f.label(f.mark("never"))


def write_check(module: Module, native: Any) -> None:
    """ptr check(ptr self, ptr args, i64 n): 1 where one of the labels is out of its range."""
    f = Function(module, "check", [("self", "ptr"), ("args", "ptr"), ("n", "i64")], "ptr")
    labels = [
        f.load(f.at(f.load(f["args"], "ptr", k), DATA, "i8"), "ptr")
        for k in range(len(native.checks))
    ]
    refuse(f, native, labels)
    f.ret(f.call("PyLong_FromLong", "ptr", f.const(0, "i64")))


class Table(np.ndarray):
    """The table of a program, which keeps what its built-in function needs."""

    held: Any


def function(library: Any, table: Any, name: str = "entry") -> Any:
    """A function of a library as a built-in one of Python's."""
    method = Method(b"run", library.address(name), FASTCALL, None)
    owner = table.view(Table)
    owner.held = method, library, table
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    return make(ctypes.addressof(method), owner, None)
