"""The peers of `rows.py`: the same functions in JAX and PyTorch, forward and backward."""

from __future__ import annotations

import os
from typing import Any

EPS = 1e-5
B1, B2, TINY, RATE = 0.9, 0.999, 1e-8, 1e-3


def adam(xp: Any, p: Any, m: Any, v: Any, g: Any) -> Any:
    """One step of Adam with the corrections of a late step."""
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * (g * g)
    return p - RATE * m / (xp.sqrt(v) + TINY), m, v


def jax_row(kind: str, inputs: list[Any]) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    xs = [jnp.array(x) for x in inputs]
    if kind == "adam":
        step = jax.jit(lambda p, m, v, g: adam(jnp, p, m, v, g), donate_argnums=(0, 1, 2))
        state = xs[:3]

        def call() -> Any:
            nonlocal state
            state = step(*state, xs[3])
            return jax.block_until_ready(state)

        return call, [jax.device_get(a) for a in call()]

    if kind == "layernorm":

        def f(x: Any, w: Any, b: Any) -> Any:
            c = x - jnp.mean(x, -1, keepdims=True)
            return c / jnp.sqrt(jnp.mean(c * c, -1, keepdims=True) + EPS) * w + b

    elif kind == "gelu":

        def f(x: Any) -> Any:
            return jax.nn.gelu(x, approximate=False)

    else:

        def f(x: Any, y: Any) -> Any:
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1))

        both = jax.jit(jax.value_and_grad(f))
        xs[1] = xs[1].astype(jnp.int32)
        return lambda: jax.block_until_ready(both(*xs)), jax.device_get(both(*xs))

    @jax.jit
    def both(g: Any, *xs: Any) -> Any:
        y, back = jax.vjp(f, *xs)
        return y, *back(g)

    return lambda: jax.block_until_ready(both(*xs)), jax.device_get(both(*xs))


def torch_row(kind: str, form: str, inputs: list[Any]) -> Any:
    import torch

    F = torch.nn.functional
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    xs = [torch.from_numpy(x) for x in inputs]
    if kind == "adam":
        p, m, v, g = xs
        p = p.clone().requires_grad_(True)
        p.grad = g
        words = {w: True for w in form.split() if w in ("foreach", "fused")}
        step = torch.optim.Adam([p], lr=RATE, betas=(B1, B2), eps=TINY, **words)
        state = step.state[p]
        state["step"] = torch.tensor(1e6)
        state["exp_avg"], state["exp_avg_sq"] = m.clone(), v.clone()
        step.step()
        return step.step, [a.detach().numpy().copy() for a in (p, *list(state.values())[1:])]

    if kind == "layernorm":

        def f(x: Any, w: Any, b: Any) -> Any:
            return F.layer_norm(x, w.shape, w, b, EPS)

    elif kind == "gelu":
        f = F.gelu
    else:
        f = F.cross_entropy
    if kind == "softmax-ce":
        x = xs[0].requires_grad_(True)
        leaves, given, start = [x], (x, xs[1]), None
    else:
        leaves = [x.requires_grad_(True) for x in xs[1:]]
        given, start = tuple(leaves), xs[0]
    if "compile" in form:
        f = torch.compile(f)

    def call() -> Any:
        y = f(*given)
        return y, *torch.autograd.grad(y, leaves, start)

    return call, [a.detach().numpy().copy() for a in call()]
