# ruff: noqa: E501 - a table has one case a line
# fmt: off
"""Cases: the methods of tensors, ufuncs with arguments, the methods of ufuncs, indexing."""

import numpy as np
from numpy_cases_a import I4, NOGRAD, A, B, C, M, P, S, V, wg_zeros
from numpy_checks import arr, case

N = {**NOGRAD, "vmap": False}

# ------------------------------------------------------------------ methods
METHODS = {
    "sum": lambda x: x.sum(axis=0, keepdims=True),
    "sum all": lambda x: x.sum(),
    "sum dtype": lambda x: x.sum(dtype=np.float64),
    "prod": lambda x: x.prod(axis=1),
    "max": lambda x: x.max(0),
    "min": lambda x: x.min(axis=-1),
    "mean": lambda x: x.mean(1),
    "var": lambda x: x.var(axis=0, ddof=1),
    "std": lambda x: x.std(keepdims=True),
    "cumsum": lambda x: x.cumsum(1),
    "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(),
    "flatten F": lambda x: x.flatten("F"),
    "reshape": lambda x: x.reshape(2, 6),
    "reshape tuple": lambda x: x.reshape((4, -1)),
    "reshape F": lambda x: x.reshape((4, 3), order="F"),
    "transpose": lambda x: x.transpose(),
    "transpose axes": lambda x: x.transpose(1, 0),
    "transpose tuple": lambda x: x.transpose((1, 0)),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "squeeze": lambda x: x[None].squeeze(0),
    "take": lambda x: x.take(I4, axis=1),
    "repeat": lambda x: x.repeat(2, 0),
    "compress": lambda x: x.compress([True, False, True], axis=0),
    "choose": lambda x: np.choose((x > 0).astype(int), [x, x * x]),
    "diagonal": lambda x: x.diagonal(1),
    "trace": lambda x: x.trace(),
    "clip": lambda x: x.clip(-1, 1),
    "copy": lambda x: x.copy(),
    "conj": lambda x: x.conj(),
    "conjugate": lambda x: x.conjugate(),
    "real imag": lambda x: [x.real, x.imag],
    "T": lambda x: x.T,
    "mT": lambda x: x[None].mT,
    "dot": lambda x: x.dot(np.ones((4, 2))),
    "astype": lambda x: x.astype(np.complex128),
    "items": lambda x: list(x),
    "pos neg abs": lambda x: [-x, abs(x)],
    "arithmetic": lambda x: [x + 1, 2 - x, x * 3, x / 2, x**2, x @ x.T, 1 + x * x],
    "reflected": lambda x: [1.5 / (x + 7), 2 ** (x / 4), np.ones(4) * x, np.ones((2, 3)) @ x],
}
for name, f in METHODS.items():
    real = name in ("max", "min", "clip", "choose", "sum dtype")
    ints = name in ("std", "var", "mean", "astype", "reflected", "arithmetic", "pos neg abs")
    case(f"x.{name}", f, A, dtypes="fl" if real else "fD" if ints else "fDlb")
