"""Generate answers to many prompts at once, fast on a CPU and the same as one by one.

Prompts are token ids and so are the answers: text and messages are other rooms' matter. A batch
shrinks as its rows finish, its prompts' common start is computed once, and its cache is written
in place.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from biddable.errors import DataError
from biddable.models.attention import why_not_exact
from biddable.models.cpu_linear import fast_linears
from biddable.models.tree_prompts import read_as_tree

_GROWTH = 64  # positions by which a full cache grows
_MIN_SHARED_PREFIX = 8  # a shorter common start is not worth a forward of its own
_MIN_TREE_IDS = 256  # trying whether a model takes trees costs as much as 40 ids
_COMPACT_SHARE = 8  # finished rows leave once they are 1/8 of the batch


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote after one prompt.

    Attributes:
        ids: the new ids, without the stop id.
        stopped: whether it ended by itself, before the length limit.
    """

    ids: list[int]
    stopped: bool


@dataclass(frozen=True, slots=True)
class _Sampling:
    temperature: float
    top_p: float
    generators: list[torch.Generator]  # one a prompt, so that batching changes no draw


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int = 128,
    batch_size: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | Sequence[int] = 0,
) -> list[Generation]:
    """Continue every prompt until a stop id or the length limit.

    Greedy ids do not depend on which prompts share a batch (up to ties within rounding).

    Args:
        model: a transformers causal LM.
        prompts: ids of each prompt, none empty.
        stop_ids: ids that end an answer; may be empty.
        max_new_tokens: most ids an answer may have, its stop id counted. A model that has a
            longest sequence also ends there.
        batch_size: prompts that are run together.
        temperature: 0 takes the likeliest token; else tokens are drawn.
        top_p: when drawing, the share of probability that is drawn from.
        seed: the same seed draws the same answers to the same prompts; or one for each prompt,
            whose answer is then the same whatever stands beside it.

    Returns:
        One generation per prompt, in the order given.

    Raises:
        DataError: a prompt is empty, or already as long as the model allows.
    """
    longest = _longest_sequence(model)
    _check_prompts(prompts, longest)
    sampling = None
    if temperature > 0:
        places = range(len(prompts))
        seeds = [seed * 1_000_003 + n for n in places] if isinstance(seed, int) else seed
        draws = [torch.Generator().manual_seed(seeds[n]) for n in places]
        sampling = _Sampling(temperature, top_p, draws)

    answers: list[Generation] = [Generation([], False)] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with _evaluating(model), fast_linears(model):
        in_trees = _pays_as_trees(model, prompts, batch_size)
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            limits = [min(max_new_tokens, longest - len(prompts[n])) for n in chosen]
            written = _continue_batch(
                model,
                [prompts[n] for n in chosen],
                limits=limits,
                stop_ids=stop_ids,
                draw=_drawn(sampling, chosen),
                in_trees=in_trees,
            )
            for index, ids, limit in zip(chosen, written.tolist(), limits, strict=True):
                answers[index] = _cut(ids[:limit], stop_ids)
    return answers


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


