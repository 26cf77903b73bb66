"""The closed form of every operation that has one: one line an operation, in SymPy.

`SCALAR` has the elementwise operations, as functions of SymPy numbers; `ARRAY` those on whole
arrays, as functions of object arrays of SymPy numbers. Structural operations (sums, indices,
products) need no line of their own: NumPy runs them on objects as it does on numbers.

At the kinks of choices (abs, relu, maximum, minimum, clip) the slopes agree too; where an operation
has a subgradient in place of 0 / 0 (a length at the origin), a formula has no value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, reduce
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..extras import need
from ..ops import linear
from ..trace import OPS
from ..types import Array

sp: Any = need("sympy", extra="symbolic")
one, two, pi = sp.Integer(1), sp.Integer(2), sp.pi

# fmt: off


def is_condition(x: Any) -> bool:
    """Whether x is true or false; a symbol is a number here, though SymPy takes it for either."""
    return isinstance(x, sp.logic.boolalg.Boolean) and not isinstance(x, sp.Expr)


def if_(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, b elsewhere."""
    condition = truth(condition)
    if condition in (sp.true, sp.false):
        return a if condition == sp.true else b
    return sp.Piecewise((a, condition), (b, True))


def truth(x: Any) -> Any:
    """A condition, from a condition or from a number."""
    x = sp.sympify(x)
    return x if is_condition(x) else sp.Ne(x, 0)


def number(x: Any) -> Any:
    """A number, from a number or from a condition: 1 where it holds."""
    return if_(x, one, sp.Integer(0)) if is_condition(x) else x


def of_conditions(f: Callable[..., Any]) -> Callable[..., Any]:
    """A bitwise operation, which on booleans is a logical one."""
    def formed(*xs: Any) -> Any:
        if all(map(is_condition, xs)):
            return f(*xs)
        raise UnsupportedError("the closed form of a bitwise operation", "it has one on booleans")
    return formed


def sigmoid(x: Any) -> Any:
    return 1 / (1 + sp.exp(-x))


def softplus(x: Any) -> Any:
    return sp.log(1 + sp.exp(x))


def mish(x: Any) -> Any:
    return x * sp.tanh(softplus(x))


def gelu_tanh(x: Any) -> Any:
    return x / (1 + sp.exp(-2 * sp.sqrt(2 / pi) * (x + sp.Rational(44715, 1000000) * x**3)))


def cdf(x: Any) -> Any:
    return sp.erfc(-x / sp.sqrt(2)) / 2


def pdf(x: Any) -> Any:
    return sp.exp(-(x**2) / 2) / sp.sqrt(2 * pi)


def truncated(x: Any) -> Any:
    return sp.sign(x) * sp.floor(sp.Abs(x))


def even(x: Any) -> Any:
    """Round to the nearest integer, ties to the even one."""
    return sp.floor((2 * x + 1) / 4) + sp.ceiling((2 * x - 1) / 4)


def sinc(x: Any, n: int = 0) -> Any:
    t = sp.Dummy("t", real=True)
    inner = sp.diff(sp.sin(pi * t) / (pi * t), t, n).subs(t, x)
    at_0 = (1, 0, -1, 0)[n % 4] * pi**n / (n + 1)
    return if_(sp.Ne(x, 0), inner, sp.sympify(at_0))


def step(a: Any, b: Any) -> Any:
    return sp.Piecewise((0, a < 0), (b, sp.Eq(a, 0)), (1, True))


def slope(f: Callable[[Any], Any], n: int = 1) -> Callable[[Any], Any]:
    """The n-th derivative of a form."""
    def formed(x: Any) -> Any:
        t = sp.Dummy("t", real=True)
        return sp.diff(f(t), t, n).subs(t, x)
    return formed


def xlogy(a: Any, b: Any) -> Any:
    return a * sp.log(b)


def erfcx(x: Any) -> Any:
    return sp.exp(x**2) * sp.erfc(x)


def dawson(x: Any) -> Any:
    return sp.sqrt(pi) / 2 * sp.exp(-(x**2)) * sp.erfi(x)


def huber(a: Any, b: Any) -> Any:
    return if_(sp.Abs(b) <= a, b**2 / 2, a * (sp.Abs(b) - a / 2))


def boxcox(a: Any, b: Any) -> Any:
    return if_(sp.Ne(b, 0), (a**b - 1) / b, sp.log(a))


