"""Nothing stale is used: whatever a function reads from outside may change between calls."""

import gc
import types
import warnings
import weakref

import numpy as np
import pytest
from calls import BACKENDS, all_variants, near, programs

import wengert as wg
from wengert import nn
from wengert.errors import CompileWarning

X = np.linspace(-1.0, 1.5, 6).reshape(2, 3)
SCALE = 2.0
CONFIG = {"scale": 2.0, "deep": {"shift": [1.0, 2.0]}, "array": np.ones(3)}
TABLE = np.arange(3.0)


class Settings:
    scale = 2.0
    __slots__ = ("shift",)

    def __init__(self):
        self.shift = 1.0


class Model:
    shared = 1.0

    def __init__(self):
        self.k, self.on, self.items = 2.0, True, [1.0, 2.0]
        self.inner = types.SimpleNamespace(k=3.0)

    def forward(self, x):
        y = x * self.k * self.inner.k + self.items[1] * self.shared
        return y if self.on else -y

    @property
    def double(self):
        return 2 * self.k


def module_of(text):
    module = types.ModuleType("of_the_test")
    exec(text, module.__dict__)
    return module


def helper(x):
    return x * SCALE


def by_global():
    return (lambda x: x * SCALE), [lambda: globals().update(SCALE=3.0)], "`SCALE`"


def by_global_of_a_helper():
    return (lambda x: helper(x) + 1), [lambda: globals().update(SCALE=5.0)], "`SCALE`"


def by_helper_redefined():
    space = {"helper": helper}
    exec("def f(x): return helper(x)", space)
    return space["f"], [lambda: space.update(helper=lambda x: x * 7)], "`helper`"


def by_builtin_shadowed():
    space = {}
    exec("def f(x): return x * abs(-2.0)", space)
    return space["f"], [lambda: space.update(abs=lambda v: 10.0)], "`abs`"


def by_item():
    return (
        lambda x: x * CONFIG["scale"] + CONFIG["deep"]["shift"][1],
        [lambda: CONFIG.update(scale=5.0), lambda: CONFIG["deep"]["shift"].__setitem__(1, 9.0),
         lambda: CONFIG["deep"].update(shift=[0.0, 0.5])],
        "`CONFIG[",
    )  # fmt: skip


def by_cell():
    k = 2.0

    def f(x):
        return x * k

    def change():
        nonlocal k
        k = 3.0

    return f, [change], "`k`"


def by_cell_of_an_inner_function():
    k = 2.0

    def inner(x):
        return x * k

    def change():
        nonlocal k
        k = 3.0

    return (lambda x: inner(x) + 1), [change], "`k`"


def by_attribute():
    m = Model()
    return (
        m.forward,
        [lambda: setattr(m, "k", 5.0), lambda: setattr(m, "on", False),
         lambda: setattr(m.inner, "k", 7.0), lambda: m.items.__setitem__(1, 4.0),
         lambda: setattr(m, "inner", types.SimpleNamespace(k=0.5)),
         lambda: setattr(Model, "shared", 3.0), lambda: setattr(m, "shared", 4.0)],
        "`self.k` has changed",
    )  # fmt: skip


def by_property():
    m = Model()
    return (lambda x: x * m.double), [lambda: setattr(m, "k", 5.0)], "`m.k`"


def by_slot_and_class():
    s = Settings()

    def change():
        Settings.scale = 6.0

    return (
        lambda x: x * s.scale + s.shift, [lambda: setattr(s, "shift", 4.0), change], "`s.shift`"
    )  # fmt: skip


def by_method_replaced():
    m = Model()

    def other(self, x):
        return x * 100

    return (
        lambda x: m.forward(x),
        [lambda: setattr(m, "forward", lambda x: x * 50),
         lambda: (delattr(m, "forward"), setattr(Model, "forward", other))],
        "`m.forward`",
    )  # fmt: skip


def by_module_attribute():
    module = module_of("SCALE = 2.0\ndef f(x): return x * SCALE")
    return (
        lambda x: module.f(x) + module.SCALE, [lambda: setattr(module, "SCALE", 4.0)], "SCALE`"
    )  # fmt: skip


def by_default():
    def f(x, k=2.0):
        return x * k

    return f, [lambda: setattr(f, "__defaults__", (4.0,))], ".f`"


def by_code():
    def f(x):
        return x * 2

    def g(x):
        return x * 3

    return f, [lambda: setattr(f, "__code__", g.__code__)], "f`"


def by_getattr():
    m = Model()
    return (lambda x: x * getattr(m, "".join(["k"]))), [lambda: setattr(m, "k", 9.0)], "`m.k`"


def by_set():
    words = {"a"}
    return (lambda x: x * (2 if "b" in words else 1)), [lambda: words.add("b")], "`words`"


