"""Matrix operations: closed forms, singular and degenerate points, orders, lanes, precision."""

import warnings

import numpy as np
import pytest

import wengert as wg
from wengert.errors import GaugeWarning
from wengert.ops.linalg import SlogDet, cofactor
from wengert.ops.singular import SVD, SVDVals
from wengert.ops.spectral import Eig, Eigh
from wengert.testing import check_grads

L = np.linalg
rng = np.random.default_rng(3)
C3 = rng.standard_normal((3, 3))
SYM = C3 + C3.T
Q3 = L.qr(rng.standard_normal((3, 3)))[0]
U3 = L.qr(rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)))[0]


def folded(g):
    """A symmetric gradient as one of the lower triangle."""
    return np.tril(g, -1) * 2 + np.diag(np.diag(g))


# ------------------------------------------------------------------ closed forms


def test_log_determinant():
    a = C3 + 3 * np.eye(3)
    np.testing.assert_allclose(wg.grad(lambda a: L.slogdet(a)[1])(a), L.inv(a).T, rtol=1e-12)
    h = wg.hessian(lambda a: L.slogdet(a)[1])(a)
    want = -np.einsum("li,jk->ijkl", L.inv(a), L.inv(a))
    np.testing.assert_allclose(h, want, rtol=1e-10, atol=1e-12)


def test_trace_of_the_inverse():
    a = C3 + 3 * np.eye(3)
    got = wg.grad(lambda a: np.trace(L.inv(a)))(a)
    np.testing.assert_allclose(got, -L.matrix_power(L.inv(a), 2).T, rtol=1e-12)


