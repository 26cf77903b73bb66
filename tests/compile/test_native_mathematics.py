"""The native functions in ulps of mpmath's, on this machine and on targets without FMA or AVX.

Points run from the smallest subnormal number to the largest, many of ordinary size, both signs;
besides those that stand nearest to roots, poles and multiples of pi / 2. `pytest -m slow` takes
twenty times as many.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import re
import zlib
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp, mpf

ll = pytest.importorskip("llvmlite.binding", reason="no llvmlite to compile native functions with")

from wengert.native import mathematics  # noqa: E402
from wengert.native.ir import Function, Module, vector  # noqa: E402
from wengert.trace import OPS  # noqa: E402

spec = importlib.util.spec_from_file_location("exact", Path(__file__).parents[1] / "ops/exact.py")
exact = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exact)

ll.initialize_native_target()
ll.initialize_native_asmprinter()


def fused():
    return not ll.get_process_triple().startswith("x86_64") or ll.get_host_cpu_features().get("fma")


KINDS = {"float": np.float32, "double": np.float64}
BOUND = {"float": 2.0, "double": 4.0}
# name of the processor, and whether it has a fused multiply-add
TARGETS = {"host": (None, fused()), "haswell": ("haswell", True), "x86-64": ("x86-64", False)}
ALIVE = []  # engines whose code is still called

# ------------------------------------------------------------------ compiling


def machine(cpu):
    target = ll.Target.from_triple(ll.get_process_triple())
    features = ll.get_host_cpu_features().flatten() if cpu is None else ""
    name = cpu or ll.get_host_cpu_name()
    return target.create_target_machine(cpu=name, features=features, opt=1, jit=True)


def loops(names, kind, width, fma):
    """A module of loops NAME(a, b, y, n) over arrays, each a call of a native function."""
    module = Module(mathematics=mathematics.add, fma=fma)
    for name in names:
        f = Function(module, name, [("a", "ptr"), ("b", "ptr"), ("y", "ptr"), ("n", "i64")])
        with f.loop(0, f["n"], width) as i:
            xs = [f.load(f[a], vector(kind, width), i) for a in "ab"[: mathematics.ARITY[name]]]
            f.store(f.math(name, *xs), f["y"], i)
        f.ret()
    return str(module)


@cache
def compiled(names, kind, width, target="host"):
    """{name: function of arrays}, and the assembly."""
    cpu, fma = TARGETS[target]
    module = ll.parse_assembly(loops(names, kind, width, fma))
    module.verify()
    tm = machine(cpu)
    builder = ll.create_pass_builder(tm, ll.create_pipeline_tuning_options(1))
    builder.getModulePassManager().run(module, builder)
    assembly = tm.emit_assembly(module)
    engine = ll.create_mcjit_compiler(module, tm)
    engine.finalize_object()
    ALIVE.append(engine)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)
    return {name: signature(engine.get_function_address(name)) for name in names}, assembly


def run(name, kind, width, target, *xs):
    """The function over arrays of any length."""
    f = compiled((name,), kind, width, target)[0][name]
    n = len(xs[0])
    full = -(-n // width) * width
    a, b, y = (np.ones(full, KINDS[kind]) for _ in range(3))
    for into, x in zip((a, b), xs):
        into[:n] = x
    f(a.ctypes.data, b.ctypes.data, y.ctypes.data, full)
    return y[:n]


# ------------------------------------------------------------------ the truth

FAR = mpf(10) ** 5
SATURATE = {  # constant, or inf, or x, from 10^5 on in any float
    "exp", "exp2", "expm1", "tanh", "sinh", "cosh", "sigmoid", "dsigmoid", "softplus",
    "log_sigmoid", "sech2", "erf", "erfc", "gauss", "normal_cdf", "normal_pdf", "dgelu", "dsilu",
    "dmish", "dgelu_tanh",
}  # fmt: skip
RATIONAL = "fmod", "remainder", "floor_divide"


def rational(x):
    return mpf(x.numerator) / mpf(x.denominator)


OWN = {
    "exp2": lambda x: mpf(2) ** x,
    "erf": lambda x: mp.erf(max(min(x, mpf(1000)), -mpf(1000))),
    "log2": lambda x: mp.log(x, 2),
    "arctan2": mp.atan2,
    "pow": mp.power,
    "unit_vector": lambda a, b: a / b,
    "fmod": lambda a, b: rational(a - b * (abs(a) // abs(b)) * (1 if a * b > 0 else -1)),
    "remainder": lambda a, b: rational(a - b * (a // b)),
    "floor_divide": lambda a, b: rational(a // b),
    "elu": lambda x: x if x > 0 else mp.expm1(max(x, -FAR)),
    "logaddexp": lambda a, b: max(a, b) + mp.log1p(mp.exp(max(-abs(a - b), -FAR))),
    "share": lambda a, b: exact.sigmoid(max(min(a - b, FAR), -FAR)),
    "share2": lambda a, b: exact.sigmoid(max(min((a - b) * mp.ln2, FAR), -FAR)),
    "by_cosh2": lambda a, b: a * exact.sech2(max(min(b, FAR), -FAR)),
}


def truth(name):
    """The function in mpmath."""
    if name in OWN:
        f = OWN[name]
    elif name in exact.UNARY:
        f = exact.UNARY[name][0]
    else:
        both = exact.BINARY[name]
        f = lambda a, b: both(a, b)[0]
    if name not in SATURATE:
        if name in ("gelu", "silu"):
            return lambda x: f(x) if abs(x) < FAR else max(x, mpf(0))
        return f
    if name in ("softplus", "log_sigmoid"):
        return lambda x: (
            f(x)
            if abs(x) < FAR
            else (abs(x) if f(x / abs(x)) > 0 else x) * ((x > 0) == (name == "softplus"))
        )
    return lambda x: f(max(min(x, FAR), -FAR))


def ulps(got, want, kind, terms=0):
    """|got - want| in units in the last place of `want`, or of `terms` where that is larger."""
    info = np.finfo(KINDS[kind])
    bits, least = info.nmant + 1, info.minexp - info.nmant
    top = mpf(2) ** info.maxexp * (1 - mpf(2) ** (-bits - 1))  # what rounds to inf
    if not np.isfinite(got):
        return (
            0.0
            if abs(want) >= top * (1 - mpf(2) ** (1 - bits)) and (got > 0) == (want > 0)
            else math.inf
        )
    if abs(want) >= top:
        return 0.0 if abs(got) == info.max else math.inf
    size = max(abs(want), abs(terms))
    exponent = max(mp.frexp(size)[1] - bits, least) if size else least
    return float(abs(mpf(float(got)) - want) / mpf(2) ** exponent)


# ------------------------------------------------------------------ points

CLOSE_TO_ONE = {"arcsin", "arccos", "arctanh", "lorentz", "lorentz2", "log1p", "arccosh", "log",
                "log2", "log10"}  # fmt: skip
INSIDE = {
    **dict.fromkeys(("log", "log2", "log10"), lambda x: x > 0),
    **dict.fromkeys(("arcsin", "arccos"), lambda x: abs(x) <= 1),
    **dict.fromkeys(("arctanh", "lorentz", "lorentz2"), lambda x: abs(x) < 1),
    "arccosh": lambda x: x >= 1,
    "log1p": lambda x: x > -1,
    "pow": lambda a, b: (a > 0) & (b != 0),
    "dcbrt": lambda x: x != 0,
    **dict.fromkeys(("remainder", "fmod", "floor_divide"), lambda a, b: (a != 0) & (b != 0)),
    "unit_vector": lambda a, b: b != 0,
    **dict.fromkeys(("arctan2", "cosine", "turn", "hypot"), lambda a, b: (a != 0) & (b != 0)),
}
ZEROS = {"dgelu": -0.75179152469356, "dsilu": -1.27846454276107, "dmish": -1.19243121451549,
         "dgelu_tanh": -0.75246142207102}  # fmt: skip


def spread(rng, n, kind):
    info = np.finfo(KINDS[kind])
    parts = [
        2.0 ** rng.uniform(info.minexp - info.nmant, info.maxexp - 1e-6, n),
        2.0 ** rng.uniform(-info.nmant - 8, 12, n),
        *(rng.uniform(0, s, n // 2) for s in (1.5, 6.0, 40.0, 120.0, 760.0)),
    ]
    x = np.concatenate(parts)
    return (x * rng.choice([-1.0, 1.0], x.size)).astype(KINDS[kind])


def nearest_to_quarter_turns(rng, n, kind):
    """Floats next to multiples of pi / 2, of every size."""
    top = 10.0 if kind == "float" else 60.0
    k = np.unique(np.floor(2.0 ** rng.uniform(0, top, n)))
    return np.array([float(mpf(int(v)) * mp.pi / 2) for v in k])


@cache
def samples(name, kind, n):
    rng = np.random.default_rng(zlib.crc32(f"{name} {kind}".encode()))
    xs = [spread(rng, n, kind) for _ in range(mathematics.ARITY[name])]
    more = []
    if name in CLOSE_TO_ONE:
        close = 1 - 2.0 ** rng.uniform(-np.finfo(KINDS[kind]).nmant, 0, n)
        more = [close, -close, 1 / close]
    if name in ("sin", "cos", "tan"):
        more = [nearest_to_quarter_turns(rng, 2 * n, kind)]
    if name in ZEROS:
        d = 2.0 ** rng.uniform(-np.finfo(KINDS[kind]).nmant - 1, -1, n) * rng.choice([-1, 1], n)
        more = [ZEROS[name] + d]
    if name in ("pow", "arctan2", "cosine", "hypot", "fmod", "remainder", "share", "logaddexp"):
        a = rng.uniform(0.3, 3.0, 2 * n)  # both of ordinary size
        b = rng.uniform(-300.0, 300.0, 2 * n)
        xs = [np.concatenate([x, y.astype(KINDS[kind])]) for x, y in zip(xs, (a, b))]
    if name == "pow":  # near 1, to large powers
        a = 1 + 2.0 ** rng.uniform(-np.finfo(KINDS[kind]).nmant, -3, n) * rng.choice([-0.5, 1], n)
        b = rng.uniform(-720, 720, n) / np.log(a)
        xs = [np.concatenate([np.abs(x), y]) for x, y in zip(xs, (a, b))]
    xs = [np.concatenate([xs[0], *more]), *xs[1:]]
    xs = [x.astype(KINDS[kind]) for x in xs]
    with np.errstate(all="ignore"):
        keep = INSIDE.get(name, lambda *xs: np.isfinite(xs[0]))(*xs)
    xs = [x[keep & np.isfinite(xs[0])] for x in xs]
    f = truth(name)
    number = Fraction if name in RATIONAL else mpf
    wants = [f(*map(number, p)) for p in zip(*(x.tolist() for x in xs))]
    return xs, wants


# ------------------------------------------------------------------ measuring


def terms(name, *p):
    """What an error is measured against besides the value, where the value is a sum at a root."""
    if name == "logaddexp" and abs(p[0] - p[1]) < 800:
        return max(abs(p[0]), abs(p[1]))
    return 0


def errors(name, kind, width, target="host", n=40):
    """The error of each point, in ulps."""
    xs, wants = samples(name, kind, n)
    got = run(name, kind, width, target, *xs)
    found = [
        ulps(g, w, kind, terms(name, *p))
        for g, w, p in zip(got.tolist(), wants, zip(*(x.tolist() for x in xs)))
    ]
    return np.array(found), xs, got


def held(name, kind, width, target="host", n=40):
    found, xs, got = errors(name, kind, width, target, n)
    k = int(found.argmax())
    at = tuple(float(x[k]) for x in xs)
    assert found[k] <= BOUND[kind], f"{name} at {at}: {got[k]} is {found[k]:.3g} ulps off"


NAMES = sorted(mathematics.ARITY)
CASES = [(name, kind) for name in NAMES for kind in KINDS]
other_targets = pytest.mark.skipif(
    not ll.get_process_triple().startswith("x86_64"),
    reason="code for AVX2 and SSE2 runs on x86-64 alone",
)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_ulps(name, kind):
    held(name, kind, 16 if kind == "float" else 8)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_one_lane_gives_what_many_lanes_give(name, kind):
    """Widths that are a register, less than one and several."""
    xs = samples(name, kind, 40)[0]
    many = run(name, kind, 16 if kind == "float" else 8, "host", *xs)
    np.testing.assert_array_equal(run(name, kind, 1, "host", *xs), many)


@other_targets
@pytest.mark.parametrize("target", ["haswell", "x86-64"])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_ulps_on_older_machines(name, kind, target):
    if target == "haswell" and not ll.get_host_cpu_features().get("avx2"):
        pytest.skip("this machine has no AVX2")
    held(name, kind, 4, target)


@pytest.mark.slow
@other_targets
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_ulps_at_many_points(name, kind, target):
    held(name, kind, 8, target, 1500)


# ------------------------------------------------------------------ float32, densely

# 2^32 / STEP numbers, against the float64 function, which is right to 4 ulps of float64
STEP = 65537 * 3


@pytest.mark.parametrize("name", [name for name in NAMES if mathematics.ARITY[name] == 1])
@pytest.mark.parametrize("step", [STEP, pytest.param(101, marks=pytest.mark.slow)])
def test_float32_of_every_magnitude(name, step):
    x = np.arange(0, 0x7F800000, step, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x, -x])
    if name in INSIDE:
        x = x[INSIDE[name](x)]
    want = run(name, "double", 8, "host", x.astype(float))
    got = run(name, "float", 16, "host", x)
    with np.errstate(over="ignore"):
        rounded = want.astype(np.float32)
    finite = np.isfinite(got) & np.isfinite(rounded)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    largest = float(np.finfo(np.float32).max)
    assert np.all(finite | np.isnan(got) | (np.abs(want) > largest * (1 - 2**-22)))
    ulp = np.spacing(np.maximum(np.abs(rounded[finite]), np.float32(2.0**-126))).astype(float)
    error = np.abs(got[finite] - want[finite]) / ulp
    k = int(error.argmax())
    assert error[k] <= 2, f"{name} at {x[finite][k]!r}: {error[k]:.3g} ulps off"


# ------------------------------------------------------------------ limits


def special(kind):
    info = np.finfo(KINDS[kind])
    tiny = [info.smallest_normal, info.smallest_subnormal, 3 * info.smallest_subnormal]
    size = [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 45.0, 300.0, 1e5, 1e30, info.max, math.inf, *tiny]
    odd = [710.0, -746.0, 89.0, -104.0, math.nan]
    return np.array([*size, *(-x for x in size), *odd], KINDS[kind])


# where NumPy's arithmetic overflows or loses bits to subnormal numbers, and the native does not
FINER = {"cosine", "turn", "by_cosh2"}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_limits_are_those_of_the_eager_function(name, kind):
    """inf, nan and 0 where it has them; their signs too, where an argument is 0 or inf."""
    v = special(kind)
    xs = [v] if mathematics.ARITY[name] == 1 else [g.ravel() for g in np.meshgrid(v, v)]
    if name in FINER:
        info = np.finfo(KINDS[kind])
        keep = [(np.abs(x) < info.max) & (np.abs(x) > info.smallest_normal) for x in xs]
        keep = [k | np.isinf(x) | np.isnan(x) | (x == 0) for k, x in zip(keep, xs)]
        xs = [x[keep[0] & keep[1]] for x in xs]
    with np.errstate(all="ignore"):
        want = np.asarray(OPS[name].f(*xs))
    got = run(name, kind, 8, "host", *xs)
    assert want.dtype == got.dtype
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    there = ~np.isnan(want)
    exact_ones = there & ((want == 0) | np.isinf(want))
    np.testing.assert_array_equal(got[exact_ones], want[exact_ones])
    rest = there & ~exact_ones
    with np.errstate(all="ignore"):
        assert np.all(np.abs(got[rest] - want[rest]) <= 8 * np.spacing(np.abs(want[rest])))
    if name != "elu":  # NumPy's minimum(-0.0, 0) is 0.0
        zero = there & np.logical_or.reduce([x == 0 for x in xs])
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


# ------------------------------------------------------------------ code


def calls(assembly):
    """What the code calls, by register or by name."""
    return set(re.findall(r"^\s+(?:callq?|jmpq?)\s+\*?([%\w@]+)", assembly, re.M)) - {"%rax"} | set(
        re.findall(r"^\s+movabsq\s+\$([A-Za-z_]\w*)", assembly, re.M)
    )


OWN_CALLS = {"reduced_angles", "long_remainders", "two_over_pi"}


@other_targets
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_nothing_of_a_c_library_is_called(name, kind, target):
    width = (16 if kind == "float" else 8) if target == "host" else 4
    found = calls(compiled((name,), kind, width, target)[1])
    assert {c for c in found if not c.startswith((".", "L"))} <= OWN_CALLS


def test_the_check_of_calls_sees_one():
    module = Module(fma=True)
    f = Function(module, "f", [("x", "float")], "float")
    f.ret(f.fma(f["x"], f["x"], f["x"]))  # without the instruction, a call of fmaf
    tm = machine("x86-64")
    found = calls(tm.emit_assembly(ll.parse_assembly(str(module))))
    assert found & {"fmaf", "fmaf@PLT"} or not ll.get_process_triple().startswith("x86_64")
