"""One custom rule gives every mode, at every order, under vmap."""

import gc
import math
import weakref

import numpy as np
import pytest

import wengert as wg
from wengert.testing import check_grads
from wengert.transforms.staging import stage

X, Y = np.array([0.3, 0.5, 0.9]), np.array([2.0, 3.0, -1.0])


def product(x, y):
    return np.sin(x) * y


def product_rule(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return np.sin(x) * y, np.cos(x) * dx * y + np.sin(x) * dy


def product_fwd(x, y):
    s, c = np.sin(x), np.cos(x)
    return s * y, (s, c, y)


def product_bwd(residuals, g):
    s, c, y = residuals
    return g * c * y, g * s


def from_jvp():
    f = wg.custom_jvp(product)
    f.defjvp(product_rule)
    return f


def from_jvps():
    f = wg.custom_jvp(product)
    f.defjvps(lambda d, out, x, y: np.cos(x) * d * y, lambda d, out, x, y: np.sin(x) * d)
    return f


def from_vjp():
    f = wg.custom_vjp(product)
    f.defvjp(product_fwd, product_bwd)
    return f


def from_both():
    f = wg.custom_vjp(product)
    f.defvjp(product_fwd, product_bwd)
    f.defjvp(product_rule)
    return f


def backward(f):
    t = wg.tensor(X, requires_grad=True)
    (f(t, Y) ** 2).sum().backward()
    return t.grad.numpy()


def backward_twice(f):
    t = wg.tensor(X, requires_grad=True)
    f(t, t).sum().backward(create_graph=True)
    g, t.grad = t.grad, None
    (g**2).sum().backward()
    return t.grad.numpy()


def one(f):
    return lambda x: f(x, x)


MODES = {
    "grad": lambda f: wg.grad(lambda x: np.sum(f(x, Y) ** 2))(X),
    "backward": backward,
    "backward twice": backward_twice,
    "jvp": lambda f: wg.jvp(f, (X, Y), (Y, X))[1],
    "jvp of one argument": lambda f: wg.jvp(lambda y: f(X, y), (Y,), (X,))[1],
    "hessian": lambda f: wg.hessian(lambda x: np.sum(f(x, x) ** 2))(X),
    "jacfwd": lambda f: wg.jacfwd(one(f))(X),
    "jacrev": lambda f: wg.jacrev(one(f))(X),
    "vmap": lambda f: wg.vmap(f)(X, Y),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f))(X, Y),
    "vmap of jvp": lambda f: wg.vmap(lambda x, y: wg.jvp(f, (x, y), (y, x))[1])(X, Y),
    "grad of vmap": lambda f: wg.grad(lambda x: np.sum(wg.vmap(f)(x, Y) ** 2))(X),
    "grad of vmap, shared": lambda f: wg.grad(
        lambda s: np.sum(wg.vmap(f, in_axes=(None, 0))(s, Y) ** 2)
    )(0.4),
    "jvp of vmap, shared": lambda f: wg.jvp(
        lambda s: np.sum(wg.vmap(f, in_axes=(None, 0))(s, Y) ** 2), (0.4,), (1.0,)
    )[1],
    "order 3": lambda f: wg.grad(wg.grad(wg.grad(one(f))))(0.4),
    "jvp of grad": lambda f: wg.jvp(wg.grad(one(f)), (0.4,), (1.0,))[1],
    "grad of jvp": lambda f: wg.grad(lambda x: wg.jvp(one(f), (x,), (1.0,))[1])(0.4),
    "jvp of jvp": lambda f: wg.jvp(
        lambda x: wg.jvp(one(f), (x,), (1.0,))[1], (0.4,), (1.0,)
    )[1],
    "vmap of hessian": lambda f: wg.vmap(wg.hessian(one(f)))(X),
    "hessian of vmap": lambda f: wg.hessian(lambda x: np.sum(wg.vmap(f)(x, x) ** 2))(X),
    "vmap of vmap": lambda f: wg.vmap(wg.vmap(f))(np.outer(X, Y), np.outer(Y, Y)),
    "perturbations": lambda f: wg.grad(
        lambda x: x * wg.grad(lambda y: f(x, y) ** 2)(0.7)
    )(0.4),
}  # fmt: skip


@pytest.mark.parametrize("make", [from_jvp, from_jvps, from_vjp, from_both])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode(make, mode, close):
    close(MODES[mode](make()), MODES[mode](product), rtol=1e-12)


