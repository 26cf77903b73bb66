"""The eager tape: backward, accumulation, memory, lines, and what it refuses."""

import copy
import gc
import math
import pickle
import threading
import weakref

import numpy as np
import pytest

import wengert as wg
from wengert.trace import line


@pytest.fixture
def p(x):
    return wg.tensor(x, requires_grad=True)


def test_backward_accumulates_into_leaves(p, x, close):
    (p * p).sum().backward()
    close(p.grad, 2 * x)
    (p * 3.0).sum().backward()
    close(p.grad, 2 * x + 3)
    p.grad = None
    assert p.grad is None
    np.sum(p).backward()
    close(p.grad, np.ones(3))


def test_attributes_of_leaves_and_results(p, x):
    y = p * 2.0
    assert p.is_leaf
    assert p.requires_grad
    assert p.grad_fn is None
    assert not y.is_leaf
    assert y.requires_grad
    assert repr(y.grad_fn.op) == "mul"
    d = y.detach()
    assert d.is_leaf
    assert not d.requires_grad
    assert d.tolist() == (2 * x).tolist()
    assert y.shape == (3,)
    assert (y.ndim, y.size, y.dtype, y.nbytes, len(y)) == (1, 3, np.float64, 24, 3)
    t = wg.tensor([1.0], requires_grad=True)
    t.requires_grad = False
    assert not t.requires_grad


