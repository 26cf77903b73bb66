"""Expression swell: nodes of a derivative as a formula, and of the tape.  python bench/swell.py

Counts, not times, so that they are the same everywhere: the tables of docs/guides/symbolic.md, and
its picture with --picture. Needs the extras `symbolic` and, for the picture, `train`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import wengert as wg

DEPTHS = {
    "logistic map": (1, 2, 3, 4, 5, 6, 7, 8),
    "Speelpenning's product": (2, 4, 8, 16),
    "nested sin(exp(..))": (1, 2, 4, 8, 16),
}
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "swell.svg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", action="store_true", help=f"write {PICTURE.name}")
    args = parser.parse_args()
    measured = {name: wg.symbolic.swell(name, depths) for name, depths in DEPTHS.items()}
    for name, table in measured.items():
        print(f"\n{name}\n\n{table.markdown()}")
    if args.picture:
        PICTURE.write_text(wg.viz.swell(measured))


if __name__ == "__main__":
    main()
