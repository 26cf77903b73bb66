"""A training step of an MLP: forward, cross-entropy, backward and the update of every weight.

    784-128-10 batch 32;  784-512-512-10 batch 128;  784-2048-2048-10 batch 512; each SGD and Adam

float32, from the same weights on the same data; every contender must have
arrived at the same losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import _numpy_mlp
from _peers import Case, main

SHAPES = [
    ("small", (784, 128, 10), 32, {"jax": 0.40, "torch": 0.25, "numpy": None}),
    ("medium", (784, 512, 512, 10), 128, {"jax": 0.75, "torch": 0.70, "numpy": None}),
    ("large", (784, 2048, 2048, 10), 512, {"jax": 0.90, "torch": 0.80, "numpy": None}),
]
RATES = {"sgd": 0.02, "adam": 2e-4}
STEPS = 4
B1, B2, EPS = 0.9, 0.999, 1e-8


def data(sizes: tuple[int, ...], batch: int) -> tuple[Any, Any, Any]:
    """Weights and biases in turns, a batch, its labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    weights = []
    for n, m in pairwise(sizes):
        weights.append((rng.normal(size=(n, m)) * np.sqrt(2 / n)).astype(np.float32))
        weights.append(np.zeros(m, np.float32))
    x = rng.normal(size=(batch, sizes[0])).astype(np.float32)
    return weights, x, rng.integers(sizes[-1], size=batch)


def finished(call: Any) -> Any:
    """The call, and the losses of its first steps."""
    return call, [[float(call()) for _ in range(STEPS)]]


def ours(kind: str, sizes: Any, batch: int) -> Any:
    import wengert as wg
    from wengert import nn, optim
    from wengert.nn import functional as F

    weights, x, y = data(sizes, batch)
    layers: list[Any] = []
    for n, m in pairwise(sizes):
        layers += [nn.Linear(n, m, rng=0), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with wg.no_grad():
        for p, w in zip(model.parameters(), weights):
            p[...] = w
    optimizer = {"sgd": optim.SGD, "adam": optim.Adam}[kind](model.parameters(), lr=RATES[kind])

    @wg.compile(wait=True)
    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return finished(lambda: step(x, y))


def written_out(kind: str, sizes: Any, batch: int) -> Any:
    """The same with the update written out in place of `wg.optim`."""
    import numpy as np

    import wengert as wg
    from wengert.nn import functional as F

    weights, x, y = data(sizes, batch)
    params = [wg.tensor(w, requires_grad=True) for w in weights]
    means = [wg.tensor(np.zeros_like(w)) for w in weights]
    squares = [wg.tensor(np.zeros_like(w)) for w in weights]
    rate = RATES[kind]

    @wg.compile(wait=True)
    def step(x: Any, y: Any, t: float) -> Any:
        h = x
        for k in range(0, len(params), 2):
            h = h @ params[k] + params[k + 1]
            h = np.maximum(h, 0) if k + 2 < len(params) else h
        loss = F.cross_entropy(h, y)
        for p in params:
            p.grad = None
        loss.backward()
        with wg.no_grad():
            if kind == "sgd":
                for p in params:
                    p -= rate * p.grad
                return loss
            low = 1 / (1 - B2**t) ** 0.5
            by = rate / (1 - B1**t)
            for p, m, v in zip(params, means, squares):
                m *= B1
                m += (1 - B1) * p.grad
                v *= B2
                v += (1 - B2) * p.grad * p.grad
                p -= by * m / (np.sqrt(v) * low + EPS)
        return loss

    t = 0.0

    def call() -> Any:
        nonlocal t
        t += 1
        return step(x, y, t)

    return finished(call)


def jax_step(kind: str, sizes: Any, batch: int) -> Any:
    import jax
    import jax.numpy as jnp

    weights, x, y = data(sizes, batch)

    def loss(params: Any, x: Any, y: Any) -> Any:
        h = x
        for k in range(0, len(params), 2):
            h = h @ params[k] + params[k + 1]
            h = jax.nn.relu(h) if k + 2 < len(params) else h
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1))

    @partial(jax.jit, donate_argnums=(0,))
    def step(state: Any, x: Any, y: Any) -> Any:
        params, m, v, t = state
        value, g = jax.value_and_grad(loss)(params, x, y)
        rate = RATES[kind]
        if kind == "sgd":
            return ([p - rate * d for p, d in zip(params, g)], m, v, t), value
        t = t + 1
        m = [B1 * a + (1 - B1) * d for a, d in zip(m, g)]
        v = [B2 * a + (1 - B2) * d * d for a, d in zip(v, g)]
        by, low = rate / (1 - B1**t), 1 / jnp.sqrt(1 - B2**t)
        params = [p - by * a / (jnp.sqrt(b) * low + EPS) for p, a, b in zip(params, m, v)]
        return (params, m, v, t), value

    adam = kind == "adam"
    state = (
        [jnp.array(w) for w in weights],
        [jnp.zeros(w.shape, jnp.float32) for w in weights] if adam else [],
        [jnp.zeros(w.shape, jnp.float32) for w in weights] if adam else [],
        jnp.float32(0),
    )
    xs, ys = jnp.array(x), jnp.array(y, jnp.int32)

    def call() -> Any:
        nonlocal state
        state, value = step(state, xs, ys)
        jax.block_until_ready(state)
        return value.block_until_ready()

    return finished(call)


def jax_inline(kind: str, sizes: Any, batch: int) -> Any:
    """Without a thread for dispatch: what is best on one core."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return jax_step(kind, sizes, batch)


def torch_step(kind: str, form: str, sizes: Any, batch: int) -> Any:
    import torch

    torch.set_num_threads(int(__import__("os").environ["OMP_NUM_THREADS"]))
    weights, x, y = data(sizes, batch)
    layers: list[Any] = []
    for n, m in pairwise(sizes):
        layers += [torch.nn.Linear(n, m), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for p, w in zip(model.parameters(), weights):
            p.copy_(torch.from_numpy(w.T.copy()))
    words = form.split()
    options = {w: True for w in words if w in ("foreach", "fused")}
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind]
    optimizer = make(model.parameters(), lr=RATES[kind], **options)
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)

    def forward(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    if "compile" in words:
        mode = "max-autotune-no-cudagraphs" if "tuned" in words else "default"
        forward = torch.compile(forward, mode=mode)

    def call() -> Any:
        optimizer.zero_grad()
        loss = forward(xs, ys)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return finished(call)


def numpy_step(kind: str, sizes: Any, batch: int) -> Any:
    weights, x, y = data(sizes, batch)
    return finished(_numpy_mlp.step(kind, weights, x, y, RATES[kind]))


def makers(kind: str, sizes: Any, batch: int) -> Any:
    out = {
        "wengert": partial(ours, kind, sizes, batch),
        "wengert written out": partial(written_out, kind, sizes, batch),
        "jax": partial(jax_step, kind, sizes, batch),
        "jax inline": partial(jax_inline, kind, sizes, batch),
    }
    for form in ("eager", "eager foreach", "eager fused", "compile fused", "compile tuned fused"):
        out[f"torch {form}"] = partial(torch_step, kind, form, sizes, batch)
    out["numpy"] = partial(numpy_step, kind, sizes, batch)
    return out


def cases() -> Iterator[Case]:
    for name, sizes, batch, targets in SHAPES:
        for kind in ("sgd", "adam"):
            yield Case(f"{name} {kind}", makers(kind, sizes, batch), targets)


if __name__ == "__main__":
    main(__doc__, cases)
