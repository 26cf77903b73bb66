"""Random typed graphs over the operations of the house, with inputs: `make(seed)`.

Any seed gives a graph that verifies. Values are kept tame (no overflow on the way), but for a part
of the seeds, whose inputs hold nan, inf, -0.0 and huge numbers.
"""

import numpy as np

from wengert.graph import Graph, Var, verify
from wengert.ops.attention import Attention
from wengert.ops.contract import Affine, Einsum, MatMul
from wengert.ops.dropout import Dropout
from wengert.ops.fused import (
    CrossEntropy,
    LogSoftmax,
    LogSumExp,
    MeanCrossEntropy,
    Norm,
    Softmax,
    SquaredNorm,
)
from wengert.ops.index import HOLE, AddAt, Concatenate, Gather, GetItem, Pad, ScatterAdd, Write
from wengert.ops.linear import (
    Broadcast,
    Cast,
    CastConstant,
    Cumsum,
    Reshape,
    Sum,
    Transpose,
)
from wengert.ops.losses import SoftCrossEntropy
from wengert.ops.norm import Normalize
from wengert.ops.order import ArgMax, Max, Min
from wengert.trace import OPS
from wengert.types import Aval

SIZES = (1, 1, 2, 3, 4, 5, 8)
DTYPES = [np.dtype(d) for d in (np.float32, np.float64, np.float64, np.int64, np.bool_)]
# fmt: off
UNARY = (
    "neg", "exp", "log", "sqrt", "sin", "cos", "tanh", "square", "abs", "sigmoid", "relu", "gelu",
    "softplus", "reciprocal", "floor", "sign", "isnan", "isfinite", "copy", "positive", "conj",
    "real", "erf", "silu", "elu", "abs2", "log1p", "expm1", "arctan", "signbit",
)
BINARY = (
    "add", "sub", "mul", "div", "maximum", "minimum", "hypot", "arctan2", "fmax", "copysign",
    "by_cosh2", "add", "sub", "mul", "add", "mul", "floor_divide", "lt", "le", "gt", "ge", "eq",
    "ne", "unit_vector", "logaddexp", "pow",
)
# fmt: on
LOGIC = ["logical_and", "logical_or", "logical_xor"]