def by_array():
    a, b, c = np.ones(3), np.arange(3.0), np.ones((4, 3))

    def f(x):
        return x * a + b[1] + c[2] * float(c[0, 0])

    return (
        f, [lambda: a.__iadd__(1), lambda: b.__setitem__(1, 7.0), lambda: c.__setitem__(0, 5.0),
            lambda: c.__setitem__(2, 3.0)], None,
    )  # fmt: skip


def by_array_replaced():
    return (lambda x: x * TABLE), [lambda: globals().update(TABLE=np.arange(3.0) + 5)], "`TABLE`"


def by_index():
    rows, column = np.array([0, 1]), wg.tensor(np.array([0, 1]))

    def f(x):
        return x[:, rows] + np.sum(wg.tensor(np.arange(6.0).reshape(2, 3))[:, column])

    return f, [lambda: rows.__setitem__(0, 2), lambda: column.__setitem__(0, 2)], None


def by_tensor():
    t, u = wg.tensor(0.5), wg.tensor(np.ones(3))
    v = u[1:]

    def f(x):
        return x * t + u + v[0]

    return (
        f, [lambda: t.__setitem__(..., 2.0), lambda: u.__setitem__(1, 4.0),
            lambda: v.__setitem__(0, 9.0), lambda: setattr(t, "data", np.array(5.0))], None,
    )  # fmt: skip


def by_tensor_of_another_shape():
    t = wg.tensor(np.ones(3))
    return (
        lambda x: np.sum(x * t) + np.sum(t * t),
        [lambda: setattr(t, "data", np.ones((2, 3))),
         lambda: setattr(t, "data", np.ones(4)[:3].astype(np.float32) * 2)], None,
    )  # fmt: skip