@pytest.mark.parametrize("make", [from_jvp, from_vjp, from_both])
def test_against_differences(make):
    check_grads(make(), (X, Y), order=3)


@pytest.mark.parametrize("make", [from_jvp, from_vjp])
def test_staged(make):
    assert "cos" in str(stage(wg.grad(lambda x: np.sum(make()(x, x))), X))


# ------------------------------------------------------------------ code for plain numbers alone


def sine(x):
    return math.sin(x)


def plain_jvp():
    f = wg.custom_jvp(sine)
    f.defjvp(lambda p, t: (math.sin(p[0]), math.cos(p[0]) * t[0]))
    return f


def plain_vjp():
    f = wg.custom_vjp(sine)
    f.defvjp(lambda x: (math.sin(x), math.cos(x)), lambda c, g: (g * c,))
    return f


@pytest.mark.parametrize("make", [plain_jvp, plain_vjp])
def test_black_box(make, close):
    f = make()
    close(wg.grad(f)(0.3), math.cos(0.3))
    close(wg.jvp(f, (0.3,), (2.0,))[1], 2 * math.cos(0.3))
    close(wg.vmap(f)(X), np.sin(X))
    close(wg.vmap(wg.grad(f))(X), np.cos(X))
    close(wg.grad(lambda x: np.sum(wg.vmap(f)(x)))(X), np.cos(X))
    close(wg.jvp(wg.vmap(f), (X,), (Y,))[1], np.cos(X) * Y)


def test_black_box_second_order_refuses():
    """Its residuals are numbers: a second derivative through them would be silently wrong."""
    for f in (plain_vjp(), plain_jvp()):
        with pytest.raises(wg.errors.UnsupportedError, match="second derivative"):
            wg.grad(wg.grad(f))(0.3)
        with pytest.raises(wg.errors.UnsupportedError, match="second derivative"):
            wg.jvp(wg.grad(f), (0.3,), (1.0,))


def test_black_box_rule_that_cannot_be_recorded(close):
    """A tangent rule that needs plain arrays is transposed column by column."""
    a = np.arange(6.0).reshape(2, 3)
    f = wg.custom_jvp(lambda x: a @ np.asarray(x))
    f.defjvp(lambda p, t: (a @ np.asarray(p[0]), a @ np.asarray(t[0])))
    close(wg.jacrev(f)(X), a)
    g = wg.custom_vjp(lambda x: a @ np.asarray(x))
    g.defvjp(lambda x: (a @ np.asarray(x), None), lambda r, g: (np.asarray(g) @ a,))
    close(wg.jacfwd(g)(X), a)


# ------------------------------------------------------------------ arguments


def test_pytrees_and_constants(close):
    @wg.custom_vjp
    def f(p, label, n=2):
        return {"a": p["w"] * n + p["b"][0], "k": np.arange(3)}

    f.defvjp(
        lambda p, label, n: (f(p, label, n), (n,)),
        lambda r, g: ({"w": g["a"] * r[0], "b": (g["a"],)}, None, None),
    )
    p = {"w": X, "b": (Y, np.array([1, 2]))}

    def loss(w, b):
        out = f({"w": w, "b": (b,)}, "name", n=3)
        assert out["k"].dtype.kind == "i"
        return np.sum(out["a"] ** 2)

    for got, want in zip(wg.grad(loss, (0, 1))(X, Y), (6 * (3 * X + Y), 2 * (3 * X + Y))):
        close(got, want)
    close(f(p, "name")["a"], 2 * X + Y)


def test_keywords_are_resolved(close):
    f = from_vjp()
    close(wg.grad(lambda x: np.sum(f(y=Y, x=x)))(X), np.cos(X) * Y)


def test_nondiff_argnums(close):
    f = wg.custom_jvp(lambda op, x, k: op(x) * k, nondiff_argnums=(0, 2))
    f.defjvp(lambda op, k, p, t: (op(p[0]) * k, 7.0 * k * t[0]))
    close(wg.grad(lambda x: np.sum(f(np.sin, x, 2.0)))(X), np.full(3, 14.0))
    g = wg.custom_vjp(lambda op, x, k: op(x) * k, nondiff_argnums=(0, 2))
    g.defvjp(lambda op, x, k: (op(x) * k, None), lambda op, k, r, g: (7.0 * k * g,))
    close(wg.grad(lambda x: np.sum(g(np.sin, x, 2.0)))(X), np.full(3, 14.0))
    close(wg.jvp(lambda x: g(np.sin, x, 2.0), (X,), (Y,))[1], 14 * Y)
    with pytest.raises(wg.errors.UnsupportedError, match="nondiff_argnums"):
        wg.grad(lambda k: np.sum(g(np.sin, X, k)))(2.0)


