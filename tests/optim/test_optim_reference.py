"""Every optimizer against a slow, obvious NumPy program of its equation, number by number."""

import math

import numpy as np
import pytest

import wengert as wg
from wengert import optim


def sgd(o, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    def step(p, g, t):
        g = g + weight_decay * p
        v = o["v"] = momentum * o.get("v", 0.0) + g
        return p - lr * (g + momentum * v if nesterov else v)

    return step


def adam(o, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    def step(p, g, t):
        if not decoupled:
            g = g + weight_decay * p
        m = o["m"] = betas[0] * o.get("m", 0.0) + (1 - betas[0]) * g
        v = o["v"] = betas[1] * o.get("v", 0.0) + (1 - betas[1]) * g * g
        if amsgrad:
            v = o["top"] = max(o.get("top", 0.0), v)
        m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        if decoupled:
            p = p - lr * weight_decay * p
        return p - lr * m / (math.sqrt(v) + eps)

    return step


def adamw(o, lr, weight_decay=0.01, **options):
    return adam(o, lr, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(o, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    def step(p, g, t):
        g = g + weight_decay * p
        v = o["v"] = alpha * o.get("v", 0.0) + (1 - alpha) * g * g
        m = o["m"] = alpha * o.get("m", 0.0) + (1 - alpha) * g
        s = g / (math.sqrt(v - m * m if centered else v) + eps)
        b = o["b"] = momentum * o.get("b", 0.0) + s
        return p - lr * b

    return step


def adagrad(o, lr, lr_decay=0.0, weight_decay=0.0, initial=0.0, eps=1e-10):
    def step(p, g, t):
        g = g + weight_decay * p
        s = o["s"] = o.get("s", initial) + g * g
        return p - lr / (1 + (t - 1) * lr_decay) * g / (math.sqrt(s) + eps)

    return step


def adadelta(o, lr, rho=0.9, eps=1e-6, weight_decay=0.0):
    def step(p, g, t):
        g = g + weight_decay * p
        v = o["v"] = rho * o.get("v", 0.0) + (1 - rho) * g * g
        d = math.sqrt(o.get("u", 0.0) + eps) / math.sqrt(v + eps) * g
        o["u"] = rho * o.get("u", 0.0) + (1 - rho) * d * d
        return p - lr * d

    return step


def adamax(o, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    def step(p, g, t):
        g = g + weight_decay * p
        m = o["m"] = betas[0] * o.get("m", 0.0) + (1 - betas[0]) * g
        u = o["u"] = max(betas[1] * o.get("u", 0.0), abs(g) + eps)
        return p - lr / (1 - betas[0] ** t) * m / u

    return step


def nadam(o, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3):
    def mu(t):
        return betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def step(p, g, t):
        g = g + weight_decay * p
        m = o["m"] = betas[0] * o.get("m", 0.0) + (1 - betas[0]) * g
        v = o["v"] = betas[1] * o.get("v", 0.0) + (1 - betas[1]) * g * g
        product = o["product"] = o.get("product", 1.0) * mu(t)
        look = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        return p - lr * look / (math.sqrt(v / (1 - betas[1] ** t)) + eps)

    return step


def radam(o, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    most = 2 / (1 - betas[1]) - 1

    def step(p, g, t):
        g = g + weight_decay * p
        m = o["m"] = betas[0] * o.get("m", 0.0) + (1 - betas[0]) * g
        v = o["v"] = betas[1] * o.get("v", 0.0) + (1 - betas[1]) * g * g
        m = m / (1 - betas[0] ** t)
        rho = most - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        if rho <= 5:
            return p - lr * m
        r = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
        return p - lr * m * math.sqrt(r) * math.sqrt(1 - betas[1] ** t) / (math.sqrt(v) + eps)

    return step


def lion(o, lr, betas=(0.9, 0.99), weight_decay=0.0):
    def step(p, g, t):
        m = o.get("m", 0.0)
        o["m"] = betas[1] * m + (1 - betas[1]) * g
        return p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)

    return step


BETAS = {"betas": (0.5, 0.9)}
CASES = [
    ("SGD", sgd, {}),
    ("SGD", sgd, {"weight_decay": 0.3}),
    ("SGD", sgd, {"momentum": 0.9, "weight_decay": 0.3}),
    ("SGD", sgd, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
    ("Adam", adam, {}),
    ("Adam", adam, {**BETAS, "eps": 1e-3, "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", adamw, {}),
    ("AdamW", adamw, {**BETAS, "eps": 1e-3, "weight_decay": 0.3, "amsgrad": True}),
    ("RMSprop", rmsprop, {}),
    ("RMSprop", rmsprop, {"alpha": 0.5, "eps": 1e-3, "weight_decay": 0.3, "momentum": 0.9}),
    ("RMSprop", rmsprop, {"alpha": 0.9, "eps": 1e-3, "centered": True, "momentum": 0.5}),
    ("Adagrad", adagrad, {}),
    ("Adagrad", adagrad, {"lr_decay": 0.1, "weight_decay": 0.3, "initial": 0.5, "eps": 1e-3}),
    ("Adadelta", adadelta, {}),
    ("Adadelta", adadelta, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.3}),
    ("Adamax", adamax, {}),
    ("Adamax", adamax, {**BETAS, "eps": 1e-3, "weight_decay": 0.3}),
    ("NAdam", nadam, {}),
    ("NAdam", nadam, {**BETAS, "eps": 1e-3, "weight_decay": 0.3, "momentum_decay": 0.1}),
    ("RAdam", radam, {}),
    ("RAdam", radam, {**BETAS, "eps": 1e-3, "weight_decay": 0.3}),
    ("Lion", lion, {}),
    ("Lion", lion, {**BETAS, "weight_decay": 0.3}),
]


def gradient(rng, shape, dtype=np.float64):
    g = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3)
    return g + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else g


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("name", "equation", "options"), CASES)
def test_the_equation(name, equation, options, maximize):
    """Two groups, of which one has another rate; gradients come and go."""
    rng = np.random.default_rng(0)
    rates, shapes = [0.05, 0.05, 0.02], [(2, 3), (), (4,)]
    ours = [wg.tensor(rng.normal(size=s), requires_grad=True) for s in shapes]
    groups = [{"params": ours[:2]}, {"params": ours[2], "lr": 0.02}]
    optimizer = getattr(optim, name)(groups, lr=0.05, maximize=maximize, **options)
    numbers = [[float(v) for v in p.numpy().ravel()] for p in ours]
    rules = [[equation({}, r, **options) for _ in ps] for r, ps in zip(rates, numbers, strict=True)]
    steps = [0] * 3
    for n in range(25):
        for i, p in enumerate(ours):
            if (n + i) % 4 == 3:
                p.grad = None
                continue
            g = gradient(rng, p.shape)
            p.grad = wg.tensor(g)
            steps[i] += 1
            for j, gj in enumerate(np.ravel(g)):
                gj = -float(gj) if maximize else float(gj)
                numbers[i][j] = float(rules[i][j](numbers[i][j], gj, steps[i]))
        optimizer.step()
        for p, want in zip(ours, numbers, strict=True):
            np.testing.assert_allclose(p.numpy().ravel(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, _, o in CASES])
def test_complex_numbers_are_pairs_of_real_ones(name, options):
    rng = np.random.default_rng(1)
    z = wg.tensor(rng.normal(size=3) + 1j * rng.normal(size=3), requires_grad=True)
    pair = wg.tensor(np.stack([z.numpy().real, z.numpy().imag], -1), requires_grad=True)
    one = getattr(optim, name)([z], lr=0.05, **options)
    two = getattr(optim, name)([pair], lr=0.05, **options)
    for _ in range(8):
        g = gradient(rng, 3, complex)
        z.grad, pair.grad = wg.tensor(g), wg.tensor(np.stack([g.real, g.imag], -1))
        one.step()
        two.step()
        np.testing.assert_array_equal(z.numpy().view(float).reshape(3, 2), pair.numpy())


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "NAdam", "RAdam"])
def test_maximize_is_that_of_pytorch(torch, name):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 2))
    ours, theirs = wg.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    told = {"lr": 0.05, "weight_decay": 0.1, "maximize": True}
    old = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        a, b = getattr(optim, name)([ours], **told), getattr(torch.optim, name)([theirs], **told)
        for _ in range(10):
            g = rng.normal(size=(3, 2))
            ours.grad, theirs.grad = wg.tensor(g), torch.tensor(g)
            a.step()
            b.step()
    finally:
        torch.set_default_dtype(old)
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_a_step_with_a_closure_computes_the_gradients_itself():
    w = wg.tensor([4.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with wg.no_grad():
        assert optimizer.step(closure).item() == 16.0
    assert w.item() == 2.0


# ---- Muon


def quintic(m, iterations):
    """The same polynomial, applied to the singular values one by one."""
    u, s, vt = np.linalg.svd(m, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vt


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 2, 4)])
def test_muon(shape, nesterov):
    rng = np.random.default_rng(0)
    w = wg.tensor(rng.normal(size=shape), requires_grad=True)
    b = wg.tensor(rng.normal(size=5), requires_grad=True)
    told = {"lr": 0.05, "weight_decay": 0.3}
    optimizer = optim.Muon([b, w], nesterov=nesterov, **told)
    other = wg.tensor(b.numpy(), requires_grad=True)
    adamw = optim.AdamW([other], **told)
    p = w.numpy().reshape(-1, shape[-1]).copy()
    v = 0.0
    for _ in range(6):
        g = rng.normal(size=shape)
        w.grad, b.grad = wg.tensor(g), wg.tensor(g.ravel()[:5])
        other.grad = wg.tensor(g.ravel()[:5])
        g = g.reshape(p.shape)
        v = 0.95 * v + 0.05 * g
        u = 0.05 * g + 0.95 * v if nesterov else v
        p = p - 0.05 * 0.3 * p - 0.05 * 0.2 * math.sqrt(max(p.shape)) * quintic(u, 5)
        optimizer.step()
        adamw.step()
        np.testing.assert_allclose(w.numpy().reshape(p.shape), p, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(b.numpy(), other.numpy())


@pytest.mark.parametrize("shape", [(6, 4), (3, 7)])
def test_muon_agrees_with_pytorch(torch, monkeypatch, shape):
    """PyTorch computes the polynomial in bfloat16; here it is let stay in float64."""
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    ours, theirs = wg.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    a = optim.Muon([ours], lr=0.1, weight_decay=0.2)
    b = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        g = rng.normal(size=shape)
        ours.grad, theirs.grad = wg.tensor(g), torch.tensor(g)
        a.step()
        b.step()
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


def test_muon_cuts_groups_and_refuses_vectors():
    w, b = (wg.tensor(np.ones(s), requires_grad=True) for s in ((2, 3), (3,)))
    e = wg.tensor(np.ones((4, 2)), requires_grad=True)
    optimizer = optim.Muon([{"params": [w, b]}, {"params": [e], "rule": "adamw", "lr": 0.5}])
    assert [(g.rule, g.lr, len(g.parameters)) for g in optimizer.groups] == [
        ("muon", 1e-3, 1),
        ("adamw", 1e-3, 1),
        ("adamw", 0.5, 1),
    ]
    for make, rule in [
        (lambda: optim.Muon([{"params": [b], "rule": "muon"}]), "two axes or more"),
        (lambda: optim.Muon([{"params": [w], "rule": "sgd"}]), "the rules are"),
        (lambda: optim.Muon([w], iterations=0), "whole number"),
        (lambda: optim.Muon([w, np.ones(2)]), "a parameter is a tensor"),
    ]:
        with pytest.raises(wg.errors.OptionError, match=rule):
            make()


# ---- states


MAKERS = {
    "Muon": lambda ps: optim.Muon(ps, lr=0.1),
    "SGLD": lambda ps: optim.SGLD(ps, lr=0.1, preconditioned=True, rng=3),
    "Lookahead": lambda ps: optim.Lookahead(optim.SGD(ps, lr=0.1, momentum=0.9), k=3),
    "SAM": lambda ps: optim.SAM(optim.Adam(ps, lr=0.1), rho=0.1),
    **{n: lambda ps, n=n, o=o: getattr(optim, n)(ps, lr=0.05, **o) for n, _, o in CASES},
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_goes_on_bit_for_bit(name):
    def leaves():
        rng = np.random.default_rng(0)
        return [wg.tensor(rng.normal(size=s), requires_grad=True) for s in ((3, 2), (4,), ())]

    def train(ps, optimizer, steps):
        for i in steps:

            def closure(i=i):
                optimizer.zero_grad()
                loss = sum(np.sum(np.sin((i + 1) * p) * p) for p in ps)
                loss.backward()
                return loss

            optimizer.step(closure)

    whole, parts = leaves(), leaves()
    train(whole, MAKERS[name](whole), range(10))
    first = MAKERS[name](parts)
    train(parts, first, range(4))
    second = MAKERS[name](parts)
    second.load_state_dict(first.state_dict())
    train(parts, second, range(4, 10))
    for p, q in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
