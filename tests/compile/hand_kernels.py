"""Kernels as the compiler would write them, by hand: networks, losses, optimizers, a formula."""

import numpy as np

from wengert.compile.kernel import Fold, Kernel, Operand, Statement, Store

F4, F8, I4, I8, B = (np.dtype(t) for t in ("f4", "f8", "i4", "i8", "?"))


class Build:
    """Statements by name: k.exp(x), k.load(0, strides), k.store(y, 1, strides)."""

    def __init__(self, *space, dtype=F4):
        self.space, self.dtype, self.body, self.outputs = space, dtype, [], []

    def put(self, statement):
        self.body.append(statement)
        return len(self.body) - 1

    def load(self, arg, strides, dtype=None, offset=0, index=()):
        d = dtype or self.dtype
        return self.put(Statement("load", (), d, Operand(arg, d, offset, tuple(strides), index)))

    def const(self, x, dtype=None):
        return self.put(Statement("const", (), dtype or self.dtype, None, x))

    def place(self, axis):
        return self.put(Statement("place", (), I8, None, axis))

    def cast(self, a, dtype):
        return self.put(Statement("cast", (a,), dtype))

    def truth(self, name, *args):
        return self.put(Statement(name, args, B))

    def __getattr__(self, name):
        return lambda *args: self.put(Statement(name, args, self.body[args[-1]].dtype))

    def store(self, value, arg, strides, offset=0):
        o = Operand(arg, self.body[value].dtype, offset, tuple(strides))
        self.outputs.append(Store(value, o))

    def fold(self, value, arg, strides, how="add", partial=0, rows=False):
        o = Operand(arg, self.body[value].dtype, 0, tuple(strides))
        self.outputs.append(Fold(value, how, o, partial, rows))

    def kernel(self):
        return Kernel(tuple(self.space), tuple(self.body), tuple(self.outputs))


def softmax(n, m, dtype=F4, in_place=False):
    """x, y"""
    k = Build(n, m, dtype=dtype)
    x = k.load(0, (m, 1))
    e = k.exp(k.sub(x, k.row_max(x)))
    k.store(k.div(e, k.row_add(e)), 0 if in_place else 1, (m, 1))
    return k.kernel()


def layernorm(n, m, dtype=F4):
    """x, gain, bias, y, mean, 1 / deviation"""
    k = Build(n, m, dtype=dtype)
    x = k.load(0, (m, 1))
    by = k.const(1.0 / m)
    mean = k.mul(k.row_add(x), by)
    d = k.sub(x, mean)
    v = k.mul(k.row_add(k.mul(d, d)), by)
    r = k.div(k.const(1.0), k.sqrt(k.add(v, k.const(1e-5))))
    k.store(k.add(k.mul(k.mul(d, r), k.load(1, (0, 1))), k.load(2, (0, 1))), 3, (m, 1))
    k.store(mean, 4, (1, 0))
    k.store(r, 5, (1, 0))
    return k.kernel()


def layernorm_backward(n, m, dtype=F4):
    """x, gain, gy, mean, 1 / deviation, gx, ggain, gbias (a partial of each for a piece)"""
    k = Build(n, m, dtype=dtype)
    x, gain, gy = k.load(0, (m, 1)), k.load(1, (0, 1)), k.load(2, (m, 1))
    mean, r, by = k.load(3, (1, 0)), k.load(4, (1, 0)), k.const(1.0 / m)
    h = k.mul(gy, gain)
    z = k.mul(k.sub(x, mean), r)
    a = k.mul(k.row_add(h), by)
    b = k.mul(k.row_add(k.mul(h, z)), by)
    k.store(k.mul(k.sub(k.sub(h, a), k.mul(z, b)), r), 5, (m, 1))
    k.fold(k.mul(gy, z), 6, (0, 1), partial=m)
    k.fold(gy, 7, (0, 1), partial=m)
    return k.kernel()


