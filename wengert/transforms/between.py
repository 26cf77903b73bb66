"""A sweep over a part of the graph: from some values back to others, through chosen nodes only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops.index import ours
from ..structural import STRUCTURED, At, absorb, densify, plus
from ..trace import SOLE, Level, Tensor, getrefcount
from .tape import _Sweep, freed, keep_retained, lifted
from .wrapped import Hooked, hooks_at, pull_structured

__all__ = ["leading", "pull_between", "reached", "separate"]

Inside = Callable[[Any], bool]
AGE = attrgetter("seq")


def reached(roots: Iterable[Any], inside: Inside) -> tuple[set[Any], list[Any]]:
    """All nodes that the roots were computed from, and those that are inside, oldest first.

    The walk does not go beyond a node that is not `inside`.
    """
    seen = set(roots)
    waiting = list(seen)
    passed = []
    while waiting:
        node = waiting.pop()
        if node.rule is None or not inside(node):
            continue
        if node.res is None:
            raise freed(node)
        passed.append(node)
        for p in node.parents:
            if p not in seen:
                seen.add(p)
                waiting.append(p)
    passed.sort(key=AGE, reverse=True)  # the count goes down
    return seen, passed


def leading(passed: Iterable[Any], wanted: Iterable[Any]) -> tuple[set[Any], list[Any]]:
    """All nodes, given oldest first, that come from a wanted one; and those computed from these."""
    useful, through = set(wanted), []
    for node in passed:
        for p in node.parents:
            if p in useful:
                useful.add(node)
                through.append(node)
                break
    return useful, through


def pull_between(
    roots: Sequence[tuple[Any, Any]],
    wanted: Collection[Any],
    inside: Inside,
    keep: bool = True,
    level: Level | None = None,
    walk: tuple[set[Any], list[Any]] | None = None,
    whole: bool = False,
) -> dict[Any, Any]:
    """The cotangents of the wanted nodes, given those of the roots; without an entry: no path.

    Args:
        roots: (node, cotangent) of every result.
        wanted: leaves and interior nodes.
        inside: which nodes may be passed through; the others are constants.
        keep: leave the residuals in place for another sweep.
        level: record the sweep itself on this tape (higher orders).
        walk: what `reached` gave for these roots, if it has been asked already.
        whole: the caller will accumulate: for the prehooks of leaves.
    """
    seen, passed = walk or reached([n for n, _ in roots], inside)
    useful, through = leading(passed, seen.intersection(wanted))
    del seen, passed, walk
    cotangents: dict[Any, Any] = {}
    for node, g in roots:
        if node in useful:
            cotangents[node] = plus(cotangents[node], g) if node in cotangents else g
    found: dict[Any, Any] = {}
    mark = None if keep else _Sweep()
    g = None
    with np.errstate(all="ignore"):
        while through:  # youngest first: when its turn comes, all cotangents of a node are summed
            node = through.pop()
            g = cotangents.pop(node, None)
            if g is None:
                continue
            hooks = None
            if node in wanted:
                hooks = hooks_at(node)
                g = found[node] = arrived(hooks, g, level, whole)
            parents = node.parents
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
                if p not in useful or x is None:
                    continue
                c = cotangents.pop(p, None)
                if c is None:
                    cotangents[p] = x
                elif x.__class__ is At and getrefcount(c) <= SOLE:
                    cotangents[p] = absorb(c, x)
                else:
                    cotangents[p] = plus(c, x)
                c = None
            gs = x = None
    for node, g in cotangents.items():
        if node in wanted:
            found[node] = arrived(hooks_at(node), g, level, whole)
    keep_retained()
    return found


def arrived(hooks: Any, g: Any, level: Level | None, whole: bool) -> Any:
    """The whole cotangent of a wanted node, after the hooks of its tensor."""
    return densify(g if hooks is None else hooks.arrive(g, level is not None, whole))


def separate(mixed: Any, rows: Any, weights: Any, y: Tensor, x: Tensor) -> None:
    """Refuse if the rows of a Jacobian do not explain a pull of random weights."""
    terms = weights[:, :, None] * rows
    want, size = terms.sum(1), np.abs(terms).sum(1).max(initial=0.0)
    wrong = np.abs(mixed - want) > np.finfo(x.dtype).eps ** 0.5 * size
    if np.isfinite(size) and wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise ArgumentError(
            "tape.batch_jacobian(target, source)",
            f"other rows of target depend on source[{row}]",
            operands=[("target", y), ("source", x)],
            fix="tape.jacobian(target, source) for the whole",
        )
