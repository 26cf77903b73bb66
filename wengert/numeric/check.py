"""Derivatives held against differences of values, with a verdict that gives its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError
from ..given import function
from ..structural import Masked, densify
from ..trace import EAGER, Leaf, Tensor, looked
from ..transforms.jvp import jvp
from ..transforms.tape import sweep
from ..transforms.vjp import vjp
from .diagnosis import diagnose, suspicious
from .noise import noise_of
from .point import Layout, Program, array_of
from .slopes import climbed, extrapolated, ladder
from .verdict import Finding, Verdict

__all__ = ["gradcheck", "gradgradcheck"]

MODES = {"both": ("forward", "reverse"), "forward": ("forward",), "reverse": ("reverse",)}
GRAVITY = ("mismatch", "discontinuous", "singular", "edge", "kink", "roundoff")


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    mode: str = "both",
    tol: float | None = None,
    fast: bool = False,
    kwargs: dict[str, Any] | None = None,
    seed: int = 0,
) -> Verdict:
    """Whether the derivatives of f at the inputs are those of its values, and if not, why not.

    Every entry of the Jacobian is compared with central differences extrapolated to step 0, each
    with its own error bar: it may differ by three error bars and `tol` of its size. One-sided
    differences at several steps tell a kink or a jump from a wrong derivative; repeated calls tell
    a function that draws random numbers.

    Args:
        f: a function of pytrees, a module (its parameters are checked too), or a program on tensors
            that require a gradient (then `.backward()` is checked as well).
        inputs: the tuple of arguments (anything else: the only argument). Real or complex; what is
            not floating point is held fixed.
        mode: "both", "reverse" or "forward".
        tol: the relative tolerance beside the error bars; None for the root of the unit roundoff.
        fast: compare u^T J v for three random pairs u, v instead of every entry; what fails is then
            looked for entry by entry.
        kwargs: other arguments of f.
        seed: of the random directions.

    Returns:
        a `Verdict`: true or false, with `.reason`, `.findings` and `.raise_()`.

    Example:
        >>> print(gradcheck(np.sin, np.array([0.3, 1.0])).kind)
        agrees
        >>> print(gradcheck(np.abs, np.array([0.3, -1.0, 0.0])).reason)  # doctest: +ELLIPSIS
        kink at index (2,), of output (2,): the slope is -1 on the left and 1 on the right; ...
    """
    if mode not in MODES:
        raise ArgumentError(
            f"gradcheck(f, inputs, mode={mode!r})",
            "no such mode",
            fix="one of 'both', 'reverse', 'forward'",
        )
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    name = getattr(function("gradcheck(f, inputs)", "f", f), "__name__", type(f).__name__)
    call, keywords = f, kwargs or {}
    if len(tree.leaves(f)) != 1 or tree.leaves(f)[0] is not f:  # a module is an argument of its own
        args = (f, *args)
        call = _call
    return _Check(call, args, keywords, MODES[mode], tol, f"gradcheck({name})", seed).run(fast)


def _call(module: Any, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def gradgradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    mode: str = "both",
    tol: float | None = None,
    fast: bool = False,
    kwargs: dict[str, Any] | None = None,
    seed: int = 0,
) -> Verdict:
    """`gradcheck` of the pullback (x, gy) -> J(x)^T gy: the second derivatives of f.

    Args and result are those of `gradcheck`.

    Example:
        >>> bool(gradgradcheck(lambda x: np.tanh(x) * x[0], np.array([0.3, 1.0])))
        True
    """
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    name = getattr(function("gradgradcheck(f, inputs)", "f", f), "__name__", type(f).__name__)
    call = f
    if len(tree.leaves(f)) != 1 or tree.leaves(f)[0] is not f:
        args, call = (f, *args), _call
    program = Program(call, args, kwargs, f"gradgradcheck({name})")
    rng = np.random.default_rng(seed)
    gy = program.output.parts(rng.uniform(0.5, 1.5, program.y.size))
    closed = Closed(program)

    def pullback(xs: Any, gy: Any) -> Any:
        return vjp(closed, *xs)[1](tuple(gy))

    xs = closed.live(program.x)
    gys = [g for g in gy if g is not None]
    if mode not in MODES:
        return gradcheck(f, inputs, mode=mode)
    what = f"gradgradcheck({name})"
    return _Check(pullback, (xs, gys), {}, MODES[mode], tol, what, seed).run(fast)


class Closed:
    """A program as a function of its floating-point leaves, returning its floating-point leaves."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def live(self, z: Any) -> list[Any]:
        return [p for p in self.program.input.parts(z) if p is not None]

    def __call__(self, *live: Any) -> Any:
        layout, program = self.program.input, self.program
        it = iter(live)
        full = [next(it) if alive else old for alive, old in zip(layout.live, layout.leaves)]
        out = program.f(*tree.unflatten(layout.structure, full), **program.kwargs)
        return tuple(
            v for v, alive in zip(tree.leaves(out), program.output.live, strict=True) if alive
        )


