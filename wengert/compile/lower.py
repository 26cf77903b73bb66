"""A graph as a list of steps: fused kernels, matrix products, and operations of the host.

Steps are in an order in which each finds its operands ready; each says what storage it reads and
writes. Nothing is decided here about machines: the steps are data, and `run` is their slow meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import Graph, Line, Var, verify
from ..ops.contract import MatMul
from ..ops.embedding import AddRows
from ..ops.linear import Cast, Reshape
from ..types import DType
from .assemble import Part, parts, sources
from .fusion import REDUCE, Group, Load, Misfit, Supported, fusible, joined, kernel_of
from .kernel import Kernel, evaluate
from .views import View, is_window, settled, views

MOST = 160  # statements of a kernel

__all__ = ["Call", "Loops", "Product", "Scatter", "Step", "Steps", "lower", "run"]


@dataclass(slots=True)
class Loops:
    """A fused kernel; `args` are the storages that its operands name."""

    kernel: Kernel
    args: list[Any]
    lines: list[Line]
    writes: list[Any]

    def reads(self) -> list[Any]:
        taken = {s.operand.arg for s in self.kernel.body if s.operand is not None}
        return [a for i, a in enumerate(self.args) if i in taken]


@dataclass(slots=True)
class Product:
    """out = a @ b, matrices in the last two axes of the windows, batches before them."""

    a: View
    b: View
    out: Any
    dtype: DType
    lines: list[Line]

    @property
    def args(self) -> list[Any]:
        return [self.a.base, self.b.base, self.out]

    @property
    def writes(self) -> list[Any]:
        return [self.out]

    def reads(self) -> list[Any]:
        return [self.a.base, self.b.base]


@dataclass(slots=True)
class Scatter:
    """out[k] = sum of the rows i of `rows` with at[i] = k: `count` of them, `each` numbers long."""

    rows: View
    at: View
    out: Any
    dtype: DType
    kind: DType  # of the numbers of rows
    lines: list[Line]

    @property
    def args(self) -> list[Any]:
        return [self.rows.base, self.at.base, self.out]

    @property
    def writes(self) -> list[Any]:
        return [self.out]

    def reads(self) -> list[Any]:
        return [self.rows.base, self.at.base]

    @property
    def count(self) -> int:
        return math.prod(self.at.shape)

    @property
    def each(self) -> int:
        return int(self.out.size // self.out.shape[0])


@dataclass(slots=True)
class Call:
    """An operation that Python evaluates, on windows of storage."""

    op: Any
    inputs: list[Any]  # View, or a Python number
    outputs: list[Any]
    lines: list[Line]

    @property
    def args(self) -> list[Any]:
        return [*self.reads(), *self.outputs]

    @property
    def writes(self) -> list[Any]:
        return self.outputs

    def reads(self) -> list[Any]:
        return [x.base for x in self.inputs if isinstance(x, View)]


Step = Loops | Product | Scatter | Call


@dataclass(slots=True)
class Steps:
    """The steps of a graph, with the variables that are its inputs and outputs."""

    graph: Graph
    steps: list[Step]
    inputs: list[Var]
    outputs: list[Any]
    seen: dict[int, View] = field(default_factory=dict)

    def __str__(self) -> str:
        out = []
        for i, s in enumerate(self.steps):
            names = ", ".join(told(a) for a in s.args)
            if isinstance(s, Loops):
                out.append(f"[{i}] loops({names})\n{s.kernel}")
            elif isinstance(s, Product):
                out.append(f"[{i}] {told(s.out)} = {list(s.a.shape)} @ {list(s.b.shape)} ({names})")
            elif isinstance(s, Scatter):
                out.append(f"[{i}] {told(s.out)} = sums of rows ({names})")
            else:
                out.append(f"[{i}] call {s.op!r}({names})")
        return "\n".join(out)


def told(base: Any) -> str:
    return f"%{base.n}" if isinstance(base, Var) else f"const {base.dtype}{list(base.shape)}"


# ------------------------------------------------------------------ before the steps


def matrices(graph: Graph) -> Graph:
    """Products of one dtype and of at least two axes; a batch times one matrix is one product."""
    new = Graph()
    known: dict[int, Any] = {}
    for v in graph.inputs:
        known[v.n] = new.input(v.aval)
    for line in graph.lines:
        xs = [known[x.n] if isinstance(x, Var) else x for x in line.inputs]
        start = len(new.lines)
        if isinstance(line.op, MatMul):
            y = product(new, xs, line.outputs[0])
        else:
            y = new.emit(line.op, xs)
        for added in new.lines[start:]:
            added.where = line.where
        for v, w in zip(line.outputs, y if isinstance(y, tuple) else (y,)):
            known[v.n] = w
    new.outputs = [known[y.n] if isinstance(y, Var) else y for y in graph.outputs]
    return new


def product(new: Graph, xs: list[Any], out: Var) -> Any:
    pair = []
    for x in xs:
        if not isinstance(x, Var):
            x = np.asarray(x)
        if x.dtype != out.dtype:
            x = new.emit(Cast(out.dtype), [x]) if isinstance(x, Var) else x.astype(out.dtype)
        pair.append(x)
    a, b = pair
    emit = new.emit

    def shaped(x: Any, shape: tuple[int, ...]) -> Any:
        return emit(Reshape(shape), [x]) if isinstance(x, Var) else x.reshape(shape)

    if a.ndim == 1:
        a = shaped(a, (1, *a.shape))
    if b.ndim == 1:
        b = shaped(b, (*b.shape, 1))
    if b.ndim == 2 and a.ndim > 2:
        a = shaped(a, (math.prod(a.shape[:-1]), a.shape[-1]))
    y = emit(MatMul(), [a, b])
    return y if y.shape == out.shape else shaped(y, out.shape)


# ------------------------------------------------------------------ the steps


def lower(
    graph: Graph,
    supported: Supported,
    products: Sequence[str] = ("f",),
    alias: dict[int, int] | None = None,
) -> Steps:
    """The steps of a graph.

    Args:
        graph: what to compute.
        supported: (name of an elementwise operation, the dtypes it computes in) -> whether fused
            kernels can have it.
        products: letters of the dtypes of matrix products, `f` and `d`; others call NumPy.
        alias: outputs that will stand where an input stands: output -> input. They are written
            after the input has been read, where that is possible.
    """
    graph = settled(matrices(graph))
    verify(graph)
    plain: set[int] = set()
    alone: set[int] = set()
    while True:
        try:
            return attempt(graph, supported, products, alias or {}, plain, alone)
        except Retry as error:
            plain |= error.plain
            alone |= error.alone


class Retry(Exception):
    """A group became no kernel: its reductions are folded, or its lines stand alone."""

    def __init__(self, plain: set[int], alone: set[int]) -> None:
        self.plain, self.alone = plain, alone


class Maker:
    """One attempt: the groups, and what depends on what."""

    def __init__(self, graph: Graph, supported: Supported) -> None:
        self.graph, self.supported = graph, supported
        self.seen = views(graph)
        self.home: dict[int, int] = {}  # the step that computes a variable
        self.above: dict[int, tuple[Line, Any]] = {}  # window lines, by their variable
        self.needs: list[set[int]] = []  # of each step, the steps directly before it
        self.made: list[Any] = []
        self.plain: set[int] = set()  # lines whose reductions are folded
        self.place_of = {id(line): i for i, line in enumerate(graph.lines)}
        for line in graph.lines:
            if is_window(line.op) and isinstance(line.inputs[0], Var):
                self.above[line.outputs[0].n] = line, line.inputs[0]

    def source(self, x: Var) -> tuple[int | None, list[Any]]:
        """(the variable that was computed, the window operations from it to x)."""
        ops: list[Any] = []
        n = x.n
        while n in self.above:
            line, up = self.above[n]
            ops.append(line.op)
            n = up.n
        return n, ops[::-1]

    def before(self, line: Line) -> set[int]:
        """The steps that compute a line's operands."""
        out = set()
        for x in line.inputs:
            if isinstance(x, Var):
                root, _ = self.source(x)
                if root in self.home:
                    out.add(self.home[root])
        return out

    def reaches(self, start: Iterable[int], goal: int) -> bool:
        """Whether the step `goal` has to come before one of the steps `start`."""
        todo, done = list(start), set()
        while todo:
            s = todo.pop()
            if s == goal:
                return True
            if s not in done and s > -1:
                done.add(s)
                todo += self.needs[s]
        return False

    def place(self, line: Line, plain: bool, alone: bool) -> None:
        """Put a fusible line into the group of an operand, or into one of its own.

        The groups of its other operands are merged with that one, where they fit together.
        """
        if plain:
            self.plain.add(id(line))
        before = self.before(line)
        if not alone:
            roots = {self.source(x)[0] for x in line.inputs if isinstance(x, Var)}
            for g in sorted(before, reverse=True):
                group = self.made[g]
                if not isinstance(group, Group) or roots & {v.n for v, *_ in group.folds}:
                    continue
                if self.reaches(before - {g}, g):
                    continue
                twin = joined(group, line, self.source, self.seen, plain)
                if twin is None or len(twin.body) > MOST:
                    continue
                self.made[g] = twin
                self.home[line.outputs[0].n] = g
                self.needs[g] |= before - {g}
                for h in sorted(before - {g}, reverse=True):
                    self.merge(g, h)
                return
        group = joined(Group(len(self.made)), line, lambda x: (None, []), self.seen, plain or alone)
        assert group is not None, line
        self.home[line.outputs[0].n] = len(self.made)
        self.made.append(group)
        self.needs.append(before)

    def merge(self, g: int, h: int) -> bool:
        """Make one group of two, if nothing has to happen between them; h is then empty."""
        a, b = self.made[g], self.made[h]
        if not (isinstance(a, Group) and isinstance(b, Group)):
            return False
        if len(a.body) + len(b.body) > MOST:
            return False
        if self.reaches(self.needs[h] - {g}, g) or self.reaches(self.needs[g] - {h}, h):
            return False
        folded = {v.n for x in (a, b) for v, *_ in x.folds}
        lines = sorted((*a.lines, *b.lines), key=lambda line: self.place_of[id(line)])
        group: Group | None = Group(g)
        for line in lines:
            assert group is not None
            folded |= {v.n for v, *_ in group.folds}  # what was a sum of rows may be none here
            if any(self.source(x)[0] in folded for x in line.inputs if isinstance(x, Var)):
                return False
            known: Any = self.source if group.lines else (lambda x: (None, []))
            group = joined(group, line, known, self.seen, id(line) in self.plain)
            if group is None:
                return False
        self.made[g], self.made[h] = group, None
        for line in b.lines:
            self.home[line.outputs[0].n] = g
        self.needs[g] = (self.needs[g] | self.needs[h]) - {g, h}
        self.needs[h] = set()
        for needs in self.needs:
            if h in needs:
                needs.discard(h)
                needs.add(g)
        self.needs[g].discard(g)
        return True

    def merge_siblings(self) -> None:
        """Groups over one space that read the same storage become one, where they can."""
        found: dict[Any, list[int]] = {}
        for k, group in enumerate(self.made):
            if isinstance(group, Group) and group.reduced is None and not group.folds:
                sizes = tuple([group.size[a] for a in group.order if group.size[a] > 1])
                found.setdefault(sizes, []).append(k)
        for same in found.values():
            for i, g in enumerate(same):
                for h in same[i + 1 :]:
                    if self.made[g] is None:
                        break
                    if self.made[h] is not None and bases(self.made[g]) & bases(self.made[h]):
                        self.merge(g, h)

    def view(self, x: Any) -> Any:
        """The window of an operand; a number as it is."""
        if isinstance(x, Var):
            return self.seen[x.n]
        return window_of(self.seen, x) if np.ndim(x) else x

    def several(self, made: list[Part], line: Line) -> None:
        """Kernels that put one value together, in this order."""
        before = self.before(line)
        for part in made:
            self.needs.append(before | ({len(self.made) - 1} if part is not made[0] else set()))
            self.made.append(Loops(part.kernel, part.args, [line], [line.outputs[0]]))
        self.home[line.outputs[0].n] = len(self.made) - 1

    def readers(self) -> dict[int, set[int]]:
        """For each variable with storage the steps that read it."""
        out: dict[int, set[int]] = {}
        for line in self.graph.lines:
            if is_window(line.op):
                continue
            for x in line.inputs:
                if isinstance(x, Var):
                    root, _ = self.source(x)
                    if root is not None:
                        out.setdefault(root, set()).add(self.home[line.outputs[0].n])
        return out

    def postpone(self, alias: dict[int, int]) -> None:
        """The step that computes an output comes after all that read its input, if it can."""
        readers = self.readers() if alias else {}
        for j, i in alias.items():
            out, given = self.graph.outputs[j], self.graph.inputs[i]
            if not isinstance(out, Var) or out.n not in self.home:
                continue
            writer = self.home[out.n]
            for reader in readers.get(given.n, ()):
                if reader != writer and not self.reaches({reader}, writer):
                    self.needs[writer].add(reader)

    def single(self, step: Step, line: Line) -> None:
        for v in line.outputs:
            self.home[v.n] = len(self.made)
        self.needs.append(self.before(line))
        self.made.append(step)


