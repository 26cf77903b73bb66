"""The operations that random programs are made of.

Each has two forms. `run` is what a user writes: it is run by NumPy and by wengert, and the
values must be the same to the bit. `peer` says the same with few and simple functions: it is run
by HIPS autograd, and by NumPy in extended precision. `smooth` says where central differences are
allowed to look.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.tracer import isbox

import wengert as wg

MARGIN = 0.05  # how far from a kink or a jump every operand stays


@dataclass(frozen=True)
class Op:
    """run(m, *operands, *params), with m the namespace of functions."""

    run: Callable[..., Any]
    params: Callable[..., Any] = lambda pick, *xs: ()
    smooth: Callable[..., Any] = lambda *xs: True
    peer: Callable[..., Any] | None = None
    arity: int = 1
    lanes: bool = True  # can be run by vmap
    numpys: bool = True  # every function in `run` is NumPy's own
    linked: bool = True  # operands broadcast with each other


OPS: dict[str, Op] = {}


def op(name: str, run: Any, **options: Any) -> None:
    OPS[name] = Op(run, **options)


def raw(x: Any) -> Any:
    """The value of a recorded array, for decisions."""
    while isbox(x):
        x = x._value
    return x


def choose(m: Any, mask: Any, a: Any, b: Any) -> Any:
    """`where` without its name: autograd's does not sum over what was broadcast."""
    return a * mask + b * ~mask


def away(x: Any, *points: float) -> bool:
    return all(bool(np.all(np.abs(x - p) > MARGIN)) for p in points)


def between(low: float, high: float) -> Callable[..., bool]:
    return lambda x, *_: bool(np.all((low < x) & (x < high)))


def beyond(low: float) -> Callable[..., bool]:
    return lambda x, *_: bool(np.all(np.abs(x) > low))


# ------------------------------------------------------------------ one operand, element by element
ANY = between(-30, 30)
ELEMENTWISE: dict[str, Any] = {
    "sin": (ANY, None),
    "cos": (ANY, None),
    "tanh": (ANY, None),
    "exp": (ANY, None),
    "expm1": (ANY, None),
    "exp2": (ANY, lambda m, x: m.exp(x * exact(m, LN2))),
    "sinh": (ANY, None),
    "cosh": (ANY, None),
    "arctan": (ANY, None),
    "arcsinh": (ANY, lambda m, x: m.log(m.sqrt(x * x + 1) + x)),
    "square": (ANY, lambda m, x: x * x),
    "negative": (ANY, lambda m, x: -x),
    "log": (between(0.2, 99), None),
    "log2": (between(0.2, 99), lambda m, x: m.log(x) / exact(m, LN2)),
    "log1p": (between(-0.8, 99), None),
    "sqrt": (between(0.2, 99), None),
    "cbrt": (between(0.2, 99), lambda m, x: m.exp(m.log(x) / 3)),
    "reciprocal": (beyond(0.4), lambda m, x: 1 / x),
    "tan": (lambda x: bool(np.all(np.abs(np.cos(x)) > 0.4)), None),
    "arcsin": (between(-0.8, 0.8), None),
    "arccos": (between(-0.8, 0.8), None),
    "arctanh": (between(-0.8, 0.8), None),
    "abs": (beyond(MARGIN), lambda m, x: x * np.sign(raw(x))),
    "sinc": (beyond(0.3), lambda m, x: m.sin(exact(m, PI) * x) / (exact(m, PI) * x)),
}
LN2 = np.log(np.longdouble(2))
PI = 2 * np.arcsin(np.longdouble(1))


def exact(m: Any, c: Any) -> Any:
    """A constant in the precision that an engine works in."""
    return float(c) if m is anp else c


def named(name: str) -> Callable[..., Any]:
    return lambda m, x: getattr(m, name)(x)


for _name, (_smooth, _peer) in ELEMENTWISE.items():
    op(_name, named(_name), smooth=_smooth, peer=_peer)


def of_wengert(name: str) -> Callable[..., Any]:
    return lambda m, x: getattr(wg, name)(x)


for _name, _peer in {
    "sigmoid": lambda m, x: 1 / (1 + m.exp(-x)),
    "softplus": lambda m, x: m.log(1 + m.exp(x)),
    "silu": lambda m, x: x / (1 + m.exp(-x)),
    "relu": lambda m, x: x * (raw(x) > 0),
}.items():
    op(
        _name,
        of_wengert(_name),
        peer=_peer,
        smooth=beyond(MARGIN) if _name == "relu" else ANY,
        numpys=False,
    )

