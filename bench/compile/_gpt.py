"""The GPT of `gpt.py` in JAX, from the weights of ours, by the names they have there."""

from __future__ import annotations

from typing import Any

B1, B2, EPS, DECAY = 0.9, 0.999, 1e-8, 0.01


def functions(heads: int, depth: int, rate: float) -> Any:
    """The loss, and one step of AdamW on a state that is given away."""
    import jax
    import jax.numpy as jnp

    def norm(x: Any, p: Any, at: str) -> Any:
        c = x - jnp.mean(x, -1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(c * c, -1, keepdims=True) + 1e-5)
        return c * scale * p[f"{at}.weight"] + p[f"{at}.bias"]

    def linear(x: Any, p: Any, at: str) -> Any:
        return x @ p[f"{at}.weight"] + p[f"{at}.bias"]

    def attention(x: Any, p: Any, at: str) -> Any:
        batch, places, d = x.shape

        def split(name: str) -> Any:
            y = linear(x, p, f"{at}.{name}").reshape(batch, places, heads, d // heads)
            return y.transpose(0, 2, 1, 3)

        q, k, v = (split(name) for name in ("query", "key", "value"))
        scores = q @ k.transpose(0, 1, 3, 2) / (d // heads) ** 0.5
        scores = jnp.where(jnp.tri(places, dtype=bool), scores, -jnp.inf)
        y = jax.nn.softmax(scores) @ v
        return linear(y.transpose(0, 2, 1, 3).reshape(batch, places, d), p, f"{at}.out")

    def loss(p: Any, x: Any, y: Any) -> Any:
        h = p["table.weight"][x] + p["position.weight"][: x.shape[1]]
        for i in range(depth):
            at = f"blocks.{i}"
            h = h + attention(norm(h, p, f"{at}.attention_norm"), p, f"{at}.attention")
            z = linear(norm(h, p, f"{at}.network_norm"), p, f"{at}.network.into")
            h = h + linear(jax.nn.gelu(z, approximate=False), p, f"{at}.network.out")
        logits = norm(h, p, "norm") @ p["table.weight"].T
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1))

    def step(state: Any, x: Any, y: Any) -> Any:
        p, m, v, t = state
        value, g = jax.value_and_grad(loss)(p, x, y)
        t = t + 1
        m = {k: B1 * a + (1 - B1) * g[k] for k, a in m.items()}
        v = {k: B2 * a + (1 - B2) * g[k] * g[k] for k, a in v.items()}
        by, low = rate / (1 - B1**t), 1 / jnp.sqrt(1 - B2**t)
        p = {
            k: a * (1 - rate * DECAY) - by * m[k] / (jnp.sqrt(v[k]) * low + EPS)
            for k, a in p.items()
        }
        return (p, m, v, t), value

    return loss, step


def state(weights: dict[str, Any]) -> Any:
    import jax.numpy as jnp
    import numpy as np

    p = {k: jnp.array(np.asarray(w)) for k, w in weights.items()}

    def zeros() -> Any:
        return {k: jnp.zeros_like(a) for k, a in p.items()}

    return p, zeros(), zeros(), jnp.float32(0)
