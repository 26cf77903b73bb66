"""A module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from wengert.create import tensor
from wengert.errors import ArgumentError, ShapeError, UnknownNameError, verbatim
from wengert.trace import Tensor
from wengert.types import shape_of

from .module import Module, Parameter

__all__ = ["functional_call", "stack_modules"]


def functional_call(
    module: Module, params: Any, *args: Any, strict: bool = False, **kwargs: Any
) -> Any:
    """module(*args, **kwargs) with other values in the place of its parameters and buffers.

    The module itself is not changed. A parameter that stands at several places is replaced at all
    of them. A buffer that a call writes to, such as a running mean, is written in `params` if it is
    there, and else in the module.

    Args:
        module: the module.
        params: values by path, such as `{"encoder.0.weight": w}`, or nested dicts of them, or a
            module of the same structure, such as `wg.grad` gives.
        args, kwargs: those of the call.
        strict: whether every parameter must be given; if not, the others are the module's own.

    Raises:
        UnknownNameError: a path that the module has not, or, if strict, one that is missing.
        ShapeError: a value of another shape.

    Example:
        >>> import wengert as wg
        >>> from wengert import nn
        >>> layer = nn.Linear(2, 1, rng=0)
        >>> f = lambda w: wg.functional_call(layer, {"weight": w}, np.ones((1, 2))).sum()
        >>> wg.grad(f)(np.zeros((2, 1))).ravel()
        array([1., 1.])

    References:
        `torch.func.functional_call`.
    """
    given = _by_path(params)
    known = places(module)
    what = f"functional_call({type(module).__name__}, params)"
    unknown = [name for name in given if name not in known]
    if unknown:
        rows: list[tuple[str, Any, str]] = []
        for name in unknown[:8]:
            near = get_close_matches(name, known, 1)
            rows.append((name, given[name], f"is it {near[0]}?" if near else ""))
        raise UnknownNameError(
            what, f"{len(unknown)} of {len(given)} names are not in the module", operands=rows
        )
    values: dict[int, Any] = {}
    for name, value in given.items():
        t = known[name]
        if id(t) in values and values[id(t)] is not value:
            raise ArgumentError(
                what, f"{name} is a parameter that stands at several places, with one value",
                operands=[(name, value)],
            )  # fmt: skip
        if shape_of(value) != shape_of(t):
            raise ShapeError(
                what, "a value has the shape of what it replaces",
                operands=[(f"params[{name!r}]", value), (name, t)],
            )  # fmt: skip
        values[id(t)] = value
    if strict:
        missing = [name for name, t in module.named_parameters() if id(t) not in values]
        if missing:
            raise UnknownNameError(
                what, f"{len(missing)} parameters are missing",
                operands=[("missing", verbatim(", ".join(missing[:8])))],
            )  # fmt: skip
    twin: Module = _replaced(module, values, {})
    return twin(*args, **kwargs)


def places(module: Module) -> dict[str, Any]:
    """What stands at every path; a parameter that stands at several has several."""
    found: dict[str, Any] = {}
    for path, m in _everywhere(module, ""):
        for name, value in m.__dict__.items():
            if isinstance(value, Tensor) or name in m._trained:
                found[f"{path}.{name}" if path else name] = value
    return found


def _everywhere(module: Module, path: str) -> list[tuple[str, Module]]:
    out = [(path, module)]
    for name, m in module.named_children():
        out += _everywhere(m, f"{path}.{name}" if path else name)
    return out


def _by_path(params: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(params, Module):
        return {name: v for name, v in params.named_parameters() if v is not None}
    if not isinstance(params, Mapping):
        raise ArgumentError(
            "functional_call(module, params)", "params is a dict of values by path",
            operands=[("params", params)], fix="dict(module.named_parameters())",
        )  # fmt: skip
    out: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple):
            value = {str(i): v for i, v in enumerate(value)}
        if isinstance(value, Mapping):
            out.update(_by_path(value, f"{name}."))
        elif value is not None:
            out[name] = value
    return out


def _replaced(x: Any, values: Mapping[int, Any], made: dict[int, Any]) -> Any:
    """A copy of a module, with all that hold values; what holds none is shared."""
    if id(x) in values:
        return values[id(x)]
    if isinstance(x, Module):
        if id(x) not in made:
            twin = made[id(x)] = object.__new__(type(x))
            twin.__dict__.update({k: _replaced(v, values, made) for k, v in x.__dict__.items()})
        return made[id(x)]
    if type(x) in (list, tuple):
        return type(x)(_replaced(v, values, made) for v in x)
    if type(x) is dict:
        return {k: _replaced(v, values, made) for k, v in x.items()}
    return x


def stack_modules(modules: Sequence[Module]) -> dict[str, Tensor]:
    """The parameters and buffers of models of one kind, by path, each with a new axis in front.

    `vmap` of a `functional_call` then runs all of them at once.

    Raises:
        ArgumentError: there is no module, or they differ in their names.

    Example:
        >>> import wengert as wg
        >>> from wengert import nn
        >>> models = [nn.Linear(3, 1, rng=seed) for seed in range(5)]
        >>> params = stack_modules(models)
        >>> call = wg.vmap(lambda p, x: wg.functional_call(models[0], p, x), in_axes=(0, None))
        >>> call(params, np.ones((2, 3), np.float32)).shape
        (5, 2, 1)
    """
    if not modules:
        raise ArgumentError("stack_modules(modules)", "one module or more")
    trained = [dict(m.named_parameters()) for m in modules]
    states = [{**p, **dict(m.named_buffers())} for p, m in zip(trained, modules)]
    for i, state in enumerate(states):
        shapes = {name: shape_of(t) for name, t in state.items()}
        if type(modules[i]) is not type(modules[0]) or shapes != {
            name: shape_of(t) for name, t in states[0].items()
        }:
            raise ArgumentError(
                "stack_modules(modules)", f"module {i} has other parameters than module 0",
                operands=[("module 0", verbatim(type(modules[0]).__name__)),
                          (f"module {i}", verbatim(type(modules[i]).__name__))],
            )  # fmt: skip
    out: dict[str, Tensor] = {}
    for name in states[0]:
        stack = np.stack([np.asarray(s[name].value()) for s in states])
        if name in trained[0]:
            out[name] = Parameter(stack)
            out[name].name = name
        else:
            out[name] = tensor(stack)
    return out
