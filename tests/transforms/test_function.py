"""Functions in PyTorch's manner, in every mode and order."""

import numpy as np
import pytest

import wengert as wg
from wengert.testing import check_grads
from wengert.transforms.function import Function, once_differentiable

X, Y = np.array([0.3, 0.5, 0.9]), np.array([2.0, 3.0, -1.0])


class Between(Function):
    """Keeps an intermediate value, which PyTorch's second derivative would take for a constant."""

    @staticmethod
    def forward(ctx, x, y, power):
        s = np.sin(x)
        ctx.save_for_backward(s, np.cos(x), y)
        ctx.power = power
        return s**power * y

    @staticmethod
    def backward(ctx, g):
        s, c, y = ctx.saved_tensors
        p = ctx.power
        return g * p * s ** (p - 1) * c * y, g * s**p, None


class Ends(Function):
    """Keeps arguments and results alone, and computes with plain arrays."""

    @staticmethod
    def forward(ctx, x, y, power):
        out = wg.tensor(np.sin(np.asarray(x)) ** power * np.asarray(y))
        ctx.save_for_backward(x, y, out)
        ctx.power = power
        return out

    @staticmethod
    def backward(ctx, g):
        x, y, out = ctx.saved_tensors
        return g * ctx.power * out * np.cos(x) / np.sin(x), g * out / y, None


class Setup(Function):
    @staticmethod
    def forward(x, y, power):
        return np.sin(x) ** power * y

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, y, ctx.power = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        p = ctx.power
        return g * p * np.sin(x) ** (p - 1) * np.cos(x) * y, g * np.sin(x) ** p, None


class Forward(Function):
    """A tangent rule alone."""

    @staticmethod
    def forward(ctx, x, y, power):
        ctx.save_for_forward(x, y)
        ctx.power = power
        return np.sin(x) ** power * y

    @staticmethod
    def jvp(ctx, dx, dy, _):
        x, y = ctx.saved_tensors
        p = ctx.power
        return p * np.sin(x) ** (p - 1) * np.cos(x) * y * dx + np.sin(x) ** p * dy


class Both(Setup):
    @staticmethod
    def jvp(ctx, dx, dy, _):
        return Forward.jvp(ctx, dx, dy, _)


CLASSES = [Between, Ends, Setup, Forward, Both]


def plain(x, y):
    return np.sin(x) ** 3 * y


def backward(f):
    t = wg.tensor(X, requires_grad=True)
    f(t, Y).sum().backward()
    return t.grad.numpy()


MODES = {
    "backward": backward,
    "grad": lambda f: wg.grad(lambda x: np.sum(f(x, Y) ** 2))(X),
    "jvp": lambda f: wg.jvp(f, (X, Y), (Y, X))[1],
    "hessian": lambda f: wg.hessian(lambda x: np.sum(f(x, x)))(X),
    "order 3": lambda f: wg.grad(wg.grad(wg.grad(lambda x: f(x, x))))(0.4),
    "jvp of grad": lambda f: wg.jvp(wg.grad(lambda x: f(x, x)), (0.4,), (1.0,))[1],
    "grad of jvp": lambda f: wg.grad(lambda x: wg.jvp(lambda x: f(x, x), (x,), (1.0,))[1])(0.4),
    "vmap": lambda f: wg.vmap(f)(X, Y),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f))(X, Y),
    "vmap of hessian": lambda f: wg.vmap(wg.hessian(lambda x: f(x, x)))(X),
    "grad of vmap": lambda f: wg.grad(lambda x: np.sum(wg.vmap(f)(x, Y)))(X),
    "shared": lambda f: wg.grad(lambda s: np.sum(wg.vmap(f, in_axes=(None, 0))(s, Y)))(0.4),
    "jvp of vmap": lambda f: wg.jvp(wg.vmap(f), (X, Y), (Y, X))[1],
}  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode(cls, mode, close):
    close(MODES[mode](lambda x, y: cls.apply(x, y, 3)), MODES[mode](plain), rtol=1e-11)


@pytest.mark.parametrize("cls", CLASSES)
def test_against_differences(cls):
    check_grads(lambda x, y: cls.apply(x, y, 3), (X, Y), order=3)


def test_against_torch(torch):
    class Theirs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(x, y)
            return y * x, y

        @staticmethod
        def backward(ctx, g, h):
            x, y = ctx.saved_tensors
            return g * (y * x + y) + h * y

    class Ours(Function):
        @staticmethod
        def forward(ctx, x):
            y = np.exp(x)
            ctx.save_for_backward(x, y)
            return y * x, y

        backward = Theirs.backward

    a = torch.tensor(X, requires_grad=True)
    u, v = Theirs.apply(a)
    (u**2 + v).sum().backward()
    b = wg.tensor(X, requires_grad=True)
    u, v = Ours.apply(b)
    (u**2 + v).sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-14)


