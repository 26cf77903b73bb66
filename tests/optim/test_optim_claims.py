"""What clipping, noise, averages and their kin do to the numbers themselves."""

import math

import numpy as np
import pytest

import wengert as wg
from wengert import optim
from wengert.errors import OptionError


def leaf(x, dtype=np.float64):
    return wg.tensor(np.asarray(x, dtype), requires_grad=True)


def with_gradients(*gradients):
    out = []
    for g in gradients:
        p = leaf(np.ones_like(g), np.asarray(g).dtype)
        p.grad = wg.tensor(g)
        out.append(p)
    return out


def flat(ps):
    return np.concatenate([p.grad.numpy().ravel() for p in ps])


# ---- clipping


@pytest.mark.parametrize("limit", [0.0, 1e-3, 1.0, 5.0, 1e3])
def test_clipping_keeps_the_direction_and_bounds_the_length(limit):
    rng = np.random.default_rng(0)
    ps = with_gradients(rng.normal(size=(3, 4)), rng.normal(size=2), np.array(2.0))
    before = flat(ps)
    norm = optim.clip_grad_norm_(ps, limit, eps=0)
    after = flat(ps)
    assert norm == pytest.approx(np.linalg.norm(before), rel=1e-14)
    assert np.linalg.norm(after) == pytest.approx(min(limit, norm), rel=1e-14)
    if limit >= norm:
        np.testing.assert_array_equal(after, before)
    elif limit:
        np.testing.assert_allclose(after / limit, before / norm, rtol=1e-14)


def test_clipping_by_value_changes_only_what_is_too_large():
    ps = with_gradients(np.array([-3.0, -0.5, 0.0, 0.5, 7.0]))
    optim.clip_grad_value_(ps, 1.0)
    np.testing.assert_array_equal(flat(ps), [-1.0, -0.5, 0.0, 0.5, 1.0])


def test_adaptive_clipping_keeps_every_unit_s_direction():
    rng = np.random.default_rng(0)
    w = leaf(rng.normal(size=(2, 3, 4)) * np.array([1.0, 10.0, 0.0, 1.0]))
    g = rng.normal(size=(2, 3, 4)) * np.array([1.0, 1.0, 1.0, 1e-4])
    w.grad = wg.tensor(g)
    b = leaf(rng.normal(size=4))
    b.grad = wg.tensor(rng.normal(size=4))
    gb = b.grad.numpy().copy()
    optim.clip_grad_adaptive_([w, b], 0.1, eps=1e-3)
    for j in range(4):
        got, own = w.grad.numpy()[..., j].ravel(), w.numpy()[..., j].ravel()
        old = g[..., j].ravel()
        most = 0.1 * max(np.linalg.norm(own), 1e-3)
        want = old * min(1, most / np.linalg.norm(old))
        np.testing.assert_allclose(got, want, rtol=1e-14)
    np.testing.assert_array_equal(w.grad.numpy()[..., 3], g[..., 3])
    want = gb * min(1, 0.1 * np.linalg.norm(b.numpy()) / np.linalg.norm(gb))
    np.testing.assert_allclose(b.grad.numpy(), want, rtol=1e-14)


def test_a_zero_gradient_stays_zero():
    ps = with_gradients(np.zeros((2, 2)))
    optim.clip_grad_adaptive_(ps, 0.0)
    optim.clip_grad_norm_(ps, 0.0)
    np.testing.assert_array_equal(flat(ps), np.zeros(4))


# ---- noise


def added(noise, shape=(200, 500), dtype=np.float64):
    (p,) = with_gradients(np.full(shape, 2.0, dtype))
    noise([p])
    assert p.grad.dtype == dtype
    return p.grad.numpy() - 2.0


