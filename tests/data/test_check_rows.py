"""Hold what each look at a single row finds, and what it leaves alone."""

from __future__ import annotations

import pytest

from biddable.data.check_rows import COMMON_CONTROLS, look_at_rows
from biddable.data.conversation import Conversation, Message

LONG = (
    "The mill stands by the river. It was built of grey stone. The wheel is still turned by the"
    " water today. Visitors come in the summer to see how flour was made, and they"
)


def row(answer: str, prompt: str = "What is it?", *, category: str | None = None) -> Conversation:
    messages = (Message("user", prompt), Message("assistant", answer))
    return Conversation(messages, "rows.jsonl", 7, category)


def talk(*turns: Message) -> Conversation:
    return Conversation(turns, "rows.jsonl", 7)


def codes(conversation: Conversation) -> list[str]:
    [problems] = look_at_rows([conversation])
    assert {(problem.path, problem.line) for problem in problems} <= {("rows.jsonl", 7)}
    return [problem.code for problem in problems]


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("empty-text", ""),
        ("empty-text", " \n\t"),
        ("empty-text", "\u200b \ufeff"),
        ("control-character", "a\x00b"),
        ("control-character", "a \x1b[31mred\x1b[0m word"),
        ("control-character", "a\ufeffb"),
        ("replacement-character", "a na\ufffdve plan"),
        ("bad-unicode", "a smile \ud83d"),
        ("mojibake", "a cafÃ© in town"),
        ("mojibake", "it doesnâ€™t"),
        ("mojibake", "20 Â°C"),
        ("mojibake", "fine ðŸ˜€"),
        ("placeholder", "<nooutput>"),
        ("placeholder", "N/A"),
        ("placeholder", "TODO"),
        ("outer-whitespace", "Paris.\n"),
        ("boilerplate", "As an AI language model, I have no home."),
        ("boilerplate", "as an AI, I do not eat"),
        ("boilerplate", "Well, I am a large language model and have no taste."),
        ("boilerplate", "It was so as of my knowledge cutoff."),
        ("boilerplate", "I was trained by OpenAI."),
        ("refusal", "I'm sorry, but I can't help with that."),
        ("refusal", "Sorry, I cannot assist with this request."),
        ("refusal", "I cannot provide medical advice."),
        ("refusal", "Unfortunately, I am unable to answer that."),
        ("refusal", "I won’t help you do this.".replace("’", "'")),
        ("unfinished-answer", LONG),
        ("unfinished-answer", "The three colours are red, green,"),
        ("unfinished-answer", "It is the largest of all the lakes in the"),
        ("unfinished-answer", "Use this:\n```python\nprint(1)\n"),
        ("control-token", "It ends.<|im_end|> Then"),
        ("control-token", "[INST] Why? [/INST] So."),
        ("secret", "export AWS_KEY=AKIAQ4Z2M7RT8YB1XK3W"),
        ("email-address", "Write to ada.miller@postbox.org for more."),
        ("phone-number", "Call (415) 555-0132 now."),
    ],
)
def test_a_fault_is_named(code: str, answer: str) -> None:
    assert code in codes(row(answer))


@pytest.mark.parametrize(
    "answer",
    [
        "Paris.",
        "Paris",
        "42",
        "tab\there\nand a line\r\nmore.",
        "Família, maçã, São João, SÃO PAULO, MANHÃ”, thé\u00a0» et «\u00a0été\u00a0».",
        "你好，世界。 Привет, мир. 🙂",
        "None",
        "Not applicable here, as the law says.",
        "An AI is a program; a language model is one kind of it.",
        "As an artist, I paint.",
        "OpenAI was founded in 2015 and created by OpenAI's founders.",
        "I'm sorry to hear that you lost your cat. Be kind to yourself.",
        "You cannot help it; rain comes and goes.",
        "No, I can't see a reason to wait.",
        "- apples\n- pears\n- plums",
        "1. Wash the rice\n2. Boil the water\n3. Cook it for ten minutes with the lid on",
        "I. Introduction\nA. The mill. The river.\nB. The wheel in the life of the town. Work.\n"
        "C. Notes on the mill and on what the people of the valley made of it over the years",
        "Dear Ada,\nI hope you are well. We meet on Friday. Bring the map. I look forward to it,"
        " and so do all of the others in the club.\nSee you soon,",
        "Use ```print(1)``` or:\n```python\nprint(1)\n```",
        "def add(a, b):\n    return a + b",
        "See https://example.org/a_long_page_about_mills",
    ],
)
def test_a_sound_answer_is_left_alone(answer: str) -> None:
    assert codes(row(answer)) == []


