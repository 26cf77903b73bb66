"""A checkpointed function that writes: to its arguments, to what it closes over, to buffers."""

import numpy as np
from test_checkpoint import TRANSFORMS, W, X, f, leaves, same

import wengert as wg
from wengert import nn


def test_later_writes_to_arguments_and_parameters_change_nothing():
    x, w = leaves(X, W)
    b = wg.tensor(np.ones(4))
    y = wg.checkpoint(lambda x: np.sum(np.tanh(x @ w) * np.exp(x + b)))(x)
    with wg.no_grad():
        x *= 0
        w -= 1
        b[...] = 7
    y.backward()
    want = wg.grad(lambda x, w: np.sum(np.tanh(x @ w) * np.exp(x + 1.0)), (0, 1))(X, W)
    same((x.grad, w.grad), want)
    assert np.all(x.numpy() == 0)
    assert np.array_equal(w.numpy(), W - 1)
    assert np.all(b.numpy() == 7)


def test_later_writes_to_a_plain_argument_change_nothing():
    x = X.copy()
    (w,) = leaves(W)
    y = wg.checkpoint(f)(x, w)
    x[...] = 0
    y.backward()
    same(w.grad, wg.grad(f, 1)(X, W))


def test_writes_to_tensors_outside_happen_once():
    def run(wrap):
        x, w = leaves(X, W)
        mean = wg.tensor(np.zeros(4))
        steps = wg.tensor(np.zeros(()))

        def norm(x):
            h = x @ w
            with wg.no_grad():
                mean.__imul__(0.9)
                mean[...] = mean + 0.1 * h.detach().mean(0)
                steps[...] = steps + 1
            return np.sum(np.tanh(h - mean))

        y = wrap(norm)(x)
        before = mean.numpy().copy()
        y.backward()
        assert np.array_equal(before, mean.numpy())
        assert steps.item() == 1
        return x.grad, w.grad, mean

    same(run(wg.checkpoint), run(lambda f: f))


def test_recorded_writes_to_a_buffer_outside():
    def run(wrap):
        (x,) = leaves(X)
        buffer = wg.zeros((3, 4))
        row = buffer[1]
        whole = buffer.T

        def fill(x):
            buffer[0] = np.sin(x[0])
            row[...] = np.exp(x[1]) * buffer[0]
            return np.sum(whole**2)

        y = wrap(fill)(x)
        z = np.sum(buffer**3) + y + np.sum(row)
        z.backward()
        return x.grad, buffer.detach(), row.detach(), whole.detach()

    same(run(wg.checkpoint), run(lambda f: f))


def test_writes_to_an_argument_and_to_a_view_of_it():
    def run(wrap):
        (x,) = leaves(X)
        h = x * 2.0

        def g(h, top):
            top *= np.sin(h[2])
            h[1] = np.exp(h[0])
            return np.sum(np.tanh(h))

        y = wrap(g)(h, h[0])
        np.sum(y + h * h).backward()
        return x.grad, h.detach()

    same(run(wg.checkpoint), run(lambda f: f))


def test_writes_inside():
    def g(x):
        out = wg.zeros((3, 4))
        for i in range(3):
            out[i] = np.sin(x[i]) * out[i - 1] + x[i]
        out += np.exp(out)
        return np.sum(out**2)

    def run(f):
        (x,) = leaves(X)
        f(x).backward()
        return x.grad

    same(run(wg.checkpoint(g)), run(g))


def test_writes_under_transforms():
    def g(x, w):
        h = x @ w
        h[0] = np.sin(h[1])
        return np.sum(np.tanh(h))

    for name in ("grad", "hessian", "grad of vmap", "grad of jvp", "third order, reverse"):
        same(TRANSFORMS[name](wg.checkpoint(g)), TRANSFORMS[name](g))


def test_an_optimizer_inside_steps_once():
    from wengert.optim import SGD

    w, x = leaves(W, X)
    opt = SGD([w], lr=0.1)

    def g(x):
        loss = np.sum(np.tanh(x.detach() @ w))
        loss.backward()
        opt.step()
        return np.sum(np.exp(x) * w.sum())

    y = wg.checkpoint(g)(x)
    after, grad = w.numpy().copy(), w.grad.numpy().copy()
    y.backward(retain_graph=True)
    assert np.array_equal(w.numpy(), after)
    got = x.grad.numpy().copy()
    assert np.array_equal(got, np.exp(X) * w.numpy().sum())
    np.testing.assert_allclose(w.grad.numpy() - np.exp(X).sum(), grad, rtol=1e-13)


def test_attributes_are_written_once():
    class Norm(nn.Module):
        def __init__(self):
            self.mean = np.zeros(4)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            self.mean = 0.9 * self.mean + 0.1 * x.value().mean(0)
            return np.tanh(x * 2.0)

    norm = Norm()
    (x,) = leaves(X)
    np.sum(wg.checkpoint(norm)(x)).backward()
    assert norm.calls == 1
    assert np.array_equal(norm.mean, 0.1 * X.mean(0))