op(
    "x**n",
    lambda m, x, n: x**n,
    params=lambda pick, x: (pick((0, 1, 2, 3, -1, -2)),),
    smooth=beyond(0.4),
    numpys=False,  # NumPy rounds ** of a number and of an array apart
)
op(
    "x**r",
    lambda m, x, r: x**r,
    params=lambda pick, x: (pick((0.5, 1.5, -0.5)),),
    smooth=between(0.2, 9),
    numpys=False,
)
op("r**x", lambda m, x, r: r**x, params=lambda pick, x: (pick((0.5, 2.0)),), numpys=False)
op(
    "jumps",
    lambda m, x: x * np.floor(x),
    peer=lambda m, x: x * np.floor(raw(x)),
    smooth=lambda x: away(x - np.round(x), 0),
)
op(
    "sign",
    lambda m, x: np.sign(x) + x,
    peer=lambda m, x: np.sign(raw(x)) + x,
    smooth=beyond(MARGIN),
)
op(
    "clip",
    lambda m, x, a, b: m.clip(x, a, b),
    params=lambda pick, x: pick(((-1.0, 1.0), (0.1, 0.9))),
    peer=lambda m, x, a, b: choose(m, (raw(x) > a) & (raw(x) < b), x, np.clip(raw(x), a, b)),
    smooth=lambda x, a, b: away(x, a, b),
)

SCALARS = (2, -1, 0.5, 3.0, -0.25, 1)
op("scalar+", lambda m, x, c: c + x, params=lambda pick, x: (pick(SCALARS),))
op("scalar-", lambda m, x, c: c - x, params=lambda pick, x: (pick(SCALARS),))
op("scalar*", lambda m, x, c: x * c, params=lambda pick, x: (pick(SCALARS),))
op("scalar/", lambda m, x, c: c / x, params=lambda pick, x: (pick(SCALARS),), smooth=beyond(0.4))


def some_array(pick: Any, x: Any) -> tuple[Any, ...]:
    """A constant that broadcasts with x, as nested tuples."""
    shape = x.shape[pick(range(x.ndim + 1)) :]
    values = np.resize((0.5, -1.0, 0.0, 2.0, 1.5), np.prod(shape, dtype=int)).reshape(shape)
    return shape, tuple(values.ravel().tolist())


def constant(shape: Any, values: Any) -> Any:
    return np.array(values, float).reshape(shape)


op("array*", lambda m, x, *c: constant(*c) * x, params=some_array)
op("array+", lambda m, x, *c: x + constant(*c), params=some_array)
op("array-", lambda m, x, *c: m.subtract(constant(*c), x), params=some_array)

# ------------------------------------------------------------------ two operands
op("add", lambda m, a, b: a + b, arity=2)
op("sub", lambda m, a, b: a - b, arity=2)
op("mul", lambda m, a, b: a * b, arity=2)
op("div", lambda m, a, b: a / b, arity=2, smooth=lambda a, b: beyond(0.4)(b))
op(
    "power",
    lambda m, a, b: m.power(a, b),
    arity=2,
    smooth=lambda a, b: between(0.2, 9)(a) and between(-3, 3)(b),
)
op(
    "arctan2",
    lambda m, a, b: m.arctan2(a, b),
    arity=2,
    smooth=lambda a, b: beyond(0.3)(b) and bool(np.all((np.abs(a) > MARGIN) | (b > 0))),
)
op(
    "hypot",
    lambda m, a, b: m.hypot(a, b),
    arity=2,
    peer=lambda m, a, b: m.sqrt(a * a + b * b),
    smooth=lambda a, b: beyond(0.3)(b),
)
op(
    "logaddexp",
    lambda m, a, b: m.logaddexp(a, b),
    arity=2,
    peer=lambda m, a, b: m.log(m.exp(a) + m.exp(b)),
)


def either(better: Any) -> Callable[..., Any]:
    return lambda m, a, b: choose(m, better(raw(a), raw(b)), a, b)


def apart(a: Any, b: Any) -> bool:
    return away(a - b, 0)


for _name, _better in (("maximum", np.greater), ("fmin", np.less), ("minimum", np.less)):
    op(
        _name,
        lambda m, a, b, n=_name: getattr(m, n)(a, b),
        arity=2,
        peer=either(_better),
        smooth=apart,
    )


def whole_part(a: Any, b: Any) -> Any:
    return np.floor(raw(a) / raw(b))


