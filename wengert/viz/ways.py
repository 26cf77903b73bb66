"""Plots of the ways to one derivative: error over the step, error over time, growth with size."""

from __future__ import annotations

from typing import Any

from wengert.comparison import Comparison, Scaling
from wengert.numeric.picture import COLOURS, axes_of, saved
from wengert.numeric.steps import plot_steps

__all__ = ["plot_comparison", "plot_scaling", "plot_steps"]


def plot_comparison(found: Comparison, path: Any = None) -> str:
    """Error over time, a point for each way of `wg.compare`, as SVG."""
    return found.plot(path)


def plot_scaling(found: Comparison | Scaling, path: Any = None) -> str:
    """How forward mode grows with the inputs and reverse mode with the outputs.

    Args:
        found: the result of `wg.compare(f, x, scaling=True)`, or its `.scaling`.
        path: where to write the SVG file; None only returns its text.

    Raises:
        MissingExtraError: matplotlib is not installed (extra `train`).

    Example:
        >>> import numpy as np
        >>> growth = Scaling([(1, 1e-3, 2e-3), (64, 9e-3, 2e-3)], [(1, 1e-3, 1e-3)])
        >>> "forward mode over inputs" in plot_scaling(growth)
        True
    """
    growth = found.scaling if isinstance(found, Comparison) else found
    with axes_of("Time of a Jacobian", (6.4, 4.2)) as (figure, axes):
        for style, word in (("-", "inputs"), ("--", "outputs")):
            rows = getattr(growth, word)
            for k, mode in ((1, "forward mode"), (2, "reverse mode")):
                axes.loglog(
                    [r[0] for r in rows], [r[k] for r in rows], style, marker="o",
                    color=COLOURS[k], label=f"{mode} over {word}",
                )  # fmt: skip
        axes.set(xlabel="number of inputs, or of outputs", ylabel="seconds")
        axes.legend(fontsize=9)
        return saved(figure, path)
