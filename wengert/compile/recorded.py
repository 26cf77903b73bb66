"""What a recording comes to: a graph, where its inputs come from, where its outputs go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import UnsupportedError
from ..graph import PLAIN as PLAIN_OPS
from ..graph import Graph, Line, Var, verify
from ..nodes import Leaf
from ..owned import own
from ..trace import Tensor, View, getrefcount, lens, looked, make
from ..types import RAW
from .guards import PLAIN
from .live import Num

__all__ = ["Program", "Sink", "Source", "finished"]

FALLIBLE = {"linalg", "matrix", "singular", "spectral", "law"}  # rooms of such operations
SMALL = 1 << 24  # lines and bytes of constants of programs that are compared
STILL = 3  # what getrefcount says in `shared` of an array that only its holder has


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input of the graph comes from.

    `kind` is "argument" (a leaf of the arguments, by `place`), "tensor" or "gradient" (of `owner`,
    a tensor; or of an argument, by `place`), "array" (`owner`, read at every run) or "live" (the
    `place`-th value that is drawn).
    """

    kind: str
    place: int = -1
    owner: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Sink:
    """Where an output of the graph goes: "result", or a tensor, gradient or array as above."""

    kind: str
    place: int = -1
    owner: Any = field(default=None, compare=False)
    tensor: bool = False  # hand it out as a tensor
    form: str = ""  # of a result without axes: "number" of Python, "scalar" of NumPy, or "array"
    quiet: bool = False  # of a result: it is not recorded, whatever it depends on


@dataclass(slots=True)
class Program:
    """A graph with where its inputs come from and where its outputs go.

    `result` rebuilds what the function returned, out of the results and what is no array;
    `recorded` says that a derivative is to be taken through the results later.
    """

    graph: Graph
    sources: list[Source]
    sinks: list[Sink]
    structure: tree.Tree
    constants: list[Any]  # of the returned leaves, those that are no variables
    draws: list[Callable[[], Any]]
    drawn: list[Any]  # what the draws gave in this first run
    after: list[Callable[[], Any]]
    recorded: bool = False
    streams: list[Any] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    # labels, number of classes, what is none and may stand there all the same
    checks: list[tuple[Source, int, int | None]] = field(default_factory=list)
    conditions: list[Callable[[], bool]] = field(default_factory=list)  # for a run to be like this
    gradients: list[tuple[Any, int, bool]] = field(default_factory=list)  # (leaf, place, had one)
    tensors: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)  # see `guards.Watch`
    numbers: Callable[[Any], Any] | None = None  # leaves -> the plain numbers, drawn last
    holds: Callable[[Any], bool] | None = None  # leaves -> whether branches on numbers go alike
    wrapped: bool = False  # whether tensors stood for plain arrays
    sample: list[Any] = field(default_factory=list)  # what draws are like
    leaves: list[Any] = field(default_factory=list)  # of the tape, that it reads from outside
    touched: set[int] = field(default_factory=set)  # the identities of tensors that it reads
    severed: str = ""  # why a derivative cannot be taken of the graph
    lawful: Any = None  # the graph to be differentiated, if it is another
    stands: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # of streams, see `Capture`
    fallible: bool = False  # whether an operation may refuse the values of a run
    laws: bool = False
    print: list[Any] = field(default_factory=list)  # the lines as they were recorded

    @property
    def returned(self) -> int:
        """How many of the numbers are returned as they are: the last ones."""
        return sum(kind == "number" for kind, *_ in self.constants)

    def same(self, other: Program) -> bool:
        """Whether two programs compute the same from the same."""
        return (
            self.structure == other.structure
            and [(s, id(s.owner)) for s in self.sources]
            == [(s, id(s.owner)) for s in other.sources]
            and [(s, id(s.owner)) for s in self.sinks] == [(s, id(s.owner)) for s in other.sinks]
            and self.severed == other.severed
            and len(self.draws) == len(other.draws)
            and len(self.after) == len(other.after)
            and self.numbers is other.numbers is None
            and not (self.laws or other.laws)
            and [*map(printed, self.constants)] == [*map(printed, other.constants)]
            and self.print == other.print
        )

    def draw(self, leaves: list[Any]) -> list[Any]:
        """The numbers of one run."""
        if self.numbers is None:
            return [draw() for draw in self.draws]
        numbers = self.numbers(leaves)
        return [*[draw() for draw in self.draws], numbers]

    def rewind(self) -> None:
        """What the first run has drawn is put back: it runs again, uncompiled."""
        for undo in reversed(self.undo):
            undo()


