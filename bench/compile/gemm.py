"""How fast one core multiplies float32 matrices, and how a product should be cut into parts.

    peak        the best speed of any product here, in GFLOP/s
    numpy       np.matmul
    whole       the same library through its address, from native code, in one call
    rows R      in blocks of R rows of the result, the blocks one after the other
    columns R   in blocks of R columns
    own         wengert's own generated product (`gemm.py` of the LLVM backend), whole or in blocks

A layer of a network with `batch` samples, `inputs` and `outputs` needs three of them:

    NN  forward            y = x w           [batch, inputs] [inputs, outputs]
    NT  of the input       gx = gy w^T       [batch, outputs] [inputs, outputs]^T
    TN  of the weight      gw = x^T gy       [batch, inputs]^T [batch, outputs]

Shortest processor times of calls made in turns, on one thread: other work on the machine counts
for little. Run it as `python bench/compile/gemm.py`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
if any(os.environ.get(name) != "1" for name in THREADS):  # the libraries read these when imported
    os.environ.update(dict.fromkeys(THREADS, "1"))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

import numpy as np  # noqa: E402 - after the environment is set

from wengert.compile.backends.llvm import blas  # noqa: E402
from wengert.native import cache, gemm, target  # noqa: E402

LAYERS = ((32, 784, 128), (128, 784, 512), (128, 512, 512), (512, 784, 2048), (512, 2048, 2048))
BLOCKS = (8, 16, 32, 64, 128)
DECLARATION = (
    "declare void @gemm_f32(i32, i32, i64, i64, i64, float, ptr, i64, ptr, i64, float, ptr, i64)"
)
MODES = {"NN": (0, 0), "NT": (0, 1), "TN": (1, 0)}


def source(product: str) -> str:
    """@cut(table): a product in blocks; table: a b c m n k ta tb lda ldb rows columns."""
    names = ("a", "b", "c", "m", "n", "k", "ta", "tb", "lda", "ldb", "rows", "columns")
    lines = []
    for i, name in enumerate(names):
        kind = "ptr" if name in "abc" else "i64"
        lines += [
            f"  %{name}.p = getelementptr i64, ptr %t, i64 {i}",
            f"  %{name} = load {kind}, ptr %{name}.p",
        ]
    body = """
  %ta32 = trunc i64 %ta to i32
  %tb32 = trunc i64 %tb to i32
  %ta0 = icmp ne i64 %ta, 0
  %tb0 = icmp ne i64 %tb, 0
  %arow = select i1 %ta0, i64 1, i64 %lda
  %bcol = select i1 %tb0, i64 %ldb, i64 1
  br label %outer
outer:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %mleft = sub i64 %m, %i
  %mb = call i64 @llvm.smin.i64(i64 %mleft, i64 %rows)
  %ao = mul i64 %i, %arow
  %ai = getelementptr float, ptr %a, i64 %ao
  %co = mul i64 %i, %n
  %ci = getelementptr float, ptr %c, i64 %co
  br label %inner
inner:
  %j = phi i64 [ 0, %outer ], [ %j1, %inner ]
  %nleft = sub i64 %n, %j
  %nb = call i64 @llvm.smin.i64(i64 %nleft, i64 %columns)
  %bo = mul i64 %j, %bcol
  %bj = getelementptr float, ptr %b, i64 %bo
  %cij = getelementptr float, ptr %ci, i64 %j
  call void @gemm_f32(i32 %ta32, i32 %tb32, i64 %mb, i64 %nb, i64 %k, float 1.0,
                      ptr %ai, i64 %lda, ptr %bj, i64 %ldb, float 0.0, ptr %cij, i64 %n)
  %j1 = add i64 %j, %columns
  %jmore = icmp slt i64 %j1, %n
  br i1 %jmore, label %inner, label %next
next:
  %i1 = add i64 %i, %rows
  %imore = icmp slt i64 %i1, %m
  br i1 %imore, label %outer, label %end
