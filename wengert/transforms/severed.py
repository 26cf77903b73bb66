"""Refusals of a sweep: the graph is gone, or the path from the result to the inputs is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import trace
from ..errors import (
    DisconnectedError,
    FreedError,
    GradientWarning,
    place,
    user_frame,
    verbatim,
    warned,
)
from ..source import arguments, source_of
from ..trace import Break, Leaf, Level, getframe

REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (  # how the note of a break begins, and the fix
    (("gt", "ge", "lt", "le", "eq", "ne", "logical", "isfinite", "isnan"),
     "a comparison has no slope: np.where(condition, a, b) keeps the gradients of a and b, and "
     "wg.sigmoid(k * (a - b)) is a smooth step"),
    (("ArgMax", "ArgMin", "ArgSort"),
     "an index has no slope: np.max is the value there, and wg.softmax the smooth choice; a "
     "classifier is trained on wg.cross_entropy"),
    (("rint", "floor", "ceil", "trunc", "sign", "heaviside"),
     "a step function is flat: x + (np.round(x) - x).detach() rounds, and lets the gradient "
     "through as it is"),
    (("CastConstant", "written into"),
     "keep the values that need a gradient in floating point, and cast a copy for indexing"),
    (("detach",), "leave detach() out where the gradient is wanted"),
    (("numpy()",), "numpy functions work on the tensor itself: leave numpy() out"),
    (("item()", "tolist()"), "keep the tensor, and take item() for printing alone"),
    (("computed under no_grad",), "compute it outside of `with wg.no_grad():`"),
)  # fmt: skip
MEANT = ("detach", "computed under no_grad", "stop_gradient")  # breaks that somebody asked for


def remedy(why: str) -> str | None:
    for starts, text in REMEDIES:
        if why.startswith(starts):
            return text
    return None


def told(code: Any, lasti: int, why: str) -> Any:
    """One break: the expression, its line, and why no gradient passes."""
    text = source_of(code, lasti)
    shown = f"`{text}` at " if 0 < len(text) <= 60 else ""
    return verbatim(f"{shown}{place(code, lasti)}: {why}")


def disconnected(
    what: str, result: str, level: Level, names: Sequence[str] = (), others: Sequence[str] = ()
) -> DisconnectedError:
    """Say where the path from the inputs to the result broke.

    Args:
        what: the call.
        result: its result, in words.
        level: whose notes of breaks are told.
        names: the inputs that are being differentiated.
        others: the positional arguments that are not, as `argnums=1 (x)`.
    """
    if what == "backward()":
        asked = asked_of()
        what, result = (f"{asked}.backward()", f"`{asked}`") if asked else (what, result)
    breaks = list((level.breaks or {}).items())[-3:]
    operands = [("broke at", told(code, lasti, note.why)) for (code, lasti), note in breaks]
    wanted = ", ".join(f"`{n}`" for n in names[:5]) + (", .." if len(names) > 5 else "")
    rule = f"{result} does not depend on {wanted or 'anything that is being differentiated'}"
    fix = None
    if breaks:
        fix = remedy(breaks[-1][1].why)
        fix = fix or "keep the computation in numpy functions of the tensor up to the result"
    elif level is trace.EAGER:
        fix = "wg.tensor(x, requires_grad=True) marks the inputs whose gradient is wanted"
    elif names:
        fix = f"use {names[0]} in the function, or differentiate what it uses"
        fix += f": {' or '.join(others)}" if others else ""
    return DisconnectedError(what, rule, operands=operands, fix=fix)


def asked_of() -> str:
    """The tensor whose `backward()` the user called, as it is written."""
    frame = user_frame(getframe(2))
    text = source_of(frame.f_code, frame.f_lasti)
    texts = arguments(text) if ".backward(" in text else []
    return texts[0] if texts else ""


def freed(node: Any) -> FreedError:
    asked = asked_of()
    by = node.parents
    first = source_of(by.code, by.lasti) or f"{asked or 'loss'}.backward()"
    operands = [
        ("recorded at", told(node.code, node.lasti, f"the residuals of {node.op!r}")),
        ("freed at", verbatim(f"{by}: `{first}`")),
    ]
    fix = (
        "a value that was carried over from an earlier step is detached there, h = h.detach(); a "
        "total for printing is a number, total += loss.item()"
    )
    if first.endswith(".backward()"):
        fix += f"; if two sweeps over one graph are meant, the first is {first[:-1]}"
        fix += "retain_graph=True)"
    return FreedError(
        f"{asked}.backward()" if asked else "backward through a graph that is gone",
        "a part of its graph was freed by an earlier backward",
        operands=operands,
        fix=fix,
    )


def ends_in(note: Break) -> set[Any]:
    """The leaves that a value which left the derivative had been computed from."""
    leaves, seen = set(), set()
    waiting = list(note.nodes)
    while waiting:
        n = waiting.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        if type(n) is Leaf:
            leaves.add(n)
        else:
            waiting += list(n.parents)
    return leaves


def cuts(level: Level, leaves: Sequence[Any]) -> list[tuple[int, Any, Any]]:
    """(which leaf, (code, lasti), break) for each leaf and the last break below it."""
    found = []
    notes = [(where, note, ends_in(note)) for where, note in (level.breaks or {}).items()]
    for i, leaf in enumerate(leaves):
        mine = [(where, note) for where, note, ends in notes if leaf in ends]
        if mine:
            found.append((i, *mine[-1]))
    return found


def breaks_of(level: Level, node: Any) -> list[tuple[tuple[Any, int], Break]]:
    """The last breaks, but those that are known to be of other inputs than this one."""
    notes = (level.breaks or {}).items()
    return [(at, n) for at, n in notes if not n.nodes or node in ends_in(n)][-3:]


def warn_cut(what: str, run: Any, names: Sequence[str]) -> None:
    """Warn of arguments whose gradient is zero because of a break that nobody asked for."""
    for i, (code, lasti), note in cuts(run.level, run.leaves):
        if i not in run.missing or note.why.startswith(MEANT):
            continue
        warned(
            GradientWarning,
            what,
            f"the gradient of `{names[i]}` is zero, the path to it is broken",
            operands=[("broke at", told(code, lasti, note.why))],
            fix=remedy(note.why),
        )


__all__ = ["breaks_of", "cuts", "disconnected", "ends_in", "freed", "remedy", "told", "warn_cut"]
