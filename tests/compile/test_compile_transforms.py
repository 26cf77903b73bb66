"""Transforms inside compiled functions, and compiled functions inside transforms."""

import warnings

import numpy as np
import pytest
from calls import BACKENDS, near, programs

import wengert as wg
from wengert import nn
from wengert.errors import CompileWarning

pytestmark = pytest.mark.parametrize("backend", BACKENDS)
X = np.linspace(0.1, 1.2, 6).reshape(2, 3)
V = np.cos(3 * X)
A = np.linspace(-1, 1, 9).reshape(3, 3)
STOP = wg.stop_gradient


def energy(x):
    return np.sum(np.tanh(x @ A) * x)


def layer(x):
    return np.tanh(x @ A)


def row(r):
    return np.sum(np.tanh(r @ A))


doubled = wg.custom_vjp(lambda x: np.sin(x))
doubled.defvjp(lambda x: (np.sin(x), x), lambda x, g: (g * np.cos(x) * 2,))
tripled = wg.custom_jvp(lambda x: np.sin(x))
tripled.defjvp(lambda p, t: (np.sin(p[0]), 3 * np.cos(p[0]) * t[0]))


class Scaled(wg.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * 2

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * a * 100


def inner_gradients(x):
    w = wg.tensor(np.ones((2, 3)), requires_grad=True)
    y = np.sum(np.tanh(w * x) ** 2)
    (g,) = wg.autograd.grad(y, [w], create_graph=True)
    (h,) = wg.autograd.grad(np.sum(g * g), [w])
    return g.detach(), h


def split(x):
    y, pull = wg.vjp(layer, x)
    z, push = wg.linearize(energy, x)
    return y, pull(np.ones((2, 3))), z, push(V)


INSIDE = {
    "grad": lambda x: wg.grad(energy)(x),
    "value_and_grad": lambda x: wg.value_and_grad(energy)(x),
    "vmap": lambda x: wg.vmap(lambda r: np.tanh(r @ A))(x),
    "vmap of grad": lambda x: wg.vmap(wg.grad(row))(x),
    "hvp": lambda x: wg.hvp(energy, x, V),
    "jacobian": lambda x: wg.jacobian(layer)(x),
    "jacfwd": lambda x: wg.jacfwd(layer)(x),
    "hessian": lambda x: wg.hessian(energy)(x),
    "jvp": lambda x: wg.jvp(energy, (x,), (V,)),
    "vjp and linearize": split,
    "checkpoint": lambda x: wg.grad(wg.checkpoint(energy))(x),
    "cond": lambda x: wg.cond(np.sum(x) > 0, lambda x: x * 2, lambda x: x * 3, x),
    "cond of grad": lambda x: wg.grad(
        lambda x: np.sum(wg.cond(np.sum(x) > 0, lambda x: x * x, lambda x: x * 3, x))
    )(x),
    "scan": lambda x: wg.scan(lambda c, r: (c * np.sum(r) + 1, c), 1.0, x),
    "scan of grad": lambda x: wg.grad(
        lambda x: wg.scan(lambda c, r: (c * np.sum(r) + 1, c), 1.0, x)[0]
    )(x),
    "fori_loop": lambda x: wg.fori_loop(0, 3, lambda i, c: np.sin(c) * i, x),
    "custom_vjp": lambda x: wg.grad(lambda x: np.sum(doubled(x)))(x),
    "custom_jvp": lambda x: wg.grad(lambda x: np.sum(tripled(x)))(x),
    "Function": lambda x: wg.grad(lambda x: Scaled.apply(x).sum())(x),
    "stop_gradient": lambda x: wg.grad(lambda x: np.sum(x * STOP(x)))(x),
    "autograd.grad": inner_gradients,
    "third": lambda x: wg.grad(lambda x: np.sum(wg.hvp(energy, x, V) * V))(x),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_inside(name, backend):
    f = INSIDE[name]
    g = wg.compile(f, backend=backend)
    for x in (X, X[::-1] * 0.5):
        near(f(x), g(x), rtol=1e-11)
    assert programs(g) == 1


def test_a_loop_of_unknown_length_runs_uncompiled(backend):
    def f(x):
        return wg.while_loop(lambda c: np.sum(c) < 50, lambda c: c * 2, x)

    g = wg.compile(f, backend=backend)
    with pytest.warns(CompileWarning, match="the condition has no value"):
        near(f(X), g(X))
    near(f(X), g(X))


ABOUT = {
    "grad": lambda f: wg.grad(f)(X),
    "value_and_grad": lambda f: wg.value_and_grad(f)(X),
    "jvp": lambda f: wg.jvp(f, (X,), (V,)),
    "vjp": lambda f: (lambda y, pull: (y, pull(1.0)))(*wg.vjp(f, X)),
    "linearize": lambda f: (lambda y, push: (y, push(V)))(*wg.linearize(f, X)),
    "hessian": lambda f: wg.hessian(f)(X),
    "hvp": lambda f: wg.hvp(f, X, V),
    "jvp of grad": lambda f: wg.jvp(wg.grad(f), (X,), (V,)),
    "grad of jvp": lambda f: wg.grad(lambda x: wg.jvp(f, (x,), (V,))[1])(X),
    "jvp of jvp": lambda f: wg.jvp(lambda x: wg.jvp(f, (x,), (V,))[1], (X,), (V,)),
    "third by hvp": lambda f: wg.grad(lambda x: np.sum(wg.hvp(f, x, V) * V))(X),
    "third by grad": lambda f: wg.grad(
        lambda x: np.sum(wg.grad(lambda x: np.sum(wg.grad(f)(x) * V))(x) * V)
    )(X),
    "third by jvp": lambda f: wg.jvp(
        lambda x: wg.grad(lambda x: np.sum(wg.grad(f)(x) * V))(x), (X,), (V,)
    ),
    "checkpoint": lambda f: wg.grad(wg.checkpoint(f))(X),
    "vmap": lambda f: wg.vmap(f)(np.stack([X, 2 * X, V])),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f))(np.stack([X, 2 * X, V])),
    "grad of vmap": lambda f: wg.grad(lambda x: np.sum(wg.vmap(f)(x)))(np.stack([X, V])),
    "grad of grad of vmap": lambda f: wg.hvp(
        lambda x: np.sum(wg.vmap(f)(x)), np.stack([X, V]), np.stack([V, X])
    ),
    "vmap of vmap": lambda f: wg.vmap(wg.vmap(f))(np.stack([np.stack([X, V])] * 2)),
    "compiled again": lambda f: wg.compile(wg.grad(f), backend="numpy")(X),
    "called by another": lambda f: wg.compile(
        lambda x: f(x) * 2 + f(x * 2), backend="numpy"
    )(X),
    "sum of two": lambda f: wg.grad(lambda x: f(x) * f(x * 2))(X),
}  # fmt: skip
WHAT = {
    "energy": energy,
    "stop_gradient": lambda x: np.sum(x**3 * STOP(x)),
    "custom_vjp": lambda x: np.sum(doubled(x @ A) * x),
    "custom_jvp": lambda x: np.sum(tripled(x @ A) * x),
    "grad inside": lambda x: np.sum(wg.grad(energy)(x) ** 2),
    "scan inside": lambda x: np.sum(wg.scan(lambda c, r: (c * r, c), x[0], x)[0]),
    "where": lambda x: np.sum(np.where(x > 0.5, np.sqrt(np.where(x > 0.5, x, 1.0)), x)),
    "norms": lambda x: np.linalg.norm(x) + np.sum(np.linalg.inv(np.eye(3) + x.T @ x)),
    "indexing": lambda x: np.sum(x[:, 0] ** 3 * x[1, 2] + np.sort(x, axis=1)[:, ::2].T[0]),
}  # fmt: skip


