"""Compare texts by their wording: what counts as the same text, and what a text's words are."""

from __future__ import annotations

import re
import unicodedata

from biddable.data.conversation import Conversation

_BLANK = re.compile(r"\s+")
# Scripts that are written without spaces: each sign is a word of its own.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def even_blanks(text: str) -> str:
    r"""Compose accents and make each run of white space one blank.

    Example:
        >>> even_blanks(" two\n  words ")
        'two words'
    """
    return _BLANK.sub(" ", unicodedata.normalize("NFC", text)).strip()


def same_text(text: str) -> str:
    r"""Reduce a text to what two writings of it share: no case, no runs of blanks, no last dot.

    Signs inside it stay, for ``2+2`` and ``2-2`` ask different things.

    Example:
        >>> same_text("  What is\n2+2? ") == same_text("what is 2+2")
        True
    """
    joined = even_blanks(text).casefold()
    return joined.rstrip(" .?!") or joined


def split_words(text: str) -> list[str]:
    """Cut a text into words without case; signs of scripts without spaces are words each.

    Example:
        >>> split_words("It's 42, 你好!")
        ['it', 's', '42', '你', '好']
    """
    return _WORD.findall(text.lower())


def question_of(conversation: Conversation) -> str:
    """Give the first question, its input included; of plain text, the text.

    Example:
        >>> from biddable.data.conversation import Message
        >>> question_of(Conversation((Message("system", "Be brief."), Message("user", "Hi?"))))
        'Hi?'
    """
    if conversation.text is not None:
        return conversation.text
    asked = (message.text for message in conversation.messages if message.role == "user")
    return next(asked, None) or prompt_of(conversation)


def prompt_of(conversation: Conversation) -> str:
    """Join all that comes before the last answer; of plain text, nothing does."""
    messages = conversation.messages
    if messages and messages[-1].role == "assistant":
        messages = messages[:-1]
    return "\n\n".join(message.text for message in messages)


def answer_of(conversation: Conversation) -> str:
    """Give the last answer; of plain text, the text; empty if there is none."""
    if conversation.text is not None:
        return conversation.text
    messages = conversation.messages
    return messages[-1].content if messages and messages[-1].role == "assistant" else ""


def whole_text(conversation: Conversation) -> str:
    """Join all that is said in a row."""
    if conversation.text is not None:
        return conversation.text
    return "\n\n".join(message.text for message in conversation.messages)
