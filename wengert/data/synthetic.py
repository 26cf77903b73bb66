"""Problems made of formulas: spirals, and sine curves to learn from a few points."""

from __future__ import annotations

import numpy as np

from wengert import random

from .asked import real, whole
from .dataset import Arrays, Dataset

__all__ = ["sines", "spirals"]


def spirals(
    n: int = 1500, *, arms: int = 2, turns: float = 1.5, noise: float = 0.03, seed: int = 0
) -> Dataset:
    """Points on spirals that wind around each other: which arm is a point on?

        x = r (cos phi, sin phi) + noise,   r in (0.05, 1),  phi = 2 pi (turns r + arm / arms)

    Shapes: images `float32[n, 2]`, labels `int64[n]` in 0 to arms - 1.

    Args:
        n: how many points.
        arms: how many spirals.
        turns: how often each winds around the middle.
        noise: the standard deviation of both coordinates.
        seed: of the points.

    Example:
        >>> d = spirals(90, arms=3)
        >>> d.images.shape, np.bincount(d.labels)
        ((90, 2), array([30, 30, 30]))

    References:
        K. Lang, M. Witbrock (1988), Learning to Tell Two Spirals Apart, Proceedings of the 1988
        Connectionist Models Summer School.
    """
    for name, count in (("n", n), ("arms", arms)):
        whole("spirals", name, count)
    real("spirals", "turns", turns, -np.inf)
    real("spirals", "noise", noise)
    rng = random.generator((seed, 1))
    labels = np.arange(n) % arms
    r = 0.05 + 0.95 * np.sqrt(rng.random(n))
    phi = 2 * np.pi * (turns * r + labels / arms)
    points = r[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    points += noise * rng.standard_normal((n, 2))
    return Dataset(
        points.astype(np.float32), labels, name=f"{arms} spirals",
        citation="K. Lang, M. Witbrock (1988), Learning to Tell Two Spirals Apart",
        licence="no rights: made of a formula",
    )  # fmt: skip


def sines(tasks: int = 1000, *, shots: int = 10, queries: int = 10, seed: int = 0) -> Arrays:
    """Tasks for learning to learn: a sine curve each, to be known from a few of its points.

        y = a sin(x + b),   a in (0.1, 5),  b in (0, pi),  x in (-5, 5)

    Shapes: four arrays `float64[tasks, shots or queries, 1]`: x and y to learn from, then x and y
    to be judged by.

    Example:
        >>> [a.shape for a in sines(100, shots=5).arrays]
        [(100, 5, 1), (100, 5, 1), (100, 10, 1), (100, 10, 1)]

    References:
        C. Finn, P. Abbeel, S. Levine (2017), Model-Agnostic Meta-Learning, section 5.1.
    """
    for name, count in (("tasks", tasks), ("shots", shots), ("queries", queries)):
        whole("sines", name, count)
    rng = random.generator((seed, 2))
    a = rng.uniform(0.1, 5.0, (tasks, 1, 1))
    b = rng.uniform(0.0, np.pi, (tasks, 1, 1))
    x = rng.uniform(-5.0, 5.0, (tasks, shots + queries, 1))
    y = a * np.sin(x + b)
    return Arrays(
        x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:], name="sines",
        citation="C. Finn, P. Abbeel, S. Levine (2017), Model-Agnostic Meta-Learning",
        licence="no rights: made of a formula",
    )  # fmt: skip
