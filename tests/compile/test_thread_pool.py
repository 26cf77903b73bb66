"""The thread pool: every chunk once, whatever the threads do."""

import ctypes
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from wengert.errors import OptionError

pytest.importorskip("llvmlite", reason="machine code needs the extra `compile`")

from wengert.native import engine, pool, pool_code, target

TASKS = """
declare void @wg_parallel(ptr, ptr, i32)

define void @count(ptr %ctx, i32 %i) {
entry:
  %i64 = zext i32 %i to i64
  %p = getelementptr i32, ptr %ctx, i64 %i64
  %x = load i32, ptr %p
  %y = add i32 %x, 1
  store i32 %y, ptr %p
  ret void
}

define void @slow(ptr %ctx, i32 %i) {
entry:
  br label %spin
spin:
  %k = phi i32 [ 0, %entry ], [ %k1, %spin ]
  %k1 = add i32 %k, 1
  store volatile i32 %k1, ptr getelementptr (i8, ptr @scratch, i64 0)
  %more = icmp slt i32 %k1, 200000
  br i1 %more, label %spin, label %end
end:
  call void @count(ptr %ctx, i32 %i)
  ret void
}
@scratch = internal global i32 0

; ctx: 8 x 16 counters; chunk i of the outer region counts line i in an inner one
define void @nested(ptr %ctx, i32 %i) {
entry:
  %i64 = zext i32 %i to i64
  %at = mul i64 %i64, 16
  %line = getelementptr i32, ptr %ctx, i64 %at
  call void @wg_parallel(ptr @count, ptr %line, i32 16)
  ret void
}

define void @many(ptr %fn, ptr %ctx, i32 %n, i64 %times) {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %j, %next ]
  call void @wg_parallel(ptr %fn, ptr %ctx, i32 %n)
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %times
  br i1 %more, label %next, label %end
end:
  ret void
}

; ctx[0] is added up after a region has written ctx[1 ..]: what workers wrote is seen
define i64 @sums(ptr %ctx, i32 %n, i64 %times) {
entry:
  br label %next
next:
  %t = phi i64 [ 0, %entry ], [ %t1, %after ]
  %total = phi i64 [ 0, %entry ], [ %total2, %after ]
  call void @wg_parallel(ptr @count, ptr %ctx, i32 %n)
  br label %add
add:
  %i = phi i64 [ 0, %next ], [ %i1, %add ]
  %sum = phi i64 [ %total, %next ], [ %total2, %add ]
  %p = getelementptr i32, ptr %ctx, i64 %i
  %x = load i32, ptr %p
  %x64 = zext i32 %x to i64
  %total2 = add i64 %sum, %x64
  %i1 = add i64 %i, 1
  %n64 = zext i32 %n to i64
  %more = icmp slt i64 %i1, %n64
  br i1 %more, label %add, label %after
after:
  %t1 = add i64 %t, 1
  %again = icmp slt i64 %t1, %times
  br i1 %again, label %next, label %end
end:
  ret i64 %total2
}
"""
P, I, L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


@pytest.fixture(scope="module")
def tasks():
    pool.prepare()
    library = engine.load(engine.compile_ir(TASKS, target.target()))
    return library


@pytest.fixture(autouse=True)
def four_threads():
    before = pool.threads()
    pool.set_threads(4)
    yield
    pool.set_threads(before)


def run(tasks, name, n, times=1):
    seen = np.zeros(max(n, 1), np.int32)
    tasks.function("many", None, P, P, I, L)(tasks.address(name), seen.ctypes.data, n, times)
    return seen


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 17, 1000])
@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_every_chunk_exactly_once(tasks, n, size):
    pool.set_threads(size)
    np.testing.assert_array_equal(run(tasks, "count", n, 300)[:n], 300)
    assert pool.threads() == size


def test_what_workers_wrote_is_seen_after_the_region(tasks):
    sums = tasks.function("sums", L, P, I, L)
    seen = np.zeros(33, np.int32)
    times = 20_000
    assert sums(seen.ctypes.data, 33, times) == 33 * times * (times + 1) // 2


def test_workers_take_part(tasks):
    who = set()
    visit = lambda ctx, i: (who.add(threading.get_ident()), nap())
    task = ctypes.CFUNCTYPE(None, P, I)(visit)

    def nap():
        time.sleep(0.002)

    for _ in range(50):
        pool.parallel(ctypes.cast(task, P).value, None, 8)
        if len(who) > 1:
            break
    assert len(who) > 1


def test_sleeping_workers_wake(tasks):
    for _ in range(20):
        time.sleep(0.003)
        np.testing.assert_array_equal(run(tasks, "slow", 6), 1)


def test_regions_inside_regions(tasks):
    for _ in range(200):
        seen = np.zeros((8, 16), np.int32)
        tasks.function("many", None, P, P, I, L)(tasks.address("nested"), seen.ctypes.data, 8, 5)
        assert (seen == 5).all()


