"""Transformers: the block, stacks of it, and a model that writes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.trace import Tensor, no_grad
from wengert.types import shape_of

from . import functional as F
from . import init as initial
from .attention import KVCache, MultiheadAttention
from .dropout import Dropout
from .embedding import Embedding, PositionalEncoding, TiedLinear
from .functional.conv import count, given
from .init import stream
from .layers import Linear
from .module import Module
from .normalisation import LayerNorm, RMSNorm

__all__ = [
    "GPT",
    "FeedForward",
    "Transformer",
    "TransformerBlock",
    "TransformerDecoder",
    "TransformerEncoder",
]

ACTIVATIONS: dict[str, Any] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
GATED: dict[str, Any] = {"swiglu": F.silu, "geglu": F.gelu}
NORMS: dict[str, Any] = {"layer": LayerNorm, "rms": RMSNorm}


def _chosen(what: str, table: dict[str, Any], name: str) -> Any:
    if isinstance(name, str) and name in table:
        return table[name]
    raise OptionError(f"{what}={name!r}", f"one of {', '.join(map(repr, table))}")


class FeedForward(Module):
    """Two linear maps with a function in between, for each place alone.

        y = f(x W_in) W_out          or, gated,          y = (f(x W_gate) * (x W_in)) W_out

    Shapes: x and y `[..., d]`.

    Args:
        d: features. hidden: those in between; None for 4 d, or 8 d / 3 if gated.
        activation: "gelu", "relu", "silu", or gated: "swiglu" (silu), "geglu" (gelu).
        bias, dropout, rng, dtype: as in `TransformerBlock`.

    Example:
        >>> FeedForward(6, activation="swiglu", rng=0)(np.ones((2, 6), np.float32)).shape
        (2, 6)

    References:
        N. Shazeer (2020), GLU Variants Improve Transformer, arXiv:2002.05202.
    """

    def __init__(
        self,
        d: int,
        hidden: int | None = None,
        *,
        activation: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        _chosen("FeedForward(activation", {**ACTIVATIONS, **GATED}, activation)
        self.activation, gated = activation, activation in GATED
        d = count("FeedForward", "d", d)
        hidden = (8 * d // 3 if gated else 4 * d) if hidden is None else hidden
        hidden = count("FeedForward", "hidden", hidden)
        make: dict[str, Any] = {"bias": bias, "rng": stream(rng), "dtype": dtype}
        self.gate = Linear(d, hidden, **make) if gated else None
        self.into = Linear(d, hidden, **make)
        self.out = Linear(hidden, d, init="xavier", **make)
        self.dropout = Dropout(dropout, rng=None if rng is None else make["rng"])

    def forward(self, x: Any) -> Any:
        y = self.into(x)
        if self.gate is not None:
            y = GATED[self.activation](self.gate(x)) * y
        else:
            y = ACTIVATIONS[self.activation](y)
        return self.out(self.dropout(y))

    def extra_repr(self) -> str:
        return repr(self.activation)


class TransformerBlock(Module):
    """Attention and a network for each place, each with a norm and a way around it.

        x = x + attention(norm(x));  x = x + attention(norm(x), context);  x = x + network(norm(x))

    or, with norm_first=False, x = norm(x + attention(x)) and so on. The second is there with
    cross=True only.

    Shapes: x and y `[N, T, d]`, context `[N, S, d]`. The batch comes first.

    Args:
        d: features, heads: of the attention.
        hidden: features inside the network; None for 4 d.
        dropout: the probability of leaving out, of weights of attention and of what is added.
        activation: of the network, see `FeedForward`.
        norm: "layer" or "rms". norm_first: whether norms stand before what they feed.
        causal: leave out later places. cross: attend to a context too.
        kv_heads, rotary, bias: see `MultiheadAttention`.
        rng: a generator, or a seed for one; None draws from `wg.random`.
        dtype: of the parameters.

    Raises:
        OptionError: an option that does not exist.

    Example:
        >>> block = TransformerBlock(8, 2, causal=True, rng=0)
        >>> block(np.ones((5, 3, 8), np.float32)).shape
        (5, 3, 8)

    References:
        A. Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762.
        R. Xiong et al. (2020), On Layer Normalization in the Transformer, arXiv:2002.04745.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        hidden: int | None = None,
        *,
        dropout: float = 0.0,
        activation: str = "gelu",
        norm: str = "layer",
        norm_first: bool = True,
        causal: bool = False,
        cross: bool = False,
        kv_heads: int | None = None,
        rotary: bool = False,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        kind = _chosen("TransformerBlock(norm", NORMS, norm)
        rng = None if rng is None else stream(rng)
        both: dict[str, Any] = {"bias": bias, "dropout": dropout, "rng": rng, "dtype": dtype}
        self.norm_first = norm_first
        self.attention_norm = kind(d, dtype=dtype)
        self.attention = MultiheadAttention(
            d, heads, kv_heads=kv_heads, causal=causal, rotary=rotary, **both
        )
        self.cross_norm = kind(d, dtype=dtype) if cross else None
        self.cross = MultiheadAttention(d, heads, kv_heads=kv_heads, **both) if cross else None
        self.network_norm = kind(d, dtype=dtype)
        self.network = FeedForward(d, hidden, activation=activation, **both)
        self.dropout = Dropout(dropout, rng=rng)

    def forward(
        self,
        x: Any,
        context: Any = None,
        *,
        mask: Any = None,
        context_mask: Any = None,
        cache: KVCache | None = None,
    ) -> Any:
        """One block; masks and cache as in `MultiheadAttention`."""
        x = given("TransformerBlock", x)
        x = self._around(
            x, self.attention_norm, lambda x: self.attention(x, mask=mask, cache=cache)
        )
        if self.cross is not None:
            cross = self.cross
            x = self._around(x, self.cross_norm, lambda x: cross(x, context, mask=context_mask))
        return self._around(x, self.network_norm, self.network)

    def _around(self, x: Any, norm: Any, part: Any) -> Any:
        if self.norm_first:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))

    def extra_repr(self) -> str:
        return "" if self.norm_first else "norm_first=False"


