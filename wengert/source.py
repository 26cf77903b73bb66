"""The user's source: which frame is theirs, which line, and how they wrote an operand."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Mapping
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np

__all__ = [
    "GENERATED",
    "LIBRARY",
    "arguments",
    "asker",
    "number_asker",
    "place",
    "short",
    "source_of",
    "user_frame",
    "variable",
    "written",
]

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
            assert line is not None
            assert end is not None
            lines = [linecache.getline(code.co_filename, n).encode() for n in range(line, end + 1)]
            lines[-1] = lines[-1][:stop]
            lines[0] = lines[0][start:]
            return b" ".join(text.strip() for text in lines).decode(errors="replace").strip()
    return ""


def assignment(frame: FrameType, text: str) -> list[str]:
    """The array and the value of `x[i] = v`, whose code is placed at `x[i]`."""
    try:
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        (statement,) = ast.parse(line.strip()).body
    except (SyntaxError, ValueError):
        return []
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        target = statement.targets[0]
        if ast.unparse(target) == text or ast.unparse(target) == ast.unparse(ast.parse(text)):
            return [ast.unparse(target.value), ast.unparse(statement.value)]
    return []


METHODS = frozenset(["backward", "detach", "numpy", "requires_grad_"])  # those of tensors alone


def arguments(text: str, scope: Mapping[str, Any] | None = None) -> list[str]:
    """How the operands of an expression are written: `a @ b` has a and b, `np.log(p)` has p.

    A call of an array's method has the array first: `x.dot(w)` has x and w. Nothing is said of
    calls whose operands are not their arguments, such as that of a layer.

    >>> import numpy as np
    >>> arguments("np.matmul(x, w1.T)", {"np": np}), arguments("h @ w"), arguments("-(x + 1)")
    (['x', 'w1.T'], ['h', 'w'], ['x + 1'])
    """
    try:
        statement = ast.parse(text.strip()).body[0]
    except (SyntaxError, ValueError, IndexError):
        return []
    if isinstance(statement, ast.AugAssign):
        return [ast.unparse(n) for n in (statement.target, statement.value)]
    if not isinstance(statement, ast.Expr):
        return []
    e = statement.value
    nodes: list[ast.expr] = []
    if isinstance(e, ast.BinOp):
        nodes = [e.left, e.right]
    elif isinstance(e, ast.UnaryOp):
        nodes = [e.operand]
    elif isinstance(e, ast.Compare):
        nodes = [e.left, *e.comparators]
    elif isinstance(e, ast.Subscript | ast.Attribute):
        nodes = [e.value]
    elif isinstance(e, ast.Call):
        nodes = [*e.args, *[k.value for k in e.keywords]]
        if nodes and isinstance(nodes[0], ast.List | ast.Tuple):
            nodes = [*nodes[0].elts, *nodes[1:]]  # np.stack([a, b])
        if any(isinstance(n, ast.Starred) for n in nodes):
            return []
        if isinstance(e.func, ast.Attribute):
            head = ast.unparse(e.func.value)
            if not isinstance(look_up(head, scope or {}), ModuleType):
                if not hasattr(np.ndarray, e.func.attr) and e.func.attr not in METHODS:
                    return []
                nodes.insert(0, e.func.value)
    return [ast.unparse(n) for n in nodes]


def look_up(text: str, scope: Mapping[str, Any]) -> Any:
    """The object that a plain name, or an attribute of one, stands for; None for anything else."""
    first, *rest = text.split(".")
    value = scope.get(first)
    for part in rest:
        value = getattr(value, "__dict__", {}).get(part)
    return value


def written(frame: FrameType, operands: list[Any], places: list[int] | None) -> list[str]:
    """How the user wrote each operand in the expression that `frame` evaluates; "" when unsure.

    If the operands are arguments, they are told by their `places`, as long as every variable there
    has the shape of its operand. Failing that, by identity with a variable.
    """
    scope = {**frame.f_globals, **frame.f_locals}
    text = source_of(frame.f_code, frame.f_lasti)
    texts = assignment(frame, text) or arguments(text, scope)
    values = [look_up(t, scope) for t in texts]
    if places is not None and len(texts) > max(places, default=0):
        there = [(values[i], texts[i]) for i in places]
        if all(_fits(v, t, x) for (v, t), x in zip(there, operands)):
            return [t for _, t in there]
    found = []
    for x in operands:
        held = [t for t, v in zip(texts, values) if v is not None and hasattr(x, "shape")
                and (v is x or getattr(v, "data", None) is x)]  # fmt: skip
        found.append(held[0] if held else "")
    return found


def variable(frame: FrameType, x: Any) -> str:
    """The name under which a frame has an object; empty if it has none of its own."""
    scopes = (frame.f_locals, frame.f_globals)
    return next((k for scope in scopes for k, v in scope.items() if v is x), "")


def bracketed(text: str) -> str:
    """An expression that may be indexed, divided, or asked for an attribute."""
    plain = ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant
    try:
        return text if isinstance(ast.parse(text, mode="eval").body, plain) else f"({text})"
    except SyntaxError:
        return text


def _fits(value: Any, text: str, x: Any) -> bool:
    """Whether an operand may be what stands at its place."""
    shape = getattr(x, "shape", None)
    if value is not None:
        return tuple(np.shape(value) if is_plain(value) else getattr(value, "shape", (-1,))) == (
            tuple(shape or ())
        )
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return not text.isidentifier()
    return not shape


def is_plain(x: Any) -> bool:
    return isinstance(x, int | float | complex | np.ndarray | np.generic)


def asker() -> tuple[str, str, str]:
    """(what in the user's own code asked for an array, what to write instead, where it stands)."""
    inner = frame = user_frame(sys._getframe(2))
    while f"{os.sep}site-packages{os.sep}" in frame.f_code.co_filename and frame.f_back:
        inner, frame = frame, frame.f_back
    at = place(frame.f_code, frame.f_lasti)
    fix = (
        "the same function from numpy on the tensor itself, or "
        "{x}.detach().numpy() if no gradient is wanted through here"
    )
    text = source_of(frame.f_code, frame.f_lasti)
    fix = fix.replace("{x}", recorded_text(frame, text))
    if inner is not frame:
        return f"{inner.f_globals.get('__name__', '')}.{inner.f_code.co_name}(tensor)", fix, at
    name, call, inside = text.partition("(")
    if name.endswith("]") and not call:
        return f"{name} = tensor", "a buffer from wg.zeros(n) in place of np.zeros(n)", at
    if inside.startswith("["):
        return f"{name}([tensor, ...])", f"np.stack({inside[:-1]}) keeps the gradients", at
    return f"{name or 'np.asarray'}(tensor)", fix, at


def recorded_text(frame: Any, text: str) -> str:
    """How the user wrote the tensor among the operands of an expression; `x` when unsure."""
    scope = {**frame.f_globals, **frame.f_locals}
    texts = arguments(text, scope)
    found = [t for t in texts if hasattr(look_up(t, scope), "recorded")]
    if not found and len(texts) == 1 and not text.endswith("]"):
        found = [t for t in texts if not t[:1].isdigit()]
    return bracketed(found[0]) if found else "x"


def number_asker(to: str) -> tuple[str, str]:
    """(what in the user's own code asked for a Python number, what to write instead)."""
    frame = user_frame(sys._getframe(2))
    text = source_of(frame.f_code, frame.f_lasti)
    name, call, _ = text.partition("(")
    if name.endswith("]") and not call and to != "index":
        return f"{name} = tensor", "a buffer from wg.zeros(n) in place of np.zeros(n)"
    x = recorded_text(frame, text)
    fix = f"{x}.item() for the number alone, without a gradient"
    if name.startswith("math."):
        return f"{name}(tensor)", f"np.{name[5:]}({x}); or {fix}"
    return f"{to}(tensor)", fix
