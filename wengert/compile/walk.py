"""What a function may have read, of all that it could reach: what goes into a `Watch`."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterator
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..trace import Tensor, generation
from .guards import MISSING, Content, Watch

__all__ = ["LONG", "Walk"]

LONG = 256  # items of a container that are looked into, one by one
WHOLE = 1 << 18  # bytes of an operand whose numbers plain code might read as well


class Walk:
    """From the roots along all that the code has names for: what goes into a `Watch`."""

    def __init__(self, world: Any, watch: Watch, program: Any) -> None:
        self.world, self.watch, self.touched = world, watch, program.touched
        owners = [s.owner for s in program.sources if s.kind == "array"]
        self.live = set(map(id, owners))
        self.bases = {id(b) for a in owners for b in bases(a)}
        self.written = {id(s.owner) for s in program.sinks if s.kind == "array"}
        self.done: set[int] = set()
        self.todo: deque[Any] = deque()

    def run(self) -> None:
        w = self.world
        for space, values in w.globals.values():
            for name, value in values.items():
                self.watch.flat.append((space, name, value, name))
                self.todo.append(value)
        self.todo.extend(w.roots)
        if w.names & {"environ", "getenv"}:
            env = os.environ
            known = w.environment
            self.watch.conditions.append(lambda: dict(env) == known)
        while self.todo:
            x = self.todo.popleft()
            if id(x) in self.done:
                continue
            self.done.add(id(x))
            s = w.seen.get(id(x)) or w.spaces.get(id(x))
            if s is not None:
                self.visit(s)

    def named(self, name: str) -> bool:
        return self.world.every or name in self.world.names or name == "_hooks"

    def visit(self, s: Any) -> None:
        x, watch = s.x, self.watch
        if isinstance(x, Tensor):
            if id(x) not in self.touched:  # not recorded, but perhaps read
                n = generation(x)
                watch.slots.append((x, "data", x.data, s.told))
                watch.conditions.append(lambda: generation(x) == n)
            return
        if isinstance(x, np.ndarray):
            return self.array(s)
        if isinstance(x, Iterator):
            return
        if isinstance(x, ModuleType | type):
            for name, value in s.attributes.items():
                watch.flat.append((vars(x), name, value, f"{s.told}.{name}"))
                self.todo.append(value)
            return
        if isinstance(x, CellType):
            watch.cells.append((x, s.before, s.told))
            self.todo.append(s.before)
            return
        if isinstance(x, MethodType):
            self.todo += [x.__self__, x.__func__]
            return
        if isinstance(x, BuiltinMethodType):
            self.todo.append(x.__self__)
            return
        if isinstance(x, FunctionType):
            for name in ("__defaults__", "__kwdefaults__", "__code__"):
                value = s.attributes[name]
                if value is not None:
                    watch.slots.append((x, name, value, f"{s.told}"))
            self.todo += [*(x.__closure__ or ()), *(x.__defaults__ or ())]
            self.todo += (x.__kwdefaults__ or {}).values()
        elif isinstance(x, list | tuple | deque | dict | set | frozenset | bytearray):
            if s.before is not None and not isinstance(x, frozenset):
                watch.containers.append((x, s.before, s.told))
            if len(x) <= LONG and not isinstance(x, bytearray):
                self.todo.extend(x.values() if isinstance(x, dict) else x)
        elif isinstance(x, functools.partial):
            self.todo += [x.func, x.args, x.keywords]
        elif isinstance(x, staticmethod | classmethod):
            self.todo.append(x.__func__)
        elif isinstance(x, property):
            self.todo += [x.fget, x.fset]
        self.attributes(s)

    def attributes(self, s: Any) -> None:
        x, watch = s.x, self.watch
        own = getattr(x, "__dict__", None)
        mine = own if own.__class__ is dict else {}
        for name, value in mine.items():
            if self.named(name):
                watch.flat.append((mine, name, value, f"{s.told}.{name}"))
                self.todo.append(value)
        for name, value in s.attributes.items():
            if self.named(name) and not isinstance(x, FunctionType):
                watch.slots.append((x, name, value, f"{s.told}.{name}"))
                self.todo.append(value)
        if hasattr(type(x), "named_parameters"):
            if "_hooks" not in mine:
                watch.flat.append((mine, "_hooks", MISSING, f"the hooks of {s.told}"))
            for name in sorted(self.world.names - mine.keys()):  # such as `training`
                if isinstance(getattr(type(x), name, None), bool | int | float | str):
                    watch.flat.append((mine, name, MISSING, f"{s.told}.{name}"))
        if type(x).__name__ == "ModuleHooks":
            self.todo += [x.before, x.after, x.backward]
        for cls in type(x).__mro__:
            known = self.world.spaces.get(id(cls))
            if known is not None:
                self.todo.append(cls)
                if own.__class__ is dict:
                    for name in known.attributes.keys() - mine.keys():
                        if not isinstance(known.attributes[name], property):
                            watch.flat.append((mine, name, MISSING, f"{s.told}.{name}"))

    def array(self, s: Any) -> None:
        a = s.x
        live = id(a) in self.live or id(a) in self.bases
        if id(a) in self.written or not a.size or s.before is None:
            return
        if live and a.nbytes > WHOLE:
            return  # an operand, which is read at every run
        if not isinstance(s.before, np.ndarray):
            raise UnsupportedError(
                "a compiled function",
                f"plain NumPy code in it reads the large array `{s.told}`, which may change",
                fix=f"wg.tensor({s.told}), or pass it as an argument",
            )
        self.watch.contents.append((Content(a, s.before, live), s.told))


def bases(a: Any) -> Iterator[Any]:
    while a.base is not None and isinstance(a.base, np.ndarray):
        a = a.base
        yield a
