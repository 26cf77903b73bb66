"""Short rows side by side: lanes run over the rows, and the points of a row are statements.

A row of ten numbers fills a vector badly, and its sum takes as long as a far longer one's. Where
there are many such rows, a kernel that means something once for a row is written over again: each
statement becomes one for each point of the row, a reduction becomes a tree of operations, and the
axis of the rows becomes the row.

    space [2048, 3]                   space [2048, 1]
    %0 = load x[3, 1]                 %0 = load x[3, 0]   %1 = load x[3, 0] + 1   %2 = .. + 2
    %1 = row_add %0                   %3 = add %0 %1      %4 = add %3 %2
    %2 = div %0 %1                    %5 = div %0 %4      %6 = div %1 %4          %7 = div %2 %4
"""

from __future__ import annotations

from dataclasses import replace

from ....types import DType
from ...collapse import by_rows, flat, operands
from ...kernel import ROW, Fold, Kernel, Operand, Statement, Store
from . import scalars

__all__ = ["turn"]

LONGEST = 16  # a row that is longer fills a vector
MANY = 64  # rows, at least
BUDGET = 400  # price of the whole, in additions: it is all written out
BINARY = {"row_add": "add", "row_mul": "mul", "row_max": "maximum", "row_min": "minimum"}


def worthwhile(kernel: Kernel) -> bool:
    """Whether the rows are short and many and the body is small."""
    row, rows = kernel.space[-1], kernel.space[-2]
    if flat(kernel) or not 2 <= row <= LONGEST or rows < MANY or not by_rows(kernel):
        return False
    wide = [s for s, one in zip(kernel.body, kernel.by_row()) if not one or s.op in ROW]
    if row * sum(scalars.price(s.op) for s in wide) > BUDGET:
        return False
    for s in kernel.body:
        if s.op in ROW and s.dtype.kind == "b" != kernel.body[s.args[0]].dtype.kind:
            return False
    held = {o for o in operands(kernel) if o.index}
    return all(o.strides[-1] == 0 for o in held) and not any(o.to in held for o in kernel.outputs)


def turn(kernel: Kernel) -> Kernel | None:
    """The kernel with rows as lanes, or None where that is no gain.

    Its space lacks the last axis, with a last axis of length 1 if only one were left. An operand's
    index may differ from lane to lane then.
    """
    return Turning(kernel).result() if worthwhile(kernel) else None


class Turning:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.row = kernel, kernel.space[-1]
        self.body: list[Statement] = []
        self.where: list[list[int]] = []  # statement -> its statements, one or one for each point

    def put(self, s: Statement) -> int:
        self.body.append(s)
        return len(self.body) - 1

    def moved(self, o: Operand, j: int) -> Operand:
        """The operand at the point j of the row."""
        rest = o.strides[:-1] if len(o.strides) > 2 else (*o.strides[:-1], 0)
        index = tuple((self.where[s][0], n) for s, n in o.index)
        return replace(o, offset=o.offset + j * o.strides[-1], strides=rest, index=index)

    def result(self) -> Kernel:
        kernel = self.kernel
        for s, one in zip(kernel.body, kernel.by_row()):
            if s.op in ROW:
                self.where.append([self.reduce(s)])
                continue
            made = [self.at(s, j) for j in range(1 if one else self.row)]
            self.where.append([self.put(m) for m in made])
        outputs: list[Store | Fold] = []
        for out in kernel.outputs:
            values = self.where[out.value]
            if out.to.strides[-1]:
                for j in range(self.row):
                    v = values[j if len(values) > 1 else 0]
                    outputs.append(replace(out, value=v, to=self.moved(out.to, j)))
            else:
                v = values[0]
                if isinstance(out, Fold):
                    if not out.rows:
                        v = self.tree(f"row_{out.combine}", values, out.to.dtype)
                    out = replace(out, rows=False)
                outputs.append(replace(out, value=v, to=self.moved(out.to, 0)))
        space = kernel.space[:-1] if len(kernel.space) > 2 else (kernel.space[0], 1)
        return Kernel(space, tuple(self.body), tuple(outputs))

    def at(self, s: Statement, j: int) -> Statement:
        """A statement at the point j of the row."""
        if s.op == "place" and s.number == len(self.kernel.space) - 1:
            return Statement("const", (), s.dtype, None, j)
        args = tuple(self.where[a][j if len(self.where[a]) > 1 else 0] for a in s.args)
        return replace(s, args=args, operand=s.operand and self.moved(s.operand, j))

    def reduce(self, s: Statement) -> int:
        values = self.where[s.args[0]]
        if self.body[values[0]].dtype != s.dtype:
            values = [self.put(Statement("cast", (v,), s.dtype)) for v in values]
        return self.tree(s.op, values, s.dtype)

    def tree(self, op: str, values: list[int], dtype: DType) -> int:
        if len(values) == 1:
            values = values * self.row
        while len(values) > 1:
            pairs = [
                self.put(Statement(BINARY[op], pair, dtype))
                for pair in zip(values[::2], values[1::2])
            ]
            values = pairs + values[len(pairs) * 2 :]
        return values[0]