def sampled(drawn: list[Any]) -> list[Any]:
    """Draws without their memory: the first number of an array stands for it."""
    return [d[:0] if isinstance(d, np.ndarray) and d.ndim else d for d in drawn]


def alive(node: Any) -> bool:
    """Whether a node leads to leaves still: no sweep has used it up."""
    return node.__class__ is Leaf or (node is not None and isinstance(node.parents, tuple))


def finished(tracer: Any, out: Any, leaves: list[Any], outer: Any) -> Program:
    """The program, once the function has returned; everything outside is put back."""
    graph: Graph = tracer.graph
    sinks: list[Sink] = []
    outputs: list[Any] = []
    constants: list[Any] = []
    returned, structure = tree.flatten(
        out, is_leaf=lambda x: id(x) in outer and hasattr(x, "named_parameters")
    )
    own_given = {id(g.tensor): g for g in tracer.given.values()}
    recorded = False
    quiet: set[int] = set()  # results that are not recorded
    for y in returned:
        same = own_given.get(id(y))
        if isinstance(y, Tensor | np.ndarray) and id(y) in outer and same is None:
            constants.append(("given", -1, y))  # what stands outside, untouched
            continue
        if same is not None and (type(y) is not View or id(y) in {*outer, *tracer.places}):
            place = tracer.places.get(id(y), -1)
            constants.append(("given", place, y))  # the function hands back what it was given
            continue
        wrap = tracer.wraps.get(id(y))
        if wrap is not None:
            constants.append(("given", wrap[2], None))
            continue
        if isinstance(y, Tensor) and y.node.__class__ is Leaf and y.level is trace.EAGER:
            raise UnsupportedError(
                "a compiled function", "it returns a tensor of its own that requires a gradient",
                fix="make it outside",
            )  # fmt: skip
        y = looked(y)
        kind = isinstance(y, Tensor)
        node = y.node if kind else None
        while isinstance(y, Tensor):
            y = y.data
        if type(y) is Num:
            constants.append(("number", len(tracer.numbers.returned), None))
            tracer.numbers.returned.append(y.at)
            continue
        if not isinstance(y, Var):
            constants.append(
                ("constant", -1, make(own(y), None, trace.EAGER) if kind else lasting(y, outer))
            )
            continue
        recorded = recorded or alive(node)
        quiet |= {len(outputs)} if not alive(node) else set()
        constants.append(("result", len(outputs), None))
        sinks.append(Sink("result", len(outputs)))
        outputs.append(y)
    mine: dict[int, Any] = {}  # variables behind tensors that were made inside, and their arrays
    for key, g in list(tracer.given.items()):
        t = g.tensor
        if g.var is not None and key not in outer and key not in tracer.places:
            del t
            if getrefcount(g.tensor) <= 3:  # held here, by its source, and as an argument
                mine[g.var.n] = g.data
                continue
            t = g.tensor
        if lens(t) is None and t.data is not g.var:
            if t.node is not g.node:
                raise UnsupportedError(
                    "a write in a compiled function",
                    "a tensor from outside would become a recorded result",
                    operands=[("tensor", g.data)],
                    fix="with wg.no_grad(): around the write, or return the new value",
                )
            if g.leaf:
                tracer.severed = tracer.severed or "a parameter is written on the way"
            sinks.append(Sink("tensor", tracer.places.get(id(t), -1), t))
            outputs.append(t.data)
        if g.leaf and g.node.grad is not g.traced:
            new = g.node.grad
            sinks.append(Sink("gradient", tracer.places.get(id(t), -1), t, isinstance(new, Tensor)))
            outputs.append(new.data if isinstance(new, Tensor) else new)
        elif g.leaf and isinstance(g.traced, Tensor) and g.traced.data is not g.grad_var:
            sinks.append(Sink("gradient", tracer.places.get(id(t), -1), t, True))
            outputs.append(g.traced.data)
    for t, v, place in tracer.wraps.values():
        if t.data is not v:  # an array that the caller passed was written
            if not isinstance(leaves[place], np.ndarray):
                raise UnsupportedError(
                    "a write in a compiled function", "an argument is written that cannot be",
                    operands=[("argument", leaves[place])],
                )  # fmt: skip
            sinks.append(Sink("argument", place))
            outputs.append(t.data)
    for key, value in tracer.written.items():
        sinks.append(Sink("array", owner=tracer.arrays[key][0]))
        outputs.append(value)
    graph.outputs = outputs
    read = {x.n for line in graph.lines for x in line.inputs if isinstance(x, Var)}
    read |= {y.n for y in outputs if isinstance(y, Var)}
    unread = {
        g.grad_var.n for g in tracer.given.values()
        if g.grad_var is not None and g.grad_var.n not in read
    }  # fmt: skip
    graph.inputs = [v for v in graph.inputs if v.n not in unread]
    gradients = [
        (g.tensor, tracer.places.get(id(g.tensor), -1), g.grad is not None)
        for g in tracer.given.values()
        if g.leaf and ((g.grad_var is not None and g.grad_var.n not in unread)
                       or (not g.dropped and (g.grad is not None or g.node.grad is not None)))
    ]  # fmt: skip
    tensors = [
        (g.tensor, g.data.shape, g.data.dtype, g.node.__class__)
        for g in tracer.given.values()
        if tracer.places.get(id(g.tensor), -1) < 0 and g.var is not None and g.var.n not in mine
    ]
    tracer.restore()
    numbered(tracer)
    tracer.kept.clear()
    lawful = tracer.laws.lawful()
    tracer.severed = tracer.severed or tracer.laws.severed
    fixed = held(tracer, [graph] if lawful is None else [graph, lawful], mine)
    made = {*tracer.tensors, *[id(fixed[n]) for n in tracer.tensors if n in fixed]}
    verify(graph)
    sources = [tracer.sources[v.n] for v in graph.inputs]
    sinks = [
        formed(s, graph, sources, leaves, tracer.floats, quiet, made) if s.kind == "result" else s
        for s in sinks
    ]
    return Program(
        graph, sources, sinks, structure, constants, tracer.draws, tracer.drawn, tracer.after,
        recorded, tracer.streams, tracer.undo, [], tracer.conditions, gradients, tensors,
        tracer.values, tracer.holds, any(leaves[i].__class__ is np.ndarray
                                         for _, _, i in tracer.wraps.values()),
        sampled(tracer.drawn), [g.node for g in tracer.given.values() if g.leaf],
        set(tracer.given), tracer.severed, lawful,
        tracer.stands, any(map(fallible, graph.lines)), bool(tracer.laws.calls),
        [printed(line) for line in graph.lines] if sum(map(weight, graph.lines)) < SMALL else [],
    )  # fmt: skip


