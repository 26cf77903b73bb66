"""Arrays in files, of which only the rows that are asked for are read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from wengert.errors import DataError, OptionError, UnknownNameError, verbatim

from .asked import path_of, whole
from .dataset import Arrays

__all__ = ["mapped", "stored"]


def mapped(
    path: str | Path,
    name: str | None = None,
    *,
    dtype: Any = None,
    shape: tuple[int, ...] | None = None,
    offset: int = 0,
) -> NDArray[Any]:
    """An array in a file, read-only and memory-mapped: it may be larger than the memory.

    Args:
        path: a .npy file; a .npz file that is not compressed; or any other file of plain numbers,
            for which `dtype` is needed.
        name: of the array in a .npz file; None if it holds one.
        dtype: of plain numbers, such as "<f4" or "u1".
        shape: of plain numbers; None for one row of them, and -1 for as many as there are.
        offset: where plain numbers begin, in bytes.

    Raises:
        DataError: the file is not there, is cut off, compressed, or holds Python objects.
        UnknownNameError: the .npz file has no array of that name.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.npz"
        >>> np.savez(path, images=np.arange(6.0).reshape(3, 2), labels=np.arange(3))
        >>> mapped(path, "images")[1]
        memmap([2., 3.])
    """
    what = f"mapped({str(path)!r})"
    path = path_of(what, path)
    whole("mapped", "offset", offset, 0)
    try:
        if Path(path).suffix == ".npz":
            return _member(what, path, name)
        if Path(path).suffix == ".npy":
            with open(path, "rb") as file:
                return _after_header(what, path, file, 0)
        if dtype is None:
            raise DataError(what, "plain numbers have no header", fix='dtype="<f4", say')
        kind = _plain(what, _numbers(dtype))
        left = Path(path).stat().st_size - offset
        if left < 0:
            raise DataError(f"mapped(offset={offset})", f"the file has {left + offset:,} bytes")
        count = left // kind.itemsize
        places = (count,) if shape is None else _places(shape)
        if -1 in places:
            row = int(np.prod([n for n in places if n != -1]))
            places = tuple([count // max(row, 1) if n == -1 else n for n in places])
        return _map(f"{what[:-1]}, shape={shape})", path, kind, places, offset)
    except OSError as error:
        raise DataError(what, error.strerror or str(error)) from None


def _numbers(dtype: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype("V0")
    if not found.itemsize:
        raise OptionError(f"mapped(dtype={dtype!r})", 'it is a dtype of NumPy\'s, such as "<f4"')
    return found


def _places(shape: Any) -> tuple[int, ...]:
    """A shape, with -1 in one place at most."""
    given = shape if isinstance(shape, tuple | list) else (shape,)
    fits = all(isinstance(n, int | np.integer) and n >= -1 for n in given)
    if not fits or list(given).count(-1) > 1:
        raise OptionError(
            f"mapped(shape={shape!r})", "it has whole numbers, and -1 for one of them at most"
        )
    return tuple(map(int, given))


def _member(what: str, path: str | Path, name: str | None) -> NDArray[Any]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise DataError(what, f"not a .npz file: {error}") from None
    with archive, open(path, "rb") as file:
        held = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
        if name is None and len(held) == 1:
            (name,) = held
        if name not in held:
            raise UnknownNameError(
                f"mapped({str(path)!r}, {name!r})", "there is no such array in the file",
                operands=[("known", verbatim(", ".join(held)))],
            )  # fmt: skip
        member = held[name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise DataError(
                what, f"{name} is compressed, so it cannot be mapped",
                fix="np.savez in place of np.savez_compressed",
            )  # fmt: skip
        file.seek(member.header_offset + 26)  # of the lengths of two fields of its header
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
        return _after_header(what, path, file, member.header_offset + 30 + lengths)


def _after_header(what: str, path: str | Path, file: Any, start: int) -> NDArray[Any]:
    """The array whose .npy header stands at a place of the file."""
    file.seek(start)
    try:
        major, _ = npy.read_magic(file)
        read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise DataError(what, f"not an array of NumPy's: {error}") from None
    order = "F" if fortran else "C"
    return _map(what, path, _plain(what, dtype), shape, file.tell(), order)


def _plain(what: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.hasobject:
        raise DataError(what, "it holds Python objects, which are never loaded")
    return dtype


def _map(
    what: str, path: str | Path, dtype: Any, shape: tuple[int, ...], offset: int, order: Any = "C"
) -> NDArray[Any]:
    size, there = int(np.prod(shape)) * dtype.itemsize, Path(path).stat().st_size - offset
    if size > there:
        raise DataError(
            what, "the file is cut off: it is shorter than its arrays",
            operands=[("needed", verbatim(f"{size:,} bytes")), ("there", verbatim(f"{there:,}"))],
        )  # fmt: skip
    if not size:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, order)


def stored(path: str | Path, *names: str, citation: str = "", licence: str = "") -> Arrays:
    """The arrays of a .npz file as a source, memory-mapped.

    Args:
        path: a .npz file that is not compressed.
        names: which arrays, in the order of a batch; left out, all of them.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.npz"
        >>> np.savez(path, x=np.eye(3), y=np.arange(3))
        >>> stored(path, "x", "y").batch(np.array([2]))
        (array([[0., 0., 1.]]), array([2]))
    """
    path = path_of(f"stored({str(path)!r})", path)
    if not names:
        try:
            with zipfile.ZipFile(path) as archive:
                names = tuple(n.removesuffix(".npy") for n in archive.namelist())
        except (OSError, zipfile.BadZipFile) as error:
            rule = getattr(error, "strerror", None) or f"not a .npz file: {error}"
            raise DataError(f"stored({str(path)!r})", rule) from None
    arrays = [mapped(path, name) for name in names]
    return Arrays(*arrays, name=Path(path).stem, citation=citation, licence=licence)
