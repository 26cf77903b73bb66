"""One run of a function on graph variables: what it computes, reads and changes.

Staging (`transforms.staging`) with everything that a later run needs besides: the tensors that the
function closes over and those it was given, their gradients, plain arrays that somebody else holds
and may write, numbers that are drawn anew at every run, and what is to be done afterwards.

Every input of the graph has a source, and every output a sink.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import UnsupportedError
from ..graph import Graph, Var
from ..owned import HERE as NOTES
from ..owned import immutable
from ..trace import (
    HERE,
    Leaf,
    Node,
    Tensor,
    bind,
    generation,
    lens,
    make,
    modes,
)
from ..transforms.jvp import inward
from ..types import RAW, Aval
from .guards import alike, equal
from .lawful import Laws
from .live import Num, Numbers, weak
from .recorded import Program, Sink, Source, finished

__all__ = ["Capture", "Given", "Program", "Sink", "Source", "capture"]


@dataclass(slots=True)
class Given:
    """A tensor from outside, as it was before."""

    tensor: Any
    data: Any
    var: Any
    node: Any
    store: Any
    leaf: bool
    grad: Any
    grad_var: Any
    traced: Any = None  # the gradient while tracing
    dropped: bool = False  # forgotten before it was used


class Within(UnsupportedError):
    """A transform in progress outside is met within: this call is not for a program."""


class Capture:
    """The tracer: `trace.HERE.trace` while the function runs."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.graph.places = True
        self.floor = 2 * trace.number()  # transforms that were there before are below
        self.given: dict[int, Given] = {}
        self.arrays: dict[int, tuple[Any, Var]] = {}
        self.written: dict[int, Any] = {}  # the newest variable of a live array
        self.draws: list[Callable[[], Any]] = []
        self.drawn: list[Any] = []
        self.sources: dict[int, Source] = {}  # by the number of the variable
        self.undo: list[Callable[[], None]] = []
        self.after: list[Callable[[], Any]] = []
        self.places: dict[int, int] = {}  # of tensors among the arguments
        self.wraps: dict[int, tuple[Any, Var, int]] = {}  # what stands for plain arguments
        self.stands: dict[int, tuple[Any, Any]] = {}  # (before the first draw, after the last)
        self.streams: list[Any] = []  # the generators that `live` values come from
        self.numbers = Numbers(self)
        self.constants: dict[int, tuple[Any, Any, Var]] = {}  # arrays: (array, copy, variable)
        self.kept: dict[int, tuple[Any, Any]] = {}  # copies that the tape keeps: (copy, array)
        self.conditions: list[Callable[[], bool]] = []  # what must hold at a later run
        self.tensors: set[int] = set()  # variables behind tensors that the function makes
        self.severed = ""  # why a derivative cannot be taken of the lines
        self.laws = Laws(self.graph)  # functions with rules of their own
        self.enter, self.leave = self.laws.enter, self.laws.leave
        self.views: dict[int, Any] = {}  # of tensors from outside, that looked again
        self.values: Any = None
        self.floats: set[int] = set()  # variables that are numbers of Python's uncompiled
        self.memo: dict[Any, Any] = {}  # for those who record
        self.holds: Any = None

    # ---- what trace.bind and the writes call
    def touch(self, t: Any) -> None:
        """A tensor is about to be read: its array may stand some levels below."""
        while isinstance(t, Tensor):
            if t.level is trace.EAGER:
                return self.wrote(t)
            if t.level.depth < self.floor and t.level.alive:
                raise Within(
                    "a compiled function", "it reads a value from outside that is being "
                    "differentiated or batched",
                    fix="pass the value as an argument",
                )  # fmt: skip
            t = t.data

    def wrote(self, t: Tensor) -> None:
        """First touch of an outside tensor: its array becomes an input of the graph."""
        if t.level is not trace.EAGER or not isinstance(t.data, RAW) or id(t) in self.given:
            return
        if t.data.__class__ is not np.ndarray:
            return  # a number that the function made itself
        window = lens(t)
        leaf = type(t.node) is Leaf
        known = Given(t, t.data, None, t.node, getattr(t, "store", None), leaf, None, None)
        self.given[id(t)] = known
        if window is not None:
            root = window[0]
            self.wrote(root)
            seen: Any = make(root.data, None, trace.EAGER)
            for op in window[1]:
                seen = bind(op, seen)
            t.data = seen.data
            return
        place = self.places.get(id(t), -1)
        known.var = self.input(Aval.of(t.data), Source("tensor", place, t))
        if leaf and t.node.grad is not None:
            g = t.node.grad
            data = g.data if isinstance(g, Tensor) else g
            if isinstance(data, RAW):
                known.grad = g
                known.grad_var = self.input(Aval.of(data), Source("gradient", place, t))
                traced = make(known.grad_var, None, trace.EAGER)
                t.node.grad = known.traced = traced if isinstance(g, Tensor) else known.grad_var
        t.data = known.var

    def input(self, aval: Aval, source: Source) -> Var:
        if not aval.dtype.isnative:
            aval = Aval(aval.shape, aval.dtype.newbyteorder("="))
        v = self.graph.input(aval)
        self.sources[v.n] = source
        return v

    # ---- for code of the house that knows of it
    def live(self, draw: Callable[[], Any], stream: Any = None, undo: Any = None) -> Any:
        """A value that is drawn again at every run: an array, or a tuple of them."""
        if undo is not None:
            self.undo.append(undo)
        if stream is not None:
            now = stream.bit_generator.state
            before, stands = self.stands.get(id(stream), (now, now))
            if not alike(now, stands):
                raise UnsupportedError(
                    "a compiled function", "it draws from a generator itself as well",
                    fix="draw outside and pass the numbers in",
                )  # fmt: skip
            self.streams.append(stream)
            self.undo.append(partial(setattr, stream.bit_generator, "state", now))
        value = draw()
        if stream is not None:
            self.stands[id(stream)] = before, stream.bit_generator.state
        place = len(self.draws)
        self.draws.append(draw)
        self.drawn.append(value)
        if isinstance(value, tuple):
            return tuple(
                self.input(strong(v), Source("live", place, i)) for i, v in enumerate(value)
            )
        return self.input(strong(value), Source("live", place))

    def state(self, a: Any) -> Var:
        """The newest value of an array that is read and written in place, such as a moment."""
        if id(a) not in self.arrays:
            self.arrays[id(a)] = a, self.input(Aval.of(a), Source("array", owner=a))
        return self.written.get(id(a), self.arrays[id(a)][1])

    def number(self, n: Num, real: bool = False, boxed: bool = False) -> Var:
        """A plain number that is computed at every run, as a variable.

        real: as a float; boxed: as a number of NumPy's, which yields to no other dtype.
        """
        used, key = self.numbers.used, (n.at, real, boxed)
        if key not in used:
            if isinstance(n.value, int) and not -(2**63) <= n.value < 2**63:
                n.plain()
            value = float(n.value) if real else n.value
            a = weak(value)
            a = Aval(a.shape, a.dtype) if boxed else a
            used[key] = self.input(a, Source("live", -1, n))
        return used[key]

    def lift(self, xs: Any) -> Any:
        """Operands as the graph takes them: plain numbers and arrays become variables."""
        out = None
        if not {"raise", "call", "log"}.isdisjoint(np.geterr().values()):
            raise UnsupportedError(
                "a compiled function", "np.errstate asks for errors of floating point, and a "
                "program gives none",
            )  # fmt: skip
        apart = not any(isinstance(x, Tensor | Var) for x in xs)
        if apart and not any(type(x) is Num for x in xs):
            return xs
        for i, x in enumerate(xs):
            if type(x) is Num:
                if isinstance(x.value, int) and not all(holds(y, -1, 2**63 - 1) for y in xs):
                    x.plain()  # NumPy refuses what the dtype cannot hold
                y: Any = x.variable() if apart else self.number(x)
            elif x.__class__ is np.ndarray and x.dtype != object:
                y = self.constant(x)
            elif x.__class__ is int and not all(holds(z, x) for z in xs):
                raise UnsupportedError(
                    "a compiled function", f"it computes with {x} and integers that do not reach it"
                )
            else:
                continue
            out = list(xs) if out is None else out
            out[i] = y
        return xs if out is None else tuple(out)

    def constant(self, a: Any) -> Any:
        """A variable for an array, which at the end is a constant or an input, see `held`."""
        if id(a) in self.kept:
            a = self.kept[id(a)][1]
        if id(a) in self.arrays:
            return self.state(a)
        if immutable(a):
            return a
        if id(a) not in self.constants:
            self.constants[id(a)] = a, a.copy(), self.graph.input(Aval.of(a))
        _, copy, v = self.constants[id(a)]
        if not equal(a, copy):
            raise UnsupportedError(
                "a write in a compiled function",
                "plain NumPy code writes an array that a program reads",
                operands=[("array", a)], fix="x = x + step, or use a tensor",
            )  # fmt: skip
        return v

    def born(self, t: Tensor) -> None:
        """A tensor that the function itself makes: a constant, until it is written."""
        t.data = self.constant(t.data)
        self.tensors.add(t.data.n)

    def boxed(self, t: Any) -> None:
        """A result of the function that is a tensor, whatever it was computed from."""
        while isinstance(t, Tensor):
            t = t.data
        if isinstance(t, Var):
            self.tensors.add(t.n)

    def note(self, a: Any, copy: Any) -> None:
        """The tape keeps a copy of an array."""
        if id(a) in self.kept:
            a = self.kept[id(a)][1]
        self.kept[id(copy)] = copy, a

    def forget(self, t: Any) -> None:
        """The gradient of a leaf is dropped: what it was before does not matter."""
        self.touch(t)
        known = self.given.get(id(t))
        if known is not None and known.leaf and t.node.grad is known.traced:
            known.dropped = True
        t.node.grad = None

    def change(self, a: Any, value: Any) -> None:
        """After the run the array `a` holds `value`."""
        self.state(a)
        self.written[id(a)] = value

    def number_of(self, t: Tensor) -> Tensor:
        """A tensor of the program that is a plain number uncompiled: handed out as one."""
        self.floats.add(t.data.n)
        return t

    def keep(self, t: Any) -> None:
        """A view from outside is about to look again."""
        if id(t) not in self.views and id(t) not in self.given:
            self.views[id(t)] = t, t.data, t.node, t.level, t.store, t.__class__

    # ---- the end
    def restore(self) -> None:
        """Everything outside as it was."""
        for t, data, node, level, store, cls in self.views.values():
            t.data, t.node, t.level, t.store, t.__class__ = data, node, level, store, cls
        for g in reversed(self.given.values()):
            t = g.tensor
            t.data, t.node = g.data, g.node
            if g.store is None:
                if hasattr(t, "store"):
                    del t.store
            else:
                t.store = g.store
            if g.leaf:
                g.node.grad = g.grad

    def rewind(self) -> None:
        """What was drawn is put back: the function runs again, uncompiled."""
        for undo in reversed(self.undo):
            undo()


