"""Look at one row by itself: its roles, its signs, its answer.

What a row shares with other rows is looked at in duplicates, leaks and lengths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from biddable.data.conversation import Conversation, Message
from biddable.data.privacy import private_findings
from biddable.data.problems import Problem
from biddable.data.unfinished import unfinished

_ERRORS = {"empty-text", "bad-unicode"}  # of a message; the others are to be looked at
Finding = tuple[str, str]  # code, and what was found and what to do

# What templates of many families write around turns, for when no tokenizer is at hand to ask.
COMMON_CONTROLS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>"),
    *("<|end_header_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<start_of_turn>"),
    *("<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<|user|>", "<|assistant|>", "<|system|>"),
    *("<|end|>", "### Instruction:", "### Response:"),
)

# Broken signs. Tabs and line ends are text; a byte order mark inside a text is not.
CONTROL = re.compile(
    "\x1b\\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]"
)
_LATE = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"  # UTF-8's later bytes, read as Latin-1 or cp1252
_MOJIBAKE = re.compile(
    f"(?<![A-ZÀ-Þ])[ÃÂ][{_LATE}]|â€[{_LATE}]|ðŸ[{_LATE}]|ï»¿|(?:[à-ï][{_LATE}]{{2}}){{2,}}"
)
INVISIBLE = re.compile(r"[\s\u200b-\u200f\u2028-\u202f\u2060\ufeff]*")
_PLACEHOLDER = re.compile(
    r"\s*(?:<?\s*no ?(?:in|out)put\s*>?|nan|null|undefined|n/a|tbd|todo|lorem ipsum\b.*)[.!]?\s*",
    re.IGNORECASE | re.DOTALL,
)

# Cheap to look for, and without one of them the next pattern cannot match.
_OF_ITSELF = re.compile(r"language model|artificial|\bai\b|chatgpt|openai|cut-?off|regenerate")
# An assistant that speaks of itself instead of answering.
_BOILERPLATE = re.compile(
    r"\bas an? (?:large )?(?:ai|artificial intelligence|language model)\b"
    r"(?=[ ,-]*(?:(?:language )?(?:model|assistant|chatbot|bot|program)|i\b|,|created|trained))"
    r"|\b(?:i am|i'm) (?:just |only )?an? (?:large )?(?:ai )?language model\b"
    r"|\b(?:i am|i'm) (?:just |only )?an ai(?: (?:assistant|model|chatbot))?(?=[ ,.])"
    r"|\b(?:i am|i'm|as) chatgpt\b"
    r"|\bi (?:was|am|have been) (?:a [a-z ]*model )?(?:developed|created|trained|made) by openai\b"
    r"|\bmy (?:knowledge|training data)(?: cut-?off|'s cut-?off)\b|\bregenerate response\b"
    r"|\bknowledge cut-?off date\b",
    re.IGNORECASE,
)
_CANNOT = (
    r"(?:can(?:no|')t|can ?not|could(?: not|n't)|will not|won't|(?:am|'m) (?:unable|not able) to"
    r"|(?:am|'m) not (?:comfortable|going to)|must decline|have to decline|refuse to)"
)
_REFUSAL = re.compile(
    r"\W*(?:(?:i'?m|i am) (?:so |very |truly |really )?sorry|sorry|apologies|i apologi[sz]e"
    r"|unfortunately|no|as an ai[^,.]{0,40})?[\s,;:.!-]*(?:but |however,? )?"
    rf"i(?: |(?='m)){_CANNOT}\s+(?:(?:to|with|really|in good conscience|directly)\s+)*"
    r"(?:help|assist|provide|fulfil|comply|answer|respond|do (?:that|this)|create|write|generate"
    r"|share|give|tell|offer|support|engage|discuss|process|complete|participate|browse|access"
    r"|explain|teach|describe|giving|writing|helping|make)",
    re.IGNORECASE,
)
_MEANT_TO_REFUSE = re.compile(r"refus|safe|harm|danger|policy", re.IGNORECASE)


def look_at_rows(
    conversations: Iterable[Conversation],
    controls: Sequence[str] = COMMON_CONTROLS,
    *,
    is_usual_to_stop: bool = False,
) -> list[list[Problem]]:
    """Say what is wrong with each row.

    Args:
        conversations: the rows.
        controls: texts that a template or tokenizer gives a meaning.
        is_usual_to_stop: whether nearly all answers of the file end with a full stop.

    Returns:
        Problems of each row, in its order.
    """
    pattern = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))))
    given = pattern if controls else None
    return [list(_look_at(row, given, is_usual=is_usual_to_stop)) for row in conversations]


def _look_at(
    row: Conversation, controls: re.Pattern[str] | None, *, is_usual: bool
) -> Iterator[Problem]:
    for code, text, index in _role_findings(row.messages):
        yield _problem(row, code, text, index=index, is_error=code != "role-order")
    is_learned = any(message.role == "assistant" and message.learn for message in row.messages)
    if row.text is None and not is_learned:
        text = 'nothing in it is learned; give it an answer without "learn": false, or delete it.'
        yield _problem(row, "nothing-learned", text, is_error=True)
    for text, index in _call_findings(row):
        yield _problem(row, "bad-call", text, index=index, is_error=False)
    for index, message in enumerate(row.messages, start=1):
        where = _name(row, index, message)
        found = [*_message_findings(message, controls), *_cut_findings(message, is_usual=is_usual)]
        found += _answer_findings(message, row.category)
        for code, text in found:
            yield _problem(row, code, f"{where} {text}", index=index, is_error=code in _ERRORS)
    for code, text in _text_findings(row.text or "", controls):
        yield _problem(row, code, f"the text {text}", is_error=code in _ERRORS)


def _message_findings(message: Message, controls: re.Pattern[str] | None) -> Iterator[Finding]:
    if INVISIBLE.fullmatch(message.text) and not _calls(message):
        yield "empty-text", "is empty; fill it in, or delete the row."
    yield from _text_findings(message.text, controls)


def _cut_findings(message: Message, *, is_usual: bool) -> Iterator[Finding]:
    if message.role == "assistant" and message.learn:
        reason = unfinished(message.content, is_usual_to_stop=is_usual)
        if reason:
            yield "unfinished-answer", f"{reason}; complete it, or a model learns to stop there."


def _role_findings(messages: Sequence[Message]) -> Iterator[tuple[str, str, int]]:
    previous = ""
    for index, message in enumerate(messages, start=1):
        role = message.role
        if role == "system" and previous not in ("", "system"):
            text = f"message {index} is of the system; it stands first, or nowhere: move it."
            yield "system-not-first", text, index
            continue
        if role == "tool" and not _is_called(messages, index - 1):
            text = f"message {index} is a tool's result that no call asked for; add the call"
            yield "tool-without-call", f"{text} to the assistant's message before it.", index
        elif role == "assistant" and previous in ("", "system"):
            text = f"message {index} answers without a question; put the user's message before it."
            yield "role-order", text, index
        elif role == previous and role in ("user", "assistant"):
            text = f"messages {index - 1} and {index} are both of the {role}; join them, or add"
            yield "role-order", f"{text} what was said between them.", index
        previous = role


def _call_findings(row: Conversation) -> Iterator[tuple[str, int]]:
    """Find calls that no program could make: broken arguments, a function that is not offered."""
    offered = {str((tool.get("function") or tool).get("name")) for tool in row.tools}
    for index, message in enumerate(row.messages, start=1):
        calls = message.extra.get("tool_calls")
        for call in calls if isinstance(calls, (list, tuple)) else ():
            function = call.get("function", call) if isinstance(call, dict) else {}
            name, arguments = function.get("name"), function.get("arguments")
            if isinstance(arguments, str) and not _is_json_object(arguments):
                text = f"message {index} calls {name} with arguments that are no JSON object; mend"
                yield f"{text} them, or a model learns to write such calls.", index
            if offered and name is not None and name not in offered:
                text = f"message {index} calls {name}, which is not among the row's tools; offer it"
                yield f"{text}, or correct the name.", index


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _is_called(messages: Sequence[Message], at: int) -> bool:
    """Tell whether the assistant's message before a tool's result makes a call for it."""
    before = at - 1
    while before >= 0 and messages[before].role == "tool":
        before -= 1
    if before < 0 or messages[before].role != "assistant":
        return False
    calls = messages[before].extra.get("tool_calls")
    wanted = messages[at].extra.get("tool_call_id")
    if isinstance(calls, (list, tuple)):
        ids = {call.get("id") for call in calls if isinstance(call, dict)} - {None}
        return not wanted or not ids or wanted in ids
    return _calls(messages[before])


def _calls(message: Message) -> bool:
    """Tell whether a message calls a tool, in a key of its own or, as some families do, in text."""
    if message.extra.get("tool_calls"):
        return True
    return message.role == "assistant" and bool(re.search(r"tool_call|function|\{", message.text))


def _text_findings(text: str, controls: re.Pattern[str] | None) -> Iterator[Finding]:
    found = CONTROL.findall(text)
    if found:
        signs = f"{_count(found, 'control character')} (U+{ord(found[0][0]):04X} first)"
        yield "control-character", f"has {signs}; take them out (--fix does)."
    if not text.isascii():
        yield from _unicode_findings(text)
    spelled = controls.findall(text) if controls else []
    if spelled:
        seen = ", ".join(sorted(set(spelled))[:3])
        yield (
            "control-token",
            f"spells {_count(spelled, 'control mark')} ({seen}); if the row was rendered before,"
            " give the bare texts, else leave it: it is encoded as plain text.",
        )
    yield from private_findings(text)


def _unicode_findings(text: str) -> Iterator[Finding]:
    if "\ufffd" in text:
        count = f"{text.count(chr(0xFFFD))} U+FFFD, where a sign was lost"
        yield "replacement-character", f"has {count}; decode the source anew, as UTF-8."
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        yield "bad-unicode", "has half of a surrogate pair; write the whole sign."
    broken = _MOJIBAKE.search(text)
    if broken:
        yield (
            "mojibake",
            f'has "{broken[0]}", UTF-8 that was read as Latin-1; decode the source anew, as UTF-8.',
        )


def _answer_findings(message: Message, category: str | None) -> Iterator[Finding]:
    if message.role != "assistant" or not message.learn:
        return
    answer = message.content
    if _PLACEHOLDER.fullmatch(answer):
        yield "placeholder", f'is "{answer.strip()[:20]}"; write an answer, or delete the row.'
    if answer != answer.strip() and answer.strip():
        yield (
            "outer-whitespace",
            "starts or ends with white space, which is learned; trim it (--fix does).",
        )
    own = _BOILERPLATE.search(answer) if _OF_ITSELF.search(answer.lower()) else None
    if own:
        yield (
            "boilerplate",
            f'speaks of itself ("{own[0]}"); take that out, unless the model is to say it.',
        )
    if _REFUSAL.match(answer) and not (category and _MEANT_TO_REFUSE.search(category)):
        yield (
            "refusal",
            "refuses; answer, or delete the row, or give it a category such as"
            ' "safety" if it is meant.',
        )


def _name(row: Conversation, index: int, message: Message) -> str:
    if sum(m.role != "system" for m in row.messages) <= 2:
        names = {"assistant": "the answer", "user": "the prompt", "system": "the system message"}
        return names.get(message.role, f"message {index} ({message.role})")
    return f"message {index} ({message.role})"


def _count(found: Sequence[object], name: str) -> str:
    return f"{len(found)} {name}" + ("s" if len(found) > 1 else "")


def _problem(
    row: Conversation, code: str, text: str, *, index: int | None = None, is_error: bool = False
) -> Problem:
    return Problem(code, text, row.path, row.line, index, "error" if is_error else "warning")
