"""The matrix product that is already in the process, for native code to call by its address.

    NumPy's own library     the symbols of its extension module and of what that was linked with
    SciPy's cython_blas     capsules that hold the address and say the signature
    the system's            libcblas, libopenblas, libblas, Accelerate

The first that is there *and multiplies right* is taken: every candidate computes small products,
transposed or not, that are compared with NumPy's. Where there is none, `find` gives None and
products are NumPy's, between native segments.

Generated code sees one function for all of them, in row-major order:

    gemm_f32(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
    C = alpha op(A) op(B) + beta C

with op(A) `[m, k]`, op(B) `[k, n]`, C `[m, n]`; `wrappers` is its assembly, and `gemm_f64`'s.

Generated code calls it from several threads, each with a part of the product. The library's own
threads would only be in the way (and its calls wait for one another): `single_threaded`, or
`wg_blas_enter` and `wg_blas_leave` from native code, turns them off and afterwards back to what
they were.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from ....native.cache import compiled
from ....native.engine import add_symbol
from ....native.target import target

__all__ = ["Blas", "candidates", "find", "prepare", "single_threaded", "works", "wrappers"]

Array = Any
ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
NAMES = (  # of symbols, and the width of their integers
    ("scipy_cblas_{}64_", 64),
    ("cblas_{}64_", 64),
    ("cblas_{}_64", 64),
    ("scipy_cblas_{}", 32),
    ("cblas_{}", 32),
)
THREADS = (
    "scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads_64",
    "scipy_openblas_{}_num_threads", "openblas_{}_num_threads", "bli_thread_{}_num_threads",
)  # fmt: skip
SYSTEM = ("openblas", "cblas", "blis", "blas", "Accelerate")


@dataclass(frozen=True, slots=True)
class Blas:
    """A matrix product in this process.

    Args:
        source: where it was found, for people.
        interface: "cblas", or "fortran": everything by reference, column-major.
        bits: of its integers.
        sgemm, dgemm: addresses.
        set_threads, get_threads: addresses of how it is told to use threads; 0 if nobody knows.
    """

    source: str
    interface: str
    bits: int
    sgemm: int
    dgemm: int
    set_threads: int = 0
    get_threads: int = 0

    @property
    def name(self) -> str:
        """What generated code depends on."""
        return f"{self.interface}{self.bits}"


def address(library: Any, name: str) -> int:
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except AttributeError:
        return 0


def opened(path: str) -> Any:
    try:
        return ctypes.CDLL(path)
    except OSError:
        return None


def controls(library: Any) -> tuple[int, int]:
    """(set, get) of a library's number of threads."""
    for name in THREADS:
        both = address(library, name.format("set")), address(library, name.format("get"))
        if all(both):
            return both
    return 0, 0


def in_library(library: Any, source: str) -> Iterator[Blas]:
    for name, bits in NAMES:
        single, double = (address(library, name.format(f)) for f in ("sgemm", "dgemm"))
        if single and double:
            yield Blas(source, "cblas", bits, single, double, *controls(library))


def of_numpy() -> Iterator[Blas]:
    # a symbol is looked for in a library and in all that it was linked with
    library = opened(import_module("numpy._core._multiarray_umath").__file__ or "")
    yield from in_library(library, "numpy")


def of_scipy() -> Iterator[Blas]:
    try:
        module = import_module("scipy.linalg.cython_blas")
    except ImportError:
        return
    capsules = module.__pyx_capi__
    found: list[int] = []
    for name, kind in (("sgemm", "s"), ("dgemm", "d")):
        capsule = capsules.get(name)
        told = capsule_name(capsule) if capsule is not None else b""
        if not takes(told.decode(), kind):
            return
        found.append(capsule_pointer(capsule, told))
    single, double = found
    yield Blas("scipy", "fortran", 32, single, double, *controls(opened(module.__file__ or "")))


