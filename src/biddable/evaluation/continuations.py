"""Find where a text goes on as the page of its prompt would, in other ways than by asking again.

A prompt is the start of many a page: an exercise that says what the answer must contain, a quiz
with options, a post of somebody who needs help, the text to work on once more. Base models write on
in any of these; none of them answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from biddable.evaluation import refusal_patterns
from biddable.evaluation.units import Unit

_MIN_COPIED = 8  # words
_COPIED_SHARE = 0.9  # of the text that was given
_FIRST_UNITS = 5  # in which somebody who needs help says so
_MOST_OPTION_WORDS = 8
_MOST_INTRO_WORDS = 25

_PIECE = (
    r"(?:answers?|responses?|reply|replies|output|essay|story|poem|letter|e-?mail|functions?"
    r"|program|code|script|solution|paper|report|summary|text|title|plot|song|article|post|list"
    r"|paragraphs?|sentences?|keywords?|description|dialogue|speech|table|headline|sections?"
    r"|resume|review|pitch|algorithm|class|method|query|recipe|plan|outline|joke|rap|riddle"
    r"|tweet|conclusion|introduction)"
)
# What an exercise says of the answer that it wants.
REQUIREMENT = re.compile(
    rf"(?:the|your|this|each|my|all) (?:(?:entire|whole|final|full|complete) )?(?:\w+ )?{_PIECE} "
    r"(?:should|must|needs? to|has to|have to|is to|are to|may not|cannot)\b(?! be ?[:'\"])"
    r"|there (?:should|must) be\b|no (?:capital letters|other words|commas) (?:are|should)\b"
    rf"|(?:in|at the end of|at the beginning of|throughout|for) your (?:\w+ )?{_PIECE}\b"
    r"|you (?:should|must) (?:say|hand in|submit)\b|you will be (?:asked|given)"
    r"|you have \d+ (?:minutes|words)|you are (?:required|expected) to|(?:make|be) sure (?:it"
    r"|that it|the|your|to (?:include|use|mention|write))|(?:please )?(?:ensure"
    r"|make sure) that (?:the|your|it)|students (?:will|should|must)\b"
)
_TO_ANSWERER = re.compile(
    r"please (?:include|answer|respond|format|limit|provide an?)\b"
    rf"|(?:support|justify|explain|cite|limit|keep|format) your (?:\w+ )?{_PIECE}\b"
)
_YOURS = re.compile(
    r"(?:in )?(?:your|this) (?:entire |whole |final )?(?:answer|response|reply|essay)\b"
)
# Orders that add to an order for a piece: "Include a shopping list."
_ADDS = re.compile(
    r"it (?:should|must) (?:be|have|include|contain)\b|write in\b|(?:include|use|add|provide"
    r"|mention|highlight|avoid|discuss|give|separate|do not use|don't use|write|explain|describe"
    r"|draw|state|list) (?:the following|at least|exactly|an?\b|the\b|any\b|your|all|some"
    r"|examples?|two|three|four|five|\d|its?\b|how|why|what|keywords?)"
)
ORDERS_A_PIECE = re.compile(
    r"\b(?:write|create|compose|generate|draft|design|describe|produce|develop|imagine|pretend"
    r"|compare|discuss|explain|summari[sz]e|name|implement)\b"
)
WANTS_ORDERS = re.compile(
    r"\b(?:how (?:to|do|can|could|should|would|might|in)|tips|steps|advice|instructions?|guide"
    r"|ways|recipe|rules|suggest\w*|recommend\w*|exercises?|prompts?|rubric|assignment"
    r"|requirements|criteria|what (?:should|must)|quiz|checklist)\b"
)
WANTS_TASKS = re.compile(
    r"\b(?:assignments?|homework|exercises?|prompts?|rubric|worksheet|quiz|exam)\b"
)
ON_A_TEXT = re.compile(
    r"\b(?:following|given|below|this|these) (?:\w+ )?(?:paragraph|sentence|text|passage|article"
    r"|story|words?|list|e-?mail|tweet|review|code|function|poem|dialogue|excerpt)s?\b"
)
_POINTS_AFTER = re.compile(r".*\(\d+ (?:points?|marks?|pts)\.?\)")
PAGE = re.compile(
    r"(?:hints?:|posted by|asked by|asked (?:on|\d|[a-z]{3} \d)|viewed \d|related (?:questions"
    r"|posts|topics)|similar questions|people (?:also|who) ask|thanks in advance"
    r"|thank you in advance|any (?:ideas|help|suggestions|advice|thoughts)\b.{0,40}[?!.]"
    r"|leave a (?:reply|comment)|\d+ (?:answers|comments|replies)$|this question (?:already has"
    r"|is closed)|answer this question|sample (?:questions|input)\b)"
)
INPUT = re.compile(r"\s*(?:[*#]+\s*)?Input\s*(?:\d+\s*)?:", re.IGNORECASE)
# Who speaks so of themselves has come to ask.
_OWN = re.compile(
    r"(?:hi,? |hello,? |so,? |well,? )?(?:i(?:'m| am|'ve| have|'d| want| need| tried| bought"
    r"| got| don't| just| know| was| would)|my |we(?:'re| are| have|'ve))"
)
_NEEDS_HELP = re.compile(
    r"\bi (?:really |also |just )?(?:don't know (?:how|what|where|if)|have no idea|can't figure"
    r"|need (?:some |your )?(?:help|ideas|advice))|\bplease help|\bany (?:ideas|help|advice"
    r"|suggestions)\b|\b(?:can|could|does) (?:any|some)one\b|\bwhat am i doing wrong"
)
# Said of oneself, but in a letter or a story also by its writer.
_TELLS_OF_NEED = re.compile(
    r"\bi (?:really |also |just )?(?:need|want) to\b|\bi(?:'ve| have) tried\b|\bi tried\b"
    r"|\bi(?:'m| am) (?:new to|stuck|trying|applying|looking|planning|working on|lost|having"
    r"|wondering|thinking of)\b|\bi will need to\b|\bhelp me\b|\bi would appreciate\b|\b(?:how"
    r"|what) (?:do|can|should) i\b|\bis there (?:a|any) way"
)
_IN_A_VOICE = re.compile(
    r"\b(?:write|compose|draft|create|pretend|act|role|voice|letter|e-?mail|bio|speech|poem"
    r"|story)\b"
)
_COPIES = re.compile(
    r"\b(?:repeat|copy|quote|extract|find|which|identify|select|choose|highlight|format"
    r"|reproduce|spell|correct|fix|proofread|check|verbatim|convert|json|list|who|what|where"
    r"|when|sort|order|arrange)\b"
)
_OPTION = re.compile(r"\s*\(?([A-Ha-h])[.):]")


def adds_to_task(unit: Unit, requests: str, *, is_first: bool) -> bool:
    """Tell whether a unit says what else the answer must be or hold.

    Args:
        unit: a unit that no answer precedes.
        requests: what the prompt asks or orders, folded.
        is_first: whether nothing at all precedes it.
    """
    if unit.bare.endswith(":") and len(unit.words) <= _MOST_INTRO_WORDS:
        return False
    if WANTS_ORDERS.search(requests):
        is_about_it = _YOURS.match(unit.bare) and REQUIREMENT.match(unit.bare)
        return is_about_it is not None or _TO_ANSWERER.match(unit.bare) is not None
    if any(said.match(unit.bare) for said in (REQUIREMENT, _TO_ANSWERER, _POINTS_AFTER)):
        return True
    is_order = is_first and not unit.has_mark and _ADDS.match(unit.bare) is not None
    return is_order and ORDERS_A_PIECE.search(requests) is not None


def adds_after_answer(unit: Unit) -> bool:
    """Tell whether a line after an answer says what the answer must hold."""
    is_about_it = _YOURS.match(unit.bare) and REQUIREMENT.match(unit.bare)
    return unit.starts_line and not unit.has_mark and is_about_it is not None


def asks_for_help(units: Sequence[Unit], requests: str) -> str:
    """Find somebody who tells of a need of their own; empty if nobody does.

    Args:
        units: of the output.
        requests: what the prompt asks or orders, folded.
    """
    first = next((unit for unit in units if unit.words), None)
    if first is None or first.is_code or not _OWN.match(first.bare) or "you" in first.words:
        return ""
    is_own_voice = _IN_A_VOICE.search(requests) is not None
    for unit in units[:_FIRST_UNITS]:
        if refusal_patterns.DECLINE.search(unit.folded):  # "I can't provide any advice"
            return ""
        tells = not is_own_voice and _TELLS_OF_NEED.search(unit.folded)
        if (tells or _NEEDS_HELP.search(unit.folded)) and not {"you", "your"} & set(unit.words):
            return unit.text
    return ""


def lists_options(units: Sequence[Unit], instruction: str) -> bool:
    """Tell whether an output opens with the options of a quiz, A to C at least.

    Args:
        units: of the output.
        instruction: all that was asked; one that speaks of options wants them.
    """
    if not instruction.rstrip().endswith("?") or _OPTION.search("\n" + instruction.split("\n")[-1]):
        return False
    if re.search(
        r"\b(?:list|options?|choices?|outline|ways|steps|reasons|are)\b", instruction.lower()
    ):
        return False
    marks = [
        found[1].upper()
        for unit in units[:3]
        if (found := _OPTION.match(unit.text)) and len(unit.words) <= _MOST_OPTION_WORDS
    ]
    return marks == ["A", "B", "C"]


def repeats_text(output: str, instruction: str) -> bool:
    r"""Tell whether an output is the text that it was to work on, once more and no more.

    Example:
        >>> text = "The old ferry was late again because of the thick fog."
        >>> repeats_text(text, f"Make this funnier.\n\n{text}")
        True
    """
    paragraphs = [
        part for part in re.split(r"\n\s*\n|(?<=:)\s*\n|(?<=:) ", instruction) if part.strip()
    ]
    if len(paragraphs) < 2 or _COPIES.search(paragraphs[0].lower()):
        return False
    given, told = paragraphs[-1].split(), output.strip(" \t\n\"'").split()
    size = min(len(given), len(told))
    is_copy = size >= _MIN_COPIED and told[:size] == given[:size]
    return is_copy and size >= _COPIED_SHARE * len(given) and len(told) - size < _MIN_COPIED