end:
  ret void
}
declare i64 @llvm.smin.i64(i64, i64)
"""
    return product + "\ndefine void @cut(ptr %t) {\nentry:\n" + "\n".join(lines) + body


def shortest(ways: dict[str, Callable[[], Any]], budget: float) -> dict[str, float]:
    """Processor seconds of the shortest call of each, called in turns."""
    best = dict.fromkeys(ways, np.inf)
    for f in ways.values():
        f()
    start = time.perf_counter()
    rounds = 0
    while rounds < 3 or time.perf_counter() - start < budget:
        for name, f in ways.items():
            began = time.thread_time()
            f()
            best[name] = min(best[name], time.thread_time() - began)
        rounds += 1
    return best


def ways(mode: str, m: int, n: int, k: int, theirs: Any, own: Any) -> dict[str, Callable[[], Any]]:
    ta, tb = MODES[mode]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if ta else (m, k), np.float32)
    b = rng.standard_normal((n, k) if tb else (k, n), np.float32)
    c = np.empty((m, n), np.float32)
    left, right = (a.T if ta else a), (b.T if tb else b)
    want = left.astype(np.float64) @ right
    made: dict[str, Callable[[], Any]] = {"numpy": lambda: np.matmul(left, right, out=c)}

    def blocks(cut: Any, rows: int, columns: int) -> Callable[[], Any]:
        table = np.array(
            [x.ctypes.data for x in (a, b, c)]
            + [m, n, k, ta, tb, a.shape[1], b.shape[1], rows, columns],
            np.int64,
        )
        at = table.ctypes.data
        return lambda table=table: cut(at)

    for cut, prefix in ((theirs, ""), (own, "own ")):
        if cut is not None:
            made[f"{prefix}whole"] = blocks(cut, m, n)
            made |= {f"{prefix}rows {r}": blocks(cut, r, n) for r in BLOCKS if r < m}
            made |= {f"{prefix}columns {r}": blocks(cut, m, r) for r in BLOCKS if r < n}
    for name, f in made.items():
        c[:] = np.nan
        f()
        error = np.abs(c - want).max() / np.abs(want).max()
        assert error < 1e-5, (name, error)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.6, help="for each product")
    seconds = parser.parse_args().seconds
    here, found, theirs = target.target(), blas.prepare(), None
    if found is not None:
        text = source(blas.wrappers(found))
        theirs = cache.compiled(text, here, blas=found.name).function("cut", None, ctypes.c_void_p)
    gemm.prepare()
    text = source(DECLARATION).replace("@gemm_f32", "@wg_gemm_f32")
    own = cache.compiled(text, here).function("cut", None, ctypes.c_void_p)
    print(f"{here.name} ({here.cpu}), {found.source if found else 'no library'}; GFLOP/s")
    peak = 0.0
    for layer in LAYERS:
        batch, inputs, outputs = layer
        for mode, (m, n, k) in {
            "NN": (batch, outputs, inputs),
            "NT": (batch, inputs, outputs),
            "TN": (inputs, outputs, batch),
        }.items():
            found_times = shortest(ways(mode, m, n, k, theirs, own), seconds)
            speeds = {name: 2e-9 * m * n * k / t for name, t in found_times.items()}
            peak = max(peak, *speeds.values())
            told = "  ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
            print(f"{'x'.join(map(str, layer)):>14} {mode} m{m} n{n} k{k}: {told}", flush=True)
            best = max(speeds, key=lambda name: speeds[name])
            print(f"{'':17} best: {best}, {speeds[best] / speeds['numpy']:.2f} times numpy")
    for size in (256, 384, 768, 1024):
        both = shortest(ways("NN", size, size, size, None, None), seconds)
        peak = max(peak, *(2e-9 * size**3 / t for t in both.values()))
    print(f"peak {peak:.0f}")


if __name__ == "__main__":
    main()
