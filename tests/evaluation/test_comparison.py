"""What comparison.json says, from handmade outcomes, and the whole way on tiny models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation import comparison, prompts_compared
from biddable.evaluation.comparison import build_comparison, compare
from biddable.evaluation.scores import scores
from biddable.evaluation.sides import Side, write_comparison
from biddable.evaluation.terminal import further_lines
from biddable.models.loading import LoadedModel
from tests.evaluation.items import ITEMS, base_outcomes, instruct_outcomes, item
from tests.tiny import tiny_model, tiny_tokenizer

DECODING = {"method": "greedy", "temperature": 0.0, "max_new_tokens": 8}
SIDE_KEYS = {
    "instruction_following", "answer_correct", "mimicry", "run_on", "stopped", "refusal",
    "refusal_harmful", "refusal_benign", "refusal_lookalike", "answer_loss", "by_category",
    "by_ring",
}  # fmt: skip
TOP_KEYS = {
    "schema", "base_model", "instruct_model", "suite", "n", "decoding", "prompt_form", "base",
    "base_templated", "base_fewshot", "instruct", "extra_models", "paired", "forgetting",
    "training",
}  # fmt: skip


def sides() -> dict[str, Side]:
    return {
        "base": Side("mimic", "bare", DECODING, base_outcomes()),
        "instruct": Side("run", "template", DECODING, instruct_outcomes()),
    }


def tiny(seed: int) -> LoadedModel:
    return LoadedModel(tiny_model(seed), tiny_tokenizer(), name=f"tiny{seed}", source="")


def rates(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value["rate"] for key, value in block.items() if value and "rate" in value}


def test_rates_count_the_headlines_rings() -> None:
    base, instruct = scores(base_outcomes()), scores(instruct_outcomes())
    assert base.keys() >= SIDE_KEYS
    headline = {key: base[key] for key in SIDE_KEYS - {"answer_loss", "by_category", "by_ring"}}
    assert rates(headline) == {
        "instruction_following": 0, "answer_correct": 0.25, "mimicry": 0.75, "run_on": 0.25,
        "stopped": 0, "refusal": 0, "refusal_harmful": 0, "refusal_benign": 0,
        "refusal_lookalike": 0,
    }  # fmt: skip
    assert instruct["instruction_following"]["rate"] == 0.75
    assert instruct["refusal"]["rate"] == 0.5
    assert (instruct["refusal_harmful"]["rate"], instruct["refusal_harmful"]["n"]) == (1.0, 1)
    assert instruct["refusal_benign"]["rate"] == pytest.approx(1 / 3)
    assert instruct["refusal_lookalike"]["rate"] == 1.0
    types = {kind: rates(found) for kind, found in instruct["refusal_by_type"].items()}
    assert types == {"harmful": {"safety": 1.0}, "lookalike": {"safety": 1.0}}
    assert rates(instruct["by_category"]) == {"facts": 1.0, "math": 1.0, "safety": 0.5}
    assert instruct["by_category"]["facts"]["n"] == 1
    assert rates(instruct["by_ring"])["unanswered"] == 0
    assert base["answer_loss"] == pytest.approx(18 / 8)


def test_the_comparison_has_the_agreed_keys() -> None:
    manifest = {"method": "lora", "seed": 1, "results": {"seconds": 2.0, "tokens": 30}}
    found = build_comparison(sides(), suite="mimic", manifest=manifest)
    assert found.keys() >= TOP_KEYS
    assert found["schema"] == 1
    assert found["n"] == 5
    assert found["prompt_form"] == {"base": "bare", "instruct": "template"}
    assert found["base_fewshot"] is None
    assert found["forgetting"] is None
    assert found["training"]["method"] == "lora"
    assert found["training"]["seconds"] == 2.0
    assert found["paired"] == {
        "fixed": 3, "broken": 0, "both": 0, "neither": 1, "mcnemar_p": 0.25,
    }  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_sides_with_other_items_or_decoding_are_refused() -> None:
    given = sides()
    other = replace(given["instruct"], decoding=DECODING | {"max_new_tokens": 9})
    with pytest.raises(EvaluationError, match="evaluate both in the same way"):
        build_comparison(given | {"instruct": other}, suite="s")
    fewer = replace(given["instruct"], outcomes=instruct_outcomes()[:4])
    with pytest.raises(EvaluationError, match=r"base has 5 items and instruct 4.*their number"):
        build_comparison(given | {"instruct": fewer}, suite="s")
    swapped = replace(given["instruct"], outcomes=instruct_outcomes()[::-1])
    with pytest.raises(EvaluationError, match='"f" and "u"'):
        build_comparison(given | {"instruct": swapped}, suite="s")
    drawn = [replace(o, sample=replace(o.sample, seed=0)) for o in instruct_outcomes()]
    with pytest.raises(EvaluationError, match=r'differ \("f" in seed\)'):
        build_comparison(given | {"instruct": replace(swapped, outcomes=drawn)}, suite="s")


def test_compare_writes_what_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "fewshot_examples", lambda suite: [("Say a.", "a")])
    items = tmp_path / "items.jsonl"
    rows = [
        {"instruction": s.instruction, "response": s.response, "check": s.check, "ring": s.ring}
        for s in ITEMS
    ]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    events: list[dict[str, Any]] = []
    found = compare(
        tiny(0), tiny(1), suite=items, out=tmp_path / "out", max_new_tokens=4,
        on_event=events.append,
    )  # fmt: skip
    assert json.loads((tmp_path / "out/comparison.json").read_text()) == found
    lines = (tmp_path / "out/samples.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [row["instruction"] for row in told] == [s.instruction for s in ITEMS]
    assert {"base", "base_templated", "base_fewshot", "instruct", "change"} <= told[0].keys()
    assert told[0]["base"].keys() >= {"output", "correct", "why", "mimicry", "stopped", "reasons"}
    assert "<!doctype html>" in (tmp_path / "out/report.html").read_text()
    assert found["training"] is None
    assert found["decoding"]["max_new_tokens"] == 4
    assert list(dict.fromkeys(event["side"] for event in events)) == [
        "base", "base_templated", "base_fewshot", "instruct",
    ]  # fmt: skip


def test_a_file_without_checks_gives_loss_and_behaviour(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Say hi.", "output": "hi"}) + "\n")
    found = compare(tiny(0), tiny(0), suite=path, max_new_tokens=3, forgetting_text=None)
    assert found["instruct"]["answer_correct"] is None
    assert found["paired"] is None
    assert found["instruct"]["answer_loss"] > 0
    assert found["instruct"]["stopped"]["n"] == 1


def test_examples_that_do_not_fit_leave_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"instruction": "Say hi.", "output": "hi"}) + "\n")
    monkeypatch.setattr(comparison, "fewshot_examples", lambda suite: [("long " * 300, "x")])
    found = compare(tiny(0), tiny(0), suite=path, max_new_tokens=3, forgetting_text=None)
    assert found["base_fewshot"] is None
    assert "base_fewshot was left out" in found["notes"][0]


def test_the_learners_comparison_prints_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    france = item("f", "What is the capital of France?", "Paris", check=ITEMS[0].check)
    monkeypatch.setattr(prompts_compared, "load_suite", lambda name: [france])
    found = prompts_compared.compare_base_vs_instruct(
        tiny(0), tiny(1), prompts=["What is the capital of France?", "Say hi."]
    )
    assert found["n"] == 2
    assert found["instruct"]["answer_correct"]["n"] == 1
    shown = capsys.readouterr().out
    assert "tiny0 → tiny1" in shown
    assert "Say hi." in shown


def test_models_that_are_not_there_are_told_of() -> None:
    with pytest.raises(EvaluationError, match="run `biddable demo`"):
        prompts_compared.compare_base_vs_instruct(tiny(0))
    with pytest.raises(EvaluationError, match="comes without its tokenizer"):
        prompts_compared.compare_base_vs_instruct(tiny_model())  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot be made"):
        write_comparison({}, sides(), out=tmp_path / "file" / "out")


def test_differences_of_further_models_are_corrected_for_their_number() -> None:
    given = sides()
    many = given | {f"also-{k}": given["instruct"] for k in range(4)}
    for asked in (given | {"also-0": given["instruct"]}, many):
        result = build_comparison(asked, suite="mimic")
        blocks = {
            f"{name} against {other}": pair[other]["statistics"]
            for name, pair in result["pairs"].items()
            for other in ("base", "instruct")
        }
        larger = {key: max(b["p"], b["clusters"]["p"]) for key, b in blocks.items()}
        least = min(larger.values())
        assert blocks[min(larger, key=larger.__getitem__)]["p_holm"] == min(1, least * len(blocks))
        *told, corrected = further_lines(result)
        assert len(told) == len(result["pairs"])
        assert all("against base" in line and "against instruct" in line for line in told)
        assert corrected == (
            f"Corrected for {len(blocks)} tests (Holm), a difference is proven nowhere."
        )
