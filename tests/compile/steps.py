"""Training steps side by side, uncompiled and compiled: losses, parameters, gradients, draws."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import wengert as wg
from wengert import nn, optim
from wengert.errors import CompileWarning
from wengert.nn import functional as F

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 8)


@dataclass
class Task:
    """A step, what it trains, what happens between its calls, and what it is called with."""

    step: Any
    state: Any  # () -> tensors, arrays, numbers
    between: Any = lambda i: None
    data: Any = lambda i: (X + np.float32(i / 10), Y)
    grads: list = field(default_factory=list)


def plain(t):
    return np.array(t.value() if isinstance(t, wg.Tensor) else t, copy=True)


def trace(make, backend, calls):
    wg.random.seed(3)
    np.random.seed(3)  # noqa: NPY002 - users draw from it
    task = make()
    step = task.step if backend is None else wg.compile(task.step, backend=backend)
    rows = []
    for i in range(calls):
        task.between(i)
        loss = step(*task.data(i))
        state = task.state()
        grads = [getattr(p, "grad", None) for p in state]
        rows.append((
            wg.tree.map(plain, loss), [plain(p) for p in state],
            [None if g is None else plain(g) for g in grads], str(wg.random.get_state()),
        ))  # fmt: skip
    return rows, step


def follows(make, backend, calls=6, rtol=2e-5, refused=None, variants=None):
    """The compiled step does what the uncompiled one does, call after call."""
    want, _ = trace(make, None, calls)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got, step = trace(make, backend, calls)
    said = [str(w.message) for w in caught if issubclass(w.category, CompileWarning)]
    if refused is None:
        assert not said, said
    else:
        assert len(said) == 1, said
        assert refused in said[0], said
    for i, ((l, p, g, r), (m, q, h, s)) in enumerate(zip(want, got, strict=True)):
        assert [v is None for v in g] == [v is None for v in h], f"call {i}"
        # some gradients are noise, and so is what was moved along them: the largest is the scale
        for one, two, least in ((l, m, 0.0), (p, q, largest(p)), (g, h, largest(g))):
            for a, b in zip(wg.tree.leaves(one), wg.tree.leaves(two), strict=True):
                close(np.asarray(a), np.asarray(b), rtol, least, f"call {i}")
        assert r == s, f"call {i} drew other random numbers"
    made = [v for vs in step.variants.values() for v in vs]
    assert variants is None or len(made) == variants, [v.why for v in made]
    return step


def largest(arrays):
    return max([np.max(np.abs(v), initial=0.0) for v in arrays if v is not None], default=0.0)


def close(a, b, rtol, least, what):
    assert a.dtype == b.dtype, what
    scale = max(np.max(np.abs(a), initial=0.0), least) if a.dtype.kind in "fc" else 0.0
    np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol * scale, err_msg=what)


def mlp(*between, rng=0):
    bias = not any(isinstance(m, nn.BatchNorm1d) for m in between)  # it would have no gradient
    return nn.Sequential(
        nn.Linear(6, 16, bias=bias, rng=rng), *between, nn.ReLU(), nn.Linear(16, 3, rng=1)
    )


def training(
    make_optimizer=lambda p: optim.SGD(p, lr=0.1),
    make_model=mlp,
    *,
    zero="before",
    between=None,
    clip=None,
):
    """() -> the usual step."""

    def make():
        model = make_model()
        optimizer = make_optimizer(model.parameters())

        def step(x, y):
            if zero == "before":
                optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            out = clip(model) if clip is not None else None
            optimizer.step()
            if zero == "after":
                optimizer.zero_grad()
            return loss.detach(), out

        return Task(
            step, lambda: [*model.parameters(), *model.buffers()],
            between(model, optimizer) if between is not None else lambda i: None,
        )  # fmt: skip

    return make