def vector_of(layout: Layout, live: list[Any], pairing: bool = False) -> Any:
    """Coordinates of the live leaves; of a cotangent, as the dual of the coordinates."""
    it = iter(live)
    leaves = [next(it) if alive else a for alive, a in zip(layout.live, layout.arrays)]
    leaves = [array_of(v) for v in leaves]
    return layout.vector([np.conjugate(v) for v in leaves] if pairing else leaves)


def seeds(layout: Layout, z: Any, pairing: bool = False) -> list[Any]:
    """A direction, leaf by leaf: its zeros mean "not asked", as in the Jacobian's own seeds."""
    out: list[Any] = []
    for p in layout.parts(z):
        if p is not None:
            p = np.conjugate(p) if pairing else p
            out.append(p if p.all() else Masked(p, p != 0))
    return out


# ------------------------------------------------------------------ what is checked


class Forward:
    """J v by `jvp`."""

    mode = "forward"

    def __init__(self, program: Program) -> None:
        self.program, self.closed = program, Closed(program)
        self.seen = np.ones(program.x.size, bool)

    def push(self, v: Any) -> Any:
        p = self.program
        xs, dxs = tuple(self.closed.live(p.x)), tuple(seeds(p.input, v))
        p.calls += 1
        return vector_of(p.output, list(jvp(self.closed, xs, dxs)[1]))

    def jacobian(self) -> Any:
        p = self.program
        return np.array([self.push(p.unit(k)) for k in range(p.x.size)])

    def form(self, u: Any, v: Any) -> float:
        return float(u @ self.push(v))


class Reverse:
    """J^T u by `vjp`."""

    mode = "reverse"

    def __init__(self, program: Program) -> None:
        self.program, self.closed = program, Closed(program)
        self.seen = np.ones(program.x.size, bool)
        program.calls += 1
        self.pullback = vjp(self.closed, *self.closed.live(program.x))[1]

    def pull(self, u: Any) -> Any:
        p = self.program
        gx = self.pullback(tuple(seeds(p.output, u, pairing=True)))
        return vector_of(p.input, list(gx), pairing=True)

    def jacobian(self) -> Any:
        return np.stack([self.pull(u) for u in np.eye(self.program.y.size)], axis=1)

    def form(self, u: Any, v: Any) -> float:
        return float((self.pull(u) * self.seen) @ v)


