"""Convolution by its definition, and random problems of it."""

import itertools

import numpy as np
from hypothesis import strategies as st


def slow(x, w, stride, padding, dilation, groups):
    """The definition: every place, every tap, every group by a loop of its own."""
    *kernel, inner, m = w.shape
    x = np.pad(x, [(0, 0), *padding, (0, 0)])
    places = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(x.shape[1:-1], kernel, stride, dilation)
    ]
    y = np.zeros((len(x), *places, m), np.result_type(x, w))
    per = m // groups
    for o in itertools.product(*map(range, places)):
        for k in itertools.product(*map(range, kernel)):
            at = tuple(s * i + d * j for s, i, d, j in zip(stride, o, dilation, k))
            for g in range(groups):
                patch = x[(slice(None), *at, slice(g * inner, (g + 1) * inner))]
                cut = slice(g * per, (g + 1) * per)
                y[(slice(None), *o, cut)] += patch @ w[(*k, slice(None), cut)]
    return y


@st.composite
def problems(draw):
    axes = draw(st.integers(1, 3))
    small = st.integers(1, 3)
    groups = draw(small)
    inner, per = draw(small), draw(small)
    each = lambda s: tuple(draw(s) for _ in range(axes))
    kernel, stride, dilation = each(small), each(small), each(st.integers(1, 2))
    padding = tuple(zip(each(st.integers(0, 2)), each(st.integers(0, 2))))
    size = tuple(
        draw(st.integers(max(1, d * (k - 1) + 1 - sum(p)), d * (k - 1) + 5))
        for k, d, p in zip(kernel, dilation, padding)
    )
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x = rng.standard_normal((draw(small), *size, inner * groups))
    w = rng.standard_normal((*kernel, inner, per * groups))
    return x, w, stride, padding, dilation, groups
