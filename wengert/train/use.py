"""What a run left behind, opened again: its network, its data and what it was told."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.data import Parts
from wengert.data.asked import path_of
from wengert.errors import (
    CheckpointError,
    DataError,
    OptionError,
    ShapeError,
    WengertError,
    verbatim,
)
from wengert.nn import Module

from .checkpoint import Checkpoints, read_weights
from .config import Options, changes, read_config
from .folder import RunFolder, no_run
from .recipe import Recipe, find
from .recipes import RECIPES

__all__ = ["Summary", "Trained", "fitting", "load", "open_run", "summaries"]


@dataclass(frozen=True)
class Trained:
    """A run folder, opened.

    Args:
        recipe, options: what was trained, and how.
        parts: the data, read again.
        model: the network with its trained weights, in use mode.
        notes: what differs here from the run, so that other numbers may come out.
    """

    recipe: Recipe
    options: Options
    parts: Parts
    model: Module
    notes: list[str] = field(default_factory=list)


def open_run(folder: str | Path) -> Trained:
    """The network of a run folder, with the data it was trained on.

    Raises:
        OptionError: there is no run in the folder.
        CheckpointError: the weights cannot be read, or are those of another network.
        MissingExtraError: safetensors is not installed.
    """
    path = path_of(f"opening {folder!r}", folder)
    if not os.path.exists(path / "config.toml"):
        raise no_run(path)
    options, config = read_config(path / "config.toml")
    if not (path / "model.safetensors").exists():
        raise OptionError(f"opening {path}", "there is no model.safetensors in this folder")
    recipe = find("recipe", options.recipe, RECIPES)
    parts = recipe.data(options.task)
    model = recipe.model(np.random.default_rng(0), options.task, parts)
    fix = f"wengert train --resume {path}, which goes on from a whole checkpoint"
    try:
        weights = read_weights(path / "model.safetensors")
    except ValueError as error:
        raise CheckpointError(f"opening {path}", str(error), fix=fix) from None
    try:
        model.load_state_dict(weights)
    except WengertError as error:
        raise CheckpointError(
            f"opening {path}", "the weights in model.safetensors are those of another network",
            operands=[("reason", verbatim(error.rule))], fix=fix,
        ) from None  # fmt: skip
    return Trained(recipe, options, parts, model.eval(), changes(config, parts))


def load(folder: str | Path) -> Module:
    """The trained network of a run folder.

    Args:
        folder: where `config.toml` and `model.safetensors` are.

    Raises:
        OptionError: there is no run in the folder.
        MissingExtraError: safetensors is not installed.
    """
    return open_run(folder).model


def fitting(trained: Trained, x: NDArray[Any]) -> NDArray[Any]:
    """Inputs in the shape that the network takes: one example, several, or several in flat rows.

    Raises:
        ShapeError: the numbers do not make examples.
        DataError: nan or infinity among them.
    """
    (example, *_) = trained.parts.train.batch(np.arange(1))
    shape = np.shape(example)[1:]
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise ShapeError("predict(RUN, INPUT)", "inputs are numbers", operands=[("INPUT", x)])
    if x.shape == shape:
        x = x[None]
    elif x.ndim == 2 and x.shape[1] == math.prod(shape):
        x = x.reshape(len(x), *shape)
    elif x.ndim == 1 and x.size == math.prod(shape):
        x = x.reshape(1, *shape)
    if x.shape[1:] != shape or not len(x):
        wanted = ", ".join(["n", *map(str, shape)])
        raise ShapeError(
            "predict(RUN, INPUT)", f"{trained.recipe.name} takes examples of shape [{wanted}]",
            operands=[("INPUT", x, "no example" if x.ndim and not len(x) else "")],
        )  # fmt: skip
    kind = np.asarray(example).dtype
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            "predict(RUN, INPUT)", f"example {int(finite.argmin())} has a number that is not "
            "finite, counted from 0",
            operands=[("INPUT", x)],
        )  # fmt: skip
    with np.errstate(all="ignore"):
        y: NDArray[Any] = x.astype(kind)
    held = np.isfinite(y) if kind.kind == "f" else y == x
    if not held.all():
        i = int(held.reshape(len(x), -1).all(axis=1).argmin())
        raise DataError(
            "predict(RUN, INPUT)", f"example {i} has a number that {kind} cannot hold, counted "
            "from 0",
            operands=[("INPUT", x)],
        )  # fmt: skip
    return y


# ---- many runs


@dataclass(frozen=True)
class Summary:
    """One run of many, in a line.

    Args:
        state: `finished`, `stopped` (it can be resumed) or `broken`.
        measures: of the test part where the run is finished, else of the validation part.
        why: what is broken.
    """

    name: str
    recipe: str = ""
    state: str = "broken"
    epoch: int = 0
    epochs: int = 0
    measures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    why: str = ""


def summaries(root: str | Path) -> list[Summary]:
    """The runs in a folder, by name.

    Raises:
        OptionError: there is no such folder.
    """
    if not os.path.isdir(root):
        rule = "this is no folder" if os.path.exists(root) else "there is no such folder"
        raise OptionError(f"wengert runs {root}", rule)
    files = {p.parent for name in RunFolder.FILES for p in Path(root).glob(f"*/{name}")}
    return [summary(path) for path in sorted(files)]


def summary(path: Path) -> Summary:
    """How one run stands; where its notes are damaged, by its checkpoint."""
    try:
        options, _ = read_config(path / "config.toml")
    except (LookupError, OSError, ValueError) as error:
        return Summary(path.name, why=str(error).splitlines()[0])
    result, rows, why = _note(path), _rows(path), ""
    state = result.get("state", "stopped")
    if state == "stopped" or rows is None:
        try:
            kept = Checkpoints(RunFolder.of(path)).load()
            rows = kept["rows"] if rows is None else rows
        except CheckpointError:
            if state == "stopped":
                state, why = "broken", "no checkpoint to go on from"
    last: dict[str, Any] = rows[-1] if rows else {}
    measures = result.get("measures") or {
        k.removeprefix("validation_"): v for k, v in last.items() if k.startswith("validation_")
    }
    return Summary(
        path.name, options.recipe, state, last.get("epoch", result.get("epoch", 0)),
        options.epochs, measures, result.get("seconds", last.get("seconds", math.nan)),
        result.get("error", why),
    )  # fmt: skip


def _note(path: Path) -> dict[str, Any]:
    """How the run ended, as far as its `result.json` can be read."""
    kinds: dict[str, Any] = {"state": str, "error": str, "epoch": int, "seconds": int | float}
    try:
        found = json.loads((path / "result.json").read_text())
        note = {k: found[k] for k, kind in kinds.items() if isinstance(found.get(k), kind)}
        measures = found.get("measures", {}).items()
        note["measures"] = {k: v for k, v in measures if isinstance(v, int | float)}
    except (OSError, ValueError, AttributeError):
        return {}
    return note if note.get("state") in ("finished", "broken") else {}


def _rows(path: Path) -> list[dict[str, Any]] | None:
    """The rows of `metrics.jsonl`; None if it is damaged."""
    try:
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return None
    whole = all(isinstance(r, dict) and isinstance(r.get("epoch"), int) for r in rows)
    return rows if whole else None
