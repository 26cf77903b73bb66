"""Write docs/numpy.md: which functions of NumPy and SciPy, ufuncs and methods keep gradients.

    python docs/make_numpy.py              write the page
    python docs/make_numpy.py --check      exit 1 if it is stale

Everything on the page is read from the tables that answer `np.f(tensor)`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))
from equations import EQUATIONS

from wengert.numpy import special, table
from wengert.ops import special as special_ops
from wengert.primitive import UFUNCS, Constant
from wengert.trace import Tensor

PAGE = Path(__file__).resolve().parent / "numpy.md"
OLDEST = (2, 2)  # of NumPy, for the page: some functions are younger than the oldest supported
THEMES = {
    "reduce": "Sums, means, extremes",
    "nans": "Reductions that skip nan",
    "statistics": "Statistics",
    "order": "Running sums and products",
    "shape": "Shapes, joining, splitting",
    "select": "Choosing, sorting, indexing",
    "grid": "Grids, sets, along an axis",
    "product": "Products",
    "calculus": "Differences, integrals, interpolation",
    "polynomial": "Polynomials",
    "values": "Parts, rounding, tests",
    "linalg": "Linear algebra: numpy.linalg",
    "fft": "Fourier transforms: numpy.fft",
}
# Integers, truth values, shapes, types and constants: what they return has no derivative.
NONE = {
    "argmax", "argmin", "nanargmax", "nanargmin", "argsort", "argpartition", "nonzero", "any",
    "all", "count_nonzero", "isclose", "iscomplex", "isreal", "iscomplexobj", "isrealobj",
    "isposinf", "isneginf", "round", "around", "fix", "ndim", "size", "shape", "zeros_like",
    "ones_like", "empty_like", "matrix_rank", "tril_indices_from", "triu_indices_from",
    "diag_indices_from",
}  # fmt: skip
INTRO = textwrap.dedent("""\
    # NumPy, SciPy and tensors

    *Written by `python docs/make_numpy.py` from the tables that answer `np.f(tensor)`; a test
    fails when it is stale.*

    A function of NumPy on this page takes tensors, gives what NumPy gives (value, dtype, shape),
    and keeps the gradient. Each has cases in `tests/numpy/`, where its value is compared with
    NumPy's, its first derivative with differences and the adjoint, and its second again, in every
    dtype it takes, in several memory layouts, and under `vmap`. `wengert.numpy` has the same
    functions under the same names, and is the namespace of the Array API standard.

    **Whatever is not on this page refuses**, by `UnsupportedError`, which names the nearest
    function that works: nothing leaves the tape silently. So does any argument that is not in the
    list beside a function, with its name; an argument listed under *refuses* is known, and only
    its default is taken.

    {counts}
    """)


def load() -> None:
    for name in ("linalg", "fft"):
        importlib.import_module(f"wengert.numpy.{name}")


def name_of(g: Any) -> str:
    """numpy.linalg.inv, without the parts that nobody writes."""
    return f"{g.__module__}.{g.__name__}".replace("numpy.", "np.", 1)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def arguments(f: Any, skip: int = 0) -> str:
    """The arguments that have an answer, with their defaults."""
    parts = []
    for p in list(inspect.signature(f).parameters.values())[skip:]:
        if p.name.startswith("_") or p.kind is p.VAR_KEYWORD:
            continue
        star = "*" if p.kind is p.VAR_POSITIONAL else ""
        text = star + p.name
        if p.default is not p.empty:
            plain = p.default is None or isinstance(p.default, int | float | str | bool | tuple)
            text += f"={p.default!r}" if plain else "=…"
        parts.append(text)
    return f"`({', '.join(parts)})`"


def refused(f: Any, depth: int = 2) -> str:
    """Arguments that are named only to be refused: keywords of `refuse`, in f or what it calls."""
    found = dict.fromkeys(sorted(_refused(inspect.unwrap(f), depth)))
    return ", ".join(f"`{k}`" + (" but cpu" if k == "device" else "") for k in found)


def _refused(f: Any, depth: int) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(f)))
    taken = set(inspect.signature(f).parameters)
    found: set[str] = set()
    for node in ast.walk(tree):
        name = getattr(getattr(node, "func", None), "id", "")
        if name == "refuse":
            found |= {k.arg for k in node.keywords if k.arg and k.arg != "fix"}
        elif name and depth:
            g = f.__globals__.get(name)
            if inspect.isfunction(g) and g.__module__ == f.__module__ and g is not f:
                found |= _refused(g, depth - 1) & taken
    return found


def summary(f: Any) -> str:
    """The first paragraph of its docstring."""
    return cell((inspect.getdoc(f) or "").split("\n\n")[0])


def functions() -> dict[str, list[tuple[Any, Any]]]:
    """theme -> [(NumPy's function, ours), ..], in the order of the sources."""
    load()
    found: dict[str, list[tuple[Any, Any]]] = {name: [] for name in THEMES}
    for g, f in table.FUNCTIONS.items():
        theme = f.__module__.rpartition(".")[2]
        theme = g.__module__.rpartition(".")[2] if g.__module__ != "numpy" else theme
        theme = {"types": "shape", "special": "values"}.get(theme, theme)
        found.setdefault(theme, []).append((g, f))
    return found


def keeps(g: Any) -> bool:
    return g.__name__ not in NONE


def function_rows(pairs: list[tuple[Any, Any]]) -> list[str]:
    together: dict[Any, list[Any]] = {}
    for g, f in pairs:
        together.setdefault(f, []).append(g)
    out = ["| function | arguments | refuses | |", "|---|---|---|---|"]
    for f, gs in together.items():
        names = ", ".join(f"`{name_of(g)}`" for g in gs)
        text = summary(f) or "The same in the namespace of the standard."
        if not keeps(gs[0]) and "no derivative" not in text:
            text = text.rstrip(".") + ": no derivative."
        out.append(f"| {names} | {cell(arguments(f))} | {refused(f)} | {text} |")
    return [*out, ""]


# ------------------------------------------------------------------ ufuncs


def ufuncs() -> list[Any]:
    """NumPy's ufuncs; SciPy's are entered when they are first met."""
    found = [u for u in UFUNCS if getattr(np, u.__name__, None) is u]
    return sorted(found, key=lambda u: u.__name__)


def constant(op: Any) -> bool:
    return isinstance(op, Constant) or not any(getattr(op, "partials", (1,)))


def ufunc_lines() -> list[str]:
    smooth = [u for u in ufuncs() if not constant(UFUNCS[u])]
    flat = [u for u in ufuncs() if constant(UFUNCS[u])]
    names = lambda us: ", ".join(f"`np.{u.__name__}`" for u in us)
    composed = sorted(table.CALLS, key=lambda u: u.__name__)
    methods: dict[str, list[str]] = {}
    for u, how in table.METHODS:
        if getattr(np, u.__name__, None) is u:
            methods.setdefault(how, []).append(u.__name__)
    out = [
        "## Ufuncs",
        "",
        f"**With a derivative** ({len(smooth)}): {names(smooth)}.",
        "",
        f"**Made of others**, with their gradients ({len(composed)}): {names(composed)}.",
        "",
        "**By value** (integer, boolean or piecewise constant; recorded as such, so that `vmap` "
        f"and compilation know them; {len(flat)}): {names(flat)}.",
        "",
        "Arguments: `out=` (a tensor), `where=` (with `out=`), `dtype=`, `casting=`, `order=`, "
        "`subok=`; `axis=` for `vecdot`. Refused: `where=` without `out=`, `signature=`, `axes=`, "
        "`axis=` and `keepdims=` elsewhere, and `out=` of a ufunc with two results.",
        "",
        "| method | of |",
        "|---|---|",
    ]
    for how, us in methods.items():
        binary = {u.__name__ for u in ufuncs() if u.nin == 2 and u.signature is None}
        all_binary = set(us) == binary
        every = set(us) == {u.__name__ for u in ufuncs() if u.signature is None}
        text = ", ".join(f"`{n}`" for n in sorted(us))
        what = "every ufunc above" if every else "every ufunc of two arguments above"
        text = f"{what} ({len(us)})" if every or all_binary else text
        out.append(f"| `.{how}` | {text} |")
    return [
        *out,
        "",
        "`reduce` of `add`, `multiply`, `maximum`, `minimum`, `logical_and`, `logical_or` takes "
        "`where=`; the others refuse it.",
        "",
    ]


# ------------------------------------------------------------------ methods, special functions


SHORT = {
    "conj": "The complex conjugate.",
    "conjugate": "The complex conjugate.",
    "copy": "A buffer of its own; the gradient passes through.",
    "flatten": "A copy along one axis.",
    "tolist": "The values as nested lists of Python numbers.",
    "resize": "Refuses: it would change a recorded value's shape.",
    "view": "Refuses: other readings of the same memory have no derivative.",
}


def method_lines() -> list[str]:
    """The methods and attributes of an array that a tensor has, and those that it has not."""
    shared = [n for n in dir(np.ndarray) if not n.startswith("_")]
    have = [n for n in shared if hasattr(Tensor, n)]
    calls = [n for n in have if callable(getattr(Tensor, n))]
    rest = [n for n in have if n not in calls]
    lack = [n for n in shared if n not in have]
    rows = ["| method | arguments | |", "|---|---|---|"]
    for n in calls:
        f = getattr(Tensor, n)
        text = SHORT.get(n) or summary(f)
        rows.append(f"| `{n}` | {cell(arguments(f, skip=1))} | {text} |")
    own = [n for n in dir(Tensor) if not n.startswith("_") and n not in shared]
    names = lambda ns: ", ".join(f"`{n}`" for n in ns)
    return [
        "## Methods of a tensor",
        "",
        *rows,
        "",
        f"Attributes: {names(rest)}. Operators: all of Python's, in place as well, indexing and "
        f"assignment with every index of NumPy's. Of an array only {names(lack)} are missing. "
        f"Its own: {names(own)}.",
        "",
    ]


def special_rows() -> list[str]:
    out = ["| function | derivative refused in | |", "|---|---|---|"]
    for name, f in vars(special).items():
        if name.startswith("_") or not inspect.isfunction(f) or f.__module__ != special.__name__:
            continue
        if name in ("pointwise", "numpy_i0"):
            continue
        cells = {k: c.cell_contents for k, c in zip(f.__code__.co_freevars, f.__closure__ or ())}
        op = cells.get("op") or {"zeta": special_ops.zeta}.get(name)
        params = list(inspect.signature(f).parameters)
        no = [f"`{params[i]}`" for i in sorted(getattr(op, "refused", {}))]
        text = summary(f).removesuffix("; point by point.")
        if text.startswith("scipy.special."):
            terms = text.partition(", for ")[2]
            text = EQUATIONS[op.name] + (f", for {terms}" if terms else "")
        signature = ", ".join(p.lstrip("_") for p in params)
        out.append(f"| `{name}({signature})` | {', '.join(no)} | {text} |")
    return [*out, ""]


# ------------------------------------------------------------------ the page


def render() -> str:
    themes = functions()
    plain = sum(len(v) for v in themes.values())
    grad = sum(keeps(g) for v in themes.values() for g, _ in v)
    counts = (
        f"{grad} functions keep gradients, {plain - grad} more are answered and have no "
        f"derivative, {len(table.BY_VALUE)} are passed plain values; {len(ufuncs())} ufuncs of "
        f"NumPy and {len(table.CALLS)} made of them."
    )
    out = [INTRO.format(counts=counts)]
    for name, pairs in themes.items():
        out += [f"## {THEMES.get(name, name.capitalize())}", "", *function_rows(pairs)]
    values = ", ".join(sorted(f"`{name_of(g)}`" for g in table.BY_VALUE))
    out += [
        "## By value",
        "",
        "These get the plain arrays under the tensors and return what NumPy returns: indices, "
        f"truth values, text, types. {values}.",
        "",
        *ufunc_lines(),
        *method_lines(),
        "## Special functions",
        "",
        "`wengert.numpy.special` has these, for arrays and for tensors; `scipy.special.f(tensor)` "
        "finds its way here as well wherever SciPy's function is a ufunc. They need the extra "
        "`wengert[special]`. A derivative that is not known refuses by name.",
        "",
        *special_rows(),
    ]
    return "\n".join(out).rstrip() + "\n"


def stale() -> bool:
    return not PAGE.exists() or PAGE.read_text() != render()


def main(*argv: str) -> int:
    if "--check" in argv:
        if stale():
            print("docs/numpy.md is stale: python docs/make_numpy.py")
        return int(stale())
    PAGE.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
