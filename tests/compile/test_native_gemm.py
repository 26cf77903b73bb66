"""The generated matrix product, against NumPy in double precision."""

import ctypes
import itertools
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="machine code needs the extra `compile`")

from wengert.native import cache, engine, gemm, target
from wengert.native.ir import Function as Writer
from wengert.native.ir import Module, Value

P, I, L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
KINDS = {"float": (ctypes.c_float, np.float32), "double": (ctypes.c_double, np.float64)}
SHAPES = [
    (1, 1, 1), (3, 5, 7), (14, 32, 4), (15, 33, 5), (17, 70, 300), (32, 128, 784), (40, 600, 33),
    (5, 64, 100), (13, 63, 257), (1, 100, 100), (100, 1, 100), (128, 10, 64), (64, 512, 10),
]  # fmt: skip


def function(library, name, kind):
    real = KINDS[kind][0]
    return library.function(name, None, I, I, L, L, L, real, P, L, P, L, real, P, L)


def product(kind, level, shapes=None, by=None):
    here = target.target(level)
    module = Module(fma=here.fma)
    gemm.scratch()
    gemm.emit(module, "product", kind, here, shapes, by)
    return function(cache.compiled(str(module), here), "product", kind)


def check(f, kind, m, n, k, ta, tb, alpha, beta):
    dtype = KINDS[kind][1]
    rng = np.random.default_rng(m + 10 * n + 100 * k)
    # what lies between the rows must not be read as a part of them, nor written
    a = rng.standard_normal((k, m + 1) if ta else (m, k + 1)).astype(dtype)
    b = rng.standard_normal((n, k + 2) if tb else (k, n + 2)).astype(dtype)
    a[:, -1] = b[:, -2:] = np.nan
    c = rng.standard_normal((m, n + 3)).astype(dtype)
    before = c.copy()
    if beta == 0.0:
        c[:, :n] = np.nan
    f(
        ta, tb, m, n, k, alpha, a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], beta,
        c.ctypes.data, c.shape[1],
    )  # fmt: skip
    left, right = (x.astype(np.float64) for x in (a[:, :-1], b[:, :-2]))
    left, right = (left.T if ta else left), (right.T if tb else right)
    want = alpha * (left @ right) + beta * before[:, :n]
    # the bound of the sum's rounding error
    bound = abs(alpha) * (np.abs(left) @ np.abs(right)) + np.abs(beta * before[:, :n])
    error = np.abs(c[:, :n] - want)
    assert (error <= (k + 3) * np.finfo(dtype).eps * bound).all()
    np.testing.assert_array_equal(c[:, n:], before[:, n:])


@pytest.fixture(scope="module", params=list(KINDS))
def native(request):
    return request.param, product(request.param, None)


@pytest.mark.parametrize(("ta", "tb"), list(itertools.product((0, 1), repeat=2)))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_against_numpy(native, shape, ta, tb):
    kind, f = native
    for alpha, beta in ((1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)):
        check(f, kind, *shape, ta, tb, alpha, beta)


def test_many_blocks(native):
    """More than one block along every axis, copied or from where they lie."""
    kind, f = native
    for ta, tb in itertools.product((0, 1), repeat=2):
        check(f, kind, 150, 1050, 520, ta, tb, 1.0, 0.0)


def test_without_terms(native):
    kind, f = native
    dtype = KINDS[kind][1]
    a, c = np.ones((2, 2), dtype), np.full((2, 3), 2.0, dtype)
    at = a.ctypes.data, 2, a.ctypes.data, 3
    f(0, 0, 2, 3, 0, 1.0, *at, 0.5, c.ctypes.data, 3)
    np.testing.assert_array_equal(c, 1.0)
    c[:] = np.nan
    f(0, 0, 2, 3, 0, 1.0, *at, 0.0, c.ctypes.data, 3)
    np.testing.assert_array_equal(c, 0.0)
    for m, n in ((0, 3), (2, 0)):
        f(0, 0, m, n, 2, 1.0, *at, 0.0, c.ctypes.data, 3)
    np.testing.assert_array_equal(c, 0.0)


@pytest.mark.parametrize("level", target.present()[1:])
@pytest.mark.parametrize("kind", list(KINDS))
def test_other_levels(level, kind):
    shapes = [(17, 70, 300), (5, 64, 100), (40, 300, 33)]
    f = product(kind, level, [s[:2] for s in shapes])
    for shape in shapes:
        for ta, tb in itertools.product((0, 1), repeat=2):
            check(f, kind, *shape, ta, tb, -0.5, 0.25)