def test_repr():
    assert repr(wg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(wg.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(wg.tensor(1.5, dtype=np.float32)) == "tensor(1.5, dtype=float32)"
    p = wg.tensor([1.0], requires_grad=True)
    assert repr(p) == "tensor([1.], requires_grad=True)"
    assert repr(np.exp(p) * 0.0) == "tensor([0.], grad_fn=mul)"
    assert repr(p.sum()) == "tensor(1., grad_fn=Sum(axes=(0,), keepdims=False))"
    assert f"{p.sum():.2f}" == "1.00"
    assert f"{p}" == repr(p)


def test_each_node_runs_once_and_cotangents_are_summed(p, x, close, monkeypatch):
    """A ladder of n doublings has 2^n paths and n nodes."""
    h = p
    for _ in range(40):
        h = h + h
    h.sum().backward()
    close(p.grad, np.full(3, 2.0**40))


def test_a_chain_of_100_000_operations(p, close):
    h = p
    for _ in range(100_000):
        h = h * 1.0
    h.sum().backward()
    close(p.grad, np.ones(3))


def test_a_wide_graph(p, close):
    parts = [p * float(i) for i in range(1000)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    total.sum().backward()
    close(p.grad, np.full(3, 999 * 500.0))


def test_the_cotangent_can_be_given(p, x, close):
    (p * p).backward(gradient=np.array([1.0, 10.0, 100.0]))
    close(p.grad, 2 * x * [1, 10, 100])
    p.grad = None
    (p * p).backward(gradient=wg.tensor([1.0, 0.0, 0.0]))
    close(p.grad, [2 * x[0], 0, 0])


def test_retain_graph(p, x, close):
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    close(p.grad, 4 * x)


def test_dropping_the_loss_frees_the_graph_without_the_collector(p):
    gc.collect()
    gc.disable()
    try:
        loss = (np.sin(p) * p).sum()
        node = weakref.ref(loss.node)
        residual = weakref.ref(loss.node.parents[0].res[1])  # sin(p)
        del loss
        assert node() is None
        assert residual() is None
        for _ in range(3):
            y = (np.tanh(p[1:]) @ np.ones(2)).mean() + np.linalg.norm(p)
            y.backward()
            del y
            wg.grad(lambda x: np.sum(np.sin(x) * x))(np.ones(3))
            wg.hessian(lambda x: np.sum(np.sin(x) * x))(np.ones(3))
            wg.vmap(wg.grad(lambda x: np.sum(x * x)))(np.ones((2, 3)))
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_residuals_are_freed_as_the_sweep_passes(p):
    y = np.exp(p)
    node = y.node
    z = (y * y).sum()
    del y
    z.backward()
    assert node.res is None
    assert z.node.res is None


def test_exceptions_leave_no_garbage(p):
    gc.collect()
    gc.disable()
    try:

        def fails():
            h = np.sin(p) * 2.0
            raise ValueError(h.shape)

        for _ in range(3):
            with pytest.raises(ValueError, match="3"):
                fails()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_backward_from_several_threads(x, close):
    leaves = [wg.tensor(x, requires_grad=True) for _ in range(4)]

    def work(w):
        for _ in range(100):
            (np.sin(w) * w).sum().backward()

    threads = [threading.Thread(target=work, args=(w,)) for w in leaves]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for w in leaves:
        close(w.grad, 100 * (np.sin(x) + x * np.cos(x)), rtol=1e-12)


def test_every_node_knows_the_users_line(p):
    first = line((p * 2.0).node)
    results = (
        p * 2.0, np.sin(p), np.sum(p), p.mean(), p[1:], p.T, p @ p, 1.0 - p, p**3,
        np.where(p > 0, p, 0.0), np.concatenate([p, p]), np.linalg.norm(p), wg.softmax(p),
        p + np.ones((2, 3)), np.var(p),
    )  # fmt: skip
    for y in results:
        assert "test_tape.py" in line(y.node), y.grad_fn
        assert "test_every_node_knows_the_users_line" in line(y.node)
    assert line((p * 2.0).node) != first


def test_integers_and_comparisons_leave_the_tape(p):
    assert not (p > 0).requires_grad
    assert not p.astype(int).requires_grad
    assert not np.argmax(p).requires_grad
    assert not np.floor(p).requires_grad
    assert p.astype(np.float32).requires_grad


def test_float32_stays_float32(close):
    p = wg.tensor(np.ones(3), dtype=np.float32, requires_grad=True)
    y = (np.tanh(p * 2.0 + 1) @ np.ones((3, 2), np.float32)).mean()
    assert y.dtype == np.float32
    y.backward()
    assert p.grad.dtype == np.float32
    q = wg.tensor(np.ones(3), dtype=np.float32, requires_grad=True)
    (q * np.ones(3)).sum().backward()
    assert q.grad.dtype == np.float32


def test_complex_gradients_point_uphill(close):
    z = wg.tensor([1.0 + 2.0j, -0.5j], requires_grad=True)
    (np.abs(z) ** 2).sum().backward()
    close(z.grad, 2 * np.array([1.0 + 2.0j, -0.5j]))
    w = wg.tensor([2.0, 3.0], requires_grad=True)
    np.real(w * (1.0 + 5.0j)).sum().backward()
    close(w.grad, [1.0, 1.0])


def test_copies_and_pickles_of_tensors(p, x, close):
    q = copy.deepcopy(p)
    assert q.is_leaf
    assert q.requires_grad
    with wg.no_grad():
        q += 1.0
    close(p, x)
    close(wg.tensor(p), x)
    p.name = "w"
    (p * 2.0 > 0).any()
    r = pickle.loads(pickle.dumps(p))
    close(r, x)
    assert r.requires_grad
    assert r.name == "w"
    assert not pickle.loads(pickle.dumps(p * 2.0)).requires_grad


# ------------------------------------------------------------------ what it refuses, by its text


def refused(error, *parts):
    text = str(error.value)
    for part in parts:
        assert part in text, f"{part!r} is not in:\n{text}"
    assert "test_tape.py" in text


def test_backward_from_an_array(p):
    with pytest.raises(wg.errors.NonScalarError) as e:
        (p * p).backward()
    refused(e, "[WG201]", "derivative of one number", "float64[3]", "sum().backward()", "gradient=")


def test_backward_twice_names_what_was_freed_and_by_which_line(p):
    loss = (np.sin(p) * p).sum()
    loss.backward()  # the line that frees
    with pytest.raises(wg.errors.FreedError) as e:
        loss.backward()
    refused(e, "[WG202]", "Sum", "freed at", "detach", "recorded at")
    text = str(e.value)
    assert text.index("freed at") < text.index("detach") < text.index("retain_graph=True")


def test_a_graph_partly_used_by_another_loss(p):
    h = np.exp(p)
    (h * 2.0).sum().backward()
    with pytest.raises(wg.errors.FreedError) as e:
        (h * 3.0).sum().backward()
    refused(e, "exp")


def test_backward_of_what_was_never_recorded(x):
    with pytest.raises(wg.errors.DisconnectedError) as e:
        wg.tensor(x).sum().backward()
    refused(e, "[WG203]", "does not depend on anything")


def test_a_cotangent_of_another_shape(p):
    with pytest.raises(wg.errors.ShapeError) as e:
        (p * p).backward(gradient=np.ones(2))
    refused(e, "float64[3]", "float64[2]")


def test_gradients_of_integers(x):
    with pytest.raises(wg.errors.DTypeError) as e:
        wg.tensor([1, 2, 3], requires_grad=True)
    refused(e, "[WG102]", "int64[3]", "astype(float)")


@pytest.mark.parametrize(("leave", "name"), [
    (lambda p: float(p[0]), "float(tensor)"),
    (lambda p: math.sin(p[0]), "math.sin(tensor)"),
    (lambda p: np.asarray(p), "np.asarray"),
    (lambda p: np.array(p), "np.array"),
    (lambda p: int(p[0]), "int(tensor)"),
    (lambda p: [1, 2, 3][p[0]], "index(tensor)"),
])  # fmt: skip
def test_nothing_leaves_the_tape_silently(p, leave, name):
    with pytest.raises(wg.errors.TapeExitError) as e:
        leave(p)
    refused(e, "[WG204]", name, "gradient", "fix")


def test_writing_into_a_plain_array_is_refused(p):
    buffer = np.zeros(3)
    with pytest.raises((wg.errors.TapeExitError, ValueError)) as e:
        buffer[0] = p[0]
    text = str(e.value) + str(e.value.__cause__) + str(e.value.__context__)
    assert "wg.zeros" in text
    with pytest.raises(wg.errors.TapeExitError, match=r"wg\.zeros"):
        buffer += p
    assert buffer.tolist() == [0, 0, 0]


def test_the_way_out_fits_what_was_asked(p):
    with pytest.raises(wg.errors.TapeExitError, match=r"np\.stack"):
        np.array([p[0], p[1]])
    with pytest.raises(wg.errors.TapeExitError, match=r"same function from numpy"):
        np.asarray(p)
    w = wg.tensor([1.0, -20.0], requires_grad=True)
    (w * w).sum().backward()
    g = w.grad
    w.grad[0] = 0.0
    np.clip(w.grad, -1, 1, out=w.grad)
    assert w.grad.tolist() == [0.0, -1.0]
    assert w.grad is g
    (w * 3.0).sum().backward()
    assert w.grad.tolist() == [3.0, 2.0]


def test_a_library_that_asks_for_an_array_is_named(p):
    scipy = pytest.importorskip("scipy.linalg", reason="SciPy is the library that asks")
    with pytest.raises(wg.errors.TapeExitError, match=r"scipy\.linalg.*expm"):
        scipy.expm(p.reshape(1, 3).T @ p.reshape(1, 3))


def test_unrecorded_tensors_convert_freely(x):
    t = wg.tensor(x)
    assert np.asarray(t).tolist() == x.tolist()
    assert float(t[0]) == x[0]
    assert math.sin(t[0]) == math.sin(x[0])
    a = t.numpy()
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 1.0
    t[0] = 5.0
    assert a[0] == x[0]


def test_a_function_without_a_derivative_is_named(p):
    with pytest.raises(wg.errors.UnsupportedError) as e:
        np.spacing(p)
    refused(e, "[WG105]", "spacing", "detach")
    with pytest.raises(wg.errors.UnsupportedError, match="busday"):
        np.is_busday(p)


def test_what_explain_says():
    for cls in wg.WengertError.__subclasses__():
        text = wg.explain(cls.code)
        assert cls.__name__ in text
        assert len(text) > 60
    assert len({c.code for c in wg.WengertError.__subclasses__()}) == len(
        wg.WengertError.__subclasses__()
    )
    with pytest.raises(LookupError, match="WG101"):
        wg.explain("WG999")


def test_errors_are_the_builtins_that_users_catch(p):
    for error, builtin in [
        (wg.errors.ShapeError, ValueError), (wg.errors.DTypeError, TypeError),
        (wg.errors.AxisError, IndexError), (wg.errors.FreedError, RuntimeError),
        (wg.errors.TapeExitError, TypeError), (wg.errors.OutputError, OSError),
        (wg.errors.MissingExtraError, ImportError), (wg.errors.UnknownNameError, LookupError),
        (wg.errors.NonFiniteError, ArithmeticError),
    ]:  # fmt: skip
        assert issubclass(error, builtin)
        assert issubclass(error, wg.WengertError)
