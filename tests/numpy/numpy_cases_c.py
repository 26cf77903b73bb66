# ruff: noqa: E501 - a table has one case a line
# fmt: off
"""Cases: running products, nan, statistics, calculus on a grid, polynomials, grids, sets."""

import numpy as np
from numpy_cases_a import NOGRAD, A, B, C, M, P, Q, S, V, wg_zeros
from numpy_checks import arr, case

N = {**NOGRAD, "vmap": False}
G = np.sort(arr(6, seed=4)) + np.arange(6)
K = arr(3, seed=5)
HOLES = np.where(M, 1.0, np.nan)
ZEROS = np.array([[1.5, 0.0, 2.0, 3.0], [0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 0.5, 0.0]])

# ------------------------------------------------------------------ running products
case("cumprod", np.cumprod, A)
case("cumprod axis", lambda x: np.cumprod(x, axis=1), C)
case("cumprod zeros", lambda x: np.cumprod(x, axis=1), ZEROS)
case("cumprod dtype", lambda x: np.cumprod(x, axis=0, dtype="f8"), A, dtypes="fl")
case("cumprod out", lambda x: np.cumprod(x, axis=0, out=wg_zeros((3, 4), x)), A, dtypes="f", vmap=False)
case("cumprod bad", lambda x: np.cumprod(x, axis=2), A, **N)
case("x.cumprod", lambda x: x.cumprod(-1), A)
case("prod zeros", lambda x: np.prod(x, axis=1), ZEROS)
if hasattr(np, "cumulative_sum"):
    for f in (np.cumulative_sum, np.cumulative_prod):
        case(f.__name__, f, V)
        case(f"{f.__name__} axis", lambda x, f=f: f(x, axis=-1, include_initial=True), A)
        case(f"{f.__name__} dtype", lambda x, f=f: f(x, axis=0, dtype=np.float64), A, dtypes="fl")
        case(f"{f.__name__} no axis", f, A, **N)

# ------------------------------------------------------------------ nan
for f in (np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd, np.nanmax, np.nanmin):
    n, d = f.__name__, "fl" if f in (np.nanmax, np.nanmin) else "fDl"
    case(n, f, A, dtypes=d)
    case(f"{n} holes", lambda x, f=f: f(x * HOLES), A, dtypes="f")
    case(f"{n} holes axis", lambda x, f=f: f(np.where(M, x, np.nan), axis=1), A, dtypes="f")
    case(f"{n} keepdims", lambda x, f=f: f(x * HOLES, axis=0, keepdims=True), A, dtypes="f", second=False)
    case(f"{n} empty lane", lambda x, f=f: f(np.where(np.array([[True], [False], [True]]), x, np.nan), axis=1), A, dtypes="f", grad=False, second=False)
    case(f"{n} bad", lambda x, f=f: f(x, axis=2), A, **N)
case("nanvar ddof", lambda x: np.nanvar(x * HOLES, axis=1, ddof=1), A, dtypes="f")
case("nanstd ddof too high", lambda x: np.nanstd(x * HOLES, axis=1, ddof=3), A, dtypes="f", grad=False, second=False)
case("nanmean where", lambda x: np.nanmean(x * HOLES, axis=1, where=[True, True, False, True]), A, dtypes="f")
case("nansum dtype initial", lambda x: np.nansum(x * HOLES, axis=0, dtype="f8", initial=2), A, dtypes="f")
case("nanmax initial where", lambda x: np.nanmax(x, axis=0, initial=0.25, where=M), A, dtypes="f")
for f in (np.nancumsum, np.nancumprod):
    case(f.__name__, lambda x, f=f: f(x * HOLES), A, dtypes="f")
    case(f"{f.__name__} axis", lambda x, f=f: f(x * HOLES, axis=1), A, dtypes="f")
for f in (np.nanargmax, np.nanargmin):
    case(f.__name__, lambda x, f=f: f(x * HOLES, axis=1), A, **N, dtypes="fl")
    case(f"{f.__name__} of nothing", lambda x, f=f: f(x * np.nan, axis=1), A, **N, dtypes="f")

