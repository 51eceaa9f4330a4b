"""The whole cost of a tuning, what is left out and why, and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biddable.errors import DataError, EvaluationError
from biddable.evaluation import tuning_cost
from biddable.evaluation.comparison import compare
from biddable.evaluation.cost_table import cost_table
from biddable.evaluation.memorisation import named_data
from biddable.evaluation.pages import Page
from biddable.evaluation.sides import Side
from biddable.evaluation.tuning_cost import cost_of_tuning, require_text
from biddable.manifest import hash_file
from biddable.models.loading import LoadedModel
from tests.evaluation.items import base_outcomes, instruct_outcomes
from tests.tiny import tiny_model, tiny_tokenizer


def tiny(seed: int) -> LoadedModel:
    return LoadedModel(tiny_model(seed), tiny_tokenizer(), name=f"tiny{seed}", source="")


def sides() -> dict[str, Side]:
    return {
        "base": Side("b", "bare", {}, base_outcomes()),
        "instruct": Side("i", "template", {}, instruct_outcomes()),
    }


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(json.dumps({"text": f"Page {n} of two."}) + "\n" for n in range(4)))
    return path


@pytest.fixture
def trained(tmp_path: Path) -> LoadedModel:
    """A model that a run made of one row, whose answer an output repeats."""
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"instruction": "Capital?", "output": "Paris is."}) + "\n")
    file = {"file": str(path), "sha256": hash_file(path)}
    manifest = {
        "config": {"data": {"train": str(path)}, "seed": 0},
        "data": {"train": {"files": [file]}},
    }
    return replace(tiny(1), template="inst", manifest=manifest)


def shown(result: dict[str, Any], *, width: int = 100) -> str:
    stream = StringIO()
    Console(file=stream, width=width).print(cost_table(result, width=width))
    return stream.getvalue()


def test_all_of_it_is_measured_and_shown(pages: Path, trained: LoadedModel) -> None:
    found = cost_of_tuning(tiny(0), trained, sides(), text=pages)
    assert found["cost_notes"] == []
    assert found["forgetting"]["text"] == str(pages)
    assert found["forgetting"]["num_pages"] == 4
    assert {"base_nll", "instruct_nll", "kl_to_base", "num_tokens"} <= found["forgetting"].keys()
    assert found["forgetting"]["prompts"]["form"] == "inst"
    assert found["forgetting"]["answers"]["num_prompts"] == 5
    memory = found["memorisation"]
    assert memory["num_training_answers"] == 1
    assert memory["instruct"]["exact_copies"]["rate"] == 0.2
    assert memory["base"]["exact_copies"]["rate"] == 0
    assert memory["references"]["exact_copies"]["rate"] == 0.2  # one item has that answer too
    assert found["diversity"]["instruct"]["words"]["total"] > 0
    text = shown(found)
    for part in ("bits per byte", "KL to the base, prompts", "exact copies", "distinct-2"):
        assert part in text
    assert "4 pages, 40 tokens" in " ".join(text.split())
    json.dumps(found, allow_nan=False)
    narrow, change = shown(found, width=44), found["forgetting"]["bits_per_byte_change"]["mean"]
    assert f"{change:+.3f}" in narrow
    assert "…" not in narrow


def test_what_is_not_measured_is_null_and_said(pages: Path) -> None:
    found = cost_of_tuning(tiny(0), tiny(1), sides(), text=None)
    assert found["forgetting"] is None
    assert found["memorisation"] is None
    assert "comes with no manifest" in found["cost_notes"][0]
    assert "Name the data with --training-data FILE." in found["cost_notes"][0]
    assert "bits per byte" not in shown(found)
    answers = cost_of_tuning("responses.jsonl", tiny(1), sides(), text=pages)
    assert answers["forgetting"] is None  # a source without weights has no loss to tell
    assert "needs the weights of both models" in answers["cost_notes"][0]
    assert cost_table({"forgetting": None}) is None


def test_a_model_of_no_run_is_held_against_data_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text(json.dumps({"instruction": "Capital?", "output": "Paris is."}) + "\n")
    found = cost_of_tuning(tiny(0), tiny(1), sides(), text=None, data=named_data([path]))
    assert found["cost_notes"] == []
    memory = found["memorisation"]
    assert memory["training_data"] == [{"file": str(path), "sha256": hash_file(path)}]
    assert memory["instruct"]["exact_copies"]["rate"] == 0.2
    assert memory["base"]["exact_copies"]["rate"] == 0
    text = "".join(shown(found, width=200).split())  # a long path is wrapped
    assert f"1 training answer of {path}; distinct-n".replace(" ", "") in text


def test_data_that_is_named_goes_before_the_run_s(trained: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "theirs.jsonl"
    path.write_text(json.dumps({"instruction": "Sum?", "output": "2 + 2 = 4"}) + "\n")
    given: dict[str, Any] = {"text": None, "data": named_data([path, path])}
    memory = cost_of_tuning(tiny(0), trained, sides(), **given)["memorisation"]
    assert [Path(file["file"]).name for file in memory["training_data"]] == ["theirs.jsonl"] * 2
    assert memory["instruct"]["exact_copies"]["rate"] == 0.2
    assert memory["instruct"]["longest"] == "2 2 4"


def test_tokenizers_that_differ_are_compared_by_bytes(pages: Path) -> None:
    other = tiny(1)
    other.model = tiny_model(1, vocab_size=301)
    other.tokenizer.add_tokens(["Page"])
    found = cost_of_tuning(tiny(0), other, sides(), text=pages)
    assert found["forgetting"]["kl_to_base"] is None
    assert found["forgetting"]["prompts"] is None
    assert "bits per byte" in shown(found)
    assert "nats per token" not in shown(found)
    assert "tokenizers read the text differently" in found["cost_notes"][0]


def test_control_tokens_that_are_new_to_the_base_are_said(pages: Path) -> None:
    grown = replace(tiny(1), template="chatml")
    grown.model = tiny_model(1, vocab_size=302)
    grown.tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    found = cost_of_tuning(tiny(0), grown, sides(), text=pages)
    assert found["forgetting"]["kl_to_base"] > 0  # no page spells them
    assert found["forgetting"]["prompts"]["form"] == "bare"
    assert found["forgetting"]["answers"] is None
    assert "control tokens are new to the base" in found["cost_notes"][0]


def test_the_embedded_base_reads_pages_of_its_own_world(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(name: str) -> list[Page]:
        asked.append(name)
        return [Page("of two words")]

    monkeypatch.setattr(tuning_cost, "read_pages", read)
    cost_of_tuning(tiny(0), tiny(1), sides())
    cost_of_tuning(replace(tiny(0), name="mimic"), tiny(1), sides())
    made_of_it = replace(tiny(0), manifest={"base_model": "mimic"})
    cost_of_tuning(made_of_it, tiny(1), sides())
    assert asked == ["english", "mimic", "mimic"]


def test_pages_that_are_too_many_are_said(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning_cost, "choose", lambda found: found[:2])
    found = cost_of_tuning(tiny(0), tiny(1), sides(), text=pages)
    assert "2 of 4 pages" in found["cost_notes"][0]
    assert found["forgetting"]["num_pages"] == 2


def test_a_text_that_is_not_there_is_refused_first() -> None:
    require_text(None)
    require_text("built-in")
    with pytest.raises(EvaluationError, match="no such text"):
        require_text("nowhere.txt")


def test_compare_measures_it(pages: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"instruction": "Say hi.", "output": "hi"}) + "\n")
    out = tmp_path / "out"
    options: dict[str, Any] = {"suite": items, "max_new_tokens": 3}
    found = compare(tiny(0), tiny(1), forgetting_text=pages, out=out, **options)
    written = json.loads((out / "comparison.json").read_text())
    assert written["forgetting"] == found["forgetting"]
    assert written["forgetting"]["num_pages"] == 4
    assert written["diversity"] == found["diversity"]
    without = compare(tiny(0), tiny(1), forgetting_text=None, training_data=[items], **options)
    assert without["forgetting"] is None
    assert without["memorisation"]["references"]["exact_copies"]["rate"] == 1
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):  # before a model of that name is sought
        compare("no-model", "none", training_data=["nowhere.jsonl"], **options)
