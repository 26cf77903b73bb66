"""Closed forms of derivatives, formulas as programs, and derivations step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, NonScalarError
from ..ops import elementwise as e
from ..ops import special
from ..trace import OPS
from ..types import Array
from .forms import boxed, form, sp
from .reading import Reading, read, shown, simplified

__all__ = [
    "Derivation",
    "derivation",
    "derivative",
    "differentiate",
    "function",
    "gradient",
    "hessian",
    "jacobian",
    "latex",
]

FLAT = (sp.floor, sp.ceiling, sp.sign, sp.Heaviside)


def differentiate(y: Any, x: Any) -> Any:
    """dy/dx of a SymPy number, in the conventions of the operations: steps have the slope 0.

    >>> t = sp.Symbol("t", real=True)
    >>> differentiate(t * sp.floor(t), t), differentiate(sp.Abs(t), t)
    (floor(t), sign(t))
    """
    steps: dict[Any, Any] = {}

    def hide(v: Any) -> Any:
        return steps.setdefault(v, sp.Dummy(f"s{len(steps)}", real=True))

    if not y.has(x):
        return sp.Integer(0)
    y = y.replace(sp.Mod, lambda a, b: a - b * sp.floor(a / b))
    slope = sp.diff(y.replace(lambda v: isinstance(v, FLAT), hide), x)
    back = {dummy: v for v, dummy in steps.items()}
    while slope.free_symbols & back.keys():
        slope = slope.xreplace(back)
    return slope


def slopes(y: Array, xs: Array) -> Any:
    """J[i, j] = dy_i / dx_j of object arrays: the axes of y, then those of x."""
    out = np.empty((*y.shape, *xs.shape), object)
    for i in np.ndindex(*y.shape):
        for j in np.ndindex(*xs.shape):
            out[i + j] = differentiate(y[i], xs[j])
    return out


def argument(reading: Reading, wrt: int) -> Any:
    """The symbols of one argument, as an object array."""
    if not -len(reading.symbols) <= wrt < len(reading.symbols):
        raise ArgumentError(f"wrt={wrt}", f"the function has {len(reading.symbols)} arguments here")
    x = reading.symbols[wrt]
    if isinstance(x, dict | list | tuple):
        raise ArgumentError(f"wrt={wrt}", "it is a container: name one array as an argument")
    if not isinstance(x, sp.Basic | np.ndarray) or (
        isinstance(x, np.ndarray) and x.dtype != object
    ):
        raise ArgumentError(f"wrt={wrt}", "integers are not symbols, and have no derivative")
    y = boxed(np.array(x.tolist(), object)) if hasattr(x, "tolist") else boxed(x)
    for v in y.flat:
        if not v.is_Symbol or sum(u.has(v) for u in reading.flat) > 1:
            raise ArgumentError(
                f"the derivative with respect to {v}",
                "an argument is one symbol that stands in no other place",
            )
    return y


def one_value(what: str, reading: Reading) -> Any:
    if len(reading.leaves) != 1:
        raise ArgumentError(what, f"the function returns {len(reading.leaves)} arrays, not one")
    return reading.leaves[0]


def jacobian(f: Callable[..., Any], *args: Any, wrt: int = 0, simplify: bool = False) -> Any:
    """The Jacobian J[i, j] = dy_i / dx_j in closed form, numerator layout.

    Args:
        f: a function of arrays with one array as its value.
        args: as for `expression`.
        wrt: which argument.
        simplify: pass every entry through `sympy.simplify`.

    Returns:
        a SymPy array with the axes of the value first and those of the argument after them.

    Example:
        >>> jacobian(lambda x: x * x[::-1], (2,))
        [[x1, x0], [x1, x0]]
    """
    reading = read(f, *args)
    y = slopes(one_value("jacobian", reading), argument(reading, wrt))
    return shown(simplified(y) if simplify else y)


def gradient(f: Callable[..., Any], *args: Any, wrt: int = 0, simplify: bool = False) -> Any:
    """The gradient of one number in closed form, in the shape of the argument.

    Raises:
        NonScalarError: the value of f is not one number.

    Example:
        >>> import numpy as np
        >>> gradient(lambda x: np.log(np.sum(np.exp(x))), (2,))
        [exp(x0)/(exp(x0) + exp(x1)), exp(x1)/(exp(x0) + exp(x1))]
    """
    reading = read(f, *args)
    y = one_value("gradient", reading)
    if y.size != 1:
        raise NonScalarError(
            "gradient(f)", f"f has a value of shape {y.shape}", fix="wg.symbolic.jacobian"
        )
    g = slopes(y.reshape(()), argument(reading, wrt))
    return shown(simplified(g) if simplify else g)


def derivative(
    f: Callable[..., Any], *args: Any, wrt: int = 0, order: int = 1, simplify: bool = False
) -> Any:
    """The derivative of f in closed form: one number for numbers, else the Jacobian.

    Args:
        f: a function of arrays with one array as its value.
        args: as for `expression`.
        wrt: which argument.
        order: how many times.
        simplify: pass every entry through `sympy.simplify`.

    Example:
        >>> import numpy as np
        >>> derivative(lambda x: np.exp(-x * x / 2), 1.0)
        -x*exp(-x**2/2)
        >>> derivative(np.tan, 1.0, order=2)
        (2*tan(x)**2 + 2)*tan(x)
    """
    reading = read(f, *args)
    y, x = one_value("derivative", reading), argument(reading, wrt)
    for _ in range(order):
        y = slopes(y, x)
    return shown(simplified(y) if simplify else y)


def hessian(f: Callable[..., Any], *args: Any, wrt: int = 0, simplify: bool = False) -> Any:
    """The matrix of second derivatives in closed form: `derivative` of order 2.

    >>> hessian(lambda x: x[0] ** 2 * x[1], (2,))
    [[2*x1, 2*x0], [2*x0, 0]]
    """
    return derivative(f, *args, wrt=wrt, order=2, simplify=simplify)


def latex(x: Any) -> str:
    r"""LaTeX of a closed form.

    >>> print(latex(derivative(lambda x: x**0.5, 1.0)))
    \frac{1}{2 \sqrt{x}}
    """
    return str(sp.latex(x))


# ------------------------------------------------------------------ back to a program

# SymPy's names for what NumPy does not have, as operations that wengert differentiates.
MODULES: dict[str, Any] = {
    "erf": e.erf,
    "erfc": e.erfc,
    "erfinv": special.erfinv,
    "erfcinv": special.erfcinv,
    "gamma": OPS["gamma"],
    "loggamma": OPS["loggamma"],
    "digamma": OPS["psi"],
    "polygamma": OPS["polygamma"],
    "besselj": OPS["jv"],
    "bessely": OPS["yv"],
    "besseli": OPS["iv"],
    "besselk": OPS["kv"],
    "zeta": OPS["zeta"],
    "elliptic_k": OPS["ellipk"],
    "elliptic_e": OPS["ellipe"],
    "Ei": OPS["expi"],
    "expint": lambda n, x: OPS["exp1"](x),
    "LambertW": lambda x, k=0: OPS["lambertw_m1" if k == -1 else "lambertw_0"](x),
    "erfi": lambda x: OPS["dawsn"](x) * e.exp(x * x) * (2 / np.sqrt(np.pi)),
    "lowergamma": lambda a, x: OPS["gammainc"](a, x) * OPS["gamma"](a),
    "uppergamma": lambda a, x: OPS["gammaincc"](a, x) * OPS["gamma"](a),
    "Heaviside": np.heaviside,
}


def printer() -> Any:
    """SymPy's printer for NumPy, with choices as `where` and `maximum`, which the tape knows."""
    from_sympy = sp.printing.numpy.NumPyPrinter

    class Printer(from_sympy):  # type: ignore[misc, valid-type]
        def _print_Piecewise(self, y: Any) -> str:
            text = "nan"
            for value, condition in reversed(y.args):
                value = self._print(value)
                always = condition == sp.true
                text = value if always else f"where({self._print(condition)}, {value}, {text})"
            return text

        def _choice(self, name: str, y: Any) -> str:
            first, *rest = [self._print(a) for a in y.args]
            for a in rest:
                first = f"{name}({first}, {a})"
            return first

        def _print_Max(self, y: Any) -> str:
            return self._choice("maximum", y)

        def _print_Min(self, y: Any) -> str:
            return self._choice("minimum", y)

        def _print_And(self, y: Any) -> str:
            return self._choice("logical_and", y)

        def _print_Or(self, y: Any) -> str:
            return self._choice("logical_or", y)

        def _print_Heaviside(self, y: Any) -> str:
            return f"heaviside({self._print(y.args[0])}, 0.5)"

        def _plain(self, y: Any) -> str:
            return f"{type(y).__name__}({', '.join(self._print(a) for a in y.args)})"

    for name in MODULES.keys() - {"Heaviside"}:
        setattr(Printer, f"_print_{name}", Printer._plain)
    settings = {"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True}
    return Printer(settings)


def function(expr: Any, symbols: Any = None, cse: bool = True) -> Callable[..., Any]:
    """A formula as a function of NumPy operations, which wengert differentiates.

    Args:
        expr: a SymPy number, matrix or array.
        symbols: one argument, or a sequence of arguments, each a symbol or an array of symbols;
            by default the free symbols of the formula in the order of their names.
        cse: name what occurs more than once, so that it is computed once.

    Returns:
        a function of as many arguments. For one number, its arguments broadcast.

    Raises:
        ArgumentError: the formula has symbols that are not among the arguments.

    Example:
        >>> import sympy, wengert as wg
        >>> t = sympy.Symbol("t", real=True)
        >>> f = function(t * sympy.exp(-(t**2)), t)
        >>> bool(np.isclose(wg.grad(f)(0.5), (1 - 0.5) * np.exp(-0.25)))
        True
    """
    many = hasattr(expr, "tolist")
    y = boxed(np.array(expr.tolist(), object)) if many else boxed(expr)
    if symbols is None:
        symbols = sorted(set().union(*[v.free_symbols for v in y.flat]), key=lambda s: s.name)
    single = isinstance(symbols, sp.Basic | np.ndarray)
    groups = [symbols] if single else list(symbols)
    xs = [boxed(np.array(g.tolist(), object)) if hasattr(g, "tolist") else boxed(g) for g in groups]
    flat = [s for x in xs for s in x.flat]
    missing = set().union(*[v.free_symbols for v in y.flat]) - set(flat)
    if missing:
        raise ArgumentError(
            "function(expr, symbols)", f"the formula also has {sorted(map(str, missing))}"
        )
    code = sp.lambdify(flat, list(y.flat), [MODULES, "numpy"], cse=cse, printer=printer())

    def f(*args: Any) -> Any:
        if len(args) != len(xs):
            raise ArgumentError("a formula", f"it takes {len(xs)} arguments, not {len(args)}")
        values = [a[i] if x.shape else a for a, x in zip(args, xs) for i in np.ndindex(*x.shape)]
        out = code(*values)
        if not many:
            return out[0]
        return np.reshape(np.stack([whole(v) for v in out]), y.shape)

    return f


def whole(v: Any) -> Any:
    return np.float64(v) if isinstance(v, int | float) else v


# ------------------------------------------------------------------ a derivation


class Derivation:
    """The chain rule applied operation by operation, and the composed result.

    Attributes:
        steps: (the value v_k, its form in earlier values, {earlier value: the local derivative}).
        adjoints: (a value v, the sum that its adjoint dy/dv is), from the result back.
        result: {symbol: the derivative, composed}.
    """

    def __init__(
        self, y: Any, steps: list[Any], adjoints: list[Any], result: dict[Any, Any]
    ) -> None:
        self.y, self.steps, self.adjoints, self.result = y, steps, adjoints, result

    def latex(self) -> str:
        """The derivation as an `align*` of LaTeX."""
        lines = []
        for v, y, local in self.steps:
            lines.append(rf"{latex(v)} &= {latex(y)}")
            lines += [
                rf"\frac{{\partial {latex(v)}}}{{\partial {latex(u)}}} &= {latex(d)}"
                for u, d in local.items()
            ]
        for v, total in self.adjoints:
            lines.append(rf"\frac{{\partial y}}{{\partial {latex(v)}}} &= {total}")
        for x, d in self.result.items():
            lines.append(rf"\frac{{\partial y}}{{\partial {latex(x)}}} &= {latex(d)}")
        return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"

    _repr_latex_ = latex

    def __str__(self) -> str:
        rows = []
        for v, y, local in self.steps:
            parts = ", ".join(f"d{v}/d{u} = {d}" for u, d in local.items())
            rows.append(f"{v} = {y}" + (f"    {parts}" if parts else ""))
        rows += [f"dy/d{x} = {d}" for x, d in self.result.items()]
        return "\n".join(rows)


def derivation(f: Callable[..., Any], *args: Any, simplify: bool = False) -> Derivation:
    """How reverse mode finds the derivatives of one number, in formulas.

    Each operation is a step v_k with its local derivatives; the adjoint of a value is the sum over
    its users of their adjoint times the local derivative; put together they are the gradient.

    Raises:
        NonScalarError: the value of f is not one number.

    Example:
        >>> print(derivation(lambda x: np.sin(x) * x, 1.0))
        v1 = sin(x)    dv1/dx = cos(x)
        v2 = v1*x    dv2/dv1 = x, dv2/dx = v1
        dy/dx = x*cos(x) + sin(x)
    """
    reading = read(f, *args)
    y = one_value("derivation", reading)
    if y.size != 1:
        raise NonScalarError("derivation(f)", f"f has a value of shape {y.shape}")
    graph = reading.graph
    known: dict[int, Any] = {v.n: graph.forms[v.n] for v in reading.inputs}
    steps: list[Any] = []
    meaning: dict[Any, Any] = {}

    def operand(x: Any) -> Any:
        n = getattr(x, "n", None)
        return known[n] if n in known else graph.value(x)

    for line in graph.lines:
        local = form(line.op, [operand(x) for x in line.inputs])
        for v, part in zip(line.outputs, local if isinstance(local, tuple) else (local,)):
            known[v.n] = named_steps(part, steps, meaning, graph.forms[v.n])
    (last,) = graph_output(reading, known)
    bar: dict[Any, Any] = {last: sp.Integer(1)}
    terms: dict[Any, list[str]] = {}
    for v, _, local in reversed(steps):
        if v not in bar:
            continue
        for u, d in local.items():
            bar[u] = bar.get(u, sp.Integer(0)) + bar[v] * d
            head = "" if v == last else rf"\frac{{\partial y}}{{\partial {latex(v)}}} \cdot "
            terms.setdefault(u, []).append(head + rf"\left({latex(d)}\right)")
    adjoints = [(u, " + ".join(parts)) for u, parts in terms.items()]
    result = {}
    for x in reading.flat:
        total = bar.get(x, sp.Integer(0)).xreplace(meaning)
        result[x] = sp.simplify(total) if simplify else total
    return Derivation(last, steps, adjoints, result)


def named_steps(part: Any, steps: list[Any], meaning: dict[Any, Any], full: Any) -> Any:
    """Give each number that is neither a name nor a constant a name v_k, and note its slopes."""
    out = np.empty(part.shape, object)
    for i in np.ndindex(*part.shape):
        y = part[i]
        if y.is_Symbol or not y.free_symbols or not isinstance(y, sp.Expr):
            out[i] = y
            continue
        v = sp.Symbol(f"v{len(steps) + 1}", real=True)
        local = {u: differentiate(y, u) for u in sorted(y.free_symbols, key=str)}
        steps.append((v, y, {u: d for u, d in local.items() if d != 0}))
        meaning[v] = full[i]
        out[i] = v
    return out


def graph_output(reading: Reading, known: dict[int, Any]) -> list[Any]:
    """The names of the numbers that the program returns."""
    n = getattr(reading.outputs[0], "n", None)
    return list((known[n] if n in known else reading.leaves[0]).flat)
