r"""The 25 kinds of instruction, each a test of a response by what the prompt asked for.

A test takes the whole response and its own arguments by name, as ``input_data.jsonl`` writes them.
Thresholds, patterns and signs are those of the official program.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from biddable.evaluation.ifeval.linguistics import (
    count_words,
    language_of,
    sentences,
    tokens,
)

RELATIONS = ("less than", "at least")
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

_COUNT, _RELATION, _TEXT = "a number above 0", "less than or at least", "a text"
_PATTERN, _PATTERNS = "a regular expression", "a list of regular expressions"
_FENCE_STARTS = ("```json", "```Json", "```JSON", "```")
_WORD_ENDS = frozenset(".,?!'\"")


@dataclass(frozen=True, slots=True)
class Instruction:
    """Hold one kind.

    Attributes:
        is_followed: takes a response, and the arguments by name.
        arguments: what each of them has to be; all must be given.
    """

    is_followed: Callable[..., bool]
    arguments: Mapping[str, str] = field(default_factory=dict)


def _holds(count: int, relation: str, limit: float) -> bool:
    return count < limit if relation == "less than" else count >= limit


# Keywords are regular expressions to the official program, and may be parts of words.
def _has_keywords(text: str, keywords: Sequence[str]) -> bool:
    return all(re.search(keyword, text, re.IGNORECASE) for keyword in keywords)


def _repeats_keyword(text: str, keyword: str, frequency: int, relation: str) -> bool:
    found = re.findall(keyword.strip(), text, re.IGNORECASE)
    return _holds(len(found), relation, frequency)


def _avoids_words(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def _repeats_letter(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """Count a letter; what is none becomes a random one there, and here what most letters give."""
    counts = Counter(text.lower())
    letter = letter.lower()
    if letter in string.ascii_lowercase and len(letter) == 1:
        return _holds(counts[letter], let_relation, let_frequency)
    alphabet = string.ascii_lowercase
    passing = sum(_holds(counts[sign], let_relation, let_frequency) for sign in alphabet)
    return passing > len(alphabet) / 2


def _is_in_language(text: str, language: str) -> bool:
    return language_of(text) in (language, None)  # what cannot be told counts as followed


def _num_sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _holds(len(sentences(text)), relation, num_sentences)


def _num_words(text: str, num_words: int, relation: str) -> bool:
    return _holds(count_words(text), relation, num_words)


def _num_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Count what stands between dividers; only the first and last may be empty, uncounted."""
    paragraphs = re.split(r"\s?\*\*\*\s?", text)
    if any(not paragraph.strip() for paragraph in paragraphs[1:-1]):
        return False
    return sum(bool(paragraph.strip()) for paragraph in paragraphs) == num_paragraphs


