"""Derivatives from values alone, each with an error bar: gradient, Jacobian, JVP and Hessian.

wg.numeric.grad(f)(x)                              central differences
wg.numeric.grad(f, method="richardson")(x)         extrapolated: ten digits and more
wg.numeric.grad(f, method="complex")(x)            exact for analytic functions
wg.numeric.grad(f, full=True)(x)                   value, error, evaluations, steps
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, DTypeError, NonScalarError, ShapeError, UnsupportedError
from ..given import call, count, function, items
from ..trace import EAGER, Tensor, make
from ..transforms.conventions import chosen
from .analytic import guarded, plain
from .noise import noise_of
from .point import OUTSIDE, Layout, Program
from .slopes import METHODS, Slope, fixed, richardson, slope

__all__ = ["Estimate", "grad", "hessian", "jacobian", "jvp"]

NAMES = ("forward", "central", "complex", "richardson")


@dataclass(frozen=True)
class Estimate:
    """A derivative from values: with error bars, how often f was called, and the steps.

    `error` has the shape of `value` and bounds |value - truth| as far as values can tell;
    `steps` is the step along each coordinate, in the order of the leaves.
    """

    value: Any
    error: Any
    evaluations: int
    steps: Any
    method: str


def check_method(method: str, step: Any) -> None:
    if method not in NAMES:
        raise ArgumentError(
            f"wg.numeric(f, method={method!r})",
            "no such way to take a difference",
            fix=f"one of {', '.join(map(repr, NAMES))}",
        )
    if step is not None and not (np.isfinite(step) and step > 0):
        raise ArgumentError(
            f"wg.numeric(f, step={step!r})",
            "a step is a positive number",
            fix="step=None chooses one from the values",
        )


class Differences:
    """Slopes of one program by one method."""

    def __init__(self, program: Program, method: str, step: float | None, full: bool) -> None:
        check_method(method, step)
        self.program, self.method, self.step, self.full = program, method, step, full
        if not np.isfinite(program.y).all():
            raise ArgumentError(
                program.what, "the value at x is not finite, and has no difference to take",
                operands=[("f(x)", str(program.y[:6]))],
            )  # fmt: skip
        if method == "complex":
            refuse_complex(program)
            self.noise = np.zeros_like(program.y)
            if step is None or full:
                check_analytic(program)
        else:
            need = step is None or full
            self.noise = noise_of(program) if need else np.zeros_like(program.y)

    def along(self, d: Any) -> Slope:
        program = self.program
        if self.method == "complex":
            h = self.step or 1e-30 * program.scale(d)
            value = complex_step(program, d, h)
            return Slope(value, 4 * program.eps * np.abs(value) + 2 * h * h, h)
        phi = program.line(d)
        if self.step is None:
            return slope(self.method, phi, program.y, self.noise, program.eps, program.scale(d))
        value = fixed(self.method, phi, program.y, self.step)
        if not self.full:
            return Slope(value, np.zeros_like(value), self.step)
        half = fixed(self.method, phi, program.y, self.step / 2)
        error = 2 * np.abs(value - half) + 2 * self.noise / self.step
        return Slope(value, error, self.step)

    def columns(self) -> tuple[Any, Any, Any]:
        """(J[k, m] = dy_m / dx_k, its error bars, the steps)."""
        n, m = self.program.x.size, self.program.y.size
        got = [self.along(self.program.unit(k)) for k in range(n)]
        return (
            np.array([s.value for s in got]).reshape(n, m),
            np.array([s.error for s in got]).reshape(n, m),
            np.array([s.step for s in got]),
        )


def refuse_complex(program: Program) -> None:
    for a, live, path in zip(program.input.arrays, program.input.live, program.input.paths):
        if live and a.dtype.kind == "c":
            raise DTypeError(
                program.what,
                "the complex step perturbs real numbers along the imaginary axis",
                operands=[(f"x{path}", a)],
                fix="method='richardson'",
            )


def complex_step(program: Program, d: Any, h: float, shift: Any = 0.0) -> Any:
    """Im f(x + shift + i h d) / h: no subtraction, so h may be as small as it likes."""
    z = (program.x + shift) + 1j * h * d
    args = program.input.build(z, like=False)
    args = tree.map(guarded, args)
    program.calls += 1
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            out = program.f(*args, **program.kwargs)
    except UnsupportedError:
        raise
    except (TypeError, np.exceptions.ComplexWarning, *OUTSIDE) as error:
        raise not_analytic(program, f"f does not take complex numbers ({error})") from error
    parts = []
    mine = program.output
    for v, a, live in zip(tree.leaves(out), mine.arrays, mine.live):
        if not live:
            continue
        got = np.asarray(plain(v.value() if isinstance(v, Tensor) else v))
        if a.dtype.kind == "c":
            raise not_analytic(program, "the value is complex already")
        if got.dtype.kind != "c":
            raise not_analytic(program, "the imaginary part is lost on the way")
        parts.append(got.imag.reshape(-1) / h)
    return np.concatenate(parts)


def not_analytic(program: Program, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{program.what}, method='complex'",
        f"the complex step needs an analytic function: {why}",
        fix="method='richardson', which asks for real values alone",
    )


def check_analytic(program: Program) -> None:
    """The complex step in one direction against differences of real values."""
    rng = np.random.default_rng(0)
    d = rng.choice([-1.0, -0.5, 0.5, 1.0], program.x.size)
    d = d * np.maximum(np.abs(program.x), 1e-3)
    got = complex_step(program, d, 1e-30)
    noise = noise_of(program)
    want = METHODS["central"](program.line(d), program.y, noise, program.eps, 1.0)
    if not close(got, want):
        want = richardson(program.line(d), program.y, noise, program.eps, 1.0)
        if not close(got, want):
            k = int(np.argmax(np.abs(got - want.value)))
            raise not_analytic(
                program,
                f"along one direction it says {got[k]:.6g}, and real differences "
                f"{want.value[k]:.6g} ± {want.error[k]:.1g}",
            )


def close(got: Any, want: Slope) -> bool:
    known = np.isfinite(want.value) & np.isfinite(want.error)
    gap = np.abs(got - np.where(known, want.value, got))
    return bool((gap <= 10 * np.where(known, want.error, 0) + 1e-6 * np.abs(got)).all())


# ------------------------------------------------------------------ the derivatives


def _picked(
    f: Callable[..., Any], argnums: Any, args: tuple[Any, ...], kwargs: Any, what: str
) -> tuple[Program, bool]:
    function(what, "f", f)
    one = isinstance(argnums, int)
    given = [argnums] if one else items(what, "argnums", argnums, "places of arguments")
    nums = tuple([count(what, "argnums", n, None) for n in given])
    if not all(-len(args) <= n < len(args) for n in nums):
        raise ArgumentError(what, f"argnums={argnums} of {len(args)} positional arguments")
    places = [n % len(args) for n in nums]

    def g(*xs: Any) -> Any:
        full = list(args)
        for n, x in zip(places, xs):
            full[n] = x
        return call(what, "f", f, *full, **kwargs)

    return Program(g, tuple(args[n] for n in places), None, what), one


def _name(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _dressed(layout: Layout, rows: list[Any]) -> Any:
    """A tree like the layout's, of arrays with any axes in front; tensors where tensors were."""
    made: list[Any] = []
    for row, old, a in zip(rows, layout.leaves, layout.arrays):
        if row is None:
            made.append(np.zeros(a.shape))
            continue
        row = row[()] if row.ndim == 0 else row
        made.append(make(np.asarray(row), None, EAGER) if isinstance(old, Tensor) else row)
    return tree.unflatten(layout.structure, made)


