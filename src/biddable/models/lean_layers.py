"""Norms and gates that keep little for the gradient and take few passes over their numbers.

transformers writes a norm as six operations and a gated MLP's activation as two, each of which
keeps an array for the backward pass. Here each is one autograd function that keeps its inputs, and
what comes out is made again by whoever needs it (`remade.py`). A module is replaced only where a
few numbers show that it computes just that, whatever its class is called.

The last layer's MLP runs only at the places whose next token is learned, for nobody reads the
others: a token sees others through keys and values, and those of that layer are made before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel

from biddable.errors import ConfigError
from biddable.models.direct_gradients import direct_gradients
from biddable.models.freezing import decoder_layers
from biddable.models.remade import mark_remade
from biddable.models.replaced import replaced_output

_TYPES = (torch.float32, torch.float64)
_EPS_NAMES = ("variance_epsilon", "eps")
_MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
# How far the outputs of a probe may be apart, in parts of the largest number.
_LIMITS = {torch.float32: 1e-5, torch.float64: 1e-13}

_read_places: ContextVar[Tensor | None] = ContextVar("read_places", default=None)


@contextmanager
def fast_layers(model: nn.Module, *, as_in: nn.Module | None = None) -> Iterator[None]:
    """Train a model in less time and memory inside; what it computes is the same.

    Args:
        model: any; its parameters that train are settled.
        as_in: the model that it is a copy without numbers of: the same layers are changed.
    """
    with direct_gradients(model, as_in=as_in), lean_layers(model, as_in=as_in):
        yield


@contextmanager
def lean_layers(model: nn.Module, *, as_in: nn.Module | None = None) -> Iterator[None]:
    """Let ordinary RMS norms and SiLU-gated MLPs keep less and take less time.

    Args:
        model: on a CPU, in float32 or float64; what is elsewhere or of another kind is not changed.
        as_in: the model that it is a copy without numbers of: the same layers are changed.
    """
    last = _last_layer(as_in or model)
    with ExitStack() as stack:
        for module, original in zip(model.modules(), (as_in or model).modules(), strict=True):
            compute = _norm_of(original) or _mlp_of(original)
            if compute is _run_mlp and original in last:
                compute = _run_where_read
            if compute is not None:
                stack.enter_context(replaced_output(module, partial(compute, module)))
        yield


@contextmanager
def read_at(places: Tensor) -> Iterator[None]:
    """Say where the states above the last layer are read; gradients are to be taken inside, too.

    Args:
        places: (K,) of the batch's flat tokens, each once.
    """
    token = _read_places.set(places)
    try:
        yield
    finally:
        _read_places.reset(token)


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, shift: float = 0.0) -> Tensor:
    """Compute ``x / sqrt(mean(x ** 2) + eps) * (weight + shift)``.

    After Zhang and Sennrich 2019 (arXiv 1910.07467).

    Args:
        x: (..., D).
        weight: (D,).
        eps: added to the mean.
        shift: 1 for models that keep the weight less one.

    Returns:
        (..., D); where it is kept for a gradient, it is remade.

    Example:
        >>> rms_norm(torch.tensor([[3.0, -3.0]]), torch.ones(2), 0.0).round()
        tensor([[ 1., -1.]])
    """
    given = x.flatten(0, -2), weight, eps, shift
    flat, scales = _RMSNorm.apply(*given)  # type: ignore[no-untyped-call]
    out: Tensor = flat.view(x.shape)
    if not out.requires_grad:
        return out
    return mark_remade(out, partial(_scaled, shift), given[0], scales, weight)


def silu_gate(gate: Tensor, up: Tensor) -> Tensor:
    """Compute ``silu(gate) * up``.

    The gate of Shazeer 2020 (arXiv 2002.05202).

    Args:
        gate: (..., D).
        up: (..., D).

    Returns:
        (..., D); where it is kept for a gradient, it is remade.

    Example:
        >>> silu_gate(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[0., 0.]])
    """
    out: Tensor = _SiluGate.apply(gate, up)  # type: ignore[no-untyped-call]
    return mark_remade(out, _gated, gate, up) if out.requires_grad else out


def _norm_of(module: nn.Module) -> Callable[..., Tensor] | None:
    """Give what computes such an RMS norm, called with it first; None if the module is none."""
    weight, names = getattr(module, "weight", None), [name for name, _ in module.named_parameters()]
    if names != ["weight"] or weight is None or weight.dim() != 1 or not _is_plain(weight):
        return None
    eps = next((getattr(module, name) for name in _EPS_NAMES if hasattr(module, name)), None)
    if not isinstance(eps, float) or any(module.children()):
        return None
    # rows of several sizes, so that it shows how the eps comes in
    probe = _numbers(4, weight) * torch.tensor([[1e-4], [1e-2], [1.0], [1e2]]).to(weight)
    for shift in (0.0, 1.0):
        compute = partial(rms_norm, eps=eps, shift=shift)
        if _agree(module.forward, lambda x: compute(x, weight), probe):  # noqa: B023
            return partial(_run_norm, compute)
    return None


def _run_norm(compute: Callable[..., Tensor], /, norm: Any, hidden_states: Tensor) -> Tensor:
    if hidden_states.dtype == norm.weight.dtype:
        return compute(hidden_states, norm.weight)
    plain: Tensor = type(norm).forward(norm, hidden_states)
    return plain


def _mlp_of(module: nn.Module) -> Callable[..., Tensor] | None:
    """Give what computes such a gated MLP, called with it first; None if the module is none."""
    if {name for name, _ in module.named_children()} != _MLP_PARTS:
        return None
    if not all(_is_plain(parameter) for parameter in module.parameters()):
        return None
    parts: Any = module
    weight = next(module.parameters())
    width = getattr(parts.gate_proj, "in_features", None)
    if width is None or not _agree(parts.act_fn, F.silu, 4 * _numbers(4, weight)):
        return None
    is_same = _agree(module.forward, partial(_run_mlp, parts), _numbers(4, weight, width))
    return _run_mlp if is_same else None


def _run_mlp(mlp: Any, /, x: Tensor) -> Tensor:
    out: Tensor = mlp.down_proj(silu_gate(mlp.gate_proj(x), mlp.up_proj(x)))
    return out


def _run_where_read(mlp: Any, /, x: Tensor) -> Tensor:
    """Run an MLP at the places that are read; elsewhere it gives zeros."""
    places = _read_places.get()
    if places is None:
        return _run_mlp(mlp, x)
    flat = x.flatten(0, -2)
    out = torch.zeros_like(flat)
    if len(places):
        out = out.index_copy(0, places, _run_mlp(mlp, flat.index_select(0, places)))
    return out.view(x.shape)


def _last_layer(model: nn.Module) -> set[nn.Module]:
    """Give the modules of a model's last layer; none where it has no list of them."""
    if not isinstance(model, PreTrainedModel):
        return set()
    try:
        return set(decoder_layers(model)[-1].modules())
    except ConfigError:
        return set()