def inv_boxcox(a: Any, b: Any) -> Any:
    return if_(sp.Ne(b, 0), (1 + a * b) ** (1 / b), sp.exp(a))


def gamma_pdf(a: Any, b: Any) -> Any:
    return b ** (a - 1) * sp.exp(-b) / sp.gamma(a)


def beta_pdf(a: Any, b: Any, c: Any) -> Any:
    return c ** (a - 1) * (1 - c) ** (b - 1) / beta(a, b)


def beta(a: Any, b: Any) -> Any:
    return sp.gamma(a) * sp.gamma(b) / sp.gamma(a + b)


def same(x: Any) -> Any:
    return x


def degrees(f: Any) -> Callable[[Any], Any]:
    return lambda x: f(x * pi / 180)


SCALAR: dict[str, Callable[..., Any]] = {
    # arithmetic
    "neg": lambda x: -x, "copy": same, "positive": same,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "div": lambda a, b: a / b,
    "mul": lambda a, b: a * b, "mul_mask": lambda a, b: number(a) * number(b),
    "square": lambda x: x**2, "reciprocal": lambda x: 1 / x, "pow": lambda a, b: a**b,
    "float_power": lambda a, b: a**b, "sqrt": sp.sqrt, "root": sp.sqrt,
    "cbrt": lambda x: sp.sign(x) * sp.Abs(x) ** sp.Rational(1, 3),
    "dcbrt": lambda x: sp.Abs(x) ** sp.Rational(-2, 3) / 3,
    "remainder": lambda a, b: a - b * sp.floor(a / b),
    "fmod": lambda a, b: a - b * truncated(a / b),
    "floor_divide": lambda a, b: sp.floor(a / b),
    # exponentials and logarithms
    "exp": sp.exp, "exp2": lambda x: two**x, "exp10": lambda x: sp.Integer(10) ** x,
    "expm1": lambda x: sp.exp(x) - 1, "log": sp.log, "log2": lambda x: sp.log(x) / sp.log(2),
    "log10": lambda x: sp.log(x) / sp.log(10), "log1p": lambda x: sp.log(1 + x),
    "logaddexp": lambda a, b: sp.log(sp.exp(a) + sp.exp(b)),
    "logaddexp2": lambda a, b: sp.log(two**a + two**b) / sp.log(2),
    "share": lambda a, b: sp.exp(a) / (sp.exp(a) + sp.exp(b)),
    "share2": lambda a, b: two**a / (two**a + two**b),
    # trigonometric and hyperbolic
    "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "arcsin": sp.asin, "arccos": sp.acos,
    "arctan": sp.atan, "arctan2": sp.atan2, "turn": lambda a, b: b / (a**2 + b**2),
    "sinh": sp.sinh, "cosh": sp.cosh, "tanh": sp.tanh, "arcsinh": sp.asinh,
    "arccosh": sp.acosh, "arctanh": sp.atanh, "lorentz": lambda x: 1 / sp.sqrt(1 - x**2),
    "lorentz2": lambda x: 1 / (1 - x**2), "by_cosh2": lambda a, b: a / sp.cosh(b) ** 2,
    "sech2": lambda x: 1 / sp.cosh(x) ** 2, "cauchy": lambda x: 1 / (1 + x**2), "sinc": sinc,
    "deg2rad": lambda x: x * pi / 180, "radians": lambda x: x * pi / 180,
    "rad2deg": lambda x: x * 180 / pi, "degrees": lambda x: x * 180 / pi,
    "hypot": lambda a, b: sp.sqrt(a**2 + b**2), "cosine": lambda a, b: a / sp.sqrt(a**2 + b**2),
    "sindg": degrees(sp.sin), "cosdg": degrees(sp.cos), "tandg": degrees(sp.tan),
    "cosm1": lambda x: sp.cos(x) - 1,
    # error function and activations
    "erf": sp.erf, "erfc": sp.erfc, "gauss": lambda x: sp.exp(-(x**2)), "sigmoid": sigmoid,
    "dsigmoid": slope(sigmoid), "softplus": softplus, "log_sigmoid": lambda x: -softplus(-x),
    "silu": lambda x: x * sigmoid(x), "dsilu": slope(lambda x: x * sigmoid(x)),
    "relu": lambda x: if_(x > 0, x, sp.Integer(0)), "gelu": lambda x: x * cdf(x),
    "elu": lambda x: if_(x > 0, x, sp.exp(x) - 1), "softsign": lambda x: x / (1 + sp.Abs(x)),
    "mish": mish, "dmish": slope(mish), "gelu_tanh": gelu_tanh, "dgelu_tanh": slope(gelu_tanh),
    "tanhshrink": lambda x: x - sp.tanh(x),
    "dgelu": lambda x: cdf(x) + x * pdf(x), "normal_cdf": cdf, "normal_pdf": pdf,
    "erfcx": erfcx, "erfcx_1": slope(erfcx), "erfcx_2": slope(erfcx, 2), "erfinv": sp.erfinv,
    "erfinv_1": slope(sp.erfinv), "erfcinv": lambda x: sp.erfinv(1 - x),
    "erfcinv_1": slope(lambda x: sp.erfinv(1 - x)),
    "ndtri": lambda x: sp.sqrt(2) * sp.erfinv(2 * x - 1),
    "ndtri_1": slope(lambda x: sp.sqrt(2) * sp.erfinv(2 * x - 1)),
    "log_ndtr": lambda x: sp.log(cdf(x)), "hazard": lambda x: pdf(x) / cdf(x),
    "dawsn": dawson, "dawsn_1": slope(dawson), "dawsn_2": slope(dawson, 2),
    # choices
    "abs": sp.Abs, "abs2": lambda x: x**2, "sign": sp.sign, "maximum": sp.Max, "minimum": sp.Min,
    "fmax": sp.Max, "fmin": sp.Min, "where": lambda a, b, c: if_(a, number(b), number(c)),
    "clip": lambda x, low, high: sp.Piecewise((low, x < low), (high, x > high), (x, True)),
    "copysign": lambda a, b: sp.Abs(a) * if_(b >= 0, one, -one),
    "unit_vector": lambda a, b: if_(sp.Ne(b, 0), a / b, sp.Integer(0)),
    "floor": sp.floor, "ceil": sp.ceiling, "trunc": truncated, "rint": even, "heaviside": step,
    "signbit": lambda x: sp.Lt(x, 0), "conj": same, "real": same, "imag": lambda x: x * 0,
    # conditions
    "gt": sp.Gt, "ge": sp.Ge, "lt": sp.Lt, "le": sp.Le, "eq": sp.Eq, "ne": sp.Ne,
    "logical_and": lambda a, b: sp.And(truth(a), truth(b)),
    "logical_or": lambda a, b: sp.Or(truth(a), truth(b)),
    "logical_xor": lambda a, b: sp.Xor(truth(a), truth(b)),
    "logical_not": lambda a: sp.Not(truth(a)),
    "bitwise_and": of_conditions(sp.And), "bitwise_or": of_conditions(sp.Or),
    "bitwise_xor": of_conditions(sp.Xor), "invert": of_conditions(sp.Not),
    "isnan": lambda x: sp.false, "isinf": lambda x: sp.false, "isfinite": lambda x: sp.true,
    # gamma and its family
    "gamma": sp.gamma, "rgamma": lambda x: 1 / sp.gamma(x), "loggamma": sp.loggamma,
    "gammaln": lambda x: sp.log(sp.Abs(sp.gamma(x))), "psi": sp.digamma,
    "polygamma": sp.polygamma, "beta": beta, "betaln": lambda a, b: sp.log(sp.Abs(beta(a, b))),
    "poch": lambda a, b: sp.gamma(a + b) / sp.gamma(a),
    "binom": lambda a, b: sp.gamma(a + 1) / sp.gamma(b + 1) / sp.gamma(a - b + 1),
    "psi_gap_0": lambda a, b: sp.digamma(a + b) - sp.digamma(a),
    "gamma_pdf": gamma_pdf, "beta_pdf": beta_pdf,
    "gammainc": lambda a, b: sp.lowergamma(a, b) / sp.gamma(a),
    "gammaincc": lambda a, b: sp.uppergamma(a, b) / sp.gamma(a),
    "zeta": sp.zeta, "riemann_zeta": sp.zeta,
    # Bessel functions
    "jv": sp.besselj, "yv": sp.bessely, "iv": sp.besseli, "kv": sp.besselk,
    "j0": lambda x: sp.besselj(0, x), "j1": lambda x: sp.besselj(1, x),
    "y0": lambda x: sp.bessely(0, x), "y1": lambda x: sp.bessely(1, x),
    "i0": lambda x: sp.besseli(0, x), "i1": lambda x: sp.besseli(1, x),
    "k0": lambda x: sp.besselk(0, x), "k1": lambda x: sp.besselk(1, x),
    "np_i0": lambda x: sp.besseli(0, x),
    "ive": lambda a, b: sp.exp(-sp.Abs(b)) * sp.besseli(a, b),
    "kve": lambda a, b: sp.exp(b) * sp.besselk(a, b),
    "i0e": lambda x: sp.exp(-sp.Abs(x)) * sp.besseli(0, x),
    "i1e": lambda x: sp.exp(-sp.Abs(x)) * sp.besseli(1, x),
    "k0e": lambda x: sp.exp(x) * sp.besselk(0, x), "k1e": lambda x: sp.exp(x) * sp.besselk(1, x),
    # entropies, integrals, losses
    "logit": lambda x: sp.log(x / (1 - x)), "logit_1": lambda x: 1 / (x * (1 - x)),
    "times_log": xlogy, "times_log1m": lambda a, b: a * sp.log(1 - b),
    "bce_logits": lambda a, b: b * softplus(-a) + (1 - b) * softplus(a),
    "xlogy": xlogy, "xlog1py": lambda a, b: a * sp.log(1 + b), "entr": lambda x: -x * sp.log(x),
    "one_plus_log": lambda a, b: 1 + sp.log(a / b), "log_ratio": lambda a, b: sp.log(a / b),
    "one_minus_ratio": lambda a, b: 1 - a / b, "rel_entr": lambda a, b: a * sp.log(a / b),
    "kl_div": lambda a, b: a * sp.log(a / b) - a + b,
    "exp1": lambda x: sp.expint(1, x), "expi": sp.Ei,
    "ellipk": sp.elliptic_k, "ellipe": sp.elliptic_e, "ellipkm1": lambda x: sp.elliptic_k(1 - x),
    "ellipk_1": slope(sp.elliptic_k), "ellipk_2": slope(sp.elliptic_k, 2),
    "ellipe_1": slope(sp.elliptic_e), "ellipe_2": slope(sp.elliptic_e, 2),
    "exprel": lambda x: if_(sp.Ne(x, 0), (sp.exp(x) - 1) / x, one),
    "boxcox": boxcox, "boxcox1p": lambda a, b: boxcox(1 + a, b),
    "inv_boxcox": inv_boxcox, "inv_boxcox1p": lambda a, b: inv_boxcox(a, b) - 1,
    "huber": huber, "pseudo_huber": lambda a, b: a**2 * (sp.sqrt(1 + (b / a) ** 2) - 1),
    "lambertw_0": sp.LambertW, "lambertw_m1": lambda x: sp.LambertW(x, -1),
    "lambertw_0_1": slope(sp.LambertW), "lambertw_m1_1": slope(lambda x: sp.LambertW(x, -1)),
}
# fmt: on

