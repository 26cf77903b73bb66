"""PyTorch's `torch.autograd.functional`: derivatives of functions of tensors, giving tensors.

In all of them func takes one tensor, or as many as `inputs` is a tuple of, and gives a tensor or a
tuple of tensors; results have that structure too. With create_graph they are recorded, from the
inputs on. strict refuses where a result does not depend on an input, instead of giving zeros.

For functions of NumPy arrays, and of trees of them, see `wg.jacobian`, `wg.hessian`, `wg.hvp`,
`wg.vjp` and `wg.jvp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..create import tensor
from ..errors import ArgumentError, DisconnectedError, NonScalarError, ShapeError
from ..trace import Tensor, enable_grad, no_grad
from ..transforms import jvp as forward
from ..transforms import vjp as reverse
from .engine import grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]


def entered(what: str, inputs: Any, create_graph: bool) -> tuple[bool, list[Tensor]]:
    """Whether the inputs are a tuple, and a leaf, or a copy in its graph, for each of them."""
    many = isinstance(inputs, tuple | list)
    xs = []
    for i, x in enumerate(inputs if many else [inputs]):
        if not isinstance(x, Tensor):
            x = tensor(x)
        if x.dtype.kind not in "fc":
            raise ArgumentError(
                what, "derivatives are taken with respect to floating-point values",
                operands=[(f"inputs[{i}]" if many else "inputs", x)], fix="x.astype(float)",
            )  # fmt: skip
        recorded = create_graph and x.requires_grad
        xs.append(x * 1.0 if recorded else tensor(x.detach(), requires_grad=True))
    return many, xs


def called(what: str, func: Function, xs: list[Tensor]) -> tuple[bool, list[Tensor]]:
    ys = func(*xs)
    many = isinstance(ys, tuple | list)
    out = list(ys) if many else [ys]
    for i, y in enumerate(out):
        if not isinstance(y, Tensor):
            raise ArgumentError(
                what, "func gives tensors",
                operands=[(f"func(...)[{i}]" if many else "func(...)", y)],
            )  # fmt: skip
    return many, out


def direction(what: str, v: Any, like: list[Tensor], whose: str) -> list[Any]:
    """The vectors of a product, checked against what they are multiplied with."""
    if v is None:
        if len(like) != 1 or like[0].size != 1:
            raise NonScalarError(
                what, f"v may be left out only where {whose} is one number",
                operands=[(whose, like[0])], fix="v of its shape",
            )  # fmt: skip
        return [tensor(np.ones(like[0].shape, like[0].dtype))]
    vs = [
        x if isinstance(x, Tensor) else tensor(x) for x in (v if type(v) in (tuple, list) else [v])
    ]
    if len(vs) != len(like) or any(a.shape != b.shape for a, b in zip(vs, like)):
        raise ShapeError(
            what, f"v has the structure and the shapes of {whose}",
            operands=[(f"{whose}[{i}]", b) for i, b in enumerate(like)]
            + [(f"v[{i}]", a) for i, a in enumerate(vs)],
        )  # fmt: skip
    return vs


def gradients(
    what: str, ys: list[Tensor], xs: list[Tensor], vs: Any, create: bool, strict: bool,
    batched: bool = False, keep: bool = True,
) -> list[Tensor]:  # fmt: skip
    """The product of vs with the Jacobian, zeros where there is no path."""
    live = [i for i, y in enumerate(ys) if y.requires_grad]
    if strict and len(live) != len(ys):
        raise independent(what, "a result of func does not depend on the inputs", ys)
    if not live:
        lead = vs[0].shape[:1] if batched else ()
        return [tensor(np.zeros((*lead, *x.shape), x.dtype)) for x in xs]
    got = grad(
        [ys[i] for i in live], xs, [vs[i] for i in live], keep, create,
        allow_unused=strict or None, is_grads_batched=batched, materialize_grads=not strict,
    )  # fmt: skip
    for i, g in enumerate(got):
        if g is None:
            raise independent(what, f"the result does not depend on inputs[{i}]", ys)
    if strict and create and not all(g.requires_grad for g in got if g is not None):
        raise independent(what, "the derivative does not depend on the inputs", ys)
    return list(got)  # type: ignore[arg-type]


def independent(what: str, rule: str, ys: list[Tensor]) -> DisconnectedError:
    return DisconnectedError(
        what, rule, operands=[(f"result {i}", y) for i, y in enumerate(ys)],
        fix="strict=False gives zeros",
    )  # fmt: skip


def left(many: bool, ts: Any, create_graph: bool) -> Any:
    """Results as they came, or cut off from their graph."""
    out = [t if create_graph else t.detach() for t in ts]
    return tuple(out) if many else out[0]


def vjp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(x), v^T J): the value, and the product of a vector with the Jacobian.

    >>> import numpy as np, wengert as wg
    >>> wg.autograd.functional.vjp(lambda x: x * x, wg.tensor([1.0, 2.0]), wg.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    what = "functional.vjp(func, inputs, v)"
    with enable_grad():
        many, xs = entered(what, inputs, create_graph)
        tuples, ys = called(what, func, xs)
        vs = direction(what, v, ys, "func(inputs)")
        gs = gradients(what, ys, xs, vs, create_graph, strict, keep=create_graph)
    return left(tuples, ys, create_graph), left(many, gs, create_graph)


def jvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(x), J v): the value, and the product of the Jacobian with a vector, in forward mode.

    >>> import numpy as np, wengert as wg
    >>> wg.autograd.functional.jvp(lambda x: x * x, wg.tensor([1.0, 2.0]), wg.tensor([1.0, 10.0]))
    (tensor([1., 4.]), tensor([ 2., 40.]))
    """
    what = "functional.jvp(func, inputs, v)"
    with enable_grad() if create_graph else no_grad():
        _, xs = entered(what, inputs, create_graph)
        vs = direction(what, v, xs, "inputs")
        kind: list[Any] = []

        def f(*ts: Any) -> Any:
            tuples, ys = called(what, func, list(ts))
            kind.append(tuples)
            if strict:
                for y in ys:
                    if type(y).__name__ != "Dual":
                        raise independent(what, "a result of func does not depend on inputs", ys)
            return ys

        ys, slopes = forward.jvp(f, tuple(xs), tuple(vs))
    return left(kind[0], ys, create_graph), left(kind[0], slopes, create_graph)


