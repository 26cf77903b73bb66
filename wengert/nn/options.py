"""A function as a layer: its options are attributes, checked where they are given."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter as Named
from inspect import Signature
from typing import Any, ClassVar

import numpy as np

from wengert.errors import ArgumentError, OptionError, describe
from wengert.trace import Tensor

from .module import Module

__all__ = ["Optioned", "number", "whole"]


def number(v: Any) -> bool:
    return isinstance(v, int | float | np.integer | np.floating) and not isinstance(v, bool)


def whole(v: Any) -> bool:
    return isinstance(v, int | np.integer) and not isinstance(v, bool)


class Optioned(Module):
    """What layers share that are a function with options, named as those of the function.

    A subclass says what it calls, what the options are if not given, how many of them may be given
    by position, and what must be true of some: a test, and the rule in words.
    """

    call: ClassVar[Any]
    options: ClassVar[dict[str, Any]]
    ahead: ClassVar[int | None] = None
    rules: ClassVar[dict[str, tuple[Callable[[Any], bool], str]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        shown: Any = None
        if "options" in cls.__dict__:
            free = len(cls.options) if cls.ahead is None else cls.ahead
            shown = Signature([
                Named(n, Named.POSITIONAL_OR_KEYWORD if i < free else Named.KEYWORD_ONLY, default=v)
                for i, (n, v) in enumerate(cls.options.items())
            ])  # fmt: skip
        if shown or "__init__" in cls.__dict__:
            cls.__signature__ = shown  # type: ignore[attr-defined]  # for `help`

    def __init__(self, *values: Any, **named: Any) -> None:
        what, names = type(self).__name__, tuple(self.options)
        first = names[: self.ahead]
        given = {**dict(zip(first, values)), **named}
        if len(values) > len(first) or not given.keys() <= self.options.keys():
            told = [*map(str, values), *[f"{k}={v}" for k, v in named.items()]]
            raise ArgumentError(
                f"{what}({', '.join(told)})",
                f"its options are {', '.join(names)}" if names else "it has no options",
                fix=self.instead(given, values),
            )
        for name, usual in self.options.items():
            value = given.get(name, usual)
            test, rule = self.rules.get(name, (None, ""))
            if test is not None and not test(value):
                raise OptionError(f"{what}({name}={describe(value)})", rule)
            setattr(self, name, value)

    def forward(self, *operands: Any) -> Any:
        space = self.__dict__
        return type(self).call(*operands, **{name: space[name] for name in self.options})

    def instead(self, given: dict[str, Any], values: tuple[Any, ...]) -> str | None:
        """What to write in place of options that there are not."""
        return None

    def extra_repr(self) -> str:
        shown = []
        for name, usual in self.options.items():
            value = getattr(self, name)
            if isinstance(value, Tensor):
                shown.append(f"{name}={describe(value)}")
            elif value is not usual and value != usual:
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)