def test_what_cannot_be_learned_is_an_error_and_the_rest_a_warning() -> None:
    [[empty], [broken], [long]] = look_at_rows([row(" "), row("a \ud83d."), row("a cafÃ©.")])
    assert [p.severity for p in (empty, broken, long)] == ["error", "error", "warning"]
    assert str(empty) == "rows.jsonl:7: the answer is empty; fill it in, or delete the row."


def test_a_refusal_that_its_category_asks_for_is_left_alone() -> None:
    refusal = "I'm sorry, but I can't help with that."
    assert codes(row(refusal, category="safety")) == []
    assert codes(row(refusal, category="math")) == ["refusal"]


def test_prompts_may_speak_and_end_as_they_like() -> None:
    assert codes(row("Fine.", "As an AI language model, finish this: the")) == []


def test_what_is_not_learned_is_not_held_to_be_an_answer() -> None:
    shown = Message("assistant", "As an AI language model, I wait.", learn=False)
    asked = Message("user", "And?")
    assert codes(talk(asked, shown, asked, Message("assistant", "Done."))) == []


def test_nothing_learned_is_an_error() -> None:
    shown = Message("assistant", "Fine.", learn=False)
    assert codes(talk(Message("user", "How are you?"), shown)) == ["nothing-learned"]
    assert codes(Conversation((), "rows.jsonl", 7, text="Some plain text.")) == []


def test_plain_text_is_looked_at_too() -> None:
    assert codes(Conversation((), "rows.jsonl", 7, text="a\x00b")) == ["control-character"]


USER, ANSWER = Message("user", "Go."), Message("assistant", "Gone.")
CALL = Message("assistant", "", extra={"tool_calls": [{"id": "a1", "function": {}}]})


def result(of: str | None = None) -> Message:
    return Message("tool", "21", extra={} if of is None else {"tool_call_id": of})


@pytest.mark.parametrize(
    ("found", "turns"),
    [
        (["system-not-first"], (USER, Message("system", "Be brief."), ANSWER)),
        (["role-order"], (USER, USER, ANSWER)),
        (["role-order"], (USER, ANSWER, ANSWER)),
        (["role-order"], (ANSWER, USER, ANSWER)),
        (["tool-without-call"], (USER, result(), ANSWER)),
        (["tool-without-call"], (USER, ANSWER, result(), ANSWER)),
        (["tool-without-call"], (USER, CALL, result("b2"), ANSWER)),
        ([], (Message("system", "Be brief."), USER, ANSWER, USER, ANSWER)),
        ([], (USER, CALL, result("a1"), ANSWER)),
        ([], (USER, CALL, result(), result(), ANSWER)),
        ([], (USER, Message("assistant", '{"name": "weather"}'), result(), ANSWER)),
    ],
)
def test_the_order_of_roles(found: list[str], turns: tuple[Message, ...]) -> None:
    assert codes(talk(*turns)) == found


@pytest.mark.parametrize(
    ("found", "function"),
    [
        ([], {"name": "get", "arguments": '{"at": 1}'}),
        ([], {"name": "get", "arguments": {"at": 1}}),
        (["bad-call"], {"name": "get", "arguments": "{bad json"}),
        (["bad-call"], {"name": "get", "arguments": "[1]"}),
        (["bad-call"], {"name": "nosuch", "arguments": "{}"}),
    ],
)
def test_calls_can_be_made(found: list[str], function: dict[str, object]) -> None:
    call = Message("assistant", "", extra={"tool_calls": [{"id": "a1", "function": function}]})
    turns = (USER, call, result("a1"), ANSWER)
    tools = ({"type": "function", "function": {"name": "get", "parameters": {}}},)
    assert codes(Conversation(turns, "rows.jsonl", 7, tools=tools)) == found


def test_a_message_of_a_long_talk_is_named_by_its_number() -> None:
    [[problem]] = look_at_rows([talk(USER, ANSWER, USER, Message("assistant", "TODO"))])
    assert problem.message_index == 4
    assert problem.message.startswith('message 4 (assistant) is "TODO"')


def test_controls_are_those_that_are_given() -> None:
    [[problem]] = look_at_rows([row("a <eos> and <eos> b.")], controls=["<eos>"])
    assert "spells 2 control marks (<eos>)" in problem.message
    assert look_at_rows([row("a <eos> b.")], controls=COMMON_CONTROLS) == [[]]
    assert look_at_rows([row("a <eos> b.")], controls=()) == [[]]
