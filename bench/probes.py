"""Are the derivatives right? The same probes put to wengert and to whichever peers are installed.

Each row is a derivative in float64 whose true value is known in closed form. A cell shows what an
engine answers, with `ok` when it is right to 1e-12 relative (or exactly, where the truth is 0).

    python bench/probes.py
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import wengert as wg

Probe = tuple[str, Any, Callable[[Any, Any], Any], str, Any]


def probes() -> list[Probe]:
    """(name, truth, f(module, x), what: "grad" or "hessian", point)."""
    return [
        ("expm1'(-40)", math.exp(-40), lambda m, x: m.expm1(x), "grad", -40.0),
        ("tanh'(20)", 1 / math.cosh(20) ** 2, lambda m, x: m.tanh(x), "grad", 20.0),
        (
            "where(x > 0, sqrt x, 0)' at 0", 0.0,
            lambda m, x: m.where(x > 0, m.sqrt(x), 0 * x), "grad", 0.0,
        ),
        ("grad |x| at 0", np.zeros(3), lambda m, x: m.linalg.norm(x), "grad", np.zeros(3)),
        (
            "grad prod [0, 0, 2]", np.zeros(3),
            lambda m, x: m.prod(x), "grad", np.array([0.0, 0.0, 2.0]),
        ),
        (
            "Hessian prod [0, 0, 2]", np.array([[0, 2.0, 0], [2, 0, 0], [0, 0, 0]]),
            lambda m, x: m.prod(x), "hessian", np.array([0.0, 0.0, 2.0]),
        ),
        ("sinc''(0)", -math.pi**2 / 3, lambda m, x: m.sinc(x), "hessian", 0.0),
        (
            "Hessian |x|^2 at 0", 2 * np.eye(2),
            lambda m, x: m.linalg.norm(x) ** 2, "hessian", np.zeros(2),
        ),
        (
            "grad of V diag(w) V^T, eigh(I)", np.diag([1.0, 2.0]),
            lambda m, x: m.sum(rebuilt(m, x) * diagonal(m)), "grad", np.eye(2),
        ),
        ("arctan'(1e160)", 1e-320, lambda m, x: m.arctan(x), "grad", 1e160),
    ]  # fmt: skip


def rebuilt(m: Any, x: Any) -> Any:
    """x itself, by way of its eigenvectors: a function without a singularity anywhere."""
    w, v = m.linalg.eigh((x + x.T) / 2)
    return (v * w) @ v.T


def diagonal(m: Any) -> Any:
    d = np.diag([1.0, 2.0])
    return m.tensor(d) if hasattr(m, "tensor") else d


def engines() -> dict[str, Callable[[Probe], Any]]:
    """Name with version -> how it answers a probe."""
    found: dict[str, Callable[[Probe], Any]] = {
        f"wengert {wg.__version__}": lambda p: (
            (wg.grad if p[3] == "grad" else wg.hessian)(lambda x: p[2](np, x), allow_unused=True)(
                p[4]
            )
            if p[3] == "grad"
            else wg.hessian(lambda x: p[2](np, x))(p[4])
        )
    }
    try:
        import torch

        def by_torch(p: Probe) -> Any:
            f = torch.func.grad if p[3] == "grad" else torch.func.hessian
            return f(lambda x: p[2](torch, x))(torch.tensor(p[4], dtype=torch.float64)).numpy()

        found[f"torch {torch.__version__}"] = by_torch
    except ImportError:
        print("PyTorch is not installed: left out")
    try:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)

        def by_jax(p: Probe) -> Any:
            f = jax.grad if p[3] == "grad" else jax.hessian
            return np.asarray(f(lambda x: p[2](jnp, x))(jnp.asarray(p[4])))

        found[f"jax {jax.__version__}"] = by_jax
    except ImportError:
        print("JAX is not installed: left out")
    try:
        import autograd
        import autograd.numpy as anp

        def by_autograd(p: Probe) -> Any:
            f = autograd.grad if p[3] == "grad" else autograd.hessian
            return f(lambda x: p[2](anp, x))(p[4])

        found["autograd"] = by_autograd
    except ImportError:
        print("HIPS autograd is not installed: left out")
    return found


def verdict(got: Any, truth: Any) -> str:
    got, truth = np.asarray(got, float), np.asarray(truth, float)
    if got.shape == truth.shape and np.allclose(got, truth, rtol=1e-12, atol=0):
        return "ok"
    if np.isnan(got).any():
        return "nan"
    return f"WRONG {np.array2string(got.ravel()[:3], precision=3)}"


def main() -> None:
    warnings.simplefilter("ignore")
    peers = engines()
    print(f"numpy {np.__version__}")
    print("| probe (float64) | truth | " + " | ".join(peers) + " |")
    print("|---|---|" + "---|" * len(peers))
    with np.errstate(all="ignore"):
        for p in probes():
            cells = []
            for answer in peers.values():
                try:
                    cells.append(verdict(answer(p), p[1]))
                except Exception as error:
                    cells.append(type(error).__name__)
            truth = np.array2string(np.asarray(p[1]).ravel()[:3], precision=3)
            print(f"| {p[0]} | {truth} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
