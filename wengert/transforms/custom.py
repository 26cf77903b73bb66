"""Functions with derivative rules of their own: one rule gives every mode, at every order.

`custom_jvp` takes the tangent map of a function, `custom_vjp` its cotangent map, in the manner of
JAX; the one that is missing is the transpose of the other. See `law` for how it works.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, ShapeError, UnsupportedError, verbatim
from ..given import call, count, function, items, mismatch, numeric
from ..trace import Tensor, looked
from ..types import RAW, Array, is_inexact, shape_of
from .law import LOST, Law, apply, as_tensor, by_columns, filled, plainly, tangent_zero, transpose
from .vmap import Batched

__all__ = ["custom_jvp", "custom_vjp", "stop_gradient"]


class Arguments:
    """Arguments taken apart: leaves that are arrays, and all the rest, which is constant."""

    def __init__(self, what: str, args: tuple[Any, ...], static: tuple[int, ...] = ()) -> None:
        self.args, self.static = args, static
        self.given, self.structure = tree.flatten(
            tuple(a for i, a in enumerate(args) if i not in static)
        )
        self.places = [i for i, x in enumerate(self.given) if is_array(x)]
        self.xs = [self.given[i] for i in self.places]
        for i in static:
            for x in tree.leaves(args[i]):
                if isinstance(x, Tensor) and x.recorded():
                    raise UnsupportedError(
                        what,
                        f"argument {i} is named in nondiff_argnums, and it is being "
                        "differentiated (or batched)",
                        operands=[(f"argument {i}", x)],
                        fix="wg.stop_gradient(x), or leave it out of nondiff_argnums",
                    )

    def rebuild(self, xs: Sequence[Array]) -> tuple[Any, ...]:
        """All arguments with these leaves."""
        rest = iter(self.active(xs))
        return tuple(a if i in self.static else next(rest) for i, a in enumerate(self.args))

    def active(self, xs: Sequence[Array]) -> tuple[Any, ...]:
        """The differentiable arguments with these leaves."""
        full = list(self.given)
        for i, x in zip(self.places, xs):
            full[i] = as_tensor(x)
        return tuple(tree.unflatten(self.structure, full))

    def constants(self) -> tuple[Any, ...]:
        return tuple(self.args[i] for i in self.static)

    def slopes(self, what: str, gs: Any, xs: Sequence[Array]) -> list[Array | None]:
        """The cotangents of the leaves, out of what a rule returned; None stands for zeros."""
        if type(gs) is not tuple and len(self.structure.children) == 1:
            gs = (gs,)
        found = matched(what, gs, self.structure, "argument ")
        full = [found[i] for i in self.places]
        names = tree.paths(self.structure, "argument ")
        for i, g, x in zip(self.places, full, xs):
            check_shape(what, "cotangent", g, names[i], x)
        return full


def is_array(x: Any) -> bool:
    return isinstance(x, (Tensor, *RAW)) or hasattr(x, "graph")


def matched(what: str, value: Any, structure: tree.Tree, path: str) -> list[Any]:
    """The leaves of a value that has the given structure, but for None in place of any part."""
    if value is None:
        return [None] * structure.size
    if structure.kind is None:
        return [value]
    parts = tree._parts(value)
    if parts is None or len(parts[0]) != len(structure.children):
        raise ShapeError(
            what,
            "what the rule returned does not have the structure of what it belongs to",
            operands=[(path.strip() or "arguments", verbatim(str(structure))),
                      ("returned", verbatim(str(tree.flatten(value)[1])))],
            fix="one entry for each differentiable argument, in a tuple; None for no gradient",
        )  # fmt: skip
    keyed = structure.kind is dict and type(value) is dict and set(value) == set(structure.aux)
    items = [value[k] for k in structure.aux] if keyed else parts[0]
    return [v for item, child, key in zip(items, structure.children, structure.keys)
            for v in matched(what, item, child, path + key)]  # fmt: skip


def check_shape(what: str, kind: str, d: Any, name: str, x: Any) -> None:
    if d is None or shape_of(d) == shape_of(x):
        return
    have, want = shape_of(d), shape_of(x)
    lead = len(have) - len(want)
    fix = None
    if kind != "tangent" and lead >= 0 and all(k in (1, n) for k, n in zip(want, have[lead:])):
        axes = [i for i, n in enumerate(have) if i < lead or want[i - lead] != n]
        fix = f"the value was broadcast: sum its {kind} over axes {tuple(axes)}"
        fix += f", then reshape it to {want}" if len(axes) > lead and want else ""
    raise ShapeError(
        what,
        f"a {kind} has the shape of its value",
        operands=[(name.replace("argument [0]", "x").strip(), x), (kind, d)],
        fix=fix,
    )


class Ruled(Law):
    """The law of a user's function at one structure of arguments."""

    def __init__(self, f: CustomFunction, arguments: Arguments) -> None:
        self.f, self.at, self.name = f, arguments, f.name

    def call(self, xs: list[Array], want: bool) -> Any:
        f, residuals = self.f, None
        if want and f.fwd is not None:
            out, residuals = self.forward(xs)
        else:
            out = call(f.name, "the function", f.f, *self.at.rebuild(xs))
        ys, self.out = tree.flatten(out)
        numeric(f.name, lambda: tree.paths(self.out, "value"), ys)
        if not ys:
            raise ArgumentError(f.name, "it returned no array")
        return ys, self.out, residuals

    def forward(self, xs: list[Array]) -> tuple[Any, Any]:
        assert self.f.fwd is not None
        got = call(f"fwd of {self.name}", "fwd", self.f.fwd, *self.at.rebuild(xs))
        if not isinstance(got, tuple) or len(got) != 2:
            raise ArgumentError(
                f"fwd of {self.name}", "it returns a pair (value, residuals)",
                operands=[("returned", verbatim(type(got).__name__))],
            )  # fmt: skip
        return got

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        self.need()
        return list(plainly(self, self.tangents, xs, filled(dxs, xs), ys))

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        self.need()

        def pulled(xs: list[Array], gs: list[Array]) -> list[Array]:
            return self.cotangents(xs, gs, live, residuals)

        return list(plainly(self, pulled, xs, gs))

    def tangents(self, xs: list[Array], dxs: list[Array], ys: list[Array]) -> list[Array]:
        if self.f.rule is not None:
            return filled(self.tangent(xs, dxs, ys), ys)
        live = tuple(range(len(xs)))
        _, residuals = self.forward(xs)

        def back(gs: list[Array]) -> list[Array | None]:
            return self.cotangent(residuals, xs, gs, live)

        return self.transposed(back, [tangent_zero(y) for y in ys], dxs)

    def cotangents(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array]:
        if self.f.bwd is not None:
            if residuals is None:
                _, residuals = self.forward(xs)
            got = self.cotangent(residuals, xs, gs, live)
            return filled(got, [xs[i] for i in live])

        def along(some: list[Array]) -> list[Array | None]:
            dxs = [tangent_zero(x) for x in xs]
            for i, d in zip(live, some):
                dxs[i] = d
            return self.tangent(xs, dxs, gs)

        return self.transposed(along, [tangent_zero(xs[i]) for i in live], gs)

    def transposed(self, f: Any, at: list[Array], gs: list[Array]) -> list[Array]:
        try:
            return transpose(f, at, gs, self.name, self.f)
        except LOST:  # a rule for plain arrays alone
            return by_columns(f, at, gs, self.name, self.f)

    def tangent(self, xs: list[Array], dxs: list[Array], ys: list[Array]) -> list[Array | None]:
        assert self.f.rule is not None
        what = f"jvp rule of {self.name}"
        given = (*self.at.constants(), self.at.active(xs), self.at.active(dxs))
        got = call(what, "the rule", self.f.rule, *given)
        if not isinstance(got, tuple) or len(got) != 2:
            raise ArgumentError(
                what, "it returns a pair (value, tangent)",
                operands=[("returned", verbatim(type(got).__name__))],
            )  # fmt: skip
        slopes = matched(what, got[1], self.out, "")
        for d, y, name in zip(slopes, ys, tree.paths(self.out, "value")):
            check_shape(what, "tangent", d, name, y)
        return slopes

    def cotangent(
        self, residuals: Any, xs: list[Array], gs: list[Array], live: tuple[int, ...]
    ) -> list[Array | None]:
        assert self.f.bwd is not None
        g = tree.unflatten(self.out, [as_tensor(g) for g in gs])
        what = f"bwd of {self.name}"
        got = call(what, "bwd", self.f.bwd, *self.at.constants(), residuals, g)
        found = self.at.slopes(what, got, xs)
        return [found[i] for i in live]

    def need(self) -> None:
        if self.f.rule is None and self.f.bwd is None:
            raise UnsupportedError(
                self.name,
                "it is being differentiated, and no rule was given",
                fix=f"{self.name}.defjvp(rule) or {self.name}.defvjp(fwd, bwd)",
            )


