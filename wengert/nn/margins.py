"""Losses of margins, distances and angles as layers. Classes and channels are the last axis."""

from __future__ import annotations

from typing import ClassVar

import numpy as np  # noqa: F401 - for the examples

from . import functional as F
from .losses import RULES, Loss
from .options import Optioned, number

__all__ = [
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "HingeEmbeddingLoss",
    "HingeLoss",
    "MarginRankingLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "PairwiseDistance",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class HingeLoss(Loss):
    """max(0, 1 - target prediction), for targets 1 and -1; see `F.hinge_loss`.

        mean_i max(0, 1 - target_i prediction_i)

    Shapes and reduction: those of `MSELoss`.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: another target.

    Example:
        >>> HingeLoss(reduction="none")(np.array([0.5, 2.0]), np.array([1, -1]))
        array([0.5, 3. ])
    """

    call = staticmethod(F.hinge_loss)
    options: ClassVar = {"reduction": "mean"}


class SoftMarginLoss(Loss):
    """A hinge without a corner, for targets 1 and -1; see `F.soft_margin_loss`.

        mean_i log(1 + e^(-target_i prediction_i))

    Shapes, reduction and errors: those of `HingeLoss`.

    Example:
        >>> round(SoftMarginLoss()(np.array([0.0]), np.array([1])).item(), 6)
        0.693147
    """

    call = staticmethod(F.soft_margin_loss)
    options: ClassVar = {"reduction": "mean"}


class HingeEmbeddingLoss(Loss):
    """Distances that should be small or large; see `F.hinge_embedding_loss`.

        distance where the target is 1, max(0, margin - distance) where it is -1

    Shapes and errors: those of `HingeLoss`.

    Args:
        margin: the distance from which on nothing is lost.
        reduction: "mean", "sum" or "none".

    Example:
        >>> HingeEmbeddingLoss()(np.array([0.25, 0.25]), np.array([1, -1])).item()
        0.5
    """

    call = staticmethod(F.hinge_embedding_loss)
    options: ClassVar = {"margin": 1.0, "reduction": "mean"}
    ahead = 1


class MarginRankingLoss(Loss):
    """Which of two numbers is the larger one; see `F.margin_ranking_loss`.

        max(0, margin - target (a - b))

    Shapes: called with a, b and target (1: a is larger, -1: b is), all alike.

    Args:
        margin: by how much.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: another target.

    Example:
        >>> MarginRankingLoss(0.5)(np.array([1.0]), np.array([2.0]), np.array([1])).item()
        1.5
    """

    call = staticmethod(F.margin_ranking_loss)
    options: ClassVar = {"margin": 0.0, "reduction": "mean"}
    ahead = 1


class MultiMarginLoss(Loss):
    """The hinges of all wrong classes; see `F.multi_margin_loss`.

        sum over j != b of weight[b] max(0, margin - scores[b] + scores[j])^p / k

    Shapes: scores `[n, k]`, the classes last; labels b `[n]`; weight `[k]`.

    Args:
        p: 1 or 2.
        margin: how far the right class should be above.
        weight: a factor for each class; a buffer.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError, DTypeError, AxisError: labels of another shape, not integers, or outside [0, k).

    Example:
        >>> MultiMarginLoss()(np.array([[0.0, 0.5]]), np.array([1])).item()
        0.25
    """

    call = staticmethod(F.multi_margin_loss)
    options: ClassVar = {"p": 1, "margin": 1.0, "weight": None, "reduction": "mean"}
    rules: ClassVar = {**RULES, "p": (lambda v: number(v) and v in (1, 2), "p is 1 or 2")}
    ahead = 3


class MultiLabelSoftMarginLoss(Loss):
    """Several classes at a time; see `F.multilabel_soft_margin_loss`.

        -(1/k) sum_j weight_j (target_j log sigmoid(x_j) + (1 - target_j) log sigmoid(-x_j))

    Shapes: scores and target `[.., k]`, the classes last; weight `[k]`.

    Args:
        weight: a factor for each class; a buffer.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: shapes that do not fit.

    Example:
        >>> round(MultiLabelSoftMarginLoss()(np.zeros((1, 2)), np.array([[0, 1]])).item(), 6)
        0.693147
    """

    call = staticmethod(F.multilabel_soft_margin_loss)
    options: ClassVar = {"weight": None, "reduction": "mean"}
    ahead = 1


class TripletMarginLoss(Loss):
    """An anchor nearer to the positive than to the negative; see `F.triplet_margin_loss`.

        max(0, margin + |anchor - positive + eps|_p - |anchor - negative + eps|_p)

    Shapes: called with anchor, positive and negative, all `[.., d]`.

    Args:
        margin: by how much.
        p: of the norm.
        eps: what is added to every difference; `F.triplet_margin_loss` starts from 0.
        swap: the negative may be nearer to the positive, and that distance then counts.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> a, b, c = np.array([[[0.0, 0.0]], [[3.0, 4.0]], [[0.0, 2.0]]])
        >>> round(TripletMarginLoss()(a, b, c).item(), 4)
        4.0
    """

    call = staticmethod(F.triplet_margin_loss)
    options: ClassVar = {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False, "reduction": "mean"}
    ahead = 4


class TripletMarginWithDistanceLoss(Loss):
    """`TripletMarginLoss` with another distance; see `F.triplet_margin_with_distance_loss`.

        max(0, margin + f(anchor, positive) - f(anchor, negative))

    Shapes: called with anchor, positive and negative, all `[.., d]`.

    Args:
        distance_function: f, a function or a module, whose parameters are found; None for
            `PairwiseDistance`.
        margin, swap, reduction: as in `TripletMarginLoss`.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> city = lambda a, b: np.abs(a - b).sum(-1)
        >>> a, b, c = np.array([[[0.0, 0.0]], [[1.0, 1.0]], [[2.0, 0.5]]])
        >>> TripletMarginWithDistanceLoss(distance_function=city)(a, b, c).item()
        0.5
    """

    call = staticmethod(F.triplet_margin_with_distance_loss)
    options: ClassVar = {
        "distance_function": None, "margin": 1.0, "swap": False, "reduction": "mean",
    }  # fmt: skip


class CosineEmbeddingLoss(Loss):
    """Angles that should be small or large; see `F.cosine_embedding_loss`.

        1 - cos(a, b) where the target is 1, max(0, cos(a, b) - margin) where it is -1

    Shapes: called with a and b `[.., d]` and target `[..]`.

    Args:
        margin: the cosine below which nothing is lost.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: shapes that do not fit.
        ArgumentError: another target.

    Example:
        >>> a, b = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [0.0, 1.0]])
        >>> round(CosineEmbeddingLoss()(a, b, np.array([1, -1])).item(), 6)
        0.02
    """

    call = staticmethod(F.cosine_embedding_loss)
    options: ClassVar = {"margin": 0.0, "reduction": "mean"}
    ahead = 1


# ------------------------------------------------------------------ distances and angles


class CosineSimilarity(Optioned):
    """The cosine of the angle between vectors along an axis; see `F.cosine_similarity`.

        <a, b> / (max(|a|, eps) max(|b|, eps))

    Shapes: a and b `[.., d]`, the channels last, y `[..]`.

    Args:
        axis: that of the vectors; -1, as channels come last, where PyTorch has dim=1.
        eps: the smallest length that is divided by.

    Raises:
        ShapeError: shapes that do not broadcast.
        AxisError: an axis that a or b has not.

    Example:
        >>> CosineSimilarity()(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
        array([0.96])
    """

    call = staticmethod(F.cosine_similarity)
    options: ClassVar = {"axis": -1, "eps": 1e-8}
    rules = RULES


class PairwiseDistance(Optioned):
    """The length of the difference of vectors; see `F.pairwise_distance`.

        |a - b + eps|_p

    Shapes: a and b `[.., d]`, the channels last, y `[..]`.

    Args:
        p: of the norm.
        eps: what is added to every difference.
        keepdims: keep the last axis, with one number.

    Raises:
        ShapeError: shapes that do not broadcast.

    Example:
        >>> PairwiseDistance(eps=0.0)(np.array([[3.0, 0.0]]), np.array([[0.0, 4.0]]))
        array([5.])
    """

    call = staticmethod(F.pairwise_distance)
    options: ClassVar = {"p": 2.0, "eps": 1e-6, "keepdims": False}
    rules = RULES
