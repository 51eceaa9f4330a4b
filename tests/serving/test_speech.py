"""Hold that an answer is read the same while it comes, and that nothing shown is taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biddable.models.loading import LoadedModel
from biddable.serving.chat import Speech
from biddable.serving.prompts import PromptWriter
from tests.tiny import tiny_model, tiny_tokenizer

TEMPLATES = (None, "inst", "alpaca", "chatml")
LOADED = LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "tiny")
WRITERS = {name: PromptWriter(LOADED, name) for name in TEMPLATES}
MARKS = ("[INST]", "\\[/INST]", "\\\\[INST]", "[/I", "\\", "<|im_end|>", "<|im_", "### Response:")
PIECES = st.sampled_from((*MARKS, "é", "日本", "👍🏽", "�", " ", "\n", "It is Paris."))


@pytest.mark.parametrize("template", TEMPLATES)
@given(pieces=st.lists(PIECES, max_size=8), is_taught=st.booleans())
def test_pieces_of_an_answer_make_the_answer(
    template: str | None, pieces: list[str], is_taught: bool
) -> None:
    writer, text = WRITERS[template], "".join(pieces)
    form = writer.template
    if form is not None and is_taught:
        text = form.answer_prefix + form.escape(text) + form.answer_suffix
    ids = LOADED.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    speech = Speech(iter([*ids, 0]), writer, stop_ids={0})
    shown = "".join(speech)
    assert shown == speech.text
    assert speech.stopped
    if form is not None and is_taught:
        assert shown == "".join(pieces)


def test_half_a_character_waits_for_its_rest() -> None:
    ids = LOADED.tokenizer("é!", add_special_tokens=False)["input_ids"]
    assert len(ids) == 3
    assert list(Speech(iter(ids), WRITERS[None], stop_ids=())) == ["", "é", "!", ""]
