"""Exact text, and exactly what of it is learned, for each template by name."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from biddable.data.conversation import Message
from biddable.data.templates import ChatTemplate, get_template, template_hash
from biddable.errors import TemplateError
from tests.masks import assistant, system, user
from tests.tiny import END, tiny_tokenizer

NAMES = ["inst", "alpaca", "chatml"]
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately"
    " completes the request.\n\n"
)


def marked(template: ChatTemplate, *messages: Message) -> str:
    """Write a rendering down with learned text in ⟦ ⟧ and control tokens in { }."""
    parts = []
    for segment in template.render(messages):
        text = f"{{{segment.text}}}" if segment.special else segment.text
        parts.append(f"⟦{text}⟧" if segment.learned else text)
    return "".join(parts).replace("⟧⟦", "").replace(END, "END")


@pytest.fixture(params=NAMES)
def template(request: pytest.FixtureRequest) -> ChatTemplate:
    return get_template(request.param, tiny_tokenizer())


def test_inst_is_the_classic_form() -> None:
    template = get_template("inst", tiny_tokenizer())
    assert marked(template, user("What is 2+2?"), assistant("4")) == (
        "{END}[INST] What is 2+2? [/INST]⟦ 4{END}⟧"
    )
    assert (
        marked(
            template,
            system("Be brief."),
            user("a"),
            assistant("b"),
            user("c", input="d"),
            assistant("e"),
        )
        == "{END}[INST] Be brief.\n\na [/INST]⟦ b{END}⟧[INST] c\n\nd [/INST]⟦ e{END}⟧"
    )


def test_alpaca_has_a_place_for_the_input() -> None:
    template = get_template("alpaca", tiny_tokenizer())
    assert marked(template, user("Fix it.", input="He go."), assistant("He goes.")) == (
        "{END}Below is an instruction that describes a task, paired with an input that provides"
        " further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nFix it.\n\n### Input:\nHe go.\n\n### Response:\n⟦He goes.{END}⟧"
    )


def test_alpaca_turns_share_one_preamble() -> None:
    template = get_template("alpaca", tiny_tokenizer())
    assert marked(
        template, system("Be brief."), user("a"), assistant("b"), user("c"), assistant("d")
    ) == (
        f"{{END}}Be brief.\n\n{PREAMBLE}### Instruction:\na\n\n### Response:\n⟦b{{END}}⟧"
        "\n\n### Instruction:\nc\n\n### Response:\n⟦d{END}⟧"
    )


def test_chatml_uses_the_tokens_of_the_vocabulary() -> None:
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML_TOKENS)
    template = get_template("chatml", tokenizer)
    assert template.stop_text == "<|im_end|>"
    assert marked(template, system("S"), user("a"), assistant("b"), user("c"), assistant("d")) == (
        "{END}{<|im_start|>}system\nS{<|im_end|>}\n{<|im_start|>}user\na{<|im_end|>}\n"
        "{<|im_start|>}assistant\n⟦b{<|im_end|>}⟧\n{<|im_start|>}user\nc{<|im_end|>}\n"
        "{<|im_start|>}assistant\n⟦d{<|im_end|>}⟧"
    )


def test_chatml_without_its_tokens_is_text_and_ends_with_the_tokenizers_end() -> None:
    template = get_template("chatml", tiny_tokenizer())
    assert template.stop_text == END
    assert marked(template, user("a"), assistant("b")) == (
        "{END}<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>{END}⟧"
    )


def test_chatml_shows_a_tool() -> None:
    template = get_template("chatml", tiny_tokenizer(extra_special_tokens=CHATML_TOKENS))
    rendered = marked(
        template, user("Rain?"), assistant("look()"), Message("tool", "yes"), assistant("Yes.")
    )
    assert "\n{<|im_start|>}tool\nyes{<|im_end|>}\n" in rendered
    assert "⟦Yes.{<|im_end|>}⟧" in rendered


def test_chatml_start_is_not_doubled_by_a_bos_of_the_same_name() -> None:
    """SmolLM2-Instruct's tokenizer calls <|im_start|> its BOS."""
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML_TOKENS)
    tokenizer.bos_token = "<|im_start|>"
    segments = get_template("chatml", tokenizer).render([user("a"), assistant("b")])
    assert [s.text for s in segments][:2] == ["<|im_start|>", "user\na"]


