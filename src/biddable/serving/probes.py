"""Ask an exported model a few things, to see that it is given and gives what the run's own does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.templates import ChatTemplate
from biddable.errors import ExportError, TemplateError
from biddable.models.loading import LoadedModel

PROBE_TOKENS = 24  # of an answer that is compared

_TOLD = Message("system", "Answer in one sentence.")
_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message("user", "What is the capital of France?"),),
    (_TOLD, Message("user", "Grüße! 你好 👩\u200d👧, what is 12 + 7?\n\n- a\n- b  ")),
    (
        Message("user", "Name an animal."),
        Message("assistant", "(A cat.)"),
        Message("user", "Which sound does it make?"),
        Message("assistant", "It says: meow!"),
        Message("user", "Write it twice."),
    ),
)
_TEXTS = (
    "The capital of France is",
    "def add(a, b):\n    return a + 12345",
    "Grüße, 你好 👩\u200d👧",
)


@dataclass(frozen=True)
class Probe:
    """Hold what is asked, and the ids that the run's own model is given.

    Attributes:
        messages: as OpenAI's form has them; empty for a plain text.
        text: the plain text; empty for messages.
        ids: the prompt.
    """

    messages: tuple[dict[str, str], ...]
    text: str
    ids: list[int]


def make_probes(loaded: LoadedModel, form: ChatTemplate | None) -> list[Probe]:
    """Make what is asked: conversations that the template can show, or plain texts without one."""
    tokenizer = loaded.tokenizer
    probes = []
    for messages in _CONVERSATIONS if form is not None else ():
        assert form is not None
        with suppress(TemplateError):  # as one that has no system message
            given = tuple({"role": m.role, "content": m.content} for m in messages)
            probes.append(Probe(given, "", encode_prompt(messages, form, tokenizer)))
    if probes:
        return probes
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [
        Probe((), text, [*start, *tokenizer(text, add_special_tokens=False)["input_ids"]])
        for text in _TEXTS
    ]


def require_same_ids(
    probes: Sequence[Probe], read: Callable[[Probe], list[int]], *, who: str
) -> None:
    """Refuse an export that would be given other ids than the run's own model.

    Args:
        probes: what is asked.
        read: gives the ids of a probe as another program makes them.
        who: names that program.

    Raises:
        ExportError: the ids of a probe differ.
    """
    for probe in probes:
        found = read(probe)
        if found != probe.ids:
            at = next(
                (
                    n
                    for n, pair in enumerate(zip(found, probe.ids, strict=False))
                    if len({*pair}) > 1
                ),
                min(len(found), len(probe.ids)),
            )
            raise ExportError(
                f"{who} makes other ids of {probe.messages or probe.text!r} than biddable does,"
                f" from the id at {at} on ({found[at : at + 3]}, not {probe.ids[at : at + 3]})."
                " Nothing was written. Please report it with the tokenizer's name."
            )
