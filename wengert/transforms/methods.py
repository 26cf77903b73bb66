"""What a tensor can do with its gradient: backward, grad, requires_grad_, detach."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import trace
from ..errors import (
    ArgumentError,
    DisconnectedError,
    DTypeError,
    GradientWarning,
    LeafWriteError,
    LevelError,
    NonScalarError,
    ShapeError,
    warned,
)
from ..structural import cast, densify
from ..trace import HERE, Leaf, Level, Node, Tensor, View, fresh, lens, line, make, method
from ..types import RAW, dtype_of, is_inexact, shape_of
from .between import pull_between
from .hooks import drop_retained, level_of, retain_grad, retaining
from .tape import ADDING, SWEPT, Tape, accumulate, disconnected, ones_like, paired, sweep


@method("backward")
def backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add d(self)/d(leaf) to the `grad` of every leaf that self was computed from.

    Args:
        gradient: the cotangent of self, of its shape; may be left out when self is one number.
        retain_graph: keep the residuals for another sweep over the same graph.
        create_graph: record the sweep, so that the gradients can be differentiated; implies
            retain_graph.
        inputs: a tensor, or several: add to the `grad` of these alone, leaves or results.

    Raises:
        NonScalarError: self is not one number, and no gradient is given.
        FreedError: an earlier sweep has used the graph.
        DisconnectedError: self is not recorded.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """
    t = self.look() if type(self) is View else self
    g = seed(t, gradient)
    keep = create_graph if retain_graph is None else retain_graph or create_graph
    level = t.level if create_graph else None
    if SWEPT:
        told(t)
    if inputs is not None:
        return into([(t.node, g)], inputs, keep, level)
    try:
        with np.errstate(all="ignore"):
            sweep(t.node, g, keep, level)
    except BaseException:
        drop_retained()
        raise
    t.level.breaks = None
    return None


def told(*tensors: Tensor) -> None:
    """Tell those who want to know that a sweep is about to start."""
    for listener in tuple(SWEPT):
        for t in tensors:
            listener(t)


def seed(t: Tensor, gradient: Any, what: str = "backward()") -> Any:
    """The cotangent that a sweep from t starts with."""
    level = t.level
    if not isinstance(level, Tape) or not level.depth & 1:
        raise LevelError(
            f"{what} of a value inside a {type(level).__name__.lower()}",
            "its graph lies outside the transform",
            operands=[("tensor", t)],
            fix="wg.grad(f) inside, or call backward() on the transform's result",
        )
    if t.node is None:
        raise disconnected(what, "the tensor", level)
    if gradient is not None:
        return cotangent_of(gradient, t, level)
    if t.size != 1:
        raise NonScalarError(
            what,
            "a gradient is the derivative of one number",
            operands=[("tensor", t)],
            fix="reduce it first, {tensor}.mean().backward() or {tensor}.sum().backward(), or pass "
            "the cotangent, {tensor}.backward(gradient=...)",
        )
    if t.dtype.kind == "c":
        raise NonScalarError(
            what, "a gradient is the derivative of one real number",
            operands=[("tensor", t)], fix="np.abs(t), np.real(t), or t.backward(gradient=...)",
        )  # fmt: skip
    return ones_like(t.data)


def cotangent_of(gradient: Any, t: Tensor, level: Level) -> Any:
    if shape_of(gradient) != t.shape:
        raise ShapeError(
            "backward(gradient=...)",
            "the cotangent has the shape of the tensor",
            operands=[("tensor", t), ("gradient", gradient)],
        )
    if np.result_type(dtype_of(gradient) or np.asarray(gradient)).kind == "c" != t.dtype.kind:
        raise DTypeError(
            "backward(gradient=...)", "the cotangent of a real tensor is real",
            operands=[("tensor", t), ("gradient", gradient)], fix="np.real({gradient})",
        )  # fmt: skip
    if isinstance(gradient, Tensor):
        g = gradient.look() if type(gradient) is View else gradient
        if g.dtype != t.dtype:
            g = cast(g, t.dtype)
        if g.level is level and g.node is None:
            return paired(g.data)
        return paired(g)
    return paired(np.array(gradient, dtype=t.dtype))


