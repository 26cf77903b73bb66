"""How formulas of derivatives swell with the depth of a program, and its tape does not, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wengert.extras import need

from .curves import STYLE, _figure, _line, _log_scale, _svg

__all__ = ["swell"]

LINES = {
    "derivative": "written out",
    "simplified": "simplified",
    "shared": "common parts named",
    "tape": "the tape",
}


def swell(measured: Mapping[str, Any], title: str = "") -> str:
    """A panel for each measurement of `wg.symbolic.swell`: nodes over the depth.

    Args:
        measured: name of the family -> its `Swell`.
        title: a heading.

    Returns:
        The text of an SVG file; equal rows give equal text.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    matplotlib = need("matplotlib", extra="train")
    with matplotlib.rc_context(STYLE):
        figure, panels = _figure(title, max(1, len(measured)))
        for axes, (name, table) in zip(panels, measured.items()):
            drawn = []
            for i, (column, label) in enumerate(LINES.items()):
                rows = [row for row in table.rows if row[column]]
                counts = [row[column] for row in rows]
                _line(axes, [row["depth"] for row in rows], counts, i, label)
                drawn += counts
            _log_scale(axes, drawn)
            axes.set(title=name, xlabel="depth", ylabel="nodes")
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return _svg(figure)