def _number(layout: Layout, z: Any, conjugate: bool, like: bool = True) -> list[Any]:
    """The leaves of a gradient: for a complex leaf  dL/dre - i dL/dim  (or its conjugate)."""
    out = layout.parts(z, like)
    return [
        np.conjugate(p) if p is not None and p.dtype.kind == "c" and conjugate else p for p in out
    ]


def grad(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    method: str = "central",
    step: float | None = None,
    full: bool = False,
) -> Callable[..., Any]:
    """The gradient of f by differences of its values.

    Args:
        f: a function of pytrees whose value is one real number.
        argnums: which positional argument, or arguments, to differentiate.
        method: "forward" (about 8 digits), "central" (about 10), "richardson" (about 12), or
            "complex" (all 16, for analytic functions of real numbers).
        step: the step along every coordinate; None chooses one per coordinate, by measuring the
            rounding noise of f and its curvature.
        full: return an `Estimate`, with error bars and the number of evaluations.

    Raises:
        NonScalarError: the value is not one real number.
        UnsupportedError: method="complex" of a function that is not analytic.

    Example:
        >>> g = grad(lambda x: np.sum(np.sin(x)), method="complex")
        >>> bool(np.allclose(g(np.array([0.0, 1.0])), np.cos([0.0, 1.0]), rtol=1e-15))
        True
        >>> e = grad(lambda x: x ** 3, method="richardson", full=True)(2.0)
        >>> bool(abs(e.value - 12) < 1e-9), bool(e.error < 1e-8)
        (True, True)

    References:
        W. Squire, G. Trapp: Using complex variables to estimate derivatives of real functions.
        SIAM Rev. 40 (1998).
    """

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        what = f"wg.numeric.grad({_name(f)})"
        program, one = _picked(f, argnums, args, kwargs, what)
        if program.y.size != 1 or np.prod(program.output.arrays[0].shape) != 1:
            raise NonScalarError(
                what,
                "a gradient is the derivative of one real number",
                operands=[("value", program.output.leaves[0])],
                fix="wg.numeric.jacobian for all the derivatives",
            )
        value, error, steps = Differences(program, method, step, full).columns()
        conjugate = chosen("complex") != "torch"
        g = _dressed(program.input, _number(program.input, value[:, 0], conjugate))
        if not full:
            return g[0] if one else g
        e = _dressed(program.input, _number(program.input, error[:, 0], False))
        return Estimate(*((g[0], e[0]) if one else (g, e)), program.calls, steps, method)

    return gradient


