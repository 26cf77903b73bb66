"""The matrix product found in the process, and its own threads."""

import ctypes
import dataclasses
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="machine code needs the extra `compile`")

from wengert.compile.backends.llvm import blas
from wengert.native import engine, target

FOUND = list(blas.candidates())
BY_NAME = pytest.mark.parametrize("found", FOUND, ids=lambda b: f"{b.source}-{b.name}")
P, I, L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


def test_numpy_brings_one():
    if not FOUND:
        pytest.skip("NumPy was built without a library of matrix products")
    assert blas.find() is not None
    assert blas.find().name in ("cblas64", "cblas32", "fortran32")


@BY_NAME
def test_candidates_multiply(found):
    assert blas.works(found)


@BY_NAME
def test_a_wrong_product_is_not_trusted(found):
    # dgemm where sgemm should be, or the other way about
    assert not blas.works(dataclasses.replace(found, sgemm=found.dgemm))


@pytest.fixture(params=FOUND, ids=lambda b: f"{b.source}-{b.name}")
def gemms(request):
    """gemm by the dtype, through the assembly that generated code uses."""
    found = request.param
    text = blas.wrappers(found)
    for name, kind in (("f32", "float"), ("f64", "double")):
        args = (
            f"i32 %ta, i32 %tb, i64 %m, i64 %n, i64 %k, {kind} %alpha, ptr %a, i64 %lda, "
            f"ptr %b, i64 %ldb, {kind} %beta, ptr %c, i64 %ldc"
        )
        text += f"""
define void @call_{name}({args}) {{
  call void @gemm_{name}({args})
  ret void
}}
"""
    before = dict(engine.SYMBOLS)
    engine.add_symbol("wg_sgemm", found.sgemm)
    engine.add_symbol("wg_dgemm", found.dgemm)
    library = engine.load(engine.compile_ir(text, target.target()))
    made = {}
    for name, real, dtype in (
        ("f32", ctypes.c_float, np.float32),
        ("f64", ctypes.c_double, np.float64),
    ):
        types = (I, I, L, L, L, real, P, L, P, L, real, P, L)
        made[dtype] = library.function(f"call_{name}", None, *types)
    engine.SYMBOLS.clear()
    engine.SYMBOLS.update(before)
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("ta", "tb"), list(itertools.product((0, 1), repeat=2)))
def test_the_function_of_generated_code(gemms, dtype, ta, tb):
    rng = np.random.default_rng(1)
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    for m, n, k in ((1, 1, 1), (5, 3, 8), (33, 65, 17), (8, 128, 784), (64, 10, 1)):
        a = rng.standard_normal((k, m + 1) if ta else (m, k + 1)).astype(dtype)
        b = rng.standard_normal((n, k + 2) if tb else (k, n + 2)).astype(dtype)
        for alpha, beta in ((1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)):
            c = rng.standard_normal((m, n + 3)).astype(dtype)
            before = c.copy()
            if beta == 0.0:
                c[:, :n] = np.nan
            gemms[dtype](
                ta, tb, m, n, k, alpha, a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1],
                beta, c.ctypes.data, c.shape[1],
            )  # fmt: skip
            left, right = a[:, :-1], b[:, :-2]
            want = alpha * ((left.T if ta else left) @ (right.T if tb else right))
            want = want + beta * before[:, :n]
            np.testing.assert_allclose(c[:, :n], want, rtol=tolerance, atol=tolerance * k**0.5)
            np.testing.assert_array_equal(c[:, n:], before[:, n:])


def test_signatures_of_capsules():
    sizes, matrix = "int *, int *, int *", "s *, int *"
    good = f"void (char *, char *, {sizes}, s *, {matrix}, {matrix}, s *, {matrix})"
    assert blas.takes(good, "s")
    assert not blas.takes(good, "d")
    assert not blas.takes(good.replace("int *", "int64_t *"), "s")
    assert not blas.takes(good.replace("void", "int"), "s")
    assert not blas.takes(good.replace("char *, char *", "char *"), "s")
    cython = good.replace(" s *", " __pyx_t_5scipy_6linalg_11cython_blas_s *")
    assert blas.takes(cython, "s")
    assert not blas.takes(cython, "d")


# ---- the library's own threads
def settings():
    found = blas.find()
    if found is None or not found.set_threads:
        pytest.skip("nobody knows how this library is told to use threads")
    return (
        ctypes.CFUNCTYPE(ctypes.c_int)(found.get_threads),
        ctypes.CFUNCTYPE(None, ctypes.c_int)(found.set_threads),
    )


@pytest.fixture
def threads_of_blas():
    get, set_ = settings()
    before = get()
    yield get, set_
    set_(before)


@pytest.mark.parametrize("n", [1, 2])
def test_one_thread_inside_and_as_many_as_before_after(threads_of_blas, n):
    get, set_ = threads_of_blas
    set_(n)
    with blas.single_threaded():
        assert get() == 1
        with blas.single_threaded():
            assert get() == 1
        assert get() == 1
    assert get() == n
    with pytest.raises(KeyError), blas.single_threaded():
        raise KeyError
    assert get() == n


def test_overlapping_users_restore_what_the_first_one_found(threads_of_blas):
    get, set_ = threads_of_blas
    set_(2)
    wrong = []

    def user():
        for _ in range(500):
            with blas.single_threaded():
                if get() != 1:
                    wrong.append(get())

    users = [threading.Thread(target=user) for _ in range(4)]
    for u in users:
        u.start()
    for u in users:
        u.join(30)
    assert not wrong
    assert get() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_inside_is_not_left_on_one_thread():
    text = """
import ctypes, os, threading
from wengert.compile.backends.llvm import blas
found = blas.prepare()
if found is None or not found.set_threads:
    print(2)
    raise SystemExit
get = ctypes.CFUNCTYPE(ctypes.c_int)(found.get_threads)
ctypes.CFUNCTYPE(None, ctypes.c_int)(found.set_threads)(2)
inside, leave = threading.Event(), threading.Event()
def user():
    with blas.single_threaded():
        inside.set()
        leave.wait()
thread = threading.Thread(target=user)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    os._exit(get())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
