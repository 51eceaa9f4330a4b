"""A voice that says what a test tells it, through the real reader of ids and the real chat."""

from __future__ import annotations

from collections.abc import Iterator

from biddable.models.loading import LoadedModel
from biddable.serving.chat import Speech, Voice
from biddable.serving.prompts import Prompt
from biddable.serving.streaming import Sampling
from tests.tiny import tiny_model, tiny_tokenizer

ENDLESS = "…"  # an answer that ends with this does not stop by itself
BROKEN_OFF = "^C"  # one that ends with this is stopped by the user


class Scripted(Voice):
    """Answer with given texts in turn, and keep the prompts."""

    def __init__(self, *answers: str, template: str | None = "inst") -> None:
        super().__init__(LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "tiny"), template)
        self.answers, self.prompts, self.samplings = list(answers), [], []
        self.tokenizer = tiny_tokenizer()

    def answer(self, prompt: Prompt, sampling: Sampling) -> Speech:
        self.prompts.append(prompt.ids)
        self.samplings.append(sampling)
        return super().answer(prompt, sampling)

    def _tokens(self, prompt: Prompt, sampling: Sampling) -> Iterator[int]:
        return self._spelled(self.answers.pop(0))

    def seen(self) -> list[str]:
        return [self.tokenizer.decode(prompt) for prompt in self.prompts]

    def _spelled(self, answer: str) -> Iterator[int]:
        prefix = self.writer.template.answer_prefix if self.writer.template else ""
        text = answer.removesuffix(BROKEN_OFF)
        yield from self.tokenizer(prefix + text, add_special_tokens=False).input_ids
        if answer.endswith(BROKEN_OFF):
            raise KeyboardInterrupt
        if not answer.endswith(ENDLESS):
            yield self.tokenizer.eos_token_id