def _is_plain(weight: Tensor) -> bool:
    """Say whether a weight is one that is computed with here: neither sharded nor quantised."""
    return weight.is_cpu and weight.dtype in _TYPES and type(weight.data) is Tensor


def _numbers(num_rows: int, like: Tensor, width: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(num_rows, width or len(like), generator=generator, dtype=torch.float64)
    return numbers.to(like.dtype)


@torch.no_grad()
def _agree(one: Callable[[Tensor], Any], other: Callable[[Tensor], Any], probe: Tensor) -> bool:
    """Say whether two functions give the same for some rows, each row by its own size."""
    with torch.random.fork_rng(devices=[]):
        try:
            expected, found = one(probe), other(probe)
        except Exception:  # whatever a model's own code does with what it does not expect
            return False
    if not isinstance(expected, Tensor) or expected.shape != found.shape:
        return False
    off = (found - expected).abs().amax(dim=-1)
    return bool((off <= _LIMITS[probe.dtype] * expected.abs().amax(dim=-1)).all())


def _scaled(shift: float, x: Tensor, scales: Tensor, weight: Tensor) -> Tensor:
    return (x * scales).mul_(weight + shift if shift else weight)


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).mul_(up)


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
        weight, eps, shift = how
        lengths = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # (N, 1)
        scales = (lengths.square_() / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scales)
        ctx.shift = shift
        ctx.mark_non_differentiable(scales)
        return _scaled(shift, x, scales, weight), scales

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grad = outer[0]  # (N, D)
        x, weight, scales = ctx.saved_tensors
        gains = weight + ctx.shift if ctx.shift else weight
        grad_x = grad_weight = None
        by_x = grad * x
        if ctx.needs_input_grad[1]:
            grad_weight = scales[:, 0] @ by_x
        if ctx.needs_input_grad[0]:
            along = (by_x @ gains)[:, None] * scales**3 / x.shape[-1]  # (N, 1)
            grad_x = (grad * gains).mul_(scales).addcmul_(x, along, value=-1)
        return grad_x, grad_weight, None, None


class _SiluGate(Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        gate, up = given
        ctx.save_for_backward(gate, up)
        return _gated(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = outer
        gate, up = ctx.saved_tensors
        grad_up = F.silu(gate).mul_(grad)
        grad_gate: Tensor = torch.ops.aten.silu_backward(grad * up, gate)
        return grad_gate, grad_up
