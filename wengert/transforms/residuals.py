"""Where residuals are kept: hooks on what the tape saves, and residuals in files.

What a node keeps goes through the innermost packer of its thread. A packer is any object with

    pack(rule, name, value) -> a `Packed`, or the value itself

called once for every array that is recorded: `rule` says of which operation (`rule.op`), `name`
which residual ("x", "a", "y", ..), and `value` is the array, or a tensor of a level below.
`Packed.unpack()` gives it back; the sweep calls it when it passes the node, and drops the handle
with the node's other residuals. Of several packers the innermost is asked, as in PyTorch.

    with packing(my_packer):
        loss = f(x)
    loss.backward()                 # unpacks, also outside of the block

A packer is not asked while it packs. Under one, operations leave the fast road.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import trace
from ..errors import ArgumentError, DTypeError, ShapeError
from ..trace import HERE, Tensor, View, make, modes
from ..types import RAW
from .jvp import inward
from .wrapped import Packed

__all__ = ["Packed", "packing", "saved_tensors_hooks"]


class packing:
    """`with packing(packer):` residuals recorded inside, in this thread, go through it.

    As a base class: the packer is self.
    """

    packer: Any = None

    def __init__(self, packer: Any) -> None:
        self.packer = packer

    def __enter__(self) -> Any:
        packer = self if self.packer is None else self.packer
        HERE.__dict__.setdefault("packers", []).append(packer)
        modes(1)
        return self

    def __exit__(self, *exc: object) -> None:
        HERE.packers.pop()
        modes(-1)


class Shell(Packed):
    """A tensor of a level below: its array is kept elsewhere, its derivative here."""

    __slots__ = ("cls", "data", "level", "node")

    def __init__(self, t: Tensor, data: Packed) -> None:
        self.cls, self.level, self.node, self.data = type(t), t.level, t.node, data

    def unpack(self) -> Tensor:
        return make(self.data.unpack(), self.node, self.level, self.cls)


class arrays(packing):
    """A packer of plain arrays: `keep(array) -> Packed`, or the array itself.

    Of a value under several transforms only the array at the bottom is handed on. Its derivatives
    stay where they are, so that nothing that is done to the array can break them.
    """

    def __init__(self) -> None:
        pass

    def pack(self, rule: Any, name: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            data = self.pack(rule, name, value.data)
            if not isinstance(data, Packed):
                return value
            return Shell(value.look() if type(value) is View else value, data)
        if not isinstance(value, RAW):
            return value  # a variable of a graph that is being staged
        HERE.packers.append(None)
        try:
            return self.keep(value)
        finally:
            HERE.packers.pop()

    def keep(self, value: Any) -> Any:
        raise NotImplementedError


class Hooked(Packed):
    """What the user's pack function returned, and the function that makes a tensor of it again."""

    __slots__ = ("dtype", "form", "hook", "shape")

    def __init__(self, form: Any, hook: Callable[[Any], Any], value: Any) -> None:
        self.form, self.hook = form, hook
        self.shape, self.dtype = value.shape, value.dtype

    def unpack(self) -> Any:
        given = self.hook(self.form)
        value = inward(given)
        if not isinstance(value, RAW) or isinstance(value, bool | int | float | complex):
            raise ArgumentError(
                "unpack(packed)",
                "it gives the tensor that was packed, without a derivative",
                operands=[("returned", given)],
                fix="x.detach()" if isinstance(value, Tensor) else None,
            )
        what = [("returned", value)]
        if value.shape != self.shape:
            raise ShapeError(
                "unpack(packed)", f"the tensor that was packed has shape {list(self.shape)}",
                operands=what,
            )  # fmt: skip
        if value.dtype != self.dtype:
            raise DTypeError(
                "unpack(packed)", f"the tensor that was packed has dtype {self.dtype}",
                operands=what, fix=f"x.astype(np.{self.dtype})",
            )  # fmt: skip
        return value


class saved_tensors_hooks(arrays):
    """What backward needs goes through `pack` when it is recorded and `unpack` when it is used.

    Of nested blocks the innermost is used. The tensors are plain values: their derivatives are
    kept by the tape, whatever is done to them, so that higher orders work too.

    Args:
        pack: takes the tensor to be kept, returns anything.
        unpack: takes what pack returned, gives a tensor (or array) of the same shape, dtype and
            values. It is called once in every sweep.

    Raises:
        ShapeError, DTypeError, ArgumentError: in the sweep, if unpack gives something else.

    >>> import numpy as np, wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> with wg.saved_tensors_hooks(lambda t: t.tolist(), lambda values: np.array(values)):
    ...     y = np.sum(x * x * x)
    >>> y.backward()
    >>> x.grad
    tensor([ 3., 12.])
    """

    def __init__(self, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
        arrays.__init__(self)
        self.hooks = pack, unpack

    def keep(self, value: Any) -> Any:
        pack, unpack = self.hooks
        return Hooked(pack(make(value, None, trace.EAGER)), unpack, value)
