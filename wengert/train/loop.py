"""The training loop: steps, epochs, draws, what is written after each, and how a run goes on."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wengert.data import Loader, Parts
from wengert.data.asked import path_of
from wengert.errors import (
    CheckpointError,
    DataError,
    NonFiniteError,
    OptionError,
    OutputError,
    verbatim,
)
from wengert.extras import need
from wengert.nn import Module
from wengert.optim import EMA, Optimizer
from wengert.trace import Tensor, no_grad

from .checkpoint import Checkpoints, check_same, digest, other_run, read_weights
from .config import Options, config_text, read_config, schedule, told, with_epochs
from .folder import RunFolder, no_run
from .recipe import Recipe, find
from .recipes import RECIPES
from .signals import held_back
from .state import State, random_states, restore_random
from .step import Step

__all__ = ["Outcome", "Run", "Stopped", "Watcher", "fit", "measured", "resume"]

Row = dict[str, Any]
PAUSE = 2.0  # seconds between checkpoints at least, apart from those of a stop
WITHIN = 60.0  # the same within an epoch


@dataclass
class Run:
    """A run in progress."""

    recipe: Recipe
    options: Options
    parts: Parts
    folder: RunFolder
    model: Module
    optimizer: Optimizer
    loader: Loader
    step: Step
    rates: list[float]
    rows: list[Row] = field(default_factory=list)
    draw: int = 0
    epoch: int = 0  # the one in progress, counted over all draws
    since: dict[str, float] = field(default_factory=dict)  # sums since the last row
    best: dict[str, Any] = field(default_factory=dict)
    solved: bool = False
    started: float = field(default_factory=time.perf_counter)
    saved: float = -math.inf

    @property
    def steps_per_epoch(self) -> int:
        return len(self.loader)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def state(self) -> State:
        """Everything that the rest of the run depends on."""
        named = {"optimizer": self.optimizer, "loader": self.loader, **self._aside()}
        return {
            "recipe": self.recipe.name,
            "options": told(self.options),
            "draw": self.draw,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "rates": self.rates,
            "rows": self.rows,
            "since": self.since,
            "best": self.best,
            "solved": self.solved,
            "seconds": self.seconds,
            "random": random_states(self.model, self.step),
            **{name: part.state_dict() for name, part in named.items()},
        }

    def restore(self, state: State) -> None:
        """Stand where `state` was taken."""
        self.draw, self.epoch = state["draw"], state["epoch"]
        self.model.load_state_dict(state["model"])
        self.rates, self.rows, self.since = state["rates"], state["rows"], state["since"]
        self.best, self.solved = state["best"], state["solved"]
        self.started = time.perf_counter() - state["seconds"]
        for name, part in {
            "optimizer": self.optimizer, "loader": self.loader, **self._aside()
        }.items():  # fmt: skip
            part.load_state_dict(state[name])
        restore_random(state["random"], self.model, self.step)

    def _aside(self) -> dict[str, Any]:
        """What else of a step has a state."""
        parts = {"ema": self.step.ema, "scaler": self.step.scaler, "noise": self.step.noise}
        return {name: p for name, p in parts.items() if hasattr(p, "state_dict")}

    @property
    def averaged(self) -> Any:
        """A context in which the weights are those that are kept: their running mean, if any."""
        return nullcontext() if self.step.ema is None else self.step.ema.applied()


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        measures: what the recipe measures, of the test part.
        examples: how many examples the test part has.
        solved: False if the recipe draws again until everything is right and it still is not.
    """

    measures: Mapping[str, float]
    examples: int
    solved: bool
    seconds: float
    rows: list[Row]

    @property
    def accuracy(self) -> float:
        """The share of the test part that is answered right; nan where that has no meaning."""
        return self.measures.get("accuracy", math.nan)

    @property
    def right(self) -> int:
        """How many examples of the test part are answered right."""
        return round(self.accuracy * self.examples)


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM. The run folder holds the last whole epoch, and a checkpoint of this step.

    Args:
        run: the run.
        signal: which of the two it was.
    """

    def __init__(self, run: Run, signal: int = signal.SIGINT) -> None:
        super().__init__(f"stopped in epoch {run.epoch}")
        self.run, self.signal = run, signal


class Watcher:
    """Somebody who is told how a run goes on; a subclass overrides what it wants to know."""

    def begin(self, run: Run) -> None:
        """Before the first step."""

    def step(self, run: Run, done: int) -> None:
        """After a step, `done` of this epoch."""

    def epoch(self, run: Run, row: Row) -> None:
        """After a row was written."""

    def message(self, run: Run, text: str) -> None:
        """Something that a person would want to know."""

    def end(self, run: Run, outcome: Outcome | None) -> None:
        """After the last step; without an outcome if the run broke off."""


def watching(watchers: Any) -> list[Watcher]:
    """The watchers, if they are some."""
    listed = list(watchers) if np.iterable(watchers) else [watchers]
    for watcher in listed:
        if not isinstance(watcher, Watcher):
            raise OptionError("fit(.., watchers)", "watchers are a list of `Watcher`s",
                              operands=[("watchers", watcher)])  # fmt: skip
    return listed


def fit(
    options: Options, out: str | Path | None = None, watchers: Iterable[Watcher] = ()
) -> Outcome:
    """Train as the options say and write the run folder.

    The folder holds `config.toml`, `metrics.jsonl` with one object for every reported epoch,
    `model.safetensors`, replaced as a whole after each of them, and the checkpoints that `resume`
    goes on from. Equal options and versions give equal files, bit for bit, apart from the times and
    rates.

    Args:
        options: what to do.
        out: the run folder; None means a new one, `runs/<recipe>-<date>-<time>`.
        watchers: who is to be told; of the end in the opposite order, like nested blocks.

    Raises:
        Stopped: Ctrl-C or SIGTERM; a KeyboardInterrupt, raised between two steps.
        NonFiniteError: the loss or a weight became nan or infinite.
        OutputError: the folder cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    if not isinstance(options, Options):
        raise OptionError("fit(options)", "it takes the options of a run",
                          operands=[("options", options)], fix='Options.of("digits")')  # fmt: skip
    watchers = watching(watchers)
    need("safetensors.numpy", extra="train")
    recipe = find("recipe", options.recipe, RECIPES)
    parts = recipe.data(options.task)
    for name, part in parts._asdict().items():
        if not len(part):
            raise DataError(
                f"wengert train {recipe.name}", f"the {name} part of the data has no examples",
                operands=[(n, verbatim(f"{len(p)} examples")) for n, p in parts._asdict().items()],
            )  # fmt: skip
    drawn = _drawn(recipe, options, parts, 0)
    folder = RunFolder.fresh(recipe.name) if out is None else RunFolder(out)
    run = Run(recipe, options, parts, folder, **drawn)
    folder.write("config.toml", config_text(options, recipe, parts, run.model).encode())
    _save(run)
    _checkpoint(run)
    return _go(run, watchers)


