"""Reverse mode: the tape behind `Tensor.backward()`, and the sweep that runs it backwards.

Recording an operation makes one node, which holds its rule, its parents and the residuals the rule
named. The sweep visits the nodes that the result depends on, youngest first: when a node's turn
comes every path into it has been summed, so each runs once. It frees a node's residuals as it
passes.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from typing import Any

import numpy as np

from .. import trace
from ..errors import (
    LeafWriteError,
    place,
    user_frame,
)
from ..ops.elementwise import mul, mul_mask
from ..ops.index import Write, ours
from ..ops.road import narrow, wide
from ..owned import own
from ..primitive import Linear, Rule
from ..structural import STRUCTURED, At, Parts, absorb, densify, plus
from ..trace import (
    SOLE,
    Leaf,
    Level,
    Node,
    Tensor,
    View,
    getframe,
    getrefcount,
    make,
    ndarray,
    recording,
    seq,
)
from ..types import BOOL, dtype_of, is_inexact, shape_of
from .conventions import chosen, guarded, kink_mask
from .severed import disconnected as disconnected
from .severed import freed as freed
from .store import store_into
from .wrapped import LIVE, Hooked, computed, moved, packed, pull_structured, supplied, unpacked

# ------------------------------------------------------------------ recording


class Tape(Level):
    """Reverse mode at one level. A tensor's `node` is its place on the tape."""

    __slots__ = ()
    cls = Tensor

    def process(self, op: Any, xs: Any) -> Any:
        values, nodes, mask = [], [], 0
        for i, x in enumerate(xs):
            if isinstance(x, Tensor) and x.level is self:
                values.append(x.data)
                if x.node is not None:
                    mask |= 1 << i
                    nodes.append(x.node)
            else:
                values.append(x)
        if mask and trace.MODES and not recording(self):
            values = [withdrawn(v) if mask >> i & 1 else v for i, v in enumerate(values)]
        y = supplied(op, values) if trace.MODES else None
        if y is None:
            y = op(*values)
        if trace.MODES:
            computed(op, xs, values, y)
        node = None
        if mask:
            if recording(self):
                node = self.record(op, xs, values, mask, nodes, y)
            else:
                self.broke("computed under no_grad", *nodes)
        if op.outputs > 1:
            return tuple(
                [make(v, self.pick(node, i, op.outputs, v), self) for i, v in enumerate(y)]
            )
        return make(y, node, self)

    def pick(self, node: Node | None, i: int, n: int, y: Any) -> Node | None:
        """The node of one output of an operation with several."""
        if node is None or not is_inexact(dtype_of(y)):
            return None
        return Node(seq(), PICK, (node,), (n, i), node.code, node.lasti)

    def record(self, op: Any, xs: Any, values: Any, mask: int, nodes: Any, y: Any) -> Node | None:
        if op is mul and any(dtype_of(v) == BOOL for v in values):
            op = mul_mask
        if op.outputs == 1 and not is_inexact(dtype_of(y)):
            if trace.MODES:
                kink_mask(op, values, y)  # may refuse: the order of equal numbers
            self.broke(f"{op!r} gives {dtype_of(y)}, which has no derivative", *nodes)
            return None
        rule = op.rule(mask)
        kinks = kink_mask(op, values, y) if trace.MODES else None
        if rule is not None and op.diagonal:
            shape, dtype = shape_of(y), dtype_of(y)
            if any(shape_of(values[i]) != shape or dtype_of(values[i]) != dtype for i in rule.live):
                rule = wide(op, mask)
        elif rule is not None and len(values) > 1 and mixed(values):
            rule = narrow(op, rule, len(values))
        if rule is None and kinks is None:
            self.broke(f"{op!r} has no derivative", *nodes)
            return None
        if kinks is not None:
            rule = guarded(rule, op)
            nodes = nodes if rule.live != (0,) else nodes[:1]
        assert rule is not None
        if len(nodes) != len(rule.live):  # an argument without a derivative, such as a label
            places = [i for i in range(len(values)) if mask >> i & 1]
            nodes = [n for i, n in zip(places, nodes) if i in rule.live]
        res = [self.residual(n, op, rule, xs, values, y, kinks) for n in rule.names]
        if trace.MODES:
            rule, res = packed(rule, res, self)
        frame = user_frame(getframe(2))
        return Node(seq(), rule, tuple(nodes), tuple(res), frame.f_code, frame.f_lasti)

    def residual(
        self, name: str, op: Any, rule: Rule, xs: Any, values: Any, y: Any, kinks: Any
    ) -> Any:
        if name == "y":
            return y
        if name == "kink":
            return kinks
        if name == "op":
            return op
        if name == "live":
            return rule.live
        if name == "cache":
            return op.cache()
        if name == "xs":
            return tuple([self.held(x, v) for x, v in zip(xs, values)])
        if name == "shapes":
            return tuple([shape_of(v) for v in values])
        names = op.argnames(len(values))
        if name in names:
            i = names.index(name)
            return self.held(xs[i], values[i])
        arg, _, what = name.rpartition("_")
        v = y if arg == "y" else values[names.index(arg)]
        if what == "shape":
            return shape_of(v)
        return v.dtype if what == "dtype" else (shape_of(v), dtype_of(v))

    def held(self, x: Any, value: Any) -> Any:
        """A residual that later writes by the user cannot reach."""
        if isinstance(x, Tensor) and x.level is self:
            return value
        if isinstance(value, Tensor):
            return make(
                value.data, value.node, value.level, Tensor if type(value) is View else type(value)
            )
        return own(value)

    def write(self, x: Tensor, path: tuple[Any, ...], v: Any) -> None:
        vnode = None
        if isinstance(v, Tensor) and v.level is self:
            vnode, v = v.node, v.data
        if vnode is not None and not is_inexact(x.data.dtype):
            self.broke(f"written into an array of {x.data.dtype}, which has no derivative", vnode)
            vnode = None
        node = x.node
        quiet = not recording(self)
        if type(node) is Leaf:
            if not quiet:
                raise leaf_write(x)
            vnode = None
        v_shape = shape_of(v)
        store_into(x, path, v)
        if trace.MODES:
            computed(Write(path), (x, v), (None, v), x.data)
        parents = tuple([n for n in (node, vnode) if n is not None])
        if parents and quiet and type(node) is not Leaf:
            trace.sever("a recorded value is written under no_grad")
        if parents and not quiet:
            mask = (node is not None) | (vnode is not None) << 1
            frame = user_frame(getframe(2))
            op = Write(path)
            rule = op.rule(mask)
            assert rule is not None
            rule.owned = pull_write
            res = tuple([op if n == "op" else v_shape for n in rule.names])
            x.node = Node(seq(), rule, parents, res, frame.f_code, frame.f_lasti)
            moved(node, x.node)


