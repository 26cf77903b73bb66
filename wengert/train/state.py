"""The random streams that a run draws from, as plain state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wengert import random
from wengert.nn import Module

__all__ = ["State", "random_states", "restore_random"]

State = dict[str, Any]


def streams(model: Module, *others: Any) -> Iterator[tuple[str, np.random.Generator]]:
    """The generators that modules hold (a dropout's, say), and those of other objects, by path."""
    seen: set[int] = set()
    owners = [*model.named_modules(), *((type(o).__name__, o) for o in others)]
    for path, owner in owners:
        for name, value in vars(owner).items():
            if isinstance(value, np.random.Generator) and id(value) not in seen:
                seen.add(id(value))
                yield f"{path}.{name}", value


def random_states(model: Module, *others: Any) -> State:
    """Where every stream stands: the default one, NumPy's global one, and the model's own."""
    return {
        "default": random.get_state(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - users draw from it
        "own": {path: s.bit_generator.state for path, s in streams(model, *others)},
    }


def restore_random(state: State, model: Module, *others: Any) -> None:
    """Put every stream where `random_states` found it."""
    random.set_state(state["default"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    own = dict(streams(model, *others))
    for path, value in state["own"].items():
        own[path].bit_generator.state = value