def attempt(
    graph: Graph,
    supported: Supported,
    products: Sequence[str],
    alias: dict[int, int],
    plain: set[int],
    alone: set[int],
) -> Steps:
    maker = Maker(graph, supported)
    checked = set(sources(graph))
    for i, line in enumerate(graph.lines):
        op = line.op
        if is_window(op):
            continue
        if fusible(line, supported):
            maker.place(line, i in plain, i in alone)
        elif isinstance(op, MatMul) and line.outputs[0].dtype.char in products:
            a, b = (window_of(maker.seen, x) for x in line.inputs)
            out = line.outputs[0]
            if out.size and a.shape[-1]:
                maker.single(Product(a, b, out, out.dtype, [line]), line)
                continue
            maker.single(call(maker.seen, line), line)
        elif (made := parts(line, maker.view, checked)) is not None:
            maker.several(made, line)
        elif (scatter := scattered(maker, line, checked)) is not None:
            maker.single(scatter, line)
        else:
            maker.single(call(maker.seen, line), line)
    maker.merge_siblings()
    maker.postpone(alias)
    needed = uses(maker)
    steps: list[Step] = []
    index = {id(line): i for i, line in enumerate(graph.lines)}
    for at in ordered(maker.needs):
        made = maker.made[at]
        if made is None:
            continue
        if not isinstance(made, Group):
            steps.append(made)
            continue
        stored = [line.outputs[0] for line in made.lines if line.outputs[0].n in needed]
        try:
            kernel, args = kernel_of(made, stored)
        except Misfit as error:
            mine = {index[id(line)] for line in made.lines}
            sums = {i for i in mine if type(graph.lines[i].op) in REDUCE} - plain
            if not sums and mine <= alone:
                raise AssertionError(f"a line that is no kernel: {made.lines[0]!r}") from error
            raise Retry(sums, set() if sums else mine) from None
        steps.append(Loops(kernel, args, made.lines, stored))
    return Steps(graph, steps, graph.inputs, graph.outputs, maker.seen)


