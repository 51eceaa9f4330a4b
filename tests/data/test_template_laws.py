"""Laws of every template: what is learned is the answers, and no text of a row acts as a turn."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from biddable.data.conversation import Message
from biddable.data.encoding import Example, encode_all, encode_prompt
from biddable.data.templates import FAMILIES, ChatTemplate, get_template
from biddable.errors import TemplateError
from tests.data.test_families import family_tokenizer
from tests.jinja_tokenizer import tokenizer_for
from tests.masks import assistant, learned_texts, system, talk, user
from tests.odd_templates import REFUSED, WORKING
from tests.tiny import END, tiny_tokenizer

ALL = ["inst", "alpaca", "chatml as text", *FAMILIES, *WORKING]


@cache
def made(name: str) -> tuple[PreTrainedTokenizerFast, ChatTemplate]:
    if name in WORKING:
        tokenizer = tokenizer_for(WORKING[name], "<s>", "</s>", "<|assistant|>")
        return tokenizer, get_template("tokenizer", tokenizer)
    tokenizer = family_tokenizer(name) if name in FAMILIES else tiny_tokenizer()
    return tokenizer, get_template(name.removesuffix(" as text"), tokenizer)


@st.composite
def texts(draw: st.DrawFn, template: ChatTemplate) -> str:
    """Write a text of ordinary signs and of all that the template might take for its own."""
    spelled = sorted({*template.control_tokens, *template.markers, "</think>", "[/INST]", END})
    part = st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.sampled_from([*spelled, "\\", " ", "\n", "<|", "|>", "\ue000"]),
    )
    text = "".join(draw(st.lists(part, max_size=5)))
    return f"{text}x"  # a content is never blank


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=25, database=None)
@given(data=st.data())
def test_what_is_learned_is_the_answers_and_their_stops(name: str, data: st.DataObject) -> None:
    hold_the_laws(*made(name), data, has_system=name != "gemma")


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=400, database=None)
@given(data=st.data())
def test_laws_on_many_texts(name: str, data: st.DataObject) -> None:
    hold_the_laws(*made(name), data, has_system=name != "gemma")


@st.composite
def sources(draw: st.DrawFn) -> str:
    """Put a template together from parts that public ones are made of, fitting or not."""
    head = draw(st.sampled_from(["<|im_start|>{{ R }}\n", "<|{{ R }}|>", "{{ R }}: ", "[{{ R }}]"]))
    role = draw(st.sampled_from(["m.role", "m.role | upper", "'x' if m.role == 'user' else 'y'"]))
    text = draw(st.sampled_from(["m.content", "m.content | trim", "m.content + ' '"]))
    last = draw(st.sampled_from(["true", "loop.last", "m.role == 'assistant'"]))
    inner = draw(st.sampled_from(["", "<think></think>", "<|say|>"]))
    end = draw(st.sampled_from(["<|end|>", "<|end|>\n", "</s>", "\n", "<|said|><|end|>\n"]))
    opening = draw(st.sampled_from(["", "<s>", "{{ bos_token }}", "A chat.\n"]))
    tail = draw(st.sampled_from(["", "{{ eos_token }}"]))
    asked = head.replace("R", role.replace("m.role", "'assistant'")) + draw(
        st.sampled_from(["", inner, " "])
    )
    shown = draw(st.sampled_from([asked, ""]))
    return (
        f"{opening}{{% for m in messages %}}{head.replace('R', role)}"
        f"{{% if {last} and m.role == 'assistant' %}}{inner}{{% endif %}}{{{{ {text} }}}}{end}"
        f"{{% endfor %}}{{% if add_generation_prompt %}}{shown}{{% else %}}{tail}{{% endif %}}"
    )


@settings(deadline=None, max_examples=60, database=None)
@given(data=st.data())
def test_a_template_put_together_keeps_the_laws_or_is_refused(data: st.DataObject) -> None:
    hold_the_laws_or_refuse(data)


@pytest.mark.slow
@settings(deadline=None, max_examples=2000, database=None)
@given(data=st.data())
def test_many_templates_put_together(data: st.DataObject) -> None:
    hold_the_laws_or_refuse(data)


def hold_the_laws_or_refuse(data: st.DataObject) -> None:
    source = data.draw(sources())
    roles = [f"<|{role}|>" for role in ("system", "user", "assistant", "x", "y")]
    tokenizer = tokenizer_for(source, "<s>", "</s>", *data.draw(st.sampled_from([roles, []])))
    try:
        template = get_template("tokenizer", tokenizer)
    except TemplateError:
        return
    hold_the_laws(tokenizer, template, data)


def hold_the_laws(
    tokenizer: PreTrainedTokenizerFast,
    template: ChatTemplate,
    data: st.DataObject,
    *,
    has_system: bool = True,
) -> None:
    text = texts(template)
    plain = text.filter(lambda said: not opens_with_reasoning(said))
    turns = data.draw(st.lists(st.tuples(text, plain), min_size=1, max_size=3))
    opening = data.draw(st.none() | text) if has_system else None
    messages = [] if opening is None else [system(opening)]
    for asked, answered in turns:
        messages += [user(asked), assistant(answered)]

    examples, _ = encode_all([talk(*messages)], template, tokenizer, max_seq_len=None)

    learned = [text for example in examples for text in learned_texts(example, tokenizer)]
    answers = [message for message in messages if message.role == "assistant"]
    assert len(learned) == len(answers)
    for text, answer in zip(learned, answers, strict=True):
        assert text.endswith(template.stop_text)
        said = template.read_answer(text.removesuffix(template.stop_text))
        assert said in (answer.content, answer.content.strip())
    prompt = encode_prompt(messages, template, tokenizer)
    assert prompt == encode_prompt(messages[:-1], template, tokenizer)
    assert examples[-1].input_ids[: len(prompt)] == prompt
    assert all(examples[-1].loss_mask[len(prompt) :])

    # With harmless texts in their place, the very same control tokens and marks are there.
    harmless = [Message(message.role, "x") for message in messages]
    unmarked, _ = encode_all([talk(*harmless)], template, tokenizer, max_seq_len=None)
    assert [controls(e, template, tokenizer) for e in examples] == [
        controls(e, template, tokenizer) for e in unmarked
    ]


def opens_with_reasoning(said: str) -> bool:
    """Tell whether an answer brings reasoning between tags; those are the template's own."""
    return said.lstrip().startswith("<think>") and "</think>" in said


