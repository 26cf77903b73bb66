"""Readers of the files in which MNIST and CIFAR are published; nothing is downloaded."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import DataError, verbatim

from .asked import path_of
from .dataset import Dataset

__all__ = ["cifar", "idx", "mnist"]

KINDS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx(path: str | Path) -> NDArray[Any]:
    """The array in an IDX file, compressed by gzip or not.

    Raises:
        DataError: the file is not there, is no IDX file, or is cut off.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.idx1-ubyte"
        >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
        >>> idx(path)
        array([5, 0, 4], dtype=uint8)

    References:
        Y. LeCun, C. Cortes, C. Burges, The MNIST database: the format of its files.
    """
    what = f"idx({str(path)!r})"
    content = _content(what, path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in KINDS:
        raise DataError(
            what, "not an IDX file: it begins with 0, 0, a kind of number and a number of axes",
            operands=[("begins", verbatim(" ".join(f"{b:02x}" for b in content[:4])))],
        )  # fmt: skip
    dtype, axes = np.dtype(KINDS[content[2]]), content[3]
    start = 4 + 4 * axes
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    size, there = math.prod(shape) * dtype.itemsize, len(content) - start
    if size != there:
        raise DataError(
            what, "the file is cut off" if size > there else "the file is longer than its array",
            operands=[
                ("shape", verbatim(f"{shape}")),
                ("needed", verbatim(f"{size:,} bytes")),
                ("there", verbatim(f"{max(there, 0):,}")),
            ],
        )  # fmt: skip
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def mnist(folder: str | Path, part: str = "train") -> Dataset:
    """MNIST (or Fashion-MNIST, KMNIST, ..) from the four IDX files in a folder.

    Shapes: images `float32[n, 28, 28, 1]` in [0, 1], labels `int64[n]`.

    Args:
        folder: where `train-images-idx3-ubyte` and its like are, with or without `.gz`.
        part: "train" or "test".

    Raises:
        DataError: a file is not there or damaged, or images and labels differ in number.
    """
    prefix = {"train": "train", "test": "t10k"}.get(part)
    if prefix is None:
        raise DataError(f"mnist(.., part={part!r})", "the parts are train and test")
    folder = path_of("mnist(folder)", folder)
    arrays = []
    for kind, axes in (("images", 3), ("labels", 1)):
        names = [f"{prefix}-{kind}{dash}idx{axes}-ubyte{z}" for dash in "-." for z in ("", ".gz")]
        there = [Path(folder) / n for n in names if (Path(folder) / n).exists()]
        if not there:
            raise DataError(f"mnist({str(folder)!r})", f"there is no {names[0]}, nor with .gz")
        arrays.append(idx(there[0]))
        if arrays[-1].ndim != axes:
            raise DataError(
                f"mnist({str(folder)!r})", f"{there[0].name} has {arrays[-1].ndim} axes, not {axes}"
            )
    images, labels = arrays
    return Dataset(
        images[..., None].astype(np.float32) / np.float32(255), labels.astype(np.int64), "mnist",
        citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-Based Learning "
        "Applied to Document Recognition",
    )  # fmt: skip


def cifar(*paths: str | Path, classes: int = 10) -> Dataset:
    """CIFAR-10 or CIFAR-100 from the files of its binary version.

    Shapes: images `float32[n, 32, 32, 3]` in [0, 1], labels `int64[n]`; of CIFAR-100 the fine ones.

    Args:
        paths: such as `data_batch_1.bin` .. `data_batch_5.bin`, or `train.bin`.
        classes: 10 or 100.

    Raises:
        DataError: a file is not there, is cut off, has a label out of range, or is a pickle: the
            Python version of CIFAR is one, and reading it would run whatever code it holds.

    References:
        A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
    """
    if classes not in (10, 100):
        raise DataError(f"cifar(.., classes={classes})", "there are CIFAR-10 and CIFAR-100")
    before = 1 if classes == 10 else 2  # the coarse label of CIFAR-100 stands first
    images, labels = [], []
    for path in paths:
        what = f"cifar({str(path)!r})"
        content = _content(what, path)
        if content[:1] == b"\x80" or Path(path).suffix in (".pkl", ".pickle"):
            raise DataError(
                what, "this is a pickle, which could run any code; it is not loaded",
                fix=f"the binary version, cifar-{classes}-binary.tar.gz",
            )  # fmt: skip
        if not content or len(content) % (3072 + before):
            raise DataError(
                what, f"its length is no multiple of {3072 + before} bytes, so it is cut off or "
                f"not the binary version of CIFAR-{classes}",
                operands=[("length", verbatim(f"{len(content):,} bytes"))],
            )  # fmt: skip
        rows = np.frombuffer(content, np.uint8).reshape(-1, 3072 + before)
        if (rows[:, before - 1] >= classes).any():
            i = int((rows[:, before - 1] >= classes).argmax())
            raise DataError(what, f"image {i} has the label {rows[i, before - 1]} of {classes}")
        labels.append(rows[:, before - 1].astype(np.int64))
        planes = rows[:, before:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        images.append(planes.astype(np.float32) / np.float32(255))
    if not images:
        raise DataError("cifar()", "there is no file")
    return Dataset(
        np.concatenate(images), np.concatenate(labels), f"cifar-{classes}",
        citation="A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
    )  # fmt: skip


def _content(what: str, path: str | Path) -> bytes:
    try:
        content = path_of(what, path).read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(what, f"its compression is damaged: {error}") from None
    except OSError as error:
        raise DataError(what, error.strerror or str(error)) from None
