"""Which inputs does a gradient reach, and where is the path to the others broken?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, describe
from ..given import call
from ..trace import Leaf, Tensor, looked
from ..types import dtype_of, shape_of
from .memory import columns, recorded
from .severed import cuts, told
from .tape import ones_like
from .vjp import Recorded, check_inputs, chosen_arguments, leaf_names, places_of

__all__ = ["Reach", "Reaches", "explain_gradient"]


@dataclass(frozen=True)
class Reach:
    """Whether the gradient of one input is more than a zero for want of a path.

    Attributes:
        name: the argument, or the path of the parameter.
        state: "reached", "broken" (a path left the derivative), or "unused".
        size: the length of the gradient, sqrt(sum g^2); None where it was not computed.
        why: for a broken path, the expression, its line and the reason.
    """

    name: str
    value: str
    state: str
    size: float | None = None
    why: str = ""


class Reaches(tuple[Reach, ...]):
    """The report of `explain_gradient`: one Reach for each input; `str()` is a table."""

    __slots__ = ()

    def __str__(self) -> str:
        table = [("input", "", "gradient", "")]
        for r in self:
            known = "" if r.size is None else f"{r.size:.3g}"
            table.append((r.name, r.value, r.state if r.state != "reached" else known or r.state,
                          r.why))  # fmt: skip
        return "\n".join(columns(table, left=(0, 1, 2, 3)))

    __repr__ = __str__


def explain_gradient(f: Any, over: Any = 0) -> Any:
    """Say for every input whether the gradient reaches it, and if not where the path broke.

    Args:
        f: a function whose value is one number, or a recorded loss.
        over: for a function, argnums as for `wg.grad`; for a loss, the parameters: a module, or a
            pytree of tensors. What led to a break is known for a loss recorded in `wg.debug()`.

    Returns:
        For a function, one of the same arguments that gives the report; for a loss, the report.

    >>> import numpy as np
    >>> def f(p):
    ...     return np.sum(p["w"] * 2.0) + np.sum(p["b"] > 0)
    >>> report = explain_gradient(f)({"w": np.ones(4), "b": np.ones(2), "c": np.ones(1)})
    >>> [(r.name, r.state, r.size) for r in report]
    [("p['w']", 'reached', 4.0), ("p['b']", 'broken', 0.0), ("p['c']", 'unused', 0.0)]
    """
    if isinstance(f, Tensor):
        return _of_loss(looked(f), over)
    nums, _ = chosen_arguments("explain_gradient", f, over)

    @wraps(f)
    def explained(*args: Any, **kwargs: Any) -> Reaches:
        places = places_of("explain_gradient", nums, args)
        xs, structure = tree.flatten(tuple(args[n] for n in places))
        check_inputs("explain_gradient", xs, tree.paths(structure))

        def run(ts: list[Any]) -> Any:
            full = list(args)
            for n, t in zip(places, tree.unflatten(structure, ts)):
                full[n] = t
            return call("explain_gradient(f)", "f", f, *full, **kwargs)

        rec = Recorded(f, xs, run)
        y, node = rec.split(rec.out)
        lost = _lost(rec.level, rec.leaves)
        gs = rec.pull([node], [ones_like(y) if node is not None else None], keep=False)
        return Reaches(
            _reach(name, x, i not in rec.missing, lost.get(i, ""), g)
            for i, (name, x, g) in enumerate(zip(leaf_names(f, places, structure), rec.xs, gs))
        )

    return explained


def _of_loss(loss: Tensor, over: Any) -> Reaches:
    named = _named(over)
    if not named:
        raise ArgumentError(
            "explain_gradient(loss, over)",
            f"over is a module or a pytree of tensors, not {describe(over)}",
            fix="wg.explain_gradient(loss, model)",
        )
    leaves = [t.node for _, t in named]
    found: set[int] = set()
    for n in recorded([loss.node] if loss.node is not None else []):
        found.update(id(p) for p in n.parents if type(p) is Leaf)
    lost = _lost(loss.level, leaves)
    return Reaches(
        _reach(name, t, id(leaf) in found, lost.get(i, ""), None)
        for i, ((name, t), leaf) in enumerate(zip(named, leaves))
    )


def _named(over: Any) -> list[tuple[str, Tensor]]:
    if hasattr(over, "named_parameters"):
        return list(over.named_parameters())
    leaves, structure = tree.flatten(over)
    pairs = zip(tree.paths(structure), leaves)
    return [(t.name or p, t) for p, t in pairs if isinstance(t, Tensor)]


def _lost(level: Any, leaves: list[Any]) -> dict[int, str]:
    return {i: str(told(c, k, note.why)) for i, (c, k), note in cuts(level, leaves)}


def _reach(name: str, x: Any, reached: bool, why: str, g: Any) -> Reach:
    state = "reached" if reached else "broken" if why else "unused"
    while isinstance(g, Tensor):
        g = g.data
    length = None if g is None else float(np.sqrt(np.sum(np.abs(np.asarray(g)) ** 2)))
    shape = ", ".join(map(str, shape_of(x)))
    return Reach(
        name, f"{dtype_of(x) or 'float64'}[{shape}]", state, length, why if not reached else ""
    )
