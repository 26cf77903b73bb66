"""Running a part of a program again, as it was: its inputs, its random numbers, its surroundings.

The forward run of a part notes every tensor from outside at its first touch, and gives the tape a
small handle in place of each array that it would keep. When the sweep asks for one of them, the
part runs once more with everything put back as it stood, and each array goes to its handle as it
comes. Only arrays are dropped: the nodes, and the tensors of other levels around an array, are
those of the first run, so that a derivative of any order finds the graph that was recorded.

What comes again is compared bit for bit with what was dropped, by a fingerprint of its bytes.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np

from .. import tree
from ..errors import ReplayError, describe, verbatim
from ..given import call
from ..owned import own
from ..source import place, user_frame
from ..trace import (
    HERE,
    Tensor,
    getframe,
    modes,
    ndarray,
    number,
)
from ..types import Aval
from .around import Surroundings
from .inside import Whole, opened, packed
from .outside import Again, Blind, Note, Watcher
from .residuals import Packed, packing

__all__ = ["Frame", "fingerprint", "run"]

WIDTH = 509  # words in a row of the table of a fingerprint
OPAQUE = frozenset("gGO")  # bytes that say nothing: padding of long doubles, addresses of objects


def fingerprint(a: np.ndarray[Any, Any]) -> int:
    """A number that differs, but by chance, when a bit of the array does.

    The words are summed modulo 2^64 down the columns of a table whose width is a prime, and the
    sums are checksummed: at memory's speed, many times faster than a checksum of all. A changed
    word changes a sum; so do words that changed places, but by a multiple of the prime.
    """
    if not a.flags.c_contiguous:
        a = a.T if a.flags.f_contiguous else np.ascontiguousarray(a)
    flat: Any = a.reshape(-1).view(np.uint8)
    if flat.size < 16 * WIDTH:
        return zlib.crc32(flat)
    whole = flat.size // (8 * WIDTH) * 8 * WIDTH
    table = flat[:whole].view(np.uint64).reshape(-1, WIDTH)
    return zlib.crc32(flat[whole:], zlib.crc32(np.add.reduce(table, 0)))


def twin(a: np.ndarray[Any, Any]) -> Any:
    """A copy to compute with again: of the same strides, as the order of a sum depends on them."""
    return own(a) if a.flags.c_contiguous else spaced(a)


def spaced(a: np.ndarray[Any, Any]) -> Any:
    if a.flags.forc or a.dtype.hasobject or not a.size:
        return a.copy("K")
    low, high = np.lib.array_utils.byte_bounds(a)
    if high - low > 64 * a.nbytes:
        return a.copy("K")
    start = a.__array_interface__["data"][0] - low
    room = np.empty(high - low, np.uint8)
    made: Any = np.ndarray(a.shape, a.dtype, room, start, a.strides)
    made[...] = a
    return made


# ------------------------------------------------------------------ a part


class Kept(Packed):
    """Where an array was that comes again."""

    __slots__ = ("fixed", "frame", "near", "value")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.value: Any = None
        self.fixed = False
        self.near: Any = None  # of the input of a part within: (the array, weakly; its code)

    def unpack(self) -> Any:
        with self.frame.lock:
            if self.value is None and self.near is not None:
                a = self.near[0]()
                if a is not None and fingerprint(a) == self.near[1]:
                    return a
            if self.value is None:
                self.frame.again()
            value = self.value
            if not self.fixed:
                self.value = None
            return value


class Here(Packed):
    """An array that is at hand, where the first run had a handle."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def unpack(self) -> Any:
        return self.value


