"""The table behind Ollama's template says what our templates say, and is written in Go as it is."""

from __future__ import annotations

import pytest

from biddable.data.conversation import Message
from biddable.data.templates import FAMILIES, get_template
from biddable.serving.ollama import frames_of, go_template, modelfile, render
from tests.tiny import END, tiny_tokenizer

CONVERSATIONS = [
    [("user", "Hello?")],
    [("system", "Be brief."), ("user", "One"), ("assistant", "1"), ("user", "Two")],
    [("user", "One"), ("assistant", "1"), ("user", "Two"), ("assistant", "2"), ("user", "3")],
]


def _form(name: str):
    tokens = ("<|im_start|>", "<|im_end|>") if name == "chatml" else FAMILIES.get(name, ())
    return get_template(name, tiny_tokenizer(extra_special_tokens=tuple(tokens)))


@pytest.mark.parametrize("name", ["inst", "alpaca", "chatml", "llama-3", "zephyr", "phi-3", "qwen"])
def test_the_table_writes_what_the_template_writes(name: str) -> None:
    form = _form(name)
    frames = frames_of(form, start=END)
    assert frames is not None
    for said in CONVERSATIONS:
        segments = form.render_prompt([Message(role, text) for role, text in said])
        whole = "".join(segment.text for segment in segments).removeprefix(END)
        assert render(frames, said) == whole


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_family_without_places_for_a_system_message_has_a_table_too(name: str) -> None:
    frames = frames_of(_form(name), start=END)
    assert frames is not None
    assert (("start", "system") in frames) == (name == "mistral")


def test_what_a_table_cannot_say_is_left_to_ollama() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ loop.index if m.role == 'user' }}{{ m.content }}]"
        "{% if m.role == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[{% endif %}"
    )
    form = get_template("tokenizer", tokenizer)
    assert frames_of(form) is None
    text = modelfile("m.gguf", form, start="", stops=[END], context=256)
    assert "TEMPLATE" not in text.replace("--template", "")
    assert "does more than stand between messages" in text


def test_the_modelfile_of_inst() -> None:
    text = modelfile("m.gguf", _form("inst"), start=END, stops=[END], context=256)
    assert (
        text
        == r'''FROM ./m.gguf
PARAMETER num_ctx 256
PARAMETER temperature 0
PARAMETER stop "<|endoftext|>"
TEMPLATE """{{- $last := "start" }}
{{- range .Messages }}
{{- if eq .Role "system" }}
{{- "[INST] " }}
{{- .Content }}
{{- else if eq .Role "user" }}
{{- if eq $last "start" }}{{ "[INST] " }}
{{- else if eq $last "assistant" }}{{ "<|endoftext|>[INST] " }}
{{- else if eq $last "system" }}{{ "\n\n" }}
{{- end }}
{{- .Content }}
{{- else if eq .Role "assistant" }}
{{- " [/INST] " }}
{{- .Content }}
{{- end }}
{{- $last = .Role }}
{{- end }}
{{- " [/INST]" }}"""
'''
    )
    assert (
        go_template({("start", "user"): "a", ("user", "end"): "b"}).count('eq .Role "system"') == 1
    )


def test_a_base_is_given_the_bare_prompt() -> None:
    text = modelfile("m.gguf", None, start="", stops=[END], context=64)
    assert 'TEMPLATE "{{ .Prompt }}"' in text
