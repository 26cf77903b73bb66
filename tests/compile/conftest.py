"""Object code of the tests stays in a folder of theirs."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory):
    before = os.environ.get("WENGERT_CACHE")
    os.environ["WENGERT_CACHE"] = str(tmp_path_factory.mktemp("objects"))
    yield
    if before is None:
        del os.environ["WENGERT_CACHE"]
    else:
        os.environ["WENGERT_CACHE"] = before