def resume(
    folder: str | Path, watchers: Iterable[Watcher] = (), *, epochs: int | None = None
) -> Outcome:
    """Go on with a run that was stopped, killed or cut off, from its last whole checkpoint.

    It ends with the same files, bit for bit apart from the times, as a run that was never stopped.

    Args:
        folder: the run folder.
        watchers: who is to be told.
        epochs: another number of epochs than the run was begun with; a schedule that falls to 0
            follows the new number from here on.

    Raises:
        OptionError: there is no run in the folder.
        CheckpointError: there is nothing to go on from, or the data is not that of the run.
        and whatever `fit` raises.
    """
    path, watchers = path_of(f"resuming {folder!r}", folder), watching(watchers)
    if not os.path.exists(path / "config.toml"):
        raise no_run(path)
    options, config = read_config(path / "config.toml")
    before = options.epochs
    if epochs is not None:
        options = Options.of(**{**vars(options), "epochs": epochs})
    recipe = find("recipe", options.recipe, RECIPES)
    parts = recipe.data(options.task)
    then = config.get("data", {})
    for name, part in parts._asdict().items():
        if then.get(f"{name}_sha256", getattr(part, "sha256", "")) != getattr(part, "sha256", ""):
            raise CheckpointError(
                f"resuming {path}", f"the {name} data is not that of the run",
                fix="start a new run, or bring the old data back",
            )  # fmt: skip
    place, notes = RunFolder.of(path), list[str]()
    state = Checkpoints(place).load(notes.append)
    check_same(path, told(options), state)
    done = state["loader"]["epoch"] + bool(state["loader"]["position"])
    if epochs is not None and epochs < done:
        raise OptionError(
            f"wengert train --resume {path} --epochs {epochs}",
            f"a run does not go back, and this one has come to epoch {done}",
            fix=f"--epochs {done} or more",
        )
    run = Run(recipe, options, parts, place, **_drawn(recipe, options, parts, state["draw"]))
    try:
        run.restore(state)
    except (LookupError, ValueError) as error:
        raise other_run(path, [("reason", verbatim(str(error).splitlines()[0]))]) from None
    if options.epochs != before:  # also what a run that is cut off again goes on to
        text = (path / "config.toml").read_text(encoding="utf-8")
        place.write("config.toml", with_epochs(text, options.epochs).encode())
    place.write("metrics.jsonl", "".join(f"{json.dumps(row)}\n" for row in run.rows).encode())
    with run.averaged:
        _save(run, last_row=True)
    return _go(run, watchers, notes)


