"""Count what a forward pass keeps for the backward pass, on a copy of the model without numbers.

The copy lies on torch's "meta" device: its tensors have shapes and no content, so that a pass
through a model of any size takes a moment and no memory. What autograd keeps in it is what it would
keep in the model: adapters, frozen layers and every architecture's own code are seen as they are.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from biddable.data.batching import Batch
from biddable.data.encoded import EncodedRows
from biddable.data.trees import TreeBatch, build_tree
from biddable.models.branch_attention import is_fused
from biddable.models.freezing import decoder_layers, lowest_trained
from biddable.models.head import Body
from biddable.models.lean_layers import fast_layers
from biddable.models.quantized import is_small
from biddable.training.costs import kept_per_token, recomputed
from biddable.training.kept import kept_for_gradient
from biddable.training.layout import Layout

_log = logging.getLogger(__name__)

NAME = "biddable_shadow"

# of each attention call of a tree: G branches, S queries, L keys, and rows of the mask, 0 for none
_Calls = tuple[tuple[int, int, int, int], ...]
_tree: ContextVar[tuple[_Calls, bool] | None] = ContextVar("tree", default=None)  # and if on a CPU


class Shadow:
    """A copy of a model that has its shapes and none of its numbers.

    Attributes:
        model: the copy, in training mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Copy a model; it is left as it is.

        Args:
            model: a transformers causal LM, with what trains settled on it.
        """
        _register()
        self._found: dict[tuple[tuple[int, ...], _Calls | None], int] = {}
        self.model = without_numbers(model)
        self._is_on_cpu = model.device.type == "cpu"
        self._changes = ExitStack()  # stays open: the copy is never used otherwise
        self._changes.enter_context(fast_layers(self.model, as_in=model))
        self.model.train(True)
        self.model.config._attn_implementation = NAME
        for module in self.model.modules():  # autograd's hooks do not see into recomputed layers
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False  # type: ignore[assignment]

    def kept_by(self, batch: Batch | TreeBatch) -> int:
        """Count what the layers below the head keep for the gradient of a batch, in bytes.

        Args:
            batch: on the CPU.
        """
        calls = None
        shape: tuple[int, ...] = tuple(batch.input_ids.shape)
        if isinstance(batch, TreeBatch):
            calls, shape = _calls_of(batch), (1, *shape)
        if (shape, calls) not in self._found:
            token = _tree.set(None if calls is None else (calls, self._is_on_cpu))
            try:
                self._found[shape, calls] = self.kept(*shape)
            finally:
                _tree.reset(token)
        return self._found[shape, calls]

    def kept(self, num_rows: int, length: int) -> int:
        """Count what the layers below the head keep for rows of one length, in bytes."""
        ids = torch.zeros((num_rows, length), dtype=torch.long, device="meta")
        # with a mask given, transformers does not look into the positions, which are empty
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return kept_for_gradient(self.model, lambda: Body(self.model).states(**inputs))


class KeptStates:
    """Say what the layers of a model keep of a micro-batch for its gradient.

    Attributes:
        is_counted: on a shadow; else by the formula of a Llama-type model, as this model's code
            does not run without numbers.
    """

    def __init__(
        self, model: PreTrainedModel, layout: Layout, *, like: KeptStates | None = None
    ) -> None:
        """Make the shadow.

        Args:
            model: as it is going to be trained.
            layout: of the rows.
            like: those of the same model, whose shadow is taken.
        """
        self._model, self._layout = model, layout
        self._is_recomputed = any(
            getattr(m, "gradient_checkpointing", False) for m in model.modules()
        )
        self._shadow: Shadow | None = _shadow_of(model) if like is None else like._shadow
        self.is_counted = self._shadow is not None

    def of(
        self,
        rows: EncodedRows,
        numbers: Sequence[int],
        *,
        trunk: int = 0,
    ) -> int:
        """Say what is kept, in bytes.

        Args:
            rows: all examples.
            numbers: of those in the micro-batch.
            trunk: first ids of each that are run in a pass of their own, which is kept meanwhile.
        """
        batches = [self._layout.batch(rows, numbers, trunk=trunk)]
        if trunk:
            batches.append(build_tree(rows, numbers, trunk=trunk, only_trunk=True))
        num_tokens = sum(batch.input_ids.numel() for batch in batches)
        if self._shadow is not None:
            kept = sum(map(self._shadow.kept_by, batches))
        else:
            num_layers = len(decoder_layers(self._model)) - lowest_trained(self._model)
            itemsize = self._model.dtype.itemsize
            size = kept_per_token(self._model.config, itemsize=itemsize, num_layers=num_layers)
            kept = num_tokens * size
        if self._is_recomputed:
            return recomputed(kept, num_tokens, model=self._model)
        return kept


def _shadow_of(model: PreTrainedModel) -> Shadow | None:
    try:
        shadow = Shadow(model)
        shadow.kept(1, 2)
    except Exception as error:  # whatever a model's own code does without numbers
        _log.info("%s is not counted without numbers: %s", type(model).__name__, error)
        return None
    return shadow


def without_numbers(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a model to the meta device without copying its weights; ties between them stay."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        if is_small(parameter):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
            empty = empty.as_subclass(_Small)
        else:
            empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def sharing_numbers(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a model whose weights stay where they are; what trains can be settled anew on it."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        memo[id(weight)] = nn.Parameter(weight.data, requires_grad=weight.requires_grad)
    return copy.deepcopy(model, memo)


class _Small(Tensor):
    """Stand for a weight in few bits: like it, no ordinary tensor, which layers ask about."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
            data: Any = Tensor.data
            stays = func in (Tensor.detach, Tensor.requires_grad_, data.__get__)
            return found.as_subclass(cls) if stays else found


