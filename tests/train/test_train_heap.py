"""Memory that stays with the process: no page is new after the first step."""

import subprocess
import sys

import pytest

from wengert.train import keep_memory

resource = pytest.importorskip("resource", reason="page faults are counted on POSIX only")

PROGRAM = """
import resource, sys
import numpy as np
from wengert.train import keep_memory
if sys.argv[1] == "kept":
    assert keep_memory()
def step():
    return sum(x[0] for x in [np.ones(400_000) for _ in range(8)])
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kind):
    command = [sys.executable, "-c", PROGRAM, kind]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_pages_are_used_again():
    if not keep_memory():
        pytest.skip("this C library has no such setting")
    assert faults("kept") < 100 < faults("given back")
