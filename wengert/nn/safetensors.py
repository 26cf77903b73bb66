"""Safetensors files, read and written with NumPy alone; nothing in them is ever executed.

    8 bytes     n, the length of the header
    n bytes     JSON: {"name": {"dtype", "shape", "data_offsets"}, .., "__metadata__": {text: text}}
    the rest    the numbers, little-endian, in row-major order

References:
    https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import CheckpointError, DTypeError, OutputError

__all__ = ["load", "write"]

KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
    "C64": "<c8",
}  # fmt: skip
NAMES = {np.dtype(code): name for name, code in KINDS.items() if name != "BF16"}
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
FIX = 'safetensors.torch.save_model(model, "model.safetensors") where PyTorch is installed'


def load(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(the arrays by name, the metadata) of a safetensors file.

    bfloat16 numbers come as float32, which holds each of them exactly.

    Raises:
        CheckpointError: the file cannot be read, is a pickle, or is damaged.

    Example:
        >>> import tempfile
        >>> place = f"{tempfile.mkdtemp()}/a.safetensors"
        >>> write(place, {"x": np.ones(2)}, {"epoch": "3"})
        >>> load(place)
        ({'x': array([1., 1.])}, {'epoch': '3'})
    """
    place = Path(path)
    what = f"load({str(place)!r})"
    if place.suffix in PICKLES:
        raise CheckpointError(
            what, "a pickle runs the code of whoever wrote it, and is not read", fix=FIX
        )
    try:
        content = place.read_bytes()
    except OSError as error:
        raise CheckpointError(what, error.strerror or str(error)) from None
    try:
        return _parsed(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if content[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):  # or a header's length
            raise CheckpointError(
                what, "this is a pickle of PyTorch's, which is not read", fix=FIX
            ) from None
        raise CheckpointError(
            what, f"not a whole safetensors file: {error or type(error).__name__}"
        ) from None


def _parsed(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise ValueError("it is shorter than its header says")
    header = json.loads(content[8 : 8 + size])
    about = header.pop("__metadata__", None) or {}
    data = memoryview(content)[8 + size :]
    arrays: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in header.items():
        kind, shape = entry["dtype"], tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        if kind not in KINDS:
            raise ValueError(f"{name} has numbers of the kind {kind}")
        dtype = np.dtype(KINDS[kind])
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, stop)):
            raise ValueError(f"{name} has a strange shape or place")
        if stop > len(data) or stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} does not fit its place")
        end = max(end, stop)
        a = np.frombuffer(data[start:stop], dtype).reshape(shape)
        arrays[name] = (a.astype("<u4") << 16).view("<f4") if kind == "BF16" else a.copy()
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes at the end belong to nothing")
    return arrays, about


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays by name; the file is whole or, after a failure, the one that was there before.

    Raises:
        DTypeError: a dtype that the format lacks, such as complex128.
        OutputError: the file cannot be written.
    """
    place = Path(path)
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = {str(k): str(v) for k, v in metadata.items()}
    parts: list[bytes] = []
    at = 0
    for name in sorted(arrays, key=lambda n: (-arrays[n].itemsize, n)):
        a = arrays[name]
        kind = NAMES.get(a.dtype.newbyteorder("<"))
        if kind is None:
            raise DTypeError(
                f"save({str(place)!r})", f"safetensors files have no {a.dtype}",
                operands=[(name, a)],
            )  # fmt: skip
        raw = np.ascontiguousarray(a, KINDS[kind]).tobytes()
        header[name] = {
            "dtype": kind, "shape": list(a.shape), "data_offsets": [at, at + len(raw)],
        }  # fmt: skip
        parts.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    beside = place.with_name(f".{place.name}.part")
    try:
        try:
            with open(beside, "wb") as file:
                file.write(len(text).to_bytes(8, "little"))
                file.write(text)
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, place)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"writing {place}", error.strerror or str(error)) from None
