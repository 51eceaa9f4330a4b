"""Judge how a model behaved: did it answer, or go on as a page would; did it stop; did it refuse.

A base model continues the pattern of its prompt: it asks or orders again, lists more tasks, or
repeats what it was told. The rules here describe how texts run on; they know no model and no topic,
and read the instruction and the output and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

from biddable.data.language import differ_in_language, names_language
from biddable.evaluation import continuations, patterns
from biddable.evaluation.degenerate import find_emptiness, find_repetition
from biddable.evaluation.refusal import Refusal, final_answer, find_refusal
from biddable.evaluation.units import Unit, split_units
from biddable.evaluation.words import fold, words_of

_ECHO_SHARE = 0.8  # of an instruction's words, in its order
_Course = tuple[str, Literal["", "mimicry", "run_on"], str]
# Languages that the detector takes for one another in a few sentences.
_CLOSE = frozenset(("no", "nn", "da", "sv")) | frozenset(("hr", "sr", "bs", "sh"))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Say how one output behaved.

    Attributes:
        answer: the output up to its first run-on, blanks around it taken off; empty if the output
            mimics its prompt.
        mimicry: a continuation of the prompt's pattern stands where an answer should.
        run_on: one stands after the answer.
        stopped: the model ended by itself; None if that is not known.
        refusal: ``partial`` if it refuses and helps all the same.
        reasons: why, for each of the others that is so; of an answer also why it is no refusal.
        is_empty: nothing was written, or nothing but blanks, marks and thoughts.
        repetition: it got stuck in a loop of signs, words or lines.
        wrong_language: the answer is in another language than the prompt, which asks for none.
    """

    answer: str
    mimicry: bool
    run_on: bool
    stopped: bool | None
    refusal: Refusal
    reasons: dict[str, str] = field(default_factory=dict)
    is_empty: bool = False
    repetition: bool = False
    wrong_language: bool = False


def judge(
    instruction: str,
    output: str,
    *,
    stopped: bool | None = None,
    may_echo: bool = False,
    may_ask: bool = False,
) -> Behaviour:
    r"""Judge one output.

    Args:
        instruction: all that the model was told.
        output: all that it wrote, without its stop token.
        stopped: whether it ended by itself.
        may_echo: the instruction orders to repeat it.
        may_ask: the instruction orders to ask.

    Returns:
        What it did. Text after a continuation of the prompt's pattern is nobody's answer.

    Example:
        >>> judge("What is the capital of France?", "\nWhat is the capital of Peru?").mimicry
        True
        >>> found = judge("What is 2+2?", "It is 4.\nWhat is 3+3?")
        >>> found.answer, found.run_on, found.mimicry
        ('It is 4.', True, False)
        >>> judge("What is 2+2?", "What is 2+2? It is 4.").mimicry
        False
    """
    text = final_answer(output)
    reasons: dict[str, str] = {}
    if empty := find_emptiness(text):
        empty = "nothing but a thought" if output.strip() and not text.strip() else empty
        return Behaviour(text.strip(), False, False, stopped, "none", {"empty": empty}, True)
    answer, course, reason = _follow(text, instruction, may_echo=may_echo, may_ask=may_ask)
    if reason:
        reasons[course] = reason
    refusal, reason = find_refusal(answer, instruction) if answer else ("none", "")
    if reason:
        reasons["refusal"] = reason
    orders = "" if course == "mimicry" else instruction
    if repetition := find_repetition(text, orders, is_cut=stopped is False):
        reasons["repetition"] = repetition
    if language := _find_language(answer, instruction):
        reasons["wrong_language"] = language
    return Behaviour(
        answer,
        mimicry=course == "mimicry",
        run_on=course == "run_on",
        stopped=stopped,
        refusal=refusal,
        reasons=reasons,
        repetition=bool(repetition),
        wrong_language=bool(language),
    )


