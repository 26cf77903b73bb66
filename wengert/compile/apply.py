"""Compiled functions under derivatives and batches: their rules are compiled too.

A call that is recorded, or that stands inside `grad`, `jvp` or `vmap`, is one operation. Its value,
its tangent map, its pullback (in two halves, with what is kept between them chosen by a minimum
cut) and its batches are graphs of their own, each compiled when it is first needed; and so are
theirs, to every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import trace, tree
from ..errors import UnsupportedError
from ..graph import Graph, Var, evaluate
from ..trace import Tensor, make
from ..transforms.jvp import jvp
from ..transforms.law import Law, apply
from ..transforms.staging import stage
from ..transforms.vjp import vjp
from ..transforms.vmap import vmap
from ..types import RAW, Array, Aval, is_inexact
from .lawful import Derivation
from .partition import halves
from .passes.dce import dce

__all__ = ["Compiled", "recorded_call"]

Runner = Callable[[list[Any], list[Any]], list[Any]]
Builder = Callable[[Graph], Runner]


class Compiled(Law):
    """The law of a graph: what `wg.compile` differentiates.

    Args:
        graph: of the value.
        build: graph -> what runs it.
        value: a graph of the same value that is better run.
        budget: bytes that may be kept between the halves of the pullback.
        name: what messages call it.
    """

    materialize = True

    def __init__(
        self,
        graph: Graph,
        build: Builder,
        budget: int | None,
        name: str,
        value: Any = None,
        severed: str = "",
    ) -> None:
        self.graph, self.build, self.budget, self.name = graph, build, budget, name
        self.value = graph if value is None else value  # the same, for its value alone
        self.severed = severed
        self.structure = tree.flatten([0] * len(graph.outputs))[1]
        self.made: dict[Any, Any] = {}

    def infer(self, *avals: Aval) -> Any:
        out = [Aval.of(y.aval if isinstance(y, Var) else y) for y in self.graph.outputs]
        return out[0] if len(out) == 1 else tuple(out)

    def runner(self, key: Any, make_graph: Callable[[], Any]) -> Any:
        """What `make_graph` gives, once."""
        if key not in self.made:
            if self.severed and key != "value":
                raise UnsupportedError(
                    f"a derivative of {self.name}", self.severed,
                    fix="pass what it reads as an argument",
                )  # fmt: skip
            self.made[key] = make_graph()
        return self.made[key]

    def derived(self, key: Any, f: Callable[..., Any], avals: Sequence[Any], name: str) -> Compiled:
        """The law of another function of such arguments."""

        def made() -> Compiled:
            staged = Derivation()
            plain = graph_of(f, avals, staged)
            lawful = staged.laws.lawful()
            graph = plain if lawful is None else dce(lawful)
            return Compiled(graph, self.build, self.budget, name, plain, staged.laws.severed)

        return self.runner(key, made)

    # ---- the rules
    def call(self, xs: list[Array], want: bool) -> Any:
        if not all(isinstance(x, RAW) for x in xs):
            ys = evaluate(self.graph, *xs)
            return ys, self.structure, None
        if not want:
            run = self.runner("value", lambda: self.build(self.value))
            return run(xs, [None] * len(self.graph.outputs)), self.structure, None
        first, _, _, _ = self.both()
        n = len(self.graph.outputs)
        out = first(xs, [None] * len(first.graph.outputs))
        return out[:n], self.structure, out[n:]

    def both(self) -> Any:
        """(first half, second half, operands that the second needs, cotangents that it gives)."""

        def made() -> Any:
            live = [i for i, v in enumerate(self.graph.inputs) if is_inexact(v.dtype)]
            firm = [j for j, y in enumerate(self.graph.outputs)
                    if isinstance(y, Var) and is_inexact(y.dtype)]  # fmt: skip
            avals = [v.aval for v in self.graph.inputs]
            seeds = [self.graph.outputs[j].aval for j in firm]
            n, m = len(avals), len(self.graph.outputs)

            def joint(*args: Any) -> Any:
                xs, gs = list(args[:n]), args[n:]
                ys, pull = vjp(lambda *ts: self.at(xs, live, ts), *[xs[i] for i in live])
                full = fill(ys, firm, gs)
                return [*ys, *pull(full)]

            graph = graph_of(joint, [*avals, *seeds])
            first, second, used, kept = halves(graph, n, m, self.budget)
            return self.halved(first), self.halved(second), (used, live, firm), kept

        return self.runner("halves", made)

    def halved(self, graph: Graph) -> Any:
        run = self.build(graph)

        def call(inputs: list[Any], into: list[Any]) -> list[Any]:
            return run(inputs, into)

        call.graph = graph  # type: ignore[attr-defined]
        return call

    def at(self, xs: list[Any], live: list[int], ts: Sequence[Any]) -> list[Any]:
        """The value, with some of the operands replaced."""
        args = list(xs)
        for i, t in zip(live, ts):
            args[i] = t
        return evaluate(self.graph, *args)

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        plain = all(isinstance(x, RAW) for x in (*xs, *gs))
        if residuals is not None and plain:
            _, second, (used, known, firm), _ = self.both()
            inputs = [*residuals, *[xs[i] for i in used], *[gs[j] for j in firm]]
            got = dict(zip(known, second(inputs, [None] * len(second.graph.outputs))))
            return [got.get(i) for i in live]
        places = [i for i in live if is_inexact(self.graph.inputs[i].dtype)]
        firm = [j for j, y in enumerate(self.graph.outputs)
                if isinstance(y, Var) and is_inexact(y.dtype)]  # fmt: skip
        n = len(self.graph.inputs)

        def pulled(*args: Any) -> Any:
            mine, seeds = list(args[:n]), args[n:]
            ys, pull = vjp(lambda *ts: self.at(mine, places, ts), *[mine[i] for i in places])
            return list(pull(fill(ys, firm, seeds)))

        avals = [v.aval for v in self.graph.inputs] + [self.graph.outputs[j].aval for j in firm]
        law = self.derived(("pull", tuple(places)), pulled, avals, f"the pullback of {self.name}")
        out = dict(zip(places, apply(law, [*xs, *[gs[j] for j in firm]])))
        return [out.get(i) for i in live]

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        places = [i for i, d in enumerate(dxs) if d is not None]
        n = len(self.graph.inputs)

        def pushed(*args: Any) -> Any:
            mine, tangents = list(args[:n]), args[n:]
            return jvp(
                lambda *ts: self.at(mine, places, ts), tuple(mine[i] for i in places),
                tuple(tangents),
            )[1]  # fmt: skip

        avals = [v.aval for v in self.graph.inputs]
        avals += [Aval(avals[i].shape, avals[i].dtype) for i in places]
        law = self.derived(
            ("push", tuple(places)), pushed, avals, f"the tangent map of {self.name}"
        )
        return list(apply(law, [*xs, *[dxs[i] for i in places]]))

    def lanes(self, n: int, dims: Sequence[int | None]) -> Law:
        avals = [
            Aval((n, *v.aval.shape), v.aval.dtype) if d is not None else v.aval
            for v, d in zip(self.graph.inputs, dims)
        ]
        axes = tuple([None if d is None else 0 for d in dims])

        def batched(*args: Any) -> Any:
            return vmap(lambda *ts: evaluate(self.graph, *ts), axes)(*args)

        return self.derived(("lanes", n, axes), batched, avals, f"a batch of {self.name}")


def graph_of(f: Callable[..., Any], avals: Sequence[Aval], tracer: Any = None) -> Graph:
    """The graph of f at arguments of these types; no memory is needed for them."""
    like = [
        a.example() if a.weak else np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in avals
    ]
    return dce(stage(f, *like, tracer=tracer).graph)


def fill(ys: Sequence[Any], firm: list[int], gs: Sequence[Any]) -> list[Any]:
    """Cotangents of all results: zeros for those that have no derivative."""
    full: list[Any] = [np.zeros(y.shape, y.dtype if is_inexact(y.dtype) else float) for y in ys]
    for j, g in zip(firm, gs):
        full[j] = g
    return full


def recorded_call(law: Compiled, program: Any, inputs: list[Any]) -> list[Any]:
    """The outputs of a call that is differentiated or batched; effects as plain arrays."""
    ys = list(apply(law, inputs))
    out = []
    for sink, y in zip(program.sinks, ys):
        if sink.kind == "result":
            if sink.tensor and not isinstance(y, Tensor):
                y = make(np.asarray(y), None, trace.EAGER)
            elif sink.quiet and isinstance(y, Tensor):
                y = y.detach()
                y = y if sink.tensor or y.level is not trace.EAGER else y.data
        else:
            while isinstance(y, Tensor):
                y = y.level.primal(y)
        out.append(y)
    return out
