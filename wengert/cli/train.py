"""`wengert train`: options in, a run folder and a short report out."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

from wengert.errors import OptionError
from wengert.extras import need
from wengert.train import (
    OPTIMIZERS,
    RECIPES,
    Options,
    Outcome,
    Run,
    Stopped,
    Watcher,
    find,
    fit,
    keep_memory,
    read_config,
    resume,
)
from wengert.train.config import AMP, RUN, SCHEDULES, changes
from wengert.train.logs import TensorBoard

from .pictures import Pictures
from .progress import Bar, Lines

__all__ = ["add_to", "interrupted", "train"]

GIVEN = RUN  # the options of a run that the command line can change
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
    more = command.add_argument_group("how the steps are made")
    more.add_argument("--schedule", metavar="NAME", help=f"one of {', '.join(SCHEDULES)}")
    more.add_argument("--warmup", type=int, metavar="N", help="steps of a rising learning rate")
    more.add_argument("--accumulate", type=int, metavar="N", help="parts that a batch is cut into")
    more.add_argument("--clip-norm", type=float, metavar="X", help="limit of the gradient's length")
    more.add_argument("--clip-value", type=float, metavar="X", help="limit of each of its numbers")
    more.add_argument("--noise", type=float, metavar="X", help="deviation of noise on gradients")
    more.add_argument("--amp", metavar="KIND", help=f"mixed precision: {', '.join(AMP)}")
    more.add_argument("--ema", type=float, metavar="X", help="keep a running mean of the weights")
    more.add_argument("--patience", type=int, metavar="N", help="reports without improvement")
    more.add_argument("--checkpointing", metavar="KIND", help="recompute activations: none, sqrt")
    more.add_argument(
        "--compile", action=argparse.BooleanOptionalAction,
        help="run every step as one program (sooner with the extra `compile`)",
    )  # fmt: skip
    more.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="task",
        help="an option of the recipe itself, or of the optimizer",
    )  # fmt: skip
    command.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder RECIPE"
    )
    command.add_argument(
        "--out", metavar="FOLDER", help="the run folder (default: runs/RECIPE-DATE-TIME)"
    )
    command.add_argument(
        "--tensorboard", action="store_true", help="write an event file for TensorBoard too"
    )
    command.add_argument("--quiet", action="store_true", help="print only the last line")
    command.set_defaults(run=train)


def train(args: argparse.Namespace) -> int:
    """Run the command; 1 if the recipe's problem was not solved."""
    keep_memory()
    if args.resume:
        return go_on(args)
    options, notes = options_of(args)
    for module in EXTRAS:  # before hours of work, not after
        need(module, extra="train")
    outcome = fit(options, args.out, watchers_of(args, notes))
    return 0 if outcome.solved else 1


def watchers_of(args: argparse.Namespace, notes: list[str]) -> list[Watcher]:
    """Who is told how the run goes on."""
    watchers: list[Watcher] = [Report(quiet=args.quiet, notes=notes), Pictures()]
    if args.tensorboard:
        watchers.append(TensorBoard())
    if not args.quiet:
        watchers.append(Bar() if sys.stdout.isatty() else Lines())
    return watchers


def go_on(args: argparse.Namespace) -> int:
    """Resume the run in a folder."""
    fixed = [n for n in (*GIVEN, "optimizer", "lr", "out") if getattr(args, n) is not None]
    fixed = [n for n in fixed if n != "epochs"]
    if fixed or args.task:
        raise OptionError(
            "wengert train --resume",
            f"a run goes on with its own options, so --{(fixed or ['set'])[0]} cannot be given",
            fix="--epochs alone may change",
        )
    outcome = resume(args.recipe, watchers_of(args, []), epochs=args.epochs)
    return 0 if outcome.solved else 1


