"""TensorFlow's dialect: what is on a tape, what is not, and why a gradient is None."""

import gc
import threading
import weakref

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import wengert as wg
from wengert import GradientTape, Variable
from wengert.errors import (
    ArgumentError,
    DisconnectedError,
    DTypeError,
    FreedError,
    LevelError,
    ShapeError,
)


@pytest.fixture
def w():
    return Variable([1.0, -2.0, 0.5], name="w")


def val(t):
    return np.asarray(t.value())


# ------------------------------------------------------------------ variables


def test_a_variable_is_a_leaf_that_is_assigned_to(w):
    assert isinstance(w, wg.Tensor)
    assert w.trainable
    assert w.name == "w"
    assert w.is_leaf
    assert w.assign([1, 2, 3]) is w
    assert w.dtype == np.float64
    w.assign_add([1.0, 1.0, 1.0])
    w.assign_sub(0.5)
    np.testing.assert_array_equal(w.numpy(), [1.5, 2.5, 3.5])
    np.testing.assert_array_equal((w * 2).numpy(), [3.0, 5.0, 7.0])
    assert repr(w) == "Variable('w', [1.5, 2.5, 3.5])"
    assert Variable(lambda: 2.0, dtype=np.float32).dtype == np.float32


def test_a_variable_keeps_its_shape_and_dtype(w):
    with pytest.raises(ShapeError, match="shape of a variable stays"):
        w.assign(np.ones((2, 3)))
    with pytest.raises(DTypeError, match="dtype of a variable stays"):
        w.assign(1j)
    with pytest.raises(DTypeError, match="numbers are needed"):
        Variable("text")
    v = Variable(1.0, dtype=np.float32)
    assert v.assign(2).dtype == np.float32
    n = Variable([1, 2])
    with pytest.raises(DTypeError, match="dtype of a variable stays"):
        n.assign([1.5, 2.0])
    assert n.assign_add([1, 1]).value().tolist() == [2, 3]


def test_an_assignment_does_not_reach_what_was_recorded(w):
    with GradientTape(persistent=True) as tape:
        y = w * w
        w.assign([10.0, 10.0, 10.0])
        z = w * w
    np.testing.assert_array_equal(val(tape.gradient(y, w)), [2.0, -4.0, 1.0])
    np.testing.assert_array_equal(val(tape.gradient(z, w)), [20.0] * 3)


def test_the_value_that_is_assigned_is_not_differentiated(w):
    x = Variable([1.0, 1.0, 1.0])
    with GradientTape() as tape:
        w.assign(x * 3)
        y = w * 2
    assert tape.gradient(y, x) is None
    assert "keeps the number alone" in tape.why_none()
    with pytest.raises(LevelError, match="outlives the transform"):
        wg.grad(lambda x: np.sum(w.assign(x)))(np.ones(3))


def test_variables_serve_the_other_dialects(w, close):
    (w * w).sum().backward()
    close(w.grad, 2 * val(w))
    close(wg.grad(lambda x: np.sum(x * w))(np.ones(3)), val(w))
    with wg.no_grad():
        w -= 0.1 * w.grad
    close(w, np.array([1.0, -2.0, 0.5]) * 0.8)
    optimizer = wg.optim.SGD([w], lr=0.5)
    optimizer.step()
    close(w, np.array([1.0, -2.0, 0.5]) * 0.8 - np.array([1.0, -2.0, 0.5]))
    assert isinstance(w, Variable)


def test_variables_are_pickled_by_value(w):
    import copy
    import pickle

    for again in (pickle.loads(pickle.dumps(w)), copy.deepcopy(w)):
        assert isinstance(again, Variable)
        assert again.name == "w"
        assert again.trainable
        np.testing.assert_array_equal(again.numpy(), w.numpy())
    frozen = pickle.loads(pickle.dumps(Variable(1.0, trainable=False, name="f")))
    assert not frozen.trainable
    assert frozen.name == "f"
    assert "trainable=False" in repr(frozen)


# ------------------------------------------------------------------ what is on a tape


def test_watching_leaves_the_tensor_as_it_was():
    x = wg.tensor([1.0, 2.0])
    with GradientTape() as tape:
        tape.watch(x)
        assert x.requires_grad
        y = x * x
    assert not x.requires_grad
    assert not (x * x).requires_grad
    np.testing.assert_array_equal(val(tape.gradient(y, x)), [2.0, 4.0])


def test_two_tapes_that_watch_one_tensor():
    x = wg.tensor(3.0)
    a, b = GradientTape(), GradientTape()
    a.__enter__()
    a.watch(x)
    b.__enter__()
    b.watch(x)
    a.__exit__()
    y = x * x
    assert x.requires_grad
    b.__exit__()
    assert not x.requires_grad
    assert b.gradient(y, x).item() == 6.0
    assert a.gradient(y, x) is None


