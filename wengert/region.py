"""Blocks that are decorators too, of generators as well."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ContextDecorator
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Region(ContextDecorator):
    """A block that is a decorator too, of generators as well: `@region` and `@region()`.

    A generator is inside the region while it runs, and its caller is not.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs and inspect.isfunction(args[0]):
            return cls()(args[0])
        return object.__new__(cls)

    def __call__(self, f: F) -> F:
        if not inspect.isgeneratorfunction(f):
            return super().__call__(f)

        @wraps(f)
        def generator(*args: Any, **kwargs: Any) -> Any:
            running = f(*args, **kwargs)
            step: Any = running.send
            given: Any = (None,)
            while True:
                try:
                    with self:
                        out = step(*given)
                except StopIteration as end:
                    return end.value
                try:
                    step, given = running.send, ((yield out),)
                except GeneratorExit:
                    with self:
                        running.close()
                    raise
                except BaseException as error:
                    step, given = running.throw, (error,)

        return generator  # type: ignore[return-value]

    def __enter__(self) -> Any:
        raise NotImplementedError

    def __exit__(self, *exc: object) -> None:
        raise NotImplementedError
