"""What compiled functions take and give: values, types, containers, inputs of every kind."""

import functools
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from calls import BACKENDS, near, programs, same

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, CompileWarning, OptionError

pytestmark = pytest.mark.parametrize("backend", BACKENDS)
X = np.linspace(-1.3, 1.4, 12).reshape(3, 4)
W = wg.tensor(np.linspace(-0.5, 0.7, 8).reshape(4, 2), requires_grad=True)
Pair = namedtuple("Pair", "a b")

LOCKED = X.copy()
LOCKED.flags.writeable = False
INPUTS = {
    "float64": X,
    "float32": X.astype(np.float32),
    "float16": X.astype(np.float16),
    "complex128": X + 1j * X[::-1],
    "complex64": (X + 1j * X[::-1]).astype(np.complex64),
    "int64": np.arange(12).reshape(3, 4) - 5,
    "int16": (np.arange(12).reshape(3, 4) - 5).astype(np.int16),
    "uint8": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "bool": X > 0,
    "transposed": X.T,
    "fortran": np.asfortranarray(X),
    "strided": np.linspace(-1, 1, 60).reshape(6, 10)[::2, 1:9:2],
    "reversed": X[::-1, ::-1],
    "read-only": LOCKED,
    "big-endian": X.astype(">f8"),
    "empty": X[:0],
    "0-d": np.array(0.7),
    "0-d float32": np.array(0.7, np.float32),
    "np.float64": np.float64(0.7),
    "np.float32": np.float32(0.7),
    "np.int64": np.int64(3),
    "np.bool": np.bool_(True),
    "float": 0.7,
    "int": 3,
    "True": True,
    "complex": 1.5 - 2j,
    "nan": float("nan"),
    "tensor": wg.tensor(X),
    "0-d tensor": wg.tensor(0.7),
    "parameter": wg.tensor(X, requires_grad=True),
    "float32 tensor": wg.tensor(X.astype(np.float32)),
    "list": [0.5, 1.5],
    "None": None,
    "str": "text",
}


def arithmetic(x):
    return x * 2 + 1, x - 0.5, x * x, -x if not isinstance(x, bool) else x


def functions(x):
    return np.tanh(x), np.sum(np.exp(x)), np.square(x)


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_every_kind(name, backend):
    x = INPUTS[name]
    same(arithmetic, lambda: (x,), backend=backend)
    same(functions, lambda: (x,), backend=backend)


@pytest.mark.parametrize("x", [2.0, 3, np.float64(2.0), np.float32(2.0), np.array(2.0), True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int8, bool])
def test_plain_numbers_yield_to_arrays(x, dtype, backend):
    a = np.arange(4).astype(dtype)
    same(lambda a, s: (a * s, s * a, a + s, a * (s * 2), a ** 2 * s), lambda: (a, x),
         backend=backend)  # fmt: skip


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u8", "f2", "f4"])
def test_many_plain_numbers_yield_as_few_do(dtype, backend):
    x = np.arange(5).astype(dtype)
    numbers = [1, 2, 3, 4, 5, 6, 7, 8, -3, 300, 2**31, 2**62]
    numbers += [0.5, 1.5, 2.5, -1e6] if dtype[0] == "f" else []

    def f(x, a):
        return x + a, a * x, x < a, np.maximum(x, a), np.minimum(x, a), x * (a + 1), -a * x

    def g(x, a):
        return np.where(x > 2, x, a), np.where(x > a, 1, 2)

    with np.errstate(all="ignore"):
        same(f, *[lambda a=a: (x, a) for a in numbers], times=1, backend=backend)
        same(g, *[lambda a=a: (x, a) for a in numbers[:8]], times=1, backend=backend)


def test_what_numpy_makes_of_plain_numbers_is_its_own(backend):
    def f(x, a):
        return np.abs(a) * x, np.add(a, 1) * x, np.negative(a) * x, np.sqrt(abs(a)) * x, abs(a) * x

    x = np.ones(3, np.float32)
    same(f, *[lambda a=a: (x, a) for a in (2.5, -1.5, 3.5, 1, 2, 3, 4, 5, 6, 7)], backend=backend)


