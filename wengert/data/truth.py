"""The truth table of exclusive or."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset

__all__ = ["xor"]


def xor() -> Dataset:
    """Exclusive or: the smallest problem that no network without a hidden layer can learn.

    Shapes: images `float64[4, 2]`, labels `float64[4, 1]`.

    Example:
        >>> xor().labels.ravel()
        array([0., 1., 1., 0.])

    References:
        M. Minsky, S. Papert (1969), Perceptrons, MIT Press.
        D. Rumelhart, G. Hinton, R. Williams (1986), Learning Internal Representations by Error
        Propagation, in Parallel Distributed Processing 1, MIT Press, chapter 8.
    """
    cases = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return Dataset(
        images=cases,
        labels=np.logical_xor(cases[:, :1], cases[:, 1:]).astype(np.float64),
        name="xor",
        citation="D. Rumelhart, G. Hinton, R. Williams (1986), Parallel Distributed Processing 1",
        licence="no rights: a truth table",
    )
