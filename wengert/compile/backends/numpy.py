"""The backend that is always there: a graph as a straight line of NumPy calls into one arena.

`build` resolves everything ahead: which values are views, which may be written over, where the rest
lie, and what is called with which arrays. What is left is one Python function of prepared calls,

    add(x0, v1, v2)
    matmul(v2, v3, v4)
    add_reduce(v4, axes, dtype, r0, False)

so that a line costs little more than NumPy's own work. Operations that NumPy cannot do into given
memory call `impl` and copy; `Program.allocating` names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from ...errors import GENERATED, ShapeError
from ...graph import Graph, Line, Var
from ...ops.elementwise import Flat
from ...ops.index import AddAt, Write
from ...ops.linear import Broadcast, Cast, CastConstant
from ...primitive import Elementwise
from ...trace import OPS
from ...types import Aval
from ..locks import lock
from ..memory import ALIGN, Homes, Plan, blocks, plan
from ..passes.expand import hold_labels
from .calls import CALLS, Value, Writer, call_impl, call_pointwise, call_ufunc
from .layout import Layouts, compact

__all__ = ["Program", "build"]

REFUSALS = (ValueError, TypeError, IndexError)


class Program:
    """A compiled graph: `program(*arrays)` gives its outputs, in new arrays.

    Not two calls at once: they share the arena, and the second waits.

    Attributes:
        graph: what it computes.
        plan: where every intermediate value lies.
        allocating: the names of operations that make their result elsewhere and copy it.
        source: the calls, as Python.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> program = build(stage(lambda x: np.sum(np.tanh(x) * x), np.ones(3)).graph)
    >>> print(program.source)
    def run(x0, r0):
        f0(x0, v1)
        f1(v1, x0, v2)
        f2(v2, a0, d0, r0, False)
    >>> program(np.array([1.0, 0.0, -1.0]))
    [array(1.52318831)]
    """

    def __init__(
        self,
        graph: Graph,
        writer: Writer,
        arena: Any,
        made: Plan,
        templates: list[Any],
        donated: Mapping[int, int],
        labels: Sequence[tuple[int, int, int | None, Line]],
    ) -> None:
        self.graph, self.arena, self.plan = graph, arena, made
        self.allocating = tuple(writer.allocating)
        self.source = writer.source(len(graph.inputs), len(templates))
        self._lines = writer.line_of
        self._operands = writer.operands
        exec(compile(self.source, GENERATED, "exec"), writer.scope)
        self._scope = writer.scope
        self._run = writer.scope["run"]
        self._fresh = [new_like(t) for t in templates]
        made_now = [new() for new in self._fresh]
        self._forms = [(a.shape, a.dtype, a.strides) for a in made_now]
        self._types = [(v.aval.shape, v.aval.dtype) for v in graph.inputs]
        self._donated = sorted((j, i) for i, j in donated.items())
        self._labels = tuple(labels)
        self._lock = lock()

    def __repr__(self) -> str:
        lines = len(self.graph.lines)
        return f"Program({lines} lines, arena of {self.plan.size} bytes)"

    def __call__(self, *arrays: Any, out: Sequence[Any] | None = None) -> list[Any]:
        """The outputs, in new arrays or in donated inputs.

        With `out`, in these: arrays of the right types that overlap nothing else, but that the
        array of an output to which an input was donated may be that input. One of another layout
        than the program writes costs a copy.
        """
        xs = [
            x
            if x.__class__ is np.ndarray
            and x.shape == shape
            and x.dtype is dtype
            and x.flags.c_contiguous
            else admitted(i, x, shape, dtype)
            for i, (x, (shape, dtype)) in enumerate(zip(arrays, self._types, strict=True))
        ]
        if self._labels:
            hold_labels(self._labels, xs)
        if out is not None:
            results = [self._fitting(j, y) for j, y in enumerate(out)]
        elif self._donated:
            results = self._results(xs)
        else:
            results = [new() for new in self._fresh]
        with self._lock, np.errstate(all="ignore"):
            try:
                self._run(*xs, *results)
            except REFUSALS as error:
                raise self._refusal(error) from error
        if out is not None:
            for given, made in zip(out, results, strict=True):
                if given is not made:
                    given[...] = made
            return list(out)
        return results

    def _fitting(self, j: int, y: Any) -> Any:
        """The array to write output j to: y, or one of the layout that the program has seen."""
        shape, dtype, strides = self._forms[j]
        if y.shape != shape or y.dtype != dtype:
            raise ShapeError(
                f"the array for output {j} of a compiled program",
                f"it has to be {Aval(shape, dtype)}",
                operands=[("out", y, "")],
            )
        return y if y.strides == strides and y.flags.writeable else self._fresh[j]()

    def _results(self, xs: list[Any]) -> list[Any]:
        given = dict(self._donated)
        results = []
        for j, new in enumerate(self._fresh):
            if j in given and not xs[given[j]].flags.writeable:
                xs[given[j]] = xs[given[j]].copy()
            results.append(xs[given[j]] if j in given else new())
        return results

    def _refusal(self, error: Exception) -> Exception:
        """The house's own error, for the line of the graph whose call failed."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code is not self._run.__code__:
            trace = trace.tb_next
        if trace is None or trace.tb_lineno not in self._lines:
            return error
        k, frame = self._lines[trace.tb_lineno], trace.tb_frame
        xs = [self._seen(text, frame) for text in self._operands[k]]
        return self.graph.lines[k].op.refusal(tuple(xs), error)

    def _seen(self, text: str, frame: FrameType) -> Any:
        return frame.f_locals[text] if text in frame.f_locals else self._scope[text]