def test_methods(close):
    class Layer:
        scale = 3.0

        @wg.custom_jvp
        def f(self, x):
            return self.scale * x

    Layer.f.defjvp(lambda p, t: (p[0].scale * p[1], 10 * t[1]))
    close(wg.grad(lambda x: np.sum(Layer().f(x)))(X), np.full(3, 10.0))


def test_several_outputs(close):
    f = wg.custom_vjp(lambda x: (x * 2, x * 3))
    f.defvjp(lambda x: ((x * 2, x * 3), None), lambda r, g: (2 * g[0] + 3 * g[1],))
    close(wg.grad(lambda x: np.sum(f(x)[1] * Y))(X), 3 * Y)
    close(wg.grad(lambda x: np.sum(f(x)[0] * f(x)[1]))(X), 12 * X)
    close(wg.jvp(lambda x: f(x)[1], (X,), (Y,))[1], 3 * Y)
    close(wg.vmap(wg.grad(lambda x: f(x)[1] ** 2))(X), 18 * X)  # one output is not used
    close(wg.vmap(wg.vmap(wg.grad(lambda x: f(x)[1] ** 2)))(X[None]), 18 * X[None])


def test_single_precision_and_complex():
    f = from_vjp()
    x, y = X.astype("f4"), Y.astype("f4")
    assert wg.grad(lambda x: np.sum(f(x, y)))(x).dtype == np.float32
    assert wg.jvp(f, (x, y), (x, y))[1].dtype == np.float32
    z = wg.custom_jvp(lambda z: z * z)
    z.defjvp(lambda p, t: (p[0] * p[0], 2 * p[0] * t[0]))
    at = np.array([1 + 2j, 0.5 - 1j])
    got, want = (wg.vjp(h, at)[1](at.conj())[0] for h in (z, lambda z: z * z))
    np.testing.assert_allclose(got, want)


# ------------------------------------------------------------------ nothing goes wrong in silence


def test_closed_over_values():
    def outer(w):
        f = wg.custom_vjp(lambda x: x * w)
        f.defvjp(lambda x: (x * w, None), lambda r, g: (g * w,))
        return f

    with pytest.raises(wg.errors.UnsupportedError, match="pass the value as an argument"):
        wg.grad(lambda w: np.sum(outer(w)(w)))(X)
    with pytest.raises(wg.errors.UnsupportedError, match="pass the value as an argument"):
        wg.grad(lambda x: np.sum(wg.grad(lambda w: np.sum(outer(x)(w)))(Y)))(X)
    np.testing.assert_allclose(wg.grad(lambda w: np.sum(outer(wg.stop_gradient(w))(w)))(X), X)


def test_closed_over_residuals():
    def loss(w):
        f = wg.custom_vjp(lambda x: x * 2)
        f.defvjp(lambda x: (x * 2, w), lambda w, g: (g * w,))
        return np.sum(f(w))

    with pytest.raises(wg.errors.UnsupportedError):
        wg.grad(loss)(X)


def test_rules_that_disagree():
    f = from_both()
    f.defjvp(lambda p, t: (product(*p), 1.001 * product_rule(p, t)[1]))
    with pytest.raises(wg.errors.ArgumentError, match=r"<gy, J dx> is not <J\^T gy, dx>"):
        wg.grad(lambda x: np.sum(f(x, Y)))(X)
    with pytest.raises(wg.errors.ArgumentError, match="disagree"):
        f.check(X, Y)
    from_both().check(X, Y)
    f = wg.custom_vjp(product)
    f.defvjp(lambda x, y: (product(x, y) * 1.01, product_fwd(x, y)[1]), product_bwd)
    with pytest.raises(wg.errors.ArgumentError, match="different values"):
        f.check(X, Y)


def test_a_rule_that_is_not_linear():
    f = wg.custom_jvp(lambda x: x)
    f.defjvp(lambda p, t: (p[0], t[0] + 1.0))
    with pytest.raises(wg.errors.ArgumentError, match="not linear"):
        wg.grad(lambda x: np.sum(f(x)))(X)


