"""Hooks on what the tape keeps, residuals in files, and a tape that leaks nothing."""

import gc
import os
import sys
import threading
import weakref

import numpy as np
import pytest

import wengert as wg
from wengert import trace
from wengert.transforms.residuals import Packed, packing

SYMMETRIC = np.array([[3.0, 1.0], [1.0, 2.0]])

PROGRAMS = {
    "elementwise": lambda x: np.sum(np.tanh(x) * np.exp(x) / (1.0 + x * x)),
    "broadcast": lambda x: np.sum(x * np.ones((2, 3)) * x),
    "products": lambda x: np.sum(np.outer(x, x) @ x + x @ np.ones((3, 3))),
    "linear": lambda x: np.sum(x.reshape(1, 3) @ np.ones((3, 2)) + x[:2]),
    "where": lambda x: np.sum(np.where(x > 0, np.sqrt(np.abs(x)), 0.0)),
    "length": lambda x: np.abs(x).sum() ** 2 + np.sum(np.abs(x) ** 2) + np.linalg.norm(x) ** 2,
    "outputs": lambda x: np.linalg.eigh(np.outer(x, x) + np.diag([1.0, 2.0, 4.0]))[0][1],
    "several": lambda x: np.sum(np.concatenate([x, x * x, np.sin(x)]) ** 2),
    "writes": lambda x: written(x),
    "loss": lambda x: wg.cross_entropy(x.reshape(1, 3) * 2.0, np.array([1])),
    "views": lambda x: np.sum(x[1:] * x[:2]) + np.max(x) + np.sort(x)[0],
}  # fmt: skip


def written(x):
    z = wg.zeros(3) if isinstance(x, wg.Tensor) else np.zeros(3)
    z[0] = x[0] * x[1]
    z[1:] = np.exp(x[1:])
    z *= x
    return np.sum(z * z)


def through_lists():
    """Nothing of an array survives but its numbers."""
    return wg.saved_tensors_hooks(
        lambda t: (t.numpy().tolist(), t.shape, t.dtype),
        lambda p: np.array(p[0], p[2]).reshape(p[1]),
    )


def in_files():
    return wg.save_on_disk()


MANNERS = [through_lists, in_files]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_numbers(manner, name, x):
    """Bit for bit, for the gradient and for the next one."""
    f = PROGRAMS[name]

    def gradients():
        p = wg.tensor(x, requires_grad=True)
        (g,) = wg.autograd.grad(f(p), p, create_graph=True)
        first = g.tolist()
        if g.requires_grad:
            (g * g).sum().backward()
        return first, None if p.grad is None else p.grad.tolist()

    with wg.no_grad(), wg.enable_grad():  # the general road, as under hooks
        want = gradients()
    with manner():
        got = gradients()
    assert got == want
    assert trace.MODES == 0


@pytest.mark.parametrize("manner", MANNERS)
def test_under_transforms(manner, x, close):
    def f(x):
        return np.sum(np.tanh(x) * x**3)

    calls = (
        lambda: wg.grad(f)(x), lambda: wg.hessian(f)(x), lambda: wg.jacrev(wg.grad(f))(x),
        lambda: wg.vmap(wg.grad(f))(np.stack([x, -x])), lambda: wg.hvp(f, x, np.ones(3)),
        lambda: wg.grad(lambda x: np.sum(wg.grad(f)(x) ** 2))(x),
    )  # fmt: skip
    for call in calls:
        want = call()
        with manner():
            close(call(), want, rtol=1e-14)


def test_what_the_hooks_are_called_with(x):
    packed, unpacked = [], []

    def pack(t):
        packed.append(t)
        return len(packed) - 1

    def unpack(i):
        unpacked.append(i)
        return packed[i]

    p = wg.tensor(x, requires_grad=True)
    with wg.saved_tensors_hooks(pack, unpack):
        y = np.exp(p)
        z = (y * p).sum()
        w = p + 1.0  # keeps nothing
    assert [t.tolist() for t in packed] == [y.tolist(), p.tolist(), y.tolist()]
    assert not any(t.requires_grad for t in packed)
    assert unpacked == []
    z.backward(retain_graph=True)
    assert sorted(unpacked) == [0, 1, 2]
    z.backward()
    assert sorted(unpacked) == [0, 0, 1, 1, 2, 2]
    w.sum().backward()
    assert len(unpacked) == 6


