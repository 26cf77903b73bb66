"""Targets, object code, and libraries in memory."""

import ctypes
import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from wengert.errors import ArgumentError, MissingExtraError, OptionError

pytest.importorskip("llvmlite", reason="machine code needs the extra `compile`")

from wengert.native import engine, target

AXPY = """
define void @axpy(ptr %x, ptr %y, i64 %n, float %a) {
entry:
  %av0 = insertelement <16 x float> poison, float %a, i64 0
  %av = shufflevector <16 x float> %av0, <16 x float> poison, <16 x i32> zeroinitializer
  br label %body
body:
  %i = phi i64 [ 0, %entry ], [ %j, %body ]
  %px = getelementptr float, ptr %x, i64 %i
  %py = getelementptr float, ptr %y, i64 %i
  %vx = load <16 x float>, ptr %px, align 4
  %vy = load <16 x float>, ptr %py, align 4
  %m = fmul contract <16 x float> %vx, %av
  %s = fadd contract <16 x float> %m, %vy
  store <16 x float> %s, ptr %py, align 4
  %j = add i64 %i, 16
  %more = icmp slt i64 %j, %n
  br i1 %more, label %body, label %end
end:
  ret void
}
"""
TYPES = None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


def axpy(library):
    x, y = np.arange(64, dtype=np.float32), np.ones(64, np.float32)
    library.function("axpy", *TYPES)(x.ctypes.data, y.ctypes.data, 64, 2.0)
    return y


# ---- the machine
def test_the_highest_level_is_taken():
    found = target.target()
    assert found.name == os.environ.get("WENGERT_TARGET", target.present()[0])
    assert found.native_bytes == target.LEVELS[found.name].bytes
    assert found.lanes("float") * 4 == found.lanes("double") * 8 == found.native_bytes


def test_x86_levels_are_nested():
    if "sse2" not in target.present():
        pytest.skip("levels of another kind of processor")
    order = ("avx512", "avx2", "sse2", "generic")
    have = target.present()
    assert have == order[order.index(have[0]) :]


@pytest.mark.parametrize("level", target.present())
@pytest.mark.parametrize("pipeline", engine.PIPELINES)
def test_every_level_computes_the_same(level, pipeline):
    code = engine.compile_ir(AXPY, target.target(level), level=pipeline)
    np.testing.assert_array_equal(axpy(engine.load(code)), 2 * np.arange(64) + 1)


@pytest.mark.parametrize(
    ("level", "register", "wider"),
    [("avx512", "zmm", "none"), ("avx2", "ymm", "zmm"), ("sse2", "xmm", "ymm")],
)
def test_vectors_are_as_wide_as_the_level(level, register, wider):
    if level not in target.present():
        pytest.skip(f"this machine has no {level}")
    text = engine.assembly(AXPY, target.target(level))
    assert register in text
    assert wider not in text
    assert ("vfmadd" in text) == target.target(level).fma


def test_full_pipeline_uses_the_whole_register():
    if "avx512" not in target.present():
        pytest.skip("this machine has no avx512")
    scalar = """
define void @double(ptr %x, i64 %n) {
entry:
  br label %body
body:
  %i = phi i64 [ 0, %entry ], [ %j, %body ]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p, align 4
  %w = fadd float %v, %v
  store float %w, ptr %p, align 4
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %body, label %end
end:
  ret void
}
"""
    assert "zmm" in engine.assembly(scalar, target.target("avx512"), level="full")


def test_a_level_that_is_not_there_is_refused():
    lacking = next(name for name in target.LEVELS if name not in target.present())
    with pytest.raises(OptionError, match=f"this machine has no {lacking}") as error:
        target.target(lacking)
    assert target.present()[0] in error.value.fix
    with pytest.raises(OptionError, match="no such level"):
        target.target("avx7")


def test_the_environment_forces_a_level(monkeypatch):
    lowest = target.present()[-1]
    monkeypatch.setenv("WENGERT_TARGET", lowest)
    assert target.target().name == lowest
    monkeypatch.setenv("WENGERT_TARGET", "sse9")
    with pytest.raises(OptionError, match="WENGERT_TARGET=sse9: there is no such level"):
        target.target()


# ---- object code
def test_assembly_that_is_not_well_formed():
    with pytest.raises(RuntimeError, match="expected"):
        engine.compile_ir("define void @f( {", target.target())
    with pytest.raises(RuntimeError, match=r"terminator|basic block|expected"):
        engine.compile_ir("define i32 @f() {\nentry:\n}", target.target())
    with pytest.raises(ArgumentError, match="quick or full"):
        engine.compile_ir("", target.target(), level="O7")


