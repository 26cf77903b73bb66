"""What the tests of the compiler share: meanings to compare with, and when two values are equal."""

import numpy as np

from wengert.graph import Graph, Var
from wengert.types import Aval

F64 = np.dtype(np.float64)
F32 = np.dtype(np.float32)


def graph_of(f, *avals):
    """A graph written by hand: f(emit, *variables) gives the outputs."""
    g = Graph()
    xs = [g.input(a if isinstance(a, Aval) else Aval(a, F64)) for a in avals]
    out = f(lambda op, *operands: g.emit(op, operands), *xs)
    g.outputs = list(out) if isinstance(out, tuple) else [out]
    return g


def in_rows(graph, *arrays):
    """The meaning of a graph with every value in row-major order.

    NumPy adds up in an order that depends on the strides, which are no part of a graph's meaning.
    """
    env = {v.n: np.asarray(a) for v, a in zip(graph.inputs, arrays, strict=True)}

    def value(x):
        return env[x.n] if isinstance(x, Var) else x

    with np.errstate(all="ignore"):
        for line in graph.lines:
            y = line.op.impl(*[value(x) for x in line.inputs])
            for v, part in zip(line.outputs, y if isinstance(y, tuple) else (y,), strict=True):
                env[v.n] = np.array(part, order="C")
    return [value(v) for v in graph.outputs]


def same(a, b):
    """Equal in shape, dtype and every bit, but for the sign and payload of a nan."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    parts = [(a, b)] if a.dtype.kind == "f" else [(a.real, b.real), (a.imag, b.imag)]
    return all(
        bool((np.isnan(x) == np.isnan(y)).all())
        and bool(((x == y) & (np.signbit(x) == np.signbit(y)) | np.isnan(x)).all())
        for x, y in parts
    )


def assert_same(got, want, what=""):
    assert len(got) == len(want), what
    for i, (a, b) in enumerate(zip(got, want)):
        assert same(a, b), f"{what}: output {i} is {a!r}, and should be {b!r}"