def places(what: str, inputs: Any, level: Level) -> tuple[list[Tensor], list[Any]]:
    """The tensors that gradients are wanted for, and their nodes."""
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not tensors:
        fix = "leave it out for every leaf" if "backward" in what else None
        raise ArgumentError(what, "inputs is empty", fix=fix)
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise ArgumentError(
                what, "inputs are tensors", operands=[(f"inputs[{i}]", t)],
                fix="wg.tensor(x, requires_grad=True) before the computation",
            )  # fmt: skip
        if fresh(t).node is None:
            raise DisconnectedError(
                what, "one of the inputs is not recorded", operands=[(f"inputs[{i}]", t)],
                fix="wg.tensor(x, requires_grad=True) before the computation",
            )  # fmt: skip
        if t.level is not level:
            raise LevelError(
                what, "the input and the result belong to different transforms",
                operands=[(f"inputs[{i}]", t)],
            )  # fmt: skip
    return tensors, [t.node for t in tensors]


def pulled(
    roots: list[tuple[Any, Any]], nodes: Sequence[Any], keep: bool, level: Level | None,
    whole: bool = False,
) -> dict[Any, Any]:  # fmt: skip
    """The cotangents of some nodes. What was freed below a wanted node does not matter."""
    wanted = set(nodes)

    def inside(node: Any) -> bool:
        return node not in wanted or node.res is not None

    try:
        return pull_between(roots, wanted, inside, keep, level, whole=whole)
    except BaseException:
        drop_retained()
        raise


def into(roots: list[tuple[Any, Any]], inputs: Any, keep: bool, level: Level | None) -> None:
    """backward(inputs=...): add to the `grad` of these alone."""
    at = level or (level_of(roots[0][0]))
    tensors, nodes = places("backward(inputs=...)", inputs, at)
    for t in tensors:
        retain_grad(t)
    found = pulled(roots, nodes, keep, level, whole=True)
    leaves = [n for n in dict.fromkeys(nodes) if type(n) is Leaf and n in found]
    with ADDING:
        for leaf in leaves:
            accumulate(leaf, densify(found[leaf]))
    for leaf in leaves:
        if leaf.hooks is not None:
            leaf.hooks.done(found[leaf])


@method("requires_grad_")
def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """Make self a leaf: operations on it are recorded from here on."""
    t = self
    if type(t) is View or isinstance(t.data, np.generic):
        window_ = t.look() if type(t) is View else t
        t.data = np.array(window_.data) if isinstance(window_.data, RAW) else window_.data
        t.node, t.level = window_.node, window_.level
        t.__class__ = Tensor
        t.store = 0
    if not requires_grad:
        if type(t.node) is Node:
            raise LeafWriteError(
                "requires_grad_(False)", "the tensor is a result, not a leaf", fix="x.detach()"
            )
        t.node = None
        return t
    if not is_inexact(t.dtype):
        raise DTypeError(
            "requires_grad",
            "a gradient needs floating-point values",
            operands=[("tensor", t)],
            fix="wg.tensor(data, dtype=float, requires_grad=True), or x.astype(float)",
        )
    if t.level.depth & 1:  # an eager tape already: level 0's, or the ambient one of a transform
        if t.node is None:
            t.node = Leaf(t.level)
            t.node.owner = weakref.ref(t)
        return t
    inner = make(t.data, t.node, t.level, type(t))
    level = t.level.ambient()
    t.data, t.level, t.node = inner, level, Leaf(level)
    t.node.owner = weakref.ref(t)
    t.__class__ = Tensor
    return t


def set_requires_grad(self: Tensor, value: bool) -> None:
    requires_grad_(self, value)