def holds(x: Any, *ints: int) -> bool:
    """Whether the dtype of x, if it is one of integers, has these numbers."""
    dtype = getattr(x, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return all(limits.min <= n <= limits.max for n in ints)


def strong(v: Any) -> Aval:
    a = Aval.of(v)
    return Aval(a.shape, a.dtype, a.weak)


def capture(
    f: Callable[..., Any], leaves: list[Any], structure: tree.Tree, fixed: Any, outer: Any = ()
) -> Program:
    """Run f(*args, **kwargs) on variables.

    Args:
        f: the function.
        leaves, structure: of (args, kwargs), taken apart.
        fixed: for each leaf whether it is no array, and goes in as it is.
        outer: the identities of things that were there before, of which some are in reach.
    """
    tracer = Capture()
    old = getattr(HERE, "trace", None)
    HERE.trace = tracer
    NOTES.note = tracer.note
    modes(1)
    try:
        given: list[Any] = []
        recorded: list[tuple[Any, Leaf]] = []
        twins: dict[int, int] = {}  # an array that is given twice is one
        for i, (x, still) in enumerate(zip(leaves, fixed)):
            if still:
                given.append(x)
            elif isinstance(x, np.ndarray) and twins.setdefault(id(x), i) != i:
                given.append(given[twins[id(x)]])
            elif isinstance(x, np.ndarray) and x.__class__ is not np.ndarray:
                raise UnsupportedError(
                    "a compiled function", f"an argument is a {type(x).__name__}, a kind of array "
                    "with rules of its own", fix="pass a plain array, np.asarray(x)",
                )  # fmt: skip
            elif x.__class__ in (int, float, complex):
                given.append(tracer.numbers.argument(i, x))
            elif isinstance(x, Tensor) and direct(x):
                tracer.places[id(x)] = i
                tracer.touch(x)
                given.append(x)
            else:
                v = tracer.input(
                    Aval.of(x if type(x) in (float, int) else inward(x)), Source("argument", i)
                )
                t = make(v, None, trace.EAGER)
                tracer.wraps[id(t)] = t, v, i
                if isinstance(x, Tensor) and x.recorded():
                    t.node = Leaf(trace.EAGER)
                    recorded.append((x, t.node))
                given.append(t)
        args, kwargs = tree.unflatten(structure, given)
        out = f(*args, **kwargs)
        unchanged((args, kwargs), given, structure)
        if tracer.graph.asked or tracer.numbers.asked:
            raise UnsupportedError(
                "a compiled function", "it asks for a number that is not known yet, and goes on "
                "when it is refused",
            )  # fmt: skip
        if any(node.grad is not None for _, node in recorded):
            raise UnsupportedError(
                "a compiled function that calls backward",
                "it reaches a value that was recorded outside",
                fix="call backward on what the function returns, outside",
            )
        return finished(tracer, out, leaves, outer)
    except BaseException:
        tracer.restore()
        tracer.rewind()
        raise
    finally:
        HERE.trace = old
        NOTES.note = None
        modes(-1)


def unchanged(arguments: Any, given: list[Any], structure: tree.Tree) -> None:
    """The containers among the arguments are as they were: a program changes arrays alone."""
    now, shape = tree.flatten(arguments, is_leaf=lambda x: hasattr(x, "named_parameters"))
    if shape != structure or any(a is not b for a, b in zip(now, given)):
        raise UnsupportedError(
            "a compiled function", "it changes a container among its arguments",
            fix="return a new one",
        )  # fmt: skip


def direct(x: Tensor) -> bool:
    """A tensor of the eager tape that is no result of recorded operations."""
    return x.level is trace.EAGER and type(x.node) is not Node and isinstance(x.data, RAW)


def moved(t: Tensor) -> None:
    """A tensor has been written: views of it look again."""
    t.store = generation(t) + 1