def mixed(values: Any) -> bool:
    """Whether numbers of several dtypes meet."""
    dtypes = [dtype_of(v) for v in values]
    return len({d for d in dtypes if d is not None and d.kind in "fc"}) > 1


def withdrawn(v: Any) -> Any:
    """A value that is used under `no_grad`."""
    if trace.recorder() is None:
        return v
    return v.detach() if isinstance(v, Tensor) else trace.cut(v)


class Pick(Linear):
    """One output of an operation with several."""


def pull_pick(g: Any, n: int, i: int) -> Parts:
    return Parts(tuple([g if k == i else None for k in range(n)]))


PICK = Rule(Pick, (0,), ("n", "i"), pull_pick)
PICK.keeps_mask = True


def leaf_write(x: Tensor) -> LeafWriteError:
    name = x.name or "x"
    return LeafWriteError(
        f"in-place write to the leaf `{name}`",
        "after it the leaf would be a result, and its gradient lost",
        operands=[(name, x)],
        fix="`with wg.no_grad():` for an optimizer's update; otherwise write to a copy: "
        f"{name} = {name}.copy()",
    )


trace.TAPE = Tape
trace.EAGER = EAGER = Tape(1)


# ------------------------------------------------------------------ the sweep


class _Sweep:
    """What a sweep leaves behind in the nodes it has freed: where it was asked for."""

    __slots__ = ("code", "lasti")

    def __init__(self) -> None:
        frame = user_frame(getframe(2))
        self.code, self.lasti = frame.f_code, frame.f_lasti

    def __iter__(self) -> Any:
        return iter(())

    def __str__(self) -> str:
        return place(self.code, self.lasti)


def lifted(node: Any, level: Level) -> list[Any]:
    """The residuals as tensors of this tape, so that the sweep itself is recorded."""
    rule = node.rule
    parents = dict(zip(rule.live, node.parents))
    by_name = {} if rule.op.variadic else {rule.op.args[i]: p for i, p in parents.items()}
    out: list[Any] = []
    for name, value in zip(rule.names, node.res if rule.__class__ is Rule else unpacked(node.res)):
        if name == "xs":
            out.append(
                tuple(
                    [make(v, parents[i], level) if i in parents else v for i, v in enumerate(value)]
                )
            )
            continue
        if name == "y" and rule.op.outputs > 1:
            n = rule.op.outputs
            out.append(
                tuple([make(v, level.pick(node, i, n, v), level) for i, v in enumerate(value)])  # type: ignore[attr-defined]
            )
            continue
        if name == "cache":  # a shortcut for plain arrays
            out.append(None)
            continue
        p = node if name == "y" else by_name.get(name)
        out.append(value if p is None else make(value, p, level))
    if rule.__class__ is Hooked:
        out.append(LIVE)
    return out