Tensor.requires_grad = Tensor.requires_grad.setter(set_requires_grad)  # type: ignore[method-assign,attr-defined]


def get_grad(self: Tensor) -> Tensor | None:
    """The gradient that backward() accumulated: of a leaf, or of a result after retain_grad()."""
    node = self.node
    if type(node) is not Leaf:
        hooks = retaining(self)
        if hooks is None and node is not None:
            result_grad(self)
        return None if hooks is None else hooks.grad
    if trace.MODES and (tracer := getattr(HERE, "trace", None)) is not None:
        tracer.touch(self)  # a program reads the gradient at every run
    if node.grad is None:
        return None
    g = node.grad
    if not isinstance(g, Tensor):  # one tensor for each leaf, so that a write to it stays
        with ADDING:
            g = node.grad
            if g is not None and not isinstance(g, Tensor):
                g = node.grad = make(g, None, self.level)
                g.store = 0
    return g


def result_grad(t: Tensor) -> None:
    """Warn that a result keeps no gradient."""
    warned(
        GradientWarning,
        "x.grad",
        f"x is the result of {t.node.op!r} at {line(t.node)}, and only a leaf keeps its gradient",
        operands=[("x", t)],
        fix="{x} = {x}.detach().requires_grad_() where it is made, if it is a parameter; "
        "{x}.retain_grad() before backward() keeps the gradient of a result",
    )


def set_grad(self: Tensor, value: Any) -> None:
    hooks = None if type(self.node) is Leaf else retaining(self)
    if type(self.node) is not Leaf and hooks is None:
        raise LeafWriteError("x.grad = ...", "only a leaf has a gradient", operands=[("x", self)])
    if value is not None and shape_of(value) != self.shape:
        raise ShapeError("x.grad = g", "shapes differ", operands=[("x", self), ("g", value)])
    if hooks is not None:
        hooks.grad = value
        return
    if isinstance(value, Tensor) and value.node is None and value.level is self.level:
        value = value.data
    if trace.MODES and (tracer := getattr(HERE, "trace", None)) is not None:
        if value is None and hasattr(tracer, "forget"):
            tracer.forget(self)
        else:
            tracer.touch(self)
    self.node.grad = value


Tensor.grad = property(get_grad, set_grad)


@method("detach")
def detach(self: Tensor) -> Tensor:
    """The value without its derivative, at every level and in both modes."""
    t = self.look() if type(self) is View else self
    if isinstance(t.level, Tape):
        if t.node is not None:
            t.level.broke("detach()", t.node)
        d = t.data
        return detach(d) if isinstance(d, Tensor) else make(trace.cut(d), None, trace.EAGER)
    return t.level.detach(t)


@method("detach_")
def detach_(self: Tensor) -> Tensor:
    """Cut self off from its derivative, in place: it becomes a value without a graph.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * 2.0
    >>> y.detach_()
    tensor([2., 4.])
    """
    if lens(self) is not None:
        raise LeafWriteError(
            "x.detach_()", "a view cannot leave the graph of what it is a view of",
            operands=[("x", self)], fix="x.detach()",
        )  # fmt: skip
    cut = detach(self)
    self.data, self.node, self.level, self.__class__ = cut.data, cut.node, cut.level, type(cut)
    return self


# ------------------------------------------------------------------ PyTorch's names of sizes


@method("numel")
def numel(self: Tensor) -> int:
    """How many numbers there are: `size`.

    >>> import wengert as wg
    >>> x = wg.zeros(2, 3)
    >>> x.numel(), x.nelement(), x.element_size()
    (6, 6, 8)
    """
    return self.size


@method("nelement")
def nelement(self: Tensor) -> int:
    """How many numbers there are: `size`."""
    return self.size


@method("element_size")
def element_size(self: Tensor) -> int:
    """How many bytes a number takes: `itemsize`."""
    return self.itemsize
