"""Clipping by PyTorch's formula: the same numbers to 1e-12, whatever the norm."""

import math

import numpy as np
import pytest

import wengert as wg
from wengert import nn, optim
from wengert.errors import NonFiniteError, OptionError
from wengert.nn import functional as F

torch = pytest.importorskip("torch")

NORMS = [2.0, 1, 0.5, 3.5, math.inf, "inf"]


def pairs(*gradients):
    """Parameters with these gradients, here and there."""
    ours, theirs = [], []
    for g in gradients:
        g = np.asarray(g)
        p = wg.tensor(np.ones(g.shape, g.dtype), requires_grad=True)
        q = torch.ones(g.shape, dtype=torch.tensor(g).dtype, requires_grad=True)
        p.grad, q.grad = wg.tensor(g.copy()), torch.tensor(g.copy())
        ours.append(p)
        theirs.append(q)
    ours.append(wg.tensor(1.0, requires_grad=True))  # no gradient: left out
    theirs.append(torch.tensor(1.0, requires_grad=True))
    return ours, theirs


def alike(ours, theirs, rtol=1e-12):
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=rtol)
            assert p.grad.dtype == q.grad.numpy().dtype


@pytest.mark.parametrize("norm_type", NORMS)
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 1e5])
@pytest.mark.parametrize("limit", [0.0, 1e-6, 1.0, 1e3, math.inf])
def test_norms(norm_type, scale, limit):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (5,), (), (0, 2)][: 3 if float(norm_type) == math.inf else 4]
    ours, theirs = pairs(*(scale * rng.normal(size=s) for s in shapes))  # PyTorch: no max of none
    norm = optim.clip_grad_norm_(ours, limit, norm_type)
    want = torch.nn.utils.clip_grad_norm_(theirs, limit, float(norm_type))
    assert norm == pytest.approx(want.item(), rel=1e-12)
    alike(ours, theirs)


def test_the_arguments_are_pytorchs():
    for call in (
        lambda m, ps: m.clip_grad_norm_(ps, 1.0, 2.0, False, None),
        lambda m, ps: m.clip_grad_norm_(parameters=ps, max_norm=0.5, norm_type=1, foreach=False),
        lambda m, ps: m.clip_grad_norm_(iter(ps), 0.5, error_if_nonfinite=True),
        lambda m, ps: m.clip_grad_norm_(ps[0], 0.5),
        lambda m, ps: m.clip_grad_value_(ps, clip_value=0.5, foreach=False),
        lambda m, ps: m.clip_grad_value_(iter(ps), 0.25, None),
        lambda m, ps: m.clip_grad_value_(ps[0], 0),
        lambda m, ps: m.clip_grad_value_(ps, math.inf),
    ):
        ours, theirs = pairs(np.array([0.3, -2.0]), np.array([[0.7]]))
        call(optim, ours)
        call(torch.nn.utils, theirs)
        alike(ours, theirs)


def test_a_length_just_at_the_limit_and_of_nothing():
    for size in (1.0, 1 - 1e-7, 1 - 2e-6, 0.0):
        ours, theirs = pairs(np.array([0.6, 0.8]) * size)
        optim.clip_grad_norm_(ours, 1.0)
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        alike(ours, theirs, rtol=1e-15)
    assert optim.clip_grad_norm_([], 1.0) == torch.nn.utils.clip_grad_norm_([], 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("norm_type", [2.0, 1, 0.5, math.inf])
def test_lengths_that_are_not_finite(bad, norm_type):
    ours, theirs = pairs(np.array([1.0, bad]), np.array([2.0]))
    norm = optim.clip_grad_norm_(ours, 1.0, norm_type)
    np.testing.assert_equal(norm, torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type).item())
    alike(ours, theirs)
    ours, theirs = pairs(np.array([1.0, bad]), np.array([2.0]))
    with pytest.raises(NonFiniteError, match="length of the gradient"):
        optim.clip_grad_norm_(ours, 1.0, norm_type, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match="non-finite"):
        torch.nn.utils.clip_grad_norm_(theirs, 1.0, norm_type, error_if_nonfinite=True)
    alike(ours, theirs)  # both as they were
    optim.clip_grad_value_(ours, 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    alike(ours, theirs)


def test_no_limit_asks_for_the_length_and_touches_nothing():
    ours, _ = pairs(np.array([3.0, np.inf]), np.array([4.0]))
    assert optim.clip_grad_norm_(ours, math.inf) == math.inf
    assert ours[0].grad.numpy().tolist() == [3.0, math.inf]
    assert ours[1].grad.numpy().tolist() == [4.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex128])
