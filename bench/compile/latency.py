"""The time until a compiled training step has run for the first time, imports excluded.

    cold: nothing on disk      disk: in a fresh process, after another one has left its code there

Every figure is from fresh processes; JAX with its persistent compilation cache, PyTorch with
Inductor's. Then the time of a first call against the size of the program: layers of elementwise
operations, forward and backward, and layers of an MLP, a whole step; `growth` is the exponent p of
time ~ size^p over the larger half: 1 is linear.
"""

from __future__ import annotations

import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import mlp
from _peers import HERE, environment, family, parser, pin, report, strict

TARGETS = {
    "jax cold": ("wengert cold", 0.35), "jax disk": ("wengert disk", 0.05),
    "torch cold": ("wengert cold", 0.05), "torch disk": ("wengert disk", None),
}  # fmt: skip
CHAINS, LAYERS = (10, 30, 100, 300, 1000), (1, 2, 4, 8, 16, 32)


def imported(library: str) -> None:
    """Everything that a first call would import."""
    import importlib

    import numpy as np

    names = {
        "wengert": "wengert.nn wengert.optim llvmlite.binding "
        "wengert.compile.backends.llvm.program",
        "jax": "jax jax.numpy jax.nn",
        "torch": "torch torch._dynamo torch._inductor.compile_fx torch._inductor.codegen.cpp",
    }[library]
    for name in names.split():
        importlib.import_module(name)
    if library == "jax":
        import jax

        jax.block_until_ready(jax.numpy.ones(3))
    np.ones((8, 8)) @ np.ones((8, 8))
    gc.collect()  # what the imports left is not the first call's to collect


def first(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    call()
    return call, time.perf_counter() - start


def step(library: str, kind: str, sizes: Any, batch: int) -> float:
    """Seconds of the first call of a step of `mlp.py`."""
    mlp.finished = first
    if library == "jax":
        return mlp.jax_step(kind, sizes, batch)[1]
    if library == "torch":
        return mlp.torch_step(kind, "compile fused", sizes, batch)[1]
    if os.environ.get("WRITTEN_OUT"):
        return mlp.written_out(kind, sizes, batch)[1]
    return mlp.ours(kind, sizes, batch)[1]


def chain(library: str, n: int) -> float:
    """Seconds of the first call of value and gradient of n layers of tanh(x * a + b)."""
    import numpy as np

    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    if library == "wengert":
        import wengert as xp

        value, total, tanh = xp.value_and_grad, np.sum, np.tanh
        made = partial(xp.compile, wait=True)
    else:
        import jax

        value, total, tanh = jax.value_and_grad, jax.numpy.sum, jax.numpy.tanh
        made = jax.jit

    def f(x: Any) -> Any:
        for k in range(n):
            x = tanh(x * (1 + 0.01 * (k % 7)) + 0.1)
        return total(x)

    g = made(value(f))
    return first(lambda: [np.asarray(y) for y in (lambda v, d: (v, d))(*g(x))])[1]


def deep(library: str, n: int) -> float:
    """Seconds of the first call of an SGD step of an MLP of n layers."""
    return step(library, "sgd", (64,) * n + (10,), 64)


PROGRAMS: dict[str, Any] = {
    f"{name} {kind}": partial(step, kind=kind, sizes=sizes, batch=batch)
    for name, sizes, batch, _ in mlp.SHAPES[:2]
    for kind in ("sgd", "adam")
}
PROGRAMS.update({f"chain {n}": partial(chain, n=n) for n in CHAINS})
PROGRAMS.update({f"layers {n}": partial(deep, n=n) for n in LAYERS})


def child(program: str, library: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    strict()
    imported(library)
    out.write(json.dumps(PROGRAMS[program](library)) + "\n")
    out.flush()


def run(program: str, library: str, options: Any, folder: str) -> float | None:
    """Seconds in a fresh process that keeps its code in `folder`, or nowhere if it is empty."""
    env = environment(options.threads)
    env.update(
        WENGERT_CACHE=folder,
        TORCHINDUCTOR_CACHE_DIR=folder or tempfile.mkdtemp(),
        JAX_ENABLE_COMPILATION_CACHE="true" if folder else "false",
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
    )
    if folder:
        env["JAX_COMPILATION_CACHE_DIR"] = folder
    done = subprocess.run(
        [sys.executable, str(HERE / Path(__file__).name), "--child", program, library],
        env=env, stdout=subprocess.PIPE, text=True,
        stderr=None if options.v else subprocess.DEVNULL,
    )  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else None


def times(program: str, label: str, options: Any) -> list[float]:
    library, way = label.split()
    out: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        if way == "disk":
            run(program, library, options, folder)
        for _ in range(options.repeats):
            seconds = run(program, library, options, folder if way == "disk" else "")
            if seconds is None:
                print(f"  {program}: without {label}", file=sys.stderr)
                return []
            out.append(seconds * 1e3)
    print(f"  {program}, {label}: {min(out):.1f} ms", file=sys.stderr)
    return out


def steps(options: Any) -> list[dict[str, Any]]:
    found = []
    for program in PROGRAMS:
        if program.split()[0] in ("chain", "layers") or options.only not in program:
            continue
        seen: dict[str, list[float]] = {}
        for label in ("wengert cold", "wengert disk", *TARGETS):
            if not options.peers or family(label) in ("wengert", *options.peers.split(",")):
                seen[label] = times(program, label, options)
        for label, (mine, target) in TARGETS.items():
            if seen.get(label) and seen[mine]:
                ours, peer = ((min(t), statistics.median(t)) for t in (seen[mine], seen[label]))
                found.append({
                    "name": f"{program} {label.split()[1]}", "against": label, "target": target,
                    "ours": ours, "peer": peer, "unit": "ms",
                })  # fmt: skip
    return found


def growth(options: Any) -> list[dict[str, Any]]:
    found = []
    for kind, sizes in (("chain", CHAINS), ("layers", LAYERS)):
        if options.only not in kind:
            continue
        for library in ("wengert", "jax"):
            ms = [
                min(times(f"{kind} {n}", f"{library} cold", options) or [math.nan]) for n in sizes
            ]
            half = len(sizes) // 2
            p = math.log(ms[-1] / ms[half]) / math.log(sizes[-1] / sizes[half])
            told = ", ".join(f"{n}: {t:.0f} ms" for n, t in zip(sizes, ms))
            print(f"  {kind}, {library}: {told}; growth {p:.2f}")
            found.append(
                {"name": kind, "library": library, "ms": dict(zip(sizes, ms)), "growth": p}
            )
    return found


def main() -> None:
    p = parser(__doc__)
    p.add_argument("--repeats", type=int, default=3, help="fresh processes for each figure")
    options = p.parse_args()
    if options.child:
        pin()
        child(*options.child)
        return
    grown = growth(options)
    report(__doc__, steps(options), options)
    if options.json:
        done = json.loads(options.json.read_text())
        options.json.write_text(json.dumps({**done, "growth": grown}, indent=1) + "\n")


if __name__ == "__main__":
    main()
