"""Attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.ops.attention import Attention
from wengert.ops.elementwise import where
from wengert.trace import Tensor, bind
from wengert.types import dtype_of, shape_of

from .dropout import Rng, dropped

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    rng: Rng = None,
) -> Any:
    """Every query takes the mean of the values, weighted by how well its key fits.

        y = softmax(scale q k^T + mask) v

    A query that no key is left to gives 0, with gradient 0.

    Shapes: q `[.., H, S, D]`, k `[.., H, T, D]`, v `[.., H, T, E]`, mask broadcastable to
    `[.., H, S, T]`, y `[.., H, S, E]`. With fewer heads in k and v than in q, each serves a group
    of query heads (grouped-query attention).

    Args:
        mask: booleans, True where a query may look at a key, or numbers that are added to the
            scores, -inf to leave a key out.
        causal: leave out later keys. The last query may look at the last key, as it must where the
            first keys come from a cache: query i sees key j if j - i <= T - S. With as many queries
            as keys that is the lower triangle; with others PyTorch's `is_causal` lets the first
            query look at the first key, which is `mask=np.tri(S, T, dtype=bool)` here.
        dropout: the probability of leaving out a weight.
        scale: None for 1 / sqrt(D).
        rng: what `dropout` draws from: a generator or a seed.

    Raises:
        ShapeError: shapes that do not go together.

    Example:
        >>> q = k = np.eye(2)
        >>> np.round(scaled_dot_product_attention(q, k, np.array([[1.0], [3.0]]), causal=True), 2)
        array([[1.  ],
               [2.34]])

    References:
        A. Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762.
        J. Ainslie et al. (2023), GQA, arXiv:2305.13245.
    """
    sq, sk, sv = shape_of(q), shape_of(k), shape_of(v)
    if scale is None:
        scale = 1 / math.sqrt(max(1, sq[-1])) if sq else 1.0
    if not 0 <= dropout <= 1:
        raise OptionError(
            f"scaled_dot_product_attention(dropout={dropout!r})", "a probability, from 0 to 1"
        )
    bias: Any = 0.0 if mask is None else additive(mask, dtype_of(q))
    group = heads_per_key(q, k, v) if min(len(sq), len(sk), len(sv)) > 2 else 1
    if group > 1:
        q = q.reshape((*sq[:-3], sk[-3], group, *sq[-2:]))
        k = k.reshape((*sk[:-2], 1, *sk[-2:]))
        v = v.reshape((*sv[:-2], 1, *sv[-2:]))
        sb = shape_of(bias)
        if len(sb) > 2:
            heads = (1, 1) if sb[-3] == 1 else (sk[-3], group)
            bias = bias.reshape((*sb[:-3], *heads, *sb[-2:]))
    attend = Attention(float(scale), bool(causal))
    if dropout == 0:
        y = bind(attend, q, k, v, bias)
    else:
        weights = attend.weights(q, k, bias)
        y = dropped("scaled_dot_product_attention", weights, dropout, True, rng) @ v
    return y.reshape((*shape_of(y)[:-4], sq[-3], *shape_of(y)[-2:])) if group > 1 else y


def additive(mask: Any, dtype: Any) -> Any:
    """A mask as numbers to add to the scores."""
    mask = mask if isinstance(mask, Tensor) else np.asarray(mask)
    if mask.dtype.kind != "b":
        return mask
    zero = np.zeros((), dtype if dtype is not None and dtype.kind == "f" else float)
    return where(mask, zero, zero - np.inf)


def heads_per_key(q: Any, k: Any, v: Any) -> int:
    hq, hk, hv = (shape_of(x)[-3] for x in (q, k, v))
    if hq == hk == hv or 1 in (hq, hk):
        return 1
    if hk != hv or hq % hk:
        raise ShapeError(
            "scaled_dot_product_attention(q, k, v)",
            "each head of k and v serves an equal number of the heads of q, axis -3",
            operands=[("q", q, f"{hq} heads"), ("k", k, f"{hk} heads"), ("v", v, f"{hv} heads")],
        )
    return hq // hk
