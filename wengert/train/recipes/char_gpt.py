"""A small transformer that learns to write like a text, one character after the other.

References:
    A. Vaswani et al. (2017), Attention Is All You Need, NeurIPS.
    A. Radford et al. (2019), Language Models are Unsupervised Multitask Learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert import nn
from wengert.data import Parts

from ..recipe import Recipe
from . import language

__all__ = ["RECIPE"]


def _gpt(rng: np.random.Generator, task: Mapping[str, Any], parts: Parts) -> nn.Module:
    return nn.GPT(
        len(parts.train.vocabulary), task["layers"], task["heads"], task["width"],
        task["context"], task["dropout"], activation="relu", rng=rng,
    )  # fmt: skip


def _sample(
    model: Any, parts: Parts, rng: np.random.Generator, prompt: str, length: int, temperature: float
) -> str:
    def draw(tokens: Any) -> Any:
        return model.generate(tokens, length, temperature, rng=rng)

    return language.written(model, parts, prompt, draw)


def _bits(model: Any, tokens: Any) -> Any:
    return language.bits(model, tokens, model.context)


RECIPE = Recipe(
    name="char-gpt",
    summary="a small GPT that learns to write like a text (--set text=FILE); shows a sample",
    data=language.text_parts,
    model=_gpt,
    loss=language.loss,
    measure=language.measure,
    optimizers={
        "adamw": {"lr": 3e-3, "weight_decay": 0.1, "betas": [0.9, 0.99]},
        "adam": {"lr": 3e-3},
        "sgd": {"lr": 0.3, "momentum": 0.9},
    },
    epochs=3,
    batch_size=32,
    run={"clip_norm": 1.0, "warmup": 50},
    task={**language.TASK, "layers": 2, "heads": 4, "width": 96, "dropout": 0.0},
    least={**language.LEAST, "layers": 1, "heads": 1, "width": 1},
    inputs="tokens",
    schedule="cosine",
    show=language.show(_sample),
    read=language.encoded,
    predict=_bits,
    sample=_sample,
)
