"""What `.explain()` says: graph, passes, kernels, memory, guards, and why each variant was made."""

from __future__ import annotations

from typing import Any

from ..graph import Line
from ..source import place
from .lower import Call, Loops, Product, Scatter, told

__all__ = ["explained"]


def explained(compiled: Any) -> str:
    """A text about everything that was compiled for a function so far."""
    parts = [repr(compiled)]
    number = 0
    for known in compiled.variants.values():
        for v in known:
            number += 1
            parts.append(variant(number, v))
    parts += [f"uncompiled: {why}" for why in dict.fromkeys(compiled.refused.values())]
    if number == 0 and not compiled.refused:
        parts.append("not called yet")
    return "\n\n".join(parts)


def variant(number: int, v: Any) -> str:
    program, run = v.program, v.executable
    took = ", ".join(f"{k} {s * 1e3:.1f} ms" for k, s in v.seconds.items())
    lines = [
        f"variant {number}: compiled because of {v.why}; {v.runs} runs the long way",
        f"  recorded in {took}" if took else "",
        f"  inputs: {counted(program.sources)}",
        f"  outputs: {counted(program.sinks)}",
        f"  depends on: {dependencies(v.watch)}",
    ]
    if v.failure:
        lines.append(f"  no machine code: {v.failure}")
    if v.fast is not None:
        lines.append("  calls like the last one take the short way")
    text = "\n".join(x for x in lines if x)
    text += f"\n\ngraph, as recorded\n{indented(str(program.graph))}"
    if v.passes is not None:
        text += f"\n\npasses\n{indented(str(v.passes))}"
    if hasattr(run, "regions"):
        text += f"\n\n{native(run)}"
    elif hasattr(run, "program"):
        text += (
            f"\n\nNumPy calls\n{indented(run.program.source)}\n{indented(str(run.program.plan))}"
        )
        if run.program.allocating:
            text += f"\n  these make their result elsewhere: {', '.join(run.program.allocating)}"
    return text


def counted(items: list[Any]) -> str:
    kinds: dict[str, int] = {}
    for s in items:
        kinds[s.kind] = kinds.get(s.kind, 0) + 1
    return ", ".join(f"{n} {k}{'s' if n > 1 else ''}" for k, n in kinds.items()) or "none"


def dependencies(watch: Any) -> str:
    noted = (*watch.flat, *watch.slots, *watch.cells, *watch.containers, *watch.contents)
    names = list(dict.fromkeys(told for *_, told in noted))
    rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
    if watch.conditions:
        rest += f"; {len(watch.conditions)} conditions on an optimizer"
    return ", ".join(names[:12]) + rest or "its arguments alone"


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def native(run: Any) -> str:
    """Regions, chains and steps of machine code, and its memory."""
    steps = run.steps.steps
    kinds = {
        "kernels": Loops,
        "products": Product,
        "sums of rows": Scatter,
        "calls of Python": Call,
    }
    head = ", ".join(f"{sum(isinstance(s, k) for s in steps)} {name}" for name, k in kinds.items())
    took = ", ".join(f"{k} {s * 1e3:.1f} ms" for k, s in run.seconds.items())
    out = [
        f"machine code for {run.target.name}: {head}; {len(run.kernels)} different kernels; {took}"
    ]
    for k, region in enumerate(run.regions):
        what = "a call of Python" if region.call is not None else f"{len(region.units())} pieces"
        out.append(f"  region {k}: {what}, about {region.work:.0f} us of work")
        if region.call is not None:
            out.append(f"    {step(region.call)}")
        for c in region.chains:
            out.append(f"    chain of {c.rows} rows, {c.block} to a piece")
            out += [f"      {step(s)}" for s in c.steps]
    calls = [s for s in steps if isinstance(s, Call)]
    if calls:
        names = ", ".join(dict.fromkeys(repr(s.op) for s in calls))
        out.append(f"  not fused, for want of native code: {names}")
    outputs = len(run.steps.outputs)
    out.append(f"  {len(run.alias)} of {outputs} outputs are written in place")
    out.append(f"  arena of {run.plan.size} bytes; {run.plan.lower_bound} are alive at one time")
    return "\n".join(out)


def step(s: Any) -> str:
    if isinstance(s, Loops):
        ops = [x.op for x in s.kernel.body if x.op not in ("load", "const", "cast", "place")]
        more = f", .. {len(ops)} in all" if len(ops) > 8 else ""
        named = ", ".join(ops[:8]) + more or "copy"
        return (
            f"{', '.join(map(told, s.writes))} = {named} over {list(s.kernel.space)}{at(s.lines)}"
        )
    if isinstance(s, Product):
        shapes = f"{list(s.a.shape)} @ {list(s.b.shape)}"
        return f"{told(s.out)} = {shapes}{at(s.lines)}"
    if isinstance(s, Scatter):
        return f"{told(s.out)} = sums of {s.count} rows by number{at(s.lines)}"
    return f"{', '.join(map(told, s.outputs))} = {s.op!r}{at(s.lines)}"


def at(lines: list[Line]) -> str:
    """The user's line that asked for the last operation of a step."""
    for line in reversed(lines):
        if line.where is not None:
            return f"   {place(*line.where)}"
    return ""
