"""Find rows that say the same twice, and rows that answer the same prompt in different ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from biddable.data.conversation import Conversation
from biddable.data.near import NearIndex, Signature
from biddable.data.problems import Problem
from biddable.data.wording import answer_of, prompt_of, same_text

_MAX_NAMED = 3


def duplicate_findings(
    conversations: Sequence[Conversation], signatures: Sequence[Signature]
) -> list[Problem]:
    """Name each row that repeats an earlier one, or contradicts it.

    Args:
        conversations: the rows.
        signatures: of all that is said in each.

    Returns:
        Warnings, each at the later row: ``duplicate``, ``near-duplicate``,
        ``contradicting-answers``.
    """
    problems: list[Problem] = []
    answered: dict[str, dict[str, Conversation]] = {}
    near = NearIndex()
    for number, (row, signature) in enumerate(zip(conversations, signatures, strict=True)):
        earlier = answered.setdefault(same_text(prompt_of(row)), {})
        answer = same_text(answer_of(row))
        if row.text is None and earlier and answer not in earlier:
            problems.append(_warning("contradicting-answers", _other_answers(earlier, row), row))
        elif answer in earlier:
            text = f"says the same as {_place(earlier[answer], row)}; delete one (--fix does)."
            problems.append(_warning("duplicate", text, row))
        else:
            problems += _near_duplicate(number, row, signature, near=near, rows=conversations)
        earlier.setdefault(answer, row)
    return problems


def _near_duplicate(
    number: int,
    row: Conversation,
    signature: Signature,
    *,
    near: NearIndex,
    rows: Sequence[Conversation],
) -> Iterator[Problem]:
    found = near.find(signature)
    if found is None:
        near.add(number, signature)  # only the first of a family: the others are near to it
        return
    place, share = _place(rows[found[0]], row), 100 * found[1]
    text = f"is nearly the same as {place} ({share:.0f} % of its word pairs); keep the better one."
    yield _warning("near-duplicate", text, row)


def _other_answers(earlier: dict[str, Conversation], row: Conversation) -> str:
    places = [_place(other, row) for other in earlier.values()]
    named = ", ".join(places[:_MAX_NAMED]) + (" and others" if len(places) > _MAX_NAMED else "")
    return (
        f"answers the prompt of {named} differently; keep the right answer,"
        " unless the prompt leaves room for several."
    )


def _place(other: Conversation, row: Conversation) -> str:
    return f"line {other.line}" if other.path == row.path and other.line else other.source


def _warning(code: str, text: str, row: Conversation) -> Problem:
    return Problem(code, text, row.path, row.line, None, "warning")
