"""What a function read from outside while it was recorded, and whether that is still so.

A program holds what the function computed from the globals, closures and attributes of that moment.
`World` watches one run (with the interpreter's profiling hook) and notes those values; `Watch`
compares them before every later run. A function that changes what it reads (counts its own calls,
prints, draws from a generator that no program can draw from) is refused: a program would not
repeat it.
"""

from __future__ import annotations

import builtins
import enum
import random as python_random
import sys
import sysconfig
import time
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .. import random
from ..errors import UnsupportedError
from ..source import LIBRARY
from ..trace import Tensor

__all__ = ["Watch", "World"]

PLAIN = (int, float, complex, bool, str, bytes, type(None), type, np.generic, np.dtype, enum.Enum,
         BuiltinFunctionType, FunctionType, slice, range)  # fmt: skip
EFFECTS: dict[Any, str] = {
    builtins.print: "prints",
    builtins.input: "reads from the terminal",
    builtins.open: "opens a file",
    time.time: "reads the clock",
    time.perf_counter: "reads the clock",
    time.monotonic: "reads the clock",
}
STANDARD = (sysconfig.get_paths()["stdlib"], np.__path__[0], "<frozen")
DEEP = 6  # containers within containers, attributes of attributes
LONG = 256  # items of a container that are compared one by one
LARGE = 1 << 24  # bytes of an array, read by plain code, that are compared


class Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()
_user: dict[CodeType, int] = {}  # 2: the user's own code, 1: of a module of networks, 0: neither


def owner_of(frame: Any) -> int:
    code = frame.f_code
    known = _user.get(code)
    if known is None:
        name = code.co_filename
        if name in LIBRARY or str(frame.f_globals.get("__name__")).startswith("wengert."):
            known = int("/nn/" in name.replace("\\", "/"))
        else:
            known = 0 if name.startswith(STANDARD) else 2
        _user[code] = known
    return known


def token(x: Any, deep: int = 3) -> Any:
    """What tells x from another value: itself if it cannot change, its items, or its identity."""
    if isinstance(x, PLAIN) or deep == 0:
        return x
    kind = x.__class__
    if kind in (list, tuple, set, frozenset) and len(x) <= LONG:
        return kind, tuple([token(v, deep - 1) for v in x])
    if kind is dict and len(x) <= LONG:
        return kind, tuple(x), tuple([token(v, deep - 1) for v in x.values()])
    if isinstance(x, list | tuple | dict | set):
        return kind, len(x), id(x)
    return x


def same(a: Any, b: Any) -> bool:
    """Whether two tokens tell of the same value."""
    if a is b:
        return True
    if a.__class__ is not b.__class__:
        return False
    if a.__class__ is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, PLAIN):
        return bool(a == b) or (a != a and b != b)
    return False


class Watch:
    """Values outside that a program depends on; `holds` is asked before every run."""

    __slots__ = ("conditions", "contents", "deep", "flat", "gradients")

    def __init__(self) -> None:
        self.flat: list[tuple[dict[str, Any], str, Any, str]] = []  # compared by identity
        self.deep: list[tuple[Any, Any, Any, str]] = []  # compared by token
        self.contents: list[tuple[Any, Any, str]] = []  # arrays that plain code read
        self.conditions: list[Any] = []
        self.gradients: list[tuple[Any, bool]] = []  # leaves, and whether they had a gradient

    def holds(self) -> bool:
        for space, name, value, _ in self.flat:
            if space.get(name, MISSING) is not value:
                return self.broken() is None
        for leaf, had in self.gradients:
            if (leaf.node.grad is not None) is not had:
                return False
        for holds in self.conditions:
            if not holds():
                return False
        if not self.deeply():
            return False
        for array, copy, _ in self.contents:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind in "fc"):
                return False
        return True

    def deeply(self) -> bool:
        """Whether what has to be compared by its items is the same."""
        for space, key, value, _ in self.deep:
            if not same(token(read(space, key)), value):
                return False
        return True

    def broken(self) -> Any:
        """What has changed, as the user wrote it; None if nothing has."""
        for space, name, value, told in self.flat:
            now = space.get(name, MISSING)
            if now is not value and not same(token(now), token(value)):
                return f"`{told}` has changed"
        for space, key, value, told in self.deep:
            if not same(token(read(space, key)), value):
                return f"`{told}` has changed"
        for array, copy, told in self.contents:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind in "fc"):
                return f"the numbers in `{told}` have changed"
        if any((leaf.node.grad is not None) is not had for leaf, had in self.gradients):
            return "a parameter has a gradient where it had none, or none where it had one"
        if not all(holds() for holds in self.conditions):
            return "an option of the optimizer has changed"
        return None


