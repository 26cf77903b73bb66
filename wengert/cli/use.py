"""`wengert evaluate`, `predict`, `sample` and `runs`: what finished runs are good for."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import random
from wengert.errors import DataError, OptionError, OutputError, verbatim
from wengert.extras import need
from wengert.trace import no_grad
from wengert.train import Trained, find, open_run
from wengert.train.loop import measured
from wengert.train.use import Summary, fitting, summaries

__all__ = ["add_to", "read_input"]

PARTS = ("test", "validation", "train")
SORTS = ("name", "recipe", "state", "measure", "seconds")


def add_to(commands: Any) -> None:
    """Add the four commands to the command line."""
    evaluating = commands.add_parser(
        "evaluate",
        help="measure a trained network again",
        description="What the recipe measures, of one part of the data.",
    )
    evaluating.add_argument("folder", metavar="RUN", help="a run folder")
    evaluating.add_argument(
        "--part", default="test", metavar="PART", help=f"one of {', '.join(PARTS)} (default: test)"
    )
    evaluating.set_defaults(run=evaluate)

    predicting = commands.add_parser(
        "predict",
        help="answers of a trained network",
        description="The answers of a trained network to the examples in a file: an array "
        "(.npy), a table (.csv), a picture (.png, .jpg), or numbers or text (.txt).",
    )
    predicting.add_argument("folder", metavar="RUN", help="a run folder")
    predicting.add_argument("input", metavar="INPUT", help="a .npy, .csv, .png, .jpg or .txt file")
    predicting.add_argument("--out", metavar="FILE", help="write them to a .npy or .csv file")
    predicting.set_defaults(run=predict)

    sampling = commands.add_parser(
        "sample",
        help="text written by a trained language model",
        description="Text written by a trained language model, one token after the other.",
    )
    sampling.add_argument("folder", metavar="RUN", help="a run folder")
    sampling.add_argument("--prompt", default="", metavar="TEXT", help="what it goes on from")
    sampling.add_argument("--length", type=int, default=400, metavar="N", help="tokens (400)")
    sampling.add_argument(
        "--temperature", type=float, default=0.8, metavar="X",
        help="0: always the most likely token; 1: as the network believes (0.8)",
    )  # fmt: skip
    sampling.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (0)")
    sampling.set_defaults(run=sample)

    listing = commands.add_parser(
        "runs",
        help="a table of runs",
        description="A table of the runs in a folder: what they were, how far they came, what "
        "they reached.",
    )
    listing.add_argument("root", nargs="?", default="runs", metavar="FOLDER", help="(runs)")
    listing.add_argument(
        "--sort", default="name", metavar="COLUMN", help=f"one of {', '.join(SORTS)} (name)"
    )
    listing.set_defaults(run=runs)


def opened(folder: str) -> Trained:
    """The run, with notes of what differs here."""
    trained = open_run(folder)
    for note in trained.notes:
        print(f"note: {note}", file=sys.stderr)
    return trained


def evaluate(args: argparse.Namespace) -> int:
    """Measure one part."""
    find("part", args.part, dict.fromkeys(PARTS))
    trained = opened(args.folder)
    part = getattr(trained.parts, args.part)
    for name, value in measured(trained.recipe, trained.model, part).items():
        text = f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.6g}"
        print(f"{args.part} {name:<10} {text}   {len(part):,} examples")
    return 0


def predict(args: argparse.Namespace) -> int:
    """Print or write answers."""
    if args.out and Path(args.out).suffix not in (".npy", ".csv"):
        raise OptionError(
            f"wengert predict --out {args.out}", "answers are written as .npy or .csv"
        )
    trained = opened(args.folder)
    recipe = trained.recipe
    if recipe.predict is None:
        able = "sample" if recipe.sample is not None else "evaluate"
        raise OptionError(
            f"wengert predict {args.folder}", f"the recipe {recipe.name} has no answers to inputs",
            fix=f"wengert {able} {args.folder}",
        )  # fmt: skip
    with no_grad():
        answers = np.asarray(recipe.predict(trained.model, inputs_of(trained, args.input)))
    if args.out:
        write(args.out, answers)
        return 0
    for answer in answers.reshape(len(answers), -1):
        print(" ".join(f"{v:g}" if answers.dtype.kind == "f" else str(v) for v in answer))
    return 0


def write(path: str, answers: NDArray[Any]) -> None:
    """Answers as a file, one row for each input."""
    try:
        if path.endswith(".npy"):
            np.save(path, answers, allow_pickle=False)
        else:
            form = "%d" if answers.dtype.kind in "iub" else "%.9g"
            np.savetxt(path, answers.reshape(len(answers), -1), form, delimiter=",")
    except OSError as error:
        raise OutputError(f"writing {path}", error.strerror or str(error)) from None


def inputs_of(trained: Trained, path: str) -> NDArray[Any]:
    """The inputs in a file, in the shape that the network takes."""
    kind = Path(path).suffix.lower()
    if kind == ".txt" and trained.recipe.read is not None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"reading {path}", error.strerror or str(error)) from None
        except UnicodeDecodeError as error:
            raise DataError(f"reading {path}", f"it is not UTF-8 text: {error}") from None
        return trained.recipe.read(text, trained.parts)
    if kind in (".png", ".jpg", ".jpeg"):
        return picture(trained, path)
    return fitting(trained, read_input(path))


def read_input(path: str) -> NDArray[Any]:
    """The numbers in a .npy, .csv or .txt file.

    Raises:
        DataError: the file is not there, or holds something else; the message names the line.
    """
    kind = Path(path).suffix.lower()
    if kind not in (".npy", ".csv", ".txt"):
        raise DataError(f"reading {path}", "inputs are .npy, .csv, .png, .jpg or .txt files")
    try:
        if kind == ".npy":
            return np.load(path, allow_pickle=False)
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"reading {path}", error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"reading {path}", f"it is not UTF-8 text: {error}") from None
    except (ValueError, EOFError):
        raise DataError(f"reading {path}", "it is not a .npy file of numbers") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        cells = line.split(",") if kind == ".csv" else line.split()
        if not any(c.strip() for c in cells):
            continue
        try:
            row = [float(c) for c in cells]
        except ValueError:
            if not rows and number == 1:
                continue  # a header
            raise DataError(
                f"reading {path}", f"line {number} is not a row of numbers",
                operands=[(f"line {number}", verbatim(line[:60]))],
            ) from None  # fmt: skip
        if rows and len(row) != len(rows[0]):
            raise DataError(
                f"reading {path}", f"line {number} has {len(row)} numbers, others {len(rows[0])}"
            )
        rows.append(row)
    if not rows:
        raise DataError(f"reading {path}", "there are no numbers in it")
    return np.array(rows)


def picture(trained: Trained, path: str) -> NDArray[Any]:
    """A grey picture of a digit, or whatever else the network takes pictures of.

    It is reduced to the size of the network's pictures by averaging, and turned around if its
    background is bright: in all the data sets here 0 is the background.
    """
    pillow = need("PIL.Image", extra="images")
    (example, *_) = trained.parts.train.batch(np.arange(1))
    size = [n for n in np.shape(example)[1:] if n > 1]
    if len(size) == 1 and math.isqrt(size[0]) ** 2 == size[0]:
        size = [math.isqrt(size[0])] * 2
    if len(size) != 2:
        raise OptionError(f"wengert predict .. {path}", f"{trained.recipe.name} takes no pictures")
    try:
        with pillow.open(path) as opened_file:
            grey = opened_file.convert("L")
            given = (grey.height, grey.width)
            x = np.asarray(grey.resize((size[1], size[0]), pillow.Resampling.BOX)) / 255.0
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise DataError(f"reading {path}", getattr(error, "strerror", None) or str(error)) from None
    edge = np.concatenate([x[0], x[-1], x[:, 0], x[:, -1]])
    if given != tuple(size):
        print(f"note: reduced from {given} to {tuple(size)} pixels", file=sys.stderr)
    if edge.mean() > 0.5:
        print("note: the background is bright, so black and white were exchanged", file=sys.stderr)
        x = 1.0 - x
    return fitting(trained, x.reshape(1, -1))


def sample(args: argparse.Namespace) -> int:
    """Print text."""
    if args.length < 1:
        raise OptionError(f"wengert sample --length {args.length}", "it must be at least 1")
    if not (args.temperature >= 0 and math.isfinite(args.temperature)):
        raise OptionError(
            f"wengert sample --temperature {args.temperature}", "it must be a number, at least 0"
        )
    trained = opened(args.folder)
    if trained.recipe.sample is None:
        raise OptionError(
            f"wengert sample {args.folder}",
            f"the recipe {trained.recipe.name} is no language model",
            fix=f"wengert evaluate {args.folder}",
        )
    rng = random.generator(args.seed)
    with no_grad():
        text = trained.recipe.sample(
            trained.model, trained.parts, rng, args.prompt, args.length, args.temperature
        )
    print(text)
    return 0


def runs(args: argparse.Namespace) -> int:
    """Print the table."""
    find("column", args.sort, dict.fromkeys(SORTS))
    found = summaries(args.root)
    if not found:
        print(f"no runs in {args.root}")
        return 0
    found.sort(key=lambda s: _key(s, args.sort))
    rows = [("run", "recipe", "state", "epochs", "measure", "seconds")]
    for s in found:
        seconds = "" if math.isnan(s.seconds) else f"{s.seconds:.1f}"
        rows.append((s.name, s.recipe, s.state, f"{s.epoch}/{s.epochs}", _measure(s), seconds))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, why in zip(rows, ["", *(s.why for s in found)]):
        line = "  ".join(cell.ljust(w) for cell, w in zip(row, wide)).rstrip()
        print(f"{line}  {why}".rstrip())
    return 0


def _measure(s: Summary) -> str:
    part = "test" if s.state == "finished" else "validation"
    for name, value in s.measures.items():
        if name != "loss" or len(s.measures) == 1:
            shown = f"{100 * value:.2f} %" if name == "accuracy" else f"{name} {value:.4g}"
            return f"{part} {shown}"
    return ""


def _key(s: Summary, column: str) -> Any:
    if column == "measure":
        name, value = next(iter(s.measures.items()), ("", math.inf))
        return (s.recipe, -value if name == "accuracy" else value, s.name)
    if column == "seconds":
        return (math.isnan(s.seconds), s.seconds, s.name)
    return (getattr(s, column), s.name)