op(
    "remainder",
    lambda m, a, b: a % b,
    arity=2,
    peer=lambda m, a, b: a - whole_part(a, b) * b,
    smooth=lambda a, b: beyond(0.4)(b) and away(a / b - np.round(a / b), 0),
)

# ------------------------------------------------------------------ choices by value
op(
    "where",
    lambda m, a, b, c: m.where(a > c, a, b),
    arity=2,
    params=lambda pick, a, b: (pick((0.0, 0.5)),),
    peer=lambda m, a, b, c: choose(m, raw(a) > c, a, b),
    smooth=lambda a, b, c: away(a, c),
)
op(
    "mask*",
    lambda m, x, c: x * (x < c),
    params=lambda pick, x: (pick((0.0, 0.5)),),
    peer=lambda m, x, c: x * (raw(x) < c),
    smooth=lambda x, c: away(x, c),
)


def safe(name: str, fill: float) -> None:
    """A function that is nan, or infinite, where `where` does not look."""
    op(
        f"where {name}",
        lambda m, x, c: m.where(x > c, getattr(m, name)(x - c), fill),
        params=lambda pick, x: (pick((0.0, 0.5)),),
        peer=lambda m, x, c: choose(
            m, raw(x) > c, getattr(m, name)(choose(m, raw(x) > c, x - c, 1.0)), fill
        ),
        smooth=lambda x, c: bool(np.all(np.abs(x - c) > 0.2)),
    )


safe("sqrt", 0.0)
safe("log", 1.0)


# ------------------------------------------------------------------ reductions
def axes(pick: Any, x: Any) -> tuple[Any, bool]:
    every = [None, *range(-x.ndim, x.ndim), *combinations(range(x.ndim), 2)]
    return pick(every), pick((False, True))


def one_axis(pick: Any, x: Any) -> Any:
    return (pick(range(-x.ndim, x.ndim)),) if x.ndim else None


def or_flat(pick: Any, x: Any) -> Any:
    return (pick((None, *range(-x.ndim, x.ndim))),)


def rows(x: Any, axis: Any, m: Any = np) -> Any:
    """x with the axes that are reduced in front, as one."""
    shape = np.shape(raw(x))
    inner = range(len(shape)) if axis is None else np.atleast_1d(axis) % max(len(shape), 1)
    outer = [i for i in range(len(shape)) if i not in inner]
    kept = [shape[i] for i in outer]
    n = int(np.prod([shape[i] for i in inner]))
    return m.reshape(m.transpose(x, (*inner, *outer)), (n, *kept)), [
        1 if i in inner else k for i, k in enumerate(shape)
    ]


def filled(x: Any, axis: Any, *_: Any) -> bool:
    return rows(x, axis)[0].size > 0


