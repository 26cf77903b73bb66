"""Grids of small grey pictures, as PNG files, with nothing but the standard library."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import ShapeError

__all__ = ["grid", "png"]


def png(grey: NDArray[Any]) -> bytes:
    """A grey picture as the content of a PNG file.

    Args:
        grey: `uint8[height, width]`, 0 is black.

    Example:
        >>> png(np.zeros((2, 3), np.uint8))[:4]
        b'\\x89PNG'

    References:
        W3C, Portable Network Graphics (PNG) Specification, third edition.
    """
    grey = np.asarray(grey)
    if grey.ndim != 2 or grey.dtype != np.uint8 or not grey.size:
        raise ShapeError("png(grey)", "it must be uint8[height, width]", operands=[("grey", grey)])
    h, w = grey.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = np.concatenate([np.zeros((h, 1), np.uint8), grey], axis=1)  # a filter type before each
    header = struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def grid(pictures: NDArray[Any], *, scale: int = 6, gap: int = 1) -> bytes:
    """Pictures in rows and columns, enlarged, as a PNG file.

    Args:
        pictures: `float[rows, columns, height, width]` in [0, 1]; 0 is drawn white.
        scale: how many pixels wide a pixel becomes.
        gap: between pictures, in their own pixels.

    Example:
        >>> from io import BytesIO
        >>> len(grid(np.zeros((2, 3, 8, 8)))) > 60
        True
    """
    x = np.asarray(pictures)
    if x.ndim != 4:
        raise ShapeError(
            "grid(pictures)", "they have the axes [rows, columns, height, width]",
            operands=[("pictures", x)],
        )  # fmt: skip
    x = np.pad(x.clip(0, 1), [(0, 0), (0, 0), (gap, gap), (gap, gap)])
    rows, columns, h, w = x.shape
    whole = x.transpose(0, 2, 1, 3).reshape(rows * h, columns * w)
    grey = (255 * (1 - whole)).round().astype(np.uint8)
    return png(grey.repeat(scale, axis=0).repeat(scale, axis=1))