class Backward(Reverse):
    """J^T u by the eager tape: what `.backward()` would add to `.grad`."""

    mode = "backward"

    def __init__(self, program: Program) -> None:
        self.program = program
        layout = program.input
        wanted = [isinstance(v, Tensor) and v.requires_grad for v in layout.leaves]
        ends = [*layout.starts[1:], layout.size]
        self.seen = np.zeros(layout.size, bool)
        for w, start, end in zip(wanted, layout.starts, ends):
            self.seen[start:end] = w
        args = layout.build(program.x)
        program.calls += 1
        out = program.f(*args, **program.kwargs)
        self.nodes = [getattr(v, "node", None) for v in tree.leaves(args)]
        self.ys = [looked(v) for v in tree.leaves(out)]

    def pull(self, u: Any) -> Any:
        p = self.program
        found: dict[Leaf, Any] = {}

        def sink(leaf: Leaf, g: Any) -> None:
            found[leaf] = found[leaf] + g if leaf in found else g

        it = iter(seeds(p.output, u, pairing=True))
        gs = [next(it) if live else None for live in p.output.live]
        with np.errstate(all="ignore"):
            for y, g in zip(self.ys, gs):
                if g is not None and isinstance(y, Tensor) and y.node is not None:
                    sweep(y.node, g, True, None, sink)
        rows = [
            array_of(densify(found[n])) if n in found else np.zeros(a.shape)
            for n, a in zip(self.nodes, p.input.arrays)
        ]
        return p.input.vector([np.conjugate(r) for r in rows])


def engines(program: Program, modes: tuple[str, ...]) -> list[Any]:
    made: list[Any] = []
    if "forward" in modes:
        made.append(Forward(program))
    if "reverse" in modes:
        made.append(Reverse(program))
        leaves = program.input.leaves
        if any(isinstance(v, Tensor) and v.requires_grad and v.level is EAGER for v in leaves):
            made.append(Backward(program))
    return made


