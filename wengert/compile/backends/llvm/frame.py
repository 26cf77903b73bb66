"""The state of a kernel's function while it is written: pointers, indices and numbers of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ....native.ir import Function, Module, Value
from ...collapse import collapse
from ...kernel import Fold, Kernel, Operand
from . import scalars
from .division import Divisor
from .folds import Accumulator, Folding, Scalar
from .memory import element_kind, load
from .plan import Plan
from .scalars import KIND
from .turn import turn

__all__ = ["Frame", "Pointer", "Spot"]

Pointer = Callable[[Function, int], Value]


class Spot(NamedTuple):
    """A vector of the row: at i + off, with the lanes of `mask`; the n-th of its block."""

    i: Value | None
    off: int
    mask: Value | None
    n: int


class Frame:
    """What is known where the next instruction goes.

    A value that is one number for a row is held once for each row that is swept with others, or
    once for all of them if it does not depend on the row; so are the beginnings of operands.
    """

    def __init__(
        self, module: Module, name: str, kernel: Kernel, width: int, pointer: Pointer
    ) -> None:
        small, unit = collapse(kernel)
        turned = turn(small)
        self.turned = turned is not None
        self.plan = Plan(turned or small, width, turned is not None)
        self.kernel, self.width, self.pointer = self.plan.kernel, width, pointer
        arguments = [("args", "ptr"), ("lo", "i64"), ("hi", "i64"), ("piece", "i64")]
        self.f = Function(module, name, arguments)
        self.lo, self.hi = (self.f[n] * unit if unit != 1 else self.f[n] for n in ("lo", "hi"))
        self.buffers: dict[tuple[int, int], Value] = {}  # rows kept for a later pass
        self.sums: dict[tuple[int, int], Accumulator] = {}  # of a sweep
        self.value: dict[int, list[Value]] = {}
        self.index: dict[int, list[Value]] = {}
        self.base: dict[Operand | int, list[Value]] = {}
        self.place: dict[tuple[Operand | int, int], Value] = {}
        self.spread: dict[tuple[int, int], Value] = {}
        self.inverse: dict[tuple[int, int], Divisor] = {}
        self.rows = 1  # that are swept at the moment
        self.together = 1  # that are swept where there are enough
        folds = [n for n, out in enumerate(self.kernel.outputs) if isinstance(out, Fold)]
        self.folds = {n: Folding(self.plan, n) for n in folds}
        self.running: dict[int, Accumulator] = {}
        self.counted: dict[int, Scalar] = {}
        self.stayed: dict[tuple[int, int, int], Value] = {}
        self.held: dict[int, list[Accumulator]] = {}

    def operands(self) -> list[tuple[Operand | int, Operand, Value | int]]:
        """(key, operand, offset) of everything that is loaded, stored or folded."""
        out: dict[Operand | int, tuple[Operand, Value | int]] = {}
        for s, alive in zip(self.kernel.body, self.plan.live):
            if alive and s.operand is not None:
                out[s.operand] = s.operand, s.operand.offset
        for n, o in enumerate(self.kernel.outputs):
            if isinstance(o, Fold):
                start: Value | int = o.to.offset
                if o.partial:
                    start = self.f["piece"] * o.partial + o.to.offset
                out[n] = o.to, start
            else:
                out[o.to] = o.to, o.to.offset
        return [(key, operand, start) for key, (operand, start) in out.items()]

    def operand_of(self, key: Operand | int) -> Operand:
        return self.kernel.outputs[key].to if isinstance(key, int) else key

    def enter(self, k: int, i: Value, rows: int) -> tuple[dict, dict, dict]:  # type: ignore[type-arg]
        saved = self.base, self.value, self.index
        self.base, self.value, self.index = dict(self.base), dict(self.value), dict(self.index)
        self.index[k] = [i + r if r else i for r in range(rows)]
        for key, (p,) in list(self.base.items()):
            operand = self.operand_of(key)
            stride, inner = operand.strides[k], element_kind(operand.dtype)
            if stride:
                p = self.f.at(p, i * stride if stride != 1 else i, inner)
                self.base[key] = [self.f.at(p, r * stride, inner) for r in range(rows)]
        return saved

    def leave(self, saved: tuple[dict, dict, dict]) -> None:  # type: ignore[type-arg]
        self.base, self.value, self.index = saved

    def several(self, operand: Operand) -> bool:
        """Whether it is another place in each row that is swept together."""
        return bool(operand.strides[self.plan.axis]) or any(
            self.plan.axis in self.plan.depends[s] for s, _ in operand.index
        )

    def address(self, key: Operand | int, r: int) -> Value:
        """Of the beginning of a row."""
        held, operand = self.base[key], self.operand_of(key)
        p = held[r if len(held) > 1 else 0]
        if not operand.index:
            return p
        if (key, r) not in self.place:
            for s, stride in operand.index:
                if not self.plan.by_row[s]:
                    continue
                i = scalars.cast(self.f, self.at(s, r), "i64")
                p = self.f.at(p, i * stride, element_kind(operand.dtype))
            self.place[key, r] = p
        return self.place[key, r]

    def at(self, s: int, r: int) -> Value:
        held = self.value[s]
        return held[r if len(held) > 1 else 0]

    def scalar(self, s: int, r: int) -> Value:
        f, statement = self.f, self.kernel.body[s]
        kind = KIND[statement.dtype.name]
        if statement.op == "load":
            assert statement.operand is not None
            return load(f, self.address(statement.operand, r), statement.operand)
        if statement.op == "const":
            return scalars.const(f, statement.number, kind)
        if statement.op == "place":
            at = self.index[statement.number]
            return scalars.cast(f, at[r if len(at) > 1 else 0], kind)
        xs = [self.at(a, r) for a in statement.args]
        if statement.op == "cast":
            return scalars.cast(f, xs[0], kind)
        return scalars.cast(f, scalars.apply(f, statement.op, *xs), kind)
