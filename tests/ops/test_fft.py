"""Fourier transforms are matrices: each cotangent against the plain transpose of its matrix."""

import numpy as np
import pytest

import wengert as wg
from wengert.ops.fft import FFT, IRFFT, RFFT
from wengert.testing import check_grads

F = np.fft
rng = np.random.default_rng(5)


def real(*shape):
    return rng.standard_normal(shape)


def cplx(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def matrix(f, n, unit=1.0):
    """The columns f(unit e_k)."""
    return np.stack([f(unit * e) for e in np.eye(n)], axis=-1)


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("n", [1, 2, 4, 5, 8])
def test_cotangents_are_plain_transposes(n, norm):
    x, g = cplx(5), cplx(n)
    for f in (F.fft, F.ifft):
        a = matrix(lambda e, f=f: f(e, n, norm=norm), 5)
        np.testing.assert_allclose(wg.vjp(lambda x, f=f: f(x, n, norm=norm), x)[1](g)[0], a.T @ g)
    x, g = real(5), cplx(n // 2 + 1)
    a = matrix(lambda e: F.rfft(e, n, norm=norm), 5)
    got = wg.vjp(lambda x: F.rfft(x, n, norm=norm), x)[1](g)[0]
    np.testing.assert_allclose(got, (a.T @ g).real, atol=1e-14)
    x, g = cplx(5), real(n)
    a, b = (matrix(lambda e: F.irfft(e, n, norm=norm), 5, unit) for unit in (1, 1j))
    got = wg.vjp(lambda x: F.irfft(x, n, norm=norm), x)[1](g)[0]
    np.testing.assert_allclose(got, a.T @ g - 1j * (b.T @ g), atol=1e-14)


def test_energy_has_the_gradient_twice_the_signal():
    x = real(7)
    got = wg.grad(lambda x: np.sum(abs(F.fft(x, norm="ortho")) ** 2))(x)
    np.testing.assert_allclose(got, 2 * x)
    z = wg.tensor(cplx(6), requires_grad=True)
    (abs(F.fft(z, norm="ortho")) ** 2).sum().backward()
    np.testing.assert_allclose(z.grad.value(), 2 * z.value())


def test_circular_convolution():
    x, k = real(6), real(6)
    got = wg.grad(lambda x: np.sum(F.irfft(F.rfft(x) * F.rfft(k), 6)[0]))(x)
    np.testing.assert_allclose(got, np.roll(k[::-1], 1))


def test_both_modes_and_two_orders_of_nonlinear_uses():
    def f(x):
        return np.sum(np.sin(F.irfft(F.rfft(x, axis=0) ** 2, axis=0)))

    check_grads(f, (real(4, 3),), order=3)
    check_grads(lambda z: np.sum(F.fft2(z).real ** 3), (cplx(2, 3),), order=2)


def test_lanes():
    stack = real(4, 3, 5)
    want = np.stack([F.rfftn(x) for x in stack])
    np.testing.assert_allclose(wg.vmap(F.rfftn)(stack), want)
    want = np.stack([F.fft(x, 7, axis=0) for x in stack.swapaxes(0, 1)])
    np.testing.assert_allclose(wg.vmap(lambda x: F.fft(x, 7, axis=0), in_axes=1)(stack), want)


def test_single_precision_stays():
    x = real(5).astype(np.float32)
    for f in (F.fft, F.rfft, F.irfft, F.hfft, F.ihfft):
        assert wg.grad(lambda x, f=f: np.sum(f(x).real))(x).dtype == np.float32
        assert f(wg.tensor(x)).dtype == f(x).dtype


def test_operations_are_values():
    assert FFT((3,), (0,), None, False) is FFT((3,), (0,), None, False)
    assert RFFT(3, 0) == RFFT(3, 0)
    assert IRFFT(3, 0) != IRFFT(4, 0)