def _follow(text: str, instruction: str, *, may_echo: bool, may_ask: bool) -> _Course:
    """Read on until a text continues its prompt; give the answer before, what it is, and why."""
    asked = _Asked.read(instruction, may_ask=may_ask)
    units = split_units(text)
    if not may_echo and continuations.repeats_text(text, instruction):
        return "", "mimicry", "repeats the text it was given"
    if opening := asked.opening(units):
        return "", "mimicry", opening
    num_echoed = 0 if may_echo else _count_echoed(units, words_of(instruction))
    echo = units[0] if num_echoed else None
    has_answer = not num_echoed and _starts_with_signs(text, units)
    for unit, following in _with_following(units, skip=num_echoed):
        if not may_echo and asked.is_echo(unit):
            if has_answer and unit.starts_line:
                return asked.before(text, units, unit, "repeats the instruction")
            if again := asked.orders_again(unit, is_second=num_echoed > 0):
                return "", "mimicry", again
            echo = echo or unit
            continue
        reason = asked.continuation(unit, following=following, has_answer=has_answer)
        if reason and has_answer:
            return asked.before(text, units, unit, reason)
        if reason:
            return "", "mimicry", reason
        is_old = echo is not None and continuations.is_of_order(unit, instruction)
        has_answer = has_answer or not (is_old or asked.completes(unit))
    if echo is not None and not has_answer:
        return "", "mimicry", "repeats the instruction"
    return text.strip(), "", ""


def _find_language(answer: str, instruction: str) -> str:
    """Say that an answer is in another language than its prompt, which asks for none."""
    if not answer or names_language(instruction):
        return ""
    differing = differ_in_language(instruction, answer)
    if differing is None or _CLOSE.issuperset(differing):
        return ""
    return f'the prompt is in "{differing[0]}", the answer in "{differing[1]}"'


def _with_following(units: list[Unit], *, skip: int) -> Iterator[tuple[Unit, Unit | None]]:
    """Pair each unit that says something with the next such unit."""
    full = [unit for unit in units[skip:] if unit.words]
    return zip_longest(full, full[1:])


def _starts_with_signs(text: str, units: list[Unit]) -> bool:
    """Tell whether a text answers with a sign or more before its first word: "👍"."""
    start = next((unit.start for unit in units if unit.words), 0)
    return start > 0 and not find_emptiness(text[:start])


