"""Write docs/derivatives.md from the registry, and docs/measured.json from the tests' references.

    python docs/make_derivatives.py              write the page
    python docs/make_derivatives.py --check      exit 1 if the page, or a figure on it, is stale
    python docs/make_derivatives.py --measure    measure what has changed, then write the page
    python docs/make_derivatives.py --measure-all

The text of a derivative is the source of its rule. A figure belongs to the rule that was measured:
when a rule has changed its figures are stale, and `--check` says so. Needs the extra `test`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

import wengert as wg
from wengert.ops import elementwise
from wengert.ops.kinks import KINKS
from wengert.ops.special_lines import SCIPY
from wengert.primitive import UFUNCS, Constant, General, Linear, Multilinear
from wengert.trace import OPS

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))  # for the tests, which load this file from elsewhere
import equations  # noqa: E402  stands beside this file, which is on the path from here on
import measuring  # noqa: E402  likewise

PAGE, FIGURES = HERE / "derivatives.md", HERE / "measured.json"
PACKAGE = str(Path(wg.__file__).parent)
FAMILIES = (
    "sinc", "psi_gap", "erfcx", "mills", "dawsn", "ive", "kve", "ellipk", "ellipe", "ellipkm1",
    "exprel", "log_moment",
)  # fmt: skip
LIMIT = {1: 2.0, 2: 4.0, 3: 4.0}  # ulps of value, first and second derivative


def load() -> None:
    """Import what is imported lazily, and make what is made on demand."""
    for name in ("linalg", "fft", "special"):
        importlib.import_module(f"wengert.numpy.{name}")
    elementwise.dsinc(np.zeros(1), 1)


def ours(op: Any) -> bool:
    """Whether an operation is wengert's own: the registry has the user's as well."""
    if isinstance(op, type):
        return op.__module__.startswith("wengert.")
    functions = [f for f in (*getattr(op, "partials", ()), op.f) if hasattr(f, "__code__")]
    where = [f.__code__.co_filename for f in functions]
    return op.name in places() or any(f.startswith(PACKAGE) for f in where)


def shown(name: str) -> str:
    """The name on the page: one entry stands for all members of a family f_1, f_2, .."""
    stem, _, number = name.rpartition("_")
    return f"{stem}_n" if stem in FAMILIES and number.isdigit() else name


def operations() -> dict[str, Any]:
    """Every operation of wengert, families once, by the name on the page."""
    load()
    found: dict[str, Any] = {}
    for name, op in OPS.items():
        title = shown(name)
        if ours(op) and (title == name or name == title[:-1] + ("0" if "gap" in name else "1")):
            found[title] = op  # which members of a family exist depends on what has been asked for
    return found


def name_of(op: Any) -> str:
    return op.__name__ if isinstance(op, type) else op.name


# ------------------------------------------------------------------ the text of a rule


@functools.cache
def tree_of(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text())


@functools.cache
def functions_of(path: str) -> dict[int, list[Any]]:
    """The functions and lambdas of a file by the line where they begin."""
    found: dict[int, list[Any]] = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            marks = getattr(node, "decorator_list", [])
            found.setdefault(min([node.lineno, *(m.lineno for m in marks)]), []).append(node)
    return found


def source_node(f: Any) -> Any:
    """The syntax of a function or lambda."""
    code = f.__code__
    places = set(code.co_positions())
    lambdas = []
    for node in functions_of(code.co_filename).get(code.co_firstlineno, []):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            return node
        names = tuple(a.arg for a in node.args.args)
        if isinstance(node, ast.Lambda) and names == code.co_varnames[: code.co_argcount]:
            lambdas.append(node)
    ends = lambda n: (n.lineno, n.end_lineno, n.col_offset, n.end_col_offset)
    here = [n for n in lambdas if ends(n.body) in places]  # several may stand on one line
    (node,) = here or lambdas
    return node


class Named(ast.NodeTransformer):
    """Operations under their names on this page, and modules left out: gap(a) is psi_gap_0(a)."""

    def __init__(self, f: Any) -> None:
        cells = zip(f.__code__.co_freevars, f.__closure__ or ())
        self.scope = {**f.__globals__, **{k: c.cell_contents for k, c in cells}}
        self.own = set(f.__code__.co_varnames)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.own:
            return node
        value = self.scope.get(node.id)
        if getattr(value, "name", None) in OPS:
            return ast.Name(value.name)
        if getattr(value, "__name__", "") == "member":  # of a family, made in special_lines
            return ast.Name(value(1).name[:-1] + "n")
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and inspect.ismodule(self.scope.get(node.value.id)):
            value = getattr(self.scope[node.value.id], node.attr)
            return ast.Name(value.name if getattr(value, "name", None) in OPS else node.attr)
        return self.generic_visit(node)


def rule_text(f: Any) -> str:
    """What a rule makes of d, as source."""
    node = source_node(f)
    named = Named(f)
    write = lambda tree: ast.unparse(named.visit(ast.parse(ast.unparse(tree))))
    if isinstance(node, ast.Lambda):
        return write(node.body)
    body = node.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if len(body) == 1 and isinstance(body[0], ast.Return):
        return write(body[0].value)
    doc = (inspect.getdoc(f) or "").split("\n\n")[0].replace("\n", " ")
    lines = [re.sub(r"^return ", "", write(s)) for s in body]
    return f"“{doc}”" if doc else "; ".join(lines)


def code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def derivative(op: Any) -> str:
    """The cell of derivatives: one map of d per argument."""
    if not measuring.has_derivative(op):
        return "none"
    out = []
    for i, f in enumerate(op.partials):
        lead = f"{op.args[i]}: " if len(op.args) > 1 else ""
        refused = getattr(op, "refused", {}).get(i)
        if refused is not None:
            out.append(f"{lead}refuses, naming “{refused.name}”")
        elif f is None:
            out.append(f"{lead}none")
        else:
            text = rule_text(f)
            out.append(lead + (cell(text[1:-1]) if text.startswith("“") else code(text)))
    if getattr(op, "forward", None) is not None:
        out.append("tangent: " + code(rule_text(op.forward)))
    return "<br>".join(out)


def equation(name: str, op: Any) -> str:
    text = equations.EQUATIONS.get(name) or getattr(op, "doc", "")
    if name in equations.EQUATIONS and getattr(op, "doc", "") and name != "np_i0":
        raise KeyError(f"{name} has an equation in the table and in docs/equations.py")
    return text


# ------------------------------------------------------------------ singular points


def number(v: Any) -> str:
    v = float(v)
    if math.isnan(v):
        return "nan"
    if math.isinf(v):
        return "∞" if v > 0 else "−∞"
    return f"{v + 0.0:.4g}".replace("-", "−")


def edge(op: Any, at: tuple[float, ...]) -> str:
    """Value and derivatives at one point, computed."""
    names = ", ".join(f"{a} = {number(v)}" for a, v in zip(op.args, at))
    if name_of(op).startswith("lambertw") and at[0] == equations.BRANCH:
        names = "x = −1/e, rounded"
    xs = [np.array(v) for v in at]
    one = np.ones(())
    with np.errstate(all="ignore"):
        out = [f"y = {number(op(*xs))}"]
        for i, f in enumerate(op.partials):
            if f is None:
                continue
            g = lambda v, i=i: op(*xs[:i], v, *xs[i + 1 :])
            slope = lambda v, g=g: wg.jvp(g, (v,), (one,))[1]
            mark = f"_{op.args[i]}" if len(op.args) > 1 else ""
            out.append(f"y′{mark} = {number(slope(xs[i]))}")
            out.append(f"y″{mark} = {number(wg.jvp(slope, (xs[i],), (one,))[1])}")
    return f"{names}: {', '.join(out)}"


def singular(name: str, op: Any) -> str:
    out = []
    if name in KINKS:
        out.append(f"where {KINKS[name].place}: {KINKS[name].convention}")
    if not isinstance(op, type):
        out += [edge(op, at) for at in equations.EDGES.get(name, ())]
    return cell("; ".join(out)) if isinstance(op, type) else "<br>".join(map(cell, out))


# ------------------------------------------------------------------ figures


def worst(name: str, record: dict[str, Any], order: int) -> tuple[float, str]:
    """The worst ulps of an order of derivative over arguments and cases, and the marks on it."""
    found = [
        (float(u), case, which)
        for case, row in record["ulps"].items()
        for which, (u, _) in row.items()
        if (0 if which == "y" else len(which)) == order
    ]
    if not found:
        return -1.0, ""
    top = max(found)[0]
    marks = ""
    if any(measuring.terms(name, which) for _, case, which in found if not case):
        marks += "†"
    if any(measuring.envelope(case) for _, case, _ in found):
        marks += "‡"
    return top, marks


def ulps(name: str, record: dict[str, Any], order: int) -> str:
    value, marks = worst(name, record, order)
    if value < 0:
        return "-"
    text = "∞" if math.isinf(value) else f"{value:.2g}" if value < 1e4 else f"{value:.0e}"
    text = text.replace("e+", "e")
    text = str(int(float(text))) if "e" in text and value < 1e4 else text
    return f"**{text}**{marks}" if value > LIMIT[order + 1] else f"{text}{marks}"


def footnote(name: str, op: Any, measured: dict[str, Any]) -> str:
    """Why there is no figure in ulps."""
    if not any(getattr(op, "partials", ())):
        return "¹"
    if name in ("where", "clip", "huber"):
        return "²"
    return (
        "⁴"
        if name in named_by_measured(tuple(n for n, r in measured.items() if r["ulps"]))
        else "³"
    )


@functools.cache
def named_by_measured(names: tuple[str, ...]) -> set[str]:
    """The operations that stand in a rule of one that was measured."""
    found: set[str] = set()
    measured = measurements()
    for name in names:
        for i, f in enumerate(OPS[name].partials):
            cases = measured[name]["ulps"]
            if f is not None and any("abc"[i] in row for row in cases.values()):
                found |= {shown(w) for w in re.findall(r"\w+(?=\()", rule_text(f))}
    return found


def checked(record: dict[str, Any]) -> str:
    modes = [m for m in record["laws"]["modes"] if m not in "CL"]
    everything = ["F", "R", "V", "FF", "FR", "RF", "RR"]
    text = "all" if sorted(modes) == sorted(everything) else " ".join(modes)
    order = record["laws"]["order"]
    text += f" {order}" if order else ""
    return text + (" ℂ" if "C" in record["laws"]["modes"] else "")


def above(record_of: dict[str, Any], relative: bool) -> list[str]:
    """The list of exceptions: figures above their limit, or those in ulps of terms."""
    rows = []
    for name, record in record_of.items():
        for case, row in record["ulps"].items():
            for which, (u, at) in row.items():
                order = 0 if which == "y" else len(which)
                mine = measuring.terms(name, which) if not case else False
                if relative != mine or (float(u) <= LIMIT[order + 1] and not relative):
                    continue
                text = "∞" if u == "inf" else f"{u:.3g}".replace("e+", "e")
                mark = "‡" if measuring.envelope(case) else ""
                point = ", ".join(map(repr, at))
                what = ("value", "first", "second")[order]
                if order and len(OPS[name].args) > 1:
                    what += f", {which}"
                why = measuring.bound_of(name, case, which)[1]
                rows.append((f"`{case or name}`", what, text + mark, point, why))
    ordered = sorted(rows, key=lambda r: (r[0].lower(), ("v", "f", "s").index(r[1][0]), r[1]))
    return ["| " + " | ".join(map(cell, r)) + " |" for r in ordered]


# ------------------------------------------------------------------ what is wrong


def problems() -> list[str]:
    """Whatever stands in the way of a page that is true."""
    found, measured = [], measurements()
    for name, op in operations().items():
        key = name_of(op)
        text = inspect.getdoc(op) if isinstance(op, type) else equation(name, op)
        if not text:
            found.append(f"{key} has no equation: see docs/equations.py")
        record = measured.get(key)
        if record is None:
            found.append(f"{key} has not been measured")
            continue
        if record["rule"] != measuring.fingerprint(key):
            found.append(f"{key} has changed since it was measured")
        for case, row in record["ulps"].items():
            for which, (u, at) in row.items():
                bound, why = measuring.bound_of(key, case, which)
                order = 1 if which == "y" else len(which) + 1
                if float(u) > bound or (float(u) > LIMIT[order] and not why):
                    found.append(f"{case or key}, {which}: {u} ulps at {at}, and no reason")
    extra = set(measured) - {name_of(op) for op in operations().values()}
    found += [f"{name} is measured, and is not an operation" for name in sorted(extra)]
    return found


def measurements() -> dict[str, Any]:
    return json.loads(FIGURES.read_text())["operations"] if FIGURES.exists() else {}


def measure(everything: bool) -> None:
    """Measure the operations whose rule has changed, or all of them, and write measured.json."""
    old = {} if everything else measurements()
    new = {}
    for op in operations().values():
        name = name_of(op)
        known = old.get(name)
        if known is None or known["rule"] != measuring.fingerprint(name):
            print("measuring", name)
            known = measuring.record(name)
        new[name] = known
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(new.items())]
    text = f'{{"points": {measuring.POINTS}, "operations": {{\n' + ",\n".join(lines) + "\n}}\n"
    FIGURES.write_text(text)


# ------------------------------------------------------------------ the page

HEADING = re.compile(r"^# -{5,} (.*)$", re.M)


@functools.cache
def places() -> dict[str, tuple[str, int]]:
    """(file, line) where the operations of the tables are made, by the text of their names."""
    found: dict[str, tuple[str, int]] = {}
    for module in ("elementwise", "special", "fused", "losses"):
        path = f"{PACKAGE}/ops/{module}.py"
        for node in ast.walk(tree_of(path)):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            first, f = node.args[0], node.func
            called = getattr(f, "id", getattr(f, "attr", ""))
            if isinstance(first, ast.JoinedStr):  # f"sinc_{n}"
                first = first.values[0]
            text = getattr(first, "value", None)
            if isinstance(text, str):
                title = f"{text}_n" if called == "family" else text
                found.setdefault(f"{title}n" if title.endswith("_") else title, (path, node.lineno))
    return found


def place(name: str, op: Any) -> tuple[str, int]:
    if name in places():
        return places()[name]
    f = next(f for f in (*op.partials, op.f) if f is not None)
    return f.__code__.co_filename, f.__code__.co_firstlineno


def theme(path: str, line: int) -> str:
    heads = [(m[1], m.start()) for m in HEADING.finditer(Path(path).read_text())]
    text = Path(path).read_text()
    before = [h for h, at in heads if text.count("\n", 0, at) + 1 <= line]
    return before[-1] if before else ""


INTRO = {
    "arithmetic": "Operators and powers. `root` is the square root of lengths: std, norms.",
    "exponentials and logarithms": "`share` is the slope of `logaddexp`: a sigmoid that keeps the "
    "digits of a − b.",
    "trigonometric and hyperbolic": "`lorentz`, `cauchy`, `turn`, `cosine` and the others without "
    "a name in NumPy are derivatives of those that have one.",
    "error function and activations": "Each derivative is a line of its own, so that the second "
    "is as right as the first.",
    "kinks and choices": "The argument that is not chosen has no gradient: not 0 times its "
    "derivative, but nothing.",
    "complex parts": "Cotangents pair as Re Σ g dx; where the tangent map is another, it is given.",
    "constants to the tape": "No derivative: integer, boolean or piecewise constant.",
    "the gamma family": "ψ is the digamma function; its differences are summed without "
    "cancellation.",
    "the error function's family": "With inverses, the log of the normal distribution function, "
    "and Dawson's integral.",
    "Bessel functions": "Differentiable in the argument; the order refuses by name.",
    "logistic, entropies": "0 log 0 is 0, and has no gradient there in the factor that is 0.",
    "integrals": "Exponential and complete elliptic integrals.",
    "elementary ones, powers, losses": "In SciPy's names and argument orders.",
    "Lambert's W": "The two real branches.",
}
MODULES = {
    "linear": "Sums, shapes, casts",
    "index": "Indexing, writing, joining",
    "contract": "Matrix products and einsum",
    "conv": "Convolution",
    "pool": "Pooling",
    "norm": "Normalisation",
    "embedding": "Tables",
    "dropout": "Dropout",
    "attention": "Attention",
    "losses": "Losses",
    "ctc": "Connectionist temporal classification",
    "spatial": "Resampling and padding",
    "recurrent": "Recurrent networks",
    "order": "Choosing and ordering",
    "scan": "Running products and recurrences",
    "fused": "Fused operations",
    "linalg": "Matrices",
    "spectral": "Eigenvalues",
    "singular": "Singular values, least squares",
    "fft": "Fourier transforms",
}
SHAPES = (
    (Linear, "Linear: its own tangent map."),
    (Multilinear, "Linear in each argument."),
    (General, "Tangent map and transpose are given."),
    (Constant, "No derivative."),
)


def aliases(name: str, op: Any) -> str:
    known = [f"np.{u.__name__}" for u, o in UFUNCS.items() if o is op and hasattr(np, u.__name__)]
    known += [f"scipy.special.{u}" for u, o in SCIPY.items() if o is op and not u.startswith("_")]
    known = [k for k in dict.fromkeys(known) if k.rpartition(".")[2] != name]
    return "".join(f"<br>{k}" for k in known)


def table(names: list[str], ops: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    out = [
        "| operation | y | derivative: d ↦ | singular points | y | y′ | y″ | checked |",
        "|---|---|---|---|--:|--:|--:|---|",
    ]
    for name in names:
        op = ops[name]
        key = name_of(op)
        record = measured[key]
        texts = [ulps(key, record, n) for n in range(3)]
        if set(texts) == {"-"}:
            texts = ["-" + footnote(name, op, measured), "-", "-"]
        row = [f"`{name}`{aliases(name, op)}", cell(equation(name, op)), derivative(op)]
        row += [singular(name, op), *texts, checked(record)]
        out.append("| " + " | ".join(row) + " |")
    return [*out, ""]


def entry(name: str, op: Any, record: dict[str, Any]) -> list[str]:
    """The entry of a class of operations: its docstring, which is its mathematics."""
    doc = re.split(r"\n\s*(?:Args:|Example:|References?:|>>>)", inspect.getdoc(op) or "")[0]
    shape = next(text for kind, text in SHAPES if issubclass(op, kind))
    out = [f"#### `{name}`", "", "```text", *doc.strip().splitlines(), "```", ""]
    place = singular(name, op)
    line = shape + (f" {place[0].upper()}{place[1:]}." if place else "")
    return [*out, f"{line} Checked: {checked(record)}.", ""]


def paragraph(module: str) -> str:
    doc = inspect.getdoc(importlib.import_module(f"wengert.ops.{module}")) or ""
    texts = [p for p in doc.split("\n\n") if not p.startswith(" ") and "<->" not in p]
    text = " ".join(texts[0].split())
    return f"{text}\n\nSource: [wengert/ops/{module}.py](../wengert/ops/{module}.py)."


TOP = (HERE / "derivatives_top.txt").read_text()  # with places for the figures


def render() -> str:
    """The page."""
    ops, measured = operations(), measurements()
    for name in KINKS:
        if name not in ops:
            raise KeyError(f"{name} is in the table of conventions, and is not an operation")
    classes = {n: op for n, op in ops.items() if isinstance(op, type)}
    lines = {n: op for n, op in ops.items() if not isinstance(op, type)}
    kinks = [f"| `{n}` | {cell(k.place)} | {cell(k.convention)} |" for n, k in KINKS.items()]
    out = [
        TOP.format(
            count=len(ops), tables=len(lines), classes=len(classes), points=measuring.POINTS,
            constant=sum(not measuring.has_derivative(op) for op in ops.values()),
            kinks="\n".join(kinks), above="\n".join(above(measured, False)),
            terms="\n".join(above(measured, True)),
        )
    ]  # fmt: skip
    stands = {n: place(n, op) for n, op in lines.items()}
    for module, title in (("elementwise", "Elementwise"), ("special", "Special functions")):
        out += [f"## {title}", "", paragraph(module), ""]
        mine = sorted((at[1], n) for n, at in stands.items() if at[0].endswith(f"/{module}.py"))
        themes: dict[str, list[str]] = {}
        for line, n in mine:
            themes.setdefault(theme(stands[n][0], line), []).append(n)
        for head, names in themes.items():
            if head:
                out += [f"### {head[0].upper()}{head[1:]}", "", INTRO.get(head, ""), ""]
            out += table(names, ops, measured)
    for module, title in MODULES.items():
        out += [f"## {title}", "", paragraph(module), ""]
        mine = [n for n, op in classes.items() if op.__module__ == f"wengert.ops.{module}"]
        for n in mine:
            out += entry(n, ops[n], measured[n])
        rest = [n for n, at in stands.items() if at[0].endswith(f"/ops/{module}.py")]
        if rest:
            out += table(rest, ops, measured)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).rstrip() + "\n"


def stale() -> list[str]:
    """What is wrong with the page on disk; nothing if it is as it would be written now."""
    found = problems()
    if not found and (not PAGE.exists() or PAGE.read_text() != render()):
        found = ["docs/derivatives.md is stale: python docs/make_derivatives.py"]
    return found


def main(*argv: str) -> int:
    if "--measure" in argv or "--measure-all" in argv:
        measure("--measure-all" in argv)
    found = stale() if "--check" in argv else problems()
    for text in found:
        print(text)
    if found:
        print("python docs/make_derivatives.py --measure measures what has changed")
        return 1
    if "--check" not in argv:
        PAGE.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
