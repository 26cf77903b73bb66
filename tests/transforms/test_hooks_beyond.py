"""Hooks: what PyTorch has no word for, backward to some inputs, threads."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from test_hooks import mine

import wengert as wg
from wengert import nn, trace

# ------------------------------------------------------------------ what PyTorch has no word for


def test_a_hook_that_raises_leaves_every_gradient_as_it_was(close):
    x, w = wg.tensor([1.0, 2.0], requires_grad=True), wg.tensor([3.0, 4.0], requires_grad=True)
    (x * w).sum().backward()
    before = x.grad.tolist(), w.grad.tolist()

    def fails(*args):
        raise KeyError("mine")

    for register in (
        lambda y: y.register_hook(fails),
        lambda y: y.grad_fn.register_hook(fails),
        lambda y: y.grad_fn.register_prehook(fails),
        lambda y: x.register_hook(fails),
        lambda y: w.register_hook(fails),
        lambda y: y.grad_fn.next_functions[0][0].register_prehook(fails),
    ):
        y = x * w
        z = y * 2.0
        z.retain_grad()
        with register(y), pytest.raises(KeyError):
            z.sum().backward()
        assert (x.grad.tolist(), w.grad.tolist()) == before
        assert z.grad is None
        assert trace.MODES == 0
    (x * w).sum().backward()  # and nothing of it comes later
    assert z.grad is None
    close(x.grad, [6.0, 8.0])


def test_after_the_sums_a_hook_that_raises_has_them_made():
    x = wg.tensor([1.0], requires_grad=True)

    def fails(t):
        raise KeyError(t.grad.tolist())

    x.register_post_accumulate_grad_hook(fails)
    with pytest.raises(KeyError):
        (x * 2.0).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_a_backward_inside_a_hook(close):
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    w = wg.tensor([3.0, 4.0], requires_grad=True)
    y = x * x
    y.retain_grad()

    def hook(g):
        with wg.enable_grad():
            h = w * w
            h.retain_grad()
            h.sum().backward()
            seen.append(h.grad.tolist())

    seen = []
    z = y * 3.0
    y.register_hook(hook)
    z.retain_grad()
    z.sum().backward()
    assert seen == [[1.0, 1.0]]
    close(w.grad, 2 * np.array([3.0, 4.0]))
    close(y.grad, [3.0, 3.0])
    close(z.grad, [1.0, 1.0])


def test_hooks_inside_transforms(x, close):
    seen = []

    def f(t):
        y = np.sin(t)
        y.register_hook(lambda g: seen.append(g.detach()))
        y.register_hook(lambda g: 2.0 * g)
        return np.sum(y * y)

    close(wg.grad(f)(x), 2 * np.sin(2 * x))
    close(seen[0], 2 * np.sin(x))
    g2 = wg.jacrev(wg.grad(f))(x)  # the outer sweep passes the inner one: each has the factor
    assert g2.shape == (3, 3)
    close(wg.jvp(wg.grad(f), (x,), (np.ones(3),))[1], 4 * np.cos(2 * x))
    close(wg.vmap(wg.grad(f))(np.stack([x, 2 * x]))[1], 2 * np.sin(4 * x))


def test_a_hook_may_use_an_outer_variable(close):
    """d/dx of (d/dy of y^2 with its gradient times x) = 2 y."""

    def outer(x):
        def inner(y):
            z = y * y
            z.register_hook(lambda g: g * x)
            return z * 1.0

        return wg.grad(inner)(3.0)

    close(wg.grad(outer)(5.0), 6.0)
    close(wg.jvp(outer, (5.0,), (1.0,))[1], 6.0)


def test_values_under_forward_mode_and_batching_are_refused():
    with pytest.raises(wg.errors.LevelError, match="register_hook"):
        wg.vmap(lambda t: t.register_hook(print))(np.ones(3))
    with pytest.raises(wg.errors.LevelError, match="retain_grad"):
        wg.jvp(lambda t: t.retain_grad(), (1.0,), (1.0,))


def test_structural_zeros_pass_a_hook_that_only_looks():
    """The branch that `where` did not take sends no gradient, looked at or not."""
    seen = []
    for hooked in (False, True):
        x = wg.tensor([0.0, 4.0], requires_grad=True)
        y = np.sqrt(x)
        if hooked:
            y.register_hook(lambda g: seen.append(g.tolist()))
        np.where(x > 1.0, y, 0.0).sum().backward()
        assert x.grad.tolist() == [0.0, 0.25]
    assert seen == [[0.0, 1.0]]


def test_hooks_of_operations_with_several_outputs(close):
    a = wg.tensor([[3.0, 1.0], [1.0, 2.0]], requires_grad=True)
    log = mine()
    w, v = np.linalg.eigh(a)
    w.register_hook(log.hook("w", 2.0))
    assert w.grad_fn is v.grad_fn
    w.grad_fn.register_prehook(log.pre("pre"))
    y = w * 2.0
    assert y.grad_fn.next_functions[0] == (w.grad_fn, 0)
    assert (v * 2.0).grad_fn.next_functions[0] == (w.grad_fn, 1)
    w.sum().backward()
    assert log.events == [("w", [1.0, 1.0]), ("pre", [[2.0, 2.0], None])]
    close(a.grad, 2 * np.eye(2), atol=1e-12)


def test_complex_gradients_look_as_grad_does():
    z = wg.tensor([1.0 + 2.0j], requires_grad=True)
    y = z * (1.0 + 1.0j)
    y.retain_grad()
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g)
    np.sum(np.abs(y) ** 2).backward()
    assert seen == [y.grad.tolist()]
    np.testing.assert_allclose(seen[0], 2 * np.asarray(y.detach()))
    np.testing.assert_allclose(np.asarray(z.grad), [4 + 8j])


def test_views_have_hooks():
    x = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2.0
    part = y[1:]
    seen = []
    part.register_hook(lambda g: seen.append(g.tolist()))
    part.retain_grad()
    (part * part).sum().backward()
    assert seen == [[8.0, 12.0]]
    assert part.grad.tolist() == [8.0, 12.0]
    assert x.grad.tolist() == [0.0, 16.0, 24.0]


def test_looking_at_the_graph():
    x, w = wg.tensor([1.0], requires_grad=True), wg.tensor([2.0], requires_grad=True)
    y = x * w
    z = np.sum(y)
    assert (y.grad_fn.name(), z.grad_fn.name()) == ("mul", "Sum")
    assert z.grad_fn.next_functions == ((y.grad_fn, 0),)
    (a, i), (b, j) = y.grad_fn.next_functions
    assert (a.name(), i, b.name(), j) == ("AccumulateGrad", 0, "AccumulateGrad", 0)
    assert a != b
    assert a == (x * 1.0).grad_fn.next_functions[0][0]
    assert a.next_functions == ()
    y.register_hook(lambda g: None)
    assert y.grad_fn.name() == "mul"
    assert repr(y.grad_fn.op) == "mul"
    assert x.grad_fn is None
    assert not x.retains_grad
    y.retain_grad()
    assert y.retains_grad
    z.backward()
    assert z.grad_fn.next_functions == ()


def test_a_leaf_in_the_graph_knows_its_tensor():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    v = wg.Variable([3.0, 4.0], name="v")
    w = pickle.loads(pickle.dumps(wg.tensor([5.0, 6.0], requires_grad=True)))
    late = wg.tensor([[7.0, 8.0]])[0].requires_grad_()
    copied = copy.deepcopy(x)
    for t in (x, v, w, late, copied):
        end = (t * 2.0).grad_fn.next_functions[0][0]
        assert end.variable is t
        end.variable.sum().backward()
        assert end.variable.grad is t.grad is not None
    layer = nn.Linear(2, 3, rng=0)
    graph, found = [layer(np.ones((1, 2), np.float32)).sum().grad_fn], []
    for node in graph:
        graph += [n for n, _ in node.next_functions if n is not None]
        found += [node.variable] if node.name() == "AccumulateGrad" else []
    assert {id(p) for p in found} == {id(p) for p in layer.parameters()}


def test_a_graph_does_not_keep_its_leaf_s_tensor():
    x = wg.tensor(np.ones(3), requires_grad=True)
    y, gone = (x * 2.0).sum(), weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None
    assert y.grad_fn.next_functions[0][0].next_functions[0][0].variable is None
    y.backward()


def test_an_optimizer_in_the_backward(close):
    w = wg.tensor([1.0, 2.0], requires_grad=True)

    def step(t):
        assert not wg.is_grad_enabled()
        t -= 0.1 * t.grad
        t.grad = None

    w.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        np.sum(w * w).backward()
    close(w, np.array([1.0, 2.0]) * 0.8**3)


def test_what_hooks_may_return():
    x = wg.tensor([1.0, 2.0], requires_grad=True)

    def backward(hook, where=lambda y: y):
        y = x * 2.0
        where(y).register_hook(hook)
        np.sum(y * y).backward()

    x.grad = None
    backward(lambda g: np.array([1.0, 2.0]))
    assert x.grad.tolist() == [2.0, 4.0]
    x.grad = None
    backward(lambda g: g.astype(np.float32))
    assert x.grad.dtype == np.float64
    with pytest.raises(wg.errors.ShapeError, match="a hook returns a gradient of the same shape"):
        backward(lambda g: wg.ones(3))
    with pytest.raises(wg.errors.ArgumentError, match="a gradient or None"):
        backward(lambda g: "nonsense")
    with pytest.raises(wg.errors.ArgumentError, match="one gradient for each"):
        backward(lambda gi, go: (gi[0],), lambda y: y.grad_fn)
    with pytest.raises(wg.errors.ArgumentError, match="a hook is a function"):
        (x * 2.0).register_hook(3)


def test_where_hooks_may_be_registered():
    x = wg.tensor([1.0], requires_grad=True)
    for f in (lambda t: t.register_hook(print), lambda t: t.retain_grad()):
        with pytest.raises(wg.errors.DisconnectedError, match="does not depend"):
            f(wg.tensor([1.0]))
    with pytest.raises(wg.errors.LeafWriteError, match="only a leaf accumulates"):
        (x * 2.0).register_post_accumulate_grad_hook(print)
    with pytest.raises(wg.errors.LeafWriteError, match="only a leaf has a gradient"):
        (x * 2.0).grad = wg.tensor([1.0])


# ------------------------------------------------------------------ grad, backward(inputs=)


def test_grad_of_what_is_not_connected():
    x, w = wg.tensor([1.0], requires_grad=True), wg.tensor([2.0], requires_grad=True)
    y = (x * 2.0).sum()
    with pytest.raises(wg.errors.DisconnectedError, match=r"inputs\[1\]"):
        wg.autograd.grad(y, [x, w], retain_graph=True)
    assert wg.autograd.grad(y, [x, w], retain_graph=True, allow_unused=True)[1] is None
    assert wg.autograd.grad(y, [w], materialize_grads=True)[0].tolist() == [0.0]
    with pytest.raises(wg.errors.ArgumentError, match="materialize_grads"):
        wg.autograd.grad(y, [w], materialize_grads=True, allow_unused=False)
    with pytest.raises(wg.errors.DisconnectedError, match="not recorded"):
        wg.autograd.grad(y, [wg.tensor([1.0])])
    with pytest.raises(wg.errors.ArgumentError, match="inputs is empty"):
        y.backward(inputs=[])


def test_grad_frees_and_keeps():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    y = (x**3).sum()
    wg.autograd.grad(y, x, retain_graph=True)
    wg.autograd.grad(y, x)
    with pytest.raises(wg.errors.FreedError):
        wg.autograd.grad(y, x)
    h = x * 2.0
    a, b = (h * h).sum(), (h * 3.0).sum()
    h.sum().backward()  # frees what is below h
    assert wg.autograd.grad(a, h)[0].tolist() == [4.0, 8.0]
    with pytest.raises(wg.errors.FreedError):
        wg.autograd.grad(b, x)


@pytest.mark.parametrize("create_graph", [False, True])
def test_batched_gradients(create_graph, close):
    x = wg.tensor([0.3, -0.7, 1.2], requires_grad=True)
    y = np.sin(x) * np.sum(x)
    (rows,) = wg.autograd.grad(y, x, np.eye(3), is_grads_batched=True, create_graph=create_graph)
    a = np.array([0.3, -0.7, 1.2])
    close(rows.detach(), np.diag(np.cos(a) * a.sum()) + np.sin(a)[:, None])
    assert rows.requires_grad == create_graph
    if create_graph:
        rows.sum().backward()
        want = wg.grad(lambda x: np.sum(wg.jacobian(lambda x: np.sin(x) * np.sum(x))(x)))(a)
        close(x.grad, want)


def test_a_sum_of_results_with_a_recorded_sweep(close):
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    wg.autograd.backward([(x**3).sum(), x * x], [None, [1.0, 1.0]], create_graph=True)
    g, x.grad = x.grad, None
    g.sum().backward()
    close(x.grad, 6 * np.array([1.0, 2.0]) + 2)


def test_a_gradient_of_another_precision():
    x = wg.tensor(np.ones(2, np.float32), requires_grad=True)
    (x * 2.0).backward(gradient=wg.tensor([1.0, 2.0]))
    assert x.grad.dtype == np.float32


# ------------------------------------------------------------------ threads


def test_no_addition_is_lost_on_a_shared_leaf():
    n, threads = 400, 6
    x = wg.tensor(np.zeros(3), requires_grad=True)
    seen = []
    x.register_hook(lambda g: seen.append(1) and None)

    def work():
        for i in range(n):
            (x * 1.0).sum().backward()
            if i % 50 == 0:
                assert x.grad.shape == (3,)

    run(work, threads)
    assert x.grad.tolist() == [n * threads] * 3
    assert len(seen) == n * threads


def run(work, threads):
    failed = []

    def guarded():
        try:
            work()
        except BaseException as error:
            failed.append(error)

    ts = [threading.Thread(target=guarded) for _ in range(threads)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    assert not failed, failed[0]


def test_hooks_in_several_threads_are_apart(close):
    """Recording is switched off in a hook of one thread, and on in the others."""

    def work():
        x = wg.tensor([1.0, 2.0], requires_grad=True)
        for _ in range(60):
            y = np.sin(x) * x
            y.register_hook(lambda g: g * 2.0)
            y.retain_grad()
            y.sum().backward()
            assert y.grad.tolist() == [2.0, 2.0]
        a = np.array([1.0, 2.0])
        close(x.grad, 120 * (np.sin(a) + a * np.cos(a)))

    run(work, 4)
    assert trace.MODES == 0
