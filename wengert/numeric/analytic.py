"""Complex numbers that say so when a function of them is not analytic.

The complex step needs a function whose Taylor series holds for complex arguments too. `abs`,
`real`, `conj`, norms, maxima and comparisons have none: they would give a wrong slope without a
word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UnsupportedError

__all__ = ["Analytic", "plain"]

UFUNCS = {
    np.absolute, np.fabs, np.conjugate, np.sign, np.maximum, np.minimum, np.fmax, np.fmin,
    np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.floor,
    np.ceil, np.rint, np.trunc, np.arctan2, np.hypot, np.copysign, np.signbit, np.vecdot,
}  # fmt: skip
FUNCTIONS = {
    np.real, np.imag, np.angle, np.vdot, np.sort, np.argsort, np.argmax, np.argmin, np.max, np.min,
    np.median, np.quantile, np.percentile, np.ptp, np.var, np.std, np.clip, np.sort_complex,
    np.searchsorted, np.unique, np.real_if_close, np.allclose, np.isclose, np.array_equal,
    np.linalg.norm, np.linalg.eigh, np.linalg.eigvalsh, np.linalg.svd, np.linalg.cholesky,
    np.linalg.qr, np.linalg.lstsq, np.linalg.pinv, np.linalg.cond, np.linalg.slogdet,
}  # fmt: skip


def refused(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"wg.numeric, method='complex': {name}(x)",
        "the complex step needs an analytic function, and this one is not",
        fix="method='richardson', which asks for real values alone",
    )


def plain(x: Any) -> Any:
    if isinstance(x, Analytic):
        return x.view(np.ndarray)
    if isinstance(x, tuple | list):
        return type(x)(plain(v) for v in x)
    return x


def guarded(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(guarded(v) for v in x)
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "c":
        return np.asarray(x).view(Analytic)
    return x


class Analytic(np.ndarray):
    """A complex array on which only analytic functions are evaluated."""

    def __array_ufunc__(self, ufunc: Any, method: str, *xs: Any, **kwargs: Any) -> Any:
        if ufunc in UFUNCS:
            raise refused(f"np.{ufunc.__name__}")
        if "out" in kwargs:
            kwargs["out"] = plain(kwargs["out"])
            for target in kwargs["out"]:
                if isinstance(target, np.ndarray) and target.dtype.kind != "c":
                    raise refused(f"np.{ufunc.__name__} into a real buffer: ")
        return guarded(getattr(ufunc, method)(*plain(xs), **kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in FUNCTIONS:
            raise refused(f"{func.__module__.replace('numpy', 'np')}.{func.__name__}")
        return guarded(super().__array_function__(func, types, args, kwargs))

    def __getitem__(self, index: Any) -> Any:
        return guarded(super().__getitem__(index))

    @property  # type: ignore[misc]
    def real(self) -> Any:
        raise refused("real")

    @property  # type: ignore[misc]
    def imag(self) -> Any:
        raise refused("imag")

    def __float__(self) -> float:
        raise refused("float")

    def __int__(self) -> int:
        raise refused("int")

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        if np.dtype(dtype).kind != "c":
            raise refused(f"astype({np.dtype(dtype)})")
        return guarded(super().astype(dtype, *args, **kwargs))


def _refusing(name: str) -> Any:
    def method(self: Analytic, *args: Any, **kwargs: Any) -> Any:
        raise refused(name)

    return method


METHODS = (
    "argmax", "argmin", "argsort", "clip", "conj", "conjugate", "max", "min", "partition", "sort",
    "std", "var",
)  # fmt: skip
for _name in METHODS:
    setattr(Analytic, _name, _refusing(_name))