def takes(signature: str, kind: str) -> bool:
    """Whether a capsule's function is gemm with 32-bit integers: s for float, d for double.

    >>> takes("void (char *, char *, int *, int *, int *, d *, d *, int *, d *, int *, d *, d *, "
    ...       "int *)", "d")
    True
    """
    result, _, inside = signature.partition("(")
    words = [w.strip() for w in inside.rstrip(")").split(",")]
    want = ("char", "char", *["int"] * 3, "x", "x", "int", "x", "int", "x", "x", "int")
    number = {f"{kind} *", "float *" if kind == "s" else "double *"}
    return (
        result.strip() == "void"
        and len(words) == len(want)
        and all(
            (word in number or word.endswith(f"cython_blas_{kind} *"))
            if w == "x"
            else word == f"{w} *"
            for word, w in zip(words, want)
        )
    )


def capsule_name(capsule: Any) -> bytes:
    f = ctypes.pythonapi.PyCapsule_GetName
    f.restype, f.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return f(capsule) or b""


def capsule_pointer(capsule: Any, name: bytes) -> int:
    f = ctypes.pythonapi.PyCapsule_GetPointer
    f.restype, f.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return f(capsule, name) or 0


def of_system() -> Iterator[Blas]:
    for name in SYSTEM:
        path = ctypes.util.find_library(name)
        if path:
            yield from in_library(opened(path), name)


def candidates() -> Iterator[Blas]:
    """Everything that looks like a matrix product, the best first; SciPy is imported if reached."""
    yield from of_numpy()
    yield from of_scipy()
    yield from of_system()


# ---- trust
def caller(blas: Blas, dtype: Any) -> Any:
    """`gemm` of arrays through the bare address: for the test, and slow."""
    single = np.dtype(dtype) == np.float32
    real = ctypes.c_float if single else ctypes.c_double
    integer = ctypes.c_int32 if blas.bits == 32 else ctypes.c_int64
    at = blas.sgemm if single else blas.dgemm
    p = ctypes.c_void_p
    if blas.interface == "cblas":
        i, code = integer, ctypes.c_int
        kind = ctypes.CFUNCTYPE(
            None, code, code, code, i, i, i, real, p, i, p, i, real, p, i
        )  # fmt: skip
    else:
        kind = ctypes.CFUNCTYPE(None, *[p] * 13)
    f = kind(at)

    def call(ta: int, tb: int, alpha: float, a: Array, b: Array, beta: float, c: Array) -> None:
        (m, n), k = c.shape, a.shape[0] if ta else a.shape[1]
        lds = [x.strides[0] // x.itemsize for x in (a, b, c)]
        if blas.interface == "cblas":
            codes = [TRANSPOSED if t else PLAIN for t in (ta, tb)]
            f(
                ROW_MAJOR, *codes, m, n, k, alpha, a.ctypes.data, lds[0], b.ctypes.data, lds[1],
                beta, c.ctypes.data, lds[2],
            )  # fmt: skip
            return
        words = [ctypes.c_char(b"T" if t else b"N") for t in (tb, ta)]
        numbers = [integer(x) for x in (n, m, k, lds[1], lds[0], lds[2])]
        reals = [real(alpha), real(beta)]
        w, d, r = ([ctypes.addressof(x) for x in xs] for xs in (words, numbers, reals))
        f(*w, *d[:3], r[0], b.ctypes.data, d[3], a.ctypes.data, d[4], r[1], c.ctypes.data, d[5])

    return call


def works(blas: Blas) -> bool:
    """Whether small products come out as NumPy's, for both types and every way to transpose."""
    rng: Any = np.random.default_rng(0)
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-12)):
        gemm = caller(blas, dtype)
        for (m, n, k), ta, tb in itertools.product(
            ((1, 1, 1), (3, 5, 7), (17, 33, 20)), (0, 1), (0, 1)
        ):
            # wider than the matrices, so that a leading dimension must be understood
            a = rng.standard_normal((k, m + 2) if ta else (m, k + 2)).astype(dtype)
            b = rng.standard_normal((n, k + 3) if tb else (k, n + 3)).astype(dtype)
            a, b = a[:, :-2], b[:, :-3]
            wide = rng.standard_normal((m, n + 1)).astype(dtype)
            product = np.matmul(a.T if ta else a, b.T if tb else b)
            for alpha, beta in ((1.0, 0.0), (0.5, -2.0)):
                before = wide.copy()
                if beta == 0.0:
                    before[:, :-1] = np.nan  # must not be read
                c = before.copy()
                gemm(ta, tb, alpha, a, b, beta, c[:, :-1])
                want = alpha * product + (beta * before[:, :-1] if beta else 0.0)
                if not np.allclose(c[:, :-1], want, rtol=tolerance, atol=tolerance):
                    return False
                if not np.array_equal(c[:, -1], before[:, -1]):
                    return False
    return True


