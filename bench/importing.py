"""What `import wengert` costs over `import numpy`, and what the wheel weighs and asks for.

Fresh interpreters, in turns: one that imports NumPy, one that imports wengert (and so NumPy too).
Each times its own import; the figure is the difference, to be at most 0.1 s. Both packages are
compiled to bytecode by a first start that does not count, into a folder of this run. Then the wheel
is built into another: it is to be under 1 MB and to require NumPy alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from _harness import machine

ROOT = Path(__file__).resolve().parent.parent
SECONDS, BYTES = 0.1, 1_000_000
TIMED = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def start(module: str, environment: dict[str, str]) -> float:
    """Seconds that the import takes in a fresh interpreter."""
    command = [sys.executable, "-c", TIMED.format(module)]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(run.stdout)


def imports(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"numpy": [], "wengert": []}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for module in times:
            start(module, environment)
        for _ in range(rounds):
            for module, into in times.items():
                into.append(start(module, environment))
    return times


def wheel() -> tuple[int, int, list[str]]:
    """Its size in bytes, how many files it holds, and what it requires without extras."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", folder, str(ROOT)]
        subprocess.run(command, check=True)
        (file,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            (about,) = (n for n in names if n.endswith(".dist-info/METADATA"))
            metadata = Parser().parsestr(archive.read(about).decode())
        needs = metadata.get_all("Requires-Dist", [])
        return file.stat().st_size, len(names), [n for n in needs if "extra ==" not in n]


def verdict(met: bool) -> str:
    return "ok" if met else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="fresh interpreters of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    here = machine()
    print("Importing", *[f"  {k:<18}{v}" for k, v in here.items()], "", sep="\n")

    times = imports(options.rounds)
    for name, t in times.items():
        print(
            f"import {name:<10}{min(t) * 1e3:7.1f} ms min {statistics.median(t) * 1e3:8.1f} median"
        )
    low = min(times["wengert"]) - min(times["numpy"])
    middle = statistics.median(b - a for a, b in zip(*times.values()))
    print(f"difference       {low * 1e3:7.1f} ms min {middle * 1e3:8.1f} median", end="")
    print(f"   target 100 ms {verdict(middle <= SECONDS)}")

    try:
        size, files, needs = wheel()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the wheel could not be built: {error}") from None
    print(f"wheel            {size:,} bytes, {files} files   target 1 MB {verdict(size < BYTES)}")
    alone = len(needs) == 1 and needs[0].startswith("numpy")
    print(f"requires         {', '.join(needs)}   target NumPy alone {verdict(alone)}")
    if options.json:
        figures = {
            "import_seconds": times,
            "difference": {"min": low, "median": middle},
            "wheel": {"bytes": size, "files": files, "requires": needs},
        }
        options.json.write_text(json.dumps({"machine": here, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
