"""Where did the nan come from? `debug` watches what is recorded inside it.

Every operation goes through `bind` meanwhile, and its node gets a rule that looks at the cotangents
it hands on; the sweep itself does not change, and outside `debug` nothing is paid. A gradient that
left the finite numbers is traced back, from the leaf that it reached to the operation that was the
first to give it, and from there through the values to where those went wrong.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np

from ..errors import user_frame
from ..owned import own
from ..primitive import Rule
from ..region import Region
from ..trace import HERE, Leaf, Level, Node, Tensor, getframe, modes
from .born import Entry, bad, bottom, entry_at, is_nan, report
from .jvp import JVP
from .tape import Tape
from .vmap import VMap
from .wrapped import Hooked, Wrapped, through

__all__ = ["debug"]


class Watched(Wrapped):
    """A rule that looks at what it hands on."""

    __slots__ = ("entry",)

    def __init__(self, inner: Rule, entry: Entry) -> None:
        Wrapped.__init__(self, inner, partial(pull, inner, entry))
        self.entry = entry


def watch(node: Node, entry: Entry) -> None:
    """Put a watched rule in the place of a node's own, inside its hooks."""
    entry.parents = tuple(node.parents)
    rule: Any = node.rule
    if isinstance(rule, Hooked):
        rule.hooks.rule = Watched(rule.hooks.rule, entry)
    else:
        node.rule = Watched(rule, entry)


def pull(inner: Rule, entry: Entry, g: Any, *res: Any) -> Any:
    """What the rule pulls; remembers who was the first to give a number that is not finite."""
    if not entry.fed and np.size(v := bottom(entry.y)) == 1 and v is not None and is_nan(v):
        raise report("value", None, [entry])
    entry.fed = False
    came = bad(g)
    if not came:
        entry.arrived = None
    out = through(inner, g, res)
    for i, (p, c) in enumerate(zip(entry.parents, (out,) if inner.single else out)):
        if c is None:
            continue
        below = entry_at(p)
        if below is not None:
            below.fed = True
        if not bad(c):
            continue
        if not came or entry.arrived is None:
            entry.born = (g, c, i, came)
        if below is not None:
            below.arrived = entry
        elif type(p) is Leaf:
            trail = [entry]
            while trail[-1].arrived is not None and trail[-1].arrived not in trail:
                trail.append(trail[-1].arrived)
            raise report("gradient", p, trail[::-1])
    return out


# ------------------------------------------------------------------ watching


class Debugger:
    """Asked by `bind` in place of a level, while `debug` is active in this thread."""

    def __init__(self, replay: Any, values: bool) -> None:
        self.replay, self.values = replay, values
        self.made: dict[int, tuple[Any, Entry]] = {}  # of tensors that no node stands for
        self.lanes: list[int] = []

    def __call__(self, level: Level, op: Any, xs: Any) -> Any:
        if isinstance(level, VMap):
            batched = any(isinstance(x, Tensor) and x.level is level and x.node == 0 for x in xs)
            self.lanes.append(level.n if batched else -1)
            try:
                return level.process(op, xs)
            finally:
                self.lanes.pop()
        out = level.process(op, xs)
        if not isinstance(level, Tape | JVP):
            return out
        kept = tuple([x if isinstance(x, Tensor) else own(x) for x in xs])
        ups = tuple([self.entry_of(x) for x in xs])
        lanes = tuple([n for n in self.lanes if n >= 0])
        first = out[0] if isinstance(out, tuple) else out
        entry = Entry(op, kept, ups, first, user_frame(getframe(1)), lanes, self.replay)
        outs = out if isinstance(out, tuple) else (out,)
        node = first.node if isinstance(first, Tensor) and isinstance(level, Tape) else None
        if isinstance(node, Node):
            if len(outs) > 1:
                (node,) = node.parents
            entry.y = own_value(first)
            wrap(node, entry)
        for t in outs:
            if isinstance(t, Tensor) and not (isinstance(level, Tape) and t.node is not None):
                key = id(t)
                self.made[key] = (weakref.ref(t, partial(self.forget, key)), entry)
                entry.y = own_value(t) if len(outs) == 1 else entry.y
        if self.values and (v := bottom(first)) is not None and is_nan(v):
            raise report("value", None, [entry])
        return out

    def forget(self, key: int, _: Any) -> None:
        self.made.pop(key, None)

    def entry_of(self, x: Any) -> Entry | None:
        if not isinstance(x, Tensor):
            return None
        node = x.node if isinstance(x.level, Tape) else None
        if isinstance(node, Node):
            if entry_at(node) is None:
                adopt(node, x)
            return entry_at(node)
        known = self.made.get(id(x))
        return known[1] if known is not None and known[0]() is x else None

    def results(self, level: Level, ys: list[Any]) -> None:
        """Look at what a forward-mode transform returns."""
        for y in ys:
            entry = self.entry_of(y)
            if entry is None or y.level is not level:
                continue
            if bad(y.node):
                trail = [entry]
                while up := next((u for u in trail[-1].ups if u and bad(slope(u))), None):
                    trail.append(up)
                raise report("tangent", None, trail[::-1])
            if (v := bottom(y)) is not None and is_nan(v):
                raise report("value", None, [entry])