@lru_cache(1)
def find() -> Blas | None:
    """The matrix product of this process, tested; None if there is none.

    Example:
        >>> blas = find()
        >>> blas is None or blas.interface in ("cblas", "fortran")
        True
    """
    return next((blas for blas in candidates() if works(blas)), None)


# ---- for generated code
def wrappers(blas: Blas) -> str:
    """The assembly of `gemm_f32` and `gemm_f64`, to stand in every module that calls them."""
    make = cblas_wrapper if blas.interface == "cblas" else fortran_wrapper
    return make("f32", "float", "wg_sgemm", blas.bits) + make(
        "f64", "double", "wg_dgemm", blas.bits
    )


HEAD = (
    "define internal void @gemm_{name}(i32 %ta, i32 %tb, i64 %m, i64 %n, i64 %k, {kind} %alpha, "
    "ptr %a, i64 %lda, ptr %b, i64 %ldb, {kind} %beta, ptr %c, i64 %ldc) {attributes} {{\nentry:\n"
)
SIZES = ("m", "n", "k", "lda", "ldb", "ldc")


def cblas_wrapper(name: str, kind: str, symbol: str, bits: int) -> str:
    i = f"i{bits}"
    lines = [f"  %is{x} = icmp ne i32 %t{x}, 0" for x in "ab"]
    lines += [f"  %code{x} = select i1 %is{x}, i32 {TRANSPOSED}, i32 {PLAIN}" for x in "ab"]
    if bits == 32:
        lines += [f"  %{x}.i = trunc i64 %{x} to i32" for x in SIZES]
    m, n, k, lda, ldb, ldc = (f"{i} %{x}{'.i' if bits == 32 else ''}" for x in SIZES)
    told = (
        f"i32 {ROW_MAJOR}, i32 %codea, i32 %codeb, {m}, {n}, {k}, {kind} %alpha, "
        f"ptr %a, {lda}, ptr %b, {ldb}, {kind} %beta, ptr %c, {ldc}"
    )
    kinds = f"i32, i32, i32, {i}, {i}, {i}, {kind}, ptr, {i}, ptr, {i}, {kind}, ptr, {i}"
    return (
        f"declare void @{symbol}({kinds})\n"
        + HEAD.format(name=name, kind=kind, attributes="alwaysinline nounwind")
        + "\n".join([*lines, f"  call void @{symbol}({told})", "  ret void", "}\n"])
    )


def fortran_wrapper(name: str, kind: str, symbol: str, bits: int) -> str:
    """C^T = op(B)^T op(A)^T: the operands change places, and row-major becomes column-major."""
    i = f"i{bits}"
    lines = []
    for x in "ab":
        lines += [
            f"  %{x}.is = icmp ne i32 %t{x}, 0",
            f"  %{x}.letter = select i1 %{x}.is, i8 {ord('T')}, i8 {ord('N')}",
            f"  %{x}.p = alloca i8",
            f"  store i8 %{x}.letter, ptr %{x}.p",
        ]
    for x in SIZES:
        if bits == 32:
            lines.append(f"  %{x}.i = trunc i64 %{x} to i32")
        lines += [
            f"  %{x}.p = alloca {i}",
            f"  store {i} %{x}{'.i' if bits == 32 else ''}, ptr %{x}.p",
        ]
    for x in ("alpha", "beta"):
        lines += [f"  %{x}.p = alloca {kind}", f"  store {kind} %{x}, ptr %{x}.p"]
    told = (
        "ptr %b.p, ptr %a.p, ptr %n.p, ptr %m.p, ptr %k.p, ptr %alpha.p, ptr %b, ptr %ldb.p, "
        "ptr %a, ptr %lda.p, ptr %beta.p, ptr %c, ptr %ldc.p"
    )
    return (
        f"declare void @{symbol}({', '.join(['ptr'] * 13)})\n"
        + HEAD.format(name=name, kind=kind, attributes="noinline nounwind")
        + "\n".join([*lines, f"  call void @{symbol}({told})", "  ret void", "}\n"])
    )