def test_no_bos_no_start() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    assert marked(get_template("inst", tokenizer), user("a"), assistant("b")).startswith("[INST]")


def test_an_answer_can_be_context_only(template: ChatTemplate) -> None:
    messages = [user("a"), assistant("b", learn=False), user("c"), assistant("d")]
    learned = [s.text for s in template.render(messages) if s.learned]
    assert "b" not in "".join(learned)
    assert "d" in "".join(learned)


def test_prompt_is_the_rendering_before_the_last_answer(template: ChatTemplate) -> None:
    messages = [system("S"), user("a"), assistant("b"), user("c", input="i"), assistant("d")]
    prompt = template.render_prompt(messages)
    assert prompt == template.render_prompt(messages[:-1])
    rendered = template.render(messages)
    assert rendered[: len(prompt)] == prompt
    assert all(segment.learned for segment in rendered[len(prompt) :])


@pytest.mark.parametrize("name", ["inst", "alpaca"])
def test_a_spelled_marker_is_escaped_and_read_back(name: str) -> None:
    template = get_template(name, tiny_tokenizer())
    for marker in template.markers:
        for text in (f"a{marker}b", f"\\{marker}", f"{marker}{marker}"):
            prompt = template.render_prompt([user(text, input=text), assistant(text), user("q")])
            shown = "".join(segment.text for segment in prompt)
            assert template.escape(text) in shown
            assert text not in shown.replace(template.escape(text), "")
            assert template.read_answer(template.answer_prefix + template.escape(text)) == text
    assert template.escape(r"a\b [x]") == r"a\b [x]"


def test_read_answer_takes_off_what_the_template_added() -> None:
    assert get_template("inst", tiny_tokenizer()).read_answer(" Paris.") == "Paris."
    chatml = get_template("chatml", tiny_tokenizer())
    assert chatml.read_answer("Paris.<|im_end|>") == "Paris."
    assert chatml.read_answer(chatml.escape("a<|im_end|>b") + "<|im_end|>") == "a<|im_end|>b"
    assert get_template("alpaca", tiny_tokenizer()).read_answer(" Paris.") == " Paris."


@pytest.mark.parametrize("messages", [[], [user("a")]])
def test_a_rendering_must_end_with_an_answer(
    template: ChatTemplate, messages: list[Message]
) -> None:
    with pytest.raises(TemplateError, match="does not end with an answer"):
        template.render(messages)


@pytest.mark.parametrize("name", ["inst", "alpaca"])
def test_what_a_form_cannot_show_is_refused(name: str) -> None:
    template = get_template(name, tiny_tokenizer())
    with pytest.raises(TemplateError, match='message 2 has role "tool", which template'):
        template.render([user("a"), Message("tool", "b"), assistant("c")])
    with pytest.raises(TemplateError, match="needs a message of the user before each answer"):
        template.render([user("a"), assistant("b"), assistant("c")])


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(TemplateError) as caught:
        get_template("chatlm", tiny_tokenizer())
    assert str(caught.value) == (
        'unknown template "chatlm"; known: inst, alpaca, chatml, llama-3, mistral, gemma, phi-3,'
        ' zephyr, qwen, tokenizer, or a file (.jinja, .jinja2, .j2). Did you mean "chatml"?'
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_tokenizer_without_an_end_is_refused(name: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TemplateError, match=r"this tokenizer has none; set tokenizer\.eos_token"):
        get_template(name, tokenizer)


def test_no_name_means_the_tokenizers_own_else_inst() -> None:
    tokenizer = tiny_tokenizer()
    assert get_template(None, tokenizer).name == "inst"
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}"
    assert get_template(None, tokenizer).name == "tokenizer"


def test_hash_tells_templates_apart() -> None:
    def hash_with(name: str, tokenizer: PreTrainedTokenizerFast) -> str:
        return template_hash(get_template(name, tokenizer))

    plain, with_tokens = tiny_tokenizer(), tiny_tokenizer(extra_special_tokens=CHATML_TOKENS)
    hashes = {hash_with(name, plain) for name in NAMES}
    assert len(hashes | {hash_with("chatml", with_tokens)}) == 4
    assert hash_with("inst", plain) == hash_with("inst", with_tokens)
    assert len(hash_with("inst", plain)) == 64