def _count_echoed(units: list[Unit], instruction: list[str]) -> int:
    """Count the units at the start that repeat the whole instruction, word by word."""
    said: list[str] = []
    for n, unit in enumerate(units, start=1):
        said += unit.words
        if said == instruction:
            return n
        if said != instruction[: len(said)]:
            break
    return 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an instruction asks for, as far as it tells what would be a continuation of it."""

    instruction: str
    requests: tuple[Unit, ...]  # the sentences of it that ask or order
    may_ask: bool
    invites_questions: bool
    invites_orders: bool
    wants_speakers: bool

    @classmethod
    def read(cls, instruction: str, *, may_ask: bool) -> _Asked:
        units = [unit for unit in split_units(instruction) if unit.words]
        orders = [unit for unit in units if patterns.is_order(unit.bare)]
        requests = [unit for unit in units if unit.is_question or unit in orders] or units[:1]
        if any(patterns.TRANSFORMS.search(unit.folded) for unit in orders or units[:1]):
            requests = orders or units[:1]  # the questions in it are the text to work on
            is_text_given = len(units) > len(requests) or "?" in instruction.rstrip(" ?")
            is_text_given = is_text_given or any(":" in unit.text.rstrip(": ") for unit in orders)
            may_ask = may_ask or is_text_given
        text = " ".join(unit.bare for unit in requests)
        return cls(
            instruction=instruction,
            requests=tuple(requests),
            may_ask=may_ask
            or patterns.ASKS_FOR_QUESTIONS.search(text) is not None
            or patterns.SO_MANY_QUESTIONS.search(fold(instruction)) is not None,
            invites_questions=patterns.INVITES_QUESTIONS.search(text) is not None,
            invites_orders=patterns.INVITES_ORDERS.search(text) is not None,
            wants_speakers=patterns.WANTS_SPEAKERS.search(text) is not None,
        )

    @property
    def _asking(self) -> str:
        return " ".join(unit.bare for unit in self.requests)

    def opening(self, units: list[Unit]) -> str:
        """Say how an output goes on from its first words, as a page and not as an answer."""
        first = next((unit for unit in units if unit.words), None)
        if first is None or first.is_code or first.is_heading:
            return ""
        if first.text[0] in ",;" and sum(bool(unit.words) for unit in units) == 1:
            return f'goes on with the sentence of the prompt: "{_shown(first)}"'
        if continuations.lists_options(units, self.instruction):
            return f'lists options to choose from: "{_shown(first)}"'
        if continuations.adds_to_task(first, self._asking, is_first=True):
            return f'adds to the task: "{_shown(first)}"'
        if not self.may_ask and continuations.asks_for_help(units, self._asking):
            return f'tells of a need of its own: "{_shown(first)}"'
        return ""

    def before(self, text: str, units: list[Unit], unit: Unit, reason: str) -> _Course:
        """Tell whether a continuation of the prompt follows an answer, or something that is none.

        Args:
            text: the whole output.
            units: of the output.
            unit: the continuation.
            reason: why it is one.
        """
        answer = text[: unit.start].strip()
        own = [one for one in units if one.start < unit.start and not self.is_echo(one)]
        nothing = continuations.answers_nothing(answer, own, self.instruction)
        return (
            ("", "mimicry", f"{nothing}, then {reason}") if nothing else (answer, "run_on", reason)
        )

    def _is_input(self, unit: Unit, *, has_answer: bool) -> bool:
        is_given = continuations.INPUT.search(self.instruction) is not None
        is_told = has_answer or continuations.WANTS_INPUTS.search(self._asking) is not None
        is_told = is_told and not is_given
        return not is_told and continuations.INPUT.match(unit.text) is not None

    def is_echo(self, unit: Unit) -> bool:
        """Tell whether a unit repeats the whole instruction, or a sentence of it that asks."""
        if unit.words == words_of(self.instruction):
            return True
        if not self.invites_questions and continuations.opens_task(unit, self.instruction):
            return True  # a piece may come back to its first line
        for request in self.requests:
            content = [word for word in request.words if word not in patterns.FILLERS]
            if unit.words == request.words and (unit.is_question or patterns.is_order(unit.bare)):
                return True
            is_rest_alike = patterns.likeness(unit.words, request.words) >= _ECHO_SHARE
            if unit.is_question and is_rest_alike and set(content) <= set(unit.words):
                return True
        return False

    def orders_again(self, unit: Unit, *, is_second: bool) -> str:
        """Say how a repetition of the order is one for another answer; empty if it may not be.

        Args:
            unit: the repetition.
            is_second: the whole instruction was repeated before it.
        """
        if is_second and unit.starts_line:
            return "repeats the instruction, twice"
        has_text = continuations.ON_A_TEXT.search(unit.bare) is not None
        is_changed = unit.words != words_of(self.instruction)
        is_again = has_text and is_changed and patterns.is_order(unit.bare)
        return f'orders again: "{_shown(unit)}"' if is_again else ""

    def continuation(self, unit: Unit, *, following: Unit | None, has_answer: bool) -> str:
        """Say in which way a unit continues the prompt's pattern; empty if it does not."""
        after, has_speakers = following.text if following else "", self.wants_speakers
        is_turn = patterns.starts_turn(unit.text, after, wants_speakers=has_speakers)
        if is_turn or self._is_input(unit, has_answer=has_answer):
            return f'starts another turn: "{_shown(unit)}"'
        if unit.starts_line and continuations.PAGE.match(unit.bare.lstrip("# ")):
            return f'goes on as a page: "{_shown(unit)}"'
        if unit.is_code or unit.is_heading:
            return ""
        looks_alike = any(
            patterns.same_start(unit.words, request.words) for request in self.requests
        )
        is_cut = following is None and patterns.ASKING_START.match(unit.bare) is not None
        if unit.is_question or (is_cut and looks_alike):
            is_asked = self._asks(unit, following, has_answer=has_answer, alike=looks_alike)
            return f'asks: "{_shown(unit)}"' if is_asked else ""
        if has_answer and continuations.adds_after_answer(unit):
            return f'adds to the task: "{_shown(unit)}"'
        is_ordered = self._orders(unit, following, has_answer=has_answer, alike=looks_alike)
        if is_ordered or (not has_answer and self._states_case(unit, following)):
            return f'orders: "{_shown(unit)}"'
        return ""

    def completes(self, unit: Unit) -> bool:
        """Tell whether a unit only ends the sentence that the prompt left open."""
        is_open = self.instruction.rstrip()[-1:] not in ".?!:;" and unit.start <= 1
        return is_open and patterns.COMPLETION.match(unit.text) is not None

    def _asks(self, unit: Unit, following: Unit | None, *, has_answer: bool, alike: bool) -> bool:
        is_closing = patterns.CLOSING_QUESTION.search(unit.folded) is not None
        is_choice = following is None and not has_answer and " or " in unit.bare
        if self.may_ask or (following is None and is_closing) or patterns.AGREES.match(unit.bare):
            return False
        if is_choice and not alike and not patterns.ASKING_START.match(unit.bare):
            return False  # "An African or a European swallow?"
        if patterns.TASK_FOR_ME.match(unit.bare):
            return not (has_answer and patterns.SPEAKS_TO & set(unit.words[2:]))
        is_taken_up = len(unit.words) <= 2 and following is not None and not following.is_question
        if patterns.HOOK.match(unit.bare) or (is_taken_up and not alike):
            return False
        if self.invites_questions and not alike:
            return not has_answer and following is not None and _is_plain_order(following)
        if len(unit.words) > 8 and not patterns.ASKS.search(unit.bare):
            return False  # a statement with a question mark
        return not has_answer or alike or not _belongs_to_answer(unit)

    def _states_case(self, unit: Unit, following: Unit | None) -> bool:
        """Tell whether a unit says what somebody wants, and the next one asks what to do."""
        if self.may_ask or self.invites_questions or following is None or following.starts_line:
            return False
        is_own = patterns.OWN_CASE.match(unit.bare) and following.is_question
        return bool(is_own and patterns.OWN_QUESTION.search(following.folded))

    def _orders(self, unit: Unit, following: Unit | None, *, has_answer: bool, alike: bool) -> bool:
        if len(unit.words) < 2 or (
            continuations.WANTS_TASKS.search(self._asking) and not has_answer
        ):
            return False
        is_said = (has_answer or self.invites_questions) and unit.text[0] in "\"“'‘«"
        if is_said or continuations.answers_given(unit, self.instruction):
            return False  # somebody in the piece speaks, or the text that was given is answered
        is_order = patterns.is_order(unit.bare)
        is_setting = unit.words[0] in patterns.PRONOUNS | patterns.SETTINGS
        if alike and (is_order or (unit.starts_line and not is_setting)):
            return True
        if patterns.TASK_FOR_ME.match(unit.bare):
            return not (has_answer and patterns.CLOSING_QUESTION.search(unit.folded))
        if patterns.WISH.match(unit.bare):
            is_own_voice = self.invites_questions and not patterns.A_PIECE.search(unit.bare)
            return alike or (unit.starts_line and not is_own_voice)
        is_plain = patterns.PLAIN_TASK.match(unit.bare) is not None
        if _is_step(unit, following, has_answer=has_answer):
            return False
        if self.invites_orders:  # steps speak of what is yours
            is_step = unit.has_mark or "your" in unit.words
            return is_plain and not has_answer and unit.starts_line and not is_step
        is_opening = not (has_answer or unit.has_mark or self.invites_questions)
        return is_plain or (is_opening and _is_strong_order(unit))