def told(pairs: list[str]) -> dict[str, Any]:
    """What `--set` was given: TOML values, or else text.

    Example:
        >>> told(["width=64", "text=a.txt", "tied=true"])
        {'width': 64, 'text': 'a.txt', 'tied': True}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (equals and name):
            fix = None if equals else f"--set {pair}=..."
            raise OptionError(f"--set {pair}", "it must be NAME=VALUE", fix=fix)
        try:
            values[name] = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            values[name] = text
    return values


def options_of(args: argparse.Namespace) -> tuple[Options, list[str]]:
    """The options of a recipe or of a file, changed by those on the command line."""
    given = {n: getattr(args, n) for n in GIVEN if getattr(args, n) is not None}
    settings: dict[str, Any] = {} if args.lr is None else {"lr": args.lr}
    others = told(args.task)
    if not args.recipe.endswith(".toml"):
        if args.recipe not in RECIPES and (file := Path(args.recipe) / "config.toml").exists():
            raise OptionError(
                f"wengert train {args.recipe}", "this is a run, and no recipe",
                fix=f"wengert train --resume {args.recipe}, or wengert train {file}",
            )  # fmt: skip
        own = find("recipe", args.recipe, RECIPES).task
        task = {k: v for k, v in others.items() if k in own}
        settings |= {k: v for k, v in others.items() if k not in own}
        return Options.of(
            args.recipe, optimizer=args.optimizer, settings=settings, task=task, **given
        ), []
    old, config = read_config(args.recipe)
    if args.optimizer in (None, old.optimizer):
        settings = {**old.settings, **settings}
    task = {**old.task, **{k: v for k, v in others.items() if k in old.task}}
    settings |= {k: v for k, v in others.items() if k not in old.task}
    again = {n: getattr(old, n) for n in GIVEN}
    return Options.of(
        old.recipe,
        optimizer=args.optimizer or old.optimizer,
        settings=settings,
        task=task,
        **(again | given),
    ), changes(config)


def interrupted(stop: KeyboardInterrupt) -> str:
    """What to say after Ctrl-C."""
    if not isinstance(stop, Stopped):
        return "stopped"
    run = stop.run
    last = run.rows[-1]["epoch"] if run.rows else 0
    what = f"the weights after epoch {last}" if last else "the untrained weights"
    return (
        f"stopped in epoch {run.epoch}; {run.folder.path} holds {what}\n"
        f"wengert: wengert train --resume {run.folder.path} goes on from here"
    )


def shown(value: Any) -> str:
    """A setting, as short as it may be.

    >>> shown(0.001), shown([0.9, 0.99]), shown(True)
    ('0.001', '0.9 0.99', 'True')
    """
    if isinstance(value, list | tuple):
        return " ".join(map(shown, value))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number else str(value)


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
        settings = ", ".join(
            f"{k.replace('_', ' ')} {shown(v)}" for k, v in options.settings.items()
        )
        print(f"{run.recipe.name}: {run.recipe.summary}")
        if parts.test is parts.train:
            print(f"  data     {len(parts.train)} cases")
        else:
            sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts._asdict().items())
            print(f"  data     {sizes}")
        total = sum(p.size for p in run.model.parameters())
        layers = " ".join(map(repr, getattr(run.model, "layers", [])))
        print(f"  network  {layers or type(run.model).__name__}, {total:,} parameters")
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
                print("\n".join(run.recipe.show(run.model, run.parts)))
            else:
                self._table(outcome)
            self._folder(run)
        verdict = ", ".join(f"test {k} {v:.4g}" for k, v in outcome.measures.items())
        if run.recipe.draws > 1:
            verdict = (
                f"all {outcome.examples} cases right"
                if outcome.solved
                else f"not solved: {outcome.right} of {outcome.examples} cases right"
            )
        elif "accuracy" in outcome.measures:
            verdict = f"{100 * outcome.accuracy:.2f} % of the test part right"
        epochs = "1 epoch" if run.epoch == 1 else f"{run.epoch:,} epochs"
        if run.draw:
            epochs += f", {run.draw + 1} draws of weights for up to {run.options.epochs:,} each,"
        print(
            f"{run.recipe.name}: {verdict} after {epochs} and {outcome.seconds:.1f} s; "
            f"see {run.folder.path}"
        )

    def _table(self, outcome: Outcome) -> None:
        last = outcome.rows[-1]
        for name, value in outcome.measures.items():
            values = [("test", value), *((p, last[f"{p}_{name}"]) for p in ("validation", "train"))]
            for part, value in values:
                part = "training" if part == "train" else part
                text = f"{100 * value:6.2f} %" if name == "accuracy" else f"{value:8.4f}"
                note = ""
                if part == "test" and name == "accuracy":
                    wrong = outcome.examples - outcome.right
                    note = f"   {wrong} of {outcome.examples} held-out examples wrong"
                if part == "training" and name == "accuracy":
                    note = f"   loss {last['loss']:.4f}"
                print(f"  {f'{part} {name}':<20} {text}{note}")

    def _folder(self, run: Run) -> None:
        print(f"\n  {run.folder.path}/")
        every, count = run.recipe.every, len(run.rows)
        step = ", one an epoch" if every == 1 else f", one every {every} epochs"
        step = "" if every > run.options.epochs else step
        about = {
            "config.toml": f"repeats this run: wengert train {run.folder.path / 'config.toml'}",
            "metrics.jsonl": "1 line" if count == 1 else f"{count} lines{step}",
            "model.safetensors": "the weights",
            "checkpoint.safetensors": "all that the run depends on, for --resume",
            "result.json": "how the run ended",
            **Pictures.FILES,
        }
        about |= {p.name: "for TensorBoard" for p in run.folder.path.glob("events.out.*")}
        about |= {p.name: "drawn by the recipe" for p in sorted(run.folder.path.glob("*.png"))}
        for name, what in about.items():
            if (Path(run.folder.path) / name).exists():
                print(f"    {name:<22} {what}")
        print()