@pytest.mark.parametrize("dtype", ["i1", "i2", "u1", "i4"])
def test_integers_that_are_narrow(dtype, backend):
    x = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    same(lambda x: (x.sum(), x.sum(axis=0), np.mean(x), np.sum(x + 1), x.prod(axis=1)),
         lambda: (x,), backend=backend)  # fmt: skip
    large = 1 << 8 * x.itemsize
    same(lambda x: (x < large, np.clip(x, 0, 5), x > -large), lambda: (x,), backend=backend,
         refused=f"it computes with {large} and integers that do not reach it")  # fmt: skip
    same(lambda x: x + large, lambda: (x,), backend=backend)


def test_square_roots_written_as_powers(backend):
    x = np.array([-np.inf, -0.0, 0.0, 4.0, np.inf, np.nan, -1.0])
    with np.errstate(all="ignore"):
        same(lambda x: (x**0.5, np.signbit(x**0.5)), lambda: (x,), lambda: (x.astype("f4"),),
             lambda: (wg.tensor(x),), backend=backend)  # fmt: skip


def test_negative_powers_of_integers(backend):
    x = np.arange(1, 6)
    same(lambda x, a: x**a, *[lambda a=a: (x, a) for a in (1, 2, 3, 4, 5, 6, -1)], backend=backend)
    same(lambda x, y: x**y, lambda: (x, x), lambda: (x, -x), backend=backend)


def test_arithmetic_of_plain_numbers_is_pythons(backend):
    def f(a, b):
        return a + b, a - b, a * b, a / b, a // b, a % b, a**b, -a, abs(a), a if a < b else b

    same(f, lambda: (7, 2), lambda: (-7, 2), lambda: (7.5, -2.0), lambda: (2, 5), lambda: (2, -5),
         lambda: (-8.0, 1 / 3), lambda: (2**40, 3), lambda: (10**30, 7), lambda: (1, 0),
         lambda: (0.0, -0.0), lambda: (-0.0, 0.5), lambda: (5, 2.5), lambda: (6, 2), lambda: (9, 4),
         backend=backend)  # fmt: skip


def test_a_branch_on_a_plain_number_is_a_condition(backend):
    def f(x, lr):
        if lr > 0.5:
            return x * lr
        return x - lr

    g = same(f, lambda: (X, 0.7), lambda: (X, 0.2), lambda: (X, 0.9), lambda: (X, 0.1),
             backend=backend, variants=2)  # fmt: skip
    assert "a branch on a number" in [v.why for vs in g.variants.values() for v in vs][1]


def test_a_plain_number_that_python_needs_goes_by_value(backend):
    def f(x, n, s):
        return np.reshape(x, (n, -1)) * float(s), f"{s:.2f}", np.ones((n, 2)), round(s, 1)

    makers = [lambda n=n, s=s: (X, n, s) for n in (1, 2, 3, 4, 6, 12) for s in (0.25, 1.5)]
    same(f, *makers, backend=backend, times=2)


def test_numbers_that_are_too_many_run_uncompiled(backend):
    def f(x, s):
        return x * float(s)

    g = same(f, *[lambda s=s: (X, s / 7) for s in range(20)], backend=backend, times=1,
             refused="16 variants were compiled")  # fmt: skip
    assert programs(g) == 16


def test_what_is_returned_keeps_its_type(backend):
    def f(x):
        y = x * 2
        return {
            "same": x, "twice": (y, y), "constants": (1, 2.5, "a", None, True, np.float32(3)),
            "array": np.ones(3), "scalar": np.sum(x), "max": x.max(), "arg": np.argmax(x),
            "mask": x > 0, "list": [y[0], [y.T, y.reshape(-1)[::2]]], "slice": slice(1, 2),
        }  # fmt: skip

    same(f, lambda: (X,), lambda: (X.astype(np.float32),), backend=backend)
    same(f, lambda: (wg.tensor(X),), lambda: (wg.tensor(X, requires_grad=True),), backend=backend)


