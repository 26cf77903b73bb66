"""The short way of a call: one generated function for the variant that ran last.

It looks at the arguments and the guards of one variant, hands the arrays themselves to machine code
(which finds their memory by itself) and puts the outputs where they go. Anything unusual (other
types or shapes, a mode, a changed guard, a tensor that somebody else holds) gives MISS, and the
call goes the long way through `jit`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import ref

import numpy as np

from .. import trace, tree
from ..errors import GENERATED
from ..graph import Var
from ..trace import SOLE, Leaf, Tensor, getrefcount, make, ndarray
from .guards import MISSING, unlike

__all__ = ["MISS", "Short", "short"]

MISS = object()
written = count(1 << 40).__next__  # generations of tensors, that no counting of writes reaches
Short = Callable[[tuple[Any, ...], dict[str, Any]], Any]


class Source:
    """A generated function under construction."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.late: list[str] = []  # draws: nothing may be missed after them
        self.scope: dict[str, Any] = {
            "MISS": MISS, "Tensor": Tensor, "EAGER": trace.EAGER, "Leaf": Leaf,
            "written": written, "getrefcount": getrefcount, "make": make,
            "ndarray": ndarray, "trace": trace, "ref": ref, "empty": np.empty,
            "asarray": np.asarray, "contiguous": np.ascontiguousarray, "new": object.__new__,
        }  # fmt: skip
        self.n = 0

    def name(self, x: Any) -> str:
        self.n += 1
        word = f"c{self.n}"
        self.scope[word] = x
        return word

    def add(self, text: str, deep: int = 1) -> None:
        self.lines.append("    " * deep + text)

    def miss(self, condition: str) -> None:
        self.add(f"if {condition}: return MISS")

    def function(self) -> Any:
        text = "\n".join(["def fast(args, kwargs):", *self.lines])
        exec(compile(text, GENERATED, "exec"), self.scope)
        return self.scope["fast"]


def identities(s: Source, leaves: list[Any]) -> None:
    """Arrays that were one are one again, and no others: a function may ask with `is`."""
    alike: dict[Any, dict[int, int]] = {}  # of one shape and dtype: identity -> the first of them
    for i, x in enumerate(leaves):
        if x.__class__ is ndarray:
            j = alike.setdefault((x.shape, x.dtype), {}).setdefault(id(x), i)
            if j != i:
                s.miss(f"a{i} is not a{j}")
    for firsts in alike.values():
        if len(firsts) > 1:
            s.miss(f"len({{{', '.join(f'id(a{i})' for i in firsts.values())}}}) != {len(firsts)}")


def short(variant: Any, leaves: list[Any], structure: tree.Tree, fixed: list[bool]) -> Any:
    """The short way for calls like this one; None where there is none."""
    program, native = variant.program, variant.executable
    entry = getattr(native, "entry", None)
    if program.recorded or not hasattr(native, "entry") or (entry is None and program.sinks):
        return None
    flat = flat_arguments(structure, len(leaves))
    if not flat:
        return None
    s = Source()
    s.miss(f"trace.MODES or kwargs or len(args) != {len(leaves)}")
    if leaves:
        s.add(f"{', '.join(f'a{i}' for i in range(len(leaves)))}, = args")
    for i, (x, still) in enumerate(zip(leaves, fixed)):
        if not argument(s, i, x, still):
            return None
    identities(s, leaves)
    guards(s, variant.watch)
    if not inputs(s, program, native, leaves) or not outputs(s, program, native):
        return None
    if s.late and native.checks:
        labels = ", ".join(f"x{i}" for i, *_ in native.checks)
        s.miss(f"{s.name(native.asked())}({labels})")
    for line in s.late:
        s.add(line)
    if native.scalar:
        if program.sinks[0].kind != "result" or program.after or program.structure.kind is not None:
            return None
        number = f"{s.name(entry)}({', '.join(operands(program, native))})"
        sink = program.sinks[0]
        if sink.tensor or sink.form == "array":
            number = f"asarray({number})"
            number = f"make({number}, None, EAGER)" if sink.tensor else number
        elif sink.form != "number":
            number = f"{s.name(np.float64)}({number})"
        s.add(f"return {number}")
        return s.function()
    finish(s, program, native, entry)
    return s.function()


def flat_arguments(structure: tree.Tree, n: int) -> bool:
    """Whether the arguments are positional and none of them is a container."""
    args, kwargs = structure.children
    return (
        not kwargs.children
        and len(args.children) == n
        and all(c.kind is None for c in args.children)
    )


