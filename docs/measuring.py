"""What docs/measured.json holds: errors against mpmath in ulps, and which laws are run.

The references, the points and the reasons for exceptions are those of the tests: tests/ops/exact.py
and tests/ops/test_accuracy.py for the elementwise table, tests/ops/test_special.py for the special
functions (whose values, SciPy's, are measured here as well). The laws are those of wengert.testing.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

from wengert import testing
from wengert.primitive import Constant
from wengert.trace import OPS

ROOT = Path(__file__).resolve().parents[1]
POINTS, SEED = 1000, 2
sys.path.append(str(ROOT / "tests" / "ops"))
accuracy: Any = importlib.import_module("test_accuracy")
special: Any = importlib.import_module("test_special")

# ------------------------------------------------------------------ values of special functions


def incomplete(lower: bool) -> Any:
    ends = (lambda x: (0, x)) if lower else (lambda x: (x, mp.inf))
    return lambda a, x: mp.gammainc(a, *ends(x), regularized=True)


def tail(x: Any) -> Any:
    return mp.erfc(x / mp.sqrt(2)) / 2


def regularized_beta(a: Any, b: Any, x: Any) -> Any:
    """By a series of positive terms (DLMF 8.17.8), which converges where mpmath's does not."""
    total, term, k = mp.mpf(0), mp.mpf(1), 0
    while term > total * mp.eps:
        total += term
        term *= (a + b + k) / (a + 1 + k) * x
        k += 1
    return x**a * (1 - x) ** b / (a * mp.beta(a, b)) * total


VALUES: dict[str, Any] = {
    "gamma": mp.gamma,
    "gammaln": lambda x: mp.re(mp.loggamma(x)),
    "loggamma": mp.loggamma,
    "psi": lambda x: mp.psi(0, x),
    "polygamma": lambda n, x: mp.psi(int(n), x),
    "beta": mp.beta,
    "betaln": lambda a, b: mp.log(mp.beta(a, b)),
    "poch": mp.rf,
    "binom": mp.binomial,
    "zeta": mp.zeta,
    "gammainc": incomplete(True),
    "gammaincc": incomplete(False),
    "betainc": regularized_beta,
    "erfcx": special.erfcx,
    "erfinv": mp.erfinv,
    "erfcinv": special.erfcinv,
    "ndtri": special.ndtri,
    "log_ndtr": lambda x: mp.log1p(-tail(x)) if x > 0 else mp.log(tail(-x)),
    "dawsn": special.dawsn,
    "jv": mp.besselj,
    "yv": mp.bessely,
    "iv": mp.besseli,
    "kv": mp.besselk,
    "ive": special.ive,
    "kve": special.kve,
    "logit": lambda x: mp.log(x / (1 - x)),
    "entr": lambda x: -x * mp.log(x),
    "rel_entr": lambda a, b: a * mp.log(a / b),
    "kl_div": lambda a, b: a * mp.log(a / b) - a + b,
    "xlogy": lambda a, b: a * mp.log(b),
    "xlog1py": lambda a, b: a * mp.log1p(b),
    "exp1": mp.e1,
    "expi": mp.ei,
    "ellipk": mp.ellipk,
    "ellipe": mp.ellipe,
    "ellipkm1": lambda p: mp.ellipk(1 - p),
    "exprel": lambda x: mp.expm1(x) / x if x else mp.mpf(1),
    "boxcox": lambda a, b: (a**b - 1) / b if b else mp.log(a),
    "pseudo_huber": lambda a, b: a * b * b / (mp.hypot(a, b) + a),
    "lambertw_0": lambda x: special.w(0, x),
    "lambertw_m1": lambda x: special.w(-1, x),
}
EXTRA_DIGITS = 60  # a closed form may cancel where the function does not

# ------------------------------------------------------------------ figures


def figure(error: float, at: Any) -> list[Any]:
    """[ulps to three digits, the point]; JSON has no infinity, so a text stands for it."""
    ulps: Any = float(f"{error:.3g}") if math.isfinite(error) else "inf"
    return [ulps, [float(v) for v in at]]


def table_figures(name: str, n: int) -> dict[str, Any]:
    worst = accuracy.measure(name, n, SEED)
    return {"": {which: figure(*found) for which, found in worst.items()}}


def special_figures(case: str) -> dict[str, Any]:
    """The worst ulps of one case: of the value, the first and the second derivative."""
    op, i, xs, *wants = special.CASES[case]
    scale = wants.pop() if len(wants) > 2 else None
    xs = [np.asarray(x, float) for x in xs]
    which = ["y", "abc"[i], "abc"[i] * 2]
    found = {}
    with mp.workdps(special.DPS):
        points = [[mp.mpf(float(v)) for v in row] for row in zip(*xs)]
        sizes = [float(scale(*p)) if scale else 0 for p in points]
        for n, want in enumerate((VALUES.get(op.name), *wants)):
            if want is None:
                continue
            with mp.workdps(special.DPS + (EXTRA_DIGITS if n == 0 else 0)):
                exact = [want(*p) for p in points]
            got = special.derivative(op, i, xs, n)
            errors = [special.ulps(g, w, z) for g, w, z in zip(got, exact, sizes)]
            k = int(np.argmax(errors))
            found[which[n]] = figure(errors[k], [x[k] for x in xs])
    return found