class _Check:
    def __init__(
        self, f: Any, args: Any, kwargs: Any, modes: Any, tol: Any, what: str, seed: int
    ) -> None:
        self.program = Program(f, args, kwargs, what)
        self.modes, self.what, self.seed = modes, what, seed
        self.eps = self.program.eps
        self.tol = self.eps**0.5 if tol is None else tol
        self.notes: list[str] = []
        if self.eps > 1e-10:
            name = next(
                str(a.dtype)
                for layout in (self.program.input, self.program.output)
                for a, live in zip(layout.arrays, layout.live)
                if live and Layout(a).eps == self.eps
            )
            kind = "input" if self.program.input.eps == self.eps else "value"
            self.notes.append(
                f"{name} {kind}: differences of it carry about "
                f"{-np.log10(self.eps**0.6):.0f} digits; float64 arrays are checked to 9"
            )

    def verdict(self, kind: str, reason: str, findings: Any = (), deviation: Any = (0, 0)) -> Any:
        order = sorted(findings, key=lambda f: GRAVITY.index(f.kind))
        return Verdict(
            kind == "agrees", kind, reason, tuple(order), tuple(self.notes),
            self.program.calls, deviation, self.what,
        )  # fmt: skip

    def run(self, fast: bool) -> Verdict:
        p = self.program
        if not np.isfinite(p.y).all():
            m = int(np.flatnonzero(~np.isfinite(p.y))[0])
            return self.verdict("not finite", f"the value at x is {p.y[m]}{_of(p, m)}")
        if not p.x.size or not p.y.size:
            return self.verdict("agrees", "there are no numbers to check")
        for _ in range(2):
            again = p.at(p.x)
            if not np.array_equal(again, p.y, equal_nan=True):
                m = int(np.argmax(np.abs(again - p.y)))
                return self.verdict(
                    "not deterministic",
                    f"not deterministic: two calls at the same point gave {p.y[m]:.10g} and "
                    f"{again[m]:.10g}{_of(p, m)}; seed the random numbers inside f, or call "
                    "model.eval()",
                )
        self.noise = noise_of(p, self.seed)
        return self.projected() if fast else self.entries()

    # ---- entry by entry
    def entries(self) -> Verdict:
        p = self.program
        n = p.x.size
        climbs = [
            climbed(p.line(p.unit(k)), p.y, self.noise, self.eps, p.scale(p.unit(k)))
            for k in range(n)
        ]
        value = np.array([c[0].value for c in climbs])
        error = np.array([c[0].error for c in climbs])
        odd = np.array([suspicious(c[1], self.noise, self.eps) for c in climbs])
        around = np.array([c[2] for c in climbs])
        findings: list[Finding] = []
        worst = (0.0, 0.0)
        tables = []
        for engine in engines(p, self.modes):
            table = engine.jacobian()
            found, deviation = self.compare(engine, table, value, error, odd, around)
            findings += found
            worst = max(worst, deviation)
            tables.append((engine, table))
        findings = merged(findings) + self.between(tables, findings)
        if not findings:
            modes = " and ".join(e.mode for e, _ in tables)
            return self.verdict(
                "agrees",
                f"{modes} mode agree{'s' * (len(tables) == 1)} with differences: {_sizes(p)}, "
                f"largest deviation {worst[0]:.1g} (error bar {worst[1]:.1g}), "
                f"{p.calls} evaluations",
                deviation=worst,
            )
        first = min(findings, key=lambda f: GRAVITY.index(f.kind))
        return self.verdict(first.kind, str(first), findings, worst)

    def compare(
        self, engine: Any, table: Any, value: Any, error: Any, odd: Any, around: Any
    ) -> tuple[list[Finding], tuple[float, float]]:
        p = self.program
        with np.errstate(all="ignore"):
            off = np.abs(table - value)
            size = np.where(np.isfinite(table), np.abs(table), 0.0)
            allowed = 3 * error + self.tol * np.abs(value) + 8 * self.eps * size.max()
            bad = ~(off <= allowed) | ~np.isfinite(table) | ~np.isfinite(error)
            natural = around + size.max()
            blunt = 3 * error > 0.05 * np.abs(table) + max(1e-4, self.eps**0.3) * natural
        seen = engine.seen[:, None]
        ask = (bad | blunt | odd) & seen
        found = []
        for k in np.flatnonzero(ask.any(axis=1)).tolist():
            why = diagnose(p, p.unit(k), self.noise, np.flatnonzero(ask[k]))
            finer = self.finer(k, table[k], value[k], error[k]) if bad[k].any() else None
            for m in np.flatnonzero(ask[k]).tolist():
                kind, left, right = why.get(m, ("", None, None))
                if not kind and blunt[k, m]:
                    kind = "roundoff"
                elif not kind and bad[k, m] and finer is not None and not finer[m]:
                    kind = "mismatch"
                if kind:
                    found.append(
                        Finding(
                            kind, engine.mode, _at(p.input, k), _at(p.output, m, True),
                            float(table[k, m]), float(value[k, m]), float(error[k, m]), left, right,
                        )
                    )  # fmt: skip
        fine = np.where(ask | ~seen | ~np.isfinite(off), 0.0, off)
        at = np.unravel_index(int(np.argmax(fine)), fine.shape)
        return found, (float(fine[at]), float(error[at]))

    def finer(self, k: int, analytic: Any, value: Any, error: Any) -> Any:
        """Which slopes a shorter ladder confirms, and the first difference not.

        Long steps may skip whole waves of f, and agree among themselves.
        """
        p = self.program
        d, ok = p.unit(k), np.zeros(p.y.size, bool)
        for shorter in (10, 16, 22, 28):
            h = 0.61 * p.scale(d) * 2.0**-shorter
            got = extrapolated(ladder(p.line(d), p.y, h, 6), self.noise, self.eps)
            with np.errstate(all="ignore"):
                near = np.abs(analytic - got.value) <= 3 * got.error + self.tol * np.abs(got.value)
                other = ~(np.abs(value - got.value) <= 3 * (error + got.error))
                ok |= near & other & (got.error <= 1e-3 * np.abs(got.value))
        return ok

    def between(self, tables: Any, findings: list[Finding]) -> list[Finding]:
        """Forward and reverse mode against each other, which needs no differences."""
        p = self.program
        if len(tables) < 2 or any(f.kind == "mismatch" for f in findings):
            return []
        (_, a), (_, b) = tables[:2]
        with np.errstate(all="ignore"):
            size = np.nanmax(np.abs(a), initial=0.0)
            bad = ~(np.abs(a - b) <= 1e4 * self.eps * np.abs(a) + 100 * self.eps * size)
            bad &= ~(np.isnan(a) & np.isnan(b)) & (a != b)
        return [
            Finding(
                "mismatch", "reverse against forward", _at(p.input, int(k)),
                _at(p.output, int(m), True), float(b[k, m]), float(a[k, m]), 0.0,
            )
            for k, m in np.argwhere(bad)
        ]  # fmt: skip

    # ---- by projections
    def projected(self) -> Verdict:
        p = self.program
        rng = np.random.default_rng(self.seed)
        worst = (0.0, 0.0)
        made = engines(p, self.modes)
        for engine in made:
            for _ in range(3):
                v = (rng.integers(4, 12, p.x.size) * rng.choice([-1, 1], p.x.size)) / 8.0
                v = v * engine.seen
                u = rng.uniform(0.5, 1.5, p.y.size) * rng.choice([-1, 1], p.y.size)
                noise = np.array([np.abs(u) @ self.noise])
                got, steps, around = climbed(
                    projection(p, u, v),
                    np.array([u @ p.y]), noise, self.eps, p.scale(v),
                )  # fmt: skip
                analytic = engine.form(u, v)
                off, bar = abs(analytic - float(got.value[0])), float(got.error[0])
                size = max(abs(analytic), float(around[0]))
                fine = off <= 3 * bar + self.tol * size and bar <= 0.01 * size < np.inf
                fine = fine or off <= self.eps * float(np.abs(u) @ np.abs(p.y)) / p.scale(v)
                if not fine or suspicious(steps, noise, self.eps).any():
                    return self.located(engine.mode, analytic, got)
                worst = max(worst, (off, bar))
        modes = " and ".join(e.mode for e in made)
        return self.verdict(
            "agrees",
            f"{modes} mode agree{'s' * (len(made) == 1)} with differences along random directions: "
            f"{_sizes(p)}, largest deviation {worst[0]:.1g}, "
            f"{p.calls} evaluations",
            deviation=worst,
        )

    def located(self, mode: str, analytic: float, got: Any) -> Verdict:
        """A projection failed: which entry is it?"""
        p = self.program
        if p.x.size * p.y.size <= 1 << 14:
            return self.entries()
        finding = Finding(
            "mismatch", mode, "a random direction", "", analytic,
            float(got.value[0]), float(got.error[0]),
        )  # fmt: skip
        return self.verdict("mismatch", str(finding), [finding])


