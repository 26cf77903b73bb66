"""What a model takes over and registers: values by path, and parts by name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from wengert.create import tensor
from wengert.errors import ArgumentError, DTypeError, ShapeError, UnknownNameError, verbatim
from wengert.trace import Tensor

__all__ = ["as_buffer", "as_parameter", "check_name", "check_state"]


def check_name(what: str, owner: Any, name: Any, *, free: bool) -> None:
    """Refuses a name that no part can have. `free`: whether what has it now may be replaced."""
    rule = ""
    if not isinstance(name, str) or not name or "." in name:
        rule = "a name is a text without dots"
    elif not free or hasattr(type(owner), name):
        rule = f"the module has an attribute {name!r} already"
    if rule:
        raise ArgumentError(f"{type(owner).__name__}.{what}({name!r})", rule)


def as_buffer(what: str, name: str, value: Any) -> Any:
    """A tensor that is not trained, or None."""
    if value is None or (isinstance(value, Tensor) and not value.requires_grad):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fciub":
        return tensor(value)
    if isinstance(value, Tensor):
        raise DTypeError(
            f"{what}({name!r}, tensor)", "a buffer is saved and not trained",
            operands=[("tensor", value, "requires a gradient")], fix="{tensor}.detach()",
        )  # fmt: skip
    raise ArgumentError(
        f"{what}({name!r}, tensor)", "a buffer is a tensor or an array of numbers",
        operands=[("tensor", value)],
    )  # fmt: skip


def as_parameter(what: str, name: str, value: Any) -> Any:
    """A tensor that is trained, or None."""
    if value is None or (isinstance(value, Tensor) and value.requires_grad and value.is_leaf):
        return value
    recorded = isinstance(value, Tensor) and value.requires_grad
    rule = "a parameter is a leaf, and this is a result" if recorded else "it is no parameter"
    inside = "{param}.detach()" if recorded else "{param}"
    fits = isinstance(value, Tensor | np.ndarray | float)
    raise ArgumentError(
        f"{what}({name!r}, param)", rule, operands=[("param", value)],
        fix=f"nn.Parameter({inside})" if fits else None,
    )  # fmt: skip


def check_state(kind: str, own: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        lines: list[tuple[str, Any, str]] = []
        lines += [(f"missing    {name}", own[name], "in the model") for name in missing]
        lines += [(f"unexpected {name}", state[name], "in the state") for name in unexpected]
        shown = lines[:8]
        if len(lines) > len(shown):
            shown.append(("...", verbatim(f"and {len(lines) - len(shown)} more"), ""))
        raise UnknownNameError(
            f"{kind}.load_state_dict(state)",
            f"the names differ: {len(missing)} missing, {len(unexpected)} unexpected",
            operands=shown,
            fix=_renaming(own, state, missing, unexpected),
        )
    wrong = [name for name in own if np.shape(state[name]) != own[name].shape]
    if wrong:
        raise ShapeError(
            f"{kind}.load_state_dict(state)",
            "the shapes differ",
            operands=[
                row
                for name in wrong[:4]
                for row in (
                    (f"model {name}", own[name]),
                    (f"state {name}", np.asarray(state[name])),
                )
            ],
            fix=_transposing(own, state, wrong),
        )


def _renaming(
    own: Mapping[str, Any], state: Mapping[str, Any], missing: list[str], unexpected: list[str]
) -> str | None:
    """The renaming that makes the names agree, if a common prefix or one slip explains it."""
    for prefix in {name.partition(".")[0] + "." for name in unexpected}:
        if {name.removeprefix(prefix) for name in state} == set(own):
            return f"{{name.removeprefix({prefix!r}): value for name, value in state.items()}}"
    for prefix in {name.partition(".")[0] + "." for name in missing}:
        if {prefix + name for name in state} == set(own):
            return f"{{{prefix!r} + name: value for name, value in state.items()}}"
    if len(missing) == len(unexpected) == 1:
        old, new = unexpected[0], missing[0]
        if get_close_matches(old, [new]) and np.shape(state[old]) == np.shape(own[new]):
            return f"state[{new!r}] = state.pop({old!r})"
    return None


def _transposing(own: Mapping[str, Any], state: Mapping[str, Any], wrong: list[str]) -> str | None:
    name = wrong[0]
    if np.shape(state[name])[::-1] == own[name].shape:
        return f"state[{name!r}].T has the model's shape: a Linear weight is stored (in, out) here"
    return None
