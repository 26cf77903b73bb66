"""The user's source: which frame is theirs, which line, and how they wrote an operand."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from types import CodeType, FrameType
from typing import Any

__all__ = ["GENERATED", "LIBRARY", "arguments", "place", "short", "source_of", "user_frame"]

_HERE = os.path.dirname(os.path.abspath(__file__))
_NUMPY = f"{os.sep}site-packages{os.sep}numpy{os.sep}"
GENERATED = "<wengert>"  # the file name of code made from templates
LIBRARY = frozenset(
    [
        os.path.join(folder, f)
        for folder, _, files in os.walk(_HERE)
        for f in files
        if f.endswith(".py")
    ]
    + [GENERATED]
)  # the files whose frames are not the user's


def user_frame(frame: FrameType | None = None) -> FrameType:
    """The nearest frame that is neither wengert's own nor NumPy's."""
    start = nearest = frame or sys._getframe(1)
    while True:
        name = nearest.f_code.co_filename
        if name not in LIBRARY and _NUMPY not in name:
            return nearest
        if nearest.f_back is None:
            return start
        nearest = nearest.f_back


def short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return path
    return path if relative.startswith("..") else relative


def place(code: CodeType, lasti: int) -> str:
    """`file:line, in function` of one instruction; costs nothing until somebody asks."""
    line = None
    for i, (start, *_) in enumerate(code.co_positions()):
        if 2 * i > lasti:
            break
        line = start if start is not None else line
    return f"{short(code.co_filename)}:{line or code.co_firstlineno}, in {code.co_name}"


def source_of(code: CodeType, lasti: int) -> str:
    """The text of the expression that one instruction evaluates; empty when there is no source."""
    for i, (line, end, start, stop) in enumerate(code.co_positions()):
        if 2 * i == lasti and None not in (line, end, start, stop):
            assert line and end and start is not None
            lines = [linecache.getline(code.co_filename, n).encode() for n in range(line, end + 1)]
            lines[-1] = lines[-1][:stop]
            lines[0] = lines[0][start:]
            return b" ".join(text.strip() for text in lines).decode(errors="replace").strip()
    return ""


def arguments(text: str) -> list[str]:
    """How the operands of an expression are written: `a @ b` has a and b, `np.log(p)` has p.

    A call of a method has the object first: `x.dot(w)` has x and w.

    >>> arguments("np.matmul(x, w1.T)"), arguments("h @ w"), arguments("-(x + 1)")
    (['np', 'x', 'w1.T'], ['h', 'w'], ['x + 1'])
    """
    try:
        statement = ast.parse(text.strip()).body[0]
    except (SyntaxError, ValueError, IndexError):
        return []
    nodes: list[ast.expr] = []
    if isinstance(statement, ast.AugAssign):
        nodes = [statement.target, statement.value]
    elif isinstance(statement, ast.Expr):
        e = statement.value
        if isinstance(e, ast.BinOp):
            nodes = [e.left, e.right]
        elif isinstance(e, ast.UnaryOp):
            nodes = [e.operand]
        elif isinstance(e, ast.Compare):
            nodes = [e.left, *e.comparators]
        elif isinstance(e, ast.Subscript):
            nodes = [e.value, e.slice]
        elif isinstance(e, ast.Call):
            args = e.args
            if len(args) == 1 and isinstance(args[0], ast.List | ast.Tuple):
                args = args[0].elts  # np.stack([a, b])
            if any(isinstance(a, ast.Starred) for a in args):
                return []
            nodes = [*args, *[k.value for k in e.keywords if k.arg]]
            if isinstance(e.func, ast.Attribute):
                nodes.insert(0, e.func.value)
    return [ast.unparse(n) for n in nodes]


def resolve(text: str, frame: FrameType) -> Any:
    """The object that a plain name, or an attribute of one, stands for; None for anything else."""
    first, *rest = text.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None
    value = frame.f_locals.get(first, frame.f_globals.get(first))
    for part in rest:
        found = getattr(value, "__dict__", None) or {}
        if part not in found:
            return None
        value = found[part]
    return value


def written(frame: FrameType, operands: list[Any]) -> list[str]:
    """How the user wrote each operand in the expression that `frame` evaluates; "" when unsure.

    An operand that a variable holds is found by identity. The others are told by their place, if
    every variable among the places checked has the shape of its operand.
    """
    texts = arguments(source_of(frame.f_code, frame.f_lasti))
    if not texts:
        return [""] * len(operands)
    values = {t: resolve(t, frame) for t in texts}
    for lead in (0, 1):  # a method's object, or the module of a function, stands first
        places = texts[lead : lead + len(operands)]
        if len(places) == len(operands) and all(
            _fits(values[t], t, x) for t, x in zip(places, operands)
        ):
            return places
    return [next((t for t in texts if holds(values[t], x)), "") for x in operands]


def holds(value: Any, x: Any) -> bool:
    return value is not None and (
        value is x or (hasattr(x, "shape") and getattr(value, "data", None) is x)
    )


def _fits(value: Any, text: str, x: Any) -> bool:
    if value is None:
        if text.isidentifier():
            return False
        try:
            constant = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return True  # an expression: its place must do
        return not hasattr(x, "shape") or x.shape == () or isinstance(constant, list | tuple)
    if hasattr(value, "shape") != hasattr(x, "shape"):
        return not hasattr(x, "shape") or x.shape == ()
    return not hasattr(x, "shape") or tuple(value.shape) == tuple(x.shape)