# ------------------------------------------------------------------ order statistics
for f in (np.median, np.nanmedian):
    n = f.__name__
    case(n, f, A, dtypes="fl")
    case(f"{n} axis", lambda x, f=f: f(x, axis=0), A, dtypes="flb")
    case(f"{n} even", lambda x, f=f: f(x, axis=1, keepdims=True), A, dtypes="fl")
    case(f"{n} axes", lambda x, f=f: f(x, axis=(0, 2)), C, dtypes="fl")
    case(f"{n} keepdims", lambda x, f=f: f(x, keepdims=True), C, dtypes="f", second=False)
    case(f"{n} of a number", f, S, dtypes="fl", second=False)
    case(f"{n} bad", lambda x, f=f: f(x, axis=2), A, **N)
    case(f"{n} holes", lambda x, f=f: f(np.where(M, x, np.nan), axis=0), A, dtypes="f", grad=f is np.nanmedian, second=False)
METHODS = ["inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
           "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest"]
for m in METHODS:
    case(f"quantile {m}", lambda x, m=m: np.quantile(x, 0.37, method=m), arr(7), dtypes="f", second=False)
    case(f"quantile {m} several", lambda x, m=m: np.quantile(x, [0.0, 0.1, 0.5, 0.99, 1.0], axis=0, method=m), arr(6, 2), dtypes="fl" if m in ("linear", "hazen") else "f", second=False)
for f, h in ((np.quantile, 1), (np.percentile, 100), (np.nanquantile, 1), (np.nanpercentile, 100)):
    n = f.__name__
    case(n, lambda x, f=f, h=h: f(x, 0.3 * h), A, dtypes="fl")
    case(f"{n} axis", lambda x, f=f, h=h: f(x, 0.25 * h, axis=1), A, dtypes="f")
    case(f"{n} many", lambda x, f=f, h=h: f(x, [[0.2 * h, 0.4 * h], [0.5 * h, 1.0 * h]], axis=0), A, dtypes="fl")
    case(f"{n} keepdims", lambda x, f=f, h=h: f(x, [0.2 * h, 0.4 * h], axis=(0, 2), keepdims=True), C, dtypes="f")
    case(f"{n} outside", lambda x, f=f, h=h: f(x, 1.2 * h), A, **N, dtypes="")
    case(f"{n} method", lambda x, f=f, h=h: f(x, 0.5 * h, method="no"), A, **N, dtypes="")
    case(f"{n} bad", lambda x, f=f, h=h: f(x, 0.5 * h, axis=2), A, **N, dtypes="")
    case(f"{n} holes", lambda x, f=f, h=h: f(np.where(M, x, np.nan), 0.4 * h, axis=1), A, dtypes="f", grad="nan" in n, second="nan" in n)
    case(f"{n} complex", lambda x, f=f, h=h: f(x + 0j, 0.4 * h), A, **N, dtypes="")
case("bincount", lambda x: np.bincount(x), np.array([1, 4, 1, 0]), **N, dtypes="")
case("bincount weights", lambda w: np.bincount([1, 4, 1, 0, 2], weights=w, minlength=7), V, dtypes="fl")
case("histogram", lambda x: np.histogram(x, 4), arr(20), dtypes="l", second=False, vmap=False)
case("histogram range", lambda x: np.histogram(x, 4, range=(-1.0, 1.0))[0], arr(20), **N, dtypes="fl")
case("histogram edges", lambda x: np.histogram(x, [-2.0, 0.0, 0.5, 2.0])[0], arr(20), **N, dtypes="fl")
case("histogram density", lambda x: np.histogram(x, 3, density=True), arr(20), dtypes="", vmap=False, second=False)
case("histogram weights", lambda x, w: np.histogram(x, [-1.0, 0.0, 0.5, 1.0], weights=w)[0], arr(20), arr(20, seed=1), dtypes="", vmap=False)
case("histogram constant", lambda x: np.histogram(x, 3), np.full(4, 2.0), dtypes="", vmap=False, grad=False, second=False)
case("histogram_bin_edges", lambda x: np.histogram_bin_edges(x, 5), arr(20), dtypes="", vmap=False, second=False)
case("cov", np.cov, A)
case("cov two", np.cov, A, B)
case("cov vector", np.cov, V)
case("cov columns", lambda x: np.cov(x, rowvar=False, ddof=0), A)
case("cov bias", lambda x: np.cov(x, bias=True), A)
case("cov weights", lambda x: np.cov(x, fweights=[1, 2, 1, 3], aweights=[0.5, 1.0, 0.2, 1.5]), A, dtypes="fDl")
case("cov fweights", lambda x: np.cov(x, fweights=[1, 2, 1, 3]), A, dtypes="fDl")
case("cov bad", np.cov, C, **N)
case("corrcoef", np.corrcoef, A, dtypes="f")
case("corrcoef two", np.corrcoef, arr(6), arr(6, seed=8), dtypes="f")

