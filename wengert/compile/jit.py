"""`wg.compile`: a function that is recorded once for each kind of arguments, and then run.

A call looks for a *variant*: a program that was recorded for arguments of these types and shapes,
and whose guards hold (nothing that the function read from outside has changed). There is none the
first time: the function runs once on graph variables, its program is rewritten, planned and
compiled. Where that is impossible (a branch on a value, say), the call runs uncompiled and one
message says why.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from time import perf_counter
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import ArgumentError, CompileWarning, UnsupportedError, WengertError, describe, warn
from ..source import place
from ..trace import HERE, Leaf, Tensor, ndarray, recording
from ..types import dtype_of
from . import backends
from .apply import Compiled as CompiledLaw
from .apply import recorded_call
from .capture import Program, Within, capture, direct
from .dispatch import MISS, short
from .guards import Watch
from .locks import RECORDING, lock
from .report import explained
from .runs import effectful, fetch, handle, overlap, room, settle, within
from .world import Changed, Stop, World, owner_of

__all__ = ["Compiled", "compile"]

MOST = 16  # variants of one kind of arguments before a function is run uncompiled
LATER = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
OFTEN = 3  # changes of an array that made no difference, until it is an operand alone
INTS = 4  # values of an int that are compiled for each, before it becomes a number like others
Leaves = list[Any]


def compile(
    f: Callable[..., Any] | None = None,
    *,
    backend: str = "auto",
    budget: int | str | None = None,
    wait: bool = False,
) -> Any:
    """f as a program that is recorded, optimised, planned in memory and compiled.

    f is a function of arrays, tensors, numbers and pytrees of them; it may call `backward`, step
    an optimizer, write tensors in place, draw random numbers, and use any transform inside. The
    compiled function gives the same numbers up to rounding (a few ulps of each operation), has
    the same effects on tensors, draws the same random numbers and raises the same errors. It can
    itself be differentiated, batched and called by another compiled function.

    Args:
        f: the function; left out, a decorator with these options.
        backend: "numpy" (always there), "llvm" (extra `compile`), or "auto": llvm if installed.
        budget: bytes, or text like "200MB", that what is kept between forward and backward may
            take when the compiled function is differentiated; None keeps what saves most time.
        wait: compile new shapes before they run. Otherwise only the first call waits; later ones
            run on NumPy until their machine code is ready, with other last digits.

    Raises:
        ArgumentError: f is not callable.
        OptionError: an unknown backend, or a budget that is no size.
        MissingExtraError: backend="llvm" without llvmlite.

    >>> import numpy as np, wengert as wg
    >>> @wg.compile
    ... def energy(x):
    ...     return np.sum(np.tanh(x) ** 2)
    >>> energy(np.zeros(3))
    np.float64(0.0)
    >>> wg.grad(energy)(np.array([0.0, 1.0])).round(6)
    array([0.     , 0.6397])
    """
    if f is None:
        return lambda g: compile(g, backend=backend, budget=budget, wait=wait)
    if not callable(f):
        raise ArgumentError("compile(f)", f"f is a function, not {describe(f)}")
    code = getattr(getattr(f, "__func__", f), "__code__", None)
    if code is not None and code.co_flags & LATER:
        raise ArgumentError(
            "compile(f)", "a generator or a coroutine gives its results later, one by one",
            fix="compile the function that computes one of them",
        )  # fmt: skip
    return Compiled(f, backend=backend, budget=budget, wait=wait)


class Variant:
    """One program, ready to run, and what must hold for it."""

    __slots__ = (
        "changed",
        "executable",
        "failure",
        "fast",
        "held",
        "law",
        "passes",
        "program",
        "runs",
        "seconds",
        "watch",
        "way",
        "why",
    )  # fmt: skip

    def __init__(self, program: Program, watch: Watch, why: str) -> None:
        self.program, self.watch, self.why = program, watch, why
        self.executable: Any = None
        self.law: CompiledLaw | None = None
        self.fast: Any = None  # the short way of a call
        self.way: Any = None  # the executable that it is for
        self.passes: Any = None  # what each pass did
        self.failure: str | None = None  # why there is no machine code
        self.runs = 0
        self.held: Leaves = []  # objects among the arguments: nothing else gets their identity
        self.changed: dict[int, int] = {}  # how often the numbers in an array made no difference
        self.seconds: dict[str, float] = {}

    def holds(self, leaves: Leaves) -> bool:
        """Whether the program does what the function would do now."""
        branches = self.program.holds
        try:
            return self.watch.holds() and (branches is None or branches(leaves))
        except ArithmeticError:
            return False


class Refusal(Exception):
    """Why a function cannot be recorded for some arguments; `passing`: perhaps this once."""

    def __init__(self, why: Any, where: str = "", passing: bool = False) -> None:
        super().__init__(str(why))
        self.passing = passing
        text = str(why).split("\n")
        self.why = text[0].partition("] ")[2] or text[0] or type(why).__name__
        self.why = self.why.removeprefix("a compiled function: ")
        if isinstance(why, BaseException) and not isinstance(why, WengertError):
            self.why = f"{type(why).__name__}: {self.why}"
        self.fix = next((line for line in text if line.startswith("  fix: ")), "")
        self.where = f"  at:  {where}" if where else ""


class Compiled:
    """A compiled function; see `compile`."""

    __module__ = "wengert"

    def __init__(self, f: Callable[..., Any], *, backend: str, budget: Any, wait: bool) -> None:
        update_wrapper(self, f, updated=())
        self.f = f
        self.backend = backends.chosen(backend)
        self.budget = backends.size(budget)
        self.wait = wait
        self.variants: dict[Any, list[Variant]] = {}
        self.exact: set[Any] = set()  # kinds of arguments whose plain numbers go by value
        self.again: dict[Any, int] = {}  # how often a kind could not be recorded
        self.counts: dict[Any, int] = {}  # variants of each kind
        self.refused: dict[Any, str] = {}  # kinds of arguments that run uncompiled, and why
        self.told: set[str] = set()
        self.ints: dict[int, set[int]] = {}  # values that each int among the arguments has had
        self.lock = lock(again=True)
        self.fast: Any = None  # the short way for calls like the last one

    def __repr__(self) -> str:
        name = getattr(self.f, "__qualname__", repr(self.f))
        return (
            f"<compiled {name}, {self.backend}, {sum(map(len, self.variants.values()))} variants>"
        )

    def __get__(self, owner: Any, cls: Any = None) -> Any:
        """As a method, the object comes first."""
        return self if owner is None else _Bound(self, owner)

    def explain(self) -> str:
        """Graph, kernels, memory plan and reasons of everything compiled so far, as a text."""
        return explained(self)

    # ---- a call
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fast is not None:
            y = self.fast(args, kwargs)
            if y is not MISS:
                return y
        if trace.MODES and occupied():
            return self.f(*args, **kwargs)
        leaves, structure = tree.flatten((args, kwargs), is_leaf=whole)
        key, level = self.key(leaves, structure)
        if key in self.exact:
            key = key, *[(x.__class__, repr(x)) for x in leaves if number(x)]
        if key in self.refused:
            return self.f(*args, **kwargs)
        away = level and any(isinstance(x, Tensor) and at_transform(x) for x in leaves)
        if trace.stack() and any(whole(x) and module_at_transform(x) for x in leaves):
            self.say(Refusal(INSIDE))
            return self.f(*args, **kwargs)
        variant = self.find(key, leaves)
        if variant is None:
            try:
                variant, drawn = self.record(key, leaves, structure, args, kwargs)
            except Refusal as refusal:
                return self.uncompiled(key, refusal, args, kwargs)
            if self.unfit(variant, leaves, level, away):
                variant.program.rewind()
                return self.f(*args, **kwargs)
            try:
                return self.go(variant, leaves, drawn, level)
            except Exception:
                if not variant.program.fallible:
                    raise
                variant.program.rewind()
                return self.f(*args, **kwargs)
        if self.unfit(variant, leaves, level, away):
            return self.f(*args, **kwargs)
        streams = variant.program.streams if variant.program.fallible else ()
        states = [s.bit_generator.state for s in streams]
        try:
            drawn = variant.program.draw(leaves)
        except ArithmeticError:  # of plain numbers: the function raises it itself
            return self.f(*args, **kwargs)
        try:
            y = self.go(variant, leaves, drawn, level)
        except Exception:
            if not variant.program.fallible:
                raise
            for stream, state in zip(streams, states):
                stream.bit_generator.state = state
            return self.f(*args, **kwargs)  # which fails as it does, at its line
        if not trace.MODES and variant.way is not variant.executable:
            variant.way = variant.executable
            variant.fast = short(variant, leaves, structure, self.fixed(leaves, key))
        self.fast = variant.fast
        return y

    def find(self, key: Any, leaves: Leaves) -> Variant | None:
        """The variant for such arguments whose guards hold."""
        with RECORDING:  # meanwhile another thread may have taken the numbers out of a tensor
            for variant in self.variants.get(key, ()):
                if variant.holds(leaves):
                    return variant
        return None

    def unfit(self, variant: Variant, leaves: Leaves, level: bool, away: bool) -> bool:
        """Whether this call is for the function itself: a program cannot do it, or say why not."""
        program = variant.program
        return (
            (away and effectful(program))
            or self.apart(variant, level)
            or overlap(program, leaves)
            or not within(program.checks, leaves)
        )

    def go(self, variant: Variant, leaves: Leaves, drawn: Leaves, level: bool) -> Any:
        """One run of a variant."""
        if level or (variant.program.recorded and recording(trace.EAGER)):
            return self.differentiated(variant, leaves, drawn)
        return self.run(variant, leaves, drawn)

    def apart(self, variant: Variant, level: bool) -> bool:
        """Whether a derivative is to be taken that only the function itself has."""
        program = variant.program
        if not program.severed or not (level or (program.recorded and recording(trace.EAGER))):
            return False
        self.say(Refusal(f"its derivative is not that of its operations: {program.severed}"))
        return True

    def uncompiled(self, key: Any, refusal: Refusal, args: Any, kwargs: Any) -> Any:
        """A call that could not be recorded; a function that raises has nothing to be told."""
        y = self.f(*args, **kwargs)
        if isinstance(refusal.__cause__, Within):
            self.say(refusal)
            return y
        kind = anonymous(key)
        if not refusal.passing or self.again.get(kind, 0):
            self.refuse(key, refusal)
        self.again[kind] = self.again.get(kind, 0) + 1
        return y

    def key(self, leaves: Leaves, structure: tree.Tree) -> tuple[Any, bool]:
        """(what a variant is found by, whether an argument is recorded or at a transform)."""
        key: list[Any] = [structure, recording(trace.EAGER)]
        level = False
        tensors: dict[int, int] = {}
        for i, x in enumerate(leaves):
            kind = x.__class__
            if kind is ndarray:
                key.append((x.shape, x.dtype, tensors.setdefault(id(x), i)))
            elif kind is float:
                key.append(float)
            elif kind is int:
                values = self.ints.setdefault(i, set())
                if len(values) < INTS:
                    values.add(x)
                key.append((int, x) if x in values else int)
            elif isinstance(x, Tensor):
                mine = direct(x)
                level = level or not mine
                leaf = x.node.__class__ is Leaf
                graded = leaf and x.node.grad is not None
                twin = tensors.setdefault(id(x), i)
                key.append((Tensor, x.shape, x.dtype, mine, leaf, graded, twin))
            elif isinstance(x, np.generic) or kind is complex:
                key.append((kind, dtype_of(x)))
            elif isinstance(x, ndarray):
                key.append(kind)
            else:
                key.append(still(x))
        return tuple(key), level

    def fixed(self, leaves: Leaves, key: Any) -> list[bool]:
        """Which leaves are no arrays, and go into the recording as they are."""
        exact = key[0].__class__ is tuple  # numbers by value
        kinds = key[0] if exact else key
        return [
            not isinstance(x, ndarray | np.generic | float | complex | int | Tensor)
            or x.__class__ is bool
            or (number(x) and exact)
            or (x.__class__ is int and k is not int)
            for x, k in zip(leaves, kinds[2:])
        ]

    def record(self, key: Any, leaves: Leaves, structure: tree.Tree, args: Any, kwargs: Any) -> Any:
        """A new variant and what its first run drew; raises `Refusal`."""
        with self.lock, uncollected():
            found = self.find(key, leaves)
            if found is not None:  # recorded by another thread just now
                return found, found.program.draw(leaves)
            known = self.variants.get(key, [])
            why = "the first call with such arguments"
            if known:
                why = known[-1].watch.broken() or "a branch on a number goes another way"
            kind = anonymous(key)
            if self.counts.get(kind, 0) >= MOST:
                if why and not known:
                    why = "arguments differ from call to call"
                raise Refusal(f"{MOST} variants were compiled, because {why}")
            start = perf_counter()
            fixed = self.fixed(leaves, key)
            world = World(self.f, args, kwargs)
            try:
                with RECORDING:
                    with world:
                        program = capture(self.f, leaves, structure, fixed, world.seen)
                    watch = world.watch(program)
            except (Exception, Stop) as error:
                with RECORDING:
                    world.restore()
                if (
                    key not in self.exact
                    and not isinstance(error, Within)
                    and any(number(x) and not still for x, still in zip(leaves, fixed))
                ):
                    self.exact.add(key)
                    key = key, *[(x.__class__, repr(x)) for x in leaves if number(x)]
                    return self.record(key, leaves, structure, args, kwargs)
                where = line_of(error)
                error = error.error if isinstance(error, Stop) else error
                raise Refusal(error, where, isinstance(error, Changed)) from error
            except BaseException:
                world.restore()
                raise
            for variant in known:
                if variant.program.same(program):  # what has changed made no difference
                    return self.renewed(variant, watch, world), program.drawn
            variant = Variant(program, watch, why)
            variant.held = [x for x, still in zip(leaves, fixed) if still]
            variant.seconds["record"] = perf_counter() - start
            drawn, program.drawn = program.drawn, []
            try:
                backends.prepare(self, variant, first=not any(map(len, self.variants.values())))
            except Exception as error:
                program.rewind()
                raise Refusal(error) from error
            self.variants[key] = [*known, variant]
            self.counts[kind] = self.counts.get(kind, 0) + 1
            return variant, drawn

    def renewed(self, variant: Variant, watch: Watch, world: World) -> Variant:
        """A variant that was recorded again, and is the same.

        Arrays whose numbers change and do not matter, time and again, are operands and no more,
        if no branch could have looked at them.
        """
        for content, _ in variant.watch.contents:
            if content.live and not content():
                key = id(content.array)
                variant.changed[key] = variant.changed.get(key, 0) + 1
        watch.contents = [
            (content, told) for content, told in watch.contents
            if world.branches or variant.changed.get(id(content.array), 0) < OFTEN
        ]  # fmt: skip
        variant.watch, variant.way, variant.fast, self.fast = watch, None, None, None
        return variant

    def refuse(self, key: Any, refusal: Refusal) -> None:
        """From now on such calls run uncompiled; said once."""
        self.refused[key] = self.say(refusal)

    def say(self, refusal: Refusal) -> str:
        """Warn, once."""
        text = "\n".join(filter(None, (refusal.why, refusal.fix, refusal.where)))
        if text not in self.told:
            self.told.add(text)
            name = getattr(self.f, "__qualname__", repr(self.f))
            warn(f"{name} runs uncompiled: {text}", CompileWarning)
        return text

    def differentiated(self, variant: Variant, leaves: Leaves, drawn: Leaves) -> Any:
        """A call as one operation, whose derivatives are compiled too."""
        program = variant.program
        if variant.law is None:
            name = getattr(self.f, "__qualname__", "a compiled function")
            graph = program.lawful if program.lawful is not None else program.graph
            variant.law = CompiledLaw(graph, self.build, self.budget, name, program.graph)
        with RECORDING:
            inputs = [
                handle(leaves[s.place] if s.place >= 0 else s.owner)
                if s.kind in ("argument", "tensor") else fetch(s, leaves, drawn)
                for s in program.sources
            ]  # fmt: skip
        variant.runs += 1
        return settle(program, recorded_call(variant.law, program, inputs), leaves, drawn)

    def build(self, graph: Any) -> Any:
        """What runs a graph that was derived from one of a program."""
        return backends.runner(self.backend, graph)

    # ---- running a program on plain arrays
    def run(self, variant: Variant, leaves: Leaves, drawn: Leaves) -> Any:
        """One run, its effects, and what it returns."""
        program = variant.program
        with RECORDING:
            inputs = [fetch(s, leaves, drawn) for s in program.sources]
        into = [room(s, leaves) if not program.fallible else None for s in program.sinks]
        outputs = variant.executable(inputs, into)
        variant.runs += 1
        del inputs, into
        return settle(program, outputs, leaves, drawn)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector: a graph is many small objects, none of them garbage yet."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class _Bound:
    """A compiled function as a method of an object."""

    def __init__(self, compiled: Compiled, owner: Any) -> None:
        self.compiled, self.owner = compiled, owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.compiled(self.owner, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.compiled, name)


def occupied() -> bool:
    """Whether something here looks at every operation, or changes what operations do."""
    h = HERE.__dict__
    return bool(
        h.get("trace") is not None
        or h.get("caster") is not None
        or h.get("watch") is not None
        or h.get("conventions")
        or h.get("packers")
        or h.get("tapes")
    )


def number(x: Any) -> bool:
    """A plain number of Python's; True and False are none."""
    return x.__class__ in (int, float, complex)