def scattered(maker: Maker, line: Line, checked: set[int]) -> Scatter | None:
    """A sum of rows by number as a step, if its operands lie in order."""
    if not isinstance(line.op, AddRows):
        return None
    a, b = line.inputs
    out = line.outputs[0]
    if not isinstance(b, Var) or b.n not in checked or out.dtype.char not in "fd" or not out.size:
        return None
    rows, at = maker.view(a), maker.view(b)
    if not (isinstance(rows, View) and rows.contiguous and at.contiguous):
        return None
    return Scatter(rows, at, out, out.dtype, b.dtype, [line]) if b.size else None


def bases(group: Group) -> set[int]:
    """The storages that a group reads, but for single numbers."""
    return {
        id(extra.view.base) for _, _, _, extra in group.body
        if isinstance(extra, Load) and math.prod(extra.view.shape) > 1
    }  # fmt: skip


def window_of(seen: dict[int, View], x: Any) -> View:
    if isinstance(x, Var):
        return seen[x.n]
    x = np.asarray(x, order="C")
    return View(x, 0, tuple([s // x.itemsize for s in x.strides]), x.shape)


def call(seen: dict[int, View], line: Line) -> Call:
    inputs = [window_of(seen, x) if isinstance(x, Var | np.ndarray) else x for x in line.inputs]
    return Call(line.op, inputs, list(line.outputs), [line])


def uses(maker: Maker) -> set[int]:
    """The variables that are read outside of the group that computes them."""
    out = {y.n for y in maker.graph.outputs if isinstance(y, Var)}
    for line in maker.graph.lines:
        if is_window(line.op):
            continue
        mine = maker.home[line.outputs[0].n]
        for x in line.inputs:
            if isinstance(x, Var):
                root, _ = maker.source(x)
                group = maker.made[mine]
                inside = isinstance(group, Group) and root in group.values
                if root is not None and (maker.home.get(root) != mine or not inside):
                    out.add(root)
    return out


def ordered(needs: list[set[int]]) -> list[int]:
    """The steps in an order that respects `needs`, as near as can be to the given one."""
    done: list[int] = []
    state = [0] * len(needs)

    def visit(s: int) -> None:
        stack = [(s, iter(sorted(needs[s])))]
        state[s] = 1
        while stack:
            at, rest = stack[-1]
            for t in rest:
                if state[t] == 0:
                    state[t] = 1
                    stack.append((t, iter(sorted(needs[t]))))
                    break
                assert state[t] == 2, "steps in a circle"
            else:
                state[at] = 2
                done.append(at)
                stack.pop()

    for s in range(len(needs)):
        if state[s] == 0:
            visit(s)
    return done


# ------------------------------------------------------------------ their meaning


def run(steps: Steps, inputs: Sequence[Any]) -> list[Any]:
    """The slow, obvious meaning of the steps: storages are one-dimensional arrays."""
    store: dict[int, Any] = {}
    for v, x in zip(steps.inputs, inputs, strict=True):
        store[id(v)] = np.ascontiguousarray(x, dtype=v.dtype).reshape(-1).copy()

    def storage(base: Any) -> Any:
        if not isinstance(base, Var):
            return np.ascontiguousarray(base).reshape(-1)
        if id(base) not in store:
            store[id(base)] = np.zeros(base.size, base.dtype)
        return store[id(base)]

    with np.errstate(all="ignore"):
        for s in steps.steps:
            if isinstance(s, Loops):
                evaluate(s.kernel, [storage(a) for a in s.args])
            elif isinstance(s, Scatter):
                y = storage(s.out).reshape(s.out.shape[0], s.each)
                y[...] = 0
                rows = seen_array(storage, s.rows).reshape(s.count, s.each)
                np.add.at(y, seen_array(storage, s.at).reshape(-1), rows)
            elif isinstance(s, Product):
                y = np.matmul(seen_array(storage, s.a), seen_array(storage, s.b))
                storage(s.out)[...] = y.reshape(-1)
            else:
                xs = [seen_array(storage, x) if isinstance(x, View) else x for x in s.inputs]
                y = s.op.impl(*xs)
                for v, part in zip(s.outputs, y if isinstance(y, tuple) else (y,)):
                    storage(v)[...] = np.asarray(part).reshape(-1)
    return [storage(y).reshape(y.shape) if isinstance(y, Var) else y for y in steps.outputs]


def seen_array(storage: Callable[[Any], Any], view: View) -> Any:
    a = storage(view.base)
    item = a.itemsize
    return np.lib.stride_tricks.as_strided(
        a[view.offset :] if view.offset else a, view.shape, [s * item for s in view.strides]
    )