def test_as_often_as_pytorch(torch):
    def count(lib, leaf, exp, hooks):
        seen = [0, 0]

        def pack(t):
            seen[0] += 1
            return t

        def unpack(t):
            seen[1] += 1
            return t

        x = leaf([1.0, 2.0])
        with hooks(pack, unpack):
            y = (exp(x) * x * x).sum()
        y.backward()
        return seen

    mine = count(wg, lambda v: wg.tensor(v, requires_grad=True), np.exp, wg.saved_tensors_hooks)
    theirs = count(
        torch, lambda v: torch.tensor(v, requires_grad=True), torch.exp,
        torch.autograd.graph.saved_tensors_hooks,
    )  # fmt: skip
    assert mine == theirs


def test_the_innermost_pair_is_used(x):
    log = []

    def hooks(name):
        return wg.saved_tensors_hooks(lambda t: log.append(name) or t, lambda t: t)

    p = wg.tensor(x, requires_grad=True)
    with hooks("outer"):
        np.sin(p)
        with hooks("inner"):
            np.sin(p)
        np.sin(p)
    np.sin(p)
    assert log == ["outer", "inner", "outer"]


def test_hooks_are_those_of_their_thread(x):
    log = []
    p = wg.tensor(x, requires_grad=True)
    with wg.saved_tensors_hooks(lambda t: log.append(1) or t, lambda t: t):
        other = threading.Thread(target=lambda: np.sin(p).sum().backward())
        other.start()
        other.join()
    assert log == []


def test_a_pack_function_may_compute(x, close):
    p, scale = wg.tensor(x, requires_grad=True), wg.tensor(2.0, requires_grad=True)
    with wg.saved_tensors_hooks(lambda t: (t * scale).detach(), lambda t: t / 2.0):
        y = np.sum(np.sin(p) * p)
    y.backward()
    close(p.grad, np.sin(x) + x * np.cos(x))


def test_a_later_write_does_not_reach_what_was_packed(x, close):
    for manner in (
        through_lists,
        in_files,
        lambda: wg.saved_tensors_hooks(lambda t: t, lambda t: t),
    ):
        p = wg.tensor(x, requires_grad=True)
        with manner():
            y = p * 2.0
            z = np.sum(y * y)
        with wg.no_grad():
            p += 100.0
        y[:] = 0.0
        z.backward()
        close(p.grad, 8 * x)


def test_a_low_level_packer(x, close):
    log = []

    class Kept(Packed):
        __slots__ = ("value",)

        def unpack(self):
            log.append("unpack")
            return self.value

    class Packer:
        def pack(self, rule, name, value):
            log.append((repr(rule.op), name))
            if name == "y":
                return value
            kept = Kept()
            kept.value = value
            return kept

    p = wg.tensor(x, requires_grad=True)
    with packing(Packer()):
        y = np.sum(np.exp(p) * p)
    assert log == [("exp", "y"), ("mul", "b"), ("mul", "a")]
    y.backward()
    assert log[3:] == ["unpack", "unpack"]
    close(p.grad, np.exp(x) * (1 + x))


def test_hooks_on_both(x, close):
    """A hooked node whose residuals are packed, in a recorded sweep."""
    p = wg.tensor(x, requires_grad=True)
    with through_lists():
        y = p * p * p
        y.register_hook(lambda g: g * 2.0)
        (g,) = wg.autograd.grad(y.sum(), p, create_graph=True)
    close(g.detach(), 6 * x**2)
    g.sum().backward()
    close(p.grad, 12 * x)


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(("unpack", "error", "text"), [
    (lambda p: None, wg.errors.ArgumentError, "tensor that was packed"),
    (lambda p: p.astype(np.float32), wg.errors.DTypeError, "astype"),
    (lambda p: p[0], wg.errors.ShapeError, r"\[2, 2\]"),
])  # fmt: skip
def test_what_unpack_may_not_give(unpack, error, text):
    a = wg.tensor(SYMMETRIC, requires_grad=True)
    with wg.saved_tensors_hooks(lambda t: t, unpack):
        y = np.sum(a * a)
    with pytest.raises(error, match=text):
        y.backward()
    assert a.grad is None


