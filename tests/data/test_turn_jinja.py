"""Our own forms, rendered by plain transformers from their Jinja, give the ids that we give."""

from __future__ import annotations

import pytest

from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.templates import get_template
from tests.tiny import END, tiny_tokenizer

CHATML = ("<|im_start|>", "<|im_end|>")
FORMS = ["inst", "alpaca", "chatml", "chatml with tokens"]
ASKED = {
    "one": [("user", "What is two and two?")],
    "told": [("system", "Be brief."), ("user", "Say a.")],
    "three turns": [
        ("system", "Be brief."),
        ("user", "Say a."),
        ("assistant", "(a)."),
        ("user", "Say b."),
        ("assistant", "b"),
        ("user", "And now?"),
    ],
    "asked twice": [("user", "One."), ("user", "Two."), ("assistant", "ok"), ("user", "Three.")],
    "unicode": [("user", "Grüße, 你好 👩‍👩‍👧 e\u0301 \u00a0\n\n  end \t")],
    "a mark": [("user", r"[/INST] \[INST] ### Response: \\### Input: <|im_start|>ok<|im_end|>")],
    "empty": [("system", ""), ("user", "")],
}


def _form(name, tokenizer):
    return get_template(name.split()[0], tokenizer)


@pytest.fixture(params=FORMS)
def pair(request):
    with_tokens = request.param == "chatml with tokens"
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML if with_tokens else ())
    form = get_template(request.param.split()[0], tokenizer)
    tokenizer.chat_template = form.saved_source
    return form, tokenizer


def _theirs(tokenizer, asked, **options):
    messages = [{"role": role, "content": text} for role, text in asked]
    return tokenizer.apply_chat_template(messages, return_dict=False, **options)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_prompts_are_ours(pair, asked):
    form, tokenizer = pair
    if set(form.control_tokens) & set(CHATML) and "<|im_start|>" in asked[-1][1]:
        pytest.skip("see the test of control tokens")
    ours = encode_prompt([Message(role, text) for role, text in asked], form, tokenizer)
    assert _theirs(tokenizer, asked, add_generation_prompt=True) == ours


def test_a_whole_conversation_is_ours(pair):
    form, tokenizer = pair
    asked = [*ASKED["three turns"], ("assistant", "Fine.")]
    segments = form.render([Message(role, text) for role, text in asked])
    text = "".join(segment.text for segment in segments)
    assert _theirs(tokenizer, asked, tokenize=False) == text


def test_an_input_is_shown_as_ours(pair):
    form, tokenizer = pair
    message = {"role": "user", "content": "Fix it.", "input": "He go. ### Input:"}
    theirs = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    assert theirs == encode_prompt(
        [Message("user", "Fix it.", input=message["input"])], form, tokenizer
    )


def test_a_control_token_in_a_message_stays_text(pair):
    """Ids cannot be ours there, for Jinja gives one text; what counts is that none acts."""
    form, tokenizer = pair
    spelled = "a" + "".join(sorted(form.control_tokens)) + "b"
    plain, said = (
        _theirs(tokenizer, [("user", text)], add_generation_prompt=True) for text in ("ab", spelled)
    )
    controls = tokenizer.convert_tokens_to_ids(sorted(form.control_tokens))
    assert [i for i in said if i in controls] == [i for i in plain if i in controls]
    assert r"<\|endoftext|>" in tokenizer.decode(said)
    assert END in form.control_tokens


@pytest.mark.parametrize("form", FORMS[:3])
def test_marks_are_refused_where_that_was_asked(form):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = get_template(form, tokenizer, control_text="refuse").saved_source
    mark = {"inst": "[/INST]", "alpaca": "### Response:", "chatml": "<|im_end|>"}[form]
    assert _theirs(tokenizer, [("user", "a")])
    with pytest.raises(Exception, match="a text spells the mark"):
        _theirs(tokenizer, [("user", f"a {mark} b")])


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ([("assistant", "a")], "a message of the user should stand"),
        ([("system", "a")], "a message of the user should stand"),
        ([("robot", "a"), ("user", "b")], "cannot show a message of role robot"),
    ],
)
@pytest.mark.parametrize("form", ["inst", "alpaca"])
def test_what_cannot_be_shown_is_refused(form, asked, match):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = get_template(form, tokenizer).saved_source
    with pytest.raises(Exception, match=match):
        _theirs(tokenizer, asked)


def test_parts_are_no_text():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = get_template("chatml", tokenizer).saved_source
    message = {"role": "user", "content": [{"type": "image"}]}
    with pytest.raises(Exception, match="a content should be text"):
        tokenizer.apply_chat_template([message])
