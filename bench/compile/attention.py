"""Scaled dot-product attention forward and backward: batch 8, 128 places, 8 heads of 32, float32.

With and without the causal mask. Peers: written out in JAX and `jax.nn.dot_product_attention`;
PyTorch's `scaled_dot_product_attention` and written out, eager and compiled.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from _peers import Case, main

BATCH, HEADS, PLACES, EACH = 8, 8, 128, 32
TARGETS: dict[str, float | None] = {"jax": 0.55, "torch": 0.75}


def data() -> list[Any]:
    """The cotangent, queries, keys and values, `[N, heads, places, each]`."""
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (BATCH, HEADS, PLACES, EACH)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(4)]


def ours(form: str, causal: bool) -> Any:
    import numpy as np

    import wengert as wg
    from wengert.nn import functional as F

    def written(q: Any, k: Any, v: Any) -> Any:
        scores = q @ np.swapaxes(k, -1, -2) / np.float32(EACH**0.5)
        if causal:
            scores = np.where(np.tri(PLACES, dtype=bool), scores, np.float32(-np.inf))
        e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
        return e / np.sum(e, axis=-1, keepdims=True) @ v

    def attend(q: Any, k: Any, v: Any) -> Any:
        if form == "written":
            return written(q, k, v)
        return F.scaled_dot_product_attention(q, k, v, causal=causal)

    @wg.compile(wait=True)
    def both(g: Any, *xs: Any) -> Any:
        y, back = wg.vjp(attend, *xs)
        return y, *back(g)

    xs = data()
    return lambda: both(*xs), list(both(*xs))


def jax_attention(form: str, causal: bool) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_cpu_enable_async_dispatch", False)

    def written(q: Any, k: Any, v: Any) -> Any:
        scores = q @ jnp.swapaxes(k, -1, -2) / EACH**0.5
        if causal:
            scores = jnp.where(jnp.tri(PLACES, dtype=bool), scores, -jnp.inf)
        return jax.nn.softmax(scores) @ v

    def library(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        return jnp.swapaxes(jax.nn.dot_product_attention(q, k, v, is_causal=causal), 1, 2)

    @jax.jit
    def both(g: Any, *xs: Any) -> Any:
        y, back = jax.vjp(written if form == "written" else library, *xs)
        return y, *back(g)

    xs = [jnp.array(x) for x in data()]
    return lambda: jax.block_until_ready(both(*xs)), jax.device_get(both(*xs))


def torch_attention(form: str, causal: bool) -> Any:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    F = torch.nn.functional
    mask = torch.ones(PLACES, PLACES).tril().bool()

    def written(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.transpose(-1, -2) / EACH**0.5
        if causal:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1) @ v

    def library(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    f = written if "written" in form else library
    if "compile" in form:
        f = torch.compile(f)
    g, *xs = (torch.from_numpy(x) for x in data())
    xs = [x.requires_grad_(True) for x in xs]

    def call() -> Any:
        y = f(*xs)
        return y, *torch.autograd.grad(y, xs, g)

    return call, [a.detach().numpy().copy() for a in call()]


def cases() -> Iterator[Case]:
    for causal in (False, True):
        makers: dict[str, Any] = {
            "wengert": partial(ours, "library", causal),
            "wengert written": partial(ours, "written", causal),
            "jax written": partial(jax_attention, "written", causal),
            "jax library": partial(jax_attention, "library", causal),
        }
        for form in ("library", "written", "library compile", "written compile"):
            makers[f"torch {form}"] = partial(torch_attention, form, causal)
        yield Case("causal" if causal else "full", makers, TARGETS, 1e-4)


if __name__ == "__main__":
    main(__doc__, cases)
