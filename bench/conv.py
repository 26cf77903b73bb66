"""Convolutions forwards and backwards, against PyTorch in the better of its two formats.

Each row is one operation on float32 arrays with a 3 x 3 kernel, stride 1 and padding 1: images, N x
H x W x C, to M channels. PyTorch is timed with channels first and with channels last, and the
faster of them is the peer; weights and cotangents are ready in its format. `layer` is forwards and
backwards through the tape of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _harness import Case, cases, main, peer

import wengert as wg
from wengert.nn import functional as F
from wengert.ops.conv import Conv, ConvInput, ConvWeight

torch = peer("torch")
rng = np.random.default_rng(0)
SHAPES = (  # N, H = W, C, M, groups
    (32, 32, 3, 32, 1),
    (32, 16, 32, 64, 1),
    (32, 8, 64, 128, 1),
    (16, 56, 64, 64, 1),
    (16, 56, 64, 64, 64),
)
POOLED = ((32, 32, 32), (16, 56, 64))  # N, H = W, C


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape, dtype=np.float32)


def first(x: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def formats(*tensors: Any) -> Iterator[tuple[Any, ...]]:
    for form in (torch.contiguous_format, torch.channels_last):
        yield tuple(t.detach().clone().contiguous(memory_format=form) for t in tensors)


def faster(calls: list[Callable[[], Any]]) -> Callable[[], Any]:
    """The call with the shortest time out of a few turns."""
    best = [float("inf")] * len(calls)
    for turn in range(8):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            took = time.perf_counter() - start
            best[i] = min(best[i], took) if turn else best[i]
    return calls[best.index(min(best))]


def close(ours: Any, theirs: Any, weight: bool = False) -> None:
    theirs = theirs.detach().numpy()
    theirs = np.moveaxis(theirs, (0, 1), (-1, -2)) if weight else np.moveaxis(theirs, 1, -1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def convolutions() -> Iterator[Case]:
    if torch is not None:
        for shape in SHAPES:
            yield from convolution(*shape)


def convolution(n: int, h: int, c: int, m: int, groups: int) -> Iterator[Case]:
    x, w, u = normal(n, h, h, c), normal(3, 3, c // groups, m), normal(n, h, h, m)
    how = ((1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    tw = torch.from_numpy(np.ascontiguousarray(np.moveaxis(w, (-1, -2), (0, 1))))

    def conv(x: Any, w: Any, bias: Any = None) -> Any:
        return torch.nn.functional.conv2d(x, w, bias, padding=1, groups=groups)

    def back(u: Any, x: Any, w: Any, mask: Any) -> Any:
        return torch.ops.aten.convolution_backward(
            u, x, w, None, (1, 1), (1, 1), (1, 1), False, (0, 0), groups, mask
        )

    both = list(formats(first(x), tw, first(u)))
    forwards = [lambda a=a, b=b: conv(a, b) for a, b, _ in both]
    inputs = [lambda a=a, b=b, v=v: back(v, a, b, (True, False, False))[0] for a, b, v in both]
    weights = [lambda a=a, b=b, v=v: back(v, a, b, (False, True, False))[1] for a, b, v in both]
    ours = (
        lambda: Conv(*how)(x, w),
        lambda: ConvInput(*how, (h, h))(u, w),
        lambda: ConvWeight(*how, (3, 3))(x, u),
    )
    kind = "depthwise " if groups > 1 else ""
    name = f"{kind}{n}x{h}x{h}x{c} to {m}"
    for what, mine, calls in zip(
        ("forward", "to the input", "to the weights"), ours, (forwards, inputs, weights)
    ):
        close(mine(), calls[0](), what == "to the weights")
        yield Case(f"{name}, {what}", "PyTorch", mine, faster(calls), 1.6)

    def layer() -> Any:
        a, b = wg.tensor(x, requires_grad=True), wg.tensor(w, requires_grad=True)
        bias = wg.tensor(np.zeros(m, np.float32), requires_grad=True)
        F.conv2d(a, b, bias, padding=1, groups=groups).backward(u)
        return a.grad

    def torch_layer(a: Any, b: Any, v: Any) -> Any:
        a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
        conv(a, b, torch.zeros(m, requires_grad=True)).backward(v)
        return a.grad

    layers = [lambda t=t: torch_layer(*t) for t in both]
    close(layer().value(), layers[0]())
    yield Case(f"{name}, layer", "PyTorch", layer, faster(layers), 1.6)


def pools() -> Iterator[Case]:
    if torch is None:
        return
    for n, h, c in POOLED:
        x = normal(n, h, h, c)
        for name, f, g, k, how in (
            ("max 2x2", F.max_pool2d, torch.nn.functional.max_pool2d, 2, {}),
            (
                "max 3x3",
                F.max_pool2d,
                torch.nn.functional.max_pool2d,
                3,
                {"stride": 2, "padding": 1},
            ),
            ("mean 2x2", F.avg_pool2d, torch.nn.functional.avg_pool2d, 2, {}),
        ):

            def ours(x: Any = x, f: Any = f, k: int = k, how: Any = how) -> Any:
                t = wg.tensor(x, requires_grad=True)
                y = f(t, k, **how)
                y.backward(np.ones(y.shape, np.float32))
                return t.grad

            def theirs(t: Any, g: Any = g, k: int = k, how: Any = how) -> Any:
                t = t.detach().requires_grad_()
                y = g(t, k, **how)
                y.backward(torch.ones_like(y))
                return t.grad

            calls = [lambda t=t, theirs=theirs: theirs(*t) for t in formats(first(x))]
            close(ours().value(), calls[0]())
            yield Case(f"{name} of {n}x{h}x{h}x{c}, both ways", "PyTorch", ours, faster(calls))


def programs() -> Iterator[Case]:
    yield from convolutions()
    yield from pools()


if __name__ == "__main__":
    main(__doc__, cases(programs))
