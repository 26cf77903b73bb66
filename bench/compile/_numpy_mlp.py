"""The training step of `mlp.py` by hand in NumPy: every result goes into memory that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

B1, B2, EPS = 0.9, 0.999, 1e-8


def step(kind: str, weights: list[Any], x: Any, y: Any, rate: float) -> Callable[[], float]:
    ends = np.cumsum([w.size for w in weights])
    flat = np.concatenate([w.ravel() for w in weights])

    def parts(a: Any) -> list[Any]:
        return [p.reshape(w.shape) for p, w in zip(np.split(a, ends[:-1]), weights)]

    params, grad = parts(flat), np.empty_like(flat)
    grads = parts(grad)
    m, v, tmp = np.zeros_like(flat), np.zeros_like(flat), np.empty_like(flat)
    n, batch = len(weights) // 2, len(x)
    hs = [x, *(np.empty((batch, params[2 * k].shape[1]), np.float32) for k in range(n))]
    ds = [None, *(np.empty_like(h) for h in hs[1:])]
    masks = [None, *(np.empty(h.shape, bool) for h in hs[1:])]
    rows, top = np.arange(batch), np.empty((batch, 1), np.float32)
    t = 0

    def call() -> float:
        nonlocal t
        for k in range(n):
            h = hs[k + 1]
            np.matmul(hs[k], params[2 * k], out=h)
            np.add(h, params[2 * k + 1], out=h)
            if k + 1 < n:
                np.maximum(h, 0, out=h)
        z, d = hs[n], ds[n]
        np.max(z, axis=1, keepdims=True, out=top)
        np.subtract(z, top, out=z)
        right = z[rows, y]
        np.exp(z, out=d)
        np.sum(d, axis=1, keepdims=True, out=top)
        loss = float(np.mean(np.log(top[:, 0]) - right))
        np.divide(d, top, out=d)
        d[rows, y] -= 1
        np.multiply(d, np.float32(1 / batch), out=d)
        for k in range(n - 1, -1, -1):
            d = ds[k + 1]
            np.matmul(hs[k].T, d, out=grads[2 * k])
            np.sum(d, axis=0, out=grads[2 * k + 1])
            if k:
                np.matmul(d, params[2 * k].T, out=ds[k])
                np.greater(hs[k], 0, out=masks[k])
                np.multiply(ds[k], masks[k], out=ds[k])
        if kind == "sgd":
            np.multiply(grad, rate, out=grad)
            np.subtract(flat, grad, out=flat)
            return loss
        t += 1
        np.multiply(m, B1, out=m)
        np.multiply(grad, 1 - B1, out=tmp)
        np.add(m, tmp, out=m)
        np.multiply(v, B2, out=v)
        np.multiply(grad, grad, out=grad)
        np.multiply(grad, 1 - B2, out=grad)
        np.add(v, grad, out=v)
        np.sqrt(v, out=tmp)
        np.multiply(tmp, 1 / np.sqrt(1 - B2**t), out=tmp)
        np.add(tmp, EPS, out=tmp)
        np.divide(m, tmp, out=tmp)
        np.multiply(tmp, rate / (1 - B1**t), out=tmp)
        np.subtract(flat, tmp, out=flat)
        return loss

    return call