def test_a_tensor_made_of_an_array_is_one(backend):
    def f(x):
        y = wg.tensor(x)
        return y, y * 2, y.sum(), wg.softmax(x), wg.logsumexp(x), wg.tensor(x[0], np.float32), x + 1

    same(f, lambda: (X[0],), lambda: (wg.tensor(X[0]),), backend=backend)
    same(lambda x: wg.tensor(x) @ wg.log_softmax(x).T, lambda: (X,), backend=backend)


def test_a_text_of_numbers_is_none_of_a_program(backend):
    same(lambda x: (x, f"{x}"), lambda: (X,), lambda: (X + 1,), backend=backend,
         refused="it is not known while the function is being staged")  # fmt: skip
    same(lambda x: (x, repr(x * 2)), lambda: (X,), lambda: (wg.tensor(X),), backend=backend,
         refused="it is not known while the function is being staged")  # fmt: skip
    same(lambda x, a: (x, f"{a!r} {a}"), lambda: (X, 1.5), lambda: (X, 2.5), backend=backend)


def test_what_stands_outside_is_returned_itself(backend):
    array, tensor = np.arange(3.0), wg.tensor(np.arange(4.0))
    window = tensor[1:]

    def f(x):
        x[0] = 5.0
        return x, array, tensor, window

    g = wg.compile(f, backend=backend)
    v = wg.tensor(np.arange(6.0))[2:]
    for i in range(3):
        array[0] = i
        got = g(v)
        assert got[0] is v
        assert got[1] is array
        assert got[2] is tensor
        assert got[3] is window
        assert v.numpy()[0] == 5.0


def test_an_array_that_is_given_twice_is_one(backend):
    def f(x, y):
        return x if y is x else x + y

    same(f, lambda: (X, X), lambda: (X, X + 1), lambda: (X, X), variants=2, backend=backend)
    g = wg.compile(f, backend=backend)
    for y in (X + 1, X + 1, X, X, X + 1, X):
        near(f(X, y), g(X, y))


def test_kinds_of_arrays_with_rules_of_their_own_are_refused(backend):
    same(lambda x: x.sum(), lambda: (np.ma.masked_array(X, X > 0),), backend=backend,
         refused="an argument is a MaskedArray")  # fmt: skip


def test_eigenvalues_are_real_where_they_are(backend):
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    for f in (np.linalg.eigvals, lambda x: tuple(np.linalg.eig(x))):
        same(f, lambda: (np.eye(2),), lambda: (turn,), lambda: (wg.tensor(turn),), backend=backend,
             refused="whether its values are real is not known")  # fmt: skip


def test_labels_that_are_none_are_refused_as_uncompiled(backend):
    x, y = X[[0, 1, 0]], np.array([0, 1, 2])
    labels = [y, y.astype(float), y[:2], y[:, None], y > 0, y - 1, np.eye(3, 4)]
    same(lambda x, y: wg.cross_entropy(x, y), *[lambda v=v: (x, v) for v in labels],
         lambda: (x[:0], y[:0]), backend=backend)  # fmt: skip


@pytest.mark.parametrize("ignored", [-100, 2, 156, 0])
@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8"])
def test_labels_that_are_ignored_and_those_that_are_refused(backend, dtype, ignored):
    """-100 is 156 in eight bits, which is no label to be ignored for that."""
    x, y = X[[0, 1, 0]], np.array([0, 1, 2], dtype)
    labels = [y, y[::-1], np.array([0, 3, 0]).astype(dtype)]
    labels += [np.array([0, 1, v]).astype(dtype) for v in (-100, -1, 4, 156)]
    options = {"ignore_index": ignored}
    for more in ({}, {"reduction": "sum"}, {"weight": np.array([0.5, 2.0, 1.0, 3.0])}):
        loss = nn.CrossEntropyLoss(**options, **more)
        same(lambda x, y, f=loss: f(x, y), *[lambda v=v: (x, v) for v in labels], backend=backend)