def test_functions_are_called_by_name_and_not_by_address():
    text = """
declare i32 @wg_test_seven()
define i32 @eight() {
  %x = call i32 @wg_test_seven()
  %y = add i32 %x, 1
  ret i32 %y
}
"""
    code = engine.compile_ir(text, target.target())
    assert b"wg_test_seven" in code
    for n in (7, 70):  # one object, two meanings of the name
        seven = ctypes.CFUNCTYPE(ctypes.c_int32)(lambda n=n: n)
        engine.add_symbol("wg_test_seven", ctypes.cast(seven, ctypes.c_void_p).value)
        assert engine.load(code).function("eight", ctypes.c_int32)() == n + 1
    del engine.SYMBOLS["wg_test_seven"]


def test_libraries_of_the_same_names_do_not_meet():
    one, two = (
        engine.load(engine.compile_ir(f"define i32 @f() {{\n ret i32 {n}\n}}", target.target()))
        for n in (1, 2)
    )
    assert [x.function("f", ctypes.c_int32)() for x in (one, two)] == [1, 2]


def test_constants_variables_and_the_c_library():
    text = """
@table = internal constant [3 x double] [double 1.0, double 2.0, double 4.0], align 64
@total = global double 0.0
declare double @cbrt(double)
define double @f(i64 %i) {
  %p = getelementptr double, ptr @table, i64 %i
  %x = load double, ptr %p
  %y = call double @cbrt(double %x)
  store double %y, ptr @total
  ret double %y
}
"""
    library = engine.load(engine.compile_ir(text, target.target()))
    f = library.function("f", ctypes.c_double, ctypes.c_int64)
    assert f(2) == pytest.approx(4 ** (1 / 3))
    assert ctypes.c_double.from_address(library.address("total")).value == f(2)


def test_what_is_not_there():
    library = engine.load(engine.compile_ir(AXPY, target.target()))
    with pytest.raises(ArgumentError, match=r"Library.address\('nothing'\)"):
        library.address("nothing")
    for junk in (b"", b"\x7fELF" + b"\0" * 200, b"junk" * 100):
        with pytest.raises(RuntimeError):
            engine.load(junk).address("axpy")


def executable(address):
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, mode = line.split()[:2]
            low, high = (int(x, 16) for x in span.split("-"))
            if low <= address < high:
                return "x" in mode
    return False


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="reads Linux's table of memory")
def test_code_lives_as_long_as_its_library():
    code = engine.compile_ir(AXPY, target.target())
    library = engine.load(code)
    at = library.address("axpy")
    function = library.function("axpy", *TYPES)
    assert executable(at)
    del library
    gc.collect()
    assert executable(at)  # the function holds it
    del function
    gc.collect()
    assert not executable(at)
    library = engine.load(code).forever()
    at = library.address("axpy")
    del library
    gc.collect()
    assert executable(at)


def test_several_threads_compile_and_load():
    wrong = []

    def work(n):
        for i in range(10):
            text = f"define i32 @f() {{\n ret i32 {100 * n + i}\n}}"
            library = engine.load(engine.compile_ir(text, target.target()))
            if library.function("f", ctypes.c_int32)() != 100 * n + i:
                wrong.append((n, i))

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not wrong
    assert not any(w.is_alive() for w in workers)


def test_an_object_is_loaded_by_another_process(tmp_path):
    path = tmp_path / "axpy.o"
    path.write_bytes(engine.compile_ir(AXPY, target.target()))
    text = f"""
import ctypes, numpy as np
from wengert.native.engine import load
f = load(open({str(path)!r}, "rb").read()).function(
    "axpy", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float)
x, y = np.ones(32, np.float32), np.ones(32, np.float32)
f(x.ctypes.data, y.ctypes.data, 32, 2.0)
print(y.sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "96.0"), done.stderr


def test_without_llvmlite_the_extra_is_named():
    text = """
import sys
import threading
sys.modules["llvmlite"] = None
from wengert.compile.backends.llvm import blas
from wengert.native import engine, target, pool, cache
try:
    target.target()
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )
    assert "pip install 'wengert[compile]'" in done.stdout, done.stderr
    assert issubclass(MissingExtraError, ImportError)