def test_the_sum_of_eigenvalues_is_the_trace():
    ones = wg.grad(lambda a: L.eigvals(a).real.sum())(C3)
    np.testing.assert_allclose(ones, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(wg.grad(lambda a: L.eigvalsh(a).sum())(SYM), np.eye(3), atol=1e-12)


def test_log_determinant_through_cholesky():
    a = C3 @ C3.T + np.eye(3)

    def f(a):
        return 2 * np.log(np.diagonal(L.cholesky(a))).sum()

    np.testing.assert_allclose(wg.grad(f)(a), folded(L.inv(a)), rtol=1e-10)


def test_the_symmetric_gradient_of_a_symmetrised_argument():
    a = C3 @ C3.T + np.eye(3)
    g = wg.grad(lambda a: L.eigvalsh((a + a.T) / 2)[0])(a)
    v = L.eigh(a)[1][:, 0]
    np.testing.assert_allclose(g, np.outer(v, v), atol=1e-12)


def test_least_squares_is_the_normal_equations():
    a, b = rng.standard_normal((5, 2)), rng.standard_normal(5)

    def normal(a, b):
        return L.solve(a.T @ a, a.T @ b)

    def direct(a, b):
        return L.lstsq(a, b)[0]

    for f, g in zip(wg.jacrev(direct, (0, 1))(a, b), wg.jacrev(normal, (0, 1))(a, b)):
        np.testing.assert_allclose(f, g, rtol=1e-9, atol=1e-12)
    residual = wg.grad(lambda b: L.lstsq(a, b)[1].sum())(b)
    np.testing.assert_allclose(residual, 2 * (b - a @ L.lstsq(a, b)[0]), atol=1e-12)


# ------------------------------------------------------------------ singular matrices


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_determinant_of_any_rank_is_a_polynomial(rank):
    a = rng.standard_normal((4, rank)) @ rng.standard_normal((rank, 4))

    def minor(a, i, j):
        keep = [k for k in range(4) if k != i], [k for k in range(4) if k != j]
        return (-1) ** (i + j) * L.det(a[np.ix_(*keep)])

    want = np.array([[minor(a, i, j) for j in range(4)] for i in range(4)])
    np.testing.assert_allclose(wg.grad(L.det)(a), want, atol=1e-12)
    check_grads(L.det, (a,), order=3)


def test_hessian_of_the_determinant_of_the_zero_matrix():
    h = wg.hessian(L.det)(np.zeros((2, 2)))
    np.testing.assert_array_equal(h.reshape(4, 4), np.fliplr(np.diag([1.0, -1.0, -1.0, 1.0])))
    np.testing.assert_array_equal(wg.grad(L.det)(np.zeros((3, 3))), 0)


def test_determinants_within_range_only_as_products():
    a = np.diag([1e-200, 1e200, 2.0])
    np.testing.assert_allclose(wg.grad(L.det)(a), np.diag([2e200, 2e-200, 1.0]))


def test_fourth_derivative_of_a_determinant():
    x = rng.standard_normal((4, 4))
    fourth = cofactor(x, *rng.standard_normal((3, 4, 4)))
    moved = cofactor(np.zeros((4, 4)), *np.stack([np.eye(4)] * 3))
    np.testing.assert_allclose(moved, 6 * np.eye(4), atol=1e-12)
    assert np.isfinite(fourth).all()


def test_slogdet_of_a_singular_matrix_has_no_gradient():
    a = np.ones((2, 2))
    sign, log = SlogDet()(a)
    assert (sign, log) == (0, -np.inf)
    with np.errstate(all="ignore"):
        assert np.isnan(wg.grad(lambda a: L.slogdet(a)[1])(a)).all()


# ------------------------------------------------------------------ repeated spectra


def spectral(f):
    """tr(SYM^T V f(w) V^T) as a program."""

    def h(a, c=SYM):
        w, v = L.eigh(a)
        return np.sum((v * f(w)) @ np.conjugate(v.swapaxes(-1, -2)) * c).real

    return h


@pytest.mark.parametrize("spectrum", [(1, 1, 1), (1, 1, 2), (2, 2, -1), (1, 2, 2)])
def test_rebuilding_a_matrix_with_repeated_eigenvalues(spectrum):
    for a in (np.diag(np.array(spectrum, float)), Q3 @ np.diag(spectrum) @ Q3.T):
        np.testing.assert_allclose(wg.grad(spectral(lambda w: w))(a), folded(SYM), atol=1e-11)


def test_functions_of_a_matrix_with_repeated_eigenvalues():
    def slope(f, df, w):
        d = w[:, None] - w[None, :]
        far = np.abs(d) > 1e-8
        return np.where(far, (f(w)[:, None] - f(w)[None, :]) / np.where(far, d, 1), df(w)[:, None])

    w0 = np.array([1.0, 1.0, 3.0])
    a = Q3 @ np.diag(w0) @ Q3.T
    for f, df in (
        (np.exp, np.exp),
        (np.sqrt, lambda w: 0.5 / np.sqrt(w)),
        (np.log, lambda w: 1 / w),
    ):
        if f is np.log:
            w0, a = w0 + 1, a + np.eye(3)
        w, v = L.eigh(a)
        want = v @ (slope(f, df, w) * (v.T @ SYM @ v)) @ v.T
        np.testing.assert_allclose(wg.grad(spectral(f))(a), folded(want), atol=1e-11)


def test_rebuilding_a_complex_matrix_with_repeated_eigenvalues():
    c = SYM + 1j * (C3 - C3.T)
    a = U3 @ np.diag([2.0, 2.0, 1.0]) @ np.conj(U3).T
    a = (a + np.conj(a).T) / 2
    got = wg.grad(lambda a: spectral(lambda w: w)(a, c))(a)
    direct = wg.grad(lambda a: np.sum((np.tril(a, -1) + np.conj(np.tril(a, -1)).T
                     + np.diag(np.diagonal(a).real)) * c).real)(a)  # fmt: skip
    np.testing.assert_allclose(got, direct, atol=1e-11)


def test_projector_onto_a_repeated_eigenspace():
    a = Q3 @ np.diag([1.0, 1.0, 3.0]) @ Q3.T

    def f(a):
        v = L.eigh(a)[1][:, :2]
        return np.sum(v @ v.T * SYM)

    h = 1e-5
    d = rng.standard_normal((3, 3))
    want = (f(a + h * d) - f(a - h * d)) / (2 * h)
    np.testing.assert_allclose(np.sum(wg.grad(f)(a) * d), want, rtol=1e-7)


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
def test_rebuilding_a_matrix_with_repeated_singular_values(shape):
    c = rng.standard_normal(shape)
    u, _, vh = L.svd(rng.standard_normal(shape), full_matrices=False)

    def f(a):
        u, s, vh = L.svd(a, full_matrices=False)
        return np.sum((u * s) @ vh * c)

    for s in ([2.0, 2.0, 2.0], [2.0, 2.0, 1.0], [3.0, 1.0, 1.0]):
        np.testing.assert_allclose(wg.grad(f)((u * s) @ vh), c, atol=1e-11)


def test_polar_factor_of_an_orthogonal_matrix():
    def f(a):
        u, _, vh = L.svd(a)
        return np.sum(u @ vh * C3)

    skew = Q3.T @ C3
    np.testing.assert_allclose(wg.grad(f)(Q3), Q3 @ (skew - skew.T) / 2, atol=1e-12)


def test_symmetric_functions_of_repeated_values():
    np.testing.assert_allclose(wg.grad(lambda a: np.log(L.eigvalsh(a)).sum())(np.eye(3)), np.eye(3))
    np.testing.assert_allclose(
        wg.grad(lambda a: (L.eigvals(a) ** 2).real.sum())(np.eye(3)), 2 * np.eye(3)
    )
    np.testing.assert_allclose(wg.grad(lambda a: L.norm(a, "nuc"))(Q3), Q3, atol=1e-12)
    np.testing.assert_allclose(wg.grad(lambda a: L.norm(a, 2))(np.eye(2)), np.eye(2) / 2)


def test_second_order_of_a_function_of_repeated_eigenvalues():
    def f(a):
        return np.log(L.eigh(a)[0]).sum()

    got = wg.grad(lambda a: np.sum(wg.grad(f)(a) * SYM))(np.eye(3))
    np.testing.assert_allclose(got, -folded(folded(SYM) + folded(SYM).T) / 2, atol=1e-12)


GAUGE = {
    "a component": lambda a: L.eigh(a)[1][1, 0],
    "the least eigenvalue": lambda a: L.eigvalsh(a)[0],
    "the least of both": lambda a: L.eigh(a)[0][0],
    "a component of svd": lambda a: L.svd(a)[0][1, 0],
    "the largest singular value": lambda a: L.svd(a)[1][0],
    "a component of eig": lambda a: L.eig(a)[1][1, 0],
    "an eigenvalue": lambda a: L.eigvals(a)[0],
    "two functions": lambda a: spectral(np.exp)(a, C3) + spectral(np.log)(a, SYM),
}


@pytest.mark.parametrize("name", GAUGE)
def test_what_depends_on_the_basis_is_warned_of(name):
    with pytest.warns(GaugeWarning, match="repeated value"):
        wg.grad(GAUGE[name])(np.eye(3))


def test_distinct_values_are_not_warned_of():
    for f in (GAUGE["a component"], GAUGE["the least eigenvalue"], GAUGE["two functions"]):
        wg.grad(f)(SYM @ SYM + np.diag([1.0, 2.0, 3.0]))


def test_a_tangent_that_splits_a_repeated_value_is_warned_of():
    with pytest.warns(GaugeWarning, match="splits"):
        wg.jvp(L.eigvalsh, (np.eye(2),), (np.array([[0.0, 1.0], [1.0, 0.0]]),))
    wg.jvp(L.eigvalsh, (np.eye(2),), (np.diag([1.0, 2.0]),))


def test_second_order_through_repeated_vectors_is_warned_of():
    f = spectral(np.exp)
    with pytest.warns(GaugeWarning, match="second derivative"):
        wg.grad(lambda a: np.sum(wg.grad(f)(a) * SYM))(np.eye(3))


def test_vectors_of_a_singular_value_of_zero_are_warned_of():
    with pytest.warns(GaugeWarning, match="singular value of zero"):
        wg.grad(lambda a: L.svd(a)[1][1])(np.diag([1.0, 0.0]))
    with pytest.warns(GaugeWarning, match="full column rank"):
        wg.grad(lambda a: L.qr(a)[1][0, 0])(np.array([[1.0, 1.0], [1.0, 1.0 + 1e-16]]) + 0.0)


def test_a_site_is_warned_of_once():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            wg.grad(GAUGE["the least eigenvalue"])(np.eye(2))
    assert len(seen) == 1
    assert seen[0].filename == __file__


# ------------------------------------------------------------------ complex phases


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3)])
def test_complex_vectors_have_the_derivative_of_the_vectors_returned(shape):
    a = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    check_grads(lambda a: L.svd(a, full_matrices=False), (a,), order=2)
    if shape == (3, 3):
        check_grads(L.eigh, (a + np.conj(a).T,), order=2)
        check_grads(lambda a: L.eigh(a, "U"), (a + np.conj(a).T,), order=2)
        check_grads(L.eig, (a,), order=2)


