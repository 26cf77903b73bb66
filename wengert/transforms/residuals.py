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

import os
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .. import trace
from ..errors import ArgumentError, DTypeError, OutputError, ShapeError
from ..trace import HERE, Tensor, View, make, modes
from ..types import RAW
from .jvp import inward
from .wrapped import Packed

__all__ = ["Packed", "packing", "save_on_disk", "saved_tensors_hooks"]


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


class InFile(Packed):
    """An array in a file, which is deleted when nobody can ask for it any more."""

    __slots__ = ("dtype", "folder", "form", "path", "shape")

    def __init__(self, value: Any, folder: Folder) -> None:
        self.form, self.shape, self.dtype, self.folder = (
            type(value),
            value.shape,
            value.dtype,
            folder,
        )
        try:
            handle, self.path = tempfile.mkstemp(".residual", "wengert-", folder.path)
        except OSError as error:
            raise unwritten(folder.path, error) from error
        weakref.finalize(self, forget, self.path)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(np.ascontiguousarray(value).data.cast("B") if value.size else b"")
        except OSError as error:
            raise unwritten(self.path, error) from error

    def unpack(self) -> Any:
        try:
            a = np.fromfile(self.path, np.uint8)
        except OSError as error:
            raise OutputError(
                "save_on_disk", f"the file of a residual is gone: {error}",
                fix="keep the folder until backward() has returned",
            ) from error  # fmt: skip
        a = a.view(self.dtype).reshape(self.shape)
        return a if self.form is np.ndarray else a[()]


def unwritten(path: str, error: OSError) -> OutputError:
    return OutputError(
        "save_on_disk", f"a residual cannot be written to {path}: {error.strerror or error}"
    )


def forget(path: str) -> None:
    with suppress(OSError):  # somebody was faster
        os.unlink(path)


def unmake(path: str) -> None:
    with suppress(OSError):  # somebody has put a file of his own there
        os.rmdir(path)


class Folder:
    """A folder for files; one of our own goes when the last file in it has gone."""

    __slots__ = ("__weakref__", "path")

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        try:
            if path is None:
                self.path = tempfile.mkdtemp(prefix="wengert-residuals-")
                weakref.finalize(self, unmake, self.path)
            else:
                self.path = os.fspath(path)
                os.makedirs(self.path, exist_ok=True)
        except OSError as error:
            raise unwritten(str(path or tempfile.gettempdir()), error) from error


class save_on_disk(arrays):
    """What backward needs is kept in files and read back when the sweep wants it.

    A file is deleted as soon as nobody can ask for it: when the sweep has used it, when the graph
    is dropped, when an exception throws the graph away, or at the end of the process.

    Args:
        folder: where; by default a folder of its own among the temporary ones.
        min_bytes: arrays that are smaller stay in memory.

    Raises:
        OutputError: the folder cannot be written, or a file has gone before its backward.

    >>> import numpy as np, wengert as wg
    >>> x = wg.tensor(np.ones(1000), requires_grad=True)
    >>> with wg.save_on_disk():
    ...     y = np.sum(np.sin(x) ** 2)
    >>> y.backward()
    >>> bool(np.isclose(x.grad[0], np.sin(2.0)))
    True
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, min_bytes: int = 0) -> None:
        arrays.__init__(self)
        self.where, self.min_bytes = folder, min_bytes
        self.folder = Folder(folder)

    def keep(self, value: Any) -> Any:
        if value.nbytes < self.min_bytes or value.dtype.hasobject:
            return value
        return InFile(value, self.folder)
