"""no_grad, enable_grad, inference_mode, set_grad_enabled: as blocks, calls and decorators."""

import threading

import numpy as np
import pytest

import wengert as wg
from wengert import trace


@pytest.fixture
def w():
    return wg.tensor([1.0, 2.0], requires_grad=True)


REGIONS = {
    "no_grad": (wg.no_grad, (), False),
    "enable_grad": (wg.enable_grad, (), True),
    "inference_mode": (wg.inference_mode, (), False),
    "inference_mode(True)": (wg.inference_mode, (True,), False),
    "set_grad_enabled(False)": (wg.set_grad_enabled, (False,), False),
    "set_grad_enabled(True)": (wg.set_grad_enabled, (True,), True),
}


@pytest.mark.parametrize("name", REGIONS)
def test_blocks_and_decorators(name, w):
    region, args, records = REGIONS[name]
    for outside in (True, False):
        with wg.enable_grad() if outside else wg.no_grad():
            with region(*args):
                assert wg.is_grad_enabled() == records
                assert (w * 2.0).requires_grad == records
            assert wg.is_grad_enabled() == outside

            @region(*args)
            def f(x):
                return (x * 2.0).requires_grad

            assert wg.is_grad_enabled() == outside
            assert f(w) == records
            assert f(w) == records
            assert wg.is_grad_enabled() == outside
    assert trace.MODES == 0


@pytest.mark.parametrize("region", [wg.no_grad, wg.inference_mode, wg.enable_grad])
def test_decorators_without_brackets(region, w):
    @region
    def f(x):
        """Its own words."""
        return (x * 2.0).requires_grad

    assert f(w) == (region is wg.enable_grad)
    assert f.__doc__ == "Its own words."
    assert f.__name__ == "f"


@pytest.mark.parametrize("name", ["no_grad", "inference_mode", "set_grad_enabled(False)"])
def test_generators_are_inside_while_they_run(name, w):
    region, args, _ = REGIONS[name]
    log = []

    @region(*args)
    def g(n):
        total = 0
        try:
            for i in range(n):
                assert not wg.is_grad_enabled()
                try:
                    got = yield (w * i).requires_grad
                except KeyError:
                    log.append(("caught", wg.is_grad_enabled()))
                    got = 100
                total += got or 0
            return total
        finally:
            log.append(("closed", wg.is_grad_enabled()))

    running = g(3)
    assert wg.is_grad_enabled()
    assert next(running) is False
    assert wg.is_grad_enabled()
    assert running.send(1) is False
    assert running.throw(KeyError()) is False
    assert wg.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        running.send(10)
    assert end.value.value == 111
    assert log == [("caught", False), ("closed", False)]
    other = g(2)
    next(other)
    other.close()
    assert log[2:] == [("closed", False)]
    assert list(g(2)) == [False, False]

    failing = g(2)
    next(failing)
    with pytest.raises(ValueError, match="out"):
        failing.throw(ValueError("out"))
    assert wg.is_grad_enabled()
    assert trace.MODES == 0


def test_as_pytorch_does_with_generators(torch):
    def run(no_grad, enabled):
        log = []

        @no_grad()
        def g():
            log.append(enabled())
            x = yield 1
            log.append((x, enabled()))
            yield 2

        it = g()
        log.append((next(it), enabled(), it.send("a"), enabled()))
        return log

    assert run(wg.no_grad, wg.is_grad_enabled) == run(torch.no_grad, torch.is_grad_enabled)


def test_recursion_and_exceptions(w):
    @wg.no_grad()
    def f(n):
        assert not wg.is_grad_enabled()
        if n == 0:
            raise KeyError
        with wg.enable_grad():
            assert wg.is_grad_enabled()
            f(n - 1)

    with pytest.raises(KeyError):
        f(3)
    assert wg.is_grad_enabled()
    assert trace.MODES == 0


def test_set_grad_enabled_as_a_call(w):
    wg.set_grad_enabled(False)
    try:
        assert not (w * 2.0).requires_grad
        with wg.enable_grad():
            assert (w * 2.0).requires_grad
        wg.set_grad_enabled(False)
        assert not wg.is_grad_enabled()
    finally:
        wg.set_grad_enabled(True)
    assert (w * 2.0).requires_grad
    assert trace.MODES == 0
    with wg.no_grad():
        wg.set_grad_enabled(True)
        assert wg.is_grad_enabled()
    assert wg.is_grad_enabled()
    assert trace.MODES == 0


def test_a_thread_that_ends_switched_off_leaves_the_fast_road_open(w):
    def work():
        wg.set_grad_enabled(False)
        assert not (w * 2.0).requires_grad

    t = threading.Thread(target=work)
    t.start()
    t.join()
    assert wg.is_grad_enabled()
    assert trace.MODES == 0


def test_transforms_inside_are_recorded(x):
    """no_grad is for the tapes that exist; a gradient that is taken inside has one of its own."""
    with wg.inference_mode():
        np.testing.assert_allclose(wg.grad(lambda x: np.sum(x * x))(x), 2 * x)
    with wg.set_grad_enabled(False):
        np.testing.assert_allclose(wg.grad(lambda x: np.sum(x * x))(x), 2 * x)


def test_inference_mode_switched_off_records(w, torch):
    with wg.no_grad(), wg.inference_mode(False):
        assert (w * 2.0).requires_grad
    with wg.no_grad(), wg.inference_mode(mode=False):
        mine = wg.is_grad_enabled()
    with torch.no_grad(), torch.inference_mode(False):
        assert mine == torch.is_grad_enabled()


def test_detach_in_place(w):
    y = w * 2.0
    assert y.detach_() is y
    assert y.is_leaf
    assert not y.requires_grad
    assert y.tolist() == [2.0, 4.0]
    with pytest.raises(wg.errors.LeafWriteError, match="view"):
        (w * 2.0)[1:].detach_()
