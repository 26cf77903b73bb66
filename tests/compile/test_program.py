"""Whole programs as machine code: the same bits with any number of threads, and no stray memory."""

import gc
import re
import weakref

import numpy as np
import pytest
import random_graphs
from test_steps import close, precision

import wengert as wg
from wengert.compile.backends import optimized
from wengert.compile.dispatch import MISS
from wengert.compile.lower import Call
from wengert.errors import AxisError, DTypeError
from wengert.graph import evaluate
from wengert.transforms.staging import stage

pytest.importorskip("llvmlite", reason="machine code needs the extra `compile`")
from wengert.compile.backends.llvm.program import build
from wengert.native import engine, pool
from wengert.native.target import target


@pytest.fixture
def fine(monkeypatch):
    """Pieces as small as can be, all of them on the pool."""
    monkeypatch.setattr("wengert.compile.schedule.GRAIN", 1e-6)
    monkeypatch.setattr("wengert.compile.schedule.ROWS", 1)
    monkeypatch.setattr("wengert.compile.backends.llvm.program.SERIAL", 0.0)


@pytest.fixture
def threads():
    before = pool.threads()
    yield pool.set_threads
    pool.set_threads(before)


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_random_graphs_in_fine_pieces_on_two_threads(start, fine, threads):
    threads(2)
    for seed in range(start, start + 20):
        graph, inputs = random_graphs.make(seed)
        native = build(optimized(graph)[0])
        with np.errstate(all="ignore"):
            want = evaluate(graph, *inputs)
        for got, w in zip(native(inputs, [None] * len(graph.outputs)), want):
            close(got, w, precision(graph))


def network(rows):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 20)).astype(np.float32)
    y = rng.integers(0, 10, rows)
    model = wg.nn.Sequential(
        wg.nn.Linear(20, 64, rng=0), wg.nn.GELU(), wg.nn.LayerNorm(64), wg.nn.Linear(64, 10, rng=1)
    )
    optimizer = wg.optim.AdamW(model.parameters(), 1e-2)

    def step(x, y):
        loss = wg.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return model, step, x, y


@pytest.mark.parametrize("fineness", [1e-6, 25.0])
def test_the_number_of_threads_changes_no_bit(fineness, monkeypatch, threads):
    monkeypatch.setattr("wengert.compile.schedule.GRAIN", fineness)
    monkeypatch.setattr("wengert.compile.backends.llvm.program.SERIAL", 0.0)
    ends = []
    for n in (1, 2, 3):
        threads(n)
        model, step, x, y = network(256)
        f = wg.compile(step, backend="llvm", wait=True)
        losses = [f(x, y).item() for _ in range(5)]
        ends.append((losses, [p.numpy().tobytes() for p in model.parameters()]))
    assert ends[0] == ends[1] == ends[2]


def test_what_a_piece_needs_alone_is_not_there_as_a_whole(fine):
    def f(x, w):
        for _ in range(6):
            x = np.tanh(x @ w)
        return x

    x, w = np.ones((64, 32)), np.full((32, 32), 0.01)
    native = build(stage(f, x, w).graph)
    assert native.plan.size == 0  # the values between layers belong to pieces
    assert 0 < native.storage.own < x.nbytes
    np.testing.assert_allclose(native([x, w], [None])[0], f(x, w), rtol=1e-13)


def test_the_memory_of_pieces_goes_with_the_program(fine):
    def f(x, w):
        return np.tanh(np.tanh(x @ w) @ w)

    x, w = np.ones((64, 32)), np.full((32, 32), 0.01)
    native = build(stage(f, x, w).graph)
    native([x, w], [None])
    gone = weakref.ref(native)
    del native
    gc.collect()
    assert gone() is None


def test_outputs_never_share_memory_with_the_program_or_each_other():
    def f(x):
        y = np.exp(x)
        return y, y, np.transpose(y), x

    x = np.random.default_rng(0).standard_normal((300, 40))
    native = build(stage(f, x).graph)
    first = native([x], [None] * 4)
    kept = [a.copy() for a in first]
    second = native([x + 1], [None] * 4)
    for i, a in enumerate(first):
        np.testing.assert_array_equal(a, kept[i])
        assert not np.shares_memory(a, native.arena)
        assert not np.shares_memory(a, x)
        for b in [*first[:i], *second]:
            assert not np.shares_memory(a, b)


def test_memory_that_nobody_holds_any_more_is_handed_out_again():
    x = np.ones(100_000)
    native = build(stage(lambda x: x * 2.0, x).graph)
    a = native([x], [None])[0]
    at = a.ctypes.data
    del a
    assert native([x], [None])[0].ctypes.data == at


def test_an_operation_without_machine_code_is_called_between_segments():
    def f(x):
        return np.cumsum(np.exp(x) * 2.0)[::-1] + 1.0

    x = np.random.default_rng(0).standard_normal(50)
    native = build(stage(f, x).graph)
    assert [type(s.call) is Call for s in native.regions].count(True) == 1
    assert len(native.segments) == 3
    np.testing.assert_allclose(native([x], [None])[0], f(x), rtol=1e-14)


