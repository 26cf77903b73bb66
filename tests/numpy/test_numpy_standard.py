# ruff: noqa: E501 SIM905 - a table of names
"""The namespace of the Array API standard: complete, of tensors, and differentiable."""

import numpy as np
import pytest

import wengert as wg
import wengert.numpy as xp
from wengert.errors import ArgumentError, TapeExitError

NAMES = """
abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor bool broadcast_arrays broadcast_to
can_cast ceil clip complex128 complex64 concat conj copysign cos cosh count_nonzero cumulative_prod cumulative_sum
diff divide e empty empty_like equal exp expand_dims expm1 eye finfo flip float32 float64 floor floor_divide
from_dlpack full full_like greater greater_equal hypot iinfo imag inf int16 int32 int64 int8 isdtype isfinite isinf
isnan less less_equal linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul
matrix_transpose max maximum mean meshgrid min minimum moveaxis multiply nan negative newaxis nextafter nonzero
not_equal ones ones_like permute_dims pi positive pow prod real reciprocal remainder repeat reshape result_type roll
round searchsorted sign signbit sin sinh sort sqrt square squeeze stack std subtract sum take take_along_axis tan tanh
tensordot tile tril triu trunc uint16 uint32 uint64 uint8 unique_all unique_counts unique_inverse unique_values unstack
var vecdot where zeros zeros_like __array_namespace_info__ __array_api_version__ linalg fft
""".split()  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_namespace_has(name):
    assert hasattr(xp, name)
    if not name.startswith("_"):
        assert name in xp.__all__


def test_every_other_function_of_numpy_is_there_under_its_own_name():
    x = wg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    assert xp.median(x).item() == 2.0
    assert xp.arcsin(x * 0.1).requires_grad
    assert xp.nanmax is not None
    assert "median" in dir(xp)
    with pytest.raises(AttributeError, match="has no 'memmap'"):
        _ = xp.memmap


def test_a_tensor_knows_its_namespace():
    x = wg.tensor([1.0])
    assert x.__array_namespace__() is xp
    assert x.__array_namespace__(api_version="2024.12") is xp
    with pytest.raises(ArgumentError, match="1999"):
        x.__array_namespace__(api_version="1999.1")
    assert x.device == "cpu"
    assert x.to_device("cpu") is x
    with pytest.raises(ArgumentError, match='"cpu"'):
        x.to_device("cuda")


def test_what_it_makes_are_tensors():
    makers = [
        xp.zeros(3), xp.ones((2, 2)), xp.empty(2), xp.full(3, 2), xp.eye(2), xp.arange(4), xp.linspace(0, 1, 3),
        xp.asarray([1, 2]), xp.asarray(np.ones(2)), xp.from_dlpack(np.ones(2)), xp.sin(np.ones(2)), xp.add(1.0, 2.0),
        xp.zeros_like(np.ones(2)), xp.sum(np.ones(2)), xp.sort(np.ones(2)), xp.where(np.array([True]), 1.0, 2.0),
        *xp.nonzero(np.ones(2)), xp.searchsorted(np.arange(3.0), np.array([1.0])), *xp.unique_all(np.ones(3)),
        *xp.meshgrid(np.ones(2), np.ones(3)), xp.concat([np.ones(1), np.ones(1)]), xp.any(np.ones(2)), xp.isnan(1.0),
        xp.fft.fftfreq(4), xp.argsort(np.ones(2)), xp.median(np.ones(3)), xp.linalg.norm(np.ones(3)),
    ]  # fmt: skip
    for y in makers:
        assert isinstance(y, wg.Tensor), y


def test_asarray():
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    assert xp.asarray(x) is x
    assert xp.asarray(x, copy=True) is not x
    assert xp.asarray(x, dtype=xp.float32).requires_grad
    assert xp.asarray([x[0], x[1] * 2]).requires_grad
    with pytest.raises(ArgumentError, match="copy"):
        xp.asarray(x, dtype=xp.float32, copy=False)
    a = np.zeros(2)
    for copy in (None, True):
        b = xp.asarray(a, copy=copy)
        b[1] = 5.0
        assert a[1] == 0.0
    with pytest.raises(ArgumentError, match="its own"):
        xp.asarray(a, copy=False)
    with pytest.raises(ArgumentError, match="cpu"):
        xp.asarray(a, device="tpu")


def test_sorting_downwards_is_stable_and_keeps_the_gradient():
    x = wg.tensor([2.0, 1.0, 2.0, 3.0], requires_grad=True)
    assert xp.argsort(x, descending=True).tolist() == [3, 0, 2, 1]
    (xp.sort(x, descending=True) * np.arange(4.0)).sum().backward()
    assert x.grad.tolist() == [1.0, 3.0, 2.0, 0.0]


def test_full_and_linspace_pass_the_gradient_on():
    v = wg.tensor(2.0, requires_grad=True)
    (xp.full((2, 3), v).sum() + xp.linspace(0.0, v, 5).sum()).backward()
    assert v.grad.item() == 6.0 + 2.5


def test_the_limits_of_dtypes():
    assert xp.finfo(xp.float32).eps == float(np.finfo(np.float32).eps)
    assert xp.finfo(wg.tensor(1.0)).dtype == xp.float64
    assert xp.iinfo(wg.tensor([1])).max == 2**63 - 1
    assert xp.isdtype(xp.float32, ("integral", "real floating"))
    assert xp.can_cast(wg.tensor([1]), xp.float64)
    assert xp.result_type(wg.tensor([1]), xp.float32) == xp.float64
    info = xp.__array_namespace_info__()
    assert info.default_device() == "cpu"
    assert info.capabilities()["boolean indexing"]


def test_dlpack_hands_out_copies():
    x = wg.tensor([1.0, 2.0])
    y = np.from_dlpack(x)
    np.testing.assert_array_equal(y, [1.0, 2.0])
    assert not np.shares_memory(y, np.asarray(x))
    with pytest.raises(TapeExitError, match=r"x\.detach\(\)"):
        np.from_dlpack(wg.tensor([1.0], requires_grad=True) * 2)


def test_code_written_for_the_standard_is_differentiable():
    def softmax_entropy(x):
        ns = x.__array_namespace__()
        z = x - ns.max(x, axis=-1, keepdims=True)
        p = ns.exp(z) / ns.sum(ns.exp(z), axis=-1, keepdims=True)
        return -ns.sum(p * ns.log(p))

    x = np.random.default_rng(0).standard_normal((3, 4))
    g = wg.grad(softmax_entropy)(x)
    for i in np.ndindex(3, 4):
        d = np.zeros((3, 4))
        d[i] = 1e-6
        slope = (softmax_entropy(x + d) - softmax_entropy(x - d)) / 2e-6
        assert g[i] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("f", [np.mean, np.var, np.std])
def test_half_numbers_are_added_up_in_float32(f):
    x = np.full((300, 600), 5.0, np.float16)
    x[::2] = 50.0
    t = wg.tensor(x, requires_grad=True)
    y = f(t)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.numpy(), f(x.astype(float)), rtol=1e-3)
    y.backward()
    assert t.grad.dtype == np.float16
    assert np.isfinite(t.grad.numpy()).all()
    assert f(t, axis=1, keepdims=True).shape == (300, 1)
