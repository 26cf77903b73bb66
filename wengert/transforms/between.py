"""A sweep over a part of the graph: from some values back to others, through chosen nodes only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ..ops.index import ours
from ..structural import STRUCTURED, At, absorb, densify, plus
from ..trace import SOLE, Level, getrefcount
from .tape import _Sweep, freed, keep_retained, lifted
from .wrapped import Hooked, hooks_at, pull_structured

__all__ = ["leading", "pull_between", "reached"]

Inside = Callable[[Any], bool]


def reached(roots: Sequence[Any], inside: Inside) -> list[Any]:
    """The nodes that the roots were computed from, youngest first, the roots included.

    The walk does not go beyond a node that is not `inside`.
    """
    seen = set(roots)
    waiting = list(seen)
    while waiting:
        node = waiting.pop()
        if node.rule is None or not inside(node):
            continue
        if node.res is None:
            raise freed(node)
        for p in node.parents:
            if p not in seen:
                seen.add(p)
                waiting.append(p)
    return sorted(seen, key=_age)


def _age(node: Any) -> int:
    return int(node.seq)


def leading(order: Sequence[Any], wanted: Collection[Any], inside: Inside) -> set[Any]:
    """Those of the nodes, given youngest first, that were computed from a wanted one."""
    useful: set[Any] = set()
    for node in reversed(order):
        if node in wanted or (
            node.rule is not None and inside(node) and any(p in useful for p in node.parents)
        ):
            useful.add(node)
    return useful


def pull_between(
    roots: Sequence[tuple[Any, Any]],
    wanted: Collection[Any],
    inside: Inside,
    keep: bool = True,
    level: Level | None = None,
    whole: bool = False,
) -> dict[Any, Any]:
    """The cotangents of the wanted nodes, given those of the roots; without an entry: no path.

    Args:
        roots: (node, cotangent) of every result.
        wanted: leaves and interior nodes.
        inside: which nodes may be passed through; the others are constants.
        keep: leave the residuals in place for another sweep.
        level: record the sweep itself on this tape (higher orders).
        whole: the caller will accumulate: for the prehooks of leaves.
    """
    order = reached([n for n, _ in roots], inside)
    useful = leading(order, wanted, inside)
    cotangents: dict[Any, Any] = {}
    for node, g in roots:
        if node in useful:
            cotangents[node] = plus(cotangents[node], g) if node in cotangents else g
    found: dict[Any, Any] = {}
    mark = None if keep else _Sweep()
    with np.errstate(all="ignore"):
        for node in order:
            if node not in cotangents:
                continue
            g = cotangents.pop(node)
            hooks = hooks_at(node) if node in wanted else None
            if hooks is not None:
                g = hooks.arrive(g, level is not None, whole)
            if node in wanted:
                g = found[node] = densify(g)
            if node.rule is None or not inside(node):
                continue
            parents = node.parents
            if not any(p in useful for p in parents):
                continue
            rule = node.rule
            res = node.res if level is None else lifted(node, level)
            if hooks is not None:
                gs = hooks.execute(g, res)
            elif rule.owned is not None and getrefcount(g) <= SOLE and ours(g):
                gs = rule.owned(g, rule.live, *res)
            elif g.__class__ in STRUCTURED:
                gs = pull_structured(rule, g, res)
            else:
                gs = rule.pull(g, *res)
            if mark is not None:
                node.res, node.parents = None, mark
                if rule.__class__ is Hooked:
                    rule.hooks.release()
            g = res = None
            for p, x in zip(parents, (gs,) if rule.single else gs):
                if p not in useful:
                    continue
                if p not in cotangents:
                    cotangents[p] = x
                    continue
                c = cotangents.pop(p)
                if x.__class__ is At and getrefcount(c) <= SOLE:
                    cotangents[p] = absorb(c, x)
                else:
                    cotangents[p] = plus(c, x)
                c = None
            gs = x = None
    keep_retained()
    return found