class TransformerEncoder(Module):
    """Blocks one after the other, and a norm at the end.

    Shapes: x and y `[N, T, d]`.

    Args:
        depth: how many blocks; d, heads and the options are those of `TransformerBlock`.
        final_norm: whether there is a norm at the end; None: if the blocks begin with one, whose
            sum nothing else would norm. PyTorch's encoder has none unless it is given one.

    Example:
        >>> TransformerEncoder(2, 8, 2, rng=0)(np.ones((1, 3, 8), np.float32)).shape
        (1, 3, 8)
    """

    def __init__(
        self,
        depth: int,
        d: int,
        heads: int,
        *args: Any,
        final_norm: bool | None = None,
        **options: Any,
    ) -> None:
        options["rng"] = None if options.get("rng") is None else stream(options["rng"])
        depth = count(type(self).__name__, "depth", depth)
        self.blocks = [TransformerBlock(d, heads, *args, **options) for _ in range(depth)]
        kind = NORMS[options.get("norm", "layer")]
        last = options.get("norm_first", True) if final_norm is None else final_norm
        self.norm = kind(d, dtype=options.get("dtype", np.float32)) if last else None

    def forward(self, x: Any, context: Any = None, *, mask: Any = None, **masks: Any) -> Any:
        for block in self.blocks:
            x = block(x, context, mask=mask, **masks)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(TransformerEncoder):
    """Causal blocks that attend to a context too.

    Shapes: x and y `[N, T, d]`, context `[N, S, d]`.

    Args:
        depth, d, heads and the options: those of `TransformerEncoder`.

    Example:
        >>> x = np.ones((1, 3, 8), np.float32)
        >>> TransformerDecoder(2, 8, 2, rng=0)(x, x).shape
        (1, 3, 8)
    """

    def __init__(self, depth: int, d: int, heads: int, *args: Any, **options: Any) -> None:
        super().__init__(depth, d, heads, *args, **{"causal": True, "cross": True, **options})