def test_floating_point_errors_are_not_recorded(backend):
    def f(x, y):
        with np.errstate(divide="raise"):
            return x / y

    same(f, lambda: (X, X + 10), lambda: (X, X * 0), backend=backend,
         refused="np.errstate asks for errors of floating point")  # fmt: skip


def test_no_axes_means_a_number_or_an_array_as_numpy_has_it(backend):
    def f(x):
        return (
            x.reshape(()), x[0], x[0, ...], np.where(x[0] > 0, 1.0, 2.0), np.sum(x), np.squeeze(x),
            x.mean(), x @ x, np.max(x), x[0] * 2,
        )  # fmt: skip

    def g(x):
        return x * 2, x, x.T, x[...], x[()], x.astype(np.float32), x.copy(), np.sqrt(x)

    same(f, lambda: (np.array([0.5]),), backend=backend)
    same(g, lambda: (np.array(2.0),), lambda: (wg.tensor(2.0),), backend=backend)


@dataclass
class Batch:
    x: Any
    label: str = "none"
    more: Any = None


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": X, "b": [X * 2, 0.5]},
        lambda: OrderedDict(b=X, a=X * 2),
        lambda: Pair(X, {"c": (X,)}),
        lambda: Batch(X, "train", [X]),
        lambda: [X, (X, None), {}],
        lambda: {"t": wg.tensor(X, requires_grad=True), "x": X},
    ],
)
def test_containers(make, backend):
    def double(tree):
        return wg.tree.map(lambda v: v * 2 if hasattr(v, "shape") else v, tree)

    same(double, lambda: (make(),), backend=backend, variants=1)


def test_keywords_defaults_and_stars(backend):
    def f(x, y=2.0, *rest, scale=1.0, **more):
        return x * y * scale + sum(rest) + sum(more.values())

    g = wg.compile(f, backend=backend)
    for args, kwargs in [((X,), {}), ((X, 3.0), {}), ((X,), {"y": 3.0}), ((X, 1.0, X, X), {}),
                         ((X,), {"scale": 0.5}), ((X,), {"z": X, "w": 1.0})]:  # fmt: skip
        for _ in range(2):
            np.testing.assert_allclose(g(*args, **kwargs), f(*args, **kwargs), rtol=1e-14)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        g()


def test_methods_decorators_partials_and_callables(backend):
    class Model:
        def __init__(self, k):
            self.k = k

        @wg.compile(backend=backend)
        def run(self, x):
            """Doc."""
            return np.tanh(x) * self.k

        def plain(self, x):
            return x * self.k

        def __call__(self, x):
            return x - self.k

    one, two = Model(1.0), Model(2.0)
    for _ in range(3):
        np.testing.assert_allclose(two.run(X), 2 * one.run(X), rtol=1e-14)
        np.testing.assert_allclose(Model.run(two, X), 2 * np.tanh(X), rtol=1e-14)
    assert Model.run.__doc__ == "Doc."
    assert Model.run.__name__ == "run"
    for f in (
        two.plain,
        two,
        functools.partial(two.plain),
        np.tanh,
        functools.partial(np.add, 2.0),
    ):
        same(f, lambda: (X,), backend=backend)


def test_what_cannot_be_compiled_is_refused_at_once(backend):
    with pytest.raises(ArgumentError, match="f is a function"):
        wg.compile(3, backend=backend)

    def items(x):
        yield x

    async def later(x):
        return x

    for f in (items, later):
        with pytest.raises(ArgumentError, match="gives its results later"):
            wg.compile(f, backend=backend)
    with pytest.raises(OptionError, match="no such backend"):
        wg.compile(np.sin, backend="cuda")
    with pytest.raises(OptionError, match="number of bytes"):
        wg.compile(np.sin, budget="much", backend=backend)