def fallible(line: Line) -> bool:
    """Whether an operation may refuse its values: a singular matrix, a row that does not exist."""
    kind = type(line.op)
    if kind.__name__ in ("Gather", "ScatterAdd"):
        return True
    if getattr(line.op, "name", "") == "pow" and line.outputs[0].dtype.kind in "iu":
        return True  # negative powers
    return kind.__module__.rpartition(".")[2] in FALLIBLE


def weight(line: Line) -> int:
    return 1 + sum([x.nbytes for x in line.inputs if isinstance(x, np.ndarray)])


def printed(x: Any) -> Any:
    """Something that is equal for equal lines and constants."""
    if isinstance(x, Line):
        return x.op, [*map(printed, x.inputs)], [v.n for v in x.outputs]
    if isinstance(x, tuple):
        return tuple(map(printed, x))
    if isinstance(x, Var):
        return x.n, x.aval
    if isinstance(x, np.ndarray):
        return x.shape, x.dtype, x.tobytes()
    return (type(x), repr(x)) if isinstance(x, RAW) else id(x) if isinstance(x, Tensor) else x


def lasting(y: Any, outer: Any) -> Any:
    """A returned leaf that is the same after every run; refuses what is made anew each time."""
    if isinstance(y, np.ndarray):
        return own(y)
    if isinstance(y, set) and all(isinstance(v, PLAIN) for v in y):
        return set(y)
    if isinstance(y, PLAIN) and not (isinstance(y, FunctionType) and y.__closure__):
        return y
    if id(y) in outer or isinstance(y, frozenset | ModuleType):
        return y
    kind = type(y).__qualname__
    raise UnsupportedError(
        "a compiled function", f"it returns a {kind}, which a program does not make anew",
        fix="return arrays, tensors, numbers, and pytrees of them",
    )  # fmt: skip


