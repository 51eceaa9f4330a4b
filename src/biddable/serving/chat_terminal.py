"""Lead a conversation in a terminal, or through a pipe: read lines, show answers as they come."""

from __future__ import annotations

import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from biddable.counting import counted
from biddable.data.conversation import Message
from biddable.errors import BiddableError, DataError
from biddable.models.smollm2 import cache_root
from biddable.serving.chat import Chat, Speech, Voice
from biddable.serving.chat_commands import COMMANDS, as_message, is_command, obey

_TWO_COLUMNS = 100  # a terminal as wide as this shows base and model beside each other
_HISTORY = 1_000  # lines kept of what was typed
_GAP = 3
NOTHING = "(nothing)"  # stands where an answer is empty
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

ReadLine = Callable[[], str | None]


class Screen(ABC):
    """Show what is said."""

    is_terminal = False

    @abstractmethod
    def answer(self, question: str, speech: Speech, beside: Speech | None) -> None:
        """Show an answer as it is written, and that of the base if there is one."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Say something that is no answer."""


class PipeScreen(Screen):
    """Print answers alone: as they are, or one JSON object a line."""

    def __init__(
        self, names: tuple[str, str], *, tell: Callable[[str], None], as_json: bool = False
    ) -> None:
        """Take the names of model and base, told where both answer, and where notes go."""
        self._names, self._tell, self._as_json = names, tell, as_json

    def answer(self, question: str, speech: Speech, beside: Speech | None) -> None:
        """Print the answer, and that of the base under it."""
        streams = not self._as_json and beside is None
        for text in speech:
            if streams:
                self._print(text)
        if beside is not None:
            for _ in beside:
                pass
        if self._as_json:
            facts = {"prompt": question, **_facts(speech)}
            facts |= {} if beside is None else {"base": _facts(beside)}
            self._print(json.dumps(facts, ensure_ascii=False) + "\n")
        elif beside is None:
            self._print("\n")
        else:
            for name, made in zip(self._names, (speech, beside), strict=True):
                self._print(f"{name}: {made.text if made.text.strip() else NOTHING}\n")

    def note(self, text: str) -> None:
        """Say something that is no answer."""
        self._tell(text)

    @staticmethod
    def _print(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class TerminalScreen(Screen):
    """Show answers word by word; two beside each other where there is room for it."""

    is_terminal = True

    def __init__(self, console: Console, names: tuple[str, str]) -> None:
        """Take the terminal, and the names of model and base."""
        self._console, self._names = console, names

    def answer(self, question: str, speech: Speech, beside: Speech | None) -> None:
        """Show the answer, and that of the base in a second column or below."""
        if beside is not None and self._console.width >= _TWO_COLUMNS:
            self._show_columns(speech, beside)
        else:
            for name, made in zip(self._names, (speech, beside), strict=True):
                if made is None:
                    continue
                if beside is not None:
                    self._console.print(name, style="bold", highlight=False, markup=False)
                self._show_words(made)
        self._console.print()

    def note(self, text: str) -> None:
        """Say something that is no answer."""
        self._console.print(text, style="dim", highlight=False, markup=False, end="\n\n")

    def _show_words(self, speech: Speech) -> None:
        words = WordWrap(self._console.width)
        try:
            for text in speech:
                self._write(words.add(printable(text)))
        finally:
            self._write(words.rest() + ("" if speech.text.strip() else NOTHING) + "\n")

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()

    def _show_columns(self, speech: Speech, beside: Speech) -> None:
        # Live draws over what it drew, so it shows as many last lines as the screen has; the whole
        # is printed once it stands
        height = max(self._console.height - 4, 1)
        sides = (speech, beside)
        try:
            with Live(console=self._console, transient=True, auto_refresh=False) as live:
                for _ in _in_turn(*sides):
                    live.update(self._columns(sides, last=height), refresh=True)
        finally:
            self._console.print(self._columns(sides))

    def _columns(self, sides: tuple[Speech, Speech], *, last: int | None = None) -> Table:
        """Lay two texts beside each other; of long ones only the last lines, if that is asked."""
        width = (self._console.width - _GAP) // 2
        table = Table.grid(padding=(0, _GAP, 0, 0))
        table.add_column(width=width)
        table.add_column(width=width)
        table.add_row(*(Text(name, style="bold", no_wrap=True) for name in self._names))
        texts = []
        for made in sides:
            lines = Text(printable(made.text) if last or made.text.strip() else NOTHING).wrap(
                self._console, width
            )
            shown = lines if last is None else lines[-last:]
            texts.append(Text("\n").join(shown))
        table.add_row(*texts)
        return table


class WordWrap:
    r"""Break lines between words while the text is still coming.

    Example:
        >>> words = WordWrap(12)
        >>> [words.add(part) for part in ("The capi", "tal of ", "France")], words.rest()
        (['The ', 'capital \nof ', ''], 'France')
    """

    def __init__(self, width: int) -> None:
        """Take the width of a line in cells."""
        self._width, self._column, self._held = width, 0, ""

    def add(self, text: str) -> str:
        """Take more of the text and give what can be shown of it: all but an unfinished word."""
        self._held += text
        shown = ""
        while self._held:
            at = next((n for n, sign in enumerate(self._held) if sign.isspace()), None)
            if at is None and cell_len(self._held) < self._width:
                break
            at = len(self._held) if at is None else at
            shown += self._place(self._held[:at]) + self._space(self._held[at : at + 1])
            self._held = self._held[at + 1 :]
        return shown

    def rest(self) -> str:
        """Give the word at the end."""
        held, self._held = self._held, ""
        return self._place(held)

    def _place(self, word: str) -> str:
        width = cell_len(word)
        breaks = self._column > 0 and self._column + width > self._width
        self._column = (0 if breaks else self._column) + width
        return ("\n" if breaks else "") + word

    def _space(self, sign: str) -> str:
        if sign == "\n":
            self._column = 0
            return sign
        if sign and self._column >= self._width:
            return ""  # the line breaks here anyway
        self._column += len(sign)
        return sign


def converse(chat: Chat, *, base: Voice | None, read: ReadLine, screen: Screen) -> bool:
    """Read lines and answer them until there are no more, or one says to leave.

    Args:
        chat: the conversation.
        base: answers the same questions, each by itself and as bare text; None for nobody.
        read: gives the next line; None at the end.
        screen: shows answers and notes.

    Returns:
        Whether everything that was asked could be done.
    """
    went_well, was_interrupted = True, False
    while True:
        try:
            line = read()
        except KeyboardInterrupt:
            if not screen.is_terminal:
                raise
            if was_interrupted:
                return went_well
            was_interrupted = True
            screen.note("Ctrl-C once more leaves, as does Ctrl-D; /save FILE keeps what was said")
            continue
        was_interrupted = False
        if line is None:
            return went_well
        try:
            if line.strip() and not _respond(chat, line.strip(), base=base, screen=screen):
                return went_well
        except BiddableError as error:
            went_well = False
            screen.note(str(error))


def _respond(chat: Chat, line: str, *, base: Voice | None, screen: Screen) -> bool:
    """Answer a line, or do what it says; tell whether to go on."""
    if not is_command(line):
        _answer(chat, as_message(line), base=base, screen=screen)
        return True
    done = obey(chat, line)
    if done.then == "retry":
        _answer(chat, None, base=base, screen=screen)
    elif done.said:
        screen.note(done.said)
    return done.then != "leave"


def _answer(chat: Chat, question: str | None, *, base: Voice | None, screen: Screen) -> None:
    """Ask, or ask again, and show what comes."""
    forgotten = chat.num_forgotten
    is_again = question is None and chat.turns
    if is_again and chat.turns[-1].is_whole and not chat.sampling.temperature:
        screen.note("temperature is 0, so the answer is the same one: /set temperature 0.7")
    asking = chat.retry() if question is None else chat.ask(question)
    asked = chat.last_question if question is None else question
    try:
        with asking as speech:
            if chat.num_forgotten > forgotten:
                screen.note(_forgetting(chat))
            beside = None
            if base is not None:
                prompt = base.prompt([Message("user", asked)])
                beside = base.answer(prompt, chat.sampling)
            screen.answer(asked, speech, beside)
    except KeyboardInterrupt:
        if not screen.is_terminal:
            raise
        screen.note("stopped; what is written stays in the conversation, /retry asks again")
        return
    if not speech.stopped:
        num = counted(len(speech.ids), "token")
        advice = "/set max_new_tokens allows more" if screen.is_terminal else "--max-new-tokens"
        screen.note(f"cut after {num}: the model did not stop by itself ({advice})")


def _forgetting(chat: Chat) -> str:
    turns = "turn no longer fits" if chat.num_forgotten == 1 else "turns no longer fit"
    return f"the first {chat.num_forgotten} {turns} what the model can read; it answers without"


def _in_turn(*sides: Speech) -> Iterator[None]:
    """Let each side write one token after the other until all are done."""
    running = [iter(side) for side in sides]
    while running:
        for tokens in list(running):
            if next(tokens, None) is None:
                running.remove(tokens)
            yield


def _facts(speech: Speech) -> dict[str, object]:
    return {
        "text": speech.text,
        "num_tokens": len(speech.ids),
        "stopped": speech.stopped,
    }


def printable(text: str) -> str:
    r"""Take out what would steer a terminal rather than be read in it.

    Example:
        >>> printable("a\x1b[31mb\tc\n")
        'a[31mb\tc\n'
    """
    return _CONTROLS.sub("", text)


def lines_of(stream: TextIO) -> ReadLine:
    """Read lines from a file or a pipe."""

    def read() -> str | None:
        try:
            line = stream.readline()
        except UnicodeDecodeError as error:
            raise DataError(f"the input is not UTF-8: {error}.") from error
        return line or None

    return read


@contextmanager
def typed_lines() -> Iterator[ReadLine]:
    """Read lines as they are typed, with what was typed before at the arrow keys.

    A line that ends with a backslash goes on in the next one.
    """
    try:
        import readline
    except ImportError:  # Windows, whose console has a history of its own
        yield _type_line
        return
    kept = cache_root() / "chat_history"
    with suppress(OSError):
        readline.read_history_file(kept)
    names = [name.split()[0] for name in COMMANDS]
    readline.set_completer_delims("")
    readline.set_completer(
        lambda text, n: ([x for x in names if text and x.startswith(text)] + [None] * (n + 1))[n]
    )
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(_HISTORY)
    try:
        yield _type_line
    finally:
        with suppress(OSError):
            _make_private(kept)
            readline.write_history_file(kept)


def _type_line() -> str | None:
    try:
        line = input("> ")
        while line.endswith("\\"):
            line = line[:-1] + "\n" + input(". ")
    except (EOFError, KeyboardInterrupt) as end:
        sys.stdout.write("\n")
        if isinstance(end, KeyboardInterrupt):
            raise
        return None
    return line


def _make_private(path: Path) -> None:
    """Make a file that only its owner reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
