"""Operations of random programs: shapes, indices, joins, products, control flow."""

from typing import Any

import numpy as np
from random_ops import away, beyond, one_axis, op, or_flat, raw

# ------------------------------------------------------------------ rearrangements


def moved(f: Any) -> Any:
    """The peer of a rearrangement: the flat operand, gathered at where the numbers came from."""

    def peer(m: Any, x: Any, *params: Any) -> Any:
        places = np.arange(np.size(raw(x))).reshape(np.shape(raw(x)))
        return m.ravel(x)[f(np, places, *params)]

    return peer


def move(name: str, f: Any, params: Any, **options: Any) -> None:
    op(name, f, params=params, peer=moved(f), **options)


def new_shape(pick: Any, x: Any) -> Any:
    n = x.size
    shapes = [(n,), (1, n), (n, 1), (-1,)] if n else [x.shape[::-1], (0, 2), (*x.shape, 1)]
    shapes += [(k, n // k) for k in (2, 3) if n and n % k == 0]
    shapes += [(-1, k, 1) for k in (2, 3) if n and n % k == 0]
    shapes += [()] if n == 1 else []
    return (pick(shapes),)


def some_order(pick: Any, x: Any) -> Any:
    left, order = list(range(x.ndim)), []
    while left:
        order.append(left.pop(pick(range(len(left)))))
    return (tuple(order),)


def wider(pick: Any, x: Any) -> Any:
    shape = tuple(3 if n == 1 else n for n in x.shape)
    return (pick((shape, (2, *shape), (2, *x.shape))),)


def two_axes(pick: Any, x: Any) -> Any:
    return (pick(range(-x.ndim, x.ndim)), pick(range(x.ndim))) if x.ndim else None


def axis_and(*choices: Any) -> Any:
    return lambda pick, x: (pick(choices), pick(range(-x.ndim, x.ndim))) if x.ndim else None


move("reshape", lambda m, x, s: m.reshape(x, s), new_shape)
move("x.reshape", lambda m, x, s: x.reshape(*s) if s else x.reshape(()), new_shape)
move("reshape F", lambda m, x, s: m.reshape(x, s, order="F"), new_shape)
move("ravel", lambda m, x: m.ravel(x), lambda pick, x: ())
move("transpose", lambda m, x, order: m.transpose(x, order), some_order)
move("x.T", lambda m, x: x.T, lambda pick, x: ())
move("swapaxes", lambda m, x, a, b: m.swapaxes(x, a, b), two_axes)
move("moveaxis", lambda m, x, a, b: m.moveaxis(x, a, b), two_axes)
move("broadcast_to", lambda m, x, s: m.broadcast_to(x, s), wider)
move("expand_dims", lambda m, x, a: m.expand_dims(x, a), lambda pick, x: (pick((0, -1)),))
move("squeeze", lambda m, x: m.squeeze(x), lambda pick, x: ())
move("flip", lambda m, x, a: m.flip(x, a), or_flat)
move("roll", lambda m, x, k, a: m.roll(x, k, a), axis_and(1, -2, 0))
move("repeat", lambda m, x, k, a: m.repeat(x, k, a), axis_and(1, 2))
move(
    "tile", lambda m, x, k: m.tile(x, k), lambda pick, x: (pick((2, (2, 1), (1, 2))),), numpys=False
)
move("diagonal", lambda m, x: m.diagonal(x), lambda pick, x: () if x.ndim == 2 else None)
move("rot90", lambda m, x: m.rot90(x), lambda pick, x: () if x.ndim == 2 else None)
move("take", lambda m, x, i, a: m.take(x, i, axis=a), lambda pick, x: taking(pick, x))


def taking(pick: Any, x: Any) -> Any:
    got = one_axis(pick, x)
    if got is None or not x.shape[got[0]]:
        return None
    n = x.shape[got[0]]
    return pick(((0,), (n - 1, 0, 0), ((0,), (n - 1,)))), *got


def triangle(name: str) -> None:
    op(
        name,
        lambda m, x, k: getattr(np, name)(x, k),
        peer=lambda m, x, k: x * getattr(np, name)(np.ones(raw(x).shape), k),
        params=lambda pick, x: (pick((0, 1, -1)),) if x.ndim >= 2 else None,
    )


triangle("tril")
triangle("triu")
op(
    "pad",
    lambda m, x, w: np.pad(x, w),
    params=lambda pick, x: (pick((1, 2)),),
    peer=lambda m, x, w: outside(m, x, w),
)


def outside(m: Any, x: Any, w: int) -> Any:
    """Padding by concatenation, axis by axis."""
    for axis in range(np.ndim(raw(x))):
        s = list(np.shape(raw(x)))
        s[axis] = w
        x = m.concatenate([np.zeros(s), x, np.zeros(s)], axis)
    return x


# ------------------------------------------------------------------ indices
# An index is a tuple of numbers, slices, None, Ellipsis, and tuples that stand for arrays.


def as_index(index: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(np.array(i) if isinstance(i, tuple) else i for i in index)


def slices(pick: Any, n: int) -> slice:
    return pick(
        (
            slice(None),
            slice(1, None),
            slice(None, -1),
            slice(None, None, 2),
            slice(None, None, -1),
            slice(0, 1),
        )
    )


def basic(pick: Any, shape: tuple[int, ...], numbers: bool = True) -> tuple[Any, ...]:
    index: list[Any] = []
    for n in shape[: pick(range(len(shape) + 1))]:
        how = pick("nss") if numbers and n else "s"
        index.append(pick((0, -1, n - 1)) if how == "n" else slices(pick, n))
    extra = pick(("", "", "none", "dots"))
    if extra:
        index.insert(pick(range(len(index) + 1)), None if extra == "none" else Ellipsis)
    return tuple(index)


def advanced(pick: Any, shape: tuple[int, ...]) -> Any:
    """One or two index arrays, or a mask, among slices; None if there is nothing to choose from."""
    if not shape or 0 in shape:
        return None
    how = pick(("one", "two", "mask", "rows"))
    if how == "mask":
        mask = np.resize(pick(((True, False), (False, True, True), (False,))), shape)
        return (nested(mask),)
    arrays = [(0,), (n := shape[0]) and (n - 1, 0), ((0,), (n - 1,)), (-1, 0, -1)]
    index: list[Any] = [pick(arrays)]
    if how == "rows":
        return tuple(index)
    if len(shape) > 1:
        lead = [slices(pick, shape[0])] if pick((False, True)) else []
        k = shape[1]
        index = [*lead, pick([(0,), (k - 1, 0), (-1, 0)])] if lead else [(n - 1, 0), (0, k - 1)]
        if how == "two" and lead and len(shape) > 2:
            index.append(pick((0, slice(None), (0,))))
    return tuple(index)


def nested(a: Any) -> Any:
    return tuple(nested(v) for v in a) if a.ndim else a.item()


def get(m: Any, x: Any, index: Any) -> Any:
    return x[as_index(index)]


move("index", get, lambda pick, x: (basic(pick, x.shape),))
move("fancy", get, lambda pick, x: None if (i := advanced(pick, x.shape)) is None else (i,))
op(
    "x[x > c]",
    lambda m, x, c: x[x > c],
    params=lambda pick, x: (pick((0.0, 0.4)),),
    lanes=False,
    peer=lambda m, x, c: m.ravel(x)[np.ravel(raw(x)) > c],
    smooth=lambda x, c: away(x, c),
)
op(
    "x[argmax]",
    lambda m, x: x[x.argmax(0)],
    lanes=True,
    peer=lambda m, x: x[np.argmax(raw(x), 0)],
    params=lambda pick, x: () if x.ndim == 1 and len(x) else None,
    smooth=lambda x: len(x) < 2 or bool(np.diff(np.sort(x))[-1] > 0.05),
)


# ------------------------------------------------------------------ joins
def along(pick: Any, *xs: Any) -> Any:
    shapes = {x.shape for x in xs}
    return (pick(range(-xs[0].ndim, xs[0].ndim)),) if len(shapes) == 1 and xs[0].ndim else None


def alike(pick: Any, *xs: Any) -> Any:
    return (pick((0, -1)),) if len({x.shape for x in xs}) == 1 else None


op("concatenate", lambda m, a, b, axis: m.concatenate((a, b, a), axis), arity=2, params=along)
op("stack", lambda m, a, b, axis: m.stack([a, b], axis), arity=2, params=alike)
op(
    "hstack",
    lambda m, a, b: m.hstack([a, b]),
    arity=2,
    linked=False,
    params=lambda pick, a, b: () if a.ndim == b.ndim == 1 else None,
)
op(
    "split",
    lambda m, x, axis: m.multiply(*m.split(x, 2, axis)),
    params=lambda pick, x: got if (got := one_axis(pick, x)) and x.shape[got[0]] % 2 == 0 else None,
)
op(
    "unpack",
    lambda m, x: sum(row * (i + 1) for i, row in enumerate(x)),
    params=lambda pick, x: () if x.ndim and len(x) else None,
)

# ------------------------------------------------------------------ products
EINSUMS = (
    "i,i->",
    "i,j->ij",
    "ij,j->i",
    "ij,jk->ik",
    "ij,kj->ik",
    "ij,ij->i",
    "ij,ij->",
    "ij,ik->jk",
    "i,ij->j",
    "...i,...i->...",
    "...i,i->...",
    "ijk,k->ji",
    "ij,ji->",
    "...,...->...",
    "...ij,jk->...ik",
)


def fits(text: str, *xs: Any) -> bool:
    try:
        np.einsum(text, *xs)
    except ValueError:
        return False
    return True


def some_einsum(pick: Any, *xs: Any) -> Any:
    texts = [t for t in EINSUMS if fits(t, *xs)]
    return (pick(texts),) if texts else None


def labelled(m: Any, a: Any, b: Any, text: str) -> Any:
    """einsum as products of every pair, summed: for one label an axis in each operand."""
    left, right = text.split("->")
    ends = left.split(",")
    ranks = [np.ndim(raw(x)) - len(t.replace("...", "")) for x, t in zip((a, b), ends)]
    dots = "UVWXYZ"[: max(r for r, t in zip(ranks, ends) if "..." in t)] if "..." in text else ""
    ends = [t.replace("...", dots[len(dots) - r :]) for t, r in zip(ends, ranks)]
    right = right.replace("...", dots)
    order = right + "".join(sorted({*"".join(ends)} - {*right}))

    def spread(x: Any, t: str) -> Any:
        x = m.transpose(x, [t.index(c) for c in order if c in t])
        sizes = iter(np.shape(raw(x)))
        return m.reshape(x, [next(sizes) if c in t else 1 for c in order])

    pairs = spread(a, ends[0]) * spread(b, ends[1])
    return m.sum(pairs, axis=tuple(range(len(right), len(order))))


op(
    "einsum",
    lambda m, a, b, text: m.einsum(text, a, b),
    arity=2,
    params=some_einsum,
    linked=False,
    peer=labelled,
    numpys=False,
)
ONE: dict[str, Any] = {
    "ij->ji": lambda m, x: m.swapaxes(x, 0, 1),
    "ij->j": lambda m, x: m.sum(x, axis=0),
    "ii->": lambda m, x: m.sum(m.ravel(x)[:: len(raw(x)) + 1]),
    "i->": lambda m, x: m.sum(x),
    "...i->...": lambda m, x: m.sum(x, axis=-1),
}


def some_einsum_of_one(pick: Any, x: Any) -> Any:
    texts = [t for t in ONE if fits(t, x)]
    return (pick(texts),) if texts else None


op(
    "einsum of one",
    lambda m, x, text: m.einsum(text, x),
    params=some_einsum_of_one,
    peer=lambda m, x, text: ONE[text](m, x),
    numpys=False,
)


def product(name: str, f: Any, peer: Any = None, numpys: bool = True) -> None:
    def params(pick: Any, a: Any, b: Any) -> Any:
        try:
            f(np, a, b)
        except (ValueError, IndexError):
            return None
        return ()

    op(name, f, arity=2, params=params, linked=False, peer=peer, numpys=numpys)


def every_pair(m: Any, a: Any, b: Any) -> Any:
    n, k = np.size(raw(a)), np.size(raw(b))
    return m.reshape(a, (n, 1)) * m.reshape(b, (1, k))


def contracted(m: Any, a: Any, b: Any) -> Any:
    """The last axis of a with the first of b."""
    s, t = np.shape(raw(a)), np.shape(raw(b))
    n = s[-1]
    pairs = m.reshape(a, (int(np.prod(s[:-1])), n, 1)) * m.reshape(b, (1, n, int(np.prod(t[1:]))))
    return m.reshape(m.sum(pairs, axis=1), (*s[:-1], *t[1:]))


def dotted(m: Any, a: Any, b: Any) -> Any:
    """The last axis of a with the last but one of b."""
    if 0 in (np.ndim(raw(a)), np.ndim(raw(b))):
        return a * b
    return contracted(m, a, b if np.ndim(raw(b)) == 1 else m.moveaxis(b, -2, 0))


def inner(m: Any, a: Any, b: Any) -> Any:
    if 0 in (np.ndim(raw(a)), np.ndim(raw(b))):
        return a * b
    return contracted(m, a, m.moveaxis(b, -1, 0))


product("matmul", lambda m, a, b: m.matmul(a, b))
product("@", lambda m, a, b: a @ b)
product("dot", lambda m, a, b: m.dot(a, b), dotted, numpys=False)
product("inner", lambda m, a, b: m.inner(a, b), inner, numpys=False)
product("outer", lambda m, a, b: m.outer(a, b), every_pair)
product("tensordot", lambda m, a, b: m.tensordot(a, b, 1), contracted)
op("gram", lambda m, x: x @ x.T, params=lambda pick, x: () if x.ndim == 2 else None)
op("self @", lambda m, x: x.T @ x, params=lambda pick, x: () if x.ndim in (1, 2) else None)


# ------------------------------------------------------------------ control flow
def recurrence(m: Any, x: Any, a: Any, n: int) -> Any:
    h = x
    for i in range(n):
        h = m.tanh(h * a + x) if i % 2 else h - 0.1 * m.sin(a)
    return h


def halved(m: Any, x: Any, c: float) -> Any:
    """A loop whose length depends on the numbers."""
    while m.sum(x * x) > c:
        x = x * 0.5
    return m.cos(x)


def branch(m: Any, x: Any, c: float) -> Any:
    return m.sin(x) * 2.0 if m.sum(x) > c else m.exp(-x) + x


op("recurrence", recurrence, arity=2, params=lambda pick, x, a: (pick((0, 1, 2, 4)),))
op(
    "while",
    halved,
    params=lambda pick, x: (pick((0.5, 3.0)),),
    lanes=False,
    smooth=lambda x, c: beyond(0.02)(np.log2((x * x).sum() / c + 1e-9) / 2 % 1 - np.array([0, 1])),
)
op(
    "branch",
    branch,
    params=lambda pick, x: (pick((0.0, 1.0)),),
    lanes=False,
    smooth=lambda x, c: away(x.sum(), c),
)