def test_several_callers_at_once(tasks):
    wrong = []

    def call(n):
        for _ in range(30):
            seen = run(tasks, "count", n, 500)
            if not (seen == 500).all():
                wrong.append(n)

    callers = [threading.Thread(target=call, args=(n,)) for n in (2, 7, 64, 300)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(60)
    assert not wrong
    assert not any(c.is_alive() for c in callers)


def test_resized_between_regions_and_under_callers(tasks):
    stop, wrong = threading.Event(), []

    def call():
        while not stop.is_set():
            if not (run(tasks, "count", 50, 100) == 100).all():
                wrong.append(1)

    caller = threading.Thread(target=call)
    caller.start()
    for n in (1, 3, 2, 8, 1, 4) * 5:
        pool.set_threads(n)
        assert (run(tasks, "count", 9, 10) == 10).all()
    stop.set()
    caller.join(30)
    assert not wrong
    assert not caller.is_alive()


def test_threads_are_what_was_asked_for(tasks):
    made = pool.prepare()
    run(tasks, "count", 8)
    assert made.alive() == (3 if made.waiting != "none" else 0)
    pool.set_threads(1)
    run(tasks, "count", 8)
    assert made.alive() == 0


@pytest.mark.parametrize("n", [0, -1, 1.5, True, 100_000, "2"])
def test_numbers_of_threads_that_mean_nothing(n):
    with pytest.raises(OptionError, match="1 to 1024"):
        pool.set_threads(n)


def test_default_number_of_threads(monkeypatch):
    monkeypatch.delenv("WENGERT_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = pool.default_threads()
    assert 1 <= cores <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert pool.default_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert pool.default_threads() == cores
    monkeypatch.setenv("WENGERT_NUM_THREADS", "5")
    assert pool.default_threads() == 5
    monkeypatch.setenv("WENGERT_NUM_THREADS", "none")
    with pytest.raises(OptionError, match="WENGERT_NUM_THREADS=none"):
        pool.default_threads()


@pytest.mark.parametrize("waiting", ["condition", "none"])
def test_other_ways_to_wait(waiting, tasks):
    """The pool of systems without a futex, and of those without threads."""
    if os.name != "posix":
        pytest.skip("needs POSIX threads")
    other = pool.Pool(waiting)
    other.set(3)
    address = tasks.address("slow")
    for gap in (0.0, 0.002) * 10:
        time.sleep(gap)
        seen = np.zeros(5, np.int32)
        other.run(address, seen.ctypes.data, 5)
        assert (seen == 1).all()
    for _ in range(2000):
        other.run(tasks.address("count"), seen.ctypes.data, 5)
    assert (seen == 2001).all()
    other.set(1)


@pytest.mark.parametrize("waiting", ["futex", "condition", "none"])
@pytest.mark.parametrize(
    ("triple", "instruction"),
    [
        ("x86_64-unknown-linux-gnu", "lock"),
        ("aarch64-unknown-linux-gnu", "ldar"),
        ("arm64-apple-darwin", "ldar"),
        ("riscv64-unknown-linux-gnu", "fence"),
    ],
)
def test_code_for_other_machines(triple, instruction, waiting):
    """The assembly is well formed there, and its atomics are ordered."""
    binding = target.llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        found = binding.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this LLVM has no {triple}")
    module = binding.parse_assembly(pool_code.source(triple, waiting), binding.create_context())
    module.triple = triple
    module.verify()
    features = "+a,+m" if "riscv" in triple else ""
    text = found.create_target_machine(features=features).emit_assembly(module)
    assert (instruction in text) == (waiting != "none")


# ---- processes
START = """
import ctypes, os, sys, threading, time
import numpy as np
from wengert.native import engine, pool, pool_code, target
pool.set_threads(3)
made = pool.prepare()
text = '''
define void @count(ptr %ctx, i32 %i) {
  %i64 = zext i32 %i to i64
  %p = getelementptr i32, ptr %ctx, i64 %i64
  %x = load i32, ptr %p
  %y = add i32 %x, 1
  store i32 %y, ptr %p
  ret void
}
'''
library = engine.load(engine.compile_ir(text, target.target()))
count = library.address("count")
def region(n=40, times=50):
    seen = np.zeros(n, np.int32)
    for _ in range(times):
        pool.parallel(count, seen.ctypes.data, n)
    assert (seen == times).all()
region()
"""


def python(text, timeout=60):
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c",
         START + text],
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_the_child_of_a_fork_has_threads_of_its_own():
    done = python("""
for _ in range(10):
    child = os.fork()
    if child == 0:
        first = made.alive()
        region()
        os._exit(0 if (first, made.alive()) == (0, 2) else 3)
    assert os.waitpid(child, 0)[1] == 0
    region()
print("fine", made.alive())
""")
    assert (done.returncode, done.stdout) == (0, "fine 2\n"), done.stderr


@needs_fork
def test_fork_while_another_thread_runs_regions():
    done = python("""
stop = False
def work():
    while not stop:
        region(200, 20)
worker = threading.Thread(target=work)
worker.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        region()
        pool.set_threads(2)
        region()
        os._exit(0 if made.alive() == 1 else 3)
    assert os.waitpid(child, 0)[1] == 0
stop = True
worker.join()
print("fine")
""")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


@needs_fork
def test_multiprocessing_by_fork():
    done = python("""
import multiprocessing as mp
def job(x):
    region()
    return made.alive()
with mp.get_context("fork").Pool(2) as workers:
    print(workers.map(job, range(4)))
region()
""")
    assert (done.returncode, done.stdout) == (0, "[2, 2, 2, 2]\n"), done.stderr


@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(0)",
        "time.sleep(0.01)",  # the workers sleep
        "threading.Thread(target=lambda: [region() for _ in range(10**6)], daemon=True).start()\n"
        "time.sleep(0.05)",
    ],
)
def test_the_interpreter_ends(ending):
    done = python(f"print('end', flush=True)\n{ending}")
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_an_exception_ends_the_program_and_not_the_pool():
    done = python("""
try:
    region()
    raise KeyboardInterrupt
except KeyboardInterrupt:
    region()
raise ValueError("the end")
""")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("ValueError: the end")


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_signals_reach_the_main_thread():
    done = python("""
import signal
def interrupt():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    while True:
        region()
except KeyboardInterrupt:
    region()
    print("interrupted")
""")
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