def jacobian(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    method: str = "central",
    step: float | None = None,
    full: bool = False,
) -> Callable[..., Any]:
    """The Jacobian J[i, j] = dy_i / dx_j by differences, laid out as by `wg.jacobian`.

    Args and errors are those of `grad`; f may return any pytree, and takes real numbers.

    Example:
        >>> np.round(jacobian(lambda x: x ** 2)(np.array([1.0, 2.0])), 6)
        array([[2., 0.],
               [0., 4.]])
    """

    @wraps(f)
    def jac(*args: Any, **kwargs: Any) -> Any:
        what = f"wg.numeric.jacobian({_name(f)})"
        program, one = _picked(f, argnums, args, kwargs, what)
        refuse_complex(program)
        value, error, steps = Differences(program, method, step, full).columns()
        j, e = (_table(program, t, one) for t in (value, error))
        return Estimate(j, e, program.calls, steps, method) if full else j

    return jac


def _table(program: Program, columns: Any, one: bool) -> Any:
    """columns[k, m] as a tree of the value's leaves, each a tree like the argument."""
    inputs, outputs = program.input, program.output
    rows = [outputs.parts(c) for c in columns]  # per coordinate, a list of output leaves
    blank = outputs.parts(program.y)
    made: list[Any] = []
    for m, a in enumerate(outputs.arrays):
        if not outputs.live[m]:
            made.append(None)
            continue
        parts = [r[m] for r in rows] or [blank[m]]
        stacked = np.stack(parts, axis=-1)[..., : len(rows)]  # [value's shape, coordinates]
        leaves: list[Any] = []
        for x, live, start in zip(inputs.arrays, inputs.live, inputs.starts):
            part = stacked[..., start : start + x.size] if live else None
            leaves.append(None if part is None else part.reshape((*a.shape, *x.shape)))
        row = _dressed(inputs, leaves)
        made.append(row[0] if one else row)
    return tree.unflatten(outputs.structure, made)


def jvp(
    f: Callable[..., Any],
    primals: Any,
    tangents: Any,
    *,
    method: str = "central",
    step: float | None = None,
    full: bool = False,
) -> Any:
    """Value and directional derivative (f(x), J dx) by differences along one line.

    Args:
        f: a function of one or more pytrees.
        primals: the tuple of arguments x (a bare array for a function of one argument).
        tangents: the direction dx, of the same structure and shapes.
        method, step, full: as for `grad`; with `full` the second result is an `Estimate`.

    Example:
        >>> y, dy = jvp(lambda x: x * x, 3.0, 1.0, method="complex")
        >>> float(y), float(dy)
        (9.0, 6.0)
    """
    args = primals if isinstance(primals, tuple) else (primals,)
    dargs = tangents if isinstance(tangents, tuple) else (tangents,)
    what = f"wg.numeric.jvp({_name(f)})"
    program = Program(f, args, None, what)
    d, other = tree.flatten(dargs)
    fits = other == program.input.structure and all(
        np.shape(v.value() if isinstance(v, Tensor) else v) == a.shape
        for v, a in zip(d, program.input.arrays)
    )
    if not fits:
        raise ShapeError(
            what,
            "primals and tangents differ in structure or shape",
            operands=[("primals", str(program.input.structure)), ("tangents", str(other))],
        )
    got = Differences(program, method, step, full).along(program.input.vector(d))
    outputs = program.output
    y, dy = (_dressed(outputs, outputs.parts(z)) for z in (program.y, got.value))
    if full:
        error = _dressed(outputs, outputs.parts(got.error))
        dy = Estimate(dy, error, program.calls, np.array([got.step]), method)
    return y, dy