def test_recorded_values_are_not_unpacked():
    a = wg.tensor(SYMMETRIC, requires_grad=True)
    with wg.saved_tensors_hooks(lambda t: t, lambda t: a * 1.0):
        y = np.sum(a * a)
    with pytest.raises(wg.errors.ArgumentError, match="without a derivative"):
        y.backward()


def test_a_pack_function_that_raises(x):
    p = wg.tensor(x, requires_grad=True)

    def fails(t):
        raise KeyError("full")

    with pytest.raises(KeyError), wg.saved_tensors_hooks(fails, fails):
        np.sin(p)
    assert trace.MODES == 0
    assert not trace.HERE.packers
    np.sin(p).sum().backward()


# ------------------------------------------------------------------ files


def files(folder):
    return sorted(os.listdir(folder))


def test_files_go_when_they_are_not_needed(tmp_path, x):
    p = wg.tensor(x, requires_grad=True)
    with wg.save_on_disk(tmp_path / "deep"):
        y = np.sum(np.sin(p) * np.cos(p))
        folder = tmp_path / "deep"
        assert len(files(folder)) == 4
        y.backward(retain_graph=True)
        assert len(files(folder)) == 4
        y.backward()
        assert files(folder) == []
        np.sin(p)
        assert files(folder) == []  # nobody can ask for it
        z = np.sin(p)
        assert len(files(folder)) == 1
    del z
    assert files(folder) == []


def test_files_go_with_an_exception(tmp_path, x):
    p = wg.tensor(x, requires_grad=True)

    def fails():
        with wg.save_on_disk(tmp_path):
            y = np.sin(p)
            assert files(tmp_path)
            raise KeyError(y.shape)

    with pytest.raises(KeyError):
        fails()
    assert files(tmp_path) == []


def test_a_folder_of_its_own_goes_too(x):
    p = wg.tensor(x, requires_grad=True)
    with wg.save_on_disk() as saved:
        y = np.sum(np.sin(p))
    path = saved.folder.path
    del saved
    assert os.path.isdir(path)
    y.backward()
    del y
    assert not os.path.exists(path)


def test_small_arrays_may_stay(tmp_path):
    p = wg.tensor(np.ones(1000), requires_grad=True)
    with wg.save_on_disk(tmp_path, min_bytes=1000):
        y = np.sin(p)
        z = np.sin(p[:10])
        assert len(files(tmp_path)) == 1
    (y.sum() + z.sum()).backward()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex128])
def test_files_of_other_dtypes_and_orders(dtype, tmp_path):
    a = np.asfortranarray(np.arange(6.0).reshape(2, 3).astype(dtype))
    p = wg.tensor(a, requires_grad=True)
    with wg.save_on_disk(tmp_path):
        y = p.T * p.T
        empty = wg.tensor(np.zeros((0, 3), dtype), requires_grad=True)
        e = empty * empty
    np.real(np.sum(y)).backward()
    np.testing.assert_array_equal(np.asarray(p.grad), np.conj(2 * a))
    np.real(np.sum(e)).backward()
    assert empty.grad.shape == (0, 3)


def test_a_file_that_somebody_else_deleted(tmp_path, x):
    p = wg.tensor(x, requires_grad=True)
    with wg.save_on_disk(tmp_path):
        y = np.sum(np.sin(p))
    for name in files(tmp_path):
        os.unlink(tmp_path / name)
    with pytest.raises(wg.errors.OutputError, match="the file of a residual is gone"):
        y.backward()
    assert p.grad is None


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(wg.errors.OutputError, match="cannot be written"):
        wg.save_on_disk(tmp_path / "file" / "deep")


# ------------------------------------------------------------------ nothing is left behind


class Boom(Exception):
    pass


def boom(*args):
    raise Boom


