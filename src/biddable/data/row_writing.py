"""Turn a conversation into a row of a format, or say why that format cannot carry it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from biddable.data.conversation import CALLING, Conversation, Message
from biddable.data.formats import FORMATS, recognise
from biddable.data.problems import Problem
from biddable.data.row_reading import is_function_list

_FROM = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
# Where a pair keeps the text that its instruction works on.
_INPUT_KEY = {"alpaca": "input"}


class _CannotCarryError(Exception):
    """Raised inside this module, with the reason."""


def write_row(conversation: Conversation, form: str) -> dict[str, Any] | Problem:
    """Turn a conversation into a row.

    Args:
        conversation: its other keys are carried along.
        form: the name of the format.

    Returns:
        The row, from which ``read_row`` makes the conversation again; a problem if the format
        cannot carry all of it. Only a pair's ``input`` is joined to its instruction in the formats
        of messages, which have no place for it.

    Example:
        >>> asked = (Message("user", "Fix it.", input="He go."), Message("assistant", "He goes."))
        >>> write_row(Conversation(asked), "alpaca")
        {'instruction': 'Fix it.', 'input': 'He go.', 'output': 'He goes.'}
    """
    try:
        row = _row(conversation, form)
        _add(row, {"category": conversation.category} if conversation.category else {}, form)
        _add(row, conversation.extra, form)
        read_as = recognise([row])
        if read_as != form:
            raise _CannotCarryError(f"its other keys would make it a row of {read_as}")
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except _CannotCarryError as error:
        reason = str(error)
    except (TypeError, ValueError) as error:  # a date, bytes, NaN, half a surrogate pair
        reason = f"a value of its other keys is no JSON ({error})"
    else:
        return row
    text = f"cannot be written as {form}: {reason}. Choose another format, or take it out."
    return Problem("cannot-carry", text, conversation.path, conversation.line)


def _row(conversation: Conversation, form: str) -> dict[str, Any]:
    if form == "text":
        if conversation.text is None:
            raise _CannotCarryError("it has turns, and a text has none")
        return {"text": conversation.text}
    if conversation.text is not None:
        raise _CannotCarryError("it is plain text, without turns")
    if form == "messages":
        row: dict[str, Any] = {"messages": [_entry(m) for m in conversation.messages]}
    elif form == "sharegpt":
        row = {"conversations": [_side(m) for m in conversation.messages]}
    elif form == "prompt-completion" and not _is_plain_pair(conversation):
        *before, last = conversation.messages
        if not before:
            raise _CannotCarryError("it has no message before its answer")
        prompt = [_entry(message, learn=False) for message in before]
        row = {"prompt": prompt, "completion": [_entry(last)]}
    else:
        row = _pair(conversation, form)
    if conversation.tools:
        row["tools"] = list(conversation.tools)
    return row


def _pair(conversation: Conversation, form: str) -> dict[str, Any]:
    messages = conversation.messages
    system = messages[0] if messages and messages[0].role == "system" else None
    turns = messages[1:] if system else messages
    if [message.role for message in turns] != ["user", "assistant"]:
        roles = ", ".join(message.role for message in messages)
        raise _CannotCarryError(f"it has the messages {roles}, and a pair is one turn of each")
    for message in messages:
        if message.extra:
            raise _CannotCarryError(f'a message has "{next(iter(message.extra))}"')
        if not message.learn:
            raise _CannotCarryError(f"its {message.role} message is not learned")
    asked, answered = FORMATS[form]
    question, answer = turns
    row = {"system": system.content} if system else {}
    row[asked] = question.content
    if question.input or form == "alpaca":
        row[_INPUT_KEY.get(form, "context")] = question.input
    row[answered] = answer.content
    return row


def _is_plain_pair(conversation: Conversation) -> bool:
    return [message.role for message in conversation.messages] == ["user", "assistant"] and all(
        message.learn and not message.extra for message in conversation.messages
    )


def _entry(message: Message, *, learn: bool = True) -> dict[str, Any]:
    """Write a message; ``learn`` only where it is not what a reader assumes."""
    _require_free(message)
    has_calls = bool(message.extra.get("tool_calls"))
    content = None if has_calls and not message.text else message.text
    entry: dict[str, Any] = {"role": message.role, "content": content}
    if message.learn != (learn if message.role == "assistant" else True):
        entry["learn"] = message.learn
    return {**entry, **message.extra}


def _side(message: Message) -> dict[str, Any]:
    _require_free(message)
    entry = {"from": _FROM[message.role], "value": message.text}
    extra = dict(message.extra)
    calls = extra.pop("tool_calls", None)
    if calls is not None:
        if message.text or not all(_is_plain_call(call) for call in calls):
            raise _CannotCarryError(
                "ShareGPT has no place for a call's id, nor for words beside a call"
            )
        functions = [call["function"] for call in calls]
        value = functions[0] if len(functions) == 1 else functions
        entry = {"from": CALLING, "value": json.dumps(value, ensure_ascii=False)}
    if "tool_call_id" in extra:
        raise _CannotCarryError("ShareGPT has no place for a tool_call_id")
    if not message.learn:
        extra["learn"] = False
    return {**entry, **extra}


def _is_plain_call(call: Mapping[str, Any]) -> bool:
    function = call.get("function")
    return (
        call.keys() == {"type", "function"}
        and call["type"] == "function"
        and isinstance(function, dict)
        and function.keys() == {"name", "arguments"}
    )


def _add(row: dict[str, Any], more: Mapping[str, Any], form: str) -> None:
    """Add the row's other keys, none of which may mean something else in the format."""
    taken = set(row)
    if form != "text":
        taken |= {"system", "tools"}
    if form not in ("text", "messages", "sharegpt"):
        taken |= {"input", "context", "history"}
    for key, value in more.items():
        if key in taken or (key == "functions" and is_function_list(value)):
            raise _CannotCarryError(f'its other key "{key}" has another meaning there')
        row[key] = value


def _require_free(message: Message) -> None:
    taken = message.extra.keys() & {"role", "content", "from", "value", "learn", CALLING}
    if taken:
        raise _CannotCarryError(f'a message has another key "{min(taken)}"')
