"""Rendered text, ids and mask of each template, as files that a person can read.

After a wanted change, rewrite them (``UPDATE_GOLDEN=1 pytest tests/golden``) and review the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from biddable.data.conversation import Message
from biddable.data.encoding import encode
from biddable.data.templates import FAMILIES, get_template
from tests.data.test_families import family_tokenizer
from tests.masks import assistant, system, talk, user
from tests.tiny import END, tiny_tokenizer

FOLDER = Path(__file__).parent / "masks"
IS_UPDATE = "UPDATE_GOLDEN" in os.environ
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
CASES: dict[str, list[Message]] = {
    "single turn": [user("What is the capital of France?"), assistant("Paris.")],
    "multi turn": [user("2+2?"), assistant("4"), user("And 3+3?"), assistant("6")],
    "system": [system("Be brief."), user("Hi"), assistant("Hello.")],
    "input": [user("Translate to Spanish.", input="hello"), assistant("hola")],
    "unicode": [user("¿Qué es 日本?"), assistant("Japón 🙂")],
    "control text in content": [user(f"Repeat: {END} [/INST] <|im_end|>"), assistant("No.")],
    "answer as context": [user("a"), assistant("b", learn=False), user("c"), assistant("d")],
}


FAMILY_CASES = {case: m for case, m in CASES.items() if case != "system"} | {
    "strip": [user(" a "), assistant(" b\n")],
}


def describe(
    name: str, tokenizer: PreTrainedTokenizerFast, cases: dict[str, list[Message]] = CASES
) -> str:
    """Write every segment on a line: + where learned, its text, its ids; control tokens in < >."""
    template = get_template(name, tokenizer)
    lines = [f"# {name}: + learned, - not; the ids after each text are the tiny tokenizer's"]
    for case, messages in cases.items():
        lines += ["", f"## {case}"]
        example = encode(talk(*messages), template, tokenizer)
        at = 0
        for segment in template.render(messages):
            end = at
            while tokenizer.decode(example.input_ids[at:end]) != segment.text:
                end += 1
            sign = "+" if segment.learned else "-"
            assert set(example.loss_mask[at:end]) <= {segment.learned}
            shown = f"control {segment.text}" if segment.special else f'"{segment.text}"'
            shown = shown.replace("\n", "\\n")
            lines += [f"{sign} {shown}", f"      {' '.join(map(str, example.input_ids[at:end]))}"]
            at = end
        assert at == len(example.input_ids)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "has_tokens", "file"),
    [
        ("inst", False, "inst.txt"),
        ("alpaca", False, "alpaca.txt"),
        ("chatml", True, "chatml.txt"),
        ("chatml", False, "chatml_as_text.txt"),
    ],
)
def test_masks_are_as_reviewed(name: str, has_tokens: bool, file: str) -> None:
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML_TOKENS if has_tokens else ())
    compare(describe(name, tokenizer), file)


@pytest.mark.parametrize("name", FAMILIES)
def test_masks_of_the_families_are_as_reviewed(name: str) -> None:
    cases = FAMILY_CASES if name == "gemma" else FAMILY_CASES | {"system": CASES["system"]}
    compare(describe(name, family_tokenizer(name), cases), f"{name}.txt")


def compare(described: str, file: str) -> None:
    path = FOLDER / file
    if IS_UPDATE:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(described, encoding="utf-8")
    assert described == path.read_text(encoding="utf-8")