@pytest.mark.parametrize("gamma", [0.0, 0.55, 1.0])
def test_gradient_noise_has_the_mean_and_variance_it_claims(gamma):
    noise = optim.GradientNoise(0.3, gamma, rng=0)
    for t in range(5):
        e = added(noise)
        n, variance = e.size, 0.3 / (1 + t) ** gamma
        assert abs(e.mean()) < 4 * math.sqrt(variance / n)
        assert abs(e.var() - variance) < 4 * variance * math.sqrt(2 / n)
        kurtosis = (e**4).mean() / variance**2
        assert abs(kurtosis - 3) < 4 * math.sqrt(96 / n)  # normal, not only of that variance


def test_noise_of_numbers_and_steps_is_independent():
    noise = optim.GradientNoise(1.0, 0.0, rng=1)
    a, b = added(noise).ravel(), added(noise).ravel()
    n = a.size
    for x, y in [(a, b), (a[1:], a[:-1])]:
        assert abs(np.mean(x * y)) < 4 / math.sqrt(n)


def test_noise_keeps_dtypes_and_leaves_missing_gradients():
    noise = optim.GradientNoise(0.01, rng=0)
    assert abs(added(noise, dtype=np.float32).std() - 0.1) < 1e-3
    p = leaf([1.0])
    noise([p])
    assert p.grad is None
    z = leaf([1.0 + 1j] * 50_000, complex)
    z.grad = wg.tensor(np.zeros(50_000, complex))
    optim.GradientNoise(1.0, 0.0, rng=0)([z])
    for part in (z.grad.numpy().real, z.grad.numpy().imag):
        assert abs(part.var() - 1) < 4 * math.sqrt(2 / 50_000)


def test_noise_goes_on_where_it_was_saved():
    one, two = optim.GradientNoise(0.3, rng=5), optim.GradientNoise(0.3, rng=7)
    added(one)
    two.load_state_dict(one.state_dict())
    for _ in range(3):
        np.testing.assert_array_equal(added(one, (4,)), added(two, (4,)))
    assert one.deviation == two.deviation


def test_without_a_seed_noise_comes_from_the_default_stream():
    wg.random.seed(3)
    a = added(optim.GradientNoise(0.3), (4,))
    wg.random.seed(3)
    noise = optim.GradientNoise(0.3)
    np.testing.assert_array_equal(a, added(noise, (4,)))
    assert noise.state_dict()["rng"] is None  # it belongs to all, and is saved with all


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "much"])
def test_noise_is_checked(bad):
    with pytest.raises(OptionError, match="eta must be"):
        optim.GradientNoise(bad)
    with pytest.raises(OptionError, match="gamma must be"):
        optim.GradientNoise(0.1, bad)
    with pytest.raises(OptionError, match="temperature must be"):
        optim.SGLD([leaf([1.0])], temperature=bad)


# ---- sampling


def chains(steps, burn, **options):
    """Many chains side by side for the posterior of a normal mean."""
    rng = np.random.default_rng(0)
    data = rng.normal(1.5, 2.0, size=20)
    prior, noise, n = 1 / 9, 1 / 4, len(data)  # precisions
    precision = prior + n * noise
    mean = noise * data.sum() / precision
    w = leaf(mean + rng.normal(size=400))
    sampler = optim.SGLD([w], rng=1, weight_decay=prior, **options)
    samples = []
    for i in range(steps):
        sampler.zero_grad()
        # the negative log-likelihood, from its sufficient statistics
        (noise / 2 * (n * w * w - 2 * w * data.sum())).sum().backward()
        sampler.step()
        if i >= burn:
            samples.append(w.numpy().copy())
    return np.array(samples), mean, precision


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_langevin_dynamics_sample_the_posterior(temperature):
    """A normal posterior; the step's own effect on the variance, 1 / (1 - h/4), is known."""
    lr = 0.05
    x, mean, precision = chains(300, 100, lr=lr, temperature=temperature)
    h = lr * precision
    a = 1 - h / 2  # x_t - mean is autoregressive with this factor
    variance = temperature / precision / (1 - h / 4)
    independent = x.size * (1 - a) / (1 + a)
    assert abs(x.mean() - mean) < 4 * math.sqrt(variance / independent)
    squares = x.size * (1 - a * a) / (1 + a * a)
    assert abs(x.var() - variance) < 4 * variance * math.sqrt(2 / squares)
    assert abs(variance * precision / temperature - 1) < 0.08  # and that is nearly the posterior