def controls(
    example: Example, template: ChatTemplate, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int]]:
    """List the control ids of an example, and count its markers that are not escaped."""
    ids = set(tokenizer.convert_tokens_to_ids(sorted(template.control_tokens)))
    text = tokenizer.decode(example.input_ids, clean_up_tokenization_spaces=False)
    unescaped = [
        len(text.split(marker)) - len(text.split(f"\\{marker}")) for marker in template.markers
    ]
    return [token_id for token_id in example.input_ids if token_id in ids], unescaped


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_proven_is_refused_with_the_reason(name: str) -> None:
    source, reason = REFUSED[name]
    with pytest.raises(TemplateError) as caught:
        get_template("tokenizer", tokenizer_for(source, "<|assistant|>", "<|user|>"))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_a_text_that_spells_a_mark_can_be_refused(name: str) -> None:
    tokenizer, template = made(name)
    plain = name.removesuffix(" as text")
    strict = get_template(
        plain if name not in WORKING else "tokenizer", tokenizer, control_text="refuse"
    )
    for marker in template.markers:
        with pytest.raises(TemplateError, match=r"a text spells .* that is ordinary text"):
            encode_prompt([user(f"a {marker} b")], strict, tokenizer)
    assert encode_prompt([user("a")], strict, tokenizer)
