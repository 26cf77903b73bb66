# ruff: noqa: E501 - a table has one case a line
# fmt: off
"""Kinks, ties and branches not taken: no nan where no gradient is meant, and the documented choice at a kink."""

import numpy as np
import pytest

import wengert as wg

CASES = {
    "ties of max share": (lambda x: np.max(x), [1, 1, 0], [0.5, 0.5, 0]),
    "ties of ptp": (lambda x: np.ptp(x), [1, 1, 0], [0.5, 0.5, -1]),
    "sort at a tie": (lambda x: np.sort(x)[0], [1, 1, 2], [1, 0, 0]),
    "median of an even number": (lambda x: np.median(x), [1, 3, 2, 4], [0, 0.5, 0.5, 0]),
    "std of a constant": (lambda x: np.std(x), [2, 2, 2], [0, 0, 0]),
    "norm at 0": (lambda x: np.linalg.norm(x), [0, 0], [0, 0]),
    "prod with a zero": (lambda x: np.prod(x), [2, 0, 3], [0, 6, 0]),
    "prod with two zeros": (lambda x: np.prod(x), [0, 0, 3], [0, 0, 0]),
    "cumprod with a zero": (lambda x: np.cumprod(x).sum(), [2, 0, 3], [1, 8, 0]),
    "multiply.reduce with a zero": (lambda x: np.multiply.reduce(x), [2, 0, 3], [0, 6, 0]),
    "clip at its bound": (lambda x: np.clip(x, 0, 1).sum(), [0, 0.5, 1, 2], [1, 1, 1, 0]),
    "clip of a root": (lambda x: np.clip(np.sqrt(x), 1, 3).sum(), [0, 1, 4], [0, 0.5, 0.25]),
    "sum(where)": (lambda x: np.sum(np.sqrt(x), where=x > 0), [1, 0, 4], [0.5, 0, 0.25]),
    "mean(where)": (lambda x: np.mean(np.sqrt(x), where=x > 0), [1, 0, 4], [0.25, 0, 0.125]),
    "prod(where)": (lambda x: np.prod(np.sqrt(x), where=x > 0), [1, 0, 4], [1, 0, 0.25]),
    "max(where)": (lambda x: np.max(np.sqrt(x), where=x > 0, initial=0), [1, 0, 4], [0, 0, 0.25]),
    "nansum": (lambda x: np.nansum(np.sqrt(x)), [1, -1, 4], [0.5, 0, 0.25]),
    "nanmean": (lambda x: np.nanmean(np.log(x)), [1, -1, 4], [0.5, 0, 0.125]),
    "nanmax": (lambda x: np.nanmax(np.log(x)), [1, -1, 4], [0, 0, 0.25]),
    "nanstd": (lambda x: np.nanstd(x), [1, np.nan, 3], [-0.5, 0, 0.5]),
    "nanprod": (lambda x: np.nanprod(np.sqrt(x)), [1, -1, 4], [1, 0, 0.25]),
    "nancumsum": (lambda x: np.nancumsum(np.sqrt(x))[-1], [1, -1, 4], [0.5, 0, 0.25]),
    "nanmedian": (lambda x: np.nanmedian(x), [1, np.nan, 3], [0.5, 0, 0.5]),
    "nan_to_num": (lambda x: np.nan_to_num(np.log(x)).sum(), [1, -1, 0], [1, 0, 0]),
    "where": (lambda x: np.where(x > 0, np.sqrt(x), 0.0).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "select": (lambda x: np.select([x > 0], [np.sqrt(x)], 0.0).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "piecewise": (lambda x: np.piecewise(x, [x > 0], [np.sqrt, 0.0]).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "choose": (lambda x: np.choose([0, 1, 0], [np.sqrt(x), x]).sum(), [1, 0, 4], [0.5, 1, 0.25]),
    "tril": (lambda x: np.tril(np.sqrt(x)).sum(), [[1, 0], [4, 4]], [[0.5, 0], [0.25, 0.25]]),
    "triu": (lambda x: np.triu(np.sqrt(x)).sum(), [[1, 4], [0, 4]], [[0.5, 0.25], [0, 0.25]]),
    "index not read": (lambda x: np.sqrt(x)[[0, 2]].sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "take not read": (lambda x: np.take(np.sqrt(x), [0, 2]).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "compress": (lambda x: np.compress([1, 0, 1], np.sqrt(x)).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "delete": (lambda x: np.delete(np.sqrt(x), 1).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "diagonal": (lambda x: np.diagonal(np.sqrt(x)).sum(), [[1, 0], [0, 4]], [[0.5, 0], [0, 0.25]]),
    "interp outside": (lambda x: np.interp(x, [0.0, 1.0], [0.0, 1.0], left=0.0).sum(), [-1, 0.5, 2], [0, 1, 0]),
    "broadcast_to": (lambda x: np.where(x > 0, np.broadcast_to(np.sqrt(x), (3,)), 0.0).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "add out where": (lambda x: np.sqrt(x, out=wg.zeros(3), where=x > 0).sum(), [1, 0, 4], [0.5, 0, 0.25]),
    "sinc at 0": (lambda x: np.sinc(x).sum(), [0.0, 1.0], [0, -1]),
    "abs at 0": (lambda x: np.abs(x).sum(), [0.0, -1.0], [0, -1]),
    "hypot at 0": (lambda x: np.hypot(x, 0.0).sum(), [0.0, -1.0], [0, -1]),
    "maximum at a tie": (lambda x: np.maximum(x, 1.0).sum(), [1.0, 2.0, 0.0], [0.5, 1, 0]),
    "fmax of nan": (lambda x: np.fmax(x, [np.nan, 0.0]).sum(), [1.0, 2.0], [1, 1]),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("f", "x", "want"), CASES.values(), ids=CASES)
def test_gradient(f, x, want):
    x = np.asarray(x, float)
    np.testing.assert_allclose(wg.grad(f)(x), want, atol=1e-15)
    for d in np.eye(x.size).reshape(x.size, *x.shape):
        slope = wg.jvp(f, (x,), (d,))[1]
        np.testing.assert_allclose(slope, np.sum(np.asarray(want) * d), atol=1e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["cumprod with a zero", "prod with a zero", "sum(where)", "nansum", "nanmean", "where", "select", "choose", "index not read"])
def test_second_order_has_no_nan_either(name):
    f, x, _ = CASES[name]
    assert np.isfinite(wg.hessian(f)(np.asarray(x, float))).all()