def test_a_view_that_was_watched_is_a_view_again():
    data = wg.tensor([[1.0, 2.0], [3.0, 4.0]])
    row = data[0]
    with GradientTape() as tape:
        tape.watch(row)
        y = row * row
    np.testing.assert_array_equal(val(tape.gradient(y, row)), [2.0, 4.0])
    data[0, 0] = 7.0
    np.testing.assert_array_equal(val(row), [7.0, 2.0])


def test_nested_structures(close):
    xs = {"a": wg.tensor(2.0), "b": [wg.tensor(3.0), wg.tensor(5.0)]}
    with GradientTape(persistent=True) as tape:
        tape.watch(xs)
        y = xs["a"] * xs["b"][0]
        z = {"y": y, "z": (xs["b"][1] * y,)}
    got = tape.gradient(z, xs)
    close(got["a"], 3.0 + 15.0)
    close(got["b"][0], 2.0 + 10.0)
    close(got["b"][1], 6.0)
    got = tape.gradient(z, xs, output_gradients={"y": 2.0, "z": (10.0,)})
    close(got["a"], 6.0 + 150.0)


def test_gradients_of_results_on_the_way(w, close):
    with GradientTape(persistent=True) as tape:
        a = w * w
        b = np.sin(a)
        c = b * w
    close(tape.gradient(c, a), np.cos(val(a)) * val(w))
    got = tape.gradient(c, [w, a, b, c])
    close(got[0], np.sin(val(a)) + 2 * val(w) * val(got[1]))
    close(got[2], val(w))
    close(got[3], np.ones(3))
    assert tape.gradient(a, b) is None


def test_the_gradient_of_a_source_itself(close):
    x = wg.tensor([1.0, 2.0])
    with GradientTape(persistent=True) as tape:
        tape.watch(x)
    close(tape.gradient(x, x), [1.0, 1.0])
    close(tape.jacobian(x, x), np.eye(2))
    v = Variable(2.0)
    with GradientTape() as tape:
        pass
    close(tape.gradient(v, v), 1.0)

    def f(x):
        with GradientTape() as tape:
            tape.watch(x)
            y = x * x
        return tape.gradient([x, y], x)

    close(wg.grad(f)(3.0), 2.0)


def test_what_is_computed_outside_is_constant(w, close):
    before = w * w
    with GradientTape(persistent=True) as tape:
        inside = before * w
        with tape.stop_recording():
            stopped = w * 3.0
        y = inside + stopped * w
    close(tape.gradient(y, w), val(before) + val(stopped))
    close(tape.gradient(y, before), val(w))
    after = y * w
    assert tape.gradient(after, w) is None
    assert "mul was computed while the tape did not record" in tape.why_none()
    assert tape.gradient(stopped, w) is None


def test_a_persistent_tape_goes_on_where_it_stopped():
    x = wg.tensor(3.0)
    tape = GradientTape(persistent=True)
    with tape:
        tape.watch(x)
        y = x * x
    with tape:
        z = y * x
    assert tape.gradient(z, x).item() == 27.0


def test_reset_forgets(w):
    with GradientTape() as tape:
        a = w * w
        tape.reset()
        b = a * w
    np.testing.assert_array_equal(val(tape.gradient(b, w)), val(w) ** 2)


def test_only_what_is_watched():
    u, v = Variable(2.0, name="u"), Variable(3.0, name="v")
    with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(u)
        a, b = u * v, v * v
    assert tape.gradient(a, u).item() == 3.0
    assert tape.gradient(a, v) is None
    assert "was not watched" in tape.why_none()
    assert tape.gradient(b, b) is None
    assert tape.watched_variables() == (u,)


def test_watched_variables_come_in_the_order_of_use():
    u, v, z = Variable(1.0, name="u"), Variable(2.0, name="v"), Variable(3.0, trainable=False)
    with GradientTape(persistent=True) as tape:
        y = v * u * z + v
    assert [x.name for x in tape.watched_variables()] == ["v", "u"]
    assert tape.gradient(y, z) is None
    assert "not trainable" in tape.why_none()
    with tape:
        tape.watch(z)
        y = z * z
    assert tape.gradient(y, z).item() == 6.0
    assert not z.requires_grad


def test_no_grad_inside_a_tape(w, close):
    with GradientTape(persistent=True) as tape:
        with wg.no_grad():
            c = w * 5
        y = c * w
    close(tape.gradient(y, w), val(c))
    assert tape.gradient(c, w) is None
    assert "no_grad" in tape.why_none()


def test_writes_on_the_tape(w, close):
    with GradientTape() as tape:
        b = wg.zeros(4)
        b[1:] = w * w
        row = b[:2]
        b[0] = w[2]
    close(tape.gradient(row, w), [2.0, 0.0, 1.0])