def test_unusual_layouts_are_taken():
    f = wg.compile(lambda a, b: a @ b + a.sum(), backend="llvm")
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((8, 6)), rng.standard_normal((6, 5))
    want = a @ b + a.sum()
    for x, y in ((a, b), (np.asfortranarray(a), b), (np.repeat(a, 2, 0)[::2], b[:, ::-1][:, ::-1])):
        for _ in range(3):
            np.testing.assert_allclose(f(x, y), want, rtol=1e-13)


@pytest.mark.parametrize("level", ["avx512", "avx2", "sse2"])
def test_every_level_of_the_processor(level):
    from wengert.native.target import present

    if level not in present():
        pytest.skip(f"this processor has no {level}")

    def f(x, w):
        y = wg.gelu(x @ w)
        m = np.mean(y, axis=1, keepdims=True)
        return np.sum((y - m) ** 2), wg.softmax(y, axis=1)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 30)).astype(np.float32)
    w = rng.standard_normal((30, 50)).astype(np.float32)
    graph = stage(f, x, w).graph
    native = build(optimized(graph)[0], level=level)
    for got, want in zip(native([x, w], [None, None]), evaluate(graph, x, w)):
        np.testing.assert_allclose(got, want, rtol=2e-5)


def test_functions_of_numbers_stand_in_the_loops_that_call_them():
    x = np.ones((40, 30), np.float32)
    text = build(optimized(stage(lambda x: np.exp(x) + np.tanh(x), x).graph)[0]).text
    found = dict(re.findall(r"^define [^@\n]*@(\w+)\([^\n]*\) ([^()\n]*) \{$", text, re.M))
    loops = {n: a for n, a in found.items() if n.startswith("loops_")}
    numbers = {n: a for n, a in found.items() if n.startswith(("exp_", "tanh_"))}
    assert len(loops) == 1
    assert len(numbers) == 2
    assert all("noinline" in a for a in loops.values())
    assert all("alwaysinline" in a for a in numbers.values())


@pytest.mark.parametrize(("n", "inside"), [(4, True), (40, False)])
def test_a_function_that_is_called_all_over_stays_out_of_line(n, inside):
    x = np.linspace(-1, 1, 5, dtype=np.float32)

    def f(x):
        for _ in range(n):
            x = np.tanh(1.5 * x)
        return x

    program = build(optimized(stage(f, x).graph)[0])
    (head,) = [
        line for line in program.text.splitlines() if "@tanh_float" in line and "def" in line
    ]
    assert ("alwaysinline" in head) is inside
    np.testing.assert_allclose(program([x], [None])[0], f(x), rtol=1e-5)


def test_gelu_and_its_slope_have_one_quotient():
    if not target().fma:
        pytest.skip("without a fused multiply-add they are float64 quotients of their own")

    def f(x, g):
        y, back = wg.vjp(wg.gelu, x)
        return y, back(g)

    x = np.ones((40, 32), np.float32)
    native = build(optimized(stage(f, x, x).graph)[0])
    module = str(engine.optimized(native.text, native.target, "quick")[1])
    assert module.count(" = fdiv ") == 1


# ------------------------------------------------------------------ the short way


def test_the_short_way_is_taken_and_left():
    f = wg.compile(lambda x, k: np.sum(np.sin(x)) * k, backend="llvm")
    x = np.arange(4.0)
    assert f(x, 2.0) == f(x, 2.0)
    f(x, 2.0)
    assert f.fast is not None
    assert f.fast((x, 3.0), {}) == pytest.approx(3 * np.sum(np.sin(x)))
    for args, kwargs in (
        ((x.astype(np.float32), 2.0), {}), ((x[:2], 2.0), {}), ((x[::-1], 2.0), {}),
        ((x,), {"k": 2.0}), ((x, np.float32(2)), {}), ((x, wg.tensor(2.0)), {}),
    ):  # fmt: skip
        assert f.fast(args, kwargs) is MISS
        np.testing.assert_allclose(f(*args, **kwargs), f.f(*args, **kwargs), rtol=1e-6)
    with wg.no_grad():
        assert f.fast((x, 2.0), {}) is MISS
        assert f(x, 2.0) == pytest.approx(2 * np.sum(np.sin(x)))


def test_a_parameter_that_somebody_else_holds_is_not_written_over():
    w = wg.tensor(np.ones(3), requires_grad=True)

    def step(x):
        with wg.no_grad():
            w.__isub__(x)

    f = wg.compile(step, backend="llvm")
    for _ in range(3):
        f(np.ones(3))
    held = w.detach()
    window = w.numpy()
    f(np.ones(3))
    np.testing.assert_array_equal(held.numpy(), [-2.0, -2.0, -2.0])
    np.testing.assert_array_equal(window, [-2.0, -2.0, -2.0])
    np.testing.assert_array_equal(w.numpy(), [-3.0, -3.0, -3.0])


