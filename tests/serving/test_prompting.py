"""Hold that an answer is read the same while it comes, and that nothing shown is taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biddable.models.loading import LoadedModel
from biddable.serving.chat import Writing
from biddable.serving.prompting import Prompting, printable
from tests.tiny import tiny_model, tiny_tokenizer

TEMPLATES = (None, "inst", "alpaca", "chatml")
LOADED = LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "tiny")
ASKED = {name: Prompting(LOADED, name) for name in TEMPLATES}
MARKS = ("[INST]", "\\[/INST]", "\\\\[INST]", "[/I", "\\", "<|im_end|>", "<|im_", "### Response:")
PIECES = st.sampled_from((*MARKS, "é", "日本", "👍🏽", "�", " ", "\n", "It is Paris."))


@pytest.mark.parametrize("template", TEMPLATES)
@given(pieces=st.lists(PIECES, max_size=8), is_taught=st.booleans())
def test_pieces_of_an_answer_make_the_answer(
    template: str | None, pieces: list[str], is_taught: bool
) -> None:
    asked, text = ASKED[template], "".join(pieces)
    form = asked.template
    if form is not None and is_taught:
        text = form.answer_prefix + form.escape(text) + form.answer_suffix
    ids = LOADED.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    writing = Writing(iter([*ids, 0]), asked)
    shown = "".join(writing)
    assert shown == writing.text == asked.read(ids)
    assert writing.stopped
    if form is not None and is_taught:
        assert shown == "".join(pieces)


def test_half_a_character_waits_for_its_rest() -> None:
    ids = LOADED.tokenizer("é!", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    assert list(Writing(iter(ids), ASKED[None])) == ["", "é", "!", ""]


def test_what_steers_a_terminal_is_not_shown() -> None:
    assert printable("a\x1b]0;title\x07b\r\n\tc\x9b2J") == "a]0;titleb\n\tc2J"
