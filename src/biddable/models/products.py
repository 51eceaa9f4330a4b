"""Multiply float32 matrices on a CPU with oneDNN, where torch would take MKL.

MKL's code for processors that are not Intel's leaves half of their width unused where that is 512
bits; oneDNN, which is part of torch as well, does not. With 256 bits MKL is the faster one, but for
a product with many columns, as a head's. oneDNN's kernel has no gradient of its own, so this is for
inside of autograd functions, and for inference.

oneDNN writes code for each shape and keeps it, up to a megabyte, for 1,024 shapes; torch keeps as
many again. Every pass of a tree has a shape of its own, so that a run would grow by a gigabyte. A
pass has a few dozen shapes: as many are kept, which costs no time that could be measured.
"""

from __future__ import annotations

import os
import platform

import torch
from torch import Tensor
from torch.nn import functional as F

for _kept_shapes in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_kept_shapes, "64")  # read when oneDNN is first used
# Columns of a product from which on oneDNN is faster on any processor.
_MANY_COLUMNS = 8192
_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_IS_512_WIDE = torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Compute ``left @ right``.

    Args:
        left: (N, K).
        right: (K, M); either may be a view that lies the other way round.

    Returns:
        (N, M).

    Example:
        >>> multiply(torch.ones(1, 2), torch.tensor([[1.0], [2.0]]))
        tensor([[3.]])
    """
    return linear(left, right.T)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x @ weight.T + bias``, without a gradient where oneDNN does it.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,).

    Returns:
        (..., out).
    """
    is_faster = is_best() or (len(weight) >= _MANY_COLUMNS and weight.is_contiguous())
    if not (is_faster and fits(x) and fits(weight) and x.shape[-1] == weight.shape[-1]):
        return F.linear(x, weight, bias)  # which says what is wrong, too
    return onednn_linear(x, weight, bias)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x @ weight.T + bias`` with oneDNN, without a gradient.

    Args:
        x: (..., in), of a kind that `fits`.
        weight: (out, in), as it lies or in oneDNN's blocks.
        bias: (out,).

    Returns:
        (..., out).
    """
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return found


def fits(tensor: Tensor) -> bool:
    """Tell whether a matrix is of a kind that is multiplied faster so: dense float32 on a CPU."""
    is_dense = type(tensor.data) is Tensor and tensor.layout == torch.strided
    is_float32 = tensor.is_floating_point() and tensor.element_size() == 4
    return is_dense and is_float32 and tensor.is_cpu and has_kernel()


def is_best() -> bool:
    """Tell whether oneDNN is the faster of torch's libraries for products of any shape here."""
    return _IS_512_WIDE and has_kernel()


def has_kernel() -> bool:
    """Tell whether this machine has the kernel."""
    mkldnn = torch.backends.mkldnn
    return _IS_X86 and bool(mkldnn.is_available() and mkldnn.enabled)