class _Fused(torch.autograd.Function):
    """Attention that keeps what a fused kernel does: no scores, one sum for each query."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value, mask = given
        batch, heads, length, _ = query.shape
        out: Tensor = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty((batch, heads, length), dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, sums)
        return out


class _OnceEach(torch.autograd.Function):
    """Attention along branches that keeps the nodes' own states (models/branch_attention.py)."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value = given  # (N, H, D)
        out: Tensor = query.new_empty(*query.shape[:2], value.shape[-1])
        sums = query.new_empty(query.shape[:2])
        ctx.save_for_backward(query, key, value, out, sums)
        return out


def _attend(
    module: nn.Module, *given: Any, softcap: float | None = None, **_: Any
) -> tuple[Tensor, None]:
    """Stand for a layer's attention: (B, H, T, D) each to (B, T, H, D)."""
    query, key, value, _mask = given
    attend: Callable[..., Tensor] = _Fused.apply
    found = _tree.get()
    if found is None:
        return attend(query, key, value, None).transpose(1, 2), None
    # as models/attention.py lays the branches of a tree out
    calls, is_on_cpu = found
    keeps_each_once = not is_on_cpu or (softcap is None and _would_fuse(query, key, value))
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # (N, H, D)
    if keeps_each_once:
        once: Callable[..., Tensor] = _OnceEach.apply
        return once(query, key, value)[None], None
    parts = []
    for size, num_queries, num_keys, mask_rows in calls:
        q = _take(query, size, num_queries).transpose(1, 2)
        k, v = (_take(states, size, num_keys).transpose(1, 2) for states in (key, value))
        mask = q.new_empty(mask_rows, 1, num_queries, num_keys) if mask_rows else None
        parts.append(attend(q, k, v, mask).transpose(1, 2).flatten(0, 1))
    joined = torch.cat(parts)
    return _take(joined, 1, len(query)), None


def _would_fuse(*states: Tensor) -> bool:
    """Ask torch about (1, H, N, D) states like these that have numbers."""
    query, key, value = (
        torch.zeros(1, each.shape[1], 2, each.shape[3], dtype=each.dtype) for each in states
    )
    return is_fused(query, key, value)


def _take(states: Tensor, *shape: int) -> Tensor:
    nodes = torch.empty(shape, dtype=torch.long, device="meta")
    taken: Tensor = F.embedding(nodes, states.flatten(1)).unflatten(-1, states.shape[1:])
    return taken


def _calls_of(tree: TreeBatch) -> _Calls:
    found = []
    for call in tree.branches:
        starts, (size, num_queries) = call.starts, call.queries.shape
        rows = 1 if bool((starts == starts[0]).all()) else size
        has_mask = bool(starts.any()) or num_queries != call.keys.shape[1]
        found.append((size, num_queries, call.keys.shape[1], rows if has_mask else 0))
    return tuple(found)


@lru_cache(maxsize=1)
def _register() -> None:
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, lambda **_: None)
