"""Do what a line that starts with a slash asks of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from biddable.counting import counted
from biddable.errors import DataError, nearest
from biddable.serving.chat import Chat

COMMANDS = {
    "/help": "this list",
    "/retry": "answer the last question again, drawing otherwise",
    "/reset": "begin a new conversation; the system prompt stays",
    "/system [TEXT]": "show or change the system prompt; /system - takes it away",
    "/set [NAME VALUE]": "show or change how answers are drawn: /set temperature 0.7",
    "/save FILE.jsonl": "add the conversation to a file that biddable train reads",
    "/quit": "leave, as do Ctrl-D and Ctrl-C twice",
}
_LIMITS = {
    "max_new_tokens": (1, float("inf"), "a whole number from 1"),
    "temperature": (0, float("inf"), "a number from 0, which takes the likeliest token"),
    "top_p": (0.01, 1, "a number from 0.01 to 1"),
    "seed": (0, 2**31, "a whole number from 0"),
}


@dataclass(frozen=True, slots=True)
class Obeyed:
    """Say what came of a command.

    Attributes:
        said: to the user.
        then: what is to happen next.
    """

    said: str
    then: Literal["go on", "retry", "leave"] = "go on"


def is_command(line: str) -> bool:
    """Tell a command from a message; two slashes begin a message that starts with one.

    Example:
        >>> is_command("/retry"), is_command("//etc is a folder"), is_command("What is it?")
        (True, False, False)
    """
    return line.startswith("/") and not line.startswith("//")


def as_message(line: str) -> str:
    """Read a line that is no command.

    Example:
        >>> as_message("//etc is a folder")
        '/etc is a folder'
    """
    return line.removeprefix("/") if line.startswith("//") else line


def obey(chat: Chat, line: str) -> Obeyed:
    """Do what a command says.

    Args:
        chat: the conversation, changed in place.
        line: starts with a slash.

    Raises:
        DataError: there is no such command, or it is given what it does not take.
        TemplateError: the template has no place for a system prompt.
    """
    name, _, rest = line.strip().partition(" ")
    does: dict[str, Callable[[Chat, str], Obeyed]] = {
        "/help": _help,
        "/?": _help,
        "/retry": lambda chat, _: Obeyed("", "retry"),
        "/reset": _reset,
        "/system": _system,
        "/set": _set,
        "/save": _save,
        "/quit": lambda chat, _: Obeyed("", "leave"),
        "/exit": lambda chat, _: Obeyed("", "leave"),
    }
    if name not in does:
        hint = nearest(name, does) or " /help lists them."
        raise DataError(
            f'no command "{name}"; a message that starts with a slash is written with two.{hint}'
        )
    return does[name](chat, rest.strip())


def _help(chat: Chat, rest: str) -> Obeyed:
    width = max(map(len, COMMANDS))
    lines = [f"{name.ljust(width)}  {meaning}" for name, meaning in COMMANDS.items()]
    lines.append("A line that ends with a backslash goes on in the next one.")
    return Obeyed("\n".join(lines))


def _reset(chat: Chat, rest: str) -> Obeyed:
    chat.reset()
    return Obeyed("a new conversation")


def _system(chat: Chat, rest: str) -> Obeyed:
    if rest:
        chat.set_system("" if rest == "-" else rest)
    return Obeyed(f"system prompt: {chat.system or 'none'}")


def _set(chat: Chat, rest: str) -> Obeyed:
    name, _, value = rest.replace("=", " ").partition(" ")
    known = [field.name for field in fields(chat.sampling)]
    if name and name not in known:
        raise DataError(f'no setting "{name}"; there are {", ".join(known)}.{nearest(name, known)}')
    if name:
        changed: dict[str, Any] = {name: _number(name, value.strip())}
        chat.sampling = replace(chat.sampling, **changed)
    shown = [name] if name else known
    return Obeyed(", ".join(f"{key} {getattr(chat.sampling, key):g}" for key in shown))


def _number(name: str, text: str) -> float:
    least, most, allowed = _LIMITS[name]
    read = int if allowed.startswith("a whole") else float
    try:
        value = read(text)
    except ValueError:
        value = -1
    if not (least <= value <= most and value != float("inf")):
        raise DataError(f'{name}: found "{text}"; expected {allowed}.')
    return value


def _save(chat: Chat, rest: str) -> Obeyed:
    if not rest:
        raise DataError("name a file: /save talks.jsonl")
    path = Path(rest).expanduser()
    num_rows = chat.save(path)
    rows = counted(num_rows, "row")
    said = f"{path}: {rows} of this conversation; biddable train reads it as data.train"
    if left_out := chat.num_left_out:
        turns = "1 turn is" if left_out == 1 else f"{left_out} turns are"
        said += f"\n{turns} left out: no answer, or a stopped one that no whole answer follows"
    return Obeyed(said)
