"""In-place writes of random programs: a buffer, views of it, and statements on them.

A block is data: how the buffer is made, and a tuple of statements on handles (0 is the buffer).

    ("view", h, how)            a new handle: how is ("T",), ("reshape", shape) or ("index", index)
    ("set", h, index, source)   handle[index] = source
    ("op", h, index, o, source) handle[index] o= source, or handle o= source for index None
    ("save", h, f)              f(handle), kept as it is now

and a source is ("number", c), ("operand", k), ("saved", k) or ("read", h, index, f).

`run_block` is what a user would write. `pure_block` has neither views nor writes: a handle is a
table of the places in the buffer that it shows, and a write makes a new buffer out of the old
one.
"""

from operator import add, iadd, imul, isub, mul, sub
from typing import Any

import numpy as np
from random_ops import op, raw
from random_shapes import advanced, as_index, basic

import wengert as wg

WRITERS = {"+": iadd, "*": imul, "-": isub}
PAIRS = {"+": add, "*": mul, "-": sub}
FUNCTIONS = ("same", "sin", "tanh", "square")


def apply(m: Any, f: str, x: Any) -> Any:
    return x if f == "same" else getattr(m, f)(x) if f != "square" else x * x


def buffer_like(x: Any) -> Any:
    return wg.zeros(*x.shape) if isinstance(x, wg.Tensor) else np.zeros(x.shape, x.dtype)


def look(x: Any, how: Any) -> Any:
    kind, *rest = how
    if kind == "T":
        return x.T
    return x.reshape(rest[0]) if kind == "reshape" else x[as_index(rest[0])]


def run_block(m: Any, *args: Any) -> Any:
    *operands, start, statements, out = args
    x = operands[0]
    if start == "copy":
        buffer = m.copy(x)
    elif start == "sum":
        buffer = x + 0.0
    else:
        buffer = buffer_like(x)
        buffer[...] = x
    handles, saved = [buffer], []

    def source(s: Any) -> Any:
        kind, k, *rest = s
        if kind == "read":
            h = handles[k]
            return apply(m, rest[1], h if rest[0] is None else h[as_index(rest[0])])
        return {"number": lambda: k, "operand": lambda: operands[k], "saved": lambda: saved[k]}[
            kind
        ]()

    for kind, h, *rest in statements:
        if kind == "view":
            handles.append(look(handles[h], rest[0]))
        elif kind == "save":
            saved.append(apply(m, rest[0], handles[h] * 1.0))
        elif kind == "set":
            handles[h][as_index(rest[0])] = source(rest[1])
        elif rest[0] is None:
            handles[h] = WRITERS[rest[1]](handles[h], source(rest[2]))
        else:
            handles[h][as_index(rest[0])] = WRITERS[rest[1]](
                handles[h][as_index(rest[0])], source(rest[2])
            )
    return finished(m, handles[out], saved)


def finished(m: Any, y: Any, saved: Any) -> Any:
    for s in saved:
        y = y + m.sum(s) * 0.3
    return y * 1.0


def pure_block(m: Any, *args: Any) -> Any:
    *operands, _, statements, out = args
    x = operands[0]
    shape = np.shape(raw(x))
    skeleton = np.arange(np.size(raw(x))).reshape(shape)
    flats = [m.ravel(x)]  # the buffers, flat: a reshape that copies begins a new one
    handles, saved = [(0, skeleton)], []

    def read(h: int) -> Any:
        b, places = handles[h]
        return flats[b][places]

    def source(s: Any) -> Any:
        kind, k, *rest = s
        if kind == "read":
            v = read(k)
            return apply(m, rest[1], v if rest[0] is None else v[as_index(rest[0])])
        return {"number": lambda: k, "operand": lambda: operands[k], "saved": lambda: saved[k]}[
            kind
        ]()

    def write(b: int, places: Any, v: Any) -> None:
        """flat[places] = v: the last of several writes to one place stays."""
        old = flats[b]
        turn = np.full(np.shape(raw(old)), -1)
        turn[places] = np.arange(places.size).reshape(places.shape)
        v = m.ravel(v + np.zeros(places.shape))
        if places.size:
            flats[b] = m.where(turn >= 0, v[turn], old)

    for kind, h, *rest in statements:
        b, places = handles[h]
        if kind == "view":
            seen = look(places, rest[0])
            if seen.size and not np.shares_memory(seen, places):
                flats.append(flats[b][seen.ravel()])
                b, seen = len(flats) - 1, np.arange(seen.size).reshape(seen.shape)
            handles.append((b, seen))
        elif kind == "save":
            saved.append(apply(m, rest[0], read(h)))
        elif kind == "set":
            write(b, places[as_index(rest[0])], source(rest[1]))
        else:
            where = places if rest[0] is None else places[as_index(rest[0])]
            v, old = source(rest[2]), flats[b][where]
            write(b, where, PAIRS[rest[1]](old, v))
    return finished(m, read(out), saved)


