"""Hold what a conversation sends, keeps, forgets and saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biddable import read_conversations
from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.templates import get_template
from biddable.errors import DataError, TemplateError
from biddable.evaluation.asking import Asking
from biddable.evaluation.local_model import _prepare
from biddable.evaluation.sample import Sample
from biddable.models.loading import LoadedModel
from biddable.serving.chat import Chat, Speech, base_of
from biddable.serving.streaming import Sampling
from tests.serving.speakers import BROKEN_OFF, ENDLESS, Scripted
from tests.tiny import tiny_model, tiny_tokenizer


def ask(chat: Chat, *questions: str) -> None:
    for question in questions:
        with chat.ask(question) as speech:
            assert "".join(speech) == speech.text


def _fail_after(speech: Speech) -> None:
    list(speech)
    raise DataError("the base failed")


@pytest.mark.parametrize("template", ["inst", "alpaca", "chatml"])
def test_ids_sent_are_those_of_evaluation(template: str) -> None:
    voice = Scripted(
        "It is <|endoftext|> Paris.", "Ça va: [/INST] 日本.", "Bye.", template=template
    )
    voice.longest = 1_000  # so that nothing is forgotten
    chat = Chat(voice)
    chat.set_system("Be brief.")
    questions = ["What is [INST] it?", "Et <|im_end|> là ?", "### Response: bye"]
    ask(chat, *questions)
    messages = [Message("system", "Be brief.")]
    for question, turn in zip(questions, chat.turns, strict=True):
        messages.append(Message("user", question))
        sample = Sample("1", question, "x", "any", tuple(messages))
        loaded = LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "tiny", template)
        asking = Asking("template", template, max_new_tokens=9)
        assert voice.prompts.pop(0) == _prepare(loaded, [sample], asking).prompts[0]
        messages.append(Message("assistant", turn.answer))


def test_history_is_sent_and_reset_forgets_it() -> None:
    voice = Scripted("One.", "Two.", "Three.")
    chat = Chat(voice)
    ask(chat, "First?", "Second?")
    chat.reset()
    ask(chat, "Third?")
    assert voice.seen()[1:] == [
        "<|endoftext|>[INST] First? [/INST] One.<|endoftext|>[INST] Second? [/INST]",
        "<|endoftext|>[INST] Third? [/INST]",
    ]


def test_a_base_is_given_each_line_by_itself() -> None:
    voice = Scripted(" and", " so", template=None)
    chat = Chat(voice)
    ask(chat, "First", "Second")
    assert voice.seen() == ["<|endoftext|>First", "<|endoftext|>Second"]
    with pytest.raises(DataError, match="bare text, where a system prompt has no place"):
        chat.set_system("Be brief.")


def test_retry_asks_the_last_question_again_with_another_seed() -> None:
    voice = Scripted("One.", "Two.", "Three.")
    chat = Chat(voice, sampling=Sampling(temperature=1.0, seed=5))
    with pytest.raises(DataError, match="nothing was asked yet"), chat.retry():
        pass
    ask(chat, "First?")
    for _ in range(2):
        with chat.retry() as speech:
            list(speech)
    assert [turn.answer for turn in chat.turns] == ["Three."]
    assert voice.prompts[0] == voice.prompts[1] == voice.prompts[2]
    assert [sampling.seed for sampling in voice.samplings] == [5, 6, 7]


def test_an_answer_that_is_stopped_stays_as_far_as_it_came() -> None:
    voice = Scripted("One and" + BROKEN_OFF, "Two.", BROKEN_OFF)
    chat = Chat(voice)
    with pytest.raises(KeyboardInterrupt), chat.ask("First?") as speech:
        list(speech)
    ask(chat, "Second?")
    assert [(turn.answer, turn.is_whole) for turn in chat.turns] == [
        ("One and", False),
        ("Two.", True),
    ]
    assert "[INST] First? [/INST] One and<|endoftext|>[INST] Second?" in voice.seen()[1]


def test_what_was_stopped_before_its_first_word_is_asked_again() -> None:
    voice = Scripted("One.", BROKEN_OFF, "Two.")
    chat = Chat(voice)
    ask(chat, "First?")
    with pytest.raises(KeyboardInterrupt), chat.ask("Second?") as speech:
        list(speech)
    assert (len(chat.turns), chat.last_question) == (1, "Second?")
    with chat.retry() as speech:
        list(speech)
    assert [(turn.question, turn.answer) for turn in chat.turns] == [
        ("First?", "One."),
        ("Second?", "Two."),
    ]


def test_answers_are_saved_under_the_system_prompt_that_they_were_given_under() -> None:
    voice = Scripted("One.", "Two.", "Three.")
    chat = Chat(voice)
    ask(chat, "First?")
    chat.set_system("Be brief.")
    ask(chat, "Second?", "Third?")
    assert chat.save(Path("talks.jsonl")) == 2
    plain, brief = read_conversations("talks.jsonl")
    assert [m.content for m in plain.messages] == ["First?", "One."]
    assert [m.content for m in brief.messages[:3]] == ["Be brief.", "First?", "One."]
    assert [m.learn for m in brief.messages if m.role == "assistant"] == [False, True, True]
    template = get_template("inst", voice.tokenizer)
    assert encode_prompt(brief.messages[:-1], template, voice.tokenizer) == voice.prompts[2]


def test_an_error_leaves_the_conversation_as_it_was() -> None:
    chat = Chat(Scripted("One.", "Two.", "Three."))
    ask(chat, "First?")
    before = list(chat.turns)
    for asking in (chat.ask("Second?"), chat.retry()):
        with pytest.raises(DataError), asking as speech:
            _fail_after(speech)
        assert chat.turns == before


def test_the_first_turns_are_left_out_once_the_model_is_full() -> None:
    voice = Scripted(*["It is." for _ in range(9)])  # reads 256, half of it for the answer
    chat = Chat(voice)
    ask(chat, *[f"What is the number of {n}, please?" for n in range(9)])
    assert 0 < chat.num_forgotten < 8
    assert all(len(prompt) <= 128 for prompt in voice.prompts)
    seen = voice.seen()[-1]
    assert f"of {chat.num_forgotten - 1}, please" not in seen
    assert f"of {chat.num_forgotten}, please" in seen
    assert len(chat.turns) == 9


def test_or_the_next_question_is_refused() -> None:
    chat = Chat(Scripted(*["It is." for _ in range(9)]), when_full="refuse")
    with pytest.raises(DataError, match=r"the conversation has .* the model reads 256, its answer"):
        ask(chat, *[f"What is the number of {n}, please?" for n in range(9)])
    assert 0 < len(chat.turns) < 9
    assert chat.num_forgotten == 0


def test_a_question_that_never_fits_is_refused_and_one_that_just_does_is_asked() -> None:
    chat = Chat(Scripted("It is.", "It is."))
    ask(chat, "?" * 200)
    with pytest.raises(DataError, match=r"the question has 311 tokens as it is sent; .*: shorten"):
        ask(chat, "?" * 300)
    assert len(chat.turns) == 1


def test_a_template_without_a_place_for_it_refuses_a_system_prompt() -> None:
    voice = Scripted()
    picky = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}"
    picky += "{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}"
    Path("picky.jinja").write_text(picky)
    voice.writer.template = get_template("./picky.jinja", voice.tokenizer)
    chat = Chat(voice)
    with pytest.raises(TemplateError, match="none"):
        chat.set_system("Be brief.")
    assert chat.system == ""


def test_saved_rows_are_the_conversation_and_are_learned_from() -> None:
    voice = Scripted("One.", "Two and" + ENDLESS, "Three, é.", "cut" + ENDLESS)
    chat = Chat(voice)
    chat.set_system("Be brief.")
    ask(chat, "First?", "Second?", "Third?", "Fourth?")
    assert chat.save(Path("talks.jsonl")) == 1
    (row,) = read_conversations("talks.jsonl")
    said = [(m.role, m.content, m.learn) for m in row.messages]
    assert said == [
        ("system", "Be brief.", True),
        ("user", "First?", True),
        ("assistant", "One.", True),
        ("user", "Second?", True),
        ("assistant", "Two and…", False),
        ("user", "Third?", True),
        ("assistant", "Three, é.", True),
    ]
    template = get_template("inst", voice.tokenizer)
    assert encode_prompt(row.messages[:-1], template, voice.tokenizer) == voice.prompts[2]


def test_saving_again_replaces_what_was_saved_of_this_conversation() -> None:
    path = Path("talks.jsonl")
    path.write_text('{"messages": []}')  # no newline at its end
    chat = Chat(Scripted("One.", "Two.", "Three."))
    ask(chat, "First?")
    chat.save(path)
    ask(chat, "Second?")
    chat.save(path)
    chat.reset()
    ask(chat, "Third?")
    chat.save(path)
    rows = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    assert [[m["content"] for m in row] for row in rows] == [
        [],
        ["First?", "One.", "Second?", "Two."],
        ["Third?", "Three."],
    ]


def test_what_was_forgotten_becomes_a_row_of_its_own() -> None:
    chat = Chat(Scripted("One.", "Two.", "Three."))
    ask(chat, "First?", "Second?", "Third?")
    chat.num_forgotten = 1
    assert chat.save(Path("talks.jsonl")) == 2
    rows = read_conversations("talks.jsonl")
    assert [[m.content for m in row.messages] for row in rows] == [
        ["First?", "One."],
        ["Second?", "Two.", "Third?", "Three."],
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", None, 'notes.txt: rows are saved as JSON lines; name the file "....jsonl"'),
        ("list.jsonl", "[1]\n", "its last line is no JSON object"),
        ("text.jsonl", "hello\n", "its last line is no JSON object"),
    ],
)
def test_no_row_is_added_to_a_file_of_something_else(
    name: str, content: str | None, message: str
) -> None:
    if content is not None:
        Path(name).write_text(content)
    chat = Chat(Scripted("One."))
    ask(chat, "First?")
    with pytest.raises(DataError, match=message):
        chat.save(Path(name))
    assert not Path(name).exists() or Path(name).read_text() == content


def test_nothing_is_saved_of_a_conversation_without_an_answer() -> None:
    chat = Chat(Scripted("cut" + ENDLESS, ""))
    ask(chat, "First?", "Second?")
    with pytest.raises(DataError, match="no answer has ended by itself yet"):
        chat.save(Path("talks.jsonl"))


def test_a_base_is_named_by_the_run_or_by_the_adapter() -> None:
    made = LoadedModel(tiny_model(), tiny_tokenizer(), "run", "nowhere")
    assert base_of(made) is None
    adapter = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "base_model_name_or_path": "org/base"}
    Path("adapter_config.json").write_text(json.dumps(adapter))
    assert base_of(LoadedModel(made.model, made.tokenizer, "run", ".")) == "org/base"
    made.manifest = {"model": {"name": "mimic"}}
    assert base_of(made) == "mimic"
