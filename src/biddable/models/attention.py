"""Let a model's attention follow a prefix tree instead of a padded batch.

transformers lets an attention function and the mask it is given be registered by name, so no
model's code is touched: every layer projects, rotates and normalises as it does, and asks for
attention here. The rules of a layer (a sliding window, chunks) come as transformers' own
predicate on positions, and are put to the nodes' depths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import Branches, TreeBatch, build_tree
from biddable.models.block_attention import attend_blocks, block_mask
from biddable.models.branch_attention import attend_branches, gather, is_fused
from biddable.models.head import Body
from biddable.models.randomness import shares_noise
from biddable.models.rope import own_angles

NAME = "biddable_tree"

# May a query at one position see a key at another? Called (batch, head, query, key).
Predicate = Callable[[Any, Any, Tensor, Tensor], Tensor]

# From so many ids on, attending to a trunk apart is faster than with each branch's own keys.
_LONG_TRUNK = 64
# How far the largest logit's share may be off: what the order of additions may change.
_PROBE_LIMITS = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}

_tree: ContextVar[tuple[TreeBatch, TrunkKeys | None] | None] = ContextVar("tree", default=None)


class TreeMask:
    """Say which nodes of a tree see which, under the rule of one kind of layer.

    Attributes:
        tree: the batch.
        trunk: the keys and values of the nodes that were run before it, or are to be kept of it.
        sees: the layer's rule on positions; causal at least.
        blocks: the mask of the whole tree, for FlexAttention; None where branches are attended to
            one by one.
    """

    def __init__(self, tree: TreeBatch, trunk: TrunkKeys | None, sees: Predicate) -> None:
        """Take a tree and a rule; the masks of branches are made when they are first asked for."""
        self.tree, self.trunk, self.sees = tree, trunk, sees
        # made here, as a compiled layer can only read it
        by_blocks = _goes_by_blocks(tree.input_ids)
        self.blocks = block_mask(tree, None if self.sees_all else sees) if by_blocks else None
        self._added: list[Tensor | None] | None = None

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """The (G, 1, S, L) mask of each call, True where seen; None where it is just causal."""
        return [self._mask(call) for call in self.tree.branches]

    def added(self, dtype: torch.dtype) -> list[Tensor | None]:
        """What is added to the scores of each call, 0 where seen and else minus infinity."""
        if self._added is None:
            self._added = [
                None
                if seen is None
                else torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
                for seen in self.masks
            ]
        return self._added

    @cached_property
    def sees_all(self) -> bool:
        """Whether a node sees all that came before: so it is if the deepest sees the root."""
        depths = self.tree.position_ids
        return bool(self.sees(0, 0, depths.max(), depths.new_zeros(())))

    @property
    def num_shared(self) -> int:
        """How many keys of a trunk all queries attend to at once: all, where that is worth it."""
        return self.tree.trunk if self.tree.trunk >= _LONG_TRUNK and self.sees_all else 0

    def _mask(self, call: Branches) -> Tensor | None:
        places = torch.arange(call.keys.shape[1], device=call.keys.device)
        starts = call.starts
        if bool((starts == starts[0]).all()):
            starts = starts[:1]  # one mask for all branches
        depths = starts[:, None] + places[: call.queries.shape[1]]  # (G, S)
        depths, places = depths[:, None, :, None], places[None, None, None, :]
        causal = places <= depths
        seen = causal & self.sees(0, 0, depths, places)  # (G, 1, S, L)
        seen |= ~seen.any(dim=-1, keepdim=True)  # a query that only fills up has to see something
        is_plain = not bool(starts.any()) and bool((seen == causal).all())
        return None if is_plain else seen


class TrunkKeys:
    """The keys and values of a trunk in each layer, and the gradient that comes back to them.

    The pass over the trunk leaves them here; each tree that goes on from it sees them as given,
    and adds its share of their gradient.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._made: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._given: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(self, layer: nn.Module, key: Tensor, value: Tensor) -> None:
        """Take the (1, H, P, D) keys and values of a layer."""
        self._made[layer] = key, value
        self._given[layer] = tuple(  # type: ignore[assignment]
            states.detach().requires_grad_(states.requires_grad) for states in (key, value)
        )

    def join(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put those of the trunk before the (1, H, N, D) ones of a tree."""
        trunk_key, trunk_value = self._given[layer]
        return _cat(trunk_key, key), _cat(trunk_value, value)

    def kept(self) -> list[tuple[Tensor, Tensor]]:
        """Give what was taken, layer by layer in the order in which they ran."""
        return list(self._made.values())

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Give each of the trunk's keys and values that got one with its gradient."""
        pairs = [
            (made, given)
            for layer, both in self._made.items()
            for made, given in zip(both, self._given[layer], strict=True)
        ]
        return [(made, given.grad) for made, given in pairs if given.grad is not None]


@contextmanager
def tree_attention(
    model: nn.Module, tree: TreeBatch, trunk: TrunkKeys | None = None
) -> Iterator[None]:
    """Give a model the tree's attention; gradients are to be taken inside, too.

    Args:
        model: a transformers causal LM, called inside with the tree's ids as one row.
        tree: on the model's device.
        trunk: what the tree goes on from; of a tree that starts at a root, filled by it.
    """
    _register()
    assert isinstance(model, PreTrainedModel)
    before = model.config._attn_implementation
    token = _tree.set((tree, trunk))
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
        _tree.reset(token)


def why_no_trees(model: nn.Module) -> str | None:
    """Find out whether a model's rows may share their common starts in training.

    Args:
        model: a transformers causal LM, as it is going to be trained.

    Returns:
        Why not, in words; None if they may.
    """
    if noise := shares_noise(model):
        return f"{noise} would be shared between rows"
    return why_not_exact(model)


def why_not_exact(model: nn.Module) -> str | None:
    """Find out, on a few ids, whether the states of a tree are those of its rows one by one.

    Args:
        model: a transformers causal LM; tried without its dropout.

    Returns:
        Why not, in words; None if they are.

    Raises:
        MemoryError: memory ran out on one of the processes that divide the model, for which the
            others would wait; likewise torch's `OutOfMemoryError`.
    """
    if not isinstance(model, PreTrainedModel):
        return f"{type(model).__name__} is no transformers model"
    vocab_size = model.config.get_text_config(decoder=True).vocab_size
    rows = _probe_rows(vocab_size)
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad(), own_angles(model):
            one_by_one = [
                model(torch.tensor([row.input_ids], device=model.device), use_cache=False).logits[0]
                for row in rows
            ]
            body, keys, parts = Body(model), TrunkKeys(), []
            for is_trunk in (True, False):
                tree = build_tree(rows, range(len(rows)), trunk=4, only_trunk=is_trunk)
                with tree_attention(model, tree.to(model.device), keys):
                    logits = body.logits(body.states(**tree.to(model.device).inputs()))
                parts.append((tree.origins, logits))
    except Exception as error:  # whatever a model's own code does with what it does not expect
        ran_out = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if ran_out and any(isinstance(p, DTensor) for p in model.parameters()):
            raise
        return f"{type(model).__name__} does not take them ({type(error).__name__})"
    finally:
        model.train(was_training)
    expected = torch.cat(one_by_one)
    largest = float(expected.abs().max())
    off = max(float((found - expected[origins]).abs().max()) / largest for origins, found in parts)
    limit = _PROBE_LIMITS.get(expected.dtype, 1e-9)
    if not off <= limit:
        return f"{type(model).__name__} gives other logits for them (by {off:.1g})"
    return None


def _probe_rows(vocab_size: int) -> EncodedRows:
    """Make rows that share a start, two of them a longer one."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocab_size, (40,), generator=generator).tolist()
    rows = [ids[:9], ids[:4] + ids[20:26], ids[:7] + ids[30:33]]
    return EncodedRows.of([Example(row, [True] * len(row)) for row in rows])


def attend(
    module: nn.Module,
    *given: Any,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute a layer's attention over the nodes of a tree.

    Args:
        module: the layer.
        given: query, (1, H, N, D); key, (1, H or fewer, N, D); value, as key, D may differ; and
            what `tree_mask` made.
        scaling: of the scores; None for ``1 / sqrt(D)``.
        softcap: scores are bent to stay below it.

    Returns:
        (1, N, H, D) and no weights.
    """
    query, key, value, mask = given
    if mask.trunk is not None and mask.tree.trunk:
        key, value = mask.trunk.join(module, key, value)
    elif mask.trunk is not None:
        mask.trunk.keep(module, key, value)
    if mask.blocks is None:
        out = _by_branches((query, key, value), mask, scaling=scaling, softcap=softcap)
    else:
        out = attend_blocks((query, key, value), mask.blocks, scaling=scaling, softcap=softcap)
    return out, None


def tree_mask(*, mask_function: Predicate, **_: Any) -> TreeMask:
    """Make what `attend` is given as its mask, from the rule that transformers puts together."""
    found = _tree.get()
    assert found is not None, f"attention {NAME} is used outside of tree_attention"
    return TreeMask(*found, mask_function)


def _goes_by_blocks(ids: Tensor) -> bool:
    return ids.is_cuda


def _by_branches(
    states: tuple[Tensor, Tensor, Tensor],
    mask: TreeMask,
    *,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Attend branch by branch: the cost is that of the rows' own lengths."""
    is_grouped, can_fuse = states[0].shape[1] != states[1].shape[1], is_fused(*states)
    query, key, value = (given[0].transpose(0, 1) for given in states)  # (N, H, D)
    if softcap is None and can_fuse:
        return attend_branches(
            (query, key, value),
            mask.tree.branches,
            mask.added(query.dtype),
            restore=mask.tree.restore,
            scaling=scaling,
            num_shared=mask.num_shared,
        )[None]
    parts = []
    for call, seen in zip(mask.tree.branches, mask.masks, strict=True):
        q = gather(query, call.queries).transpose(1, 2)  # (G, H, S, D)
        k, v = (gather(given, call.keys).transpose(1, 2) for given in (key, value))  # (G, H, L, D)
        if softcap is None:
            out = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=seen,
                is_causal=seen is None,
                scale=scaling,
                enable_gqa=is_grouped,
            )
        else:
            out = _capped(q, k, v, seen=seen, scaling=scaling, softcap=softcap)
        parts.append(out.transpose(1, 2).flatten(0, 1))  # (G * S, H, D)
    return gather(torch.cat(parts), mask.tree.restore)[None]


def _cat(first: Tensor, second: Tensor) -> Tensor:
    """Lay (1, H, P, D) and (1, H, N, D) end to end, node after node in memory as layers do."""
    return torch.cat([first.transpose(1, 2), second.transpose(1, 2)], dim=1).transpose(1, 2)


def _capped(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seen: Tensor | None,
    scaling: float | None,
    softcap: float,
) -> Tensor:
    repeats = q.shape[1] // k.shape[1]
    k, v = (states.repeat_interleave(repeats, dim=1) for states in (k, v))
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    if seen is None:
        seen = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).tril()
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v


@lru_cache(maxsize=1)
def _register() -> None:
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, tree_mask)