LONG = ("third", "hessian", "vmap of vmap", "grad of grad of vmap", "jvp of jvp", "sum of two")


def outside(slow):
    """The pairs that machine code is made for quickly, or all others."""
    return [
        (name, what) for name in ABOUT for what in WHAT
        if slow is (name.startswith(LONG) and what not in ("energy", "custom_vjp"))
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), outside(slow=True))
def test_outside_at_length(name, what, backend):
    test_outside(name, what, backend)


@pytest.mark.parametrize(("name", "what"), outside(slow=False))
def test_outside(name, what, backend):
    f, use = WHAT[what], ABOUT[name]
    g = wg.compile(f, backend=backend)
    near(use(f), use(g), rtol=1e-9)
    near(use(f), use(g), rtol=1e-9)
    assert not g.refused


def test_arguments_of_many_kinds(backend):
    def f(x, t, tree, n):
        return np.sum(x * tree["w"]) * t + np.sum(tree["b"]) ** n

    g = wg.compile(f, backend=backend)
    args = (X, 0.5, {"w": V, "b": A}, 2)
    for argnums in (0, 1, 2, (0, 2), (1,)):
        near(wg.grad(f, argnums)(*args), wg.grad(g, argnums)(*args))


def test_float32_stays(backend):
    a = A.astype(np.float32)

    def f(x):
        return np.sum(np.tanh(x @ a) * x)

    x, g = X.astype(np.float32), wg.compile(f, backend=backend)
    near(wg.grad(f)(x), wg.grad(g)(x), rtol=1e-5)
    near(wg.hvp(f, x, x), wg.hvp(g, x, x), rtol=1e-4)