def test_the_short_way_writes_arrays_that_are_given():
    def momentum(p, m, g):
        m[...] = 0.9 * m + g
        p[:] -= 0.1 * m

    f = wg.compile(momentum, backend="llvm")
    rng = np.random.default_rng(0)
    p, m, g, q, n = (rng.standard_normal(50) for _ in range(5))
    q[:], n[:] = p, m
    for _ in range(4):
        f(p, m, g)
        momentum(q, n, g)
        np.testing.assert_allclose(p, q, rtol=1e-15, atol=1e-15)
        np.testing.assert_allclose(m, n, rtol=1e-15, atol=1e-15)
    assert f.fast is not None
    whole = rng.standard_normal(60)
    still = g.copy()
    still.flags.writeable = False
    for args in ((p, whole[:50], g), (p, m, p), (p, m, m[:]), (whole[:50], m, g)):
        assert f.fast(args, {}) is MISS
        want = [a.copy() for a in args]
        if args[2] is not g:  # what it reads is what it writes
            want[2] = want[0] if args[2] is p else want[1][:]
        momentum(*want)
        f(*args)
        np.testing.assert_allclose(args[0], want[0], rtol=1e-15, atol=1e-15)
        np.testing.assert_allclose(args[1], want[1], rtol=1e-15, atol=1e-15)
    with pytest.raises(ValueError, match="read-only"):
        f(still, m, g)


def test_the_short_way_hands_back_numbers_of_python():
    f = wg.compile(lambda x, y: ((1 - x) ** 2 + 100 * (y - x * x) ** 2, x * y), backend="llvm")
    for _ in range(3):
        f(0.5, 0.25)
    assert f.fast is not None
    for x, y in ((0.5, 0.25), (0.1, -3.0), (1e200, 1e200)):
        try:
            want = f.f(x, y)
        except OverflowError as error:
            with pytest.raises(OverflowError, match=str(error.args[1])):
                f(x, y)
            continue
        assert f(x, y) == want


def test_a_label_that_is_none_costs_no_draw():
    rng = np.random.default_rng(0)
    model = wg.nn.Sequential(
        wg.nn.Linear(5, 8, rng=0), wg.nn.Dropout(0.5, rng=rng), wg.nn.Linear(8, 3, rng=1)
    )
    f = wg.compile(lambda x, y: wg.cross_entropy(model(x), y).detach(), wait=True)
    x, y = np.ones((4, 5)), np.array([0, 1, 2, 1])
    for _ in range(3):
        f(x, y)
    state = rng.bit_generator.state
    for wrong in (3, -1):
        args = x, np.array([0, 1, wrong, 1])
        assert f.fast(args, {}) is MISS
        assert rng.bit_generator.state == state
        after = []
        for g in (f, f.f):
            rng.bit_generator.state = state
            with pytest.raises(AxisError, match=f"label {wrong} is outside"):
                g(*args)
            after.append(rng.bit_generator.state)
        assert after[0] == after[1] != state
        rng.bit_generator.state = state
    assert f.fast((x, y), {}) is not MISS


def test_an_update_in_place_keeps_the_dtype():
    def made():
        return wg.tensor(np.ones(3, np.float32), requires_grad=True)

    def step(p, k):
        with wg.no_grad():
            p *= np.float64(0.3) * k
            p -= np.sqrt(k)

    f, p, q = wg.compile(step, backend="llvm"), made(), made()
    for k in (2.0, 3.0, 5.0):
        f(p, k)
        step(q, k)
        assert p.dtype == q.dtype == np.float32
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    with pytest.raises(DTypeError, match="multiply"):
        f(p, 1j)


# ------------------------------------------------------------------ memory


def test_the_arena_is_used_to_its_end_and_no_further():
    _, step, x, y = network(64)
    f = wg.compile(step, backend="llvm")
    f(x, y)
    native = next(iter(f.variants.values()))[0].executable
    assert native.plan.size == len(native.arena) >= native.plan.lower_bound
    raw = native.arena.base
    start = native.arena.ctypes.data - raw.ctypes.data
    raw[...] = 0xA5
    f(x, y)
    assert (raw[:start] == 0xA5).all()
    assert (raw[start + native.plan.size :] == 0xA5).all()
    used = np.flatnonzero(native.arena != 0xA5)
    assert native.plan.size - 128 <= used[-1] < native.plan.size


def test_a_run_takes_no_memory_but_for_its_results():
    import tracemalloc

    _, step, x, y = network(64)
    f = wg.compile(step, backend="llvm")
    for _ in range(3):
        f(x, y)
    assert f.fast is not None
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(20):
            f(x, y)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now - before < 2048
    assert peak - before < 4096  # the loss, and a few of Python's own objects


def test_an_array_of_one_axis_is_cut_into_pieces():
    """Threads share it, and the numbers do not depend on where it is cut."""
    x = np.random.default_rng(0).normal(size=100_003)

    def f(x):
        y = np.exp(np.sin(x)) * x
        return y, np.sum(y * y), np.where(x > 0, np.sqrt(np.abs(x)), -x)

    g = wg.compile(f, backend="llvm", wait=True)
    for one, other in zip(g(x), f(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    told = g.explain()
    assert "over [100003, 1]" in told
    assert int(told.partition("region 0: ")[2].partition(" ")[0]) > 4
