"""The timer behind every figure: ours, peer, ours, peer, ... in one process, on one thread.

A case is two functions without arguments that do the same work. They are called in turns, each call
is timed alone, and two ratios are reported: that of the shortest times and that of the medians. The
garbage collector stays on, as in a user's program. `--runs N` repeats the whole script in N fresh
processes and reports the median of their ratios with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
PACKAGES = ("numpy", "torch", "autograd")

if any(os.environ.get(name) != "1" for name in THREADS):  # the libraries read these when imported
    os.environ.update(dict.fromkeys(THREADS, "1"))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def peer(name: str) -> ModuleType | None:
    """A library to compare with, on one thread; None, and a line on the screen, if missing."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        print(f"without {name}: it is not installed (pip install '.[bench]')", file=sys.stderr)
        return None
    if name == "torch":
        module.set_num_threads(1)
        module.set_num_interop_threads(1)
    return module


@dataclass
class Case:
    """Two functions that do the same work.

    Args:
        name: what they do.
        against: what `peer` runs on.
        ours, peer: the functions.
        target: the ratio of medians that is aimed at; None if the figure is for information.
        ops: how many operations a call does, to show the time of one.
    """

    name: str
    against: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    target: float | None = None
    ops: int = 1


@dataclass
class Figure:
    """What was measured: times in microseconds an operation, or whatever `unit` says."""

    name: str
    against: str
    ours: tuple[float, float]  # shortest, median
    peer: tuple[float, float]
    target: float | None = None
    unit: str = "us"
    spread: tuple[float, float] | None = None  # of the ratio of medians, over several runs

    @property
    def ratios(self) -> tuple[float, float]:
        return self.ours[0] / self.peer[0], self.ours[1] / self.peer[1]


def duel(ours: Callable[[], Any], theirs: Callable[[], Any], seconds: float) -> list[list[int]]:
    """The times of both in ns, called in turns for so many seconds after a warm-up."""
    clock = time.perf_counter_ns
    times: list[list[int]] = [[], []]
    for _ in range(5):
        ours()
        theirs()
    gc.collect()
    end = clock() + int(seconds * 1e9)
    while clock() < end or len(times[0]) < 20:
        for f, into in ((ours, times[0]), (theirs, times[1])):
            start = clock()
            f()
            into.append(clock() - start)
    return times


def measure(case: Case, seconds: float) -> Figure:
    ours, theirs = (
        (min(t) / case.ops / 1e3, statistics.median(t) / case.ops / 1e3)
        for t in duel(case.ours, case.peer, seconds)
    )
    return Figure(case.name, case.against, ours, theirs, case.target)


# ------------------------------------------------------------------ what it was measured on


def machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [s for s in info.read_text().splitlines() if s.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    about = {"processor": cpu, "cores": str(os.cpu_count()), "system": platform.system()}
    if hasattr(os, "getloadavg"):
        about["load when started"] = f"{os.getloadavg()[0]:.2f}"
    about["python"] = f"{platform.python_implementation()} {platform.python_version()}"
    for name in PACKAGES:
        try:
            about[name] = version(name)
        except PackageNotFoundError:
            about[name] = "not installed"
    if "wengert" in sys.modules:
        about["wengert"] = sys.modules["wengert"].__version__
    return about


# ------------------------------------------------------------------ printing


def table(figures: Iterable[Figure]) -> str:
    head = (
        "program",
        "against",
        "ours min / med",
        "peer min / med",
        "min",
        "median",
        "spread",
        "target",
    )
    rows = [head]
    for f in figures:
        low, middle = f.ratios
        met = f.target is None or middle <= f.target
        goal = "" if f.target is None else f"{f.target:g} {'ok' if met else 'MISSED'}"
        span = "" if f.spread is None else f"{f.spread[0]:.2f}-{f.spread[1]:.2f}"
        times = [f"{a:.4g} / {b:.4g} {f.unit}" for a, b in (f.ours, f.peer)]
        rows.append((f.name, f.against, *times, f"{low:.2f}", f"{middle:.2f}", span, goal))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def merged(runs: list[list[Figure]]) -> list[Figure]:
    """One figure for each program out of several runs: the run with the median ratio stands."""
    out = []
    for same in zip(*runs, strict=True):
        ordered = sorted(same, key=lambda f: f.ratios[1])
        middle = ordered[len(ordered) // 2]
        middle.spread = ordered[0].ratios[1], ordered[-1].ratios[1]
        out.append(middle)
    return out


def again(runs: int) -> list[Figure]:
    """The same script in fresh processes, one after the other."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        for _ in range(runs):
            command = [sys.executable, *sys.argv, "--runs", "1", "--json", str(file)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            rows = json.loads(file.read_text())["figures"]
            for row in rows:
                row.pop("ratios")
            results.append([Figure(**row) for row in rows])
    return merged(results)


def main(about: str | None, figures: Callable[[argparse.Namespace], Iterable[Figure]]) -> None:
    """The command line of a benchmark whose figures are made by `figures(options)`."""
    text = (about or "").strip()
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each comparison")
    parser.add_argument("--runs", type=int, default=1, help="repeat in so many fresh processes")
    parser.add_argument("--only", default="", help="programs whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    here = machine()
    print(text.split("\n")[0], *[f"  {k:<18}{v}" for k, v in here.items()], "", sep="\n")
    measured = again(options.runs) if options.runs > 1 else list(figures(options))
    print(table(measured))
    if options.json:
        rows = [{**asdict(f), "ratios": f.ratios} for f in measured]
        options.json.write_text(json.dumps({"machine": here, "figures": rows}, indent=1) + "\n")


def cases(make: Callable[[], Iterable[Case]]) -> Callable[[argparse.Namespace], Iterable[Figure]]:
    """For `main`: measure each case that `make` gives."""

    def run(options: argparse.Namespace) -> Iterable[Figure]:
        return [measure(c, options.seconds) for c in make() if options.only in c.name]

    return run