VALUES = {
    "argmax": lambda x: x.argmax(1),
    "argmin": lambda x: x.argmin(keepdims=True),
    "argsort": lambda x: x.argsort(0, kind="stable"),
    "any": lambda x: (x > 1).any(axis=0),
    "all": lambda x: (x > -1).all(1),
    "round": lambda x: x.round(),
    "round 2": lambda x: x.round(2),
    "astype int": lambda x: x.astype(int),
    "comparisons": lambda x: [x > 0, x >= 0, x < 0, x <= 0, x == x, x != x],
    "floor": lambda x: [x // 1, np.floor(x), np.ceil(x), np.sign(x)],
}
for name, f in VALUES.items():
    case(f"x.{name}", f, A, **NOGRAD, dtypes="fl")
case("x.nonzero", lambda x: x.nonzero(), A, **N)
case("x.attributes", lambda x: [np.asarray(v) for v in (*x.shape, x.ndim, x.size, x.nbytes, x.itemsize, len(x))], A, **N)
case("x.tolist", lambda x: x.tolist() == x.tolist() and x.tobytes() == x.copy().tobytes(), A, **N, dtypes="fl")
case("x.item", lambda x: np.asarray(x.item(1, 2)), A, **N, dtypes="l")
case("x.searchsorted", lambda x: x.searchsorted([0.0, 0.5]), np.sort(V), **N, dtypes="fl")
case("x.flat", lambda x: list(x.flat)[3], A, dtypes="fl")
case("x in", lambda x: bool(x[0, 0] in x), A, **N)
case("divmod", lambda a, b: divmod(a, b), A, P, dtypes="f", second=False)
case("mod", lambda a, b: a % b, A, P, dtypes="f")
case("bits", lambda a: [a & 3, a | 1, a ^ 2, ~a, a << 1, a >> 1], (A * 4).astype(int), **N, dtypes="")
for n, f in {
    "x.sum": lambda x: x.sum(axis=7), "x.prod": lambda x: x.prod(axis=7), "x.mean": lambda x: x.mean(7), "x.max": lambda x: x.max(axis=2),
    "x.var": lambda x: x.var(axis=7), "x.std": lambda x: x.std(axis=-3), "x.cumsum": lambda x: x.cumsum(2), "x.reshape": lambda x: x.reshape(5, 5),
    "x.transpose": lambda x: x.transpose(0, 2), "x.swapaxes": lambda x: x.swapaxes(0, 2), "x.squeeze": lambda x: x.squeeze(0), "x.take": lambda x: x.take([12]),
    "x.repeat": lambda x: x.repeat([1, 2], 0), "x.dot": lambda x: x.dot(np.ones(3)), "x.argmax": lambda x: x.argmax(2), "x.astype": lambda x: x.astype(int, casting="safe"),
    "x.mT": lambda x: x[0].mT, "x.item": lambda x: x.item(99), "x[9]": lambda x: x[9], "x[1, 9]": lambda x: x[1, 9], "x[..., ...]": lambda x: x[..., ...],
    "x[0, 0, 0]": lambda x: x[0, 0, 0], "x[1.5]": lambda x: x[1.5], "x[mask]": lambda x: x[np.ones(5, bool)], "x[[9]]": lambda x: x[[9]],
}.items():
    if n != "x.item":
        case(f"bad {n}", f, A, **N, dtypes="fl" if n == "x.astype" else "")

# ------------------------------------------------------------------ indexing
INDICES = {
    "int": 1, "negative": -1, "slice": slice(1, None), "step": slice(None, None, -2), "ellipsis": Ellipsis, "new": (None, 1),
    "pair": (1, slice(0, 2)), "list": [1, 0, 1], "array": np.array([[0, 1], [1, 0]]), "mask": C[:, 0, 0] > 0, "full mask": C > 0,
    "rows mask": (slice(None), M[:, 0]), "two lists": ([0, 1, 1], [2, 0, 0]), "int again": 1, "False": False, "apart": ([0, 1], slice(None), [3, 0]), "mixed": (0, [1, 2], slice(1, 3)),
    "int apart": (0, slice(None), [1, 1]), "ix": np.ix_([1, 0], [0, 2], [3]), "empty list": ([],), "bool": True, "all": (), "new mask": (None, C > 0),
}
for n, i in INDICES.items():
    case(f"x[{n}]", lambda x, i=i: x[i], C, vmap=n not in ("bool", "False"), grad=n != "empty list", second=n not in ("empty list", "False"))
case("x[x > 0]", lambda x: x[x > 0], A, vmap=False, dtypes="fl")
case("x[argsort]", lambda x: x[np.argsort(x, kind="stable")], V, dtypes="flb")
case("x[argmax]", lambda x: x[np.argmax(x)], V, dtypes="fl")

# ------------------------------------------------------------------ ufuncs with arguments
case("add dtype", lambda a, b: np.add(a, b, dtype="f8"), A, B, dtypes="fl")
case("add narrowed", lambda a, b: np.add(a, b, dtype="f4", casting="same_kind"), A, B, dtypes="l", grad=False, second=False)
case("add unsafe", lambda a, b: np.add(a, b, dtype="i4", casting="unsafe"), A, B, **NOGRAD, dtypes="fl")
case("add refused", lambda a, b: np.add(a, b, dtype="i4"), A, B, **N, dtypes="f")
case("greater dtype", lambda a, b: np.greater(a, b, dtype=bool), A, B, **NOGRAD, dtypes="fl")
case("abs dtype", lambda a: np.abs(a, dtype="f8"), A, dtypes="f")
case("sqrt scalar dtype", lambda a: np.multiply(a, 2.5, dtype="f8"), A, dtypes="fl")
case("sin out", lambda a: np.sin(a, out=wg_zeros((3, 4), a)), A, dtypes="fD", vmap=False)
case("sin where", lambda a: np.sin(a, out=wg_zeros((3, 4), a), where=M), A, dtypes="fD", vmap=False)
case("add where", lambda a, b: np.add(a, b, out=wg_zeros((3, 4), a), where=M), A, B, dtypes="fD", vmap=False)
case("order subok", lambda a: np.exp(a, order="F", subok=False), A)
case("out shape", lambda a: np.sin(a, out=wg_zeros(4, a)), A, **N, dtypes="f")
case("add mismatch", lambda a: np.add(a, np.ones((5, 5))), A, **N)
case("modf", np.modf, A * 3, dtypes="f", second=False)
case("divmod ufunc", np.divmod, A, P, dtypes="fl", second=False)
case("ldexp", lambda a: np.ldexp(a, [1, -2, 3, 0]), A, dtypes="f")
case("frexp", np.frexp, A, dtypes="f", vmap=False)
case("gcd", lambda a: np.gcd(a, 6), (A * 9).astype(int), **N, dtypes="")
UNARY = [
    u for u in vars(np).values() if isinstance(u, np.ufunc) and u.nin == u.nout == 1
    and "d->d" in u.types and u not in (np.spacing, np.invert)
]
for u in dict.fromkeys(UNARY):
    x = 1 + P if u in (np.arccosh,) else np.tanh(P) * 0.9 if u in (np.arctanh, np.arcsin, np.arccos) else P
    flat = u in (np.ceil, np.floor, np.rint, np.trunc, np.sign)
    real = {np.cbrt: "fl", np.fabs: "fl"}.get(u, "fD")
    if u is not None:
        case(f"ufunc {u.__name__}", u, x, grad=not flat, second=not flat, dtypes=real if u is not np.reciprocal else "fD")
BINARY = [np.add, np.subtract, np.multiply, np.true_divide, np.power, np.arctan2, np.hypot, np.logaddexp, np.logaddexp2]
BINARY += [np.maximum, np.minimum, np.fmax, np.fmin, np.float_power, np.copysign, np.fmod, np.remainder]
for u in BINARY:
    case(f"ufunc {u.__name__}", u, P, arr(4, seed=9, low=0.4), dtypes="f", second=u not in (np.fmod, np.remainder))
    case(f"ufunc {u.__name__} scalar", lambda a, u=u: u(a, 1.5), P, dtypes="f", second=False)

# ------------------------------------------------------------------ methods of ufuncs
for u in (np.add, np.multiply, np.maximum, np.minimum):
    n = u.__name__
    case(f"{n}.reduce", u.reduce, A, dtypes="fl")
    case(f"{n}.reduce all", lambda x, u=u: u.reduce(x, axis=None, keepdims=True), A, dtypes="fl")
    case(f"{n}.reduce axes", lambda x, u=u: u.reduce(x, axis=(0, 2)), C, dtypes="fl")
    case(f"{n}.reduce initial", lambda x, u=u: u.reduce(x, axis=1, initial=0.5, where=M), A, dtypes="f")
    case(f"{n}.accumulate", u.accumulate, A, dtypes="fl")
    case(f"{n}.accumulate axis", lambda x, u=u: u.accumulate(x, axis=-1), A, dtypes="f")
    case(f"{n}.reduceat", lambda x, u=u: u.reduceat(x, [0, 3, 1, 2], axis=1), A, dtypes="fl")
    case(f"{n}.outer", u.outer, A, V, dtypes="fl")
    case(f"{n}.reduce bad", lambda x, u=u: u.reduce(x, axis=2), A, **N, dtypes="")
case("add.reduce dtype", lambda x: np.add.reduce(x, dtype="f8"), A, dtypes="fl")
case("add.reduceat bad", lambda x: np.add.reduceat(x, [9]), A, **N, dtypes="")
for u in (np.subtract, np.true_divide, np.logaddexp, np.hypot, np.fmax):
    n = u.__name__
    case(f"{n}.reduce", u.reduce, P, dtypes="f")
    case(f"{n}.reduce keepdims", lambda x, u=u: u.reduce(x, axis=1, keepdims=True), P, dtypes="f", second=False)
    case(f"{n}.accumulate", lambda x, u=u: u.accumulate(x, axis=1), P, dtypes="f")
    case(f"{n}.outer", u.outer, P, arr(3, low=0.5), dtypes="f", second=False)
case("logical_and.reduce", lambda x: np.logical_and.reduce(x > 0, axis=1), A, **NOGRAD, dtypes="f")
case("logical_or.reduce", lambda x: np.logical_or.reduce(x > 1, axis=None), A, **NOGRAD, dtypes="f")
case("greater.outer", np.greater.outer, V, V, **NOGRAD, dtypes="fl")
__all__ = ["S"]
