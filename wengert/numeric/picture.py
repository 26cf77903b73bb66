"""Axes for the plots of this floor; matplotlib comes with the extra `train`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..extras import need

__all__ = ["COLOURS", "axes_of", "saved"]

# Okabe and Ito's colours, which stay apart for the colour-blind.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#9aa5b1")
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa5b1",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "wengert",
}


@contextmanager
def axes_of(title: str, size: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """(figure, axes) in the house's style."""
    matplotlib = need("matplotlib", extra="train")
    with matplotlib.rc_context(STYLE):
        figure = need("matplotlib.figure", extra="train").Figure(size, layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        yield figure, axes


def saved(figure: Any, path: Any) -> str:
    """The text of the SVG file, written to `path` if there is one."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    if path is not None:
        Path(path).write_text(out.getvalue())
    return out.getvalue()
