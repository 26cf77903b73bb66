"""Fourier transforms: linear maps, each with its transpose.

    FFT -> itself        RFFT <-> IRFFT, with the weights of the half spectrum

Cotangents pair as Re(sum(g * dx)), without conjugation, so the transpose of a complex-linear map is
its plain transpose, and the matrix e^(-2 pi i jk / n) is symmetric.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import Linear, op
from ..structural import fit
from ..types import Array, Aval, DType, Shape, shape_of
from . import elementwise as e
from .index import GetItem, Pad
from .linear import after

TRANSPOSED = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
SPECTRUM = np.array([1.0 + 0.5j, -0.3 + 1.2j, 0.7 - 0.4j])


def resize(x: Array, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Array:
    """Cut axes or pad them with zeros at the end, as `n=` does."""
    s = shape_of(x)
    want = dict(zip(axes, sizes))
    if any(s[a] > n for a, n in want.items()):
        x = GetItem(tuple(slice(want.get(i)) for i in range(len(s))))(x)
    if any(s[a] < n for a, n in want.items()):
        x = Pad(tuple((0, max(0, want.get(i, n) - n)) for i, n in enumerate(s)))(x)
    return x


def resized(shape: Shape, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Shape:
    want = dict(zip(axes, sizes))
    return tuple(want.get(i, n) for i, n in enumerate(shape))


def spectral(dtype: DType) -> DType:
    return np.fft.fft(np.zeros(1, dtype)).dtype


def weights(n: int, ndim: int, axis: int, dtype: DType) -> Array:
    """How often a frequency of the half spectrum stands in the whole: 1 at 0 and n/2, else 2."""
    w = np.full(n // 2 + 1, 2, np.empty(0, dtype).real.dtype)
    w[0] = 1
    if n % 2 == 0:
        w[-1] = 1
    return w.reshape([-1 if i == axis else 1 for i in range(ndim)])


@op
class FFT(Linear):
    """y[k] = c sum_j x[j] e^(-+ 2 pi i jk / n) along each of `axes`, x cut or padded to `sizes`.

    The sign is + with `inverse`; c is 1, 1/n or 1/sqrt(n) by `norm`. The matrix is symmetric: gx is
    the same transform of gy, cut or padded back, and its real part for a real x.
    """

    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    norm: str | None = None
    inverse: bool = False

    examples: ClassVar[Any] = [
        (((3,), (0,)), (3,)),
        (((3,), (0,)), SPECTRUM),
        (((4, 2), (0, 1), "ortho"), (3, 3)),
        (((2, 5), (2, 0), "forward", True), (3, 1, 2)),
        (((3,), (1,)), (0, 3)),
    ]

    def impl(self, x: Array) -> Array:
        f = np.fft.ifftn if self.inverse else np.fft.fftn
        return f(x, self.sizes, self.axes, self.norm)  # type: ignore[arg-type]

    def infer(self, x: Aval) -> Aval:
        return Aval(resized(x.shape, self.axes, self.sizes), spectral(x.dtype))

    def vjp(self, g: Array, x_shape: Shape, x_dtype: DType) -> Array:
        return fit(
            resize(self(g), self.axes, tuple(x_shape[a] for a in self.axes)), x_shape, x_dtype
        )

    def batch(self, xs: Any, dims: Any) -> Array:
        return FFT(self.sizes, after(self.axes), self.norm, self.inverse)(*xs)


@op
class RFFT(Linear):
    """The frequencies 0 .. n/2 of a real x:  y[k] = c sum_j x[j] e^(-2 pi i jk / n).

    gx[j] = c Re sum_k gy[k] e^(-2 pi i jk / n), which is the inverse transform of conj(gy) / w,
    where w is how often a frequency of the half stands in the whole spectrum.
    """

    n: int
    axis: int
    norm: str | None = None

    examples: ClassVar[Any] = [
        ((4, 0), (4,)),
        ((5, 1, "ortho"), (2, 4)),
        ((3, 0, "forward"), (5, 2)),
        ((1, 0), (1,)),
        ((2, 1), (0, 2)),
    ]

    def impl(self, x: Array) -> Array:
        return np.fft.rfft(x, self.n, self.axis, self.norm)  # type: ignore[arg-type]

    def infer(self, x: Aval) -> Aval:
        if x.dtype.kind == "c":
            raise TypeError("a real transform takes real numbers")
        return Aval(resized(x.shape, (self.axis,), (self.n // 2 + 1,)), spectral(x.dtype))

    def vjp(self, g: Array, x_shape: Shape, x_dtype: DType) -> Array:
        share = 1.0 / weights(self.n, len(x_shape), self.axis, g.dtype)
        gx = IRFFT(self.n, self.axis, TRANSPOSED[self.norm])(e.conj(g) * share)
        return fit(resize(gx, (self.axis,), (x_shape[self.axis],)), x_shape, x_dtype)

    def batch(self, xs: Any, dims: Any) -> Array:
        return RFFT(self.n, self.axis + 1, self.norm)(*xs)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        if isinstance(error, TypeError):
            return "a real transform takes real numbers", None, "np.fft.fft(x)"
        return super().diagnose(xs, error)


@op
class IRFFT(Linear):
    """The real signal of n points with the frequencies x:

    y[j] = c sum_k w[k] Re(x[k] e^(2 pi i jk / n)),  w = 1 at k = 0 and n/2, else 2.

    The imaginary parts of the frequencies 0 and n/2 have no part in it.
    gx[k] = c w[k] sum_j gy[j] e^(2 pi i jk / n) = c w[k] conj(rfft(gy)[k]).
    """

    n: int
    axis: int
    norm: str | None = None

    examples: ClassVar[Any] = [
        ((4, 0), SPECTRUM),
        ((5, 0, "ortho"), SPECTRUM),
        ((6, 0, "forward"), SPECTRUM),
        ((2, 0), SPECTRUM),
        ((4, 1), (2, 3)),
        ((4, 1), (0, 3)),
    ]

    def impl(self, x: Array) -> Array:
        return np.fft.irfft(x, self.n, self.axis, self.norm)  # type: ignore[arg-type]

    def infer(self, x: Aval) -> Aval:
        real = np.empty(0, spectral(x.dtype)).real.dtype
        return Aval(resized(x.shape, (self.axis,), (self.n,)), real)

    def vjp(self, g: Array, x_shape: Shape, x_dtype: DType) -> Array:
        w = weights(self.n, len(x_shape), self.axis, g.dtype)
        gx = e.conj(RFFT(self.n, self.axis, TRANSPOSED[self.norm])(g)) * w
        return fit(resize(gx, (self.axis,), (x_shape[self.axis],)), x_shape, x_dtype)

    def batch(self, xs: Any, dims: Any) -> Array:
        return IRFFT(self.n, self.axis + 1, self.norm)(*xs)
