"""Neighbouring axes of a kernel that become one."""

import numpy as np

from wengert.compile.collapse import collapse
from wengert.compile.kernel import Fold, Kernel, Operand, Statement, Store

F4, I8 = np.dtype(np.float32), np.dtype(np.int64)


def test_collapse_keeps_what_is_meant_for_a_row():
    """A reduction, an index or a place forbids a longer row; a contiguous copy is one axis."""
    x, y = Operand(0, F4, 0, (12, 4, 1)), Operand(1, F4, 0, (12, 4, 1))
    load = Statement("load", (), F4, x)
    copy = Kernel((2, 3, 4), (load,), (Store(0, y),))
    small, unit = collapse(copy)
    assert (small.space, unit) == ((24, 1), 12)
    sums = Kernel((2, 3, 4), (load, Statement("row_add", (0,), F4)), (Store(1, y),))
    assert collapse(sums)[0].space == (6, 4)
    placed = Kernel(
        (2, 3, 4),
        (Statement("place", (), I8, None, 1),),
        (Store(0, Operand(1, I8, 0, (12, 4, 1))),),
    )
    assert collapse(placed)[0].space == (2, 3, 4)
    columns = Kernel((2, 3, 4), (load,), (Fold(0, "add", Operand(1, F4, 0, (0, 0, 1))),))
    assert collapse(columns)[0].space == (6, 4)
    middle = Kernel((2, 3, 4), (load,), (Fold(0, "add", Operand(1, F4, 0, (4, 0, 1))),))
    assert collapse(middle)[0].space == (2, 3, 4)