def adam(n, dtype=F4):
    """parameter, mean and square in place, gradient, (rate, correction)"""
    k = Build(n, 1, dtype=dtype)
    p, m, v, g = (k.load(a, (1, 0)) for a in range(4))
    rate, correction = k.load(4, (0, 0)), k.load(4, (0, 0), offset=1)
    m2 = k.add(k.mul(m, k.const(0.9)), k.mul(g, k.const(0.1)))
    v2 = k.add(k.mul(v, k.const(0.999)), k.mul(k.mul(g, g), k.const(0.001)))
    down = k.add(k.mul(k.sqrt(v2), correction), k.const(1e-8))
    k.store(k.sub(p, k.div(k.mul(m2, rate), down)), 0, (1, 0))
    k.store(m2, 1, (1, 0))
    k.store(v2, 2, (1, 0))
    return k.kernel()


def bias_relu(n, m, dtype=F4):
    """x, bias, y"""
    k = Build(n, m, dtype=dtype)
    k.store(k.relu(k.add(k.load(0, (m, 1)), k.load(1, (0, 1)))), 2, (m, 1))
    return k.kernel()


def cross_entropy(n, m, dtype=F4):
    """x, labels, gx, loss (a partial for a piece): the mean of log sum exp - x[label]"""
    k = Build(n, m, dtype=dtype)
    x = k.load(0, (m, 1))
    label = k.load(1, (1, 0), I8)
    hit = k.truth("eq", k.place(1), label)
    top = k.row_max(x)
    e = k.exp(k.sub(x, top))
    total = k.row_add(e)
    by = k.const(1.0 / n)
    share = k.mul(e, k.div(by, total))
    k.store(k.sub(share, k.mul(k.cast(hit, dtype), by)), 2, (m, 1))
    at = k.load(0, (m, 0), index=((label, 1),))
    k.fold(k.mul(k.sub(k.add(k.log(total), top), at), by), 3, (0, 0), partial=1, rows=True)
    return k.kernel()


def gelu(n, dtype=F4):
    """x, y: with the hyperbolic tangent"""
    k = Build(n, 1, dtype=dtype)
    k.store(k.gelu_tanh(k.load(0, (1, 0))), 1, (1, 0))
    return k.kernel()


def gelu_backward(n, m, dtype=F4):
    """x, gy, gx, gbias"""
    k = Build(n, m, dtype=dtype)
    g = k.mul(k.load(1, (m, 1)), k.dgelu_tanh(k.load(0, (m, 1))))
    k.store(g, 2, (m, 1))
    k.fold(g, 3, (0, 1), partial=m)
    return k.kernel()


def black_scholes(n, dtype=F8):
    """spot, strike, time, call, put"""
    k = Build(n, 1, dtype=dtype)
    s, x, t = (k.load(a, (1, 0)) for a in range(3))
    sd = k.mul(k.sqrt(t), k.const(0.2))
    d1 = k.div(k.add(k.log(k.div(s, x)), k.mul(t, k.const(0.07))), sd)
    d2 = k.sub(d1, sd)
    half, root = k.const(0.5), k.const(-(0.5**0.5))
    n1 = k.mul(half, k.erfc(k.mul(d1, root)))
    n2 = k.mul(half, k.erfc(k.mul(d2, root)))
    paid = k.mul(x, k.exp(k.mul(t, k.const(-0.05))))
    call = k.sub(k.mul(s, n1), k.mul(paid, n2))
    k.store(call, 3, (1, 0))
    k.store(k.add(k.sub(call, s), paid), 4, (1, 0))
    return k.kernel()


def total(n, m, axis, dtype=F4):
    """x, y: the sum over an axis, or over both for None"""
    k = Build(n, m, dtype=dtype)
    x = k.load(0, (m, 1))
    k.fold(x, 1, {0: (0, 1), 1: (1, 0), None: (0, 0)}[axis], partial=0 if axis == 1 else m)
    return k.kernel()
