"""Generic checks over a registry of cases: a function of arrays that imports only numpy.

A case is one line: a name, a function, example inputs. What is checked of each:
value, dtype and shape as NumPy's, recorded or not, in every dtype and memory layout;
jvp against a central difference; vjp as the adjoint of jvp; the derivative of vjp; vmap as a stack
of calls.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np

import wengert as wg
from wengert.errors import TapeExitError, UnsupportedError
from wengert.graph import evaluate
from wengert.transforms.staging import stage

CASES = []


@dataclass
class Case:
    name: str
    f: object
    xs: tuple
    grad: bool = True  # has a derivative
    second: bool = True
    vmap: bool = True
    dtypes: str = "fDlb"  # besides the example's own
    exact: bool = False
    tags: dict = field(default_factory=dict)

    def __str__(self):
        return self.name


def case(name, f, *xs, **options):
    CASES.append(Case(name, f, xs, **options))


def arr(*shape, seed=0, low=None):
    """Reproducible numbers, all different, away from 0 by `low`."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return x if low is None else np.abs(x) + low


def cast(x, dtype):
    if dtype in "FD":
        return (x + 1j * np.roll(x, 1)).astype(dtype)
    if dtype == "b":
        return x > 0
    if dtype in "lLiI":
        return np.round(x * 4).astype(dtype)
    return x.astype(dtype)


def layouts(xs):
    """The same numbers, stored otherwise."""
    yield "fortran", tuple(np.asfortranarray(x) for x in xs)
    yield (
        "reversed",
        tuple(
            np.ascontiguousarray(x[(slice(None, None, -1),) * x.ndim])[
                (slice(None, None, -1),) * x.ndim
            ]
            for x in xs
        ),
    )
    yield "strided", tuple(np.repeat(x, 2, -1)[..., ::2] if x.ndim else x for x in xs)


def leaves(y):
    if isinstance(y, list | tuple):
        return [leaf for v in y for leaf in leaves(v)]
    if isinstance(y, dict):
        return [leaf for v in y.values() for leaf in leaves(v)]
    return [y]


def numbers(y):
    """Results as plain arrays, floating ones alone."""
    return [v for v in leaves(y) if getattr(v, "dtype", np.dtype(int)).kind in "fc"]


def value(y):
    return np.asarray(y.value() if isinstance(y, wg.Tensor) else y)


def quiet(f, *xs):
    """(result, None) or (None, error), without warnings."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return f(*xs), None
        except Exception as error:
            return None, error


def compare(got, want, what, exact=False):
    if isinstance(want, list | tuple):
        assert isinstance(got, list | tuple), f"{what}: {type(got)} for {type(want)}"
        assert len(got) == len(want), f"{what}: {len(got)} results for {len(want)}"
        for g, w in zip(got, want):
            compare(g, w, what, exact)
        return
    if want is None or isinstance(want, str | bool | np.dtype):
        assert got == want or (isinstance(want, bool) and bool(got) == want), (
            f"{what}: {got} for {want}"
        )
        return
    g, w = value(got), np.asarray(want)
    assert g.shape == w.shape, f"{what}: shape {g.shape} for {w.shape}"
    assert g.dtype == w.dtype, f"{what}: dtype {g.dtype} for {w.dtype}"
    if g.dtype.kind not in "fc" or exact:
        np.testing.assert_array_equal(g, w, what)
    else:
        eps = np.finfo(g.dtype).eps
        finite = np.abs(w[np.isfinite(w)])
        scale = finite.max() if finite.size else 1.0
        np.testing.assert_allclose(g, w, 200 * eps, 200 * eps * scale, err_msg=what)


def check_values(c):
    """Value, dtype, shape are NumPy's, for recorded and unrecorded tensors, dtypes, layouts."""
    kinds = [("", c.xs)]
    kinds += [(d, tuple(cast(x, d) for x in c.xs)) for d in c.dtypes]
    kinds += list(layouts(c.xs))
    for what, xs in kinds:
        want, wrong = quiet(c.f, *xs)
        plain, fault = quiet(c.f, *(wg.tensor(x) for x in xs))
        what = f"{c.name} {what}"
        if wrong is not None:
            assert fault is not None, f"{what}: NumPy refuses ({wrong}), and wengert gives {plain}"
            assert isinstance(fault, wg.WengertError), (
                f"{what}: a raw {type(fault).__name__}: {fault}"
            )
            continue
        if fault is not None:
            raise AssertionError(f"{what}: {type(fault).__name__}: {fault}") from fault
        compare(plain, want, f"{what}, unrecorded", c.exact)
        if all(x.dtype.kind in "fc" for x in xs):
            rec, fault = quiet(c.f, *(wg.tensor(x, requires_grad=True) for x in xs))
            if fault is not None:
                raise AssertionError(f"{what}, recorded: {fault}") from fault
            compare(rec, want, f"{what}, recorded", c.exact)
            for a, b in zip(leaves(rec), leaves(plain)):
                np.testing.assert_array_equal(
                    value(a), value(b), f"{what}: recording changes the value"
                )
            if c.grad and numbers(want):
                assert any(isinstance(v, wg.Tensor) and v.recorded() for v in leaves(rec)), (
                    f"{what}: lost"
                )


