"""`backward` and `grad` of several results, with respect to leaves or results on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import trace
from ..errors import (
    ArgumentError,
    DisconnectedError,
    ShapeError,
    describe,
    user_frame,
    verbatim,
)
from ..primitive import Linear, Rule
from ..source import variable
from ..structural import densify
from ..trace import Node, Tensor, looked, make, push, seq
from ..transforms.hooks import drop_retained
from ..transforms.jvp import inward
from ..transforms.methods import into, places, pulled, seed, told
from ..transforms.severed import breaks_of, remedy
from ..transforms.severed import told as broke
from ..transforms.tape import SWEPT, paired, sweep
from ..transforms.vmap import Batched, VMap, unbatch
from ..types import shape_of

__all__ = ["backward", "grad"]

Tensors = Tensor | Sequence[Tensor]


def backward(
    tensors: Tensors,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensors | None = None,
) -> None:
    """Add the gradient of the sum of some results to the `grad` of leaves, in one sweep.

    gx += sum_k J_k(x)^T g_k

    Args:
        tensors: the results y_k.
        grad_tensors: the cotangents g_k; None for one that is a single number.
        retain_graph, create_graph, inputs: as for `Tensor.backward`.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> wg.autograd.backward([(x * x).sum(), x * 3.0], [None, [1.0, 10.0]])
    >>> x.grad
    tensor([ 5., 34.])
    """
    roots, level = starts("autograd.backward(tensors)", tensors, grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph or create_graph
    at = level if create_graph else None
    if SWEPT:
        told(*several(tensors))
    if inputs is not None:
        return into(roots, inputs, keep, at)
    try:
        with np.errstate(all="ignore"):
            if len(roots) == 1:
                sweep(*roots[0], keep, at)
            else:
                sweep(joined(roots), None, keep, at)
    except BaseException:
        drop_retained()
        raise
    return None


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of some results with respect to inputs; no `grad` is touched.

    gx_i = sum_k J_ki^T g_k

    Args:
        outputs: the results y_k.
        inputs: leaves, or results on the way.
        grad_outputs: the cotangents g_k; None for a result that is a single number.
        retain_graph: keep the residuals for another sweep; as create_graph when left out.
        create_graph: record the sweep, so that the gradients can be differentiated.
        allow_unused: give None for an input that the outputs do not depend on.
        is_grads_batched: the cotangents have an axis of lanes in front; so have the gradients.
        materialize_grads: give zeros for such an input.

    Raises:
        DisconnectedError: an output, or an input, is not recorded, or they are not connected.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * x
    >>> (gx, gy) = wg.autograd.grad((y * y).sum(), [x, y], create_graph=True)
    >>> gx, gy
    (tensor([ 4., 32.], grad_fn=add), tensor([2., 8.], grad_fn=add))
    """
    what = "autograd.grad(outputs, inputs)"
    if materialize_grads:
        if allow_unused is False:
            raise ArgumentError(
                what, "materialize_grads=True gives zeros where allow_unused=False refuses",
                fix="leave allow_unused out",
            )  # fmt: skip
        allow_unused = True
    results = several(outputs)
    if not is_grads_batched:
        roots, level = starts(what, results, grad_outputs)
        tensors, nodes = places(what, inputs, level)
        found = swept(roots, nodes, retain_graph, create_graph, level)
        got = [found.get(n) for n in nodes]
        if trace.MODES and not create_graph:
            got = [g if g is None else trace.cut(densify(g)) for g in got]
    else:
        gs = [looked(g) if isinstance(g, Tensor) else np.asarray(g) for g in several(grad_outputs)]
        leads = {shape_of(g)[:1] for g in gs}
        if len(gs) != len(results) or len(leads) != 1 or () in leads:
            raise ShapeError(
                what, "batched cotangents have one axis of lanes in front, of one length",
                operands=[(f"grad_outputs[{i}]", g) for i, g in enumerate(gs)],
            )  # fmt: skip
        with push(VMap, shape_of(gs[0])[0]) as lanes:
            batched = [make(inward(g), 0, lanes, Batched) for g in gs]
            roots, level = starts(what, results, batched)
            tensors, nodes = places(what, inputs, level)
            found = swept(roots, nodes, retain_graph, create_graph, level)
            got = [unbatch(densify(found[n]), lanes) if n in found else None for n in nodes]
    for i, (t, g) in enumerate(zip(tensors, got)):
        if g is None and not allow_unused:
            raise unused(what, i, t)
    lead = shape_of(gs[0])[:1] if is_grads_batched else ()
    return tuple([handed(t, g, lead if materialize_grads else None) for t, g in zip(tensors, got)])


def unused(what: str, i: int, t: Tensor) -> DisconnectedError:
    """Name the input that no output depends on, and where its path broke, as far as is known."""
    name = variable(user_frame(), t) or getattr(t.node, "name", None) or ""
    breaks = breaks_of(t.level, t.node)
    fix = "allow_unused=True gives None for it, materialize_grads=True zeros"
    if breaks and (why := remedy(breaks[-1][1].why)):
        fix = f"{why}; or {fix}"
    return DisconnectedError(
        what, f"the outputs do not depend on `{name or f'inputs[{i}]'}`",
        operands=[(f"inputs[{i}]", verbatim(f"{name} {describe(t)}".strip()))]
        + [("broke at", broke(*where, note.why)) for where, note in breaks],
        fix=fix,
    )  # fmt: skip


def several(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple | list) else [x]


def starts(what: str, tensors: Any, gradients: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """(node, cotangent) of every result, and their tape."""
    ts = several(tensors)
    if not ts:
        raise ArgumentError(what, "there is no result to differentiate")
    gs = [None] * len(ts) if gradients is None else several(gradients)
    if gradients is not None and len(ts) == 1 and len(gs) != 1:
        gs = [gradients]
    if len(gs) != len(ts):
        raise ArgumentError(
            what, f"{len(ts)} results and {len(gs)} cotangents", fix="one for each, or None"
        )
    roots = []
    for i, (t, g) in enumerate(zip(ts, gs)):
        if not isinstance(t, Tensor):
            raise ArgumentError(what, "results are tensors", operands=[(f"[{i}]", t)])
        t = looked(t)
        roots.append((t, seed(t, g, what)))
    level = roots[0][0].level
    if any(t.level is not level for t, _ in roots):
        raise ArgumentError(what, "the results belong to different transforms")
    return [(t.node, g) for t, g in roots], level


def swept(roots: Any, nodes: Any, retain: bool | None, create: bool, level: Any) -> dict[Any, Any]:
    keep = create if retain is None else retain or create
    return pulled(roots, nodes, keep, level if create else None)


def handed(t: Tensor, g: Any, lead: Any) -> Tensor | None:
    """A gradient as a tensor of its own; zeros with the lanes in front if it is to be filled."""
    if g is None:
        if lead is None:
            return None
        return make(np.zeros((*lead, *t.shape), t.dtype), None, trace.EAGER)
    g = paired(densify(g))
    if isinstance(g, Tensor):
        return g
    return make(g if hasattr(g, "graph") else np.array(g), None, trace.EAGER)


def joined(roots: list[tuple[Any, Any]]) -> Node:
    """A node above several results, so that one sweep serves them all."""
    nodes, gs = zip(*roots)
    names = tuple([f"g{i}" for i in range(len(gs))])
    rule = Rule(Linear, (), names, lambda g, *gs: gs)
    return Node(seq(), rule, nodes, gs, joined.__code__, 0)