def new_like(template: Any) -> Any:
    """A function that makes an array of the layout of a model."""
    if template.flags.c_contiguous:
        return partial(np.empty, template.shape, template.dtype)
    dtype, strides = template.dtype, template.strides
    perm = sorted(range(template.ndim), key=lambda i: -abs(strides[i]))
    shape = tuple(template.shape[p] for p in perm)
    back = tuple(perm.index(i) for i in range(template.ndim))
    return lambda: np.empty(shape, dtype).transpose(back)


def admitted(i: int, x: Any, shape: Any, dtype: Any) -> Any:
    """An input as an array in row-major order."""
    a = np.asarray(x)
    if not a.dtype.isnative:
        a = a.astype(a.dtype.newbyteorder("="))
    if a.shape != shape or a.dtype != dtype:
        raise ShapeError(
            f"input {i} of a compiled program",
            f"it was compiled for {Aval(shape, dtype)}",
            operands=[("x", a, "")],
        )
    return np.ascontiguousarray(a) if a.ndim else a


# ------------------------------------------------------------------ building


def build(
    graph: Graph,
    donate: Mapping[int, int] | None = None,
    labels: Sequence[tuple[int, int, int | None, Line]] = (),
) -> Program:
    """A program of NumPy calls for a graph; the same numbers as `graph.evaluate`, to the bit.

    For inputs in row-major order: others are copied, and NumPy may then add up in another order.

    Args:
        graph: any graph that verifies.
        donate: input -> output of the same type that may take its memory, as an updated state does:
            the array that was given holds the output afterwards. It costs a copy only if the input
            is read after the output is known.
        labels: what `expand.label_checks` gave for the graph before it was expanded.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> program = build(stage(lambda w, g: w - g * 0.5, np.ones(2), np.ones(2)).graph, {0: 0})
    >>> w = np.array([1.0, 2.0])
    >>> program(w, np.ones(2))[0] is w, w
    (True, array([0.5, 1.5]))
    """
    donated = dict(donate or {})
    layouts = Layouts(graph)
    spread = spread_views(graph)
    views = layouts.views | spread
    writable = {k: over(graph, k, layouts) for k in range(len(graph.lines))}
    late = {
        graph.outputs[j].n
        for i, j in donated.items()
        if not at_once(graph, graph.inputs[i], graph.outputs[j], views, writable)
        or layouts.of[graph.outputs[j].n].strides != layouts.of[graph.inputs[i].n].strides
    }
    homes = blocks(graph, views, writable, late)
    made = plan(homes.blocks)
    raw = np.zeros(made.size + ALIGN, np.uint8)
    shift = -raw.ctypes.data % ALIGN
    arena = raw[shift : shift + made.size]
    w = Writer()
    values: dict[int, Value] = {
        v.n: Value(f"x{i}", layouts.of[v.n], False) for i, v in enumerate(graph.inputs)
    }
    windows = {graph.lines[k].outputs[0].n for k in views}
    results: dict[int, int] = {}
    templates: list[Any] = []
    for i, v in enumerate(graph.outputs):
        inside = isinstance(v, Var) and (v.n in values or v.n in homes.of or v.n in results)
        if isinstance(v, Var) and not inside and v.n not in windows:
            results[v.n] = i
            templates.append(layouts.of[v.n])
        else:
            aval = v.aval if isinstance(v, Var) else Aval.of(v)
            templates.append(layouts.rows(aval.shape, aval.dtype))
    for k, line in enumerate(graph.lines):
        w.begin(k)
        xs = [operand(w, values, x) for x in line.inputs]
        w.operands[k] = [x.text for x in xs]
        if k in views:
            values[line.outputs[0].n] = window(w, line, xs[0], k in spread)
            continue
        outs = []
        for v in line.outputs:
            outs.append(place(w, v, layouts, homes, made, arena, results))
            values[v.n] = outs[-1]
        emit(w, line, xs, outs)
    w.begin(None)
    copied = [
        (i, operand(w, values, v))
        for i, v in enumerate(graph.outputs)
        if not (isinstance(v, Var) and results.get(v.n) == i)
    ]
    for i, x in copied:
        if donated and not x.static:  # it may be an input that another output is written over
            x = Value(w.local(f"{x.text}.copy()"), x.array, False)
        w.last(f"copyto(r{i}, {x.text})")
    return Program(graph, w, arena, made, templates, donated, labels)


