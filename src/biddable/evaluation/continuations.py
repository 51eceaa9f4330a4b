"""Find where a text goes on as the page of its prompt would, in other ways than by asking again.

A prompt is the start of many a page: an exercise that says what the answer must contain, a quiz
with options, a post of somebody who needs help, the text to work on once more. Base models write on
in any of these; none of them answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from biddable.evaluation import patterns
from biddable.evaluation.refusal import find_refusal
from biddable.evaluation.units import Unit, split_units
from biddable.evaluation.words import words_of

_MIN_COPIED = 8  # words
_COPIED_SHARE = 0.9  # of the text that was given
_MIN_OPENING = 6  # words
_FIRST_UNITS = 5  # in which somebody who needs help says so
_MOST_OPTION_WORDS = 8
_MOST_INTRO_WORDS = 25
_MIN_WHOLE = 40  # words; who was to find a part and gives so many has not looked for it

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
    r"|the (?:given )?input (?:will|must|should|consists|contains)\b"
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
_SPEAKS_OF_INPUT = re.compile(r"\binputs?\b(?!\s*:)")
# What is made of inputs and outputs.
WANTS_INPUTS = re.compile(
    r"\b(?:test cases?|few-shot|prompts?|(?:examples?|samples?) (?:of )?(?:an? )?(?:tasks?|inputs?"
    r"|problems?)|inputs?\b(?!\s*:))"
)
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
# Orders by which a text may come back as it was, and those by which a part of it may.
_COPIES = re.compile(
    r"\b(?:repeat|copy|quote|format|reproduce|spell|correct|fix|proofread|check|verbatim"
    r"|json|list|sort|(?<!in )order|arrange)\b"
)
_WANTS_PART = re.compile(
    r"\b(?:extract|find|which|identify|select|choose|highlight|who|what|where|when)\b"
)
# What a form of prompts ends with, for the answer to follow.
_ANSWER_MARK = re.compile(
    r"\n[ #*]*(?:output|answer|response|solution)[ *]*:[ *]*\s*$", re.IGNORECASE
)
_PIECE_NAMED = re.compile(
    rf"(?:an?|the|some|your) (?:[\w-]+ ){{0,2}}{_PIECE} (?:of|for|that|to|with)\b"
)
_TELLS = re.compile(r"[:=]|\b(?:is|was|were|reads)\b")
_PARTS = re.compile(r"\n\s*\n|(?<=:)\s*\n|(?<=:) ")
_OPTION = re.compile(r"\s*\(?([A-Ha-h])[.):]")


def adds_to_task(unit: Unit, requests: str, *, is_first: bool) -> bool:
    """Tell whether a unit says what else the answer must be or hold.

    Args:
        unit: a unit that no answer precedes.
        requests: what the prompt asks or orders, folded.
        is_first: whether nothing at all precedes it.
    """
    is_of_input = unit.bare.startswith(("the input", "the given input"))
    if _SPEAKS_OF_INPUT.search(requests) if is_of_input else _leads_in(unit):
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
    opening = " ".join(unit.text for unit in units[:_FIRST_UNITS])
    if find_refusal(opening)[0] != "none":  # "I can't provide any advice"
        return ""
    for unit in units[:_FIRST_UNITS]:
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


def repeats_text(output: str, instruction: str, *, is_followed: bool = False) -> bool:
    r"""Tell whether an output is the text that it was to work on, once more and no more.

    Args:
        output: all that was written, or what stands before a continuation of the prompt.
        instruction: all that was asked.
        is_followed: a continuation follows, so that a copy of a few words is one, too.

    Example:
        >>> text = "The old ferry was late again because of the thick fog."
        >>> repeats_text(text, f"Make this funnier.\n\n{text}")
        True
    """
    parts = _parts(instruction)
    if len(parts) < 2 or _COPIES.search(parts[0].lower()):
        return False
    given, told = parts[-1].split(), output.strip(" \t\n\"'").split()
    if _WANTS_PART.search(parts[0].lower()) and len(told) < _MIN_WHOLE:
        return False
    size = min(len(given), len(told))
    if is_followed and told == given:
        return True
    is_copy = size >= _MIN_COPIED and told[: size - 1] == given[: size - 1]
    is_copy = is_copy and given[size - 1].startswith(told[size - 1])  # it may be cut there
    return is_copy and size >= _COPIED_SHARE * len(given) and len(told) - size < _MIN_COPIED


def answers_nothing(text: str, units: Sequence[Unit], instruction: str) -> str:
    """Say why what stands before a continuation of the prompt is no answer; empty if it is one.

    Args:
        text: what stands before it.
        units: of that text, those that repeat the instruction left out.
        instruction: all that was asked.
    """
    said = [unit for unit in units if unit.words]
    if not said:
        return ""
    if all(_leads_in(unit) for unit in said):
        return "announces an answer and gives none"
    if repeats_text(text, instruction, is_followed=True):
        return "repeats the text it was given"
    asked = {*words_of(instruction), *patterns.FILLERS}
    is_named = len(said) == 1 and _PIECE_NAMED.match(said[0].bare) is not None
    num_new = len(set(said[0].words) - asked)
    if is_named and num_new <= 1 - bool(_TELLS.search(said[0].bare)):
        return "names what was asked for and gives none"
    return ""


def answers_given(unit: Unit, instruction: str) -> bool:
    """Tell whether a unit says the text that was given, a colon, and what becomes of it."""
    parts = _parts(instruction)
    given, _, answer = unit.bare.partition(":")
    is_given = len(parts) > 1 and words_of(given) == words_of(parts[-1])
    return is_given and bool(answer.strip())


def is_of_order(unit: Unit, instruction: str) -> bool:
    """Tell whether a unit is a sentence of what stands before the input of a prompt."""
    return any(unit.words == said.words for said in _order_before_input(instruction))


def opens_task(unit: Unit, instruction: str) -> bool:
    """Tell whether a unit is the first sentence before the input of a prompt, an order or not."""
    first = next(iter(_order_before_input(instruction)), None)
    return first is not None and len(unit.words) >= _MIN_OPENING and unit.words == first.words


def _order_before_input(instruction: str) -> list[Unit]:
    given = INPUT.search(instruction)
    return (
        [unit for unit in split_units(instruction[: given.start()]) if unit.words] if given else []
    )


def _parts(instruction: str) -> list[str]:
    """Part an instruction from the text that it gives, which comes last."""
    asked = _ANSWER_MARK.sub("", instruction)
    return [part for part in _PARTS.split(asked) if part.strip()]


def _leads_in(unit: Unit) -> bool:
    is_marked = unit.bare.endswith(":") and not (unit.is_code or unit.is_heading)
    return is_marked and len(unit.words) <= _MOST_INTRO_WORDS
