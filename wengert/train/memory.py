"""What training a model takes in memory: predicted before a run, and measured in one.

A step is run on hollow arrays, which have a shape and no contents, so that nothing large is made,
be it the batch or the model.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from wengert import tree
from wengert.amp import autocast
from wengert.amp.half import Half
from wengert.errors import ArgumentError, LevelError, OptionError, TapeExitError
from wengert.hollow import Account, Hollow, hollow, unallocated
from wengert.nn import GPT, Module, Parameter
from wengert.nn import functional as F
from wengert.trace import Tensor
from wengert.transforms.memory import arrays, columns, explain_memory, recorded, root
from wengert.transforms.weighing import weighing
from wengert.types import shape_of

from .config import AMP, OPTIMIZERS
from .recipe import find
from .state import random_states, restore_random
from .work import work

__all__ = ["Breakdown", "memory"]

NAMES = {"state": "optimizer state", "scratch": "optimizer scratch", "batch": "input"}
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
        rows = [
            (NAMES.get(f.name, f.name), getattr(self, f.name))
            for f in fields(self)
            if f.name != "title"
        ]
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


# ------------------------------------------------------------------ a step on hollow arrays


@dataclass(frozen=True)
class Kept:
    """What a recorded step keeps, in bytes.

    Args:
        total: at the end of the forward pass.
        sqrt: the same, with segments that are computed again.
        most: at a time.
        given: copies of what the user gave, which are part of the others.
    """

    total: int
    sqrt: int
    most: int
    given: int


def looked_at(model: Module, loss: Any) -> Kept:
    """The buffers that a graph keeps, each counted once."""
    seen: dict[Any, tuple[int, str]] = {}
    for n in recorded([loss.node]):
        for size, key, kind in held(n):
            seen.setdefault(key, (size, kind))
    sizes = [size for size, _ in seen.values()]
    total, ways = sum(sizes), {p.name: p.bytes for p in explain_memory(loss).plans}
    given = sum(size for size, kind in seen.values() if kind == "input")
    largest = max([size for size, kind in seen.values() if kind != "input"], default=0)
    most = total + 2 * largest  # cotangents and the like
    return Kept(total, ways.get("sqrt", total), most, given)


def held(n: Any) -> Iterator[tuple[int, Any, str]]:
    """(bytes, identity, kind) of what a node keeps, apart from parameters.

    What the user gave is known by its content: small arrays are copied for every node, large ones
    are shared.
    """
    for name, value in zip(n.rule.names, n.res or ()):
        for half in value if isinstance(value, tuple) else (value,):
            if isinstance(half, Half):
                yield half.bits.nbytes, id(half), "activation"
        for a, kind, _ in arrays(n, name, value):
            base = root(a)
            if kind != "parameter":
                known = kind == "input" and not isinstance(base, Hollow)
                yield base.nbytes, content(base) if known else id(base), kind


def content(a: Any) -> Any:
    return a.shape, a.dtype.str, a.tobytes()


def many(n: int, a: Any) -> Any:
    """An array of n examples without contents, in the place of one with some."""
    return Tensor(hollow((n, *shape_of(a)[1:]), a.dtype)) if shape_of(a) else a


def repeated(n: int, a: Any) -> Any:
    """The first example n times over, in the room of one."""
    return np.broadcast_to(a[:1], (n, *shape_of(a)[1:])) if shape_of(a) else a


def weighed(model: Module, loss: Callable[..., Any], batch: Any, n: int, amp: str) -> Kept:
    """A forward pass and a sweep with n examples, on hollow arrays.

    A program that asks for the values of its inputs gets the first example again and again; one
    that asks for others is run with a few examples, and a straight line followed.
    """
    for way in (many, repeated):
        with suppress(LevelError, TapeExitError):
            return hollow_step(model, loss, tree.map(partial(way, n), batch), amp)
    low, high = (tried(model, loss, few(batch, k), amp) for k in FEW)
    pairs = zip(*(vars(k).values() for k in (low, high)))
    return Kept(*[round(a + (b - a) * (n - FEW[0]) / (FEW[1] - FEW[0])) for a, b in pairs])


def hollow_step(model: Module, loss: Callable[..., Any], batch: Any, amp: str) -> Kept:
    with undisturbed(model), weighing(Account(work)) as account:
        value = recorded_loss(model, loss, batch, amp)
        kept = looked_at(model, value)
        account.charge(kept.given)
        value.backward(Tensor(hollow(value.shape, value.dtype)))
    return replace(kept, most=account.most)


def few(batch: Any, n: int) -> Any:
    """The first n examples, again from the beginning if there are fewer."""
    return tree.map(
        lambda a: np.take(a, np.arange(n) % len(a), axis=0) if shape_of(a) else a, batch
    )


def tried(model: Module, loss: Callable[..., Any], batch: Any, amp: str) -> Kept:
    """A forward pass that leaves the model and random streams as they were."""
    with undisturbed(model):
        return looked_at(model, recorded_loss(model, loss, batch, amp))


def recorded_loss(model: Module, loss: Callable[..., Any], batch: Any, amp: str) -> Any:
    with nullcontext() if amp == "off" else autocast(amp):
        value = loss(model, *batch)
    if not isinstance(value, Tensor) or value.node is None:
        raise ArgumentError(
            "memory(model, loss)", "the loss is a recorded number", operands=[("loss", value)]
        )
    return value


@contextmanager
def undisturbed(model: Module) -> Iterator[None]:
    """Gradients, buffers and random streams are at the end as they were."""
    gradients = [(p, p.grad) for p in model.parameters() if p.requires_grad]
    before = random_states(model)
    buffers = [(t, t.data, t.data if isinstance(t.data, Hollow) else np.array(t.value()))
               for t in model.buffers()]  # fmt: skip
    for p, _ in gradients:
        p.grad = None
    try:
        yield
    finally:
        restore_random(before, model)
        for p, g in gradients:
            p.grad = g
        for t, data, value in buffers:
            t.data = data
            if not isinstance(data, Hollow):
                data[...] = value


# ------------------------------------------------------------------ the breakdown


class _Memory:
    """What training a model takes in memory, before it is run: `wg.train.memory(model, ...)`.

    A step is run on arrays that have a shape and no contents, and an account is kept. It is exact
    for what stays (parameters, gradients, the optimizer) and for what the tape keeps; the peak is
    within a tenth. Models may be larger than the memory there is: a function that makes one is
    called under `nn.unallocated()`.

    Args:
        model: a module, or a function without arguments that makes one.
        loss: (model, *batch) -> the loss; the sum of model(*batch) if left out.
        batch: the arrays of a batch; or the shape of one array of float32. The first axis counts
            examples.
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
        >>> huge = memory(lambda: nn.Linear(1_000_000, 1_000_000), batch=(8, 1_000_000))
        >>> units(huge.parameters), units(huge.state)
        ('4 TB', '8 TB')
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
        made = model if isinstance(model, Module) else without_room(model)
        f, arrays_, n = _told(loss, batch, examples)
        n = -(-n // accumulate)
        kept = weighed(made, f, arrays_, n, amp)
        one = sum(a.nbytes // len(a) for a in tree.leaves(arrays_) if shape_of(a))
        trained = sum(p.nbytes for p in made.parameters() if p.requires_grad)
        own = sum(t.nbytes for _, t in [*made.named_parameters(), *made.named_buffers()])
        state, scratch = (trained * k for k in rows(optimizer))
        most, activations = max(kept.most, trained), kept.total
        if checkpointing == "sqrt":
            most, activations = kept.sqrt + max(kept.most - kept.total, trained), kept.sqrt
        return Breakdown(
            own, trained, state, scratch, activations, one * n,
            own + state + scratch + one * n + most,
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
        checkpointing: str = "none",
    ) -> Breakdown:
        """That of `nn.GPT` of any size, in float32: nothing large is made.

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
        made = without_room(lambda: GPT(vocab, n_layer, n_head, d_model, context))
        x = np.zeros((1, context), np.int64)
        found = self(
            made, next_token, (x, x), examples=batch, optimizer=optimizer, amp=amp,
            checkpointing=checkpointing,
        )  # fmt: skip
        count = found.parameters // 4
        title = f"GPT with {count:,} parameters, {batch} x {context} tokens, {optimizer}"
        return replace(found, title=title)


memory = _Memory()


def next_token(model: Module, x: Any, y: Any) -> Any:
    """The loss of a language model."""
    logits = model(x)
    return F.cross_entropy(logits.reshape(-1, shape_of(logits)[-1]), y.reshape(-1))


def without_room(make: Callable[[], Module]) -> Module:
    """The model that a function makes, without storage where the function lets it be."""
    with suppress(LevelError), unallocated():
        return make()
    return make()


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


@lru_cache
def rows(name: str) -> tuple[int, int]:
    """How many numbers an optimizer remembers, and how many it works with, for each parameter."""
    find("optimizer", name, OPTIMIZERS)
    (block,) = OPTIMIZERS[name]([Parameter(np.zeros((8, 8)))])._blocks
    scratch = [block.gradient, block.value, block.scratch]
    count = [sum(a.size for a in group) // 64 for group in (block.states.values(), scratch)]
    return count[0], count[1]


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
