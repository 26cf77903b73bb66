"""What sources and their kin are asked for: whole numbers, rows, files; refused by name."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import AxisError, DataError, OptionError

__all__ = ["path_of", "real", "rows_of", "source_of", "text_of", "whole"]


def whole(owner: str, name: str, value: Any, low: int = 1) -> int:
    """`value` as an int of at least `low`.

    Example:
        >>> whole("Loader", "batch_size", 2.5)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        wengert.OptionError: [WG301] Loader(batch_size=2.5): it must be a whole number, at least 1
          at:  ...
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= low:
        return int(value)
    raise OptionError(f"{owner}({name}={value!r})", f"it must be a whole number, at least {low}")


def real(owner: str, name: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """`value` as a finite float from `low` to `high`."""
    number = isinstance(value, int | float | np.integer | np.floating)
    if number and math.isfinite(value) and low <= value <= high:
        return float(value)
    bounds = "" if low == -math.inf else f", at least {low:g}"
    bounds += "" if high == math.inf else f" and at most {high:g}"
    raise OptionError(f"{owner}({name}={value!r})", f"it must be a finite number{bounds}")


def rows_of(what: str, n: int, rows: Any) -> NDArray[np.intp]:
    """The numbers of the examples that are meant: by numbers, a slice or a mask of n."""
    try:
        some = np.atleast_1d(np.arange(n)[rows])
    except IndexError:
        some = None
    if some is None or some.ndim > 1:
        raise no_rows(what, n, rows)
    return some


def no_rows(what: str, n: int, rows: Any) -> AxisError:
    """The error for rows that are not there."""
    there = f"from 0 to {n - 1}" if n else "and there are none"
    return AxisError(
        what, f"rows are numbers of examples, {there}, a slice or a mask of {n}",
        operands=[("rows", rows)],
    )  # fmt: skip


def source_of(what: str, source: Any) -> Any:
    """The source, if it is one."""
    if callable(getattr(source, "batch", None)) and hasattr(source, "__len__"):
        return source
    raise OptionError(
        what, "a source has a length and gives batch(rows)",
        operands=[("source", source)], fix="wg.data.Arrays(x, y) is a source",
    )  # fmt: skip


def path_of(what: str, path: Any) -> Path:
    """The path of a file or folder, if it is one that there could be."""
    if isinstance(path, os.PathLike | str) and "\0" not in (text := str(path)):
        return Path(text)
    raise DataError(what, "a path is a text, without a 0 in it", operands=[("path", path)])


def text_of(what: str, text: Any) -> str:
    """The text, if it is one."""
    if isinstance(text, str):
        return text
    fix = "text.decode()" if isinstance(text, bytes) else None
    raise DataError(what, "it takes a text", operands=[("text", text)], fix=fix)
