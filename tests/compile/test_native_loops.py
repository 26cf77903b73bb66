"""Native loop nests against the slow meaning of their kernels, by hand and at random."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite.binding", reason="no llvmlite to compile native kernels with")

sys.path.insert(0, str(Path(__file__).parent))
try:
    import hand_kernels as hand
    import native
    from hand_kernels import F4, F8, I4, I8, B, Build
    from random_kernels import random_kernel
finally:
    sys.path.pop(0)

from wengert.compile.backends.llvm import loops
from wengert.compile.backends.llvm.turn import turn
from wengert.compile.collapse import collapse, operands
from wengert.compile.kernel import Kernel, Operand, Statement, Store
from wengert.native.ir import Module
from wengert.trace import OPS

TARGETS = list(native.TARGETS)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def normal(rng, *shape, dtype=F4):
    return rng.standard_normal(shape).astype(dtype).reshape(-1)


def zeros(n, dtype=F4):
    return np.zeros(n, dtype)


# ------------------------------------------------------------------ by hand


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m", [1, 2, 10, 31, 32, 33, 100, 1000])
def test_softmax(rng, m, target):
    x = normal(rng, 9, m) * 5
    native.check(hand.softmax(9, m), [x, zeros(9 * m)], target=target)
    native.check(hand.softmax(9, m, in_place=True), [x], target=target)


def test_a_row_of_a_hundred_thousand_lends_its_output(rng):
    m = 100_003
    for kernel in (hand.softmax(2, m), hand.softmax(2, m, in_place=True)):
        native.check(kernel, [normal(rng, 2, m) * 5, zeros(2 * m)])


@pytest.mark.parametrize("m", [7, 50, 700, 30_000])
def test_two_arguments_may_be_one_buffer(rng, m):
    """The output is where the input was, under another number."""
    n = 5
    x = normal(rng, n, m)
    for kernel, more in (
        (hand.softmax(n, m), []),
        (hand.layernorm(n, m), [normal(rng, m), normal(rng, m)]),
    ):
        (f,) = native.compiled([kernel])
        rest = [zeros(n), zeros(n)] if more else []
        apart = native.run(f, kernel, [x, *more, zeros(n * m), *rest])
        y = x.copy()
        native.call(f, [y, *more, y, *rest], 0, n)
        np.testing.assert_array_equal(y, apart[1 + len(more)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [F4, F8])
def test_layernorm_and_its_column_sums(rng, dtype, target):
    n, m = 37, 80
    x, gain, bias, gy = (normal(rng, *s, dtype=dtype) for s in ((n, m), (m,), (m,), (n, m)))
    out = native.check(
        hand.layernorm(n, m, dtype),
        [x, gain, bias, zeros(n * m, dtype), zeros(n, dtype), zeros(n, dtype)],
        target=target, pieces=[(0, 5), (5, 37)],
    )  # fmt: skip
    pieces = [(0, 1), (1, 12), (12, 37)]
    native.check(
        hand.layernorm_backward(n, m, dtype),
        [x, gain, gy, *out[4:], zeros(n * m, dtype), *[normal(rng, 3 * m, dtype=dtype)] * 2],
        target=target, pieces=pieces, rtol=5e-6,
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_adam_in_place(rng, target):
    n = 1003
    args = [normal(rng, n) for _ in range(4)]
    args[2] = np.abs(args[2])
    args.append(np.array([1e-3, 1.5], F4))
    native.check(hand.adam(n), args, target=target, pieces=[(0, 100), (100, 1003)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("m", [1, 3, 10, 64, 130])
def test_cross_entropy_with_labels(rng, m, target):
    n = 21
    labels = rng.integers(0, m, n)
    args = [normal(rng, n, m), labels, zeros(n * m), zeros(2)]
    native.check(hand.cross_entropy(n, m), args, target=target, pieces=[(0, 8), (8, 21)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [F4, F8])
def test_black_scholes(rng, dtype, target):
    n = 517
    args = [rng.uniform(a, b, n).astype(dtype) for a, b in ((10, 50), (10, 50), (0.1, 2))]
    args += [zeros(n, dtype)] * 2
    native.check(hand.black_scholes(n, dtype), args, target=target, rtol=2e-6)


@pytest.mark.parametrize("m", [1, 5, 32, 70])
def test_bias_and_relu(rng, m):
    x = normal(rng, 11, m)
    x[3] = np.nan
    native.check(hand.bias_relu(11, m), [x, normal(rng, m), zeros(11 * m)])


@pytest.mark.parametrize("shape", [(7, 40), (40, 7), (33, 65), (1, 9), (9, 1)])
@pytest.mark.parametrize("dtype", [F4, I8, B])
def test_a_transposing_copy(rng, shape, dtype):
    n, m = shape
    k = Build(n, m, dtype=dtype)
    k.store(k.load(0, (1, n)), 1, (m, 1))
    native.check(k.kernel(), [normal(rng, n, m).astype(dtype), zeros(n * m, dtype)])


@pytest.mark.parametrize("axes", range(8))
def test_broadcast_along_every_axis(rng, axes):
    shape = 3, 4, 50
    k = Build(*shape)
    full = (200, 50, 1)
    x = k.load(0, full)
    y = k.load(1, [s if axes >> n & 1 else 0 for n, s in enumerate(full)])
    k.store(k.mul(x, y), 2, full)
    native.check(k.kernel(), [normal(rng, *shape), normal(rng, *shape), zeros(600)])


@pytest.mark.parametrize("keep", range(8))
@pytest.mark.parametrize("how", ["add", "max", "min", "mul"])
def test_folds_over_any_axes(rng, keep, how):
    shape = 5, 6, 77
    k = Build(*shape)
    strides, step = [0, 0, 0], 1
    for n in (2, 1, 0):
        if keep >> n & 1:
            strides[n] = step
            step *= shape[n]
    alone = not keep & 1
    k.fold(k.load(0, (462, 77, 1)), 1, strides, how, step if alone else 0)
    x = rng.uniform(0.98, 1.02, 2310).astype(F4)
    native.check(k.kernel(), [x, normal(rng, step * (2 if alone else 1))], pieces=[(0, 3), (3, 5)])


@pytest.mark.parametrize("how", ["max", "min"])
def test_nan_in_a_maximum(rng, how):
    for m in (3, 40, 300):
        for at in (0, m // 2, m - 1):
            x = normal(rng, 4, m)
            x[m + at] = np.nan
            k = Build(4, m)
            value = k.load(0, (m, 1))
            k.store(k.put(Statement(f"row_{how}", (value,), F4)), 1, (1, 0))
            k.fold(value, 2, (0, 0), how)
            k.fold(value, 3, (0, 1), how)
            got = native.check(k.kernel(), [x, zeros(4), zeros(1), zeros(m)])
            assert np.isnan(got[1]).tolist() == [False, True, False, False]
            assert np.isnan(got[2]).all()


def test_a_gathered_row(rng):
    """Rows of a table by their numbers."""
    rows, n, m = 12, 9, 70
    k = Build(n, m)
    i = k.load(0, (1, 0), I4)
    k.store(k.exp(k.load(1, (0, 1), offset=3, index=((i, m),))), 2, (m, 1))
    args = [rng.integers(0, rows, n).astype(I4), normal(rng, rows * m + 3), zeros(n * m)]
    native.check(k.kernel(), args)


def test_rows_stored_where_an_index_says(rng):
    n, m = 9, 70
    k = Build(n, m)
    i = k.load(0, (1, 0), I8)
    x = k.load(1, (m, 1))
    k.outputs.append(Store(k.neg(x), Operand(2, F4, 5, (m, 1), ((i, n * m),))))
    k.outputs.append(Store(k.row_max(x), Operand(3, F4, 0, (1, 0), ((i, n),))))
    args = [rng.integers(0, 3, n), normal(rng, n, m), zeros(3 * n * m + 5), zeros(3 * n)]
    native.check(k.kernel(), args, pieces=[(0, 4), (4, 9)])


def test_an_index_that_a_row_decides(rng):
    """x[i, k] where k is how many numbers of the row are positive."""
    n, m = 6, 40
    k = Build(n, m)
    x = k.load(0, (m, 1))
    count = k.put(Statement("row_add", (k.truth("gt", x, k.const(0.0)),), I8))
    k.store(k.mul(k.load(0, (m, 0), index=((count, 1),)), x), 1, (m, 1))
    native.check(k.kernel(), [normal(rng, n, m), zeros(n * m)])


@pytest.mark.parametrize("op", ["lt", "le", "gt", "ge", "eq", "ne"])
@pytest.mark.parametrize("m", [5, 40, 200])
def test_positions_compared_with_a_number_of_the_row(op, m):
    ends = np.iinfo(np.int64)
    at = [0, 1, m - 1, m, -1, -m, m // 2, 2**31, -(2**32), 2**32 + 1, ends.max, ends.min, 31, 32]
    for swapped in (False, True):
        k = Build(len(at), m)
        pair = k.place(1), k.load(0, (1, 0), I8)
        k.store(k.truth(op, *(pair[::-1] if swapped else pair)), 1, (m, 1))
        k.fold(k.cast(len(k.body) - 1, I8), 2, (1, 0))
        args = [np.array(at), zeros(len(at) * m, B), zeros(len(at), I8)]
        native.check(k.kernel(), args)


def test_an_index_that_a_row_decides_reads_before_the_row_is_written(rng):
    n, m = 6, 80
    for arg in (0, 1):
        k = Build(n, m)
        x = k.load(0, (m, 1))
        k.store(k.mul(x, x), arg, (m, 1))
        count = k.put(Statement("row_add", (k.truth("gt", x, k.const(0.0)),), I8))
        k.store(k.load(0, (m, 0), index=((count, 1),)), 2, (1, 0))
        values = normal(rng, n, m)
        apart = native.check(k.kernel(), [values, values.copy(), zeros(n)])
        (f,) = native.compiled([k.kernel()])
        y = zeros(n)
        native.call(f, [values, values, y], 0, n)
        np.testing.assert_array_equal(y, apart[2])


def test_types_side_by_side(rng):
    """Integers, booleans and both floats in one kernel."""
    n, m = 5, 75
    k = Build(n, m)
    x, i = k.load(0, (m, 1)), k.load(1, (m, 1), I4)
    mask, d = k.load(2, (m, 1), B), k.load(3, (0, 1), F8)
    odd = k.truth("ne", k.remainder(i, k.const(2, I4)), k.const(0, I4))
    both = k.truth("logical_and", mask, odd)
    y = k.where(both, k.cast(x, F8), d)
    k.store(y, 4, (m, 1))
    k.store(both, 5, (m, 1))
    k.fold(k.cast(both, I8), 6, (0, 0))
    k.fold(both, 7, (1, 0), "max")
    k.store(k.cast(y, F4), 0, (m, 1))
    args = [normal(rng, n, m), rng.integers(-9, 9, n * m).astype(I4), rng.random(n * m) < 0.5]
    args += [normal(rng, m, dtype=F8), zeros(n * m, F8), zeros(n * m, B), zeros(1, I8), zeros(n, B)]
    for target in TARGETS:
        native.check(k.kernel(), args, target=target)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 0, 4), (0, 0), (1, 1), (4, 1), (1, 4)])
def test_empty_and_tiny_spaces(rng, shape):
    k = Build(*shape)
    strides = [int(np.prod([max(s, 1) for s in shape[n + 1 :]])) for n in range(len(shape))]
    x = k.load(0, strides)
    k.store(k.exp(x), 1, strides)
    k.fold(x, 2, [0] * len(shape))
    k.fold(x, 3, [0] * (len(shape) - 1) + [1])
    size = max(int(np.prod(shape)), 1)
    native.check(
        k.kernel(), [normal(rng, size), zeros(size), zeros(1) + 5, zeros(max(shape[-1], 1))]
    )


@pytest.mark.parametrize("dtype", [F4, F8])
def test_a_million_numbers_are_added_as_well_as_numpy_adds_them(dtype):
    n, trials = 1_000_000, 8
    k = Build(n, 1, dtype=dtype)
    k.fold(k.load(0, (1, 0)), 1, (0, 0))
    row = Build(1, n, dtype=dtype)
    row.store(row.row_add(row.load(0, (n, 1))), 1, (1, 0))
    outer = Build(1000, 1000, dtype=dtype)
    outer.fold(outer.mul(outer.load(0, (1000, 1)), outer.load(2, (0, 1))), 1, (0, 0))
    functions = native.compiled([k.kernel(), row.kernel(), outer.kernel()])
    errors = np.zeros((trials, 4))
    for trial in range(trials):
        x = np.random.default_rng(trial).uniform(0, 1, n).astype(dtype)
        exact = np.sum(x.astype(np.longdouble))
        y, ones, totals = zeros(1, dtype), np.ones(1000, dtype), [np.sum(x)]
        for f, space in zip(functions, (n, 1, 1000)):
            native.call(f, [x, y, ones], 0, space)
            totals.append(y[0])
        errors[trial] = [abs(t - exact) / np.spacing(dtype.type(exact)) for t in totals]
    ulps = np.sqrt(np.mean(errors**2, axis=0))
    assert (ulps[1:] <= np.maximum(ulps[0], 1.0)).all(), ulps


@pytest.mark.parametrize("big", [np.inf, -np.inf, np.nan, 1e308])
def test_a_sum_that_overflows(rng, big):
    for n in (7, 3000):
        x = normal(rng, n, dtype=F8)
        x[[1, 3]] = big
        k = Build(n, 1, dtype=F8)
        k.fold(k.load(0, (1, 0)), 1, (0, 0))
        with np.errstate(all="ignore"):
            native.check(k.kernel(), [x, zeros(1, F8)])


def test_results_do_not_depend_on_the_pieces(rng):
    n, m = 40, 333
    kernel = hand.layernorm_backward(n, m)
    args = [normal(rng, n, m), normal(rng, m), normal(rng, n, m), normal(rng, n), normal(rng, n)]
    args += [zeros(n * m), zeros(40 * m), zeros(40 * m)]
    (f,) = native.compiled([kernel])
    once, again, parts = (
        native.run(f, kernel, args, p) for p in (None, None, [(0, 7), (7, 8), (8, 40)])
    )
    for a, b in zip(once, again):
        assert a.tobytes() == b.tobytes()
    assert once[5].tobytes() == parts[5].tobytes()


def test_pointers_into_one_arena(rng):
    """`pointer` says where arguments are: here at fixed places behind one base."""
    kernel, at = hand.bias_relu(3, 40), (0, 512, 1024)
    module = Module(mathematics=native.mathematics.add)

    def pointer(f, arg):
        return f.at(f["args"], at[arg], "i8")

    loops.emit(module, "k0", kernel, width=16, pointer=pointer)
    arena = np.zeros(2048, np.uint8).view(F4)
    x, bias, y = arena[:120], arena[128:168], arena[256:376]
    x[:], bias[:] = normal(rng, 120), normal(rng, 40)
    native.machine_code(str(module), ["k0"])[0](arena.ctypes.data, 0, 3, 0)
    np.testing.assert_array_equal(y.reshape(3, 40), np.maximum(x.reshape(3, 40) + bias, 0))


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_constants_that_are_nan(nan):
    k = Build(2, 40)
    x = k.load(0, (40, 1))
    for n, name in enumerate(["maximum", "minimum", "fmax", "fmin"]):
        y = k.put(Statement(name, (x, k.const(nan)), F4))
        k.store(y, n + 1, (40, 1))
    x = np.linspace(-1, 1, 80, dtype=F4)
    native.check(k.kernel(), [x, *[zeros(80)] * 4])


# ------------------------------------------------------------------ one operation at a time

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, 1e-30, -1e30, np.inf, -np.inf, np.nan, 7.0, -7.0]
WHOLE = [0, 1, -1, 2, -2, 3, -7, 7, 31, 63, 64, -64, 2**31 - 1, -(2**31)]


def edges(dtypes):
    """Every pair (or triple with the first) of edges, as flat arrays."""
    pools = {"f": EDGES, "i": WHOLE, "b": [False, True]}
    pools = [np.array(pools[d.kind]).astype(d) for d in dtypes]
    grids = np.meshgrid(*pools, indexing="ij")
    return [g.reshape(-1).astype(d) for g, d in zip(grids, dtypes)]


def signatures():
    for name, op in OPS.items():
        n = len(getattr(op, "args", ()) or ())
        for d in (F4, F8, I4, I8, B):
            dtypes = (B, d, d) if name == "where" else (d,) * n
            if n and loops.supported(name, dtypes):
                yield name, dtypes


def exactly(name, xs):
    with np.errstate(all="ignore"):
        return np.asarray(OPS[name].impl(*xs))


def test_operations_at_the_edges():
    """Every supported operation of the table on every pair of edges, as NumPy has it."""
    cases = [c for c in signatures() if c[0] in loops.scalars.TABLE]
    assert len(cases) > 120
    for target in ("host", "x86-64"):
        kernels, runs = [], []
        for name, dtypes in cases:
            xs = edges(dtypes)
            want = exactly(name, xs)
            n, to = xs[0].size, want.dtype
            body = [
                Statement("load", (), d, Operand(a, d, 0, (1, 0))) for a, d in enumerate(dtypes)
            ]
            body.append(Statement(name, tuple(range(len(dtypes))), to))
            store = Store(len(dtypes), Operand(len(dtypes), to, 0, (1, 0)))
            kernels.append(Kernel((n, 1), tuple(body), (store,)))
            runs.append((name, xs, want))
        for f, kernel, (name, xs, want) in zip(native.compiled(kernels, target), kernels, runs):
            y = native.run(f, kernel, [*xs, np.zeros_like(want)])[-1]
            message = f"{name} of {[x.dtype.name for x in xs]} on {target}"
            if want.dtype.kind == "f":
                eps = np.finfo(want.dtype).eps
                np.testing.assert_allclose(y, want, rtol=4 * eps, atol=0, err_msg=message)
            else:
                np.testing.assert_array_equal(y, want, err_msg=message)


def test_casts_as_numpy_makes_them():
    for start in (F4, F8, I4, I8, B):
        for to in (F4, F8, I4, I8, B):
            pool = {"f": [0.0, -0.0, 1.5, -2.7, 1e9], "i": WHOLE, "b": [True, False]}[start.kind]
            if start.kind == "f" and to.kind != "i":
                pool = [*pool, np.inf, np.nan, 1e300 if start == F8 else 1e30]
            x = np.array(pool).astype(start)
            k = Build(x.size, 1)
            k.store(k.cast(k.load(0, (1, 0), start), to), 1, (1, 0))
            (f,) = native.compiled([k.kernel()])
            with np.errstate(all="ignore"):
                want = x.astype(to)
            got = native.run(f, k.kernel(), [x, zeros(x.size, to)])[1]
            np.testing.assert_array_equal(got, want, err_msg=f"{start} to {to}")


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("target", ["host", "haswell"])
def test_a_row_divided_by_a_number_is_rounded_as_a_division(rng, dtype, target):
    """Also by subnormal, huge, infinite numbers and 0; within an ulp where the rest underflows."""
    info = np.finfo(dtype)
    ends = [info.tiny, info.smallest_subnormal, 3 * info.smallest_subnormal, info.max, 0.0]
    ends = [*ends, np.inf, np.nan, 1.0, 3.0, float(info.tiny) * 5, float(info.max) / 7]
    ends += [-x for x in ends]
    powers = 2.0 ** rng.uniform(info.minexp - 20, info.maxexp, 300)
    d = np.array([*ends, *powers[:60], *rng.standard_normal(40)]).astype(dtype)
    x = np.array([*ends, *powers, *rng.standard_normal(400)]).astype(dtype)
    k = Build(d.size, x.size, dtype=dtype)
    k.store(k.div(k.load(0, (0, 1)), k.load(1, (1, 0))), 2, (x.size, 1))
    (f,) = native.compiled([k.kernel()], target)
    y = native.run(f, k.kernel(), [x, d, zeros(d.size * x.size, dtype)])[2]
    with np.errstate(all="ignore"):
        want = (x / d[:, None]).reshape(-1)
    size = np.abs(want)
    small = np.abs(np.tile(x, d.size)) < info.tiny * 2.0 ** (info.nmant + 3)
    small |= (size < 2 * info.tiny) | ((size > info.max / 2) & np.isfinite(size))
    exact = ~small | (want == 0)
    assert exact.mean() > 0.5
    np.testing.assert_array_equal(y[exact], want[exact])
    np.testing.assert_allclose(y[small], want[small], rtol=info.eps, atol=info.smallest_subnormal)


def test_what_is_not_supported():
    assert not loops.supported("exp", (np.dtype("c16"),))
    assert not loops.supported("add", (np.dtype("f2"), np.dtype("f2")))
    assert not loops.supported("sub", (B, B))
    assert not loops.supported("Sum", (F4,))
    assert not loops.supported("exp", (I8,))
    assert loops.supported("where", (B, F4, F4))


# ------------------------------------------------------------------ at random


def agree(got, want, checks, message):
    for a, (y, exact) in enumerate(zip(got, want)):
        bound = checks.get(a)
        if bound is None:
            np.testing.assert_array_equal(y, exact, err_msg=message)
        else:
            np.testing.assert_allclose(y, exact, rtol=2e-5, atol=2e-6 * bound, err_msg=message)


def sweep(seeds, target="host", width=None):
    cases = [random_kernel(seed) for seed in seeds]
    functions = native.compiled([c[0] for c in cases], target, width)
    for seed, f, (kernel, args, pieces, checks) in zip(seeds, functions, cases):
        want = native.reference(kernel, args, pieces)
        message = f"seed {seed}, {target}, width {width}, pieces {pieces}\n{kernel}\n"
        agree(native.run(f, kernel, args, pieces), want, checks, message)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # nan and inf among the data
@pytest.mark.parametrize("block", range(0, 500, 50))
def test_random_kernels(block):
    sweep(range(block, block + 50))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("target", TARGETS[1:])
@pytest.mark.parametrize("block", range(500, 600, 50))
def test_random_kernels_on_other_machines(block, target):
    sweep(range(block, block + 50), target)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("width", [1, 2, 4, 64])
def test_random_kernels_in_other_widths(width):
    sweep(range(600, 650), width=width)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("block", range(1000, 4000, 50))
def test_many_random_kernels(block, target):
    sweep(range(block, block + 50), target)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_kernels_collapsed():
    """The meaning of a kernel does not change when axes become one."""
    shorter = 0
    for seed in range(300):
        kernel, args, pieces, _ = random_kernel(seed)
        small, unit = collapse(kernel)
        shorter += len(small.space) < len(kernel.space)
        want = native.reference(kernel, args, pieces)
        got = native.reference(small, args, [(lo * unit, hi * unit) for lo, hi in pieces])
        for x, y in zip(want, got):
            np.testing.assert_array_equal(x, y, err_msg=f"seed {seed}\n{kernel}\n{small}")
    assert shorter > 50


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_kernels_with_short_rows_turned():
    """Nor when lanes run over the rows."""
    turned = 0
    for seed in range(1200):
        kernel, args, pieces, checks = random_kernel(seed)
        small, unit = collapse(kernel)
        over = turn(small)
        if over is None or any(o.index for o in operands(over)):
            continue
        turned += 1
        want = native.reference(kernel, args, pieces)
        got = native.reference(over, args, [(lo * unit, hi * unit) for lo, hi in pieces])
        agree(got, want, checks, f"seed {seed}\n{kernel}\n{over}")
    assert turned > 50


# ------------------------------------------------------------------ memory that is not theirs


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork and mprotect")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nothing_is_read_beyond_the_operands(target):
    """With every array against a page that cannot be read, at its end and at its beginning."""
    seeds = range(700, 760)
    cases = [random_kernel(seed) for seed in seeds]
    functions = native.compiled([c[0] for c in cases], target)
    pages = native.Pages()
    laid = [
        (kernel, [pages.array(x, at_end) for x in args], pieces)
        for kernel, args, pieces, _ in cases
        for at_end in (True, False)
    ]
    reached = pages.array(np.zeros(1, I8), True)

    def work():
        for n, (_, arrays, pieces) in enumerate(laid):
            reached[0] = n
            for piece, (lo, hi) in enumerate(pieces):
                native.call(functions[n // 2], arrays, lo, hi, piece)

    status, n = native.ended(work), int(reached[0])
    assert status == 0, f"seed {seeds[n // 2]}, ended by {status}\n{laid[n][0]}"
    assert n == len(laid) - 1


def test_the_guard_catches_a_read():
    """A kernel that is told a space one element too long is ended."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs fork and mprotect")
    pages = native.Pages()
    x, y = pages.array(np.zeros(100, F4), True), pages.array(np.zeros(1, F4), True)
    k = Build(101, 1)
    k.fold(k.load(0, (1, 0)), 1, (0, 0))
    (f,) = native.compiled([k.kernel()])
    assert native.ended(lambda: native.call(f, [x, y], 0, 100)) == 0
    assert native.ended(lambda: native.call(f, [x, y], 0, 101)) != 0