def jacobian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """J[i, j] = dy_i / dx_j, of the shape of the result and then that of the input.

    Args:
        func, inputs, create_graph, strict: see the module.
        vectorize: all rows in one sweep under `vmap`, not one after the other.
        strategy: "reverse-mode", by rows; or "forward-mode", by columns.

    >>> import wengert as wg
    >>> wg.autograd.functional.jacobian(lambda x: x * x, wg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    what = "functional.jacobian(func, inputs)"
    if strategy == "forward-mode":
        return columns(func, inputs, create_graph, strict)
    if strategy != "reverse-mode":
        raise ArgumentError(
            what, f"no such strategy: {strategy!r}", fix='"reverse-mode" or "forward-mode"'
        )
    with enable_grad():
        many, xs = entered(what, inputs, create_graph)
        tuples, ys = called(what, func, xs)
        rows = []
        for y in ys:
            seeds = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
            if vectorize and y.size:
                parts = gradients(what, [y], xs, [seeds], create_graph, strict, batched=True)
            else:
                each = [gradients(what, [y], xs, [s], create_graph, strict) for s in seeds]
                parts = [stacked([row[k] for row in each], x) for k, x in enumerate(xs)]
            shaped = [p.reshape(*y.shape, *x.shape) for p, x in zip(parts, xs)]
            rows.append(left(many, shaped, create_graph))
    return tuple(rows) if tuples else rows[0]


def stacked(rows: list[Tensor], x: Tensor) -> Any:
    return np.stack(rows) if rows else tensor(np.zeros((0, *x.shape), x.dtype))


def columns(func: Function, inputs: Any, create_graph: bool, strict: bool) -> Any:
    """The Jacobian by forward mode, one direction after the other."""
    what = "functional.jacobian(func, inputs)"
    with enable_grad() if create_graph else no_grad():
        many, xs = entered(what, inputs, create_graph)
        tuples, ys = called(what, func, xs)
        table: list[list[Any]] = [[] for _ in ys]
        for k, x in enumerate(xs):
            seeds = np.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
            cols: list[list[Any]] = [[] for _ in ys]
            for seed in seeds:
                v = tuple(
                    [
                        tensor(seed if i == k else np.zeros(t.shape, t.dtype))
                        for i, t in enumerate(xs)
                    ]
                )
                _, dys = jvp(func, tuple(xs), v, create_graph, strict)
                for col, dy in zip(cols, dys if tuples else (dys,)):
                    col.append(dy)
            for row, col, y in zip(table, cols, ys):
                flat = stacked(col, y).reshape(x.size, y.size).T
                row.append(flat.reshape(*y.shape, *x.shape))
    rows = [left(many, row, create_graph) for row in table]
    return tuple(rows) if tuples else rows[0]


def scalar(what: str, func: Function, xs: list[Tensor]) -> Tensor:
    tuples, ys = called(what, func, xs)
    if tuples or ys[0].size != 1:
        raise NonScalarError(
            what, "second derivatives are taken of one number", operands=[("func(inputs)", ys[0])],
            fix="np.sum or np.mean of it",
        )  # fmt: skip
    return ys[0]


def hessian(
    func: Function,
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """H[i, j] = d^2 y / dx_i dx_j of a function whose result is one number.

    >>> import numpy as np, wengert as wg
    >>> wg.autograd.functional.hessian(lambda x: np.sum(x ** 3), wg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    what = "functional.hessian(func, inputs)"

    def slope(*xs: Tensor) -> Any:
        y = scalar(what, func, list(xs))
        gs = gradients(what, [y], list(xs), [np.ones(y.shape, y.dtype)], True, strict)
        return tuple(gs) if isinstance(inputs, tuple | list) else gs[0]

    def inner(*xs: Tensor) -> Any:  # under forward mode
        def one(*ts: Tensor) -> Tensor:
            return scalar(what, func, list(ts))

        gs = reverse.grad(one, tuple(range(len(xs))), allow_unused=not strict)(*xs)
        return gs if isinstance(inputs, tuple | list) else gs[0]

    if outer_jacobian_strategy == "forward-mode":
        return jacobian(inner, inputs, create_graph, strict, vectorize, "forward-mode")
    return jacobian(slope, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)


def vhp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(x), v^T H): the value, and the product of a vector with the Hessian.

    >>> import numpy as np, wengert as wg
    >>> wg.autograd.functional.vhp(lambda x: np.sum(x ** 3), wg.tensor([1.0, 2.0]),
    ...                            wg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    what = "functional.vhp(func, inputs, v)"
    with enable_grad():
        many, xs = entered(what, inputs, create_graph)
        vs = direction(what, v, xs, "inputs")
        y = scalar(what, func, xs)
        gs = gradients(what, [y], xs, [np.ones(y.shape, y.dtype)], True, strict)
        hs = gradients(what, gs, xs, vs, create_graph, strict)
    return left(False, [y], create_graph), left(many, hs, create_graph)


def hvp(
    func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(x), H v): the value, and the product of the Hessian with a vector.

    The transpose of v -> v^T H, so that it is H v even where H is not symmetric.

    >>> import numpy as np, wengert as wg
    >>> wg.autograd.functional.hvp(lambda x: np.sum(x ** 3), wg.tensor([1.0, 2.0]),
    ...                            wg.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    what = "functional.hvp(func, inputs, v)"
    with enable_grad():
        many, xs = entered(what, inputs, create_graph)
        vs = direction(what, v, xs, "inputs")
        y = scalar(what, func, xs)
        gs = gradients(what, [y], xs, [np.ones(y.shape, y.dtype)], True, strict)
        us = [tensor(np.zeros(x.shape, x.dtype), requires_grad=True) for x in xs]
        rows = gradients(what, gs, xs, us, True, strict)  # linear in us
        hs = gradients(what, rows, us, vs, create_graph, strict)
    return left(False, [y], create_graph), left(many, hs, create_graph)