def hessian(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    method: str = "central",
    step: float | None = None,
    full: bool = False,
) -> Callable[..., Any]:
    """Second derivatives H[i, j] by second differences of values.

        forward      (f(+i+j) - f(+i) - f(+j) + f) / h^2                    about 4 digits
        central      (f(+i+j) - f(+i-j) - f(-i+j) + f(-i-j)) / 4h^2         about 7
        richardson   central at h and h/2, extrapolated                     about 9
        complex      Im (f(x + i t e_i + h e_j) - f(x + i t e_i - h e_j)) / 2th   about 10

    Args and errors are those of `grad`.

    Example:
        >>> np.round(hessian(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0])), 4) + 0.0
        array([[ 6.,  0.],
               [ 0., 12.]])
    """

    @wraps(f)
    def second(*args: Any, **kwargs: Any) -> Any:
        what = f"wg.numeric.hessian({_name(f)})"
        program, one = _picked(f, argnums, args, kwargs, what)
        check_method(method, step)
        refuse_complex(program)
        if program.y.size != 1:
            raise NonScalarError(
                what,
                "a Hessian holds the second derivatives of one real number",
                operands=[("value", program.output.leaves[0])],
            )
        if method == "complex":
            check_analytic(program)
        value, error, steps = _second(program, method, step, full)
        h, e = (_square(program, t, one) for t in (value, error))
        return Estimate(h, e, program.calls, steps, method) if full else h

    return second


ORDER = {"forward": 1 / 3, "central": 1 / 4, "richardson": 1 / 6, "complex": 1 / 3}


def _second(program: Program, method: str, step: float | None, full: bool) -> Any:
    n = program.x.size
    scales = np.array([program.scale(program.unit(k)) for k in range(n)])
    auto = 2.0 ** np.round(np.log2(program.eps ** ORDER[method] * scales))
    h = np.full(n, step) if step else auto
    value, error = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            a, b = h[i] * program.unit(i), h[j] * program.unit(j)
            value[i, j] = value[j, i] = v = _mixed(program, method, a, b, h[i], h[j])
            if full:
                w = _mixed(program, method, 2 * a, 2 * b, 2 * h[i], 2 * h[j])
                noise = 4 * program.eps * abs(float(program.y[0])) / (h[i] * h[j])
                noise = 4 * program.eps * abs(v) / h[j] if method == "complex" else noise
                error[i, j] = error[j, i] = abs(v - w) + noise
    return value, error, h


def _mixed(program: Program, method: str, a: Any, b: Any, h: float, k: float) -> float:
    def f(d: Any) -> float:
        return float(program.at(program.x + d)[0])

    if method == "forward":
        return (f(a + b) - f(a) - f(b) + float(program.y[0])) / (h * k)
    if method == "complex":
        t, e = 1e-30 * h, a / h
        up, down = (complex_step(program, e, t, s)[0] for s in (b, -b))
        return float(up - down) / (2 * k)

    def central(a: Any, b: Any, area: float) -> float:
        return (f(a + b) - f(a - b) - f(b - a) + f(-a - b)) / (4 * area)

    if method == "central":
        return central(a, b, h * k)
    coarse, fine = central(a, b, h * k), central(a / 2, b / 2, h * k / 4)
    return (4 * fine - coarse) / 3


def _square(program: Program, table: Any, one: bool) -> Any:
    """H[i, j] as a tree like the argument, of trees like the argument."""
    inputs = program.input
    outer: list[Any] = []
    for x, live, start in zip(inputs.arrays, inputs.live, inputs.starts):
        inner: list[Any] = []
        for z, alive, first in zip(inputs.arrays, inputs.live, inputs.starts):
            part = table[start : start + x.size, first : first + z.size]
            inner.append(part.reshape((*x.shape, *z.shape)) if live and alive else None)
        row = _dressed(inputs, inner)
        outer.append(row[0] if one else row)
    full = tree.unflatten(inputs.structure, outer)
    return full[0] if one else full