def by_rows(reduce: Any) -> Callable[..., Any]:
    """A reduction said for the first axis alone."""

    def peer(m: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        r, shape = rows(x, axis, m)
        y = reduce(m, r)
        return m.reshape(y, tuple(shape)) if keepdims else y

    return peer


def multiplied(m: Any, r: Any) -> Any:
    y = np.ones(np.shape(raw(r))[1:])
    for i in range(len(raw(r))):
        y = y * r[i]
    return y


def picked(index: Any) -> Callable[..., Any]:
    def reduce(m: Any, r: Any) -> Any:
        where = index(raw(r), axis=0)
        return r[(where, *np.indices(where.shape))]

    return reduce


def unique_best(x: Any, axis: Any, keepdims: bool, sign: int = 1) -> bool:
    r = np.sort(sign * rows(x, axis)[0], axis=0)
    return r.size > 0 and (len(r) < 2 or bool(np.all(r[-1] - r[-2] > MARGIN)))


def spread_out(x: Any, axis: Any, *_: Any) -> bool:
    """Room for a square root of the variance, or of a sum of squares."""
    return filled(x, axis) and bool(np.all(np.var(rows(x, axis)[0], axis=0) > 0.05))


def variance(m: Any, r: Any) -> Any:
    d = r - m.sum(r, axis=0) / len(raw(r))
    return m.sum(d * d, axis=0) / len(raw(r))


def lse(m: Any, r: Any) -> Any:
    top = np.max(raw(r), axis=0)
    return m.log(m.sum(m.exp(r - top), axis=0)) + top


def reduction(name: str, f: Any, reduce: Any, smooth: Any = filled, **options: Any) -> None:
    op(name, f, params=axes, peer=by_rows(reduce), smooth=smooth, **options)


def function(name: str) -> Callable[..., Any]:
    return lambda m, x, axis, keepdims: getattr(m, name)(x, axis=axis, keepdims=keepdims)


def method(name: str) -> Callable[..., Any]:
    return lambda m, x, axis, keepdims: getattr(x, name)(axis=axis, keepdims=keepdims)


def summed(m: Any, r: Any) -> Any:
    return m.sum(r, axis=0)


reduction("sum", function("sum"), summed, smooth=lambda *_: True)
reduction("x.sum", method("sum"), summed, smooth=lambda *_: True)
reduction("mean", function("mean"), lambda m, r: m.sum(r, axis=0) / len(raw(r)))
reduction("prod", function("prod"), multiplied, smooth=lambda *_: True)
reduction("var", function("var"), variance)
reduction("std", method("std"), lambda m, r: m.sqrt(variance(m, r)), spread_out)
reduction("max", function("max"), picked(np.argmax), unique_best)
reduction("min", method("min"), picked(np.argmin), lambda x, a, k: unique_best(x, a, k, -1))
reduction(
    "ptp",
    lambda m, x, axis, keepdims: np.ptp(x, axis, keepdims=keepdims),
    lambda m, r: picked(np.argmax)(m, r) - picked(np.argmin)(m, r),
    lambda x, a, k: unique_best(x, a, k) and unique_best(x, a, k, -1),
)
reduction(
    "norm",
    lambda m, x, axis, keepdims: np.linalg.norm(x, axis=axis, keepdims=keepdims),
    lambda m, r: m.sqrt(m.sum(r * r, axis=0)),
    lambda x, axis, k: filled(x, axis) and bool(np.all(rows(x * x, axis)[0].sum(0) > 0.1)),
    numpys=False,
)
reduction(
    "logsumexp", lambda m, x, axis, keepdims: wg.logsumexp(x, axis, keepdims), lse, numpys=False
)


def by_lane(f: Any) -> Callable[..., Any]:
    """An operation along one axis, said for the first."""

    def peer(m: Any, x: Any, axis: int) -> Any:
        return m.swapaxes(f(m, m.swapaxes(x, 0, axis)), 0, axis)

    return peer


def running(step: Any) -> Callable[..., Any]:
    def peer(m: Any, x: Any, axis: Any) -> Any:
        x = m.reshape(x, (-1,)) if axis is None else m.swapaxes(x, 0, axis)
        parts = []
        for i in range(len(raw(x))):
            parts.append(step(parts[-1], x[i]) if parts else x[i])
        y = m.stack(parts) if parts else x
        return y if axis is None else m.swapaxes(y, 0, axis)

    return peer


def softmax(m: Any, x: Any) -> Any:
    e = m.exp(x - np.max(raw(x), axis=0))
    return e / m.sum(e, axis=0)


op(
    "softmax",
    lambda m, x, axis: wg.softmax(x, axis),
    params=one_axis,
    peer=by_lane(softmax),
    smooth=filled,
    numpys=False,
)
op(
    "log_softmax",
    lambda m, x, axis: wg.log_softmax(x, axis),
    params=one_axis,
    peer=by_lane(lambda m, x: x - lse(m, x)),
    smooth=filled,
    numpys=False,
)
op("cumsum", lambda m, x, axis: m.cumsum(x, axis), params=or_flat, peer=running(lambda a, b: a + b))
op(
    "cumprod",
    lambda m, x, axis: np.cumprod(x, axis),
    params=or_flat,
    peer=running(lambda a, b: a * b),
)
op(
    "diff",
    lambda m, x, axis: np.diff(x, axis=axis),
    params=one_axis,
    peer=by_lane(lambda m, x: x[1:] - x[:-1]),
)


def sorted_along(m: Any, x: Any, axis: Any) -> Any:
    r = raw(x) if axis is not None else raw(x).ravel()
    places = np.arange(r.size).reshape(r.shape)
    axis = -1 if axis is None else axis
    return m.ravel(x)[np.take_along_axis(places, np.argsort(r, axis), axis)]


def no_ties(x: Any, axis: Any) -> bool:
    r = np.sort(x, axis)
    return bool(np.all(np.diff(r, axis=-1 if axis is None else axis) > MARGIN))


op(
    "sort",
    lambda m, x, axis: m.sort(x, axis),
    peer=sorted_along,
    smooth=no_ties,
    params=lambda pick, x: or_flat(pick, x) if x.ndim else None,
)
