"""Say how items are asked, and what can answer them.

A source is a model that runs here, a GGUF file under llama.cpp, a server at a URL, or a file of
responses that somebody else's system wrote. It answers items; it knows nothing of how they are
judged. What it cannot tell (a loss, whether it stopped) is None and fails nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.sample import Sample
from biddable.evaluation.sampling import Sampling

PromptForm = Literal["bare", "template", "fewshot"]
Tell = Callable[[str], None]
Shots = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Say how items are asked and decoded.

    Attributes:
        prompt_form: ``bare``, ``template`` or ``fewshot``; None for ready responses, whose prompts
            nobody knows.
        template: name of the template; None for the source's own.
        max_new_tokens: an answer that is longer is cut, and has not stopped by itself.
        shots: the examples of ``fewshot``.
        sampling: how tokens are drawn, with the seed of each item; None takes the likeliest.
    """

    prompt_form: PromptForm | None
    template: str | None = None
    max_new_tokens: int = 128
    shots: Shots = ()
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold what a source wrote to one item.

    Attributes:
        text: without the stop token.
        stopped: whether it ended by itself; None if that is not known.
        loss: sum in nats and count of tokens, of the item's reference response; None if not known.
    """

    text: str
    stopped: bool | None
    loss: tuple[float, int] | None = None


class AnswerSource(Protocol):
    """What can answer items.

    Attributes:
        name: as it was asked for.
        source: the folder, file, URL or hub id that it is.
        template: name of the template that it was taught, None if none is known.
        manifest: of the run that made it, if a run did.
        taught: the prompt form that its run's manifest implies, None without one.
        is_ready: its answers were written before it was asked, to prompts that nobody knows.
        cache: counts the answers that were there already; None where none are kept.
    """

    name: str
    source: str
    template: str | None
    manifest: dict[str, Any] | None
    taught: PromptForm | None
    is_ready: bool
    cache: AnswerCache | None

    def answer(
        self, samples: Sequence[Sample], asking: Asking, *, tell: Tell
    ) -> list[Answered | None]:
        """Answer items.

        Args:
            samples: the items.
            asking: how they are asked.
            tell: told the name of each stage before it starts.

        Returns:
            An answer each, in order; None where the source has none for an item.
        """
        ...


def fewshot_text(instruction: str, shots: Shots) -> str:
    r"""Open an instruction with examples, in a form that is no template's.

    Example:
        >>> fewshot_text("Say b.", [("Say a.", "a")])
        'Instruction: Say a.\nResponse: a\n\nInstruction: Say b.\nResponse:'
    """
    opening = "".join(f"Instruction: {asked}\nResponse: {given}\n\n" for asked, given in shots)
    return f"{opening}Instruction: {instruction}\nResponse:"


def plain_text(instruction: str, asking: Asking) -> str:
    """Write a prompt of a form that needs no template."""
    is_opened = asking.prompt_form == "fewshot"
    return fewshot_text(instruction, asking.shots) if is_opened else instruction
