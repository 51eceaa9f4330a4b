"""Ask a model a few prompts while it learns, so that what it has learned so far can be read.

Greedy, without a draw: the run's random state, and so its result, is the same without it. Of a
model that is divided among processes all answer the same prompts, id by id.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from biddable.config_watch import WatchConfig
from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate
from biddable.models.drawing import settled
from biddable.models.generation import generate, longest_sequence, require_readable
from biddable.models.loading import LoadedModel
from biddable.training.distributed import ALONE, World
from biddable.training.sharding import running
from biddable.training.shards import is_in_parts


class SampleAnswers:
    """Answer the prompts of a config, in the template that is being taught."""

    def __init__(
        self,
        settings: WatchConfig,
        loaded: LoadedModel,
        template: ChatTemplate,
        *,
        world: World = ALONE,
    ) -> None:
        """Encode the prompts.

        Args:
            settings: prompts, and how often they are asked.
            loaded: the model that is trained.
            template: the one that it is taught.
            world: the processes that train it.

        Raises:
            TemplateError: the template cannot show a prompt.
            DataError: a prompt is longer than the model can read.
        """
        self._loaded, self._template, self._world = loaded, template, world
        self._prompts, self._every = settings.prompts, settings.every
        self._max_new_tokens = settings.max_new_tokens
        self._ids = [
            encode_prompt([Message("user", prompt)], template, loaded.tokenizer)
            for prompt in self._prompts
        ]
        require_readable(self._ids, longest_sequence(loaded.model))
        self._ends = loaded.end_ids() | set(stop_ids(template, loaded.tokenizer))

    def __call__(self, step: int, ends_epoch: bool) -> list[dict[str, Any]]:
        """Answer, if it is time to.

        Args:
            step: optimizer steps that were taken; before the first the base is heard.
            ends_epoch: whether an epoch ends there.

        Returns:
            A ``sample`` record for each prompt, or none.

        Raises:
            TrainingError: of a divided model, on all processes: one of them could not answer.
        """
        is_time = ends_epoch if self._every == "epoch" else step % self._every == 0
        if not is_time or not self._prompts:
            return []
        model = self._loaded.model
        lockstep = settled(self._world.copy_from_main) if is_in_parts(model) else nullcontext()
        with running(model, self._world), lockstep:
            answers = generate(
                model,
                self._ids,
                stop_ids=self._ends,
                max_new_tokens=self._max_new_tokens,
            )
        return [
            {
                "event": "sample",
                "step": step,
                "prompt": prompt,
                "answer": self._read(answer.ids),
                "num_tokens": len(answer.ids),
                "stopped": answer.stopped,
            }
            for prompt, answer in zip(self._prompts, answers, strict=True)
        ]

    def _read(self, ids: list[int]) -> str:
        text = self._loaded.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return self._template.read_answer(str(text))
