"""Write an answer token by token, and keep what was read for the prompt of the next turn.

The ids are those of ``models.generation.generate`` for the same prompt and seed (ties within
rounding apart); that one is for many prompts at once and tells nothing before the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from biddable.errors import DataError
from biddable.models.drawing import Drawing, choose
from biddable.models.generation import longest_sequence
from biddable.models.rope import AngleLimits, own_angles


@dataclass(frozen=True, slots=True)
class Sampling:
    """Say how tokens are chosen.

    Attributes:
        max_new_tokens: longest answer, its stop counted.
        temperature: 0 takes the likeliest token; else tokens are drawn.
        top_p: when drawing, the share of probability that is drawn from.
        seed: the same seed draws the same answer to the same prompt.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class TokenStream:
    """Continue one prompt after another on one model.

    What two prompts start with alike is read once: a turn's prompt is the one before it, the
    answer, and something new.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Take a transformers causal LM, in evaluation mode."""
        self._model = model
        self._device = next(model.parameters()).device
        self._accepts = set(inspect.signature(model.forward).parameters)
        self._longest, self._limits = longest_sequence(model), AngleLimits.of(model)
        self._cache: DynamicCache | None = None
        self._read: list[int] = []  # ids whose states are in the cache
        self.num_reused = 0  # ids of the last prompt that were not read again

    def write(
        self, prompt: Sequence[int], *, stop_ids: Collection[int], sampling: Sampling
    ) -> Iterator[int]:
        """Give the ids that follow a prompt as they come, the stop among them and last.

        It may be left at any time, also by Ctrl-C, and the next prompt be given.

        Args:
            prompt: ids, not none.
            stop_ids: ids that end the answer; may be empty.
            sampling: how ids are chosen.

        Raises:
            DataError: the prompt is empty, or as long as the model allows already.
        """
        if not 0 < len(prompt) < self._longest:
            raise DataError(
                f"the prompt has {len(prompt)} tokens; the model takes 1 to {self._longest - 1} and"
                " still has room to answer. Shorten it, or give it some text."
            )
        drawing = Drawing.seeded(
            sampling.temperature, top_p=sampling.top_p, seed=sampling.seed, number=0
        )
        logits = self._read_prompt(prompt)
        room = min(sampling.max_new_tokens, self._longest - len(prompt))
        for number in range(room):
            token_id = int(choose(logits[None], [drawing]))
            yield token_id
            if token_id in stop_ids or number + 1 == room:
                return
            logits = self._forward([token_id])

    def _read_prompt(self, prompt: Sequence[int]) -> Tensor:
        """Read what of a prompt is new and return the logits (V,) that follow it."""
        pairs = zip(self._read, prompt[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        cache = self._cache
        # only a cache of plain layers can be cut back: a window or a state has forgotten
        is_plain = cache is not None and all(type(each) is DynamicLayer for each in cache.layers)
        if not is_plain or not self._limits.are_alike(len(self._read), len(prompt)):
            shared = 0
        if shared and cache is not None:
            if shared < len(self._read):
                cache.crop(shared - len(self._read))
        else:
            self._cache = DynamicCache(config=self._model.config)
        self._read = self._read[:shared]
        self.num_reused = shared
        return self._forward(prompt[shared:])

    @torch.no_grad()
    def _forward(self, ids: Sequence[int]) -> Tensor:
        """Read further ids and return the logits (V,) that follow them."""
        cache, before = self._cache, self._read
        if before and not self._limits.are_alike(len(before), len(before) + len(ids)):
            cache, before, ids = DynamicCache(config=self._model.config), [], [*before, *ids]
        self._cache, self._read = None, []  # so that an interrupted pass leaves nothing behind
        positions = torch.arange(len(before), len(before) + len(ids), device=self._device)
        inputs = {
            "input_ids": torch.tensor([list(ids)], device=self._device),
            "position_ids": positions[None],
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        known = {name: value for name, value in inputs.items() if name in self._accepts}
        with own_angles(self._model):
            logits: Tensor = self._model(**known).logits
        self._cache, self._read = cache, [*before, *ids]
        return logits[0, -1]