# ------------------------------------------------------------------ calculus
case("diff", np.diff, A)
case("diff n", lambda x: np.diff(x, n=2, axis=0), A)
case("diff ends", lambda x: np.diff(x, prepend=0, append=x[:, :2]), A)
case("diff 0", lambda x: np.diff(x, n=0), A, vmap=True)
case("diff many", lambda x: np.diff(x, n=5), A, **NOGRAD, dtypes="f")
case("diff bad", lambda x: np.diff(x, n=-1), A, **N)
case("ediff1d", np.ediff1d, A, dtypes="fDl")
case("ediff1d ends", lambda x, a: np.ediff1d(x, to_begin=a, to_end=[1, 2]), A, V, dtypes="l")
case("gradient", np.gradient, V, dtypes="fDl")
case("gradient 2-d", np.gradient, A, dtypes="fDl")
case("gradient spacing", lambda x: np.gradient(x, 0.5, 2.0), A, dtypes="fl")
case("gradient axis", lambda x: np.gradient(x, 0.5, axis=1), A, dtypes="fl")
case("gradient places", lambda x, h: np.gradient(x, h), arr(6), G, dtypes="f")
case("gradient edges", lambda x, h: np.gradient(x, h, edge_order=2), arr(6), G, dtypes="f")
case("gradient edges even", lambda x: np.gradient(x, edge_order=2, axis=0), A, dtypes="fl")
case("gradient short", lambda x: np.gradient(x[:1]), V, **N)
case("gradient spacings", lambda x: np.gradient(x, 1.0, 2.0, 3.0), A, **N)
case("unwrap", lambda x: np.unwrap(x * 4), A, dtypes="f")
case("unwrap period", lambda x: np.unwrap(x * 9, period=5, axis=0), A, dtypes="fl")
case("unwrap discont", lambda x: np.unwrap(x * 9, discont=5.0, period=6.0), V, dtypes="f")
for name in ("trapezoid", "trapz"):
    if f := getattr(np, name, None):
        case(name, f, A, dtypes="fDl")
        case(f"{name} dx axis", lambda x, f=f: f(x, dx=0.5, axis=0), A, dtypes="fDl")
        case(f"{name} x", f, arr(6), G, dtypes="f")
        case(f"{name} x rows", lambda y, x, f=f: f(y, x, axis=1), A, B, dtypes="f")
case("interp", np.interp, A, G, arr(6), dtypes="f")
case("interp ends", lambda x, xp, fp: np.interp(x, xp, fp, left=-1.0, right=2.0), A * 3, G, arr(6), dtypes="f")
case("interp period", lambda x, xp, fp: np.interp(x, xp, fp, period=3.0), A * 3, np.array([0.1, 0.7, 1.3, 2.9]), arr(4), dtypes="f", vmap=False)
case("interp number", lambda x, fp: np.interp(x, [0.0, 1.0, 2.0], fp), np.array(0.5), arr(3), dtypes="f")
case("interp one", lambda x, fp: np.interp(x, [0.0], fp), A, arr(1), dtypes="", second=False)
case("interp complex", lambda x: np.interp(x, [0.0, 1.0], [1j, 2.0 + 0j]), A, dtypes="")
case("interp bad", lambda x: np.interp(x, [0.0, 1.0], [1.0]), A, **N)
for mode in ("full", "same", "valid"):
    for n, m in ((6, 3), (3, 6), (5, 4), (4, 4), (1, 3)):
        case(f"convolve {mode} {n} {m}", lambda a, v, mode=mode: np.convolve(a, v, mode), arr(n), arr(m, seed=1), dtypes="fDl")
        case(f"correlate {mode} {n} {m}", lambda a, v, mode=mode: np.correlate(a, v, mode), arr(n), arr(m, seed=1), dtypes="fDl")
