"""The laws that every operation keeps, as functions that test your own operations and functions.

    check_grads(f, (x, y), order=2)     derivatives of any function, in both modes
    check_op(op, x, y)                  everything an operation promises

The laws: `infer` agrees with `impl`; the tangent agrees with a central difference; <gy, J dx>
equals <J^T gy, dx>; vmap is a stack of single calls, for every choice of batched arguments; the
loop nest computes what `impl` computes; inputs are left alone and may be strided; float32 stays
float32; and the same holds for the operation's own derivatives.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import nest, tree
from .errors import DTypeError, UnsupportedError
from .ops import neural
from .primitive import Constant, Elementwise, Primitive
from .trace import OPS, bind
from .transforms.jvp import jvp
from .transforms.vjp import vjp
from .transforms.vmap import vmap
from .types import Aval, is_inexact

__all__ = ["LawBroken", "check_grads", "check_op", "examples", "neural"]


class LawBroken(AssertionError):
    """A law that does not hold; says which, where, and by how much."""


def check_grads(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    order: int = 2,
    modes: tuple[str, ...] = ("forward", "reverse"),
    rtol: float = 1e-6,
    seed: int = 0,
    name: str = "f",
) -> None:
    """Hold the derivatives of f at args against central differences and against each other.

    Args:
        f: a function of arrays, returning an array or a pytree of them.
        args: float64 (or complex128) arrays at a point where f is smooth.
        order: how many times to differentiate, through every mixture of modes.
        modes: which modes to check.
        rtol: tolerance of the comparison with differences, which are the less accurate side; the
            adjoint identity is held to 1e-10.

    Raises:
        LawBroken: with the law, the place and the two numbers.

    >>> check_grads(lambda x: np.sin(x) * x[0], (np.array([0.3, 1.0]),))
    """
    rng = np.random.default_rng(seed)
    args = tuple(np.asarray(a) for a in args)
    with np.errstate(all="ignore"):
        _check(f, args, order, modes, rtol, rng, name)


def _check(f: Any, args: Any, order: int, modes: Any, rtol: float, rng: Any, name: str) -> None:
    dx = tuple(_random_like(a, rng) for a in args)
    y, dy = jvp(f, args, dx)
    if "forward" in modes:
        want = _difference(f, args, dx)
        for got, ref in zip(tree.leaves(dy), tree.leaves(want), strict=True):
            _close(f"{name}: jvp = central difference", got, ref, rtol)
    gy = tree.map(lambda v: _random_like(v, rng), y)
    if "reverse" in modes:
        gx = vjp(f, *args)[1](gy)
        for g, a in zip(gx, args, strict=True):
            if np.shape(g) != a.shape or np.asarray(g).dtype != a.dtype:
                raise LawBroken(
                    f"{name}: a cotangent is {Aval.of(np.asarray(g))}, its argument {Aval.of(a)}"
                )
        left = [_pair(g, d) for g, d in zip(tree.leaves(gy), tree.leaves(dy), strict=True)]
        right = [_pair(g, d) for g, d in zip(gx, dx, strict=True)]
        scale = sum(s for _, s in left) + sum(s for _, s in right) + 1e-30
        a, b = sum(v for v, _ in left), sum(v for v, _ in right)
        if not abs(a - b) <= 1e-10 * scale:
            raise LawBroken(f"{name}: <gy, J dx> = {a!r} but <J^T gy, dx> = {b!r}")
    if order > 1:
        if "reverse" in modes:
            _check(
                lambda *xs: vjp(f, *xs)[1](gy), args, order - 1, modes, rtol, rng, f"vjp of {name}"
            )
        if "forward" in modes:
            _check(
                lambda *xs: jvp(f, xs, dx)[1], args, order - 1, modes, rtol, rng, f"jvp of {name}"
            )


def _random_like(x: Any, rng: Any) -> Any:
    x = np.asarray(x)
    d = rng.standard_normal(x.shape)
    if x.dtype.kind == "c":
        d = d + 1j * rng.standard_normal(x.shape)
    return d.astype(x.dtype) if is_inexact(x.dtype) else np.zeros(x.shape)


def _pair(g: Any, d: Any) -> tuple[float, float]:
    """(Re sum g d, sum |g d|)."""
    p = np.asarray(g) * np.asarray(d)
    return float(np.real(p).sum()), float(np.abs(p).sum())


def _difference(f: Any, args: Any, dx: Any) -> Any:
    """Directional derivative by central differences at h and h/2, extrapolated to order h^4."""
    h = 1e-3

    def slope(h: float) -> Any:
        up = f(*[a + h * d for a, d in zip(args, dx)])
        down = f(*[a - h * d for a, d in zip(args, dx)])
        return tree.map(lambda u, v: (np.asarray(u) - np.asarray(v)) / (2 * h), up, down)

    return tree.map(lambda a, b: (4 * b - a) / 3, slope(h), slope(h / 2))


def _close(law: str, got: Any, want: Any, rtol: float) -> None:
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise LawBroken(f"{law}: shape {got.shape} against {want.shape}")
    if want.dtype == bool:
        got, want = got.astype(int), want.astype(int)
    size = np.abs(want).max(initial=0.0) if want.size else 0.0
    error = np.abs(got - want)
    bad = ~(error <= rtol * (np.abs(want) + 0.01 * size + 1e-3)) & ~(
        (got == want) | (np.isnan(got) & np.isnan(want))
    )
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise LawBroken(f"{law}: at {list(at)} {got[at]!r} against {want[at]!r}")


# ------------------------------------------------------------------ operations


def check_op(op: Primitive, *xs: Any, order: int = 2, rtol: float = 1e-6) -> None:
    """Hold one operation at one set of operands to every law.

    Args:
        op: an operation, with its parameters.
        xs: operands: float64 arrays where a derivative is wanted, anything else as it is.
        order: how many times to differentiate.

    Raises:
        LawBroken: with the law, the place and the two numbers.

    >>> from wengert.ops.linear import Sum
    >>> check_op(Sum((0,), False), np.ones((2, 3)))
    """
    name = repr(op)
    xs = tuple(np.asarray(x) for x in xs)
    with np.errstate(all="ignore"):
        before = [x.copy() for x in xs]
        y = op.impl(*xs)
        for x, old in zip(xs, before):
            if not _same(x, old):
                raise LawBroken(f"{name}: an operand was changed")
        _infer_law(op, xs, y)
        _strided_law(op, xs, y)
        _lower_law(op, xs, y)
        _single_precision_law(op, xs)
        _mixed_law(op, xs)
        for lanes in range(1, 1 << len(xs)):
            _vmap_law(op, xs, lanes)
        _complex_law(op, xs, order, rtol)
    wrt = [i for i, x in enumerate(xs) if is_inexact(x.dtype)]
    if isinstance(op, Constant) or not wrt or not any(is_inexact(v.dtype) for v in _parts(y)):
        return

    def f(*active: Any) -> Any:
        full = list(xs)
        for i, a in zip(wrt, active):
            full[i] = a
        return bind(op, *full)

    check_grads(f, tuple(xs[i] for i in wrt), order, rtol=rtol, name=name)


def _mixed_law(op: Primitive, xs: Any) -> None:
    """Where operands of several precisions meet, each cotangent has the dtype of its operand."""
    floats = [i for i, x in enumerate(xs) if x.dtype == np.float64]
    if isinstance(op, Constant) or len(floats) < 2:
        return
    for i in floats:
        low = [x.astype(np.float32) if i == k else x for k, x in enumerate(xs)]

        def f(*active: Any) -> Any:
            full: list[Any] = list(xs)
            for k, a in zip(floats, active):
                full[k] = a
            return bind(op, *full)

        y, pull = vjp(f, *[low[k] for k in floats])
        ones = [np.ones(part.shape, part.dtype) for part in _parts(y)]
        for k, g in zip(floats, pull(tuple(ones) if isinstance(y, tuple) else ones[0])):
            if g.dtype != low[k].dtype:
                raise LawBroken(f"{op!r}: the cotangent of a {low[k].dtype} operand is {g.dtype}")


def _parts(y: Any) -> list[Any]:
    return [np.asarray(v) for v in (y if isinstance(y, tuple) else (y,))]


def _same(a: Any, b: Any) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _infer_law(op: Primitive, xs: Any, y: Any) -> None:
    avals = op.infer(*[Aval.of(x) for x in xs])
    for aval, part in zip(avals if isinstance(avals, tuple) else (avals,), _parts(y), strict=True):
        if aval != Aval.of(part):
            raise LawBroken(f"{op!r}: infer says {aval}, impl gives {Aval.of(part)}")


def _strided_law(op: Primitive, xs: Any, y: Any) -> None:
    """The same value from operands with gaps, and from operands that run backwards."""
    gaps = [np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x for x in xs]
    back = [x[..., ::-1].copy()[..., ::-1] if x.ndim else x for x in xs]
    for strided in (gaps, back):
        for part, want in zip(_parts(op.impl(*strided)), _parts(y), strict=True):
            _close(f"{op!r} of strided operands", part, want, 1e-12)


def _lower_law(op: Primitive, xs: Any, y: Any) -> None:
    loops = op.lower(*[Aval.of(x) for x in xs])
    if loops is not None:
        bodies = {name: o.f for name, o in OPS.items() if hasattr(o, "f")}
        _close(f"{op!r}: nest {loops} = impl", nest.evaluate(loops, xs, bodies), y, 1e-12)


def _complex_law(op: Primitive, xs: Any, order: int, rtol: float) -> None:
    """The derivatives at complex operands, wherever the operation takes them: right, or refused."""
    if isinstance(op, Constant) or not xs or any(x.dtype != np.float64 for x in xs):
        return
    rng = np.random.default_rng(1)
    zs = tuple(x + 0.3j * rng.standard_normal(x.shape) for x in xs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            y = op.impl(*zs)
        except (TypeError, np.exceptions.ComplexWarning):
            return  # it takes no complex numbers
        if all(np.isfinite(v).all() for v in _parts(y)):
            with contextlib.suppress(DTypeError, UnsupportedError):  # it refuses by name
                name = f"{op!r} of complex numbers"
                check_grads(lambda *a: bind(op, *a), zs, order, rtol=rtol, name=name)


WIDENS = {"float_power"}  # NumPy computes it in float64 whatever it is given


def _single_precision_law(op: Primitive, xs: Any) -> None:
    if not any(x.dtype == np.float64 for x in xs):
        return
    y = op.impl(*[x.astype(np.float32) if x.dtype == np.float64 else x for x in xs])
    for part in _parts(y):
        if is_inexact(part.dtype) and part.dtype not in (np.float32, np.complex64):
            asked = getattr(op, "dtype", None)  # and np.dtype(None) is float64
            if repr(op) in WIDENS:
                continue
            if asked is None or asked != part.dtype:
                raise LawBroken(f"{op!r}: float32 operands give {part.dtype}")


def _vmap_law(op: Primitive, xs: Any, lanes: int) -> None:
    n = 3
    axes = tuple(0 if lanes >> i & 1 else None for i in range(len(xs)))
    rng = np.random.default_rng(lanes)

    def vary(x: Any) -> Any:
        rows = [x] + [
            x * (1 + 0.01 * rng.random()) if is_inexact(x.dtype) else x for _ in range(n - 1)
        ]
        return np.stack(rows).astype(x.dtype)

    batched = [vary(x) if a == 0 else x for x, a in zip(xs, axes)]
    got = vmap(lambda *vs: bind(op, *vs), in_axes=axes)(*batched)
    rows = [op.impl(*[b[k] if a == 0 else b for b, a in zip(batched, axes)]) for k in range(n)]
    for i, part in enumerate(_parts(got)):
        want = np.stack([_parts(r)[i] for r in rows])
        _close(f"{op!r}: vmap over {axes} = stack of calls", part, want, 1e-10)


# ------------------------------------------------------------------ the registry


def examples(name: str) -> Iterator[tuple[Primitive, tuple[Any, ...]]]:
    """(operation, operands) for a registered operation: the points at which the laws are run.

    A class of operations lists its own, as `examples`; for an elementwise operation that lists
    none they are the regions in which it is finite.
    """
    op = OPS[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    shapes: list[tuple[Any, ...]]
    if isinstance(op, type):
        for params, *operands in OPS[name].examples:
            yield op(*params), tuple(_operand(o, rng) for o in operands)
        return
    if op.examples:
        for operands in op.examples:
            yield op, operands
        return
    n = len(op.args)
    regions: list[Callable[[Any], Any]] = [
        lambda s: rng.standard_normal(s),
        lambda s: rng.uniform(0.1, 0.9, s),
        lambda s: rng.uniform(1.2, 3.0, s),
    ]
    shapes = [((3,),), ((),)] if n == 1 else [((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2,))]
    if n == 3:
        shapes = [((2, 3), (2, 3), (2, 3)), ((2, 1), (3,), ())]
    for region in regions if isinstance(op, Elementwise) else regions[:1]:
        for shape in shapes:
            xs = [np.asarray(region(s)) for s in shape]
            while n == 2 and _near_kink(*xs):
                xs = [np.asarray(region(s)) for s in shape]
            if name in ("where",):
                xs[0] = rng.random(shape[0]) > 0.5
            if name == "clip":
                xs[1], xs[2] = np.minimum(xs[1], xs[2]) - 0.5, np.maximum(xs[1], xs[2]) + 0.5
            if name == "mul_mask":
                xs[1] = rng.random(shape[1]) > 0.5
            if "bitwise" in name or "shift" in name or name == "invert":
                xs = [np.abs(x * 3).astype(int) for x in xs]
            with np.errstate(all="ignore"):
                try:
                    finite = np.isfinite(op.impl(*xs)).all()
                except TypeError:
                    finite = False
            if finite:
                yield op, tuple(xs)


def _near_kink(a: Any, b: Any) -> bool:
    """Whether a difference quotient would straddle a tie (maximum) or a jump (remainder)."""
    part = np.abs(a / b) % 1
    jump = (part < 0.05) | (part > 0.95) | (np.abs(a / b) > 5)
    return bool((np.abs(a - b) < 0.05).any() or jump.any())


def _operand(o: Any, rng: Any) -> Any:
    return rng.standard_normal(o) if isinstance(o, tuple) else np.asarray(o)
