"""Contenders in processes of their own, fed in turns: ours, peer, peer, ours, peer, peer, ...

Several pools of threads in one process disturb each other long after their work is done, so every
contender lives in a child of its own, which waits on a pipe until it is its turn and then runs for
a fraction of a second. With `--threads 1` all children of a case are pinned to the core that is
idle most, with more to as many; the libraries are told how many threads they have before they are
imported. A contender is made by a function that imports its library, and returns one call (which
waits for its result) with numbers that show what it computed: those of every contender must agree
before anything is timed.

A family (`jax`, `torch`) may have several variants; the best of them counts, by the shortest time
for one ratio and by the median for the other. A variant that fails is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Call = Callable[[], Any]
Maker = Callable[[], "tuple[Call, Any]"]
WARM = 2  # calls at the start of a turn that are not counted: caches and threads are cold
SHORT = 50_000  # ns: calls shorter than this are timed several at once
TURNS = 8


@dataclass
class Case:
    """Programs that compute the same.

    Args:
        name: what they do.
        makers: contender -> function that makes it; the first word of its name is its family.
        targets: family -> our time over its time that is aimed at.
        tolerance: of the numbers, relative to the largest of each array.
    """

    name: str
    makers: dict[str, Maker]
    targets: dict[str, float | None] = field(default_factory=dict)
    tolerance: float = 1e-3


def family(label: str) -> str:
    return label.split()[0]


# ------------------------------------------------------------------ the child


def environment(threads: int) -> dict[str, str]:
    """What the libraries read when they are imported."""
    n = str(threads)
    names = "OPENBLAS OMP MKL BLIS WENGERT"
    env = {**os.environ, **{f"{name}_NUM_THREADS": n for name in names.split()}}
    eigen = "true" if threads > 1 else "false"
    env["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={n}"
    env["JAX_PLATFORMS"] = "cpu"
    env["BENCH_CORES"] = env.get("BENCH_CORES") or quiet(threads)
    paths = [str(HERE.parents[1]), str(HERE), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    return env


def quiet(threads: int) -> str:
    """The cores that were idle most over the last moment, with commas between."""
    if not hasattr(os, "sched_setaffinity"):
        return ""

    def idle() -> dict[int, int]:
        lines = Path("/proc/stat").read_text().splitlines()
        found = [line.split() for line in lines if line[:3] == "cpu" and line[3].isdigit()]
        return {int(words[0][3:]): int(words[4]) for words in found}

    before = idle()
    time.sleep(0.3)
    after = idle()
    cores = sorted(os.sched_getaffinity(0), key=lambda c: before[c] - after[c])
    return ",".join(map(str, sorted(cores[:threads])))


def pin() -> None:
    """Stay on the cores that the parent has chosen."""
    chosen = os.environ.get("BENCH_CORES", "")
    if chosen:
        os.sched_setaffinity(0, set(map(int, chosen.split(","))))


def strict() -> None:
    """A function that runs uncompiled is an error, not a slow contender."""
    warnings.filterwarnings("error", message=".*runs uncompiled.*")


def burst(call: Call, seconds: float, each: int) -> list[float]:
    """Times of a call in ns; `each` calls are timed at once."""
    clock, turns = time.perf_counter_ns, range(each)
    out = []
    for _ in range(WARM):
        call()
    end = clock() + int(seconds * 1e9)
    while clock() < end or len(out) < 2:
        start = clock()
        for _ in turns:
            call()
        out.append((clock() - start) / each)
    return out


def grouped(call: Call) -> int:
    """How many calls are timed at once."""
    took = min(burst(call, 0.02, 1))
    return 1 if took > SHORT else max(1, int(2 * SHORT / took))


def serve(make: Maker) -> None:
    """Make a contender and run it whenever the parent says so."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: Any) -> None:
        answer.write(json.dumps(message) + "\n")
        answer.flush()

    try:
        strict()
        call, numbers = make()
        each = grouped(call)
    except Exception as error:
        say({"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"})
        return
    with tempfile.NamedTemporaryFile(delete=False) as file:
        pickle.dump(numbers, file)
    say({"numbers": file.name, "each": each})
    for line in sys.stdin:
        say(burst(call, float(line), each))


# ------------------------------------------------------------------ the parent


class Contender:
    """A child process."""

    def __init__(self, script: str, case: str, label: str, threads: int, env: Any) -> None:
        self.label, self.times, self.error, self.numbers = label, [[]], "", None
        command = [sys.executable, script, "--child", case, label, "--threads", str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=env, stderr=None if "-v" in sys.argv else subprocess.DEVNULL,
        )  # fmt: skip
        answer = self.answer()
        if "error" in answer:
            self.error = answer["error"]
            self.close()
            return
        path = Path(answer["numbers"])
        self.numbers = pickle.loads(path.read_bytes())
        path.unlink()

    def answer(self) -> Any:
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def run(self, seconds: float) -> None:
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self.times.append(self.answer())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    @property
    def figures(self) -> tuple[float, float]:
        """Shortest and median time, in us."""
        flat = [t / 1e3 for turn in self.times for t in turn]
        return min(flat), statistics.median(flat)