def test_wrong_shapes_and_structures():
    f = wg.custom_vjp(lambda x, y: x * np.sum(y))
    f.defvjp(lambda x, y: (x * np.sum(y), (x, y)), lambda r, g: (g * np.sum(r[1]), np.sum(g)))
    with pytest.raises(wg.errors.ShapeError, match="cotangent has the shape"):
        wg.grad(lambda x: np.sum(f(x, x)))(X)
    f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], g * r[0]))
    with pytest.raises(wg.errors.ShapeError, match=r"sum its cotangent over axes \(0,\)"):
        wg.grad(lambda x: np.sum(f(x, X)))(2.0)
    f.defvjp(lambda x, y: (x * np.sum(y), None), lambda r, g: (g,))
    with pytest.raises(wg.errors.ShapeError, match="structure"):
        wg.grad(lambda x: np.sum(f(x, x)))(X)
    f.defvjp(lambda x, y: x, lambda r, g: (g,))
    with pytest.raises(wg.errors.ArgumentError, match="pair"):
        wg.grad(lambda x: np.sum(f(x, x)))(X)
    h = wg.custom_jvp(lambda x: np.sum(x))
    h.defjvp(lambda p, t: (np.sum(p[0]), t[0]))
    with pytest.raises(wg.errors.ShapeError, match="tangent has the shape"):
        wg.jvp(h, (X,), (X,))


def test_no_rule():
    with pytest.raises(wg.errors.UnsupportedError, match="no rule was given"):
        wg.grad(wg.custom_jvp(lambda x: x))(1.0)
    assert wg.custom_jvp(lambda x: x)(1.0) == 1.0


def test_buffers():
    """A buffer handed out twice, an argument written later, a residual written later."""
    buffer = np.empty(3)

    def doubled(x):
        np.multiply(x, 2, out=buffer)
        return buffer

    f = wg.custom_vjp(doubled)
    f.defvjp(lambda x: (doubled(x), None), lambda r, g: (2 * g,))
    a, b = wg.tensor(X, requires_grad=True), wg.tensor(Y, requires_grad=True)
    u, v = f(a), f(b)
    np.testing.assert_allclose(u.numpy(), 2 * X)
    np.testing.assert_allclose(v.numpy(), 2 * Y)

    w, f = Y.copy(), from_vjp()
    t = wg.tensor(X, requires_grad=True)
    out = f(t, w).sum()
    w[:] = 0
    out.backward()
    np.testing.assert_allclose(t.grad.numpy(), np.cos(X) * Y)

    t = wg.tensor(X, requires_grad=True)
    s = t * 1.0
    out = f(s, Y).sum()
    s[:] = 0.0
    out.backward()
    np.testing.assert_allclose(t.grad.numpy(), np.cos(X) * Y)


def test_the_function_cannot_write_its_arguments():
    def f(x):
        x += 1
        return x

    g = wg.custom_vjp(f)
    g.defvjp(lambda x: (f(x), None), lambda r, g: (g,))
    with pytest.raises(ValueError, match="read-only"):
        g(wg.tensor(X, requires_grad=True))


def test_residuals_are_freed_by_the_sweep():
    class Big(np.ndarray):
        pass

    seen = []

    def fwd(x):
        big = np.zeros(10).view(Big)
        seen.append(weakref.ref(big))
        return x * 2, big

    f = wg.custom_vjp(lambda x: x * 2)
    f.defvjp(fwd, lambda r, g: (g * 2,))
    t = wg.tensor(X, requires_grad=True)
    y = f(t)
    out = y.sum()
    assert seen[0]() is not None
    out.backward()
    gc.collect()
    assert seen[0]() is None
    assert y is not None


def test_nothing_is_kept_where_nothing_is_recorded():
    calls = []
    f = wg.custom_vjp(lambda x: x * 2)
    f.defvjp(lambda x: calls.append(1) or (x * 2, None), lambda r, g: (g * 2,))
    f(X)
    f(wg.tensor(X))
    with wg.no_grad():
        f(wg.tensor(X) * 2)
    assert not calls


def test_stop_gradient(close):
    def f(x):
        c = wg.stop_gradient({"a": x * 2, "b": [x, 3]})
        return np.sum(x * c["a"] + c["b"][0] * c["b"][1])

    close(wg.grad(f)(X), 2 * X)
    close(wg.jvp(f, (X,), (Y,))[1], np.sum(2 * X * Y))
    close(wg.vmap(wg.grad(f))(X), 2 * X)
    close(wg.grad(lambda x: np.sum(wg.vmap(f)(x)))(X), 2 * X)
    close(wg.grad(wg.grad(lambda x: x**3 * wg.stop_gradient(x)))(2.0), 6 * 4.0)


