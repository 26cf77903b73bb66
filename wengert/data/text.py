"""Text as numbers: characters, bytes or pairs of them, and windows of what comes next."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from pydoc_data import topics
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wengert.errors import DataError, OptionError, verbatim

from .asked import path_of, real, rows_of, text_of, whole
from .dataset import Parts, fingerprint
from .loader import Batch

__all__ = [
    "BPE",
    "Bytes",
    "Characters",
    "Vocabulary",
    "Windows",
    "pack",
    "python_help",
    "read_text",
]


class Vocabulary(Protocol):
    """Text to whole numbers from 0 to len(self) - 1, and back."""

    def __len__(self) -> int: ...

    def encode(self, text: str) -> NDArray[np.int64]:
        """The tokens of a text."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        ...


class Characters:
    """A token for each character of an alphabet.

    Args:
        text: whatever occurs here is in the alphabet, sorted.

    Example:
        >>> letters = Characters("banana")
        >>> len(letters), letters.encode("nab"), letters.decode([1, 0, 2])
        (3, array([2, 0, 1]), 'ban')
    """

    def __init__(self, text: str) -> None:
        self.alphabet = "".join(sorted(set(text_of("Characters(text)", text))))
        if not self.alphabet:
            raise OptionError("Characters('')", "an alphabet has at least one character")
        self._codes = np.frombuffer(self.alphabet.encode("utf-32-le", "surrogatepass"), "<u4")

    def __len__(self) -> int:
        return len(self.alphabet)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The tokens of a text.

        Raises:
            DataError: a character is not in the alphabet.
        """
        text = text_of("Characters.encode(text)", text)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        found = np.searchsorted(self._codes, codes).clip(0, len(self) - 1)
        wrong = self._codes[found] != codes
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(
                "Characters.encode(text)", f"the character {text[i]!r} is not in the alphabet",
                operands=[("place", verbatim(f"{i}")), ("alphabet", verbatim(repr(self.alphabet)))],
            )  # fmt: skip
        return found.astype(np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        return "".join([self.alphabet[t] for t in _known("Characters", tokens, len(self))])


class Bytes:
    """A token for each byte of UTF-8: 256 of them, for any text.

    Example:
        >>> Bytes().encode("zé"), Bytes().decode([122, 195, 169])
        (array([122, 195, 169]), 'zé')
    """

    def __len__(self) -> int:
        return 256

    def encode(self, text: str) -> NDArray[np.int64]:
        """The tokens of a text."""
        return np.frombuffer(_utf8("Bytes.encode(text)", text), np.uint8).astype(np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that are no text become U+FFFD."""
        return bytes(_known("Bytes", tokens, 256)).decode(errors="replace")


class BPE:
    """Byte pairs: frequent neighbours, again and again, become tokens of their own.

    Pairs are found within words (a word takes the space before it along), so a token never reaches
    over two of them. Any text can be encoded, as single bytes at the worst.

    Args:
        text: what the pairs are counted in.
        size: how many tokens to have in the end, 256 of which are the single bytes.

    Example:
        >>> bpe = BPE("low lower lowest low low", 260)
        >>> [bpe.decode([t]) for t in bpe.encode("low lowest")]
        ['low', ' lowe', 's', 't']

    References:
        R. Sennrich, B. Haddow, A. Birch (2016), Neural Machine Translation of Rare Words with
        Subword Units, ACL.
    """

    WORD = re.compile(r"\s?[^\W\d_]+|\s?\d+|\s?[^\w\s]+|_+|\s+")

    def __init__(self, text: str, size: int = 512) -> None:
        whole("BPE", "size", size, 256)
        _utf8("BPE(text)", text)
        self.tokens = [bytes([i]) for i in range(256)]
        self.ranks: dict[tuple[int, int], int] = {}
        found = Counter(self.WORD.findall(text))
        words, times = [list(w.encode()) for w in found], list(found.values())
        counts: Counter[tuple[int, int]] = Counter()
        where: dict[tuple[int, int], set[int]] = {}

        def note(i: int, sign: int) -> None:
            for pair in pairwise(words[i]):
                counts[pair] += sign * times[i]
                where.setdefault(pair, set()).add(i)

        for i in range(len(words)):
            note(i, 1)
        while len(self.tokens) < size and counts:
            best = max(counts, key=lambda pair: (counts[pair], -pair[0], -pair[1]))
            if counts[best] < 2:
                break
            new = len(self.tokens)
            self.ranks[best] = new
            self.tokens.append(self.tokens[best[0]] + self.tokens[best[1]])
            for i in where.pop(best):
                note(i, -1)
                words[i] = _merged(words[i], best, new)
                note(i, 1)
            counts = Counter({pair: n for pair, n in counts.items() if n > 0})
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The tokens of a text."""
        _utf8("BPE.encode(text)", text)
        found: list[int] = []
        for word in self.WORD.findall(text):
            parts = self._known.get(word)
            if parts is None:
                parts = list(word.encode())
                while len(parts) > 1:
                    ranks = [(self.ranks.get(pair, len(self)), pair) for pair in pairwise(parts)]
                    rank, pair = min(ranks)
                    if rank == len(self):
                        break
                    parts = _merged(parts, pair, rank)
                self._known[word] = parts
            found += parts
        return np.array(found, dtype=np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that are no text become U+FFFD."""
        known = _known("BPE", tokens, len(self))
        return b"".join([self.tokens[t] for t in known]).decode(errors="replace")


