"""Every optimizer against PyTorch's, step by step, in float64."""

import numpy as np
import pytest

import wengert as wg
from wengert import optim

torch = pytest.importorskip("torch", reason="no torch to compare optimizers with")

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.05, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.3}),
    ("RMSprop", {"lr": 0.05}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.5, "eps": 1e-3, "weight_decay": 0.3, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "centered": True, "eps": 1e-3, "momentum": 0.5}),
    ("Adagrad", {"lr": 0.05}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.3, "eps": 1e-3}),
    ("Adadelta", {"lr": 0.5}),
    ("Adadelta", {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.3}),
    ("Adamax", {"lr": 0.05}),
    ("Adamax", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    ("NAdam", {"lr": 0.05}),
    ("NAdam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
]
SHAPES = [(3, 4), (4,), (), (2, 1, 3)]


@pytest.fixture(autouse=True)
def float64():
    """PyTorch's NAdam keeps its product of momenta in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("skip", [False, True], ids=["all", "some without gradient"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{'-'.join(o)}" for n, o in CASES])
def test_fifty_steps_agree(name, options, skip):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape) for shape in SHAPES]
    ours = [wg.tensor(v, requires_grad=True) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(50):
        if step == 30:
            a.lr *= 0.5
            b.param_groups[0]["lr"] *= 0.5
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 3)
            # Gradients come and go: what is remembered for the others must not be moved.
            present = not skip or (step + i) % 3 > 0
            p.grad = wg.tensor(g) if present else None
            q.grad = torch.tensor(g) if present else None
        a.step()
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)