def test_hooks_run_in_a_tapes_sweep(w, close):
    seen = []
    with GradientTape(persistent=True) as tape:
        a = w * w
        y = np.sum(np.sin(a))
    a.register_hook(lambda g: seen.append("a") or g * 10.0)
    w.register_hook(lambda g: seen.append("w") or g * 2.0)
    want = np.cos(val(a)) * 10.0
    close(tape.gradient(y, w), want * 2 * val(w) * 2.0)
    assert seen == ["a", "w"]
    got = tape.gradient(y, [a, w])
    close(got[0], want)
    close(got[1], want * 2 * val(w) * 2.0)
    close(tape.gradient(y, a), want)
    assert seen == ["a", "w", "a", "w", "a"]


def test_checkpoints_loops_and_custom_rules_on_a_tape(w, close):
    def plain(x):
        return np.sin(np.sin(x) * x)

    for f in (plain, wg.checkpoint(plain)):
        with GradientTape() as outer:
            with GradientTape() as tape:
                y = np.sum(f(w))
            g = tape.gradient(y, w)
        close(g, autograd.grad(lambda x: anp.sum(anp.sin(anp.sin(x) * x)))(val(w)))
        curve = autograd.hessian(lambda x: anp.sum(anp.sin(anp.sin(x) * x)))(val(w))
        close(outer.gradient(g, w), curve.sum(0))
    with GradientTape() as tape:
        s, ys = wg.scan(lambda s, z: (s * z + z, s * z), w[0], w)
        y = s + np.sum(ys)

    def loop(v):
        s, total = v[0], 0.0
        for i in range(3):
            total, s = total + s * v[i], s * v[i] + v[i]
        return s + total

    close(tape.gradient(y, w), autograd.grad(loop)(val(w)))


# ------------------------------------------------------------------ None, and why


def test_zeros_or_an_error_instead_of_none(w):
    x = wg.tensor([1.0, 2.0])
    with GradientTape(persistent=True) as tape:
        y = w * 2
    assert tape.gradient(y, x) is None
    np.testing.assert_array_equal(
        val(tape.gradient(y, x, unconnected_gradients="zero")), [0.0, 0.0]
    )
    with pytest.raises(DisconnectedError, match="was not watched"):
        tape.gradient(y, [w, x], unconnected_gradients="raise")
    with pytest.raises(ArgumentError, match="'none', 'zero', 'raise'"):
        tape.gradient(y, x, unconnected_gradients="zeros")
    tape.gradient(y, w)
    assert tape.why_none() == ""


def test_the_reason_names_the_line(w):
    with GradientTape() as tape:
        y = w.numpy() * 2
    assert tape.gradient(y, w) is None
    assert "test_gradient_tape.py" in tape.why_none()
    assert "numpy()" in tape.why_none()


def test_the_reason_is_found_before_the_graph_is_freed(w):
    x, v = Variable(2.0), Variable(1.0)
    before = v * 3.0
    with GradientTape() as tape:
        y = (w * before * x).sum() * x
    got = tape.gradient(y, [w, v, wg.tensor(1.0)])
    assert got[1] is got[2] is None
    assert "sources[1]: mul was computed while the tape did not record" in tape.why_none()
    assert "sources[2]: was not watched" in tape.why_none()


def test_an_old_break_is_not_blamed(w):
    w.numpy()
    v = Variable(1.0)
    with GradientTape() as tape:
        y = w * 2
    assert tape.gradient(y, v) is None
    assert "numpy" not in tape.why_none()


def test_a_break_of_another_source_is_not_blamed(w):
    u, v = Variable(3.0), Variable(1.0)
    with GradientTape() as tape:
        y = np.sum(w * u) * 0.0 + np.round(v)
        y = np.sum(w) * np.round(v)
    assert tape.gradient(y, [w, u, v])[1:] == [None, None]
    unused, rounded = tape.why_none().split("sources[2]")
    assert "rint" not in unused
    assert "rint" in rounded


def test_refusals(w):
    with GradientTape() as tape:
        y = w * w
    tape.gradient(y, w)
    with pytest.raises(FreedError, match="persistent=True"):
        tape.gradient(y, w)
    with pytest.raises(LevelError, match="recorded nothing"):
        GradientTape().gradient(y, w)
    with pytest.raises(LevelError, match="not recording"):
        GradientTape().watch(w)
    with GradientTape(persistent=True) as tape:
        with pytest.raises(ArgumentError, match=r"wg.tensor\(x\)"):
            tape.watch(np.ones(2))
        with pytest.raises(DTypeError, match="floating-point"):
            tape.watch(wg.tensor([1, 2]))
        with pytest.raises(LevelError, match="recording already"):
            tape.__enter__()
        y = w * w
    with pytest.raises(ArgumentError, match="is not a tensor"):
        tape.gradient(y, np.ones(3))
    with pytest.raises(ShapeError, match="shape of its target"):
        tape.gradient(y, w, output_gradients=np.ones(2))
    with pytest.raises(ShapeError, match="structure of target"):
        tape.gradient([y], w, output_gradients=np.ones(3))
    with pytest.raises(ArgumentError, match="one tensor"):
        tape.jacobian([y], w)


