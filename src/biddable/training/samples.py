"""Ask a model a few prompts while it learns, so that what it has learned so far can be read.

Greedy, without a draw: the run's random state, and so its result, is the same without it.
"""

from __future__ import annotations

from typing import Any

from biddable.config_watch import WatchConfig
from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate
from biddable.models.generation import generate
from biddable.models.loading import LoadedModel
from biddable.training.shards import gathered_weights


class SampleAnswers:
    """Answer the prompts of a config, in the template that is being taught."""

    def __init__(self, settings: WatchConfig, loaded: LoadedModel, template: ChatTemplate) -> None:
        """Encode the prompts.

        Args:
            settings: prompts, and how often they are asked.
            loaded: the model that is trained.
            template: the one that it is taught.

        Raises:
            TemplateError: the template cannot show a prompt.
        """
        self._loaded, self._template = loaded, template
        self._prompts, self._every = settings.prompts, settings.every
        self._max_new_tokens = settings.max_new_tokens
        self._ids = [
            encode_prompt([Message("user", prompt)], template, loaded.tokenizer)
            for prompt in self._prompts
        ]
        self._ends = loaded.end_ids() | set(stop_ids(template, loaded.tokenizer))

    def __call__(self, step: int, ends_epoch: bool) -> list[dict[str, Any]]:
        """Answer, if it is time to.

        Args:
            step: optimizer steps that were taken; before the first the base is heard.
            ends_epoch: whether an epoch ends there.

        Returns:
            A ``sample`` record for each prompt, or none.

        Raises:
            DataError: a prompt is longer than the model can read.
        """
        is_time = ends_epoch if self._every == "epoch" else step % self._every == 0
        if not is_time or not self._prompts:
            return []
        with gathered_weights(self._loaded.model):
            answers = generate(
                self._loaded.model,
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
