"""The tensors that a run of a function meets from outside, as they stood at its first touch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from ..trace import Leaf, Node, Tensor, generation, lens, make, ndarray, seq
from .inside import opened

__all__ = ["Again", "Blind", "Note", "Watcher"]

_MISSING = object()


class Note:
    """How a tensor stood when it was first touched."""

    __slots__ = ("cls", "data", "grad", "gradient", "hooks", "level", "node", "ref", "store")

    def __init__(self, t: Tensor, at: Any, hold: Callable[[Any], Any]) -> None:
        self.ref = at
        self.cls = type(t)
        self.data = hold(t.data)
        self.level = t.level
        self.node = hold(t.node) if isinstance(t.node, Tensor | ndarray) else t.node
        self.store = getattr(t, "store", _MISSING)
        self.grad = t.node.grad if type(t.node) is Leaf else None
        self.gradient = self.grad.data if isinstance(self.grad, Tensor) else None
        self.hooks = hung(t.node)

    def put(self, again: Again) -> Tensor:
        """The tensor as it stood."""
        t = self.ref()
        if t is None:
            t = make(None, None, self.level, self.cls)
        else:
            again.undo.append((t, self, Note(t, self.ref, lambda x: x)))
        self._into(t, again)
        return t

    def _into(self, t: Tensor, again: Any = None) -> None:
        data, node = [
            again.given(x) if x.__class__ is Note else opened(x) for x in (self.data, self.node)
        ]
        if t.data is not data:
            t.data = data
        if t.node is not node:
            t.node = node
        if t.level is not self.level:
            t.level = self.level
        if t.__class__ is not self.cls:
            t.__class__ = self.cls
        if self.store is not _MISSING:
            t.store = self.store
        elif hasattr(t, "store"):
            del t.store
        hang(self.node, self.hooks)
        if type(self.node) is Leaf:
            self.node.grad = self.grad
            if isinstance(self.grad, Tensor):
                self.grad.data = self.gradient

    def back(self, t: Tensor, then: Note) -> None:
        """Give t its present state again; windows on it look again if it was written."""
        written = generation(t)
        was = then.store if then.store.__class__ is int else 0
        self._into(t)
        if written != was:
            t.store = max(written, generation(t)) + 1


def hung(node: Any) -> Any:
    """The hooks at a node or a leaf from outside, to which a run may add others."""
    if node.__class__ is Leaf:
        hooks, rule = node.hooks, None
    elif node.__class__ is Node:
        hooks, rule = getattr(node.rule, "hooks", None), node.rule
    else:
        return None
    found = [(n, getattr(hooks, n, None)) for n in getattr(hooks, "__slots__", ())]
    tables = [(n, dict(v)) for n, v in found if v.__class__ is dict]
    return hooks, rule, tables


def hang(node: Any, hung: Any) -> None:
    if hung is None:
        return
    hooks, rule, tables = hung
    if rule is None:
        node.hooks = hooks
    elif node.rule is not rule:
        node.rule = rule
    for name, table in tables:
        if getattr(hooks, name) != table:
            setattr(hooks, name, dict(table))


class Again:
    """The tensors of one more run: each note is put back once, so that what was one tensor is."""

    def __init__(self) -> None:
        self.undo: list[tuple[Tensor, Note, Note]] = []
        self.made: dict[int, Tensor] = {}

    def given(self, note: Note) -> Tensor:
        t = self.made.get(id(note))
        if t is None:
            t = self.made[id(note)] = note.put(self)
        return t

    def end(self) -> None:
        """Every tensor that lives stands again as it stood before."""
        for t, note, was in reversed(self.undo):
            was.back(t, note)


class Watcher:
    """Sees every tensor that a run touches, and notes those that stood outside."""

    def __init__(self, frame: Any, old: Any) -> None:
        self.frame, self.old = frame, old
        self.notes: dict[int, Note] = {}
        self.born = seq()

    def touch(self, t: Tensor) -> None:
        if self.old is not None:
            self.old.touch(t)
        node = t.node
        key = id(t)
        taped = node.__class__ is Node or node.__class__ is Leaf
        if key in self.notes or (taped and node.seq < self.born):
            return
        window = lens(t)
        if window is not None:
            self.touch(window[0])
        notes = self.notes
        # a tensor that dies inside was made inside, or only lent
        at = ref(t, lambda _: notes.pop(key, None))
        notes[key] = Note(t, at, self.frame.hold if taped else self.frame.save)

    def noted(self, t: Tensor) -> Any:
        """The note of a tensor inside another, where it has one: it may be met alone as well."""
        if lens(t) is not None:
            return None
        self.touch(t)
        return self.notes.get(id(t))

    def wrote(self, t: Tensor) -> None:
        self.touch(t)
        self.frame.last = None
        if self.old is not None:
            self.old.wrote(t)

    def result(self) -> list[Note]:
        alive = [(n, t) for n in list(self.notes.values()) if (t := n.ref()) is not None]
        self.notes.clear()
        for n, t in alive:
            n.ref = ref(t)  # without the callback, which made a circle
        return [n for n, _ in alive]


class Blind:
    """The watcher of a second run: everything has been noted."""

    def touch(self, t: Tensor) -> None: ...

    def wrote(self, t: Tensor) -> None: ...
