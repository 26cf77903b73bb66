"""The noise of gradients against the size of batches, as SVG."""

from __future__ import annotations

from wengert.extras import need
from wengert.train.noise import GradientNoiseReport

from .curves import COLOURS, STYLE, _figure, _svg

__all__ = ["gradient_noise_curve"]


def gradient_noise_curve(report: GradientNoiseReport, title: str = "") -> str:
    """The measured variances with their standard errors, and sigma^2 / m, both axes logarithmic.

    Args:
        report: what `wg.train.gradient_noise` gave.
        title: a heading.

    Returns:
        The text of an SVG file; equal reports give equal text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = need("matplotlib", extra="train")
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(title, 1)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.errorbar(
            report.sizes, report.variances, report.errors, fmt="o", color=COLOURS[0],
            label="measured",
        )  # fmt: skip
        line = [report.sigma2 / m for m in report.sizes]
        axes.plot(report.sizes, line, color=COLOURS[1], label="sigma^2 / m")
        axes.set(
            title=f"slope {report.slope:.3f} +- {report.slope_error:.3f}",
            xlabel="examples in a batch", ylabel="variance of the gradient",
        )  # fmt: skip
        axes.legend(loc="upper right")
        return _svg(figure)