def test_complex_gradients_are_those_of_torch(torch):
    def made(base, lib):
        class Square(base):
            @staticmethod
            def forward(ctx, z):
                ctx.save_for_backward(z)
                return z * z

            @staticmethod
            def backward(ctx, g):
                (z,) = ctx.saved_tensors
                return g * lib.conj(2 * z)

        return Square

    z = np.array([1 + 2j, 0.5 - 1j])
    a = torch.tensor(z, requires_grad=True)
    (made(torch.autograd.Function, torch).apply(a) * (2 - 1j)).real.sum().backward()
    b = wg.tensor(z, requires_grad=True)
    np.real(made(Function, np).apply(b) * (2 - 1j)).sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-14)
    b = wg.tensor(z, requires_grad=True)
    np.real(b * b * (2 - 1j)).sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-14)


def test_a_number_kept_between_is_not_a_constant():
    class Norm(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.norm = float(np.sqrt(np.sum(np.asarray(x) ** 2)))
            ctx.save_for_backward(x)
            return wg.tensor(ctx.norm)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * x / ctx.norm

    np.testing.assert_allclose(wg.grad(Norm.apply)(X), X / np.linalg.norm(X))
    with pytest.raises(wg.errors.UnsupportedError, match="second derivative"):
        wg.hessian(Norm.apply)(X)


def test_needs_input_grad_and_none():
    seen = []

    class F(Function):
        @staticmethod
        def forward(ctx, x, k, y):
            seen.append(ctx.needs_input_grad)
            ctx.save_for_backward(x, y)
            return x * k + y

        @staticmethod
        def backward(ctx, g):
            seen.append(ctx.needs_input_grad)
            return g, None, None

    x = wg.tensor(X, requires_grad=True)
    F.apply(x, 2, wg.tensor(Y)).sum().backward()
    assert seen == [(True, False, False)] * 2
    np.testing.assert_allclose(x.grad.numpy(), np.ones(3))


def test_mark_non_differentiable():
    class Sort(Function):
        @staticmethod
        def forward(ctx, x):
            order = np.argsort(x)
            rank = order * 1.0
            ctx.mark_non_differentiable(rank)
            ctx.order = order
            return x[order], rank

        @staticmethod
        def backward(ctx, g, _):
            out = wg.zeros(3)
            out[ctx.order] = g
            return out

    x = wg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    y, rank = Sort.apply(x)
    assert not rank.requires_grad
    (y * np.arange(3.0)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [2, 0, 1])


def test_materialize_grads():
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h):
            seen.append((g is None, h is None))
            return (0 if g is None else g * 2) + (0 if h is None else h * 3)

    x = wg.tensor(X, requires_grad=True)
    Two.apply(x)[1].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(3, 3.0))
    assert seen == [(True, False)]


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * g * x**2

    np.testing.assert_allclose(wg.grad(Once.apply)(2.0), 12.0)
    np.testing.assert_allclose(wg.vmap(wg.grad(Once.apply))(X), 3 * X**2)
    with pytest.raises(wg.errors.UnsupportedError, match="second derivative"):
        wg.grad(wg.grad(Once.apply))(2.0)


def test_refusals():
    class Dirty(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)

    with pytest.raises(wg.errors.UnsupportedError, match="mark_dirty"):
        Dirty.apply(wg.tensor(X))

    class Nothing(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    with pytest.raises(wg.errors.UnsupportedError, match="neither a backward nor a jvp"):
        wg.grad(Nothing.apply)(1.0)

    class Few(Nothing):
        @staticmethod
        def forward(ctx, x, k):
            return x * k

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(wg.errors.ShapeError, match="one gradient for each argument"):
        wg.grad(lambda x: Few.apply(x, 2.0))(1.0)

    class Wrong(Nothing):
        @staticmethod
        def backward(ctx, g):
            return g.sum()

    with pytest.raises(wg.errors.ShapeError, match="gradient has the shape"):
        wg.grad(lambda x: np.sum(Wrong.apply(x)))(X)


def test_closed_over_values():
    def loss(w):
        class Scale(Function):
            @staticmethod
            def forward(ctx, x):
                return x * w

            @staticmethod
            def backward(ctx, g):
                return g * w

        return np.sum(Scale.apply(w))

    with pytest.raises(wg.errors.UnsupportedError, match="pass the value as an argument"):
        wg.grad(loss)(X)


def test_plain_arrays():
    assert isinstance(Between.apply(X, Y, 3), np.ndarray)


class Round(Function):
    @staticmethod
    def forward(ctx, x):
        return np.round(x)

    @staticmethod
    def backward(ctx, g):
        return g


def test_straight_through(close):
    close(wg.grad(lambda x: np.sum(Round.apply(x) ** 2))(X), 2 * np.round(X))
