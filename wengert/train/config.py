"""The options of a run, checked before anything is written, and their TOML file."""

from __future__ import annotations

import inspect
import json
import platform
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wengert import optim
from wengert.amp import GradScaler, autocast
from wengert.data import Parts
from wengert.data.asked import path_of
from wengert.errors import OptionError, verbatim
from wengert.nn import Module, Sequential
from wengert.optim import GradientNoise, Optimizer, schedules
from wengert.optim.base import check
from wengert.random import generator
from wengert.trace import Tensor
from wengert.transforms.checkpoint import checkpoint, checkpoint_sequential
from wengert.version import __version__

from .recipe import Recipe, check_option, find
from .recipes import RECIPES

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Options",
    "config_text",
    "read_config",
    "schedule",
    "told",
    "with_epochs",
]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
    "radam": optim.RAdam,
    "adamax": optim.Adamax,
    "adagrad": optim.Adagrad,
    "adadelta": optim.Adadelta,
    "rmsprop": optim.RMSprop,
    "lion": optim.Lion,
    "muon": optim.Muon,
    "sgld": optim.SGLD,
}


def _inverse_sqrt(steps: int, warmup: int) -> schedules.Shape:
    shape = schedules.inverse_sqrt(max(1, warmup))
    return lambda t: shape(t + warmup)