def test_complex_arguments(backend):
    def f(z):
        return np.sum(np.abs(z * z + 1))

    near(wg.grad(f)(X + 1j * V), wg.grad(wg.compile(f, backend=backend))(X + 1j * V))


# ------------------------------------------------------------------ the tape


def leaf(x=X):
    return wg.tensor(np.array(x), requires_grad=True)


def run_twice(f, use):
    return use(f, leaf(), leaf(A))


def accumulates(f, t, w):
    for k in range(3):
        f(t * k, w).backward()
    return t.grad, w.grad


def structured(f, t, w):
    y = {"a": f(t, w), "b": (f(2 * t, w), t)}
    (y["a"] * y["b"][0] + np.sum(y["b"][1])).backward()
    return t.grad, w.grad


def quiet(f, t, w):
    with wg.no_grad():
        a = f(t, w)
    b = f(t, w)
    b.backward()
    return a, a.requires_grad, t.grad


def twice_through(f, t, w):
    y = f(t, w)
    y.backward(retain_graph=True)
    y.backward()
    return t.grad, w.grad


def second_order(f, t, w):
    g, h = wg.autograd.grad(f(t, w), [t, w], create_graph=True)
    (np.sum(g * g) + np.sum(h)).backward()
    return t.grad, w.grad


def hooked(f, t, w):
    y = f(t * 2, w)
    y.register_hook(lambda g: g * 10)
    y.backward()
    return t.grad


def mixed(f, t, w):
    def loss(x):
        return f(x, w) * 2

    g = wg.grad(loss)(X)
    f(t, w).backward()
    return g, t.grad, w.grad


@pytest.mark.parametrize(
    "use", [accumulates, structured, quiet, twice_through, second_order, hooked, mixed]
)
@pytest.mark.parametrize("closed", [False, True])
def test_on_the_tape(use, closed, backend):
    def f(x, w):
        return np.sum(np.tanh(x @ w) * x)

    def compiled():
        if not closed:
            return wg.compile(f, backend=backend)
        made = {}

        def call(x, w):
            if id(w) not in made:
                made[id(w)] = w, wg.compile(lambda x: f(x, w), backend=backend)
            return made[id(w)][1](x)

        return call

    near(run_twice(f, use), run_twice(compiled(), use), rtol=1e-10)


def test_a_graph_that_was_freed(backend):
    g = wg.compile(energy, backend=backend)
    y = g(leaf())
    y.backward()
    with pytest.raises(wg.errors.FreedError):
        y.backward()


def cut_by_no_grad(w):
    with wg.no_grad():
        a = w * 2
    return np.sum(a * w * V)


def straight_through(w):
    return np.sum(((np.round(w) - w).detach() + w) * V)


def inner_backward(w):
    u = leaf(V)
    np.sum(u * w).backward()
    return np.sum(u.grad * w)


def penalty(w):
    (g,) = wg.autograd.grad(np.sum(np.tanh(w * V)), [w], create_graph=True)
    return np.sum(g * g)


def constant_gradient(w):
    (g,) = wg.autograd.grad(np.sum(np.tanh(w * V)), [w])
    return np.sum(g * w)


def masked_write(w):
    y = w * 1.0
    y[0] = V[0] ** 2
    return np.sum(np.where(y > 0.5, np.sqrt(np.abs(y)), 0.0) * V)


def in_place(w):
    y = V * w
    y *= y
    y[0] = 0
    return np.sum(y)


def recorded_and_not(w):
    with wg.no_grad():
        a = w * 3
    return w * 2, a, np.argmax(w), w.detach() * 2


