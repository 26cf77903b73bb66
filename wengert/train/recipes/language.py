"""What the recipes of language models share: the text, the loss, the measures and the drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import nn
from wengert.data import BPE, Bytes, Characters, Parts, Windows, python_help, read_text
from wengert.data.text import Vocabulary
from wengert.errors import DataError, verbatim
from wengert.nn import functional as F
from wengert.random import generator
from wengert.trace import no_grad

from ..recipe import find

__all__ = [
    "LEAST",
    "TASK",
    "bits",
    "encoded",
    "loss",
    "measure",
    "picked",
    "show",
    "text_parts",
    "written",
]

TASK: dict[str, Any] = {"text": "", "tokens": "characters", "vocabulary": 512, "context": 64}
LEAST = {"vocabulary": 1, "context": 1}
LOOKED_AT = 256  # windows of a part, evenly spaced, that are measured
TOKENS: dict[str, Callable[[str, int], Vocabulary]] = {
    "characters": lambda text, size: Characters(text),
    "bytes": lambda text, size: Bytes(),
    "bpe": BPE,
}


def text_parts(task: Mapping[str, Any]) -> Parts:
    """The text in windows: 85 % for training, 5 % for validation, the last 10 % as a test."""
    make = find("tokens", task["tokens"], TOKENS)
    path = task["text"]
    text = read_text(path) if path else python_help()
    about = {"name": path, "licence": "as the file"}
    if not path:
        about = {
            "name": "Python's help topics",
            "citation": "The Python Language Reference, Python Software Foundation",
            "licence": "PSF License Agreement",
        }
    vocabulary = make(text, task["vocabulary"])
    tokens = vocabulary.encode(text)
    context = task["context"]
    pieces = Windows.pieces(tokens)
    least = min(len(piece) for piece in pieces._asdict().values())
    if least <= context:
        sizes = {name: verbatim(f"{len(piece)} tokens") for name, piece in pieces._asdict().items()}
        raise DataError(
            "wengert train", f"the text is too short: it has {len(tokens)} tokens, and each part "
            f"needs {context + 1} of them, a window and the token after it",
            operands=list(sizes.items()),
            fix=f"--set context={least - 1} or a longer text" if least > 1 else "a longer text",
        )  # fmt: skip
    return Windows.parts(tokens, context, vocabulary=vocabulary, **about)


def vocabulary_of(parts: Parts) -> Vocabulary:
    """What the tokens of a text stand for."""
    found: Vocabulary = parts.train.vocabulary
    return found


def loss(model: nn.Module, x: NDArray[Any], y: NDArray[Any]) -> Any:
    """The mean surprise at the next token, in nats."""
    logits = model(x)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def surprise(model: nn.Module, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """-log p(y | what stands before), in nats, for every place."""
    logits = np.asarray(model(x).detach().numpy(), dtype=np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(logits).sum(axis=-1))
    return total - np.take_along_axis(logits, y[..., None], axis=-1)[..., 0]


def measure(model: nn.Module, part: Any, batch: int = 64) -> dict[str, float]:
    """The mean surprise, also as bits per character, and the perplexity, its exponential.

    Long parts are measured on 256 windows, evenly spaced.
    """
    rows = np.unique(np.linspace(0, len(part) - 1, min(len(part), LOOKED_AT)).astype(int))
    total, places, letters = 0.0, 0, 0
    for start in range(0, len(rows), batch):
        x, y = part.batch(rows[start : start + batch])
        total += float(surprise(model, x, y).sum())
        places += y.size
        letters += sum(len(part.vocabulary.decode(row.tolist())) for row in y)
    mean = total / places
    return {
        "loss": mean,
        "bits_per_character": total / max(1, letters) / math.log(2),
        "perplexity": math.exp(min(mean, 700.0)),
    }


def picked(logits: NDArray[Any], temperature: float, rng: np.random.Generator) -> int:
    """A token drawn from softmax(logits / temperature); at 0 the most likely one."""
    if temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / temperature
    return int((scaled + rng.gumbel(size=scaled.shape)).argmax())


def encoded(text: str, parts: Parts) -> NDArray[np.int64]:
    """The tokens of a text, as one row."""
    tokens = vocabulary_of(parts).encode(text)
    if len(tokens) < 2:
        raise DataError("reading the text", "it must have at least two tokens")
    return tokens[None]


def bits(model: nn.Module, tokens: NDArray[np.int64], context: int) -> NDArray[np.float64]:
    """How many bits each token of a row but the first comes as a surprise."""
    found = []
    for start in range(0, tokens.shape[1] - 1, context):
        piece = tokens[:, start : start + context + 1]
        found.append(surprise(model, piece[:, :-1], piece[:, 1:]))
    return np.concatenate(found, axis=1).T / math.log(2)


def written(model: Any, parts: Parts, prompt: str, draw: Any) -> str:
    """The prompt and what `draw(tokens)` goes on with; without a prompt, after a new line."""
    vocabulary = vocabulary_of(parts)
    start = vocabulary.encode(prompt) if prompt else parts.train.batch(np.arange(1))[0][0, :1]
    tokens = np.asarray(draw(start)).ravel()
    return vocabulary.decode((tokens if prompt else tokens[len(start) :]).tolist())


def show(sample: Any) -> Any:
    """What a recipe prints at the end: a short sample, always with the same draws."""

    def lines(model: nn.Module, parts: Parts) -> list[str]:
        model.eval()
        with no_grad():
            text = sample(model, parts, generator(0), "", 300, 0.8)
        return [f"  | {line}" for line in text.splitlines()]

    return lines
