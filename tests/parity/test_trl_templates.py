"""Hold what we learn from every text template that TRL ships against TRL's own training twins.

The table of docs/templates.md is made here: after a wanted change, rewrite it with
``UPDATE_GOLDEN=1 pytest tests/parity/test_trl_templates.py`` and review the diff.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import encode_all, encode_prompt
from biddable.data.jinja_template import JinjaTemplate
from biddable.data.templates import get_template
from biddable.errors import TemplateError
from tests.jinja_tokenizer import tokenizer_for
from tests.masks import assistant, learned_texts, system, user

pytestmark = pytest.mark.parity
trl = pytest.importorskip("trl")

FOLDER = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(p.stem for p in FOLDER.glob("*.jinja") if not p.stem.endswith("_training"))
PAGE = Path(__file__).parents[2] / "docs" / "templates.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

CALL: dict[str, Any] = {
    "id": "call00001",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2}},
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "description": "How long."},
            },
            "required": ["city"],
        },
    },
}


def thought(answer: str, reasoning: str) -> Message:
    return Message("assistant", answer, extra={"reasoning_content": reasoning})


def weather() -> list[Message]:
    return [
        user("What is the weather in Paris?"),
        Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "Sunny", extra={"name": "get_weather", "tool_call_id": "call00001"}),
        assistant("It is sunny."),
    ]


CASES: dict[str, Conversation] = {
    "one turn": Conversation((user("What is 2+2?"), assistant("It is 4."))),
    "several": Conversation((user("2+2?"), assistant("4"), user("3+3?"), assistant("6"))),
    "system": Conversation((system("Be brief."), user("Hi"), assistant("Hello."))),
    "tools": Conversation(tuple(weather()), tools=(TOOL,)),
    "thinking": Conversation(
        (
            user("2+2?"),
            thought("4", "Two and two."),
            user("3+3?"),
            thought("6", "Three twice."),
        )
    ),
}
# Why a row, or a whole template, is refused: a part of the message, and what the table says of it.
REFUSALS = {
    "asks for an answer with '<think>\\n' where it shows the answer as": (
        "its prompt opens reasoning that it leaves out where it shows the answer, so what follows"
        " the prompt in training could not be what follows it in generation"
    ),
    "closes it with '<|user|>', which opens the next turn": (
        "nothing of its own ends an answer: the next role's marker does, and is no part of it"
    ),
    "refuses the conversation: System role not supported": "it takes no system message",
    "leaves out the tool 'get_weather'": "it leaves out the tools",
    "leaves out the tool calls of message 2": "it leaves out the calls",
    "leaves out the reasoning of message 2": "it leaves out the reasoning",
}
# How the learned text may differ from what a twin marks, and why.
DIFFERENCES = {
    "prompt": "the twin also marks the last part of its own generation prompt, which is given",
    "end of text": "the twin also marks the end-of-text token that closes the whole conversation;"
    " the answer has ended before it",
    "history": "the twin marks an earlier answer as history shows it; we learn it as it is"
    " generated, in a row of its own",
    "stop of a call": "the twin leaves out the token that ends a call and waits for its result",
    "header": "the prompt after a tool's result lacks the header that stands before the answer, so"
    " the model has to write it",
}


@pytest.fixture(scope="module")
def table() -> list[tuple[str, ...]]:
    return [row_of(name) for name in NAMES]


def test_every_template_works_or_is_refused_with_a_known_reason(
    table: list[tuple[str, ...]],
) -> None:
    """Also holds the page: which template does what is pinned there."""
    assert len(table) >= 40
    text = written(table)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    if "UPDATE_GOLDEN" in os.environ:
        PAGE.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
        return
    if f"TRL {trl.__version__}:" not in page:
        pytest.skip("the table is of another version of TRL")
    assert f"{before}{BEGIN}{text}{END}{after}" == page


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_ids_before_an_answer_are_those_of_apply_chat_template(name: str, case: str) -> None:
    conversation = CASES[case]
    try:
        tokenizer, template = load(name)
        answers = learned_of(template, tokenizer, conversation)
    except TemplateError:
        return
    chat = template.renderer.chat(conversation.messages, conversation.tools)
    if template.renderer._has_parts:
        chat.messages[:] = [template.renderer._with_parts(m) for m in chat.messages]
    indices = [n for n, m in enumerate(conversation.messages) if m.role == "assistant"]
    for index, (prompt_ids, _) in zip(indices, answers, strict=True):
        given = encode_prompt(
            conversation.messages[: index + 1], template, tokenizer, tools=conversation.tools
        )
        assert prompt_ids == given
        options = (template._finder.options, {}, *template.renderer.options)
        public = [
            tokenizer.apply_chat_template(
                chat.messages[:index],
                tools=list(chat.tools) or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                **chosen,
            )
            for chosen in options
        ]
        assert given in public


def load(name: str) -> tuple[PreTrainedTokenizerBase, JinjaTemplate]:
    tokenizer = tokenizer_for((FOLDER / f"{name}.jinja").read_text(encoding="utf-8"))
    template = get_template("tokenizer", tokenizer)
    assert isinstance(template, JinjaTemplate)
    return tokenizer, template


def learned_of(
    template: JinjaTemplate, tokenizer: PreTrainedTokenizerBase, conversation: Conversation
) -> list[tuple[list[int], str]]:
    """Give the ids before each answer, and the answer as its learned ids read."""
    examples, _ = encode_all([conversation], template, tokenizer, max_seq_len=None)
    found = []
    for example in examples:
        mask = [False, *example.loss_mask]
        starts = [at for at, (a, b) in enumerate(pairwise(mask)) if b and not a]
        texts = learned_texts(example, tokenizer)
        found += [
            (example.input_ids[:start], text) for start, text in zip(starts, texts, strict=True)
        ]
    return found


def row_of(name: str) -> tuple[str, ...]:
    """Say of one template what became of each case, and how it differs from its twin."""
    try:
        tokenizer, template = load(name)
    except TemplateError as error:
        return (name, *[f"no: {reason_of(error)}"] * len(CASES), "")
    outcomes, differences = [], set()
    for conversation in CASES.values():
        try:
            examples, _ = encode_all([conversation], template, tokenizer, max_seq_len=None)
        except TemplateError as error:
            outcomes.append(f"no: {reason_of(error)}")
            continue
        outcomes.append("each" if len(examples) > 1 else "yes")
        differences |= differences_of(name, template, tokenizer, conversation)
    has_twin = twin_source(name, template) is not None
    return (name, *outcomes, ", ".join(sorted(differences)) or ("same" if has_twin else ""))


def reason_of(error: TemplateError) -> str:
    (reason,) = (why for part, why in REFUSALS.items() if part in str(error))
    return reason


def twin_source(name: str, template: JinjaTemplate) -> str | None:
    if "generation -%}" in template.definition or "generation %}" in template.definition:
        return template.definition
    path = FOLDER / f"{name}_training.jinja"
    return path.read_text(encoding="utf-8") if path.exists() else None


def differences_of(
    name: str,
    template: JinjaTemplate,
    tokenizer: PreTrainedTokenizerBase,
    conversation: Conversation,
) -> set[str]:
    source = twin_source(name, template)
    if source is None:
        return set()
    ours = learned_of(template, tokenizer, conversation)
    theirs = marked_by(source, template, tokenizer, conversation)
    assert len(ours) == len(theirs), (name, ours, theirs)
    found = set()
    for (prompt_ids, learned), twin in zip(ours, theirs, strict=True):
        if twin.rstrip() != learned:
            found.add(kind_of(tokenizer.decode(prompt_ids), learned, twin.rstrip()))
    return found


def marked_by(
    source: str,
    template: JinjaTemplate,
    tokenizer: PreTrainedTokenizerBase,
    conversation: Conversation,
) -> list[str]:
    """Give what a twin marks, the parts that touch each other joined."""
    chat = template.renderer.chat(conversation.messages, conversation.tools)
    messages = list(chat.messages)
    if template.renderer._has_parts:
        messages = [template.renderer._with_parts(message) for message in messages]
    (text,), (spans,) = render_jinja_template(
        [messages],
        tools=list(chat.tools) or None,
        chat_template=source,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    joined: list[list[int]] = []
    for start, end in spans:
        if joined and start == joined[-1][1]:
            joined[-1][1] = end
        elif end > start:
            joined.append([start, end])
    return [text[start:end] for start, end in joined]


def kind_of(prompt: str, learned: str, twin: str) -> str:
    """Name the difference between two texts that are not the same; it must be a known one."""
    if twin.endswith(learned) and prompt.endswith(twin.removesuffix(learned)):
        return "prompt"
    if twin.startswith(learned) and twin.removeprefix(learned).strip() == "<|endoftext|>":
        return "end of text"
    if learned == f"{twin}<|tool_response>":
        return "stop of a call"
    if learned == f"<|turn>model\n{twin}":
        return "header"
    # As history has it: without the reasoning, or with another end.
    answer = learned.rpartition("</think>")[2].rpartition("<channel|>")[2]
    assert answer.rpartition("<|return|>")[0].rpartition("<|message|>")[2] in twin
    assert learned not in twin
    return "history"


def written(rows: list[tuple[str, ...]]) -> str:
    notes: dict[str, str] = {}
    lines = [
        f"TRL {trl.__version__}:",
        "",
        "| template | " + " | ".join(CASES) + " | beside its twin |",
        "|---" * (len(CASES) + 2) + "|",
    ]
    for name, *outcomes, beside in rows:
        cells = [
            f"no ({notes.setdefault(outcome[4:], chr(ord('a') + len(notes)))})"
            if outcome.startswith("no: ")
            else outcome
            for outcome in outcomes
        ]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {beside} |")
    lines += ["", *(f"- ({letter}) {why}." for why, letter in notes.items()), ""]
    used = {kind for *_, beside in rows for kind in beside.split(", ")}
    lines += [f"- *{kind}*: {why}." for kind, why in DIFFERENCES.items() if kind in used]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_a_row_ends_or_opens_a_turn(name: str, case: str) -> None:
    """Every control token, spelled in every place of a row, is text: also in tools and calls."""
    try:
        tokenizer, template = load(name)
        harmless, _ = encode_all([saying("x", case)], template, tokenizer, max_seq_len=None)
    except TemplateError:
        return
    controls = sorted(template.control_tokens)
    attack = " ".join(["x", *template.markers, *controls, *reversed(controls), "x"])
    examples, report = encode_all([saying(attack, case)], template, tokenizer, max_seq_len=None)
    ids = set(tokenizer.convert_tokens_to_ids(controls))
    assert [[i for i in e.input_ids if i in ids] for e in examples] == [
        [i for i in e.input_ids if i in ids] for e in harmless
    ]
    assert report.num_rows_with_control_text == 1
    learned = "".join(text for example in examples for text in learned_texts(example, tokenizer))
    assert template.escape(attack) in learned


def saying(text: str, case: str) -> Conversation:
    """Put a text in every place of a row that a user fills in."""
    messages = []
    for message in CASES[case].messages:
        extra = dict(message.extra)
        if "reasoning_content" in extra:
            extra["reasoning_content"] = text
        if "tool_calls" in extra:
            function = CALL["function"] | {"arguments": {"city": text, "days": 2}}
            extra["tool_calls"] = [CALL | {"function": function}]
        messages.append(replace(message, content=message.content and text, extra=extra))
    function = TOOL["function"] | {"description": text}
    tools = ({**TOOL, "function": function},) if CASES[case].tools else ()
    return replace(CASES[case], messages=tuple(messages), tools=tools)
