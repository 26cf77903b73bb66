"""The report of `debug`: where a bad number was born, how it travelled, and if rounding did it."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import numpy as np

from ..errors import NonFiniteGradientError, place, verbatim
from ..source import arguments, bracketed, source_of
from ..structural import At, Parts, densify
from ..trace import HERE, Leaf, Tensor
from ..types import RAW, is_inexact, shape_of
from .fixes import fix_for
from .jvp import jvp
from .vjp import vjp

__all__ = ["Entry", "bad", "bottom", "is_nan", "report"]

_number = count().__next__
PLACE = re.compile(r"[A-Za-z_][\w.]*(\[[^\[\]]*\])*")  # w, self.w, params["w"][0]
WIDER: dict[Any, Any] = {
    np.dtype(a): np.dtype(b)
    for a, b in (("f2", "f8"), ("f4", "f8"), ("f8", "g"), ("c8", "c16"), ("c16", "G"))
}


class Entry:
    """One evaluated operation: its operands, who made them, and its value."""

    __slots__ = (
        "arrived", "born", "code", "fed", "lanes", "lasti", "n", "op", "parents", "replay",
        "scope", "ups", "xs", "y",
    )  # fmt: skip

    def __init__(
        self, op: Any, xs: Any, ups: Any, y: Any, frame: Any, lanes: tuple[int, ...], replay: Any
    ) -> None:
        self.op, self.xs, self.ups, self.y = op, xs, ups, y
        self.code, self.lasti = frame.f_code, frame.f_lasti
        self.scope = getattr(frame, "f_globals", {})
        self.lanes = lanes  # the lengths of the batch axes that the value has in front
        self.replay = replay
        self.n = _number()
        self.parents: tuple[Any, ...] = ()
        self.arrived: Entry | None = None  # who sent the non-finite cotangent of this sweep
        self.born: Any = None  # (cotangent in, cotangent out, to which parent, bad already)
        self.fed = False

    @property
    def name(self) -> str:
        made = getattr(self.op, "name", None)
        return made or (self.op if isinstance(self.op, type) else type(self.op)).__name__

    def text(self) -> str:
        return source_of(self.code, self.lasti)

    def at(self) -> str:
        return place(self.code, self.lasti)

    def names(self) -> tuple[str, ...]:
        return () if self.xs is None else self.op.argnames(len(self.xs))

    def written(self) -> dict[str, str]:
        """How the user wrote the operands, by their names in the rule."""
        names, texts = self.names(), arguments(self.text(), self.scope)
        if len(names) == 1:
            return {names[0]: texts[0]} if texts else {}
        return dict(zip(names, texts)) if len(texts) == len(names) else {}


def entry_at(n: Any) -> Entry | None:
    """What `debug` knows of a node; its rule may stand inside hooks."""
    rule = getattr(getattr(n.rule, "hooks", None), "rule", n.rule)
    return getattr(rule, "entry", None)


def bottom(x: Any) -> Any:
    """The plain array at the bottom of a value; None if there is none yet."""
    while isinstance(x, Tensor):
        x = x.data
    return x if isinstance(x, RAW) else None


def broken(x: Any) -> Any:
    """Where a value is nan or infinite, as an array; None where that has no meaning."""
    a = bottom(densify(x))
    if a is None or not is_inexact(np.asarray(a).dtype):
        return None
    return ~np.isfinite(a)


def bad(x: Any) -> bool:
    """Whether a cotangent or a tangent is not finite anywhere that it exists."""
    if isinstance(x, Parts):
        return any(bad(v) for v in x.values)
    if isinstance(x, At):
        return bad(x.value)
    if x is None:
        return False
    where = broken(x)
    return where is not None and bool(np.any(where))


def is_nan(x: Any) -> bool:
    a = np.asarray(x)
    return is_inexact(a.dtype) and bool(np.isnan(a).any())


def slope(entry: Entry) -> Any:
    """The tangent of an operation's value under forward mode."""
    y = entry.y
    return y.node if isinstance(y, Tensor) and y.node.__class__ is not int else None


def tangent_of(x: Any, like: Any) -> Any:
    d = x.node if isinstance(x, Tensor) and x.node.__class__ is not int else None
    return np.zeros_like(like) if d is None else densify(d)


