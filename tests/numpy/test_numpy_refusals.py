# ruff: noqa: E501 - a table has one case a line
# fmt: off
"""What is refused, and in which words: leaving the tape, unsupported arguments, bad operands."""

import math

import numpy as np
import pytest

import wengert as wg
from wengert.errors import (
    ArgumentError,
    AxisError,
    DTypeError,
    LevelError,
    ShapeError,
    TapeExitError,
    UnsupportedError,
)

HERE = "test_numpy_refusals.py"


@pytest.fixture
def t():
    return wg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True) * 1.0


def at_least_four_parts(error, *words):
    text = str(error.value)
    for word in (*words, HERE, "at:", "[WG"):
        assert word in text, f"{word!r} is not in\n{text}"


# ------------------------------------------------------------------ leaving the tape
def write_into_array(t):
    buffer = np.zeros(3)
    try:
        buffer[0] = t[0, 0]
    except ValueError as error:  # NumPy's own words for any TypeError
        raise error.__cause__ from None


def write_row_into_array(t):
    buffer = np.zeros((2, 3))
    buffer[:] = t


EXITS = {
    "np.asarray": (lambda t: np.asarray(t), "np.asarray", "t.detach().numpy()"),
    "np.array": (lambda t: np.array(t), "np.array(tensor)", "t.detach().numpy()"),
    "float": (lambda t: float(t[0, 0]), "float(tensor)", "t[0, 0].item()"),
    "int": (lambda t: int(t[0, 0]), "int(tensor)", "t[0, 0].item()"),
    "complex": (lambda t: complex(t[0, 0]), "complex(tensor)", "t[0, 0].item()"),
    "math.sin": (lambda t: math.sin(t[0, 0]), "math.sin(tensor)", "np.sin(t[0, 0])"),
    "array[0] = t": (write_into_array, "tensor", "wg.zeros"),
    "array[:] = t": (write_row_into_array, "buffer[:] = tensor", "wg.zeros"),
    "np.ndindex": (lambda t: list(range(t[0, 0])), "index(tensor)", "t[0, 0].item()"),
    "out=array": (lambda t: np.add(t, 1.0, out=np.zeros((2, 3))), "out=array", "wg.zeros"),
    "add.at": (lambda t: np.add.at(np.zeros(3), [0, 1, 1], t[0]), "np.add.at(array", "wg.zeros"),
}


@pytest.mark.parametrize(("f", "who", "way"), EXITS.values(), ids=EXITS)
def test_a_recorded_value_does_not_leave_silently(t, f, who, way):
    with pytest.raises(TapeExitError) as error:
        f(t)
    at_least_four_parts(error, who, way)


def test_a_c_extension_is_named_by_its_caller(t):
    integrate = pytest.importorskip("scipy.integrate", reason="the name of a SciPy caller was left out")
    signal = pytest.importorskip("scipy.signal")
    with pytest.raises(TapeExitError) as error:
        signal.lfilter([1.0], [1.0], t[0])
    at_least_four_parts(error, "lfilter(tensor)", "x.detach().numpy()")
    assert integrate


def test_an_unrecorded_tensor_is_an_array_for_everybody():
    t = wg.tensor([1.0, 2.0])
    assert float(t[0]) == 1.0
    assert math.sin(t[1]) == math.sin(2.0)
    a = np.zeros(2)
    a[:] = t
    np.testing.assert_array_equal(a, [1, 2])
    np.testing.assert_array_equal(np.asarray(t, dtype=np.float32), [1, 2])


# ------------------------------------------------------------------ arguments
UNSUPPORTED = {
    "sin(where) without out": (lambda t: np.sin(t, where=t > 0), "np.where(mask, f(x), other)"),
    "matmul(axes)": (lambda t: np.matmul(t, t.T, axes=[(0, 1), (0, 1), (0, 1)]), "axes"),
    "clip(casting)": (lambda t: np.clip(t, 0, 1, casting="unsafe"), "casting"),
    "clip(dtype)": (lambda t: np.clip(t, 0, 1, dtype=np.float32), "dtype"),
    "einsum(dtype)": (lambda t: np.einsum("ij->i", t, dtype=np.float32), "dtype"),
    "pad(mean)": (lambda t: np.pad(t, 1, mode="mean"), "constant, edge, reflect"),
    "pad(odd)": (lambda t: np.pad(t, 1, mode="reflect", reflect_type="odd"), "reflect_type"),
    "pad(function)": (lambda t: np.pad(t, 1, mode=lambda *a: None), "no derivative"),
    "sort(order)": (lambda t: np.sort(t, order="f"), "order"),
    "save": (lambda t: np.save("/nowhere", t), "x.detach().numpy()"),
    "packbits": (lambda t: np.packbits(t), "no derivative"),
    "view": (lambda t: t.view(int), "x.astype"),
    "resize in place": (lambda t: t.resize(6), "np.resize"),
    "spacing": (lambda t: np.spacing(t), "no derivative"),
    "signature": (lambda t: np.add(t, t, signature="dd->d"), "signature"),
    "put into an array": (lambda t: np.put_along_axis(np.zeros(3), np.array([1]), t[0], 0), "wg.zeros"),
    "copyto an array": (lambda t: np.copyto(np.zeros((2, 3)), t), "wg.zeros"),
    "fill_diagonal of an array": (lambda t: np.fill_diagonal(np.zeros((2, 2)), t[0, :2]), "np.fill_diagonal(tensor)"),
}


