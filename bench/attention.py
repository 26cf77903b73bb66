"""Attention forwards and backwards, through both tapes, against PyTorch's fused one.

Each row is softmax(q k^T / sqrt(D)) v of float32 arrays [B, H, S, D] and its three cotangents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from _harness import Case, cases, main, peer

import wengert as wg
from wengert.nn import functional as F

torch = peer("torch")
rng = np.random.default_rng(0)
SHAPES = ((8, 8, 128, 32), (2, 8, 512, 64), (1, 4, 2048, 64))


def case(shape: tuple[int, ...], causal: bool) -> Case:
    arrays = [rng.standard_normal(shape, dtype=np.float32) for _ in range(4)]
    ready = [torch.from_numpy(x) for x in arrays]

    def ours() -> Any:
        q, k, v = (wg.tensor(x, requires_grad=True) for x in arrays[:3])
        F.scaled_dot_product_attention(q, k, v, causal=causal).backward(arrays[3])
        return q.grad

    def theirs() -> Any:
        q, k, v = (x.detach().requires_grad_() for x in ready[:3])
        attend = torch.nn.functional.scaled_dot_product_attention
        attend(q, k, v, is_causal=causal).backward(ready[3])
        return q.grad

    np.testing.assert_allclose(ours().value(), theirs().numpy(), rtol=0, atol=1e-4)
    name = " x ".join(map(str, shape))
    return Case(f"{name}{', causal' if causal else ''}", "PyTorch", ours, theirs)


def programs() -> Iterator[Case]:
    if torch is not None:
        for shape in SHAPES:
            for causal in (True, False):
                yield case(shape, causal)


if __name__ == "__main__":
    main(__doc__, cases(programs))