def slope(entry: Entry) -> Any:
    y = entry.y
    return y.node if isinstance(y, Tensor) and isinstance(y.level, JVP) else None


def own_value(t: Tensor) -> Tensor:
    """A handle of its own: t may be written in place later."""
    made = object.__new__(type(t))
    made.data, made.node, made.level = t.data, t.node, t.level
    if isinstance(t.level, Tape):
        made.node = None  # the entry belongs to the node, not the other way round
    return made


def wrap(node: Node, entry: Entry) -> None:
    watch(node, entry)
    for p in entry.parents:
        if isinstance(p, Node) and entry_at(p) is None:
            adopt(p, None)


def adopt(node: Node, x: Tensor | None) -> None:
    """Watch what was recorded elsewhere: an in-place write, or work done before `debug`."""
    waiting = [(node, x)]
    while waiting:
        node, x = waiting.pop()
        if entry_at(node) is not None:
            continue
        entry = Entry(
            node.op, None, (), None if x is None else own_value(x), _Frame(node), (), None
        )
        watch(node, entry)
        waiting += [(p, None) for p in entry.parents if isinstance(p, Node)]


class _Frame:
    def __init__(self, node: Node) -> None:
        self.f_code, self.f_lasti = node.code, node.lasti


class debug(Region):
    """Say where a nan or an infinity in a gradient was born, and what to write instead.

    Inside, `backward()`, `wg.grad`, `wg.vjp` and `wg.jvp` raise when a gradient (a tangent, the
    loss) is not finite; so do sweeps over what was recorded inside. An infinite value alone is no
    fault, nor is a nan in the branch that `where` did not take: masks of -inf are fine as long as
    the gradient is finite. Nothing is paid outside; inside every operation keeps its operands.

    Args:
        replay: the dtype in which the operation at fault, and what leads to it, is repeated: the
            next wider one when left out, float64 for float32, longdouble for float64; False for
            no replay.
        values: refuse the first nan among the values as well, wherever it stands.

    Raises:
        NonFiniteGradientError: it has `parameter`, `op`, `phase` ("forward", "backward",
            "tangent", "seed"), `index`, `lane`, `path` and `replay` ("precision", "mathematics").

    >>> import numpy as np, wengert as wg
    >>> with debug():
    ...     wg.grad(lambda x: np.sum(np.sqrt(x)))(np.array([1.0, 0.0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    wengert.NonFiniteGradientError: [WG208] the gradient of `x` is infinite
        born   : `np.sqrt(x)` at ..., backward: inf at [1]
        x[1]   : 0.0
        path   : sqrt (...) -> x
        replay : longdouble: still inf: mathematics, not precision
      fix: np.sqrt(x + 1e-12), or np.where(x > 0, np.sqrt(x), 0.0) for no gradient at 0; ...
      at:  ...
    """

    __module__ = "wengert"

    def __init__(self, replay: Any = None, values: bool = False) -> None:
        self.replay, self.values = replay, values

    def __enter__(self) -> debug:
        HERE.__dict__.setdefault("watches", []).append(getattr(HERE, "watch", None))
        HERE.watch = Debugger(self.replay, self.values)
        modes(1)
        return self

    def __exit__(self, *exc: object) -> None:
        HERE.watch = HERE.watches.pop()
        modes(-1)