def projection(p: Program, u: Any, v: Any) -> Callable[[float], Any]:
    return lambda t: np.array([u @ p.at(p.x + t * v)])


def merged(findings: list[Finding]) -> list[Finding]:
    """One line for what several modes say alike."""
    groups: dict[Any, list[Finding]] = {}
    for f in findings:
        key = (f.kind, f.input, f.output, f"{f.analytic + 0.0:.8g}")
        groups.setdefault(key, []).append(f)
    return [replace(fs[0], mode=" and ".join(f.mode for f in fs)) for fs in groups.values()]


def _sizes(p: Program) -> str:
    n, m = p.x.size, p.y.size
    return f"{n} input{'s' * (n > 1)}, {m} output{'s' * (m > 1)}"


def _at(layout: Layout, k: int, output: bool = False) -> str:
    """`index (2,)` of the only leaf; `x[0]['w'] index (1, 0)` among several."""
    path, index, part = layout.where(k)
    live = sum(layout.live)
    words = [] if live == 1 else [("y" if output else "x") + path]
    if index or (live == 1 and not output):
        words.append(f"index {index}" if not output or words else f"{index}")
    return " ".join([*words, *([f"({part})"] if part else [])])


def _of(program: Program, m: int) -> str:
    text = _at(program.output, m, True)
    return f" at output {text}" if text else ""
