"""Answer one prompt: text in, text out, the ids between hidden."""

from __future__ import annotations

from dataclasses import dataclass

from biddable.data.conversation import Message
from biddable.models.generation import generate
from biddable.models.loading import LoadedModel
from biddable.serving.prompts import PromptWriter


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a model wrote to one prompt.

    Attributes:
        text: without the stop token.
        num_tokens: how many ids that is.
        stopped: whether it ended by itself, before the length limit.
    """

    text: str
    num_tokens: int
    stopped: bool


def answer(
    loaded: LoadedModel,
    prompt: str,
    *,
    template: str | None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Answer:
    """Answer a prompt, or continue it.

    Args:
        loaded: the model.
        prompt: what is asked.
        template: name of the template it is put in; None gives the model the bare text, with
            nothing but its start token before it.
        max_new_tokens: longest answer, its stop counted.
        temperature: 0 takes the likeliest token; else tokens are drawn.
        top_p: when drawing, the share of probability that is drawn from.
        seed: the same seed draws the same answer.

    Raises:
        TemplateError: the template is unknown, or the tokenizer lacks what it needs.
        DataError: the prompt is longer than the model can read.
    """
    writer = PromptWriter(loaded, template)
    given = writer.text(prompt) if template is None else writer.chat([Message("user", prompt)])
    (found,) = generate(
        loaded.model,
        [given.ids],
        stop_ids=given.stop_ids,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    text = str(loaded.tokenizer.decode(found.ids, clean_up_tokenization_spaces=False))
    if given.template is not None:
        text = given.template.read_answer(text)
    return Answer(text, len(found.ids), found.stopped)
