"""All ways to one derivative side by side: numerical, symbolic, automatic."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import tree
from .errors import ArgumentError, DTypeError, MissingExtraError, WengertError
from .numeric.check import Closed, seeds, vector_of
from .numeric.diagnosis import suspicious
from .numeric.differences import Differences, refuse_complex
from .numeric.noise import noise_of
from .numeric.picture import COLOURS, axes_of, saved
from .numeric.point import Program, some_numbers
from .numeric.slopes import climbed
from .transforms.jacobian import jacfwd, jacrev
from .transforms.taylor import jet
from .transforms.vjp import vjp

try:
    from . import symbolic
except MissingExtraError:  # compare says so
    symbolic = None  # type: ignore[assignment]

__all__ = ["Comparison", "Scaling", "Way", "compare"]

LIMIT = 4096  # entries of a Jacobian up to which the symbolic way is tried


@dataclass(frozen=True)
class Way:
    """One row: a way to the derivative, and what it cost.

    Attributes:
        name: "forward differences", .., "symbolic", "forward mode", "reverse mode", "Taylor mode".
        value: the Jacobian, of shape (outputs, inputs) in real coordinates.
        error: max |value - truth| / max |truth|.
        evaluations: calls of f.
        seconds: the median time of the whole derivative.
        memory: the peak of new memory, in bytes.
        prepared: seconds spent once beforehand (the closed form), not in `seconds`.
        note: what else there is to say.
    """

    name: str
    value: Any
    error: float
    evaluations: int
    seconds: float
    memory: int
    prepared: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Scaling:
    """Seconds of a whole Jacobian with respect to the first inputs, or of the first outputs."""

    inputs: list[tuple[int, float, float]]
    outputs: list[tuple[int, float, float]]

    def __str__(self) -> str:
        lines = []
        for word, rows in (("inputs", self.inputs), ("outputs", self.outputs)):
            lines.append(f"{word:>8}  {'forward mode':>14}  {'reverse mode':>14}")
            lines += [f"{n:>8}  {_time(a):>14}  {_time(b):>14}" for n, a, b in rows]
        return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `str` is the table.

    Attributes:
        rows: the ways, in the order of the table.
        left_out: (name of the way, why it was left out).
        truth: what the errors were measured against.
        plain: the seconds of one call of f.
        inputs, outputs: how many real numbers go in and come out.
        best: the name of the recommended way.
        reason: why.
        scaling: the growth with inputs and outputs, if it was asked for.
    """

    rows: tuple[Way, ...]
    left_out: tuple[tuple[str, str], ...]
    truth: str
    plain: float
    inputs: int
    outputs: int
    best: str
    reason: str
    scaling: Scaling | None = None

    def __getitem__(self, name: str) -> Way:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def cells(self) -> list[list[str]]:
        head = ["way", "error", "calls of f", "time", "in calls of f", "peak memory", ""]
        body = [
            [
                r.name, f"{r.error:.1e}", str(r.evaluations), _time(r.seconds),
                f"{r.seconds / self.plain:.1f}", _bytes(r.memory),
                " ".join(filter(None, [r.note, "<-" if r.name == self.best else ""])),
            ]
            for r in self.rows
        ]  # fmt: skip
        return [head, *body]

    def __str__(self) -> str:
        cells = self.cells()
        wide = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = [f"{self.inputs} in, {self.outputs} out; one call of f takes {_time(self.plain)}"]
        lines += [
            "  ".join(c.ljust(w) if i in (0, 6) else c.rjust(w) for i, (c, w) in
                      enumerate(zip(row, wide))).rstrip()
            for row in cells
        ]  # fmt: skip
        lines += [f"left out: {name}: {why}" for name, why in self.left_out]
        lines += [f"errors against {self.truth}", f"recommended: {self.best}: {self.reason}"]
        if self.scaling is not None:
            lines += ["", str(self.scaling)]
        return "\n".join(lines)

    __repr__ = __str__

    def markdown(self) -> str:
        """The table in Markdown."""
        head, *body = self.cells()
        rows = [head, ["-"] * len(head), *body]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def plot(self, path: Any = None) -> str:
        """Error over time, a point for each way, as SVG (needs the extra `train`)."""
        with axes_of("Ways to one derivative", (6.4, 4.2)) as (figure, axes):
            for i, r in enumerate(self.rows):
                axes.loglog(
                    [r.seconds], [max(r.error, 1e-17)], "o", ms=9,
                    color=COLOURS[i % len(COLOURS)], label=r.name,
                )  # fmt: skip
            axes.set(xlabel="seconds", ylabel="relative error")
            axes.legend(bbox_to_anchor=(1.02, 1), loc="upper left")
            return saved(figure, path)