def step(p, i):
    """One step that fails at a place chosen by i, or comes through."""
    kind = i % 8
    if kind == 0:
        h = np.sin(p) * p
        boom(h)
    y = np.sin(p) * p
    if kind == 1:
        y.register_hook(boom)
    elif kind == 2:
        y.register_hook(lambda g: g * y.detach())  # holds the tensor itself
        y.grad_fn.register_hook(lambda gi, go: None if y.shape else gi)
    elif kind == 3:
        y.retain_grad()
        y.grad_fn.register_prehook(boom)
    elif kind == 4:
        with wg.saved_tensors_hooks(lambda t: t if i % 16 < 8 else boom(), boom):
            y = y * y
    elif kind == 5:
        with wg.no_grad(), wg.enable_grad(), packing(None):
            boom()
    elif kind == 6:
        wg.grad(lambda t: boom() if i % 16 < 8 else np.sum(t * t))(np.ones(3))
    elif kind == 7:
        handle = p.register_hook(lambda g: boom(p))
        try:
            y.sum().backward()
        finally:
            handle.remove()
    y.sum().backward()


def steps(n):
    p = wg.tensor(np.linspace(0.1, 1.0, 20), requires_grad=True)
    failed = 0
    for i in range(n):
        try:
            step(p, i)
        except Boom:
            failed += 1
        p.grad = None
    return failed


def flat(n, warm=128):
    """No object, and no block of memory, more after n steps, without the collector."""
    gc.collect()
    gc.disable()
    try:
        steps(warm)
        gc.collect()
        objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
        assert steps(n) >= n // 2
        assert gc.collect() <= 5  # and Python's lists of free tuples are emptied
        more = sys.getallocatedblocks() - blocks
        assert abs(len(gc.get_objects()) - objects) < 50
        assert more < 100, more
        assert trace.MODES == 0
    finally:
        gc.enable()


def test_steps_that_fail_leave_nothing():
    flat(480)


@pytest.mark.slow
def test_many_steps_that_fail_leave_nothing():
    flat(10_000)


def in_threads(n, threads=4):
    ts = [threading.Thread(target=steps, args=(n,)) for _ in range(threads)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()


@pytest.mark.parametrize("n", [128, pytest.param(2_500, marks=pytest.mark.slow)])
def test_threads_leave_nothing(n):
    gc.collect()
    in_threads(64)
    gc.collect()
    gc.disable()
    try:
        objects = len(gc.get_objects())
        in_threads(n)
        assert gc.collect() <= 20
        assert abs(len(gc.get_objects()) - objects) < 100
        assert trace.MODES == 0
    finally:
        gc.enable()


def graph(p, hooks):
    y = np.sin(p)
    z = (y * p).sum()
    hooks(y)
    return z, weakref.ref(y), weakref.ref(z.node)


@pytest.mark.parametrize("hooks", [
    lambda y: None,
    lambda y: y.register_hook(lambda g: g * 2.0),
    lambda y: y.retain_grad(),
    lambda y: y.grad_fn.register_hook(lambda gi, go: None),
])  # fmt: skip
def test_a_dropped_graph_goes_at_once(hooks):
    p = wg.tensor([1.0, 2.0], requires_grad=True)
    gc.disable()
    try:
        for back in (False, True):
            z, y, node = graph(p, hooks)
            if back:
                z.backward()
            del z
            assert y() is None
            assert node() is None
    finally:
        gc.enable()


def test_a_hook_that_holds_its_tensor_goes_with_the_sweep():
    """Before the sweep it is a cycle, and the garbage collector's; documented in `hooks`."""
    p = wg.tensor([1.0, 2.0], requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        for hooks in (
            lambda y: y.register_hook(lambda g: g * y.detach()),
            lambda y: y.grad_fn.register_prehook(lambda go: None if y.shape else go),
        ):
            z, y, node = graph(p, hooks)
            z.backward()
            del z
            assert y() is None
            assert node() is None
            z, y, node = graph(p, hooks)
            wg.autograd.grad(z, p)
            del z
            assert y() is None
            assert node() is None
        z, y, node = graph(p, lambda y: y.register_hook(lambda g: g * y.detach()))
        del z
        assert y() is not None
        gc.collect()
        assert y() is None
    finally:
        gc.enable()


def test_a_handle_does_not_keep_the_graph():
    p = wg.tensor([1.0, 2.0], requires_grad=True)
    y = np.sin(p)
    handle = y.register_hook(lambda g: g)
    node = weakref.ref(y.node)
    del y
    assert node() is None
    handle.remove()
