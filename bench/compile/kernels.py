"""Single native kernels against jax.jit and PyTorch, one thread each, on one core.

Each kernel is a fused loop nest as the compiler would form it, on memory planned ahead; JAX returns
fresh arrays (the Adam update donates its own), PyTorch writes to `out=` where an operation has it.
LEVEL=2 in the environment compiles with LLVM's own pipeline of that level instead of the short one.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(os.environ.get("CORE", min(os.sched_getaffinity(0))))})
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "tests/compile")]

import hand_kernels as hand  # noqa: E402
import native  # noqa: E402
import numpy as np  # noqa: E402
from _harness import Case, cases, main, peer  # noqa: E402

torch, jax = peer("torch"), peer("jax")
if jax is not None:
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
rng = np.random.default_rng(0)
LEVEL = os.environ.get("LEVEL", "short")
F4, F8 = np.dtype("f4"), np.dtype("f8")
JAX, TORCH = 0.5, 0.6  # the ratios that are aimed at
Call = Callable[[], Any]


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape, dtype=np.float32)


def ours(kernel: Any, *arrays: Any) -> Call:
    """A call of the compiled kernel on arrays, which stay where they are."""
    (f,) = native.compiled([kernel], level=LEVEL)
    table = (ctypes.c_void_p * len(arrays))(*[x.ctypes.data for x in arrays])
    at, hi = ctypes.addressof(table), kernel.space[0]

    def run(keep: Any = (arrays, table)) -> None:
        f(at, 0, hi, 0)

    run()
    return run


def with_jax(f: Call, *arrays: Any) -> Call:
    compiled, xs = jax.jit(f), [jnp.asarray(x) for x in arrays]
    return lambda: jax.block_until_ready(compiled(*xs))


def close(got: Any, want: Any, tolerance: float = 3e-6) -> None:
    got, want = np.asarray(got, float), np.asarray(want, float)
    error = np.max(np.abs(got - want)) / np.max(np.abs(want))
    assert error < tolerance, error


def pair(name: str, mine: Call, in_jax: Call | None, in_torch: Call | None) -> Iterator[Case]:
    if jax is not None and in_jax is not None:
        yield Case(name, "jax.jit", mine, in_jax, JAX)
    if torch is not None and in_torch is not None:
        yield Case(name, "PyTorch", mine, in_torch, TORCH)


def tensors(*arrays: Any) -> list[Any]:
    return [torch.from_numpy(x) for x in arrays]


def layernorm(n: int, m: int) -> Iterator[Case]:
    x, gain, bias, gy = normal(n, m), normal(m), normal(m), normal(n, m)
    y, mean, r = np.empty_like(x), np.empty(n, F4), np.empty(n, F4)
    gx, ggain, gbias = np.empty_like(x), np.empty(m, F4), np.empty(m, F4)
    forward = ours(hand.layernorm(n, m), x, gain, bias, y, mean, r)
    backward = ours(hand.layernorm_backward(n, m), x, gain, gy, mean, r, gx, ggain, gbias)

    def f(x: Any, gain: Any, bias: Any) -> Any:
        mean = x.mean(1, keepdims=True)
        d = x - mean
        return d * jax.lax.rsqrt((d * d).mean(1, keepdims=True) + 1e-5) * gain + bias

    def b(x: Any, gain: Any, bias: Any, gy: Any) -> Any:
        return jax.vjp(f, x, gain, bias)[1](gy)

    wide = [jnp.asarray(a, float) for a in (x, gain, bias, gy)]
    close(y, f(*wide[:3]))
    for mine, theirs in zip((gx, ggain, gbias), b(*wide)):
        close(mine, theirs, 2e-5)
    tx, tg, tb, tgy = tensors(x, gain, bias, gy)
    _, tm, tr = torch.ops.aten.native_layer_norm(tx, (m,), tg, tb, 1e-5)
    back = torch.ops.aten.native_layer_norm_backward
    name = f"layernorm {n}x{m}"
    yield from pair(
        name, forward, with_jax(f, x, gain, bias),
        lambda: torch.nn.functional.layer_norm(tx, (m,), tg, tb),
    )  # fmt: skip
    yield from pair(
        f"{name}, backward", backward, with_jax(b, x, gain, bias, gy),
        lambda: back(tgy, tx, (m,), tm, tr, tg, tb, (True, True, True)),
    )  # fmt: skip


def cross_entropy(n: int, m: int) -> Iterator[Case]:
    x, labels = normal(n, m), rng.integers(0, m, n)
    gx, loss = np.empty_like(x), np.zeros(1, F4)
    mine = ours(hand.cross_entropy(n, m), x, labels, gx, loss)

    def f(x: Any, labels: Any) -> Any:
        logs = jax.nn.log_softmax(x)
        return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], 1))

    both = jax.value_and_grad(f)
    value, slope = both(jnp.asarray(x, float), labels)
    close(loss[0], value)
    close(gx, slope)
    tx, tl = tensors(x, labels)
    tx.requires_grad_()

    def in_torch() -> None:
        tx.grad = None
        torch.nn.functional.cross_entropy(tx, tl).backward()

    yield from pair(f"cross-entropy {n}x{m}", mine, with_jax(both, x, labels), in_torch)


def gelu(n: int, m: int) -> Iterator[Case]:
    x, gy = normal(n, m), normal(n, m)
    y, gx, gbias = np.empty_like(x), np.empty_like(x), np.empty(m, F4)
    forward = ours(hand.gelu(n * m), x, y)
    backward = ours(hand.gelu_backward(n, m), x, gy, gx, gbias)

    def b(x: Any, gy: Any) -> Any:
        gx = jax.vjp(jax.nn.gelu, x)[1](gy)[0]
        return gx, gx.sum(0)

    wide = jnp.asarray(x, float), jnp.asarray(gy, float)
    close(y, jax.nn.gelu(wide[0]))
    close(gx, b(*wide)[0])
    close(gbias, b(*wide)[1], 1e-5)
    tx, tgy, out = tensors(x, gy, np.empty_like(x))
    aten = torch.ops.aten
    yield from pair(
        f"gelu {n}x{m}", forward, with_jax(jax.nn.gelu, x),
        lambda: aten.gelu.out(tx, approximate="tanh", out=out),
    )  # fmt: skip
    yield from pair(
        f"gelu {n}x{m}, backward with its sums", backward, with_jax(b, x, gy),
        lambda: aten.gelu_backward(tgy, tx, approximate="tanh").sum(0),
    )  # fmt: skip


def adam(n: int) -> Iterator[Case]:
    p, m, v, g = normal(n), normal(n), np.abs(normal(n)), normal(n)
    mine = ours(hand.adam(n), p, m, v, g, np.array([1e-3, 1.5], F4))

    def f(p: Any, m: Any, v: Any, g: Any) -> Any:
        m, v = m * 0.9 + g * 0.1, v * 0.999 + g * g * 0.001
        return p - 1e-3 * m / (jnp.sqrt(v) * 1.5 + 1e-8), m, v

    step = jax.jit(f, donate_argnums=(0, 1, 2))
    state, jg = [tuple(jnp.asarray(a) for a in (p, m, v))], jnp.asarray(g)

    def in_jax() -> None:
        state[0] = jax.block_until_ready(step(*state[0], jg))

    tp = torch.from_numpy(p.copy()).requires_grad_()
    tp.grad = torch.from_numpy(g)
    optimizer = torch.optim.Adam([tp], lr=1e-3, fused=True)
    yield from pair(f"Adam {n}", mine, in_jax, optimizer.step)


def black_scholes(n: int, dtype: Any) -> Iterator[Case]:
    bounds = (10, 50), (10, 50), (0.1, 2)
    s, x, t = (rng.uniform(a, b, n).astype(dtype) for a, b in bounds)
    call, put = np.empty_like(s), np.empty_like(s)
    mine = ours(hand.black_scholes(n, dtype), s, x, t, call, put)

    def f(s: Any, x: Any, t: Any, np: Any, ndtr: Any) -> Any:
        sd = 0.2 * np.sqrt(t)
        d1 = (np.log(s / x) + 0.07 * t) / sd
        paid = x * np.exp(-0.05 * t)
        call = s * ndtr(d1) - paid * ndtr(d1 - sd)
        return call, call - s + paid

    def g(s: Any, x: Any, t: Any) -> Any:
        return f(s, x, t, jnp, jax.scipy.special.ndtr)

    wide = g(*(jnp.asarray(a, float) for a in (s, x, t)))
    close(call, wide[0], 1e-6 if dtype == F4 else 1e-13)
    close(put, wide[1], 1e-6 if dtype == F4 else 1e-13)
    ts = tensors(s, x, t)
    yield from pair(
        f"Black-Scholes {dtype} {n}", mine, with_jax(g, s, x, t),
        lambda: f(*ts, torch, torch.special.ndtr),
    )  # fmt: skip


def sums(n: int, m: int) -> Iterator[Case]:
    x = normal(n, m)
    (tx,) = tensors(x)
    for axis in (0, 1, None):
        y = np.empty(1 if axis is None else x.shape[1 - axis], F4)
        mine = ours(hand.total(n, m, axis), x, y)
        close(y, x.sum(axis, dtype=float), 1e-4)
        out = torch.empty(() if axis is None else y.shape[0])
        over = (0, 1) if axis is None else (axis,)
        yield from pair(
            f"sum {n}x{m}, axis {axis}", mine, with_jax(lambda x, axis=axis: x.sum(axis), x),
            lambda over=over, out=out: torch.sum(tx, over, out=out),
        )  # fmt: skip


def programs() -> Iterator[Case]:
    for n, m in ((128, 512), (4096, 1024)):
        yield from layernorm(n, m)
        yield from sums(n, m)
    yield from cross_entropy(2048, 10)
    yield from cross_entropy(128, 1000)
    yield from gelu(128, 512)
    for n in (50_000, 4_000_000):
        yield from adam(n)
    for dtype in (F4, F8):
        for n in (10_000, 2_000_000):
            yield from black_scholes(n, dtype)


if __name__ == "__main__":
    main(__doc__, cases(programs))