def test_other_dtypes(dtype):
    rng = np.random.default_rng(0)
    g = [(rng.normal(size=s) * 9 + 3j * (np.dtype(dtype).kind == "c")) for s in (5, (2, 3))]
    g = [(a if np.dtype(dtype).kind == "c" else a.real).astype(dtype) for a in g]
    for norm_type in (2.0, 1, 3.5, math.inf):
        ours, theirs = pairs(*g)
        norm = optim.clip_grad_norm_(ours, 0.7, norm_type)
        want = torch.nn.utils.clip_grad_norm_(theirs, 0.7, norm_type)
        rtol = 1e-12 if dtype == np.complex128 else 4 * float(np.finfo(dtype).eps)
        assert norm == pytest.approx(want.item(), rel=rtol)
        alike(ours, theirs, rtol)


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, math.inf])
@pytest.mark.parametrize("backend", ["numpy", "llvm"])
def test_compiled(norm_type, backend):
    """A compiled step clips by the same formula."""
    x = np.random.default_rng(0).normal(size=(8, 3))

    def run(compiled):
        model = nn.Linear(3, 2, rng=0, dtype="float64")
        sgd = optim.SGD(model.parameters(), lr=0.5)

        def step(x):
            sgd.zero_grad()
            loss = F.mse_loss(model(x), np.ones((8, 2)))
            loss.backward()
            norm = optim.clip_grad_norm_(model.parameters(), 0.3, norm_type)
            sgd.step()
            return norm

        if compiled:
            step = wg.compile(step, backend=backend, wait=True)
        norms = [float(step(x)) for _ in range(5)]
        return norms, [p.numpy().copy() for p in model.parameters()]

    (a, p), (b, q) = run(False), run(True)
    np.testing.assert_allclose(a, b, rtol=1e-12)
    for v, w in zip(p, q):
        np.testing.assert_allclose(v, w, rtol=1e-11)


@pytest.mark.parametrize("steps", [25])
@pytest.mark.parametrize("norm_type", [2.0, math.inf])
def test_training_step_by_step(steps, norm_type):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(10, 4)), rng.normal(size=(10, 2)) * 30
    model = nn.Linear(4, 2, rng=0, dtype="float64")
    twin = torch.nn.Linear(4, 2, dtype=torch.float64)
    with torch.no_grad():
        twin.weight.copy_(torch.tensor(model.weight.numpy().T.copy()))
        twin.bias.copy_(torch.tensor(model.bias.numpy().copy()))
    ours = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        ours.zero_grad()
        theirs.zero_grad()
        F.mse_loss(model(x), y).backward()
        torch.nn.functional.mse_loss(twin(torch.tensor(x)), torch.tensor(y)).backward()
        a = optim.clip_grad_norm_(model.parameters(), 1.0, norm_type)
        b = torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0, norm_type)
        assert a == pytest.approx(b.item(), rel=1e-12)
        ours.step()
        theirs.step()
        np.testing.assert_allclose(
            model.weight.numpy().T, twin.weight.detach().numpy(), rtol=1e-12, atol=1e-13
        )


def test_without_eps_the_length_is_the_limit():
    ours, _ = pairs(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_(ours, 1.0, eps=0) == 5.0
    np.testing.assert_allclose(ours[0].grad.numpy(), [0.6, 0.8], rtol=3e-16)
    ours, _ = pairs(np.zeros((0, 2)), np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_(ours, 1.0, math.inf) == 4.0
    ours, _ = pairs(np.zeros(2))
    optim.clip_grad_norm_(ours, 0.0, eps=0)
    np.testing.assert_array_equal(ours[0].grad.numpy(), [0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_norm": -1}, "max_norm"), ({"max_norm": math.nan}, "max_norm"),
        ({"max_norm": None}, "max_norm"), ({"norm_type": 0}, "norm_type"),
        ({"norm_type": -2}, "norm_type"), ({"norm_type": "fro"}, "norm_type"),
        ({"norm_type": math.nan}, "norm_type"), ({"norm_type": None}, "norm_type"),
        ({"eps": -1}, "eps"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, message):
    ours, _ = pairs(np.array([3.0, 4.0]))
    with pytest.raises(OptionError, match=message):
        optim.clip_grad_norm_(ours, **{"max_norm": 1.0, **options})
    with pytest.raises(OptionError, match="clip_value"):
        optim.clip_grad_value_(ours, -1.0)
