"""A recurrent network that learns to write like a text, one character after the other.

References:
    S. Hochreiter, J. Schmidhuber (1997), Long Short-Term Memory, Neural Computation 9(8).
    A. Graves (2013), Generating Sequences With Recurrent Neural Networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Parts

from ..recipe import Recipe
from . import language

__all__ = ["RECIPE"]


class Writer(nn.Module):
    """The logits of what comes next at every place, from a memory of what stands before.

    Shapes: x whole numbers `[N, T]`, y `[N, T, vocabulary]`.
    """

    def __init__(
        self, vocabulary: int, width: int, layers: int, dropout: float, rng: np.random.Generator
    ) -> None:
        self.table = nn.Embedding(vocabulary, width, rng=rng)
        self.lstm = nn.LSTM(width, width, layers=layers, dropout=dropout, rng=rng)
        self.dropout = nn.Dropout(dropout, rng=rng)
        self.head = nn.Linear(width, vocabulary, rng=rng, init="xavier")

    def forward(self, x: Any) -> Any:
        return self.after(x, None)[0]

    def after(self, x: Any, state: Any) -> tuple[Any, Any]:
        """The logits, and the memory at the end."""
        y, state = self.lstm(self.table(x), state)
        return self.head(self.dropout(y)), state


def _sample(
    model: Any, parts: Parts, rng: np.random.Generator, prompt: str, length: int, temperature: float
) -> str:
    def draw(start: Any) -> list[int]:
        tokens, state, new = list(start), None, np.asarray(start)
        for _ in range(length):
            logits, state = model.after(new[None], state)
            tokens.append(language.picked(logits.numpy()[0, -1], temperature, rng))
            new = np.array(tokens[-1:])
        return tokens

    return language.written(model, parts, prompt, draw)


RECIPE = Recipe(
    name="char-lstm",
    summary="an LSTM that learns to write like a text (--set text=FILE); shows a sample",
    data=language.text_parts,
    model=lambda rng, task, parts: Writer(
        len(parts.train.vocabulary), task["width"], task["layers"], task["dropout"], rng
    ),
    loss=language.loss,
    measure=language.measure,
    optimizers={
        "adamw": {"lr": 5e-3, "weight_decay": 0.01},
        "adam": {"lr": 5e-3},
        "sgd": {"lr": 1.0, "momentum": 0.9},
    },
    epochs=3,
    batch_size=32,
    run={"clip_norm": 1.0},
    task={**language.TASK, "layers": 1, "width": 128, "dropout": 0.0},
    least={**language.LEAST, "layers": 1, "width": 1},
    inputs="tokens",
    schedule="cosine",
    show=language.show(_sample),
    read=language.encoded,
    predict=lambda model, tokens: language.bits(model, tokens, 1024),
    sample=_sample,
)