class Transformer(Module):
    """An encoder, and a decoder that attends to what it gives.

    Shapes: source `[N, S, d]`, target `[N, T, d]`, y `[N, T, d]`.

    Args:
        d, heads: features and heads. encoder, decoder: how many blocks in each.
        options: those of `TransformerBlock`.

    Example:
        >>> x = np.ones((1, 3, 8), np.float32)
        >>> Transformer(8, 2, encoder=1, decoder=1, rng=0)(x, x[:, :2]).shape
        (1, 2, 8)
    """

    def __init__(
        self, d: int, heads: int, *, encoder: int = 6, decoder: int = 6, **options: Any
    ) -> None:
        options["rng"] = None if options.get("rng") is None else stream(options["rng"])
        encoder = count("Transformer", "encoder", encoder)
        decoder = count("Transformer", "decoder", decoder)
        self.encoder = TransformerEncoder(encoder, d, heads, **options)
        self.decoder = TransformerDecoder(decoder, d, heads, **options)

    def forward(
        self, source: Any, target: Any, *, source_mask: Any = None, target_mask: Any = None
    ) -> Any:
        """`source_mask`, over the places of the source, is that of the decoder's context too."""
        context = self.encoder(source, mask=source_mask)
        return self.decoder(target, context, mask=target_mask, context_mask=source_mask)