def _time(s: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if s >= scale:
            return f"{s / scale:.3g} {unit}"
    return f"{s * 1e9:.0f} ns"


def _bytes(n: int) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if n >= scale:
            return f"{n / scale:.3g} {unit}"
    return f"{n} B"


# ------------------------------------------------------------------ the ways


def differences(method: str) -> Callable[[Program], Any]:
    def run(p: Program) -> Any:
        got = Differences(p, method, None, False)
        return got.columns()[0].T

    return run


def forward_mode(p: Program) -> Any:
    return _joined(p, jacfwd(Closed(p), _all(p))(*Closed(p).live(p.x)))


def reverse_mode(p: Program) -> Any:
    closed = Closed(p)
    if p.y.size == 1:
        _, pull = vjp(closed, *closed.live(p.x))
        g = pull(tuple(seeds(p.output, np.ones(1), pairing=True)))
        return vector_of(p.input, list(g))[None]
    return _joined(p, jacrev(closed, _all(p))(*closed.live(p.x)))


def taylor_mode(p: Program) -> Any:
    closed = Closed(p)
    xs = tuple(closed.live(p.x))
    columns = []
    for k in range(p.x.size):
        d = closed.live(p.unit(k))
        _, series = jet(closed, xs, tuple([v] for v in d))
        columns.append(vector_of(p.output, [s[0] for s in series]))
    return np.array(columns).T


def _all(p: Program) -> tuple[int, ...]:
    return tuple(range(sum(p.input.live)))


def _joined(p: Program, blocks: Any) -> Any:
    """The blocks of a Jacobian, output by input, as one matrix."""
    ys = [a for a, live in zip(p.output.arrays, p.output.live) if live]
    xs = [a for a, live in zip(p.input.arrays, p.input.live) if live]
    return np.block(
        [[np.reshape(np.asarray(j), (y.size, x.size)) for j, x in zip(row, xs)]
         for y, row in zip(ys, blocks)]
    )  # fmt: skip


AUTOMATIC: dict[str, Callable[[Program], Any]] = {
    "forward differences": differences("forward"),
    "central differences": differences("central"),
    "Richardson differences": differences("richardson"),
    "complex step": differences("complex"),
    "forward mode": forward_mode,
    "reverse mode": reverse_mode,
    "Taylor mode": taylor_mode,
}
WAYS = (
    "forward differences", "central differences", "Richardson differences", "complex step",
    "symbolic", "forward mode", "reverse mode", "Taylor mode",
)  # fmt: skip


class Formula:
    """The closed form of the derivative, as a program and in many digits."""

    def __init__(self, f: Callable[..., Any], x: Any) -> None:
        start = time.perf_counter()
        self.expression = symbolic.derivative(f, x)
        self.symbols = symbolic.symbols(f, x)
        self.run = symbolic.function(self.expression, self.symbols)
        self.prepared = time.perf_counter() - start

    def operations(self) -> int:
        return int(sum(e.count_ops() for e in self.entries()))

    def entries(self) -> list[Any]:
        e = self.expression
        return list(np.array(e.tolist(), object).reshape(-1)) if hasattr(e, "tolist") else [e]

    def digits(self, x: Any, n: int = 40) -> Any:
        """The entries at x to n digits, as floats that are right to the last bit."""
        s = self.symbols
        flat = np.array(s.tolist(), object).reshape(-1) if hasattr(s, "tolist") else [s]
        rational = symbolic.exact
        at = dict(zip(flat, [rational(float(v)) for v in np.reshape(x, -1)]))
        return np.array([float(e.evalf(n, subs=at)) for e in self.entries()])


def compare(
    f: Callable[[Any], Any],
    x: Any,
    *,
    ways: Any = None,
    seconds: float = 0.1,
    scaling: bool = False,
) -> Comparison:
    """Every way to the derivative of f at x: its error, its calls of f, its time, its memory.

    Differences (forward, central, Richardson, complex step), the closed form (with the extra
    `symbolic`), forward mode, reverse mode and Taylor mode give the same Jacobian. The errors are
    measured against the closed form in 40 digits where there is one; else against reverse mode in
    extended precision; else against reverse mode in double precision. Each is confirmed by
    Richardson differences, and the table says which it was.

    Args:
        f: a function of one real array (or a pytree of them), returning an array or a number.
        x: the point.
        ways: the names of the ways to take; None for all.
        seconds: how long each way is timed.
        scaling: measure also how forward mode grows with the inputs and reverse mode with the
            outputs, by differentiating with respect to the first 1, 2, 4, .. of each.

    Returns:
        a `Comparison`: print it, or read `.rows`, `.best`, `.reason`, `.markdown()`, `.plot(path)`.

    Example:
        >>> found = compare(lambda x: np.sum(np.sin(x) * np.exp(x)), np.ones(50), seconds=0.01)
        >>> found.best
        'reverse mode'
        >>> found["central differences"].error < 1e-8, found["reverse mode"].error < 1e-14
        (True, True)
    """
    program = Program(f, (x,), None, "wg.compare(f, x)")
    names = WAYS if ways is None else tuple(ways)
    for name in names:
        if name not in WAYS:
            raise ArgumentError(
                f"wg.compare(f, x, ways=...{name!r})", "no such way",
                fix=f"any of {', '.join(map(repr, WAYS))}",
            )  # fmt: skip
    refuse_complex(program)
    some_numbers(program)
    if any(a.dtype.kind == "c" for a in program.output.arrays):
        raise DTypeError(
            program.what, "the derivative is that of a real value", operands=[("f(x)", program.y)],
            fix="np.real(f(x)), np.imag(f(x)) or np.abs(f(x))",
        )  # fmt: skip
    plain = timed(lambda: f(x), seconds)
    left_out: list[tuple[str, str]] = []
    formula = closed_form(f, x, program, left_out) if "symbolic" in names else None
    truth, source = best_truth(f, x, program, formula)
    size = float(np.abs(truth).max(initial=0.0)) or 1.0
    rows = []
    for name in names:
        if name == "symbolic":
            if formula is None:
                continue
            run: Callable[[Program], Any] = formula_way(formula, x)
        else:
            run = AUTOMATIC[name]
        try:
            rows.append(measured(name, run, f, x, truth, size, seconds, formula))
        except (WengertError, TypeError) as error:
            rule = getattr(error, "rule", "") or str(error)
            left_out.append((name, rule))
    best, reason = recommended(rows, program)
    grown = scaled(f, x, seconds) if scaling else None
    return Comparison(
        tuple(rows), tuple(left_out), source, plain, program.x.size, program.y.size, best, reason,
        grown,
    )  # fmt: skip


def formula_way(formula: Formula, x: Any) -> Callable[[Program], Any]:
    def run(p: Program) -> Any:
        return np.asarray(formula.run(x), float).reshape(p.y.size, p.x.size)

    return run


def closed_form(f: Any, x: Any, program: Program, left_out: Any) -> Formula | None:
    if symbolic is None:
        left_out.append(("symbolic", "SymPy is not installed: pip install 'wengert[symbolic]'"))
    elif program.x.size * program.y.size > LIMIT:
        left_out.append(
            ("symbolic", f"{program.y.size} x {program.x.size} closed forms are too many")
        )
    else:
        try:
            return Formula(f, x)
        except (WengertError, TypeError, ValueError, NotImplementedError) as error:
            left_out.append(("symbolic", getattr(error, "rule", "") or str(error).split("\n")[0]))
    return None


def best_truth(f: Any, x: Any, program: Program, formula: Formula | None) -> tuple[Any, str]:
    noise, n = noise_of(program), program.x.size
    lines = [program.unit(k) for k in range(n)]
    climbs = [
        climbed(program.line(d), program.y, noise, program.eps, program.scale(d)) for d in lines
    ]
    value = np.array([c[0].value for c in climbs]).T
    error = np.array([c[0].error for c in climbs]).T
    odd = any(suspicious(c[1], noise, program.eps).any() for c in climbs)

    def confirmed(j: Any) -> bool:
        return bool((np.abs(j - value) <= 10 * error + 1e-9 * np.abs(value)).all())

    word = "confirmed by Richardson differences"
    if odd:  # their mean may still agree with the middle of a kink
        word = "though the slopes on both sides differ: see wg.numeric.gradcheck"
    if formula is not None:
        try:
            j = formula.digits(x).reshape(program.y.size, program.x.size)
            if np.isfinite(j).all() and confirmed(j):
                return j, f"the closed form in 40 digits, {word}"
        except (TypeError, ValueError):  # a function that SymPy cannot evaluate
            pass
    doubles = all(a.dtype == np.float64 for a in program.input.arrays)
    if doubles and np.finfo(np.longdouble).eps < 1e-18:
        long = Program(f, (_extended(program),), None, program.what)
        if all(a.dtype == np.longdouble for a in long.output.arrays):
            try:
                j = reverse_mode(long)
                if j.dtype == np.longdouble and confirmed(j):
                    return j, f"reverse mode in extended precision, {word}"
            except (WengertError, TypeError):
                pass
    j = reverse_mode(program)
    if confirmed(j):
        return (
            j,
            f"reverse mode in {'double' if program.eps < 1e-10 else 'single'} precision, {word}",
        )
    return j, ("reverse mode, which differences do NOT confirm: see wg.numeric.gradcheck")


def _extended(program: Program) -> Any:
    wide = [a.astype(np.longdouble) for a in program.input.arrays]
    return _rebuilt(program, wide)


def _rebuilt(program: Program, leaves: list[Any]) -> Any:
    (x,) = tree.unflatten(program.input.structure, leaves)
    return x


def measured(
    name: str, run: Any, f: Any, x: Any, truth: Any, size: float, seconds: float, formula: Any
) -> Way:
    program = Program(f, (x,), None, "wg.compare(f, x)")
    program.calls = 1  # the call that found out the shape of the value
    calls = [0]
    inner = program.f

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return inner(*args, **kwargs)

    program.f = counted
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        value = run(program)
        memory = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    value = np.asarray(value, np.longdouble)
    evaluations = calls[0] + (1 if "differences" in name else 0)
    error = float(np.abs(value - truth).max(initial=0.0) / size)
    program.f = inner
    took = timed(lambda: run(program), seconds)
    note, prepared = "", 0.0
    if name == "symbolic":
        prepared = formula.prepared
        note = f"{formula.operations()} operations, {_time(prepared)} to derive"
    value = value.astype(float)
    return Way(name, value, error, evaluations, took, max(memory, 0), prepared, note)


def timed(run: Callable[[], Any], seconds: float) -> float:
    """The median time of a call, over as many calls as fit (at least 3, at most 1000)."""
    run()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while len(took) < 3 or (time.perf_counter() < end and len(took) < 1000):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
        if len(took) == 1 and took[0] > 10 * seconds:
            break
    return float(np.median(took))


def recommended(rows: list[Way], p: Program) -> tuple[str, str]:
    """The fastest of those that are right to rounding; a closed form pays for its derivation."""
    if not rows:
        return "", "no way was taken"
    least = min(r.error for r in rows)
    right = [r for r in rows if r.error <= max(16 * least, 1e3 * p.eps)]
    best = min(right, key=lambda r: r.seconds + r.prepared)
    n, m = p.x.size, p.y.size
    numbers = f"an error of {best.error:.0e} in {_time(best.seconds)}"
    ins, outs = f"{n} input{'s' * (n > 1)}", f"{m} output{'s' * (m > 1)}"
    why = {
        "reverse mode": f"one sweep an output, and there are {ins} and {outs}",
        "forward mode": f"one tangent an input, and there are {ins} and {outs}",
        "Taylor mode": f"one series an input, and there are {ins} and {outs}",
        "symbolic": "its closed form is short",
        "complex step": f"one call an input, without cancellation, and there are {ins}",
    }.get(best.name, "nothing more accurate is faster here")
    others = [r for r in rows if r.name in ("forward mode", "reverse mode") and r is not best]
    against = "".join(
        f"; {r.name} took {r.seconds / best.seconds:.1f} times as long" for r in others
    )
    return best.name, f"{numbers}: {why}{against}"


def scaled(f: Any, x: Any, seconds: float) -> Scaling:
    """The time of the Jacobian with respect to the first inputs, and of the first outputs."""
    p = Program(f, (x,), None, "wg.compare(f, x)")
    closed = Closed(p)
    lives = closed.live(p.x)
    if len(lives) != 1 or sum(p.output.live) != 1:
        raise ArgumentError("wg.compare(f, x, scaling=True)", "one array in, one array out")
    whole = np.asarray(lives[0])

    def part(n: int, m: int) -> Callable[[Any], Any]:
        rest = whole.reshape(-1)[n:]

        def g(head: Any) -> Any:
            z = np.concatenate([head, rest]) if rest.size else head
            return np.reshape(closed(z.reshape(whole.shape))[0], (-1,))[:m]

        return g

    def times(n: int, m: int) -> tuple[float, float]:
        g, head = part(n, m), whole.reshape(-1)[:n]
        return timed(lambda: jacfwd(g)(head), seconds), timed(lambda: jacrev(g)(head), seconds)

    inputs = [(n, *times(n, 1)) for n in _sizes(p.x.size)]
    outputs = [(m, *times(1, m)) for m in _sizes(p.y.size)]
    return Scaling(inputs, outputs)


def _sizes(n: int) -> list[int]:
    out = [1]
    while out[-1] * 4 < n:
        out.append(out[-1] * 4)
    return out if out[-1] == n else [*out, n]
