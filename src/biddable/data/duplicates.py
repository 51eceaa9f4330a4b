"""Find rows that say the same twice, and rows that answer the same prompt in different ways."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice

from biddable.data.conversation import Conversation
from biddable.data.near import NearIndex, Signature
from biddable.data.problems import Problem
from biddable.data.wording import (
    answer_of,
    even_blanks,
    prompt_of,
    same_text,
    split_words,
    whole_text,
)

_MAX_NAMED = 3
_MAX_COMPARED = 20  # answers to one prompt; a file may ask the same in every row
_MAX_SHORT = 25  # words
_ALIKE = 0.5  # of the words of both answers together, that both have
_NEGATIONS = {"no", "not", "never", "false", "none", "cannot", "t", "incorrect"}  # "t": as in can't
_SMALL_WORDS = frozenset(
    split_words("a an the is are was were be it its this that of in on to for and or")
)
_ASKS_FOR_ANY = re.compile(
    r"\b(?:write|generate|create|compose|suggest|brainstorm|imagine|invent|design|describe|rewrite"
    r"|rephrase|paraphrase|edit|make|come up|give (?:me |us )?(?:an?|some|two|three|five|\d+)"
    r"|(?:provide|name|list|find|think of) (?:an?|some|two|three|four|five|ten|\d+)|synonyms?"
    r"|example|tell me (?:a|about)|explain|summari[sz]e|translate|poem|story|haiku|joke)\b",
    re.IGNORECASE,
)


def duplicate_findings(
    conversations: Sequence[Conversation], signatures: Sequence[Signature]
) -> list[Problem]:
    """Name each row that repeats an earlier one, or contradicts it.

    Args:
        conversations: the rows.
        signatures: of all that is said in each.

    Returns:
        Warnings, each at the later row: ``duplicate``, ``near-duplicate``, and where the prompt is
        the same, ``contradicting-answers`` (short ones of which only one can be right) or
        ``several-answers``.
    """
    problems: list[Problem] = []
    answered: dict[bytes, dict[bytes, Conversation]] = {}
    near = NearIndex()
    for number, (row, signature) in enumerate(zip(conversations, signatures, strict=True)):
        earlier = answered.setdefault(_digest(prompt_of(row)), {})
        answer = _digest(answer_of(row))
        if answer in earlier:
            problems.append(_duplicate(row, earlier[answer]))
            continue
        against = _contradicted(earlier, row)
        found = near.find(signature)
        if found and not _answers_alike(row, conversations[found[0]]):
            found = None  # one passage, asked about twice
        if against:
            text = f"contradicts {_named(against, row)}, which asks the same; keep what is right."
            problems.append(_warning("contradicting-answers", text, row))
        elif found:
            problems.append(_near_duplicate(row, conversations[found[0]], found[1]))
        elif earlier and row.text is None:
            named = _named(list(islice(earlier.values(), _MAX_NAMED + 1)), row)
            text = f"answers the prompt of {named} in another way; keep one, unless all are wanted."
            problems.append(_warning("several-answers", text, row))
        if not found:
            near.add(number, signature)  # only the first of a family: the others are near to it
        earlier[answer] = row
    return problems


def _digest(text: str) -> bytes:
    """Stand for what two writings of a text share, in the room of a few characters."""
    return blake2b(same_text(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _duplicate(row: Conversation, first: Conversation) -> Problem:
    is_even = even_blanks(whole_text(row)) == even_blanks(whole_text(first))
    hint = " (--fix does)" if is_even else ", which differs in capitals or its last dot only"
    return _warning("duplicate", f"says the same as {_place(first, row)}; delete one{hint}.", row)


def _answers_alike(row: Conversation, other: Conversation) -> bool:
    one, two = (set(split_words(answer_of(each))) for each in (row, other))
    return len(one & two) >= _ALIKE * len(one | two)


def _near_duplicate(row: Conversation, first: Conversation, share: float) -> Problem:
    text = (
        f"is nearly the same as {_place(first, row)} ({100 * share:.0f} % of its word pairs);"
        " keep the better one."
    )
    return _warning("near-duplicate", text, row)


def _contradicted(earlier: dict[bytes, Conversation], row: Conversation) -> list[Conversation]:
    if row.text is not None:  # plain texts answer nothing
        return []
    prompt, answer = prompt_of(row), answer_of(row)
    return [
        other
        for other in islice(earlier.values(), _MAX_COMPARED)
        if contradict(answer, answer_of(other), prompt)
    ]


def _named(rows: Sequence[Conversation], row: Conversation) -> str:
    more = " and others" if len(rows) > _MAX_NAMED else ""
    return ", ".join(_place(other, row) for other in rows[:_MAX_NAMED]) + more


def contradict(answer: str, other: str, prompt: str) -> bool:
    """Tell whether two answers to one prompt cannot both be right, as far as words show it.

    Long answers can differ and both be right, and so can all answers to a prompt that asks to make
    something up; short ones agree if one says all that the other says.

    Example:
        >>> contradict("Paris.", "It is Lyon.", "What is the capital of France?")
        True
        >>> contradict("Paris.", "It is Paris, on the Seine.", "What is the capital of France?")
        False
    """
    if _ASKS_FOR_ANY.search(prompt):
        return False
    said = [split_words(text) for text in (answer, other)]
    if max(map(len, said)) > _MAX_SHORT:
        return False
    one, two = (set(words) for words in said)
    if bool(one & _NEGATIONS) != bool(two & _NEGATIONS):
        return True
    known = set(split_words(prompt)) | _SMALL_WORDS
    one, two = one - known or one, two - known or two
    return not (one <= two or two <= one)


def _place(other: Conversation, row: Conversation) -> str:
    return f"line {other.line}" if other.path == row.path and other.line else other.source


def _warning(code: str, text: str, row: Conversation) -> Problem:
    return Problem(code, text, row.path, row.line, None, "warning")
