"""Products with second derivatives, against the whole matrices; gradients sample by sample."""

import numpy as np
import pytest
from conftest import peer

import wengert as wg
from wengert import nn
from wengert.errors import ArgumentError, DTypeError, NonScalarError, OptionError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 4))
LABELS = np.array([0, 2, 1, 1, 0, 2])
P = {"w": RNG.standard_normal((4, 3)), "b": RNG.standard_normal(3)}
V = {"w": RNG.standard_normal((4, 3)), "b": RNG.standard_normal(3)}


def model(p, x=X):
    return np.tanh(x @ p["w"]) * 2.0 + p["b"]


def flat(p):
    return np.concatenate([p["w"].reshape(-1), p["b"]])


def unflat(v):
    return {"w": v[:12].reshape(4, 3), "b": v[12:]}


def test_vhp_is_hvp(close):
    def f(a, b):
        return np.sum(np.sin(a * b[:, None]) ** 2) + np.sum(a**3)

    a, b = RNG.standard_normal((2, 3)), RNG.standard_normal(2)
    v = (RNG.standard_normal((2, 3)), RNG.standard_normal(2))
    for got, want in zip(wg.vhp(f, (a, b), v), wg.hvp(f, (a, b), v), strict=True):
        close(got, want)
    close(wg.vhp(lambda x: np.sum(x**4), b, v[1]), 12 * b**2 * v[1])
    assert wg.vhp(lambda x: np.sum(x), b, b).tolist() == [0.0, 0.0]


def dense_gauss_newton(h):
    j = wg.jacobian(lambda v: model(unflat(v)).reshape(-1))(flat(P))
    return j.T @ h @ j


def test_gauss_newton_product(close):
    def loss(z):
        return wg.cross_entropy(z, LABELS)

    h = wg.hessian(lambda z: loss(z.reshape(6, 3)))(model(P).reshape(-1))
    got = wg.gauss_newton_product(model, loss, P, V)
    close(flat(got), dense_gauss_newton(h) @ flat(V), rtol=1e-9)
    assert float(np.vdot(flat(V), flat(got))) > 0


def test_gauss_newton_of_several_outputs_and_nested(close):
    def two(p):
        return {"a": model(p), "b": np.sum(p["w"] ** 2)}

    def loss(z):
        return np.sum(z["a"] ** 2) * z["b"]

    def whole(v):
        z = two(unflat(v))
        return np.concatenate([z["a"].reshape(-1), z["b"].reshape(1)])

    def on_flat(z):
        return np.sum(z[:18] ** 2) * z[18]

    j, h = wg.jacobian(whole)(flat(P)), wg.hessian(on_flat)(whole(flat(P)))
    close(flat(wg.gauss_newton_product(two, loss, P, V)), j.T @ h @ j @ flat(V), rtol=1e-9)
    many = {k: RNG.standard_normal((5, *x.shape)) for k, x in P.items()}
    got = wg.vmap(lambda v: wg.gauss_newton_product(two, loss, P, v))(many)
    first = wg.gauss_newton_product(two, loss, P, {k: x[0] for k, x in many.items()})
    close(got["w"][0], first["w"])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian", "bernoulli"])
def test_fisher_products(likelihood, reduction, close):
    z = model(P)
    if likelihood == "categorical":
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        blocks = [np.diag(row) - np.outer(row, row) for row in p]
    elif likelihood == "gaussian":
        blocks = [np.eye(3) / 0.7**2] * 6
    else:
        blocks = [np.diag(row) for row in 1 / (1 + np.exp(-z)) / (1 + np.exp(z))]
    h = np.zeros((18, 18))
    for i, b in enumerate(blocks):
        h[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = b
    want = dense_gauss_newton(h) @ flat(V) / (6 if reduction == "mean" else 1)
    got = wg.fisher_product(model, P, V, likelihood, scale=0.7, reduction=reduction)
    close(flat(got), want, rtol=1e-9)


def test_the_fisher_matrix_is_the_mean_over_labels_of_squared_gradients(close):
    """E[g g^T] with labels drawn from the model, by going through all of them."""
    z = model(P)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)

    def loss(params, x, label):
        return wg.cross_entropy(model(params, x), label)

    total = 0.0
    for label in range(3):
        g = wg.per_sample_grad(loss, P, X, np.full(6, label))
        rows = np.concatenate([g["w"].reshape(6, -1), g["b"]], 1)
        total = total + np.einsum("n,ni,nj->ij", p[:, label], rows, rows) / 6
    close(flat(wg.fisher_product(model, P, V)), total @ flat(V), rtol=1e-9)


