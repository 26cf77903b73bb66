"""What the metrics of a run look like: curves over the epochs, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from wengert.extras import need

__all__ = ["accuracy_and_loss", "gradient_norms", "measures"]

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
    """The loss, and whatever else was measured on the training and validation parts, over epochs.

    Args:
        rows: the objects of a `metrics.jsonl`, with `epoch`, `loss`, and pairs such as
            `train_accuracy` and `validation_accuracy`, or `train_R2` and `validation_R2`.
        title: a heading.

    Returns:
        The text of an SVG file; equal rows give equal text.

    Raises:
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> rows = [{"epoch": e, "loss": 1 / e, "train_R2": 1 - 1 / e} for e in (1, 2, 3)]
        >>> accuracy_and_loss(rows, "regress").splitlines()[0]
        '<?xml version="1.0" encoding="utf-8" standalone="no"?>'
    """
    matplotlib = need("matplotlib", extra="train")
    with matplotlib.rc_context(STYLE):
        names = measures(rows)
        figure, (left, *others) = _figure(title, 1 + len(names), 4.5 * max(2, 1 + len(names)))
        epochs = [row["epoch"] for row in rows]
        shown = [row["loss"] for row in rows]
        _line(left, epochs, shown, 0, "training")
        if rows and all("validation_loss" in row for row in rows):
            held_out = [row["validation_loss"] for row in rows]
            _line(left, epochs, held_out, 1, "validation")
            shown = shown + held_out
            left.legend()
        _log_scale(left, shown)
        left.set(title="Loss", xlabel="epoch", ylabel="mean over the examples")
        for axes, name in zip(others, names):
            share = name == "accuracy"
            for i, part in enumerate(("train", "validation")):
                key = f"{part}_{name}"
                points = [(row["epoch"], row[key]) for row in rows if key in row]
                values = [100 * v if share else v for _, v in points]
                _line(axes, [e for e, _ in points], values, i, part)
            axes.set(title=name[:1].upper() + name[1:].replace("_", " "), xlabel="epoch")
            if share:
                axes.set(ylabel="answered right, %")
                axes.set_ylim(top=max(axes.get_ylim()[1], 100.0))
            axes.legend(loc="lower right" if share else "best")
        return _svg(figure)


def measures(rows: Sequence[Row]) -> list[str]:
    """What was measured besides the loss, in its order.

    Example:
        >>> measures([{"epoch": 1, "loss": 2.0, "train_loss": 2.0, "train_accuracy": 0.5}])
        ['accuracy']
    """
    found: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            part, _, name = key.partition("_")
            if (
                part in ("train", "validation")
                and name != "loss"
                and isinstance(value, int | float)
            ):
                found[name] = None
    return list(found)


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
            _line(axes, epochs, [row["grad_norm"][layer] for row in rows], i, layer or "the model")
        _log_scale(axes, [norm for row in rows for norm in row["grad_norm"].values()])
        axes.set(
            title="Gradient norm per layer",
            xlabel="epoch",
            ylabel="|dL/dw|, rms over the steps",
        )
        if layers:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="layer")
        return _svg(figure)


def _figure(title: str, panels: int, wide: float = 9.0) -> tuple[Any, Any]:
    # Without pyplot: no display, no global state, and half the time to import.
    figure = need("matplotlib.figure", extra="train").Figure((wide, 3.6), layout="constrained")
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
