"""Whole Jacobians and Hessians, and the products with them that never form them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import DTypeError, NonScalarError
from ..given import call, numeric
from ..ops.index import GetItem
from ..ops.linear import Reshape, moveaxis
from ..structural import Masked
from ..trace import Tensor, make, push
from ..types import Shape, dtype_of, shape_of
from .jvp import inward, is_complex, jvp, lower, outward, with_aux
from .vjp import (
    Recorded,
    check_holomorphic,
    check_inputs,
    chosen_arguments,
    grad,
    holomorphic_value,
    places_of,
)
from .vmap import Batched, VMap, unbatch

__all__ = ["hessian", "hvp", "jacfwd", "jacobian", "jacrev"]


def basis(
    n: int, sizes: list[int], k: int, shape: Shape, dtype: Any, level: Any, unit: complex = 1
) -> Masked:
    """Part k of the n unit vectors, one a lane, as a structural seed: zeros mean "not asked"."""
    e = np.zeros((n, sizes[k]), dtype)
    start = sum(sizes[:k])
    e[range(start, start + sizes[k]), range(sizes[k])] = unit
    e = e.reshape((n, *shape))
    return Masked(make(e, 0, level, Batched), make(e != 0, 0, level, Batched))


def jacfwd(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian by forward mode: one batched tangent pass, a lane per input.

    Numerator layout: J has the value's shape, then the argument's:  J[i, j] = dy_i / dx_j.
    """
    return _jacobian("jacfwd", f, argnums, _forward, has_aux, holomorphic)


