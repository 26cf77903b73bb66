"""Random fused loop nests with data on which most arithmetic is exact.

The floats are small whole numbers, so that sums and products do not depend on their order and
whatever rounds or jumps agrees to the bit; functions that round come late, and carry a bound by
which their error is measured.
"""

import itertools
import math

import numpy as np

from wengert.compile.kernel import Fold, Kernel, Operand, Statement, Store, verify

F4, F8, I4, I8, B = (np.dtype(t) for t in ("f4", "f8", "i4", "i8", "?"))
DTYPES = [F4, F4, F4, F8, I4, I8, B]
SIZES = [1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 32, 33, 40, 64, 65, 100, 129, 300]
EXACT = 2.0**23

COMPARE = ["lt", "le", "gt", "ge", "eq", "ne"]
UNARY = {
    "f": ["neg", "abs", "square", "floor", "ceil", "rint", "trunc", "sign", "relu", "copy"],
    "i": ["neg", "abs", "square", "sign", "relu", "invert", "copy"],
    "b": ["logical_not", "invert", "copy"],
}
BINARY = {
    "f": ["add", "sub", "mul", "maximum", "minimum", "fmax", "fmin", "copysign"],
    "i": [
        *("add", "sub", "mul", "maximum", "minimum", "remainder", "fmod", "floor_divide"),
        *("bitwise_and", "bitwise_xor", "left_shift", "right_shift"),
    ],
    "b": ["logical_and", "logical_or", "logical_xor", "bitwise_or", "maximum", "mul", "add"],
}
LOGIC = {"f": ["isnan", "isinf", "isfinite", "signbit"], "i": [], "b": []}
ROUNDED = ["tanh", "erf", "sigmoid"]  # bounded by 1


