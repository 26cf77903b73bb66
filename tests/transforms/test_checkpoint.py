"""A checkpointed function is the function: its value, its derivatives, what it draws and writes."""

import gc
import threading
import weakref

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ReplayError, UnsupportedError

X = np.random.default_rng(0).normal(size=(3, 4))
W = np.random.default_rng(1).normal(size=(4, 4))


def f(x, w):
    h = np.tanh(x @ w)
    return np.sum(h * np.exp(x) + np.sin(h) / 3)


def counted(f):
    def g(*args, **kwargs):
        g.calls += 1
        return f(*args, **kwargs)

    g.calls = 0
    return g


def same(a, b):
    a, b = wg.tree.leaves(a), wg.tree.leaves(b)
    assert len(a) == len(b)
    for p, q in zip(a, b):
        p, q = (v.numpy() if isinstance(v, wg.Tensor) else v for v in (p, q))
        assert np.array_equal(p, q), (p, q)


def leaves(*arrays):
    return [wg.tensor(a, requires_grad=True) for a in arrays]


def test_gradient_value_and_how_often_it_runs():
    g = counted(f)
    x, w = leaves(X, W)
    y = wg.checkpoint(g)(x, w)
    assert y.item() == f(X, W)
    assert g.calls == 1
    y.backward()
    assert g.calls == 2
    same((x.grad, w.grad), wg.grad(f, (0, 1))(X, W))


