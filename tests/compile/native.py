"""Kernels compiled for this machine or another, and run on arrays with guarded edges."""

import ctypes
import dataclasses
import faulthandler
import mmap
import os

import llvmlite.binding as ll
import numpy as np

from wengert.compile.backends.llvm import loops
from wengert.compile.kernel import Fold, evaluate, verify
from wengert.native import mathematics
from wengert.native.ir import Module

ll.initialize_native_target()
ll.initialize_native_asmprinter()
ALIVE = []  # engines whose code may still be called

# name -> (cpu, bytes of a vector, fused multiply-add)
TARGETS = {
    "host": (None, 0, True),
    "haswell": ("haswell", 32, True),
    "x86-64": ("x86-64", 16, False),
}
SHORT = ["always_inliner", "sroa", "simplify_cfg", "instruction_combine", "new_gvn"]
SHORT += ["aggressive_dce"]
EDGE = 80  # elements around every array that must stay as they are


def native_bytes():
    features = ll.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


def machine(target, opt=2):
    cpu, _, _ = TARGETS[target]
    features = ll.get_host_cpu_features().flatten() if cpu is None else ""
    name = cpu or ll.get_host_cpu_name()
    triple = ll.Target.from_triple(ll.get_process_triple())
    return triple.create_target_machine(cpu=name, features=features, opt=opt, jit=True)


def text(kernels, target="host", width=None):
    _, size, fma = TARGETS[target]
    module = Module(mathematics=mathematics.add, fma=fma)
    for n, kernel in enumerate(kernels):
        lanes = width or loops.width(kernel, size or native_bytes())
        loops.emit(module, f"k{n}", kernel, width=lanes)
    return str(module)


def optimize(module, m, level):
    """By LLVM's own pipeline of a level, or "short": what such code needs and no more."""
    short = level == "short"
    options = ll.create_pipeline_tuning_options(speed_level=1 if short else int(level))
    builder = ll.create_pass_builder(m, options)
    if short:
        passes = ll.create_new_module_pass_manager()
        for name in SHORT:
            getattr(passes, f"add_{name}_pass")()
    else:
        passes = builder.getModulePassManager()
    passes.run(module, builder)


def compiled(kernels, target="host", width=None, level="short"):
    """Functions (pointers, lo, hi, piece) of the kernels."""
    names = [f"k{n}" for n in range(len(kernels))]
    return machine_code(text(kernels, target, width), names, target, level)


def machine_code(assembly, names, target="host", level="short"):
    """The functions of a module by name."""
    m = machine(target)
    module = ll.parse_assembly(assembly)
    module.verify()
    optimize(module, m, level)
    engine = ll.create_mcjit_compiler(module, m)
    engine.finalize_object()
    ALIVE.append(engine)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return [kind(engine.get_function_address(name)) for name in names]


class Guarded:
    """A copy of an array with an edge around it that nobody may change."""

    def __init__(self, x):
        self.whole = np.empty(x.size + 2 * EDGE, x.dtype)
        self.whole.view(np.uint8)[:] = 1 if x.dtype == bool else 0x5A
        self.array = self.whole[EDGE : EDGE + x.size]
        self.array[:] = x

    def intact(self):
        edges = np.concatenate([self.whole[:EDGE], self.whole[self.whole.size - EDGE :]])
        return (edges.view(np.uint8) == (1 if self.whole.dtype == bool else 0x5A)).all()


def call(f, arrays, lo, hi, piece=0):
    table = (ctypes.c_void_p * len(arrays))(*[x.ctypes.data for x in arrays])
    f(ctypes.addressof(table), lo, hi, piece)


def run(f, kernel, args, pieces=None):
    """New arrays: args after the kernel has run over the pieces of its first axis."""
    guarded = [Guarded(x) for x in args]
    for n, (lo, hi) in enumerate(pieces or [(0, kernel.space[0])]):
        call(f, [g.array for g in guarded], lo, hi, n)
    assert all(g.intact() for g in guarded), f"wrote outside its operands:\n{kernel}"
    return [g.array for g in guarded]


def reference(kernel, args, pieces=None):
    """The same by `evaluate`, with float64 in the place of float32."""

    def wide(dtype):
        return np.dtype(float) if dtype == np.float32 else dtype

    def operand(o):
        return o and dataclasses.replace(o, dtype=wide(o.dtype))

    body = tuple(
        dataclasses.replace(s, dtype=wide(s.dtype), operand=operand(s.operand)) for s in kernel.body
    )
    outputs = tuple(dataclasses.replace(o, to=operand(o.to)) for o in kernel.outputs)
    kernel = dataclasses.replace(kernel, body=body, outputs=outputs)
    verify(kernel)
    args = [x.astype(wide(x.dtype)) for x in args]
    for n, (lo, hi) in enumerate(pieces or [(0, kernel.space[0])]):
        evaluate(kernel, args, lo, hi, n)
    return args


def outputs(kernel):
    """The arguments that a kernel writes."""
    return sorted({o.to.arg for o in kernel.outputs})


def check(
    kernel, args, *, pieces=None, rtol=2e-6, target="host", width=None, f=None, level="short"
):
    """Native results are the reference's: exactly, or to rtol of the largest of them."""
    if f is None:
        (f,) = compiled([kernel], target, width, level)
    got, want = run(f, kernel, args, pieces), reference(kernel, args, pieces)
    for n, (y, exact) in enumerate(zip(got, want)):
        if y.dtype.kind != "f":
            np.testing.assert_array_equal(y, exact, err_msg=f"argument {n} of\n{kernel}")
            continue
        tol = rtol if y.dtype == np.float32 else rtol * 1e-9
        finite = np.isfinite(exact)
        scale = np.max(np.abs(exact[finite]), initial=0.0)
        np.testing.assert_allclose(
            y, exact, rtol=tol, atol=tol * scale, err_msg=f"argument {n} of\n{kernel}"
        )
    return got


def folds_first(kernel, fold: Fold):
    """Whether each piece has a result of its own."""
    return fold.to.strides[0] == 0 and kernel.space[0] != 1


def ended(work):
    """The status with which a child process that does the work ends: 0 if well."""
    child = os.fork()
    if not child:
        faulthandler.disable()
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


class Pages:
    """Arrays that end, or begin, where memory that cannot be touched begins or ends."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.maps = []

    def array(self, x, at_end):
        page = mmap.PAGESIZE
        inner = -(-max(x.nbytes, 1) // page) * page
        m = mmap.mmap(-1, inner + 2 * page)
        self.maps.append(m)
        start = np.frombuffer(m, np.uint8).ctypes.data
        for at in (start, start + page + inner):
            assert self.libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(page), 0) == 0
        at = page + (inner - x.nbytes if at_end else 0)
        y = np.frombuffer(m, x.dtype, x.size, at)
        y[:] = x
        return y