class _Runner:
    """One batch of rows in a model: its cache, its mask, and the next position of each row."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._accepts = set(inspect.signature(model.forward).parameters)
        self._device = next(model.parameters()).device
        self._cache = DynamicCache(config=model.config)
        layers = self._cache.layers
        self._cache.layers = [_GrowingLayer() if type(x) is DynamicLayer else x for x in layers]
        layers = self._cache.layers
        self._can_select = all(hasattr(layer, "batch_select_indices") for layer in layers)
        # a window counts positions in the cache, where padding after a common start would count
        self.sees_all = all(type(layer) is _GrowingLayer for layer in layers)

    def read_tree(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run the prompts as the tree of their starts and return the logits (B, V) that follow."""
        read = read_as_tree(self._model, prompts)
        for layer, states in zip(self._cache.layers, read.states, strict=True):
            assert isinstance(layer, _GrowingLayer)  # as all are where trees pay
            layer.update(*states)
        self._mask = read.attention_mask
        self._next_position = self._mask.sum(dim=1, keepdim=True)
        return read.logits

    def read_prompts(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Run the prompts padded, their one common start apart, and return the logits (B, V)."""
        num_rows = len(prompts)
        shared = _shared_prefix(prompts) if self.sees_all else 0
        if num_rows > 1 and shared >= _MIN_SHARED_PREFIX:
            start = torch.tensor([prompts[0][:shared]], device=self._device)
            self._mask = torch.ones_like(start)
            self._forward(start, torch.arange(shared, device=self._device)[None])
            self._cache.batch_select_indices(start.new_zeros(num_rows))
        else:
            shared = 0
        ids, mask = _left_pad([prompt[shared:] for prompt in prompts])
        ids, mask = ids.to(self._device), mask.to(self._device)
        self._mask = torch.cat([mask.new_ones(num_rows, shared), mask], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + shared  # (B, T)
        self._next_position = positions[:, -1:] + 1
        return self._forward(ids, positions)

    def read_token(self, next_ids: Tensor) -> Tensor:
        """Run one more token (B,) of every row and return the logits (B, V) after it."""
        self._mask = nn.functional.pad(self._mask, (0, 1), value=1)
        logits = self._forward(next_ids[:, None], self._next_position)
        self._next_position = self._next_position + 1
        return logits

    def keep(self, rows: Tensor) -> bool:
        """Drop all rows but these, if the model's cache can do that."""
        if self._can_select:
            self._cache.batch_select_indices(rows)
            self._mask = self._mask[rows]
            self._next_position = self._next_position[rows]
        return self._can_select

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
        logits: Tensor = self._model(**known).logits
        return logits[:, -1]


def _continue_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    limits: Sequence[int],
    stop_ids: Collection[int],
    draw: _Sampling | None,
    in_trees: bool,
) -> Tensor:
    """Return the ids (B, max(limits)) that follow the prompts; those after a stop are noise."""
    runner = _Runner(model)
    logits = runner.read_tree(prompts) if in_trees else runner.read_prompts(prompts)
    device = logits.device
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long, device=device)
    limit = torch.tensor(limits, device=device)
    written = torch.full((len(prompts), max(limits)), -1, dtype=torch.long, device=device)
    rows = torch.arange(len(prompts), device=device)  # which prompt each row of the batch is
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)

    for step in range(max(limits)):
        next_ids = _choose(logits, rows, draw)
        written[rows, step] = next_ids
        finished = finished | torch.isin(next_ids, stops) | (limit[rows] <= step + 1)
        num_finished = int(finished.sum())
        if num_finished == len(rows):
            break
        if num_finished * _COMPACT_SHARE >= len(rows):
            alive = (~finished).nonzero().squeeze(1)
            if runner.keep(alive):
                rows, next_ids, finished = rows[alive], next_ids[alive], finished[alive]
        logits = runner.read_token(next_ids)
    return written


def _pays_as_trees(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_size: int
) -> bool:
    """Say whether prompts are better read as trees: exact, and worth finding that out."""
    if min(len(prompts), batch_size) < 2 or sum(map(len, prompts)) < _MIN_TREE_IDS:
        return False
    # elsewhere attention over a tree is compiled first, which takes longer than most prompts
    if model.device.type != "cpu" or not _Runner(model).sees_all:
        return False
    return why_not_exact(model) is None


def _choose(logits: Tensor, rows: Tensor, draw: _Sampling | None) -> Tensor:
    """Choose the next id (B,) from logits (B, V): the likeliest, or a draw."""
    if draw is None:
        return logits.argmax(dim=-1)
    probs, order = (logits.float() / draw.temperature).softmax(dim=-1).sort(descending=True)
    before = probs.cumsum(dim=-1) - probs
    probs = probs.masked_fill(before >= draw.top_p, 0.0)  # the likeliest token always stays
    probs[:, 0] = probs[:, 0].clamp(min=torch.finfo(probs.dtype).tiny)
    reached = probs.cumsum(dim=-1)
    uniform = torch.stack([torch.rand((), generator=draw.generators[n]) for n in rows.tolist()])
    level = uniform.to(reached.device)[:, None] * reached[:, -1:]
    choice = torch.searchsorted(reached, level, right=True)
    num_kept = (probs > 0).sum(dim=-1, keepdim=True)
    return order.gather(1, torch.minimum(choice, num_kept - 1)).squeeze(1)


def _drawn(sampling: _Sampling | None, chosen: Sequence[int]) -> _Sampling | None:
    if sampling is None:
        return None
    generators = [sampling.generators[n] for n in chosen]
    return _Sampling(sampling.temperature, sampling.top_p, generators)


def _cut(ids: Sequence[int], stop_ids: Collection[int]) -> Generation:
    for position, token_id in enumerate(ids):
        if token_id in stop_ids:
            return Generation(list(ids[:position]), True)
    return Generation(list(ids), False)


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


def _longest_sequence(model: PreTrainedModel) -> int:
    config = model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def _check_prompts(prompts: Sequence[Sequence[int]], longest: int) -> None:
    for number, prompt in enumerate(prompts, start=1):
        if not 0 < len(prompt) < longest:
            raise DataError(
                f"prompt {number} has {len(prompt)} tokens; the model takes 1 to {longest - 1} "
                "and still has room to answer. Shorten it, or give it some text."
            )


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)