# ------------------------------------------------------------------ whole arrays


def each(f: Callable[..., Any], *xs: Array) -> Any:
    """f elementwise, with broadcasting; always an object array."""
    y: Any = np.empty(np.broadcast_shapes(*[x.shape for x in xs]), object)
    operands = np.broadcast_arrays(*xs)
    for i in np.ndindex(*y.shape):
        y[i] = f(*[x[i] for x in operands])
    return y


def boxed(y: Any) -> Any:
    """An object array of SymPy numbers out of what NumPy made of one."""
    if isinstance(y, np.ndarray):
        return each(sp.sympify, y.astype(object))
    box = np.empty((), object)
    box[()] = sp.sympify(y)
    return box


def along(f: Callable[[list[Any]], Any], x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    """f of the list of the numbers along `axes`, everywhere else."""
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    moved = x.transpose((*rest, *axes)).reshape((*[x.shape[i] for i in rest], -1))
    y = np.empty(moved.shape[:-1], object)
    for i in np.ndindex(*y.shape):
        y[i] = f(list(moved[i]))
    return y.reshape(linear.keep(x.shape, axes)) if keepdims else y


def logsumexp(xs: list[Any]) -> Any:
    return sp.log(sp.Add(*[sp.exp(x) for x in xs]))


def length(xs: list[Any]) -> Any:
    return sp.sqrt(sp.Add(*[x**2 for x in xs]))


def softmax(x: Array, axis: int) -> Any:
    e = each(sp.exp, x)
    return e / np.add.reduce(e, axis=axis, keepdims=True)


def picked(a: Array, b: Array) -> Any:
    """logsumexp(a) - a[b] over the last axis: b has whole numbers."""
    labels = np.vectorize(int, otypes=[np.intp])(b)
    chosen = np.take_along_axis(a, labels[..., None], -1)[..., 0]
    return along(logsumexp, a, (a.ndim - 1,), False) - chosen


def stacked(f: Callable[[Any], Any], x: Array, inner: tuple[int, ...]) -> Any:
    """f of each matrix of a stack; its values have the shape `inner`."""
    y = np.empty((*x.shape[:-2], *inner), object)
    for i in np.ndindex(*x.shape[:-2]):
        made = f(sp.Matrix(x[i]))
        y[i] = np.array(made, object).reshape(inner) if inner else made
    return y


def determinant(m: Any) -> Any:
    return m.det(method="berkowitz")


def inverse(m: Any) -> Any:
    return m.adjugate() / determinant(m)


def solution(a: Array, b: Array) -> Any:
    return np.matmul(stacked(inverse, a, a.shape[-2:]), b)


def p_norm(op: Any, x: Array) -> Any:
    p = exact(op.p)
    return along(
        lambda xs: sp.Add(*[sp.Abs(v) ** p for v in xs]) ** (1 / p), x, (op.axis,), op.keepdims
    )


def cast(op: Any, x: Array) -> Any:
    """To booleans, or to integers, which cut the fraction off."""
    if op.dtype.kind == "b":
        return each(truth, x)
    return each(lambda v: number(v) if is_condition(v) else truncated(v), x)


ARRAY: dict[str, Callable[..., Any]] = {
    "Cast": lambda op, x: each(number, x),
    "CastConstant": cast,
    "Max": lambda op, x: along(lambda v: sp.Max(*v), x, op.axes, op.keepdims),
    "Min": lambda op, x: along(lambda v: sp.Min(*v), x, op.axes, op.keepdims),
    "LogSumExp": lambda op, x: along(logsumexp, x, op.axes, op.keepdims),
    "Softmax": lambda op, x: softmax(x, op.axis),
    "LogSoftmax": lambda op, x: x - along(logsumexp, x, (op.axis,), True),
    "CrossEntropy": lambda op, a, b: picked(a, b),
    "MeanCrossEntropy": lambda op, a, b: np.sum(picked(a, b)) / sp.Integer(b.size),
    "Norm": lambda op, x: along(length, x, op.axes, op.keepdims),
    "SquaredNorm": lambda op, x: along(lambda v: length(v) ** 2, x, op.axes, op.keepdims),
    "PNorm": p_norm,
    "Inv": lambda op, x: stacked(inverse, x, x.shape[-2:]),
    "Solve": lambda op, a, b: solution(a, b),
    "Det": lambda op, x: stacked(determinant, x, ()),
    "Cofactor": lambda op, x: stacked(lambda m: m.cofactor_matrix(), x, x.shape[-2:]),
    "SlogDet": lambda op, x: (
        stacked(lambda m: sp.sign(determinant(m)), x, ()),
        stacked(lambda m: sp.log(sp.Abs(determinant(m))), x, ()),
    ),
    "Cholesky": lambda op, x: stacked(lambda m: m.cholesky(hermitian=False), x, x.shape[-2:]),
}
# NumPy runs these on objects: they move, add and multiply, and nothing else
# fmt: off
PLAIN = frozenset([
    "Sum", "Broadcast", "Reshape", "Transpose", "Cumsum", "GetItem", "AddAt", "Write", "Gather",
    "ScatterAdd", "Concatenate", "Pad", "MatMul", "Einsum", "Affine", "Prod", "Recurrence",
    "Cumprod",
])
# these take conditions as they are; all others take numbers, 1 for a condition that holds
TAKES_CONDITIONS = frozenset([
    "where", "logical_and", "logical_or", "logical_xor", "logical_not", "copy", "CastConstant",
    "Broadcast", "Reshape", "Transpose", "GetItem", "Gather", "Concatenate", "bitwise_and",
    "bitwise_or", "bitwise_xor", "invert",
])
# fmt: on


def name_of(op: Any) -> str:
    """The name under which an operation is registered."""
    name: str = type(op).__name__
    return name if name in OPS else op.name


def has_form(name: str) -> bool:
    """Whether a registered operation has a closed form.

    >>> has_form("tanh"), has_form("SVD")
    (True, False)
    """
    return name in SCALAR or name in ARRAY or name in PLAIN or sinc_order(name) is not None


def sinc_order(name: str) -> int | None:
    head, _, tail = name.partition("_")
    return int(tail) if head == "sinc" and tail.isdigit() else None


def form(op: Any, xs: list[Any]) -> Any:
    """The value of an operation on object arrays of SymPy numbers; a tuple of them if it has many.

    Raises:
        UnsupportedError: the operation has no closed form in SymPy.
    """
    name = name_of(op)
    if name not in TAKES_CONDITIONS:
        xs = [each(number, x) for x in xs]
    if name in SCALAR:
        return each(SCALAR[name], *xs)
    n = sinc_order(name)
    if n is not None:
        return each(lambda x: sinc(x, n), *xs)
    if name in ARRAY:
        y = ARRAY[name](op, *xs)
        return tuple(map(boxed, y)) if isinstance(y, tuple) else boxed(y)
    if name in PLAIN:
        if name in ("Gather", "ScatterAdd"):
            xs = [xs[0], *[whole(i) for i in xs[1:]]]
        return boxed(op.impl(*xs))
    raise UnsupportedError(
        f"the closed form of {op.title()}",
        "this operation has no form in SymPy",
        fix="wg.jacobian differentiates the program itself" if hasattr(op, "vjp") else None,
    )


def whole(i: Any) -> Any:
    try:
        return np.vectorize(int, otypes=[np.intp])(i)
    except TypeError:
        raise UnsupportedError(
            "an index that depends on a symbol", "what it picks has no closed form"
        ) from None


# ------------------------------------------------------------------ numbers


def constants(x: Any) -> Any:
    """An array of numbers as an object array of exact ones."""
    x = np.asarray(x)
    y = np.empty(x.shape, object)
    for i in np.ndindex(*x.shape):
        y[i] = exact(x[i].item())
    return y


@lru_cache(4096, typed=True)  # True is not 1
def exact(x: Any) -> Any:
    """The number that a program means by a double: 0.5 is 1/2, 0.1 is 1/10, math.pi is pi.

    A short decimal, a fraction of small numbers, or such a fraction times pi, e, log 2, log 10 or
    under a root, whose nearest double is x; otherwise the double itself.

    >>> import math
    >>> exact(2.0), exact(0.1), exact(1 / 3), exact(math.pi / 2), exact(math.sqrt(2))
    (2, 1/10, 1/3, pi/2, sqrt(2))
    >>> exact(0.123456789012345)
    0.123456789012345
    """
    if isinstance(x, bool):
        return sp.sympify(x)
    if isinstance(x, int):
        return sp.Integer(x)
    if isinstance(x, complex):
        return exact(x.real) + sp.I * exact(x.imag)
    if not math.isfinite(x):
        return sp.nan if math.isnan(x) else sp.oo if x > 0 else -sp.oo
    if x == int(x):
        return sp.Integer(int(x))
    near = Fraction(x).limit_denominator(1000)
    if float(near) == x:
        return sp.Rational(near.numerator, near.denominator)
    if len(repr(x).strip("-").replace(".", "").lstrip("0").partition("e")[0]) <= 8:
        return sp.Rational(repr(x))
    for unit in (math.pi, math.e, math.log(2), math.log(10), math.sqrt(math.pi)):
        ratio = Fraction(x / unit).limit_denominator(360)
        if ratio and float(ratio) * unit == x:
            return sp.Rational(ratio.numerator, ratio.denominator) * UNITS[unit]
        ratio = Fraction(unit / x).limit_denominator(360)
        if ratio and unit / float(ratio) == x:
            return UNITS[unit] * sp.Rational(ratio.denominator, ratio.numerator)
    square = Fraction(x * x).limit_denominator(100)
    if math.sqrt(square) == abs(x):
        return int(math.copysign(1, x)) * sp.sqrt(sp.Rational(square.numerator, square.denominator))
    return sp.Float(x)


UNITS = {
    math.pi: pi,
    math.e: sp.E,
    math.log(2): sp.log(2),
    math.log(10): sp.log(10),
    math.sqrt(math.pi): sp.sqrt(pi),
}


def product(xs: list[Any]) -> Any:
    return reduce(lambda a, b: a * b, xs, one)
