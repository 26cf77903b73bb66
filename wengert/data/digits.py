"""Handwritten digits: 1,797 real ones, 8 by 8 pixels."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from .dataset import Dataset

__all__ = ["digits"]


def digits() -> Dataset:
    """The 1,797 handwritten digits of the UCI repository, 8 by 8 pixels each.

    Forms filled in by 13 people were scanned at 32 by 32 black-and-white pixels; each of the 8 by 8
    values counts the black pixels of a 4 by 4 block, 0 to 16. Here they are divided by 16.

    Shapes: images `float32[1797, 64]` in [0, 1], labels `int64[1797]` in 0 to 9.

    Licence: CC BY 4.0. The values are those of the file `optdigits.tes`, unchanged, stored as
    uint8.

    Example:
        >>> d = digits()
        >>> d.images.shape, d.labels[:5]
        ((1797, 64), array([0, 1, 2, 3, 4]))
        >>> [len(part) for part in d.split()]
        [1259, 179, 359]

    References:
        E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
        Learning Repository, https://doi.org/10.24432/C50P49.
    """
    with (
        (files("wengert.data") / "digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        return Dataset(
            images=stored["images"].reshape(-1, 64).astype(np.float32) / np.float32(16),
            labels=stored["labels"].astype(np.int64),
            name="digits",
            citation=str(stored["citation"]),
            licence=str(stored["licence"]),
        )
