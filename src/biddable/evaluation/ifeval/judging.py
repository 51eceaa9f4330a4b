"""Judge a response by the instructions of its prompt, strictly and loosely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biddable.errors import nearest
from biddable.evaluation.ifeval.instructions import INSTRUCTIONS, argument_problem

Asked = Mapping[str, Any]


def judge_response(response: str, instructions: Sequence[Asked]) -> dict[str, Any]:
    r"""Say which instructions a response follows.

    Strict takes the response as it is. Loose is content if one of eight readings follows the
    instruction: with or without the first line, the last line, and the stars of Markdown. A
    reading without anything but blanks follows nothing.

    Args:
        response: all that the model wrote.
        instructions: ``{"id", "kwargs"}`` each, without problems.

    Returns:
        ``strict`` and ``loose``, a bool for each instruction, and ``loose_passed``, whether all
        of the latter hold.

    Example:
        >>> no_comma = [{"id": "punctuation:no_comma", "kwargs": {}}]
        >>> judge_response("Sure, here it is:\nA cat sat.", no_comma)
        {'strict': [False], 'loose': [True], 'loose_passed': True}
    """
    readings = [text for text in loose_readings(response) if text.strip()]
    strict = [_is_followed(response, asked) for asked in instructions]
    loose = [
        held or any(_is_followed(text, asked) for text in readings[1:])
        for held, asked in zip(strict, instructions, strict=True)
    ]
    return {"strict": strict, "loose": loose, "loose_passed": all(loose)}


def loose_readings(response: str) -> list[str]:
    r"""List the different readings of a response that the loose verdict tries, itself first.

    Example:
        >>> loose_readings("*a*\nb\nc")
        ['*a*\nb\nc', 'a\nb\nc', 'b\nc', '*a*\nb', 'b', 'a\nb']
    """
    lines = response.split("\n")
    parts = (lines[1:], lines[:-1], lines[1:-1])
    shorter = ["\n".join(part).strip() for part in parts]
    readings = [response, response.replace("*", ""), *shorter]
    readings += [text.replace("*", "") for text in shorter]
    return list(dict.fromkeys(readings))


def instructions_problem(instructions: object) -> str | None:
    """Say what is wrong with the instructions of an item; None if they can be judged.

    Arguments that are null, empty or 0 count as not given, as in the official program; that then
    draws values at random where some are needed, which is an error here.

    Example:
        >>> instructions_problem([{"id": "punctuation:no_commas", "kwargs": {}}])
        'instruction 1 has id "punctuation:no_commas", which IFEval does not know. Did you mean \
"punctuation:no_comma"?'
    """
    if not isinstance(instructions, list | tuple) or not instructions:
        return "there are no instructions; give a list of {id, kwargs}."
    for number, asked in enumerate(instructions, 1):
        problem = _problem(asked)
        if problem:
            return f"instruction {number} {problem}"
    return None


def _is_followed(text: str, asked: Asked) -> bool:
    return bool(text.strip()) and INSTRUCTIONS[asked["id"]].is_followed(text, **_given(asked))


def _given(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in (asked.get("kwargs") or {}).items() if value}


def _problem(asked: object) -> str | None:
    if not isinstance(asked, Mapping) or not isinstance(asked.get("id"), str):
        return f"is {asked!r}; expected an object with an id, and kwargs."
    name = asked["id"]
    if name not in INSTRUCTIONS:
        return f'has id "{name}", which IFEval does not know.{nearest(name, INSTRUCTIONS)}'
    if not isinstance(asked.get("kwargs") or {}, Mapping):
        return f"({name}) has kwargs {asked['kwargs']!r}; expected an object or null."
    kind, given = INSTRUCTIONS[name], _given(asked)
    known = ", ".join(kind.arguments) or "none"
    for key in given.keys() - kind.arguments.keys():
        return f'({name}) has the argument "{key}"; known: {known}.{nearest(key, kind.arguments)}'
    for key, expected in kind.arguments.items():
        if key not in given:
            return f'({name}) lacks "{key}", {expected}.'
        wrong = argument_problem(kind, key, given[key])
        if wrong:
            return f'({name}) has {given[key]!r} as "{key}"; expected {wrong}.'
    if "nth_paragraph" in given and given["nth_paragraph"] > given["num_paragraphs"]:
        return f"({name}) asks for paragraph {given['nth_paragraph']} of {given['num_paragraphs']}."
    return None
