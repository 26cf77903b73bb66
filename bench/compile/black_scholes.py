"""The price of a call option with its greeks: delta, gamma, vega, theta and rho.

The price is written once; the first derivatives are `vmap(value_and_grad(price))`, gamma is the
derivative of delta, in forward mode; the same in JAX, and in PyTorch with `torch.func`. 10,000 and
2,000,000 options, float64 and float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from _peers import Case, main

TARGETS: dict[str, float | None] = {"jax": 0.30, "torch": 0.30}


def data(n: int, kind: str) -> list[Any]:
    """Spot, strike, years, rate, volatility."""
    import numpy as np

    rng = np.random.default_rng(0)
    ends = [(60, 140), (80, 120), (0.2, 2), (0.01, 0.06), (0.1, 0.5)]
    return [rng.uniform(a, b, n).astype(kind) for a, b in ends]


def pricer(log: Any, exp: Any, sqrt: Any, erf: Any) -> Any:
    half = 0.7071067811865476

    def price(s: Any, k: Any, t: Any, r: Any, sigma: Any) -> Any:
        root = sigma * sqrt(t)
        d1 = (log(s / k) + (r + 0.5 * sigma * sigma) * t) / root
        d2 = d1 - root
        return s * 0.5 * (1 + erf(d1 * half)) - k * exp(-r * t) * 0.5 * (1 + erf(d2 * half))

    return price


def greeks(price: Any, value_and_grad: Any, jvp: Any) -> Any:
    """Of one option, or of many: one sweep back, and one tangent through it for gamma."""

    def f(s: Any, k: Any, t: Any, r: Any, sigma: Any) -> Any:
        def first(s: Any) -> Any:
            return value_and_grad(price, (0, 2, 3, 4))(s, k, t, r, sigma)

        (y, (delta, theta, rho, vega)), (_, (gamma, *_)) = jvp(first, (s,), (s * 0 + 1,))
        return y, delta, gamma, vega, -theta, rho

    return f


def ours(n: int, kind: str) -> Any:
    import numpy as np

    import wengert as wg

    xs = data(n, kind)
    one = greeks(pricer(np.log, np.exp, np.sqrt, wg.erf), wg.value_and_grad, wg.jvp)
    f = wg.compile(wg.vmap(one), wait=True)
    return lambda: f(*xs), f(*xs)


def jax_greeks(n: int, kind: str) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    xs = [jnp.array(x) for x in data(n, kind)]
    price = pricer(jnp.log, jnp.exp, jnp.sqrt, jax.scipy.special.erf)
    f = jax.jit(jax.vmap(greeks(price, jax.value_and_grad, jax.jvp)))
    return lambda: jax.block_until_ready(f(*xs)), jax.device_get(f(*xs))


def torch_greeks(form: str, n: int, kind: str) -> Any:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    xs = [torch.from_numpy(x) for x in data(n, kind)]
    price = pricer(torch.log, torch.exp, torch.sqrt, torch.erf)

    def value_and_grad(f: Any, argnums: Any) -> Any:
        def both(*xs: Any) -> Any:
            gradients, value = torch.func.grad_and_value(f, argnums)(*xs)
            return value, gradients

        return both

    f = torch.func.vmap(greeks(price, value_and_grad, torch.func.jvp))
    if form == "compile":
        f = torch.compile(f)
    return lambda: f(*xs), [y.numpy().copy() for y in f(*xs)]


def cases() -> Iterator[Case]:
    for n in (10_000, 2_000_000):
        for kind in ("float64", "float32"):
            makers = {
                "wengert": partial(ours, n, kind),
                "jax": partial(jax_greeks, n, kind),
                "torch eager": partial(torch_greeks, "eager", n, kind),
                "torch compile": partial(torch_greeks, "compile", n, kind),
            }
            yield Case(f"greeks {n} {kind}", makers, TARGETS, 1e-9 if kind[-2:] == "64" else 1e-3)


if __name__ == "__main__":
    main(__doc__, cases)
