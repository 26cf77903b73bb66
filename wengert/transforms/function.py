"""PyTorch's way to write a rule: a class with static `forward` and `backward`, and a context."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..given import call, numeric
from ..owned import own
from ..trace import EAGER, Tensor, looked, make
from ..types import Array
from .custom import check_shape, matched
from .law import (
    LOST,
    Law,
    Slope,
    apply,
    as_variable,
    by_columns,
    filled,
    plainly,
    tangent_zero,
    transpose,
)

__all__ = ["Function", "once_differentiable"]


class Context:
    """What `forward` leaves for `backward`: saved tensors, and attributes of any name.

    Whatever is kept is a function of the arguments to a second derivative: an argument or a result
    stands for itself, and anything between is computed again on recorded values.
    """

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for `backward`, which reads them from `saved_tensors`."""
        self._saved = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for `jvp`, which reads them from `saved_tensors`."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return self._saved

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """These outputs have no derivative."""
        self._constant = outputs

    def mark_dirty(self, *args: Any) -> None:
        raise UnsupportedError(
            "ctx.mark_dirty(x)",
            "forward cannot write its arguments: other operations may have kept them",
            fix="compute a new tensor, and let the caller assign it: x = F.apply(x)",
        )

    def set_materialize_grads(self, value: bool) -> None:
        """Whether the cotangents of outputs that were not used are zeros, or None."""
        self._materialize = value