SCHEDULES: dict[str, Callable[[int, int], schedules.Shape]] = {  # (steps after warmup, warmup)
    "constant": lambda n, w: schedules.constant(),
    "cosine": lambda n, w: schedules.cosine(n),
    "linear": lambda n, w: schedules.linear(n),
    "polynomial": lambda n, w: schedules.polynomial(n, 2.0),
    "exponential": lambda n, w: schedules.exponential(0.01 ** (1 / n)),
    "step": lambda n, w: schedules.step(max(1, -(-n // 3))),
    "restarts": lambda n, w: schedules.cosine_restarts(max(1, -(-n // 4))),
    "one_cycle": lambda n, w: schedules.one_cycle(max(2, n)),
    "inverse_sqrt": _inverse_sqrt,
}
AMP = ("off", "float16", "bfloat16")


def schedule(name: str, step: int, steps: int, warmup: int = 0) -> float:
    """The factor of the learning rate at a step.

    It rises along a line over the first `warmup` steps. With s, from 0 to 1, the share of the
    remaining steps that are done, it is then

        constant      1                             step          1, 0.1, 0.01, each for a third
        cosine        (1 + cos(pi s)) / 2           restarts      four such cosines
        linear        1 - s                         one_cycle     up from 0.04, down to 4e-6
        polynomial    (1 - s)^2                     inverse_sqrt  sqrt(warmup / (t + 1))
        exponential   0.01^s

    Example:
        >>> [round(schedule("cosine", i, 4), 3) for i in range(5)]
        [1.0, 0.854, 0.5, 0.146, 0.0]
        >>> [round(schedule("linear", i, 6, warmup=2), 2) for i in range(7)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    return SCHEDULES[name](max(1, steps - warmup), warmup)(step - warmup)


@dataclass(frozen=True)
class Options:
    """Everything that a run depends on, apart from the code and the data.

    Args:
        recipe: the name of the recipe.
        optimizer: the name of the optimizer.
        settings: what the optimizer is told, such as `{"lr": 0.1}`.
        task: the recipe's own options, such as the text that a language model reads.
        epochs: passes over the training part.
        batch_size: examples per step.
        schedule: how the learning rate goes on, one of `SCHEDULES`.
        warmup: over how many steps the learning rate rises at the beginning.
        seed: of the first weights and of the order of the examples.
        accumulate: into how many parts a batch is cut; see `Step`.
        clip_norm, clip_value: limits of the gradient's length and of each of its numbers; 0: none.
        noise: the standard deviation of noise that is added to gradients at first; 0: none.
        amp: `float16` or `bfloat16` for mixed precision, or `off`.
        ema: how much of a running mean of the weights to keep at a step; 0: none is kept.
        patience: stop after so many reports without a better validation measure; 0: never.
        checkpointing: recompute activations instead of keeping them, `none` or `sqrt`.
        compile: run every step as one program; see `Step`.

    Raises:
        UnknownNameError: a recipe, an optimizer, a schedule or a setting that does not exist.
        OptionError: a number out of its range.
    """

    recipe: str
    optimizer: str
    settings: Mapping[str, Any]
    task: Mapping[str, Any]
    epochs: int
    batch_size: int
    schedule: str = "constant"
    warmup: int = 0
    seed: int = 0
    accumulate: int = 1
    clip_norm: float = 0.0
    clip_value: float = 0.0
    noise: float = 0.0
    amp: str = "off"
    ema: float = 0.0
    patience: int = 0
    checkpointing: str = "none"
    compile: bool = False

    @classmethod
    def of(
        cls,
        recipe: str,
        *,
        optimizer: str | None = None,
        settings: Mapping[str, Any] | None = None,
        task: Mapping[str, Any] | None = None,
        **run: Any,
    ) -> Options:
        """The recipe's own options, but for those that are given and not None.

        Example:
            >>> Options.of("digits", settings={"lr": 0.05}).settings
            {'lr': 0.05, 'momentum': 0.9, 'weight_decay': 0.001}
        """
        own = find("recipe", recipe, RECIPES)
        for key, table in (("settings", settings), ("task", task)):
            if table is not None and not isinstance(table, Mapping):
                raise OptionError(
                    f"Options.of({key}={table!r})", "it is a dict of values by their names",
                    fix=f'{key}={{"name": value}}',
                )  # fmt: skip
        name = next(iter(own.optimizers)) if optimizer is None else optimizer
        given = {k: v for k, v in (settings or {}).items() if v is not None}
        told = {k: v for k, v in (task or {}).items() if v is not None}
        for key in run:
            find("option of a run", key, dict.fromkeys(RUN))
        plan = {"epochs": own.epochs, "batch_size": own.batch_size, "schedule": own.schedule}
        return cls(
            recipe=recipe,
            optimizer=name,
            settings={**own.optimizers.get(name, {}), **given},
            task={**own.task, **told},
            **{**plan, **own.run, **{k: v for k, v in run.items() if v is not None}},
        )

    def __post_init__(self) -> None:
        recipe = find("recipe", self.recipe, RECIPES)
        find("optimizer", self.optimizer, OPTIMIZERS)
        find("schedule", self.schedule, SCHEDULES)
        find("amp", self.amp, dict.fromkeys(AMP))
        find("checkpointing", self.checkpointing, dict.fromkeys(("none", "sqrt")))
        for name, value in self.task.items():
            find(f"option of {self.recipe}", name, recipe.task)
            check_option(recipe, name, value)
        takes = dict(inspect.signature(OPTIMIZERS[self.optimizer]).parameters)
        for name in ("parameters", "rng"):
            takes.pop(name, None)
        for name, value in self.settings.items():
            find(f"setting of {self.optimizer}", name, takes)
            if isinstance(value, bool | list | tuple) or isinstance(takes[name].default, bool):
                continue  # the optimizer looks at it
            if isinstance(value, str) and isinstance(takes[name].default, tuple):
                fix = f"{name} = {list(takes[name].default)}"
                raise OptionError(
                    f"wengert train({name}={value!r})", f"{name} is a list of numbers", fix=fix
                )
            own = recipe.optimizers.get(self.optimizer, {}).get(name)
            fix = "" if own is None else f"{name} = {own:g}, as the recipe has it"
            check("wengert train", name, value, fix=fix)
        for name in ("clip_norm", "clip_value", "noise"):
            check("wengert train", name, getattr(self, name))
        check("wengert train", "ema", self.ema, below=1.0)
        whole = {
            "epochs": 1,
            "batch_size": 1,
            "accumulate": 1,
            "seed": 0,
            "warmup": 0,
            "patience": 0,
        }
        for name, low in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise OptionError(
                    f"wengert train({name}={value!r})",
                    f"{name} must be a whole number, at least {low}",
                )

        if not isinstance(self.compile, bool):
            raise OptionError(
                f"wengert train(compile={self.compile!r})", "compile is true or false"
            )

    def make_optimizer(self, parameters: Iterable[Tensor], draw: int = 0) -> Optimizer:
        """The optimizer, for these parameters; one that draws has a stream of its own."""
        made = OPTIMIZERS[self.optimizer]
        own = {"rng": generator((self.seed, draw, 2))} if draws(made) else {}
        return made(parameters, **own, **self.settings)

    def make_noise(self, draw: int) -> Any:
        """What adds noise to gradients, or None."""
        if not self.noise:
            return None
        return GradientNoise(self.noise**2, rng=generator((self.seed, draw, 3)))

    def make_amp(self) -> dict[str, Any]:
        """What mixed precision adds to a step."""
        if self.amp == "off":
            return {}
        scaler = {"scaler": GradScaler()} if self.amp == "float16" else {}
        return {"autocast": partial(autocast, self.amp), **scaler}

    def checkpointed(self, loss: Callable[..., Any]) -> Callable[..., Any]:
        """The loss of a model that recomputes its activations, if that is asked for."""
        if self.checkpointing == "none":
            return loss
        return lambda model, *batch: loss(recomputing(model), *batch)


class Recomputed(Sequential):
    """The same layers, whose values are computed again for the sweep."""

    def forward(self, x: Any) -> Any:
        return checkpoint_sequential(list(self))(x)


def recomputing(model: Any) -> Any:
    """The same model, whose chains of layers compute their activations again for the sweep.

    A `Sequential` keeps the values between segments of sqrt(n) layers alone; of other lists of
    modules, such as the blocks of a GPT, each keeps its input alone. Parameters, buffers and modes
    are those of the model itself, and so are the gradients, bit for bit.
    """
    if type(model) is Sequential:
        made = Recomputed()
        made.__dict__.update(model.__dict__)
        return made
    changed: dict[str, Any] = {}
    for name, value in vars(model).items():
        if isinstance(value, Module):
            if (again := recomputing(value)) is not value:
                changed[name] = again
        elif isinstance(value, list) and value and all(isinstance(v, Module) for v in value):
            changed[name] = [checkpoint(v) for v in value]
    if not changed:
        return model
    twin = object.__new__(type(model))
    twin.__dict__.update({**vars(model), **changed})
    return twin


def draws(optimizer: type[Optimizer]) -> bool:
    """Whether an optimizer draws random numbers."""
    return "rng" in inspect.signature(optimizer).parameters


RUN = tuple(
    f.name for f in fields(Options) if f.name not in ("recipe", "optimizer", "settings", "task")
)


# ---- the file
TABLES = ("run", "task", "optimizer", "data", "model", "versions")


def config_text(options: Options, recipe: Recipe, parts: Parts, model: Any) -> str:
    """The run as TOML: `wengert train config.toml` repeats it."""
    tables: dict[str, dict[str, Any]] = {
        "run": {"recipe": options.recipe, **{name: getattr(options, name) for name in RUN}},
        **({"task": dict(options.task)} if options.task else {}),
        "optimizer": {"name": options.optimizer, **options.settings},
        "data": {
            **_about(parts.train),
            **{f"{part}_examples": len(d) for part, d in parts._asdict().items()},
            **{
                f"{part}_sha256": d.sha256
                for part, d in parts._asdict().items()
                if hasattr(d, "sha256")
            },
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


def _about(part: Any) -> dict[str, Any]:
    """What is known of where a part comes from."""
    return {key: getattr(part, key, "") for key in ("name", "citation", "licence")}


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
        UnknownNameError: a table, a recipe or an option that does not exist.
    """
    what = f"wengert train {path}"
    path = path_of(what, path)
    try:
        with open(path, "rb") as file:
            config = tomllib.load(file)
    except OSError as error:
        raise OptionError(what, f"cannot read it: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(what, f"not a TOML file: {error}") from None
    for name, table in config.items():
        find("table of a run", name, dict.fromkeys(TABLES))
        if not isinstance(table, dict):
            raise OptionError(what, f"{name} is a table: a line [{name}], and its keys below it")
    known = ("recipe", *RUN)
    run, optimizer = config.get("run", {}), dict(config.get("optimizer", {}))
    strange = [key for key in run if key not in known]
    if "recipe" not in run or strange:
        raise OptionError(
            what,
            f"[run] has no key {strange[0]!r}" if strange else "[run] does not name a recipe",
            operands=[("known", verbatim(", ".join(known)))],
        )
    name = optimizer.pop("name", None)
    return Options.of(**run, optimizer=name, settings=optimizer, task=config.get("task")), config


def with_epochs(text: str, epochs: int) -> str:
    """A `config.toml` with another number of epochs, and otherwise as it stands.

    Example:
        >>> print(with_epochs("[run]\\nepochs = 2 # few\\n[task]\\nepochs = 3", 5))
        [run]
        epochs = 5
        [task]
        epochs = 3
    """
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("[run]")) + 1
    for i in range(start, len(lines)):
        if lines[i].strip().startswith("["):
            break
        if lines[i].partition("=")[0].strip() == "epochs":
            lines[i] = f"epochs = {epochs}"
            return "\n".join(lines) + "\n" * text.endswith("\n")
    return "\n".join([*lines[:start], f"epochs = {epochs}", *lines[start:]]) + "\n"


def told(options: Options) -> dict[str, Any]:
    """All that a run goes on with, as JSON has it: what its checkpoints and it must agree on."""
    fixed = {name: getattr(options, name) for name in RUN if name != "epochs"}
    flat = {"recipe": options.recipe, "optimizer": options.optimizer, **fixed}
    flat |= {**options.task, **options.settings}
    found: dict[str, Any] = json.loads(json.dumps(flat))
    return found


def changes(config: Mapping[str, Any], data: Parts | None = None) -> list[str]:
    """What differs here from the run of a `config.toml`, so that its numbers may too."""
    recipe = find("recipe", config["run"]["recipe"], RECIPES)
    parts = (data or recipe.data({**recipe.task, **config.get("task", {})}))._asdict()
    then = config.get("data", {})
    found = [
        f"the {name} data is not that of the run: other numbers will come out"
        for name, part in parts.items()
        if hasattr(part, "sha256") and then.get(f"{name}_sha256", part.sha256) != part.sha256
    ]
    old = config.get("versions", {})
    return found + [
        f"the run was made with {name} {old[name]}, this is {now}: the last digits may differ"
        for name, now in versions().items()
        if old.get(name, now) != now
    ]