class Maker:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.graph = Graph()
        self.wild = self.rng.random() < 0.2
        self.values = []
        self.inputs = []

    # ------------------------------------------------------------------ choices
    def pick(self, seq):
        return seq[int(self.rng.integers(len(seq)))]

    def chance(self, p):
        return self.rng.random() < p

    def numbers(self, shape, dtype):
        rng, dtype = self.rng, np.dtype(dtype)
        if dtype.kind == "b":
            return rng.random(shape) < 0.5
        if dtype.kind in "iu":
            return rng.integers(-3, 4, shape).astype(dtype)
        x = np.asarray(rng.standard_normal(shape)).astype(dtype)
        if self.wild and x.size:
            odd = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e30, -1e30, 1e-40])
            places = rng.random(shape) < 0.2
            x = np.where(places, rng.choice(odd, shape), x).astype(dtype)
        return x

    def input(self, shape=None, dtype=None):
        if shape is None:
            shape = tuple(self.pick(SIZES) for _ in range(self.rng.integers(0, 4)))
        x = self.numbers(shape, dtype or self.pick(DTYPES))
        self.inputs.append(x)
        v = self.graph.input(Aval.of(x))
        self.values.append(v)
        return v

    def value(self, kind=None, shape=None, least=0):
        """A value of the graph of this kind of dtype, recent ones first; made if there is none."""
        for _ in range(12):
            k = len(self.values) - 1 - int(self.rng.exponential(6.0))
            v = self.values[max(k, 0)]
            fits = (kind is None or v.dtype.kind in kind) and v.ndim >= least and v.size
            if fits and (shape is None or v.shape == shape):
                return v
        if shape is None:
            shape = tuple(self.pick(SIZES) for _ in range(max(least, self.rng.integers(1, 4))))
        kinds = [d for d in DTYPES if kind is None or d.kind in kind]
        dtype = self.pick(kinds) if kinds else np.dtype(bool)
        if self.chance(0.3):
            return self.constant(shape, dtype)
        return self.input(shape, dtype)

    def constant(self, shape, dtype):
        x = self.numbers(shape, dtype)
        v = self.emit(OPS["copy"], x)  # so that it has a name; a chance for folding
        return v

    def emit(self, op, *xs):
        y = self.graph.emit(op, xs)
        ys = y if isinstance(y, tuple) else (y,)
        self.values.extend(v for v in ys if isinstance(v, Var))
        return y

    def partner(self, x):
        """An operand that broadcasts with x without making it larger."""
        roll = self.rng.random()
        if roll < 0.2 and x.dtype.kind == "f":
            return self.pick([0.5, 2.0, 1.0, -1.0, 0.0, -0.0, 3, 1, 0])
        if roll < 0.25:
            return np.asarray(self.pick([1.0, 2.0, 0.25, -0.0]), self.pick(DTYPES[:2]))
        if roll < 0.55:
            return self.value(x.dtype.kind, x.shape)
        if roll < 0.6:
            return x
        shape = tuple(n if self.chance(0.6) else 1 for n in x.shape[self.rng.integers(0, 2) :])
        return self.value(x.dtype.kind if self.chance(0.8) else None, shape)

    # ------------------------------------------------------------------ steps
    def unary(self):
        x = self.value("f" if self.chance(0.85) else "fi")
        name = self.pick(UNARY)
        if x.dtype.kind != "f" and name in ("reciprocal", "conj"):
            return
        self.emit(OPS[name], x)

    def binary(self):
        x = self.value("f" if self.chance(0.8) else "fi")
        name, y = self.pick(BINARY), self.partner(x)
        if name == "pow":
            y = self.pick([1, 2, 2.0, 3.0, 0.5])
        if name == "unit_vector" and (not isinstance(y, Var) or x.dtype.kind != "f"):
            return
        if getattr(y, "dtype", x.dtype).kind == "b" and name in ("sub", "floor_divide", "copysign"):
            return
        if name not in ("pow",) and self.chance(0.3) and isinstance(y, Var):
            x, y = y, x
        if x.dtype.kind == "i" and name in ("floor_divide", "pow"):
            return
        self.emit(OPS[name], x, y)

    def logic(self):
        x = self.value("b")
        if self.chance(0.3):
            self.emit(OPS["logical_not"], x)
        else:
            self.emit(OPS[self.pick(LOGIC)], x, self.value("b", x.shape))

    def choose(self):
        x = self.value("f")
        c = self.value("b", x.shape if self.chance(0.6) else x.shape[:0])
        y = self.partner(x)
        a, b = (x, y) if self.chance(0.5) else (y, x)
        self.emit(OPS["where"], c, a, b)

    def clamp(self):
        self.emit(OPS["clip"], self.value("f"), -0.75, self.pick([0.5, 1.5]))

    def cast(self):
        x = self.value("fib")
        dtype = self.pick(DTYPES)
        if dtype.kind == "f":
            self.emit(Cast(dtype), x)
        elif x.dtype.kind != "f" or dtype.kind == "b":  # nan has no integer
            self.emit(CastConstant(dtype), x)

    def reduce(self):
        x = self.value("fi" if self.chance(0.9) else "fib")
        axes = tuple(i for i in range(x.ndim) if self.chance(0.5))
        kind = self.pick([Sum, Sum, Sum, Max, Min])
        if kind is not Sum and not axes:
            return
        self.emit(kind(axes, self.chance(0.5)), x)

    def broadcast(self):
        x = self.value()
        shape = tuple(self.pick(SIZES) if n == 1 else n for n in x.shape)
        if self.chance(0.5) and x.ndim < 4:
            shape = (self.pick(SIZES), *shape)
        if np.prod(shape) <= 512:
            self.emit(Broadcast(shape), x)

    def transpose(self):
        x = self.value(least=2)
        self.emit(Transpose(tuple(int(i) for i in self.rng.permutation(x.ndim))), x)

    def reshape(self):
        x = self.value(least=1)
        shape = list(x.shape)
        if self.chance(0.5) and len(shape) > 1:
            k = int(self.rng.integers(len(shape) - 1))
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
        elif self.chance(0.5):
            shape.insert(int(self.rng.integers(len(shape) + 1)), 1)
        else:
            k = int(self.rng.integers(len(shape)))
            n = shape[k]
            f = self.pick([d for d in range(1, n + 1) if n % d == 0])
            shape[k : k + 1] = [f, n // f]
        if len(shape) <= 5:
            if self.chance(0.1) and shape[:1] == list(x.shape[:1]):
                self.emit(Reshape(tuple(shape[1:]), 1), x)
            else:
                self.emit(Reshape(tuple(shape)), x)

    def getitem(self):
        x = self.value(least=1)
        index = []
        for n in x.shape:
            roll = self.rng.random()
            if roll < 0.5:
                a = int(self.rng.integers(0, n))
                b = int(self.rng.integers(a + 1, n + 1))
                index.append(slice(a, b, self.pick([None, 1, 2])))
            elif roll < 0.7:
                index.append(slice(None))
            elif roll < 0.8:
                index.append(slice(None, None, -1))
            elif roll < 0.9:
                index.append(int(self.rng.integers(-n, n)))
            else:
                break
        if self.chance(0.15):
            index = [self.rng.integers(-x.shape[0], x.shape[0], self.pick([1, 3]))]
        self.emit(GetItem(tuple(index)), x)

    def write(self):
        x = self.value("f", least=1)
        at = GetItem((slice(0, int(self.rng.integers(1, x.shape[0] + 1))),))
        v = self.value(x.dtype.kind, self.pick([(), x.shape[1:]]))
        if v.dtype == x.dtype:
            self.emit(self.pick([AddAt(at), Write((at,))]), x, v)

    def gather(self):
        x = self.value("f", least=1)
        n = x.shape[0]
        i = self.rng.integers(0, n, self.pick([(2,), (3,), (2, 2)]))
        y = self.emit(Gather((HOLE,)), x, i)
        if self.chance(0.5):
            self.emit(ScatterAdd((HOLE,), x.shape), y, i)

    def matmul(self):
        a = self.value("f", least=2)
        k = a.shape[-1]
        roll = self.rng.random()
        if roll < 0.3:
            b = self.emit(Transpose((1, 0)), self.value("f", (self.pick(SIZES), k)))
        elif roll < 0.4:
            b = self.value("f", (k,))
        elif roll < 0.6 and a.ndim == 3:
            b = self.value("f", (self.pick([1, a.shape[0]]), k, self.pick(SIZES)))
        else:
            b = self.value("f", (k, self.pick(SIZES)))
        if b.ndim == 2 and self.chance(0.3):
            self.emit(Affine(), a, b, self.value("f", (b.shape[1],)))
        else:
            self.emit(MatMul(), a, b)

    def einsum(self):
        a = self.value("f", least=2)
        if a.ndim == 2:
            b = self.value("f", (a.shape[1], self.pick(SIZES)))
            self.emit(Einsum("ij", "jk", self.pick(["ik", "ki"])), a, b)

    def concatenate(self):
        x = self.value(least=1)
        axis = int(self.rng.integers(x.ndim))
        parts = [x]
        for _ in range(self.rng.integers(0, 3)):
            shape = list(x.shape)
            shape[axis] = self.pick(SIZES)
            parts.append(self.value(x.dtype.kind, tuple(shape)))
        y = self.emit(Concatenate(axis), *parts)
        if self.chance(0.3):
            lead = (slice(None),) * axis
            self.emit(GetItem((*lead, slice(0, x.shape[axis]))), y)

    def pad(self):
        x = self.value(least=1)
        if x.size < 200:
            ends = [tuple(int(i) for i in self.rng.integers(0, 2, 2)) for _ in x.shape]
            self.emit(Pad(tuple(ends)), x)

    def cumsum(self):
        x = self.value("f", least=1)
        self.emit(Cumsum(int(self.rng.integers(x.ndim)), self.chance(0.5)), x)

    def argmax(self):
        x = self.value("f", least=1)
        self.emit(ArgMax(int(self.rng.integers(x.ndim))), x)

    def softmax(self):
        x = self.value("f", least=1)
        axis = int(self.rng.integers(x.ndim))
        axes = tuple(i for i in range(x.ndim) if i == axis or self.chance(0.3))
        made = [Softmax(axis), Softmax(axis), LogSoftmax(axis), LogSumExp(axes, self.chance(0.5))]
        self.emit(self.pick(made), x)

    def normalize(self):
        x = self.value("f", least=1)
        axis = int(self.rng.integers(x.ndim))
        axes = tuple(i for i in range(x.ndim) if i == axis or self.chance(0.3))
        self.emit(Normalize(axes, 1e-5, self.chance(0.7)), x)

    def norm(self):
        x = self.value("f", least=1)
        axes = tuple(i for i in range(x.ndim) if self.chance(0.6)) or (0,)
        whole = len(axes) == x.ndim and self.chance(0.5)
        self.emit(self.pick([Norm, SquaredNorm])(axes, self.chance(0.5), whole), x)

    def dropout(self):
        x = self.value("f")
        self.emit(Dropout(1.25), x, self.value("b", x.shape))

    def loss(self):
        x = self.value("f", least=1)
        labels = np.asarray(self.rng.integers(0, x.shape[-1], x.shape[:-1]))
        b = labels
        if self.chance(0.7):
            self.inputs.append(labels)
            b = self.graph.input(Aval.of(labels))
        roll = self.rng.random()
        if roll < 0.3:
            self.emit(SoftCrossEntropy(), x, self.value("f", x.shape))
        else:
            self.emit(
                self.pick([CrossEntropy(), MeanCrossEntropy()]),
                x,
                np.asarray(b) if b is labels else b,
            )

    def attention(self):
        q = self.value("f", least=2)
        if q.ndim == 2 and q.size < 100:
            k = self.value(q.dtype.kind, (self.pick(SIZES), q.shape[1]))
            v = self.value(q.dtype.kind, (k.shape[0], self.pick(SIZES)))
            b = self.value("f", ()) if self.chance(0.5) else 0.0
            self.emit(Attention(0.5, self.chance(0.3)), q, k, v, b)

    def again(self):
        """A line that is there already."""
        if self.graph.lines:
            line = self.pick(self.graph.lines)
            self.emit(line.op, *line.inputs)


WEIGHTS = {
    "unary": 14, "binary": 22, "logic": 3, "choose": 5, "clamp": 1, "cast": 4, "reduce": 9,
    "broadcast": 6, "transpose": 7, "reshape": 7, "getitem": 5, "write": 2, "gather": 2,
    "matmul": 6, "einsum": 1, "concatenate": 3, "pad": 1, "cumsum": 2, "argmax": 1, "softmax": 3,
    "normalize": 3, "norm": 1, "dropout": 1, "loss": 2, "attention": 3, "again": 4,
}  # fmt: skip


def make(seed, lines=None):
    """(graph, inputs): a random graph of about `lines` lines, some of which nothing reads.

    >>> graph, inputs = make(0)
    >>> len(graph.inputs) == len(inputs)
    True
    """
    m = Maker(seed)
    count = int(m.rng.integers(3, 30)) if lines is None else lines
    for _ in range(m.rng.integers(1, 4)):
        m.input()
    names, weights = list(WEIGHTS), np.array(list(WEIGHTS.values()), float)
    with np.errstate(all="ignore"):
        while len(m.graph.lines) < count:
            getattr(m, names[int(m.rng.choice(len(names), p=weights / weights.sum()))])()
    made = [v for line in m.graph.lines for v in line.outputs]
    few = min(len(made), int(m.rng.integers(1, 4)))
    outputs = made[-1:] + [made[int(i)] for i in m.rng.choice(len(made), few, replace=False)]
    if m.chance(0.1):
        outputs.append(m.pick(m.graph.inputs))
    m.graph.outputs = outputs
    verify(m.graph)
    return m.graph, m.inputs
