"""Tables in CSV files, as numbers: every cell is read as what it is, or refused by its place."""

from __future__ import annotations

import csv as reader
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import DataError, OptionError, UnknownNameError, verbatim

from .asked import path_of
from .dataset import Dataset

__all__ = ["Table", "csv"]

MISSING = ("", "NA", "NaN", "nan", "N/A", "null", "?")


class Table(Dataset):
    """A CSV file as numbers; `columns` names those of the inputs.

    Args:
        categories: column -> its words, in the order of their numbers.
        classes: the words of the target, in the order of their numbers; empty for numbers.
    """

    categories: Mapping[str, Sequence[str]] = {}


def csv(
    path: str | Path,
    target: str | int = -1,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    missing: Sequence[str] = MISSING,
    fill: str = "refuse",
    drop: Sequence[str] = (),
    citation: str = "",
    licence: str = "",
) -> Table:
    """A table as a data set: numbers as they are, words as one column for each, one of them 1.

    A column is one of words if its first known cell is no number; from there on a cell of the other
    kind is an error that names its line and column.

    Shapes: images `float64[n, d]`; labels `int64[n]` for a target of words, else `float64[n, 1]`.

    Args:
        path: a CSV file in UTF-8.
        target: the column to be predicted, by name or number; negative numbers count from the end.
        header: whether the first line names the columns; None to look: it does if no cell of it is
            a number.
        delimiter: between the cells; None to look for commas, semicolons or tabs.
        missing: what an unknown cell says.
        fill: for unknown numbers: "refuse" them, leave out their "row", or take the "mean" or the
            "median" of the column, or "nan". An unknown word is a word of its own but for "row" and
            "refuse". A row with an unknown target is refused or left out.
        drop: columns to leave out, by name.

    Raises:
        DataError: the file is not there or not text, lines differ in length, a number was expected
            and there is none, or a cell is unknown.
        UnknownNameError: there is no such column.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/pets.csv"
        >>> text = "kind,weight,age\\ncat,4.0,3\\ndog,20,5\\ncat,?,1\\n"
        >>> _ = Path(path).write_text(text)
        >>> pets = csv(path, target="age", fill="mean")
        >>> pets.columns, pets.images.tolist()
        (['kind=cat', 'kind=dog', 'weight'], [[1.0, 0.0, 4.0], [0.0, 1.0, 20.0], [1.0, 0.0, 12.0]])
    """
    what = f"csv({str(path)!r})"
    drop = (drop,) if isinstance(drop, str) else drop
    if not isinstance(target, str | int):
        raise OptionError(f"{what}: target={target!r}", "a column is told by its name or number")
    lines, rows = _cells(what, path_of(what, path), delimiter)
    if header is None:
        header = not any(_is_number(c) for c in rows[0]) and len(rows) > 1
    names = [c.strip() for c in rows[0]] if header else [f"{i}" for i in range(len(rows[0]))]
    if header:
        lines, rows = lines[1:], rows[1:]
        if len(set(names)) < len(names):
            twice = next(n for i, n in enumerate(names) if n in names[:i])
            raise DataError(what, f"two columns are called {twice!r}")
    if not rows:
        raise DataError(what, "there are no rows under the header")
    find("column", names, *drop)
    if isinstance(target, int):
        if not -len(names) <= target < len(names):
            raise UnknownNameError(f"{what}: target={target}", f"there are {len(names)} columns")
        target = names[target]
    find("column", names, target)
    keep = [n for n in names if n not in drop or n == target]
    if fill not in ("refuse", "row", "mean", "median", "nan"):
        raise UnknownNameError(f"{what}: fill={fill!r}", "refuse, row, mean, median or nan")

    cells = {n: [r[i].strip() for r in rows] for i, n in enumerate(names) if n in keep}
    known = {n: np.array([c not in missing for c in column]) for n, column in cells.items()}
    use = _in_use(what, lines, known, target, fill)
    kept = [line for line, used in zip(lines, use) if used]
    made = _Columns([], [], {}, np.zeros((len(kept), 0)), [])
    for name, column in cells.items():
        used = [c for c, u in zip(column, use) if u]
        _add(made, f"{what}: column {name!r}", name, kept, used, known[name][use], target, fill)
    if not made.inputs:
        raise DataError(what, "there is no column besides the target")
    table = Table(np.stack(made.inputs, 1), made.labels, Path(path).stem, citation, licence)
    table.columns, table.classes, table.categories = made.names, made.classes, made.categories
    return table