TRANSFORMS = {
    "grad": lambda f: wg.grad(f, (0, 1))(X, W),
    "jvp": lambda f: wg.jvp(lambda x: f(x, W), (X,), (X[::-1].copy(),)),
    "vmap": lambda f: wg.vmap(lambda x: f(x, W))(np.stack([X, 2 * X])),
    "hessian": lambda f: wg.hessian(lambda w: f(X, w))(W),
    "jacrev of jacfwd": lambda f: wg.jacrev(wg.jacfwd(lambda w: f(X, w)))(W),
    "hvp": lambda f: wg.hvp(lambda x: f(x, W), (X,), (X,)),
    "grad of grad": lambda f: wg.grad(lambda x: np.sum(wg.grad(f)(x, W) ** 2))(X),
    "third order, reverse": lambda f: wg.grad(
        lambda x: np.sum(wg.grad(lambda y: np.sum(wg.grad(f)(y, W) ** 2))(x) ** 2)
    )(X),
    "jvp of grad": lambda f: wg.jvp(lambda x: wg.grad(f)(x, W), (X,), (X,)),
    "grad of jvp": lambda f: wg.grad(lambda x: np.sum(wg.jvp(lambda y: f(y, W), (x,), (X,))[1]))(X),
    "vmap of grad": lambda f: wg.vmap(lambda x: wg.grad(f)(x, W))(np.stack([X, 2 * X])),
    "grad of vmap": lambda f: wg.grad(
        lambda x: np.sum(wg.vmap(lambda y: f(y, W))(np.stack([x, 2 * x])))
    )(X),
    "jvp of grad of vmap": lambda f: wg.jvp(
        wg.grad(lambda x: np.sum(wg.vmap(lambda y: f(y, W))(np.stack([x, 2 * x])) ** 2)),
        (X,),
        (X,),
    ),
    "vmap of jvp of grad": lambda f: wg.vmap(
        lambda x: wg.jvp(lambda y: wg.grad(f)(y, W), (x,), (X,))[1]
    )(np.stack([X, 2 * X])),
    "grad of hvp": lambda f: wg.grad(
        lambda x: np.sum(wg.hvp(lambda y: f(y, W), (x,), (X,))[0] ** 2)
    )(X),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform(name):
    g = counted(f)
    transform = TRANSFORMS[name]
    same(transform(wg.checkpoint(g)), transform(f))
    assert g.calls > 1 or name in ("jvp", "vmap")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_of_parts_within_parts(name):
    @wg.checkpoint
    def inner(x, w):
        return np.tanh(x @ w)

    @wg.checkpoint
    def outer(x, w):
        h = inner(x, w)
        return np.sum(h * np.exp(x) + wg.checkpoint(np.sin)(h) / 3)

    same(TRANSFORMS[name](outer), TRANSFORMS[name](f))


def test_create_graph_and_second_backward():
    def twice(f):
        x, w = leaves(X, W)
        f(x, w).backward(create_graph=True)
        (x.grad**2).sum().backward()
        return x.grad, w.grad

    same(twice(wg.checkpoint(f)), twice(f))


def test_backward_again_with_a_kept_graph():
    g = counted(f)
    x, w = leaves(X, W)
    y = wg.checkpoint(g)(x, w)
    y.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    y.backward()
    assert g.calls == 3
    assert np.array_equal(x.grad.numpy(), 2 * first)


def test_part_of_the_outputs():
    def pair(x, w):
        h = np.tanh(x @ w)
        return {"a": np.exp(h), "b": [np.sin(h) * x]}

    def loss(f):
        x, w = leaves(X, W)
        np.sum(f(x, w)["b"][0]).backward()
        return x.grad, w.grad

    same(loss(wg.checkpoint(pair)), loss(pair))


def test_keyword_arguments_and_pytrees():
    def g(p, *, scale=1.0, extra=None):
        return np.sum(np.tanh(p["x"] @ p["w"]) * scale * extra[0])

    def run(g):
        x, w, e = leaves(X, W, np.ones(4) * 0.3)
        g({"x": x, "w": w}, scale=2.5, extra=(e,)).backward()
        return x.grad, w.grad, e.grad

    same(run(wg.checkpoint(g)), run(g))


def test_as_a_decorator():
    @wg.checkpoint
    def g(x):
        """What it does."""
        return np.sin(x) ** 2

    @wg.checkpoint(policy=wg.checkpoint.policies.everything)
    def h(x):
        return np.sin(x) ** 2

    assert g.__name__ == "g"
    assert g.__doc__ == "What it does."
    same(wg.grad(g)(0.5), wg.grad(h)(0.5))


# ------------------------------------------------------------------ random state


def test_the_default_stream_is_drawn_again_and_not_disturbed():
    def noisy(x):
        return np.sum(np.tanh(x * wg.random.default().normal(size=x.shape)) ** 2)

    def run(f):
        wg.random.seed(3)
        (x,) = leaves(X)
        y = f(x)
        between = wg.random.default().random()
        y.backward()
        return x.grad, y, between, wg.random.default().random()

    same(run(wg.checkpoint(noisy)), run(noisy))


@pytest.mark.parametrize("where", ["closure", "argument", "attribute", "default", "global numpy",
                                   "plain", "legacy"])  # fmt: skip
def test_streams_are_found(where):
    import random

    def make():
        rng = np.random.default_rng(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)

        class Net:
            def __init__(self):
                self.rng = rng

            def forward(self, x):
                return np.sum(np.exp(x * self.rng.normal(size=x.shape)))

        old = np.random.RandomState(5)
        return {
            "closure": lambda x: np.sum(np.exp(x * rng.normal(size=x.shape))),
            "argument": lambda x, r=None: np.sum(np.exp(x * r.normal(size=x.shape))),
            "attribute": Net().forward,
            "default": lambda x, r=rng: np.sum(np.exp(x * r.normal(size=x.shape))),
            "global numpy": lambda x: np.sum(np.exp(x * np.random.normal(size=x.shape))),  # noqa: NPY002
            "plain": lambda x: np.sum(np.exp(x * random.random())),
            "legacy": lambda x: np.sum(np.exp(x * old.normal(size=x.shape))),
        }[where], rng

    def run(wrap):
        g, rng = make()
        (x,) = leaves(X)
        (wrap(g)(x, r=rng) if where == "argument" else wrap(g)(x)).backward()
        return x.grad, rng.random(), random.random(), np.random.random()  # noqa: NPY002

    same(run(wg.checkpoint), run(lambda g: g))


def test_a_stream_that_nobody_knows_of_is_refused():
    class Hidden:
        __slots__ = ("rng",)

        def __init__(self):
            self.rng = np.random.default_rng(0)

    hidden = Hidden()

    @wg.checkpoint
    def noisy(x):
        return np.sum(np.exp(x * hidden.rng.normal(size=x.shape)))

    (x,) = leaves(X)
    y = noisy(x)
    with pytest.raises(ReplayError, match=r"differs from run to run[\s\S]*in noisy"):
        y.backward()


def test_an_array_from_outside_that_changed_is_refused():
    table = np.ones((3, 4))

    @wg.checkpoint
    def g(x):
        return np.sum(np.exp(x * table))

    (x,) = leaves(X)
    y = g(x)
    table += 1
    with pytest.raises(ReplayError, match=r"has changed since[\s\S]*in g") as e:
        y.backward(retain_graph=True)
    assert "a of mul" in str(e.value) or "y of exp" in str(e.value) or "b of mul" in str(e.value)
    table -= 1
    y.backward()  # nothing was lost: the same values give the gradient
    same(x.grad, np.exp(X))


def test_another_path_is_refused():
    switch = [True]

    @wg.checkpoint
    def g(x):
        return np.sum(np.exp(x) if switch[0] else np.sin(x) * x)

    (x,) = leaves(X)
    y = g(x)
    switch[0] = False
    with pytest.raises(ReplayError, match="took another path"):
        y.backward()


# ------------------------------------------------------------------ the rest


def test_hooks_on_values_inside_see_each_gradient_once():
    seen = []

    @wg.checkpoint
    def g(x):
        h = np.sin(x)
        h.register_hook(lambda gy: seen.append(gy))
        return np.sum(np.exp(h))

    (x,) = leaves(X)
    if not hasattr(x, "register_hook"):
        pytest.skip("no hooks yet")
    g(x).backward()
    assert len(seen) == 1
    same(seen[0], np.exp(np.sin(X)))
    same(x.grad, np.exp(np.sin(X)) * np.cos(X))


def test_a_hook_on_a_parameter_that_is_hung_inside_stays_one():
    seen = []
    x, w = leaves(X, W)
    w.register_hook(lambda gy: seen.append("before"))

    @wg.checkpoint
    def g(x):
        w.register_hook(lambda gy: seen.append("inside"))
        return np.sum(np.exp(x @ w))

    g(x).backward()
    seen.clear()
    np.sum(w * 2.0).backward()
    assert seen == ["before", "inside"]


def test_backward_inside():
    def g(x):
        (inner,) = leaves(X)
        np.sum(np.sin(inner) ** 3).backward()
        return np.sum(np.exp(x) * inner.grad) + np.sum(wg.grad(lambda z: np.sum(z**3))(x) * x)

    def run(f):
        (x,) = leaves(X)
        f(x).backward()
        return x.grad

    same(run(wg.checkpoint(g)), run(g))


def test_no_grad_and_conventions_are_those_of_the_first_run():
    def g(x):
        with wg.no_grad():
            scale = np.sum(np.exp(x))
        return np.sum(np.abs(x) * np.sin(x)) / scale

    x0 = np.array([0.0, 1.0])

    def run(f):
        (x,) = leaves(x0)
        with wg.conventions(kinks="nan"):
            y = f(x)
        with wg.no_grad():
            y.backward()
        return np.nan_to_num(x.grad.numpy(), nan=-9)

    same(run(wg.checkpoint(g)), run(g))
    assert run(g)[0] == -9


def test_an_exception_inside_leaves_everything_as_it_was():
    armed = [False]

    @wg.checkpoint
    def g(x):
        y = np.exp(x)
        if armed[0]:
            raise ZeroDivisionError("armed")
        return np.sum(np.sin(y) * y)

    (x,) = leaves(X)
    y = g(x)
    state = wg.random.get_state()
    modes = wg.trace.MODES
    armed[0] = True
    with pytest.raises(ZeroDivisionError, match="armed"):
        y.backward(retain_graph=True)
    with pytest.raises(ZeroDivisionError, match="armed"):
        g(x)
    assert modes == wg.trace.MODES
    assert str(wg.random.get_state()) == str(state)
    assert not wg.trace.HERE.__dict__.get("packers")
    armed[0] = False
    z = g(x)
    z.backward()
    same(x.grad, wg.grad(g.__wrapped__)(X))


def test_threads():
    want = wg.grad(f, (0, 1))(X, W)
    failures = []

    def work():
        try:
            for _ in range(20):
                x, w = leaves(X, W)
                y = wg.checkpoint(f)(x, w)
                y.backward()
                same((x.grad, w.grad), want)
        except Exception as e:
            failures.append(e)

    x, w = leaves(X, W)
    z = wg.checkpoint(f)(x, w)
    threads = [threading.Thread(target=work) for _ in range(4)]
    threads.append(threading.Thread(target=z.backward))
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    same((x.grad, w.grad), want)


def test_generators_are_refused():
    def pieces(x):
        yield x

    async def later(x):
        return x

    for g in (pieces, later):
        with pytest.raises(UnsupportedError, match="runs in pieces"):
            wg.checkpoint(g)
    with pytest.raises(wg.errors.ArgumentError):
        wg.checkpoint(3)


def test_nothing_is_held():
    """Between the two runs only the inputs live; afterwards nothing, without the collector."""
    gc.disable()
    try:
        made = []

        def g(x):
            h = np.exp(x)
            made.append(weakref.ref(h.data))
            return np.sum(np.sin(h) * h)

        (x,) = leaves(X)
        y = wg.checkpoint(g)(x)
        assert made[0]() is None
        y.backward()
        assert made[1]() is None
        frame = weakref.ref(x)
        del x, y
        assert frame() is None
    finally:
        gc.enable()


def test_under_staging_it_is_the_function():
    from wengert.transforms.staging import stage

    assert str(stage(wg.checkpoint(f), X, W)) == str(stage(f, X, W))


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, np.complex128, np.int8, bool]
)
@pytest.mark.parametrize("n", [1, 7, 1000, 40_001])
def test_a_fingerprint_sees_a_bit_and_a_place(n, dtype):
    from wengert.transforms.replay import fingerprint

    a = np.random.default_rng(n).normal(size=n).astype(dtype)
    code = fingerprint(a)
    assert code == fingerprint(a.copy())
    for at in {0, n // 2, n - 1}:
        b = a.copy()
        b.view(np.uint8)[at * a.itemsize] ^= 1
        assert fingerprint(b) != code
    if n > 7 and dtype not in (bool, np.int8):
        for b in (a[::-1].copy(), np.roll(a, 1), np.roll(a, 512), np.random.permutation(a)):  # noqa: NPY002
            assert fingerprint(b) != code
        table = a[:1000].reshape(20, 50)
        assert fingerprint(table.T) == fingerprint(table)  # the same memory
        assert fingerprint(table[:, ::2]) == fingerprint(table[:, ::2].copy())


def test_modules_stay_modules():
    block = nn.Sequential(nn.Linear(4, 4, rng=0, dtype=np.float64), nn.Tanh())
    model = nn.Sequential(wg.checkpoint(block), nn.Linear(4, 1, rng=1, dtype=np.float64))
    plain = nn.Sequential(block, model[1])
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert isinstance(model[0], nn.Sequential)
    assert repr(model) == repr(plain)

    def run(m):
        m.zero_grad()
        np.sum(m(X) ** 2).backward()
        return [p.grad.numpy().copy() for p in m.parameters()]

    same(run(model), run(plain))
    same(wg.grad(lambda m: np.sum(m(X) ** 2))(model), wg.grad(lambda m: np.sum(m(X) ** 2))(plain))