CASES = [v for k, v in list(globals().items()) if k.startswith("by_")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
def test_a_change_is_noticed(make, backend, monkeypatch):
    for space in (Model, Settings):
        for name, value in list(vars(space).items()):
            if not name.startswith("__") and name != "shift":
                monkeypatch.setattr(space, name, value)
    for name in ("SCALE", "TABLE"):
        monkeypatch.setitem(globals(), name, globals()[name])
    monkeypatch.setitem(globals(), "CONFIG", {"scale": 2.0, "deep": {"shift": [1.0, 2.0]}})
    f, changes, why = make()
    g = wg.compile(f, backend=backend)
    for change in [None, *changes]:
        if change is not None:
            before = g(X)
            change()
        for _ in range(3):
            near(f(X), g(X))
        if change is not None:
            changed = kinds(before) != kinds(f(X)) or np.any(plain(before) != plain(f(X)))
            assert changed, "the change makes no difference"
    assert not g.refused
    if why is not None:
        told = [v.why for v in all_variants(g)]
        assert any(why in t for t in told), told


def plain(x):
    return np.asarray(x.value() if isinstance(x, wg.Tensor) else x)


def kinds(x):
    return plain(x).dtype, plain(x).shape


def test_going_back_finds_the_old_program():
    box = {"k": 1.0}
    g = wg.compile(lambda x: x * box["k"], backend="numpy")
    for k in (1.0, 2.0, 1.0, 2.0, 1.0):
        box["k"] = k
        np.testing.assert_array_equal(g(X), X * k)
    assert programs(g) == 2


def test_equal_values_are_no_change():
    box = {"k": 1e10, "name": "a" * 50, "t": (1.0, "b")}
    g = wg.compile(lambda x: x * box["k"] * len(box["name"]) * box["t"][0], backend="numpy")
    for _ in range(4):
        box["k"], box["name"], box["t"] = float("1e10"), "a" * 25 + "a" * 25, (float("1"), "b")
        g(X)
    assert programs(g) == 1
    box["k"] = -0.0
    assert np.all(np.signbit(g(np.ones(3))))
    box["k"] = 0.0
    assert not np.any(np.signbit(g(np.ones(3))))


def test_sixteen_variants_and_then_a_message():
    box = {"k": 0.0}

    def f(x):
        return x * box["k"]

    g = wg.compile(f, backend="numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(16):
            box["k"] = float(k)
            np.testing.assert_array_equal(g(X), X * k)
    assert programs(g) == 16
    box["k"] = 16.0
    text = r"f runs uncompiled: 16 variants were compiled, because `box\['k'\]` has changed"
    with pytest.warns(CompileWarning, match=text):
        np.testing.assert_array_equal(g(X), X * 16)
    box["k"] = 17.0
    np.testing.assert_array_equal(g(X), X * 17)
    np.testing.assert_array_equal(g(X[:1]), X[:1] * 17)  # arguments of another kind
    assert programs(g) == 17


def test_objects_that_differ_from_call_to_call_are_one_kind():
    class Options:
        def __init__(self, k):
            self.k = k

    g = wg.compile(lambda x, o: x * o.k, backend="numpy")
    kept = [Options(float(k)) for k in range(20)]

    def all_of_them():
        for o in kept:
            np.testing.assert_array_equal(g(X, o), X * o.k)

    with pytest.warns(CompileWarning, match="16 variants were compiled"):
        all_of_them()
    assert programs(g) == 16


def test_an_object_whose_place_in_memory_is_used_again():
    class Options:
        def __init__(self, k):
            self.k = k

    g = wg.compile(lambda x, o: x * o.k, backend="numpy")
    for k in range(8):
        np.testing.assert_array_equal(g(X, Options(float(k))), X * k)


def test_two_functions_of_one_code_have_programs_of_their_own():
    def make(k):
        return wg.compile(lambda x: x * k, backend="numpy")

    one, two = make(1.0), make(2.0)
    for _ in range(2):
        np.testing.assert_array_equal(two(X), 2 * one(X))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_operand_that_is_filled_anew_is_recorded_a_few_times_and_then_read(backend):
    rng = np.random.default_rng(0)
    buffer, weights = np.zeros((5, 3)), wg.tensor(np.ones((3, 2)), requires_grad=True)

    def step():
        loss = (buffer @ weights).sum()
        loss.backward()
        return loss.detach()

    g, seconds = wg.compile(step, backend=backend), []
    for _ in range(10):
        buffer[...] = rng.normal(size=(5, 3))
        weights.grad = None
        want = step()
        grad, weights.grad = weights.grad, None
        near([want, grad], [g(), weights.grad], rtol=1e-12)
        seconds.append(dict(all_variants(g)[0].changed))
    assert programs(g) == 1
    assert list(seconds[-1].values()) == [3]
    assert not all_variants(g)[0].watch.contents


def test_a_branch_on_an_array_is_looked_at_every_time():
    mask = np.ones(3)

    def f(x):
        if mask.any():
            return x * mask
        return x - 1

    g = wg.compile(f, backend="numpy")
    for k in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0, 1.0):
        mask[...] = k
        near(f(X), g(X))


# ------------------------------------------------------------------ modules


def test_training_and_what_a_module_has():
    model = nn.Sequential(
        nn.Linear(3, 4, rng=0), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2, rng=1)
    )
    x = X.astype(np.float32)
    g = wg.compile(lambda x: model(x), backend="numpy")

    def both():
        out = []
        for f in (model, g):
            wg.random.seed(5)
            out.append(f(x).detach())
        near(*out)

    changes = [
        lambda: None, model.eval, model.train, lambda: setattr(model[2], "p", 0.25),
        lambda: setattr(model[0], "weight", nn.Parameter(np.ones((3, 4), np.float32))),
        lambda: setattr(model[0], "bias", None),
        lambda: model[1].register_forward_hook(lambda m, a, y: y * 2),
        lambda: model.register_forward_pre_hook(lambda m, a: (a[0] * 2,)),
        lambda: model.layers.append(nn.Tanh()) if hasattr(model, "layers") else None,
    ]  # fmt: skip
    for change in changes:
        change()
        both()
        both()
    assert not g.refused
    assert programs(g) > 5


def test_a_module_as_an_argument():
    one, two = nn.Linear(3, 2, rng=0), nn.Linear(3, 2, rng=1)
    g = wg.compile(lambda m, x: m(x), backend="numpy")
    x = X.astype(np.float32)
    for _ in range(2):
        for m in (one, two):
            near(m(x).detach(), g(m, x).detach())
    one.weight = nn.Parameter(np.zeros((3, 2), np.float32))
    near(one(x).detach(), g(one, x).detach())


def test_parameters_that_are_frozen_and_thawed():
    w, v = (wg.tensor(np.full(3, k), requires_grad=True) for k in (2.0, 3.0))

    def f(x):
        (w * v * x).sum().backward()
        return w.requires_grad

    g = wg.compile(f, backend="numpy")
    for freeze in (False, True, True, False):
        w.requires_grad_(not freeze)
        states = []
        for h in (f, g):
            v.grad = None
            if w.requires_grad:
                w.grad = None
            states.append([h(X), w.grad, v.grad])
        near(*states)


# ------------------------------------------------------------------ memory


def test_a_dropped_function_is_freed():
    class Big:
        pass

    def make():
        big = Big()
        big.k = 2.0
        g = wg.compile(lambda x: x * big.k, backend="numpy")
        g(X)
        g(X)
        return weakref.ref(big), weakref.ref(g)

    refs = make()
    gc.collect()
    assert [r() for r in refs] == [None, None]