# ---- the library's own threads
CONTROL = """
@lock = internal global i32 0
@inside = internal global i32 0
@before = internal global i32 1
declare void @wg_blas_set_threads(i32)
declare i32 @wg_blas_get_threads()
declare i32 @sched_yield()

define internal void @take() {
entry:
  br label %try
try:
  %taken = cmpxchg ptr @lock, i32 0, i32 1 acquire monotonic
  %mine = extractvalue { i32, i1 } %taken, 1
  br i1 %mine, label %end, label %again
again:
  %y = call i32 @sched_yield()
  br label %try
end:
  ret void
}

define void @enter() {
entry:
  call void @take()
  %n = load i32, ptr @inside
  %first = icmp eq i32 %n, 0
  br i1 %first, label %save, label %end
save:
  %threads = call i32 @wg_blas_get_threads()
  store i32 %threads, ptr @before
  %several = icmp ne i32 %threads, 1
  br i1 %several, label %set, label %end
set:
  call void @wg_blas_set_threads(i32 1)
  br label %end
end:
  %n1 = add i32 %n, 1
  store i32 %n1, ptr @inside
  store atomic i32 0, ptr @lock release, align 4
  ret void
}

define void @leave() {
entry:
  call void @take()
  %n = load i32, ptr @inside
  %n1 = sub i32 %n, 1
  store i32 %n1, ptr @inside
  %last = icmp eq i32 %n1, 0
  %threads = load i32, ptr @before
  %several = icmp ne i32 %threads, 1
  %restore = and i1 %last, %several
  br i1 %restore, label %set, label %end
set:
  call void @wg_blas_set_threads(i32 %threads)
  br label %end
end:
  store atomic i32 0, ptr @lock release, align 4
  ret void
}

define void @reset() {
entry:
  %n = load i32, ptr @inside
  %some = icmp ne i32 %n, 0
  br i1 %some, label %set, label %end
set:
  %threads = load i32, ptr @before
  call void @wg_blas_set_threads(i32 %threads)
  store i32 0, ptr @inside
  br label %end
end:
  store atomic i32 0, ptr @lock release, align 4
  ret void
}
"""
NO_CONTROL = """
define void @enter() {
  ret void
}
define void @leave() {
  ret void
}
define void @reset() {
  ret void
}
"""


def controlled(blas: Blas | None) -> bool:
    return blas is not None and blas.set_threads != 0 and sys.platform != "win32"


class Control:
    """The counter of those who want the library on one thread."""

    def __init__(self, blas: Blas | None) -> None:
        if blas is not None and controlled(blas):
            add_symbol("wg_blas_set_threads", blas.set_threads)
            add_symbol("wg_blas_get_threads", blas.get_threads)
        text = CONTROL if controlled(blas) else NO_CONTROL
        self.library = compiled(text, target()).forever()
        self.enter = self.library.function("enter")
        self.leave = self.library.function("leave")
        self.reset = self.library.function("reset")
        add_symbol("wg_blas_enter", self.library.address("enter"))
        add_symbol("wg_blas_leave", self.library.address("leave"))


_lock = threading.Lock()


def control() -> Control:
    with _lock:  # one counter, whoever asks first
        return made_control()


@lru_cache(1)
def made_control() -> Control:
    made = Control(find())
    if hasattr(os, "register_at_fork"):
        # a thread that had entered is not in the child
        os.register_at_fork(after_in_child=made.reset)
    return made


def prepare() -> Blas | None:
    """Find the product and make it known to libraries loaded from now on; None if there is none."""
    blas = find()
    if blas is not None:
        add_symbol("wg_sgemm", blas.sgemm)
        add_symbol("wg_dgemm", blas.dgemm)
    control()
    return blas


@contextmanager
def single_threaded() -> Iterator[None]:
    """The library uses one thread for each call, whoever calls it; afterwards as many as before.

    Nested and from several threads at once: the last to leave restores what the first one found.
    """
    counter = control()
    counter.enter()
    try:
        yield
    finally:
        counter.leave()
