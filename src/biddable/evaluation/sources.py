"""Say what can answer the items of a suite, and find it by name.

A source is a model that runs here, a GGUF file under llama.cpp, a server at a URL, or a file of
responses that somebody else's system wrote. It answers items; it knows nothing of how they are
judged. What it cannot tell (a loss, whether it stopped) is None and fails nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from biddable.errors import ConfigError
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.sample import Sample
from biddable.models.loading import LoadedModel, load, resolve

PromptForm = Literal["bare", "template", "fewshot"]
Tell = Callable[[str], None]
Shots = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Say how items are asked and decoded; greedy always.

    Attributes:
        prompt_form: ``bare``, ``template`` or ``fewshot``; None for ready responses, whose prompts
            nobody knows.
        template: name of the template; None for the source's own.
        max_new_tokens: an answer that is longer is cut, and has not stopped by itself.
        shots: the examples of ``fewshot``.
    """

    prompt_form: PromptForm | None
    template: str | None = None
    max_new_tokens: int = 128
    shots: Shots = ()


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


def open_source(
    name: str, *, model_name: str | None = None, cache: AnswerCache | None = None
) -> AnswerSource:
    """Find what answers by its name.

    Args:
        name: a model as ``load`` takes it, a .gguf file (run by llama.cpp), the URL of a server
            that speaks OpenAI's protocol, ``http://127.0.0.1:8000/v1``, or a .jsonl file of ready
            responses.
        model_name: which of the server's models; ``URL#name`` says the same.
        cache: where answers are kept; None keeps none.

    Raises:
        ConfigError: the name leads nowhere, or an extra is missing.
        CheckpointError: what is there is not a whole model.
    """
    if is_url(name):
        from biddable.evaluation.url_model import UrlModel

        return UrlModel(name, model_name=model_name, cache=cache)
    if model_name is not None:
        raise ConfigError(
            f'model name "{model_name}": only a server at a URL has several models, and {name} is '
            "none; leave --model-name out."
        )
    if is_responses(name):
        from biddable.evaluation.responses import ReadyResponses

        return ReadyResponses(name)
    if resolve(name).kind == "gguf":
        from biddable.evaluation.gguf_model import GgufModel

        return GgufModel(Path(name).expanduser(), cache=cache)
    return as_source(load(name), cache=cache)


def as_source(
    model: str | LoadedModel | AnswerSource, *, cache: AnswerCache | None = None
) -> AnswerSource:
    """Take a source as it is, and make one of a model or a name."""
    if isinstance(model, str):
        return open_source(model, cache=cache)
    if isinstance(model, LoadedModel):
        from biddable.evaluation.local_model import LocalModel

        return LocalModel(model, cache=cache)
    return model


def is_url(name: str) -> bool:
    """Tell a server's address from the name of a model.

    Example:
        >>> is_url("http://127.0.0.1:8000/v1"), is_url("org/name")
        (True, False)
    """
    return name.startswith(("http://", "https://"))


def is_responses(name: str) -> bool:
    """Tell a file of ready responses from the name of a model."""
    return Path(name).suffix in (".jsonl", ".ndjson") and Path(name).is_file()


def template_of_side(
    side: AnswerSource, instruct: AnswerSource, template: str | None
) -> str | None:
    """Choose the template that one side of a comparison is asked with.

    Args:
        side: which is asked.
        instruct: the model that was taught; a base is asked with its template too.
        template: what the user chose; None for the instruct model's own.

    Returns:
        A name, or None where a file or a server applies its own.
    """
    are_here = all(hasattr(source, "loaded") for source in (side, instruct))
    return template or (instruct.template if are_here else None)


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
