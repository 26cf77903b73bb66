"""What the metrics of a run look like: curves over the epochs, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from wengert.extras import need

__all__ = ["accuracy_and_loss", "gradient_norms"]

Row = Mapping[str, Any]

# Okabe and Ito's colours, which stay apart for the colour-blind.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa5b1",
    "axes.grid": True,
    "axes.labelcolor": "#3e4c59",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "wengert",
    "xtick.color": "#616e7c",
    "ytick.color": "#616e7c",
}


def accuracy_and_loss(rows: Sequence[Row], title: str = "") -> str:
    """The loss, and the accuracy on the training and validation parts, over the epochs.

    Args:
        rows: the objects of a `metrics.jsonl`, with `epoch`, `loss`, `train_accuracy` and
            `validation_accuracy`.
        title: a heading.

    Returns:
        The text of an SVG file; equal rows give equal text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = need("matplotlib", extra="train")
    with matplotlib.rc_context(STYLE):
        figure, (left, right) = _figure(title, 2)
        epochs = [row["epoch"] for row in rows]
        _line(left, epochs, [row["loss"] for row in rows], 0)
        _log_scale(left, [row["loss"] for row in rows])
        left.set(title="Loss", xlabel="epoch", ylabel="mean over the examples")
        for i, part in enumerate(("train", "validation")):
            shares = [100 * row[f"{part}_accuracy"] for row in rows]
            _line(right, epochs, shares, i, part)
        right.set(title="Accuracy", xlabel="epoch", ylabel="answered right, %")
        right.set_ylim(top=max(right.get_ylim()[1], 100.0))
        right.legend(loc="lower right")
        return _svg(figure)


def gradient_norms(rows: Sequence[Row], title: str = "") -> str:
    """The length of the gradient of each layer over the epochs.

    Layers that learn at very different speeds, and gradients that vanish or explode on the way
    back, show as lines far apart.

    Args:
        rows: the objects of a `metrics.jsonl`, with `epoch` and `grad_norm`.
        title: a heading.

    Returns:
        The text of an SVG file; equal rows give equal text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = need("matplotlib", extra="train")
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(title, 1)
        epochs = [row["epoch"] for row in rows]
        layers = list(rows[0]["grad_norm"]) if rows else []
        for i, layer in enumerate(layers):
            _line(axes, epochs, [row["grad_norm"][layer] for row in rows], i, layer)
        _log_scale(axes, [norm for row in rows for norm in row["grad_norm"].values()])
        axes.set(
            title="Gradient norm per layer",
            xlabel="epoch",
            ylabel="|dL/dw|, rms over the steps",
        )
        if layers:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="layer")
        return _svg(figure)


def _figure(title: str, panels: int) -> tuple[Any, Any]:
    # Without pyplot: no display, no global state, and half the time to import.
    figure = need("matplotlib.figure", extra="train").Figure((9.0, 3.6), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, color="#1f2933")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    integer = need("matplotlib.ticker", extra="train").MaxNLocator
    for a in axes:
        a.xaxis.set_major_locator(integer(nbins=8, integer=True))
    return figure, axes


def _line(axes: Any, x: Sequence[float], y: Sequence[float], i: int, label: str = "") -> None:
    marker = "o" if len(x) < 3 else None
    axes.plot(x, y, color=COLOURS[i % len(COLOURS)], label=label, marker=marker)


def _log_scale(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic axis for positive values, with plain numbers when they span little."""
    if not values or min(values) <= 0:
        return
    axes.set_yscale("log")
    ticker = need("matplotlib.ticker", extra="train")
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
    few = max(values) / min(values) < 20
    axes.yaxis.set_minor_formatter(
        ticker.FuncFormatter(lambda v, _: f"{v:g}") if few else ticker.NullFormatter()
    )
    if few:
        axes.yaxis.set_minor_locator(ticker.LogLocator(subs=(2.0, 5.0)))


def _svg(figure: Any) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
