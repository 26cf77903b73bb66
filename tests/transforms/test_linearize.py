"""linearize and linear_transpose: the tangent map without the function."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from conftest import peer

import wengert as wg
from wengert.errors import DisconnectedError, DTypeError, ShapeError, UnsupportedError


def f(m, x):
    return m.sum(m.tanh(x) * m.sin(x) * x[0] + m.exp(x[1] * x))


def ours(x):
    return f(np, x)


@pytest.fixture
def slope():
    return autograd.grad(lambda x: f(anp, x))


@pytest.fixture
def curve():
    return autograd.hessian(lambda x: f(anp, x))


def with_writes(x):
    b = x.copy()
    b[0] = x[1] * x[2]
    b[1:] = b[:2] * 2.0
    s = np.where(x > 0, np.sqrt(np.abs(x)), x**2)
    c = wg.zeros(3)
    c[1] = x[0]
    return {"a": np.tanh(b) @ np.outer(x, s), "b": (np.linalg.norm(x), c * x), "c": np.ones(2)}


def test_it_is_forward_mode(x, v, close):
    y, f_jvp = wg.linearize(with_writes, x)
    want, slopes = wg.jvp(with_writes, x, v)
    for got, right in ((y, want), (f_jvp(v), slopes)):
        close(got["a"], right["a"], rtol=0)
        close(got["b"][0], right["b"][0], rtol=0)
        close(got["b"][1], right["b"][1], rtol=0)
        close(got["c"], right["c"], rtol=0)


def test_the_function_runs_once(x, v, slope, close):
    runs = []

    def counted(x):
        runs.append(1)
        return ours(x)

    _, f_jvp = wg.linearize(counted, x)
    close(f_jvp(v), slope(x) @ v)
    close(f_jvp(x), slope(x) @ x)
    assert len(runs) == 1


def test_only_the_linear_part_is_repeated(x, v, monkeypatch):
    _, f_jvp = wg.linearize(lambda x: np.sum(np.tanh(x) * np.tanh(x[::-1])), x)
    counted = []
    tanh = wg.ops.elementwise.tanh
    monkeypatch.setattr(tanh, "impl", lambda x: counted.append(1) or np.tanh(x))
    f_jvp(v)
    assert not counted


def test_the_map_is_differentiated_batched_and_transposed(x, v, slope, close):
    _, f_jvp = wg.linearize(ours, x)
    close(wg.grad(f_jvp)(v), slope(x))
    close(wg.vmap(f_jvp)(np.eye(3)), slope(x))
    close(wg.jvp(f_jvp, v, x)[1], slope(x) @ x)
    close(wg.linear_transpose(f_jvp, x)(2.0)[0], 2 * slope(x))
    close(wg.jacobian(f_jvp)(v), slope(x))


def test_within_the_other_transforms(x, v, slope, curve, close):
    def along(x):
        return wg.linearize(ours, x)[1](v)

    close(wg.grad(along)(x), curve(x) @ v)
    close(wg.jvp(along, x, v)[1], v @ curve(x) @ v)
    close(wg.linearize(along, x)[1](v), v @ curve(x) @ v)
    rows = np.stack([x, v])
    close(wg.vmap(along)(rows), [slope(x) @ v, slope(v) @ v])
    close(wg.vmap(wg.grad(along))(rows), [curve(x) @ v, curve(v) @ v])
    close(wg.linearize(wg.grad(ours), x)[1](v), curve(x) @ v)
    close(wg.linearize(wg.vmap(ours), rows)[1](rows), [slope(x) @ x, slope(v) @ v])
    close(wg.linearize(wg.vmap(wg.grad(ours)), rows)[1](rows), [curve(x) @ x, curve(v) @ v])


def test_an_eager_tensor_keeps_its_gradient(x, v, curve, close):
    t = wg.tensor(x, requires_grad=True)
    wg.linearize(ours, t)[1](v).backward()
    close(t.grad, curve(x) @ v)


def test_later_writes_do_not_reach_it(x, v, slope, close):
    x, b = x.copy(), np.ones(3)
    at, want = x.copy(), slope(x) @ v
    _, f_jvp = wg.linearize(lambda x: ours(x) + np.sum(b * x), x)
    x[:] = 0
    b[:] = 7
    got = f_jvp(v)
    close(got, want + np.sum(v))
    assert at[0] != 0
    _, same = wg.linearize(lambda x: x, at)
    out = same(v)
    out[0] = 100.0
    close(same(v), v)


def test_several_arguments_trees_and_aux(close):
    def g(p, q):
        return {"y": p["a"] * q, "z": p["b"]}, {"seen": p["a"]}

    p, q = {"a": 2.0, "b": np.ones(2)}, 3.0
    y, f_jvp, aux = wg.linearize(g, p, q, has_aux=True)
    close(y["y"], 6.0)
    close(aux["seen"], 2.0)
    got = f_jvp({"b": np.array([5.0, 6.0]), "a": 1.0}, 10.0)
    close(got["y"], 23.0)
    close(got["z"], [5.0, 6.0])


def test_structural_zeros_stay(close):
    f = lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0))
    close(wg.linearize(f, np.array([0.0, 4.0]))[1](np.ones(2)), 0.25)


def test_tangents_are_checked(x):
    _, f_jvp = wg.linearize(ours, x)
    with pytest.raises(ShapeError, match="shape of its primal"):
        f_jvp(np.ones(2))
    with pytest.raises(ShapeError, match="structure of the arguments"):
        f_jvp([x])
    with pytest.raises(DTypeError, match="floating"):
        wg.linearize(ours, np.array([1, 2]))


def test_like_jax(x, v, close):
    jax = peer("jax", "the comparison with JAX was left out")
    jax.config.update("jax_enable_x64", True)
    _, theirs = jax.linearize(lambda x: f(jax.numpy, x), x)
    close(wg.linearize(ours, x)[1](v), theirs(v))
    m = np.arange(6.0).reshape(2, 3)
    g = np.array([1.0, -2.0])
    for m_ in (np, jax.numpy):
        back = (wg if m_ is np else jax).linear_transpose(lambda x, m_=m_: m_.dot(m, x * 2), x)
        close(np.asarray(back(g)[0]), 2 * g @ m)


# ------------------------------------------------------------------ transposition

LINEAR = {
    "scaled": lambda x: 3.0 * x - x / 2.0,
    "matmul": lambda x: np.arange(12.0).reshape(4, 3) @ x,
    "cumsum": lambda x: np.cumsum(x)[::-1],
    "concatenate": lambda x: np.concatenate([x[1:], -x]),
    "einsum": lambda x: np.einsum("i,jk->kij", x, np.ones((2, 3))),
    "where": lambda x: np.where(np.array([True, False, True]), x, 0.0),
    "fft": lambda x: np.real(np.fft.ifft(np.fft.fft(x) * np.array([1.0, 2.0, 2.0]))),
    "affine and back": lambda x: (x + 1.0) - 1.0,
    "nothing": lambda x: np.zeros(2),
    "tree": lambda x: {"a": x[0] * 2.0, "b": (np.sum(x), x)},
}


@pytest.mark.parametrize("name", LINEAR)
def test_the_transpose_of_linear_functions(name, x, close):
    rng = np.random.default_rng(0)
    h = LINEAR[name]
    y = h(x)
    gs = wg.tree.map(lambda v: rng.normal(size=np.shape(v)), y)
    (back,) = wg.linear_transpose(h, np.zeros(3))(gs)
    want = sum(np.sum(a * b) for a, b in zip(wg.tree.leaves(gs), wg.tree.leaves(y)))
    close(back @ x, want)


@pytest.mark.parametrize("name", ["matmul", "tree"])
def test_the_transpose_is_linear_too(name, x, close):
    h = LINEAR[name]
    y = h(x)
    back = wg.linear_transpose(h, x)
    again = wg.linear_transpose(lambda g: back(g)[0], y)(x)[0]
    for a, b in zip(wg.tree.leaves(again), wg.tree.leaves(y)):
        close(a, b)


def test_a_transpose_of_several_arguments_and_of_shapes_alone(close):
    class Like:
        def __init__(self, *shape):
            self.shape, self.dtype = shape, np.dtype(np.float32)

    gx, gy = wg.linear_transpose(lambda x, y: x - 2 * y, Like(3), Like())(np.ones(3, np.float32))
    close(gx, np.ones(3))
    close(gy, -6.0)
    assert gx.dtype == np.float32


def test_a_transpose_inside_grad(close):
    def h(k):
        back = wg.linear_transpose(lambda x: np.cumsum(k * x), np.zeros(3))
        return np.sum(back(np.ones(3))[0] ** 2)

    close(wg.grad(h)(2.0), 2 * 2.0 * 14)


NONLINEAR = {
    "square": (lambda x: x * x, "mul of what depends"),
    "matmul": (lambda x: x @ x, "matmul of what depends"),
    "sin": (lambda x: np.sin(x), "sin of what depends"),
    "abs": (lambda x: np.abs(x), "abs of what depends"),
    "division": (lambda x: 1.0 / x, "of what depends"),
    "affine": (lambda x: x + 1.0, r"f\(0\) is not 0"),
    "constant": (lambda x: np.ones(3), r"f\(0\) is not 0"),
    "comparison": (lambda x: np.where(x > 0, x, 0.0), "gt of what depends"),
    "branch": (lambda x: x if x[0] > 0 else -x, "gt of what depends"),
    "number": (lambda x: x.item(0) * x, "reads the number"),
    "max": (lambda x: np.max(x), "of what depends"),
    "integers": (lambda x: x * x.astype(int), "of what depends"),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_a_function_that_is_not_linear_is_refused(name, x):
    h, why = NONLINEAR[name]
    with pytest.raises(UnsupportedError, match=f"not linear.*{why}"):
        wg.linear_transpose(h, x)
    assert wg.trace.MODES == 0


def test_a_broken_path_is_refused(x):
    with pytest.raises(DisconnectedError):
        wg.linear_transpose(lambda x: x.detach() * 2.0, x)
    with pytest.raises(DTypeError, match="floating-point"):
        wg.linear_transpose(lambda x: x, np.array([1, 2]))
    back = wg.linear_transpose(lambda x: 2.0 * x, x)
    with pytest.raises(ShapeError, match="structure of the value"):
        back([x])
    with pytest.raises(ShapeError, match="shape of its value"):
        back(np.ones(2))
