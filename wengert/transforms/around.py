"""What stands around a function: the streams that it draws from, the attributes that it changes."""

from __future__ import annotations

import random as plain_random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import eq
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ..random import rewound, states
from ..source import LIBRARY
from ..trace import Tensor, ndarray

__all__ = ["Surroundings"]

_MISSING = object()


class Surroundings:
    """What a function may draw from or change without being given it: streams, and attributes."""

    def __init__(self, *roots: Any) -> None:
        self.streams: list[Any] = []
        self.attributes: list[tuple[Any, dict[str, Any]]] = []
        self._look(list(roots))
        mine, legacy, *others = states(self.streams)
        self.saved = [mine, shared(legacy, _alike), *others]
        self.plain = shared(plain_random.getstate(), eq)

    def _look(self, todo: list[Any]) -> None:
        seen: set[int] = set()
        while todo and len(seen) < 10_000:
            x = todo.pop()
            if x is None or x.__class__ in _DULL or id(x) in seen:
                continue
            seen.add(id(x))
            if isinstance(x, np.random.Generator):
                self.streams.append(x)
            elif isinstance(x, np.random.RandomState):
                self.streams.append(_Legacy(x._bit_generator))
            elif isinstance(x, np.random.BitGenerator):
                self.streams.append(_Legacy(x))
            elif isinstance(x, list | tuple | set | frozenset):
                todo.extend(x)
            elif isinstance(x, dict):
                todo.extend(x.values())
            elif isinstance(x, FunctionType):
                if x.__code__.co_filename not in LIBRARY or x.__closure__:
                    todo.extend(_reached(x))
            elif isinstance(x, MethodType):
                todo += [x.__func__, x.__self__]
            elif isinstance(x, partial):
                todo += [x.func, *x.args, *x.keywords.values()]
            elif not isinstance(x, type | ModuleType | Tensor | ndarray):
                space = getattr(x, "__dict__", None)
                if space.__class__ is dict:
                    self.attributes.append((x, dict(space)))
                    todo.extend(space.values())
                    call = getattr(type(x), "forward", None) or vars(type(x)).get("__call__")
                    todo.append(call)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Inside, streams and attributes stand where they stood; afterwards where they were."""
        now = [(x, dict(x.__dict__)) for x, _ in self.attributes]
        plain = plain_random.getstate()
        with rewound(self.saved, self.streams):
            try:
                plain_random.setstate(self.plain)
                _assign(self.attributes)
                yield
            finally:
                plain_random.setstate(plain)
                _assign(now)


_latest: dict[type, Any] = {}


def shared(state: Any, alike: Callable[[Any, Any], bool]) -> Any:
    """A large state that has not moved since it was last saved is kept once."""
    last = _latest.get(type(state))
    if last is not None and alike(last, state):
        return last
    _latest[type(state)] = state
    return state


def _alike(a: Any, b: Any) -> bool:
    if a["state"].keys() != b["state"].keys():
        return False
    same = all(np.array_equal(a["state"][k], b["state"][k]) for k in a["state"])
    return same and all(a[k] == b[k] for k in a if k != "state")


class _Legacy:
    """A bit generator that is not wrapped in a `Generator`, seen as one."""

    def __init__(self, bit_generator: Any) -> None:
        self.bit_generator = bit_generator


_DULL = frozenset([int, float, complex, str, bytes, bool, Tensor, ndarray, np.dtype, type])


def _reached(f: FunctionType) -> Any:
    """The values that a function reaches by name: its closure, its defaults, its globals."""
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from f.__defaults__ or ()
    yield from (f.__kwdefaults__ or {}).values()
    if f.__code__.co_filename not in LIBRARY:
        for name in _names(f.__code__):
            yield f.__globals__.get(name)


def _names(code: Any) -> Any:
    yield from code.co_names
    for c in code.co_consts:
        if c.__class__ is code.__class__:
            yield from _names(c)


def _assign(attributes: list[tuple[Any, dict[str, Any]]]) -> None:
    """Give objects the attributes they had; those that have not changed are left alone."""
    for x, want in attributes:
        space = x.__dict__
        for name in [n for n in space if n not in want]:
            del space[name]
        for name, value in want.items():
            if space.get(name, _MISSING) is not value:
                space[name] = value