def _is_step(unit: Unit, following: Unit | None, *, has_answer: bool) -> bool:
    """Tell whether an order is a step of an answer: listed after one, or explained at once."""
    is_explained = (
        following is not None
        and not (following.starts_line or following.is_question)
        and not patterns.is_order(following.bare)
    )
    is_listed = unit.has_mark and (has_answer or is_explained)
    is_heading = patterns.STEP_HEADING.match(unit.bare) is not None
    if patterns.STEP_OF_MATHS.match(unit.bare):
        return True
    return is_listed or (is_heading and continuations.ON_A_TEXT.search(unit.bare) is None)


def _belongs_to_answer(unit: Unit) -> bool:
    """Tell whether a question within an answer is about what was just said, or to its reader."""
    is_short = len(unit.words) <= (2 if patterns.ASKING_START.match(unit.bare) else 3)
    speaks_to = not patterns.SPEAKS_TO.isdisjoint(unit.words) and not unit.starts_line
    speaks_to = speaks_to or unit.words[-1] == "you"
    if speaks_to and not patterns.ASKS_A_READER.search(unit.bare):
        return True
    return is_short or patterns.ANAPHORA.search(unit.folded) is not None


def _is_strong_order(unit: Unit) -> bool:
    return unit.starts_line and patterns.STRONG_ORDER.match(unit.bare) is not None


def _is_plain_order(unit: Unit) -> bool:
    is_plain = patterns.PLAIN_TASK.match(unit.bare) or patterns.TASK_FOR_ME.match(unit.bare)
    return unit.starts_line and is_plain is not None


def _shown(unit: Unit) -> str:
    text = " ".join(unit.text.split())
    return text if len(text) <= 80 else text[:79] + "…"
