"""numpy.fft for tensors, with NumPy's signatures. No rules here: see wengert.ops.fft."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops import elementwise as e
from ..ops.fft import FFT, IRFFT, RFFT, TRANSPOSED
from ..trace import bind
from .check import axis_of
from .creation import asarray
from .table import implements, into, tensor


def _frequencies(name: str) -> Any:
    def f(n: int, /, d: float = 1.0, *, dtype: Any = None, device: Any = None) -> Any:
        return asarray(getattr(np.fft, name)(n, d), dtype=dtype, device=device)

    f.__name__ = name
    f.__doc__ = f"The frequencies of the terms, for n samples d apart: np.fft.{name}."
    return f


fftfreq, rfftfreq = map(_frequencies, ("fftfreq", "rfftfreq"))


def _norm(what: str, norm: Any) -> Any:
    if norm not in TRANSPOSED:
        raise ArgumentError(
            f"{what}(x, norm={norm!r})",
            f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".',
        )
    return norm


def _points(what: str, n: Any) -> int:
    n = int(n)
    if n < 1:
        raise ArgumentError(
            f"{what}(x, n={n})", f"Invalid number of FFT data points ({n}) specified."
        )
    return n


def _cook(what: str, x: Any, s: Any, axes: Any, inverse: bool = False) -> list[tuple[int, int]]:
    """(number of points, axis) of every transform, in NumPy's reading of `s` and `axes`."""
    given = s is not None
    if axes is None:
        k = len(s) if given else x.ndim
        axes = list(range(-k, 0))
    axes = [axis_of(what, x, a) for a in axes]
    sizes = list(s) if given else [x.shape[a] for a in axes]
    if len(sizes) != len(axes):
        raise ShapeError(
            f"{what}(x, s, axes)", "Shape and axes have different lengths.", operands=[("x", x)]
        )
    if inverse and not given and axes:
        sizes[-1] = (x.shape[axes[-1]] - 1) * 2
    sizes = [x.shape[a] if n in (-1, None) else n for n, a in zip(sizes, axes, strict=True)]
    return [(_points(what, n), a) for n, a in zip(sizes, axes, strict=True)]


def _complex(x: Any, where: list[tuple[int, int]], norm: Any, inverse: bool) -> Any:
    """The transforms one after another, from the last."""
    axes = [a for _, a in where]
    if len(set(axes)) == len(axes) and where:
        return bind(FFT(tuple(n for n, _ in where), tuple(axes), norm, inverse), x)
    for n, a in reversed(where):
        x = bind(FFT((n,), (a,), norm, inverse), x)
    return x


def _finish(y: Any, out: Any) -> Any:
    return y if out is None else into(out, y)


def _one(what: str, x: Any, n: Any, axis: Any) -> tuple[int, int]:
    axis = axis_of(what, x, -1 if axis is None else axis)
    return _points(what, x.shape[axis] if n is None else n), axis


@implements(np.fft.fft)
def fft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    """Discrete Fourier transform along an axis."""
    a = tensor(a)
    return _finish(_complex(a, [_one("fft", a, n, axis)], _norm("fft", norm), False), out)


@implements(np.fft.ifft)
def ifft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    """Inverse transform along an axis."""
    a = tensor(a)
    return _finish(_complex(a, [_one("ifft", a, n, axis)], _norm("ifft", norm), True), out)


@implements(np.fft.fftn)
def fftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """Transform along several axes."""
    a = tensor(a)
    return _finish(_complex(a, _cook("fftn", a, s, axes), _norm("fftn", norm), False), out)


@implements(np.fft.ifftn)
def ifftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """Inverse transform along several axes."""
    a = tensor(a)
    return _finish(_complex(a, _cook("ifftn", a, s, axes), _norm("ifftn", norm), True), out)


@implements(np.fft.fft2)
def fft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """Transform along two axes."""
    return fftn(a, s, axes, norm, out)


@implements(np.fft.ifft2)
def ifft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """Inverse transform along two axes."""
    return ifftn(a, s, axes, norm, out)


def _real(what: str, x: Any) -> Any:
    if x.dtype.kind == "c":
        raise RFFT(1, 0).refusal((x,), TypeError(f"{what} of complex numbers"))
    return x


@implements(np.fft.rfft)
def rfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    """The non-negative frequencies of a real signal."""
    a = _real("rfft", tensor(a))
    return _finish(bind(RFFT(*_one("rfft", a, n, axis), _norm("rfft", norm)), a), out)


@implements(np.fft.irfft)
def irfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    """The real signal with m given frequencies, of 2 (m - 1) points unless n is given."""
    a = tensor(a)
    if n is None:
        n = (a.shape[axis_of("irfft", a, -1 if axis is None else axis)] - 1) * 2
    return _finish(bind(IRFFT(*_one("irfft", a, n, axis), _norm("irfft", norm)), a), out)


@implements(np.fft.rfftn)
def rfftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """The real transform along the last axis, and the complex one along the others."""
    a = _real("rfftn", tensor(a))
    *rest, (n, axis) = _cook("rfftn", a, s, axes)
    y = bind(RFFT(n, axis, _norm("rfftn", norm)), a)
    return _finish(_complex(y, rest, norm, False), out)


@implements(np.fft.irfftn)
def irfftn(a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
    """The inverse of rfftn: complex along the first axes, real along the last."""
    a = tensor(a)
    *rest, (n, axis) = _cook("irfftn", a, s, axes, inverse=True)
    y = _complex(a, rest[::-1], _norm("irfftn", norm), True)
    return _finish(bind(IRFFT(n, axis, norm), y), out)


@implements(np.fft.rfft2)
def rfft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """rfftn along two axes."""
    return rfftn(a, s, axes, norm, out)


@implements(np.fft.irfft2)
def irfft2(a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
    """irfftn along two axes."""
    return irfftn(a, s, axes, norm, out)


@implements(np.fft.hfft)
def hfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    """The real spectrum of a signal with Hermitian symmetry."""
    return irfft(e.conj(tensor(a)), n, axis, TRANSPOSED[_norm("hfft", norm)], out)


@implements(np.fft.ihfft)
def ihfft(a: Any, n: Any = None, axis: Any = -1, norm: Any = None, out: Any = None) -> Any:
    """The inverse of hfft."""
    return _finish(e.conj(rfft(a, n, axis, TRANSPOSED[_norm("ihfft", norm)])), out)


def _shift(what: str, x: Any, axes: Any, sign: int) -> Any:
    x = tensor(x)
    axes = range(x.ndim) if axes is None else axes if isinstance(axes, tuple | list) else (axes,)
    axes = tuple(axis_of(what, x, a) for a in axes)
    shifts = tuple(x.shape[a] // 2 if sign > 0 else -(x.shape[a] // 2) for a in axes)
    return np.roll(x, shifts, axes)


@implements(np.fft.fftshift)
def fftshift(x: Any, axes: Any = None) -> Any:
    """The zero frequency in the middle."""
    return _shift("fftshift", x, axes, 1)


@implements(np.fft.ifftshift)
def ifftshift(x: Any, axes: Any = None) -> Any:
    """The zero frequency at the start again."""
    return _shift("ifftshift", x, axes, -1)


__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift",
    "ihfft", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip
