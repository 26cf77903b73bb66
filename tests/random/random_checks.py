"""What is checked of a random program, in every mode."""

import warnings
from collections import Counter
from typing import Any

import numpy as np
from random_programs import Program, differences, independent

import wengert as wg

RAN: Counter[str] = Counter()


class Wrong(AssertionError):
    """What differs, with the program."""


def check(program: Program) -> None:
    """Value, gradient, tangent and Hessian-vector products of a program against both referees."""
    xs, vs = program.inputs(), program.directions()
    every = tuple(range(len(xs)))
    value = recorded_value(program, xs)
    g = wg.grad(program.run, every, allow_unused=True)
    got = {
        "value": value,
        "gradient": flat(g(*xs)),
        "slope": wg.jvp(program.run, tuple(xs), tuple(vs))[1],
        "forward over reverse": flat(wg.hvp(program.run, tuple(xs), tuple(vs))),
        "reverse over reverse": flat(
            wg.grad(lambda *x: dotted(g(*x), vs), every, allow_unused=True)(*xs)
        ),
        "reverse over forward": flat(
            wg.grad(lambda *x: wg.jvp(program.run, x, tuple(vs))[1], every, allow_unused=True)(*xs)
        ),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of autograd's, about outputs that do not depend on inputs
        value, gradient, slope, curve = independent(program)
    want = {"value": value, "gradient": gradient, "slope": slope}
    for name, v in got.items():
        close(program, f"{name} and HIPS autograd's", v, want.get(name, curve))
    slope, bend, converged = differences(program)
    RAN["programs"] += 1
    RAN["steps"] += len(program.steps)
    RAN["compared with differences"] += converged
    if converged:
        close(program, "slope and central differences", got["slope"], slope)
        close(program, "gradient and central differences", got["gradient"] @ flat(vs), slope)
        close(
            program,
            "curvature and central differences",
            got["forward over reverse"] @ flat(vs),
            bend,
            1e-7,
        )
    eager(program, xs, vs, got)
    if program.lanes:
        RAN["batched"] += 1
        batched(program, xs)


def recorded_value(program: Program, xs: Any) -> Any:
    """The value: the same to the bit with and without recording, and as NumPy's."""
    before = [x.copy() for x in xs]
    plain = program.outs(*[wg.tensor(x) for x in xs])
    leaves = program.outs(*[wg.tensor(x, requires_grad=True) for x in xs])
    numpys = program.outs(*[x.copy() for x in xs]) if program.numpys else plain
    for p, r, n in zip(plain, leaves, numpys, strict=True):
        for kind, other in (("NumPy's value", n), ("recorded value", r)):
            p_, o_ = np.asarray(value_of(p)), np.asarray(value_of(other))
            if p_.shape != o_.shape or p_.dtype != o_.dtype or p_.tobytes() != o_.tobytes():
                raise Wrong(f"{kind} {o_!r} is not {p_!r} in\n{program!r}")
    if any((x != old).any() for x, old in zip(xs, before)):
        raise Wrong(f"an input was changed by\n{program!r}")
    return value_of(program.run(*xs))


def eager(program: Program, xs: Any, vs: Any, got: Any) -> None:
    """`.backward()` gives what wg.grad gives, and again with create_graph."""
    leaves = [wg.tensor(x, requires_grad=True) for x in xs]
    y = program.run(*leaves)
    if not y.requires_grad:
        return
    y.backward(create_graph=True)
    slopes = [leaf.grad for leaf in leaves]
    first = [np.zeros(x.shape) if s is None else value_of(s) for s, x in zip(slopes, xs)]
    close(program, "backward() and grad", flat(first), got["gradient"], 1e-13)
    parts = [(s * v).sum() for s, v in zip(slopes, vs) if s is not None and s.requires_grad]
    for leaf in leaves:
        leaf.grad = None
    if not parts:
        return
    sum(parts[1:], parts[0]).backward()
    second = [np.zeros(x.shape) if p.grad is None else value_of(p.grad) for p, x in zip(leaves, xs)]
    close(program, "backward() twice and hvp", flat(second), got["forward over reverse"])


def batched(program: Program, xs: Any) -> None:
    """vmap is a stack of calls, of the function and of its gradient."""
    n = 3
    alike = program.seed if program.plain else 0  # plain arrays hold no recorded values
    axes = tuple(None if alike >> i & 1 and i else 0 for i in range(len(xs)))
    stacks = [
        x if a is None else np.stack([x * (1 + 0.003 * k) for k in range(n)])
        for x, a in zip(xs, axes)
    ]
    rows = [[s if a is None else s[k] for s, a in zip(stacks, axes)] for k in range(n)]
    every = tuple(range(len(xs)))
    g = wg.grad(program.run, every, allow_unused=True)
    for y, want in zip(
        wg.vmap(program.outs, axes)(*stacks), zip(*[program.outs(*r) for r in rows])
    ):
        close(program, "vmap and a stack of calls", y, np.stack(want), 1e-12)
    for y, want in zip(wg.vmap(g, axes)(*stacks), zip(*[g(*r) for r in rows])):
        close(program, "vmap of grad and a stack", y, np.stack(want), 1e-11)
    total = wg.grad(lambda *s: wg.vmap(program.run, axes)(*s).sum(), every, allow_unused=True)
    slopes = [g(*r) for r in rows]
    for i, (y, a) in enumerate(zip(total(*stacks), axes)):
        want = np.stack([s[i] for s in slopes])
        close(program, "grad of vmap and a stack", y, want if a == 0 else want.sum(0), 1e-11)


def value_of(x: Any) -> Any:
    return x.value() if isinstance(x, wg.Tensor) else x


def flat(xs: Any) -> Any:
    return np.concatenate([np.ravel(value_of(x)) for x in xs])


def dotted(gs: Any, vs: Any) -> Any:
    parts = [(g * v).sum() for g, v in zip(gs, vs)]
    return sum(parts[1:], parts[0])


def close(program: Program, what: str, got: Any, want: Any, tolerance: float = 1e-9) -> None:
    got, want = np.asarray(value_of(got)), np.asarray(value_of(want))
    if got.shape != want.shape:
        raise Wrong(f"{what}: shape {got.shape} and {want.shape} of\n{program!r}")
    error = np.abs(got - want).max(initial=0.0)
    if not error <= tolerance * (1 + np.abs(want).max(initial=0.0)):
        raise Wrong(f"{what}: {got!r} and {want!r}, of\n{program!r}")