def flat(f):
    """f with its floating results as one list of arrays."""
    return lambda *xs: numbers(f(*xs))


def pair(g, x):
    return float(np.sum(np.real(np.asarray(g) * np.asarray(x))))


def directions(xs, seed):
    rng = np.random.default_rng(seed)
    out = []
    for x in xs:
        d = rng.standard_normal(x.shape)
        out.append(d + 1j * rng.standard_normal(x.shape) if x.dtype.kind == "c" else d)
    return tuple(out)


def slope(f, xs, dxs, h=1e-6):
    up = f(*(x + h * d for x, d in zip(xs, dxs)))
    down = f(*(x - h * d for x, d in zip(xs, dxs)))
    return [(value(a) - value(b)) / (2 * h) for a, b in zip(up, down)]


def check_gradients(c):
    """jvp is the slope; vjp is its adjoint; so is the derivative of vjp the slope of vjp."""
    kinds = [c.xs]
    if "D" in c.dtypes and quiet(c.f, *(cast(x, "D") for x in c.xs))[1] is None:
        kinds.append(tuple(cast(x, "D") for x in c.xs))
    for xs in kinds:
        f = flat(c.f)
        dxs = directions(xs, 1)
        ys, dys = wg.jvp(f, xs, dxs)
        want = slope(f, xs, dxs)
        for got, w in zip(dys, want):
            scale = 1 + np.max(np.abs(w), initial=0)
            np.testing.assert_allclose(value(got), w, 1e-6, 1e-6 * scale, err_msg=f"{c.name}: jvp")
        gs = directions([value(y) for y in ys], 2)
        _, pull = wg.vjp(f, *xs)
        back = pull(list(gs))
        back = back if isinstance(back, tuple) else (back,)
        for g, x in zip(back, xs):
            assert value(g).shape == x.shape
            assert value(g).dtype == x.dtype, f"{c.name}: a gradient of dtype {value(g).dtype}"
        left = sum(pair(g, value(d)) for g, d in zip(gs, dys))
        right = sum(pair(value(g), d) for g, d in zip(back, dxs))
        np.testing.assert_allclose(
            right, left, 1e-9, 1e-9, err_msg=f"{c.name}: vjp is not the adjoint"
        )


def check_second(c):
    """The derivative of vjp along a direction, against the central difference of vjp."""
    f, xs = flat(c.f), c.xs
    gs = list(directions([value(y) for y in f(*xs)], 3))

    def pulled(*xs):
        back = wg.vjp(f, *xs)[1](gs)
        return list(back if isinstance(back, tuple) else (back,))

    dxs = directions(xs, 4)
    _, got = wg.jvp(pulled, xs, dxs)
    for a, b in zip(got, slope(pulled, xs, dxs, 1e-5)):
        scale = 1 + np.max(np.abs(b), initial=0)
        np.testing.assert_allclose(
            value(a), b, 1e-5, 1e-5 * scale, err_msg=f"{c.name}: second order"
        )


