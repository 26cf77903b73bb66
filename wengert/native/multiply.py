"""Products of two matrices that lie in memory, cut among the threads of the pool.

    c = op(a) op(b)          row-major, each transposed or not

A function (ptr context, i32 i) computes part i, some rows or some columns of c, with the product of
`gemm`; the sum for an element runs in the same order in any part.
"""

from __future__ import annotations

from functools import lru_cache

from . import cache, gemm
from .ir import SUFFIX, Function, Module
from .target import target

__all__ = ["FIELDS", "address"]

FIELDS = (
    "ta", "tb", "m", "n", "k", "lda", "ldb", "ldc", "parts", "across", "unit", "a", "b", "c"
)  # fmt: skip


def source(kind: str) -> str:
    """@multiply(context, i); `across`: columns are cut, and not rows, into multiples of `unit`."""
    module = Module(fma=target().fma)
    name = f"wg_gemm_{SUFFIX[kind]}"
    types = f"i32, i32, i64, i64, i64, {kind}, ptr, i64, ptr, i64, {kind}, ptr, i64"
    module.declare(f"declare void @{name}({types})")
    f = Function(module, "multiply", [("context", "ptr"), ("i", "i32")])
    of = {
        field: f.load(f["context"], "ptr" if field in "abc" else "i64", j)
        for j, field in enumerate(FIELDS)
    }
    across, ta, tb = (f.compare("ne", of[x], 0) for x in ("across", "ta", "tb"))
    i = f.cast("sext", f["i"], "i64")
    whole = f.select(across, of["n"], of["m"])
    units = (whole + (of["unit"] - 1)) / of["unit"]
    cuts = (units * (i + j) / of["parts"] * of["unit"] for j in (0, 1))
    start, stop = (f.smaller(cut, whole) for cut in cuts)
    row, column = f.select(across, 0, start), f.select(across, start, 0)
    m, n = f.select(across, of["m"], stop - start), f.select(across, stop - start, of["n"])
    a = f.at(of["a"], f.select(ta, row, row * of["lda"]), kind)
    b = f.at(of["b"], f.select(tb, column * of["ldb"], column), kind)
    c = f.at(of["c"], row * of["ldc"] + column, kind)
    told = [
        *(f.cast("trunc", of[x], "i32") for x in ("ta", "tb")), m, n, of["k"], f.const(1.0, kind),
        a, of["lda"], b, of["ldb"], f.const(0.0, kind), c, of["ldc"],
    ]  # fmt: skip
    f.call(name, "void", *told)
    f.ret()
    return str(module)


@lru_cache(2)
def address(kind: str) -> int:
    """Of @multiply for `float` or `double`.

    Raises:
        MissingExtraError: llvmlite is not installed.
    """
    gemm.prepare(kind)
    return cache.compiled(source(kind), target()).forever().address("multiply")
