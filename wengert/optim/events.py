"""What happens in a training loop, told to whoever listens; without listeners nothing is paid.

zero_grad   optimizer                   step        optimizer, before its update
clip        parameters                  unscale     scaler, optimizer
scale       scaler, the scaled loss     schedule    schedule
weighted    step: parts of a batch are added up by their weights
backward    the tensor that a sweep starts from, before the sweep
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from wengert.transforms.tape import SWEPT

__all__ = ["LISTENERS", "listening", "tell"]

Listener = Callable[..., None]
LISTENERS: list[Listener] = []  # called with the name of the event and what it is about


def tell(what: str, *about: Any) -> None:
    """Tell every listener."""
    for listener in tuple(LISTENERS):
        listener(what, *about)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener(name, *about)` at every event inside the block.

    Example:
        >>> import wengert as wg
        >>> from wengert.optim import SGD
        >>> w = wg.tensor([1.0], requires_grad=True)
        >>> optimizer = SGD([w], lr=0.1)
        >>> with listening(lambda what, *about: print(what)):
        ...     optimizer.zero_grad()
        ...     w.sum().backward()
        ...     optimizer.step()
        zero_grad
        backward
        step
    """
    swept = partial(listener, "backward")
    LISTENERS.append(listener)
    SWEPT.append(swept)
    try:
        yield
    finally:
        LISTENERS.remove(listener)
        SWEPT.remove(swept)
