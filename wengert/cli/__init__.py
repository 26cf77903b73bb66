"""The `wengert` command."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from wengert.errors import OptionError, WengertError, explain
from wengert.version import __version__

from . import memory, train, use

__all__ = ["main"]


class Parser(argparse.ArgumentParser):
    """What it refuses is an error like all others."""

    def error(self, message: str) -> NoReturn:
        chosen = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        known = re.findall(r"[\w-]+", chosen[2]) if chosen else []
        close = get_close_matches(chosen[1], known, n=1) if chosen else []
        raise OptionError(self.prog, message, fix=f"{self.prog} {close[0] if close else '--help'}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = Parser(
        prog="wengert",
        description="Backpropagation for NumPy: train a network and see what happened.",
    )
    top.add_argument("--version", action="version", version=f"wengert {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    train.add_to(commands)
    use.add_to(commands)
    memory.add_to(commands)
    explaining = commands.add_parser(
        "explain",
        help="the long form of an error message",
        description="What an error code means, with bad and good code.",
    )
    explaining.add_argument("code", metavar="CODE", help="the code of an error, such as WG101")
    explaining.set_defaults(run=lambda args: print(explain(args.code)))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    The exit status is 0, 1 (not solved), 2 (a mistake), 130 (Ctrl-C) or 143 (SIGTERM).
    """
    try:
        args = parser().parse_args(argv)
        return args.run(args) or 0
    except WengertError as error:
        # The line of code that an error names is ours here, and of no use to the reader.
        lines = [line for line in str(error).splitlines() if not line.startswith("  at:  ")]
        print(f"wengert: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"wengert: {train.interrupted(stop)}", file=sys.stderr)
        return 128 + getattr(stop, "signal", signal.SIGINT)
    except BrokenPipeError:  # whoever read our output has gone, as in `wengert ... | head`
        sys.stderr.close()
        return 1