def argument(s: Source, i: int, x: Any, still: bool) -> bool:
    """Conditions on one argument."""
    if still:
        if isinstance(x, int | str | bytes | type(None)):
            s.miss(f"a{i}.__class__ is not {s.name(x.__class__)} or a{i} != {s.name(x)}")
        else:
            s.miss(f"a{i} is not {s.name(x)}")
        return True
    kind = x.__class__
    if kind is ndarray:
        s.miss(
            f"a{i}.__class__ is not ndarray or a{i}.dtype is not {s.name(x.dtype)} "
            f"or a{i}.shape != {x.shape!r} or not a{i}.flags.c_contiguous"
        )
        return x.dtype.isnative
    if kind in (float, np.float64, np.float32):
        s.miss(f"a{i}.__class__ is not {s.name(kind)}")
        return True
    if kind is Tensor and x.node is None and x.data.__class__ is ndarray:
        s.miss(f"a{i}.__class__ is not Tensor or a{i}.node is not None")
        s.miss(f"a{i}.level is not EAGER or a{i}.data.__class__ is not ndarray")
        s.miss(
            f"a{i}.data.dtype is not {s.name(x.data.dtype)} or a{i}.data.shape != {x.shape!r} "
            f"or not a{i}.data.flags.c_contiguous"
        )
        return True
    return False


def guards(s: Source, watch: Any) -> None:
    """What the function read from outside is still the same."""
    for space, name, value, _ in watch.flat:
        default = f", {s.name(MISSING)}" if value is MISSING else ""
        s.miss(f"{s.name(space)}.get({name!r}{default}) is not {s.name(value)}")
    for leaf, had in watch.gradients:
        s.miss(f"{s.name(leaf)}.node.grad is {'None' if had else 'not None'}")
    for holds in watch.conditions:
        s.miss(f"not {s.name(holds)}()")
    for content, _ in watch.contents:
        s.miss(f"not {s.name(content)}()")
    for t, _, _, node in watch.tensors:
        s.miss(f"{s.name(t)}.node.__class__ is not {s.name(node)}")
    for cell, value, _ in watch.cells:
        word = f"{s.name(cell)}.cell_contents"
        plain = isinstance(value, int | str)
        s.miss(f"{word} is not {s.name(value)}{f' and {word} != {s.name(value)}' if plain else ''}")
    for x, attribute, value, _ in watch.slots:
        s.miss(f"{s.name(x)}.{attribute} is not {s.name(value)}")
    for x, items, _ in watch.containers:
        if x.__class__ is not list or len(items) > 32:
            s.miss(f"{s.name(unlike)}({s.name(x)}, {s.name(items)}) is not None")
            continue
        s.add(f"l = {s.name(x)}")
        s.miss(f"len(l) != {len(items)}")
        for i, v in enumerate(items):
            s.miss(f"l[{i}] is not {s.name(v)}")


def inputs(s: Source, program: Any, native: Any, leaves: list[Any]) -> bool:
    """x0, x1, ..: the objects of the inputs."""
    if program.numbers is not None or program.holds is not None:
        given = "".join(f"a{i}, " for i in range(len(leaves)))
        s.add("try:")
        if program.holds is not None:
            s.add(f"if not {s.name(program.holds)}(({given})): return MISS", 2)
        if program.numbers is not None:
            s.add(f"d{len(program.draws)} = {s.name(program.numbers)}(({given}))", 2)
        s.add("except ArithmeticError: return MISS")
    s.late += [f"d{i} = {s.name(draw)}()" for i, draw in enumerate(program.draws)]
    for k, (source, v) in enumerate(zip(program.sources, native.steps.inputs)):
        kind = source.kind
        if kind == "argument":
            x = leaves[source.place]
            word = f"a{source.place}{'.data' if isinstance(x, Tensor) else ''}"
            s.add(f"x{k} = asarray({word})" if isinstance(x, np.generic) else f"x{k} = {word}")
        elif kind == "tensor":
            t = f"a{source.place}" if source.place >= 0 else s.name(source.owner)
            s.scope[f"t{k}"] = source.owner
            s.add(f"t{k} = {t}")
            s.add(f"x{k} = t{k}.data")
            known = s.name([ref(np.empty(0))])
            s.add(f"if x{k} is not {known}[0]():")
            s.add(f"if not suits(x{k}, {s.name(v.aval)}): return MISS", 2)
            s.add(f"{known}[0] = ref(x{k})", 2)
            s.scope["suits"] = suits
        elif kind == "gradient":
            t = f"a{source.place}" if source.place >= 0 else s.name(source.owner)
            s.add(f"x{k} = {t}.node.grad")
            s.add(f"if x{k}.__class__ is Tensor: x{k} = x{k}.data")
            s.miss(f"not suits(x{k}, {s.name(v.aval)})")
            s.scope["suits"] = suits
        elif kind == "array":
            a = source.owner
            if not a.flags.c_contiguous:
                return False
            s.add(f"x{k} = {s.name(a)}")
        elif kind == "live":
            value = program.sample[source.place]
            value = value[source.owner] if isinstance(value, tuple) else value
            word = f"d{source.place}"
            if isinstance(program.sample[source.place], tuple):
                word += f"[{source.owner}]"
            if isinstance(value, int):
                return False
            if isinstance(value, np.generic) or not (isinstance(value, ndarray) or v.aval.weak):
                word = f"asarray({word})"
            if isinstance(value, ndarray):
                word = f"contiguous({word})"
            s.late.append(f"x{k} = {word}")
        else:
            return False
    return True