def test_preconditioned_dynamics_sample_it_too():
    """The preconditioner follows the gradients, which shifts the samples by a few per cent."""
    x, mean, precision = chains(1500, 500, lr=0.02, preconditioned=True, alpha=0.999)
    assert abs(x.mean() - mean) < 0.1 / math.sqrt(precision)
    assert abs(x.var() * precision - 1) < 0.1


def test_the_equation_of_langevin_dynamics():
    rng = np.random.default_rng(0)
    for options in ({}, {"preconditioned": True, "alpha": 0.9, "eps": 1e-3}):
        w = leaf(rng.normal(size=5))
        sampler = optim.SGLD([w], lr=0.1, temperature=0.5, weight_decay=0.3, rng=8, **options)
        stream, p, v = wg.random.generator(8), w.numpy().copy(), 0.0
        for t in range(1, 6):
            g = rng.normal(size=5)
            w.grad = wg.tensor(g)
            sampler.step()
            g = g + 0.3 * p
            v = 0.9 * v + 0.1 * g * g
            m = 1 / (np.sqrt(v / (1 - 0.9**t)) + 1e-3) if options else 1.0
            z = stream.standard_normal(5)
            p = p - 0.05 * m * g + np.sqrt(0.1 * 0.5 * m) * z
            np.testing.assert_allclose(w.numpy(), p, rtol=1e-13)


def test_at_temperature_0_it_is_gradient_descent():
    w = leaf([4.0])
    (w * w).sum().backward()
    optim.SGLD([w], lr=0.5, temperature=0.0).step()
    assert w.item() == 2.0


# ---- averages


def moved(p, value):
    with wg.no_grad():
        p[...] = value


def test_ema_in_closed_form():
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(8, 3))
    p = leaf(xs[0])
    ema = optim.EMA([p], decay=0.9, warm=False)
    for x in xs[1:]:
        moved(p, x)
        ema.update()
    n = len(xs) - 1
    weights = [0.9**n, *(0.1 * 0.9 ** (n - i) for i in range(1, n + 1))]
    assert sum(weights) == pytest.approx(1)
    np.testing.assert_allclose(ema.values[0], weights @ xs, rtol=1e-14)


def test_ema_warms_up():
    p = leaf([0.0])
    ema = optim.EMA([p], decay=0.999)
    want = 0.0
    for t in range(1, 6):
        moved(p, float(t))
        ema.update()
        decay = min(0.999, (1 + t) / (10 + t))
        want = decay * want + (1 - decay) * t
    assert ema.values[0][0] == pytest.approx(want, rel=1e-14)


def test_buffers_are_averaged_and_counts_kept():
    p, mean, count = leaf([1.0]), wg.tensor([2.0]), wg.tensor([0])
    ema = optim.EMA([p], decay=0.5, warm=False, buffers=[mean, count])
    for i in (1, 2):
        moved(mean, 2.0 + 4 * i)
        moved(count, i)
        ema.update()
    with ema.applied():
        assert (mean.item(), count.item()) == (0.25 * 2 + 0.25 * 6 + 0.5 * 10, 2)
        moved(count, 7)
    assert (mean.item(), count.item()) == (10.0, 2)
    other = optim.EMA([p], buffers=[mean, count])
    other.load_state_dict(ema.state_dict())
    assert [v.tolist() for v in other.values] == [v.tolist() for v in ema.values]


def test_swa_is_the_mean_of_what_was_seen():
    xs = np.random.default_rng(0).normal(size=(7, 3))
    p = leaf(np.full(3, 100.0))
    swa = optim.SWA([p])
    for x in xs:
        moved(p, x)
        swa.update()
    np.testing.assert_allclose(swa.values[0], xs.mean(axis=0), rtol=1e-13)


