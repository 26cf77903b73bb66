"""The derivative table: one line an operation.

    name = Elementwise("name", f, d -> (dy/dx) d)                one argument, x
    name = Elementwise("name", f, d -> (dy/da) d, d -> (dy/db) d)     two, a and b

The parameters after `d` name what the rule reads: an argument or the output `y`. They are all that
the tape keeps. A rule runs on plain arrays in a first backward pass and on tensors when a higher
order is wanted, so it is written with operators and with operations of this table.

Every formula is chosen to be right to a few ulps over the whole range, at every order: tanh' is
1/cosh^2, not 1 - tanh^2, which is 0 from x = 19.1 on. Where a derivative is not itself an operation
of NumPy it gets a line of its own, so that the next order is as accurate;
tests/ops/test_accuracy.py measures two orders in ulps. Those lines are

    share(a, b)  = e^a / (e^a + e^b)         share2: the same in base 2
    cosine(a, b) = a / sqrt(a^2 + b^2)       turn(a, b)  = b / (a^2 + b^2)
    lorentz(x)   = 1 / sqrt(1 - x^2)         lorentz2(x) = 1 / (1 - x^2)
    cauchy(x)    = 1 / (1 + x^2)             sech2(x)    = 1 / cosh^2 x
    gauss(x)     = e^(-x^2)                  by_cosh2(a, b) = a / cosh^2 b
    unit_vector(a, b) = a / b, 0 / 0 = 0     abs2(x)     = |x|^2
    root(x)      = sqrt x, with slope 0 at 0
    dcbrt, dsigmoid, dsilu, dgelu, dmish, dgelu_tanh, dsinc     the derivatives of the functions
                   that they name

Kinks take the subgradient of smallest norm that is symmetric: abs'(0) = relu'(0) = 0, ties of
maximum and minimum share the cotangent equally, clip passes it on at its bounds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import UFUNCS, Constant, Elementwise
from ..structural import chosen, masked
from ..trace import OPS
from ..types import Array
from . import accurate, slopes

# A table kept by hand, one line an operation where it fits, so that rules can be compared.
# fmt: off

LN2, LN10 = math.log(2.0), math.log(10.0)
FLOAT = np.dtype(float)
E = Elementwise


def same(d: Array) -> Array:
    return d


# ------------------------------------------------------------------ arithmetic
neg = E("neg", np.negative, lambda d: -d)
copy = E("copy", np.copy, same)
positive = E("positive", np.positive, same)
add = E("add", np.add, same, same)
sub = E("sub", np.subtract, same, lambda d: -d)
div = E("div", np.true_divide, lambda d, b: d / b, lambda d, b, y: d * -(y / b))
square = E("square", np.square, lambda d, x: d * (2 * x))
reciprocal = E("reciprocal", np.reciprocal, lambda d, y: -(d * y) * y)
sqrt = E("sqrt", np.sqrt, lambda d, y: d * 0.5 / y)
root = E("root", np.sqrt, lambda d, y: d * unit_vector(0.5, y))  # 0 at 0, and no second derivative
cbrt = E("cbrt", np.cbrt, lambda d, x: d * dcbrt(x))
dcbrt = E("dcbrt", slopes.dcbrt, lambda d, x, y: d * (y * (-2 / 3) / x))
remainder = E("remainder", np.remainder, same, lambda d, a, b: -d * floor_divide(a, b))
fmod = E("fmod", np.fmod, same, lambda d, a, b, y: -d * rint((a - y) / b))


def times(d: Any, factor: Array) -> Any:
    """d * factor, where a boolean factor is structural: False means that there is no gradient."""
    if getattr(factor, "dtype", FLOAT).kind == "b":
        return masked(d, factor)
    return d * factor


# The fast road multiplies operands of one floating dtype; a boolean mask comes here.
mul = E("mul", np.multiply, lambda d, b: d * b, lambda d, a: d * a)
mul_mask = E("mul_mask", np.multiply, lambda d, b: times(d, b), lambda d, a: times(d, a))


def power_a(d: Array, a: Array, b: Array) -> Any:
    """d(a^b)/da = b a^(b-1); for b < 1/2, where b - 1 is rounded, b a^b / a.

    At b = 0 there is no gradient even at a = 0, inf and nan, as a^0 is 1 everywhere.
    """
    scalar = isinstance(b, int | float)
    if scalar and b == 0:
        return masked(d, zero_mask(a))
    if (scalar and (b - 1) + 1 == b) or complex in (kind(a), kind(b)):
        return d * (b * a ** (b - 1))
    below = logical_and(lt(b, 0.5), logical_and(ne(a, 0), isfinite(a)))
    if scalar:
        own = getattr(a, "dtype", FLOAT).type
        return d * (b * a ** where(below, own(b), own(b - 1)) / where(below, a, 1.0))
    none = logical_and(eq(b, 0), logical_not(below))
    power = where(none, 1.0, where(below, b, b - 1))
    return masked(d * (b * a**power / where(below, a, 1.0)), logical_not(none))


def kind(x: Array) -> type:
    return complex if x.__class__ is complex or getattr(x, "dtype", FLOAT).kind == "c" else float


def power_b(d: Array, a: Array, b: Array, y: Array) -> Any:
    """d(a^b)/db = a^b log a, and no gradient where a = 0 < b, the limit from above."""
    return masked(d * y * log(a), logical_not(logical_and(eq(a, 0), gt(b, 0))))


def zero_mask(x: Array) -> Array:
    return np.zeros(np.shape(x) if isinstance(x, np.ndarray) else x.shape, bool)


pow = E("pow", np.power, power_a, power_b)
float_power = E("float_power", np.float_power, power_a, power_b)

# ------------------------------------------------------------------ exponentials and logarithms
exp = E("exp", np.exp, lambda d, y: d * y)
exp2 = E("exp2", np.exp2, lambda d, y: d * y * LN2)
expm1 = E("expm1", np.expm1, lambda d, x: d * exp(x))
log = E("log", np.log, lambda d, x: d / x)
log2 = E("log2", np.log2, lambda d, x: d / LN2 / x)
log10 = E("log10", np.log10, lambda d, x: d / LN10 / x)
log1p = E("log1p", np.log1p, lambda d, x: d / (1 + x))
logaddexp = E(
    "logaddexp", np.logaddexp,
    lambda d, a, b: d * share(a, b), lambda d, a, b: d * share(b, a),
)
logaddexp2 = E(
    "logaddexp2", np.logaddexp2,
    lambda d, a, b: d * share2(a, b), lambda d, a, b: d * share2(b, a),
)
share = E(
    "share", slopes.share,
    lambda d, a, b, y: d * (y * share(b, a)), lambda d, a, b, y: -d * (y * share(b, a)),
)
share2 = E(
    "share2", slopes.share2,
    lambda d, a, b, y: d * (y * share2(b, a) * LN2),
    lambda d, a, b, y: d * (y * share2(b, a) * -LN2),
)

# ------------------------------------------------------------------ trigonometric and hyperbolic


def _by_cosh2(a: Array, b: Array) -> Array:
    """a / cosh^2 b, in two divisions: the square overflows before the result underflows."""
    c = np.cosh(b)
    return a / c / c


sin = E("sin", np.sin, lambda d, x: d * cos(x))
cos = E("cos", np.cos, lambda d, x: d * -sin(x))
tan = E("tan", np.tan, lambda d, y: d * (1 + y * y))
arcsin = E("arcsin", np.arcsin, lambda d, x: d * lorentz(x))
arccos = E("arccos", np.arccos, lambda d, x: -d * lorentz(x))
arctan = E("arctan", np.arctan, lambda d, x: d * cauchy(x))
arctan2 = E(
    "arctan2", np.arctan2,
    lambda d, a, b: d * turn(a, b), lambda d, a, b: d * -turn(b, a),
)
turn = E(
    "turn", slopes.turn,
    lambda d, a, b, y: d * (-2 * (cosine(a, b) * y) / hypot(a, b)),
    lambda d, a, b: d * (over(a - b, a, b) * over(a + b, a, b) / hypot(a, b) / hypot(a, b)),
)


def over(x: Array, a: Array, b: Array) -> Array:
    """x / hypot(a, b): a quotient of squares is the product of two of these, without overflow."""
    return x / hypot(a, b)


sinh = E("sinh", np.sinh, lambda d, x: d * cosh(x))
cosh = E("cosh", np.cosh, lambda d, x: d * sinh(x))
tanh = E("tanh", np.tanh, lambda d, x: by_cosh2(d, x))
arcsinh = E("arcsinh", np.arcsinh, lambda d, x: d / accurate_root(x))
arccosh = E("arccosh", np.arccosh, lambda d, x: d / sqrt(x - 1) / sqrt(x + 1))
arctanh = E("arctanh", np.arctanh, lambda d, x: d * lorentz2(x))
lorentz = E("lorentz", slopes.lorentz, lambda d, x, y: d * (x * y * lorentz2(x)))
lorentz2 = E("lorentz2", slopes.lorentz2, lambda d, x, y: d * (2 * (x * y) * y))
by_cosh2 = E(
    "by_cosh2", _by_cosh2,
    lambda d, b: by_cosh2(d, b), lambda d, b, y: d * (-2 * tanh(b) * y),
)
sech2 = E("sech2", accurate.sech2, lambda d, x, y: d * (-2 * tanh(x) * y))
cauchy = E("cauchy", accurate.cauchy, lambda d, x, y: d * (-2 * (x * y) * y))
sinc = E("sinc", np.sinc, lambda d, x: d * dsinc(x, 1))
deg2rad = E("deg2rad", np.deg2rad, lambda d: d * (math.pi / 180))
rad2deg = E("rad2deg", np.rad2deg, lambda d: d * (180 / math.pi))
radians = E("radians", np.radians, lambda d: d * (math.pi / 180))
degrees = E("degrees", np.degrees, lambda d: d * (180 / math.pi))


def accurate_root(x: Array) -> Array:
    """sqrt(1 + x^2) without overflow."""
    return sqrt(1 + x * x) if x.dtype.kind == "c" else hypot(x, 1.0)


hypot = E("hypot", np.hypot, lambda d, a, b: d * cosine(a, b), lambda d, a, b: d * cosine(b, a))
cosine = E(  # at the origin its own derivative is 0 / 0: a length has no second derivative there
    "cosine", slopes.cosine,
    lambda d, a, b: d * (cosine(b, a) * (cosine(b, a) / hypot(a, b))),
    lambda d, a, b, y: d * -(y * (cosine(b, a) / hypot(a, b))),
)

_dsinc: dict[int, Elementwise] = {}


def dsinc(x: Array, n: int) -> Array:
    """The n-th derivative of sinc(x) = sin(pi x) / (pi x), right at 0 as well, for every n."""
    if n not in _dsinc:
        _dsinc[n] = E(f"sinc_{n}", lambda x: slopes.sinc(x, n), lambda d, x: d * dsinc(x, n + 1))
    return _dsinc[n](x)


# ------------------------------------------------------------------ error function and activations
erf = E("erf", accurate.erf, lambda d, x: d * (gauss(x) * (2 / math.sqrt(math.pi))))
erfc = E("erfc", accurate.erfc, lambda d, x: d * (gauss(x) * (-2 / math.sqrt(math.pi))))
gauss = E("gauss", accurate.gauss, lambda d, x, y: d * (-2 * (near(x) * y)))
sigmoid = E("sigmoid", accurate.sigmoid, lambda d, x: d * dsigmoid(x))
dsigmoid = E("dsigmoid", accurate.dsigmoid, lambda d, x, y: d * (-tanh(x * 0.5) * y))
softplus = E("softplus", accurate.softplus, lambda d, x: d * sigmoid(x))
log_sigmoid = E("log_sigmoid", lambda x: -accurate.softplus(-x), lambda d, x: d * sigmoid(-x))
silu = E("silu", accurate.silu, lambda d, x: d * dsilu(x))
dsilu = E("dsilu", slopes.dsilu, lambda d, x: d * (dsigmoid(x) * (2 - near(x) * tanh(x * 0.5))))
relu = E("relu", slopes.rectified, lambda d, y: masked(d, y > 0))
gelu = E("gelu", accurate.gelu, lambda d, x: d * dgelu(x))
dgelu = E(
    "dgelu", slopes.dgelu,
    lambda d, x: d * (2 * normal_pdf(x) - near(x) * (near(x) * normal_pdf(x))),
)
normal_cdf = E("normal_cdf", accurate.normal_cdf, lambda d, x: d * normal_pdf(x))
normal_pdf = E("normal_pdf", accurate.normal_pdf, lambda d, x, y: d * (-near(x) * y))
elu = E("elu", slopes.elu, lambda d, x: d * exp(minimum(x, 0.0)))
mish = E("mish", slopes.mish, lambda d, x: d * dmish(x))
dmish = E("dmish", slopes.dmish, lambda d, x: d * d2mish(x))
gelu_tanh = E("gelu_tanh", slopes.gelu_tanh, lambda d, x: d * dgelu_tanh(x))
dgelu_tanh = E("dgelu_tanh", slopes.dgelu_tanh, lambda d, x: d * d2gelu_tanh(x))
softsign = E("softsign", slopes.softsign, lambda d, x: d / (1 + abs(x)) / (1 + abs(x)))
tanhshrink = E("tanhshrink", slopes.tanhshrink, lambda d, x: d * square(tanh(x)))


def near(x: Array) -> Array:
    """x within 1000 of 0: a factor beside one that is 0 far out, so that inf times 0 is 0."""
    return clip(x, -1e3, 1e3)


def d2mish(x: Array) -> Array:
    """(x t)'' = 2 u + x u w,  where t = tanh(softplus x), t' = u and t'' = u w.

    With z = sigmoid x, n = sigmoid -x and q = 1 + n^2 these are t = z (1 + n) / q,
    u = 4 z (n / q)^2 and w = n - 2 t z.
    """
    z, n = sigmoid(x), sigmoid(-x)
    q = 1 + n * n
    w = n - 2 * (z * z) * (1 + n) / q
    return 4 * z * square(n / q) * (2 + near(x) * w)


def d2gelu_tanh(x: Array) -> Array:
    """2 s' v' + x (s'' v'^2 + s' v'') of x s(v), s the sigmoid, v = a x + b x^3."""
    x = clip(x, -40.0, 40.0)
    square_x = x * x
    v = x * (slopes.GELU_A + slopes.GELU_B * square_x)
    dv = slopes.GELU_A + (3 * slopes.GELU_B) * square_x
    return dsigmoid(v) * (
        2 * dv + (6 * slopes.GELU_B) * square_x - x * (tanh(v * 0.5) * (dv * dv))
    )


# ------------------------------------------------------------------ kinks and choices


def greater_share(d: Array, a: Array, b: Array) -> Any:
    """All of d where a > b, half of it at a tie, and no gradient where a < b."""
    return masked(d * where(eq(a, b), 0.5, 1.0).astype(d.dtype), logical_not(lt(a, b)))


def lesser_share(d: Array, a: Array, b: Array) -> Any:
    return masked(d * where(eq(a, b), 0.5, 1.0).astype(d.dtype), logical_not(gt(a, b)))


maximum = E("maximum", np.maximum, greater_share, lambda d, a, b: greater_share(d, b, a))
minimum = E("minimum", np.minimum, lesser_share, lambda d, a, b: lesser_share(d, b, a))
fmax = E(
    "fmax", np.fmax,
    lambda d, a, b: masked(greater_share(d, a, b), logical_not(isnan(a))),
    lambda d, a, b: masked(greater_share(d, b, a), logical_not(isnan(b))),
)
fmin = E(
    "fmin", np.fmin,
    lambda d, a, b: masked(lesser_share(d, a, b), logical_not(isnan(a))),
    lambda d, a, b: masked(lesser_share(d, b, a), logical_not(isnan(b))),
)
where = E(
    "where", chosen,
    None, lambda d, a: masked(d, a), lambda d, a: masked(d, logical_not(a)),
)
clip = E(
    "clip", np.clip,
    lambda d, a, b, c: masked(d, logical_and(ge(a, b), le(a, c))),
    lambda d, a, b, c: masked(d, logical_and(lt(a, b), le(b, c))),
    lambda d, a, b, c: masked(d, logical_not(le(maximum(a, b), c))),
)
nextafter = E("nextafter", np.nextafter, same, None)
copysign = E("copysign", np.copysign, lambda d, a, b: d * (sign(a) * copysign(1.0, b)), None)

# ------------------------------------------------------------------ complex parts
# Cotangents follow the pairing Re(sum(g * dx)), so a complex-differentiable function multiplies
# both ways by the same f'(x), and these few give the tangent map apart.
abs = E("abs", np.abs, lambda d, x: d * phase(x), push=lambda d, x: real_part(d * phase(x)))
conj = E("conj", np.conjugate, lambda d: conj(d))
real = E("real", np.real, lambda d, x: d + 0j if x.dtype.kind == "c" else d, push=lambda d: real(d))
imag = E(
    "imag", np.imag,
    lambda d, x: d * -1j if x.dtype.kind == "c" else d * 0, push=lambda d: imag(d),
)


def _unit(a: Array, b: Array) -> Array:
    """a / b, and 0 / 0 = 0."""
    y = np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)), np.result_type(a, b))
    return np.divide(a, b, out=y, where=np.not_equal(b, 0))[()]


# x / |x| with 0 / 0 = 0. Its own derivative at 0 divides by zero, which says that there is none.
unit_vector = E("unit_vector", _unit, lambda d, b: d / b, lambda d, b, y: d * -(y / b))
abs2 = E(
    "abs2", lambda x: np.square(np.abs(x)),
    lambda d, x: d * (2 * conj(x)), push=lambda d, x: real_part(d * (2 * conj(x))),
)


def phase(x: Array) -> Array:
    """conj(x) / |x|, and 0 at 0: the sign of a real number."""
    if x.dtype.kind != "c":
        return sign(x)
    return conj(unit_vector(x, abs(x)))


def real_part(d: Array) -> Array:
    return real(d) if d.dtype.kind == "c" else d


# fmt: on
# ------------------------------------------------------------------ constants to the tape


class Flat(Constant):
    """A function without a derivative: piecewise constant, integer or boolean."""

    def __init__(self, name: str, f: Any, arity: int = 1) -> None:
        self.name, self.f = name, f
        self.impl = f  # type: ignore[method-assign]  # an op of the table is its own class of ops
        self.args = ("x",) if arity == 1 else ("a", "b")  # type: ignore[misc]
        OPS[name] = self
        if isinstance(f, np.ufunc):
            UFUNCS[f] = self

    infer = Elementwise.infer
    batch = Elementwise.batch
    lower = Elementwise.lower
    diagnose = Elementwise.diagnose
    __repr__ = Elementwise.__repr__
    title = Elementwise.title


sign = Flat("sign", np.sign)
floor = Flat("floor", np.floor)
ceil = Flat("ceil", np.ceil)
trunc = Flat("trunc", np.trunc)
rint = Flat("rint", np.rint)
floor_divide = Flat("floor_divide", np.floor_divide, 2)
gt = Flat("gt", np.greater, 2)
ge = Flat("ge", np.greater_equal, 2)
lt = Flat("lt", np.less, 2)
le = Flat("le", np.less_equal, 2)
eq = Flat("eq", np.equal, 2)
ne = Flat("ne", np.not_equal, 2)
logical_and = Flat("logical_and", np.logical_and, 2)
logical_or = Flat("logical_or", np.logical_or, 2)
logical_xor = Flat("logical_xor", np.logical_xor, 2)
logical_not = Flat("logical_not", np.logical_not)
isnan = Flat("isnan", np.isnan)
isinf = Flat("isinf", np.isinf)
isfinite = Flat("isfinite", np.isfinite)
signbit = Flat("signbit", np.signbit)
heaviside = Flat("heaviside", np.heaviside, 2)
bitwise_and = Flat("bitwise_and", np.bitwise_and, 2)
bitwise_or = Flat("bitwise_or", np.bitwise_or, 2)
bitwise_xor = Flat("bitwise_xor", np.bitwise_xor, 2)
invert = Flat("invert", np.invert)
left_shift = Flat("left_shift", np.left_shift, 2)
right_shift = Flat("right_shift", np.right_shift, 2)
