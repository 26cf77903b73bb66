"""Functions of rows and of elements, forward and backward, and Adam's update.

    layernorm, softmax and cross-entropy, gelu: value and gradients from a given cotangent
    Adam: p, m and v in place

float32; in: within the L2 cache, out: beyond all caches. Ours are plain NumPy expressions and calls
of `wengert.nn.functional`, compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import _rows
from _peers import Case, main

SIZES = {
    "layernorm": {"in": (128, 512), "out": (4096, 2048)},
    "softmax-ce": {"in": (2048, 10), "wide": (64, 1000), "out": (2048, 1000)},
    "gelu": {"in": (128, 512), "out": (4096, 2048)},
    "adam": {"in": (50_000,), "out": (4_000_000,)},
}
TARGETS: dict[str, float | None] = {"jax": 0.50, "torch": 0.60}


def data(kind: str, shape: tuple[int, ...]) -> list[Any]:
    import numpy as np

    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    x = normal(*shape)
    if kind == "layernorm":
        return [normal(*shape), x, normal(shape[1]), normal(shape[1])]
    if kind == "gelu":
        return [normal(*shape), x]
    if kind == "adam":
        return [x, normal(*shape), normal(*shape) ** 2, normal(*shape)]
    return [x, rng.integers(shape[1], size=shape[0])]


def ours(kind: str, shape: tuple[int, ...]) -> Any:
    import numpy as np

    import wengert as wg
    from wengert.nn import functional as F

    xs = data(kind, shape)
    if kind == "adam":

        @wg.compile(wait=True)
        def update(p: Any, m: Any, v: Any, g: Any) -> None:
            p[...], m[...], v[...] = _rows.adam(np, p, m, v, g)

        update(*xs)
        return lambda: update(*xs), [x.copy() for x in xs[:3]]

    if kind == "softmax-ce":
        both = wg.compile(wg.value_and_grad(F.cross_entropy), wait=True)
    else:

        def f(x: Any, *wb: Any) -> Any:
            return F.layer_norm(x, wb[0].shape, *wb) if wb else F.gelu(x)

        @wg.compile(wait=True)
        def both(g: Any, *xs: Any) -> Any:
            y, back = wg.vjp(f, *xs)
            given = back(g)
            return y, *(given if isinstance(given, tuple) else (given,))

    y, *rest = both(*xs)
    return lambda: both(*xs), [y, *rest]


def cases() -> Iterator[Case]:
    for kind, sizes in SIZES.items():
        for where, shape in sizes.items():
            inputs = partial(data, kind, shape)
            forms = ["eager", "compile"]
            if kind == "adam":
                forms = ["eager", "eager foreach", "eager fused"]
            makers: dict[str, Any] = {
                "wengert": partial(ours, kind, shape),
                "jax": lambda kind=kind, inputs=inputs: _rows.jax_row(kind, inputs()),
            }
            for form in forms:
                makers[f"torch {form}"] = lambda kind=kind, form=form, inputs=inputs: (
                    _rows.torch_row(kind, form, inputs())
                )
            name = f"{kind} {'x'.join(map(str, shape))} {where}"
            yield Case(name, makers, TARGETS, 1e-4)


if __name__ == "__main__":
    main(__doc__, cases)
