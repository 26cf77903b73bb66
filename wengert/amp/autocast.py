"""Which operations run in half precision, and which do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any

import numpy as np

from wengert import trace
from wengert.primitive import Elementwise
from wengert.trace import HERE, Tensor, bind, looked, make, modes
from wengert.types import dtype_of, shape_of

from .half import Halves, Rounded, bottom, check_format, is_half, share, tag

__all__ = ["FLOAT32", "HALF", "MOVES", "autocast"]

# Products of matrices, where the time and the memory go: half numbers in and out. Recurrent
# operations run over time in float32 in between, as a sum does.
HALF = frozenset([
    "MatMul", "Einsum", "Affine", "Conv", "ConvInput", "ConvWeight", "Attention", "RNN", "LSTM",
    "GRU",
])  # fmt: skip
# Sums of many terms, and functions that stretch small differences: float32 in and out.
FLOAT32 = frozenset([
    "exp", "exp2", "exp10", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "logaddexp2",
    "pow", "float_power", "reciprocal", "root", "cbrt", "sinh", "cosh", "tan", "arcsin",
    "arccos", "div", "hypot", "erfinv", "gamma", "gammaln", "loggamma", "softplus",
    "log_sigmoid", "Sum", "Cumsum", "Prod", "Cumprod", "LogSumExp", "Softmax", "LogSoftmax",
    "CrossEntropy", "MeanCrossEntropy", "Norm", "SquaredNorm", "PNorm", "Inv", "Solve", "Det",
    "SlogDet", "Cholesky", "QR", "Eigh", "SVD", "FFT", "RFFT", "IRFFT", "ScatterAdd", "SumPool",
    "Normalize", "SoftCrossEntropy", "bce_logits", "times_log", "times_log1m", "AddRows", "CTC",
    "huber",
])  # fmt: skip
# These move numbers or choose among them: what they give is as half as what they are given.
MOVES = frozenset([
    "relu", "maximum", "minimum", "abs", "neg", "copy", "positive", "where", "sign", "Reshape",
    "Transpose", "Broadcast", "GetItem", "Gather", "Concatenate", "Pad", "Max", "Min", "MaxPool",
    "TapPick", "TapPut", "Embedding",
])  # fmt: skip


class autocast(ContextDecorator):
    """`with autocast("bfloat16"):` the forward pass in mixed precision.

    Matrix products and recurrent layers take and give numbers of 16 bits, sums and delicate
    functions those of 32; the others follow their operands. Parameters stay float32: each use of
    one is rounded, and its gradient comes back through the rounding. What the tape keeps of half
    numbers takes 2 bytes each. Arrays stay float32 to look at, see `wengert.amp.half`. float64 is
    left alone.

    Leave the block before `.backward()`. With float16 use a `GradScaler`; bfloat16 has the range of
    float32 and needs none.

    Args:
        form: "float16" or "bfloat16".
        enabled: False does nothing; `with autocast(enabled=False):` inside another block switches
            it off there.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor(np.full((2, 2), 1.001, np.float32), requires_grad=True)
        >>> with autocast("bfloat16"):
        ...     y = w @ np.eye(2, dtype=np.float32)
        >>> y.dtype, float(y.numpy()[0, 0])
        (dtype('float32'), 1.0)

    References:
        P. Micikevicius et al. (2018), Mixed Precision Training, arXiv:1710.03740.
    """

    def __init__(self, form: Any = "bfloat16", enabled: bool = True) -> None:
        self.form = check_format("autocast", form)
        self.enabled = enabled
        self._packers: list[Any] = []

    def _recreate_cm(self) -> autocast:
        return autocast(self.form, self.enabled)

    def __enter__(self) -> autocast:
        casters = HERE.__dict__.setdefault("casters", [])
        casters.append(getattr(HERE, "caster", None))
        HERE.caster = Caster(self.form) if self.enabled else None
        modes(1)
        self._packers.append(Halves(HERE.caster) if self.enabled else None)
        if self._packers[-1] is not None:
            self._packers[-1].__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        packer = self._packers.pop()
        if packer is not None:
            packer.__exit__(*exc)
        modes(-1)
        HERE.caster = HERE.casters.pop()


def size(x: Any) -> int:
    """How many numbers an operand has."""
    return math.prod(shape_of(x))


class Caster:
    """What `bind` asks while a block is active: operands rounded, the operation, its result."""

    __slots__ = ("form", "kept", "rounds", "to_half")

    def __init__(self, form: str) -> None:
        self.form = form
        self.to_half: Callable[[Any], Any] = Rounded(form)
        self.rounds = False  # whether the result of the operation in progress will be rounded
        self.kept: Any = None  # what the tape keeps of that result, if it does

    def __call__(self, op: Any, xs: tuple[Any, ...]) -> Any:
        HERE.caster = None
        try:
            return self.cast(op, xs)
        finally:
            HERE.caster = self

    def cast(self, op: Any, xs: tuple[Any, ...]) -> Any:
        name = op.name if isinstance(op, Elementwise) else type(op).__name__
        xs = tuple(map(looked, xs))
        if name in FLOAT32 or not any(isinstance(x, Tensor) for x in xs):
            return bind(op, *xs)
        mine = [x for x in xs if self.matters(x)]
        whole = max([size(x) for x in mine], default=0)
        mine = [x for x in mine if size(x) == whole]
        if name in HALF:
            xs = tuple(map(self.halved, xs))
        elif not mine or not all(is_half(x, self.form) for x in mine):
            return bind(op, *xs)
        self.rounds, self.kept = True, None
        try:
            y = bind(op, *xs)
        finally:
            self.rounds, kept, self.kept = False, self.kept, None
        if isinstance(y, tuple):
            return tuple(map(self.halved, y))
        y = tag(y, self.form) if name in MOVES else self.halved(y)
        share(y, kept)
        return y

    def matters(self, x: Any) -> bool:
        """Whether an operand has a say: numbers, and what is broadcast, adapt to whole arrays."""
        dtype = dtype_of(x)
        return dtype is not None and dtype.kind == "f" and shape_of(x) != ()

    def halved(self, x: Any) -> Any:
        if dtype_of(x) != np.float32 or shape_of(x) == () or is_half(x, self.form):
            return x
        if isinstance(x, Tensor):
            return tag(self.to_half(x), self.form)
        y = tag(self.to_half(bottom(x)), self.form)
        return make(y, None, trace.EAGER)  # nobody's but ours: the tape need not copy it
