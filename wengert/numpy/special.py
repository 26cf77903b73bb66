"""The special functions, with SciPy's names and argument orders; the extra `wengert[special]`.

    gammaln(x)                  jv(v, x)                  xlogy(x, y)
    scipy.special.gammaln(x)    the same for a tensor: SciPy's own ufuncs find their way here

Arrays and numbers give arrays, tensors keep their gradient. A parameter whose derivative is not
known, such as the order of a Bessel function, refuses by name when that derivative is asked for.

>>> import numpy as np, wengert as wg
>>> from wengert.numpy import special
>>> wg.grad(lambda x: special.gammaln(x).sum())(np.array([1.0, 2.0])).round(6)
array([-0.577216,  0.422784])
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, UnsupportedError
from ..ops import elementwise as e
from ..ops import special as s
from ..trace import bind
from ..types import dtype_of
from . import reduce
from .table import implements, plain

Function = Callable[..., Any]
POSITIONAL = inspect.Parameter.POSITIONAL_ONLY


def pointwise(name: str, op: Any, *args: str) -> Function:
    """The public function of one line of the table."""
    signature = inspect.Signature([inspect.Parameter(a, POSITIONAL) for a in args])

    def f(*xs: Any) -> Any:
        if len(xs) != len(args):
            raise TypeError(f"{name}{signature} takes {len(args)} arguments, not {len(xs)}")
        return bind(op, *xs)

    f.__name__ = f.__qualname__ = name
    formula = op.doc or f"scipy.special.{name}"
    terms = "" if tuple(op.args) == args else f", for {', '.join(op.args)} = {', '.join(args)}"
    f.__doc__ = f"{formula}{terms}; point by point."
    f.__dict__["__signature__"] = signature
    return f


# ------------------------------------------------------------------ the gamma family
gamma = pointwise("gamma", s.gamma, "x")
rgamma = pointwise("rgamma", s.rgamma, "x")
gammaln = pointwise("gammaln", s.gammaln, "x")
loggamma = pointwise("loggamma", s.loggamma, "x")
digamma = pointwise("digamma", s.digamma, "x")
psi = pointwise("psi", s.digamma, "x")
polygamma = pointwise("polygamma", s.polygamma, "n", "x")
beta = pointwise("beta", s.beta, "a", "b")
betaln = pointwise("betaln", s.betaln, "a", "b")
gammainc = pointwise("gammainc", s.gammainc, "a", "x")
gammaincc = pointwise("gammaincc", s.gammaincc, "a", "x")
betainc = pointwise("betainc", s.betainc, "a", "b", "x")
betaincc = pointwise("betaincc", s.betaincc, "a", "b", "x")
poch = pointwise("poch", s.poch, "z", "m")
binom = pointwise("binom", s.binom, "n", "k")

# ------------------------------------------------------------------ the error function's family
erf = pointwise("erf", e.erf, "x")
erfc = pointwise("erfc", e.erfc, "x")
erfcx = pointwise("erfcx", s.erfcx, "x")
erfinv = pointwise("erfinv", s.erfinv, "y")
erfcinv = pointwise("erfcinv", s.erfcinv, "y")
ndtr = pointwise("ndtr", e.normal_cdf, "x")
ndtri = pointwise("ndtri", s.ndtri, "p")
log_ndtr = pointwise("log_ndtr", s.log_ndtr, "x")
dawsn = pointwise("dawsn", s.dawsn, "x")

# ------------------------------------------------------------------ Bessel functions
jv = pointwise("jv", s.jv, "v", "x")
yv = pointwise("yv", s.yv, "v", "x")
iv = pointwise("iv", s.iv, "v", "x")
kv = pointwise("kv", s.kv, "v", "x")
ive = pointwise("ive", s.ive, "v", "x")
kve = pointwise("kve", s.kve, "v", "x")
j0 = pointwise("j0", s.j0, "x")
j1 = pointwise("j1", s.j1, "x")
y0 = pointwise("y0", s.y0, "x")
y1 = pointwise("y1", s.y1, "x")
i0 = pointwise("i0", s.i0, "x")
i0e = pointwise("i0e", s.i0e, "x")
i1 = pointwise("i1", s.i1, "x")
i1e = pointwise("i1e", s.i1e, "x")
k0 = pointwise("k0", s.k0, "x")
k0e = pointwise("k0e", s.k0e, "x")
k1 = pointwise("k1", s.k1, "x")
k1e = pointwise("k1e", s.k1e, "x")

# ------------------------------------------------------------------ logistic, entropies, losses
expit = pointwise("expit", e.sigmoid, "x")
logit = pointwise("logit", s.logit, "x")
log_expit = pointwise("log_expit", e.log_sigmoid, "x")
xlogy = pointwise("xlogy", s.xlogy, "x", "y")
xlog1py = pointwise("xlog1py", s.xlog1py, "x", "y")
entr = pointwise("entr", s.entr, "x")
rel_entr = pointwise("rel_entr", s.rel_entr, "x", "y")
kl_div = pointwise("kl_div", s.kl_div, "x", "y")
huber = pointwise("huber", s.huber, "delta", "r")
pseudo_huber = pointwise("pseudo_huber", s.pseudo_huber, "delta", "r")
boxcox = pointwise("boxcox", s.boxcox, "x", "lmbda")
boxcox1p = pointwise("boxcox1p", s.boxcox1p, "x", "lmbda")
inv_boxcox = pointwise("inv_boxcox", s.inv_boxcox, "y", "lmbda")
inv_boxcox1p = pointwise("inv_boxcox1p", s.inv_boxcox1p, "y", "lmbda")

# ------------------------------------------------------------------ integrals and elementary ones
exp1 = pointwise("exp1", s.exp1, "x")
expi = pointwise("expi", s.expi, "x")
ellipk = pointwise("ellipk", s.ellipk, "m")
ellipe = pointwise("ellipe", s.ellipe, "m")
ellipkm1 = pointwise("ellipkm1", s.ellipkm1, "p")
exprel = pointwise("exprel", s.exprel, "x")
exp10 = pointwise("exp10", s.exp10, "x")
cosm1 = pointwise("cosm1", s.cosm1, "x")
sindg = pointwise("sindg", s.sindg, "x")
cosdg = pointwise("cosdg", s.cosdg, "x")
tandg = pointwise("tandg", s.tandg, "x")
sinc = pointwise("sinc", e.sinc, "x")
expm1 = pointwise("expm1", e.expm1, "x")
log1p = pointwise("log1p", e.log1p, "x")
exp2 = pointwise("exp2", e.exp2, "x")
cbrt = pointwise("cbrt", e.cbrt, "x")


@implements(np.i0)
def numpy_i0(x: Any) -> Any:
    """The modified Bessel function of order 0: np.i0."""
    return bind(s.np_i0, x)


def zeta(x: Any, q: Any = None) -> Any:
    """The sum of (k + q)^-x over k >= 0; the Riemann zeta function without q.

    It is differentiable in q. The derivative in x refuses.
    """
    return bind(s.riemann_zeta, x) if q is None else bind(s.zeta, x, q)


def lambertw(z: Any, k: int = 0) -> Any:
    """w with w e^w = z, on the real branches: k = 0 for z >= -1/e, k = -1 for -1/e <= z < 0.

    Real z gives real w, where scipy.special.lambertw gives a complex array; nan off the branch.

    >>> lambertw(np.e)
    np.float64(1.0)
    """
    if k not in s.lambertw:
        raise UnsupportedError(f"lambertw(z, k={k!r})", "the real branches are k = 0 and k = -1")
    if getattr(dtype_of(z), "kind", "f") == "c" or isinstance(z, complex):
        raise DTypeError("lambertw(z)", "needs real numbers", operands=[("z", z)])
    return bind(s.lambertw[k], z)


def multigammaln(a: Any, d: int) -> Any:
    """log of the multivariate gamma function of dimension d: a sum of gammaln(a - j/2), j < d."""
    if not (isinstance(d, int | np.integer) and d >= 1):
        raise ArgumentError(f"multigammaln(a, d={d!r})", "the dimension d is a positive integer")
    if np.any(np.asarray(plain(a)) <= 0.5 * (d - 1)):
        raise ArgumentError("multigammaln(a, d)", f"a must be above (d - 1) / 2 = {(d - 1) / 2}")
    total = gammaln(a)
    for j in range(1, int(d)):
        total = total + gammaln(a - j / 2)
    return total + d * (d - 1) * 0.25 * math.log(math.pi)


def comb(N: Any, k: Any, *, exact: bool = False, repetition: bool = False) -> Any:
    """Counts of integers have no derivative: this refuses. See `binom`, for real numbers."""
    raise UnsupportedError(
        "comb(N, k)", "the number of combinations is of integers", fix="binom(N, k), for real N, k"
    )


def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    """log |sum b e^a| over axes, without overflow; b = 1 when left out.

    Args:
        a: exponents.
        axis: an axis, several, or None for all.
        b: factors, of any sign; the result is nan where their sum is negative.
        keepdims: leave axes of length 1 in place.
        return_sign: give (log |sum|, sign) instead.
    """
    if b is None:
        y = reduce.logsumexp(a, axis, keepdims)
        return (y, np.where(np.isnan(plain(y)), np.nan, 1.0)[()]) if return_sign else y
    top = np.max(np.asarray(plain(a)), axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total = reduce.sum(b * e.exp(a - top), axis, keepdims=True)
    sign = np.sign(np.asarray(plain(total)))
    y = e.log(e.abs(total) if return_sign else total) + top
    if not keepdims:
        gone = tuple(range(top.ndim)) if axis is None else axis
        y, sign = np.squeeze(y, axis=gone), np.squeeze(sign, axis=gone)
    return (y, sign) if return_sign else y


def softmax(x: Any, axis: Any = None) -> Any:
    """e^x / sum e^x over an axis, several, or all (SciPy's default)."""
    if isinstance(axis, int):
        return reduce.softmax(x, axis)
    return e.exp(log_softmax(x, axis))


def log_softmax(x: Any, axis: Any = None) -> Any:
    """x - logsumexp(x) over an axis, several, or all (SciPy's default)."""
    if isinstance(axis, int):
        return reduce.log_softmax(x, axis)
    return e.sub(x, reduce.logsumexp(x, axis, True))
