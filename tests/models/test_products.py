import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from biddable.models import products
from biddable.models.products import fits, has_kernel, linear, multiply


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_turned", [False, True])
def test_products_are_those_of_torch(dtype, is_turned):
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(33, 40, generator=generator).to(dtype)
    right = torch.randn(40, 17, generator=generator).to(dtype)
    if is_turned:
        left, right = left.T.contiguous().T, right.T.contiguous().T
    torch.testing.assert_close(multiply(left, right), left @ right)
    bias = torch.randn(17, generator=generator).to(dtype)
    x = left.view(3, 11, 40) if not is_turned else left[None]
    torch.testing.assert_close(linear(x, right.T, bias), F.linear(x, right.T, bias))


@pytest.mark.skipif(not has_kernel(), reason="this processor has no such kernel")
def test_only_dense_float32_on_a_cpu_is_multiplied_so(monkeypatch):
    assert fits(torch.ones(2, 2))
    assert not fits(torch.ones(2, 2, dtype=torch.float64))
    assert not fits(torch.ones(2, 2, device="meta"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not fits(torch.ones(2, 2))


@pytest.mark.skipif(not has_kernel(), reason="this processor has no such kernel")
@pytest.mark.parametrize(
    ("is_wide", "num_columns", "by_onednn"),
    [(True, 4, True), (False, 4, False), (False, products._MANY_COLUMNS, True)],
)
def test_onednn_makes_the_products_that_it_is_faster_at(
    monkeypatch, is_wide, num_columns, by_onednn
):
    asked = []
    monkeypatch.setattr(products, "_IS_512_WIDE", is_wide)
    monkeypatch.setattr(products, "onednn_linear", lambda *given: asked.append(given))
    linear(torch.ones(2, 3), torch.ones(num_columns, 3))
    assert bool(asked) == by_onednn


MANY_SHAPES = """
import psutil, torch
from biddable.models.products import multiply

def in_use():
    return psutil.Process().memory_info().rss

weight = torch.ones(256, 512)
for length in range(100, 200):
    multiply(torch.ones(length, 256), weight)
before = in_use()
for length in range(200, 500):
    multiply(torch.ones(length, 256), weight)
print((in_use() - before) / 1e6)
"""


@pytest.mark.skipif(not has_kernel(), reason="this processor has no such kernel")
def test_products_of_many_shapes_do_not_fill_the_memory():
    done = subprocess.run(
        [sys.executable, "-c", MANY_SHAPES], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 60  # megabytes; 200 where each shape's code is kept