def test_the_empirical_fisher(close):
    def losses(p):
        return np.sum((model(p) - 1.0) ** 2, axis=1)

    g = wg.per_sample_grad(lambda p, x: np.sum((model(p, x) - 1.0) ** 2), P, X)
    rows = np.concatenate([g["w"].reshape(6, -1), g["b"]], 1)
    got = wg.fisher_product(losses, P, V, "empirical")
    close(flat(got), rows.T @ rows @ flat(V) / 6, rtol=1e-9)


def sample_loss(p, x, y):
    return np.sum((model(p, x) - y) ** 2)


def test_per_sample_gradients_are_those_of_a_loop(close):
    y = RNG.standard_normal((6, 3))
    got = wg.per_sample_grad(sample_loss, P, X, y)
    for i in range(6):
        want = wg.grad(sample_loss)(P, X[i], y[i])
        close(got["w"][i], want["w"])
        close(got["b"][i], want["b"])
    batch = wg.per_sample_grad(lambda p, s: sample_loss(p, s["x"], s["y"]), P, {"x": X, "y": y})
    close(batch["w"], got["w"])


def test_per_sample_gradients_of_a_module(close):
    layer = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    def loss(m, x, label):
        return wg.cross_entropy(m(x), label)

    with wg.no_grad():
        got = wg.per_sample_grad(loss, layer, X, LABELS)
    assert isinstance(got, nn.Sequential)
    named = dict(got.named_parameters()) or None
    leaves = wg.tree.leaves(got)
    for i in range(6):
        layer.zero_grad()
        loss(layer, X[i], LABELS[i]).backward()
        for g, p in zip(leaves, layer.parameters(), strict=True):
            close(np.asarray(g.value() if hasattr(g, "value") else g)[i], p.grad.numpy())
    assert named is None or len(named) == 4


def test_per_sample_gradients_of_tensors_after_backward(close):
    """The dialect of .backward(): one pass gives the sum, vmap over the samples the parts."""
    w = wg.tensor(P["w"], requires_grad=True)

    def loss(w, x):
        return np.sum(np.tanh(x @ w) ** 2)

    np.sum(np.tanh(X @ w) ** 2).backward()
    parts = wg.per_sample_grad(loss, w, X)
    close(parts.value().sum(0), w.grad)
    np.sum(parts**2).backward()  # the parts are recorded: a penalty on their size
    want = wg.grad(lambda w: np.sum(wg.per_sample_grad(loss, w, X) ** 2))(P["w"])
    close(w.grad.numpy() - parts.value().sum(0), want)


@pytest.mark.parametrize("outputs", [2, 4])
def test_batch_jacobian(outputs, close):
    w = RNG.standard_normal((3, outputs, 2))

    def f(x):
        return np.tanh(np.einsum("bi,ijk->bjk", x, w))

    x = RNG.standard_normal((5, 3))
    want = wg.vmap(wg.jacobian(lambda r: f(r[None])[0]))(x)
    close(wg.batch_jacobian(f)(x), want)
    close(wg.batch_jacobian(lambda x: np.sum(x**2, 1))(x), 2 * x)
    assert not wg.batch_jacobian(lambda x: np.ones((5, 2)))(x).any()
    zeros = np.array([[0.0, 1.0], [4.0, 0.0]])
    got = wg.batch_jacobian(np.sqrt)(zeros)
    assert got[0].tolist() == [[np.inf, 0.0], [0.0, 0.5]]


def test_batch_jacobian_refuses_rows_that_mix():
    with pytest.raises(ArgumentError, match="row 1 of x changes other rows"):
        wg.batch_jacobian(lambda x: x - x.mean(0))(X)


def f(x):
    return np.sum(np.exp(-x * x) * np.roll(x, 1)) + np.prod(x)


@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_laplacian_and_diagonal_are_those_of_the_hessian(chunk, close):
    x = RNG.standard_normal((2, 3))
    h = wg.hessian(lambda v: f(v.reshape(2, 3)))(x.reshape(-1))
    close(wg.laplacian(f, chunk=chunk)(x), np.trace(h))
    close(wg.hessian_diagonal(f, chunk=chunk)(x), np.diag(h).reshape(2, 3))