def test_an_object_that_is_made_anew_is_no_result(backend):
    class Result:
        def __init__(self, x):
            self.x = x

    g = wg.compile(lambda x: Result(x * 2), backend=backend)
    with pytest.warns(CompileWarning, match="it returns a .*Result"):
        first = g(X)
    assert type(first.x) is np.ndarray
    assert g(X) is not first


def test_an_object_from_outside_may_be_returned(backend):
    model = nn.Linear(4, 2, rng=0)
    g = wg.compile(lambda m, x: (m, np.tanh(x)), backend=backend)
    assert g(model, X)[0] is model
    assert g(model, X)[0] is model


def test_results_are_nobody_elses_memory(backend):
    constant = np.ones(3)

    def f(x):
        return x * 2, constant, np.zeros(2), x

    g = wg.compile(f, backend=backend)
    first = g(X)
    kept = [np.array(v) for v in first]
    second = g(X)
    second[0][...] = 7
    second[2][...] = 7
    for a, b in zip(first, kept):
        np.testing.assert_array_equal(a, b)
    assert not np.shares_memory(first[0], second[0])
    np.testing.assert_array_equal(g(X)[2], np.zeros(2))
    assert g(X)[3] is X


def test_inputs_are_never_written(backend):
    def f(x, w):
        y = np.tanh(x @ w)
        y *= 2
        y[0] = 0
        return y, x.T @ y

    x, w = np.random.default_rng(0).normal(size=(2, 40, 40))
    x.flags.writeable = w.flags.writeable = False
    same(f, lambda: (x, w), backend=backend)


def test_overlapping_arguments(backend):
    def read(a, b):
        return a * 2 + b[::-1]

    def written(a, b):
        a += 1
        return b * 2

    big = np.arange(20.0)
    same(read, lambda: (big[:10], big[10:]), lambda: (big[:10], big[5:15]), lambda: (big, big),
         backend=backend)  # fmt: skip

    for cut in (slice(0, 10), slice(5, 15), slice(10, 20)):
        results = []
        for f in (written, wg.compile(written, backend=backend)):
            a = np.arange(20.0)
            results.append([f(a[:10], a[cut]), f(a[:10], a[cut]), a])
        for want, got in zip(*results):
            np.testing.assert_array_equal(want, got)


def test_shapes_and_dtypes_have_programs_of_their_own(backend):
    g = same(lambda x: np.tanh(x).sum(0), *[lambda n=n: (np.ones((n, 3)),) for n in range(5)],
             lambda: (np.ones((2, 3), np.float32),), backend=backend, variants=6)  # fmt: skip
    assert all(
        v.why == "the first call with such arguments" for vs in g.variants.values() for v in vs
    )


def test_the_same_tensor_twice(backend):
    def f(a, b):
        return (a * b).sum() + a.sum()

    t, u = wg.tensor(X, requires_grad=True), wg.tensor(X * 2, requires_grad=True)
    same(f, lambda: (t, t), lambda: (t, u), lambda: (u, t), lambda: (X, X), backend=backend)


def test_one_number_wherever_it_goes(backend):
    t = wg.tensor(0.0)

    def written(x):
        t[...] = np.sum(x)

    functions = (
        lambda x: np.sum(x), lambda x: {"a": np.sum(x)}, lambda x: [np.sum(x)],
        lambda x: (np.sum(x), 3), lambda x: np.sum(x).reshape(()), lambda x: W.sum() * x,
    )  # fmt: skip
    for f in functions:
        same(f, lambda: (X,), lambda: (2.0,), lambda: (wg.tensor(X),), backend=backend)
    g = wg.compile(written, backend=backend)
    for k in range(4):
        g(X + k)
        np.testing.assert_allclose(t.item(), np.sum(X + k))
