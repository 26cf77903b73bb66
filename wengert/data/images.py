"""Pictures in folders, one folder for each class, decoded when they are asked for."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import DataError, OptionError, verbatim
from wengert.extras import need

from .asked import path_of, rows_of
from .loader import Batch

__all__ = ["ImageFolder"]

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class ImageFolder:
    """Pictures by class: `folder/cat/1.png` is a cat.

    Shapes: a batch is (`float32[n, height, width, channels]` in [0, 1], `int64[n]`).

    Args:
        folder: it holds a folder for each class; the classes are numbered in the order of their
            names. Pictures in deeper folders count too.
        size: (height, width) that every picture is brought to: the shorter side is fitted, what
            sticks out on both sides is cut off. None if all are equally large already.
        channels: 1 for grey, 3 for colours, 4 with transparency.
        name, citation, licence: where they come from.

    Raises:
        DataError: there are no classes or no pictures; on reading a batch, a picture cannot be
            decoded or has another size. The message names the file.
        MissingExtraError: Pillow is not installed.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for kind, grey in (("day", 255), ("night", 0)):
        ...     (root / kind).mkdir()
        ...     Image.new("L", (6, 4), grey).save(root / kind / "1.png")
        >>> pictures = ImageFolder(root, channels=1)
        >>> x, y = pictures.batch(np.array([1, 0]))
        >>> x.shape, x.mean(axis=(1, 2, 3)).tolist(), y.tolist(), pictures.classes
        ((2, 4, 6, 1), [0.0, 1.0], [1, 0], ['day', 'night'])
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        size: tuple[int, int] | None = None,
        channels: int = 3,
        name: str | None = None,
        citation: str = "",
        licence: str = "",
    ) -> None:
        self.what = f"ImageFolder({str(folder)!r})"
        self.folder, self.size = path_of(self.what, folder), size
        pair = isinstance(size, tuple | list) and len(size) == 2
        if size is not None and not (
            pair and all(isinstance(n, int | np.integer) and n > 0 for n in size)
        ):
            raise OptionError(
                f"ImageFolder(size={size!r})", "it is (height, width), whole numbers above 0"
            )
        if channels not in (1, 3, 4):
            raise DataError(f"ImageFolder(channels={channels})", "1, 3 or 4 channels")
        self.mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
        self.name, self.citation, self.licence = name or self.folder.name, citation, licence
        if not self.folder.is_dir():
            raise DataError(self.what, "there is no such folder")
        self.classes = sorted(p.name for p in self.folder.iterdir() if p.is_dir())
        found = [
            (path, i)
            for i, kind in enumerate(self.classes)
            for path in sorted((self.folder / kind).rglob("*"))
            if path.suffix.lower() in KINDS
        ]
        if not found:
            raise DataError(
                self.what, "there are no pictures in it; there should be a folder for each class",
                operands=[("folders", verbatim(", ".join(self.classes[:8]) or "none"))],
            )  # fmt: skip
        self.paths = [path for path, _ in found]
        self.labels = np.array([i for _, i in found])
        self.pillow = need("PIL.Image", extra="images")
        self.ops = need("PIL.ImageOps", extra="images")
        self.shape = self.read(0).shape if size is None else (*size, channels)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> NDArray[np.float32]:
        """One picture."""
        path = self.paths[i]
        try:
            with self.pillow.open(path) as opened:
                picture = self.ops.exif_transpose(opened).convert(self.mode)
                if self.size is not None:
                    h, w = self.size
                    picture = self.ops.fit(picture, (w, h), self.pillow.Resampling.BILINEAR)
                pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
        except (OSError, SyntaxError, ValueError, self.pillow.DecompressionBombError) as error:
            raise DataError(
                self.what, "a picture cannot be decoded",
                operands=[("file", verbatim(str(path))), ("reason", verbatim(str(error)))],
            ) from None  # fmt: skip
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def batch(self, rows: Any) -> Batch:
        """These pictures, decoded now, and their classes."""
        rows = rows_of("ImageFolder.batch(rows)", len(self), rows)
        out = np.empty((len(rows), *self.shape), np.float32)
        for row, i in zip(out, rows, strict=True):
            pixels = self.read(i)
            if pixels.shape != self.shape:
                raise DataError(
                    self.what, "a picture has another size than the first one",
                    operands=[
                        (self.paths[i].name, verbatim(f"{pixels.shape[0]} x {pixels.shape[1]}")),
                        (self.paths[0].name, verbatim(f"{self.shape[0]} x {self.shape[1]}")),
                    ],
                    fix=f"size=({self.shape[0]}, {self.shape[1]})",
                )  # fmt: skip
            row[...] = pixels
        return out, self.labels[rows]

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the names and contents of all files, and of how they are read."""
        digest = hashlib.sha256(f"{self.size}{self.mode}".encode())
        for path in self.paths:
            digest.update(path.relative_to(self.folder).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()
