"""Hooks on the backward pass: functions that see, and may replace, the gradients that pass.

The order is total, and that of PyTorch's autograd notes ("Backward Hooks execution"):

1.  Nodes run youngest first, each once, when every path into it has been summed.
2.  At a node: the hooks of its tensor in the order of their registration; `retain_grad`, last of
    them whenever it was asked for; the capture of a gradient that was asked for as an `input`; the
    prehooks of the node; the node itself; the hooks of the node.
3.  Leaves come last, when no node is left: for all of them the hooks of the tensor and the prehooks
    of the node; then all sums into `.grad`; then for all of them the hooks after the accumulation
    and those of the node. (In PyTorch a leaf comes as soon as its own sum is complete.) So a hook
    that raises before the sums leaves every `.grad`, retained ones too, as it was.

A hook of a tensor runs when the gradient of the tensor is computed, hooks of a node only when the
node is executed, hooks after the accumulation only when something was accumulated. What a hook
returns, unless None, takes the gradient's place. Hooks get unrecorded tensors and run with
recording switched off, except under `create_graph`, where both are recorded. They belong to the
value that the tensor had when they were registered: a later write in place moves `retain_grad`
alone to the new value. When a sweep frees a node its hooks go too, so that a hook which refers to
its own tensor makes no lasting cycle; a hook of a leaf that does is one until it is removed.

Nothing is paid where there are no hooks: a hooked node has another rule, and a leaf's hooks are
looked for at the end of the sweep.

The hooks on what a node keeps are in `residuals`, and are found here too: a packer is pushed for a
thread by `with packing(packer):`, where `packer.pack(rule, name, value)` gives a `Packed` (or the
value) and `Packed.unpack()` gives the value back in the sweep.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from threading import get_ident
from typing import Any

import numpy as np

from .. import trace
from ..errors import ArgumentError, LeafWriteError, LevelError, ShapeError
from ..primitive import Rule
from ..structural import Parts, cast, densify
from ..trace import HERE, Leaf, Level, Node, Tensor, decay, fresh, looked, make, method, modes
from ..types import RAW, shape_of
from .residuals import Packed, packing, saved_tensors_hooks
from .tape import ADDING, RETAINED, Pick, Tape, disconnected, paired
from .wrapped import LIVE, Hooked, through

__all__ = ["Handle", "Packed", "packing", "saved_tensors_hooks"]

_ids = count().__next__


class Handle:
    """What registering a hook returns: `remove()` takes the hook away, and so does `with handle:`.

    It does not keep the graph alive.
    """

    __module__ = "wengert"
    __slots__ = ("_hooks", "_id", "_table")

    def __init__(self, hooks: Hooks, table: str, f: Callable[..., Any]) -> None:
        if not callable(f):
            raise ArgumentError("register_hook(f)", "a hook is a function", operands=[("f", f)])
        self._hooks, self._table, self._id = weakref.ref(hooks), table, _ids()
        getattr(hooks, table)[self._id] = f

    def remove(self) -> None:
        """Take the hook away; once more does nothing."""
        hooks = self._hooks()
        if hooks is not None:
            getattr(hooks, self._table).pop(self._id, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Hooks:
    """The hooks of one place on the tape: by registration, in four tables."""

    __slots__ = (
        "__weakref__", "accumulated", "after", "before", "grad", "level", "place",
        "retains", "rule", "tensor",
    )  # fmt: skip

    def __init__(self, place: Any, level: Level) -> None:
        self.place, self.level = weakref.ref(place), level
        self.rule: Any = None  # of a node: the one inside
        self.retains = False
        self.grad: Any = None
        self.release()

    def release(self) -> None:
        self.tensor: dict[int, Any] = {}
        self.before: dict[int, Any] = {}
        self.after: dict[int, Any] = {}
        self.accumulated: dict[int, Any] = {}

    # ---- the stages of a node, and of a leaf
    def arrive(self, g: Any, live: bool, whole: bool = False) -> Any:
        """The hooks of the tensor, and of a leaf that accumulates the prehooks of its node."""
        before = whole and self.before and type(self.place()) is Leaf
        if not self.tensor and not self.retains and not before:
            return g
        seen = given = self.shown(g)
        for f in list(self.tensor.values()):
            seen = self.asked(f, (seen,), live, seen)
        if self.retains:
            RETAINED.setdefault(get_ident(), []).append((self, seen))
        if before:
            (seen,) = self.prehooks((seen,), live)
        return g if seen is given else self.taken(seen)

    def execute(self, g: Any, res: Any) -> Any:
        """The prehooks of the node, the node itself, and its hooks."""
        rule, live = self.rule, bool(res) and res[-1] is LIVE
        res = res[:-1] if live else res
        if not self.before and not self.after:
            return through(rule, g, res)
        outputs = given = self.outputs(g)
        if self.before:
            outputs = self.prehooks(outputs, live)
        if any(a is not b for a, b in zip(outputs, given)):
            new = [x if a is b else self.taken(a) for a, b, x in zip(outputs, given, pieces(g))]
            g = Parts(tuple(new)) if isinstance(g, Parts) else new[0]
        gs = through(rule, g, res)
        if not self.after:
            return gs
        inputs = [gs] if rule.single else list(gs)
        places = slots(rule)
        seen = tuple(
            [None if i is None or inputs[i] is None else self.shown(inputs[i]) for i in places]
        )
        final = self.posthooks(seen, outputs, live)
        for i, a, b in zip(places, final, seen):
            if i is not None and a is not b:
                inputs[i] = self.taken(a)
        return inputs[0] if rule.single else tuple(inputs)

    def prehooks(self, outputs: tuple[Any, ...], live: bool) -> tuple[Any, ...]:
        for f in list(self.before.values()):
            outputs = self.several(f, (outputs,), live, outputs)
        return outputs

    def posthooks(self, inputs: Any, outputs: Any, live: bool) -> tuple[Any, ...]:
        for f in list(self.after.values()):
            inputs = self.several(f, (inputs, outputs), live, inputs)
        return tuple(inputs)

    def done(self, g: Any) -> None:
        """After the accumulation of g into a leaf."""
        owner = owner_of(self.place())
        for f in list(self.accumulated.values()):
            if owner is not None:
                run(f, (owner,), self.level, False)
        for f in list(self.after.values()):
            run(f, ((), (self.shown(g),)), self.level, False)

    # ---- retain_grad
    def keep(self, g: Tensor) -> None:
        with ADDING:
            self.grad = g if self.grad is None else self.grad + g

    def move(self, new: Any) -> None:
        if self.retains:
            other = at_node(new, self.level)
            other.retains, other.grad = True, self.grad
            self.retains, self.grad = False, None

    # ---- between the sweep and the user
    def shown(self, g: Any) -> Any:
        """A cotangent as the user sees it: a dense tensor, a gradient as `.grad` would be."""
        g = densify(g)
        if self.level.depth & 1:
            g = paired(g)
        return g if isinstance(g, Tensor) else make(g, None, trace.EAGER)

    def taken(self, t: Any) -> Any:
        """And back."""
        g = t.data if t.level is trace.EAGER and t.node is None else t
        return paired(g) if self.level.depth & 1 else g

    def outputs(self, g: Any) -> tuple[Any, ...]:
        return tuple([None if x is None else self.shown(x) for x in pieces(g)])

    def asked(self, f: Callable[..., Any], args: tuple[Any, ...], live: bool, old: Any) -> Any:
        """What f makes of the gradient `old`."""
        new = run(f, args, self.level, live)
        return old if new is None else self.fitted(f, new, old, live)

    def several(self, f: Callable[..., Any], args: Any, live: bool, old: Any) -> tuple[Any, ...]:
        new = run(f, args, self.level, live)
        if new is None:
            return old
        new = new if isinstance(new, tuple | list) else (new,)
        if len(new) != len(old):
            raise ArgumentError(
                f"{named(f)}(...)",
                f"a hook returns one gradient for each it was given, {len(old)}, not {len(new)}",
            )
        return tuple(
            [b if a is None or b is None else self.fitted(f, a, b, live) for a, b in zip(new, old)]
        )

    def fitted(self, f: Callable[..., Any], new: Any, old: Any, live: bool) -> Any:
        new = decay(looked(new))
        if not isinstance(new, Tensor):
            if not isinstance(new, RAW):
                raise ArgumentError(
                    f"{named(f)}(gradient)", "a hook returns a gradient or None",
                    operands=[("returned", new)],
                )  # fmt: skip
            new = make(np.asarray(new), None, trace.EAGER)
        if shape_of(new) != shape_of(old):
            raise ShapeError(
                f"{named(f)}(gradient)", "a hook returns a gradient of the same shape",
                operands=[("given", old), ("returned", new)],
            )  # fmt: skip
        if not live and new.level is self.level and new.node is not None:
            new = make(new.data, None, new.level)
        if not live and isinstance(new.data, Tensor) and new.level is self.level:
            new = new.data  # a value of the level below, as the sweep has them
        if new.dtype != old.dtype:
            new = cast(new, old.dtype)
        return new


def named(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def pieces(g: Any) -> tuple[Any, ...]:
    return g.values if isinstance(g, Parts) else (g,)


@contextmanager
def quiet() -> Iterator[None]:
    """The eager tape alone does not record: a hook is in no graph unless there is to be one."""
    old = getattr(HERE, "quiet", -1)
    HERE.quiet = max(old, trace.EAGER.depth)
    modes(1)
    try:
        yield
    finally:
        HERE.quiet = old
        modes(-1)


def run(f: Callable[..., Any], args: tuple[Any, ...], level: Level, live: bool) -> Any:
    """Call a hook. Sweeps that it starts keep their gradients apart from those of this one."""
    pending = RETAINED.pop(get_ident(), None)
    with nullcontext() if live or level is not trace.EAGER else quiet():
        try:
            out = f(*args)
        except BaseException:
            drop_retained()
            raise
    drop_retained()
    if pending is not None:
        RETAINED[get_ident()] = pending
    return out


def drop_retained() -> None:
    """The gradients of a sweep that has not come through are not handed out."""
    RETAINED.pop(get_ident(), None)


# ------------------------------------------------------------------ where hooks hang


def at_node(node: Node, level: Level) -> Hooks:
    trace.sever("a hook waits for a gradient")
    with ADDING:
        if node.rule.__class__ is not Hooked:
            node.rule = hooked(node.rule, Hooks(node, level))
        return node.rule.hooks


def hooked(rule: Rule, hooks: Hooks) -> Hooked:
    def pull(g: Any, *res: Any) -> Any:
        node = hooks.place()
        try:
            return hooks.execute(hooks.arrive(g, bool(res) and res[-1] is LIVE), res)
        finally:
            if node is not None and node.res is None:  # freed: it will not run again
                hooks.release()

    hooks.rule = rule
    return Hooked(rule, pull, hooks)


def at_leaf(leaf: Leaf, owner: Tensor | None = None) -> Hooks:
    with ADDING:
        if leaf.hooks is None:
            leaf.hooks = Hooks(leaf, leaf.level)
        if owner is not None:
            leaf.owner = weakref.ref(owner)
        return leaf.hooks


def owner_of(leaf: Any) -> Tensor | None:
    """The tensor whose leaf this is, if it is known and still there."""
    owner = getattr(leaf, "owner", None)
    return None if owner is None else owner()


def at_tensor(what: str, t: Tensor) -> Hooks:
    fresh(t)
    if not isinstance(t.level, Tape):
        raise LevelError(
            f"{what} of a value inside a {type(t.level).__name__.lower()}",
            "its gradient belongs to the lanes or directions of the transform",
            fix="register it outside of the transform, on what goes in or comes out",
        )
    if t.node is None:
        raise disconnected(what, "the tensor", t.level)
    return at_leaf(t.node, t) if type(t.node) is Leaf else at_node(t.node, t.level)


@method("register_hook")
def register_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> Handle:
    """Call hook(gradient) whenever the gradient of this tensor is computed.

    What it returns, unless None, takes the gradient's place.

    Raises:
        DisconnectedError: the tensor is not recorded.

    >>> import numpy as np, wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * x
    >>> handle = y.register_hook(lambda g: 10.0 * g)
    >>> np.sum(y).backward()
    >>> x.grad
    tensor([20., 40.])
    """
    return Handle(at_tensor("register_hook()", self), "tensor", hook)


@method("register_post_accumulate_grad_hook")
def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> Handle:
    """Call hook(tensor) whenever backward() has added to the `grad` of this leaf.

    An optimizer's step in here needs no gradient to be kept:

    >>> import numpy as np, wengert as wg
    >>> w = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> def step(w):
    ...     w -= 0.1 * w.grad
    ...     w.grad = None
    >>> handle = w.register_post_accumulate_grad_hook(step)
    >>> np.sum(w * w).backward()
    >>> w
    tensor([0.8, 1.6], requires_grad=True)
    """
    hooks = at_tensor("register_post_accumulate_grad_hook()", self)
    if type(self.node) is not Leaf:
        raise LeafWriteError(
            "register_post_accumulate_grad_hook()", "only a leaf accumulates a gradient",
            operands=[("tensor", self)], fix="register_hook() of a result",
        )  # fmt: skip
    return Handle(hooks, "accumulated", hook)


@method("retain_grad")
def retain_grad(self: Tensor) -> None:
    """Keep the gradient of this result in its `grad`, as leaves do.

    >>> import numpy as np, wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * x
    >>> y.retain_grad()
    >>> np.sum(y * y).backward()
    >>> y.grad
    tensor([2., 8.])
    """
    hooks = at_tensor("retain_grad()", self)
    if type(self.node) is not Leaf:
        hooks.retains = True


def retaining(t: Tensor) -> Hooks | None:
    """The hooks of a result that retains its gradient."""
    rule = getattr(fresh(t).node, "rule", None) if isinstance(t.level, Tape) else None
    return rule.hooks if rule.__class__ is Hooked and rule.hooks.retains else None


Tensor.retains_grad = property(  # type: ignore[attr-defined]
    lambda t: retaining(t) is not None, doc="Whether a result keeps its gradient in `grad`."
)


# ------------------------------------------------------------------ the graph, to look at


class AccumulateGrad:
    """A leaf as a node: where a sweep ends and adds to `grad`."""

    __slots__ = ("leaf",)
    next_functions: tuple[Any, ...] = ()

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf

    def name(self) -> str:
        return "AccumulateGrad"

    @property
    def variable(self) -> Tensor | None:
        """The tensor that requires the gradient, if it is still there; None in a transform."""
        return owner_of(self.leaf)

    def register_hook(self, f: Callable[..., Any]) -> Handle:
        """Call f((), (gradient,)) after the accumulation."""
        return Handle(at_leaf(self.leaf), "after", f)

    def register_prehook(self, f: Callable[..., Any]) -> Handle:
        """Call f((gradient,)) before the accumulation; what it returns takes its place."""
        return Handle(at_leaf(self.leaf), "before", f)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.leaf is self.leaf

    def __hash__(self) -> int:
        return hash(self.leaf)

    def __repr__(self) -> str:
        return f"<AccumulateGrad {self.leaf.name or ''}>".replace(" >", ">")


def slots(rule: Rule) -> list[int | None]:
    """For every argument its place among the parents of the node, or None if it has none."""
    live = {i: k for k, i in enumerate(rule.live)}
    op = rule.op
    n = max(live, default=-1) + 1
    if not op.variadic and hasattr(op, "args"):
        n = max(n, len(op.args))
    return [live.get(i) for i in range(n)]


def next_functions(node: Node) -> tuple[tuple[Any, int], ...]:
    """For every argument of the operation (node, output index); (None, 0) for a constant."""
    parents = tuple(node.parents)
    if not parents:
        return ()
    return tuple([(None, 0) if i is None else edge(parents[i]) for i in slots(node.rule)])


def edge(p: Any) -> tuple[Any, int]:
    if type(p) is Leaf:
        return AccumulateGrad(p), 0
    return (p.parents[0], p.res[1]) if p.rule.op is Pick and p.res else (p, 0)


def grad_fn(self: Tensor) -> Any:
    """The node of the operation that made this tensor; None for a leaf."""
    node = fresh(self).node
    return edge(node)[0] if type(node) is Node else None if type(node) is Leaf else node


def name(node: Node) -> str:
    """The operation's name: `mul`, `Sum`."""
    op = node.rule.op
    return str(getattr(op, "name", None) or getattr(op, "__name__", None) or type(op).__name__)


def level_of(node: Any) -> Level:
    """The tape that a node is on, which its leaves know."""
    while type(node) is Node:
        parents = tuple(node.parents)
        if not parents:
            return trace.EAGER
        node = parents[0]
    return node.level


def node_hook(node: Node, f: Callable[..., Any]) -> Handle:
    """Call f(grad_inputs, grad_outputs) when the node has run.

    Both are tuples, with None for a constant and for an output that was not used. A tuple that it
    returns takes the place of grad_inputs.
    """
    return Handle(at_node(node, level_of(node)), "after", f)


def node_prehook(node: Node, f: Callable[..., Any]) -> Handle:
    """Call f(grad_outputs) before the node runs; a tuple that it returns takes their place."""
    return Handle(at_node(node, level_of(node)), "before", f)


Tensor.grad_fn = property(grad_fn)  # type: ignore[assignment,method-assign]
Node.next_functions = property(next_functions)  # type: ignore[attr-defined]
Node.name = name  # type: ignore[attr-defined]
Node.register_hook = node_hook  # type: ignore[attr-defined]
Node.register_prehook = node_prehook  # type: ignore[attr-defined]