# ------------------------------------------------------------------ memory, threads


def test_a_gradient_frees_what_it_used(w):
    with GradientTape() as tape:
        a = w * w
        y = (a * 3.0).sum()
    node = weakref.ref(a.grad_fn)
    del a
    tape.gradient(y, w)
    gc.disable()
    try:
        assert node() is None or node().res is None
    finally:
        gc.enable()


def test_a_dropped_tape_frees_the_graph(w):
    x = wg.tensor([1.0, 2.0])
    gc.collect()
    gc.disable()
    try:
        with GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = np.sin(x * x)
        tape.gradient(y, x)
        node, ref = weakref.ref(y.grad_fn), weakref.ref(tape)
        del tape, y
        assert node() is None
        assert ref() is None
    finally:
        gc.enable()


def test_another_tape_keeps_what_it_still_needs(w):
    with GradientTape() as outer, GradientTape() as inner:
        y = (w * w * w).sum()
    a = inner.gradient(y, w)
    b = outer.gradient(y, w)
    np.testing.assert_array_equal(val(a), val(b))


def test_tapes_of_several_threads(w):
    out, wait = {}, threading.Barrier(4)

    def work(k):
        x = Variable(float(k))
        for _ in range(50):
            with GradientTape() as outer:
                with GradientTape() as tape:
                    y = x * x * x
                wait.wait()
                g = tape.gradient(y, x)
            out[k] = (g.item(), outer.gradient(g, x).item())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert out == {k: (3.0 * k * k, 6.0 * k) for k in range(4)}


def test_a_tape_of_another_thread_does_not_record_a_gradient():
    started, done = threading.Event(), threading.Event()

    def other():
        with GradientTape():
            started.set()
            done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    x = Variable(2.0)
    with GradientTape() as tape:
        y = x * x * x
    g = tape.gradient(y, x)
    done.set()
    thread.join()
    assert float(g) == 12.0
    with GradientTape():
        with GradientTape() as tape:
            y = x * x * x
        g = tape.gradient(y, x)
    assert g.requires_grad


# ------------------------------------------------------------------ Jacobians


def test_jacobians(w, close):
    def f(m, x):
        return m.sin(x)[:, None] * m.stack([x, x * x])[:, 0]

    with GradientTape(persistent=True) as tape:
        y = f(np, w)
    close(tape.jacobian(y, w), autograd.jacobian(lambda x: f(anp, x))(val(w)))
    got = tape.jacobian(y, {"w": w, "y": y})
    assert got["y"].shape == (*y.shape, *y.shape)
    assert tape.jacobian(y, wg.tensor(1.0)) is None
    zero = tape.jacobian(y, wg.tensor([1.0, 2.0]), unconnected_gradients="zero")
    assert zero.shape == (*y.shape, 2)


def test_the_jacobian_of_a_gradient_is_the_hessian(w, close):
    f = lambda m, x: m.sum(m.tanh(x) * x[0])
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = f(np, w)
        g = inner.gradient(y, w)
    close(outer.jacobian(g, w), autograd.hessian(lambda x: f(anp, x))(val(w)))


def test_the_gradient_of_a_jacobian(w, close):
    with GradientTape() as outer:
        with GradientTape() as inner:
            y = w * w * w
        j = inner.jacobian(y, w)
    close(outer.gradient(j, w), 6 * val(w))


def test_batch_jacobians(close):
    x = Variable(np.random.default_rng(0).normal(size=(5, 3)))
    m = np.random.default_rng(1).normal(size=(3, 2))
    with GradientTape(persistent=True) as tape:
        y = np.tanh(x @ m)
        mixed = y - np.mean(y, 0)
    full = val(tape.jacobian(y, x))
    close(tape.batch_jacobian(y, x), np.stack([full[i, :, i] for i in range(5)]))
    with pytest.raises(ArgumentError, match="other rows of target depend"):
        tape.batch_jacobian(mixed, x)
    with pytest.raises(ShapeError, match="first axis"):
        tape.batch_jacobian(y, Variable(np.ones((2, 3))))
    assert tape.batch_jacobian(y, Variable(np.ones((5, 3)))) is None


def test_batch_jacobians_in_single_precision():
    x = Variable(np.random.default_rng(0).normal(size=(40, 6)), dtype=np.float32)
    m = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32)
    with GradientTape() as tape:
        y = np.exp(np.tanh(x @ m) * 5.0) @ m
    assert tape.batch_jacobian(y, x).dtype == np.float32