def _known(name: str, tokens: Iterable[int], n: int) -> list[int]:
    """Tokens as ints, all of them from 0 to n - 1."""
    what = f"{name}.decode(tokens)"
    try:
        found = tokens.tolist() if isinstance(tokens, np.ndarray) else list(tokens)
    except TypeError:
        raise DataError(what, "it takes a row of tokens", operands=[("tokens", tokens)]) from None
    for i, t in enumerate(found):
        if not isinstance(t, int | np.integer) or not 0 <= t < n:
            raise DataError(
                what, f"a token is a whole number from 0 to {n - 1}",
                operands=[(f"tokens[{i}]", verbatim(repr(t)))],
            )  # fmt: skip
    return found


def _utf8(what: str, text: str) -> bytes:
    """The bytes of a text."""
    try:
        return text_of(what, text).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            what, "a surrogate is half of a character, and has no bytes",
            operands=[("place", verbatim(f"{error.start}"))],
        ) from None  # fmt: skip


def _merged(parts: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    out: list[int] = []
    i = 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


class Windows:
    """Windows of a long row of tokens: what is there, and what comes next at every place.

        x[i] = tokens[s i : s i + T],   y[i] = tokens[s i + 1 : s i + T + 1]

    A batch is (x, y), `int64[n, T]` both. The tokens may be memory-mapped.

    Args:
        tokens: a row of whole numbers.
        length: T, how many places.
        stride: s; None for T, so that every token is learned once in an epoch.
        vocabulary: what the tokens stand for, if that is known.
        name, citation, licence: where they come from.

    Raises:
        DataError: there are too few tokens for one window.

    Example:
        >>> windows = Windows(np.arange(10), 3)
        >>> len(windows), windows.batch(np.array([2]))
        (3, (array([[6, 7, 8]]), array([[7, 8, 9]])))
    """

    def __init__(
        self,
        tokens: Any,
        length: int,
        *,
        stride: int | None = None,
        vocabulary: Vocabulary | None = None,
        name: str = "text",
        citation: str = "",
        licence: str = "",
    ) -> None:
        self.length = whole("Windows", "length", length)
        self.stride = length if stride is None else whole("Windows", "stride", stride)
        self.tokens = tokens = tokens if hasattr(tokens, "dtype") else np.asarray(tokens)
        if tokens.dtype.kind not in "iu" or tokens.ndim != 1:
            raise DataError(
                "Windows(tokens, length)", "tokens are a row of whole numbers",
                operands=[("tokens", tokens)],
            )  # fmt: skip
        self.vocabulary = vocabulary
        self.name, self.citation, self.licence = name, citation, licence
        if len(tokens) <= length:
            raise DataError(
                f"Windows(tokens, {length})",
                f"{len(tokens)} tokens are too few: a window has {length}, and one after them",
                fix=f"length={len(tokens) - 1}" if len(tokens) > 1 else None,
            )

    def __len__(self) -> int:
        return (len(self.tokens) - 1 - self.length) // self.stride + 1

    def batch(self, rows: Any) -> Batch:
        """The windows with these numbers."""
        starts = rows_of("Windows.batch(rows)", len(self), rows) * self.stride
        both = np.asarray(self.tokens[starts[:, None] + np.arange(self.length + 1)])
        both = both.astype(np.int64)
        return both[:, :-1], both[:, 1:]

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the tokens and the windows."""
        return fingerprint([np.asanyarray(self.tokens), np.array([self.length, self.stride])])

    @classmethod
    def parts(
        cls, tokens: Any, length: int, *, test: float = 0.1, validation: float = 0.05, **about: Any
    ) -> Parts:
        """The beginning for training, then a piece for validation, and the end as a test."""
        pieces = cls.pieces(tokens, test=test, validation=validation)
        return Parts(*(cls(piece, length, **about) for piece in pieces))

    @staticmethod
    def pieces(tokens: Any, *, test: float = 0.1, validation: float = 0.05) -> Parts:
        """The tokens of these three parts."""
        real("Windows.parts", "test", test, 0.0, 1.0)
        real("Windows.parts", "validation", validation, 0.0, 1.0)
        if test + validation >= 1:
            raise OptionError(
                f"Windows.parts(test={test}, validation={validation})",
                "nothing is left to learn from",
            )
        n = len(tokens)
        a, b = round(n * (1 - test - validation)), round(n * (1 - test))
        return Parts(tokens[:a], tokens[a:b], tokens[b:])


def pack(sequences: Iterable[Any], separator: int) -> NDArray[np.int64]:
    """Documents one after the other, with a token after each, as one row for `Windows`.

    Example:
        >>> pack([[5, 6], [7]], separator=0)
        array([5, 6, 0, 7, 0])
    """
    whole("pack", "separator", separator, -(2**63))
    pieces = []
    for i, s in enumerate(sequences if np.iterable(sequences) else [sequences]):
        row = np.asarray(s)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise DataError(
                "pack(sequences, separator)", "each sequence is a row of whole numbers",
                operands=[(f"sequences[{i}]", row)],
            )  # fmt: skip
        pieces.append(np.append(row.astype(np.int64), separator))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def read_text(path: str | Path) -> str:
    """The text in a UTF-8 file.

    Raises:
        DataError: it is not there, is empty, or is not text; the message names the byte.
    """
    try:
        content = path_of(f"reading {path!r}", path).read_bytes()
    except OSError as error:
        raise DataError(f"reading {path}", error.strerror or str(error)) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"reading {path}", "it is not UTF-8 text",
            operands=[("at", verbatim(f"byte {error.start:,}, line {line:,}: "
                                      f"0x{content[error.start]:02x}"))],
        ) from None  # fmt: skip
    if not text.strip():
        raise DataError(f"reading {path}", "there is no text in it")
    return text.replace("\r\n", "\n")


def python_help() -> str:
    """Python's own reference, as its `help` command shows it: text that is always at hand.

    It differs between versions of Python.
    """
    return "\n".join(topics.topics[name] for name in sorted(topics.topics))