def read(space: Any, key: Any) -> Any:
    if key is None:  # a closure's cell
        try:
            return space.cell_contents
        except ValueError:
            return MISSING
    return space.get(key, MISSING)


class World:
    """`with World() as w:` one run is watched; `w.watch(program, leaves)` afterwards."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.values: dict[tuple[int, Any], tuple[Any, Any, Any, Any, str]] = {}
        self.objects: dict[int, tuple[Any, str]] = {}
        self.codes: set[Any] = set()
        self.streams: dict[int, tuple[Any, Any]] = {}

    def __enter__(self) -> World:
        self.global_states = states()
        self.old = sys.getprofile()
        if hasattr(self.old, "disable"):  # cProfile's: it looks again when we are done
            self.old.disable()
        sys.setprofile(self.event)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None if hasattr(self.old, "enable") else self.old)
        if hasattr(self.old, "enable"):
            self.old.enable()

    # ---- while the function runs
    def event(self, frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            kind = owner_of(frame)
            if not kind:
                return
            if kind == 1 and code.co_varnames[:1] != ("self",):
                return
            sys.setprofile(None)
            try:
                self.enter(frame, code)
            finally:
                sys.setprofile(self.event)
        elif event == "c_call":
            said = EFFECTS.get(arg) if arg.__class__ is BuiltinFunctionType else None
            if said is not None and owner_of(frame) == 2:
                raise UnsupportedError(  # before it happens: the function will run once more
                    "a compiled function", f"it {said}, which a program would not repeat"
                )

    def enter(self, frame: Any, code: CodeType) -> None:
        local = frame.f_locals
        first = code not in self.codes
        if first:
            self.codes.add(code)
            self.names.update(code.co_names)
            space = frame.f_globals
            for name in code.co_names:
                if name in space:
                    self.note(space, name, space[name], name)
        for name in code.co_varnames[: code.co_argcount]:
            if name in local:
                self.explore(local[name], name, DEEP)
        for name in code.co_freevars:
            if name in local:
                self.explore(local[name], name, DEEP)

    def function(self, f: Any) -> None:
        """The closure and the defaults of a function, which a frame does not show."""
        while isinstance(f, MethodType):
            self.explore(f.__self__, "self", DEEP)
            f = f.__func__
        if not isinstance(f, FunctionType) or id(f) in self.objects:
            return
        self.objects[id(f)] = f, f.__name__
        self.names.update(f.__code__.co_names)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
            self.note(cell, None, read(cell, None), name)
        self.note(vars_of(f), "__defaults__", f.__defaults__, f.__name__)

    def note(self, space: Any, key: Any, value: Any, told: str, deep: int = DEEP) -> None:
        """One place that the function read, or may read."""
        if (id(space), key) in self.values or isinstance(value, ModuleType):
            if isinstance(value, ModuleType):
                self.explore(value, told, deep)
            return
        self.values[id(space), key] = space, key, token(value), value, told
        self.explore(value, told, deep)

    def explore(self, x: Any, told: str, deep: int) -> None:
        """What can be read through x by the names in the code that has run."""
        if isinstance(x, FunctionType | MethodType):
            return self.function(x)
        if isinstance(x, np.random.Generator):
            if id(x) not in self.streams:
                self.streams[id(x)] = x, x.bit_generator.state
            return None
        if deep == 0 or isinstance(x, PLAIN) or isinstance(x, Tensor | np.ndarray):
            return None
        if isinstance(x, list | tuple) and len(x) <= LONG:
            for i, v in enumerate(x):
                self.explore(v, f"{told}[{i}]", deep - 1)
            return None
        if isinstance(x, dict) and len(x) <= LONG:
            for k, v in x.items():
                self.explore(v, f"{told}[{k!r}]", deep - 1)
            return None
        if getattr(x, "__dict__", None) is not None:
            self.objects.setdefault(id(x), (x, told))
        return None

    # ---- afterwards
    def restore(self) -> None:
        """What the function changed outside is put back: it will run again, uncompiled."""
        for space, key, known, value, _ in self.values.values():
            now = read(space, key)
            if now is value:
                put_back(value, known)
            elif key is None:
                space.cell_contents = value
            elif isinstance(space, dict):
                space[key] = value
                put_back(value, known)

    def attributes(self) -> None:
        """The attributes, of every object seen, that the code has names for."""
        done: set[int] = set()
        while len(done) < len(self.objects):
            for key, (x, told) in list(self.objects.items()):
                if key in done:
                    continue
                done.add(key)
                if isinstance(x, FunctionType) or told.count(".") > DEEP:
                    continue
                space = x.__dict__
                if isinstance(x, ModuleType):
                    if x.__name__.partition(".")[0] in ("numpy", "wengert", "scipy", "math"):
                        continue
                for name in self.names & space.keys():
                    self.note(space, name, space[name], f"{told}.{name}", DEEP - 1)

    def watch(self, program: Any, leaves: list[Any]) -> Watch:
        """What must still hold at a later run; refuses a function that no program repeats."""
        for space, key, known, _, told in self.values.values():
            if not same(token(read(space, key)), known):
                raise UnsupportedError(
                    "a compiled function",
                    f"it changes `{told}`, which a program would not repeat",
                )
        self.check_streams(program)
        self.attributes()
        live = {id(s.owner) for s in program.sources if s.kind == "array"}
        out = Watch()
        out.conditions = program.conditions
        out.gradients = [(t, had) for t, place, had in program.gradients if place < 0]
        for space, key, known, value, told in self.values.values():
            if isinstance(space, dict) and (
                not isinstance(known, tuple) and not isinstance(value, np.generic | str | float)
            ):
                out.flat.append((space, key, value, told))
            elif not isinstance(space, FunctionType):
                out.deep.append((space, key, known, told))
            if isinstance(value, np.ndarray) and id(value) not in live and value.size:
                if value.nbytes > LARGE:
                    raise UnsupportedError(
                        "a compiled function",
                        f"plain NumPy code in it reads the large array `{told}`, which may change",
                        fix=f"wg.tensor({told}), or pass it as an argument",
                    )
                out.contents.append((value, value.copy(), told))
        return out

    def check_streams(self, program: Any) -> None:
        drawn = {id(s) for s in getattr(program, "streams", ())}
        for x, state in self.streams.values():
            if id(x) not in drawn and not alike(x.bit_generator.state, state):
                raise UnsupportedError(
                    "a compiled function",
                    "it draws from a NumPy generator itself, and a program would repeat the first "
                    "draw",
                    fix="draw outside and pass the numbers in, or use a function that takes rng=",
                )
        for (name, before), (_, now) in zip(self.global_states, states()):
            if not alike(before, now) and not (name == "wengert.random" and drawn):
                raise UnsupportedError(
                    "a compiled function",
                    f"it draws from {name}, and a program would repeat the first draw",
                    fix="draw outside and pass the numbers in",
                )


def put_back(x: Any, known: Any) -> None:
    """The items that a container had."""
    if known.__class__ is not tuple or len(known) < 2 or known[1].__class__ is not tuple:
        return
    if x.__class__ is list and not same(token(x), known):
        x[:] = [v if t.__class__ is tuple else t for v, t in zip(x, known[1])]
    elif x.__class__ is dict and not same(token(x), known):
        kept = {k: x.get(k) if t.__class__ is tuple else t for k, t in zip(*known[1:])}
        x.clear()
        x.update(kept)
    elif x.__class__ is set and not same(token(x), known):
        x.clear()
        x.update(known[1])


def vars_of(f: FunctionType) -> dict[str, Any]:
    return {"__defaults__": f.__defaults__}


def states() -> list[tuple[str, Any]]:
    """Where the streams that belong to nobody stand."""
    return [
        ("numpy.random", np.random.get_state(legacy=False)),  # noqa: NPY002 - users draw from it
        ("random", python_random.getstate()),
        ("wengert.random", random.get_state()),
    ]


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(alike(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)
