"""A training step of a GPT: 4 layers, 256 features, 8 heads, 128 places, batch 8, 65 tokens, AdamW.

float32, tied weights, no dropout; the same losses over the first steps from the same weights.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import _gpt
from _peers import Case, main

LAYERS, HEADS, FEATURES, PLACES, BATCH, VOCAB = 4, 8, 256, 128, 8, 65
RATE, STEPS = 3e-4, 3
TARGETS: dict[str, float | None] = {"jax": 0.75, "torch": 0.80}


def model() -> Any:
    from wengert import nn

    return nn.GPT(
        VOCAB, n_layer=LAYERS, n_head=HEADS, d_model=FEATURES, context=PLACES, rng=0
    )  # fmt: skip


def data() -> Any:
    import numpy as np

    tokens = np.random.default_rng(0).integers(VOCAB, size=(BATCH, PLACES + 1))
    return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


def finished(call: Any) -> Any:
    return call, [[float(call()) for _ in range(STEPS)]]


def ours() -> Any:
    import wengert as wg
    from wengert import optim
    from wengert.nn import functional as F

    net = model()
    optimizer = optim.AdamW(net.parameters(), lr=RATE, weight_decay=_gpt.DECAY)

    @wg.compile(wait=True)
    def step(x: Any, y: Any) -> Any:
        logits = net(x)
        loss = F.cross_entropy(logits.reshape(-1, VOCAB), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    x, y = data()
    return finished(lambda: step(x, y))


def jax_step(inline: bool) -> Any:
    import jax
    import jax.numpy as jnp

    if inline:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    state = _gpt.state(model().state_dict())
    step = jax.jit(_gpt.functions(HEADS, LAYERS, RATE)[1], donate_argnums=(0,))
    x, y = (jnp.array(a, jnp.int32) for a in data())

    def call() -> Any:
        nonlocal state
        state, value = step(state, x, y)
        jax.block_until_ready(state)
        return value

    return finished(call)


def torch_step(form: str) -> Any:
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import _torch_nets

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    net = _torch_nets.gpt(torch, model().state_dict(), HEADS)
    words = {w: True for w in form.split() if w in ("foreach", "fused")}
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=_gpt.DECAY, **words)
    x, y = (torch.from_numpy(a) for a in data())

    def forward(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(x).reshape(-1, VOCAB), y.reshape(-1))

    if "compile" in form:
        forward = torch.compile(forward)

    def call() -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return finished(call)


def cases() -> Iterator[Case]:
    makers: dict[str, Any] = {
        "wengert": ours,
        "jax": partial(jax_step, False),
        "jax inline": partial(jax_step, True),
    }
    for form in ("eager", "eager fused", "compile fused"):
        makers[f"torch {form}"] = partial(torch_step, form)
    yield Case("gpt adamw", makers, TARGETS, 2e-4)


if __name__ == "__main__":
    main(__doc__, cases)