def suits(x: Any, aval: Any) -> bool:
    return bool(
        x.__class__ is ndarray and x.shape == aval.shape and x.dtype == aval.dtype
        and x.flags.c_contiguous and x.flags.writeable
    )  # fmt: skip


def outputs(s: Source, program: Any, native: Any) -> bool:
    """y0, y1, ..: memory for the outputs."""
    if native.scalar:
        return True
    for j, (sink, v) in enumerate(zip(program.sinks, native.steps.outputs)):
        if not isinstance(v, Var):
            continue
        i = native.alias.get(j)
        if sink.kind == "tensor":
            if i is None or program.sources[i].kind != "tensor":
                return False
            # held by the tensor and by the names x and y
            s.add(f"y{j} = x{i}")
            s.miss(f"getrefcount(y{j}) > {SOLE + 2} or y{j}.base is not None")
        elif sink.kind == "array":
            if i is None and not sink.owner.flags.c_contiguous:
                return False
            if i is None:
                return False
            s.add(f"y{j} = {s.name(sink.owner)}")
        elif sink.kind == "argument":
            if i is None or not alone(s, program, sink.place):
                return False
            s.add(f"y{j} = a{sink.place}")
        elif sink.kind in ("result", "gradient"):
            if v.size * v.dtype.itemsize >= 4096:
                s.add(f"y{j} = {s.name(native.fresh)}({j}, {s.name(v)})")
            else:
                s.add(f"y{j} = empty({v.shape!r}, {s.name(v.dtype)})")
        else:
            return False
    return True


def alone(s: Source, program: Any, place: int) -> bool:
    """An argument that is written is memory of its own, of which no other argument has a part."""
    s.miss(f"a{place}.base is not None or not a{place}.flags.writeable")
    for source in program.sources:
        if source.kind == "array":
            other = s.name(source.owner)
        elif source.kind == "argument" and source.place != place:
            other = f"a{source.place}"
        else:
            continue
        s.miss(f"{other} is a{place} or {other}.base is a{place}")
    return True


def operands(program: Any, native: Any) -> list[str]:
    words = [f"x{k}" for k in range(len(native.steps.inputs))]
    if not native.scalar:
        words += [
            f"y{j}" if isinstance(v, Var) else "None" for j, v in enumerate(native.steps.outputs)
        ]
    return words


def finish(s: Source, program: Any, native: Any, entry: Any) -> None:
    """Run, put the outputs where they go, and rebuild what the function returned."""
    if entry is not None:
        call = f"{s.name(entry)}({', '.join(operands(program, native))})"
        held = f"with {s.name(native.lock)}: " if native.releases else ""
        s.add(f"{held}failed = {call}")
        s.miss("failed")
    for j, sink in enumerate(program.sinks):
        if sink.kind == "tensor":
            s.add(f"{s.name(sink.owner) if sink.place < 0 else f'a{sink.place}'}.store = written()")
        elif sink.kind == "gradient":
            t = s.name(sink.owner) if sink.place < 0 else f"a{sink.place}"
            value = f"y{j}" if isinstance(native.steps.outputs[j], Var) else "None"
            if sink.tensor and value != "None":
                value = f"make({value}, None, EAGER)"
            s.add(f"{t}.node.grad = {value}")
    for act in program.after:
        s.add(f"{s.name(act)}()")
    results = {}
    for j, sink in enumerate(program.sinks):
        if sink.kind == "result":
            v = native.steps.outputs[j]
            word = f"y{j}"
            if sink.tensor:
                word = f"make({word}, None, EAGER)"
            elif sink.form == "number":
                word = f"{word}.item()"
            elif not v.shape and sink.form != "array":
                word = f"{word}[()]"
            results[sink.place] = word
    words = []
    for kind, at, value in program.constants:
        if kind == "result":
            words.append(results[at])
        elif kind == "given":
            words.append(f"a{at}" if at >= 0 else s.name(value))
        elif kind == "number":
            words.append(f"d{len(program.draws)}[{at - program.returned}]")
        elif isinstance(value, ndarray):
            words.append(f"{s.name(value)}.copy()")
        else:
            words.append(s.name(value))
    if program.structure.kind is None:
        s.add(f"return {words[0]}")
    elif program.structure.kind in (tuple, list) and all(
        c.kind is None for c in program.structure.children
    ):
        left, right = ("(", ",)") if program.structure.kind is tuple else ("[", "]")
        s.add(f"return {left}{', '.join(words)}{right}")
    else:
        s.add(f"return {s.name(tree.unflatten)}({s.name(program.structure)}, [{', '.join(words)}])")
