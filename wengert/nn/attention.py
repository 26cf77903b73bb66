"""Attention with its projections, rotary positions, and the memory that sampling needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.types import shape_of

from . import functional as F
from .functional.conv import count, given
from .functional.dropout import probability
from .init import stream
from .layers import Linear
from .module import Module

__all__ = ["KVCache", "MultiheadAttention", "rotary"]


def rotary(x: Any, start: int = 0, base: float = 10000.0) -> Any:
    """Turns pairs of features by an angle that grows with the place.

        y[t, i]       = x[t, i] cos a - x[t, i + D/2] sin a
        y[t, i + D/2] = x[t, i + D/2] cos a + x[t, i] sin a,    a = (start + t) base^(-2i/D)

    so that <rotary(q)[s], rotary(k)[t]> depends on s - t alone.

    Shapes: x and y `[..., T, D]`, D even.

    Example:
        >>> rotary(np.array([[1.0, 0.0], [1.0, 0.0]])).round(3)
        array([[1.   , 0.   ],
               [0.54 , 0.841]])

    References:
        J. Su et al. (2021), RoFormer, arXiv:2104.09864.
    """
    *_, t, d = shape_of(x)
    if d % 2:
        raise ShapeError("rotary(x)", "the features come in pairs", operands=[("x", x)])
    half = d // 2
    angle = np.arange(start, start + t)[:, None] * base ** (-np.arange(half) / half)
    dtype = x.dtype
    cos = np.concatenate([np.cos(angle)] * 2, axis=1).astype(dtype)
    sin = np.concatenate([-np.sin(angle), np.sin(angle)], axis=1).astype(dtype)
    other = np.concatenate([x[..., half:], x[..., :half]], axis=-1)
    return x * cos + other * sin


class KVCache:
    """The keys and values of the places so far, for sampling one place at a time.

    Shapes: k, v `[N, heads, T, D]`.
    """

    def __init__(self) -> None:
        self.k: Any = None
        self.v: Any = None

    def __len__(self) -> int:
        return 0 if self.k is None else int(shape_of(self.k)[-2])

    def add(self, k: Any, v: Any) -> tuple[Any, Any]:
        """All keys and values, with these at the end."""
        if self.k is not None:
            k = np.concatenate([self.k, k], axis=-2)
            v = np.concatenate([self.v, v], axis=-2)
        self.k, self.v = k, v
        return k, v


class MultiheadAttention(Module):
    """Attention of several heads, each with a part of the features.

        y = concat_h(softmax(q_h k_h^T / sqrt(D)) v_h) W_out
        q = x W_query,  k = context W_key,  v = context W_value

    A query that no key is left to gets 0 from the heads.

    Shapes: x `[N, S, d]`, context `[N, T, d_context]`, y `[N, S, d]`. The batch comes first.

    Args:
        d: features of x and y, a multiple of heads.
        heads: how many.
        kv_heads: how many of keys and values, each for a group of heads; None for one each.
        d_context: features of context, if others than those of x.
        bias: whether the four projections add one.
        dropout: the probability of leaving out a weight, in training.
        causal: leave out later places.
        rotary: whether queries and keys are turned by their places, see `rotary`.
        rng: a generator, or a seed for one; None draws from `wg.random`.
        dtype: of the parameters.

    Raises:
        OptionError: heads do not divide d, or kv_heads do not divide heads.

    Example:
        >>> layer = MultiheadAttention(8, 2, causal=True, rng=0)
        >>> layer(np.ones((5, 3, 8), np.float32)).shape
        (5, 3, 8)

    References:
        A. Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762.
        J. Ainslie et al. (2023), GQA, arXiv:2305.13245.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        d_context: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        causal: bool = False,
        rotary: bool = False,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        what = "MultiheadAttention"
        d, heads = count(what, "d", d), count(what, "heads", heads, 1)
        probability(what, dropout, "dropout")
        if d % heads:
            raise OptionError(f"MultiheadAttention({d}, {heads})", "heads divide the features")
        kv_heads = heads if kv_heads is None else count(what, "kv_heads", kv_heads, 1)
        if heads % kv_heads:
            raise OptionError(
                f"MultiheadAttention({d}, {heads}, kv_heads={kv_heads})", "kv_heads divide heads"
            )
        self.d, self.heads, self.kv_heads = d, heads, kv_heads
        self.dropout, self.causal, self.rotary = dropout, causal, rotary
        draw = stream(rng)
        self.rng = None if rng is None else draw
        each, source = d // heads, d if d_context is None else d_context
        make: dict[str, Any] = {"bias": bias, "init": "xavier", "rng": draw, "dtype": dtype}
        self.query = Linear(d, d, **make)
        self.key = Linear(source, kv_heads * each, **make)
        self.value = Linear(source, kv_heads * each, **make)
        self.out = Linear(d, d, **make)

    def forward(
        self, x: Any, context: Any = None, *, mask: Any = None, cache: KVCache | None = None
    ) -> Any:
        """Attention of x to itself, or to a context.

        Args:
            mask: booleans, True where a query may look at a key, or numbers that are added to the
                scores; broadcastable to `[N, heads, S, T]`.
            cache: keys and values of earlier places, which those of x are added to.
        """
        x = given("MultiheadAttention", x)
        context = x if context is None else given("MultiheadAttention", context)
        q = self._apart(self.query(x), self.heads)
        k = self._apart(self.key(context), self.kv_heads)
        v = self._apart(self.value(context), self.kv_heads)
        start = 0 if cache is None else len(cache)
        if self.rotary:
            q, k = rotary(q, start), rotary(k, start)
        if cache is not None:
            k, v = cache.add(k, v)
        y = F.scaled_dot_product_attention(
            q, k, v, mask, causal=self.causal,
            dropout=self.dropout if self.training else 0.0, rng=self.rng,
        )  # fmt: skip
        n, h, s, each = shape_of(y)
        return self.out(y.swapaxes(1, 2).reshape(n, s, h * each))

    def _apart(self, x: Any, heads: int) -> Any:
        """`[N, T, heads D]` as `[N, heads, T, D]`."""
        if len(shape_of(x)) != 3:
            raise ShapeError(
                f"{type(self).__name__}(x)", "x and context have the axes batch, place, feature",
                operands=[("x", x)], fix="{x}[None]" if len(shape_of(x)) == 2 else None,
            )  # fmt: skip
        n, t, d = shape_of(x)
        return x.reshape(n, t, heads, d // heads).swapaxes(1, 2)

    def extra_repr(self) -> str:
        parts = [str(self.d), str(self.heads)]
        if self.kv_heads != self.heads:
            parts.append(f"kv_heads={self.kv_heads}")
        parts += [f"{name}=True" for name in ("causal", "rotary") if getattr(self, name)]
        return ", ".join(parts + ([f"dropout={self.dropout}"] if self.dropout else []))
