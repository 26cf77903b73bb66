"""Activation checkpointing: what a part computed is dropped, and computed again for the sweep.

One mechanism (`replay`) serves every kind; they differ in where the parts begin and end, and in
what each keeps:

    checkpoint(f), checkpoint(module)           a part is one call
    checkpoint_sequential(layers)               every sqrt(L)-th boundary is kept
    checkpoint_sequential(layers, recursive=True)   nested halves: O(log L) boundaries at a time
    checkpoint(f, policy=policies.dots)         matrix products are kept, the cheap rest is not
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import ArgumentError, OptionError, UnsupportedError
from ..trace import HERE, looked
from ..types import Aval
from .disk import save_on_disk
from .inside import packed
from .replay import Frame, Policy, run, staging

__all__ = ["checkpoint", "checkpoint_name", "checkpoint_sequential", "policies"]


def checkpoint(f: Any = None, *, policy: Policy | None = None) -> Any:
    """f, whose intermediate values are dropped and computed again when the sweep needs them.

        peak memory:  residuals(f)  ->  inputs(f);      time:  forward  ->  2 forward

    The value and every derivative, of any order and in any mode, are those of f, bit for bit.
    Random numbers are drawn again, in-place writes to tensors from outside happen once, and hooks
    fire once: the graph is that of the first run. What a transform inside of f records, such as
    `grad`, is kept until that transform has swept it. Arguments are remembered, so later writes to
    them, or to parameters that f reads, change nothing.

    Args:
        f: a function of pytrees, or a module; left out, a decorator with these options.
        policy: (operation that computed a value or None, name, `Aval`) -> True to keep the value,
            False to compute it again, or a function that packs the array elsewhere. The name is
            what the rule that needs it calls it ("x", "y", ..), or that of `checkpoint_name`. See
            `wg.checkpoint.policies`. Parts within parts ask it again in the second run: it answers
            the same question alike.

    Raises:
        ReplayError: in the backward pass, if f does not compute the same again: it read a plain
            array that has changed, or drew from a random generator that cannot be reached from it.
        UnsupportedError: f is a generator function or a coroutine.

    >>> import numpy as np, wengert as wg
    >>> def block(x, w):
    ...     return np.tanh(x @ w) * x
    >>> w = wg.tensor(np.eye(3), requires_grad=True)
    >>> np.sum(wg.checkpoint(block)(np.ones((2, 3)), w)).backward()
    >>> round(w.grad[0, 0].item(), 6)
    0.839949

    References:
        Griewank & Walther, Algorithm 799: revolve (2000). Chen, Xu, Zhang & Guestrin, Training
        deep nets with sublinear memory cost (2016).
    """
    if f is None:
        return partial(checkpoint, policy=policy)
    if not callable(f):
        raise ArgumentError("checkpoint(f)", "f is a function or a module", operands=[("f", f)])
    _check_policy("checkpoint(f, policy)", policy)
    called = f if inspect.isroutine(f) else getattr(f, "forward", f)
    for kind in (inspect.isgeneratorfunction, inspect.iscoroutinefunction,
                 inspect.isasyncgenfunction):  # fmt: skip
        if kind(called):
            raise UnsupportedError(
                "checkpoint(f)",
                "a generator or a coroutine runs in pieces, with other code in between",
                fix="checkpoint the function that each piece calls",
            )
    if hasattr(type(f), "named_parameters"):
        return module_of(f, policy)

    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return run(f, args, kwargs, policy)

    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        if hasattr(f, name):
            setattr(checkpointed, name, getattr(f, name))
    checkpointed.__wrapped__ = f  # type: ignore[attr-defined]
    return checkpointed


_classes: dict[type, type] = {}  # one a class of modules: a class is never forgotten


def module_of(module: Any, policy: Any) -> Any:
    """The same module, with the same attributes, whose calls are checkpointed."""
    kind = type(module)
    made = kind if "_policies" in kind.__dict__ else _classes.get(kind)
    if made is None:

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            f = partial(kind.__call__, self)
            for inner in self._policies[:-1]:
                f = partial(again, f, inner)
            return run(f, args, kwargs, self._policies[-1])

        body = {"__slots__": ("_policies",), "__call__": call, "__module__": kind.__module__}
        made = _classes[kind] = type(kind.__name__, (kind,), body)
    twin: Any = object.__new__(made)
    object.__setattr__(twin, "__dict__", module.__dict__)
    object.__setattr__(twin, "_policies", (*getattr(module, "_policies", ()), policy))
    return twin


def again(f: Any, policy: Any, *args: Any, **kwargs: Any) -> Any:
    return run(f, args, kwargs, policy)


# ------------------------------------------------------------------ a chain of layers


def checkpoint_sequential(
    layers: Any,
    segments: int | str | Sequence[int] = "sqrt",
    *,
    recursive: bool = False,
    policy: Policy | None = None,
) -> Callable[[Any], Any]:
    """x -> layers[-1](... layers[0](x)), which keeps only the values between segments.

    With "sqrt" the later segments are the shorter ones: when a segment is run again, the boundaries
    after it are gone, so that b boundaries of size 1 and a segment of n layers with k residuals
    each need b + k n. All are equal to P = sqrt(2 k L) when the i-th has (P - i) / k layers; equal
    segments would need 2 sqrt(k L). The last segment is not dropped: it is needed at once.

    Args:
        layers: a list of functions of one value, or an `nn.Sequential`.
        segments: "sqrt"; or how many, of equal length; or the number of layers in each.
        recursive: nested halves instead: about log2(L) boundaries at a time, for (L / 2) log2(L)
            more evaluations of a layer.
        policy: what is kept in a segment, as in `checkpoint`.

    >>> import numpy as np, wengert as wg
    >>> layers = [np.sin] * 9
    >>> x = wg.tensor([0.5, 1.0], requires_grad=True)
    >>> y = wg.checkpoint_sequential(layers)(x).sum()
    >>> y.backward()
    >>> plain = wg.grad(lambda x: wg.checkpoint_sequential(layers, recursive=True)(x).sum())
    >>> bool((plain(np.array([0.5, 1.0])) == x.grad.numpy()).all())
    True

    References:
        Chen, Xu, Zhang & Guestrin (2016), section 4.
    """
    chain = [layers[i] for i in range(len(layers))]
    _check_segments(segments, len(chain))
    _check_policy("checkpoint_sequential(layers, policy)", policy)

    def sequential(x: Any) -> Any:
        if not chain or staging():
            return part(chain, x)
        if recursive:
            return halves(chain, x, policy)
        if segments == "sqrt":
            return graded(chain, x, policy)
        if isinstance(segments, str | int | np.integer):
            n, s = len(chain), int(segments)
            ends = [n * (i + 1) // s for i in range(s)]
        else:
            ends = np.cumsum(segments).tolist()
        start = 0
        for end in ends[:-1]:
            x = run(partial(part, chain[start:end]), (x,), {}, policy)
            start = end
        return part(chain[start:], x)

    return sequential


def _check_segments(segments: Any, n: int) -> None:
    if isinstance(segments, str):
        good = segments == "sqrt"
    elif isinstance(segments, int | np.integer):
        good = 1 <= int(segments) <= max(n, 1)
    else:
        good = bool(all(s >= 1 for s in segments) and sum(segments) == n)
    if not good:
        raise OptionError(
            f"checkpoint_sequential(layers, segments={segments!r})",
            f'segments is "sqrt", a number from 1 to {n}, or lengths that sum to {n}',
            fix='segments="sqrt"',
        )


def _check_policy(what: str, policy: Any) -> None:
    if policy is not None and not callable(policy):
        known = ", ".join(sorted(policies.__dict__))
        fix = f"one of wg.checkpoint.policies: {known}"
        if isinstance(policy, str) and policy in policies.__dict__:
            fix = f"wg.checkpoint.policies.{policy}"
        raise ArgumentError(
            what, "a policy is a function: (operation, name, aval) -> True to keep the value",
            operands=[("policy", policy)], fix=fix,
        )  # fmt: skip


def part(layers: Sequence[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def halves(layers: Sequence[Any], x: Any, policy: Any = None) -> Any:
    """The first half dropped as a whole, and both halves treated alike within."""
    n = len(layers)
    if n <= 1:
        return part(layers, x)
    x = run(partial(halves, layers[: n // 2], policy=policy), (x,), {}, policy)
    return halves(layers[n // 2 :], x, policy)


def graded(layers: Sequence[Any], x: Any, policy: Any = None) -> Any:
    """Segments of decreasing length, for k residuals per layer and boundary: 2 at first, then as
    many as the segments before have had."""
    left, at, i, k = len(layers), 0, 1, 2.0
    total = done = 0.0
    while left > 1:
        size = segment(left, i, k)
        if size >= left:
            break
        frame = Frame(partial(part, layers[at : at + size]), (x,), {}, policy)
        x = frame.first((x,), {})
        total += frame.bytes / max(getattr(x, "nbytes", 1), 1)
        done += size
        k = max(total / done, 0.1)
        left, at, i = left - size, at + size, i + 1
    return part(layers[at:], x)


def segment(left: int, i: int, k: float) -> int:
    """The length of the i-th segment when `left` layers are left: (P - i) / k, where the lengths
    down to nothing sum to `left`: (P - i)^2 / 2 k = left."""
    return max(1, round(math.sqrt(2 * k * left) / k - 0.5 / k))


# ------------------------------------------------------------------ what to keep


def checkpoint_name(x: Any, name: str) -> Any:
    """x itself, under a name that a policy may ask for.

    >>> import numpy as np, wengert as wg
    >>> keep = wg.checkpoint.policies.names("scores")
    >>> @wg.checkpoint(policy=keep)
    ... def f(x):
    ...     return wg.checkpoint_name(np.exp(np.sin(x)), "scores") ** 2
    >>> wg.grad(lambda x: f(x))(0.0)
    np.float64(2.0)
    """
    packers = HERE.__dict__.get("packers")
    if packers and hasattr(packers[-1], "named"):
        packed(looked(x), lambda a: packers[-1].named(a, name) or a)
    return x


def everything(op: Any, name: str, aval: Aval) -> bool:
    """Keep all: as without a checkpoint, but for the values that are compared."""
    return True


def nothing(op: Any, name: str, aval: Aval) -> bool:
    """Keep nothing but the inputs: what `checkpoint` does without a policy."""
    return False


PRODUCTS = frozenset(["MatMul", "Affine", "Einsum", "Convolution", "Conv"])


def dots(op: Any, name: str, aval: Aval) -> bool:
    """Keep the results of matrix products and convolutions, the dear part of most networks."""
    return type(op).__name__ in PRODUCTS


def names(*chosen: str) -> Policy:
    """Keep the values that `checkpoint_name` called by one of these names."""
    return lambda op, name, aval: name in chosen


def disk(folder: str | os.PathLike[str] | None = None, which: Policy | None = None) -> Policy:
    """Write arrays to files and read them back for the sweep, instead of computing them again.

    Args:
        folder: where; None for the system's folder of temporary files.
        which: a policy that says for which arrays; all of them when left out. The others are
            computed again.
    """

    files = save_on_disk(folder)

    def choose(op: Any, name: str, aval: Aval) -> Any:
        return (which is None or which(op, name, aval)) and files.keep

    return choose


policies = SimpleNamespace(
    everything=everything, nothing=nothing, dots=dots, names=names, disk=disk
)
checkpoint.policies = policies  # type: ignore[attr-defined]