class Applied(Law):
    """One call of a `Function`."""

    holes = True

    def __init__(self, cls: type[Function], args: tuple[Any, ...]) -> None:
        self.cls, self.name = cls, cls.__name__
        self.places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        self.args = [None if isinstance(a, Tensor) else own(a) for a in args]
        self.needs = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        self.constant: list[int] = []

    def run(self, xs: list[Array]) -> tuple[Context, list[Any], list[Any]]:
        """(context, the tensors that forward saw, its outputs)."""
        ts = [x if isinstance(x, Tensor) else make(x, None, EAGER) for x in xs]
        args = list(self.args)
        for i, t in zip(self.places, ts):
            args[i] = t
        ctx, what = Context(self.needs), f"{self.name}.apply(...)"
        if self.cls.setup_context is not Function.setup_context:
            out = call(what, "forward", self.cls.forward, *args)
            setup = f"{self.name}.setup_context(ctx, inputs, output)"
            call(setup, "setup_context", self.cls.setup_context, ctx, tuple(args), out)
        else:
            out = call(what, "forward", self.cls.forward, ctx, *args)
        ys, self.out = tree.flatten(out)
        numeric(what, lambda: tree.paths(self.out, "value"), ys)
        if not ys:
            raise ArgumentError(f"{self.name}.forward", "it returned no tensor")
        self.materialize = ctx._materialize
        self.constant = [i for i, y in enumerate(ys) if any(y is c for c in ctx._constant)]
        return ctx, ts, ys

    def call(self, xs: list[Array], want: bool) -> Any:
        ctx, ts, ys = self.run(xs)
        ctx._constant = ()
        leaves, self.skeleton = tree.flatten(vars(ctx))
        self.origin = [self.origin_of(v, ts, ys) for v in leaves]
        self.tensors = [isinstance(v, Tensor) for v in leaves]
        kept = [as_variable(v) for v in leaves]
        self.others = [v if o[0] == "other" else None for v, o in zip(kept, self.origin)]
        return [as_variable(y) for y in ys], self.out, kept if want else None

    def origin_of(self, v: Any, ts: list[Any], ys: list[Any]) -> tuple[str, int]:
        """What a value that the context keeps is a function of."""
        for kind, many in (("argument", ts), ("result", ys), ("other", self.args)):
            for i, t in enumerate(many):
                if v is t:
                    return kind, i
        numbers = isinstance(v, (Tensor, np.ndarray, np.generic, float, complex))
        return ("between" if numbers else "other"), 0

    def context(self, leaves: list[Any], live: tuple[int, ...] = ()) -> Context:
        ctx = Context(self.needs)
        kept = [as_tensor_of(v) if t else v for v, t in zip(leaves, self.tensors)]
        vars(ctx).update(tree.unflatten(self.skeleton, kept))
        ctx.needs_input_grad = tuple([i in {self.places[k] for k in live}
                                      for i in range(len(self.args))])  # fmt: skip
        return ctx

    def restored(self, xs: list[Array], residuals: Any, live: tuple[int, ...]) -> Context:
        """The context of forward at xs: as it was left, or again, as a function of xs."""
        if residuals is not None:
            return self.context(residuals, live)
        if any(kind == "between" for kind, _ in self.origin):
            ctx = self.run(xs)[0]
            ctx.needs_input_grad = self.context(self.others, live).needs_input_grad
            return ctx
        leaves, ys = list(self.others), None
        for k, (kind, i) in enumerate(self.origin):
            if kind == "argument":
                leaves[k] = xs[i]
            elif kind == "result":
                ys = tree.leaves(apply(self, xs)) if ys is None else ys
                leaves[k] = ys[i]
        return self.context(leaves, live)

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        live = tuple([i for i, d in enumerate(dxs) if d is not None])
        if self.has("jvp"):
            return plainly(
                self, lambda x, d, y: self.tangents(x, d, y, live), xs, filled(dxs, xs), ys
            )

        def transposed(xs: list[Array], dxs: list[Array], ys: list[Array]) -> list[Array]:
            ctx = self.restored(xs, None, tuple(range(len(xs))))
            return self.transposed(
                lambda gs: filled(self.backward(ctx, xs, gs, tuple(range(len(xs)))), xs),
                [tangent_zero(y) for y in ys], dxs,
            )  # fmt: skip

        return self.guarded(transposed, xs, filled(dxs, xs), ys)

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        none: list[set[int]] = []  # in every run of the rule, where it gave no gradient

        def pulled(xs: list[Array], gs: list[Array]) -> list[Array]:
            ctx = self.restored(xs, residuals, live)
            if self.has("backward"):
                got = self.backward(ctx, xs, gs, live)
                none.append({k for k, v in enumerate(got) if v is None})
                return filled(got, [xs[i] for i in live])

            def along(some: list[Array]) -> list[Array]:
                dxs = filled([None] * len(xs), xs)
                for i, d in zip(live, some):
                    dxs[i] = d
                return self.tangents(xs, dxs, gs, live, ctx)

            return self.transposed(along, [tangent_zero(xs[i]) for i in live], gs)

        out = self.guarded(pulled, xs, gs)
        gone = set.intersection(*none) if none else set()
        return [None if k in gone else v for k, v in enumerate(out)]

    def guarded(self, f: Callable[..., Any], *parts: list[Array]) -> Any:
        """A backward that is once differentiable is an operation without a derivative."""
        flat = [x for part in parts for x in part]
        once = getattr(self.cls.backward, "once", False)
        if once and any(isinstance(x, Tensor) for x in flat) and all(x is not None for x in flat):
            why = UnsupportedError(f"{self.name}.backward", "it is marked once_differentiable")
            return apply(Slope(self, f, tuple(map(len, parts)), why), flat)
        return plainly(self, f, *parts)

    def transposed(self, f: Any, at: list[Array], gs: list[Array]) -> list[Array]:
        try:
            return transpose(f, at, gs, self.name, self.cls)
        except LOST:
            return by_columns(f, at, gs, self.name, self.cls)

    def has(self, rule: str) -> bool:
        given = [n for n in ("backward", "jvp")
                 if getattr(self.cls, n) is not getattr(Function, n)]  # fmt: skip
        if not given:
            raise UnsupportedError(
                self.name,
                "it is being differentiated, and has neither a backward nor a jvp",
                fix=f"a static method {self.name}.backward(ctx, *grads)",
            )
        return rule in given

    def backward(
        self, ctx: Context, xs: list[Array], gs: list[Any], live: tuple[int, ...]
    ) -> list[Array | None]:
        what = f"{self.name}.backward"
        given = [as_tensor_of(paired(g)) for g in gs]
        got = call(what, "backward", self.cls.backward, ctx, *given)
        got = got if isinstance(got, tuple) else (got,)
        if len(got) != len(self.args):
            raise ShapeError(
                what,
                "it returns one gradient for each argument of forward, None for no gradient",
                operands=[("arguments", len(self.args)), ("returned", len(got))],
            )
        found = [got[i] for i in self.places]
        for k in live:
            check_shape(what, "gradient", found[k], f"argument {self.places[k]}", xs[k])
        return [paired(as_variable(found[k])) for k in live]

    def tangents(
        self,
        xs: list[Array],
        dxs: list[Array],
        ys: list[Array],
        live: tuple[int, ...],
        ctx: Any = None,
    ) -> list[Array]:
        ctx = self.restored(xs, None, live) if ctx is None else ctx
        full = [
            as_tensor_of(tangent_zero(a)) if isinstance(a, np.ndarray) else None for a in self.args
        ]
        for i, d in zip(self.places, dxs):
            full[i] = as_tensor_of(d)
        what = f"{self.name}.jvp"
        got = matched(what, call(what, "jvp", self.cls.jvp, ctx, *full), self.out, "")
        for d, y in zip(got, ys):
            check_shape(f"{self.name}.jvp", "tangent", d, "value", y)
        return filled([as_variable(d) for d in got], ys)


