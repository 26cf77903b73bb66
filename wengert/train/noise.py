"""How noisy the gradient of a batch is, and how large a batch is worth its cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import random, tree
from wengert.errors import ArgumentError, OptionError
from wengert.nn import Module
from wengert.trace import Tensor, no_grad
from wengert.types import shape_of

__all__ = ["GradientNoiseReport", "gradient_noise"]


@dataclass(frozen=True)
class GradientNoiseReport:
    """What `gradient_noise` measured. `str()` is a table.

    Args:
        sizes: the batch sizes m.
        variances: for each, the mean of |g_m - g|^2 over batches drawn with replacement.
        errors: the standard error of each.
        sigma2: the fitted variance of one example's gradient, tr(Sigma).
        slope, slope_error: of log variance against log m, and its standard error; -1 in theory.
        norm2: |g|^2 of the gradient g over all examples.
        scale: tr(Sigma) / |g|^2, McCandlish's simple noise scale.
    """

    sizes: tuple[int, ...]
    variances: tuple[float, ...]
    errors: tuple[float, ...]
    sigma2: float
    slope: float
    slope_error: float
    norm2: float
    scale: float

    def __str__(self) -> str:
        rows = [
            f"  {m:>8,}  {v:>11.4g} +- {e:<9.2g}  {self.sigma2 / m:>11.4g}"
            for m, v, e in zip(self.sizes, self.variances, self.errors)
        ]
        return "\n".join([
            "  examples  variance of the gradient  sigma^2 / m", *rows,
            f"  slope {self.slope:.3f} +- {self.slope_error:.3f}, noise scale {self.scale:.4g}",
        ])  # fmt: skip


def gradient_noise(
    model: Module,
    loss: Callable[..., Any],
    data: Sequence[Any],
    sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    *,
    draws: int = 200,
    rng: Any = None,
) -> GradientNoiseReport:
    """The variance of a batch's gradient against its size m, with sigma^2 / m fitted to it.

        Var(g_m) = E |g_m - g|^2 = tr(Sigma) / m,      B = tr(Sigma) / |g|^2

    with g over all of `data`, and batches drawn with replacement. Below about B examples a batch
    twice as large is worth nearly two steps; far above it is worth hardly more than one. Each
    example's gradient is taken once, so the loss has to be a mean over examples, without batch
    norm; all these gradients are held, a row of parameters for each example. Parameters,
    gradients and buffers are left alone.

    Args:
        model: where its parameters stand.
        loss: (model, *batch) -> the mean loss.
        data: the arrays of all examples, such as (x, y).
        sizes: the batch sizes.
        draws: how many batches of each size.
        rng: a generator, or a seed; None for the default stream.

    Raises:
        OptionError: sizes or draws that are too few or too small.
        ArgumentError: fewer than two examples, or arrays of different lengths.

    Example:
        >>> from wengert import nn
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> model = nn.Linear(3, 1, rng=0, dtype=np.float64)
        >>> report = gradient_noise(model, lambda m, x: (m(x) ** 2).mean(), (x,), rng=0)
        >>> abs(report.slope + 1) < 5 * report.slope_error
        True

    References:
        S. McCandlish et al. (2018), An Empirical Model of Large-Batch Training, arXiv:1812.06162.
    """
    ms = [int(m) for m in sizes]
    if len(set(ms)) < 2 or min(ms) < 1 or draws < 2:
        raise OptionError(
            "gradient_noise(sizes, draws)", "at least two sizes from 1 on, and two draws of each",
            operands=[("sizes", list(sizes)), ("draws", draws)],
        )  # fmt: skip
    parts = tuple(data) if isinstance(data, tuple | list) else (data,)
    lengths = {shape_of(a)[0] for a in tree.leaves(parts)}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ArgumentError(
            "gradient_noise(model, loss, data)", "arrays of one length, of two examples or more",
            operands=[(f"data[{i}]", a) for i, a in enumerate(tree.leaves(parts))],
        )  # fmt: skip
    (n,) = lengths
    each = per_example(model, loss, parts, n)
    g = each.mean(axis=0)
    away = each - g
    stream = random.default() if rng is None else random.generator(rng)
    variances, errors = [], []
    for m in ms:
        squares = np.empty(draws)
        for k in range(draws):
            counts = np.bincount(stream.integers(0, n, m), minlength=n)
            d = counts @ away / m
            squares[k] = d @ d
        variances.append(float(squares.mean()))
        errors.append(float(squares.std(ddof=1) / math.sqrt(draws)))
    if min(variances) <= 0.0:
        raise ArgumentError(
            "gradient_noise(model, loss, data)", "every example has the same gradient: no noise"
        )
    sigma2, slope, slope_error = fitted(ms, variances, errors)
    norm2 = float(g @ g)
    scale = sigma2 / norm2 if norm2 else math.inf
    return GradientNoiseReport(
        tuple(ms), tuple(variances), tuple(errors), sigma2, slope, slope_error, norm2, scale
    )


def per_example(model: Module, loss: Callable[..., Any], data: Any, n: int) -> NDArray[np.float64]:
    """The gradient of each example's own loss, a row for each."""
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.grad for p in trained]
    buffers = {name: np.array(t.value()) for name, t in model.named_buffers()}
    rows = np.zeros((n, sum(p.size for p in trained)))
    try:
        for i in range(n):
            for p in trained:
                p.grad = None
            value = loss(model, *tree.map(lambda a, i=i: a[i : i + 1], data))
            if not isinstance(value, Tensor) or value.node is None:
                raise ArgumentError(
                    "gradient_noise(model, loss, data)", "the loss is a recorded number",
                    operands=[("loss", value)],
                )  # fmt: skip
            value.backward()
            flat = [
                np.zeros(p.size) if p.grad is None else np.ravel(p.grad.value()) for p in trained
            ]
            rows[i] = np.concatenate(flat)
    finally:
        for p, g in zip(trained, before):
            p.grad = g
        with no_grad():
            for name, t in model.named_buffers():
                t[...] = buffers[name]
    return rows


def fitted(
    sizes: Sequence[int], variances: Sequence[float], errors: Sequence[float]
) -> tuple[float, float, float]:
    """(sigma^2, slope, its standard error): log v = a + slope log m by weighted least squares.

    sigma^2 is the fit with the slope held at -1.

    Example:
        >>> [round(v, 9) for v in fitted([1, 2, 4], [3.0, 1.5, 0.75], [0.1, 0.05, 0.025])]
        [3.0, -1.0, 0.034004648]
    """
    m, v, e = (np.asarray(a, np.float64) for a in (sizes, variances, errors))
    w = (v / np.maximum(e, 1e-300)) ** 2  # 1 / variance of log v
    x, y = np.log(m), np.log(v)
    middle = np.average(x, weights=w)
    spread = float(np.sum(w * (x - middle) ** 2))
    slope = float(np.sum(w * (x - middle) * y) / spread)
    return math.exp(float(np.average(y + x, weights=w))), slope, 1.0 / math.sqrt(spread)