class Maker:
    """A kernel under construction, with the arrays that it runs on."""

    def __init__(self, rng, nan=False):
        self.rng, self.nan = rng, nan
        self.args, self.body, self.bound, self.exact, self.wild = [], [], [], [], []
        self.outputs, self.checks = [], {}
        n = int(rng.choice([2, 2, 2, 3, 3, 4]))
        while True:
            self.space = tuple(int(s) for s in rng.choice(SIZES, n))
            if rng.random() < 0.03:
                self.space = (*self.space[:-1], int(rng.choice([600, 1100, 3000])))
            if rng.random() < 0.2:  # many short rows
                self.space = (
                    *self.space[:-2],
                    int(rng.integers(64, 300)),
                    int(rng.integers(2, 17)),
                )
            if math.prod(self.space) <= 9000:
                break
        if rng.random() < 0.02:
            k = int(rng.integers(n))
            self.space = (*self.space[:k], 0, *self.space[k + 1 :])

    def pick(self, xs):
        return xs[int(self.rng.integers(len(xs)))]

    # ---- operands
    def layout(self, keep, tight=False):
        """(offset, strides, elements) of an array over the axes `keep`."""
        rng, n = self.rng, len(self.space)
        order = list(range(n))
        if not tight and rng.random() < 0.2:
            rng.shuffle(order)
        strides, step, offset = [0] * n, 1, 0
        if not tight and rng.random() < 0.15:
            step = int(rng.integers(2, 4))
        for k in reversed(order):
            if k in keep:
                strides[k] = step
                step *= max(self.space[k], 1)
                if not tight and rng.random() < 0.15:
                    step += int(rng.integers(1, 5))
        for k in keep:
            if not tight and rng.random() < 0.08:
                offset -= strides[k] * -(self.space[k] - 1) if self.space[k] else 0
                strides[k] = -strides[k]
        offset += int(rng.integers(0, 4)) if not tight and rng.random() < 0.3 else 0
        size = offset + sum(s * (self.space[k] - 1) for k, s in enumerate(strides) if s > 0) + 1
        return offset, tuple(strides), max(size, 1)

    def data(self, dtype, size):
        rng = self.rng
        if dtype == B:
            return rng.random(size) < 0.5
        x = rng.integers(-3, 4, size).astype(dtype)
        if dtype.kind == "f" and self.nan:
            x[rng.random(size) < 0.05] = np.nan
            x[rng.random(size) < 0.05] = -np.inf
        return x

    def push(self, statement, bound, exact, wild):
        self.body.append(statement)
        self.bound.append(bound)
        self.exact.append(exact)
        self.wild.append(wild)
        return len(self.body) - 1

    def load(self):
        rng, n = self.rng, len(self.space)
        keep = [k for k in range(n) if rng.random() < 0.75]
        dtype = self.pick(DTYPES)
        offset, strides, size = self.layout(keep)
        index = ()
        if rng.random() < 0.08:
            rows = [k for k in range(n - 1) if rng.random() < 0.6]
            at, s, count = self.layout(rows, tight=True)
            of = self.pick([I4, I8])
            self.args.append(rng.integers(0, 4, count).astype(of))
            which = Operand(len(self.args) - 1, of, at, s)
            index = ((self.push(Statement("load", (), of, which), 3, True, False), size),)
            size = 4 * size
        self.args.append(self.data(dtype, size))
        o = Operand(len(self.args) - 1, dtype, offset, strides, index)
        return self.push(Statement("load", (), dtype, o), 3.0, True, self.nan and dtype.kind == "f")

    # ---- statements
    def cast(self, a, dtype):
        s = self.body[a].dtype
        if s == dtype:
            return a
        if s.kind == "f" and dtype.kind == "i" and (self.wild[a] or not self.exact[a]):
            return None
        if s.kind == "f" and dtype == B and not self.exact[a]:
            return None
        if dtype.kind == "f" and self.bound[a] > EXACT:
            return None
        bound = 1.0 if dtype == B else self.bound[a]
        return self.push(Statement("cast", (a,), dtype), bound, self.exact[a], self.wild[a])

    def step(self):
        """One more statement, if the die allows it."""
        rng = self.rng
        a = int(rng.integers(len(self.body)))
        dtype = self.body[a].dtype
        kind, bound, exact, wild = dtype.kind, self.bound[a], self.exact[a], self.wild[a]
        die = rng.random()
        if die < 0.15:
            how = self.pick(["add", "max", "min", "mul"] if kind != "f" else ["add", "max", "min"])
            if self.space[-1] == 0 and how in ("max", "min"):
                return
            big = bound * self.space[-1] if how == "add" else bound
            if kind == "f" and big > EXACT:
                return
            if kind == "i" and how in ("add", "mul"):
                big = 2.0**62
            self.push(Statement(f"row_{how}", (a,), dtype), big, exact, wild)
        elif die < 0.22 and kind == "f":
            if bound < 1e4:
                self.push(Statement(self.pick(ROUNDED), (a,), dtype), 1.0, False, wild)
        elif die < 0.26 and kind == "f":
            number = dtype.type(rng.integers(2, 8))
            by = self.push(Statement("const", (), dtype, None, number), 7.0, True, False)
            if rng.random() < 0.7:  # by 1 + |b|, which is no constant
                b = self.cast(int(rng.integers(len(self.body))), dtype)
                if b is None or not self.exact[b]:
                    return
                size = self.push(Statement("abs", (b,), dtype), self.bound[b], True, self.wild[b])
                by = self.push(
                    Statement("add", (by, size), dtype), self.bound[b] + 7, True, self.wild[b]
                )
            self.push(Statement("div", (a, by), dtype), bound, False, wild or self.wild[by])
        elif die < 0.40:
            name = self.pick(UNARY[kind] + LOGIC[kind])
            if not exact and name not in ("neg", "abs", "relu", "copy", "square"):
                return
            big = bound * bound if name == "square" else bound + 1
            if kind == "f" and big > EXACT:
                return
            to = B if name in LOGIC[kind] or name == "logical_not" else dtype
            self.push(Statement(name, (a,), to), min(big, 2.0**62), exact, wild and to.kind == "f")
        elif die < 0.46:
            dtype = self.pick(DTYPES)
            self.cast(a, dtype)
        elif die < 0.52:
            k = int(rng.integers(len(self.space)))
            self.push(Statement("place", (), I8, None, k), float(self.space[k]), True, False)
        elif die < 0.56:
            dtype = self.pick(DTYPES)
            number = dtype.type(rng.integers(-3, 4))
            self.push(Statement("const", (), dtype, None, number), 3.0, True, False)
        else:
            b = self.cast(int(rng.integers(len(self.body))), dtype)
            if b is not None:
                self.two(a, b, dtype)

    def two(self, a, b, dtype):
        kind, exact = dtype.kind, self.exact[a] and self.exact[b]
        wild = self.wild[a] or self.wild[b]
        name = self.pick([*BINARY[kind], *COMPARE, "where", "clip"])
        x, y = self.bound[a], self.bound[b]
        if name in COMPARE or name.startswith("logical"):
            if exact:
                self.push(Statement(name, (a, b), B), 1.0, True, False)
            return
        if name == "where":
            masks = [n for n, s in enumerate(self.body) if s.dtype == B]
            if masks:
                self.push(Statement(name, (self.pick(masks), a, b), dtype), max(x, y), exact, wild)
            return
        if name == "clip":
            if dtype != B:
                self.push(Statement(name, (a, b, a), dtype), max(x, y), exact, wild)
            return
        if name == "copysign" and not exact:
            return
        bound = x * y if name == "mul" else x + y
        if kind == "f" and bound > EXACT:
            return
        self.push(Statement(name, (a, b), dtype), min(bound, 2.0**62), exact, wild)

    # ---- outputs
    def store(self, flat):
        rng, n = self.rng, len(self.space)
        rows = [s for s in range(len(self.body)) if flat[s]]
        if rows and rng.random() < 0.3:
            value, keep = self.pick(rows), list(range(n - 1))
        else:
            value, keep = int(rng.integers(len(self.body))), list(range(n))
        dtype = self.body[value].dtype
        places = self.free(dtype, keep)
        if places and rng.random() < 0.5:
            to = self.pick(places)
        else:
            offset, strides, size = self.layout(keep)
            self.args.append(self.data(dtype, size))
            to = Operand(len(self.args) - 1, dtype, offset, strides)
        self.outputs.append(Store(value, to))
        self.checks[to.arg] = None if self.exact[value] else self.bound[value]

    def free(self, dtype, keep):
        """Operands of loads that a store may overwrite."""
        loads = [s.operand for s in self.body if s.operand is not None]
        taken = {o.to.arg for o in self.outputs}

        def axes(o):
            return enumerate(zip(o.strides, self.space))

        return [
            o
            for o in loads
            if o.dtype == dtype
            and o.arg not in taken
            and not o.index
            and all((s != 0) == (k in keep) or n == 1 for k, (s, n) in axes(o))
            and o.strides[-1] * (len(keep) - len(self.space) + 1) == o.strides[-1]
            and sum(p.arg == o.arg for p in loads) == 1
        ]  # fmt: skip

    def fold(self, flat, pieces):
        rng, n = self.rng, len(self.space)
        value = int(rng.integers(len(self.body)))
        keep = [k for k in range(n) if rng.random() < 0.45]
        rows = bool(flat[value] and rng.random() < 0.5)
        if rows:
            keep = [k for k in keep if k != n - 1]
        gone = [k for k in range(n) if k not in keep]
        count = math.prod(self.space[k] for k in gone if not (rows and k == n - 1))
        dtype, bound = self.body[value].dtype, self.bound[value]
        ways = ["add", "max", "min", "mul"] if dtype.kind != "f" else ["add", "max", "min"]
        how = self.pick(ways)
        if count == 0:
            how = "add"
        if how == "add":
            bound *= max(count, 1)
        if dtype.kind == "f" and bound > EXACT:
            return
        offset, strides, size = self.layout(keep)
        alone = 0 not in keep
        step = size if alone else 0
        self.args.append(self.data(dtype, size * pieces if alone else size))
        to = Operand(len(self.args) - 1, dtype, offset, strides)
        self.outputs.append(Fold(value, how, to, step, rows))
        self.checks[to.arg] = None if self.exact[value] else bound


def random_kernel(seed):
    """(kernel, args, pieces, {argument: None if exact, else the bound of its numbers})."""
    rng = np.random.default_rng(seed)
    m = Maker(rng, nan=rng.random() < 0.15)
    for _ in range(int(rng.integers(1, 4))):
        m.load()
    for _ in range(int(rng.integers(1, 14))):
        m.step()
    flat = Kernel(m.space, tuple(m.body), ()).by_row()
    n = m.space[0]
    cuts = sorted({0, n, *(int(c) for c in rng.integers(0, n + 1, int(rng.integers(0, 4))))})
    pieces = list(itertools.pairwise(cuts)) if n else [(0, 0)]
    wanted = int(rng.integers(1, 4))
    while len(m.outputs) < wanted:
        if rng.random() < 0.55:
            m.store(flat)
        else:
            m.fold(flat, len(pieces))
    kernel = Kernel(m.space, tuple(m.body), tuple(m.outputs))
    verify(kernel)
    return kernel, m.args, pieces, m.checks