def at_once(graph: Graph, x: Var, y: Any, views: set[int], over: Mapping[int, Any]) -> bool:
    """Whether y may be written to the memory of x as soon as it is computed.

    Nothing reads x after that, and the line itself reads it, if at all, point by point.
    """
    if not isinstance(y, Var) or y.aval != x.aval:
        raise ValueError(f"{x!r} cannot be donated to {y!r}: the types differ")
    seen = {x.n}  # x and the views of it
    made = None
    for k, line in enumerate(graph.lines):
        reads = [i for i, v in enumerate(line.inputs) if isinstance(v, Var) and v.n in seen]
        if k in views and 0 in reads:
            seen.add(line.outputs[0].n)
        if made is not None and reads:
            return False
        if any(v is y for v in line.outputs):
            made = k
            if any(line.inputs[i] is not x or i not in over[k] for i in reads):
                return False
    return made is not None and not any(isinstance(v, Var) and v.n in seen for v in graph.outputs)


def is_pointwise(op: Any) -> bool:
    return isinstance(op, Elementwise | Flat)


def spread_views(graph: Graph) -> set[int]:
    """The broadcasts that need no copy: those that only elementwise lines read.

    Sums and products would add up in another order, and run more slowly.
    """
    plain: dict[int, int] = {}
    for k, line in enumerate(graph.lines):
        for x in line.inputs:
            if isinstance(x, Var) and x.n in plain and not is_pointwise(line.op):
                del plain[x.n]
        if type(line.op) is Broadcast:
            plain[line.outputs[0].n] = k
    for v in graph.outputs:
        if isinstance(v, Var):
            plain.pop(v.n, None)
    return set(plain.values())


def over(graph: Graph, k: int, layouts: Layouts) -> tuple[int, ...]:
    """The operands that line k may write over: of its own type and layout, read point by point."""
    line = graph.lines[k]
    op, out = line.op, line.outputs[0]
    if op is OPS["where"]:
        allowed: tuple[int, ...] = (2,)
    elif isinstance(getattr(op, "f", None), np.ufunc):
        allowed = tuple(range(len(line.inputs)))
    elif type(op) in (AddAt, Write) or type(op) in (Cast, CastConstant) or op is OPS["copy"]:
        allowed = (0,)
    else:
        return ()
    model = layouts.of[out.n]
    return tuple(
        i
        for i in allowed
        if isinstance(x := line.inputs[i], Var)
        and x.aval == out.aval
        and layouts.of[x.n].strides == model.strides
    )


def operand(w: Writer, values: dict[int, Value], x: Any) -> Value:
    if isinstance(x, Var):
        return values[x.n]
    return Value(w.name(x, "c"), x, True)


def place(
    w: Writer, v: Var, layouts: Layouts, homes: Homes, made: Plan, arena: Any, results: Any
) -> Value:
    """Where a value is written: in the arena, or in an array that the caller gets."""
    model = layouts.of[v.n]
    if v.n in results:
        return Value(f"r{results[v.n]}", model, False)
    offset = made.offsets[homes.of[v.n]]
    array = compact(model.shape, model.dtype, model.strides, arena.data, offset)
    return Value(w.name(array, f"v{v.n}", exact=True), array, True)


def window(w: Writer, line: Any, x: Value, spread: bool) -> Value:
    shape = line.outputs[0].aval.shape
    if spread:
        if x.static:
            return w.made(np.broadcast_to(x.array, shape), "b")
        text = w.local(f"broadcast_to({x.text}, {shape})")
        return Value(text, np.broadcast_to(x.array, shape), False)
    return w.window(line, x)


def emit(w: Writer, line: Any, xs: list[Value], outs: list[Value]) -> None:
    call = CALLS.get(type(line.op)) or CALLS.get(line.op)
    if call is None and is_pointwise(line.op):
        call = call_ufunc if isinstance(line.op.f, np.ufunc) else call_pointwise
    if call is None or not call(w, line, xs, outs):
        call_impl(w, line, xs, outs)
