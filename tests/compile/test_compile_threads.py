"""Compiled functions in threads and processes; what they hold on to."""

import gc
import os
import signal
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from calls import BACKENDS, near, programs

import wengert as wg
from wengert import optim

RNG = np.random.default_rng(0)
W = RNG.normal(size=(40, 30)) / 8


def f(x):
    y = np.tanh(x @ W)
    return np.sum(y * y), y[:, ::2]


def together(*jobs):
    """Run jobs at once; the first error is raised here."""
    gate, errors = threading.Barrier(len(jobs)), []

    def run(job):
        try:
            gate.wait()
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
        assert not t.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("warm", [True, False])
def test_four_threads_at_once(warm, backend):
    g = wg.compile(f, backend=backend, wait=True)
    inputs = RNG.normal(size=(8, 20, 40))
    want = [f(x) for x in inputs]
    if warm:
        g(inputs[0])

    def job(k):
        def run():
            for i in range(30):
                n = (i + k) % len(inputs)
                near(want[n], g(inputs[n]), rtol=1e-11)

        return run

    together(*map(job, range(4)))
    assert programs(g) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_in_modes_of_their_own(backend):
    w = wg.tensor(W, requires_grad=True)
    g = wg.compile(lambda x: np.sum(np.tanh(x @ w) ** 2), backend=backend, wait=True)
    x = RNG.normal(size=(20, 40))
    value = float(np.sum(np.tanh(x @ W) ** 2))

    def quiet():
        for _ in range(30):
            with wg.no_grad():
                y = g(x)
                assert not y.requires_grad
                assert abs(y.item() - value) < 1e-9 * value

    def recorded():
        for _ in range(30):
            y = g(x)
            assert y.requires_grad
            assert abs(y.item() - value) < 1e-9 * value

    def transformed():
        for _ in range(10):
            want = wg.grad(lambda x: np.sum(np.tanh(x @ W) ** 2))(x)
            near(want, np.asarray(wg.grad(g)(x).value()), rtol=1e-9)

    def recording():
        for k in range(10):
            h = wg.compile(lambda x, k=k: np.sum(np.tanh(x @ w)) * k, backend="numpy")
            with wg.no_grad():
                h(x)

    together(quiet, recorded, transformed, recording)


def test_derivatives_in_threads():
    x = RNG.normal(size=(20, 40))
    g = wg.compile(lambda x: np.sum(np.tanh(x @ W) ** 2), backend="llvm", wait=True)
    want = wg.grad(g.f)(x)

    def job():
        for _ in range(10):
            near(want, wg.grad(g)(x), rtol=1e-10)
            t = wg.tensor(x, requires_grad=True)
            g(t).backward()
            near(want, np.asarray(t.grad), rtol=1e-10)

    together(*[job] * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_process(backend):
    g = wg.compile(f, backend=backend)
    x = RNG.normal(size=(300, 40))
    want = g(x)
    pid = os.fork()
    if pid == 0:
        try:
            ok = all(np.allclose(a, b) for _ in range(3) for a, b in zip(want, g(x)))
            h = wg.compile(lambda x: np.tanh(x) * 2, backend=backend)
            ok = ok and np.allclose(h(x), np.tanh(x) * 2)
            os._exit(0 if ok else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    near(want, g(x))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_process_that_forks_while_other_threads_run_and_compile(backend, monkeypatch):
    monkeypatch.setenv("WENGERT_CACHE", "")
    g = wg.compile(lambda x: np.sum(np.tanh(x @ x.T)) + np.sum(x), backend=backend)
    # small: OpenBLAS's own threads do not live through a fork in the middle of a product
    x = RNG.normal(size=(60, 40))
    want = [g(x), g(x)][1]
    over = threading.Event()

    def others():
        while not over.is_set():
            g(x)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for n in range(3, 7):
            g(x[:n])  # compiled by a thread of its own
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                h = wg.compile(lambda x, k=n: np.tanh(x) * k, backend=backend)
                ok = np.allclose(g(x), want) and np.allclose(h(x), np.tanh(x) * n)
                os._exit(0 if ok else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        over.set()
        thread.join()


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_thousand_calls_hold_memory_flat(backend):
    w = wg.tensor(W, requires_grad=True)
    optimizer = optim.Adam([w], lr=1e-3)
    x = RNG.normal(size=(50, 40))

    def step(x, k):
        optimizer.zero_grad()
        loss = np.mean(np.tanh(x @ w) ** 2) * k
        loss.backward()
        optimizer.step()
        return loss.detach(), np.tanh(x)

    g = wg.compile(step, backend=backend)
    for k in range(20):
        g(x, k / 7)
    gc.collect()
    tracemalloc.start()
    try:
        for k in range(1000):
            g(x, k / 7)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 100_000 + 4 * x.nbytes
    assert programs(g) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_functions_that_come_and_go(backend):
    def make(k):
        a = np.full((200, 200), float(k))
        g = wg.compile(lambda x: np.sum(np.tanh(x * a)), backend=backend)
        x = np.ones((200, 200))
        g(x)
        g(x)
        wg.grad(g)(x)
        return weakref.ref(g), weakref.ref(a)

    refs = [make(k) for k in range(4)]
    gc.collect()
    assert [r() for pair in refs for r in pair] == [None] * 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_that_are_kept_are_never_written(backend):
    g = wg.compile(lambda x: (np.tanh(x) * 2, np.sum(x, axis=0), x[:, :5]), backend=backend)
    inputs = RNG.normal(size=(40, 100, 60))
    results = [g(x) for x in inputs]
    for x, (a, b, c) in zip(inputs, results):
        np.testing.assert_allclose(a, np.tanh(x) * 2, rtol=1e-12)
        np.testing.assert_allclose(b, np.sum(x, axis=0), rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(c, x[:, :5])
    flat = [r for row in results for r in row[:2]]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(flat[:8]) for b in flat[:i])


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_that_somebody_holds_are_not_written_under_them(backend):
    w = wg.tensor(np.ones((50, 50)), requires_grad=True)

    def step(x):
        np.sum(w * x).backward()
        with wg.no_grad():
            w[...] = w - 0.1 * w.grad
        w.grad = None

    g = wg.compile(step, backend=backend)
    x, held = np.ones((50, 50)), []
    for k in range(6):
        held.append((w.numpy(), 1 - 0.1 * k, w[0], w.detach()))
        g(x)
    for a, value, row, copy in held:
        np.testing.assert_allclose(a, value, rtol=1e-12)
        np.testing.assert_allclose(copy.numpy(), value, rtol=1e-12)
        np.testing.assert_allclose(row.numpy(), 0.4, rtol=1e-12)  # a view shows what is there now


def test_what_was_recorded_keeps_its_numbers():
    w = wg.tensor(np.ones(3), requires_grad=True)
    g = wg.compile(lambda x: x * w * w, backend="llvm")
    y = g(np.ones(3))
    with wg.no_grad():
        w *= 5
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2.0)