def paired(g: Any) -> Any:
    """PyTorch's gradient of a complex value is the conjugate of the cotangent, and back."""
    return np.conjugate(g) if getattr(getattr(g, "dtype", None), "kind", "f") == "c" else g


def as_tensor_of(x: Any) -> Any:
    return x if x is None or isinstance(x, Tensor) else make(x, None, EAGER)


class Function:
    """An operation with a rule of its own, as in torch.autograd.

    Subclasses have static methods: `forward(ctx, *args)`, or `forward(*args)` and
    `setup_context(ctx, inputs, output)`; and `backward(ctx, *grads)`, or `jvp(ctx, *tangents)`, or
    both. `apply(*args)` calls it. It works in both modes, under vmap and, unless its backward is
    `once_differentiable`, at every order: what forward keeps between its arguments and its results
    is computed again on recorded values.

    None from `backward` is no gradient at all, not zeros: a leaf that gets nothing else keeps
    `.grad` None, and the sweep does not go on to what that argument was computed from. Transforms,
    which have a place for every argument, give zeros.

    >>> import numpy as np, wengert as wg
    >>> class Exp(wg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         y = np.exp(x)
    ...         ctx.save_for_backward(y)
    ...         return y
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (y,) = ctx.saved_tensors
    ...         return g * y
    >>> wg.grad(wg.grad(Exp.apply))(0.0), wg.jvp(Exp.apply, (0.0,), (2.0,))[1]
    (np.float64(1.0), np.float64(2.0))
    """

    @staticmethod
    def forward(*args: Any) -> Any:
        raise UnsupportedError("Function.forward", "a subclass gives it")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Fill the context, when `forward` does not take it."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise UnsupportedError("Function.backward", "a subclass gives it")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise UnsupportedError("Function.jvp", "a subclass gives it")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call forward, recorded as one operation.

        Args:
            args: tensors, which are differentiated, and anything else, which is constant; by
                position, since `backward` gives one gradient for each.
        """
        if kwargs:
            given = [*["..."] * len(args), *map(str, kwargs.values())]
            raise ArgumentError(
                f"{cls.__name__}.apply({', '.join(f'{k}=' for k in kwargs)})",
                "arguments are given by position: backward returns a gradient for each place",
                operands=list(kwargs.items()),
                fix=f"{cls.__name__}.apply({', '.join(given)})" if len(kwargs) == 1 else None,
            )
        law = Applied(cls, args)
        xs = [looked(args[i]) for i in law.places]
        if not xs:
            _, _, ys = law.run([])
            return tree.unflatten(law.out, [as_variable(y) for y in ys])
        out = apply(law, xs)
        if law.constant:
            ys = tree.leaves(out)
            ys = [y.detach() if i in law.constant and isinstance(y, Tensor) else y
                  for i, y in enumerate(ys)]  # fmt: skip
            out = tree.unflatten(law.out, ys)
        return out


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a backward whose own derivative is not right: a second derivative refuses."""

    @wraps(backward)
    def marked(*args: Any) -> Any:
        return backward(*args)

    marked.once = True  # type: ignore[attr-defined]
    return marked