def agree(name: str, these: Contender, those: Contender, tolerance: float) -> None:
    """The numbers of two contenders are the same, or nothing is timed."""
    import numpy as np

    mine, theirs = ([np.asarray(x, np.float64) for x in c.numbers] for c in (these, those))
    assert len(mine) == len(theirs), (name, these.label, those.label)
    for k, (a, b) in enumerate(zip(mine, theirs)):
        error = np.max(np.abs(a - b), initial=0) / max(np.max(np.abs(b), initial=0), 1e-30)
        if not error <= tolerance or a.shape != b.shape:
            raise SystemExit(
                f"{name}: number {k} of {these.label} and {those.label} differ by {error:.2g}: "
                f"{a.ravel()[:4]} and {b.ravel()[:4]}"
            )


def contest(script: str, case: Case, options: Any) -> list[dict[str, Any]]:
    """Every contender of a case, timed in turns: rows with ours against each family."""
    contenders = []
    env = environment(options.threads)
    for label in case.makers:
        if options.peers and family(label) not in ("wengert", *options.peers.split(",")):
            continue
        c = Contender(script, case.name, label, options.threads, env)
        if c.error:
            print(f"  {case.name}: without {label}: {c.error}", file=sys.stderr)
            continue
        contenders.append(c)
    try:
        for c in contenders[1:]:
            agree(case.name, contenders[0], c, case.tolerance)
        for _ in range(TURNS):
            for c in contenders:
                c.run(options.seconds / TURNS)
    finally:
        for c in contenders:
            c.close()
    return rows(case, contenders)


def rows(case: Case, contenders: list[Contender]) -> list[dict[str, Any]]:
    groups: dict[str, list[Contender]] = {}
    for c in contenders:
        groups.setdefault(family(c.label), []).append(c)
    mine = groups.pop("wengert", None)
    if mine is None:
        return []

    def best(group: list[Contender]) -> tuple[tuple[float, float], str]:
        figures = [c.figures for c in group]
        shortest = min(figures)
        return (
            (shortest[0], min(f[1] for f in figures)),
            group[figures.index(shortest)].label,
        )

    ours, form = best(mine)
    out = []
    for name, group in groups.items():
        theirs, label = best(group)
        out.append({
            "name": case.name, "against": label, "form": form, "target": case.targets.get(name),
            "ours": ours, "peer": theirs, "all": {c.label: c.figures for c in contenders},
        })  # fmt: skip
    return out


def parser(about: str | None) -> argparse.ArgumentParser:
    text = (about or "").strip()
    p = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--threads", type=int, default=1, help="of every contender")
    p.add_argument("--seconds", type=float, default=2.0, help="for each contender")
    p.add_argument("--only", default="", help="cases whose name contains this")
    p.add_argument("--peers", default="", help="only these families, with commas between")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    p.add_argument("-v", action="store_true", help="show what the children say")
    p.add_argument("--child", nargs=2, metavar=("CASE", "CONTENDER"), help=argparse.SUPPRESS)
    return p


def main(about: str | None, cases: Callable[[], Iterable[Case]]) -> None:
    """The command line of a benchmark of cases."""
    options = parser(about).parse_args()
    if options.child:
        pin()
        name, label = options.child
        (case,) = [c for c in cases() if c.name == name]
        serve(case.makers[label])
        return
    script = os.path.abspath(sys.argv[0])
    found: list[dict[str, Any]] = []
    for case in cases():
        if options.only in case.name:
            found += contest(script, case, options)
    report(about, found, options)


def report(about: str | None, found: list[dict[str, Any]], options: Any) -> None:
    """The table on the screen, and the file."""
    os.environ.update({f"{n}_NUM_THREADS": "1" for n in ("OPENBLAS", "OMP", "MKL", "BLIS")})
    sys.path.insert(0, str(HERE.parent))
    import _harness

    _harness.PACKAGES = ("numpy", "torch", "jax", "llvmlite")
    here = {**_harness.machine(), "threads": str(options.threads)}
    head = (about or "").strip().split("\n")[0]
    print(head, *[f"  {k:<18}{v}" for k, v in here.items()], "", sep="\n")
    print(_harness.table([
        _harness.Figure(
            r["name"], r["against"], tuple(r["ours"]), tuple(r["peer"]), r["target"],
            r.get("unit", "us"),
        )
        for r in found
    ]))  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"machine": here, "figures": found}, indent=1) + "\n")


__all__ = [
    "Case",
    "Contender",
    "agree",
    "contest",
    "environment",
    "main",
    "parser",
    "pin",
    "strict",
]
