"""Switches of recording in PyTorch's words, beside `no_grad` and `enable_grad`; for one thread."""

from __future__ import annotations

from typing import Any

from .. import trace
from ..region import Region
from ..trace import HERE, modes, no_grad, number, recording

__all__ = ["inference_mode", "is_grad_enabled", "set_grad_enabled"]


def is_grad_enabled() -> bool:
    """Whether operations are recorded here and now.

    >>> import wengert as wg
    >>> with wg.no_grad():
    ...     is_grad_enabled()
    False
    """
    return recording(trace.EAGER)


class inference_mode(no_grad):
    """`no_grad`, for evaluation; with mode=False it is `enable_grad`, as in PyTorch.

    What is computed inside can be used in recorded computations later, as a constant.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0], requires_grad=True)
    >>> with inference_mode():
    ...     y = w * 2.0
    >>> (y * w).requires_grad
    True
    """

    __module__ = "wengert"

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self._set(2 * number() - 1 if self.mode else -1)


class Raised:
    """Closes the fast road as long as somebody holds it; a thread that ends lets go."""

    __slots__ = ()

    def __init__(self) -> None:
        modes(1)

    def __del__(self) -> None:
        modes(-1)


class set_grad_enabled(Region):
    """Switch recording on or off: from here on as a call, or for a block or a decorated function.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0], requires_grad=True)
    >>> with set_grad_enabled(False):
    ...     y = x * 2.0
    >>> y.requires_grad
    False
    """

    __module__ = "wengert"

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self.first: tuple[int, Raised | None] | None = now()
        put(self.mode)

    def __call__(self, f: Any) -> Any:
        if self.first is not None:  # a decorator switches when the function runs
            restore(self.first)
            self.first = None
        return Region.__call__(self, f)

    def __enter__(self) -> None:
        switches = HERE.__dict__.setdefault("switches", [])
        if self.first is not None:  # made for this block: switched already
            switches.append(self.first)
            self.first = None
        else:
            switches.append(now())
            put(self.mode)

    def __exit__(self, *exc: object) -> None:
        restore(HERE.switches.pop())


def now() -> tuple[int, Raised | None]:
    return getattr(HERE, "quiet", -1), getattr(HERE, "raised", None)


def put(mode: bool) -> None:
    HERE.quiet = -1 if mode else 2 * number() - 1
    HERE.raised = None if mode else Raised()


def restore(old: tuple[int, Raised | None]) -> None:
    HERE.quiet, HERE.raised = old
