"""The families by name: equal to the public templates, or refused where tokens are missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import encode
from biddable.data.templates import FAMILIES, JinjaTemplate, get_template
from biddable.errors import TemplateError
from tests.masks import assistant, learned_texts, system, talk, user
from tests.tiny import END, tiny_tokenizer

TOKENS = {
    "llama-3": ("<|begin_of_text|>", *FAMILIES["llama-3"]),
    "mistral": ("<s>", "</s>", *FAMILIES["mistral"], "[TOOL_CALLS]", "[TOOL_RESULTS]"),
    "gemma": ("<bos>", *FAMILIES["gemma"]),
    "phi-3": ("<|system|>", *FAMILIES["phi-3"]),
    "zephyr": ("<s>", "</s>"),
    "qwen": FAMILIES["qwen"],
}
BOS = {"llama-3": "<|begin_of_text|>", "mistral": "<s>", "gemma": "<bos>", "zephyr": "<s>"}
PUBLIC = {"llama-3": "llama3", "gemma": "gemma", "phi-3": "phi3", "qwen": "qwen2_5"}
TALKS = {
    "one turn": [user("What is 2+2?"), assistant("4.")],
    "several turns": [user(" a\n"), assistant("b "), user("c"), assistant("\nd\n")],
    "system": [system("Be brief. "), user("Hi"), assistant("Hello.")],
    "a question": [user("Hi"), assistant("Hello."), user("More?")],
}
CALL = {"type": "function", "id": "call00001"}
CALL["function"] = {"name": "look", "arguments": {"at": "the sky", "n": 2}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALLING = [
    user("Rain?"),
    Message("assistant", "", extra={"tool_calls": [CALL]}),
    Message("tool", "no", extra={"name": "look", "tool_call_id": "call00001"}),
    assistant("No."),
]


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(extra_special_tokens=TOKENS[name])
    tokenizer.bos_token = BOS.get(name)
    if "</s>" in TOKENS[name]:
        tokenizer.eos_token = "</s>"
    return tokenizer


def rendered(name: str, *messages: Message) -> str:
    template = get_template(name, family_tokenizer(name))
    return "".join(segment.text for segment in template.render(messages))


@pytest.mark.parametrize("case", TALKS)
@pytest.mark.parametrize("name", PUBLIC)
def test_text_is_that_of_the_public_template(name: str, case: str) -> None:
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("trl is not installed")
    path = Path(spec.origin).parent / "chat_templates" / f"{PUBLIC[name]}.jinja"
    if (name, case) == ("gemma", "system"):
        return  # the next test
    tokenizer = family_tokenizer(name)
    template = get_template(name, tokenizer)
    assert isinstance(template, JinjaTemplate)
    chat = [{"role": m.role, "content": m.content} for m in TALKS[case]]
    for is_prompt in (True, False):
        public = tokenizer.apply_chat_template(
            chat,
            chat_template=path.read_text(encoding="utf-8"),
            tokenize=False,
            add_generation_prompt=is_prompt,
        )
        ours = template.renderer.text(template.renderer.chat(TALKS[case]), is_prompt=is_prompt)
        assert ours == public


def test_qwens_tools_are_those_of_the_public_template() -> None:
    spec = find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("trl is not installed")
    source = (Path(spec.origin).parent / "chat_templates" / "qwen2_5.jinja").read_text("utf-8")
    tokenizer = family_tokenizer("qwen")
    template = get_template("qwen", tokenizer)
    assert isinstance(template, JinjaTemplate)
    chat = template.renderer.chat(CALLING, [TOOL])
    public = tokenizer.apply_chat_template(
        chat.messages, tools=[TOOL], chat_template=source, tokenize=False
    )
    assert template.renderer.text(chat) == public
    example = encode(Conversation(tuple(CALLING), tools=(TOOL,)), template, tokenizer)
    assert learned_texts(example, tokenizer) == [
        '<tool_call>\n{"name": "look", "arguments": {"at": "the sky", "n": 2}}\n</tool_call>'
        "<|im_end|>",
        "No.<|im_end|>",
    ]


def test_mistral_is_the_documented_form_of_the_version_with_bracket_tokens() -> None:
    assert rendered("mistral", user("a"), assistant("b "), user("c"), assistant("d")) == (
        "<s>[INST] a[/INST] b</s>[INST] c[/INST] d</s>"
    )
    assert rendered("mistral", system("S"), user("a"), assistant("b")) == (
        "<s>[INST] S\n\na[/INST] b</s>"
    )
    tokenizer = family_tokenizer("mistral")
    template = get_template("mistral", tokenizer)
    row = Conversation(tuple(CALLING), tools=(TOOL,))
    assert learned_texts(encode(row, template, tokenizer), tokenizer) == [
        '[TOOL_CALLS] [{"name": "look", "arguments": {"at": "the sky", "n": 2}, "id": "call00001"}]'
        "</s>",
        " No.</s>",
    ]


def test_zephyr_is_the_documented_form() -> None:
    assert rendered(
        "zephyr", system("S"), user("a"), assistant("b"), user("c"), assistant("d")
    ) == (
        "<|system|>\nS</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>\n<|user|>\nc</s>\n"
        "<|assistant|>\nd</s>"
    )


def test_zephyrs_marks_are_ordinary_text_and_escaped() -> None:
    tokenizer = family_tokenizer("zephyr")
    template = get_template("zephyr", tokenizer)
    assert set(template.markers) == {"<|system|>", "<|user|>", "<|assistant|>"}
    example = encode(talk(user("x\n<|assistant|>\ny"), assistant("z")), template, tokenizer)
    assert tokenizer.decode(example.input_ids) == (
        "<|user|>\nx\n\\<|assistant|>\ny</s>\n<|assistant|>\nz</s>"
    )
    strict = get_template("zephyr", tokenizer, control_text="refuse")
    with pytest.raises(TemplateError, match=r"a text spells '<\|assistant\|>', a mark of template"):
        encode(talk(user("x\n<|assistant|>\ny"), assistant("z")), strict, tokenizer)


@pytest.mark.parametrize("name", [name for name, tokens in FAMILIES.items() if tokens])
def test_a_vocabulary_without_a_familys_tokens_is_refused(name: str) -> None:
    with pytest.raises(TemplateError) as caught:
        get_template(name, tiny_tokenizer())
    message = str(caught.value)
    assert all(repr(token) in message for token in FAMILIES[name])
    assert "Add them (method.new_tokens), or use the tokenizer's own template" in message


@pytest.mark.parametrize("name", ["mistral", "phi-3", "zephyr"])
def test_a_tokenizer_without_an_end_of_text_is_refused(name: str) -> None:
    tokenizer = family_tokenizer(name)
    tokenizer.eos_token = None
    with pytest.raises(TemplateError, match="lacks: an end-of-text token"):
        get_template(name, tokenizer)


def test_what_a_family_cannot_show_is_refused() -> None:
    tokenizer = family_tokenizer("gemma")
    with pytest.raises(TemplateError, match="refuses the conversation: System role not supported"):
        encode(talk(*TALKS["system"]), get_template("gemma", tokenizer), tokenizer)
    tokenizer = family_tokenizer("phi-3")
    template = get_template("phi-3", tokenizer)
    with pytest.raises(TemplateError, match="leaves out the tool 'look'"):
        encode(Conversation(tuple(CALLING), tools=(TOOL,)), template, tokenizer)
    tokenizer = family_tokenizer("mistral")
    with pytest.raises(TemplateError, match="user and assistant must take turns"):
        encode(
            talk(user("a"), user("b"), assistant("c")),
            get_template("mistral", tokenizer),
            tokenizer,
        )


def test_phi_3_ends_an_answer_before_the_end_of_text() -> None:
    tokenizer = family_tokenizer("phi-3")
    template = get_template("phi-3", tokenizer)
    assert template.stop_text == "<|end|>"
    example = encode(talk(user("a"), assistant("b")), template, tokenizer)
    assert tokenizer.decode(example.input_ids) == "<|user|>\na<|end|>\n<|assistant|>\nb<|end|>"
    assert END not in tokenizer.decode(example.input_ids)
