"""A function called uncompiled and compiled, on copies of the same: results, types, effects."""

import dataclasses
import warnings

import numpy as np

import wengert as wg
from wengert.errors import CompileWarning

BACKENDS = ("numpy", "llvm")
RTOL = {"float16": 4e-3, "float32": 4e-6, "complex64": 4e-6}


def kind(x):
    """What a result is: its type, and the shapes and types inside."""
    if isinstance(x, dict):
        return {k: kind(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return type(x), [kind(v) for v in x]
    if isinstance(x, wg.Tensor):
        return "tensor", str(x.dtype), x.shape, x.requires_grad
    if isinstance(x, np.ndarray):
        return "array", str(x.dtype), x.shape
    return type(x)


def near(a, b, rtol=None, what=""):
    """Equal results, up to rounding."""
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b)
        return near(vars(a), vars(b), rtol, what)
    assert kind(a) == kind(b), f"{what}: {kind(a)} uncompiled, {kind(b)} compiled"
    if isinstance(a, dict):
        for k in a:
            near(a[k], b[k], rtol, f"{what}[{k!r}]")
    elif isinstance(a, list | tuple):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            near(x, y, rtol, f"{what}[{i}]")
    elif isinstance(a, wg.Tensor | np.ndarray | np.generic):
        x, y = (np.asarray(v.value() if isinstance(v, wg.Tensor) else v) for v in (a, b))
        tol = RTOL.get(str(x.dtype), 1e-12) if rtol is None else rtol
        scale = np.max(np.abs(x[np.isfinite(x)]), initial=0.0) if x.dtype.kind in "fc" else 0.0
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(y, x, rtol=tol, atol=tol * scale, err_msg=what)
    elif isinstance(a, float):
        assert repr(a) == repr(b) or abs(a - b) <= 1e-12 * abs(a), f"{what}: {a} and {b}"
    else:
        assert a == b or a is b, f"{what}: {a} and {b}"
    return None


def outcome(f, args, kwargs):
    try:
        return f(*args, **kwargs), None
    except Exception as error:
        return None, error


def same(f, *makers, backend="numpy", times=3, rtol=None, refused=None, variants=None):
    """f called `times` with what each maker gives, both ways. Returns the compiled function.

    Args:
        makers: () -> the arguments, made anew for each call.
        refused: a text in the one warning that is expected; None for none at all.
        variants: how many programs there are in the end.
    """
    g = wg.compile(f, backend=backend)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k, make in enumerate(makers):
            for i in range(times):
                args, again = make(), make()
                want, raised = outcome(f, args, {})
                got, error = outcome(g, again, {})
                where = f"arguments {k}, call {i}"
                assert type(raised) is type(error), f"{where}: {raised!r} and {error!r}"
                if raised is None:
                    near(want, got, rtol, where)
                    near(args, again, rtol, f"{where}: arguments")
                else:
                    assert str(raised).split("\n")[0] == str(error).split("\n")[0]
    said = [str(w.message) for w in caught if issubclass(w.category, CompileWarning)]
    if refused is None:
        assert not said, said
        assert not g.refused, g.refused
    else:
        assert said, "no warning"
        assert refused in said[0], said
        assert len(said) == len(set(said)), "said twice"
    if variants is not None:
        assert programs(g) == variants, [v.why for v in all_variants(g)]
    return g


def all_variants(g):
    return [v for vs in g.variants.values() for v in vs]


def programs(g):
    return len(all_variants(g))


class Count:
    """Counts how often the function itself has run: a counter that no recording notices."""

    watched = False

    def __init__(self):
        self.n = 0

    def __call__(self):
        self.n += 1
