"""The options of a run, checked before anything is written, and their TOML file."""

from __future__ import annotations

import inspect
import json
import platform
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wengert.data import Parts
from wengert.errors import OptionError, verbatim
from wengert.optim import Optimizer
from wengert.optim.base import check
from wengert.trace import Tensor
from wengert.version import __version__

from .recipes import OPTIMIZERS, RECIPES, Recipe, find

__all__ = ["Options", "config_text", "read_config", "schedule"]

SCHEDULES = ("constant", "cosine")


def schedule(name: str, step: int, steps: int) -> float:
    """The factor of the learning rate at a step: 1, or (1 + cos(pi step / steps)) / 2.

    Example:
        >>> [round(schedule("cosine", i, 4), 3) for i in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if name == "cosine":
        return 0.5 * (1.0 + float(np.cos(np.pi * step / steps)))
    return 1.0


@dataclass(frozen=True)
class Options:
    """Everything that a run depends on, apart from the code and the data.

    Args:
        recipe: the name of the recipe.
        optimizer: the name of the optimizer.
        settings: what the optimizer is told, such as `{"lr": 0.1}`.
        epochs: passes over the training part.
        batch_size: examples per step.
        schedule: how the learning rate goes on, `constant` or `cosine`.
        seed: of the first weights and of the order of the examples.

    Raises:
        UnknownNameError: a recipe, an optimizer, a schedule or a setting that does not exist.
        OptionError: a number out of its range.
    """

    recipe: str
    optimizer: str
    settings: Mapping[str, float]
    epochs: int
    batch_size: int
    schedule: str
    seed: int

    @classmethod
    def of(
        cls,
        recipe: str,
        *,
        optimizer: str | None = None,
        settings: Mapping[str, float | None] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        schedule: str | None = None,
        seed: int = 0,
    ) -> Options:
        """The recipe's own options, but for those that are given.

        Example:
            >>> Options.of("digits", settings={"lr": 0.05}).settings
            {'lr': 0.05, 'momentum': 0.9, 'weight_decay': 0.001}
        """
        own = find("recipe", recipe, RECIPES)
        name = next(iter(own.optimizers)) if optimizer is None else optimizer
        given = {k: v for k, v in (settings or {}).items() if v is not None}
        return cls(
            recipe=recipe,
            optimizer=name,
            settings={**own.optimizers.get(name, {}), **given},
            epochs=own.epochs if epochs is None else epochs,
            batch_size=own.batch_size if batch_size is None else batch_size,
            schedule=own.schedule if schedule is None else schedule,
            seed=seed,
        )

    def __post_init__(self) -> None:
        recipe = find("recipe", self.recipe, RECIPES)
        find("optimizer", self.optimizer, OPTIMIZERS)
        find("schedule", self.schedule, dict.fromkeys(SCHEDULES))
        takes = inspect.signature(OPTIMIZERS[self.optimizer]).parameters
        for name, value in self.settings.items():
            find(f"setting of {self.optimizer}", name, takes)
            own = recipe.optimizers.get(self.optimizer, {}).get(name)
            fix = "" if own is None else f"{name} = {own:g}, as the recipe has it"
            check("wengert train", name, value, fix=fix)
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise OptionError(
                    f"wengert train({name}={value!r})",
                    f"{name} must be a whole number, at least {low}",
                )

    def make_optimizer(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The optimizer, for these parameters."""
        return OPTIMIZERS[self.optimizer](parameters, **self.settings)


# ---- the file


def config_text(options: Options, recipe: Recipe, parts: Parts, model: Any) -> str:
    """The run as TOML: `wengert train config.toml` repeats it."""
    tables: dict[str, dict[str, Any]] = {
        "run": {
            "recipe": options.recipe,
            "seed": options.seed,
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "schedule": options.schedule,
        },
        "optimizer": {"name": options.optimizer, **options.settings},
        "data": {
            "name": parts.train.name,
            "citation": parts.train.citation,
            "licence": parts.train.licence,
            **{f"{part}_examples": len(d) for part, d in parts._asdict().items()},
            **{f"{part}_sha256": d.sha256 for part, d in parts._asdict().items()},
        },
        "model": {
            "layers": [repr(m) for _, m in model.named_modules() if not _has_children(m)],
            "parameters": sum(p.size for p in model.parameters()),
        },
        "versions": versions(),
    }
    lines = [f"# {recipe.summary}", "# Repeat this run with: wengert train PATH-OF-THIS-FILE"]
    for title, table in tables.items():
        lines += ["", f"[{title}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    """What the numbers of a run depend on besides its options."""
    return {
        "wengert": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _has_children(module: Any) -> bool:
    return next(module.named_children(), None) is not None


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)  # TOML's strings and arrays of them are JSON's


def read_config(path: str | Path) -> tuple[Options, dict[str, Any]]:
    """The options in a `config.toml`, and the file as a dict.

    Raises:
        OptionError: the file is not there, is not TOML, or lacks a part.
    """
    what = f"wengert train {path}"
    try:
        with open(path, "rb") as file:
            config = tomllib.load(file)
    except OSError as error:
        raise OptionError(what, f"cannot read it: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(what, f"not a TOML file: {error}") from None
    known = ("recipe", "seed", "epochs", "batch_size", "schedule")
    run, optimizer = config.get("run", {}), dict(config.get("optimizer", {}))
    strange = [key for key in run if key not in known]
    if "recipe" not in run or strange:
        raise OptionError(
            what,
            f"[run] has no key {strange[0]!r}" if strange else "[run] does not name a recipe",
            operands=[("known", verbatim(", ".join(known)))],
        )
    name = optimizer.pop("name", None)
    return Options.of(**run, optimizer=name, settings=optimizer), config


def changes(config: Mapping[str, Any]) -> list[str]:
    """What differs here from the run of a `config.toml`, so that its numbers may too."""
    recipe = find("recipe", config["run"]["recipe"], RECIPES)
    parts = recipe.data()._asdict()
    then = config.get("data", {})
    found = [
        f"the {name} data is not that of the run: other numbers will come out"
        for name, part in parts.items()
        if then.get(f"{name}_sha256", part.sha256) != part.sha256
    ]
    old = config.get("versions", {})
    return found + [
        f"the run was made with {name} {old[name]}, this is {now}: the last digits may differ"
        for name, now in versions().items()
        if old.get(name, now) != now
    ]
