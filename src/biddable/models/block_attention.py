"""Attend over a whole tree in one call of FlexAttention, leaving out the blocks that nothing sees.

The way of a GPU: its kernel is made for blocks of queries and keys, so that the cost follows the
rows' own lengths here too (Dong et al. 2024, arXiv 2412.05496). Which blocks those are is read off
the tree, in a few operations, without ever making the whole mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from biddable.data.trees import TreeBatch

# Queries and keys of a block.
_SIZE = 128
# The kernel for a few queries and many keys, which torch would take for less than a block, has no
# gradient.
_OPTIONS: Any = {"FORCE_USE_FLEX_ATTENTION": True}


def block_mask(
    tree: TreeBatch, rule: Callable[[Any, Any, Tensor, Tensor], Tensor] | None
) -> BlockMask:
    """Say which nodes of a tree see which.

    Args:
        tree: N nodes, after P of a trunk.
        rule: of a layer, on positions: called (batch, head, query, key); None if all that came
            before is seen.

    Returns:
        Of N queries and P + N keys.
    """
    own, ends = tree.position_ids, tree.subtree_ends
    depths = torch.cat([torch.arange(tree.trunk, device=own.device), own])
    trunk = ends.new_full((), tree.trunk)  # as a number, the kernel would be compiled for each

    def comes_after(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q + trunk) & (q + trunk < ends[k])

    def sees(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert rule is not None
        return comes_after(batch, head, q, k) & rule(batch, head, depths[q + trunk], depths[k])

    some, whole = seen_blocks(ends, len(own))
    num_partly, partly = _in_order(some if rule else some & ~whole)
    num_wholly, wholly = (None, None) if rule else _in_order(whole)
    return BlockMask.from_kv_blocks(
        num_partly,
        partly,
        num_wholly,
        wholly,
        BLOCK_SIZE=_SIZE,
        mask_mod=sees if rule else comes_after,
        seq_lengths=(len(own), len(depths)),
    )


def seen_blocks(ends: Tensor, num_queries: int, *, size: int = _SIZE) -> tuple[Tensor, Tensor]:
    """Say which blocks of queries may see which of keys, and which see all of them.

    Args:
        ends: (L,), see `TreeBatch`.
        num_queries: the last nodes.
        size: of a block.

    Returns:
        Both (blocks of queries, blocks of keys). A block may be said to be seen where nothing in
        it is, never the other way round.

    Example:
        >>> some, whole = seen_blocks(torch.tensor([4, 4, 3, 4]), 4, size=2)
        >>> some.tolist(), whole.tolist()
        ([[True, False], [True, True]], [[False, False], [True, False]])
    """
    num_keys = len(ends)
    filled = nn.functional.pad(ends, (0, -num_keys % size))  # they end at 0: nobody sees them
    by_block = filled.view(-1, size)
    first_key = torch.arange(len(by_block), device=ends.device)[None] * size
    num_blocks = -(-num_queries // size)
    first_query = torch.arange(num_blocks, device=ends.device)[:, None] * size
    first_query = first_query + (num_keys - num_queries)
    last_query = first_query + size - 1  # of the last block it may not be there: not whole, then
    some = (first_key <= last_query) & (by_block.amax(dim=1)[None] > first_query)
    whole = (first_key + size - 1 <= first_query) & (by_block.amin(dim=1)[None] > last_query)
    return some, whole


def attend_blocks(
    states: tuple[Tensor, Tensor, Tensor],
    mask: BlockMask,
    *,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Attend over a tree.

    Args:
        states: query, (1, H, N, D); key, (1, H or fewer, L, D); value, as key, D may differ.
        mask: as `block_mask` made it.
        scaling: of the scores; None for ``1 / sqrt(D)``.
        softcap: scores are bent to stay below it.

    Returns:
        (1, N, H, D).
    """
    query, key, value = states
    if torch.is_autocast_enabled(query.device.type):  # as torch does for its own attention
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (given.to(dtype) for given in states)

    # as a number, the kernel would not take it from a layer that is compiled
    cap = None if softcap is None else torch.full((), softcap, device=query.device)

    def bend(score: Tensor, *_: Tensor) -> Tensor:
        assert cap is not None
        return cap * torch.tanh(score / cap)

    is_alone = (
        query.is_cuda and not torch.compiler.is_compiling()
    )  # not within a layer's own kernel
    flex: Any = _compiled() if is_alone else flex_attention
    out: Tensor = flex(
        query,
        key,
        value,
        score_mod=None if softcap is None else bend,
        block_mask=mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=_OPTIONS,
    )
    return out.transpose(1, 2)


def _in_order(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Count the blocks of keys that each of queries sees, and give their numbers first.

    Returns:
        (1, 1, blocks of queries) and (1, 1, blocks of queries, blocks of keys), int32.
    """
    order = seen.int().argsort(dim=1, descending=True, stable=True)
    return seen.sum(dim=1).int()[None, None], order.int()[None, None]


@lru_cache(maxsize=1)
def _compiled() -> Any:
    # with and without a gradient, a rule, a trunk, in each type: beyond the limit, eight, torch
    # would go on without the kernel, and make the whole matrix of scores
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, 64)
    return torch.compile(flex_attention, dynamic=True)
