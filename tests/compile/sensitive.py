"""How far rounding may carry the values of a graph: what small changes on the way come to.

Every operand is changed by a few units in its last place, a few times over, at random. Where the
results then lie is where a program that rounds otherwise may lie as well; sums in another order, a
fused multiplication, a logarithm that is off by one. Elements at a jump (a floor, a comparison, the
place of a maximum) move by as much as the jump, and are compared accordingly.
"""

import numpy as np

from wengert.graph import Var, evaluate
from wengert.trace import bind

TIMES = 4
ULPS = 3.0  # by which a value is changed on the way
SLACK = 8.0  # times what the changes come to


def moved(graph, inputs, rng):
    """The outputs, every operand on the way changed a little."""
    env = {v.n: x for v, x in zip(graph.inputs, inputs, strict=True)}

    def changed(x):
        x = env[x.n] if isinstance(x, Var) else x
        dtype = getattr(x, "dtype", None)
        if dtype is None or dtype.kind not in "fc":
            return x
        turn = rng.choice([-1.0, 1.0], x.shape) * rng.random(x.shape)
        return (x * (1 + np.finfo(dtype).eps * ULPS * turn)).astype(dtype)

    for line in graph.lines:
        y = bind(line.op, *map(changed, line.inputs))
        for v, part in zip(line.outputs, y if isinstance(y, tuple) else (y,), strict=True):
            env[v.n] = np.asarray(part)
    return [np.asarray(env[y.n] if isinstance(y, Var) else y) for y in graph.outputs]


def bounds(graph, inputs, seed=0):
    """(the outputs, how far each element may lie from them; nan where it may be anything)."""
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        want = [np.asarray(y) for y in evaluate(graph, *inputs)]
        runs = [moved(graph, inputs, rng) for _ in range(TIMES)]
        out = []
        for k, y in enumerate(want):
            if y.dtype.kind not in "fc":
                same = np.all([r[k] == y for r in runs], axis=0)
                out.append(np.where(same, 0.0, np.nan))
                continue
            far = [np.abs(r[k].astype(np.clongdouble) - y) for r in runs]
            far = np.max(far, axis=0).astype(float)
            far = np.where(np.all([alike(r[k], y) for r in runs], axis=0), far, np.nan)
            eps = np.finfo(y.dtype).eps
            size = np.abs(np.where(np.isfinite(y), y, 0.0)).astype(float)
            out.append(SLACK * far + 4 * eps * size + np.finfo(y.dtype).tiny)
            out[-1] = np.where(np.isfinite(y), out[-1], np.where(np.isnan(far), np.nan, 0.0))
    return want, out


def alike(a, b):
    """Finite where the other is, and otherwise the same infinity or nan."""
    finite = np.isfinite(a) & np.isfinite(b)
    return finite | (a == b) | (np.isnan(a) & np.isnan(b))


def hold(got, graph, inputs, what=""):
    """Raise unless results are the graph's, within the bounds."""
    want, allowed = bounds(graph, inputs)
    with np.errstate(all="ignore"):
        for k, (y, w, far) in enumerate(zip(got, want, allowed, strict=True)):
            y = np.asarray(y)
            assert y.shape == w.shape, f"{what}, output {k}: {y.shape}, not {w.shape}"
            assert y.dtype == w.dtype, f"{what}, output {k}: {y.dtype}, not {w.dtype}"
            if y.dtype.kind in "fc":
                near = np.abs(y.astype(np.clongdouble) - w) <= far
                ok = np.isnan(far) | near | (alike(y, w) & ~np.isfinite(w))
            else:
                ok = np.isnan(far) | (y == w)
            assert np.all(ok), f"{what}, output {k}:\n{y!r}\nis not\n{w!r}\n{graph}"
