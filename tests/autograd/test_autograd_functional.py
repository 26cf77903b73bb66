"""wengert.autograd.functional against torch.autograd.functional, and against the transforms."""

import numpy as np
import pytest

import wengert as wg
from wengert.autograd import functional as F

A, B = np.array([0.3, -0.7, 1.2]), np.array([[1.0, 0.5, -2.0], [0.2, 0.1, 0.4]])


def one(a):
    return a * a * np.sum(a)


def two(a, b):
    return b @ (a * a), (a * b[0]).sum(), np.sin(b)


def energy(a, b):
    return np.sum(np.exp(a) * (b @ a).sum() + a**3 * b[1])


def of_torch(torch):
    """The same programs with PyTorch's own operations."""
    return {
        "one": lambda a: a * a * a.sum(),
        "two": lambda a, b: (b @ (a * a), (a * b[0]).sum(), b.sin()),
        "energy": lambda a, b: (a.exp() * (b @ a).sum() + a**3 * b[1]).sum(),
        "cube": lambda a: (a**3).sum(),
    }


MINE = {"one": one, "two": two, "energy": energy, "cube": lambda a: np.sum(a**3)}
V = np.array([1.0, -2.0, 0.5])
W = np.arange(6.0).reshape(2, 3)

CALLS = [
    ("jacobian", "one", 1, None, {}),
    ("jacobian", "two", 2, None, {}),
    ("jacobian", "two", 2, None, {"vectorize": True}),
    ("jacobian", "two", 2, None, {"vectorize": True, "strategy": "forward-mode"}),
    ("hessian", "cube", 1, None, {}),
    ("hessian", "energy", 2, None, {}),
    ("hessian", "energy", 2, None, {"vectorize": True}),
    (
        "hessian", "energy", 2, None,
        {"vectorize": True, "outer_jacobian_strategy": "forward-mode"},
    ),
    ("vjp", "one", 1, "y", {}),
    ("vjp", "two", 2, "ys", {}),
    ("jvp", "one", 1, "x", {}),
    ("jvp", "two", 2, "x", {}),
    ("vhp", "energy", 2, "x", {}),
    ("hvp", "energy", 2, "x", {}),
    ("hvp", "cube", 1, "x", {}),
]  # fmt: skip


def flat(x):
    if isinstance(x, tuple | list):
        return [leaf for part in x for leaf in flat(part)]
    return [np.asarray(x.detach())]


def structure(x):
    return tuple(structure(p) for p in x) if isinstance(x, tuple | list) else tuple(x.shape)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("name", "program", "n", "v", "options"), CALLS)
def test_like_torch(torch, name, program, n, v, options, create_graph):
    # by columns or by rows, the numbers are the same; PyTorch's columns warn or refuse
    theirs_too = {k: w for k, w in options.items() if k == "vectorize" and len(options) == 1}
    xs = (A, B)[:n]
    vs = {"x": (V, W)[:n], "y": (V,), "ys": (np.array([1.0, 3.0]), np.array(2.0), W)}.get(v)

    def put(make, values):
        values = tuple(make(x) for x in values)
        return values[0] if len(values) == 1 else values

    def leaf(make):
        return lambda x: make(x, requires_grad=True)

    mine = getattr(F, name)(
        MINE[program], put(leaf(wg.tensor), xs), *([put(wg.tensor, vs)] if vs else []),
        create_graph=create_graph, **options,
    )  # fmt: skip
    theirs = getattr(torch.autograd.functional, name)(
        of_torch(torch)[program], put(leaf(torch.tensor), xs),
        *([put(torch.tensor, vs)] if vs else []), create_graph=create_graph, **theirs_too,
    )  # fmt: skip
    assert structure(mine) == structure(theirs)
    for a, b in zip(flat(mine), flat(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    if not create_graph:
        assert not any(t.requires_grad for t in leaves(mine))


def leaves(x):
    return [leaf for p in x for leaf in leaves(p)] if isinstance(x, tuple | list) else [x]


def test_create_graph_connects_with_the_inputs(close):
    x = wg.tensor(A, requires_grad=True)
    h = F.hessian(lambda a: np.sum(a**4), x, create_graph=True)
    assert h.requires_grad
    h.sum().backward()
    close(x.grad, 24 * A)
    x.grad = None
    j = F.jacobian(one, x, create_graph=True, vectorize=True)
    j.sum().backward()
    want = wg.grad(lambda a: np.sum(wg.jacobian(one)(a)))(A)
    close(x.grad, want)


def test_functions_may_take_gradients_inside(close):
    """As a physics-informed loss does."""

    def residual(x):
        u = np.sin(x)
        (du,) = wg.autograd.grad(u.sum(), x, create_graph=True)
        return du + u

    got = F.jacobian(residual, wg.tensor(A))
    close(got, np.diag(np.cos(A) - np.sin(A)))


def test_plain_arrays_may_be_given(close):
    close(F.jacobian(np.sin, A), np.diag(np.cos(A)))


def test_under_no_grad(close):
    with wg.no_grad():
        close(F.jacobian(lambda x: x * x, wg.tensor(A)), np.diag(2 * A))
        close(F.hvp(lambda x: np.sum(x**3), wg.tensor(A), wg.tensor(V))[1], 6 * A * V)


def test_strict_refuses_what_is_constant():
    x = wg.tensor(A)
    zero = F.jacobian(lambda a: wg.tensor([1.0]), x)
    assert zero.tolist() == [[0, 0, 0]]
    for call in (
        lambda: F.jacobian(lambda a: wg.tensor([1.0]), x, strict=True),
        lambda: F.jacobian(lambda a, b: a * 2.0, (x, x), strict=True),
        lambda: F.hessian(lambda a: np.sum(a * 2.0), x, strict=True),
        lambda: F.vjp(lambda a: wg.tensor([1.0]), x, wg.tensor([1.0]), strict=True),
        lambda: F.jvp(lambda a: wg.tensor([1.0]), x, x, strict=True),
        lambda: F.vhp(lambda a: np.sum(a * 2.0), x, x, strict=True),
    ):
        with pytest.raises(wg.errors.DisconnectedError, match="depend"):
            call()


def test_what_it_refuses():
    x = wg.tensor(A)
    with pytest.raises(wg.errors.NonScalarError, match="v may be left out only"):
        F.vjp(one, x)
    with pytest.raises(wg.errors.ShapeError, match=r"v\[0\]"):
        F.vjp(one, x, wg.tensor([1.0]))
    with pytest.raises(wg.errors.NonScalarError, match="one number"):
        F.hessian(one, x)
    with pytest.raises(wg.errors.ArgumentError, match="func gives tensors"):
        F.jacobian(lambda a: 1.0, x)
    with pytest.raises(wg.errors.ArgumentError, match="no such strategy"):
        F.jacobian(one, x, strategy="sideways")
    with pytest.raises(wg.errors.ArgumentError, match="floating-point"):
        F.jacobian(one, wg.tensor([1, 2]))
