"""Run rows of a batch through a model, id after id: their cache, their mask, their next places.

Rows end together, padded on the left, so that one more id of each is one forward pass. They may
leave, and rows that another batch has read may join them between two ids. Where a model turns long
rows by other angles than short ones (`models/rope.py`), what a row's cache has was turned by those
of its present length: a row that grows over a limit is read again.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from biddable.models.attention import why_not_exact
from biddable.models.rope import AngleLimits, own_angles
from biddable.models.tree_prompts import read_as_tree

MIN_TREE_IDS = 256  # trying whether a model takes trees costs as much as 40 ids

_GROWTH = 64  # positions by which a full cache grows
_MIN_SHARED_PREFIX = 8  # a shorter common start is not worth a forward of its own


class RunningRows:
    """One batch of B rows in a model, which grows by an id of each at a time.

    Attributes:
        sees_all: whether each layer attends to all that came before, so that rows may be read as
            a tree, or a start that they share apart.
        can_change: whether rows can leave and join.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Start without rows."""
        self._model = model
        self._accepts = set(inspect.signature(model.forward).parameters)
        self._device = next(model.parameters()).device
        self._limits = AngleLimits.of(model)
        self._start_cache()

    def _start_cache(self) -> None:
        self._cache = DynamicCache(config=self._model.config)
        kinds = [type(layer) for layer in self._cache.layers]
        # a window counts positions in the cache, where padding after a common start would count
        self.sees_all = all(kind is DynamicLayer for kind in kinds)
        grows = (DynamicLayer, DynamicSlidingWindowLayer)
        self.can_change = all(kind in grows for kind in kinds)
        self._cache.layers = [
            _GrowingLayer() if kind in grows else layer
            for kind, layer in zip(kinds, self._cache.layers, strict=True)
        ]
        layers = self._cache.layers
        self._can_select = all(hasattr(layer, "batch_select_indices") for layer in layers)
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._ids = torch.zeros_like(self._mask)
        self._next_position = torch.zeros(0, 1, dtype=torch.long, device=self._device)

    def __len__(self) -> int:
        """Count the rows."""
        return int(self._mask.shape[0])

    def read_tree(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run the prompts as the tree of their starts and return the logits (B, V) that follow."""
        if len({self._limits.kind(len(prompt)) for prompt in prompts}) > 1:
            return self.read_prompts(prompts)
        read = read_as_tree(self._model, prompts)
        for layer, states in zip(self._growing(), read.states, strict=True):
            layer.update(*states)
        self._mask, self._ids = read.attention_mask, _left_pad(prompts)[0].to(self._device)
        self._next_position = self._mask.sum(dim=1, keepdim=True)
        return read.logits

    def read_prompts(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run the prompts padded, their one common start apart, and return the logits (B, V)."""
        num_rows = len(prompts)
        kinds = self._limits.kinds(map(len, prompts))
        shared = _shared_prefix(prompts) if self.sees_all and kinds is None else 0
        if num_rows > 1 and shared >= _MIN_SHARED_PREFIX:
            self.read_more(prompts[0][:shared])
            self._cache.batch_select_indices(self._mask.new_zeros(num_rows))
        else:
            shared = 0
        ids, mask = _left_pad([prompt[shared:] for prompt in prompts])
        ids, mask = ids.to(self._device), mask.to(self._device)
        start = ids.new_tensor([list(prompts[0][:shared])] * num_rows).view(num_rows, shared)
        self._mask = torch.cat([mask.new_ones(num_rows, shared), mask], dim=1)
        self._ids = torch.cat([start, ids], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + shared  # (B, T)
        self._next_position = positions[:, -1:] + 1
        return self._forward(ids, positions)

    def read_more(self, ids: Sequence[int]) -> Tensor:
        """Run a prompt, or more ids of it, of one row alone, and return the logits (1, V)."""
        start, ids = int(self._mask.shape[1]), list(ids)
        if start and not self._limits.are_alike(start, start + len(ids)):
            ids = self._ids[0].tolist() + ids
            self._start_cache()
            start = 0
        positions = torch.arange(start, start + len(ids), device=self._device)[None]
        self._mask = positions.new_ones(1, start + len(ids))
        self._next_position = positions[:, -1:] + 1
        new = torch.tensor([ids], device=self._device)
        self._ids = torch.cat([self._ids[:, :start].view(1, start), new], dim=1)
        return self._forward(new, positions)

    def copy_start(self, num_ids: int) -> RunningRows:
        """Copy the first ids of one row that is alone; needs ``can_change``."""
        copied = RunningRows(self._model)
        if not self._limits.are_alike(num_ids, int(self._mask.shape[1])):
            copied.read_more(self._ids[0, :num_ids].tolist())
            return copied
        for layer, own in zip(copied._growing(), self._growing(), strict=True):
            keys, values = own._set_views()
            layer.update(keys[:, :, :num_ids], values[:, :, :num_ids])
        copied._mask, copied._ids = self._mask[:, :num_ids], self._ids[:, :num_ids]
        return copied

    def read_token(self, next_ids: Tensor) -> Tensor:
        """Run one more token (B,) of every row and return the logits (B, V) after it."""
        self._mask = nn.functional.pad(self._mask, (0, 1), value=1)
        self._ids = torch.cat([self._ids, next_ids[:, None]], dim=1)
        logits = self._forward(next_ids[:, None], self._next_position)
        self._next_position = self._next_position + 1
        return self._read_again(logits) if self._limits and self.can_change else logits

    def keep(self, rows: Tensor) -> bool:
        """Drop all rows but these, if the model's cache can do that."""
        if self._can_select:
            self._cache.batch_select_indices(rows)
            self._mask, self._ids = self._mask[rows], self._ids[rows]
            self._next_position = self._next_position[rows]
        return self._can_select

    def join(self, others: RunningRows, *, keep: Tensor) -> None:
        """Drop all rows but some and put others behind them; needs ``can_change`` of both.

        Args:
            others: rows of the same model, not to be used any more.
            keep: (R,), which rows stay; there is one at least.
        """
        kept = self._mask[keep]
        # not the number of its ids: padding may lie behind a start that a row shared with others
        unused = int(kept.cumsum(dim=1).eq(0).sum(dim=1).min())
        places = max(int(others._mask.shape[1]), int(kept.shape[1]) - unused)
        for layer, other in zip(self._growing(), others._growing(), strict=True):
            layer.join(other, keep=keep, places=places)
        masks = [_with_places(mask, places) for mask in (kept, others._mask)]
        self._mask = torch.cat(masks)
        self._ids = torch.cat([_with_places(i, places) for i in (self._ids[keep], others._ids)])
        self._next_position = torch.cat([self._next_position[keep], others._next_position])

    def _read_again(self, logits: Tensor) -> Tensor:
        """Read the rows whole that have just grown over a limit; logits (B, V) are given anew."""
        lengths = self._next_position[:, 0].tolist()
        over = [
            n for n, length in enumerate(lengths) if not self._limits.are_alike(length - 1, length)
        ]
        if not over:
            return logits
        again = RunningRows(self._model)
        whole = again.read_prompts([self._ids[n][self._mask[n] == 1].tolist() for n in over])
        stay = [n for n in range(len(lengths)) if n not in over]
        if not stay:
            self._cache, self._mask, self._ids = again._cache, again._mask, again._ids
            self._next_position = again._next_position
            return whole
        keep = torch.tensor(stay, device=self._device)
        self.join(again, keep=keep)
        order = torch.tensor([*stay, *over], device=self._device).argsort()
        self.keep(order)
        return torch.cat([logits[keep], whole])[order]

    def _growing(self) -> list[_GrowingLayer]:
        layers = [layer for layer in self._cache.layers if isinstance(layer, _GrowingLayer)]
        assert len(layers) == len(self._cache.layers)  # what callers have asked
        return layers

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        inputs = {
            "input_ids": ids,
            "attention_mask": self._mask,
            "position_ids": positions,
            "past_key_values": self._cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        known = {name: value for name, value in inputs.items() if name in self._accepts}
        with own_angles(self._model):
            logits: Tensor = self._model(**known).logits
        return logits[:, -1]


def pays_as_trees(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> bool:
    """Say whether prompts read at once are better read as trees, should the model take them."""
    if len(prompts) < 2 or sum(map(len, prompts)) < MIN_TREE_IDS:
        return False
    # elsewhere attention over a tree is compiled first, which takes longer than most prompts
    return model.device.type == "cpu"


def takes_trees(model: PreTrainedModel) -> bool:
    """Find out, on a few ids, whether prompts read as trees give the same states."""
    return RunningRows(model).sees_all and why_not_exact(model) is None


class _GrowingLayer(DynamicLayer):
    """A layer's keys and values, appended in place.

    The parent copies all of its past at every token, which on a CPU costs more than the model.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append states of shape (B, heads, T, head_dim) and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_store = key_states.new_empty(0)
            self._value_store = value_states.new_empty(0)
        end = self.length + key_states.shape[-2]
        if self._key_store.dim() != 4 or end > self._key_store.shape[-2]:
            self._key_store = self._grown(self._key_store, key_states, end + _GROWTH)
            self._value_store = self._grown(self._value_store, value_states, end + _GROWTH)
        self._key_store[:, :, self.length : end] = key_states
        self._value_store[:, :, self.length : end] = value_states
        self.length = end
        return self._set_views()

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these rows, or repeat one, as the indices say."""
        if self.length > 0:
            self._key_store = self._key_store.index_select(0, indices)
            self._value_store = self._value_store.index_select(0, indices)
            self._set_views()

    def join(self, other: _GrowingLayer, *, keep: Tensor, places: int) -> None:
        """Keep some rows and put another's behind them, so that all end at the same place."""
        own, new = (each._set_views() for each in (self, other))
        self._key_store = _joined(own[0], new[0], keep=keep, places=places)
        self._value_store = _joined(own[1], new[1], keep=keep, places=places)
        self.length = places
        self._set_views()

    def _grown(self, store: Tensor, states: Tensor, capacity: int) -> Tensor:
        batch, heads, _, head_dim = states.shape
        grown = states.new_empty(batch, heads, capacity, head_dim)
        if self.length > 0:
            grown[:, :, : self.length] = store[:, :, : self.length]
        return grown

    def _set_views(self) -> tuple[Tensor, Tensor]:
        self.keys = self._key_store[:, :, : self.length]
        self.values = self._value_store[:, :, : self.length]
        return self.keys, self.values


def _joined(own: Tensor, other: Tensor, *, keep: Tensor, places: int) -> Tensor:
    """Put states (B, H, T, D) of rows together with room to grow; what is before them is zero."""
    num_kept, (num_new, heads, _, head_dim) = len(keep), other.shape
    store = other.new_zeros(num_kept + num_new, heads, places + _GROWTH, head_dim)
    own = own[:, :, max(own.shape[2] - places, 0) :]
    for row, number in enumerate(keep.tolist()):
        store[row, :, places - own.shape[2] : places] = own[number]
    store[num_kept:, :, places - other.shape[2] : places] = other
    return store


def _with_places(mask: Tensor, places: int) -> Tensor:
    """Cut or pad a mask (B, T) on the left."""
    mask = mask[:, max(mask.shape[1] - places, 0) :]
    return nn.functional.pad(mask, (places - mask.shape[1], 0))


def _left_pad(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids and mask, each (B, T), of prompts that end together; the padding's id is 0."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def _shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Count the ids that all prompts start with, leaving each at least one of its own."""
    first, last = min(prompts, key=list), max(prompts, key=list)
    most = min(len(prompt) for prompt in prompts) - 1
    for position in range(most):
        if first[position] != last[position]:
            return position
    return most