def sweep(
    root: Any, g: Any, keep: bool = False, level: Level | None = None, sink: Any = None
) -> None:
    """Pull the cotangent g of `root` back to the leaves.

    Args:
        root: the node to start from.
        g: its cotangent.
        keep: leave the residuals in place for another sweep.
        level: record the sweep itself on this tape (higher orders).
        sink: called with (leaf, cotangent) once each; the default adds it to the leaf's `grad`.
    """
    cotangents: dict[Any, Any] = {}  # of the nodes that wait in the heap
    heap: list[Any] = []
    node = root
    mark = None if keep else _Sweep()
    leaves: list[Any] = []  # apart from the heap, which is then empty while there is one path
    while True:
        rule = node.rule
        if rule is None:
            cotangents[node] = g
            leaves.append(node)
            g = None
        else:
            res = node.res
            if res is None:
                raise freed(node)
            parents = node.parents
            if level is not None:
                res = lifted(node, level)
            if not keep:
                node.res = None
                node.parents = mark
            if g.__class__ is ndarray and rule.owned is None:
                gs = rule.pull(g, *res)
            elif rule.owned is not None and getrefcount(g) <= SOLE and ours(g):
                gs = pull_owned(rule, g, res)
            elif g.__class__ in STRUCTURED:
                gs = pull_structured(rule, g, res)
            else:
                gs = rule.pull(g, *res)
            g = res = None
            if rule.single:
                (p,) = parents
                if not heap and (p.rule is not None or not leaves):  # a chain: it is next
                    g, node = gs, p
                    gs = parents = None
                    continue
                c = cotangents.get(p)
                if c is None:
                    cotangents[p] = gs
                    if p.rule is None:
                        leaves.append(p)
                    else:
                        heappush(heap, (p.seq, p))
                else:
                    del cotangents[p]
                    if gs.__class__ is At and getrefcount(c) <= SOLE:
                        cotangents[p] = absorb(c, gs)
                    else:
                        cotangents[p] = plus(c, gs)
                c = gs = None
            else:
                x = None
                for p, x in zip(parents, gs):
                    if x is None:  # a rule of the user's that has no gradient for this argument
                        continue
                    c = cotangents.get(p)
                    if c is None:
                        cotangents[p] = x
                        if p.rule is None:
                            leaves.append(p)
                        else:
                            heappush(heap, (p.seq, p))
                    else:
                        del cotangents[p]
                        cotangents[p] = plus(c, x)
                gs = x = c = None
        if not heap:
            break
        node = heappop(heap)[1]
        g = cotangents.pop(node)
    for leaf in leaves:
        if leaf.hooks is not None:
            return settle(leaves, cotangents, level, sink)
    if sink is None:
        with ADDING:
            for leaf in leaves:
                accumulate(leaf, densify(cotangents.pop(leaf)))
    else:
        add(leaves, cotangents, sink)
    if RETAINED:
        keep_retained()
    return None


SWEPT: list[Any] = []  # called with every tensor that `backward` starts from, before the sweep
RETAINED: dict[int, list[Any]] = {}  # what `retain_grad` will get, for each thread in a sweep
ADDING = threading.RLock()  # held while cotangents are added to the `grad` of leaves


def settle(leaves: list[Any], cotangents: Any, level: Level | None, sink: Any) -> None:
    """The end of a sweep: first the hooks of all leaves, then the sums; none if a hook raises.

    Several threads may sweep into one leaf: the sums are made one after the other.
    """
    hooked = [leaf for leaf in leaves if leaf.hooks is not None]
    for leaf in hooked:
        cotangents[leaf] = leaf.hooks.arrive(cotangents.pop(leaf), level is not None, sink is None)
    seen = {leaf: cotangents[leaf] for leaf in hooked if leaf.hooks.after}
    add(leaves, cotangents, sink)
    keep_retained()
    if sink is None:
        for leaf in hooked:
            leaf.hooks.done(seen.get(leaf))


def add(leaves: list[Any], cotangents: Any, sink: Any) -> None:
    if sink is not None:
        for leaf in leaves:
            sink(leaf, densify(cotangents.pop(leaf)))
        return
    with ADDING:
        for leaf in leaves:
            accumulate(leaf, densify(cotangents.pop(leaf)))


def keep_retained() -> None:
    """Hand out what `retain_grad` asked for, once the sweep has come through."""
    for hooks, g in RETAINED.pop(threading.get_ident(), ()):
        hooks.keep(g)


def pull_owned(rule: Any, g: Any, res: Any) -> Any:
    return rule.owned(g, rule.live, *res)


def pull_write(g: Any, live: tuple[int, ...], op: Any, b_shape: Any = None) -> Any:
    return op.pull_owned(g, live, b_shape)


def accumulate(leaf: Leaf, g: Any) -> None:
    g, c = paired(g), leaf.grad
    if trace.MODES:
        g = trace.cut(g)
    if c is None:
        leaf.grad = g
    elif isinstance(c, Tensor) and c.node is None and not isinstance(g, Tensor):
        c.data = c.data + g
    else:
        leaf.grad = c + g


def paired(g: Any) -> Any:
    """A cotangent as a gradient, or back: conjugate, so that a step against it goes downhill."""
    if trace.MODES and chosen("complex") == "jax":
        return g
    return np.conjugate(g) if getattr(g.dtype, "kind", "f") == "c" else g


def ones_like(y: Any) -> Any:
    s = np.empty(shape_of(y), y.dtype)
    s.fill(1)
    return s
