"""Random changes of a batch, for the `transform` of a `Loader`, which keys their generator.

Each is a function (batch, generator) -> batch that changes the first array of the batch; the same
seed, epoch and number of the batch give the same changes, also after a resume.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wengert.errors import AxisError, OptionError, ShapeError

from .asked import real, whole
from .loader import Batch

__all__ = ["Transform", "chain", "flip", "noise", "shift"]

Transform = Callable[[Batch, np.random.Generator], Batch]


def chain(*transforms: Transform) -> Transform:
    """One change after the other.

    Example:
        >>> both = chain(noise(0.1), flip())
        >>> both((np.zeros((2, 3, 3, 1)),), np.random.default_rng(0))[0].shape
        (2, 3, 3, 1)
    """
    for i, transform in enumerate(transforms):
        if not callable(transform):
            raise OptionError(
                "chain(*transforms)", "transforms are functions of a batch and a generator",
                operands=[(f"transforms[{i}]", transform)],
            )  # fmt: skip

    def all_of(batch: Batch, rng: np.random.Generator) -> Batch:
        for transform in transforms:
            batch = transform(batch, rng)
        return batch

    return all_of


def shift(pixels: int = 1, fill: float = 0.0) -> Transform:
    """Each picture moved by up to so many pixels along both axes; what comes in is `fill`.

    Shapes: the first array `[n, height, width, ...]`.

    Example:
        >>> x = np.arange(9.0).reshape(1, 3, 3)
        >>> shift(1)((x,), np.random.default_rng(0))[0][0]
        array([[3., 4., 5.],
               [6., 7., 8.],
               [0., 0., 0.]])
    """
    whole("shift", "pixels", pixels, 0)
    real("shift", "fill", fill, -np.inf)

    def shifted(batch: Batch, rng: np.random.Generator) -> Batch:
        x = _pictures("shift", batch)
        n, h, w = x.shape[:3]
        around = [(0, 0), (pixels, pixels), (pixels, pixels), *[(0, 0)] * (x.ndim - 3)]
        wide = np.pad(x, around, constant_values=fill)
        down, right = rng.integers(0, 2 * pixels + 1, (2, n))
        rows = (down[:, None] + np.arange(h))[:, :, None]
        columns = (right[:, None] + np.arange(w))[:, None, :]
        return (wide[np.arange(n)[:, None, None], rows, columns], *batch[1:])

    return shifted


def flip(axis: int = 2, share: float = 0.5) -> Transform:
    """Some pictures mirrored along an axis; 2 is left and right.

    Args:
        axis: of the array `[n, height, width, ...]`.
        share: how probable it is.
    """
    whole("flip", "axis", axis, -64)
    real("flip", "share", share, 0.0, 1.0)

    def flipped(batch: Batch, rng: np.random.Generator) -> Batch:
        x = _pictures("flip", batch)
        if not -x.ndim < axis < x.ndim or not axis:
            raise AxisError(
                f"flip(axis={axis})", f"a picture's own axes are 1 to {x.ndim - 1}: 1 is up and "
                "down, 2 left and right",
                operands=[("batch[0]", x)],
            )  # fmt: skip
        some = rng.random(len(x)) < share
        y = x.copy()
        y[some] = np.flip(x[some], axis)
        return (y, *batch[1:])

    return flipped


def noise(deviation: float) -> Transform:
    """Normally distributed noise on every number.

    Example:
        >>> y, label = noise(0.5)((np.zeros(10_000), 3), np.random.default_rng(0))
        >>> round(float(y.std()), 1), label
        (0.5, 3)
    """
    real("noise", "deviation", deviation)

    def noisy(batch: Batch, rng: np.random.Generator) -> Batch:
        x = np.asarray(batch[0])
        more = deviation * rng.standard_normal(x.shape)
        return ((x + more).astype(x.dtype if x.dtype.kind == "f" else float), *batch[1:])

    return noisy


def _pictures(what: str, batch: Batch) -> Any:
    x = np.asarray(batch[0])
    if x.ndim < 3:
        raise ShapeError(
            f"{what}(..)(batch, rng)", "pictures have the axes [n, height, width, ...]",
            operands=[("batch[0]", x, f"{x.ndim} axes")],
        )  # fmt: skip
    return x
