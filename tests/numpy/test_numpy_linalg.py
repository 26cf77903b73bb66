"""np.linalg on tensors: NumPy's bits and result types, gradients, and what is refused."""

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ArgumentError, MatrixError, ShapeError, UnsupportedError
from wengert.testing import check_grads

L = np.linalg
rng = np.random.default_rng(7)


def real(*shape):
    return rng.standard_normal(shape)


def cplx(*shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def good(*shape, make=real):
    """Well conditioned, with eigenvalues far apart."""
    return 0.2 * make(*shape) + np.diag([1.0, -2.0, 3.0, -4.0][: shape[-1]])


def spd(*shape, make=real):
    a = make(*shape)
    return a @ np.conjugate(a.swapaxes(-1, -2)) + 0.5 * np.eye(shape[-1])


SQUARE = [good(3, 3), good(3, 3, make=cplx), good(2, 4, 4), real(3, 3).astype("f"), real(0, 2, 2)]
OBLONG = [real(4, 3), real(3, 4), cplx(4, 2), cplx(2, 4), real(2, 3, 2), real(0, 3), real(20, 3)]
VALUES = {
    "inv": (L.inv, SQUARE),
    "det": (L.det, [*SQUARE, real(1, 1), np.zeros((0, 0))]),
    "slogdet": (L.slogdet, SQUARE),
    "cholesky": (L.cholesky, [spd(3, 3), spd(3, 3, make=cplx), spd(2, 3, 3), np.zeros((0, 0))]),
    "cholesky upper": (lambda x: L.cholesky(x, upper=True), [spd(3, 3), spd(3, 3, make=cplx)]),
    "qr": (L.qr, [*SQUARE, *OBLONG]),
    "qr complete": (lambda x: L.qr(x, "complete"), [*SQUARE, *OBLONG]),
    "qr r": (lambda x: L.qr(x, mode="r"), [*SQUARE, *OBLONG]),
    "svd": (L.svd, [*SQUARE, *OBLONG]),
    "svd reduced": (lambda x: L.svd(x, full_matrices=False), [*SQUARE, *OBLONG]),
    "svd values": (lambda x: L.svd(x, compute_uv=False), [*SQUARE, *OBLONG]),
    "svd hermitian": (lambda x: L.svd(x, hermitian=True), [real(3, 3), spd(2, 3, 3)]),
    "svd hermitian values": (
        lambda x: L.svd(x, compute_uv=False, hermitian=True), [real(3, 3), cplx(3, 3)],
    ),
    "svdvals": (L.svdvals, [*SQUARE, *OBLONG]),
    "eigh": (L.eigh, SQUARE),
    "eigh U": (lambda x: L.eigh(x, UPLO="u"), SQUARE),
    "eigvalsh": (L.eigvalsh, SQUARE),
    "eigvalsh U": (lambda x: L.eigvalsh(x, "U"), SQUARE),
    "eig": (L.eig, [*SQUARE, np.array([[0.0, 1.0], [-2.0, 0.5]]), np.diag([1.0, 2.0])]),
    "eigvals": (L.eigvals, [*SQUARE, np.diag([1.0, 2.0]), spd(5, 5)]),
    "pinv": (L.pinv, [*SQUARE, *OBLONG]),
    "pinv rcond": (lambda x: L.pinv(x, 0.3), OBLONG),
    "pinv rtol": (lambda x: L.pinv(x, rtol=None), OBLONG),
    "pinv hermitian": (lambda x: L.pinv(x, hermitian=True), SQUARE[:3]),
    "matrix_rank": (L.matrix_rank, [*SQUARE, *OBLONG, np.zeros(3), np.ones((3, 3))]),
    "matrix_rank tol": (lambda x: L.matrix_rank(x, tol=0.5), SQUARE),
    "cond": (L.cond, [*SQUARE[:4], *OBLONG[:5], np.ones((2, 2))]),
    "cond -2": (lambda x: L.cond(x, -2), SQUARE[:4]),
    "cond 1": (lambda x: L.cond(x, 1), [*SQUARE[:4], np.ones((2, 2))]),
    "cond fro": (lambda x: L.cond(x, "fro"), SQUARE[:4]),
    "norm": (L.norm, [*SQUARE, *OBLONG, real(5), cplx(5), np.array(2.0), np.arange(4)]),
    "tensorinv": (L.tensorinv, [real(4, 6, 8, 3)]),
    "tensorinv 1": (lambda x: L.tensorinv(x, ind=1), [real(6, 2, 3)]),
    "matrix_transpose": (L.matrix_transpose, SQUARE),
    "diagonal": (lambda x: L.diagonal(x, offset=1), SQUARE),
    "trace": (lambda x: L.trace(x, offset=-1), SQUARE),
}  # fmt: skip
for _n in (-2, -1, 0, 1, 2, 3, 4, 7):
    VALUES[f"matrix_power {_n}"] = (lambda x, n=_n: L.matrix_power(x, n), SQUARE)
for _p in (None, 1, -1, 2, -2, np.inf, -np.inf, "fro", "nuc"):
    VALUES[f"norm {_p}"] = (lambda x, p=_p: L.norm(x, p), [real(3, 2), cplx(2, 3)])
    VALUES[f"norm {_p} axes"] = (
        lambda x, p=_p: L.norm(x, p, axis=(2, 0), keepdims=True), [real(3, 2, 4), cplx(2, 3, 2)],
    )  # fmt: skip
    VALUES[f"matrix_norm {_p}"] = (lambda x, p=_p: L.matrix_norm(x, ord=p), [real(2, 3, 2)])
for _p in (None, 0, 1, -1, 2, -2, 3, 0.5, np.inf, -np.inf):
    VALUES[f"norm {_p} vector"] = (lambda x, p=_p: L.norm(x, p), [real(5), cplx(5)])
    VALUES[f"norm {_p} axis"] = (lambda x, p=_p: L.norm(x, p, 1, True), [real(2, 3), cplx(2, 3)])
    if _p is not None:
        VALUES[f"vector_norm {_p}"] = (
            lambda x, p=_p: L.vector_norm(x, ord=p, axis=(0, 2), keepdims=True), [real(2, 3, 4)],
        )  # fmt: skip


def raw(y):
    return y.value() if isinstance(y, wg.Tensor) else y


def assert_same(got, want):
    if isinstance(want, tuple):
        assert type(got) is type(want)
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert_same(g, w)
        return
    got = np.asarray(raw(got))
    assert got.dtype == want.dtype if hasattr(want, "dtype") else True
    assert got.shape == np.shape(want)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", VALUES)
def test_values_are_numpys(name):
    f, xs = VALUES[name]
    for x in xs:
        recorded = x.dtype.kind in "fc"
        assert_same(f(wg.tensor(x, requires_grad=recorded)), f(x))


TWO = {
    "solve": (L.solve, [(good(3, 3), real(3)), (good(3, 3), real(3, 2)), (good(2, 3, 3), real(3)),
                        (good(2, 3, 3), real(3, 1)), (good(3, 3, make=cplx), real(3)),
                        (good(3, 3), cplx(2, 3, 1)),
                        (real(3, 3).astype("f"), real(3).astype("f")), (real(0, 0), real(0))]),
    "lstsq": (L.lstsq, [(real(4, 2), real(4)), (real(4, 2), real(4, 3)), (real(2, 4), real(2)),
                        (cplx(4, 2), cplx(4)), (np.ones((4, 2)), real(4)),
                        (good(3, 3), real(3, 2))]),
    "outer": (L.outer, [(real(3), real(2)), (cplx(3), real(2))]),
    "cross": (L.cross, [(real(3), real(3)), (real(4, 3), real(3))]),
    "vecdot": (L.vecdot, [(cplx(2, 3), cplx(2, 3)), (real(3), real(2, 3))]),
    "matmul": (L.matmul, [(real(2, 3), real(3, 2)), (real(3), real(3))]),
    "tensordot": (lambda a, b: L.tensordot(a, b, axes=1), [(real(2, 3), real(3, 4))]),
    "tensorsolve": (L.tensorsolve, [(real(2, 3, 6), real(2, 3))]),
    "tensorsolve axes": (lambda a, b: L.tensorsolve(a, b, (1,)), [(real(2, 6, 3), real(2, 3))]),
    "multi_dot 2": (lambda a, b: L.multi_dot([a, b]), [(real(2, 3), real(3, 2))]),
    "multi_dot 3": (lambda a, b: L.multi_dot([a, b, a]), [(real(2, 3), real(3, 2)),
                                                          (real(3), real(3, 3))]),
    "multi_dot 4": (lambda a, b: L.multi_dot([a, b, a, b]), [(real(2, 5), real(5, 2))]),
    "multi_dot 5": (lambda a, b: L.multi_dot([a, b, b, b, a]), [(real(3), real(3, 3))]),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_values_of_two_operands_are_numpys(name):
    f, pairs = TWO[name]
    for a, b in pairs:
        want = f(a, b)
        for wrap_a, wrap_b in ((1, 1), (1, 0), (0, 1)):
            ta = wg.tensor(a, requires_grad=True) if wrap_a else a
            tb = wg.tensor(b, requires_grad=True) if wrap_b else b
            assert_same(f(ta, tb), want)


@pytest.mark.parametrize("name", TWO)
def test_gradients_of_two_operands(name):
    f, pairs = TWO[name]
    first = (lambda a, b: f(a, b)[0]) if name == "lstsq" else f
    for a, b in pairs:
        if a.dtype != np.float32 and not (name == "lstsq" and (a == 1).all()):
            check_grads(first, (a, b), order=2, name=name)


APART = ("matrix_rank", "qr complete", "norm 0", "vector_norm 0", "matrix_power 0", "pinv rcond")
SIGNS = ("svd", "svd reduced", "svd hermitian")  # LAPACK's signs may jump between two points
SMOOTH = [name for name in VALUES if not name.startswith(APART) and name not in SIGNS]


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name):
    f, xs = VALUES[name]
    for x in xs:
        jumps = name == "eig" and x.shape == (2, 2) and x[0, 1] == 0  # LAPACK's sign of vectors
        if x.dtype.kind not in "fc" or x.dtype == np.float32 or x.size > 40 or jumps:
            continue
        if name.startswith("cond") and (x.ndim != 2 or (x == 1).all()):
            continue
        check_grads(f, (x,), order=1, name=name)


def test_complete_qr_and_full_svd_differentiate_what_the_matrix_determines():
    x = real(4, 2)
    check_grads(lambda x: (L.qr(x, "complete")[0][:, :2], L.qr(x, "complete")[1]), (x,), order=2)
    check_grads(lambda x: (L.svd(x)[0][:, :2], *L.svd(x)[1:]), (x,), order=2)
    check_grads(lambda x: (*L.svd(x)[:2], L.svd(x)[2][:2]), (x.T.copy(),), order=2)
    for f in (lambda x: L.qr(x, "complete")[0][0, 3], lambda x: L.svd(x)[0][0, 3]):
        with pytest.raises(UnsupportedError, match="full_matrices=False"):
            wg.grad(f)(x)
    _, tangent = wg.jvp(lambda x: L.svd(x)[0], (x,), (x,))
    assert np.isnan(tangent[:, 2:]).all()
    assert np.isfinite(tangent[:, :2]).all()


def test_hermitian_svd():
    x = real(3, 3)
    check_grads(lambda x: L.svd(x + x.T, hermitian=True), (x,), order=2)


def test_result_fields():
    w = L.eigh(wg.tensor(spd(3, 3)))
    assert w.eigenvalues.shape == (3,)
    assert L.qr(wg.tensor(real(3, 2))).R.shape == (2, 2)
    assert L.slogdet(wg.tensor(real(2, 2))).logabsdet.shape == ()


def test_transforms_hand_on_named_results():
    stack = spd(4, 3, 3)
    out = wg.vmap(L.eigh)(stack)
    assert type(out) is type(L.eigh(stack))
    np.testing.assert_array_equal(out.eigenvalues, L.eigh(stack).eigenvalues)


def test_vectors_are_columns_under_vmap():
    a, b = real(5, 3, 3), real(5, 3)
    want = np.stack([L.solve(p, q) for p, q in zip(a, b)])
    np.testing.assert_allclose(wg.vmap(L.solve)(a, b), want, rtol=1e-12)
    want = np.stack([L.solve(a[0], q) for q in b])
    np.testing.assert_allclose(wg.vmap(L.solve, in_axes=(None, 0))(a[0], b), want, rtol=1e-12)
    want = np.stack([L.lstsq(p[:, :2], q)[0] for p, q in zip(a, b)])
    got = wg.vmap(lambda a, b: L.lstsq(a[:, :2], b)[0])(a, b)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_eig_is_real_where_numpy_is_and_so_under_vmap():
    x = np.stack([np.diag([1.0, 2.0]), np.diag([3.0, 1.0])])
    assert wg.vmap(L.eigvals)(x).dtype == np.float64
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert L.eigvals(wg.tensor(turn)).dtype == np.complex128


# ------------------------------------------------------------------ norms


def test_norm_at_the_origin_has_the_subgradient_zero():
    for p in (None, 1, 2, 3, 1.5, np.inf):
        np.testing.assert_array_equal(wg.grad(lambda x, p=p: L.norm(x, p))(np.zeros(3)), 0)
    for p in ("fro", "nuc", 2):
        g = wg.grad(lambda x, p=p: L.norm(x, p))(np.zeros((2, 3)))
        np.testing.assert_array_equal(g, 0)


def test_hessian_of_a_norm_at_the_origin_is_not_a_number():
    for p in (2, 3):
        assert np.isnan(wg.hessian(lambda x, p=p: L.norm(x, p))(np.zeros(2))).any()


def test_a_zero_component_is_no_trouble():
    x = np.array([3.0, 0.0, -4.0])
    np.testing.assert_allclose(wg.grad(L.norm)(x), x / 5)
    assert np.isfinite(wg.hessian(lambda x: L.norm(x, 3))(x)).all()


def test_length_far_from_one():
    for scale in (1e-300, 1e-160, 1e160, 1e300):
        x = np.array([3.0, 4.0]) * scale
        np.testing.assert_allclose(raw(L.norm(wg.tensor(x))), 5 * scale, rtol=1e-14)
        np.testing.assert_allclose(wg.grad(L.norm)(x), [0.6, 0.8], rtol=1e-14)


def test_nuclear_norm_of_a_matrix_of_lower_rank():
    u, v = real(4, 1), real(1, 3)
    g = wg.grad(lambda x: L.norm(x, "nuc"))(u @ v)
    np.testing.assert_allclose(g, u @ v / np.linalg.norm(u @ v), atol=1e-12)


# ------------------------------------------------------------------ refused


def test_refusals_say_what_is_wrong():
    t = wg.tensor
    with pytest.raises(
        np.linalg.LinAlgError,
        match=r"(?s)WG106.*inv\(x\): the matrix is singular.*rank 1 of 2.*pinv",
    ):
        L.inv(t(np.ones((2, 2))))
    with pytest.raises(MatrixError, match=r"(?s)number \[1\] of the stack has rank 1 of 2"):
        L.inv(t(np.stack([np.eye(2), np.ones((2, 2))])))
    with pytest.raises(MatrixError, match=r"(?s)not square.*axis -2 is 2, axis -1 is 3.*lstsq"):
        L.solve(t(np.ones((2, 3))), np.ones(2))
    with pytest.raises(
        ShapeError, match=r"(?s)solve\(a, b\).*another number of rows.*axis -2 is 3"
    ):
        L.solve(t(np.eye(3)), np.ones(2))
    with pytest.raises(MatrixError, match=r"(?s)not positive definite.*smallest eigenvalue -1"):
        L.cholesky(t(-np.eye(2)))
    with pytest.raises(MatrixError, match="it takes a matrix"):
        L.det(t(np.ones(3)))
    with pytest.raises(MatrixError, match="not a stack"):
        L.lstsq(t(np.ones((2, 3, 2))), np.ones(3))
    with pytest.raises(np.linalg.LinAlgError, match="another number of rows"):
        L.lstsq(t(np.ones((3, 2))), np.ones(4))
    with pytest.raises(ArgumentError, match="UPLO"):
        L.eigh(t(np.eye(2)), "X")
    with pytest.raises(ArgumentError, match="unknown mode"):
        L.qr(t(np.eye(2)), "thin")
    with pytest.raises(UnsupportedError, match="raw"):
        L.qr(t(np.eye(2)), "raw")
    with pytest.raises(ArgumentError, match="Invalid norm order"):
        L.norm(t(np.eye(2)), 3)
    with pytest.raises(ArgumentError, match="for vectors"):
        L.norm(t(np.ones(2)), "fro")
    with pytest.raises(ArgumentError, match="Improper number"):
        L.norm(t(np.ones((2, 2, 2))), 2)
    with pytest.raises(ArgumentError, match="be both set"):
        L.pinv(t(np.eye(2)), 0.1, rtol=0.1)
    with pytest.raises(ArgumentError, match="exponent"):
        L.matrix_power(t(np.eye(2)), 0.5)
    with pytest.raises(MatrixError, match="not square"):
        L.matrix_power(t(np.ones((2, 3))), 2)
    with pytest.raises(ShapeError, match="length 3"):
        L.cross(t(np.ones(2)), np.ones(2))
    with pytest.raises(ShapeError, match="both must be vectors"):
        L.outer(t(np.ones((2, 2))), np.ones(2))
    with pytest.raises(MatrixError, match="it takes a matrix"):
        wg.vmap(L.inv)(np.ones((3, 3)))


def test_refused_in_the_backward_pass_too():
    with pytest.raises(np.linalg.LinAlgError):
        wg.grad(lambda a: L.inv(a)[0, 0])(np.zeros((2, 2)))
