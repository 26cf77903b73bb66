"""Each function against central differences in both modes, and against PyTorch where it is."""

import zlib

import numpy as np
import pytest
from functional_cases import CASES

import wengert as wg
from wengert.testing import check_grads


@pytest.mark.parametrize("name", CASES)
def test_against_differences(name):
    c = CASES[name]
    check_grads(c.ours, c.xs, 1, name=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CASES if CASES[n].order > 1])
def test_second_derivatives_against_differences(name):
    c = CASES[name]
    check_grads(c.ours, c.xs, 2, name=name)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_against_pytorch(torch, name):
    c = CASES[name]
    mine = [wg.tensor(x, requires_grad=True) for x in c.xs]
    theirs = [torch.tensor(x, requires_grad=True) for x in c.xs]
    y, want = c.ours(*mine), c.theirs(torch.nn.functional, *theirs)
    np.testing.assert_allclose(y.numpy(), want.detach().numpy(), rtol=1e-12, atol=1e-12)
    gy = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(want.shape)
    (y * gy).sum().backward()
    (want * torch.tensor(gy)).sum().backward()
    for a, b in zip(mine, theirs):
        wanted = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
        got = np.zeros(a.shape) if a.grad is None else a.grad.numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)
