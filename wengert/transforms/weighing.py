"""A program run on hollow arrays: what it would hold in memory, without any."""

from __future__ import annotations

from typing import Any

from ..hollow import SHAPES, Account
from ..trace import HERE, modes
from .staging import Tracer

__all__ = ["weighing"]


class weighing:
    """`with weighing(account):` what is read inside has a shape and no contents.

    The arrays of tensors from outside are put back at the end, and so are their gradients.

    >>> import numpy as np, wengert as wg
    >>> from wengert.hollow import Account, hollow
    >>> w, account = wg.tensor(np.ones((1000, 1000)), requires_grad=True), Account()
    >>> with weighing(account):
    ...     np.tanh(wg.Tensor(hollow((1_000_000, 1000), float)) @ w).sum().backward()
    >>> account.most, w.grad is None  # input, product, tanh or a gradient
    (24000000008, True)
    """

    def __init__(self, account: Account) -> None:
        self.account = account

    def __enter__(self) -> Account:
        self.tracer = Tracer()
        self.tracer.graph = SHAPES
        self.before = getattr(HERE, "trace", None), getattr(HERE, "account", None)
        HERE.trace, HERE.account = self.tracer, self.account
        modes(1)
        return self.account

    def __exit__(self, *exc: Any) -> None:
        modes(-1)
        HERE.trace, HERE.account = self.before
        self.tracer.restore()
