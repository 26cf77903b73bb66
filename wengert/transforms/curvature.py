"""Second derivatives that are never formed: products with them, their diagonals and traces.

With z = f(p) and a loss l(z), the Hessian in p is J^T (d2l/dz2) J + a term with f''. The first part
alone is the Gauss-Newton matrix, and the Fisher matrix when l is a negative log-likelihood. Each
product here costs a few gradients and O(n) memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, OptionError, ShapeError, verbatim
from ..given import call, function, number, one_of
from ..ops import elementwise as e
from ..ops.fused import Softmax
from ..ops.index import Concatenate, GetItem
from ..ops.linear import Reshape, Sum, moveaxis
from ..random import default
from ..structural import Masked, densify
from ..trace import Tensor, bind, make, push
from ..types import dtype_of, shape_of
from .jacobian import hvp
from .jvp import inward, jvp, outward
from .taylor import jet
from .vjp import Recorded, check_inputs, grad, vjp
from .vmap import Batched, VMap, unbatch, vmap

__all__ = [
    "batch_jacobian",
    "fisher_product",
    "gauss_newton_product",
    "hessian_diagonal",
    "laplacian",
    "per_sample_grad",
    "vhp",
]


# ------------------------------------------------------------------ products


def vhp(f: Callable[..., Any], primals: Any, cotangents: Any) -> Any:
    """Vector-Hessian product  v^T H(x):  reverse over reverse.

    H is symmetric, so this is `hvp` by the other road; `hvp` is the faster one.

    Args:
        f: a function of one or more arguments whose value is one number.
        primals: the tuple of arguments (a bare tree for a function of one argument).
        cotangents: the vector v, of the same structure.

    Raises:
        ShapeError: v has another structure or other shapes than the arguments.

    >>> import numpy as np
    >>> vhp(lambda x: np.sum(x ** 3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    same_trees("vhp(f, primals, v)", "primals", primals, "v", cotangents)
    if not isinstance(primals, tuple):
        _, pull = vjp(grad(f, allow_unused=True), primals)
        return pull(cotangents)[0]
    every = tuple(range(len(primals)))
    _, pull = vjp(grad(f, every, allow_unused=True), *primals)
    return pull(cotangents)


def same_trees(what: str, a_name: str, a: Any, b_name: str, b: Any) -> None:
    xs, structure = tree.flatten(a)
    ys, other = tree.flatten(b)
    if structure != other:
        raise ArgumentError(
            what,
            f"{b_name} has another structure than {a_name}",
            operands=[(a_name, verbatim(structure)), (b_name, verbatim(other))],
        )
    for x, y, p in zip(xs, ys, tree.paths(structure)):
        if shape_of(x) != shape_of(y):
            raise ShapeError(
                what,
                f"{b_name} has the shapes of {a_name}",
                operands=[(a_name + p, x), (b_name + p, y)],
            )


def gauss_newton_product(
    f: Callable[[Any], Any], loss: Callable[[Any], Any], params: Any, v: Any
) -> Any:
    """G v  with  G = J^T H J,  J the Jacobian of z = f(params), H the Hessian of loss(z).

    Positive semi-definite when the loss is convex in z. Neither J nor H is formed: a tangent pass
    gives J v, `hvp` of the loss alone H J v, a cotangent pass J^T H J v (Schraudolph 2002).

    Args:
        f: params -> outputs, both pytrees.
        loss: outputs -> one number.
        params: where.
        v: the direction, of the structure of params.

    Returns:
        a tree like params.

    Raises:
        ArgumentError, ShapeError: v is not like params.
        NonScalarError: the loss is not one number.

    >>> import numpy as np
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> f, loss = (lambda w: x @ w), (lambda z: np.sum(z ** 2) / 2)
    >>> gauss_newton_product(f, loss, np.zeros(2), np.array([1.0, 0.0]))
    array([10., 14.])

    References:
        Schraudolph, Fast curvature matrix-vector products (2002).
    """
    what = "gauss_newton_product(f, loss, params, v)"
    function(what, "f", f)
    function(what, "loss", loss)
    same_trees(what, "params", params, "v", v)
    z, dz = jvp(f, (params,), (v,))
    _, pull = vjp(f, params)
    return pull(hvp(loss, (z,), (dz,))[0])[0]


LIKELIHOODS = ("categorical", "gaussian", "bernoulli", "empirical")


def fisher_product(
    f: Callable[[Any], Any],
    params: Any,
    v: Any,
    likelihood: str = "categorical",
    *,
    scale: float = 1.0,
    reduction: str = "mean",
) -> Any:
    """F v  with the Fisher matrix  F = sum_i J_i^T F_i J_i / n  of a model's parameters.

    F_i is the Fisher matrix of one output's distribution: diag(p) - p p^T for logits with
    p = softmax(z) ("categorical"), p (1 - p) for logits with p = sigmoid(z) ("bernoulli"),
    1 / scale^2 for the mean of a normal distribution ("gaussian"). These are expectations over
    labels drawn from the model, so no label is needed. The empirical one has g_i g_i^T with the
    gradient g_i of sample i's own loss in place of J_i^T F_i J_i: f then gives the losses.

    Args:
        f: params -> logits or means, with samples along the leading axes (for "categorical" all
            but the last one), or with "empirical" the loss of each sample.
        params: where.
        v: the direction, of the structure of params.
        likelihood: "categorical", "bernoulli", "gaussian" or "empirical".
        scale: the standard deviation for "gaussian".
        reduction: "mean" over the samples, the first axis of the outputs, or "sum".

    Returns:
        a tree like params.

    Raises:
        OptionError: an unknown likelihood or reduction, or a scale that is not positive.
        ShapeError: the outputs have no axis of samples.

    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> fisher_product(lambda w: x @ w, np.zeros(1), np.ones(1), "gaussian", scale=0.5)
    array([20.])

    References:
        Martens, New insights and perspectives on the natural gradient method (2020).
    """
    what = "fisher_product(f, params, v)"
    function(what, "f", f)
    one_of(what, "likelihood", likelihood, LIKELIHOODS, OptionError)
    one_of(what, "reduction", reduction, ("mean", "sum"), OptionError)
    number(what, "scale", scale, 0.0, strict=True, error=OptionError)
    same_trees(what, "params", params, "v", v)
    z, dz = jvp(f, (params,), (v,))
    rank = len(shape_of(z)) if hasattr(z, "shape") else None
    axes = {"categorical": (2, None), "empirical": (1, 1)}.get(likelihood, (1, None))
    if rank is None or rank < axes[0] or (axes[1] is not None and rank > axes[1]):
        want = {"categorical": "logits [samples, classes]", "empirical": "losses [samples]"}
        raise ShapeError(
            what,
            f"with {likelihood!r}, f gives {want.get(likelihood, 'outputs [samples, ...]')}",
            operands=[("f(params)", z)],
        )
    if likelihood == "categorical":
        p = bind(Softmax(rank - 1), z)
        along = p * dz
        h = along - p * bind(Sum((rank - 1,), True), along)
    elif likelihood == "bernoulli":
        h = dz * bind(e.dsigmoid, z)
    elif likelihood == "gaussian":
        h = dz / scale**2
    else:
        h = dz
    if reduction == "mean":
        h = h / shape_of(z)[0]
    _, pull = vjp(f, params)
    return pull(h)[0]


# ------------------------------------------------------------------ one gradient a sample


def per_sample_grad(f: Callable[..., Any], params: Any, *batch: Any) -> Any:
    """The gradient of every sample's own loss:  g[i] = d f(params, sample_i) / d params.

    `vmap` of `grad`: one batched pass, where `.backward()` would give the sum and a loop costs one
    pass a sample.

    Args:
        f: (params, *sample) -> one number, for one sample without the batch axis.
        params: a pytree: arrays, tensors that require a gradient, or a Module.
        batch: pytrees of arrays whose first axis is that of the samples.

    Returns:
        a tree like params, with the axis of the samples in front of every leaf.

    Raises:
        ArgumentError: no batch, or first axes of different lengths.
        NonScalarError: f is not one number for one sample.

    >>> import numpy as np
    >>> x, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.0, 1.0])
    >>> per_sample_grad(lambda w, x, y: (x @ w - y) ** 2 / 2, np.ones(2), x, y)
    array([[ 3.,  6.],
           [18., 24.]])
    """
    if not batch or not tree.leaves(batch):
        raise ArgumentError(
            "per_sample_grad(f, params, *batch)", "there is no batch to take samples of"
        )
    axes = (None, *(0 for _ in batch))
    return vmap(grad(f, allow_unused=True), in_axes=axes)(params, *batch)


def batch_jacobian(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The Jacobian of each row of a function that maps rows to rows:  J[b, i, j] = dy_bi / dx_bj.

    As many cotangents as one row of the value has numbers (or tangents, if a row of x has fewer)
    serve all rows at once. For a function of one row, it is `vmap(jacobian(f))`.

    Args:
        f: x [batch, ..] -> y [batch, ..], where row b of y depends on row b of x alone.

    Returns:
        a function of x that gives J [batch, y's other axes, x's other axes].

    Raises:
        ShapeError: x and y have no common first axis.
        ArgumentError: rows of y depend on other rows of x (a normalisation over the batch, say).

    >>> import numpy as np
    >>> batch_jacobian(lambda x: x ** 2)(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([[[2., 0.],
            [0., 4.]],
    <BLANKLINE>
           [[6., 0.],
            [0., 8.]]])
    """

    what = "batch_jacobian(f)(x)"
    function("batch_jacobian(f)", "f", f)

    @wraps(f)
    def jac(x: Any) -> Any:
        check_inputs("batch_jacobian", [x], [""])
        wrap = isinstance(x, Tensor)
        run = Recorded(f, [inward(x)], lambda ts: call(what, "f", f, *ts))
        y, node = run.split(run.out)
        rows, cols = shape_of(x), shape_of(y)
        if not hasattr(y, "shape") or not rows or not cols or rows[0] != cols[0]:
            raise ShapeError(
                what, "f maps rows to rows: x and f(x) share the first axis",
                operands=[("x", x), ("f(x)", y)],
            )  # fmt: skip
        if node is None:
            return np.zeros((*cols, *rows[1:]), dtype_of(y))
        n_out, n_in = math.prod(cols[1:]), math.prod(rows[1:])
        independent(what, run, node, y)
        forward = n_in < n_out
        n, of = (n_in, x) if forward else (n_out, y)
        with push(VMap, n) as level:
            seed = units(shape_of(of), dtype_of(of), level)
            if forward:
                d = jvp(f, (x,), (seed,))[1]
            else:
                (d,) = run.pull([node], [seed], keep=True)
            d = unbatch(d, level)  # [n, batch, ..]
        d = moveaxis(d, 0, len(shape_of(d)) - 1 if forward else 1)
        return outward(bind(Reshape((*cols, *rows[1:])), d), wrap)

    return jac


def units(shape: tuple[int, ...], dtype: Any, level: Any) -> Masked:
    """The unit vectors of one row, one a lane and the same in every row, as a structural seed."""
    n = math.prod(shape[1:])
    e = np.broadcast_to(np.eye(n, dtype=dtype).reshape((n, 1, *shape[1:])), (n, *shape)).copy()
    return Masked(make(e, 0, level, Batched), make(e != 0, 0, level, Batched))


def independent(what: str, run: Recorded, node: Any, y: Any) -> None:
    """Refuse f if a cotangent of some rows reaches other rows."""
    s = shape_of(y)
    rng = np.random.default_rng(s[0])
    some = np.arange(s[0]) % 2 == 0
    mask = np.broadcast_to(some.reshape((-1,) + (1,) * (len(s) - 1)), s)
    seed = Masked(np.where(mask, rng.standard_normal(s), 0.0).astype(dtype_of(y)), mask)
    (g,) = run.pull([node], [seed], keep=True)
    g = densify(g)
    g = g.value() if isinstance(g, Tensor) else g
    if not isinstance(g, np.ndarray):  # it has no value while the function is being staged
        return
    reached = [k for k in np.flatnonzero(~some) if np.any(np.nan_to_num(g[k]))]
    if reached:
        raise ArgumentError(
            what,
            f"rows depend on other rows: row {reached[0]} of x changes other rows of f(x)",
            operands=[("f(x)", y)],
            fix="wg.jacobian(f) gives the blocks between rows as well",
        )


# ------------------------------------------------------------------ traces and diagonals


def laplacian(
    f: Callable[[Any], Any],
    *,
    samples: int | None = None,
    rng: np.random.Generator | None = None,
    chunk: int | None = None,
) -> Callable[[Any], Any]:
    """The trace of the Hessian:  sum_i d^2 f / dx_i^2,  of every number of f's value.

    Exact by second-order Taylor mode, a lane per input and no reverse pass; or the estimate
    mean of v^T H v over random signs v (Hutchinson 1990), unbiased, whose variance is twice the sum
    of squares off the diagonal divided by the number of samples.

    Args:
        f: a function of one array; its value may have any shape.
        samples: how many random vectors; None for the exact value.
        rng: where they are drawn from; the default stream of `wengert.random` when left out.
        chunk: how many directions to push at a time, to bound the memory.

    Raises:
        OptionError: samples or chunk below 1.
        ArgumentError: the argument is not one array.

    >>> import numpy as np
    >>> laplacian(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    np.float64(18.0)

    References:
        Hutchinson (1990); Griewank & Walther, Evaluating Derivatives (2008), section 13.
    """
    counted("laplacian", samples, chunk)
    function("laplacian(f)", "f", f)

    @wraps(f)
    def trace(x: Any) -> Any:
        x = one_array("laplacian(f)(x)", x)

        def along(v: Any) -> Any:
            slopes = jet(f, (x,), ([v, np.zeros(shape_of(x), dtype_of(x))],))[1]
            if not isinstance(slopes, list) or len(slopes) != 2:
                raise ArgumentError(
                    "laplacian(f)(x)", "the value of f is one array",
                    operands=[("derivatives", verbatim(tree.flatten(slopes)[1]))],
                )  # fmt: skip
            return slopes[1]

        total: Any = None
        for v in directions(x, samples, rng, chunk):
            part = bind(Sum((0,), False), vmap(along)(v))
            total = part if total is None else total + part
        return total if samples is None else total / samples

    return trace


def hessian_diagonal(
    f: Callable[[Any], Any],
    *,
    samples: int | None = None,
    rng: np.random.Generator | None = None,
    chunk: int | None = None,
) -> Callable[[Any], Any]:
    """The diagonal of the Hessian:  d[i] = d^2 f / dx_i^2.

    Exact by one Hessian-vector product a number of x, in one batch; or the estimate
    mean of v * (H v) over random signs v (Bekas, Kokiopoulou & Saad 2007).

    Args:
        f: a function of one array whose value is one number.
        samples: how many random vectors; None for the exact value.
        rng: where they are drawn from; the default stream of `wengert.random` when left out.
        chunk: how many directions to take at a time, to bound the memory.

    Raises:
        OptionError: samples or chunk below 1.
        ArgumentError: the argument is not one array.
        NonScalarError: f's value is not one number.

    >>> import numpy as np
    >>> hessian_diagonal(lambda x: np.sum(x ** 3) + x[0] * x[1])(np.array([1.0, 2.0]))
    array([ 6., 12.])
    """
    counted("hessian_diagonal", samples, chunk)
    function("hessian_diagonal(f)", "f", f)

    @wraps(f)
    def diagonal(x: Any) -> Any:
        x = one_array("hessian_diagonal(f)(x)", x)
        if samples is None:
            parts = [exact(f, x, v) for v in directions(x, None, rng, chunk)]
            flat = bind(Concatenate(0), *parts) if len(parts) > 1 else parts[0]
            return bind(Reshape(shape_of(x)), flat)
        total: Any = None
        for v in directions(x, samples, rng, chunk):
            part = bind(Sum((0,), False), vmap(lambda v: v * hvp(f, x, v))(v))
            total = part if total is None else total + part
        return total / samples

    return diagonal


def exact(f: Callable[[Any], Any], x: Any, v: Any) -> Any:
    """e_i^T H e_i for a stack of unit vectors, as structural seeds: what is not asked is not 0."""
    m = len(v)
    with push(VMap, m) as level:
        seed = Masked(make(v, 0, level, Batched), make(v != 0, 0, level, Batched))
        rows = unbatch(hvp(f, x, seed), level)
    flat = bind(Reshape((m, math.prod(shape_of(x)))), rows)
    return bind(GetItem((np.arange(m), np.flatnonzero(v) % (v.size // max(m, 1)))), flat)


def counted(name: str, samples: int | None, chunk: int | None) -> None:
    for key, n in (("samples", samples), ("chunk", chunk)):
        if n is not None and (not isinstance(n, int | np.integer) or n < 1):
            raise OptionError(f"{name}({key}={n!r})", f"{key} is a number of at least 1")


def one_array(what: str, x: Any) -> Any:
    leaves, structure = tree.flatten(x)
    if structure.kind is not None:
        raise ArgumentError(
            what,
            "x is one array",
            operands=[("x", verbatim(structure))],
            fix="a function of one flat vector, whose parts are the leaves",
        )
    check_inputs(what.partition("(")[0], leaves, [""])
    return x


def directions(x: Any, samples: int | None, rng: Any, chunk: int | None) -> Any:
    """Stacks of unit vectors, or of random signs."""
    shape, dtype = shape_of(x), dtype_of(x) or np.dtype(float)
    n = math.prod(shape) if samples is None else samples
    step = chunk or max(n, 1)
    for i in range(0, max(n, 1), step):
        m = min(step, n - i)
        if samples is None:
            v = np.zeros((m, math.prod(shape)), dtype)
            v[range(m), range(i, i + m)] = 1
            yield v.reshape((m, *shape))
        else:
            bits = (rng or default()).integers(0, 2, (m, *shape))
            yield (2 * bits - 1).astype(dtype)