# ---- around an optimizer


def test_sam_takes_the_gradient_where_it_claims():
    rng = np.random.default_rng(0)
    for adaptive in (False, True):
        start = [rng.normal(size=s) for s in ((2, 2), (3,))]
        a, b, unused = leaf(start[0]), leaf(start[1]), leaf([1.0])
        places = []

        def closure(a=a, b=b, places=places):
            places.append([a.numpy().copy(), b.numpy().copy()])
            a.grad = b.grad = None
            loss = (a**4).sum() + (b**2).sum() * a.sum()
            loss.backward()
            return loss

        inner = optim.SGD([a, b, unused], lr=0.1, momentum=0.9)
        sam = optim.SAM(inner, rho=0.3, adaptive=adaptive)
        v = [0.0, 0.0]
        for _ in range(3):
            x = [a.numpy().copy(), b.numpy().copy()]
            g = wg.grad(lambda x: (x[0] ** 4).sum() + (x[1] ** 2).sum() * x[0].sum())
            first = g(x)
            scale = [np.abs(p) if adaptive else 1.0 for p in x]
            norm = math.sqrt(sum(((s * d) ** 2).sum() for s, d in zip(scale, first, strict=True)))
            there = [p + 0.3 * s * s * d / norm for p, s, d in zip(x, scale, first, strict=True)]
            second = g(there)
            v = [0.9 * old + d for old, d in zip(v, second, strict=True)]
            sam.step(closure)
            for got, want in zip(places[-1], there, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-13)
            for p, old, step in zip((a, b), x, v, strict=True):
                np.testing.assert_allclose(p.numpy(), old - 0.1 * step, rtol=1e-12)
        assert unused.item() == 1.0


def test_sam_comes_back_when_the_closure_raises():
    w, calls = leaf([3.0]), []
    sam = optim.SAM(optim.SGD([w], lr=0.1))

    def closure():
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        (w * w).sum().backward()

    with pytest.raises(KeyboardInterrupt):
        sam.step(closure)
    assert w.item() == 3.0
    with pytest.raises(OptionError, match="there was no first step"):
        sam.second_step()
    with pytest.raises(OptionError, match="gradients at two places"):
        sam.step()


def test_sam_s_halves_are_its_step():
    ends = []
    for halves in (False, True):
        w = leaf([3.0, -1.0])
        sam = optim.SAM(optim.SGD([w], lr=0.1), rho=0.5)

        def closure(w=w, sam=sam):
            sam.zero_grad()
            loss = (w**4).sum()
            loss.backward()
            return loss

        if halves:
            closure()
            sam.first_step()
            assert w.grad is None
            with pytest.raises(wg.errors.ArgumentError, match="not where they belong"):
                sam.state_dict()
            closure()
            sam.second_step()
        else:
            sam.step(closure)
        ends.append(w.numpy().copy())
    np.testing.assert_array_equal(*ends)


def test_lookahead_follows_its_equation():
    rng = np.random.default_rng(0)
    w = leaf(rng.normal(size=3))
    optimizer = optim.Lookahead(optim.SGD([w], lr=0.1), k=3, alpha=0.4)
    fast = slow = w.numpy().copy()
    for t in range(1, 10):
        g = rng.normal(size=3)
        w.grad = wg.tensor(g)
        optimizer.step()
        fast = fast - 0.1 * g
        if t % 3 == 0:
            fast = slow = slow + 0.4 * (fast - slow)
        np.testing.assert_allclose(w.numpy(), fast, rtol=1e-13)
    with pytest.raises(OptionError, match="alpha"):
        optim.Lookahead(optim.SGD([w]), alpha=1.5)
    with pytest.raises(OptionError, match="whole number"):
        optim.Lookahead(optim.SGD([w]), k=0)
    with pytest.raises(OptionError, match="goes around an optimizer"):
        optim.Lookahead([w])
