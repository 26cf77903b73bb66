"""Code that takes plain arrays alone, C or Fortran or another process, with a derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, ShapeError, UnsupportedError, verbatim
from ..given import call, function, numeric, one_of
from ..trace import Tensor, looked
from ..types import Array, Aval, is_inexact
from .custom import Arguments, CustomFunction, agreement, bottom, matched
from .law import Law, apply, by_columns, filled

__all__ = ["external"]

Flat = Callable[[list[Array]], list[Array]]
LEVELS = 12  # halvings (by 4) of the step before a difference is given up


class Foreign(Law):
    """A function of plain arrays: y = f(x), with J dx and J^T gy as functions of plain arrays."""

    opaque = True

    def __init__(self, name: str, f: Any, differences: str | None, depth: int = 0) -> None:
        self.name, self.f, self.differences, self.depth = name, f, differences, depth

    def call(self, xs: list[Array], want: bool) -> Any:
        ys = self.f(xs)
        return list(ys), tree.flatten(list(ys))[1], None

    # ---- on plain arrays
    def along(self, xs: list[Array], dxs: list[Array]) -> list[Array]:
        """J dx, by differences."""
        if self.differences is None:
            raise self.refusal()
        if self.depth > 1:
            raise UnsupportedError(
                f"a third derivative of {self.name}",
                "differences of differences of differences have no digits left",
                fix="give a vjp or a jvp",
            )
        step = complex_step if self.differences == "complex" and not self.depth else central
        return step(self.f, xs, dxs, self.name)

    def back(self, xs: list[Array], gs: list[Array], live: tuple[int, ...]) -> list[Array]:
        """J^T gy: one tangent for each element of the arguments."""

        def tangent(some: list[Array]) -> list[Array]:
            dxs = filled([None] * len(xs), xs)
            for i, d in zip(live, some):
                dxs[i] = d
            return self.along(xs, dxs)

        return by_columns(tangent, filled([None] * len(live), [xs[i] for i in live]), gs)

    def refusal(self) -> UnsupportedError:
        return UnsupportedError(
            f"the derivative of {self.name}",
            "it runs outside, and no derivative was given",
            fix='external(f, vjp=...), external(f, jvp=...), or differences="central"; '
            '"complex" if f takes complex arrays and is analytic',
        )

    # ---- on anything: operations that run outside, too
    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        return apply(Along(self, len(xs)), [*xs, *filled(dxs, xs)])

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        return apply(Back(self, len(xs), live), [*xs, *gs])


class Map(Foreign):
    """A derivative as a function of (x, d), linear in d; in x by differences, if wanted."""

    def __init__(self, base: Foreign, n: int) -> None:
        super().__init__(
            f"the derivative of {base.name}", self.run, base.differences, base.depth + 1
        )
        self.base, self.n = base, n

    def run(self, both: list[Array]) -> list[Array]:
        raise NotImplementedError

    def again(self, both: list[Array]) -> list[Array]:
        raise NotImplementedError

    def transposed(self, xs: list[Array], gs: list[Array], live: tuple[int, ...]) -> list[Array]:
        raise NotImplementedError

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        n, total = self.n, None
        if any(d is not None for d in dxs[n:]):
            total = self.again([*xs[:n], *filled(dxs[n:], xs[n:])])
        if any(d is not None for d in dxs[:n]):
            part = Foreign.push(self, xs, [*dxs[:n], *[None] * len(dxs[n:])], ys)
            total = part if total is None else [a + b for a, b in zip(total, part)]
        return list(total or [])

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        n = self.n
        inner, outer = tuple(i for i in live if i < n), tuple(i - n for i in live if i >= n)
        found: dict[int, Any] = {}
        if inner:
            found.update(zip(inner, Foreign.pull(self, xs, gs, inner, None)))
        if outer:
            found.update(zip((i + n for i in outer), self.transposed(xs[:n], gs, outer)))
        return [found[i] for i in live]


class Along(Map):
    """(x, dx) -> J(x) dx."""

    def run(self, both: list[Array]) -> list[Array]:
        return self.base.along(both[: self.n], both[self.n :])

    def again(self, both: list[Array]) -> list[Array]:
        return apply(self, both)

    def transposed(self, xs: list[Array], gs: list[Array], live: tuple[int, ...]) -> list[Array]:
        return apply(Back(self.base, self.n, live), [*xs, *gs])


class Back(Map):
    """(x, gy) -> J(x)^T gy, for the arguments that are live."""

    def __init__(self, base: Foreign, n: int, live: tuple[int, ...]) -> None:
        super().__init__(base, n)
        self.live = live

    def run(self, both: list[Array]) -> list[Array]:
        return self.base.back(both[: self.n], both[self.n :], self.live)

    def again(self, both: list[Array]) -> list[Array]:
        return apply(self, both)

    def transposed(self, xs: list[Array], gs: list[Array], live: tuple[int, ...]) -> list[Array]:
        dxs: list[Array | None] = [None] * self.n
        for i, g in zip(self.live, gs):
            dxs[i] = g
        ys = apply(Along(self.base, self.n), [*xs, *filled(dxs, xs)])
        return [ys[i] for i in live]


class User(Foreign):
    """The outside function that a user gave, at one structure of arguments."""

    def __init__(self, given: External, at: Arguments) -> None:
        super().__init__(given.name, self.run, given.differences)
        self.given, self.at = given, at
        self.traced = any(isinstance(x, Tensor) for x in at.xs)

    def run(self, xs: list[Array]) -> list[Array]:
        given = self.at.rebuild([plain(x) for x in xs])
        ys, self.out = tree.flatten(call(f"{self.name}(...)", "the function", self.given.f, *given))
        numeric(f"{self.name}(...)", lambda: tree.paths(self.out, "value"), ys)
        if self.traced and not ys:
            raise ArgumentError(f"{self.name}(...)", "it returned no numbers to differentiate")
        promised = self.given.promise(self.at, xs)
        for y, a in zip(ys, promised[0] if promised else []):
            if np.shape(y) != a.shape:
                raise ShapeError(
                    f"{self.name}(...)",
                    "the result does not have the shape that `out` promised",
                    operands=[("promised", a), ("got", np.asarray(y))],
                )
        return [np.asarray(y) for y in ys]

    def along(self, xs: list[Array], dxs: list[Array]) -> list[Array]:
        given, what = self.given, f"jvp of {self.name}"
        if given.jvp is not None:
            both = [self.at.rebuild([plain(v) for v in part]) for part in (xs, dxs)]
            got = call(what, "jvp", given.jvp, *both)
            found = matched(what, got, self.out, "")
            numeric(what, lambda: tree.paths(self.out, "dy"), [d for d in found if d is not None])
            return filled(found, self.ys(xs, found))
        if given.vjp is not None:  # one cotangent for each element of the value
            live = tuple(range(len(xs)))
            return by_columns(lambda gs: self.back(xs, gs, live), self.f(xs), dxs, self.name, given)
        return super().along(xs, dxs)

    def ys(self, xs: list[Array], found: list[Any]) -> list[Array]:
        return found if all(d is not None for d in found) else self.f(xs)

    def back(self, xs: list[Array], gs: list[Array], live: tuple[int, ...]) -> list[Array]:
        if self.given.vjp is None:
            return super().back(xs, gs, live)
        g = tree.unflatten(self.out, [plain(v) for v in gs])
        what = f"vjp of {self.name}"
        got = call(what, "vjp", self.given.vjp, self.at.rebuild([plain(x) for x in xs]), g)
        found = self.at.slopes(what, got, xs)
        return filled([found[i] for i in live], [xs[i] for i in live])

    def infer(self, *avals: Aval) -> Any:
        promised = self.given.promise(self.at, avals)
        if promised is None:
            raise UnsupportedError(
                f"{self.name} in a staged function",
                "code that runs outside does not say what shape its value has",
                fix="external(f, out=example) with arrays of the shapes and dtypes of the value",
            )
        leaves, self.out = promised
        return leaves[0] if len(leaves) == 1 else tuple(leaves)


def plain(x: Array) -> Array:
    """What outside code is given: a number, or an array in C order."""
    if not isinstance(x, np.ndarray):
        return x
    return np.ascontiguousarray(x) if x.ndim else x[()]


class Like:
    """The shape and the dtype of an argument."""

    def __init__(self, aval: Aval) -> None:
        self.shape, self.dtype = aval.shape, aval.dtype


class External:
    """A function that runs outside; see `external`."""

    def __init__(self, f: Any, vjp: Any, jvp: Any, out: Any, differences: str | None) -> None:
        self.f, self.vjp, self.jvp, self.out, self.differences = f, vjp, jvp, out, differences
        self.name = getattr(f, "__name__", type(f).__name__)
        self.checked = vjp is None or jvp is None  # against each other, at the first use

    def promise(self, at: Arguments, xs: Sequence[Any]) -> Any:
        """(shapes and dtypes of the value, its structure), if `out` says."""
        if self.out is None:
            return None
        out = self.out
        if callable(out):
            out = out(*at.rebuild([Like(Aval.of(x)) for x in xs]))
        leaves, structure = tree.flatten(out)
        return [Aval.of(v) for v in leaves], structure

    def run(self, *args: Any) -> Any:
        at = Arguments(self.name, args)
        xs = [looked(x) for x in at.xs]
        law = User(self, at)
        if not any(isinstance(x, Tensor) for x in xs):
            ys = law.f(xs)
            return tree.unflatten(law.out, [y if y.ndim else y[()] for y in ys])
        recorded = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        if recorded and self.vjp is self.jvp is self.differences is None:
            raise law.refusal()
        if recorded and not self.checked:
            points = [bottom(x) for x in xs]
            if all(p is not None for p in points):
                agreement(law, points, law.f(points))
                self.checked = True
        ys = apply(law, xs)
        return tree.unflatten(law.out, ys if isinstance(ys, list) else [ys])


def external(
    f: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    out: Any = None,
    differences: str | None = None,
) -> Any:
    """A function that runs outside, in C, Fortran or another process, with a derivative.

    It is always called with plain NumPy arrays in C order, which it must not write; under vmap once
    for each lane. Second derivatives are differences of the rule, if `differences` is given.

    Args:
        f: a function of arrays (and pytrees of them).
        vjp: (args, gy) -> one cotangent for each argument, None for none.
        jvp: (args, dargs) -> dy.
        out: arrays like the value, or a function from arguments to those; only staging needs it.
        differences: where there is no rule: "central" takes central differences with a step that
            is found by itself (about 10 digits), "complex" the complex step (all digits, for
            analytic f that takes complex arrays).

    Raises:
        UnsupportedError: it is differentiated, and neither a rule nor differences were given.

    >>> import math, numpy as np, wengert as wg
    >>> gamma = wg.external(math.lgamma, differences="central")
    >>> bool(abs(wg.grad(gamma)(1.0) + np.euler_gamma) < 1e-9)
    True
    >>> sine = wg.external(math.sin, vjp=lambda args, gy: (gy * math.cos(*args),))
    >>> wg.grad(sine)(0.0), wg.vmap(sine)(np.zeros(2))
    (np.float64(1.0), array([0., 0.]))
    """
    known = (None, "central", "complex")
    one_of("external(f, differences=...)", "differences", differences, known)
    what = "external(f, vjp, jvp, out)"
    function(what, "vjp", vjp, optional=True)
    function(what, "jvp", jvp, optional=True)
    if f is None:
        return lambda f: external(f, vjp, jvp, out, differences)
    function(what, "f", f)
    made = External(f, vjp, jvp, out, differences)
    ruled = CustomFunction(f)
    return wraps(f)(lambda *args, **kw: made.run(*(ruled.positional(args, kw) if kw else args)))


# ------------------------------------------------------------------ differences


def moved(xs: list[Array], dxs: list[Array], h: complex) -> list[Array]:
    return [x + h * d if is_inexact(np.asarray(x).dtype) else x for x, d in zip(xs, dxs)]


def complex_step(f: Flat, xs: list[Array], dxs: list[Array], name: str) -> list[Array]:
    """Im f(x + i h dx) / h: no difference is formed, so no digit is lost."""
    if any(np.asarray(x).dtype.kind == "c" for x in xs):
        raise UnsupportedError(
            f"the derivative of {name}", "the complex step is for real arguments",
            fix='differences="central"',
        )  # fmt: skip
    size = max((float(np.max(np.abs(d), initial=0)) for d in dxs), default=0.0)
    h = 1e-100 if size == 0 else 1e-100 / size
    ys = f(moved(xs, dxs, 1j * h))
    if any(y.dtype.kind != "c" for y in ys if is_inexact(y.dtype)):
        raise UnsupportedError(
            f"the derivative of {name}",
            "it gave real values for complex arguments, so the complex step sees nothing",
            fix='differences="central"',
        )
    return [np.imag(y) / h for y in ys]


def central(f: Flat, xs: list[Array], dxs: list[Array], name: str) -> list[Array]:
    """(f(x + h dx) - f(x - h dx)) / 2h, h -> 0 by Richardson, until two of them agree best.

    References: C. J. F. Ridders, Advances in Engineering Software 4 (1982).
    """
    ratio = max(
        (float(np.max(np.abs(d) / np.maximum(1.0, np.abs(x)), initial=0))
         for x, d in zip(xs, dxs) if np.size(x)),
        default=0.0,
    )  # fmt: skip
    if ratio == 0:
        return [np.zeros(y.shape, y.dtype if is_inexact(y.dtype) else float) for y in f(xs)]
    h = 0.03125 / ratio
    rows: list[list[list[Array]]] = []
    best: list[Array] = []
    error: list[Array] = []
    for _ in range(LEVELS):
        with np.errstate(all="ignore"):
            up, down = f(moved(xs, dxs, h)), f(moved(xs, dxs, -h))
            row = [[np.asarray((a - b) / (2 * h)) for a, b in zip(up, down)]]
            for k in range(len(rows[-1]) if rows else 0):
                c = 16.0 ** (k + 1)
                row.append([(c * a - b) / (c - 1) for a, b in zip(row[k], rows[-1][k])])
            if not best:
                best = row[0]
                error = [np.full(y.shape, np.inf) for y in best]
            for k in range(1, len(row)):
                for i, (new, a, b) in enumerate(zip(row[k], row[k - 1], rows[-1][k - 1])):
                    e = np.maximum(np.abs(new - a), np.abs(new - b))
                    better = e < error[i]
                    best[i] = np.where(better, new, best[i])
                    error[i] = np.where(better, e, error[i])
        rows.append(row)
        h /= 4
        floor = [3e-12 * np.max(np.abs(y), initial=0) for y in best]
        if all(np.all(e <= t) for e, t in zip(error, floor)):
            break
    for y, e in zip(best, error):
        wide = float(np.max(np.abs(y), initial=0))
        if np.any(~np.isfinite(e)) or np.any(e > 1e-3 * wide + 1e-8):
            raise UnsupportedError(
                f"the derivative of {name}",
                "its differences do not settle: it has a kink or noise there, or no value around",
                operands=[("best", verbatim(f"{y}")), ("uncertain by", verbatim(f"{e}"))],
                fix="give a vjp or a jvp",
            )
    return best