def anonymous(key: Any) -> Any:
    """A kind of arguments, whichever objects and plain numbers are among them."""
    kinds = key[0] if key[0].__class__ is tuple else key
    return tuple([k[0] if k.__class__ is tuple and len(k) == 2 and isinstance(k[0], type) else k
                  for k in kinds])  # fmt: skip


def at_transform(x: Tensor) -> bool:
    """Whether a value stands at a transform in progress, and not on the eager tape alone."""
    while isinstance(x, Tensor):
        if x.level is not trace.EAGER:
            return True
        x = x.data
    return False


INSIDE = UnsupportedError(
    "a compiled function", "the parameters of a module that it is given are being differentiated",
    fix="wg.compile(wg.grad(f)), or pass the parameters",
)  # fmt: skip


def module_at_transform(x: Any) -> bool:
    """Whether parameters of a module stand at a transform in progress."""
    return any(at_transform(p) for _, p in x.named_parameters())


def whole(x: Any) -> bool:
    """Objects with parameters of their own are taken by identity, not taken apart."""
    return hasattr(x, "named_parameters")


def still(x: Any) -> Any:
    """How an argument that is no array is told from others: by value, or by identity."""
    if isinstance(x, str | bytes | bool | type(None) | type):
        return x.__class__, x
    return x.__class__, id(x)


def line_of(error: BaseException) -> str:
    """The innermost line of the user's that an error came through."""
    where, tb = "", error.__traceback__
    while tb is not None:
        frame = tb.tb_frame
        if owner_of(frame) == 2:
            where = place(frame.f_code, tb.tb_lasti)
        tb = tb.tb_next
    return where