def jacrev(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian by reverse mode: one forward pass and one batched sweep, a lane per output.

    Numerator layout: J has the value's shape, then the argument's:  J[i, j] = dy_i / dx_j.
    """
    return _jacobian("jacrev", f, argnums, _reverse, has_aux, holomorphic)


def jacobian(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The Jacobian J[i, j] = dy_i / dx_j, by whichever mode needs fewer passes.

    Args:
        f: a function of pytrees of arrays.
        argnums: which positional argument, or arguments, to differentiate.
        has_aux: f returns (value, aux); the result is then (jacobian, aux).
        holomorphic: f is complex differentiable, of complex arguments and with a complex value.

    Returns:
        a function of f's arguments: for each leaf of f's value, a tree like the argument, of arrays
        with the value's axes first and the argument's after them.

    >>> import numpy as np
    >>> jacobian(lambda x: x ** 2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _jacobian("jacobian", f, argnums, _cheaper, has_aux, holomorphic)


def _jacobian(
    what: str, f: Callable[..., Any], argnums: Any, mode: Any, has_aux: bool, holomorphic: bool
) -> Callable[..., Any]:
    nums, one = chosen_arguments(what, f, argnums)

    @wraps(f)
    def jac(*args: Any, **kwargs: Any) -> Any:
        places = places_of(what, nums, args)
        xs, structure = tree.flatten(tuple(args[n] for n in places))
        check_inputs(what, xs, tree.paths(structure))
        run, plane = mode, [x for x in xs if is_complex(x) or type(x) is complex]
        if holomorphic:
            check_holomorphic(what, xs, tree.paths(structure))
        elif plane and mode is _forward:
            raise one_slope(what, "argument", plane[0])
        elif plane:
            run = _reverse
        kept: list[Any] = []

        def g(*ts: Any) -> Any:
            full = list(args)
            for n, t in zip(places, tree.unflatten(structure, ts)):
                full[n] = t
            out = call(f"{what}(f)", "f", f, *full, **kwargs)
            if has_aux:
                out, aux = with_aux(what, out)
                kept[:] = [aux]
            leaves, shape = tree.flatten(out)
            numeric(f"{what}(f)", lambda: tree.paths(shape, "f(x)"), leaves)
            for y in tree.leaves(out):
                if holomorphic:
                    holomorphic_value(what, y)
                elif plane and is_complex(y):
                    raise one_slope(what, "value", y)
            return out

        wrap = any(isinstance(x, Tensor) for x in xs)
        xs = [inward(x) for x in xs]
        shape, rows = run(g, xs)
        outs = []
        for row in rows:
            leaf = tree.unflatten(structure, [outward(j, wrap) for j in row])
            outs.append(leaf[0] if one else leaf)
        result = tree.unflatten(shape, outs)
        return (result, lower(kept[0])) if has_aux else result

    return jac


def one_slope(what: str, name: str, x: Any) -> DTypeError:
    return DTypeError(
        f"{what}(f)",
        "a function of complex numbers has one derivative only if it is complex differentiable",
        operands=[(name, x)],
        fix=f"wg.{what}(f, holomorphic=True) if it is; else a function of the real and the "
        "imaginary part",
    )


def _cheaper(f: Callable[..., Any], xs: list[Any]) -> Any:
    """Reverse mode, unless the recorded value turns out to have more numbers than the inputs."""
    run = Recorded(f, xs, lambda ts: f(*ts))
    ys, _ = tree.flatten(run.out)
    outputs = sum(math.prod(shape_of(y)) for y in ys)
    inputs = sum(math.prod(shape_of(x)) for x in xs)
    return _forward(f, xs) if outputs > inputs else _reverse(f, xs, run)


def _forward(f: Callable[..., Any], xs: list[Any]) -> Any:
    sizes = [math.prod(shape_of(x)) for x in xs]
    n = sum(sizes)
    with push(VMap, n) as level:
        seeds = tuple(basis(n, sizes, k, shape_of(x), dtype_of(x), level) for k, x in enumerate(xs))
        out, slopes = jvp(f, tuple(xs), seeds)
        ys, shape = tree.flatten(out)
        rows = []
        for y, dy in zip(ys, tree.leaves(slopes)):
            table = unbatch(dy, level)  # [n, value's shape]
            start, row = 0, []
            for x, size in zip(xs, sizes):
                part = GetItem((slice(start, start + size),))(table)
                part = moveaxis(part, 0, len(shape_of(y)))
                row.append(Reshape((*shape_of(y), *shape_of(x)))(part))
                start += size
            rows.append(row)
    return shape, rows


def _reverse(f: Callable[..., Any], xs: list[Any], run: Recorded | None = None) -> Any:
    run = run or Recorded(f, xs, lambda ts: f(*ts))
    ys, shape = tree.flatten(run.out)
    rows = []
    for y in ys:
        value, node = run.split(y)
        if node is None:
            rows.append([np.zeros((*shape_of(value), *shape_of(x)), dtype_of(x)) for x in run.xs])
            continue
        row = pulled(run, node, value, 1)
        if is_complex(value) and not all(is_complex(x) for x in run.xs):
            # a real argument has the real part alone: the imaginary one is that of -i y
            other = pulled(run, node, value, -1j)
            row = [a if is_complex(x) else a + 1j * b for a, b, x in zip(row, other, run.xs)]
        rows.append(row)
    return shape, rows


def pulled(run: Recorded, node: Any, value: Any, unit: complex) -> list[Any]:
    """The pullbacks of all unit vectors, times `unit`, of one result."""
    out, n = shape_of(value), math.prod(shape_of(value))
    with push(VMap, n) as level:
        seed = basis(n, [n], 0, out, dtype_of(value), level, unit)
        got = [unbatch(g, level) for g in run.pull([node], [seed], keep=True)]
        return [Reshape((*out, *shape_of(x)))(g) for g, x in zip(got, run.xs)]


def hessian(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """The matrix of second derivatives  H[i, j] = d^2 f / dx_i dx_j, forward over reverse.

    One for each number of f(x), with the axes of f(x) in front, where that is not a single one.

    >>> import numpy as np
    >>> hessian(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    gradient = grad(f, argnums, has_aux, allow_unused=True, holomorphic=holomorphic)
    rows = jacrev(f, argnums, has_aux, holomorphic)

    @wraps(f)
    def slope(*args: Any, **kwargs: Any) -> Any:
        try:
            return gradient(*args, **kwargs)
        except NonScalarError:
            out = rows(*args, **kwargs)
            if not tree.leaves(out[0] if has_aux else out):
                raise  # f returned nothing
            return out

    return jacfwd(slope, argnums, has_aux, holomorphic)


def hvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """Hessian-vector product  H(x) v  at the cost of a few gradients, without forming H.

    Forward over reverse (Pearlmutter 1994): the tangent of the gradient along v.

    Args:
        f: a function of one or more arguments whose value is one number.
        primals: the tuple of arguments (a bare array for a function of one argument).
        tangents: the direction v, of the same structure.

    >>> import numpy as np
    >>> hvp(lambda x: np.sum(x ** 3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    if not isinstance(primals, tuple):
        return jvp(grad(f, allow_unused=True), (primals,), (tangents,))[1]
    every = tuple(range(len(primals)))
    return jvp(grad(f, every, allow_unused=True), primals, tangents)[1]
