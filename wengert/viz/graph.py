"""The computational graph of a loss: values flow forward, gradients back along the same edges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from wengert.errors import ArgumentError, DisconnectedError
from wengert.trace import Leaf, Tensor
from wengert.types import Aval

from .layout import Placed, place, spread

__all__ = ["graph"]

MOST = 400
INK, FAINT, RED = "#1f2933", "#616e7c", "#d64545"
FONT = "font-family=\"Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif\""
# What a box looks like: fill, outline, radius of the corners.
LOOKS = {
    "op": ("#ffffff", "#52606d", 8),
    "parameter": ("#e6f6ec", "#3f9663", 8),
    "data": ("#eef2f7", "#9aa5b1", 8),
    "loss": ("#fff4e0", "#cb8a14", 8),
}
LEGEND = {"parameter": "parameter", "data": "data, no gradient", "op": "operation", "loss": "loss"}


@dataclass(frozen=True)
class _Box:
    kind: str
    title: str
    note: str

    @property
    def size(self) -> tuple[float, float]:
        width = max(_wide(self.title, 14), _wide(self.note, 12)) + 28
        return max(width, 76.0), 46.0 if self.note else 34.0


def graph(
    loss: Tensor,
    *,
    shapes: Mapping[Any, tuple[int, ...]] | None = None,
    data: Mapping[Tensor, str] | None = None,
    also: Mapping[str, tuple[tuple[int, ...], Tensor]] | None = None,
    title: str = "",
) -> str:
    """Draw the recorded computation of a loss as SVG, before its backward pass frees it.

    Values flow forward along the solid arrows, gradients back along the dashed red ones.

    Args:
        loss: the value to draw the history of.
        shapes: the shapes of parameters and intermediate values, by tape node. Those of the values
            that follow from them are worked out.
        data: recorded inputs that are data rather than parameters, with their names: they get no
            gradient, so no red arrow.
        also: inputs that cannot be recorded, such as labels: for each name its shape, and the value
            that it meets in the next operation.
        title: a heading.

    Returns:
        The text of an SVG file.

    Raises:
        DisconnectedError: nothing is recorded in `loss`.
        ArgumentError: the graph has more than 400 nodes.

    Example:
        >>> import numpy as np, wengert as wg
        >>> w = wg.tensor([1.0, 2.0], requires_grad=True)
        >>> w.name = "w"
        >>> svg = graph(np.tanh(w).sum())
        >>> svg.startswith("<svg"), svg.count('class="forward"'), svg.count('class="backward"')
        (True, 2, 2)
    """
    if loss.node is None:
        raise DisconnectedError(
            "viz.graph(loss)",
            "nothing is recorded in this value",
            operands=[("loss", loss)],
            fix="compute it from tensors with requires_grad=True, outside of no_grad",
        )
    given = {t.node: name for t, name in (data or {}).items()}
    known: dict[Any, tuple[int, ...] | None] = {t.node: t.shape for t in (data or {})}
    known |= dict(shapes or {}) | {loss.node: loss.shape}
    nodes = _nodes(loss.node)
    met = {}
    for name, (shape, value) in (also or {}).items():
        met[next(n for n in nodes if value.node in n.parents)] = name, shape
    for node in nodes:
        if node not in known and not isinstance(node, Leaf):
            known[node] = _inferred(node, known, met[node][1] if node in met else None)
    boxes: dict[Any, _Box] = {}
    edges: dict[tuple[Any, Any], bool] = {}
    for node in nodes:
        boxes[node] = _box(node, loss.node, given, known)
        edges |= {(parent, node): parent not in given for parent in node.parents}
    for node, (name, shape) in met.items():
        boxes[name] = _Box("data", name, _shape(shape))
        edges[name, node] = False
    # The stream of values runs level; parameters and labels stand above and below it.
    level = {v: 1e3 for v, box in boxes.items() if box.kind in ("op", "loss")}
    level |= dict.fromkeys(given, 1e2)
    side = dict.fromkeys(level, 0)
    for v in boxes:
        beside = [a for a, b in edges if b == v and a not in level]
        side |= {a: -1 if i < len(beside) // 2 else 1 for i, a in enumerate(beside)}
    order = sorted(boxes, key=side.__getitem__)
    placed = place({v: boxes[v].size for v in order}, list(edges), level, gap=(58.0, 22.0))
    return _svg(boxes, edges, placed, title)


def _nodes(end: Any) -> list[Any]:
    """Every node the loss depends on, from the inputs on, without recursion."""
    seen = {end}
    found, stack = [end], [end]
    while stack:
        for parent in stack.pop().parents:
            if parent not in seen:
                seen.add(parent)
                found.append(parent)
                stack.append(parent)
        if len(found) > MOST:
            raise ArgumentError(
                "viz.graph(loss)", f"the graph has more than {MOST} nodes: too many to read"
            )
    # A tape counts down: the older a node, the higher its number.
    return sorted(found, key=lambda node: -node.seq)


def _op(node: Any) -> Any:
    """The operation of a node, or its class if the tape does not keep its parameters."""
    names = node.rule.names
    return node.res[names.index("op")] if "op" in names else node.rule.op


def _arguments(node: Any) -> list[tuple[Any, Any]]:
    """(parent node, None) or (None, what the tape keeps of it) for every argument."""
    rule, parents = node.rule, iter(node.parents)
    kept = dict(zip(rule.names, node.res))
    return [
        (next(parents), None) if i in rule.live else (None, kept.get(name))
        for i, name in enumerate(_op(node).args)
    ]


def _inferred(node: Any, known: Mapping[Any, Any], unseen: Any) -> tuple[int, ...] | None:
    """The shape of a value from those of the arguments, if all are known."""
    op, avals = _op(node), []
    if op.variadic or isinstance(op, type):
        return None
    for parent, kept in _arguments(node):
        if parent is None and kept is not None:
            avals.append(Aval.of(kept))
        else:
            shape = unseen if parent is None else known.get(parent)
            if shape is None:
                return None
            avals.append(Aval(shape, np.dtype(np.float64)))
    shape = op.infer(*avals).shape
    return tuple(shape)


def _box(node: Any, end: Any, given: Mapping[Any, str], shapes: Mapping[Any, Any]) -> _Box:
    shape = shapes.get(node)
    note = "" if shape is None else _shape(shape)
    if node in given:
        return _Box("data", given[node], note)
    if isinstance(node, Leaf):
        return _Box("parameter", node.name or "leaf", note)
    if node is end:
        return _Box("loss", _title(node), f"loss, {note}")
    return _Box("op", _title(node), note)


def _title(node: Any) -> str:
    op = _op(node)
    title = "".join(
        "_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(op.title())
    )
    sign = {"mul": "×", "div": "÷"}.get(title)
    if sign and len(node.parents) == 1:
        (factor,) = [kept for parent, kept in _arguments(node) if parent is None]
        if np.size(factor) == 1 and factor is not None and _arguments(node)[0][0] is not None:
            return f"{sign} {np.asarray(factor).item():.4g}"
    return title


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) if shape else "scalar"


def _wide(text: str, size: float) -> float:
    """About how wide text is; sans-serif letters average a little over half their size."""
    narrow = sum(c in "iljtf.,:|'! " for c in text)
    return size * (0.6 * (len(text) - narrow) + 0.36 * narrow)


# ---- drawing


def _svg(
    boxes: Mapping[Any, _Box], edges: Mapping[tuple[Any, Any], bool], placed: Placed, title: str
) -> str:
    left, top = 24.0, 62.0 if title else 24.0
    width = max(placed.width + 2 * left, 640.0)
    left = (width - placed.width) / 2
    height = placed.height + top + 68.0
    kinds = {box.kind for box in boxes.values()}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" {FONT}>',
        f"<title>{escape(title or 'computational graph')}</title>",
        "<desc>Boxes are operations, parameters and data. Solid arrows carry values forward; "
        "dashed red arrows carry gradients back.</desc>",
        "<defs>",
        _marker("to", INK),
        _marker("back", RED),
        "</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="12" fill="#ffffff"/>',
    ]
    if title:
        parts.append(
            f'<text x="{width / 2:.0f}" y="36" font-size="17" font-weight="600" fill="{INK}" '
            f'text-anchor="middle">{escape(title)}</text>'
        )
    parts.append(f'<g transform="translate({left:.1f} {top:.1f})">')
    ports = _ports(boxes, edges, placed)
    for edge, differentiable in edges.items():
        parts += _edge(edge, differentiable, boxes, placed, ports)
    for v, box in boxes.items():
        parts += _draw(box, *placed.centres[v])
    parts += ["</g>", *_legend(kinds, width, height), "</svg>"]
    return "\n".join(parts) + "\n"


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" '
        f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0 0.8 L10 5 L0 9.2 z" fill="{colour}"/></marker>'
    )


def _draw(box: _Box, x: float, y: float) -> list[str]:
    fill, line, radius = LOOKS[box.kind]
    width, height = box.size
    rows = [
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="{radius}" fill="{fill}" stroke="{line}" stroke-width="1.4"/>',
        f'<text x="{x:.1f}" y="{y + (-3 if box.note else 5):.1f}" font-size="14" '
        f'font-weight="600" fill="{INK}" text-anchor="middle">{escape(box.title)}</text>',
    ]
    if box.note:
        rows.append(
            f'<text x="{x:.1f}" y="{y + 15:.1f}" font-size="12" fill="{FAINT}" '
            f'text-anchor="middle">{escape(box.note)}</text>'
        )
    return rows


def _ports(
    boxes: Mapping[Any, _Box], edges: Mapping[tuple[Any, Any], bool], placed: Placed
) -> dict[tuple[Any, Any], tuple[float, float]]:
    """At what height each edge leaves its first box and enters its last.

    As level as it can be with the next point of its route, but apart from its neighbours.
    """
    ports: dict[tuple[Any, Any], list[float]] = {edge: [0.0, 0.0] for edge in edges}
    for side, turn in ((0, 1), (1, -2)):
        for v, box in boxes.items():
            own = [e for e in edges if e[side] == v]
            own.sort(key=lambda e: placed.routes[e][turn][1])
            centre, half = placed.centres[v][1], box.size[1] / 2 - 8
            wishes = [
                min(max(placed.routes[e][turn][1], centre - half), centre + half) for e in own
            ]
            weights = [100.0 if _streams(boxes, e) else 1.0 for e in own]
            apart = min(14.0, 2 * half / max(len(own) - 1, 1))
            heights = spread(wishes, weights, [apart] * (len(own) - 1))
            shift = min(0.0, centre + half - max(heights, default=centre))
            for edge, y in zip(own, heights):
                ports[edge][side] = y + shift
    return {edge: (a, b) for edge, (a, b) in ports.items()}


def _streams(boxes: Mapping[Any, _Box], edge: tuple[Any, Any]) -> bool:
    return all(boxes[v].kind in ("op", "loss", "data") for v in edge)


def _edge(
    edge: tuple[Any, Any],
    differentiable: bool,
    boxes: Mapping[Any, _Box],
    placed: Placed,
    ports: Mapping[tuple[Any, Any], tuple[float, float]],
) -> list[str]:
    a, b = edge
    apart = 3.2 if differentiable else 0.0
    inner = placed.routes[edge][1:-1]
    points = [
        (placed.centres[a][0] + boxes[a].size[0] / 2, ports[edge][0]),
        *inner,
        (placed.centres[b][0] - boxes[b].size[0] / 2, ports[edge][1]),
    ]
    forward = _curve([(x, y - apart) for x, y in points])
    rows = [
        f'<path class="forward" d="{forward}" fill="none" stroke="{INK}" stroke-width="1.5" '
        f'marker-end="url(#to)"/>'
    ]
    if differentiable:
        back = _curve([(x, y + apart) for x, y in points[::-1]])
        rows.append(
            f'<path class="backward" d="{back}" fill="none" stroke="{RED}" stroke-width="1.5" '
            f'stroke-dasharray="5 3.5" marker-end="url(#back)"/>'
        )
    return rows


def _curve(points: list[tuple[float, float]]) -> str:
    """A smooth line through the points that leaves and enters horizontally."""
    (x, y), *rest = points
    path = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in rest:
        if math.isclose(y, to_y, abs_tol=0.05):
            path += f" L{to_x:.1f} {to_y:.1f}"
        else:
            middle = (x + to_x) / 2
            path += f" C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return path


def _legend(kinds: set[str], width: float, height: float) -> list[str]:
    shown = [(kind, text) for kind, text in LEGEND.items() if kind in kinds]
    arrows = [("values forward", INK, "", "to"), ("gradients back", RED, "5 3.5", "back")]
    spans = [38 + _wide(text, 12) + 22 for text, *_ in arrows]
    spans += [24 + _wide(text, 12) + 22 for _, text in shown]
    x, y = (width - sum(spans) + 22) / 2, height - 26
    rows = []
    for (text, colour, dash, marker), span in zip(arrows, spans):
        a, b = (x, x + 30) if marker == "to" else (x + 30, x)
        rows.append(
            f'<path d="M{a:.1f} {y:.1f} L{b:.1f} {y:.1f}" stroke="{colour}" stroke-width="1.5" '
            f'stroke-dasharray="{dash or "none"}" marker-end="url(#{marker})"/>'
        )
        rows.append(_label(x + 38, y, text))
        x += span
    for (kind, text), span in zip(shown, spans[2:]):
        fill, line, _ = LOOKS[kind]
        rows.append(
            f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="16" height="12" rx="3" fill="{fill}" '
            f'stroke="{line}" stroke-width="1.2"/>'
        )
        rows.append(_label(x + 24, y, text))
        x += span
    return rows


def _label(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 4:.1f}" font-size="12" fill="{FAINT}">{escape(text)}</text>'