def _go(run: Run, watchers: list[Watcher], notes: Iterable[str] = ()) -> Outcome:
    """Train to the end, from wherever the run stands."""
    recipe, options, outcome = run.recipe, run.options, None
    (run.folder.path / "result.json").unlink(missing_ok=True)
    try:
        for watcher in watchers:
            watcher.begin(run)
        for note in notes:
            for watcher in watchers:
                watcher.message(run, note)
        solved = _train(run, watchers)
        while not solved and run.draw + 1 < recipe.draws:
            text = f"{_why_not(run)}: drawing new weights"
            run.draw += 1
            for name, part in _drawn(recipe, options, run.parts, run.draw).items():
                setattr(run, name, part)
            _checkpoint(run)
            for watcher in watchers:
                watcher.message(run, text)
            solved = _train(run, watchers)
        Checkpoints(run.folder).tidy()
        with run.averaged:
            measures = measured(run.recipe, run.model, run.parts.test)
        outcome = Outcome(
            measures, len(run.parts.test), solved or recipe.draws == 1, run.seconds, run.rows
        )
        _close(run, "finished", **vars(outcome) | {"rows": len(run.rows)})
    except Stopped:
        raise
    except Exception as error:
        with suppress(OutputError):  # the first error is the one to report
            said = str(error).splitlines() or [type(error).__name__]
            _close(run, "broken", error=said[0])
        raise
    finally:
        for watcher in reversed(watchers):
            watcher.end(run, outcome)
    return outcome


def _close(run: Run, state: str, **what: Any) -> None:
    """Leave a note in the folder of how the run ended."""
    note = {"state": state, "recipe": run.recipe.name, "epoch": run.epoch, **what}
    run.folder.write("result.json", f"{json.dumps(note)}\n".encode())


def measured(recipe: Recipe, model: Module, part: Any) -> dict[str, float]:
    """What the recipe measures, of one part; nothing is recorded, and the model is in use mode."""
    modes = [(module, module.training) for _, module in model.named_modules()]
    model.eval()
    try:
        with no_grad(), np.errstate(over="ignore", invalid="ignore"):
            return {k: float(v) for k, v in recipe.measure(model, part).items()}
    finally:
        for module, training in modes:
            module.training = training


