"""TensorFlow's dialect: GradientTape, Variable and custom_gradient, on the one eager tape.

A tape is the stretches of `trace.seq`, the counter that numbers every node, during which it was
recording. A gradient is a sweep over the nodes inside them; what was computed outside is constant.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import tree
from ..errors import (
    ArgumentError,
    DisconnectedError,
    DTypeError,
    FreedError,
    LevelError,
    ShapeError,
    describe,
    verbatim,
)
from ..ops.linear import Reshape, moveaxis
from ..structural import Masked
from ..trace import HERE, Break, Leaf, Level, Tensor, line, looked, make, push, recording, seq
from ..types import RAW, is_inexact, shape_of
from .between import leading, pull_between, reached, separate
from .jacobian import basis
from .severed import ends_in, remedy, told
from .tape import EAGER, ones_like, paired
from .variable import Variable, mark, unmark, variable_of
from .vmap import Batched, VMap, unbatch

__all__ = ["GradientTape", "Variable"]

_lock = threading.Lock()
_alive: weakref.WeakSet[GradientTape] = weakref.WeakSet()  # with records that are still of use
UNCONNECTED = ("none", "zero", "raise")


class GradientTape:
    """Records what is computed inside a `with` block, for gradients of it.

    Trainable variables, and tensors with requires_grad=True, are watched by themselves; other
    tensors by `watch`. What was computed while the tape was not recording is a constant.

    Args:
        persistent: more than one gradient may be taken; the graph lives as long as its results.
        watch_accessed_variables: watch the variables that are used. Without it only what `watch`
            names.

    Unlike TensorFlow's, the tape says why a gradient is None: `why_none()`, or an error with
    unconnected_gradients="raise".

    >>> import wengert as wg
    >>> x = wg.Variable(3.0)
    >>> with GradientTape() as outer:
    ...     with GradientTape() as inner:
    ...         y = x * x * x
    ...     slope = inner.gradient(y, x)
    >>> slope, outer.gradient(slope, x)
    (tensor(27., grad_fn=add), tensor(18.))
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._spans: list[tuple[float, float]] = []  # (younger than, older than), as seq counts
        self._start: float | None = None
        self._used = False
        self._entered = False
        self._watched: dict[int, tuple[Tensor, Any]] = {}  # the tensor and its place on the tape
        self._accessed: dict[Leaf, None] = {}
        self._before: Any = None  # notes about gradients lost before
        self._breaks: dict[Any, Break] = {}  # and while it records
        self._why: list[str] = []

    # ---- when it records
    def __enter__(self) -> GradientTape:
        if self._entered:
            raise LevelError("with tape", "the tape is recording already")
        if self._used and not self.persistent:
            self.reset()
        self._entered = True
        for t, leaf in self._watched.values():
            mark(t, leaf)
        self._before, EAGER.breaks = EAGER.breaks, None
        self._open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        self._breaks.update(EAGER.breaks or {})
        EAGER.breaks = dict([*(self._before or {}).items(), *(EAGER.breaks or {}).items()][-8:])
        self._entered = False
        for _, node in self._watched.values():
            unmark(node)

    def _open(self) -> None:
        with _lock:
            _alive.add(self)
        HERE.__dict__.setdefault("tapes", []).append(self)
        self._start = seq()

    def _close(self) -> None:
        if self._start is not None:
            self._spans.append((seq(), self._start))
            self._start = None
            tapes = HERE.__dict__.setdefault("tapes", [])
            if self in tapes:
                tapes.remove(self)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """What is computed inside is not on this tape: a constant for it.

        >>> import wengert as wg
        >>> x = wg.Variable(2.0)
        >>> with GradientTape() as tape:
        ...     with tape.stop_recording():
        ...         scale = x * 10.0
        ...     y = x * scale
        >>> tape.gradient(y, x)
        tensor(20.)
        """
        if self._start is None:
            raise LevelError("tape.stop_recording()", "the tape is not recording")
        self._close()
        try:
            yield
        finally:
            self._open()

    def reset(self) -> None:
        """Forget what was recorded and watched; the tape goes on recording if it was."""
        if self._start is not None:
            self._start = seq()
        if self._entered:
            for _, node in self._watched.values():
                unmark(node)
        self._spans.clear()
        self._watched.clear()
        self._accessed.clear()
        self._breaks.clear()
        self._used = False

    # ---- what it watches
    def watch(self, tensor: Any) -> None:
        """Record what is computed from a tensor, or from those of a nested structure.

        The tensor itself is left as it was when the tape stops.

        Raises:
            ArgumentError: it is not a tensor.
            DTypeError: it does not hold floating-point numbers.

        >>> import wengert as wg
        >>> x = wg.tensor([1.0, 2.0])
        >>> with GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.gradient(y, x)
        tensor([2., 4.])
        """
        if not self._entered:
            raise LevelError(
                "tape.watch(x)", "the tape is not recording", fix="inside `with tape:`"
            )
        leaves, structure = tree.flatten(tensor)
        for t, path in zip(leaves, tree.paths(structure, "x")):
            if not isinstance(t, Tensor):
                raise not_a_tensor("tape.watch(x)", path, t)
            if not is_inexact(t.dtype):
                raise DTypeError(
                    "tape.watch(x)", "a gradient needs floating-point values",
                    operands=[(path, t)], fix="x.astype(float)",
                )  # fmt: skip
            if id(t) not in self._watched:
                self._watched[id(t)] = (t, mark(t))

    def accessed(self, variable: Variable, node: Any) -> None:
        """A variable was read while the tape recorded."""
        if self._start is not None and self.watch_accessed_variables and type(node) is Leaf:
            self._accessed.setdefault(node)

    def watched_variables(self) -> tuple[Variable, ...]:
        """The variables that the tape watches, in the order in which they were first used."""
        nodes = [*self._accessed, *(node for _, node in self._watched.values())]
        found = [variable_of(n) for n in dict.fromkeys(nodes) if type(n) is Leaf]
        own = [t for t, _ in self._watched.values() if isinstance(t, Variable)]
        every = [v for v in found if v is not None] + own
        return tuple({id(v): v for v in every}.values())

    # ---- gradients
    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: str = "none",
    ) -> Any:
        """The gradient of the sum of all numbers in target, for each source.

        Args:
            target: a tensor, or a nested structure of tensors.
            sources: a tensor or variable, or a nested structure of them: what was watched, or
                any result on the way.
            output_gradients: the cotangents of target, of its structure, instead of ones.
            unconnected_gradients: what stands for a source that the target does not depend on:
                "none", "zero", or "raise" for an error that says where the path broke.

        Returns:
            tensors in the structure of sources. They are recorded if this thread has a tape that
            records now.

        Raises:
            FreedError: a second gradient of a tape that is not persistent.
            LevelError: the target was computed inside a transform, and the source was not watched
                there.
        """
        cotangents = None
        if output_gradients is not None:
            cotangents, got = tree.flatten(output_gradients)
            want = tree.flatten(target)[1]
            if got != want:
                raise ShapeError(
                    "tape.gradient(target, sources, output_gradients)",
                    "the cotangents have the structure of target",
                    operands=[("target", verbatim(want)), ("output_gradients", verbatim(got))],
                    fix="np.array(output_gradients)" if isinstance(target, Tensor) else None,
                )
        run = _Run(self, "gradient", target, sources, unconnected_gradients)
        found = run.pull(cotangents)
        return run.results([found.get(node) for node in run.wanted])

    def jacobian(self, target: Any, sources: Any, unconnected_gradients: str = "none") -> Any:
        """J[i, j] = d target_i / d source_j, in one batched sweep.

        For each source an array with the axes of target first and those of the source after them.

        >>> import wengert as wg
        >>> x = wg.Variable([1.0, 2.0])
        >>> with GradientTape() as tape:
        ...     y = x * x
        >>> tape.jacobian(y, x)
        tensor([[2., 0.],
                [0., 4.]])
        """
        y = one_tensor("jacobian", target)
        run = _Run(self, "jacobian", y, sources, unconnected_gradients)
        out = shape_of(y)
        n = math.prod(out)
        found: dict[Any, Any] = {}
        if run.roots:
            with push(VMap, n) as level:
                seed = basis(n, [n], 0, out, y.dtype, level)
                found = {k: unbatch(g, level) for k, g in run.sweep([seed]).items()}
        run.lead = out
        shapes = [(*out, *shape_of(s)) for s in run.sources]
        return run.results(
            [
                Reshape(shape)(found[node]) if node in found else None
                for node, shape in zip(run.wanted, shapes)
            ]
        )

    def batch_jacobian(self, target: Any, source: Any, unconnected_gradients: str = "none") -> Any:
        """J[b, i, j] = d target[b, i] / d source[b, j], for rows that do not depend on each other.

        As many lanes as a row of target has numbers, and one that checks, with random weights,
        that no row of target depends on another row of source.

        Raises:
            ArgumentError: it does, as after batch normalisation: the full jacobian is needed.

        >>> import numpy as np, wengert as wg
        >>> x = wg.Variable([[1.0, 2.0], [3.0, 4.0]])
        >>> with GradientTape() as tape:
        ...     y = np.stack([x[:, 0] * x[:, 1], x[:, 1]], 1)
        >>> tape.batch_jacobian(y, x)
        tensor([[[2., 1.],
                [0., 1.]],
        <BLANKLINE>
               [[4., 3.],
                [0., 1.]]])
        """
        y, x = one_tensor("batch_jacobian", target), one_tensor("batch_jacobian", source)
        out, s = shape_of(y), shape_of(x)
        if not out or not s or out[0] != s[0]:
            raise ShapeError(
                "tape.batch_jacobian(target, source)",
                "both have the examples along their first axis",
                operands=[("target", y), ("source", x)],
            )
        run = _Run(self, "batch_jacobian", y, x, unconnected_gradients)
        run.lead, run.skip = out, 1
        b, n = out[0], math.prod(out[1:])
        found: dict[Any, Any] = {}
        if run.roots:
            weights = np.random.default_rng(0).standard_normal(out).astype(y.dtype)
            seeds = np.zeros((n + 1, b, n), y.dtype)
            seeds[range(n), :, range(n)] = 1
            seeds = seeds.reshape((n + 1, *out))
            mask = seeds != 0
            seeds[n], mask[n] = weights, True
            with push(VMap, n + 1) as level:
                seed = Masked(make(seeds, 0, level, Batched), make(mask, 0, level, Batched))
                found = {k: unbatch(g, level) for k, g in run.sweep([seed]).items()}
        (node,) = run.wanted
        if node not in found:
            return run.results([None])
        table = Reshape((n + 1, b, -1))(found[node])
        rows = moveaxis(table[:n], 0, 1)  # [b, n, numbers of a row of x]
        if isinstance(table, np.ndarray):
            separate(table[n], rows, weights.reshape(b, n), y, x)
        return run.results([Reshape((*out, *s[1:]))(rows)])

    def why_none(self) -> str:
        """Why gradients of the last call were None: where the path from target to source broke.

        >>> import numpy as np, wengert as wg
        >>> x, y = wg.tensor(2.0), wg.Variable(1.0)
        >>> with GradientTape() as tape:
        ...     z = x * y
        >>> tape.gradient(z, [x, y])
        [None, tensor(2.)]
        >>> print(tape.why_none())
        sources[0]: was not watched
          fix: tape.watch(x) before it is used, or x = wg.Variable(x)
        """
        return "\n".join(self._why)