def some_block(pick: Any, *operands: Any) -> Any:
    """A block on these operands; every statement is tried on numbers as it is drawn."""
    start = pick(("copy", "sum", "zeros") if operands[0].ndim else ("copy", "zeros"))
    statements: list[Any] = []
    shapes = [operands[0].shape]
    saved: list[Any] = []

    def some_index(shape: Any) -> Any:
        return (advanced(pick, shape) if pick((False, False, True)) else None) or basic(pick, shape)

    def some_source(shape: Any) -> Any:
        """Something that broadcasts to this shape."""
        good: list[Any] = [("number", 0.5)]
        good += [("operand", k) for k, x in enumerate(operands) if goes(x.shape, shape)]
        good += [("saved", k) for k, s in enumerate(saved) if goes(s, shape)]
        for h, s in enumerate(shapes):
            good += [("read", h, None, f) for f in FUNCTIONS if goes(s, shape)]
            index = basic(pick, s)
            if goes(shape_at(s, index), shape):
                good += [("read", h, index, f) for f in FUNCTIONS]
        return pick(good[::-1])

    for _ in range(pick((1, 2, 3, 4, 6))):
        h = pick(range(len(shapes)))
        shape = shapes[h]
        kind = pick(("set", "op", "view", "save"))
        if kind == "view":
            how = pick(("T", "index", "reshape"))
            if how == "T":
                statements.append(("view", h, ("T",)))
                shapes.append(shape[::-1])
            elif how == "index":
                index = basic(pick, shape, numbers=False)
                if shape_at(shape, index) is None or (not shape and not index):
                    continue
                statements.append(("view", h, ("index", index)))
                shapes.append(shape_at(shape, index))
            elif start == "zeros":  # elsewhere whether it copies depends on where the numbers lie
                n = int(np.prod(shape))
                new = pick([(n,), (n, 1), *([(2, n // 2)] if n and n % 2 == 0 else [])])
                statements.append(("view", h, ("reshape", new)))
                shapes.append(new)
        elif kind == "save":
            statements.append(("save", h, pick(FUNCTIONS)))
            saved.append(shape)
        elif kind == "op" and pick((False, True)):
            statements.append(("op", h, None, pick("+*-"), some_source(shape)))
        else:
            index = some_index(shape)
            target = shape_at(shape, index)
            if target is None:
                continue
            end = (pick("+*-"),) if kind == "op" else ()
            statements.append((kind, h, index, *end, some_source(target)))
    if not any(kind in ("set", "op") for kind, *_ in statements):
        return None
    return start, tuple(statements), pick(range(len(shapes)))


def shape_at(shape: Any, index: Any) -> Any:
    try:
        return np.empty(shape)[as_index(index)].shape
    except IndexError:
        return None


def goes(shape: Any, into: Any) -> bool:
    try:
        return shape is not None and np.broadcast_shapes(shape, into) == into
    except ValueError:
        return False


for _arity in (1, 2):
    for _name in ("writes", "more writes"):
        op(
            f"{_name} {_arity}",
            run_block,
            params=some_block,
            peer=pure_block,
            arity=_arity,
            linked=False,
        )


# ------------------------------------------------------------------ loops that fill an array


def filled(m: Any, x: Any, n: int) -> Any:
    z = wg.zeros(n, *x.shape) if isinstance(x, wg.Tensor) else np.zeros((n, *x.shape), x.dtype)
    z[0] = x
    for i in range(1, n):
        z[i] = m.sin(z[i - 1]) * x
        z[i, ...] += 0.5
    return z


def filled_purely(m: Any, x: Any, n: int) -> Any:
    rows = [x]
    while len(rows) < n:
        rows.append(m.sin(rows[-1]) * x + 0.5)
    return m.stack(rows)


op("filled", filled, params=lambda pick, x: (pick((1, 2, 3, 5)),), peer=filled_purely)


def swept(m: Any, x: Any, n: int) -> Any:
    """Relaxation sweeps over an array, from left to right, in place."""
    u = x * 1.0
    for _ in range(n):
        for i in range(1, len(u)):
            u[i] = 0.5 * u[i] + m.sin(u[i - 1])
        u[:-1] += 0.1 * u[1:]
    return u


def swept_purely(m: Any, x: Any, n: int) -> Any:
    u = [x[i] for i in range(len(raw(x)))]
    for _ in range(n):
        for i in range(1, len(u)):
            u[i] = 0.5 * u[i] + m.sin(u[i - 1])
        u = [a + 0.1 * b for a, b in zip(u, [*u[1:], 0.0 * u[-1]])]
    return m.stack(u)


op(
    "swept",
    swept,
    params=lambda pick, x: (pick((1, 2)),) if x.ndim and len(x) else None,
    peer=swept_purely,
)
