"""TensorFlow's custom_gradient, on `custom_vjp`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from .. import tree
from ..errors import ArgumentError, UnsupportedError, verbatim
from ..given import call, function
from ..trace import EAGER, HERE, Leaf, Tensor, View, looked, seq
from .custom import custom_vjp
from .variable import Variable

__all__ = ["custom_gradient"]


class Kept:
    """A grad_fn and the arguments that it closes over."""

    def __init__(self, grad_fn: Any, args: tuple[Any, ...]) -> None:
        self.grad_fn, self.leaves = grad_fn, tree.leaves(args)

    def serves(self, args: tuple[Any, ...]) -> bool:
        """Whether it was made for these arguments, and not for other levels of them."""
        leaves = tree.leaves(args)
        same = all(a is b for a, b in zip(leaves, self.leaves))
        return same or not any(isinstance(x, Tensor) for x in [*leaves, *self.leaves])


class Readers:
    """Takes note of the trainable variables that are read, in place of a tape."""

    def __init__(self) -> None:
        self.variables: dict[int, Variable] = {}
        self.born = seq()  # what comes later is made inside

    def accessed(self, variable: Variable, node: Any) -> None:
        if type(node) is Leaf and node.seq > self.born:
            self.variables.setdefault(id(variable), variable)


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that brings its own gradient, in TensorFlow's manner.

    f returns (y, grad_fn); grad_fn takes a cotangent for each output and returns one for each
    positional argument. If f reads trainable variables, grad_fn takes `variables=` too, and returns
    (cotangents of the arguments, cotangents of the variables).

    It works in every mode, at every order and under vmap, as `custom_vjp` does. There f may run
    again on the same arguments, and must then give the same.

    Raises:
        ArgumentError: f does not return such a pair; it reads variables, and grad_fn takes none.

    >>> import numpy as np, wengert as wg
    >>> @wg.custom_gradient
    ... def log1pexp(x):
    ...     e = np.exp(x)
    ...     return np.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))
    >>> x = wg.Variable(100.0)
    >>> with wg.GradientTape() as tape:
    ...     y = log1pexp(x)
    >>> tape.gradient(y, x)
    tensor(1.)
    """
    function("custom_gradient(f)", "f", f)
    name = getattr(f, "__name__", "f")

    def pair(
        args: tuple[Any, ...], kwargs: dict[str, Any], readers: Readers | None = None
    ) -> tuple[Any, Any]:
        tapes = HERE.__dict__.setdefault("tapes", [])
        if readers is not None:
            tapes.append(readers)
        try:
            got = call(f"custom_gradient({name})", "f", f, *args, **kwargs)
        finally:
            if readers is not None:
                tapes.remove(readers)
        if not isinstance(got, tuple) or len(got) != 2 or not callable(got[1]):
            raise ArgumentError(
                f"custom_gradient({name})",
                "the function returns a pair (y, grad_fn)",
                operands=[("returned", verbatim(type(got).__name__))],
            )
        return got

    def ruled(
        variables: Sequence[Variable], kwargs: dict[str, Any], readers: Readers | None = None
    ) -> Any:
        def value(values: Sequence[Any], *args: Any) -> Any:
            with standing_for(variables, values):
                return pair(args, kwargs, readers)[0]

        def forward(values: Sequence[Any], *args: Any) -> Any:
            with standing_for(variables, values):
                y, grad_fn = pair(args, kwargs, readers)
            return y, (Kept(grad_fn, (values, args)), values, args)

        def backward(residuals: Any, g: Any) -> Any:
            kept, values, args = residuals
            with standing_for(variables, values):
                grad_fn = kept.grad_fn
                if not kept.serves((values, args)):
                    grad_fn = pair(args, kwargs)[1]
                if not variables:
                    got = call(f"grad_fn of {name}", "grad_fn", grad_fn, *tree.leaves(g))
                    return None, *listed(got, len(args))
                if not takes_variables(grad_fn):
                    raise needs_variables(name, variables)
                gs, ofs = grad_fn(*tree.leaves(g), variables=list(variables))
                return listed(ofs, len(variables)), *listed(gs, len(args))

        value.__name__ = name
        rule = custom_vjp(value)
        rule.defvjp(forward, backward)
        return rule

    @wraps(f)
    def called(*args: Any, **kwargs: Any) -> Any:
        readers = Readers()
        try:
            y = ruled((), kwargs, readers)((), *args)
        except UnsupportedError:
            if not readers.variables:
                raise
        variables = tuple(readers.variables.values())
        return ruled(variables, kwargs)(variables, *args) if variables else y

    return called


def listed(gs: Any, n: int) -> tuple[Any, ...]:
    return tuple(gs) if isinstance(gs, tuple | list) else (gs,) if n == 1 else gs


def takes_variables(grad_fn: Any) -> bool:
    kinds = inspect.signature(grad_fn).parameters.values()
    return any(p.name == "variables" or p.kind is p.VAR_KEYWORD for p in kinds)


def needs_variables(name: str, variables: Sequence[Variable]) -> ArgumentError:
    return ArgumentError(
        f"custom_gradient({name})",
        "the function reads trainable variables, and grad_fn does not take them",
        operands=[(v.name or f"variables[{i}]", v) for i, v in enumerate(variables)],
        fix="def grad_fn(upstream, variables=None): ...; return gradients, gradients_of_variables",
    )


@contextmanager
def standing_for(variables: Sequence[Variable], values: Sequence[Any]) -> Iterator[None]:
    """The variables have these values while the body runs."""
    before = [(v.data, v.node, v.level, getattr(v, "store", 0)) for v in variables]
    for v, x in zip(variables, values):
        x = looked(x)
        if isinstance(x, Tensor):
            v.data, v.node, v.level = x.data, x.node, x.level
            cls: Any = Variable if type(x) in (Tensor, View, Variable) else type(x)
            v.__class__ = cls
        else:
            v.data, v.node, v.level = x, None, EAGER
    try:
        yield
    finally:
        for v, (data, node, level, store) in zip(variables, before):
            v.__class__ = Variable
            v.data, v.node, v.level, v.store = data, node, level, store
