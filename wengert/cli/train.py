"""`wengert train`: options in, a run folder and a short report out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from wengert.extras import need
from wengert.train import (
    OPTIMIZERS,
    RECIPES,
    Options,
    Outcome,
    Run,
    Stopped,
    Watcher,
    fit,
    read_config,
)
from wengert.train.config import changes

from .pictures import Pictures
from .progress import Bar, Lines

__all__ = ["add_to", "interrupted", "train"]

EXTRAS = ("matplotlib.figure", "rich.progress", "safetensors.numpy")


def add_to(commands: Any) -> None:
    """Add the command to the command line."""
    wide = max(map(len, RECIPES))
    recipes = "\n".join(f"  {r.name:<{wide}}  {r.summary}" for r in RECIPES.values())
    defaults = "\n".join(
        f"  {r.name:<{wide}}  --epochs {r.epochs} --batch-size {r.batch_size} "
        f"--optimizer {next(iter(r.optimizers))} --lr {next(iter(r.optimizers.values()))['lr']:g}"
        for r in RECIPES.values()
    )
    command = commands.add_parser(
        "train",
        help="train a network by a recipe",
        description="Train a network by a recipe and write a run folder: metrics, weights, "
        "pictures, and a config.toml that repeats the run.",
        epilog=f"recipes:\n{recipes}\n\ntheir defaults, with --seed 0:\n{defaults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "recipe", metavar="RECIPE", help="a recipe, or the config.toml of a run to repeat"
    )
    command.add_argument("--epochs", type=int, metavar="N", help="passes over the training data")
    command.add_argument("--lr", type=float, metavar="X", help="learning rate")
    command.add_argument("--optimizer", metavar="NAME", help=f"one of {', '.join(OPTIMIZERS)}")
    command.add_argument("--batch-size", type=int, metavar="N", help="examples per step")
    command.add_argument("--seed", type=int, metavar="N", help="of the weights and the shuffling")
    command.add_argument(
        "--out", metavar="FOLDER", help="the run folder (default: runs/RECIPE-DATE-TIME)"
    )
    command.add_argument("--quiet", action="store_true", help="print only the last line")
    command.set_defaults(run=train)


def train(args: argparse.Namespace) -> int:
    """Run the command; 1 if the recipe's problem was not solved."""
    options, notes = options_of(args)
    for module in EXTRAS:  # before hours of work, not after
        need(module, extra="train")
    report = Report(quiet=args.quiet, notes=notes)
    watchers: list[Watcher] = [report, Pictures()]
    if not args.quiet:
        watchers.append(Bar() if sys.stdout.isatty() else Lines())
    outcome = fit(options, args.out, watchers)
    return 0 if outcome.solved else 1


def options_of(args: argparse.Namespace) -> tuple[Options, list[str]]:
    """The options of a recipe or of a file, changed by those on the command line."""
    given = {
        name: getattr(args, name)
        for name in ("epochs", "batch_size", "seed", "optimizer")
        if getattr(args, name) is not None
    }
    settings = {} if args.lr is None else {"lr": args.lr}
    if not args.recipe.endswith(".toml"):
        return Options.of(args.recipe, settings=settings, **given), []
    old, config = read_config(args.recipe)
    if given.get("optimizer", old.optimizer) == old.optimizer:
        settings = {**old.settings, **settings}
    again: dict[str, Any] = {
        "optimizer": old.optimizer,
        "epochs": old.epochs,
        "batch_size": old.batch_size,
        "schedule": old.schedule,
        "seed": old.seed,
    }
    return Options.of(old.recipe, settings=settings, **(again | given)), changes(config)


def interrupted(stop: KeyboardInterrupt) -> str:
    """What to say after Ctrl-C."""
    if not isinstance(stop, Stopped):
        return "stopped"
    run = stop.run
    last = run.rows[-1]["epoch"] if run.rows else 0
    what = f"the weights after epoch {last}" if last else "the untrained weights"
    return f"stopped in epoch {run.epoch}; {run.folder.path} holds {what}"


class Report(Watcher):
    """What is printed before and after."""

    def __init__(self, *, quiet: bool, notes: list[str]) -> None:
        self.quiet = quiet
        self.notes = notes

    def begin(self, run: Run) -> None:
        for note in self.notes:
            print(f"note: {note}", file=sys.stderr)
        if self.quiet:
            return
        options, parts = run.options, run.parts
        settings = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in options.settings.items())
        print(f"{run.recipe.name}: {run.recipe.summary}")
        if parts.test is parts.train:
            print(f"  data     {len(parts.train)} cases")
        else:
            sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts._asdict().items())
            print(f"  data     {sizes}")
        total = sum(p.size for p in run.model.parameters())
        layers = " ".join(map(repr, getattr(run.model, "layers", [])))
        print(f"  network  {layers}, {total:,} parameters")
        print(
            f"  descent  {options.optimizer}, {settings}, batches of {options.batch_size}, "
            f"seed {options.seed}"
        )

    def end(self, run: Run, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        if not self.quiet:
            print()
            if run.recipe.show is not None:
                print("\n".join(run.recipe.show(run.model, run.parts.test)))
            else:
                self._table(outcome)
            self._folder(run)
        verdict = f"{100 * outcome.accuracy:.2f} % of the test part right"
        if run.recipe.draws > 1:
            verdict = (
                f"all {outcome.examples} cases right"
                if outcome.solved
                else f"not solved: {outcome.right} of {outcome.examples} cases right"
            )
        epochs = "1 epoch" if run.epoch == 1 else f"{run.epoch:,} epochs"
        print(
            f"{run.recipe.name}: {verdict} after {epochs} and {outcome.seconds:.1f} s; "
            f"see {run.folder.path}"
        )

    def _table(self, outcome: Outcome) -> None:
        last = outcome.rows[-1]
        wrong = outcome.examples - outcome.right
        print(
            f"  test accuracy        {100 * outcome.accuracy:6.2f} %   "
            f"{wrong} of {outcome.examples} held-out examples wrong"
        )
        print(f"  validation accuracy  {100 * last['validation_accuracy']:6.2f} %")
        print(
            f"  training accuracy    {100 * last['train_accuracy']:6.2f} %   "
            f"loss {last['loss']:.4f}"
        )

    def _folder(self, run: Run) -> None:
        print(f"\n  {run.folder.path}/")
        every = run.recipe.every
        step = "an epoch" if every == 1 else f"every {every} epochs"
        about = {
            "config.toml": f"repeats this run: wengert train {run.folder.path / 'config.toml'}",
            "metrics.jsonl": f"{len(run.rows)} lines, one {step}",
            "model.safetensors": "the weights",
            **Pictures.FILES,
        }
        for name, what in about.items():
            if (Path(run.folder.path) / name).exists():
                print(f"    {name:<18} {what}")
        print()