class Slot:
    """What is known of a dropped array: its handle, and what must come again."""

    __slots__ = ("array", "code", "dtype", "handle", "name", "op", "shape")

    def __init__(
        self, handle: Any, op: Any, name: str, a: Any, code: int = 0, array: Any = None
    ) -> None:
        self.handle, self.op, self.name, self.code = handle, op, name, code
        self.shape, self.dtype = a.shape, a.dtype
        self.array = array  # weakly, while it lives

    def like(self, op: Any, name: str, a: Any) -> bool:
        return (
            a.shape == self.shape and a.dtype == self.dtype and name == self.name and op is self.op
        )

    def __str__(self) -> str:
        return f"{self.name} of {self.op!r}, {describe(self)}" if self.op else describe(self)


class _Done(BaseException):
    """Everything that was asked for has come."""


class _Diverged(BaseException):
    def __init__(self, k: int, came: Any, code: int | None, at: str) -> None:
        self.k, self.came, self.code, self.at = k, came, code, at


Policy = Callable[[Any, str, Aval], Any]


class Frame(packing):
    """One run of a function whose arrays are dropped and come again."""

    def __init__(self, f: Callable[..., Any], args: Any, kwargs: Any, policy: Any) -> None:
        self.f, self.policy = f, policy
        self.lock = threading.RLock()
        # what a transform within records, it sweeps within: dropped, it would come again at once
        self.depth = 2 * number()
        self.slots: list[Slot | None] = []
        self.last: Any = None  # (the latest array, its fingerprint)
        self.computed = None if policy is None else self._computed
        self.made: dict[int, Any] = {}  # (an array, weakly; the operation that computed it)
        self.held: dict[int, Any] = {}  # the arrays that notes keep where they are
        self.chosen: dict[int, Any] = {}  # what was kept by its name
        self.within: set[int] = set()  # the slots of inputs of parts within, which got a handle
        self.results: list[Any] = []  # of the evaluations on plain arrays, weakly, in order
        self.kept: dict[int, Any] = {}  # what the policy kept
        self.supply: dict[int, Any] = {}  # the same, by the number of the evaluation
        packers = HERE.__dict__.get("packers")
        self.outer = packers[-1] if packers else None
        self.bytes = 0
        self.here = _copied(HERE.__dict__)
        self.around = Surroundings(f, args, kwargs)
        old = getattr(HERE, "trace", None)
        self.watcher: Any = Watcher(self, old)
        leaves, self.structure = tree.flatten((args, kwargs))
        self.leaves = [self._argument(x) for x in leaves]
        self.notes: list[Note] = []

    def _argument(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            self.watcher.touch(x)
            found = self.watcher.notes.get(id(x))
            return found or Note(x, ref(x), self.hold)
        if x.__class__ is ndarray:
            mine = twin(x)
            return _Copied(mine if self.outer is None else self.save(mine))
        return x

    # ---- the first run
    def save(self, x: Any, known: Callable[[Any], None] | None = None) -> Any:
        """What the frame keeps of an input: given on to whoever packs around it."""
        outer = self.outer

        def pack(a: Any) -> Any:
            kept = a if outer is None else outer.pack(None, "input", a)
            if known is not None and kept is a:
                known(a)
            return kept

        note = None
        if outer is not None and isinstance(x, Tensor):
            note = self.watcher.noted(x)
        return note or packed(x, pack)

    def hold(self, x: Any) -> Any:
        """The same for an input that need not be packed when it is a residual."""
        return self.save(x, lambda a: self.held.setdefault(id(a), a))

    def pack(self, rule: Any, name: str, value: Any) -> Any:
        op = rule and rule.op
        if value.__class__ is ndarray:
            k = len(self.slots)
            kept = self._pack(value, op, name)
            if kept is not value and name == "input":
                self.within.add(k)
            return kept
        parts = packed(value, lambda a: self._pack(a, op, name))
        return value if parts is value else Whole(parts)

    def _pack(self, a: Any, op: Any, name: str) -> Any:
        if id(a) in self.held or id(a) in self.chosen or a.dtype.char in OPAQUE:
            self.slots.append(None)
            return a
        keep: Any = False
        if self.policy is not None:
            maker = self.made.get(id(a))
            by = maker[1] if maker is not None and maker[0]() is a else None
            keep = self.policy(by, name, Aval.of(a))
        if keep:
            self.slots.append(
                Slot(_nothing, op, name, a, 0, _nothing if callable(keep) else ref(a))
            )
            if callable(keep):
                return keep(a)
            self.kept[id(a)] = a
            return a
        if self.last is not None and self.last[0]() is a:
            code = self.last[1]
        else:
            code = fingerprint(a)
            self.last = ref(a), code
            self.bytes += a.nbytes
        handle = Kept(self)
        self.slots.append(Slot(ref(handle), op, name, a, code, ref(a)))
        if name == "input":
            handle.near = ref(a), code
        return handle

    def _computed(self, op: Any, xs: Any, values: Any, y: Any) -> None:
        """An operation has been evaluated: the policy asks which one made a value."""

        def note(a: Any) -> Any:
            self.made[id(a)] = ref(a), op
            return a

        packed(y, note)
        if evaluated(values) and values[0] is not None:
            self.results.append((op, ref(y) if y.__class__ is ndarray else _nothing))

    def named(self, a: Any, name: str) -> None:
        """A value has been given a name: it is kept if the policy says so."""
        if self.policy is not None and self.policy(None, name, Aval.of(a)):
            self.chosen[id(a)] = a
            for k, slot in enumerate(self.slots):
                if slot is not None and slot.array() is a and (handle := slot.handle()) is not None:
                    handle.value, handle.fixed = a, True
                    self.slots[k] = None

    def first(self, args: Any, kwargs: Any) -> Any:
        old = getattr(HERE, "trace", None)
        HERE.trace = self.watcher
        modes(1)
        try:
            with self:
                return call("checkpoint(f)", "f", self.f, *args, **kwargs)
        finally:
            modes(-1)
            HERE.trace = old
            self.notes = self.watcher.result()
            self.watcher = self.last = self.computed = None
            self.made.clear()
            for e, (op, result) in enumerate(self.results):
                a = result()
                if a is not None and id(a) in self.kept:
                    self.supply[e] = op, a
            self.results.clear()
            self.kept.clear()

    # ---- the second
    def again(self) -> None:
        """Run the function once more and fill every handle that somebody still holds."""
        try:
            self._again()
        except _Diverged as wrong:
            error = self._error(wrong)
        else:
            return
        raise error

    def _again(self) -> None:
        live = [k for k, s in enumerate(self.slots) if s is not None and s.handle() is not None]
        catcher = Catcher(self, live[-1] if live else -1)
        notes = self.notes if self.watcher is None else list(self.watcher.notes.values())
        tensors = Again()
        here = HERE.__dict__
        now = dict(here)
        levels = [x for level in self.here.get("stack", ()) for x in (level, level._ambient)]
        sleeping = [x for x in levels if x is not None and not x.alive]
        try:
            here.clear()
            here.update(_copied(self.here))
            HERE.trace = Blind()
            HERE.replaying = True
            modes(1)
            for level in sleeping:
                level.alive = True
            for note in notes:
                if note.ref() is not None:
                    tensors.given(note)
            leaves = [tensors.given(x) if x.__class__ is Note else taken(x) for x in self.leaves]
            args, kwargs = tree.unflatten(self.structure, leaves)
            del leaves
            with self.around.again(), catcher:
                self.f(*args, **kwargs)
        except _Done:
            pass
        finally:
            tensors.end()
            for level in sleeping:
                level.alive = False
            modes(-1)
            here.clear()
            here.update(now)
        if catcher.n <= catcher.end:
            raise _Diverged(catcher.n, None, None, "")

    def _error(self, wrong: _Diverged) -> ReplayError:
        slot = self.slots[wrong.k]
        name = getattr(self.f, "__qualname__", type(self.f).__name__)
        operands = [("first run", verbatim(slot)), ("second run", verbatim(wrong.came or "ended"))]
        fix = None
        if wrong.code is None:
            rule = "the second run took another path than the first"
        else:
            rule = "the second run computed other numbers than the first"
        try:
            self._again()
            other: Any = None
        except _Diverged as third:
            other = third
        same = other is not None and (other.k, str(other.came), other.code) == (
            wrong.k, str(wrong.came), wrong.code,
        )  # fmt: skip
        if same:
            fix = (
                "a value from outside that the function reads has changed since; "
                "pass it as an argument, or change a copy of it"
            )
        else:
            fix = (
                "the function differs from run to run: let it draw from wg.random.default() or "
                "from a numpy.random.Generator that it is given"
            )
        return ReplayError(
            f"checkpoint({name})", rule, operands=operands, fix=fix, at=wrong.at or None
        )


def _nothing() -> None:
    return None


def evaluated(values: Any) -> bool:
    """Whether an operation ran on plain arrays, at the bottom of all levels."""
    return not any(isinstance(v, Tensor) or hasattr(v, "graph") for v in values)


class Catcher(packing):
    """Takes the arrays of a second run, in the order of the first."""

    def __init__(self, frame: Frame, end: int) -> None:
        self.frame, self.end, self.n, self.depth = frame, end, 0, frame.depth
        self.last: Any = (None, 0)
        self.evaluations = 0
        self.supplied = self._supplied if frame.supply else None

    def _supplied(self, op: Any, values: Any) -> Any:
        """What the policy kept is not computed again: evaluations on arrays come in order."""
        if not evaluated(values):
            return None
        self.evaluations += 1
        known = self.frame.supply.get(self.evaluations - 1)
        return known[1] if known is not None and known[0] is op else None

    def named(self, a: Any, name: str) -> None: ...

    def pack(self, rule: Any, name: str, value: Any) -> Any:
        op = rule and rule.op
        if value.__class__ is ndarray:
            k = self.n
            a = self._catch(value, op, name)
            # a part within packs again what it packed then: it is told the same of its inputs
            return Here(a) if k < self.n and k in self.frame.within else a
        packed(value, lambda a: self._catch(a, op, name))
        return value

    def _catch(self, a: Any, op: Any, name: str) -> Any:
        frame = self.frame
        k = self.n
        self.n += 1
        slot = frame.slots[k] if k < len(frame.slots) else None
        if slot is not None:
            handle = slot.handle()
            code: int | None = None
            same = slot.like(op, name, a)
            if same and handle is not None:
                if self.last[0] is not a:
                    self.last = a, fingerprint(a)
                code = self.last[1]
                same = code == slot.code
            if not same:
                where = user_frame(getframe(2))
                came = Slot(None, op, name, a)
                raise _Diverged(k, came, code, place(where.f_code, where.f_lasti))
            if handle is not None:
                if handle.value is None:
                    handle.value = a
            elif (kept := slot.array and slot.array()) is not None and kept is not a:
                a = kept if k != self.end else a
        if k == self.end:
            raise _Done
        return a


class _Copied:
    """A plain array among the arguments: every run gets a copy of its own."""

    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def take(self) -> Any:
        return spaced(opened(self.kept))


def taken(x: Any) -> Any:
    """An argument for a second run."""
    return x.take() if x.__class__ is _Copied else x


def _copied(space: dict[str, Any]) -> dict[str, Any]:
    return {k: v.copy() if v.__class__ in (list, dict) else v for k, v in space.items()}


def staging() -> bool:
    """Whether a graph is being traced: what is recomputed there, its compiler decides."""
    tracer = getattr(HERE, "trace", None)
    return tracer is not None and hasattr(tracer, "graph")


def run(f: Callable[..., Any], args: Any, kwargs: Any, policy: Any = None) -> Any:
    """f(*args, **kwargs), whose residuals are dropped and computed again when they are needed."""
    if staging():
        return f(*args, **kwargs)
    return Frame(f, args, kwargs, policy).first(args, kwargs)
