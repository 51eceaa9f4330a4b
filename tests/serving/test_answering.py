"""Hold that a prompt is put to the model in the form that was asked for, and the answer read."""

from __future__ import annotations

import pytest

from biddable.errors import DataError, TemplateError
from biddable.models.loading import LoadedModel
from biddable.serving import answering
from biddable.serving.answering import answer
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def loaded() -> LoadedModel:
    return LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "tiny")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (None, "<|endoftext|>What <|endoftext|>?"),
        ("inst", "<|endoftext|>[INST] What <|endoftext|>? [/INST]"),
    ],
)
def test_prompt_is_encoded_as_asked_and_never_as_control_tokens(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, template: str | None, text: str
) -> None:
    seen: list[list[int]] = []
    real = answering.generate

    def spy(model: object, prompts: list[list[int]], **settings: object) -> object:
        seen.extend(prompts)
        assert settings["stop_ids"] == {0}
        return real(model, prompts, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(answering, "generate", spy)
    answer(loaded, "What <|endoftext|>?", template=template, max_new_tokens=2)
    assert loaded.tokenizer.decode(seen[0]) == text
    assert seen[0].count(0) == 1


def test_answer_says_whether_it_stopped(loaded: LoadedModel) -> None:
    found = answer(loaded, "What?", template=None, max_new_tokens=3)
    assert (found.num_tokens, found.stopped) == (3, False)
    assert found == answer(loaded, "What?", template=None, max_new_tokens=3)


def test_same_seed_draws_the_same(loaded: LoadedModel) -> None:
    drawn = [
        answer(loaded, "What?", template=None, max_new_tokens=8, temperature=2.0, seed=seed).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_cannot_be_asked_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(TemplateError, match='Did you mean "inst"'):
        answer(loaded, "What?", template="insd")
    with pytest.raises(DataError, match="has 301 tokens; the model takes 1 to 255"):
        answer(loaded, "What" + "\u00ff" * 0 + "?" * 299, template=None)
