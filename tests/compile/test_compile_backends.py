"""Backends: which one runs, and what happens where llvmlite is not installed or fails."""

import builtins
import importlib
import importlib.util
import sys
import warnings

import numpy as np
import pytest
from calls import BACKENDS, all_variants, near

import wengert as wg
from wengert.compile import backends
from wengert.errors import CompileWarning, MissingExtraError

X = np.linspace(-1, 1, 12).reshape(3, 4)


@pytest.fixture
def no_llvmlite(monkeypatch):
    """Python as it is where llvmlite is not installed."""
    real_import, real_spec = builtins.__import__, importlib.util.find_spec

    def missing(name, *args, **kwargs):
        if name.partition(".")[0] == "llvmlite":
            raise ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite")
        return real_import(name, *args, **kwargs)

    def spec(name, package=None):
        return None if name.partition(".")[0] == "llvmlite" else real_spec(name, package)

    for name in list(sys.modules):
        if name.partition(".")[0] == "llvmlite" or name.startswith("wengert.compile.backends.llvm"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr(importlib.util, "find_spec", spec)
    monkeypatch.setattr(backends, "find_spec", spec)
    monkeypatch.setattr(
        importlib, "import_module",
        lambda name, package=None, real=importlib.import_module: (
            missing(name) if name.startswith("llvmlite") else real(name, package)
        ),
    )  # fmt: skip


def test_the_default_backend():
    assert wg.compile(np.tanh).backend == "llvm"


def test_without_llvmlite_numpy_runs(no_llvmlite):
    g = wg.compile(lambda x: np.tanh(x) * 2)
    assert g.backend == "numpy"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            near(np.tanh(X) * 2, g(X))
        near(wg.grad(lambda x: np.sum(np.tanh(x)))(X), wg.grad(lambda x: np.sum(g(x)) / 2)(X))


def test_llvm_is_refused_where_it_is_not_installed(no_llvmlite):
    with pytest.raises(MissingExtraError, match="compile"):
        wg.compile(np.tanh, backend="llvm")


def broken(monkeypatch, part, why):
    """A part of the compiler that raises."""

    def f(*args, **kwargs):
        raise RuntimeError(why)

    monkeypatch.setattr(backends, part, f)


def test_code_that_cannot_be_made_is_no_reason_to_fail(monkeypatch):
    broken(monkeypatch, "native", "no such instruction")
    g = wg.compile(lambda x: np.tanh(x) * 2, backend="llvm")
    with pytest.warns(CompileWarning, match="runs on NumPy: .*no such instruction"):
        near(np.tanh(X) * 2, g(X))
    near(np.tanh(X) * 2, g(X))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        near(wg.grad(lambda x: np.sum(np.tanh(x) * 2))(X), wg.grad(lambda x: np.sum(g(x)))(X))
    assert any(
        "a derivative of a compiled function runs on NumPy" in str(w.message) for w in caught
    )
    (variant,) = all_variants(g)[:1]
    assert "no such instruction" in variant.failure


def test_a_pass_that_fails_leaves_the_function_uncompiled(monkeypatch):
    broken(monkeypatch, "optimize", "a mistake of ours")
    g = wg.compile(lambda x: np.tanh(x) * 2, backend="numpy")
    with pytest.warns(CompileWarning, match="RuntimeError: a mistake of ours"):
        near(np.tanh(X) * 2, g(X))
    near(np.tanh(X) * 2, g(X))


@pytest.mark.parametrize("backend", BACKENDS)
def test_new_shapes_do_not_wait(backend):
    g = wg.compile(lambda x: np.tanh(x).sum(0), backend=backend)
    for n in range(1, 6):
        for _ in range(3):
            near(np.tanh(X[:n]).sum(0), g(X[:n]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_explain_and_repr_say_something(backend):
    def doubled(x):
        return x * 2

    g = wg.compile(doubled, backend=backend)
    assert "compiled" in repr(g)
    assert backend in repr(g)
    g(X)
    assert isinstance(g.explain(), str)
    assert g.explain()