class CustomFunction:
    """A function with derivative rules of its own; see `custom_jvp` and `custom_vjp`."""

    __module__ = "wengert"

    def __init__(self, f: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        what = "a function with a rule of its own"
        self.f = function(what, "f", f)
        self.name = getattr(f, "__name__", type(f).__name__)
        self.__wrapped__, self.__name__, self.__doc__ = f, self.name, f.__doc__
        places = items(what, "nondiff_argnums", nondiff_argnums, "places of arguments")
        self.static = tuple([count(what, "nondiff_argnums", i, None) for i in places])
        self.rule: Callable[..., Any] | None = None
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None
        self.checked = True
        try:
            self.signature: inspect.Signature | None = inspect.signature(f)
        except (TypeError, ValueError):
            self.signature = None
        kinds = [p.kind for p in self.signature.parameters.values()] if self.signature else []
        simple = all(k in (0, 1) for k in kinds)  # all of them may be given by position
        self.positions = len(kinds) if simple else -1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __get__(self, owner: Any, cls: Any = None) -> Any:
        return self if owner is None else _Method(self, owner)

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """rule(primals, tangents) -> (y, dy), linear in the tangents; returns the rule.

        The arguments named in `nondiff_argnums` come before the two tuples.
        """
        self.rule = function(f"{self.name}.defjvp(rule)", "rule", rule)
        self.checked = self.bwd is None
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """One rule for each argument: (dx_i, y, *primals) -> its part of dy; None for no part."""

        def rule(*args: Any) -> Any:
            *constants, primals, tangents = args
            y = self._whole(constants, primals)
            total = None
            for r, d in zip(rules, tangents, strict=True):
                if r is not None:
                    part = r(d, y, *primals)
                    total = part if total is None else tree.map(lambda a, b: a + b, total, part)
            return y, total

        self.defjvp(rule)

    def _whole(self, constants: Sequence[Any], primals: Sequence[Any]) -> Any:
        c, p = iter(constants), iter(primals)
        places = range(len(constants) + len(primals))
        return self(*[next(c) if i in self.static else next(p) for i in places])

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """fwd(*args) -> (y, residuals); bwd(residuals, gy) -> one cotangent for each argument.

        The arguments named in `nondiff_argnums` stand in their places in fwd, and come before the
        residuals in bwd.
        """
        what = f"{self.name}.defvjp(fwd, bwd)"
        self.fwd, self.bwd = function(what, "fwd", fwd), function(what, "bwd", bwd)
        self.checked = self.rule is None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = self.positional(args, kwargs)
        at = Arguments(self.name, args, tuple(i % len(args) for i in self.static) if args else ())
        if not any(isinstance(x, Tensor) for x in at.xs):
            return self.f(*args)
        law = Ruled(self, at)
        xs = [looked(x) for x in at.xs]
        if any(x.recorded() for x in xs if isinstance(x, Tensor)):
            law.need()
            if not self.checked:
                self.agree(law, xs)
        return apply(law, xs)

    def positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in the order of the signature, with its defaults."""
        if self.signature is None or (not kwargs and len(args) == self.positions):
            return args
        wrong = mismatch(f"{self.name}(...)", self.name, self.f, args, kwargs)
        if wrong is not None:
            raise wrong
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise ArgumentError(
                f"{self.name}(**kwargs)",
                "keyword-only arguments have no place in a rule's tuple of arguments",
                operands=[("keywords", verbatim(", ".join(bound.kwargs)))],
                fix="a function whose parameters may be given by position",
            )
        return bound.args

    def check(self, *args: Any, rtol: float | None = None, **kwargs: Any) -> None:
        """Compare the rules with each other: fwd with the function, <gy, J dx> with <J^T gy, dx>.

        Raises:
            ArgumentError: they disagree; the message has both numbers.
        """
        args = self.positional(args, kwargs)
        at = Arguments(self.name, args, tuple(i % len(args) for i in self.static) if args else ())
        self.agree(Ruled(self, at), at.xs, rtol)

    def agree(self, law: Ruled, xs: list[Array], rtol: float | None = None) -> None:
        law.need()
        points = [bottom(x) for x in xs]
        if any(p is None for p in points):  # batched, or not known yet: at a later call
            return
        ys, _, residuals = law.call(points, self.fwd is not None)
        ys = [np.asarray(y.value() if isinstance(y, Tensor) else y) for y in ys]
        if self.fwd is not None:
            for i, (a, b) in enumerate(zip(ys, law.call(points, False)[0])):
                b = np.asarray(b.value() if isinstance(b, Tensor) else b)
                if a.shape != b.shape or not np.allclose(
                    a, b, rtol=tolerance([a], rtol), atol=0, equal_nan=True
                ):
                    raise ArgumentError(
                        f"the rules of {self.name}",
                        f"fwd and the function give different values (output {i})",
                        operands=[("function", verbatim(str(b))), ("fwd", verbatim(str(a)))],
                    )
        agreement(law, points, ys, residuals, rtol)
        self.checked = True


class _Method:
    """A custom function as a method: the instance is the first argument."""

    def __init__(self, f: CustomFunction, owner: Any) -> None:
        self.f, self.owner = f, owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.f(self.owner, *args, **kwargs)


def bottom(x: Array) -> Any:
    while isinstance(x, Tensor):
        if isinstance(x, Batched):
            return None
        x = x.data
    return None if hasattr(x, "graph") else np.asarray(x)


def agreement(
    law: Law, xs: list[Array], ys: list[Array], residuals: Any = None, rtol: float | None = None
) -> None:
    """Refuse a pair of rules that are not each other's transpose, by one random projection."""
    rng = np.random.default_rng(0)
    dxs = [random_like(x, rng) for x in xs]
    gs = [random_like(y, rng) for y in ys]
    dys = law.push(xs, list(dxs), ys)
    gxs = law.pull(xs, gs, tuple(range(len(xs))), residuals)
    a, b = pairing(gs, dys), pairing(gxs, dxs)
    size = max(pairing(gs, dys, True), pairing(gxs, dxs, True))
    if np.isfinite(size) and abs(a - b) > tolerance(ys + xs, rtol) * size:
        raise ArgumentError(
            f"the rules of {law.name}",
            "jvp and vjp disagree: <gy, J dx> is not <J^T gy, dx>",
            operands=[("<gy, J dx>", a), ("<J^T gy, dx>", b)],
            fix="wg.testing.check_grads(f, args) says which of them the differences support",
        )


def random_like(x: Array, rng: Any) -> Array:
    d = np.asarray(rng.standard_normal(np.shape(x)))
    if np.asarray(x).dtype.kind == "c":
        d = d + 1j * rng.standard_normal(np.shape(x))
    dtype = np.asarray(x).dtype
    return d.astype(dtype if is_inexact(dtype) else float)


def pairing(a: Sequence[Any], b: Sequence[Any], size: bool = False) -> float:
    total = 0.0
    for u, v in zip(a, b):
        if u is not None and v is not None:
            u, v = (np.asarray(w.value() if isinstance(w, Tensor) else w) for w in (u, v))
            if is_inexact(u.dtype) and is_inexact(v.dtype):
                total += float(np.sum(np.abs(u * v))) if size else float(np.sum(u * v).real)
    return total


def tolerance(xs: list[Any], rtol: float | None) -> float:
    kinds = [np.asarray(x).dtype for x in xs if is_inexact(np.asarray(x).dtype)]
    eps = max((float(np.finfo(k).eps) for k in kinds), default=2.3e-16)
    return rtol if rtol is not None else eps**0.5


def custom_jvp(f: Callable[..., Any] | None = None, nondiff_argnums: Sequence[int] = ()) -> Any:
    """A function with a tangent rule of its own:  dy = rule(x, dx), linear in dx.

    Reverse mode transposes the rule; both work at every order, under vmap, and in any nesting.

    Args:
        f: a function of pytrees of arrays.
        nondiff_argnums: places of arguments that are constants; they come first in the rule.

    Raises:
        UnsupportedError: it is differentiated without a rule, or reads a differentiated value that
            is not an argument.

    >>> import numpy as np, wengert as wg
    >>> @wg.custom_jvp
    ... def log1pexp(x):
    ...     return np.log(1 + np.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (dx,) = primals, tangents
    ...     return log1pexp(x), dx / (1 + np.exp(-x))
    >>> wg.grad(log1pexp)(0.0), wg.jvp(log1pexp, (0.0,), (1.0,))[1], wg.grad(wg.grad(log1pexp))(0.0)
    (np.float64(0.5), np.float64(0.5), np.float64(0.25))
    """
    if f is None:
        return lambda f: CustomFunction(f, nondiff_argnums)
    return CustomFunction(f, nondiff_argnums)


def custom_vjp(f: Callable[..., Any] | None = None, nondiff_argnums: Sequence[int] = ()) -> Any:
    """A function with a cotangent rule of its own:  gx = bwd(residuals, gy), linear in gy.

    Forward mode transposes the rule. Residuals are functions of the arguments: for a second
    derivative fwd runs again on recorded values, so that nothing that it saves is constant.

    Args:
        f: a function of pytrees of arrays.
        nondiff_argnums: places of arguments that are constants; they come first in bwd.

    Raises:
        UnsupportedError: it is differentiated without a rule, or reads a differentiated value that
            is not an argument.

    >>> import numpy as np, wengert as wg
    >>> @wg.custom_vjp
    ... def clip_gradient(x):
    ...     return x
    >>> clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (np.clip(g, -1, 1),))
    >>> wg.grad(lambda x: np.sum(clip_gradient(x) ** 2))(np.array([0.1, 3.0]))
    array([0.2, 1. ])
    """
    if f is None:
        return lambda f: CustomFunction(f, nondiff_argnums)
    return CustomFunction(f, nondiff_argnums)


def stop_gradient(x: Any) -> Any:
    """x as a constant: no derivative through it, at any level, in either mode.

    Args:
        x: a pytree; leaves that are not tensors are returned as they are.

    >>> import wengert as wg
    >>> wg.grad(lambda x: x * wg.stop_gradient(x))(3.0)
    np.float64(3.0)
    """
    return tree.map(lambda v: v.detach() if isinstance(v, Tensor) else v, x)
