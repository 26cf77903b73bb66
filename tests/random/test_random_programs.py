"""Hundreds of random programs (thousands with `-m slow`) against HIPS autograd and differences."""

import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_checks import RAN, Wrong, check
from random_ops import OPS
from random_programs import DRAWN, build, programs, smaller

settings.register_profile(
    "programs",
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=(Phase.generate, Phase.shrink),
)
EVERY = settings(settings.get_profile("programs"), max_examples=250)
WRITERS = (
    "writes 1",
    "writes 2",
    "more writes 1",
    "more writes 2",
    "filled",
    "swept",
    "sin",
    "mul",
    "x.T",
)


@settings(EVERY)
@given(programs())
def test_programs(program):
    check(program)


@settings(EVERY, max_examples=100)
@given(programs(WRITERS))
def test_programs_that_write(program):
    check(program)


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_operation(name):
    """Programs that begin with one operation, so that none is left out."""
    rng = random.Random(name)
    tried = 0
    for _ in range(200):
        program = build(rng.choice, first=name)
        if program.steps and program.steps[0][0] == name:
            sweep(program)
            tried += 1
            if tried == 2:
                return
    raise AssertionError(f"{name}: {tried} programs out of 200")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_thousands_of_programs(seed):
    rng = random.Random(seed)
    RAN.clear()
    DRAWN.clear()
    for _ in range(1000):
        sweep(build(rng.choice))
    assert RAN["steps"] > 3000
    assert RAN["compared with differences"] > 0.98 * RAN["programs"]
    assert RAN["batched"] > 0.7 * RAN["programs"]
    assert DRAWN["taken"] > 2 * DRAWN["refused"]


def sweep(program):
    """Check a program; a failure is made small before it is shown."""
    kind = failure(program)
    if kind is not None:
        check(smaller(program, lambda p: failure(p) is kind))


def failure(program):
    """The class of what a program raises; None if it is right in every mode."""
    try:
        check(program)
    except Exception as error:
        return type(error)
    return None


def test_most_steps_are_taken():
    """Few draws fall near a kink, so that little of what is drawn is lost."""
    rng = random.Random(0)
    DRAWN.clear()
    sizes = [len(build(rng.choice).steps) for _ in range(200)]
    assert DRAWN["taken"] > 2 * DRAWN["refused"]
    assert sum(sizes) > 700


def test_the_checks_see_a_wrong_rule(monkeypatch):
    """A derivative that is wrong by a part in a million fails."""
    from dataclasses import replace

    from random_programs import Program

    program = Program(((3,),), (("sin", (0,), ()),), 1)
    check(program)
    off = replace(OPS["sin"], peer=lambda m, x: m.sin(x) + 1e-6 * m.sin(x) ** 2)
    monkeypatch.setitem(OPS, "sin", off)
    with pytest.raises(Wrong, match="HIPS"):
        check(program)