# ------------------------------------------------------------------ the straight-through estimator


def by_custom_vjp(x):
    return _round(x)


_round = wg.custom_vjp(lambda x: np.round(x))
_round.defvjp(lambda x: (np.round(x), None), lambda r, g: (g,))


def by_stop_gradient(x):
    return x + wg.stop_gradient(np.round(x) - x)


@pytest.mark.parametrize("f", [by_custom_vjp, by_stop_gradient])
def test_straight_through(f, close):
    x = np.array([0.2, 0.7, 1.6])
    close(f(x), np.round(x))
    close(wg.grad(lambda x: np.sum(f(x) ** 2))(x), 2 * np.round(x))
    close(wg.jvp(f, (x,), (X,))[1], X)
    close(wg.vmap(wg.grad(lambda x: f(x) ** 2))(x), 2 * np.round(x))


@pytest.mark.parametrize("make", [from_jvp, from_vjp])
def test_checkpoint(make, close):
    f = make()

    def loss(x, wrap):
        return np.sum(wrap(lambda x: f(x, f(x, Y)))(x) ** 2)

    for d in (wg.grad, wg.hessian):
        close(d(lambda x: loss(x, wg.checkpoint))(X), d(lambda x: loss(x, lambda g: g))(X))


def test_residuals_go_through_the_hooks(close):
    """Whoever packs what the tape keeps is given the residuals of a rule, too."""
    seen = []
    f = from_vjp()
    t = wg.tensor(X, requires_grad=True)
    with wg.saved_tensors_hooks(lambda a: seen.append(np.asarray(a)) or a, lambda a: a):
        y = f(t, Y).sum()
    y.backward()
    assert any(a.shape == X.shape and np.array_equal(a, np.cos(X)) for a in seen)
    close(t.grad, np.cos(X) * Y)


def crooked(bwd):
    @wg.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: (x, None), lambda _, g: (bwd(g),))
    return f


ONE_MODE = {
    "clip": lambda g: np.clip(g, -1, 1),
    "sign": np.sign,
    "unit": lambda g: g / np.sqrt(np.sum(g * g)),
    "square": lambda g: g * g,
    "plain sign": lambda g: np.sign(np.asarray([float(v) for v in g])),
}


@pytest.mark.parametrize("bwd", ONE_MODE.values(), ids=ONE_MODE)
def test_a_cotangent_map_that_is_not_linear_serves_reverse_mode_alone(bwd):
    """Clipped or normalised cotangents are taken as they are; a transpose there is none."""
    x, lanes = np.array([0.1, 3.0]), np.array([[0.1, 3.0], [2.0, -1.0]])

    def loss(f):
        return lambda x: np.sum(f(x) ** 2)

    g = bwd(2 * x)
    assert np.array_equal(wg.grad(loss(crooked(bwd)))(x), g)
    stacked = wg.vmap(wg.grad(loss(crooked(bwd))))(lanes)
    assert np.array_equal(stacked, [bwd(2 * r) for r in lanes])
    for forward in (
        lambda f: wg.jvp(f, (x,), (x,)),
        lambda f: wg.jvp(loss(f), (0.01 * x,), (x,)),
        lambda f: wg.linearize(loss(f), x)[1](x),
        lambda f: wg.jacfwd(f)(x),
        lambda f: wg.vmap(lambda r: wg.jvp(f, (r,), (r,))[1])(lanes),
        lambda f: wg.hessian(loss(f))(x),
    ):
        with pytest.raises(wg.errors.ArgumentError, match="not linear"):
            forward(crooked(bwd))


def test_a_linear_cotangent_map_serves_both_modes(close):
    """Also one that differs from lane to lane, and one that gives nothing."""
    x = np.array([0.1, 3.0])

    @wg.custom_vjp
    def f(x, y):
        return x * y

    f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], None))
    lanes = np.stack([x, 2 * x, -x])
    got = wg.vmap(lambda a: wg.jvp(lambda a: f(a, a), (a,), (x,))[1])(lanes)
    close(got, lanes * x)
    close(wg.linearize(lambda a: f(a, x), x)[1](x), x * x)