class unwatched:
    """No watching meanwhile, and NumPy is quiet."""

    def __enter__(self) -> None:
        self.old = getattr(HERE, "watch", None)
        HERE.watch = None
        self.quiet = np.errstate(all="ignore")
        self.quiet.__enter__()

    def __exit__(self, *exc: object) -> None:
        self.quiet.__exit__(None, None, None)
        HERE.watch = self.old


# ------------------------------------------------------------------ lanes and indices


def batched_levels(x: Any) -> list[Any]:
    """The vmap levels whose lanes stand in front of the bottom array, outermost axis first."""
    out = []
    while isinstance(x, Tensor):
        if x.node.__class__ is int and x.level.__class__.__name__ == "VMap":
            out.append(x.level)
        x = x.data
    return out[::-1]


def at_lane(x: Any, lane: dict[Any, int]) -> Any:
    """The bottom array of a value in one lane."""
    a = bottom(x)
    if a is None or not lane:
        return a
    index = tuple([lane[level] for level in batched_levels(x) if level in lane])
    return np.asarray(a)[index] if index else a


def first_bad(a: Any) -> tuple[int, ...] | None:
    where = broken(a)
    if where is None or not np.any(where):
        return None
    return tuple(int(i) for i in np.argwhere(where)[0])


def projected(index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of a broadcast operand that an index of the value reads."""
    if len(shape) > len(index):
        return (0,) * (len(shape) - len(index)) + index
    tail = index[len(index) - len(shape) :]
    return tuple([0 if n == 1 else i for i, n in zip(tail, shape)])


def pointwise(e: Entry) -> bool:
    return bool(getattr(e.op, "diagonal", False))


# ------------------------------------------------------------------ replay


def wider(x: Any, dtype: Any) -> Any:
    a = np.asarray(x)
    if not is_inexact(a.dtype):
        return x
    a = a.astype(np.float32) if a.dtype.kind == "V" else a  # bfloat16 and the like
    to = dtype if dtype is not None else WIDER.get(a.dtype)
    if to is None:
        return x
    to = np.result_type(to, np.complex64) if a.dtype.kind == "c" else np.dtype(to)
    return a.astype(to)


def evaluated(e: Entry, xs: list[Any]) -> Any:
    if e.name in ("Cast", "CastConstant"):
        return xs[0]  # a cast would undo the precision
    y = e.op(*xs)
    return y[0] if isinstance(y, tuple) else y


def recomputed(e: Entry, lane: dict[Any, int], dtype: Any) -> list[Any]:
    """The operands of e in higher precision, from the leaves of what was recorded."""
    found: set[int] = set()
    order: list[Entry] = []
    waiting = [u for u in e.ups if u is not None]
    while waiting:
        u = waiting.pop()
        if u.n in found:
            continue
        found.add(u.n)
        order.append(u)
        waiting += [v for v in u.ups if v is not None]
    values: dict[int, Any] = {}

    def operands(u: Entry) -> list[Any]:
        return [
            values[up.n] if up is not None and up.n in values else wider(at_lane(x, lane), dtype)
            for x, up in zip(u.xs, u.ups)
        ]

    for u in sorted(order, key=lambda u: u.n):
        if u.xs is None or u.op.outputs > 1:
            continue  # an in-place write: its value stands, as recorded
        try:
            values[u.n] = evaluated(u, operands(u))
        except Exception:
            continue
    return operands(e)


def pulled(e: Entry, xs: list[Any], g: Any, i: int, live: list[int]) -> Any:
    """The cotangent of the i-th recorded operand of e, at other values."""

    def f(*ts: Any) -> Any:
        full = list(xs)
        for k, t in zip(live, ts):
            full[k] = t
        return e.op(*full)

    y, back = vjp(f, *[np.asarray(xs[k]) for k in live])
    if isinstance(y, tuple) or shape_of(g) != shape_of(y):
        return None
    return back(np.asarray(g, np.asarray(y).dtype))[i]


# ------------------------------------------------------------------ the report


def report(kind: str, leaf: Leaf | None, trail: list[Entry]) -> NonFiniteGradientError:
    """The error for a number that is not finite.

    Args:
        kind: "gradient", "tangent" or "value".
        leaf: the leaf that a bad gradient reached.
        trail: the operations that it passed, the first to give it at the front.
    """
    with unwatched():
        return Report(kind, leaf, trail).error()


class Report:
    def __init__(self, kind: str, leaf: Leaf | None, trail: list[Entry]) -> None:
        self.kind, self.leaf, self.trail = kind, leaf, trail
        self.origin = trail[0]
        self.index: tuple[int, ...] | None = None  # in the value, or in the operand (backward)
        self.operand = 0
        self.lane: dict[Any, int] = {}
        self.lead: tuple[int, ...] = ()  # the lane indices, as the user counts them
        self.phase = {"gradient": "backward", "tangent": "tangent"}.get(kind, "forward")
        if kind == "gradient":
            self._focus_backward()
        elif kind == "tangent":
            self._focus(densify(slope(self.origin)), slope(self.origin))
        else:
            self._focus(self.origin.y, self.origin.y)
        self.before: list[Entry] = []  # from where the value went wrong to the origin
        self._values()

    def _focus(self, a: Any, like: Any) -> None:
        """Set lane and index by the first bad element of a."""
        index = first_bad(a)
        if index is None:
            return
        levels = batched_levels(like)
        self.lane = dict(zip(levels, index))
        k = len(levels)
        lead = index[:k]
        index = index[k:]
        if not k and self.origin.lanes and len(index) >= len(self.origin.lanes):
            y = bottom(self.origin.y)
            if y is not None and np.shape(y)[: len(self.origin.lanes)] == self.origin.lanes:
                lead = index[: len(self.origin.lanes)]
        self.lead, self.index = lead, index

    def _focus_backward(self) -> None:
        g, c, i, came = self.origin.born or (None, None, 0, False)
        self.cotangent = g
        live = [k for k, up in enumerate(self._recorded(self.origin)) if up]
        self.operand = live[i] if i < len(live) else 0
        self.number = i
        if came:
            self.phase = "seed"
        self._focus(densify(c), densify(c))

    def _recorded(self, e: Entry) -> list[bool]:
        """Which operands of an operation are on the tape."""
        if e.xs is None:
            return []
        nodes = [isinstance(x, Tensor) and x.node is not None for x in e.xs]
        if sum(nodes) == len(e.parents):
            return nodes
        return [n and bool(e.op.rule(1 << k)) for k, n in enumerate(nodes)]

    def _values(self) -> None:
        """Go back to where the values went wrong, if they did."""
        e, index = self.origin, self.index
        while e.xs is not None:
            whole = at_lane(e.y, self.lane)
            if whole is None or self._bad_at(whole, index, e) is None:
                break
            nxt: Entry | None = None
            rank = -1
            for x, up in zip(e.xs, e.ups):
                if up is None or up.xs is None:
                    continue
                v = at_lane(x, self.lane)
                at = index if pointwise(e) else None
                b = self._bad_at(v, at, e)
                if b is not None:
                    kind = 2 if is_nan(np.asarray(v)[b]) else 1
                    if kind > rank and self._gave(up):
                        nxt, rank, where = up, kind, b
            if nxt is None:
                given = any(bad(at_lane(x, self.lane)) for x in e.xs)
                value = np.asarray(whole)[self._bad_at(whole, index, e)]
                if not given or is_nan(value):
                    self._blame(e, self._bad_at(whole, index, e))
                break
            self.before.append(e)
            e, index = nxt, where
        if self.phase != "forward":
            self.before = []

    def _gave(self, e: Entry) -> bool:
        """Whether a bad value upstream was made, and not handed in as a mask of -inf is."""
        seen, waiting = set(), [e]
        while waiting:
            u = waiting.pop()
            if u.n in seen or u.xs is None:
                continue
            seen.add(u.n)
            if not bad(bottom(u.y)):
                continue
            if is_nan(bottom(u.y)) or not any(bad(bottom(x)) for x in u.xs):
                return True
            waiting += [v for v in u.ups if v is not None]
        return False

    def _bad_at(self, v: Any, index: Any, e: Entry) -> tuple[int, ...] | None:
        where = broken(v)
        if where is None:
            return None
        where = np.asarray(where)
        if index is not None and pointwise(e):
            i = projected(index, where.shape)
            try:
                return i if where[i] else None
            except IndexError:
                return None
        return first_bad(v)

    def _blame(self, e: Entry, index: tuple[int, ...] | None) -> None:
        self.origin, self.index, self.phase = e, index, "forward"

    # ---- the parts of the message
    def values_at(self) -> tuple[list[tuple[str, Any]], list[Any]]:
        """The operands where it went wrong: those to be shown, and all of them."""
        e, index = self.origin, self.index
        at: list[Any] = []
        texts = e.written()
        out = []
        for k, name in enumerate(e.names()):
            a = at_lane(e.xs[k], self.lane)
            if a is None:
                continue
            a = np.asarray(a)
            label = texts.get(name, name)
            label = label if len(label) <= 30 else name
            if a.ndim == 0 and label == repr_of(a):
                at.append(a)
                continue
            own = self.phase in ("backward", "seed") and k == self.operand
            if index is not None and (pointwise(e) or own) and a.ndim <= max(len(index), 0):
                i = projected(index, a.shape)
                try:
                    value = a[i]
                except IndexError:
                    continue
                if label and i and len(i) == a.ndim:
                    label = f"{bracketed(label)}[{', '.join(map(str, i))}]"
                out.append((label, value))
            else:
                out.append((label, a))
            at.append(out[-1][1])
        return out, at

    def verdict(self) -> tuple[str, str]:
        """("precision" or "mathematics" or "unknown", the sentence)."""
        e = self.origin
        if e.xs is None or e.replay is False or self.phase == "seed":
            return "unknown", ""
        own = [at_lane(x, self.lane) for x in e.xs]
        kinds = [np.asarray(x).dtype for x in own if x is not None]
        dtype = e.replay
        if dtype is None:
            kinds = [np.dtype("f4") if d.kind == "V" else d for d in kinds]
            floats = [d for d in kinds if d.kind in "fc"] or [np.dtype("f8")]
            dtype = WIDER.get(np.result_type(*floats), np.dtype(np.longdouble))
            dtype = np.empty(0, dtype).real.dtype
        name = "longdouble" if np.dtype(dtype) == np.dtype(np.longdouble) else str(np.dtype(dtype))
        local = self._again(e, [wider(x, dtype) for x in own], dtype)
        if local is None:
            return "unknown", f"{name}: the operation cannot be repeated there"
        if np.isfinite(local):
            text = f"{name}: {e.name} of the same operands is {digits(local)}"
            return "precision", f"{text}: precision, not mathematics"
        chain = self._again(e, recomputed(e, self.lane, dtype), dtype)
        if chain is not None and np.isfinite(chain):
            text = f"{name} from the start: {digits(chain)}: precision was lost before {e.name}"
            return "precision", text
        return "mathematics", f"{name}: still {local}: mathematics, not precision"

    def _again(self, e: Entry, xs: list[Any], dtype: Any) -> Any:
        """The bad number, in other operands."""
        try:
            if self.phase == "tangent":
                dxs = [wider(at_lane(d, self.lane), dtype) for d in map(tangent_of, e.xs, xs)]
                a = jvp(e.op, tuple(map(np.asarray, xs)), tuple(dxs))[1]
            elif self.phase == "forward":
                a = evaluated(e, xs)
            else:
                live = [k for k, on in enumerate(self._recorded(e)) if on]
                g = wider(at_lane(densify(self.cotangent), self.lane), dtype)
                a = pulled(e, xs, g, self.number, live)
            if a is None:
                return None
            a = np.asarray(a)
            if self.index is None:
                return a.flat[int(np.argmin(np.isfinite(a)))]
            return a[self.index]
        except Exception:
            return None

    def path(self) -> list[str]:
        """From where it was born to the parameter."""
        steps = [self.origin, *reversed(self.before), *self.trail]
        unique = list(dict.fromkeys(steps))
        words = [f"{e.name} ({e.at().split(', in ')[0]})" for e in unique]
        if self.leaf is not None:
            words.append(self.who() or "an input")
        elif self.kind == "tangent":
            words.append("the result")
        return words

    def who(self) -> str | None:
        """The parameter's name, or what the first operation on it has written in its place."""
        if self.leaf is None or self.leaf.name:
            return None if self.leaf is None else self.leaf.name
        texts = self.trail[-1].written()
        for name, x in zip(self.trail[-1].names(), self.trail[-1].xs or ()):
            text = texts.get(name, "")
            if isinstance(x, Tensor) and x.node is self.leaf and PLACE.fullmatch(text):
                return text
        return None

    def brought(self) -> str:
        """The operand that was nan before the first operation on it; empty if there is none."""
        if self.phase != "forward":
            return ""
        return next((name for name, value in self.values_at()[0] if is_nan(value)), "")

    def others(self) -> list[str]:
        """The other leaves that the origin depends on."""
        names, seen, waiting = [], set(), [self.trail[0]]
        while waiting:
            for p in waiting.pop().parents:
                if id(p) in seen:
                    continue
                seen.add(id(p))
                if type(p) is Leaf:
                    if p is not self.leaf and p.name:
                        names.append(p.name)
                elif (below := entry_at(p)) is not None:
                    waiting.append(below)
        return names[::-1]

    def error(self) -> NonFiniteGradientError:
        e = self.origin
        who = self.who()
        what = {
            "gradient": f"the gradient of `{who or 'an input'}`",
            "tangent": "the tangent of the result",
            "value": "the value",
        }[self.kind]
        reached = self._reached()
        word = "nan" if reached is None or np.isnan(reached) else "infinite"
        rows: list[tuple[str, Any]] = []
        number = self._number()
        lane = "".join(f" in lane {i}" for i in self.lead)
        where = "" if not self.index else f" at [{', '.join(map(str, self.index))}]"
        phase = {"seed": "in the cotangent that was passed in", "tangent": "in its tangent"}.get(
            self.phase, self.phase
        )
        brought = self.brought()
        lane += f", which {brought} had already" if brought else ""
        text = e.text()
        said = f"`{text}`" if 0 < len(text) <= 60 else e.name
        rows.append(("born", verbatim(f"{said} at {e.at()}, {phase}: {number}{where}{lane}")))
        shown, at = self.values_at()
        for name, value in shown:
            rows.append((name, verbatim(repr_of(value)) if value.ndim == 0 else ranged(value)))
        rows.append(("path", verbatim(shortened(self.path()))))
        if others := self.others():
            more = f" and {len(others) - 5} more" if len(others) > 5 else ""
            word_ = "leads to"
            rows.append((word_, verbatim(f"{', '.join(others[:5])}{more}")))
        replay, sentence = ("unknown", "") if brought else self.verdict()
        if sentence:
            rows.append(("replay", verbatim(sentence)))
        chain = [{e.name}, {u.name for u in e.ups if u}]
        chain.append({v.name for u in e.ups if u for v in u.ups if v})
        chain.append({w.name for u in e.ups if u for v in u.ups if v for w in v.ups if w})
        texts = {k: bracketed(v) if len(e.names()) > 1 else v for k, v in e.written().items()}
        fix = None if self.phase == "seed" else fix_for(chain, at, texts)
        if brought:
            fix = f"find out where the nan in {brought} comes from"
        made = NonFiniteGradientError(f"{what} is {word}", operands=rows, fix=fix, at=e.at())
        made.parameter = who
        made.op, made.phase, made.index = e.name, self.phase, self.index
        made.lane, made.path, made.replay = self.lead, tuple(self.path()), replay
        return made

    def _reached(self) -> Any:
        """The bad number where it was noticed."""
        if self.kind == "gradient":
            last = self.trail[-1].born
            a = bottom(densify(last[1])) if last else None
        else:
            last_entry = self.trail[-1]
            a = bottom(slope(last_entry) if self.kind == "tangent" else last_entry.y)
        if a is None:
            return None
        a = np.asarray(a)
        return np.nan if np.isnan(a).any() else np.inf

    def _number(self) -> Any:
        """The bad number where it was born."""
        try:
            if self.phase == "tangent":
                a = at_lane(densify(slope(self.origin)), self.lane)
            elif self.phase == "forward":
                a = at_lane(self.origin.y, self.lane)
            else:
                a = at_lane(densify(self.origin.born[1]), self.lane)
            a = np.asarray(a)
            return a[self.index] if self.index is not None else a[first_bad(a) or ()]
        except (TypeError, IndexError):
            return "not finite"


def repr_of(value: Any) -> str:
    return repr(value.item()) if value.dtype.kind in "fciub" else str(value)


def digits(x: Any) -> str:
    """Four digits of a number of any width."""
    return str(np.format_float_scientific(x, precision=3, trim="-"))


def ranged(a: Any) -> Any:
    if a.dtype.kind not in "fiu" or not a.size:
        return a
    known = a[~np.isnan(a)]
    low, high = (known.min(), known.max()) if known.size else (np.nan, np.nan)
    shape = ", ".join(map(str, a.shape))
    lost = f", and {a.size - known.size} nan" if known.size < a.size else ""
    return verbatim(f"{a.dtype}[{shape}]   from {low:.4g} to {high:.4g}{lost}")


def shortened(words: list[str]) -> str:
    if len(words) > 8:
        words = [*words[:4], f"... {len(words) - 7} more ...", *words[-3:]]
    return " -> ".join(words)