def _nth_paragraph_first_word(
    text: str, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Look for the n-th paragraph among all, empty ones too, but count those that are not empty."""
    paragraphs = text.split("\n\n")
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    bare = "".join(sign.lower() for sign in takewhile(lambda s: s not in _WORD_ENDS, word))
    return count == num_paragraphs and bare == first_word.lower()


def _has_placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _has_postscript(text: str, postscript_marker: str) -> bool:
    marker = postscript_marker.strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = known.get(marker, marker.lower())
    return re.search(rf"\s*{pattern}.*$", text.lower(), re.MULTILINE) is not None


def _num_bullets(text: str, num_bullets: int) -> bool:
    starred = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashed = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(starred) + len(dashed) == num_bullets


def _is_an_answer(text: str) -> bool:
    return any(answer in text for answer in ANSWERS)


def _has_highlights(text: str, num_highlights: int) -> bool:
    """Count what stands between stars; between double stars it counts for each way it is read."""
    single = re.findall(r"\*[^\n\*]*\*", text)
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    count = sum(bool(part.strip("*").strip()) for part in single)
    count += sum(bool(part.removeprefix("**").removesuffix("**").strip()) for part in double)
    return count >= num_highlights


def _has_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    parts = re.split(rf"\s?{section_spliter.strip()}\s?\d+\s?", text)
    return len(parts) - 1 >= num_sections


def _is_json(text: str) -> bool:
    text = text.strip()
    for start in _FENCE_STARTS:
        text = text.removeprefix(start)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _has_title(text: str) -> bool:
    titles = re.findall(r"<<[^\n]+>>", text)
    return any(title.lstrip("<").rstrip(">").strip() for title in titles)


def _is_two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    given = [part for part in parts if part]
    return all(parts[1:-1]) and len(given) == 2 and given[0] != given[1]


def _repeats_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _ends_with(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _num_capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    capitals = sum(token.isupper() for token in tokens(text))
    return _holds(capitals, capital_relation, capital_frequency)


def _is_english_capital(text: str) -> bool:
    return text.isupper() and _is_in_language(text, "en")


def _is_english_lowercase(text: str) -> bool:
    return text.islower() and _is_in_language(text, "en")


def _has_no_comma(text: str) -> bool:
    return "," not in text


def _is_quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


INSTRUCTIONS: dict[str, Instruction] = {
    "keywords:existence": Instruction(_has_keywords, {"keywords": _PATTERNS}),
    "keywords:frequency": Instruction(
        _repeats_keyword, {"keyword": _PATTERN, "frequency": _COUNT, "relation": _RELATION}
    ),
    "keywords:forbidden_words": Instruction(_avoids_words, {"forbidden_words": _PATTERNS}),
    "keywords:letter_frequency": Instruction(
        _repeats_letter, {"letter": _TEXT, "let_frequency": _COUNT, "let_relation": _RELATION}
    ),
    "language:response_language": Instruction(_is_in_language, {"language": _TEXT}),
    "length_constraints:number_sentences": Instruction(
        _num_sentences, {"num_sentences": _COUNT, "relation": _RELATION}
    ),
    "length_constraints:number_paragraphs": Instruction(
        _num_paragraphs, {"num_paragraphs": _COUNT}
    ),
    "length_constraints:number_words": Instruction(
        _num_words, {"num_words": _COUNT, "relation": _RELATION}
    ),
    "length_constraints:nth_paragraph_first_word": Instruction(
        _nth_paragraph_first_word,
        {"num_paragraphs": _COUNT, "nth_paragraph": _COUNT, "first_word": _TEXT},
    ),
    "detectable_content:number_placeholders": Instruction(
        _has_placeholders, {"num_placeholders": _COUNT}
    ),
    "detectable_content:postscript": Instruction(_has_postscript, {"postscript_marker": _PATTERN}),
    "detectable_format:number_bullet_lists": Instruction(_num_bullets, {"num_bullets": _COUNT}),
    "detectable_format:constrained_response": Instruction(_is_an_answer),
    "detectable_format:number_highlighted_sections": Instruction(
        _has_highlights, {"num_highlights": _COUNT}
    ),
    "detectable_format:multiple_sections": Instruction(
        _has_sections, {"section_spliter": _PATTERN, "num_sections": _COUNT}
    ),
    "detectable_format:json_format": Instruction(_is_json),
    "detectable_format:title": Instruction(_has_title),
    "combination:two_responses": Instruction(_is_two_responses),
    "combination:repeat_prompt": Instruction(_repeats_prompt, {"prompt_to_repeat": _TEXT}),
    "startend:end_checker": Instruction(_ends_with, {"end_phrase": _TEXT}),
    "startend:quotation": Instruction(_is_quoted),
    "change_case:capital_word_frequency": Instruction(
        _num_capital_words, {"capital_frequency": _COUNT, "capital_relation": _RELATION}
    ),
    "change_case:english_capital": Instruction(_is_english_capital),
    "change_case:english_lowercase": Instruction(_is_english_lowercase),
    "punctuation:no_comma": Instruction(_has_no_comma),
}


def argument_problem(kind: Instruction, name: str, value: object) -> str | None:
    """Say what an argument should be and is not; None if it is right.

    Example:
        >>> argument_problem(INSTRUCTIONS["length_constraints:number_words"], "relation", "over")
        'less than or at least'
    """
    expected = kind.arguments[name]
    texts = value if isinstance(value, list | tuple) else [value]
    if expected == _COUNT:
        is_right = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    elif expected == _RELATION:
        is_right = value in RELATIONS
    elif expected == _PATTERNS:
        is_right = isinstance(value, list | tuple) and all(_is_pattern(text) for text in texts)
    else:
        is_right = isinstance(value, str) and (expected != _PATTERN or _is_pattern(value))
    return None if is_right else expected


def _is_pattern(text: object) -> bool:
    try:
        return isinstance(text, str) and re.compile(text) is not None
    except re.error:
        return False
