"""Attention along the branches of a tree on a CPU, which keeps each node's states once.

A branch's keys are those of all its ancestors, so that branches laid side by side hold what they
share many times. For the gradient only the nodes' own states are kept, and gathered once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from biddable.data.trees import Branches

_FLASH = 1  # what torch answers if its fused kernel takes the arguments


def is_fused(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Tell whether torch's fused kernel for CPUs takes such states.

    Args:
        query: (1, H, N, D).
        key: (1, H or fewer, L, D).
        value: as ``key``; with another D it does not.
    """
    if not query.is_cpu:
        return False
    is_grouped = query.shape[1] != key.shape[1]
    chosen = torch._fused_sdp_choice(query, key, value, enable_gqa=is_grouped)
    return chosen == _FLASH


def attend_branches(
    states: tuple[Tensor, Tensor, Tensor],
    calls: Sequence[Branches],
    masks: Sequence[Tensor | None],
    *,
    restore: Tensor,
    scaling: float | None,
    num_shared: int = 0,
) -> Tensor:
    """Attend branch by branch: the cost is that of the rows' own lengths.

    Args:
        states: query, (N, H, D); key and value, (P + N, H or fewer, D).
        calls: the tree's branches.
        masks: for each call what is added to its scores, (G or 1, 1, S, L); None: just causal.
        restore: (N,), as in the tree.
        scaling: of the scores; None for ``1 / sqrt(D)``.
        num_shared: how many first keys all branches begin with and every query sees, if they are
            to be attended to by all queries at once.

    Returns:
        (N, H, D).
    """
    given = *states, (calls, masks, restore, scaling, num_shared)
    out: Tensor = _Attention.apply(*given)  # type: ignore[no-untyped-call]
    return out


def gather(states: Tensor, nodes: Tensor) -> Tensor:
    """Gather (N, H, D) states by nodes of any shape; as an embedding, whose gradient is fast."""
    taken: Tensor = F.embedding(nodes, states.flatten(1)).unflatten(-1, states.shape[1:])
    return taken


class _Attention(Function):
    """Softmax over several sets of keys: each gives its result and the logarithm of its sum.

    Put together by those sums, and each set's gradient made with the sum of all, as if there had
    been one set (after Milakov and Gimelshein 2018, arXiv 1805.02867).
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value, how = given
        calls, masks, restore, scaling, num_shared = how
        parts, sums = [], []
        for call, mask in _own(calls, masks, num_shared):
            own = _per_head(query, key, value, call)
            out, log_sum = _flash(*own, 0.0, mask is None, attn_mask=mask, scale=scaling)
            parts.append(out.transpose(1, 2).flatten(0, 1))  # (G * S, H, D)
            sums.append(log_sum.transpose(1, 2).flatten(0, 1))  # (G * S, H)
        found, total = gather(torch.cat(parts), restore), torch.cat(sums)[restore]  # (N, H)
        if num_shared:
            shared = _all_to_shared(query, key, value, num_shared)
            out, log_sum = _flash(*shared, 0.0, False, scale=scaling)
            found, total = _joined((found, total), (out[0].transpose(0, 1), log_sum[0].T))
        ctx.save_for_backward(query, key, value, found, total)
        ctx.how = how
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = outer  # (N, H, D)
        query, key, value, found, total = ctx.saved_tensors
        calls, masks, restore, scaling, num_shared = ctx.how
        sizes = [call.queries.numel() for call in calls]
        # what only fills a call up gives no gradient to its keys
        spread = grad.new_zeros(sum(sizes), *grad.shape[1:])
        spread[restore] = grad
        sums = total.new_full((sum(sizes), total.shape[1]), torch.inf)
        sums[restore] = total
        parts = []
        grad_key, grad_value = torch.zeros_like(key), torch.zeros_like(value)
        for (call, mask), part, log_sum in zip(
            _own(calls, masks, num_shared), spread.split(sizes), sums.split(sizes), strict=True
        ):
            by_query, by_key, by_value = _flash_backward(
                _in_call(call, part),
                *_per_head(query, key, value, call),
                gather(found, call.queries).transpose(1, 2),
                _in_call(call, log_sum),
                0.0,
                mask is None,
                attn_mask=mask,
                scale=scaling,
            )
            parts.append(by_query.transpose(1, 2).flatten(0, 1))
            _scatter(grad_key, by_key, call.keys)
            _scatter(grad_value, by_value, call.keys)
        grad_query = gather(torch.cat(parts), restore)
        if num_shared:
            by_query, by_key, by_value = _flash_backward(
                grad.transpose(0, 1)[None],
                *_all_to_shared(query, key, value, num_shared),
                found.transpose(0, 1)[None],
                total.T[None],
                0.0,
                False,
                scale=scaling,
            )
            grad_query += by_query[0].transpose(0, 1)
            grad_key[:num_shared] += by_key[0].transpose(0, 1)
            grad_value[:num_shared] += by_value[0].transpose(0, 1)
        return grad_query, grad_key, grad_value, None


_flash: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _per_head(query: Tensor, key: Tensor, value: Tensor, call: Branches) -> list[Tensor]:
    """Lay the states of a call's branches side by side: (G, H, S, D) and twice (G, h, L, D)."""
    pairs = ((query, call.queries), (key, call.keys), (value, call.keys))
    return [gather(states, nodes).transpose(1, 2) for states, nodes in pairs]


def _own(
    calls: Sequence[Branches], masks: Sequence[Tensor | None], num_shared: int
) -> Iterator[tuple[Branches, Tensor | None]]:
    """Give the calls, and what is added to their scores, without the keys that are shared."""
    for call, mask in zip(calls, masks, strict=True):
        if not num_shared:
            yield call, mask
            continue
        assert mask is not None  # no branch begins at a root
        own = replace(call, keys=call.keys[:, num_shared:])
        yield own, mask[..., num_shared:]


def _all_to_shared(query: Tensor, key: Tensor, value: Tensor, num_shared: int) -> list[Tensor]:
    """Lay all queries beside the first keys: (1, H, N, D) and twice (1, h, num_shared, D)."""
    given = query, key[:num_shared], value[:num_shared]
    return [states.transpose(0, 1)[None] for states in given]


def _joined(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Put two results together, (N, H, D) each, by the logarithms of their sums, (N, H) each."""
    total = torch.logaddexp(one[1], other[1])
    shares = [(log_sum - total).exp()[..., None] for _, log_sum in (one, other)]
    return one[0] * shares[0] + other[0] * shares[1], total


def _in_call(call: Branches, flat: Tensor) -> Tensor:
    """Turn what belongs to a call's queries, (G * S, H, ...), into (G, H, S, ...)."""
    by_branch: Tensor = flat.unflatten(0, call.queries.shape)
    return by_branch.transpose(1, 2)


def _scatter(total: Tensor, grad: Tensor, nodes: Tensor) -> None:
    """Add the (G, h, L, D) gradient of gathered states to that of the nodes, (P + N, h, D)."""
    flat = grad.transpose(1, 2).flatten(2).flatten(0, 1)  # (G * L, h * D)
    added = torch.ops.aten.embedding_dense_backward(flat, nodes.flatten(), len(total), -1, False)
    total.add_(added.view_as(total))