def test_laplacian_of_a_field_and_its_gradient(close):
    def field(x):
        return np.stack([np.sum(x**4), np.prod(x)])

    x = np.array([0.5, -1.0, 2.0])
    close(wg.laplacian(field)(x), [12 * np.sum(x**2), 0.0])
    close(wg.grad(wg.laplacian(lambda x: np.sum(x**4)))(x), 24 * x)
    close(wg.vmap(wg.laplacian(lambda x: np.sum(x**4)))(np.stack([x, 2 * x])), [63.0, 252.0])


def test_diagonal_at_a_singular_slope_says_so_there_alone():
    d = wg.hessian_diagonal(lambda x: np.sum(x**1.5))(np.array([0.0, 1.0]))
    assert d.tolist() == [np.inf, 0.75]


def test_estimators_are_unbiased_and_drawn_from_the_stream_they_are_given():
    x = RNG.standard_normal(8)
    h = wg.hessian(f)(x)
    off = h - np.diag(np.diag(h))
    n = 4000
    trace = wg.laplacian(f, samples=n, rng=np.random.default_rng(1), chunk=1000)(x)
    assert abs(trace - np.trace(h)) < 4 * np.sqrt(2 * np.sum(off**2) / n)
    d = wg.hessian_diagonal(f, samples=n, rng=np.random.default_rng(1))(x)
    assert (np.abs(d - np.diag(h)) < 4.5 * np.sqrt(np.sum(off**2, 1) / n) + 1e-12).all()
    one = wg.laplacian(f, samples=3, rng=np.random.default_rng(5))(x)
    assert one == wg.laplacian(f, samples=3, rng=np.random.default_rng(5))(x)
    assert one != wg.laplacian(f, samples=3, rng=np.random.default_rng(6))(x)


def test_torch_agrees_about_per_sample_gradients(close):
    torch = peer("torch", "the comparison with torch.func was left out")
    y = RNG.standard_normal((6, 3))

    def loss(p, x, y):
        return ((torch.tanh(x @ p["w"]) * 2.0 + p["b"] - y) ** 2).sum()

    p = {k: torch.tensor(v) for k, v in P.items()}
    want = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(p, torch.tensor(X), torch.tensor(y))
    got = wg.per_sample_grad(sample_loss, P, X, y)
    for k in P:
        close(got[k], want[k].numpy())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: wg.vhp(np.sum, np.ones(2), np.ones(3)), ShapeError, "shapes of primals"),
        (lambda: wg.vhp(np.sum, (np.ones(2),), np.ones(2)), ArgumentError, "structure"),
        (lambda: wg.vhp(np.sin, np.ones(2), np.ones(2)), NonScalarError, "one number"),
        (
            lambda: wg.gauss_newton_product(model, np.sum, P, {"w": V["w"]}),
            ArgumentError,
            "structure",
        ),
        (lambda: wg.gauss_newton_product(model, np.sin, P, V), NonScalarError, "one number"),
        (lambda: wg.fisher_product(model, P, V, "poisson"), OptionError, "'categorical'"),
        (lambda: wg.fisher_product(model, P, V, scale=0.0), OptionError, "positive"),
        (lambda: wg.fisher_product(model, P, V, reduction="max"), OptionError, "'mean', 'sum'"),
        (
            lambda: wg.fisher_product(lambda p: model(p)[0], P, V),
            ShapeError,
            r"logits \[samples, classes\]",
        ),
        (lambda: wg.fisher_product(model, P, V, "empirical"), ShapeError, "losses"),
        (lambda: wg.per_sample_grad(sample_loss, P), ArgumentError, "no batch"),
        (
            lambda: wg.per_sample_grad(sample_loss, P, X, np.ones((5, 3))),
            ArgumentError,
            "different lengths",
        ),
        (lambda: wg.per_sample_grad(lambda p, x: p["w"], P, X), NonScalarError, "one number"),
        (lambda: wg.batch_jacobian(np.sum)(X), ShapeError, "share the first axis"),
        (lambda: wg.batch_jacobian(np.sin)(np.arange(3)), DTypeError, "floating-point"),
        (lambda: wg.laplacian(f, samples=0), OptionError, "at least 1"),
        (lambda: wg.laplacian(np.sum)({"a": 1.0}), ArgumentError, "one array"),
        (lambda: wg.hessian_diagonal(f, chunk=-1), OptionError, "at least 1"),
        (lambda: wg.hessian_diagonal(np.sin)(np.ones(2)), NonScalarError, "one number"),
    ],
)
def test_refusals(call, error, match):
    with pytest.raises(error, match=match):
        call()
