"""Residuals in files, for graphs that memory does not hold."""

from __future__ import annotations

import os
import tempfile
import weakref
from contextlib import suppress
from typing import Any

import numpy as np

from ..errors import OutputError
from .residuals import arrays
from .wrapped import Packed

__all__ = ["save_on_disk"]


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
