"""Shared points, and peers for comparison where they are installed."""

import importlib
import os

import numpy as np
import pytest


@pytest.fixture
def x():
    return np.array([0.3, -0.7, 1.2])


@pytest.fixture
def v():
    return np.array([1.0, 0.5, -2.0])


@pytest.fixture
def close():
    def close(got, want, rtol=1e-10, atol=1e-12):
        value = got.value() if hasattr(got, "value") else got
        np.testing.assert_allclose(np.asarray(value), np.asarray(want), rtol=rtol, atol=atol)

    return close


def peer(name, reason):
    """A module to compare with, or a skip that says what was left out."""
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed: {reason}")


@pytest.fixture
def torch():
    return peer("torch", "the comparison with PyTorch was left out")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    """Object code of the tests stays in a folder of theirs."""
    before = os.environ.get("WENGERT_CACHE")
    os.environ["WENGERT_CACHE"] = str(tmp_path_factory.mktemp("objects"))
    yield
    if before is None:
        del os.environ["WENGERT_CACHE"]
    else:
        os.environ["WENGERT_CACHE"] = before