def check_vmap(c, each=True):
    """vmap is the stack of the calls, over all arguments at once and over each one alone."""
    lanes = [
        tuple(x if k == 0 else x + 0.37 * k * arr(*x.shape, seed=k + 7) for x in c.xs)
        for k in range(3)
    ]
    stacked = tuple(np.stack(xs) for xs in zip(*lanes))
    f = lambda *xs: [v for v in leaves(c.f(*xs)) if hasattr(v, "dtype")]
    choices = [(0,) * len(c.xs)]
    if len(c.xs) > 1:
        alone = range(len(c.xs)) if each else (0,)
        choices += [tuple(0 if i == k else None for i in range(len(c.xs))) for k in alone]
    for axes in choices:
        args = tuple(s if a == 0 else x for s, x, a in zip(stacked, c.xs, axes))
        got = wg.vmap(f, in_axes=axes)(*args)
        wants = [
            f(*(s[k] if a == 0 else x for s, x, a in zip(stacked, c.xs, axes))) for k in range(3)
        ]
        for i, g in enumerate(got):
            compare(g, np.stack([value(w[i]) for w in wants]), f"{c.name}: vmap{axes}")


def check_ownership(c):
    """Plain operands that the user changes after the call do not reach the gradient."""
    for k in range(len(c.xs)):
        grads = []
        for spoil in (False, True):
            xs = [np.array(x) for x in c.xs]
            leaf = wg.tensor(xs[k], requires_grad=True)
            try:
                found = numbers(c.f(*xs[:k], leaf, *xs[k + 1 :]))
            except (UnsupportedError, TapeExitError):
                break  # NumPy does not ask about this argument, or it is the buffer
            ys = [y for y in found if isinstance(y, wg.Tensor)]
            total = sum(((y * y).real.sum() for y in ys if y.recorded()), 0.0)
            for i, x in enumerate(xs):
                if spoil and i != k:
                    x[...] = 7.0
            if isinstance(total, wg.Tensor):
                total.backward()
                grads.append(value(leaf.grad))
        if grads:
            np.testing.assert_array_equal(*grads, err_msg=f"{c.name}: argument {k}")


def check_staged(c):
    """The graph of a function, evaluated, is the function."""
    f = lambda *xs: [v for v in leaves(c.f(*xs)) if hasattr(v, "dtype")]
    want, wrong = quiet(f, *c.xs)
    if wrong is None:
        staged = stage(f, *c.xs)
        constants = [t.value() for t in staged.state]
        got = evaluate(staged.graph, *c.xs, *constants)
        compare([value(g) for g in got[: len(want)]], [value(w) for w in want], f"{c.name}: staged")


def check_nested(c):
    """Derivatives under vmap, and vmap under derivatives, are stacks of derivatives."""
    if quiet(c.f, *c.xs)[1] is not None or not all(x.size for x in c.xs):
        return
    lanes = [tuple(x + 0.05 * k * arr(*x.shape, seed=k + 7) for x in c.xs) for k in range(2)]
    stacked = tuple(np.stack(xs) for xs in zip(*lanes))

    def total(*xs):
        return sum((y * y.conj()).real.sum() for y in numbers(c.f(*xs)))

    everything = tuple(range(len(c.xs)))
    want = [wg.grad(total, everything, allow_unused=True)(*xs) for xs in lanes]
    inside = wg.vmap(wg.grad(total, everything, allow_unused=True))(*stacked)
    outside = wg.grad(lambda *xs: wg.vmap(total)(*xs).sum(), everything, allow_unused=True)(
        *stacked
    )
    forward = wg.vmap(lambda *xs: wg.jvp(total, xs, xs)[1])(*stacked)
    for i in everything:
        w = np.stack([value(g[i]) for g in want])
        scale = 1 + np.max(np.abs(w), initial=0)
        np.testing.assert_allclose(
            value(inside[i]), w, 1e-9, 1e-9 * scale, err_msg=f"{c.name}: vmap(grad)"
        )
        np.testing.assert_allclose(
            value(outside[i]), w, 1e-9, 1e-9 * scale, err_msg=f"{c.name}: grad(vmap)"
        )
    for k, xs in enumerate(lanes):
        slope = sum(pair(value(g), x) for g, x in zip(want[k], xs))
        np.testing.assert_allclose(
            value(forward)[k], slope, 1e-8, 1e-8, err_msg=f"{c.name}: vmap(jvp)"
        )