class GPT(Module):
    """A decoder-only transformer: the logits of what comes next, at every place.

        y[:, t] = head(norm(blocks(table[x] + position)))[:, t],   of x[:, : t + 1] alone

    Shapes: x whole numbers `[N, T]`, T up to context; y `[N, T, vocab]`.

    Args:
        vocab: how many tokens there are.
        n_layer, n_head, d_model: blocks, heads in each, features.
        context: the longest sequence.
        dropout: the probability of leaving out, in training.
        tied: whether the last layer takes the table of the tokens as its weight.
        rotary: places by rotation in the attention, in place of learned vectors.
        options: those of `TransformerBlock`.
        rng: a generator, or a seed for one; None draws from `wg.random`.
        dtype: of the parameters.

    Raises:
        ShapeError: a sequence longer than context.

    Example:
        >>> model = GPT(65, n_layer=2, n_head=2, d_model=16, context=32, rng=0)
        >>> model(np.array([[1, 2, 3]])).shape
        (1, 3, 65)
        >>> model.generate([1, 2], 3, rng=0).shape
        (5,)

    References:
        A. Radford et al. (2019), Language Models are Unsupervised Multitask Learners.
    """

    def __init__(
        self,
        vocab: int,
        n_layer: int,
        n_head: int,
        d_model: int,
        context: int,
        dropout: float = 0.0,
        tied: bool = True,
        *,
        rotary: bool = False,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        self.vocab, self.context = count("GPT", "vocab", vocab, 1), count("GPT", "context", context)
        n_layer = count("GPT", "n_layer", n_layer)
        draw = stream(rng)
        own = None if rng is None else draw
        make: dict[str, Any] = {"rng": draw, "dtype": dtype}
        self.table = Embedding(vocab, d_model, std=0.02, **make)
        self.position = (
            None if rotary else PositionalEncoding(context, d_model, learned=True, **make)
        )
        self.dropout = Dropout(dropout, rng=own)
        self.blocks = [
            TransformerBlock(
                d_model, n_head, causal=True, dropout=dropout, rotary=rotary, rng=own, dtype=dtype,
                **options,
            )
            for _ in range(n_layer)
        ]  # fmt: skip
        self.norm = NORMS[options.get("norm", "layer")](d_model, dtype=dtype)
        self.head = (
            TiedLinear(self.table.weight)
            if tied
            else Linear(d_model, vocab, bias=False, init="xavier", **make)
        )
        self._start(draw)

    def _start(self, rng: np.random.Generator) -> None:
        """Normal weights of 0.02; those that add to the stream smaller, as there are many."""
        shrink = 1 / math.sqrt(max(1, 2 * len(self.blocks)))
        for path, module in self.named_modules():
            if isinstance(module, Linear):
                std = 0.02 * (shrink if path.endswith(".out") else 1.0)
                initial.normal(module.weight, std=std, rng=rng)

    def forward(self, x: Any, *, cache: list[KVCache] | None = None) -> Any:
        """The logits; `cache` has an entry for each block, see `generate`."""
        x = x if isinstance(x, Tensor) else np.asarray(x)
        start = len(cache[0]) if cache else 0
        shape = shape_of(x)
        if len(shape) != 2 or start + shape[1] > self.context:
            raise ShapeError(
                "GPT(x)", f"x has the axes batch and place, up to {self.context} places",
                operands=[("x", x)], fix="{x}[None]" if len(shape) == 1 else None,
            )  # fmt: skip
        y = self.table(x)
        if self.position is not None:
            y = self.position(y, start)
        y = self.dropout(y)
        for i, block in enumerate(self.blocks):
            y = block(y, cache=None if cache is None else cache[i])
        return self.head(self.norm(y))

    def generate(
        self,
        prompt: Any,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Any:
        """The prompt, and n tokens more, each drawn from softmax(logits / temperature).

        Nothing is recorded, and nothing is dropped. Keys and values are kept from one token to the
        next; beyond `context` places only the last ones count.

        Shapes: prompt `[T]` or `[N, T]`, T at least 1; the result has n places more.

        Args:
            temperature: 0 takes the likeliest token each time.
            top_k: draw from so many of the likeliest tokens only.
            rng: a generator, or a seed for one; None draws from `wg.random`.

        Raises:
            ShapeError: there is no prompt.
            OptionError: a temperature below 0, or a top_k below 1.
        """
        rng = stream(rng)
        tokens = np.array(prompt.value() if isinstance(prompt, Tensor) else prompt)
        one = tokens.ndim == 1
        tokens = tokens[None] if one else tokens
        if tokens.ndim != 2 or not tokens.shape[1]:
            raise ShapeError(
                "GPT.generate(prompt, n)", "a prompt has at least one token",
                operands=[("prompt", tokens)],
            )  # fmt: skip
        if temperature < 0 or (top_k is not None and top_k < 1):
            raise OptionError(
                f"GPT.generate(temperature={temperature}, top_k={top_k})",
                "temperature is 0 or more, and top_k is 1 or more",
            )
        modes = [(m, m.training) for _, m in self.named_modules()]
        self.eval()
        try:
            with no_grad():
                return self._written(tokens, n, temperature, top_k, rng)[0 if one else slice(None)]
        finally:
            for module, mode in modes:
                module.training = mode

    def _written(self, tokens: Any, n: int, temperature: float, top_k: Any, rng: Any) -> Any:
        cache: list[KVCache] = []
        for _ in range(n):
            if not cache or len(cache[0]) >= self.context:  # the places have moved
                cache = [KVCache() for _ in self.blocks]
                new = tokens[:, -self.context :]
            else:
                new = tokens[:, -1:]
            logits = np.asarray(self(new, cache=cache))[:, -1].astype(float)
            tokens = np.concatenate([tokens, drawn(logits, temperature, top_k, rng)[:, None]], 1)
        return tokens

    def extra_repr(self) -> str:
        return f"{self.vocab}, context={self.context}"


def drawn(logits: Any, temperature: float, top_k: int | None, rng: np.random.Generator) -> Any:
    """A token for each row of logits `[N, V]`, by the Gumbel trick: argmax of logits and noise."""
    if temperature == 0:
        return logits.argmax(axis=-1)
    scores = logits / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        least = np.partition(scores, -top_k, axis=-1)[:, -top_k, None]
        scores = np.where(scores < least, -np.inf, scores)
    return (scores + rng.gumbel(size=scores.shape)).argmax(axis=-1)
