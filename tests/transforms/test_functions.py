"""grad, vjp, jvp and vmap as functions: pytrees, arguments, and what they refuse."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import wengert as wg
from wengert import grad, hessian, hvp, jacobian, jvp, nn, value_and_grad, vjp, vmap


@dataclass
class Layer:
    w: np.ndarray
    b: np.ndarray


class Pair(NamedTuple):
    a: np.ndarray
    b: np.ndarray


def test_gradients_of_trees(x, close):
    params = {
        "layer": Layer(np.outer(x, x), x),
        "more": [x * 2, (x,)],
        "none": None,
        "pair": Pair(x, x),
    }

    def loss(p):
        h = np.tanh(x @ p["layer"].w + p["layer"].b)
        return np.sum(h) + np.sum(p["more"][0] * p["more"][1][0]) + np.sum(p["pair"].a)

    g = grad(loss)(params)
    assert isinstance(g["layer"], Layer)
    assert isinstance(g["pair"], Pair)
    assert g["none"] is None
    close(g["more"][0], x)
    close(g["more"][1][0], 2 * x)
    close(g["pair"].b, np.zeros(3))  # unused among used ones: zero
    s = 1 / np.cosh(x @ np.outer(x, x) + x) ** 2
    close(g["layer"].b, s)
    close(g["layer"].w, np.outer(x, s))


def test_argnums_aux_and_keywords(x, close):
    def f(a, b, scale=1.0):
        return np.sum(a * b) * scale, {"note": a + b}

    (value, aux), (ga, gb) = value_and_grad(f, argnums=(0, 1), has_aux=True)(x, 2 * x, scale=3.0)
    close(value, 3 * np.sum(2 * x * x))
    close(ga, 6 * x)
    close(gb, 3 * x)
    close(aux["note"], 3 * x)
    assert isinstance(aux["note"], np.ndarray)
    close(grad(lambda a, b: np.sum(a * b), argnums=-1)(x, 2 * x), x)


def test_arrays_in_arrays_out_and_tensors_in_tensors_out(x):
    def f(x):
        return np.sum(x * x)

    assert isinstance(grad(f)(x), np.ndarray)
    assert isinstance(grad(f)(wg.tensor(x)), wg.Tensor)
    assert isinstance(hessian(f)(wg.tensor(x)), wg.Tensor)
    assert isinstance(jvp(f, (wg.tensor(x),), (x,))[1], wg.Tensor)
    assert isinstance(vmap(f)(np.ones((2, 3))), np.ndarray)
    assert grad(lambda x: x**2)(3.0) == 6.0
    assert grad(f)(x.astype(np.float32)).dtype == np.float32


def test_vjp_of_trees_and_several_outputs(x, close):
    def f(a, b):
        return {"sum": a + b, "product": (a * b,)}

    value, pull = vjp(f, x, 2 * x)
    ga, gb = pull({"sum": np.ones(3), "product": (x,)})
    close(value["product"][0], 2 * x * x)
    close(ga, 1 + 2 * x * x)
    close(gb, 1 + x * x)
    close(pull({"sum": np.zeros(3), "product": (x,)})[1], x * x)  # and once more


def test_jvp_of_trees(x, v, close):
    y, dy = jvp(
        lambda d: (d["a"] * d["b"], np.sum(d["a"])), ({"a": x, "b": 2 * x},), ({"a": v, "b": x},)
    )
    close(dy[0], v * 2 * x + x * x)
    close(dy[1], np.sum(v))
    close(y[0], 2 * x * x)


def test_jacobian_of_trees(x, close):
    j = jacobian(lambda d: {"y": d["a"] * d["b"], "s": np.sum(d["a"])})({"a": x, "b": 2 * x})
    close(j["y"]["a"], np.diag(2 * x))
    close(j["y"]["b"], np.diag(x))
    close(j["s"]["a"], np.ones(3))
    close(j["s"]["b"], np.zeros(3))


def test_jacobian_of_matrices(close):
    m = np.arange(6.0).reshape(2, 3)
    j = jacobian(lambda m: m.T @ m)(m)
    assert j.shape == (3, 3, 2, 3)
    want = np.zeros((3, 3, 2, 3))
    for i in range(3):
        for k in range(3):
            for r in range(2):
                want[i, k, r, i] += m[r, k]
                want[i, k, r, k] += m[r, i]
    close(j, want)


def test_hessian_over_two_arguments(x, close):
    h = hessian(lambda a, b: np.sum(a * a * b), argnums=(0, 1))(x, 2 * x)
    close(h[0][0], np.diag(4 * x))
    close(h[0][1], np.diag(2 * x))
    close(h[1][0], np.diag(2 * x))
    close(h[1][1], np.zeros((3, 3)))
    close(hvp(lambda a, b: np.sum(a * a * b), (x, 2 * x), (np.ones(3), np.zeros(3)))[0], 4 * x)


def test_derivatives_of_linear_and_constant_functions_are_zero(x, v, close):
    close(hessian(lambda x: np.sum(x * v))(x), np.zeros((3, 3)))
    close(hvp(lambda x: np.sum(x * v), x, v), np.zeros(3))
    close(jacobian(lambda x: np.ones(2))(x), np.zeros((2, 3)))
    close(jvp(lambda x: np.ones(2), x, v)[1], np.zeros(2))
    close(vjp(lambda x: np.ones(2), x)[1](np.ones(2))[0], np.zeros(3))
    close(grad(lambda x: 3.0, allow_unused=True)(x), np.zeros(3))


def test_modules_are_trees(close):
    nn = pytest.importorskip("wengert.nn")
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    data = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)

    def loss(model):
        return np.sum(model(wg.tensor(data)) ** 2)

    g = grad(loss)(model)
    loss(model).backward()
    for (name, p), (other, q) in zip(model.named_parameters(), g.named_parameters(), strict=True):
        assert name == other
        close(q, p.grad.numpy(), rtol=1e-6)


# ------------------------------------------------------------------ vmap


def test_vmap_axes(close):
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    close(vmap(lambda a, b: a @ b, in_axes=(0, None))(a, b), a @ b)
    close(vmap(lambda a, b: a @ b, in_axes=(None, 1), out_axes=1)(a, b), a @ b)
    close(
        vmap(lambda d: d["u"] * d["k"], in_axes=({"u": 0, "k": None},))({"u": a, "k": a[0]}),
        a * a[0],
    )
    close(vmap(lambda a: (a, a.sum()), out_axes=(1, 0))(a)[0], a.T)
    close(vmap(lambda a: 7.0)(a), [7.0, 7.0])
    close(vmap(lambda a, k=1.0: a * k)(a, k=np.array([1.0, 2.0])), a * [[1], [2]])


def test_vmap_of_indexing(close):
    table, index = np.arange(12.0).reshape(4, 3), np.array([2, 0, 3])
    close(vmap(lambda i: table[0] * 0 + wg.tensor(table)[i])(index), table[index])
    rows = np.stack([table, table + 100])
    pick = np.array([[0, 1], [3, 3]])
    close(vmap(lambda r, i: r[i])(rows, pick), [rows[0][pick[0]], rows[1][pick[1]]])
    close(vmap(lambda r, i: r[:, i])(rows, pick - 1), [rows[k][:, pick[k] - 1] for k in range(2)])
    g = vmap(grad(lambda r, i: np.sum(r[i] ** 2)))(rows, pick)
    want = np.zeros_like(rows)
    for k in range(2):
        np.add.at(want[k], pick[k], 2 * rows[k][pick[k]])
    close(g, want)


def test_vmap_refuses_by_name():
    with pytest.raises(wg.errors.ArgumentError, match="different lengths"):
        vmap(lambda a, b: a + b)(np.ones(2), np.ones(3))
    with pytest.raises(wg.errors.ArgumentError, match="axis 2 does not exist"):
        vmap(lambda a: a, in_axes=2)(np.ones(2))
    with pytest.raises(wg.errors.ArgumentError, match="entries"):
        vmap(lambda a: a, in_axes=(0, 0))(np.ones(2))
    with pytest.raises(wg.errors.ArgumentError, match="lane to lane"):
        vmap(lambda a: a, out_axes=None)(np.ones(2))
    with pytest.raises(wg.errors.LevelError, match="mask"):
        vmap(lambda a: a[a > 0])(np.ones((2, 3)))


def test_vmap_matches_axes_by_key(close):
    d = {"u": np.arange(6.0).reshape(2, 3), "k": np.arange(3.0)}
    f = lambda d: d["u"] * d["k"]
    want = d["u"] * d["k"]
    close(vmap(f, in_axes=({"k": None, "u": 0},))(d), want)
    close(vmap(f, in_axes={"k": None, "u": 0})(d), want)  # the axes of the single argument
    close(vmap(f, in_axes=[{"k": None, "u": 0}])(d), want)
    close(vmap(lambda a, b: a @ b, in_axes=[0, None])(d["u"], d["k"]), d["u"] @ d["k"])
    g = vmap(lambda a: {"a": a, "s": a.sum()}, out_axes={"s": 0, "a": 1})(d["u"])
    close(g["a"], d["u"].T)
    close(g["s"], d["u"].sum(1))
    model = nn.Linear(3, 2, rng=0)
    models = wg.tree.map(lambda p: np.stack([p.numpy()] * 2), model)
    got = vmap(lambda m, x: m(x), in_axes=({"bias": 0, "weight": 0}, 0))(models, d["u"])
    close(got, model(d["u"]).numpy())


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (({"u": 0},), ["argument 0: missing 'k'", "fix: {'u': 0, 'k': 0} for argument 0"]),
        (({"u": 0, "k": None, "v": 0},), ["argument 0: unknown 'v'"]),
        ({"u": 0, "v": 0}, ["missing 'k'; unknown 'v'"]),
        (((0, None),), ["do not match the structure of argument 0"]),
        (({"u": {"x": 0}, "k": None},), ["do not match the structure of argument 0['u']"]),
        ("u", ["in_axes is an int"]),
    ],
)
def test_vmap_refuses_axes_of_another_structure(axes, words):
    with pytest.raises(wg.errors.ArgumentError) as error:
        vmap(lambda d: d["u"] * d["k"], in_axes=axes)({"u": np.ones((2, 3)), "k": np.ones(3)})
    for word in words:
        assert word in text(error)


def test_vmap_refuses_axes_of_results():
    for axis in (2, -3):
        with pytest.raises(wg.errors.ArgumentError, match=f"axis {axis} does not exist") as error:
            vmap(lambda a: {"y": a}, out_axes=axis)(np.ones((2, 3)))
        assert "result['y'] : float64[2, 3]" in text(error)
    with pytest.raises(wg.errors.ArgumentError, match="of result: missing 'y'"):
        vmap(lambda a: {"y": a}, out_axes={"z": 0})(np.ones((2, 3)))


def test_vmap_names_arguments_by_their_place():
    with pytest.raises(wg.errors.ArgumentError, match=r"argument 0: 2, argument 1\['b'\]: 3"):
        vmap(lambda a, d: a + d["b"])(np.ones(2), {"b": np.ones(3)})
    with pytest.raises(wg.errors.ArgumentError, match="argument 0: 2, argument b: 3"):
        vmap(lambda a, b: a + b)(np.ones(2), b=np.ones(3))
    with pytest.raises(wg.errors.ArgumentError, match="argument 1 : float64"):
        vmap(lambda a, b: a + b, in_axes=(0, 1))(np.ones(2), np.ones(2))


# ------------------------------------------------------------------ what grad refuses, by its text


def text(error):
    assert "test_functions.py" in str(error.value)
    return str(error.value)


def test_grad_of_integers(x):
    with pytest.raises(wg.errors.DTypeError) as e:
        grad(lambda x: np.sum(x))(np.arange(3))
    assert "int64[3]" in text(e)
    assert "astype(float)" in text(e)
    with pytest.raises(wg.errors.DTypeError) as e:
        grad(lambda x: x * x)(3)
    assert "3.0" in text(e)
    with pytest.raises(wg.errors.DTypeError, match=r"x\['n'\]"):
        grad(lambda p: np.sum(p["w"]))({"w": x, "n": np.arange(2)})
    with pytest.raises(wg.errors.DTypeError, match="not an array but str"):
        grad(lambda x: x)("abc")


def test_grad_of_an_array_valued_function(x):
    with pytest.raises(wg.errors.NonScalarError) as e:
        grad(lambda x: x * x)(x)
    assert "float64[3]" in text(e)
    assert "wg.jacobian" in text(e)
    with pytest.raises(wg.errors.NonScalarError, match="str"):
        grad(lambda x: "loss")(x)


@pytest.mark.parametrize(("f", "why"), [
    (lambda x: np.sum(x.detach() ** 2), "detach()"),
    (lambda x: np.sum(x > 0), "gt"),
    (lambda x: np.sum(np.floor(x)), "floor"),
    (lambda x: np.sum(x.astype(int)), "CastConstant"),
    (lambda x: np.sum(x.numpy() ** 2), "numpy()"),
    (lambda x: float(np.argmax(x)), "ArgMax"),
])  # fmt: skip
def test_where_the_path_broke(f, why, x):
    with pytest.raises(wg.errors.DisconnectedError) as e:
        grad(f)(x)
    assert why in text(e)
    assert "broke at" in text(e)


def test_no_grad_is_named_where_the_path_broke():
    w = wg.tensor([1.0, 2.0], requires_grad=True)
    with wg.no_grad():
        y = np.sum(w * w)
    with pytest.raises(wg.errors.DisconnectedError) as e:
        y.backward()
    assert "computed under no_grad" in text(e)


def test_an_unused_argument(x):
    with pytest.raises(wg.errors.DisconnectedError, match="does not depend"):
        grad(lambda x: np.sum(np.ones(3)))(x)


def test_tangents_and_cotangents_of_other_shapes(x):
    with pytest.raises(wg.errors.ShapeError, match="shape of its primal"):
        jvp(np.sin, x, np.ones(2))
    with pytest.raises(wg.errors.ShapeError, match="structure"):
        jvp(np.sin, (x,), (x, x))
    with pytest.raises(wg.errors.ShapeError, match="shape of its value"):
        vjp(np.sin, x)[1](np.ones(2))


# ------------------------------------------------------------------ shapes that do not match

a23, a43, a2, a3 = np.ones((2, 3)), np.ones((4, 3)), np.ones(2), np.ones(3)


@pytest.mark.parametrize(("f", "parts"), [
    (lambda a, b: a @ b, ["matmul(a, b): inner dimensions disagree", "float64[2, 3]   axis -1 is 3",
                          "float64[4, 3]   axis -2 is 4", "matmul(a, b.T)", "float64[2, 4]"]),
    (lambda a, b: a + b, ["add(a, b): shapes do not broadcast", "axis -2 is 2", "axis -2 is 4"]),
    (lambda a, b: np.concatenate([a, b], 1),
     ["concatenate(x0, x1)", "float64[2, 3]", "float64[4, 3]"]),
    (lambda a, b: np.where(a > 0, a, b), ["do not broadcast", "axis -2 is 2", "axis -2 is 4"]),
    (lambda a, b: np.einsum("ij,ij->i", a, b), ["'i' is 2", "4", "float64[4, 3]"]),
    (lambda a, b: np.maximum(a, b), ["maximum(a, b)"]),
    (lambda a, b: wg.ops.contract.affine(a, b, np.ones(3)), ["affine(a, b, c): inner dimensions"]),
    (lambda a, b: np.stack([a, b]), ["float64[2, 3]", "float64[4, 3]"]),
    (lambda a, b: np.dot(a, b), ["matmul(a, b): inner dimensions disagree"]),
    (lambda a, b: np.tensordot(a, b, 1), ["float64[2, 3]"]),
])  # fmt: skip
def test_shapes_that_do_not_match(f, parts):
    for run in (
        lambda: f(wg.tensor(a23), wg.tensor(a43)),
        lambda: f(wg.tensor(a23, requires_grad=True), wg.tensor(a43)),
        lambda: grad(lambda a: np.sum(f(a, a43)))(a23),
        lambda: jvp(lambda a: f(a, a43), a23, a23),
    ):
        with pytest.raises(wg.errors.ShapeError) as e:
            run()
        for part in parts:
            assert part in text(e)


def test_fixes_are_computed_or_left_out():
    with pytest.raises(wg.errors.ShapeError, match=r"a\[:, None\]") as e:
        wg.tensor(a2) * wg.tensor(a23)
    assert "[2, 3]" in text(e)
    with pytest.raises(wg.errors.ShapeError) as e:
        wg.tensor(np.ones(5)) * wg.tensor(a23)
    assert "fix:" not in text(e)


def test_axes_and_indices_outside_the_array(x):
    t = wg.tensor(x, requires_grad=True)
    for run in (
        lambda: t.sum(axis=1),
        lambda: t[5],
        lambda: t[0, 0],
        lambda: np.max(t, axis=-2),
        lambda: t[np.array([7])],
    ):
        with pytest.raises(wg.errors.AxisError) as e:
            run()
        assert "[WG103]" in text(e)
    with pytest.raises(wg.errors.ShapeError, match="3 elements"):
        t.reshape(2, 2)
    with pytest.raises(wg.errors.AxisError, match="label 9 is outside the 3 classes"):
        wg.cross_entropy(wg.tensor(np.ones((2, 3))), np.array([1, 9]))
    with pytest.raises(wg.errors.DTypeError, match="integers"):
        wg.cross_entropy(wg.tensor(np.ones((2, 3))), np.array([1.0, 2.0]))


def test_cross_entropy_gradient_is_probability_minus_label(close):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 4)), np.array([0, 3, 1, 2, 1])
    e = np.exp(logits)
    want = (e / e.sum(1, keepdims=True) - np.eye(4)[labels]) / 5
    close(grad(lambda a: wg.cross_entropy(a, labels))(logits), want)
    huge = grad(lambda a: wg.cross_entropy(a, np.array([0, 1])))(np.array([[1e4, 0.0], [1e4, 0.0]]))
    close(huge, [[0, 0], [0.5, -0.5]])


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_cross_entropy_keeps_its_digits_under_an_offset(offset):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((512, 10)).astype(np.float32)
    labels = np.argmax(logits, 1)
    logits[np.arange(512), labels] += 4
    logits += np.float32(offset)
    exact = logits.astype(np.float64)
    want = np.mean(np.log(np.exp(exact - offset).sum(1)) - (exact - offset)[np.arange(512), labels])
    recorded = wg.cross_entropy(wg.tensor(logits, requires_grad=True), labels)
    plain = wg.cross_entropy(logits, labels)
    assert abs(recorded.item() - want) < 3e-7 * max(1, want)
    assert recorded.item() == float(plain)


def test_cross_entropy_of_infinite_logits():
    a = wg.tensor([[0.0, -np.inf, 1.0], [-np.inf, 0.0, -np.inf]], requires_grad=True)
    loss = wg.cross_entropy(a, np.array([2, 1]))
    assert abs(loss.item() - np.log1p(np.exp(-1)) / 2) < 1e-15
    loss.backward()
    assert np.isfinite(a.grad.numpy()).all()


def test_the_modulus_of_complex_numbers_to_second_order():
    wg.testing.check_grads(lambda z: np.sum(np.abs(z)), (np.array([1 + 2j, -0.5j]),), order=2)


def test_a_dtype_that_an_operation_cannot_take(x):
    z = wg.tensor(x + 1j, requires_grad=True)
    with pytest.raises(wg.errors.DTypeError) as e:
        wg.gelu(z)
    assert "gelu(x)" in text(e)
    assert "complex128[3]" in text(e)
    with pytest.raises(wg.errors.DTypeError):
        np.sinc(z).backward(gradient=np.ones(3, complex))
