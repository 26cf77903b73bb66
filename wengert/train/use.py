"""What a run left behind, opened again: its network, its data and what it was told."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.data import Parts
from wengert.errors import CheckpointError, DataError, OptionError, ShapeError
from wengert.extras import need
from wengert.nn import Module

from .checkpoint import Checkpoints, digest
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
    path = Path(folder)
    if not (path / "config.toml").exists():
        raise no_run(path)
    options, config = read_config(path / "config.toml")
    if not (path / "model.safetensors").exists():
        raise OptionError(f"opening {path}", "there is no model.safetensors in this folder")
    recipe = find("recipe", options.recipe, RECIPES)
    parts = recipe.data(options.task)
    model = recipe.model(np.random.default_rng(0), options.task, parts)
    opened = need("safetensors", extra="train").safe_open
    try:
        with opened(path / "model.safetensors", "numpy") as file:
            told = json.loads((file.metadata() or {}).get("wengert", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except Exception as error:  # safetensors has errors of its own for every kind of damage
        raise CheckpointError(f"opening {path}", f"model.safetensors is damaged: {error}") from None
    kept = told.pop("sha256", None)
    if kept is not None and kept != digest(json.dumps(told), weights):
        raise CheckpointError(
            f"opening {path}",
            "model.safetensors is damaged: its numbers are not those that were saved",
            fix=f"wengert train --resume {path}, which goes on from a whole checkpoint",
        )
    model.load_state_dict(weights)
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
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            "predict(RUN, INPUT)", f"example {int(finite.argmin())} has a number that is not "
            "finite, counted from 0",
            operands=[("INPUT", x)],
        )  # fmt: skip
    return x.astype(np.asarray(example).dtype)


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
    if not Path(root).is_dir():
        rule = "this is no folder" if Path(root).exists() else "there is no such folder"
        raise OptionError(f"wengert runs {root}", rule)
    files = {p.parent for name in RunFolder.FILES for p in Path(root).glob(f"*/{name}")}
    return [summary(path) for path in sorted(files)]


def summary(path: Path) -> Summary:
    """How one run stands."""
    try:
        options, _ = read_config(path / "config.toml")
        lines = (path / "metrics.jsonl").read_text() if (path / "metrics.jsonl").exists() else ""
        rows = [json.loads(line) for line in lines.splitlines()]
        note = path / "result.json"
        result = json.loads(note.read_text()) if note.exists() else {}
    except (LookupError, OSError, ValueError) as error:
        return Summary(path.name, why=str(error).splitlines()[0])
    last = rows[-1] if rows else {}
    measures = result.get("measures") or {
        k.removeprefix("validation_"): v for k, v in last.items() if k.startswith("validation_")
    }
    state, why = result.get("state", "stopped"), result.get("error", "")
    if state == "stopped":
        try:
            Checkpoints(RunFolder.of(path)).load()
        except CheckpointError:
            state, why = "broken", "no checkpoint to go on from"
    return Summary(
        path.name, options.recipe, state, last.get("epoch", 0), options.epochs, measures,
        result.get("seconds", last.get("seconds", math.nan)), why,
    )  # fmt: skip