def numbered(tracer: Any) -> None:
    """The numbers that are computed in Python, as one draw; the branches on them."""
    numbers = tracer.numbers
    for line in tracer.graph.lines:
        if any(type(x) is Num for x in line.inputs):
            line.inputs = tuple([tracer.number(x) if type(x) is Num else x for x in line.inputs])
    tracer.values, tracer.holds, first = numbers.function()
    if tracer.values is not None:
        tracer.drawn.append(first)
        for i, v in enumerate(numbers.used.values()):
            tracer.sources[v.n] = Source("live", len(tracer.draws), i)


def held(tracer: Any, graphs: list[Graph], constants: dict[int, Any]) -> dict[int, Any]:
    """Arrays that somebody else holds, and may write, are read again at every run.

    All others are constants.
    """
    for key in list(tracer.constants):
        entry = list(tracer.constants.pop(key))
        copy, v = entry[1], entry[2]
        if shared(entry, 0, 0):
            tracer.sources[v.n] = Source("array", owner=entry[0])
        else:
            constants[v.n] = copy
    for graph in graphs if constants else ():
        graph.inputs = [v for v in graph.inputs if v.n not in constants]
        for line in graph.lines:
            if any(isinstance(x, Var) and x.n in constants for x in line.inputs):
                line.inputs = tuple(
                    [constants.get(x.n, x) if isinstance(x, Var) else x for x in line.inputs]
                )
        graph.outputs = [constants.get(y.n, y) if isinstance(y, Var) else y for y in graph.outputs]
    return constants


def shared(holder: Any, name: Any, more: int = 0) -> bool:
    """Whether others hold the array holder[name], or what it is a view of: they may write it."""
    a = holder[name]
    if getrefcount(a) - more > STILL:
        return True
    base = a.base
    if base is None:
        return False
    if base.__class__ is not np.ndarray:
        return True
    del a
    pair = [base]
    del base
    return shared(pair, 0, 1)


def formed(
    sink: Sink,
    graph: Graph,
    sources: list[Source],
    leaves: list[Any],
    numbers: set[int],
    quiet: set[int],
    tensors: set[int],
) -> Sink:
    """A result is a tensor if it depends on one, as it would be uncompiled.

    What has no axes is a number of Python's if it is computed from such alone, an array if it is a
    window on one, and else a number of NumPy's.
    """
    kinds: dict[int, str] = {}
    for v, s in zip(graph.inputs, sources):
        x = leaves[s.place] if s.kind == "argument" else None
        tensor = s.kind in ("tensor", "gradient") or isinstance(x, Tensor)
        boxed = s.kind == "array" or isinstance(x, np.ndarray)
        kinds[v.n] = "tensor" if tensor else "array" if boxed else "scalar"
    kinds.update(dict.fromkeys(tensors, "tensor"))
    for line in graph.lines:
        ins = [kinds[x.n] for x in line.inputs if isinstance(x, Var)]
        ins += ["tensor" for x in line.inputs if id(x) in tensors]
        if type(line.op).__name__ == "Gather" and isinstance(line.inputs[0], Var):
            ins = ins[:1]  # an array that is indexed by tensors stays an array
        kind = "tensor" if "tensor" in ins else windowed(line, ins)
        if kind != "array" and ins and all(k == "number" for k in ins):
            kind = "number" if getattr(line.op, "name", None) in PLAIN_OPS else kind
        for v in line.outputs:
            kinds[v.n] = "number" if v.n in numbers else "tensor" if v.n in tensors else kind
    y = graph.outputs[sink.place]
    kind = kinds[y.n] if isinstance(y, Var) else "tensor" if id(y) in tensors else "scalar"
    form = kind if not y.shape else ""
    return Sink("result", sink.place, None, kind == "tensor", form, sink.place in quiet)


def windowed(line: Any, ins: list[str]) -> str:
    """Whether NumPy gives an array or a number where there are no axes."""
    name = type(line.op).__name__
    if name in ("Cast", "CastConstant"):
        return "array" if "array" in ins and not any(x.shape for x in line.inputs) else "scalar"
    if name == "GetItem":
        return "array" if any(i is Ellipsis for i in line.op.index) else "scalar"
    if getattr(line.op, "name", "") == "copy":
        return ins[0] if ins else "scalar"
    if name in ("Reshape", "Transpose", "Broadcast"):
        alone = isinstance(line.inputs[0], Var) and not line.inputs[0].shape
        return ins[0] if alone else "array"  # methods of NumPy's numbers give numbers
    return "array" if getattr(line.op, "name", "") == "where" else "scalar"