def _drawn(recipe: Recipe, options: Options, parts: Parts, draw: int) -> dict[str, Any]:
    """Fresh weights, with all that trains them, for one draw."""
    rng = np.random.default_rng((options.seed, draw, 0))
    model = recipe.model(rng, options.task, parts)
    optimizer = options.make_optimizer(model.parameters(), draw)
    loader = Loader(
        parts.train,
        options.batch_size,
        seed=(options.seed, draw, 1),
        transform=recipe.transform,
    )
    return {
        "model": model,
        "optimizer": optimizer,
        "loader": loader,
        "step": Step(
            model,
            options.checkpointed(recipe.loss),
            optimizer,
            accumulate=options.accumulate,
            clip_norm=options.clip_norm or None,
            clip_value=options.clip_value or None,
            weight=recipe.weight,
            noise=options.make_noise(draw),
            ema=EMA(optimizer.parameters, options.ema) if options.ema else None,
            compile=options.compile,
            **options.make_amp(),
        ),
        "rates": [group.lr for group in optimizer.groups],
        "since": {},
        "best": {},
    }


def _why_not(run: Run) -> str:
    """What became of a draw that was not solved, judged by the second half of its epochs."""
    losses = [row["loss"] for row in run.rows if row["draw"] == run.draw + 1]
    if len(losses) > 2 and losses[-1] > 0.99 * losses[len(losses) // 2]:
        return f"stuck in a local minimum at loss {losses[-1]:.4f}"
    return f"not solved after {run.options.epochs} epochs, at loss {losses[-1]:.4f}"


def _train(run: Run, watchers: list[Watcher]) -> bool:
    """The rest of the epochs of one draw; whether the problem is solved before they are over."""
    recipe, options, loader = run.recipe, run.options, run.loader
    steps = options.epochs * run.steps_per_epoch
    norms = _Norms(run)
    began, before = time.perf_counter(), run.since.get("examples", 0.0)
    with held_back() as asked:
        while loader.epoch < options.epochs and not run.solved:
            epoch = loader.epoch
            if not loader.position:
                run.epoch += 1
            for batch in loader:
                done = loader.position or run.steps_per_epoch
                factor = schedule(
                    options.schedule,
                    epoch * run.steps_per_epoch + done - 1,
                    steps,
                    options.warmup,
                )
                for group, rate in zip(run.optimizer.groups, run.rates):
                    group.lr = rate * factor
                _one(run, batch)
                norms.add()
                for watcher in watchers:
                    watcher.step(run, done)
                if loader.position and (asked or _since(run) > WITHIN):
                    _check_weights(run)
                    _checkpoint(run)
                    if asked:
                        raise Stopped(run, asked[0])
            _check_weights(run)
            run.solved = recipe.draws > 1 and recipe.solved(
                measured(recipe, run.model, run.parts.train)
            )
            if (epoch + 1) % recipe.every and epoch + 1 < options.epochs and not run.solved:
                if asked or _since(run) > PAUSE:
                    _checkpoint(run)
                if asked:
                    raise Stopped(run, asked[0])
                continue
            with run.averaged:
                row = _row(run, norms)
                enough = _look_for_best(run, row)
                _save(run)
            done_since = run.since["examples"] - before
            row["examples_per_second"] = round(done_since / (time.perf_counter() - began), 1)
            row["seconds"] = round(run.seconds, 3)
            run.folder.append("metrics.jsonl", json.dumps(row))
            run.rows.append(row)
            run.since = {}
            began, before = time.perf_counter(), 0.0
            if enough:
                loader.epoch = options.epochs
            last = loader.epoch >= options.epochs or run.solved
            if last or asked or _since(run) > PAUSE:
                _checkpoint(run)
            for watcher in watchers:
                watcher.epoch(run, row)
            if asked:
                raise Stopped(run, asked[0])
    if run.best and options.patience:
        run.model.load_state_dict(run.best["model"])
        _save(run)
    return run.solved


def _one(run: Run, batch: tuple[Any, ...]) -> None:
    # A network that diverges overflows; that is found out below, with a message of its own.
    with np.errstate(over="ignore", invalid="ignore"):
        report = run.step(*batch)
    if not math.isfinite(report.loss):
        raise _non_finite(run, f"the loss became {report.loss} in epoch {run.epoch}")
    if report.skipped and run.step.scaler is None:
        raise _non_finite(run, f"the gradient became {report.grad_norm} in epoch {run.epoch}")
    n = len(batch[0])
    run.since["loss"] = run.since.get("loss", 0.0) + report.loss * n
    run.since["examples"] = run.since.get("examples", 0.0) + n
    run.since["skipped"] = run.since.get("skipped", 0.0) + report.skipped


def _row(run: Run, norms: _Norms) -> Row:
    """What is reported of an epoch."""
    measures = {
        f"{name}_{key}": value
        for name in ("train", "validation")
        for key, value in measured(run.recipe, run.model, getattr(run.parts, name)).items()
    }
    row = {
        "epoch": run.epoch,
        **({"draw": run.draw + 1} if run.recipe.draws > 1 else {}),
        "loss": run.since["loss"] / run.since["examples"],
        **measures,
        "lr": run.optimizer.lr,
        "grad_norm": norms.take(),
    }
    if run.since["skipped"]:
        row["skipped"] = int(run.since["skipped"])
    return row


def _look_for_best(run: Run, row: Row) -> bool:
    """Remember the best weights by the validation part; whether patience has come to its end."""
    if not run.options.patience:
        return False
    name = next(key for key in row if key.startswith("validation_"))
    worth = row[name] if name.endswith("accuracy") else -row[name]
    if not run.best or worth > run.best["worth"]:
        run.best = {"worth": worth, "epoch": run.epoch, "model": run.model.state_dict()}
        run.best["waited"] = 0
    else:
        run.best["waited"] += 1
    return bool(run.best["waited"] >= run.options.patience)


class _Norms:
    """The length of each layer's gradient: the root mean square over the steps since `take`.

    The sums are kept in the run, so that they go into its checkpoints.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.layers: dict[str, list[Tensor]] = {}
        for name, p in run.model.named_parameters():
            self.layers.setdefault(name.rpartition(".")[0], []).append(p)

    def add(self) -> None:
        since = self.run.since
        since["steps"] = since.get("steps", 0.0) + 1
        for name, parameters in self.layers.items():
            square = 0.0
            for p in parameters:
                if p.grad is not None:
                    g = p.grad.data.ravel()
                    square += float(g @ g)
            since[f"|{name}|"] = since.get(f"|{name}|", 0.0) + square

    def take(self) -> dict[str, float]:
        since = self.run.since
        return {name: math.sqrt(since[f"|{name}|"] / since["steps"]) for name in self.layers}


def _check_weights(run: Run) -> None:
    for name, p in run.model.named_parameters():
        if not np.isfinite(p.data).all():
            raise _non_finite(run, f"{name} is no longer finite after epoch {run.epoch}")


def _non_finite(run: Run, rule: str) -> NonFiniteError:
    lr = run.options.settings.get("lr", run.optimizer.lr)
    last = run.rows[-1]["epoch"] if run.rows else 0
    kept = f"epoch {last}" if last else "the untrained weights"
    usual = run.recipe.optimizers.get(run.options.optimizer, {}).get("lr", lr)
    fix = f"--lr {usual:g}, as the recipe has it" if lr > usual else f"--lr {lr / 10:g}"
    return NonFiniteError(
        f"wengert train {run.recipe.name}",
        rule,
        operands=[
            ("lr", lr),
            ("last good", verbatim(f"{kept}, in {run.folder.path / 'model.safetensors'}")),
        ],
        fix=fix,
    )


def _save(run: Run, *, last_row: bool = False) -> None:
    """The weights for use; after a resume those of the last row, if they stand there already."""
    path, state = run.folder.path / "model.safetensors", run.model.state_dict()
    if last_row:
        with suppress(ValueError):
            there = read_weights(path)
            if {k: v.shape for k, v in there.items()} == {k: v.shape for k, v in state.items()}:
                return
    safetensors = need("safetensors.numpy", extra="train")
    about_run = {"recipe": run.recipe.name, "epoch": run.epoch}
    about = json.dumps(
        {**about_run, "sha256": digest(json.dumps(about_run), state)}
    )  # one: they have no order
    run.folder.write("model.safetensors", safetensors.save(state, {"wengert": about}))


def _since(run: Run) -> float:
    """The seconds since the last checkpoint."""
    return time.perf_counter() - run.saved


def _checkpoint(run: Run) -> None:
    Checkpoints(run.folder).save(run.state())
    run.saved = time.perf_counter()
