"""What a function reads from outside its arguments: the recorded tensors, made arguments."""

from __future__ import annotations

import functools
import opcode
import types
from typing import Any

import numpy as np

from .. import tree
from ..errors import LIBRARY
from ..trace import Tensor

STORE_GLOBAL = opcode.opmap["STORE_GLOBAL"]
OPAQUE = types.ModuleType | type | types.BuiltinFunctionType | np.ufunc | np.ndarray


def hoisted(f: Any) -> tuple[Any, list[Any]]:
    """f with the recorded tensors that it closes over as further arguments, and those tensors.

    They are looked for in closures, globals, bound methods and partial functions and, there, in
    pytrees, of which modules are some.
    """
    found: list[Tensor] = []
    collect(f, found, set())
    if not found:
        return f, []
    n = len(found)

    def explicit(*args: Any) -> Any:
        own, given = args[: len(args) - n], args[len(args) - n :]
        return substituted(f, {id(t): v for t, v in zip(found, given)}, {})(*own)

    return explicit, list(found)


def collect(x: Any, found: list[Tensor], seen: set[int], among: Any = None) -> None:
    """The tensors that x holds: the recorded ones, or those `among` some, by their ids."""
    if id(x) in seen:
        return
    seen.add(id(x))
    if isinstance(x, Tensor):
        if x.recorded() if among is None else id(x) in among:
            found.append(x)
    elif isinstance(x, types.FunctionType):
        for cell in x.__closure__ or ():
            if not empty(cell):
                collect(cell.cell_contents, found, seen, among)
        for v in (*(x.__defaults__ or ()), *[x.__globals__[n] for n in global_names(x)]):
            collect(v, found, seen, among)
    elif isinstance(x, types.MethodType):
        collect(x.__func__, found, seen, among)
        collect(x.__self__, found, seen, among)
    elif isinstance(x, functools.partial):
        for v in (x.func, *x.args, *x.keywords.values()):
            collect(v, found, seen, among)
    else:
        for v in tree.leaves(x):
            if v is not x:
                collect(v, found, seen, among)


def global_names(f: types.FunctionType) -> list[str]:
    """The globals that a function of the user's reads."""
    if f.__code__.co_filename in LIBRARY or "site-packages" in f.__code__.co_filename:
        return []
    names: dict[str, None] = {}
    codes = [f.__code__]
    for code in codes:
        if STORE_GLOBAL in code.co_code[::2]:  # a copy of its globals would not see the writes
            return []
        names.update(dict.fromkeys(code.co_names))
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [n for n in names if not isinstance(f.__globals__.get(n), OPAQUE | None)]


def empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def holds(x: Any, among: Any) -> bool:
    found: list[Tensor] = []
    collect(x, found, set(), among)
    return bool(found)


def substituted(x: Any, new: dict[int, Any], done: dict[int, Any]) -> Any:
    """x with other values in the places of those tensors; what holds none stays as it is."""
    if id(x) in new:
        return new[id(x)]
    if id(x) in done:
        return done[id(x)]
    if not holds(x, new):
        return x
    if isinstance(x, types.FunctionType):
        old = x.__closure__ or ()
        cells = tuple(
            [types.CellType() if not empty(c) and holds(c.cell_contents, new) else c for c in old]
        )  # the rest is shared
        defaults = x.__defaults__ and tuple([substituted(v, new, done) for v in x.__defaults__])
        scope = dict(x.__globals__) if global_names(x) else x.__globals__
        made = types.FunctionType(x.__code__, scope, x.__name__, defaults, cells)
        made.__kwdefaults__ = x.__kwdefaults__
        done[id(x)] = made
        for n in global_names(x):
            scope[n] = substituted(x.__globals__[n], new, done)
        for cell, was in zip(cells, old):
            if cell is not was:
                cell.cell_contents = substituted(was.cell_contents, new, done)
        return made
    if isinstance(x, types.MethodType):
        return types.MethodType(
            substituted(x.__func__, new, done), substituted(x.__self__, new, done)
        )
    if isinstance(x, functools.partial):
        args = [substituted(v, new, done) for v in x.args]
        kw = {k: substituted(v, new, done) for k, v in x.keywords.items()}
        return functools.partial(substituted(x.func, new, done), *args, **kw)
    return tree.map(lambda v: substituted(v, new, done), x)