@pytest.mark.parametrize(("f", "words"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_has_no_answer_is_refused(t, f, words):
    with pytest.raises((UnsupportedError, TapeExitError)) as error:
        f(t)
    assert words in str(error.value) or "wg.zeros" in str(error.value)
    assert HERE in str(error.value)


BAD = {
    "axis": (AxisError, lambda t: np.sum(t, axis=2), ["sum(x, axis=2)", "-2 to 1", "float64[2, 3]"]),
    "method axis": (AxisError, lambda t: t.max(axis=-3), ["max(x, axis=-3)", "-2 to 1"]),
    "no axes": (AxisError, lambda t: t[0, 0].sum(axis=0), ["x has no axes"]),
    "axis twice": (ArgumentError, lambda t: t.sum(axis=(0, -2)), ["an axis occurs twice"]),
    "axis float": (ArgumentError, lambda t: t.sum(axis=1.0), ["an axis is an integer"]),
    "reshape": (ShapeError, lambda t: t.reshape(4, 2), ["6 elements do not fill"]),
    "broadcast": (ShapeError, lambda t: np.add(t, np.ones(4)), ["float64[2, 3]", "float64[4]"]),
    "broadcast tensors": (ShapeError, lambda t: t + wg.tensor(np.ones(4)), ["axis -1 is 3", "axis -1 is 4"]),
    "concatenate": (ShapeError, lambda t: np.concatenate([t, t.T]), ["float64[3, 2]"]),
    "stack": (ShapeError, lambda t: np.stack([t, t[0]]), ["xs[1]"]),
    "matmul": (ShapeError, lambda t: t @ t, ["inner dimensions disagree"]),
    "tensordot": (ShapeError, lambda t: np.tensordot(t, t, 1), ["axes summed over differ"]),
    "einsum": (ShapeError, lambda t: np.einsum("ij,ij->", t, t.T), ["axis 'i' is 2 and 3"]),
    "index": (AxisError, lambda t: t[2], ["out of bounds"]),
    "take": (AxisError, lambda t: np.take(t, 9), ["out of bounds"]),
    "split": (ShapeError, lambda t: np.split(t, 2, axis=1), ["np.array_split"]),
    "where": (ShapeError, lambda t: np.where([True] * 4, t, 0.0), ["bool[4]"]),
    "cast": (DTypeError, lambda t: t.astype(int, casting="safe"), ["no 'safe' cast"]),
    "empty max": (ArgumentError, lambda t: t[:0].max(axis=0), ["give `initial`"]),
    "floor of complex": (DTypeError, lambda t: np.floor(t * 1j), ["complex128[2, 3]"]),
}


@pytest.mark.parametrize(("cls", "f", "words"), BAD.values(), ids=BAD)
def test_bad_operands_get_four_parts(t, cls, f, words):
    with pytest.raises(cls) as error:
        f(t)
    at_least_four_parts(error, *words)


def test_an_error_of_the_users_own_function_passes_as_it_is(t):
    def broken(v):
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        np.piecewise(t, [t > 2], [broken, 0.0])


def test_values_do_not_exist_under_vmap(t):
    with pytest.raises(LevelError, match=r"wg\.where"):
        wg.vmap(np.nonzero)(np.ones((2, 3)))


def test_the_tape_knows_the_line_whichever_way_it_was_called(t):
    calls = [
        lambda: np.sum(t), lambda: t.sum(), lambda: np.reshape(t, 6), lambda: t.reshape(6), lambda: np.mean(t, 0),
        lambda: np.transpose(t), lambda: t.T, lambda: np.max(t), lambda: np.swapaxes(t, 0, 1), lambda: np.squeeze(t[None]),
        lambda: np.sum(t, axis=0), lambda: np.sort(t), lambda: np.sin(t), lambda: np.ravel(t), lambda: np.moveaxis(t, 0, 1),
    ]
    for call in calls:
        assert HERE in repr(call().grad_fn), call().grad_fn


@pytest.mark.parametrize(
    "call",
    [
        lambda t: np.save("never-written", t),
        lambda t: np.lib.stride_tricks.sliding_window_view(t, 2, axis=1),
    ],
)
def test_a_function_that_only_sounds_alike_is_not_named(t, call):
    with pytest.raises(UnsupportedError) as error:
        call(t)
    at_least_four_parts(error, "fix: x.detach().numpy() passes the value")
    assert "has one" not in str(error.value)


def test_a_variant_of_the_same_name_is_named():
    from wengert.numpy.table import nearest

    assert nearest("nanmedian", ["nanmean", "median", "nanmedians"]) == "nanmedians"
    assert nearest("polyfit", ["polyint", "solve"]) is None
    assert nearest("save", ["solve", "wave"]) is None
