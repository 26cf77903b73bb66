"""np.fft on tensors: NumPy's bits, gradients, and what is refused."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ArgumentError, AxisError, DTypeError, ShapeError
from wengert.testing import check_grads

F = np.fft
rng = np.random.default_rng(6)


def real(*shape):
    return rng.standard_normal(shape)


def cplx(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


ONE = [F.fft, F.ifft, F.rfft, F.irfft, F.hfft, F.ihfft]
MANY = [F.fft2, F.ifft2, F.fftn, F.ifftn, F.rfft2, F.irfft2, F.rfftn, F.irfftn]
REAL = {F.rfft, F.ihfft, F.rfft2, F.rfftn}
CALLS = [(f, {}) for f in ONE + MANY]
CALLS += [(f, {"n": n, "axis": a}) for f in ONE for n, a in ((6, -1), (3, 0), (1, 1), (5, -2))]
CALLS += [(f, {"norm": m}) for f in ONE + MANY for m in ("backward", "ortho", "forward")]
CALLS += [(f, {"s": (3, 6), "axes": (0, 2), "norm": "ortho"}) for f in MANY]
CALLS += [(f, {"s": (3, -1), "axes": (2, 1)}) for f in MANY]
CALLS += [(f, {"axes": (1,)}) for f in (F.fftn, F.ifftn, F.rfftn, F.irfftn)]
CALLS += [(f, {"axes": (1, 0, 2)}) for f in (F.fftn, F.ifftn, F.rfftn, F.irfftn)]
CALLS += [(f, {"axes": (1, 1)}) for f in (F.fftn, F.ifftn)]
CALLS += [(f, {"axes": a}) for f in (F.fftshift, F.ifftshift) for a in (None, 0, (0, 2), -1)]


def name(v):
    return getattr(v, "__name__", None) or ",".join(f"{k}={x}" for k, x in v.items())


@pytest.mark.parametrize(("f", "kwargs"), CALLS, ids=name)
def test_values_are_numpys_and_gradients_right(f, kwargs):
    for x in (real(2, 3, 4),) if f in REAL else (real(2, 3, 4), cplx(4, 3, 3)):
        want, got = f(x, **kwargs), f(wg.tensor(x, requires_grad=True), **kwargs)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.value(), want)
        check_grads(lambda x: f(x, **kwargs), (x,), order=1)


@pytest.mark.parametrize("f", ONE + MANY, ids=name)
def test_other_types(f):
    ints = np.arange(12).reshape(3, 4)
    for x in (ints, ints.astype(np.float32), np.zeros((0, 2, 4))):
        if x.size == 0 and f in (F.fftn, F.ifftn, F.rfftn, F.irfftn):
            with pytest.raises(ValueError, match="data points"):
                f(wg.tensor(x))
            continue
        got, want = f(wg.tensor(x)), f(x)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.value(), want)


def test_frequencies():
    np.testing.assert_array_equal(wg.numpy.fft.fftfreq(5, 0.1), F.fftfreq(5, 0.1))
    np.testing.assert_array_equal(wg.numpy.fft.rfftfreq(5, 0.1), F.rfftfreq(5, 0.1))


def test_out_is_written_with_its_gradient():
    x = wg.tensor(cplx(4), requires_grad=True)
    out = wg.zeros(4, dtype=complex)
    assert F.fft(x, out=out) is out
    out[1].real.backward()
    np.testing.assert_allclose(np.abs(x.grad.value()), 1)


def test_refusals_say_what_is_wrong():
    x = wg.tensor(real(3, 4))
    with pytest.raises(ArgumentError, match="data points"):
        F.fft(x, n=0)
    with pytest.raises(ArgumentError, match="Invalid norm"):
        F.fft(x, norm="none")
    with pytest.raises(ArgumentError, match="Invalid norm"):
        F.hfft(x, norm="none")
    with pytest.raises(AxisError, match="axis 2 does not exist"):
        F.fft(x, axis=2)
    with pytest.raises(ShapeError, match="different lengths"):
        F.fftn(x, s=(2,), axes=(0, 1))
    with pytest.raises(DTypeError, match=r"(?s)real numbers.*np\.fft\.fft"):
        F.rfft(wg.tensor(cplx(3)))
    with pytest.raises(ArgumentError, match="data points"):
        F.irfft(x[:, :1])
