"""`wengert memory`: what a run would take in memory, before it is started."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from wengert.errors import OptionError, UnknownNameError, verbatim
from wengert.train import OPTIMIZERS, RECIPES, Options, find
from wengert.train import memory as predicted
from wengert.train.config import AMP, read_config
from wengert.train.memory import Breakdown

from .train import told

__all__ = ["add_to"]

# Sizes of published language models: layers, heads, width, vocabulary, context.
SIZES = ("layers", "heads", "width", "vocabulary", "context")
PRESETS: dict[str, tuple[int, ...]] = {
    "gpt2": (12, 12, 768, 50257, 1024),
    "gpt2-medium": (24, 16, 1024, 50257, 1024),
    "gpt2-large": (36, 20, 1280, 50257, 1024),
    "gpt2-xl": (48, 25, 1600, 50257, 1024),
    "gpt3": (96, 96, 12288, 50257, 2048),
}
HOW = ("batch_size", "amp", "accumulate", "checkpointing")


def add_to(commands: Any) -> None:
    """Add the command to the command line."""
    wide = max(map(len, PRESETS))
    listed = "\n".join(
        f"  {name:<{wide}}  {a} layers, {b} heads, width {c:,}, {e:,} places"
        for name, (a, b, c, _, e) in PRESETS.items()
    )
    command = commands.add_parser(
        "memory",
        help="what training would take in memory",
        description="What a training step takes in memory, by what it is for, and the most at a "
        "time. Nothing is trained and nothing large is allocated, be the network what it may.",
        epilog=f"recipes:\n  {', '.join(RECIPES)}\n\nlanguage models:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "what", metavar="WHAT", help="a recipe, the config.toml of a run, or a language model"
    )
    command.add_argument("--batch", type=int, metavar="N", help="examples per step")
    command.add_argument("--amp", metavar="KIND", help=f"mixed precision: {', '.join(AMP)}")
    command.add_argument("--optimizer", metavar="NAME", help=f"one of {', '.join(OPTIMIZERS)}")
    command.add_argument("--accumulate", type=int, metavar="N", help="parts that a batch is cut in")
    command.add_argument("--checkpointing", metavar="KIND", help="recompute: none, sqrt")
    command.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="task",
        help=f"an option of the recipe; of a language model: {', '.join(SIZES)}",
    )  # fmt: skip
    command.set_defaults(run=report)


def report(args: argparse.Namespace) -> int:
    """Print the table."""
    others = told(args.task)
    found = language(args, others) if args.what in PRESETS else recipe(args, others)
    print(found)
    return 0


def language(args: argparse.Namespace, others: dict[str, Any]) -> Breakdown:
    """That of a published language model, or of one with other sizes."""
    own = dict(zip(SIZES, PRESETS[args.what], strict=True))
    for name, value in others.items():
        find(f"option of {args.what}", name, own)
        own[name] = value
    batch = 1 if args.batch is None else args.batch
    parts = 1 if args.accumulate is None else args.accumulate
    for name, value in {**own, "batch": batch, "accumulate": parts}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(
                f"wengert memory({name}={value!r})", f"{name} is a whole number, at least 1"
            )
    return predicted.gpt(
        own["layers"], own["width"], own["heads"], own["vocabulary"], own["context"],
        -(-batch // parts), optimizer=args.optimizer or "adamw", amp=args.amp or "off",
        checkpointing=args.checkpointing or "none",
    )  # fmt: skip


def recipe(args: argparse.Namespace, others: dict[str, Any]) -> Breakdown:
    """That of a recipe's own network, data and loss."""
    asked = dict(zip(HOW, (args.batch, args.amp, args.accumulate, args.checkpointing)))
    given = {k: v for k, v in asked.items() if v is not None}
    task: dict[str, Any] = {}
    if args.what.endswith(".toml"):
        old, _ = read_config(args.what)
        name, task = old.recipe, dict(old.task)
        given = {k: getattr(old, k) for k in HOW} | given
        optimizer = args.optimizer or old.optimizer
    elif args.what in RECIPES:
        name, optimizer = args.what, args.optimizer
    else:
        raise UnknownNameError(
            f"wengert memory {args.what}", "there is no such recipe or language model",
            operands=[("known", verbatim(", ".join([*RECIPES, *PRESETS])))],
        )  # fmt: skip
    options = Options.of(name, optimizer=optimizer, task={**task, **others}, **given)
    own = RECIPES[name]
    parts = own.data(options.task)
    examples = min(options.batch_size, len(parts.train))
    return predicted(
        lambda: own.model(np.random.default_rng(0), options.task, parts),
        own.loss, parts.train.batch(np.arange(min(4, examples))), examples=examples,
        optimizer=options.optimizer, amp=options.amp, accumulate=options.accumulate,
        checkpointing=options.checkpointing,
    )  # fmt: skip
