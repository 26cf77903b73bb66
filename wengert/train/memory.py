"""What training a model takes in memory: predicted before a run, and measured in one.

A step is recorded with two and with four examples; what the tape keeps is a straight line in the
number of examples, which is followed to the batch that is asked for. Nothing large is allocated
apart from the model itself, and for a GPT not even that.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from wengert import tree
from wengert.amp import autocast
from wengert.amp.half import Half
from wengert.errors import ArgumentError, OptionError
from wengert.nn import GPT, Module, Parameter
from wengert.nn import functional as F
from wengert.ops.conv_kernels import SUMMED
from wengert.trace import Leaf, Tensor, no_grad
from wengert.transforms.memory import arrays, columns, explain_memory, named, recorded, root
from wengert.types import shape_of

from .config import AMP, OPTIMIZERS
from .recipe import find
from .state import random_states, restore_random

__all__ = ["Breakdown", "memory"]

FEW = (2, 4)  # examples in the runs that are extrapolated


@dataclass(frozen=True)
class Breakdown:
    """Bytes of a training step, by what they are for. `str()` is a table.

    Args:
        parameters: weights, and buffers such as running means.
        gradients: one number for each trained one, in the same dtype.
        state: what the optimizer remembers from step to step.
        scratch: room in which the optimizer works out a step.
        activations: what the forward pass keeps for the backward pass.
        batch: the arrays of a batch, or of the part that is computed at a time.
        peak: the most at a time: an estimate, where it is not measured.
        title: what it is of.
    """

    parameters: int
    gradients: int
    state: int
    scratch: int
    activations: int
    batch: int
    peak: int
    title: str = ""

    def __str__(self) -> str:
        rows = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "title"]
        whole = max(1, self.peak)
        table = [(n, units(v), f"{v:,} bytes", f"{v / whole:.0%}") for n, v in rows]
        lines = columns(table, left=(0,))
        wide = max(map(len, lines)) - 2
        return "\n".join(
            ([self.title] if self.title else []) + [*lines[:-1], "  " + "-" * wide, lines[-1]]
        )


def units(n: float) -> str:
    """
    >>> units(700e9), units(1536), units(12), units(2.5e12)
    ('700 GB', '1.54 kB', '12 B', '2.5 TB')
    """
    for size, name in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= size:
            return f"{n / size:.3g} {name}" if n < 1000 * size else f"{n / size:.0f} {name}"
    return f"{n:.0f} B"


# ------------------------------------------------------------------ one small run, looked at


@dataclass(frozen=True)
class Kept:
    """What a recorded step keeps: bytes and new gradients node by node, the youngest first."""

    sizes: list[int]
    gradients: list[int]
    temporaries: list[int]  # cotangents and the like
    work: int  # what convolutions gather columns in
    sqrt: int  # with segments of about equal length, each computed again in its turn

    @property
    def total(self) -> int:
        return sum(self.sizes)


def looked_at(model: Module, loss: Any) -> Kept:
    """The buffers that a graph keeps, each at the oldest node that keeps it."""
    nodes = recorded([loss.node])
    seen: set[Any] = set()
    sizes, temporaries = [], []
    for n in nodes:
        total = temporary = 0
        for size, key, half in held(n):
            if key not in seen:
                seen.add(key)
                total += size
                if isinstance(key, tuple):  # given: it has no cotangent
                    continue
                temporary = max(temporary, (5 if half else 2) * size)
        sizes.append(total)
        temporaries.append(temporary)
    left = {id(p.node): p.nbytes for p in model.parameters() if p.requires_grad}
    gradients = [
        sum(left.pop(id(p), 0) for p in n.parents if type(p) is Leaf) for n in reversed(nodes)
    ]
    work = SUMMED if any(named(n).startswith("Conv") for n in nodes) else 0
    ways = {p.name: p.bytes for p in explain_memory(loss).plans}
    return Kept(sizes[::-1], gradients, temporaries[::-1], work, ways.get("sqrt", sum(sizes)))


def held(n: Any) -> Iterator[tuple[int, Any, bool]]:
    """(bytes, identity, whether half) of what a node keeps, apart from parameters.

    What the user gave is known by its content: small arrays are copied for every node, large ones
    are shared.
    """
    for name, value in zip(n.rule.names, n.res or ()):
        for half in value if isinstance(value, tuple) else (value,):
            if isinstance(half, Half):
                yield half.bits.nbytes, id(half), True
        for a, kind, _ in arrays(n, name, value):
            base = root(a)
            if kind != "parameter":
                yield base.nbytes, content(base) if kind == "input" else id(base), False


def content(a: Any) -> Any:
    return a.shape, a.dtype.str, a.tobytes()


def few(batch: Any, n: int) -> Any:
    """The first n examples, again from the beginning if there are fewer."""
    return tree.map(
        lambda a: np.take(a, np.arange(n) % len(a), axis=0) if shape_of(a) else a, batch
    )


def tried(model: Module, loss: Callable[..., Any], batch: Any, n: int, amp: str) -> Kept:
    """A forward pass with n examples that leaves the model and random streams as they were."""
    part = few(batch, n)
    before, buffers = (
        random_states(model),
        {k: np.array(t.value()) for k, t in model.named_buffers()},
    )
    try:
        with nullcontext() if amp == "off" else autocast(amp):
            value = loss(model, *part)
        if not isinstance(value, Tensor) or value.node is None:
            raise ArgumentError(
                "memory(model, loss)", "the loss is a recorded number", operands=[("loss", value)]
            )
        return looked_at(model, value)
    finally:
        restore_random(before, model)
        with no_grad():
            for k, t in model.named_buffers():
                t[...] = buffers[k]


def line(low: float, high: float, n: float) -> int:
    """The straight line through the values at `FEW`, at n."""
    a, b = FEW
    return round(low + (high - low) * (n - a) / (b - a))


# ------------------------------------------------------------------ the breakdown


class _Memory:
    """What training a model takes in memory, before it is run: `wg.train.memory(model, ...)`.

    Exact for what stays (parameters, gradients, the optimizer) and for what the tape keeps; the
    peak is an estimate: cotangents and temporaries are taken to be twice the largest activation,
    and in mixed precision, where operands are rounded on the way, five times what is kept of it.

    Args:
        model: a module, or a function without arguments that makes one.
        loss: (model, *batch) -> the loss; the sum of model(*batch) if left out.
        batch: the arrays of a batch, of which a few examples are used; or the shape of one array
            of float32. The first axis counts examples.
        examples: how many there are in a batch, if not as many as in `batch`.
        optimizer: a name as `wengert train` knows it.
        amp: "float16" or "bfloat16" for mixed precision.
        checkpointing: "sqrt" for an estimate with activations computed again.
        accumulate: into how many parts a batch is cut.

    Returns:
        a `Breakdown`; `print` it.

    Example:
        >>> from wengert import nn
        >>> model = nn.Sequential(nn.Linear(100, 200, rng=0), nn.ReLU(), nn.Linear(200, 10, rng=1))
        >>> report = memory(model, batch=(64, 100), optimizer="adam")
        >>> report.parameters, report.state, report.activations
        (88840, 177680, 76800)
    """

    def __call__(
        self,
        model: Module | Callable[[], Module],
        loss: Callable[..., Any] | None = None,
        batch: Any = None,
        *,
        examples: int | None = None,
        optimizer: str = "adamw",
        amp: str = "off",
        checkpointing: str = "none",
        accumulate: int = 1,
    ) -> Breakdown:
        find("amp", amp, dict.fromkeys(AMP))
        find("checkpointing", checkpointing, dict.fromkeys(("none", "sqrt")))
        made = model if isinstance(model, Module) else model()
        f, arrays_, n = _told(loss, batch, examples)
        n = -(-n // accumulate)
        low, high = (tried(made, f, arrays_, k, amp) for k in FEW)
        one = sum(a.nbytes // len(a) for a in tree.leaves(arrays_) if shape_of(a))
        gradients = low.gradients
        if checkpointing == "none" and len(low.sizes) == len(high.sizes):
            sizes = [line(a, b, n) for a, b in zip(low.sizes, high.sizes)]
            temporaries = [line(a, b, n) for a, b in zip(low.temporaries, high.temporaries)]
        else:
            a, b = (k.sqrt if checkpointing == "sqrt" else k.total for k in (low, high))
            sizes, gradients = [line(a, b, n)], [sum(gradients)]
            temporaries = [line(max(low.temporaries), max(high.temporaries), n)]
        trained = [p for p in made.parameters() if p.requires_grad]
        return _put_together(
            sum(t.nbytes for _, t in [*made.named_parameters(), *made.named_buffers()]),
            sum(p.nbytes for p in trained), sizes, gradients, temporaries, low.work,
            one * n, optimizer, amp,
            f"{type(made).__name__}, {n:,} examples at a time, {optimizer}",
        )  # fmt: skip

    def measured(
        self,
        model: Module,
        loss: Callable[..., Any] | None = None,
        batch: Any = None,
        *,
        optimizer: str = "adamw",
        amp: str = "off",
    ) -> Breakdown:
        """The same of a step that is made, on the model as it is, with `tracemalloc`.

        The model is trained by it: one step for warming up and one that counts.
        """
        f, arrays_, _ = _told(loss, batch, None)
        arrays_ = tree.map(np.array, arrays_)
        return _measured(model, f, arrays_, optimizer, amp)

    def gpt(
        self,
        n_layer: int,
        d_model: int,
        n_head: int,
        vocab: int,
        context: int,
        batch: int = 1,
        *,
        optimizer: str = "adamw",
        amp: str = "off",
    ) -> Breakdown:
        """That of `nn.GPT` of any size, in float32, from small ones: nothing large is made.

        Every count is a polynomial in the sizes, and a polynomial is known from a few values.

        Example:
            >>> from wengert import nn
            >>> report = memory.gpt(2, 16, 2, 11, 8)
            >>> model = nn.GPT(11, 2, 2, 16, 8, rng=0)
            >>> report.parameters == sum(p.nbytes for p in model.parameters())
            True
        """
        sizes = {"n_layer": n_layer, "d_model": d_model, "n_head": n_head, "vocab": vocab,
                 "context": context, "batch": batch}  # fmt: skip
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(
                    f"memory.gpt({name}={value!r})", "it must be a whole number, at least 1"
                )
        if d_model % n_head:
            raise OptionError(
                "memory.gpt(d_model, n_head)", "the heads share the features evenly",
                operands=[("d_model", d_model), ("n_head", n_head)],
            )  # fmt: skip
        point = (n_layer, n_head, d_model // n_head, vocab, context)
        weights = 4 * interpolated(_gpt_parameters, (2, 3, 3, 2, 2), (0, 0, 1, 4, 1), point)
        kept = interpolated(
            lambda *at: _gpt_kept(*at, amp), (2, 3, 3, 2, 2, 2), (0, 0, 1, 4, 1, 1), (*point, batch)
        )  # fmt: skip
        wide = 4 * d_model * (5 * 2 if amp != "off" else 2 * 4)
        temporary = batch * context * max(2 * 4 * vocab, wide)
        return _put_together(
            weights, weights, _shared(kept, n_layer), _shared(weights, n_layer),
            [temporary] * n_layer, 0,            16 * batch * context, optimizer, amp,
            f"GPT with {weights // 4:,} parameters, {batch} x {context} tokens, {optimizer}",
        )  # fmt: skip


memory = _Memory()


def _shared(total: int, n: int) -> list[int]:
    each = total // n
    return [total - each * (n - 1)] + [each] * (n - 1)


def _told(
    loss: Callable[..., Any] | None, batch: Any, examples: int | None
) -> tuple[Callable[..., Any], tuple[Any, ...], int]:
    """The loss, the arrays of a batch as its arguments, and how many examples there are."""
    if isinstance(batch, tuple | list) and batch and all(isinstance(n, int) for n in batch):
        n = batch[0]
        made: tuple[Any, ...] = (np.zeros((min(n, FEW[1]), *batch[1:]), np.float32),)
    else:
        made = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        made = tree.map(lambda a: np.asarray(a.value() if isinstance(a, Tensor) else a), made)
        lengths = [len(a) for a in tree.leaves(made) if shape_of(a)]
        if not lengths or min(lengths) < 1:
            raise ArgumentError(
                "memory(model, loss, batch)",
                "a batch has arrays with examples along their first axis, or it is a shape",
                fix="batch=(x, y), or batch=(64, 784)",
            )
        n = lengths[0]
    return loss or (lambda m, *xs: m(*xs).sum()), made, n if examples is None else examples


def _put_together(
    parameters: int,
    trained: int,
    sizes: Sequence[int],
    gradients: Sequence[int],
    temporaries: Sequence[int],
    work: int,
    batch: int,
    optimizer: str,
    amp: str,
    title: str,
) -> Breakdown:
    state, scratch = (trained * k for k in rows(optimizer))
    kept = sum(sizes)
    left, grown, most = kept, 0, 3 * batch if amp != "off" else 0
    temporary = max(temporaries, default=0)
    for size, new in zip(sizes, gradients):  # the sweep frees and adds as it goes
        grown += new
        most = max(most, left + grown + temporary + work)
        left -= size
    peak = parameters + state + scratch + batch + most
    return Breakdown(parameters, trained, state, scratch, kept, batch, peak, title)


@lru_cache
def rows(name: str) -> tuple[int, int]:
    """How many numbers an optimizer remembers, and how many it works with, for each parameter."""
    find("optimizer", name, OPTIMIZERS)
    (block,) = OPTIMIZERS[name]([Parameter(np.zeros((8, 8)))])._blocks
    scratch = [block.gradient, block.value, block.scratch]
    count = [sum(a.size for a in group) // 64 for group in (block.states.values(), scratch)]
    return count[0], count[1]


# ------------------------------------------------------------------ polynomials


def interpolated(
    f: Callable[..., int], counts: Sequence[int], first: Sequence[int], point: Sequence[int]
) -> int:
    """The value at a point of the polynomial that agrees with f on a small grid, exactly.

        sum_k f(x_k) prod_j prod_{i != k_j} (p_j - x_ij) / (x_kj - x_ij)

    Args:
        f: of as many whole numbers as there are `counts`.
        counts: how many places along each axis: the degree and one more.
        first: the powers or places where the grid begins, see the body.
        point: where.

    Example:
        >>> interpolated(lambda a, b: a * a * b + 1, (3, 2), (0, 0), (100, 7))
        70001
    """
    axes = [[2 * (k + b) if b else k + 1 for k in range(n)] for n, b in zip(counts, first)]
    weights = []
    for xs, p in zip(axes, point):
        each = []
        for x in xs:
            w = Fraction(1)
            for other in xs:
                if other != x:
                    w *= Fraction(p - other, x - other)
            each.append((x, w))
        weights.append(each)
    total = Fraction(0)
    for corner in product(*weights):
        factor = Fraction(1)
        for _, w in corner:
            factor *= w
        if factor:
            total += factor * f(*[x for x, _ in corner])
    return int(total)


@lru_cache(maxsize=4096)
def _gpt(layers: int, heads: int, width: int, vocab: int, context: int) -> GPT:
    return GPT(vocab, layers, heads, heads * width, context, rng=0)


def _gpt_parameters(*sizes: int) -> int:
    return sum(p.size for p in _gpt(*sizes).parameters())


@lru_cache(maxsize=4096)
def _gpt_kept(
    layers: int, heads: int, width: int, vocab: int, context: int, batch: int, amp: str
) -> int:
    model = _gpt(layers, heads, width, vocab, context)
    x = np.arange(batch * context).reshape(batch, context) % vocab
    with nullcontext() if amp == "off" else autocast(amp):
        logits = model(x)
        loss = F.cross_entropy(logits.reshape(-1, vocab), x[:, ::-1].reshape(-1))
    return looked_at(model, loss).total


# ------------------------------------------------------------------ measured


def _measured(
    model: Module, loss: Callable[..., Any], batch: Any, optimizer: str, amp: str
) -> Breakdown:
    """A step under tracemalloc, looked at after each of its phases."""
    trained = [p for p in model.parameters() if p.requires_grad]

    def forward() -> Any:
        with nullcontext() if amp == "off" else autocast(amp):
            return loss(model, *batch)

    def now() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    for p in trained:
        p.grad = None
    forward().backward()  # rules are made, and modules imported
    for p in trained:
        p.grad = None
    parameters = sum(t.nbytes for _, t in [*model.named_parameters(), *model.named_buffers()])
    size = sum(a.nbytes for a in tree.leaves(batch))
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        start = now()
        stepper = OPTIMIZERS[optimizer](trained)
        made = now() - start
        tracemalloc.reset_peak()
        value = forward()
        activations = now() - start - made
        value.backward()
        value = None
        gradients = now() - start - made
        stepper.step()
        peak = tracemalloc.get_traced_memory()[1] - start + parameters + size
    finally:
        if not running:
            tracemalloc.stop()
    kept, work = rows(optimizer)
    state = made * kept // (kept + work)
    return Breakdown(
        parameters, gradients, state, made - state, activations, size, peak,
        f"{type(model).__name__}, measured, {optimizer}",
    )  # fmt: skip