class _Run:
    """One request: the targets as nodes, the sources as nodes, and what lies between."""

    def __init__(
        self, tape: GradientTape, what: str, target: Any, sources: Any, unconnected: str
    ) -> None:
        self.tape, self.what = tape, f"tape.{what}(target, sources)"
        unconnected = getattr(unconnected, "value", unconnected)  # an enumeration, as in TensorFlow
        if unconnected not in UNCONNECTED:
            raise ArgumentError(
                self.what, f"unconnected_gradients is one of {', '.join(map(repr, UNCONNECTED))}",
                operands=[("unconnected_gradients", unconnected)],
            )  # fmt: skip
        self.unconnected = unconnected
        self.reasons: dict[int, tuple[str, str | None]] = {}  # why there is no gradient
        self.lead: tuple[int, ...] = ()  # the axes of a jacobian before those of the source
        self.skip = 0
        if not tape._spans and tape._start is None:
            raise LevelError(
                self.what, "the tape has recorded nothing",
                fix="compute the target inside `with wg.GradientTape() as tape:`",
            )  # fmt: skip
        if tape._used and not tape.persistent:
            raise FreedError(
                self.what,
                "a tape that is not persistent gives one gradient, or one set of gradients",
                fix="ask for all of them at once, tape.gradient(target, [a, b]); or "
                "wg.GradientTape(persistent=True)",
            )
        if not tape.persistent:
            tape._close()
        first = seq()  # a view that is looked at again counts as computed when it was made
        self.targets = [self.as_seen(t) for t in tree.leaves(target)]
        leaves, self.structure = tree.flatten(sources)
        self.paths = tree.paths(self.structure, "sources")
        for s, path in zip(leaves, self.paths):
            if not isinstance(s, Tensor):
                raise not_a_tensor(self.what, path, s)
        self.sources = [looked(s) for s in leaves]
        spans = list(tape._spans)
        last = seq()
        if last < first - 1:
            spans.append((last, first))
        if tape._start is not None:
            spans.append((-math.inf, tape._start))
        self.inside = within(spans)
        self.given = leaves
        self.wanted = [self.node_of(s) for s in leaves]
        self.level = self.only_level()
        self.roots = [
            (t, i)
            for i, t in enumerate(self.targets)
            if isinstance(t, Tensor) and t.level is self.level and t.node is not None
        ]
        if not tape.watch_accessed_variables:
            self.only_watched()

    def as_seen(self, t: Any) -> Any:
        """A target as the tape saw it: what was watched is a leaf after it has stopped, too."""
        leaf = self.tape._watched[id(t)][1] if id(t) in self.tape._watched else None
        if type(leaf) is not Leaf or t.node is leaf:
            return looked(t)
        return make(t.data if t.level is leaf.level else t, leaf, leaf.level)

    def node_of(self, s: Tensor) -> Any:
        """The source's place on the tape: where it was watched, or where it was computed."""
        known = self.tape._watched.get(id(s))
        if known is not None:
            return known[1]
        node = looked(s).node if s.level.depth & 1 else None
        return node if node is not None else Unwatched()

    def only_level(self) -> Level:
        """The tape that the targets are on; refuse those that lie inside a transform."""
        levels = {}
        for t in self.targets:
            if not isinstance(t, Tensor):
                continue
            if t.level.depth & 1:
                if t.node is not None:
                    levels[t.level] = t
            elif isinstance(t.data, Tensor) and t.data.recorded():
                raise LevelError(
                    self.what,
                    f"the target was computed inside a {type(t.level).__name__.lower()}, from a "
                    "source that was watched outside of it",
                    operands=[("target", t)],
                    fix="tape.watch(source) inside, in the function that is transformed",
                )
        if len(levels) > 1:
            raise LevelError(
                self.what,
                "the targets belong to different transforms",
                operands=[("target", t) for t in levels.values()],
                fix="one call for each",
            )
        return next(iter(levels), EAGER)

    def only_watched(self) -> None:
        """Without watch_accessed_variables: leave out what no watched tensor leads to."""
        named = {node for _, node in self.tape._watched.values()}
        seen, passed = reached([t.node for t, _ in self.roots], self.inside)
        derived, _ = leading(passed, seen & named)
        self.wanted = [n if n in derived or n in named else Unwatched() for n in self.wanted]

    def pull(self, cotangents: list[Any] | None) -> dict[Any, Any]:
        seeds = []
        for t, i in self.roots:
            c = None if cotangents is None else cotangents[i]
            seeds.append(ones_like(t.data) if c is None else self.seed(c, t))
        return self.sweep(seeds)

    def seed(self, c: Any, t: Tensor) -> Any:
        if shape_of(c) != t.shape:
            raise ShapeError(
                f"{self.what[:-1]}, output_gradients)",
                "a cotangent has the shape of its target",
                operands=[("target", t), ("cotangent", c)],
            )
        if isinstance(c, Tensor):
            c = looked(c)
            return paired(c.data if c.level is self.level and c.node is None else c)
        return paired(np.array(c, t.dtype))

    def sweep(self, seeds: list[Any]) -> dict[Any, Any]:
        if not self.roots:
            return {}
        record = any_recording() and recording(self.level)
        keep = record or self.tape.persistent or self.shared()
        nodes = [t.node for t, _ in self.roots]
        walk = reached(nodes, self.inside)
        for i, n in enumerate(self.wanted):
            if n not in walk[0]:  # while the graph is whole
                self.reasons[i] = self.reason(i)
        wanted = walk[0].intersection(self.wanted)
        level = self.level if record else None
        return pull_between(list(zip(nodes, seeds)), wanted, self.inside, keep, level, walk)

    def shared(self) -> bool:
        """Whether another tape that is still of use recorded at the same time."""
        with _lock:
            others = [t for t in _alive if t is not self.tape]
        return any(t._start is not None or overlap(t._spans, self.tape._spans) for t in others)

    def results(self, gs: list[Any]) -> Any:
        tape = self.tape
        if not tape.persistent:
            tape._used = True
            with _lock:
                _alive.discard(tape)
        missing = [i for i, g in enumerate(gs) if g is None]
        for i in missing:
            self.reasons[i] = self.reasons.get(i) or self.reason(i)
        tape._why = [f"{self.paths[i]}: {self.why(i)}" for i in missing]
        if missing and self.unconnected == "raise":
            first = missing[0]
            raise DisconnectedError(
                self.what,
                "the target does not depend on a source, as far as the tape has seen",
                operands=[(self.paths[i], verbatim(self.reasons[i][0])) for i in missing[:3]],
                fix=self.reasons[first][1],
            )
        out = []
        for g, s in zip(gs, self.sources):
            if g is None:
                shape = self.lead + shape_of(s)[self.skip :]
                zero = make(np.zeros(shape, s.dtype), None, EAGER)
                out.append(zero if self.unconnected == "zero" else None)
                continue
            g = paired(g)
            out.append(make(np.asarray(g), None, EAGER) if isinstance(g, RAW) else g)
        return tree.unflatten(self.structure, out)

    # ---- why there is none
    def why(self, i: int) -> str:
        what, fix = self.reasons[i]
        return f"{what}\n  fix: {fix}" if fix else what

    def reason(self, i: int) -> tuple[str, str | None]:
        """(what is wrong with source i, what to do)."""
        node, s = self.wanted[i], self.given[i]
        if isinstance(node, Unwatched):
            if isinstance(s, Variable) and s.trainable:
                return "was not watched", "tape.watch(v), or watch_accessed_variables=True"
            if isinstance(s, Variable):
                return "is not trainable", "tape.watch(v) before it is used"
            return "was not watched", "tape.watch(x) before it is used, or x = wg.Variable(x)"
        where, fix = self.breaks(node)
        if not any(isinstance(t, Tensor) for t in self.targets):
            kinds = ", ".join(dict.fromkeys(type(t).__name__ for t in self.targets))
            return f"the target is no tensor but {kinds}{where}", fix
        if not self.roots:
            return f"the target was not recorded{where}", fix
        seen, passed = reached([t.node for t, _ in self.roots], lambda n: n.res is not None)
        if node in seen:
            _, through = leading(passed, [node])
            out = next(n for n in through[::-1] if not self.inside(n))
            return f"{out.op!r} was computed while the tape did not record, at {line(out)}", None
        return f"the target was not computed from it{where}", fix

    def breaks(self, node: Any) -> tuple[str, str | None]:
        """(where recorded values left the derivative, what to do): those computed from the node."""
        tape = self.tape
        own = tape._breaks if self.level is EAGER and not tape._entered else self.level.breaks
        notes = list((own or {}).items())
        mine = [n for n in notes if node in ends_in(n[1])]
        mine = mine or [n for n in notes if not n[1].nodes]  # it is not known whose they are
        text = "".join(f"; {told(code, lasti, note.why)}" for (code, lasti), note in mine[-3:])
        return text, remedy(mine[-1][1].why) if mine else None


class Unwatched:
    """Stands for the place of a source that the tape has not seen."""

    __slots__ = ()


def any_recording() -> bool:
    """Whether a tape records in this thread."""
    return any(getattr(t, "_start", None) is not None for t in getattr(HERE, "tapes", ()))


def within(spans: list[tuple[float, float]]) -> Callable[[Any], bool]:
    """Whether a node was made in one of the stretches of the count."""
    if len(spans) == 1:
        ((young, old),) = spans
        return lambda node: young < node.seq < old
    return lambda node: any(young < node.seq < old for young, old in spans)


def overlap(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> bool:
    return any(max(y, v) < min(o, w) for y, o in a for v, w in b)


def one_tensor(what: str, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return looked(x)
    raise ArgumentError(
        f"tape.{what}(target, source)",
        "one tensor is needed",
        operands=[("given", x)],
        fix="one call for each, of a persistent tape",
    )


def not_a_tensor(what: str, path: str, x: Any) -> ArgumentError:
    return ArgumentError(
        what,
        f"{path} is not a tensor but {describe(x) if isinstance(x, RAW) else type(x).__name__}",
        fix="x = wg.tensor(x) before the tape and tape.watch(x) inside it; or x = wg.Variable(x)",
    )
