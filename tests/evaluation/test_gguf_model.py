"""llama.cpp answers from a GGUF file, and says the same as the weights it was written from."""

from __future__ import annotations

from pathlib import Path

import pytest

from biddable.errors import CheckpointError, EvaluationError
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.comparison import compare
from biddable.evaluation.runner import evaluate
from biddable.evaluation.scoring import score
from biddable.evaluation.sources import open_source
from biddable.models.loading import LoadedModel
from tests.evaluation.items import FRANCE, ITEMS, item
from tests.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("xllamacpp")
from tests.tiny_gguf import write_tiny_gguf

CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[answer]"


@pytest.fixture
def plain(tmp_path: Path) -> str:
    return str(write_tiny_gguf(tmp_path / "plain.gguf"))


@pytest.fixture
def chat(tmp_path: Path) -> str:
    return str(write_tiny_gguf(tmp_path / "chat.gguf", chat_template=CHAT))


def test_greedy_answers_equal_those_of_the_weights(plain: str) -> None:
    loaded = LoadedModel(tiny_model(), tiny_tokenizer(), name="tiny", source="tiny")
    for form in ("bare", "fewshot"):
        settings = {"prompt_form": form, "max_new_tokens": 6, "shots": [("Say a.", "a")]}
        ours = evaluate(loaded, ITEMS, **settings)
        theirs = evaluate(open_source(plain), ITEMS, **settings)
        assert [o.output for o in theirs] == [o.output for o in ours]
        assert [o.behaviour.stopped for o in theirs] == [o.behaviour.stopped for o in ours]
        assert {o.answer_loss_sum for o in theirs} == {None}


def test_its_own_chat_template_is_applied(chat: str, plain: str) -> None:
    asked = item("a", f"[user] {FRANCE.instruction}\n[answer]", "")
    (by_template,) = evaluate(open_source(chat), [FRANCE], max_new_tokens=6)
    (by_hand,) = evaluate(open_source(plain), [asked], prompt_form="bare", max_new_tokens=6)
    assert by_template.output.strip() == by_hand.output.strip()


def test_what_it_cannot_do_is_said(plain: str, chat: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="carries no chat template; ask it with"):
        evaluate(open_source(plain), [FRANCE])
    with pytest.raises(EvaluationError, match='template "inst" cannot be used'):
        evaluate(open_source(chat), [FRANCE], template="inst")
    long = item("long", "word " * 300, "yes", source="items.jsonl:3")
    with pytest.raises(EvaluationError, match=r"items.jsonl:3: llama.cpp refuses it: .*context"):
        evaluate(open_source(plain), [FRANCE, long], prompt_form="bare")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and no more")
    with pytest.raises(CheckpointError, match=r"GGUF: it ends too early, after 16 bytes"):
        open_source(str(broken))


def test_the_form_must_be_said_and_answers_are_kept(plain: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"brings no chat template.*--prompt-form"):
        score(plain, suite="mimic")
    cache = AnswerCache(tmp_path)
    for _ in range(2):
        source = open_source(plain, cache=cache)
        evaluate(source, ITEMS, prompt_form="bare", max_new_tokens=2)
    assert (cache.num_computed, cache.num_reused) == (len(ITEMS), len(ITEMS))


def test_two_files_are_compared(plain: str, chat: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Say a.", "response": "a"}\n')
    found = compare(plain, chat, suite=rows, max_new_tokens=2)
    assert found["prompt_form"] == {"base": "bare", "instruct": "template"}
    assert found["base"]["answer_loss"] is None
    assert found["base_templated"] is None
    assert "base_templated was left out" in found["notes"][0]
    assert found["base_fewshot"]["stopped"]["n"] == 1
