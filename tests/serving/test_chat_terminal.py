"""Hold what a line does in a conversation, and how answers are shown."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from biddable.errors import BiddableError, DataError
from biddable.serving.chat import Chat, Speech
from biddable.serving.chat_commands import COMMANDS, obey
from biddable.serving.chat_terminal import (
    PipeScreen,
    Screen,
    TerminalScreen,
    WordWrap,
    converse,
    lines_of,
    printable,
)
from biddable.serving.streaming import Sampling
from tests.serving.speakers import BROKEN_OFF, ENDLESS, Scripted


class Shown(Screen):
    """Keep what is shown."""

    def __init__(self, *, is_terminal: bool = True) -> None:
        self.is_terminal, self.said = is_terminal, []

    def answer(self, question: str, speech: Speech, beside: Speech | None) -> None:
        self.said.append(["".join(speech), *(["".join(beside)] if beside else [])])

    def note(self, text: str) -> None:
        self.said.append(text)


def typing(*lines: str) -> Callable[[], str | None]:
    left = list(lines)

    def read() -> str | None:
        line = left.pop(0) if left else None
        if line == BROKEN_OFF:
            raise KeyboardInterrupt
        return line

    return read


def terminal(width: int) -> tuple[TerminalScreen, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=12, force_terminal=False)
    return TerminalScreen(console, ("run", "base")), out


def test_lines_are_questions_and_commands() -> None:
    voice = Scripted("One.", "Two.", "Three.")
    chat, shown = Chat(voice), Shown()
    lines = ("First?", "", "/system Be brief.", "//etc?", "/reset", "Third?", "/quit", "never")
    assert converse(chat, base=None, read=typing(*lines), screen=shown)
    assert shown.said == [
        ["One."],
        "system prompt: Be brief.",
        ["Two."],
        "a new conversation",
        ["Three."],
    ]
    assert "[INST] /etc? [/INST]" in voice.seen()[1]
    assert voice.seen()[2] == "<|endoftext|>[INST] Be brief.\n\nThird? [/INST]"


def test_ctrl_c_stops_an_answer_and_keeps_the_conversation() -> None:
    chat, shown = Chat(Scripted("One and" + BROKEN_OFF, "Two.")), Shown()
    converse(chat, base=None, read=typing("First?", BROKEN_OFF, "Second?"), screen=shown)
    assert shown.said[0].startswith("stopped; what is written stays")
    assert shown.said[1].startswith("Ctrl-C once more leaves")
    assert shown.said[2:] == [["Two."]]
    assert [turn.answer for turn in chat.turns] == ["One and", "Two."]


def test_a_second_ctrl_c_at_the_prompt_leaves() -> None:
    chat, shown = Chat(Scripted()), Shown()
    converse(chat, base=None, read=typing(BROKEN_OFF, BROKEN_OFF, "never"), screen=shown)
    assert len(shown.said) == 1


def test_ctrl_c_ends_a_pipe() -> None:
    for lines, answers in (((BROKEN_OFF,), ()), (("First?",), ("One" + BROKEN_OFF,))):
        shown = Shown(is_terminal=False)
        with pytest.raises(KeyboardInterrupt):
            converse(Chat(Scripted(*answers)), base=None, read=typing(*lines), screen=shown)


def test_what_goes_wrong_is_said_and_the_conversation_goes_on() -> None:
    chat, shown = Chat(Scripted("One.", "Two" + ENDLESS)), Shown()
    lines = ("/rety", "First?", "?" * 300, "Second?")
    assert not converse(chat, base=None, read=typing(*lines), screen=shown)
    assert 'no command "/rety"' in shown.said[0]
    assert shown.said[0].endswith('Did you mean "/retry"?')
    assert shown.said[1] == ["One."]
    assert "the question has 311 tokens" in shown.said[2]
    assert shown.said[4].startswith("cut after")
    assert len(chat.turns) == 2


def test_what_is_forgotten_is_said() -> None:
    chat, shown = Chat(Scripted(*["It is." for _ in range(6)])), Shown()
    lines = [f"What is the number of {n}, please?" for n in range(6)]
    converse(chat, base=None, read=typing(*lines), screen=shown)
    assert "the first 1 turn no longer fits what the model can read; it answers without" in (
        shown.said
    )


def test_the_base_is_asked_the_bare_line_beside() -> None:
    base = Scripted(" a", " b", template=None)
    chat, shown = Chat(Scripted("One.", "Two.")), Shown()
    converse(chat, base=base, read=typing("First?", "/retry"), screen=shown)
    assert shown.said == [
        ["One.", " a"],
        "temperature is 0, so the answer is the same one: /set temperature 0.7",
        ["Two.", " b"],
    ]
    assert base.seen() == ["<|endoftext|>First?"] * 2


def test_a_pipe_gets_answers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    screen = PipeScreen(("run", "base"), tell=told.append)
    chat = Chat(Scripted("One\nline.", "\x1b[0mé"))
    read = lines_of(io.StringIO("First?\n\n/set seed 3\nSecond?"))
    converse(chat, base=None, read=read, screen=screen)
    assert capsys.readouterr().out == "One\nline.\n\x1b[0mé\n"
    assert told == ["seed 3"]


def test_a_pipe_with_a_base_or_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        screen = PipeScreen(("run", "base"), tell=print, as_json=as_json)
        base = Scripted(" a", template=None)
        converse(Chat(Scripted("One.")), base=base, read=typing("First?"), screen=screen)
    plain, _, rest = capsys.readouterr().out.partition("{")
    assert plain == "run: One.\nbase:  a\n"
    found = json.loads("{" + rest)
    assert (found["prompt"], found["text"], found["stopped"]) == ("First?", "One.", True)
    assert found["base"]["text"] == " a"


def test_an_empty_answer_in_a_pipe_is_an_empty_line_and_beside_a_base_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = PipeScreen(("run", "base"), tell=print)
    converse(Chat(Scripted("")), base=None, read=typing("First?"), screen=screen)
    assert capsys.readouterr().out == "\n"
    base = Scripted(" a", template=None)
    converse(Chat(Scripted(" ")), base=base, read=typing("First?"), screen=screen)
    assert capsys.readouterr().out == "run: (nothing)\nbase:  a\n"


def test_input_that_is_no_utf8_is_named() -> None:
    read = lines_of(io.TextIOWrapper(io.BytesIO(b"a\n\xff\xfe\n"), encoding="utf-8"))
    with pytest.raises(DataError, match="the input is not UTF-8"):
        read()


def test_a_wide_terminal_shows_both_beside_each_other() -> None:
    screen, out = terminal(100)
    base = Scripted(" Who is it? " * 9, template=None)
    converse(Chat(Scripted("It is \x1b[31mParis.")), base=base, read=typing("Q?"), screen=screen)
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["run", "base"]
    assert lines[1].startswith("It is [31mParis.")
    assert lines[1][50:].split()[:3] == ["Who", "is", "it?"]
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("width", [100, 40])
def test_an_empty_answer_is_said_to_be_one(width: int) -> None:
    screen, out = terminal(width)
    base = Scripted("", template=None)
    converse(Chat(Scripted("Paris.")), base=base, read=typing("Q?"), screen=screen)
    assert out.getvalue().count("(nothing)") == 1


def test_saving_says_what_is_left_out() -> None:
    chat = Chat(Scripted("One.", "Two and" + BROKEN_OFF))
    screen = Shown()
    asked = typing("First?", "Second?", "/save talks.jsonl")
    converse(chat, base=None, read=asked, screen=screen)
    assert "1 turn is left out: no answer, or a stopped one" in screen.said[-1]
    chat = Chat(Scripted("One.", "Two."))  # an answer that is context of another row is in both
    asked = typing("First?", "/system Be kind.", "Second?", "/save more.jsonl")
    converse(chat, base=None, read=asked, screen=screen)
    assert screen.said[-1].startswith("more.jsonl: 2 rows of this conversation")
    assert "left out" not in screen.said[-1]
    assert "Second?" not in Path("talks.jsonl").read_text()


def test_a_narrow_one_shows_one_under_the_other() -> None:
    screen, out = terminal(40)
    base = Scripted(" Who is it?" * 9, template=None)
    converse(Chat(Scripted("It is \x1b[31mPa ris.")), base=base, read=typing("Q?"), screen=screen)
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["run", "It is [31mPa ris.", "base"]
    assert len(lines) > 5
    assert all(len(line.rstrip()) <= 40 for line in lines)


@given(st.lists(st.sampled_from(["one ", "two\n", " ", "three", "日本語", "x" * 30]), max_size=30))
def test_lines_break_between_words_and_nothing_is_lost(parts: list[str]) -> None:
    words = WordWrap(12)
    shown = "".join(map(words.add, parts)) + words.rest()
    assert "".join(shown.split()) == "".join("".join(parts).split())
    for line in shown.split("\n"):
        assert cell_len(line) <= 12 or " " not in line.strip() or max(map(cell_len, parts)) > 12


def test_what_steers_a_terminal_is_not_shown() -> None:
    assert printable("a\x1b]0;title\x07b\r\n\tc\x9b2J") == "a]0;titleb\n\tc2J"


@pytest.mark.parametrize(
    ("line", "sampling"),
    [
        ("/set temperature 0.7", Sampling(temperature=0.7)),
        ("/set top_p=0.5", Sampling(top_p=0.5)),
        ("/set max_new_tokens 9", Sampling(max_new_tokens=9)),
        ("/set seed 9", Sampling(seed=9)),
        ("/set", Sampling()),
    ],
)
def test_settings_are_set(line: str, sampling: Sampling) -> None:
    chat = Chat(Scripted())
    assert obey(chat, line).said
    assert chat.sampling == sampling


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set temperature warm", 'temperature: found "warm"; expected a number from 0'),
        ("/set temperature nan", 'temperature: found "nan"'),
        ("/set temperature inf", 'temperature: found "inf"'),
        ("/set top_p 2", 'top_p: found "2"; expected a number from 0.01 to 1'),
        ("/set seed 1.5", 'seed: found "1.5"; expected a whole number from 0'),
        ("/set max_new_tokens 0", "expected a whole number from 1"),
        ("/set temprature 1", 'no setting "temprature"; .*Did you mean "temperature"'),
        ("/save", "name a file"),
        ("/save nowhere.txt", "no answer has ended by itself"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(line: str, message: str) -> None:
    chat = Chat(Scripted())
    with pytest.raises(BiddableError, match=message):
        obey(chat, line)
    assert chat.sampling == Sampling()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_command_and_every_command_is_done(command: str) -> None:
    chat = Chat(Scripted("One."))
    assert command in obey(chat, "/help").said
    with chat.ask("First?") as speech:
        list(speech)
    obey(chat, command.split()[0] + (" talks.jsonl" if "FILE" in command else ""))
    assert Path("talks.jsonl").is_file() == ("FILE" in command)