CUT = {
    "no_grad": cut_by_no_grad, "straight through": straight_through,
    "inner backward": inner_backward, "penalty": penalty, "constant gradient": constant_gradient,
    "in place": in_place, "masked write": masked_write,
    "detached": lambda w: np.sum(w.detach() * w),
    "Function": lambda w: np.sum(Scaled.apply(w * V)),
    "custom": lambda w: np.sum(doubled(w * V) + tripled(w)),
    "checkpoint": lambda w: wg.checkpoint(lambda t: np.sum(np.tanh(t * w)))(V),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("closed", [False, True])
def test_what_is_cut_off_or_has_rules_of_its_own_keeps_them(name, closed, backend):
    f, results = CUT[name], []
    for compiled in (False, True):
        w = leaf()
        g = (lambda w=w: f(w)) if closed else f
        g = wg.compile(g, backend=backend) if compiled else g
        out = []
        for _ in range(2):
            w.grad = None
            y = g() if closed else g(w)
            y.backward()
            out.append([y.detach(), w.grad])
        results.append(out)
    near(*results)


def test_results_are_recorded_one_by_one(backend):
    w = leaf()
    g = wg.compile(lambda: recorded_and_not(w), backend=backend)
    for _ in range(2):
        near(recorded_and_not(w), g())
    h = wg.compile(recorded_and_not, backend=backend)
    near(recorded_and_not(w), h(w))


def test_a_hook_inside_means_that_the_function_is_differentiated_itself(backend):
    def f(w):
        y = w * V
        y.register_hook(lambda g: g * 10)
        return np.sum(y)

    g, results = wg.compile(f, backend=backend), []
    for h in (f, g):
        w = leaf()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                h(w).backward()
        results.append(w.grad)
    near(*results)
    assert len(caught) == 1
    assert "a hook waits for a gradient" in str(caught[0].message)


# ------------------------------------------------------------------ memory kept


def deep(x, w):
    for _ in range(8):
        x = np.tanh(x @ w)
    return np.sum(x)


@pytest.mark.parametrize("budget", [None, "40KB", 20_000, 0])
def test_a_budget_for_what_is_kept(budget, backend):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(32, 16)), rng.normal(size=(16, 16)) / 4
    g = wg.compile(deep, backend=backend, budget=budget)
    near(wg.grad(deep, (0, 1))(x, w), wg.grad(g, (0, 1))(x, w), rtol=1e-9)
    t = wg.tensor(x, requires_grad=True)
    g(t, w).backward()
    near(wg.grad(deep)(x, w), np.asarray(t.grad), rtol=1e-9)
    for variants in g.variants.values():
        for v in variants:
            if v.law is not None and "halves" in v.law.made:
                kept = v.law.made["halves"][3]
                limit = {None: 8 * 32 * 16 * 8, "40KB": 40_000}.get(budget, budget)
                assert kept <= limit


def test_the_tape_keeps_what_was_chosen_and_no_more(backend):
    import tracemalloc

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(400, 100)), rng.normal(size=(100, 100)) / 10
    one = x.nbytes

    def kept(f):
        for _ in range(2):  # whatever is made once is made
            t = wg.tensor(x, requires_grad=True)
            f(t, w).backward()
        t = wg.tensor(x, requires_grad=True)
        tracemalloc.start()
        try:
            y = f(t, w)
            size = tracemalloc.get_traced_memory()[0]
            y.backward()
        finally:
            tracemalloc.stop()
        return size

    assert kept(deep) > 7.5 * one
    assert kept(wg.compile(deep, backend=backend)) < 9.5 * one
    assert kept(wg.compile(deep, backend=backend, budget=2 * one)) < 3 * one


def test_a_value_of_a_transform_that_is_closed_over(backend):
    def loss(w):
        g = wg.compile(lambda x: np.sum(np.tanh(x * w)), backend=backend)
        return g(X) + g(V)

    with pytest.warns(CompileWarning, match="reads a value from outside that is being"):
        near(
            wg.grad(lambda w: np.sum(np.tanh(X * w)) + np.sum(np.tanh(V * w)))(V), wg.grad(loss)(V)
        )
    kept = {}
    g = wg.compile(lambda x: np.sum(x * kept["w"]), backend=backend)

    def through(w):
        kept["w"] = w
        return g(X)

    with pytest.warns(CompileWarning, match="reads a value from outside"):
        near(X, wg.grad(through)(V))
    kept["w"] = V
    near(np.sum(X * V), g(X))
    near(np.sum(X * V), g(X))
    assert programs(g) == 1
    near(X, wg.grad(through)(V))


def test_a_module_that_is_differentiated_as_an_argument(backend):
    model, x = nn.Linear(3, 2, rng=0), X.astype(np.float32)

    def f(m):
        return np.sum(m(x) ** 2)

    g = wg.compile(f, backend=backend)
    with pytest.warns(CompileWarning, match="parameters of a module that it is given are"):
        got = wg.grad(g)(model)
    near(wg.tree.leaves(wg.grad(f)(model)), wg.tree.leaves(got), rtol=1e-5)
    for _ in range(5):
        wg.grad(g)(model)
    assert not g.variants
    h = wg.compile(wg.grad(f), backend=backend)
    near(wg.tree.leaves(wg.grad(f)(model)), wg.tree.leaves(h(model)), rtol=1e-5)


def test_external_code(backend):
    import math

    sine = wg.external(math.sin, vjp=lambda args, gy: (gy * math.cos(*args),))

    def f(x):
        return sine(x) * x

    g = wg.compile(f, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)
        for t in (0.5, 1.5):
            near(np.asarray(f(np.float64(t))), np.asarray(g(np.float64(t))))
            near(wg.grad(f)(t), wg.grad(g)(t))
            near(wg.grad(f)(t), wg.compile(wg.grad(f), backend=backend)(t))