@dataclass
class _Columns:
    """What is made of the columns, one after the other."""

    inputs: list[NDArray[Any]]
    names: list[str]
    categories: dict[str, list[str]]
    labels: NDArray[Any]
    classes: list[str]


def _in_use(
    what: str, lines: list[int], known: Mapping[str, NDArray[Any]], target: str, fill: str
) -> NDArray[np.bool_]:
    """Which rows are kept."""
    use = np.ones(len(lines), bool)
    for name, there in known.items():
        if fill == "refuse" and not there.all():
            others = int((~there).sum()) - 1
            more = f", and so are {others} more cells of the column" if others else ""
            line = lines[int((~there).argmax())]
            raise DataError(
                what, f"line {line}, column {name!r} is unknown{more}",
                fix='fill="mean", "median", "row" or "nan"',
            )  # fmt: skip
        if fill == "row" or name == target:
            use &= there
    if not use.any():
        raise DataError(what, "no row has all its cells")
    return use


def _add(
    made: _Columns,
    what: str,
    name: str,
    lines: list[int],
    cells: list[str],
    known: NDArray[np.bool_],
    target: str,
    fill: str,
) -> None:
    """One more column, of numbers or of words."""
    first = next((c for c, k in zip(cells, known) if k), "0")
    numbers = _is_number(first)
    for i in np.nonzero(known)[0]:
        if _is_number(cells[i]) != numbers:
            raise DataError(
                what, f"line {lines[i]}: " + ("a number was expected" if numbers
                                              else "a number among words"),
                operands=[("cell", verbatim(repr(cells[i])))],
                fix=f"missing=[{cells[i]!r}], if it is unknown" if numbers else None,
            )  # fmt: skip
    if numbers:
        values = np.array([float(c) if k else np.nan for c, k in zip(cells, known)])
        if name == target:
            made.labels = values[:, None]
            return
        if fill in ("mean", "median") and known.any():
            values[~known] = getattr(np, fill)(values[known])
        made.inputs.append(values)
        made.names.append(name)
        return
    said = [c if k else "unknown" for c, k in zip(cells, known)]
    words, codes = np.unique(said, return_inverse=True)
    if name == target:
        made.labels, made.classes = codes.astype(np.int64), [str(w) for w in words]
        return
    made.categories[name] = [str(w) for w in words]
    made.inputs += list(np.eye(len(words))[codes].T)
    made.names += [f"{name}={w}" for w in words]


def find(kind: str, known: Sequence[str], *names: str) -> None:
    """Refuse a name that is not known."""
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise UnknownNameError(
                f"{kind} {name!r}", f"there is no such {kind}",
                operands=[("known", verbatim(", ".join(known)))],
                fix=f"did you mean {close[0]}?" if close else None,
            )  # fmt: skip


def _cells(what: str, path: str | Path, delimiter: str | None) -> tuple[list[int], list[list[str]]]:
    """Line numbers and cells of the lines that are not empty."""
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise DataError(f"{what}: delimiter={delimiter!r}", "it is one character, or None")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if delimiter is None:
                first = file.readline()
                delimiter = max(",;\t", key=first.count)
                file.seek(0)
            table = reader.reader(file, delimiter=delimiter, strict=True)
            found = [(table.line_num, row) for row in table if any(c.strip() for c in row)]
    except OSError as error:
        raise DataError(what, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise DataError(what, f"it is not UTF-8 text: {error.reason}") from None
    except reader.Error as error:
        raise DataError(what, f"line {table.line_num}: {error}") from None
    if not found:
        raise DataError(what, "there is nothing in it")
    for line, row in found:
        if len(row) != len(found[0][1]):
            raise DataError(
                what, f"line {line} has {len(row)} cells, the first one {len(found[0][1])}",
                operands=[(f"line {line}", verbatim(delimiter.join(row)[:60]))],
            )  # fmt: skip
    return [line for line, _ in found], [row for _, row in found]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