def test_tiles_of_known_shapes():
    """The tiles said to be enough are, and no others are made."""
    by = gemm.blocking(target.target(), "float")
    for m, n in itertools.product(range(1, 60), (1, by.lanes, by.columns, by.columns + 1, 700)):
        blocks = -(-m // by.rows)
        rows = {(i + 1) * m // blocks - i * m // blocks for i in range(blocks)}
        vectors = {
            -(-min(by.columns, min(by.nc, n - jc) - j) // by.lanes)
            for jc in range(0, n, by.nc)
            for j in range(0, min(by.nc, n - jc), by.columns)
        }
        assert gemm.tiles(m, n, by) == set(itertools.product(rows, vectors))
    f = product("float", None, [(9, 40)])
    check(f, "float", 9, 40, 30, 0, 1, 1.0, 0.0)


def test_infinities_and_nans_stay_in_their_rows_and_columns():
    f = product("float", None, [(20, 50)])
    a, b = np.ones((20, 30), np.float32), np.ones((30, 50), np.float32)
    a[3, 4], a[7, 29], b[5, 49] = np.nan, np.inf, -np.inf
    c = np.empty((20, 50), np.float32)
    for tb, right in ((0, b), (1, np.ascontiguousarray(b.T))):
        at = a.ctypes.data, 30, right.ctypes.data, right.shape[1]
        f(0, tb, 20, 50, 30, 1.0, *at, 0.0, c.ctypes.data, 50)
        with np.errstate(invalid="ignore"):
            want = a @ b
        np.testing.assert_array_equal(np.isnan(c), np.isnan(want))
        np.testing.assert_array_equal(c[~np.isnan(c)], want[~np.isnan(want)])


def test_the_order_of_the_sum_does_not_depend_on_the_rows_beside():
    """A row has the same bits, whether it is computed alone or with others."""
    f = product("float", None)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((37, 300), np.float32)
    b = rng.standard_normal((300, 90), np.float32)
    whole, part = np.empty((37, 90), np.float32), np.empty((11, 90), np.float32)
    for c, rows in ((whole, a), (part, a[10:21])):
        f(0, 0, len(rows), 90, 300, 1.0, rows.ctypes.data, 300, b.ctypes.data, 90, 0.0,
          c.ctypes.data, 90)  # fmt: skip
    np.testing.assert_array_equal(whole[10:21], part)


def test_several_threads_at_once(native):
    kind, f = native
    wrong = []

    def work(shape):
        try:
            for _ in range(20):
                check(f, kind, *shape, 0, 1, 1.0, 0.0)
        except AssertionError as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(s,)) for s in SHAPES[3:8]]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not wrong


@pytest.mark.parametrize(
    ("kind", "width"),
    [("float", 4), ("float", 8), ("float", 16), ("double", 2), ("double", 4), ("double", 8)],
)
def test_squares_are_transposed(kind, width):
    here = target.target()
    module = Module(fma=here.fma)
    f = Writer(module, "turn", [("to", "ptr"), ("x", "ptr")])
    vec = f"<{width} x {kind}>"
    rows: list[Value] = [f.load(f["x"], vec, i * width) for i in range(width)]
    for i, v in enumerate(gemm.transposed(f, rows)):
        f.store(v, f["to"], i * width)
    f.ret()
    library = engine.load(engine.compile_ir(str(module), here))
    x = np.arange(width * width, dtype=KINDS[kind][1]).reshape(width, width)
    y = np.zeros_like(x)
    library.function("turn", None, P, P)(y.ctypes.data, x.ctypes.data)
    np.testing.assert_array_equal(y, x.T)


def test_the_function_for_any_shape_is_known_by_name():
    for name, kind in (("gemm_f32", "float"), ("gemm_f64", "double")):
        library = gemm.prepare(kind)
        check(function(library, name, kind), kind, 9, 20, 30, 1, 0, 1.0, 0.0)
        assert engine.SYMBOLS[f"wg_{name}"] == library.address(name)


def test_vectors_and_narrow_products_are_a_librarys():
    here = target.target()
    fast = here.name in ("avx512", "avx2")
    assert gemm.preferred(here, 128, 512, 784) == fast
    assert gemm.preferred(here, 8, 128, 784, tb=True) == fast
    for m, n, k in ((1, 512, 512), (128, 10, 512), (100, 1, 784), (16, 16, 16)):
        assert not gemm.preferred(here, m, n, k)
    assert not gemm.preferred(target.target(target.present()[-1]), 128, 512, 784)