def test_phase_free_functions_at_diagonal_complex_matrices():
    a = np.diag([1.0, 2.0, 3.0]) + 0j
    c = SYM + 1j * (C3 - C3.T)
    check_grads(lambda a: spectral(np.exp)(a, c), (a,), order=2)


# ------------------------------------------------------------------ orders, lanes, precision


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["inv", "det", "slogdet", "qr", "svd", "eigh", "eig", "eigvals", "pinv", "cholesky"]
)
def test_order_three(name):
    a = SYM @ SYM + np.diag([1.0, 2.0, 4.0])
    check_grads(getattr(L, name), (a,), order=3, rtol=1e-5)


@pytest.mark.parametrize("name", ["inv", "det", "eigvalsh", "svdvals", "pinv", "slogdet", "qr"])
def test_derivatives_lane_by_lane(name):
    stack = 0.3 * rng.standard_normal((4, 3, 3)) + np.diag([1.0, 2.0, 3.0])

    def f(a):
        y = getattr(L, name)(a)
        return sum(np.sum(np.sin(v)) for v in (y if isinstance(y, tuple) else (y,)))

    want = np.stack([wg.grad(f)(a) for a in stack])
    np.testing.assert_allclose(wg.vmap(wg.grad(f))(stack), want, rtol=1e-10, atol=1e-12)
    lanes = wg.grad(lambda s: np.sum(wg.vmap(f)(s)))(stack)
    np.testing.assert_allclose(lanes, want, rtol=1e-10, atol=1e-12)
    want = np.stack([wg.hessian(f)(a) for a in stack])
    np.testing.assert_allclose(wg.vmap(wg.hessian(f))(stack), want, rtol=1e-8, atol=1e-10)


