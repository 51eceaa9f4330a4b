"""Sides whose tokens differ are set against each other by bits per byte of the answers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from biddable.evaluation.comparison import build_comparison, compare
from biddable.evaluation.finished import compare_finished
from biddable.evaluation.loss_words import loss_note
from biddable.evaluation.report import render_report
from biddable.evaluation.report_markdown import pull_request_text
from biddable.evaluation.report_verdict import verdict_of
from biddable.evaluation.runner import judge_outputs
from biddable.evaluation.scores import scores
from biddable.evaluation.scoring import score, score_table
from biddable.evaluation.sides import Side, sample_rows
from biddable.evaluation.terminal import summary_table
from biddable.models.loading import LoadedModel
from tests.evaluation.items import item
from tests.evaluation.test_comparison import DECODING
from tests.tiny import tiny_model, tiny_tokenizer

ANSWER = "hello world capital answer"


def tiny(name: str, *words: str) -> LoadedModel:
    """Build a model whose tokenizer has some whole words as tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(list(words))
    return LoadedModel(tiny_model(1, vocab_size=303), tokenizer, name=name, source="")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    rows = [{"instruction": f"Say hi {n}.", "output": ANSWER} for n in range(8)]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sides(counts: tuple[int, int]) -> dict[str, Side]:
    """Give two sides that count other tokens, and lose 12 and 9 bits an answer of 6 bytes."""
    items = [item(str(n), f"Say {n}.", "aé\nbc") for n in range(5)]
    return {
        name: Side(
            name,
            "bare",
            DECODING,
            judge_outputs(items, ["x"] * 5, losses=[(bits * log(2), count)] * 5),
        )
        for name, bits, count in zip(("base", "instruct"), (12, 9), counts, strict=True)
    }


def test_bits_are_divided_by_the_bytes_of_the_answer() -> None:
    given = sides((6, 2))
    assert scores(given["base"].outcomes)["answer_bits_per_byte"] == pytest.approx(2.0)
    assert scores(given["instruct"].outcomes)["answer_bits_per_byte"] == pytest.approx(1.5)
    unknown = [replace(o, answer_loss_sum=None) for o in given["base"].outcomes]
    assert scores(unknown)["answer_bits_per_byte"] is None


def test_other_tokens_leave_no_difference_of_nats() -> None:
    """Nats a token rise from 1.4 to 3.1 while the second side reads the answers better."""
    result = build_comparison(sides((6, 2)), suite="s")
    change = result["answer_loss_change"]
    assert result["same_tokens"] is change["same_tokens"] is False
    assert change["before"] == pytest.approx(2 * log(2))
    assert change["after"] == pytest.approx(4.5 * log(2))
    assert (change["difference"], change["ci95"]) == (None, None)
    assert change["bits_per_byte"]["difference"] == pytest.approx(-0.5)
    assert change["bits_per_byte"]["ci95"] == pytest.approx([-0.5, -0.5])
    same = build_comparison(sides((6, 6)), suite="s")
    assert same["same_tokens"] is same["answer_loss_change"]["same_tokens"] is True
    assert same["answer_loss_change"]["difference"] == pytest.approx(-0.5 * log(2))


def printed(table: Table) -> str:
    screen = io.StringIO()
    Console(file=screen, width=80).print(table)
    return screen.getvalue()


def shown(comparison: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, str]:
    texts = {
        "terminal": printed(summary_table(comparison, width=80)),
        "page": render_report(comparison, rows),
        "text": pull_request_text(comparison, rows).replace("\\", ""),
    }
    return {name: " ".join(text.split()) for name, text in texts.items()}


def test_every_text_tells_bits_per_byte_and_nats_of_each_side_only() -> None:
    given = sides((6, 2))
    result = build_comparison(given, suite="s")
    told = "went from 2.000 (base) to 1.500 bits per byte: -0.500, 95 % interval -0.500 to -0.500"
    assert told in verdict_of(result).headline
    texts = shown(result, sample_rows(given))
    for name, text in texts.items():
        assert told in text, name
        assert "bits per byte" in text.replace(told, ""), name  # the row of the table
        assert "1.386" in text and "3.119" in text, name  # noqa: PT018  (nats, of each side)
        assert "+1.733" not in text, name
    for name in ("page", "text"):
        assert loss_note(result) in texts[name], name
    alike = sides((6, 6))
    result = build_comparison(alike, suite="s")
    assert loss_note(result) == ""
    for name, text in shown(result, sample_rows(alike)).items():
        assert "to 1.040 nats per token: -0.347" in text, name
        assert "bits per byte" not in text, name


def test_a_further_model_with_other_tokens_has_its_bits_shown() -> None:
    given = sides((6, 6)) | {"other": sides((6, 2))["instruct"]}
    result = build_comparison(given, suite="s")
    assert (result["same_tokens"], result["answer_loss_change"]["same_tokens"]) == (False, True)
    assert loss_note(result).startswith("A further model counts other tokens")
    text = shown(result, sample_rows(given))["text"]
    assert "| answer loss, bits per byte | 2.000 | 1.500 | 1.500 |" in text


def test_two_models_are_told_apart_by_what_their_tokenizers_make_of_the_answers(
    suite: Path,
) -> None:
    asked: dict[str, Any] = {"suite": suite, "max_new_tokens": 2, "forgetting_text": None}
    plain, whole = tiny("plain"), tiny("whole", "capital", " answer", "hello world")
    found = compare(plain, whole, template="inst", **asked)
    assert found["answer_loss_change"]["same_tokens"] is False
    assert "bits per byte: " in verdict_of(found).headline
    control = tiny("control", "<|a token that no answer has|>")
    found = compare(plain, control, template="inst", **asked)
    assert found["same_tokens"] is True
    assert "nats per token: " in verdict_of(found).headline


def test_an_evaluation_shows_both_units(suite: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"suite": suite, "max_new_tokens": 2}
    found = score(tiny("plain"), template="inst", out=tmp_path, **asked)
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    nats = sum(row["answer_loss_sum"] for row in rows)
    table = " ".join(printed(score_table(found)).split())
    assert f"answer loss, bits per byte │ {nats / log(2) / (8 * len(ANSWER)):.3f} │" in table
    per_token = nats / sum(row["num_loss_tokens"] for row in rows)
    assert f"answer loss, nats per token │ {per_token:.3f} │" in table


def test_finished_evaluations_tell_their_tokenizers_apart(suite: Path, tmp_path: Path) -> None:
    plain, whole = tiny("plain"), tiny("whole", "capital", " answer", "hello world")
    asked: dict[str, Any] = {"suite": suite, "max_new_tokens": 2}
    folders = {name: tmp_path / name for name in ("bare", "asked", "whole")}
    score(plain, prompt_form="bare", out=folders["bare"], **asked)
    score(plain, template="inst", out=folders["asked"], **asked)
    score(whole, template="inst", out=folders["whole"], **asked)
    by_form = compare_finished(folders["bare"], folders["asked"])
    assert by_form["same_tokens"] is True  # though "\n" and " " before an answer may count unlike
    assert compare_finished(folders["asked"], folders["whole"])["same_tokens"] is False
    for folder in folders.values():  # of an older version, which kept no hash of the tokens
        facts = json.loads((folder / "scores.json").read_text())
        del facts["measured"]["models"]["model"]["answer_tokens_sha256"]
        (folder / "scores.json").write_text(json.dumps(facts))
    assert compare_finished(folders["asked"], folders["asked"])["same_tokens"] is True
    found = compare_finished(folders["asked"], folders["whole"])
    assert found["same_tokens"] is False
    assert "bits per byte: " in verdict_of(found).headline
