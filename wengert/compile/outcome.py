"""The end of a recording: what is handed back, what is a constant, what is read at every run."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from .. import tree
from ..errors import UnsupportedError
from ..graph import PLAIN as PLAIN_OPS
from ..graph import Graph, Line, Var
from ..owned import own
from ..trace import Leaf, Tensor, getrefcount
from ..types import RAW, Aval
from .guards import PLAIN
from .live import Num

FALLIBLE = {"linalg", "matrix", "singular", "spectral", "law"}  # rooms of such operations
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


def strong(v: Any) -> Aval:
    a = Aval.of(v)
    return Aval(a.shape, a.dtype, a.weak)


def sampled(drawn: list[Any]) -> list[Any]:
    """Draws without their memory: the first number of an array stands for it."""
    return [d[:0] if isinstance(d, np.ndarray) and d.ndim else d for d in drawn]


def unchanged(arguments: Any, given: list[Any], structure: tree.Tree) -> None:
    """The containers among the arguments are as they were: a program changes arrays alone."""
    now, shape = tree.flatten(arguments, is_leaf=lambda x: hasattr(x, "named_parameters"))
    if shape != structure or any(a is not b for a, b in zip(now, given)):
        raise UnsupportedError(
            "a compiled function", "it changes a container among its arguments",
            fix="return a new one",
        )  # fmt: skip


def alive(node: Any) -> bool:
    """Whether a node leads to leaves still: no sweep has used it up."""
    return node.__class__ is Leaf or (node is not None and isinstance(node.parents, tuple))


def fallible(line: Line) -> bool:
    """Whether an operation may refuse its values: a singular matrix, a row that does not exist."""
    kind = type(line.op)
    if kind.__name__ in ("Gather", "ScatterAdd"):
        return True
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
            kinds[v.n] = "number" if v.n in numbers else kind
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