def test_stacks_with_a_repeated_spectrum_among_them():
    stack = np.stack([np.eye(3), np.diag([1.0, 2.0, 3.0]), np.diag([2.0, 2.0, 1.0])])
    got = wg.vmap(wg.grad(spectral(np.exp)))(stack)
    want = np.stack([wg.grad(spectral(np.exp))(a) for a in stack])
    np.testing.assert_allclose(got, want, atol=1e-12)
    np.testing.assert_allclose(
        wg.grad(lambda s: sum(spectral(np.exp)(s[i]) for i in range(3)))(stack), want
    )


@pytest.mark.parametrize(
    "name", ["inv", "det", "slogdet", "qr", "svd", "eigh", "eig", "pinv", "cholesky", "svdvals"]
)
def test_single_precision_stays(name):
    a = (SYM @ SYM + np.diag([1.0, 2.0, 3.0])).astype(np.float32)

    def f(a):
        y = getattr(L, name)(a)
        return sum(np.sum(abs(v)) for v in (y if isinstance(y, tuple) else (y,)))

    assert wg.grad(f)(a).dtype == np.float32
    assert wg.jvp(f, (a,), (a,))[1].dtype == np.float32
    c = a.astype(np.complex64)
    assert wg.grad(f)(c).dtype == np.complex64


@pytest.mark.parametrize(
    "name", ["inv", "det", "slogdet", "qr", "svd", "eigh", "eigvals", "pinv", "cholesky"]
)
@pytest.mark.parametrize("shape", [(0, 3, 3), (0, 0), (2, 0, 0)])
def test_empty(name, shape):
    def f(a):
        y = getattr(L, name)(a)
        return sum(np.sum(abs(v)) for v in (y if isinstance(y, tuple) else (y,)))

    assert wg.grad(f)(np.zeros(shape)).shape == shape


def test_outputs_used_in_part_or_not_at_all():
    a = SYM + np.diag([1.0, 2.0, 3.0])
    for op, n in ((Eigh(), 2), (SVD(), 3), (Eig(), 2), (SlogDet(), 2)):
        t = wg.tensor(a, requires_grad=True)
        ys = [y.real if y.dtype.kind == "c" else y for y in op(t)]
        total = np.zeros((3, 3))
        for i in range(n):
            t.grad = None
            (ys[i] * ys[i]).sum().backward(retain_graph=True)
            total += t.grad.value()
        t.grad = None
        sum((y * y).sum() for y in ys).backward()
        np.testing.assert_allclose(t.grad.value(), total, rtol=1e-9, atol=1e-11)


def test_singular_values_at_zero_have_the_subgradient_zero():
    g = wg.grad(lambda a: SVDVals()(a).sum())(np.diag([2.0, 0.0]))
    np.testing.assert_array_equal(g, np.diag([1.0, 0.0]))


@pytest.mark.parametrize("name", ["eigh", "svd", "qr", "slogdet", "eig"])
def test_recorded_sweeps_of_several_outputs(name):
    a, d = SYM + np.diag([1.0, 3.0, 6.0]), rng.standard_normal((3, 3))

    def f(a):
        ys = getattr(L, name)(a)
        return sum(np.sum((y.real if y.dtype.kind == "c" else y) ** 3) for y in ys)

    t = wg.tensor(a, requires_grad=True)
    f(t).backward(create_graph=True)
    g, t.grad = t.grad, None
    np.testing.assert_allclose(g.value(), wg.grad(f)(a), rtol=1e-10, atol=1e-10)
    (g * d).sum().backward()
    want = wg.grad(lambda a: np.sum(wg.grad(f)(a) * d))(a)
    np.testing.assert_allclose(t.grad.value(), want, rtol=1e-8, atol=1e-8)
