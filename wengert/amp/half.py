"""Numbers of 16 bits: rounded to, kept in 2 bytes, and computed with as float32.

    float16    1 + 5 + 10 bits   largest 65504     smallest normal 6.1e-5   eps 9.8e-4
    bfloat16   1 + 8 + 7 bits    largest 3.4e38    smallest normal 1.2e-38  eps 7.8e-3

A CPU multiplies float32 fast and 16-bit numbers slowly or not at all, so a half number here is a
float32 array whose values happen to be those of a 16-bit format. Which arrays are such is known
by their identity; what the tape keeps of one takes 2 bytes a number, without loss.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import UnknownNameError, verbatim
from wengert.hollow import Hollow
from wengert.primitive import General, as_value
from wengert.trace import Tensor
from wengert.transforms.residuals import arrays
from wengert.transforms.wrapped import Packed
from wengert.types import Array, Aval

__all__ = ["FORMATS", "Half", "Halves", "Rounded", "check_format", "is_half", "rounded", "tag"]

FORMATS = ("float16", "bfloat16")
BLOCK = 1 << 16  # numbers at a time, so that what lies between takes no memory to speak of
ARRAYS = (np.ndarray, Hollow)
_known: dict[int, Entry] = {}


class Entry:
    """What is known of one array: that it holds half numbers, and its 2-byte copy, if made."""

    __slots__ = ("array", "copy", "form")

    def __init__(self, array: Any, form: str) -> None:
        key = id(array)
        self.form = form
        self.copy: Any = None
        self.array = weakref.ref(array, lambda _: _known.pop(key, None))


def check_format(what: str, form: Any) -> str:
    """`float16` or `bfloat16`, by name or as a dtype."""
    name = form if isinstance(form, str) else getattr(form, "__name__", str(form))
    if name in FORMATS:
        return name
    raise UnknownNameError(
        f"{what}({form!r})", "there is no such half format",
        operands=[("known", verbatim(", ".join(FORMATS)))],
    )  # fmt: skip


def rounded(x: Any, form: str) -> NDArray[np.float32]:
    """The nearest numbers of the format, ties to even, as float32.

    What is too large becomes infinite, and what is too small 0.

    Example:
        >>> x = np.array([1.001, 70000.0, 1e-9, 3.14159], np.float32)
        >>> rounded(x, "float16").tolist(), rounded(x, "bfloat16").tolist()
        ([1.0009765625, inf, 0.0, 3.140625], [1.0, 70144.0, 9.968061931431293e-10, 3.140625])
    """
    if isinstance(x, Hollow):
        return x.like(np.float32)  # type: ignore[return-value]
    a = np.ascontiguousarray(x, np.float32).reshape(np.shape(x))
    y = np.empty(a.shape, np.float32)
    source, target = a.reshape(-1), y.reshape(-1)
    near = _to_float16 if form == "float16" else _to_bfloat16
    for k in range(0, a.size, BLOCK):
        near(source[k : k + BLOCK], target[k : k + BLOCK])
    return y


def _to_float16(a: Any, y: Any) -> None:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        y[...] = a.astype(np.float16)


def _to_bfloat16(a: Any, y: Any) -> None:
    bits, up = a.view(np.uint32), y.view(np.uint32)
    np.right_shift(bits, np.uint32(16), out=up)
    up &= np.uint32(1)
    up += np.uint32(0x7FFF)
    up += bits
    up &= np.uint32(0xFFFF0000)
    bad = np.isnan(a)
    if bad.any():
        y[bad] = np.nan


def packed_bits(a: NDArray[Any], form: str) -> NDArray[Any] | None:
    """Half numbers in 2 bytes each, without loss; None if some are not (they were written to)."""
    short = form == "float16"
    if isinstance(a, Hollow):
        return a.like(np.uint16)
    y = np.empty(a.shape, np.float16 if short else np.uint16)
    source, target = np.ascontiguousarray(a).reshape(-1), y.reshape(-1)
    for k in range(0, a.size, BLOCK):
        block, into = source[k : k + BLOCK], target[k : k + BLOCK]
        if short:
            into[...] = block
            if not np.array_equal(into, block, equal_nan=True):
                return None
            continue
        bits = block.view(np.uint32)
        if (bits & np.uint32(0xFFFF)).any():
            return None
        np.right_shift(bits, np.uint32(16), out=into, casting="unsafe")
    return y


def unpacked_bits(bits: NDArray[Any]) -> NDArray[np.float32]:
    """The same numbers as float32."""
    if isinstance(bits, Hollow):
        return bits.like(np.float32)
    if bits.dtype == np.float16:
        return bits.astype(np.float32)
    whole = bits.astype(np.uint32)
    whole <<= np.uint32(16)
    return whole.view(np.float32)


def bottom(x: Any) -> Any:
    """The array under all levels."""
    while isinstance(x, Tensor):
        x = x.data
    return x


def tag(x: Any, form: str) -> Any:
    """Remember that an array holds half numbers."""
    a = bottom(x)
    if a.__class__ in ARRAYS and a.dtype == np.float32 and id(a) not in _known:
        _known[id(a)] = Entry(a, form)
    return x


def is_half(x: Any, form: str) -> bool:
    """Whether an array is known to hold numbers of the format."""
    entry = _known.get(id(bottom(x)))
    return entry is not None and entry.form == form


class Rounded(General):
    """y = x rounded to a half format, with the derivative of the exact function: gx = round(gy).

    The cotangent is rounded too, as it would be held in the same format: this is where small
    gradients of float16 become 0.
    """

    form: str

    def impl(self, x: Array) -> Array:
        y = rounded(x, self.form)
        tag(y, self.form)
        return y

    def __init__(self, form: str) -> None:
        raise NotImplementedError  # made from the fields, by `as_value`

    def infer(self, x: Aval) -> Aval:
        return x

    def jvp(self, dx: Array) -> Array:
        return self(dx)

    def vjp(self, g: Array) -> Array:
        return self(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return self(*xs)


as_value(Rounded)
Rounded.rules = {}


class Half(Packed):
    """A residual in 2 bytes a number."""

    __slots__ = ("bits",)

    def __init__(self, bits: NDArray[Any]) -> None:
        self.bits = bits

    def unpack(self) -> NDArray[np.float32]:
        return unpacked_bits(self.bits)


class Halves(arrays):
    """The packer: half numbers in 2 bytes, once for all nodes that keep the same array."""

    def __init__(self, caster: Any) -> None:
        self.caster = caster

    def pack(self, rule: Any, name: str, value: Any) -> Any:
        caster = self.caster
        if name == "y" and caster.rounds and not isinstance(value, Tensor) and value.size > 1:
            bits = packed_bits(rounded(value, caster.form), caster.form)
            if bits is not None and value.dtype == np.float32:
                caster.kept = Half(bits)
                return caster.kept
        if isinstance(value, Hollow):
            return self.keep(value)
        return arrays.pack(self, rule, name, value)

    def keep(self, value: Any) -> Any:
        entry = _known.get(id(value))
        if entry is None or value.size < 2:
            return value
        copy = entry.copy() if entry.copy is not None else None
        if copy is None:
            bits = packed_bits(value, entry.form)
            if bits is None:
                _known.pop(id(value), None)
                return value
            copy = Half(bits)
            entry.copy = weakref.ref(copy)
        return copy


def share(y: Any, kept: Half | None) -> None:
    """Let what is kept of an operation's result serve those that it is handed to as well."""
    entry = _known.get(id(bottom(y)))
    if entry is not None and kept is not None:
        entry.copy = weakref.ref(kept)
