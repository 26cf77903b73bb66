"""Long loops that keep few states: one node for the whole loop, which runs parts of it again.

A loop of T steps that is recorded as it runs keeps every step. Here the steps are run and dropped;
the node keeps some of the states, and its pull walks back from the last step to the first, each
time going on from the nearest state that it has, recording one step, and sweeping that. With s
states kept and each step run at most r + 1 times, T = C(s + r, s) steps can be reversed, and no
schedule does better (Griewank & Walther, Algorithm 799: revolve, 2000). About log2 T states need
about log T runs.

The step is recorded again at the level it was recorded at, so tensors that the body closes over
are found as parents of its graph, and their gradients are those of the plain loop, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import LevelError, OptionError, ReplayError, user_frame
from ..owned import own
from ..primitive import Linear, Rule
from ..random import rewound, states
from ..structural import At, Parts, absorb, densify, fit, plus
from ..trace import HERE, Leaf, Level, Node, Tensor, getframe, no_grad, seq, stack
from ..types import shape_of
from .around import Surroundings
from .conventions import conventions
from .peel import BARE, attached, deepest, lanes_above, parts_of, stripped
from .tape import PICK, sweep
from .variable import mark, unmark, watched

__all__ = ["kept_states", "run", "split"]

Step = Callable[[int, list[Any]], "tuple[list[Any], list[Any]] | None"]


# ------------------------------------------------------------------ the schedule


def reach(states: int, repeats: int) -> int:
    """How many steps can be reversed: C(states + repeats, states)."""
    return math.comb(states + repeats, states) if repeats >= 0 else 0


def split(n: int, states: int) -> int:
    """Where to keep the next state in n steps, with so many states including the first.

    >>> split(10, 3)
    4
    """
    r = 0
    while reach(states, r) < n:
        r += 1
    return min(max(n - reach(states - 1, r), reach(states, r - 2), 1), n - 1)


def kept_states(n: int, states: int) -> list[int]:
    """Which states the forward run keeps.

    >>> kept_states(10, 3)
    [0, 4, 7]
    """
    at = [0]
    while len(at) < states and n - at[-1] > 1:
        at.append(at[-1] + split(n - at[-1], states - len(at) + 1))
    return at


def asked(what: str, checkpoint: Any) -> int | None:
    """How many states to keep: None for O(log T), which is what True means."""
    if checkpoint is True:
        return None
    if isinstance(checkpoint, int | np.integer) and checkpoint >= 1:
        return int(checkpoint)
    raise OptionError(
        f"{what}: checkpoint={checkpoint!r}",
        "how many states are kept, a number of at least 1",
        fix="checkpoint=True keeps about log2 of the number of steps",
    )


# ------------------------------------------------------------------ nodes at the border


class Loop:
    """A loop that was run and not recorded, as an operation of the tape."""

    variadic = True
    outputs = 1


class Border:
    """Where the graph of a part ends: what arrives here is collected, or led on once it is open."""

    __slots__ = ("g", "mine", "open")

    def __init__(self) -> None:
        self.g: Any = None
        self.open = False
        self.mine = False  # whether the buffer is nobody else's

    def add(self, g: Any) -> None:
        if self.g is None:
            self.g = g
        elif isinstance(g, At) and not isinstance(g.value, Tensor):
            c = self.g
            self.g = None
            if not self.mine:
                c = np.array(densify(c)) if not isinstance(densify(c), Tensor) else densify(c)
            self.g = absorb(c, g)
            self.mine = True
        else:
            self.g, self.mine = plus(self.g, g), False

    def take(self) -> Any:
        """What has arrived, or NOTHING. An open border that kept it would close a circle."""
        g, self.g = self.g, None
        return NOTHING if g is None else g


def collect(g: Any, border: Border) -> tuple[Any, ...]:
    if border.open:
        return (g,)
    border.add(g)
    return ()


def escaped(g: Any) -> Any:
    raise LevelError(
        "the gradient of a value that left a checkpointed loop",
        "the loop's steps are not kept, so a value that the body put aside has no graph",
        fix="return it from scan's body as y, or leave out checkpoint",
    )


GATE = Rule(Loop, (), ("border",), collect)
GATE.keeps_mask = True
ENTRY = Rule(Loop, (), (), escaped)


def deliver(g: Any) -> tuple[Any, ...]:
    return () if g is NOTHING else (g,)


NOTHING: Any = object()  # in place of a cotangent that did not come
PORT = Rule(Linear, (0,), (), deliver)
PORT.single = False
PORT.keeps_mask = True


def pull_loop(g: Any, record: Any, xs: Any) -> tuple[Any, ...]:
    result: tuple[Any, ...] = record.pull(g, None if xs[0] is None else xs[0].level)
    return result


def real(nodes: list[Any]) -> list[Any]:
    return [n for n in nodes if n is not BARE and n is not None]


def gate() -> Node:
    return border_node(GATE, Border())


def border_node(rule: Rule, *res: Any) -> Node:
    return Node(seq(), rule, (), res, border_node.__code__, 0)


def joint(live: list[tuple[Any, Any]]) -> Node:
    """A node above several results; its cotangents are named, as a recorded sweep asks for them."""
    nodes, gs = zip(*live)
    names = tuple([f"g{i}" for i in range(len(gs))])
    rule = Rule(Loop, (), names, lambda g, *gs: gs)
    node = border_node(rule, *gs)
    node.parents = nodes
    return node


def older(roots: Sequence[Any], start: int, gates: dict[Any, Any] | None = None) -> list[Any]:
    """The nodes before `start` that a graph hangs on; its edges to them are led to their gates."""
    found: dict[Any, None] = {}
    seen = set()
    todo = list(roots)
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.seq > start:
            found[node] = None
            continue
        parents = node.parents
        todo.extend(parents)
        if gates is not None and node.__class__ is Node and any(p in gates for p in parents):
            node.parents = tuple([gates.get(p, p) for p in parents])
    return list(found)


# ------------------------------------------------------------------ the run


class Kept:
    """One state that is kept: before which step, its values, and which of them are recorded."""

    __slots__ = ("k", "marks", "streams", "values")

    def __init__(self, k: int, values: list[Any], nodes: list[Any], streams: Any) -> None:
        self.k, self.values, self.streams = k, values, streams
        self.marks = [n if n is BARE or n is None else True for n in nodes]

    def nodes(self, entry: Any = None) -> list[Any]:
        """Where the recorded values begin: at one entry for all, or each at a gate of its own."""
        return [(entry or gate()) if m is True else m for m in self.marks]


class Plan:
    """Which states of a loop of n steps the forward run keeps."""

    def __init__(self, n: int, wanted: int | None) -> None:
        self.states = wanted or max(n.bit_length(), 1)
        self.at = frozenset(kept_states(n, self.states))


class Record:
    """What the node of a loop needs to walk back."""

    def __init__(
        self, step: Step, level: Level, streams: Any, first: Kept, early: list[list[Any]]
    ) -> None:
        self.step, self.level, self.streams = step, level, streams
        self.first, self.early = first, early
        self.kept = [first]
        self.closed: dict[Any, None] = {}  # what the body closes over, as nodes
        self.unmet: set[Any] = set()  # of those, what the steps of a sweep have not come to yet
        self.sources: list[Any] = []  # the nodes of the first state
        self.stack = list(stack())
        self.alive = [t for t in (*self.stack, level) if t.depth >= level.depth]
        self.quiet = getattr(HERE, "quiet", -1)
        self.conventions = getattr(HERE, "conventions", {})
        self.drawn = self.uniform = True
        self.watched: list[tuple[Tensor, Any]] = []

    def run(
        self, n: int | None, wanted: int | None, got: Any, start: int, pile: Any, reverse: bool
    ) -> tuple[list[Any], list[Any]]:
        """The rest of the loop, from its first recorded step; and the node for all of it."""
        self.pile, self.reverse = pile, reverse
        plan = None if n is None else Plan(n - self.first.k, wanted)
        rows = list(self.early)
        recorded: list[bool] = []
        entry: Any = None
        outside = list(self.sources)  # where a path through an entry leads, so that it is seen
        axes: Any = None
        stride = 1
        at = self.first
        while got is not None:
            values, nodes = stripped(got[0], self.level)
            ys, ys_nodes = stripped(got[1], self.level)
            border = older([*real(nodes), *real(ys_nodes)], start)
            fresh = [p for p in border if p is not entry and p not in self.closed]
            self.closed.update(dict.fromkeys(fresh))
            outside += fresh
            these = [isinstance(m, Node | Leaf) for m in ys_nodes]
            lanes = [lanes_above(y, self.level) for y in ys]
            self.uniform = self.uniform and axes in (None, lanes)
            axes = lanes
            recorded = these if not recorded else [a or b for a, b in zip(recorded, these)]
            if ys:
                rows.append(ys)
            at = Kept(at.k + 1, values, nodes, None)
            stride = self.keep(at, plan, wanted, stride)
            if at.k == n:
                break
            entry, start = border_node(ENTRY), seq()
            entry.parents = outside
            got = self.step(at.k, attached(at.values, self.level, at.nodes(entry)))
        if self.kept[-1] is at:
            self.kept.pop()
        self.last = at
        self.states = len(self.kept) + at.k.bit_length() if plan is None and not wanted else 0
        self.states = max(self.states, wanted or 0, len(self.kept), plan.states if plan else 0)
        self.drawn = not same(states(self.streams), self.first.streams)
        stacks = [pile(list(c)) for c in zip(*rows)]
        self.lanes = [m for y in stacks for m in lanes_above(y, self.level)]
        self.uniform = self.uniform and len(self.lanes) == len(recorded)
        return self.results(stacks, recorded)

    def keep(self, at: Kept, plan: Plan | None, wanted: int | None, stride: int) -> int:
        """Keep a state if it is one of the planned; without a plan every stride-th, thinned out."""
        done = at.k - self.first.k
        if plan is not None:
            if done in plan.at:
                at.streams = states(self.streams)
                self.kept.append(at)
            return stride
        if done % stride == 0:
            at.streams = states(self.streams)
            self.kept.append(at)
        most = 8 + 2 * done.bit_length() if wanted is None else (wanted + 1) // 2
        while len(self.kept) > most:
            stride *= 2
            self.kept = [c for c in self.kept if (c.k - self.first.k) % stride == 0]
        return stride

    def results(self, stacks: list[Any], recorded: list[bool]) -> tuple[list[Any], list[Any]]:
        frame = user_frame(getframe(1))
        code, lasti = frame.f_code, frame.f_lasti
        parents = [*self.sources, *self.closed]
        self.watched = [(t, p) for p in parents if (t := watched(p)) is not None]
        ports = tuple([Node(seq(), PORT, (p,), (), code, lasti) for p in parents])
        live = tuple(range(len(ports)))
        rule = Rule(Loop, live, ("loop", "xs"), pull_loop)
        rule.single = False
        node = Node(seq(), rule, ports, (self, (None,)), code, lasti)
        flags = [m is True for m in self.last.marks] + recorded
        if not self.uniform and len(self.lanes) != len(recorded):
            flags = [m is True for m in self.last.marks] + [any(recorded)] * len(self.lanes)
        count, self.places = 0, []
        for flag in flags:
            self.places.append(count if flag else None)
            count += flag
        nodes = [
            None if i is None else Node(seq(), PICK, (node,), (count, i), code, lasti)
            for i in self.places
        ]
        k = len(self.last.marks)
        marks = [m if m is not True else p for m, p in zip(self.last.marks, nodes)]
        rows = [BARE if p is None else p for p in nodes[k:]]
        return attached(self.last.values, self.level, marks), attached(stacks, self.level, rows)

    @contextmanager
    def again(self) -> Iterator[None]:
        """As it was when the loop ran: levels, conventions, and who is recording."""
        alive = [(t, t.alive) for t in self.alive]
        alive += [(t._ambient, t._ambient.alive) for t in self.alive if t._ambient is not None]
        for t, _ in alive:
            t.alive = True
        before, HERE.stack = stack(), list(self.stack)
        marks = [mark(t, p) for t, p in self.watched]  # tapes may have let go of them
        try:
            now = getattr(HERE, "quiet", -1), getattr(HERE, "conventions", {})
            if now == (self.quiet, self.conventions):  # the fast road stays open
                yield
            else:
                with self.modes():
                    yield
        finally:
            for p in marks:
                unmark(p)
            HERE.stack = before
            for t, was in alive:
                t.alive = was

    @contextmanager
    def modes(self) -> Iterator[None]:
        quiet = no_grad()
        quiet._set(self.quiet)
        try:
            with conventions():
                HERE.conventions = self.conventions
                yield
        finally:
            quiet.__exit__()

    @contextmanager
    def streams_of(self, kept: Kept) -> Iterator[None]:
        if not self.drawn:
            yield
            return
        with rewound(kept.streams, self.streams):
            yield

    def one(self, k: int, values: list[Any], nodes: list[Any]) -> Any:
        """One step from stripped values: (values, nodes, y's values, y's nodes)."""
        got = self.step(k, attached(values, self.level, nodes))
        if got is None:
            raise different(k)
        return *stripped(got[0], self.level), *stripped(got[1], self.level)

    def advance(self, kept: Kept, k: int) -> Kept:
        """The state before step k, from an earlier one. The streams stand as they do there."""
        entry = border_node(ENTRY)
        for i in range(kept.k, k):
            values, nodes, _, _ = self.one(i, kept.values, kept.nodes(entry))
            kept = Kept(i + 1, values, nodes, None)
        if kept.k and self.drawn and kept.streams is None:
            kept.streams = states(self.streams)
        return kept

    # ---- backwards
    def meet(self, nodes: list[Any], start: int) -> None:
        """Note what a step that was run again hangs on."""
        if self.unmet:
            self.unmet -= {*older(real(nodes), start)}

    def pull(self, g: Any, level: Level | None) -> tuple[Any, ...]:
        """The cotangents of the first state and of what is closed over, or NOTHING."""
        g = list(g.values if isinstance(g, Parts) else g)
        gs = [None if i is None else g[i] for i in self.places]
        below = [*self.last.values, *self.first.values, *[v for v in g if v is not None]]
        self.unmet = set(self.closed).difference(self.sources)
        with self.again():
            if level is not None or not self.uniform or deepest(below) is not None:
                borders = self.whole(gs, level)
            else:
                borders = self.walk(gs)
        if self.unmet and self.first.k < self.last.k:
            raise different(None)  # a tensor that was recorded then is a constant now
        return tuple([b.take() for b in borders])

    def whole(self, gs: list[Any], level: Level | None) -> list[Border]:
        """All steps at once: for a sweep that is itself recorded."""
        gates = {p: gate() for p in self.closed}
        nodes = self.first.nodes()
        mine = [n for n in nodes if isinstance(n, Node)]
        start = seq()
        rows = list(self.early)
        with self.streams_of(self.first):
            leaves = attached(self.first.values, self.level, nodes)
            for k in range(self.first.k, self.last.k):
                got = self.step(k, leaves)
                if got is None:
                    raise different(k)
                leaves, ys = got
                if ys:
                    rows.append(ys)
        values, out = stripped(leaves, self.level)
        check(values, self.last)
        out += stripped([self.pile(list(c)) for c in zip(*rows)], self.level)[1]
        self.meet(out, start)
        self.sweep_from(out, gs, start, gates, mine, level)
        every = [*mine, *gates.values()]
        borders = [n.res[0] for n in every]
        if level is not None:  # the graph of the recorded sweep goes on through the gates
            for n, p in zip(every, [*self.sources, *gates], strict=True):
                n.parents, n.res[0].open = (p,), True
        return borders

    def sweep_from(
        self, nodes: list[Any], gs: list[Any], start: int, gates: Any, mine: Any, level: Any = None
    ) -> None:
        live = [
            (gates.get(n, n), g)
            for n, g in zip(nodes, gs, strict=True)
            if n is not BARE and n is not None and g is not None
        ]
        known = {*mine, *gates, *gates.values()}
        if any(n not in known for n in older([n for n, _ in live], start, gates)):
            raise different(None)
        with np.errstate(all="ignore"):
            if len(live) == 1:
                sweep(*live[0], True, level)
            elif live:
                sweep(joint(live), None, True, level)

    def walk(self, gs: list[Any]) -> list[Border]:
        """From the last step to the first, with the states that are kept."""
        n = len(self.last.marks)
        g_state, g_rows = gs[:n], gs[n:]
        gates = {p: gate() for p in self.closed}
        kept, above = list(self.kept), self.last
        found: list[Border] = []
        while above.k > self.first.k:
            hi, at = above.k, kept[-1]
            with self.streams_of(at):
                free = self.states - len(kept)
                while hi - at.k > 1 and free > 0:
                    at = self.advance(at, at.k + split(hi - at.k, free + 1))
                    kept.append(at)
                    free -= 1
                at = self.advance(at, hi - 1)
                found = self.back(at, above, g_state, g_rows, gates)
            it = iter(found)
            g_state = [next(it).g if m is True else None for m in at.marks]
            above = at
            if kept[-1].k == at.k:
                kept.pop()
        return [*found, *[n.res[0] for n in gates.values()]]

    def back(self, at: Kept, above: Kept, g_state: Any, g_rows: Any, gates: Any) -> list[Border]:
        """What arrives at the state before one step, given the cotangents after it."""
        nodes = at.nodes()
        mine = [n for n in nodes if isinstance(n, Node)]
        start = seq()
        values, out, ys, ys_out = self.one(at.k, at.values, nodes)
        check(values, above)
        self.meet([*out, *ys_out], start)
        row = self.last.k - 1 - at.k if self.reverse else at.k
        slices: list[Any] = []
        for y in ys:
            for v, lanes in zip(parts_of(y, self.level), lanes_above(y, self.level)):
                i = len(slices)
                g = None if g_rows[i] is None else densify(g_rows[i])
                if g is not None:
                    g = g[(*(slice(None),) * self.lanes[i], row)]
                    g = g if lanes == self.lanes[i] else fit(g, shape_of(v), None)
                slices.append(g)
        self.sweep_from([*out, *ys_out], [*g_state, *slices], start, gates, mine)
        return [n.res[0] for n in mine]


def check(values: list[Any], want: Kept) -> None:
    """A state that was computed again is the one that was there, to the bit."""
    for a, b in zip(values, want.values):
        a, b = plain(a), plain(b)
        arrays = isinstance(a, np.ndarray | np.generic) and isinstance(b, np.ndarray | np.generic)
        if arrays and not (a is b or np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")):
            raise different(want.k)


def plain(x: Any) -> Any:
    while isinstance(x, Tensor):
        x = x.data
    return x


def different(k: int | None) -> ReplayError:
    where = "" if k is None else f" after {k} steps"
    return ReplayError(
        "the reverse sweep of a checkpointed loop",
        f"run again, the loop came to another state{where}",
        fix="something that the body reads has changed since (a parameter, an array, a counter): "
        "take the gradient before the change, or leave out checkpoint",
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return all(map(same, a, b))
    return bool(np.array_equal(a, b))


def run(
    what: str,
    body: Any,
    step: Step,
    n: int | None,
    first: list[Any],
    checkpoint: Any,
    pile: Callable[[list[Any]], Any],
    reverse: bool = False,
) -> tuple[list[Any], list[Any]]:
    """(the last state, the stacked outputs) of a loop, with few states kept.

    Args:
        what: the call, for messages.
        body: the user's function, in which random streams are looked for.
        step: (number, state) -> (state, outputs), or None when the loop is over.
        n: how many steps; None if nobody knows.
        first: the first state.
        checkpoint: True, or how many states are kept.
        pile, reverse: how the outputs of all steps are stacked.
    """
    wanted = asked(what, checkpoint)
    leaves, k = [own(x) for x in first], 0
    early: list[list[Any]] = []
    streams = Surroundings(body).streams
    while n is None or k < n:  # until something is recorded
        before, start, stood = leaves, seq(), states(streams)
        got = step(k, leaves)
        if got is None:
            break
        level = deepest([*got[0], *got[1]])
        k += 1
        if level is not None:
            values, sources = stripped(before, level)
            record = Record(step, level, streams, Kept(k - 1, values, sources, stood), early)
            record.sources = [s for s in sources if s is not BARE and s is not None]
            return record.run(n, wanted, got, start, pile, reverse)
        leaves = got[0]
        if got[1]:
            early.append(got[1])
    return leaves, [pile(list(c)) for c in zip(*early)]
