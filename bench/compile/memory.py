"""Peak memory of a large MLP step and of a GPT step: resident set, a fresh process for each.

`before`: once the library is imported and has computed something; `peak`: the most that the
process ever held, compiling and five steps included; the ratio is that of what came on top of
`before`. `plan`: what our own plan says the values of a step take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gpt
import mlp
from _peers import HERE, environment, family, parser, pin, report, strict

CASES: dict[str, dict[str, Any]] = {}
for kind in ("sgd", "adam"):
    name, sizes, batch, _ = mlp.SHAPES[-1]
    CASES[f"{name} {kind}"] = {
        "wengert": partial(mlp.ours, kind, sizes, batch),
        "jax": partial(mlp.jax_step, kind, sizes, batch),
        "torch eager": partial(mlp.torch_step, kind, "eager fused", sizes, batch),
        "torch compile": partial(mlp.torch_step, kind, "compile fused", sizes, batch),
        "numpy": partial(mlp.numpy_step, kind, sizes, batch),
    }
CASES["gpt adamw"] = {
    "wengert": gpt.ours,
    "jax": partial(gpt.jax_step, False),
    "torch eager": partial(gpt.torch_step, "eager fused"),
    "torch compile": partial(gpt.torch_step, "compile fused"),
}


def resident(which: str) -> float:
    """MB."""
    text = Path("/proc/self/status").read_text()
    return float(text.partition(which)[2].split()[0]) / 1000


def imported(label: str) -> None:
    """The library with what it needs for a first small computation."""
    import numpy as np

    if family(label) == "jax":
        import jax

        jax.jit(lambda x: x + 1)(np.ones(3)).block_until_ready()
    elif family(label) == "torch":
        import torch

        (torch.ones(3) @ torch.ones(3)).item()
    elif family(label) == "wengert":
        import wengert as wg

        wg.compile(lambda x: x + 1, wait=True)(np.ones(3))
    np.ones((8, 8)) @ np.ones((8, 8))


def planned() -> Any:
    """Bytes that the plans of the compiled functions of this process take."""
    import gc

    from wengert.compile.jit import Compiled

    sizes = [
        v.executable.plan.size
        for c in gc.get_objects()
        if isinstance(c, Compiled)
        for vs in c.variants.values()
        for v in vs
        if hasattr(v.executable, "plan")
    ]
    return max(sizes, default=None)


def child(case: str, label: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    strict()
    imported(label)
    before = resident("VmRSS:")
    call, _ = CASES[case][label]()
    for _ in range(5):
        call()
    answer = {"before": before, "peak": resident("VmHWM:"), "now": resident("VmRSS:")}
    if label == "wengert":
        answer["plan"] = planned()
    out.write(json.dumps(answer) + "\n")
    out.flush()


def main() -> None:
    options = parser(__doc__).parse_args()
    if options.child:
        pin()
        child(*options.child)
        return
    found = []
    for case, makers in CASES.items():
        if options.only not in case:
            continue
        seen: dict[str, dict[str, float]] = {}
        for label in makers:
            command = [sys.executable, str(HERE / Path(__file__).name), "--child", case, label]
            done = subprocess.run(
                [*command, "--threads", str(options.threads)], env=environment(options.threads),
                stdout=subprocess.PIPE, text=True,
                stderr=None if options.v else subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode:
                print(f"  {case}: without {label}", file=sys.stderr)
                continue
            seen[label] = json.loads(done.stdout)
            print(f"  {case}, {label}: {seen[label]}", file=sys.stderr)
        ours = seen.pop("wengert", None)
        if ours is None:
            continue
        for label, theirs in seen.items():
            pairs = [(s["peak"] - s["before"], s["peak"]) for s in (ours, theirs)]
            found.append({
                "name": case, "against": label, "target": None, "ours": pairs[0],
                "peer": pairs[1], "unit": "MB", "all": {"wengert": ours, label: theirs},
            })  # fmt: skip
    print("columns: MB on top of the imports / MB in all")
    report(__doc__, found, options)


if __name__ == "__main__":
    main()
