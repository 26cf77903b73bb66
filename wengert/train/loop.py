"""The training loop: steps, epochs, draws, and what is written after each."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.data import Dataset, Parts
from wengert.errors import NonFiniteError, OptionError, verbatim
from wengert.extras import need
from wengert.nn import Module
from wengert.optim import Optimizer
from wengert.trace import Tensor, no_grad

from .config import Options, config_text, read_config, schedule
from .folder import RunFolder
from .recipes import RECIPES, Recipe, find

__all__ = ["Outcome", "Run", "Stopped", "Watcher", "fit", "load"]

Row = dict[str, Any]


@dataclass
class Run:
    """A run in progress."""

    recipe: Recipe
    options: Options
    parts: Parts
    folder: RunFolder
    model: Module
    optimizer: Optimizer
    rows: list[Row] = field(default_factory=list)
    epoch: int = 0
    started: float = field(default_factory=time.perf_counter)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.parts.train) / self.options.batch_size)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        right: how many examples of the test part are answered right, of `examples`.
        solved: False if the recipe draws again until everything is right and it still is not.
    """

    right: int
    examples: int
    solved: bool
    seconds: float
    rows: list[Row]

    @property
    def accuracy(self) -> float:
        """The share of the test part that is answered right."""
        return self.right / self.examples


class Stopped(KeyboardInterrupt):
    """Ctrl-C. The run folder holds the last whole epoch."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"stopped in epoch {run.epoch}")
        self.run = run


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


def fit(
    options: Options, out: str | Path | None = None, watchers: Iterable[Watcher] = ()
) -> Outcome:
    """Train as the options say and write the run folder.

    The folder holds `config.toml`, `metrics.jsonl` with one object for every reported epoch, and
    `model.safetensors`, replaced as a whole after each of them. Equal options and versions give
    equal files, bit for bit, apart from the times and rates.

    Args:
        options: what to do.
        out: the run folder; None means a new one, `runs/<recipe>-<date>-<time>`.
        watchers: who is to be told; of the end in the opposite order, like nested blocks.

    Raises:
        Stopped: Ctrl-C; a KeyboardInterrupt, raised between two steps.
        NonFiniteError: the loss or a weight became nan or infinite.
        OutputError: the folder cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    need("safetensors.numpy", extra="train")
    recipe = find("recipe", options.recipe, RECIPES)
    parts = recipe.data()
    model, optimizer, order = _draw(recipe, options, 0)
    folder = RunFolder.fresh(recipe.name) if out is None else RunFolder(out)
    run = Run(recipe, options, parts, folder, model, optimizer)
    folder.write("config.toml", config_text(options, recipe, parts, model).encode())
    _save(run)
    watchers, outcome = list(watchers), None
    try:
        for watcher in watchers:
            watcher.begin(run)
        solved = False
        for draw in range(recipe.draws):
            if draw:
                run.model, run.optimizer, order = _draw(recipe, options, draw)
                text = f"{_why_not(run, draw)}: drawing new weights"
                for watcher in watchers:
                    watcher.message(run, text)
            solved = _train(run, draw, order, watchers)
            if solved:
                break
        solved |= recipe.draws == 1
        right = int(_right(run, parts.test).sum())
        seconds = time.perf_counter() - run.started
        outcome = Outcome(right, len(parts.test), solved, seconds, run.rows)
    finally:
        for watcher in reversed(watchers):
            watcher.end(run, outcome)
    return outcome


def load(folder: str | Path) -> Module:
    """The trained network of a run folder.

    Args:
        folder: where `config.toml` and `model.safetensors` are.

    Raises:
        OptionError: there is no run in the folder.
        MissingExtraError: safetensors is not installed.
    """
    options, _ = read_config(Path(folder) / "config.toml")
    model = find("recipe", options.recipe, RECIPES).model(np.random.default_rng(0))
    path = Path(folder) / "model.safetensors"
    if not path.exists():
        raise OptionError(f"load({str(folder)!r})", "there is no model.safetensors in this folder")
    model.load_state_dict(need("safetensors.numpy", extra="train").load_file(path))
    return model.eval()


def _draw(
    recipe: Recipe, options: Options, draw: int
) -> tuple[Module, Optimizer, np.random.Generator]:
    """Fresh weights, their optimizer, and the generator of the order of examples."""
    weights, order = (np.random.default_rng((options.seed, draw, i)) for i in range(2))
    model = recipe.model(weights)
    return model, options.make_optimizer(model.parameters()), order


