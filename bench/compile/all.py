"""Every benchmark of this folder, on one thread and on two, and a table of it in Markdown.

python bench/compile/all.py --out table.md            # about an hour
python bench/compile/all.py --only mlp,rows --seconds 1
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _peers import HERE

SCRIPTS = ("mlp", "attention", "gpt", "rows", "black_scholes", "small", "latency", "memory", "peak")
HEAD = ("program", "against", "target", "1 thread: min / median", "2 threads: min / median", "ours")


def collect(script: str, threads: int, seconds: float, more: list[str]) -> dict[str, Any]:
    """What a script wrote down; nothing if it failed, which is told and does not stop the rest."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [
            sys.executable, str(HERE / f"{script}.py"), "--threads", str(threads),
            "--seconds", str(seconds), "--json", str(file), *more,
        ]  # fmt: skip
        done = subprocess.run(command, stdout=sys.stderr)
        if done.returncode or not file.exists():
            print(f"{script} with {threads} threads failed", file=sys.stderr)
            return {"figures": []}
        return json.loads(file.read_text())


def ratios(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    low, middle = (a / b for a, b in zip(row["ours"], row["peer"]))
    goal = row["target"]
    missed = "" if goal is None or low <= goal else ", missed"
    return f"{low:.2f} / {middle:.2f}{missed}"


def keyed(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by program and family, or by program and contender where a family has several rows."""
    found = {(r["name"], r["against"].split()[0]): r for r in rows}
    return found if len(found) == len(rows) else {(r["name"], r["against"]): r for r in rows}


def lines(script: str, one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """Rows of the table; with two threads the best variant of a peer may be another one."""
    first, second = (keyed(d["figures"]) for d in (one, two))
    out = []
    for k in [*first, *(k for k in second if k not in first)]:
        row = first.get(k) or second[k]
        label = " / ".join(dict.fromkeys(d[k]["against"] for d in (first, second) if k in d))
        target = "" if row["target"] is None else f"{row['target']:g}"
        ours = f"{row['ours'][0]:.4g} {row.get('unit', 'us')}"
        cells = (f"{script}: {k[0]}", label, target, ratios(first.get(k)), ratios(second.get(k)))
        out.append(f"| {' | '.join((*cells, ours))} |")
    return out


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--out", type=Path, help="the Markdown file; left out, the screen")
    p.add_argument("--only", default=",".join(SCRIPTS), help="scripts, with commas between")
    p.add_argument("--threads", default="1,2", help="how many threads, with a comma between")
    p.add_argument("--seconds", type=float, default=2.0, help="for each contender of a case")
    p.add_argument("--peers", default="", help="only these families")
    options = p.parse_args()
    more = ["--peers", options.peers] if options.peers else []
    rows: list[str] = []
    machine: dict[str, str] = {}
    for script in options.only.split(","):
        counts = [int(n) for n in options.threads.split(",")]
        found = {n: collect(script, n, options.seconds, more) for n in counts}
        empty: dict[str, Any] = {"figures": []}
        rows += lines(script, found.get(1, empty), found.get(2, empty))
        for data in found.values():
            machine = machine or data.get("machine", {})
    told = [f"* {k}: {v}" for k, v in machine.items() if k != "threads"]
    table = [f"| {' | '.join(HEAD)} |", "|" + "-|" * len(HEAD), *rows]
    text = "\n".join([*told, "", *table, ""])
    if options.out:
        options.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