def cases_of(name: str) -> list[str]:
    return [case for case, row in special.CASES.items() if row[0].name == name]


def figures(name: str, n: int = POINTS) -> dict[str, Any]:
    """Case by case (the elementwise table has one, without a name) the worst error and its point.

    The keys are "y", and "a", "ab" .. for derivatives; x is "a".
    """
    if name in accuracy.names():
        return table_figures(name, n)
    return {case: special_figures(case) for case in cases_of(name)}


# ------------------------------------------------------------------ bounds and reasons


def terms(name: str, which: str) -> bool:
    """Whether ulps are of the terms of a sum, not of the sum."""
    return accuracy.bound(name, which)[1] is not None if name in accuracy.names() else False


def envelope(case: str) -> bool:
    return bool(case) and len(special.CASES[case]) > 5 and special.CASES[case][5] is not None


def bound_of(name: str, case: str, which: str) -> tuple[float, str]:
    """(the bound that the tests hold it to, the reason where that is not the general one)."""
    if not case:
        held = accuracy.EXCEPTIONS.get((name, which))
        return accuracy.bound(name, which)[0], held.why if held else ""
    first, second, why = special.EXCEPTIONS.get(case, (4, 4, ""))
    if which == "y":  # a value that is not NumPy's nor ours
        return math.inf, special.SCIPY
    return (first, second)[len(which) - 1], why


# ------------------------------------------------------------------ the laws

MODES = {
    "": ("F", "R"),
    "vjp": ("FR", "RR"),
    "jvp": ("FF", "RF"),
}


def laws(name: str) -> dict[str, Any]:
    """Which laws are run for an operation, found by running them."""
    seen: set[str] = set()
    old = {k: getattr(testing, k) for k in ("_check", "_vmap_law", "_lower_law")}

    def check(f: Any, args: Any, order: int, modes: Any, rtol: float, rng: Any, label: str) -> None:
        outer = label.split(" of ")[0] if label.startswith(("vjp of", "jvp of")) else ""
        seen.update(MODES[outer])
        if label.endswith("of complex numbers"):
            seen.add("C")
        old["_check"](f, args, order, modes, rtol, rng, label)

    def vmap_law(*args: Any) -> None:
        seen.add("V")
        old["_vmap_law"](*args)

    def lower_law(op: Any, xs: Any, y: Any) -> None:
        if op.lower(*[testing.Aval.of(x) for x in xs]) is not None:
            seen.add("L")
        old["_lower_law"](op, xs, y)

    testing._check, testing._vmap_law, testing._lower_law = check, vmap_law, lower_law
    try:
        for op, xs in testing.examples(name):
            testing.check_op(op, *xs)
    finally:
        for k, f in old.items():
            setattr(testing, k, f)
    order = 0 if "F" not in seen else 3 if third_order(name) else 2
    return {"modes": sorted(seen, key=lambda m: (len(m), m)), "order": order}


def third_order(name: str) -> bool:
    """Whether the derivatives of the first example hold to third order, in every mixture."""
    op, xs = next(iter(testing.examples(name)))
    wrt = [i for i, x in enumerate(xs) if np.asarray(x).dtype.kind in "fc"]

    def f(*active: Any) -> Any:
        full = list(xs)
        for i, a in zip(wrt, active):
            full[i] = a
        return testing.bind(op, *full)

    try:
        testing.check_grads(f, tuple(xs[i] for i in wrt), order=3, rtol=1e-5, name=name)
    except testing.LawBroken as error:
        print(f"not to third order: {error}")
        return False
    except Exception as error:
        print(f"not to third order: {name}: {str(error).splitlines()[0]}")
        return False
    return True


def has_derivative(op: Any) -> bool:
    kind = op if isinstance(op, type) else type(op)
    return not issubclass(kind, Constant)


# ------------------------------------------------------------------ what was measured


def fingerprint(name: str) -> str:
    """Of the text of a rule and of the value's own Python: other rules ask for new figures."""
    op = OPS[name]
    if isinstance(op, type):
        return ""
    functions = [op.f, *getattr(op, "partials", ()), getattr(op, "forward", None)]
    text = "".join(" ".join(source(f).split()) for f in functions if f is not None)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def source(f: Any) -> str:
    if not hasattr(f, "__code__"):
        return str(getattr(f, "__name__", f))
    try:
        return inspect.getsource(f)
    except OSError:
        return str(f.__code__.co_code)


def record(name: str, n: int = POINTS) -> dict[str, Any]:
    """Everything that is measured of one operation."""
    return {"rule": fingerprint(name), "laws": laws(name), "ulps": figures(name, n)}
