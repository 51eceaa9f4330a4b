"""Turn one row of a known format into a conversation, or say what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from biddable.data.conversation import CALLING, ROLES, Conversation, Message
from biddable.data.formats import FORMATS
from biddable.data.problems import Problem, either, keys_of, kind_of
from biddable.errors import nearest

# What ShareGPT calls the sides; function_call and observation are a tool's use and its answer.
SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
    CALLING: CALLING,
    **dict.fromkeys(("observation", "function_response", "function", "tool"), "tool"),
}
_OPENAI_ROLES = {"function": "tool"}  # before there were tools
_SHAREGPT_SHOWN = ("human", "gpt", "system", "function_call", "observation")
# What is meant by names that nobody has to use; said in messages only, never assumed.
_LIKELY_ROLES = {
    **SHAREGPT_ROLES,
    **dict.fromkeys(("prompter", "customer", "student", "instruction"), "user"),
    **dict.fromkeys(("bot", "model", "ai", "agent", "output"), "assistant"),
    **dict.fromkeys(("developer", "context"), "system"),
    **dict.fromkeys(("tool_response", "tool_result", "ipython", "env", "environment"), "tool"),
    **dict.fromkeys(("tool_call", "tool_use", "call"), CALLING),
}
_SIDES = (("role", "content"), ("from", "value"))
_INPUT_KEYS = ("input", "context")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def read_row(
    row: Mapping[str, Any],
    form: str,
    *,
    path: str | None = None,
    line: int | None = None,
    role_map: Mapping[str, str] | None = None,
) -> Conversation | list[Problem]:
    """Turn a row into a conversation.

    Args:
        row: has the keys of the format.
        form: the name of the format.
        path: the file.
        line: where the row starts in it.
        role_map: what else the sides are called, and which role each is; ``function_call`` is an
            answer whose text is the JSON of a call.

    Returns:
        The conversation; all problems of the row if there are any.
    """
    reading = _RowReading(row, path, line, role_map or {})
    messages: list[Message] = []
    text = None
    if form == "text":
        text = reading.text(row["text"], '"text"')
    elif form == "sharegpt":
        messages = reading.chat("conversations")
    elif form == "messages":
        messages = reading.chat("messages")
    elif form == "prompt-completion" and any(isinstance(row[key], list) for key in FORMATS[form]):
        messages = reading.prompt_and_completion()
    else:
        messages = reading.pair(*FORMATS[form])
    tools = () if form == "text" else reading.tools()
    category = reading.take("category", FORMATS[form])
    extra = {key: value for key, value in row.items() if key not in reading.taken}
    if reading.problems:
        return reading.problems
    return Conversation(tuple(messages), path, line, category or None, tools, text, extra)


def is_function_list(value: Any) -> bool:
    """Tell whether a row's ``functions`` are functions that may be called.

    Example:
        >>> is_function_list([{"name": "rain", "parameters": {}}]), is_function_list(["rain"])
        (True, False)
    """
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in value)
    )


class _RowReading:
    """Gather what a row says and what is wrong with it."""

    def __init__(
        self,
        row: Mapping[str, Any],
        path: str | None,
        line: int | None,
        role_map: Mapping[str, str],
    ) -> None:
        self.row, self.path, self.line = row, path, line
        self.roles, self.is_sharegpt = _OPENAI_ROLES | dict(role_map), False
        self.problems: list[Problem] = []
        self.taken: set[str] = set()

    def say(self, code: str, message: str, index: int | None = None) -> None:
        self.problems.append(Problem(code, message, self.path, self.line, index))

    def take(self, key: str, also: Sequence[str] = ()) -> str | None:
        """Take a key whose value, if it is a text, is kept elsewhere than with the other keys."""
        self.taken.update(also)
        value = self.row.get(key)
        if isinstance(value, str):
            self.taken.add(key)
        return value if isinstance(value, str) else None

    def text(
        self, value: Any, where: str, index: int | None = None, *, may_be_empty: bool = False
    ) -> str:
        if not isinstance(value, str):
            self.say("not-text", f"{where} holds {kind_of(value)}; expected text.", index)
            return ""
        if not may_be_empty and not value.strip():
            self.say("empty-text", f"{where} is empty; fill it in, or delete the row.", index)
        elif not value.isascii() and _HALF_PAIR.search(value):
            hint = "has half of a surrogate pair (as \\ud83d alone); write the whole sign."
            self.say("bad-unicode", f"{where} {hint}", index)
        return value

    def optional_text(self, key: str) -> str:
        """Take a text that may be missing, null or blank."""
        self.taken.add(key)
        value = self.row.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            return ""
        return self.text(value, f'"{key}"')

    def pair(self, asked: str, answered: str) -> list[Message]:
        question = self.text(self.row[asked], f'"{asked}"')
        answer = self.text(self.row[answered], f'"{answered}"')
        system = self.optional_text("system")
        given = "\n\n".join(filter(None, map(self.optional_text, _INPUT_KEYS)))
        messages = [Message("system", system)] if system else []
        if asked == "instruction":
            messages += self._history()
        return [*messages, Message("user", question, input=given), Message("assistant", answer)]

    def prompt_and_completion(self) -> list[Message]:
        """Read a prompt and its completion where they are messages; only the latter is learned."""
        found: list[list[Message]] = []
        for key, role in (("prompt", "user"), ("completion", "assistant")):
            value = self.row[key]
            if isinstance(value, list):
                found.append(self._entries(value, f'"{key}"', learn=key == "completion"))
            else:
                found.append([Message(role, self.text(value, f'"{key}"'))])
        return self._whole_chat(found[0] + found[1])

    def chat(self, key: str) -> list[Message]:
        if key == "conversations":
            self.roles, self.is_sharegpt = SHAREGPT_ROLES | self.roles, True
        return self._whole_chat(self._entries(self.row[key], f'"{key}"', learn=True))

    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """Take the row's functions: a list of schemas, or the JSON text of one."""
        given = self.row.get("tools")
        self.taken.add("tools")
        if given in (None, "", []) and is_function_list(self.row.get("functions")):
            self.taken.add("functions")  # OpenAI's older key, of the functions alone
            given = [
                {"type": "function", "function": function} for function in self.row["functions"]
            ]
        if isinstance(given, str) and given.strip():
            try:
                given = json.loads(given)
            except (ValueError, RecursionError):
                self.say("bad-tools", '"tools" holds a text that is no JSON list of functions.')
                return ()
        if given is None or given in ("", []):
            return ()
        if not isinstance(given, list) or not all(isinstance(tool, dict) for tool in given):
            self.say("bad-tools", f'"tools" holds {kind_of(given)}; expected a list of functions.')
            return ()
        return tuple(given)

    def _whole_chat(self, messages: list[Message]) -> list[Message]:
        """Put the row's own system text first, and see to it that an answer comes last."""
        system = self.optional_text("system")
        if self.problems:
            return []
        if system and messages[0].role == "system":
            self.say("bad-role", '"system" stands beside a system message; keep one of the two.')
        elif system:
            messages = [Message("system", system), *messages]
        role = messages[-1].role
        if role != "assistant":
            text = f"ends with a message of the {role}; add the answer, or delete it."
            self.say("no-answer", text, len(messages))
        return messages

    def _entries(self, given: Any, where: str, *, learn: bool) -> list[Message]:
        if not isinstance(given, list) or not given:
            self.say(
                "not-messages", f"{where} holds {kind_of(given)}; expected a list of messages."
            )
            return []
        messages = []
        for index, entry in enumerate(given, start=1):
            message = self._entry(entry, index, learn=learn)
            if message is not None:
                messages.append(message)
        return messages

    def _entry(self, entry: Any, index: int, *, learn: bool) -> Message | None:
        sides = _SIDES if self.is_sharegpt else _SIDES[:1]
        has = entry.keys() if isinstance(entry, dict) else ()
        role_key, key = next((side for side in sides if side[0] in has), sides[-1])
        called = self._called(entry, index) if isinstance(entry, dict) else None
        # An answer that calls a tool needs no words.
        if role_key not in has or (key not in has and not called):
            found = keys_of(entry) if isinstance(entry, dict) else kind_of(entry)
            text = f'message {index} has {found}; expected "{role_key}" and "{key}".'
            self.say("bad-message", text, index)
            return None
        role = self._role(entry[role_key], index)
        if role is None:
            return None
        is_call, role = role == CALLING, "assistant" if role == CALLING else role
        where = f"message {index} ({role})"
        apart = (role_key, key, "learn", "tool_calls", CALLING)
        extra = {name: value for name, value in entry.items() if name not in apart}
        learned = self._learned(entry, extra, index, learn=learn if role == "assistant" else True)
        if is_call and not called:
            calls = self._calls(entry[key], f"message {index} ({entry[role_key]})", index)
            return Message(role, "", learned, extra={**extra, "tool_calls": calls})
        if called:
            extra["tool_calls"] = called
        content = self._joined(entry.get(key), where, index)
        content = "" if content is None and called else content
        text = self.text(content, where, index, may_be_empty=bool(called) or role == "tool")
        return Message(role, text, learned, extra=extra)

    def _called(self, entry: Mapping[str, Any], index: int) -> Any:
        """Take a message's calls: ``tool_calls``, or the one call of OpenAI's older key."""
        calls, call = entry.get("tool_calls"), entry.get(CALLING)
        where = f"message {index}"
        if calls and call:
            text = f'{where} has both "tool_calls" and "{CALLING}"; keep the first.'
            self.say("bad-tools", text, index)
        if calls and (
            not isinstance(calls, list) or not all(isinstance(each, dict) for each in calls)
        ):
            text = f'{where} has "tool_calls" that hold {kind_of(calls)}; expected a list of calls.'
            self.say("bad-tools", text, index)
        if calls or not call:
            return calls or None
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            text = f'{where} has a "{CALLING}" that holds {kind_of(call)}; expected an object with'
            self.say("bad-tools", f'{text} "name" and "arguments".', index)
        return [{"type": "function", "function": call}]

    def _role(self, name: Any, index: int) -> str | None:
        role = self.roles.get(name, name) if isinstance(name, str) else None
        if role in ROLES or role == CALLING:
            return role
        shown = _SHAREGPT_SHOWN if self.is_sharegpt else ROLES
        hint = ""
        if isinstance(name, str):
            role = _LIKELY_ROLES.get(name.lower(), "ROLE")
            hint = nearest(name, shown) or (
                f" Map it with data.role_map: {{{name}: {role}}} (--role {name}={role})."
            )
        text = f"message {index} has role {json.dumps(name, default=repr)}; expected"
        self.say("bad-role", f"{text} {either(shown)}.{hint}", index)
        return None

    def _learned(
        self, entry: Mapping[str, Any], extra: dict[str, Any], index: int, *, learn: bool
    ) -> bool:
        """Read whether an answer is learned: our ``learn``, or the ``weight`` 0 or 1 of others."""
        learned = entry.get("learn", learn)
        if not isinstance(learned, bool):
            text = f'message {index} has "learn" {json.dumps(learned, default=repr)};'
            self.say("bad-learn", f"{text} expected true or false.", index)
            return learn
        weight = extra.get("weight")
        if isinstance(weight, int | float) and weight in (0, 1):
            del extra["weight"]
            if "learn" in entry and learned != bool(weight):
                text = f'message {index} has "learn" and "weight", which disagree; keep one.'
                self.say("bad-learn", text, index)
            return bool(weight)
        return learned

    def _joined(self, content: Any, where: str, index: int) -> Any:
        """Join the parts of a content that is a list of texts."""
        if not isinstance(content, list) or not content:
            return content
        texts = []
        for part in content:
            kind = part.get("type", "text") if isinstance(part, dict) else None
            text = part.get("text") if isinstance(part, dict) and kind == "text" else part
            if not isinstance(text, str):
                shown = f'of type "{kind}"' if isinstance(kind, str) else f"that is {kind_of(part)}"
                hint = "only text can be learned. Take the part or the row out."
                self.say("not-text", f"{where} has a part {shown}; {hint}", index)
                return "-"  # nothing more is to be said about it
            texts.append(text)
        return "".join(texts)

    def _calls(self, value: Any, where: str, index: int) -> list[dict[str, Any]]:
        """Read ShareGPT's text of a tool's use, JSON of one call or several."""
        try:
            given = json.loads(value) if isinstance(value, str) else None
        except (ValueError, RecursionError):
            given = None
        calls = given if isinstance(given, list) and given else [given]
        if not all(
            isinstance(call, dict) and call.keys() == {"name", "arguments"} for call in calls
        ):
            self.say("bad-tools", f'{where} is no JSON of {{"name", "arguments"}}.', index)
            return []
        return [{"type": "function", "function": call} for call in calls]

    def _history(self) -> list[Message]:
        """Read the earlier turns that some Alpaca files have: pairs of instruction and answer."""
        self.taken.add("history")
        given = self.row.get("history") or []
        turns = given if isinstance(given, list) else [given]
        messages = []
        for number, turn in enumerate(turns, start=1):
            if not isinstance(turn, list | tuple) or len(turn) != 2:
                found = kind_of(turn)
                self.say("not-text", f'"history" holds {found}; expected pairs of two texts.')
                return []
            asked, answered = (self.text(text, f'"history", pair {number},') for text in turn)
            messages += [Message("user", asked), Message("assistant", answered)]
        return messages
