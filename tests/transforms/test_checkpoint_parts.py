"""Parts within parts, with transforms inside, around and between, are the plain program."""

import itertools
import zlib

import numpy as np
import pytest

import wengert as wg

X = np.array([0.3, 0.7])
V = np.array([1.0, -2.0])


def grad_within_part(outer, inner):
    """A part, whose function is a gradient of a part."""

    def h(x):
        return wg.grad(inner(lambda z: np.sum(np.sin(z * x) ** 2)))(x) + x

    return lambda x: np.sum(np.sin(outer(h)(x * x)))


def part_of_grad(outer, inner):
    def h(x):
        return wg.grad(lambda z: np.sum(inner(lambda u: np.sin(u * x) ** 2)(z * z)))(x) + x

    return lambda x: np.sum(np.sin(outer(h)(x * x)))


def part_beside_grad(outer, inner):
    """The gradient and the part within share an input, which is itself a value inside."""

    def h(x):
        y = np.exp(0.5 * x)
        g = wg.grad(lambda z: np.sum(inner(np.sin)(z * y) * z))(y)
        return inner(lambda u, v: np.tanh(u) * v)(y, g) + g * y

    return lambda x: np.sum(np.cos(outer(h)(x * x)))


def push_within_part(outer, inner):
    def h(x):
        y, dy = wg.jvp(inner(lambda z: np.sin(z) * x), (x,), (x * x,))
        return y * dy + x

    return lambda x: np.sum(np.sin(outer(h)(x * x)))


def lanes_within_part(outer, inner):
    def h(x):
        rows = np.stack([x, 2.0 * x, x * x])
        return np.sum(wg.vmap(inner(lambda r: np.sin(r) * x))(rows), 0)

    return lambda x: np.sum(np.sin(outer(h)(x * x)))


def hessian_within_part(outer, inner):
    def h(x):
        return wg.hessian(inner(lambda z: np.sum(np.sin(z * x))))(x) @ x

    return lambda x: np.sum(np.sin(outer(h)(x * x)))


def written_within_part(outer, inner):
    def h(x):
        y = np.exp(x)
        g = wg.grad(lambda z: np.sum(inner(np.sin)(z * y)))(x)
        y[0] = g[1] * 2.0
        return inner(lambda u: u * np.sin(u))(y) + g

    return lambda x: np.sum(np.sin(outer(h)(x * x)))


PROGRAMS = [
    grad_within_part,
    part_of_grad,
    part_beside_grad,
    push_within_part,
    lanes_within_part,
    hessian_within_part,
    written_within_part,
]


def again(f):
    return wg.grad(lambda x: np.sum(wg.grad(f)(x) ** 2))


ORDERS = {
    "first": lambda f: wg.grad(f)(X),
    "second": lambda f: again(f)(X),
    "third": lambda f: wg.grad(lambda x: np.sum(again(f)(x)))(X),
    "jvp of grad": lambda f: wg.jvp(wg.grad(f), (X,), (V,))[1],
    "grad of jvp": lambda f: wg.grad(lambda x: wg.jvp(f, (x,), (V,))[1])(X),
    "lanes of grad": lambda f: wg.vmap(wg.grad(f))(np.stack([X, V])),
    "hessian": lambda f: wg.hessian(f)(X),
}


def once(f):
    return f


def twice(f):
    return wg.checkpoint(wg.checkpoint(f))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_every_nesting_is_the_plain_program(program, order):
    take = ORDERS[order]
    plain = take(program(once, once))
    for outside, outer, inner in itertools.product([once, wg.checkpoint], repeat=3):
        got = take(outside(program(outer, inner)))
        assert np.array_equal(got, plain), (outside, outer, inner)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_parts_of_the_same_extent(program):
    plain = ORDERS["second"](program(once, once))
    assert np.array_equal(ORDERS["second"](twice(program(twice, twice))), plain)


def with_policy(policy):
    return lambda f: wg.checkpoint(f, policy=policy)


def elsewhere(op, name, aval):
    """Some arrays are kept in another place, some where they are."""
    return {"input": Away, "x": Away, "a": True}.get(name, False)


class Away(wg.transforms.residuals.Packed):
    def __init__(self, a):
        self.a = a.copy()

    def unpack(self):
        return self.a


def named(inner):
    return lambda f: inner(lambda *xs: wg.checkpoint_name(f(*xs), "kept"))


def mixed(seed):
    """What is kept, and where, differs from operation to operation and from name to name."""

    def policy(op, name, aval):
        text = f"{seed} {op!r} {name} {aval.shape}"
        return (Away, True, False)[zlib.crc32(text.encode()) % 3]

    return policy


POLICIES = {
    "everything": lambda: wg.checkpoint.policies.everything,
    "names": lambda: wg.checkpoint.policies.names("kept", "x"),
    "inputs": lambda: wg.checkpoint.policies.names("input"),
    "disk": lambda: wg.checkpoint.policies.disk(),
    "elsewhere": lambda: elsewhere,
    **{f"mixed {n}": lambda n=n: mixed(n) for n in range(6)},
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_policies_of_parts_within_parts(program, policy):
    plain = ORDERS["second"](program(once, once))
    part = with_policy(POLICIES[policy]())
    for outside, outer, inner in itertools.product([wg.checkpoint, part], repeat=3):
        got = ORDERS["second"](outside(program(outer, named(inner))))
        assert np.array_equal(got, plain), (outside is part, outer is part, inner is part)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_the_tape_of_tensors(program):
    def second(f):
        x = wg.tensor(X, requires_grad=True)
        (g,) = wg.autograd.grad(f(x), [x], create_graph=True)
        np.sum(g * g).backward()
        return x.grad.numpy()

    plain = second(program(once, once))
    for outside, outer, inner in itertools.product([once, wg.checkpoint], repeat=3):
        assert np.array_equal(second(outside(program(outer, inner))), plain)


def test_gradients_within_a_part_run_it_once_more_in_all():
    """What a transform within records is swept within: it is not dropped only to come again."""
    A = np.random.default_rng(0).normal(size=(5, 3))
    evaluations = 0

    def cost(x, t):
        nonlocal evaluations
        evaluations += 1
        return np.sum((A @ x - np.sin(t)) ** 2) + 0.1 * np.sum(x**4)

    def f(t):
        return np.sum(wg.argmin(cost, np.zeros(3), t) ** 2)

    def work(f):
        nonlocal evaluations
        evaluations = 0
        g = wg.grad(f)(np.linspace(0.0, 1.0, 5))
        return g, evaluations

    want, plain = work(f)
    got, twice = work(wg.checkpoint(f))
    assert np.array_equal(got, want)
    assert twice <= 2 * plain


@pytest.mark.parametrize("take", [wg.grad, wg.hessian])
def test_work_is_linear_in_the_parts_within(take):
    def evaluations(n):
        calls = 0

        def cost(z, x):
            nonlocal calls
            calls += 1
            return np.sum(np.sin(z * x) ** 2)

        def f(x):
            for _ in range(n):
                x = x + 0.01 * wg.grad(wg.checkpoint(cost))(x, x)
            return np.sum(x**2)

        take(wg.checkpoint(f))(X)
        return calls

    assert evaluations(8) == 2 * evaluations(4) == 8 * evaluations(1)
