"""How a run goes on, on a terminal and elsewhere."""

from __future__ import annotations

import time
from typing import Any

from wengert.extras import need
from wengert.train import Outcome, Run, Watcher

__all__ = ["Bar", "Lines"]

WIDE = 100  # columns of a terminal from which on everything is written out


def numbers(row: dict[str, Any], *, short: bool = False) -> str:
    """The loss, the measures and the speed of a row of metrics.

    Example:
        >>> row = {"loss": 0.25, "train_accuracy": 0.9, "validation_accuracy": 1.0}
        >>> numbers({**row, "examples_per_second": 61234.5})
        'loss 0.2500  train  90.0 %  validation 100.0 %  61,234 examples/s'
        >>> numbers({**row, "examples_per_second": 61234.5}, short=True)
        'loss 0.2500 train 90.0% val 100.0% 61,234 ex/s'
        >>> numbers({"loss": 2.5, "validation_loss": 2.75, "examples_per_second": 10.0})
        'loss 2.5000  validation loss 2.7500  10 examples/s'
    """
    parts = [f"loss {row['loss']:.4f}"]
    for key, value in row.items():
        part, _, what = key.partition("_")
        if part not in ("train", "validation") or key == "train_loss":
            continue
        name = "val" if short and part == "validation" else part
        if what == "accuracy":
            parts.append(f"{name} {100 * value:.1f}%" if short else f"{name} {100 * value:5.1f} %")
        else:
            parts.append(f"{name} {what} {value:.4g}" if short else f"{name} {what} {value:.4f}")
    speed = row["examples_per_second"]
    if short:
        return " ".join([*parts, f"{speed:,.0f} ex/s"])
    return "  ".join([*parts, f"{speed:,.0f} examples/s"])


class Lines(Watcher):
    """A plain line for every reported epoch; where weights are drawn again, counted anew."""

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        total = run.options.epochs
        wide = len(str(total))
        draw = f"draw {row['draw']}  " if "draw" in row else ""
        done = row["epoch"] - total * run.draw
        print(f"{draw}epoch {done:>{wide}}/{total}  {numbers(row)}", flush=True)

    def message(self, run: Run, text: str) -> None:
        print(text, flush=True)


class Bar(Watcher):
    """A live progress bar, with the numbers of the last whole epoch."""

    def __init__(self, console: Any = None) -> None:
        self.console = console

    def begin(self, run: Run) -> None:
        rich = need("rich.progress", extra="train")
        self.progress = rich.Progress(
            rich.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            rich.BarColumn(bar_width=None),
            rich.TextColumn("{task.fields[numbers]}"),
            rich.TimeRemainingColumn(compact=True),
            refresh_per_second=10,
            expand=True,
            console=self.console,
        )
        self.epochs = run.options.epochs
        self.task = self.progress.add_task(
            "",
            total=self.epochs * run.steps_per_epoch,
            epoch=1,
            epochs=self.epochs,
            numbers="",
        )
        self.shown = 0.0
        self.drawn = 0
        self.progress.start()

    def step(self, run: Run, done: int) -> None:
        now = time.perf_counter()
        if now - self.shown > 0.05:  # a redraw costs as much as a step
            self.shown = now
            epoch = run.epoch - self.drawn
            at = (epoch - 1) * run.steps_per_epoch + done
            self.progress.update(self.task, completed=at, epoch=epoch)

    def epoch(self, run: Run, row: dict[str, Any]) -> None:
        epoch = row["epoch"] - self.drawn
        self.progress.update(
            self.task,
            completed=epoch * run.steps_per_epoch,
            epoch=epoch,
            numbers=numbers(row, short=self.progress.console.width < WIDE),
        )

    def message(self, run: Run, text: str) -> None:
        self.progress.console.print(text, highlight=False)
        self.drawn = run.epoch
        self.progress.reset(self.task, total=self.epochs * run.steps_per_epoch)

    def end(self, run: Run, outcome: Outcome | None) -> None:
        self.progress.stop()
