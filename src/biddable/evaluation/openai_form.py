"""Write items as requests of OpenAI's protocol, and read its replies; llama.cpp speaks it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biddable.errors import EvaluationError
from biddable.evaluation.asking import Asking, plain_text
from biddable.evaluation.sample import Sample

CUT, ENDED = "length", "stop"


def request_of(sample: Sample, asking: Asking) -> dict[str, Any]:
    """Write one item: messages for the model's own template, else the text to continue.

    Args:
        sample: the item.
        asking: how it is asked.
    """
    limit = {"max_tokens": asking.max_new_tokens, "stream": False, **_decoding(sample, asking)}
    if asking.prompt_form == "template":
        messages = [{"role": m.role, "content": m.text} for m in sample.messages]
        return {"messages": messages, **limit}
    return {"prompt": plain_text(sample.instruction, asking), **limit}


def _decoding(sample: Sample, asking: Asking) -> dict[str, Any]:
    if asking.sampling is None:
        return {"temperature": 0.0}
    drawn = {"temperature": asking.sampling.temperature, "top_p": asking.sampling.top_p}
    return {**drawn, "seed": sample.seed}


def read_choice(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Read the text of a reply, and whether it ended by itself.

    Args:
        reply: of a chat or of a completion.

    Returns:
        ``text`` and ``stopped``; the second is None for an unknown ``finish_reason``.

    Raises:
        EvaluationError: it is no such reply.

    Example:
        >>> read_choice({"choices": [{"text": "It is.", "finish_reason": "length"}]})
        {'text': 'It is.', 'stopped': False}
    """
    try:
        choice = reply["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError) as error:
        raise EvaluationError(
            f"the reply has no choices[0] with a text: {str(reply)[:200]}"
        ) from error
    return {"text": str(text or ""), "stopped": ended(choice.get("finish_reason"))}


def ended(finish_reason: object) -> bool | None:
    """Say what a ``finish_reason`` tells about the end of an answer.

    Example:
        >>> ended("stop"), ended("length"), ended(None)
        (True, False, None)
    """
    return {ENDED: True, CUT: False}.get(str(finish_reason))