case("convolve bad", np.convolve, A, K, **N)
case("convolve mode", lambda a, v: np.convolve(a, v, "no"), V, K, **N)
case("polyval", np.polyval, K, A, dtypes="fDl")
case("polyval number", lambda p: np.polyval(p, 2.5), K, dtypes="fD")
case("polyadd", np.polyadd, K, V)
case("polysub", np.polysub, K, V, dtypes="fDl")
case("polymul", np.polymul, K, V, dtypes="fD", vmap=False)
case("polyder", np.polyder, V, dtypes="fDl")
case("polyder 2", lambda p: np.polyder(p, 2), V, dtypes="fD")
case("polyint", np.polyint, V, dtypes="fDl")
case("polyint 2", lambda p: np.polyint(p, 2, [1.0, 2.0]), V, dtypes="D")
case("vander", np.vander, V, dtypes="fDl")
case("vander n", lambda x: np.vander(x, 3, increasing=True), V, dtypes="fDlb")
case("vander bad", np.vander, A, **N)

# ------------------------------------------------------------------ grids
case("linspace", lambda a, b: np.linspace(a, b, 5), np.array(0.3), np.array(2.0), dtypes="fDl")
case("linspace arrays", lambda a, b: np.linspace(a, b, 4, axis=-1), A, arr(4), dtypes="fDl")
case("linspace open", lambda a: np.linspace(a, 2.0, 4, endpoint=False, retstep=True), V, dtypes="fDl")
case("linspace one", lambda a: np.linspace(a, 2.0, 1), V, dtypes="f")
case("linspace int", lambda a: np.linspace(a, 2.0, 5, dtype=int), V, **NOGRAD, dtypes="f")
case("logspace", lambda a, b: np.logspace(a, b, 5, base=2.0), np.array(0.3), np.array(2.0), dtypes="f")
case("geomspace", lambda a, b: np.geomspace(a, b, 5), np.array(0.3), np.array(2.0), dtypes="f")
case("geomspace open", lambda a: np.geomspace(a, 20.0, 4, endpoint=False), P, dtypes="f")
case("meshgrid", lambda a, b: np.meshgrid(a, b), V, K)
case("meshgrid ij", lambda a, b: np.meshgrid(a, b, S, indexing="ij"), V, K)
case("meshgrid sparse", lambda a, b: np.meshgrid(a, b, sparse=True), V, K)
case("meshgrid bad", lambda a: np.meshgrid(a, indexing="no"), V, **N)
case("apply_along_axis", lambda x: np.apply_along_axis(np.sum, 1, x), A)
case("apply_along_axis vector", lambda x: np.apply_along_axis(lambda v: v[:2] * v[-1], 1, x), C)
case("apply_along_axis matrix", lambda x: np.apply_along_axis(np.diag, 0, x), A)
case("apply_along_axis bad", lambda x: np.apply_along_axis(np.sum, 2, x), A, **N)
case("apply_over_axes", lambda x: np.apply_over_axes(np.sum, x, [0, -1]), C)
case("union1d", np.union1d, A, V, vmap=False)
case("intersect1d", lambda x: np.intersect1d(x, x[:1]), A, vmap=False)
case("intersect1d indices", lambda x: np.intersect1d(x, x[:1], return_indices=True), A, vmap=False, second=False)
case("setdiff1d", lambda x: np.setdiff1d(x, x[:1]), A, vmap=False, dtypes="fl")
case("setxor1d", lambda x: np.setxor1d(x[1:], x[:2]), A, vmap=False, dtypes="f")
case("trim_zeros", lambda x: np.trim_zeros(np.array([0, 0, 1, 1, 0.0]) * x), V, vmap=False, dtypes="fl")
case("trim_zeros front", lambda x: np.trim_zeros(np.array([0, 0, 1, 1, 0.0]) * x, "f"), V, vmap=False, dtypes="f")
case("trim_zeros all", lambda x: np.trim_zeros(0 * x), V, **N)
case("index makers", lambda x: [np.tril_indices_from(x), np.triu_indices_from(x, 1), np.diag_indices_from(x)], Q, **N)
case("ix_", lambda x: np.ix_(x > 0, [0, 1]), V, **N, dtypes="")
case("einsum_path", lambda x: str(np.einsum_path("ij,jk->ik", x, x)[0]), Q, **N, dtypes="")
case("np.astype", lambda x: np.astype(x, np.complex128), A, dtypes="fl")
case("matrix_transpose", np.matrix_transpose, C)