def _why_not(run: Run, draw: int) -> str:
    """What became of a draw that was not solved, judged by the second half of its epochs."""
    losses = [row["loss"] for row in run.rows if row["draw"] == draw]
    if losses[-1] > 0.99 * losses[len(losses) // 2]:
        return f"stuck in a local minimum at loss {losses[-1]:.4f}"
    return f"not solved after {run.options.epochs} epochs, at loss {losses[-1]:.4f}"


def _train(run: Run, draw: int, order: np.random.Generator, watchers: list[Watcher]) -> bool:
    """All epochs of one draw; whether every example is right before the last of them is over."""
    recipe, options = run.recipe, run.options
    lr = run.optimizer.lr
    steps = options.epochs * run.steps_per_epoch
    norms = _Norms(run.model)
    losses, examples, began = 0.0, 0, time.perf_counter()
    with _interrupts() as asked:
        for epoch in range(1, options.epochs + 1):
            run.epoch += 1
            shuffled = order.permutation(len(run.parts.train))
            for done, rows in enumerate(_batches(shuffled, options.batch_size), 1):
                now = (epoch - 1) * run.steps_per_epoch + done - 1
                run.optimizer.lr = lr * schedule(options.schedule, now, steps)
                losses += _step(run, rows, norms) * len(rows)
                examples += len(rows)
                for watcher in watchers:
                    watcher.step(run, done)
                if asked:
                    raise Stopped(run)
            _check_weights(run)
            solved = recipe.draws > 1 and bool(_right(run, run.parts.train).all())
            if epoch % recipe.every and epoch < options.epochs and not solved:
                continue
            seconds = time.perf_counter() - began
            row = {
                "epoch": run.epoch,
                **({"draw": draw + 1} if recipe.draws > 1 else {}),
                "loss": losses / examples,
                "train_accuracy": float(_right(run, run.parts.train).mean()),
                "validation_accuracy": float(_right(run, run.parts.validation).mean()),
                "lr": run.optimizer.lr,
                "grad_norm": norms.take(),
                "examples_per_second": round(examples / seconds, 1),
                "seconds": round(time.perf_counter() - run.started, 3),
            }
            _save(run)
            run.folder.append("metrics.jsonl", json.dumps(row))
            run.rows.append(row)
            for watcher in watchers:
                watcher.epoch(run, row)
            if solved:
                return True
            losses, examples, began = 0.0, 0, time.perf_counter()
    return False


def _step(run: Run, rows: NDArray[np.int64], norms: _Norms) -> float:
    """One step of gradient descent on these examples; the loss before it."""
    train = run.parts.train
    # A network that diverges overflows; that is found out below, with a message of its own.
    with np.errstate(over="ignore", invalid="ignore"):
        prediction = run.model(Tensor(train.images[rows]))
        loss = run.recipe.loss(prediction, train.labels[rows])
        value = float(loss.item())
        if not math.isfinite(value):
            raise _non_finite(run, f"the loss became {value} in epoch {run.epoch}")
        run.optimizer.zero_grad()
        loss.backward()
        norms.add()
        run.optimizer.step()
    return value


def _batches(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _right(run: Run, part: Dataset) -> NDArray[np.bool_]:
    """Which examples the network answers right."""
    run.model.eval()
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):
        prediction = run.model(Tensor(part.images))
    run.model.train()
    return run.recipe.right(prediction.numpy(), part.labels)


class _Norms:
    """The length of each layer's gradient: the root mean square over the steps since `take`."""

    def __init__(self, model: Module) -> None:
        self.layers: dict[str, list[Tensor]] = {}
        for name, p in model.named_parameters():
            self.layers.setdefault(name.rpartition(".")[0], []).append(p)
        self.squares = dict.fromkeys(self.layers, 0.0)
        self.steps = 0

    def add(self) -> None:
        self.steps += 1
        for name, parameters in self.layers.items():
            for p in parameters:
                if p.grad is not None:
                    g = p.grad.data.ravel()
                    self.squares[name] += float(g @ g)

    def take(self) -> dict[str, float]:
        norms = {name: math.sqrt(square / self.steps) for name, square in self.squares.items()}
        self.squares = dict.fromkeys(self.layers, 0.0)
        self.steps = 0
        return norms


def _check_weights(run: Run) -> None:
    for name, p in run.model.named_parameters():
        if not np.isfinite(p.data).all():
            raise _non_finite(run, f"{name} is no longer finite after epoch {run.epoch}")


def _non_finite(run: Run, rule: str) -> NonFiniteError:
    lr = run.options.settings.get("lr", run.optimizer.lr)
    last = run.rows[-1]["epoch"] if run.rows else 0
    kept = f"epoch {last}, in {run.folder.path / 'model.safetensors'}"
    return NonFiniteError(
        f"wengert train {run.recipe.name}",
        rule,
        operands=[("lr", lr), ("last good", verbatim(kept))],
        fix=f"--lr {lr / 10:g}",
    )


def _save(run: Run) -> None:
    safetensors = need("safetensors.numpy", extra="train")
    about = json.dumps({"recipe": run.recipe.name, "epoch": run.epoch})
    run.folder.write(
        "model.safetensors", safetensors.save(run.model.state_dict(), {"wengert": about})
    )


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C inside the block only adds to the list, so that nobody is cut off while writing.

    A second one gets through.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def remember(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
