"""The char-gpt recipe against the same model in PyTorch: same text, weights, batches and steps.

    python bench/char_gpt.py --steps 400

Both take the recipe's options: AdamW with its weight decay, a linear warm-up and a cosine, clipping
by the global norm. Printed are the two loss curves, the largest relative difference between them,
of single steps and of means over 20 (the goal is 1 %), and the time of each engine's steps, which
take turns.
"""

from __future__ import annotations

import argparse
import time
from itertools import count
from typing import Any

import _torch_nets
import numpy as np
from _harness import peer

from wengert.data import Loader
from wengert.train import RECIPES, Options, Step
from wengert.train.config import schedule


def ours(options: Options, model: Any) -> tuple[Step, Any]:
    optimizer = options.make_optimizer(model.parameters())
    loss = RECIPES["char-gpt"].loss
    return Step(model, loss, optimizer, clip_norm=options.clip_norm), optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps
    torch = peer("torch")
    if torch is None:
        return
    options = Options.of("char-gpt")
    recipe = RECIPES["char-gpt"]
    parts = recipe.data(options.task)
    model = recipe.model(np.random.default_rng((options.seed, 0, 0)), options.task, parts)
    twin = _torch_nets.gpt(torch, model.state_dict(), options.task["heads"], "relu")
    step, optimizer = ours(options, model)
    settings = dict(options.settings)
    lr = settings.pop("lr")
    theirs = torch.optim.AdamW(twin.parameters(), lr=lr, **settings)
    loader = Loader(parts.train, options.batch_size, seed=(options.seed, 0, 1))
    curves: list[list[float]] = [[], []]
    spent = [0.0, 0.0]
    clock = time.perf_counter
    batches = (batch for _ in count() for batch in loader)
    for t in range(steps):
        x, y = next(batches)
        rate = lr * schedule(options.schedule, t, steps, options.warmup)
        start = clock()
        optimizer.lr = rate
        curves[0].append(step(x, y).loss)
        spent[0] += clock() - start
        start = clock()
        theirs.param_groups[0]["lr"] = rate
        logits = twin(torch.from_numpy(x))
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), torch.from_numpy(y).reshape(-1)
        )
        theirs.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), options.clip_norm)
        theirs.step()
        curves[1].append(loss.item())
        spent[1] += clock() - start
    a, b = map(np.array, curves)
    for t in range(0, steps, max(1, steps // 10)):
        print(f"step {t:5}   wengert {a[t]:.6f}   torch {b[t]:.6f}")
    print(f"step {steps - 1:5}   wengert {a[-1]:.6f}   torch {b[-1]:.6f}")
    window = np.ones(20) / 20
    smooth = [np.convolve(c, window, "valid") for c in (a, b)]
    print(f"largest difference of a step        {np.abs(a / b - 1).max():.3%}")
    print(f"largest difference of a mean of 20  {np.abs(smooth[0] / smooth[1] - 1).max():.3%}")
    print(f"time a step  wengert {spent[0] / steps * 1e3:.1f} ms   "
          f"torch {spent[1] / steps * 1e3:.1f} ms   ratio {spent[0] / spent[1]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
