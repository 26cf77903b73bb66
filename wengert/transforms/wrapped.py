"""Rules around rules: what a node does is changed by putting another rule in its place.

The sweep asks a node for its rule and calls `rule.pull`; it knows neither of hooks nor of residuals
that are kept elsewhere. So neither costs anything where it is not used. A wrapped rule has the
operation, the arguments and the names of the one inside, so that the rest of the house reads the
node as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..primitive import Rule
from ..structural import STRUCTURED, apply_diagonal, densify, fit
from ..trace import HERE, Level, Tensor


class Wrapped(Rule):
    """A rule around `inner`. `pull` takes any cotangent, structured ones too."""

    __slots__ = ("inner",)

    def __init__(self, inner: Rule, pull: Callable[..., Any]) -> None:
        Rule.__init__(self, inner.op, inner.live, inner.names, pull)
        self.single = inner.single
        self.keeps_mask = True
        self.inner = inner


def through(rule: Rule, g: Any, res: Any) -> Any:
    """The cotangents of the arguments, whatever form g has."""
    if g.__class__ in STRUCTURED:
        return pull_structured(rule, g, res)
    return rule.pull(g, *res)


def pull_structured(rule: Rule, g: Any, res: Any) -> Any:
    if rule.owned is not None or rule.keeps_mask:
        return rule.pull(g, *res)
    if not rule.diagonal:
        return rule.pull(densify(g), *res)
    base = rule.base
    if base is None:
        return apply_diagonal(rule.pull, g, res, rule.single)
    k = len(base.names)  # operands were broadcast: mask first, then sum to the source
    out = apply_diagonal(base.pull, g, res[:k], base.single)
    if base.single:
        return fit(out, *res[k])
    return tuple([fit(x, *like) for x, like in zip(out, res[k:])])


# ------------------------------------------------------------------ hooks


class Hooked(Wrapped):
    """A rule with hooks around it; see `transforms.hooks`."""

    __slots__ = ("hooks",)

    def __init__(self, inner: Rule, pull: Callable[..., Any], hooks: Any) -> None:
        Wrapped.__init__(self, inner, pull)
        self.hooks = hooks


LIVE = object()  # the last residual of a hooked rule while the sweep itself is recorded


def hooks_at(node: Any) -> Any:
    """The hooks of a node or a leaf, or None."""
    rule = node.rule
    if rule is None:
        return node.hooks
    return rule.hooks if rule.__class__ is Hooked else None


def moved(old: Any, new: Any) -> None:
    """`retain_grad` follows a tensor that is written in place; hooks stay with the old value."""
    if old is not None and old.rule.__class__ is Hooked:
        old.rule.hooks.move(new)


# ------------------------------------------------------------------ residuals kept elsewhere


class Packed:
    """What the tape holds in a residual's place. `unpack()` gives the residual back.

    It is called once in every sweep that passes the node, and dropped with the node's residuals.
    """

    __slots__ = ("__weakref__",)

    def unpack(self) -> Any:
        raise NotImplementedError


def kept(value: Any) -> bool:
    """Whether a residual is an array (of any level, or of a graph), and so worth packing."""
    return isinstance(value, np.ndarray | np.generic | Tensor) or hasattr(value, "graph")


def computed(op: Any, xs: Any, values: Any, y: Any) -> None:
    """Tell the innermost packer, if it asks, that a tape has evaluated y = op(values).

    `xs` are the operands at the tape's level. Of an in-place write, `Write(path)`, the first value
    is None, for it may be gone.
    """
    packers = getattr(HERE, "packers", None)
    if packers and (tell := getattr(packers[-1], "computed", None)) is not None:
        tell(op, xs, values, y)


def supplied(op: Any, values: Any) -> Any:
    """op(values), if the innermost packer has kept it from an earlier run; else None."""
    packers = getattr(HERE, "packers", None)
    if packers and (ask := getattr(packers[-1], "supplied", None)) is not None:
        return ask(op, values)
    return None


def packed(rule: Rule, res: list[Any], level: Level) -> tuple[Rule, list[Any]]:
    """The residuals as the innermost packer of this thread wants them kept, and their rule.

    A packer with a `depth` is not asked for levels above it: those of transforms within.
    """
    packers = getattr(HERE, "packers", None)
    if not packers or packers[-1] is None:
        return rule, res
    if level.depth > getattr(packers[-1], "depth", level.depth):
        return rule, res
    pack = packers[-1].pack
    out: list[Any] = []
    for name, value in zip(rule.names, res):
        if value.__class__ is tuple and name in ("xs", "y", "cache"):
            out.append(tuple([pack(rule, name, v) if kept(v) else v for v in value]))
        else:
            out.append(pack(rule, name, value) if kept(value) else value)
    return stored(rule), out


def unpacked(res: Any) -> list[Any]:
    """The residuals themselves."""
    out: list[Any] = []
    for value in res:
        if isinstance(value, Packed):
            value = value.unpack()
        elif value.__class__ is tuple:
            value = tuple([v.unpack() if isinstance(v, Packed) else v for v in value])
        out.append(value)
    return out


def stored(rule: Rule) -> Rule:
    def pull(g: Any, *res: Any) -> Any:
        return through(rule, g, unpacked(res))

    return Wrapped(rule, pull)
