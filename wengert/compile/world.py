"""What a function reads and changes outside while it is recorded.

`World` watches one run with the interpreter's profiling hook. Before it, and as new code comes into
play, everything that the function can reach is written down: closures, defaults, arguments, the
globals that its code names, and from there attributes and items. Afterwards

* what differs is an effect that a program would not repeat: the function is refused, and all is put
  back, because it runs once more, uncompiled;
* what its code has names for is what it may have read: a `Watch` compares that before later runs.
"""

from __future__ import annotations

import dis
import functools
import io
import os
import random as python_random
import sys
import sysconfig
import zlib
from collections import deque
from collections.abc import Iterator
from types import (
    BuiltinMethodType,
    CellType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from .. import random
from ..errors import UnsupportedError
from ..source import LIBRARY
from ..trace import HERE, Leaf, Tensor
from ..types import RAW
from .effects import refusal
from .guards import (
    MISSING,
    PLAIN,
    Watch,
    alike,
    copied,
    equal,
    put_back,
    read,
    same,
    unlike,
)
from .walk import LONG, Walk

__all__ = ["World"]

STANDARD = (sysconfig.get_paths()["stdlib"], np.__path__[0], "<frozen")
FOREIGN = ("numpy", "wengert", "scipy", "math", "builtins")  # modules that nobody changes
MANY = 50_000  # things that are written down
LARGE = 1 << 24  # bytes of an array, read by plain code, that are compared
DYNAMIC = {"getattr", "setattr", "vars", "delattr", "hasattr", "__dict__", "attrgetter"}
KINDS = {"ndarray", "Tensor", "generic"}  # what an argument is not while it is recorded
ASKS = {"isinstance", "type", "issubclass", "__class__"}
HOOKS = ("tensor", "before", "after", "accumulated")  # tables of the hooks of a tensor
_owner: dict[CodeType, int] = {}
_names: dict[CodeType, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {}


def owner_of(frame: Any) -> int:
    """2: the user's code, 1: of the house's networks, 0: of the house, 3: of Python or NumPy."""
    code = frame.f_code
    known = _owner.get(code)
    if known is None:
        name = code.co_filename
        if name in LIBRARY or str(frame.f_globals.get("__name__")).startswith("wengert."):
            known = int("/nn/" in name.replace("\\", "/"))
        elif name.startswith(STANDARD) and (
            "site-packages" not in name or name.startswith(STANDARD[1])
        ):
            known = 3
        else:
            known = 2
        _owner[code] = known
    return known


def names_of(code: CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """(globals, attributes, imports) that a code object has names for."""
    if code not in _names:
        spaces: tuple[set[str], set[str], set[str]] = set(), set(), set()
        for i in dis.get_instructions(code):
            if i.opname.endswith(("_GLOBAL", "_NAME")) and i.opname != "IMPORT_NAME":
                spaces[0].add(i.argval)
            elif i.opname == "IMPORT_NAME":
                spaces[2].add(i.argval)
            elif "ATTR" in i.opname or "METHOD" in i.opname or i.opname == "IMPORT_FROM":
                spaces[1].add(i.argval)
        _names[code] = tuple(map(frozenset, spaces))  # type: ignore[assignment]
    return _names[code]


class Seen:
    """One thing outside, as it was: its items, its attributes, its content."""

    __slots__ = ("attributes", "before", "dotted", "told", "x")

    def __init__(self, x: Any, told: str) -> None:
        self.x, self.told = x, told
        self.before: Any = None
        self.attributes: dict[str, Any] = {}  # those in slots, or looked up by name
        self.dotted = False  # a namespace of attributes


class World:
    """`with World(f, args, kwargs) as w:` one run is watched; `w.watch(program)` afterwards."""

    def __init__(self, f: Any, args: Any = (), kwargs: Any = None) -> None:
        self.f, self.args, self.kwargs = f, args, kwargs or {}
        self.names: set[str] = set()  # of attributes, and of variables that may hold arrays
        self.every = False  # attributes are read by names that are computed
        self.seen: dict[int, Seen] = {}
        self.arrays: list[Seen] = []  # whose numbers are not written down yet
        self.iterators: list[Seen] = []
        self.spaces: dict[int, Seen] = {}  # modules and classes: by name alone
        self.globals: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.codes: set[CodeType] = set()
        self.asks = False  # what kind of value it was given
        self.data = False  # whether it reads the arrays of tensors themselves
        self.branches = False  # whether a value may have decided which way the code went
        self.roots: list[Any] = []

    def __enter__(self) -> World:
        self.states = states()
        self.environment = dict(os.environ)
        self.root(self.f, getattr(self.f, "__qualname__", "the function"))
        names = getattr(getattr(self.f, "__code__", None), "co_varnames", ())
        shift = isinstance(self.f, MethodType)
        for i, x in enumerate(self.args):
            at = i + shift
            self.argument(x, names[at] if at < len(names) else f"argument {i}")
        for name, x in self.kwargs.items():
            self.argument(x, name)
        profile: Any = sys.getprofile()
        self.old = profile
        if hasattr(profile, "disable"):  # cProfile's: it looks again when we are done
            profile.disable()
        sys.setprofile(self.event)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None if hasattr(self.old, "enable") else self.old)
        if hasattr(self.old, "enable"):
            self.old.enable()

    def root(self, x: Any, told: str) -> None:
        self.roots.append(x)
        self.look(x, told)

    def argument(self, x: Any, told: str) -> None:
        """What is no array goes in as it is; containers are taken apart and made anew."""
        if isinstance(x, np.ndarray | Tensor):
            return
        if isinstance(x, PLAIN) and not isinstance(x, FunctionType):
            return
        if x.__class__ in (list, tuple):
            for i, v in enumerate(x):
                self.argument(v, f"{told}[{i}]")
        elif isinstance(x, dict):
            for k, v in x.items():
                self.argument(v, f"{told}[{k!r}]")
        else:
            self.root(x, told)

    # ---- while the function runs
    def event(self, frame: Any, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            if code in self.codes:
                return
            kind = owner_of(frame)
            if kind == 2 or self.concerns(frame, code, kind):
                self.enter(frame, code, kind)
        elif event == "c_call":
            told = refusal(frame, arg, owner_of)
            if told is not None:
                self.stop(f"it {told}, which a program would not repeat")

    def stop(self, rule: str, **parts: Any) -> None:
        """Before it happens: the function will run once more."""
        raise Stop(UnsupportedError("a compiled function", rule, **parts))

    def concerns(self, frame: Any, code: CodeType, kind: int) -> bool:
        """Whether code that is not the user's reads attributes for it."""
        if code.co_varnames[:1] != ("self",):
            return False
        back = frame.f_back
        direct = back is not None and (owner_of(back) == 2 or back.f_code in self.codes)
        if kind == 1:
            return True
        return direct and code.co_name not in ("step", "zero_grad", "update")

    def enter(self, frame: Any, code: CodeType, kind: int) -> None:
        self.codes.add(code)
        variables, attributes, imports = names_of(code)
        new = attributes - self.names
        self.names |= attributes
        if kind == 2:
            self.names.update(code.co_freevars, variables)
            self.every = self.every or bool(DYNAMIC & (variables | attributes))
            self.branches = self.branches or branching(code)
            if "data" in attributes and not self.data:
                self.data = True
                for s in [s for s in self.seen.values() if isinstance(s.x, Tensor)]:
                    HERE.trace.touch(s.x)  # from here on its array is a variable
            mentioned = variables | attributes
            self.asks = self.asks or bool(ASKS & mentioned and KINDS & mentioned)
            space = frame.f_globals
            _, values = self.globals.setdefault(id(space), (space, {}))
            for name in variables:
                if name not in values:
                    values[name] = space.get(name, MISSING)
                    self.look(values[name], name)
            for name in imports:
                if name in sys.modules:
                    self.root(sys.modules[name], name)
        for s in list(self.spaces.values()):
            self.named(s, new)
        self.arrays = [s for s in self.arrays if not self.contents(s)]
        for s in self.iterators:
            if self.names_it(s.told):
                self.stop(
                    f"it may read on in the iterator `{s.told}`",
                    fix="take the next item outside, and pass it as an argument",
                )

    # ---- writing down
    def look(self, x: Any, told: str) -> None:
        """Write down x and everything that can be reached through it."""
        todo = deque([(x, told)])
        while todo:
            x, told = todo.popleft()
            if id(x) in self.seen or id(x) in self.spaces or len(self.seen) > MANY:
                continue
            if isinstance(x, PLAIN) and not isinstance(x, type | FunctionType):
                continue
            if getattr(type(x), "watched", True):
                todo.extend(self.noted(x, told))

    def noted(self, x: Any, told: str) -> list[tuple[Any, str]]:
        """Write down x itself, and say what it leads to."""
        if isinstance(x, ModuleType | type):
            if (
                not x.__module__.startswith(FOREIGN)
                if isinstance(x, type)
                else (not x.__name__.startswith(FOREIGN))
            ):
                s = self.spaces[id(x)] = Seen(x, told)
                return self.named(s, self.names, look=False)
            return []
        s = self.seen[id(x)] = Seen(x, told)
        if isinstance(x, Tensor):
            s.before = x.data, x.node, getattr(x, "store", None)
            if self.data and isinstance(x.data, RAW):
                HERE.trace.touch(x)
            hooks = x.node.hooks if x.node.__class__ is Leaf else None
            return [(getattr(hooks, n, None), f"the hooks of {told}") for n in HOOKS]
        if isinstance(x, np.ndarray):
            if not self.contents(s):
                self.arrays.append(s)
            return [(x.base, told)] if isinstance(x.base, np.ndarray) else []
        if isinstance(x, Iterator) and not isinstance(x, io.IOBase):
            self.iterators.append(s)
            return []
        if isinstance(x, CellType):
            s.before = read(x, None)
            return [(s.before, told)]
        if isinstance(x, MethodType):
            return [(x.__self__, "self"), (x.__func__, told)]
        if isinstance(x, BuiltinMethodType):
            return [(x.__self__, told)]
        if isinstance(x, STREAMS):
            s.before = position(x)
            return []
        out: list[tuple[Any, str]] = []
        s.before = copied(x)
        if isinstance(x, list | tuple | deque) and len(x) <= LONG:
            out += [(v, f"{told}[{i}]") for i, v in enumerate(x)]
        elif isinstance(x, dict) and len(x) <= LONG:
            out += [(v, f"{told}[{k!r}]") for k, v in x.items()]
        elif isinstance(x, set | frozenset) and len(x) <= LONG:
            out += [(v, told) for v in x]
        if isinstance(x, FunctionType):
            s.attributes = {
                n: getattr(x, n) for n in ("__defaults__", "__kwdefaults__", "__code__")
            }
            for name, cell in zip(x.__code__.co_freevars, x.__closure__ or ()):
                out.append((cell, name))
            given = x.__defaults__ or ()
            names = x.__code__.co_varnames[: x.__code__.co_argcount]
            out += zip(given, names[len(names) - len(given) :])
            out += [(v, k) for k, v in (x.__kwdefaults__ or {}).items()]
        if isinstance(x, functools.partial):
            out += [(x.func, told), (x.args, told), (x.keywords, told)]
        if isinstance(x, staticmethod | classmethod):
            out.append((x.__func__, told))
        if isinstance(x, property):
            out += [(f, told) for f in (x.fget, x.fset) if f is not None]
        own = getattr(x, "__dict__", None)
        if own.__class__ is dict:
            self.seen[id(own)] = d = Seen(own, told)
            d.before, d.dotted = dict(own), True
            out += [(v, f"{told}.{k}") for k, v in own.items()]
        for cls in type(x).__mro__:
            for name in slots(cls):
                if not isinstance(x, FunctionType):
                    s.attributes[name] = value = getattr(x, name, MISSING)
                    out.append((value, f"{told}.{name}"))
            out.append((cls, cls.__name__))
        return out

    def named(self, s: Seen, names: Any, look: bool = True) -> list[tuple[Any, str]]:
        """What a module or class holds under these names."""
        space = vars(s.x)
        new = names & space.keys() - s.attributes.keys()
        out = []
        for name in new:
            value = s.attributes[name] = space[name]
            out.append((value, name if isinstance(value, FunctionType) else f"{s.told}.{name}"))
        if look:
            for value, told in out:
                self.look(value, told)
        return out

    def contents(self, s: Seen) -> bool:
        """The numbers of an array that the code has a name for."""
        if not self.names_it(s.told):
            return False
        s.before = s.x.copy() if s.x.nbytes <= LARGE else checksum(s.x)
        return True

    def names_it(self, told: str) -> bool:
        return self.every or told.partition("[")[0].rpartition(".")[2] in self.names

    # ---- afterwards
    def restore(self) -> None:
        """What the function changed outside is put back: it will run again, uncompiled."""
        for space, values in self.globals.values():
            for name, value in values.items():
                if space.get(name, MISSING) is not value:
                    if value is MISSING:
                        space.pop(name, None)
                    else:
                        space[name] = value
        for s in (*self.seen.values(), *self.spaces.values()):
            x = s.x
            for name, value in s.attributes.items():
                if getattr(x, name, MISSING) is not value and value is not MISSING:
                    if not isinstance(x, ModuleType | type):
                        object.__setattr__(x, name, value)
                    elif vars(x).get(name, MISSING) is not value:
                        setattr(x, name, value)
            if s.before is None:
                continue
            if isinstance(x, CellType):
                if read(x, None) is not s.before:
                    if s.before is MISSING:
                        del x.cell_contents
                    else:
                        x.cell_contents = s.before
            elif isinstance(x, Tensor):
                if x.data is not s.before[0] and not isinstance(x.data, RAW):
                    x.data, x.node = s.before[0], s.before[1]
            elif isinstance(x, np.ndarray):
                if isinstance(s.before, np.ndarray) and not equal(x, s.before):
                    x[...] = s.before
            elif isinstance(x, np.random.Generator):
                x.bit_generator.state = s.before
            elif isinstance(x, np.random.RandomState):
                x.set_state(s.before)
            elif isinstance(x, python_random.Random):
                x.setstate(s.before)
            elif unlike(x, s.before) is not None:
                put_back(x, s.before)
        (_, numpys), (_, pythons), (_, house) = self.states
        np.random.set_state(numpys)  # noqa: NPY002
        python_random.setstate(pythons)
        random.set_state(house)
        for name in os.environ.keys() | self.environment.keys():
            if os.environ.get(name) != self.environment.get(name):
                os.environ[name] = self.environment[name]

    def changed(self) -> str | None:
        """The first thing outside that is not as it was before."""
        for space, values in self.globals.values():
            for name, value in values.items():
                if not same(space.get(name, MISSING), value):
                    return name
        for s in (*self.seen.values(), *self.spaces.values()):
            x = s.x
            for name, value in s.attributes.items():
                if not same(getattr(x, name, MISSING), value) and (
                    not isinstance(x, ModuleType | type) or not same(vars(x).get(name), value)
                ):
                    return f"{s.told}.{name}"
            if s.before is None:
                continue
            if isinstance(x, CellType):
                if not same(read(x, None), s.before):
                    return s.told
            elif isinstance(x, Tensor):
                if x.data is not s.before[0] and not isinstance(x.data, RAW):
                    return s.told
            elif isinstance(x, np.ndarray):
                if not (equal(x, s.before) if isinstance(s.before, np.ndarray)
                        else checksum(x) == s.before):  # fmt: skip
                    return s.told
            elif not isinstance(
                x, np.random.Generator | np.random.RandomState | python_random.Random
            ):
                at = unlike(x, s.before)
                if at is not None:
                    return place_in(s, at)
        return None

    def watch(self, program: Any, wrapped: bool = True) -> Watch:
        """What must still hold at a later run; refuses a function that no program repeats."""
        told = self.changed()
        if told is not None:
            raise Changed(
                "a compiled function", f"it changes `{told}`, which a program would not repeat"
            )
        if self.asks and wrapped:
            raise UnsupportedError(
                "a compiled function",
                "it asks whether a value is an array or a tensor, and while it is recorded all are "
                "tensors",
            )
        self.check_streams(program)
        out = Watch()
        out.conditions = list(program.conditions)
        out.gradients = [(t, had) for t, place, had in program.gradients if place < 0]
        out.tensors = list(program.tensors)
        for leaf in program.leaves:
            out.slots.append((leaf, "hooks", leaf.hooks, f"the hooks of {leaf.name or 'a tensor'}"))
            for n in HOOKS if leaf.hooks is not None else ():
                hooks = getattr(leaf.hooks, n)
                out.containers.append((hooks, dict(hooks), "the hooks of a tensor"))
        Walk(self, out, program).run()
        return out

    def check_streams(self, program: Any) -> None:
        """Nothing was drawn but what a program draws again."""
        default = random.default()
        streams = [(s.x, s.told, s.before) for s in self.seen.values() if isinstance(s.x, STREAMS)]
        streams.append((default, "wengert.random", dict(self.states)["wengert.random"]))
        for x, told, before in streams:
            now = position(x)
            first, last = program.stands.get(id(x), (before, before))
            if not (alike(before, first) and alike(now, last)):
                raise UnsupportedError(
                    "a compiled function",
                    f"it draws from `{told}` itself, and a program would repeat the first draw",
                    fix="draw outside and pass the numbers in, or use a function that takes rng=",
                )
        for (name, before), (_, now) in zip(self.states[:2], states()):
            if not alike(before, now):
                raise UnsupportedError(
                    "a compiled function",
                    f"it draws from {name}, and a program would repeat the first draw",
                    fix="draw outside and pass the numbers in",
                )


class Stop(BaseException):
    """The recording ends here, whatever the function catches."""

    def __init__(self, error: UnsupportedError) -> None:
        super().__init__(error)
        self.error = error


class Changed(UnsupportedError):
    """Something outside was changed: perhaps for the first time alone, as a cache is filled."""


def branching(code: CodeType) -> bool:
    """Whether code has branches other than loops and comparisons with None."""
    return any(
        "JUMP" in i.opname and "_IF_" in i.opname and "NONE" not in i.opname
        for i in dis.get_instructions(code)
    )


def slots(cls: type) -> list[str]:
    """The attributes of a user's class that are not in a `__dict__`."""
    if cls.__module__.startswith(FOREIGN):
        return []
    named = cls.__dict__.get("__slots__", ())
    named = (named,) if isinstance(named, str) else tuple(named)
    return [
        f"_{cls.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n
        for n in named if n not in ("__dict__", "__weakref__")
    ]  # fmt: skip


def place_in(s: Seen, at: Any) -> str:
    if at == "" and not isinstance(s.x, dict):
        return s.told
    return f"{s.told}.{at}" if s.dotted else f"{s.told}[{at!r}]"


def checksum(a: Any) -> int:
    return zlib.adler32(np.ascontiguousarray(a).view(np.uint8).reshape(-1).data)


STREAMS = (np.random.Generator, np.random.RandomState, python_random.Random)


def position(x: Any) -> Any:
    """Where a stream of random numbers stands."""
    if isinstance(x, np.random.Generator):
        return x.bit_generator.state
    return x.get_state(legacy=False) if isinstance(x, np.random.RandomState) else x.getstate()


def states() -> list[tuple[str, Any]]:
    """Where the streams that belong to nobody stand."""
    return [
        ("numpy.random", np.random.get_state(legacy=False)),  # noqa: NPY002 - users draw from it
        ("random", python_random.getstate()),
        ("wengert.random", random.get_state()),
    ]
