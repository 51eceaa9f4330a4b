"""The rehearsal: the whole path in small, and the real error where it breaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biddable.config import parse_config
from biddable.rehearsal import rehearse
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def config(tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    rows = [{"instruction": f"Say {n}.", "response": f"{n} it is."} for n in range(12)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**changes):
        values = {
            "model": str(tmp_path / "base"),
            "data": {"train": str(path), "held_out_rows": 2},
            "template": "inst",
            "training": {"epochs": 3, "batch_size": 8},
            "output": str(tmp_path / "run"),
        }
        return parse_config(values | changes)

    return make


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_whole_path_is_done_and_nothing_is_left(config, method, tmp_path):
    told = []
    before = sorted(tmp_path.iterdir())
    stages = rehearse(config(method=method), on_stage=told.append)
    assert told == stages
    names = ["read", "encode", "step", "resume", "save", "generate", "compare"]
    assert [stage.name for stage in stages] == names
    assert "resumed at step 1 of 2" in stages[3].told
    assert [stage.error for stage in stages] == [""] * len(stages)
    assert all(stage.told and stage.seconds >= 0 for stage in stages)
    assert sorted(tmp_path.iterdir()) == before


def test_forgetting_is_measured_on_the_run_s_own_few_rows(config, monkeypatch):
    read = []
    monkeypatch.setattr(
        "biddable.evaluation.tuning_cost.choose", lambda pages: read.append(pages) or pages
    )
    assert not rehearse(config())[-1].error
    (pages,) = read
    assert [page.text for page in pages] == ["Say 0. 0 it is.\nSay 1. 1 it is."]


def test_rows_of_plain_text_are_rehearsed_too(config, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"Number {n} is here."}) + "\n" for n in range(6)))
    stages = rehearse(config(data={"train": str(path)}))
    assert [stage.error for stage in stages] == [""] * len(stages)


def test_a_missing_file_is_the_error_of_the_first_stage(config):
    (stage,) = rehearse(config(data={"train": "nowhere.jsonl"}))
    assert stage.name == "read"
    assert "nowhere.jsonl" in stage.error
    assert stage.as_json()["ok"] is False


def test_an_output_in_the_way_is_said_at_once(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (stage,) = rehearse(config())
    assert str(tmp_path / "run") in stage.error


def test_a_step_that_fails_is_named_with_its_error(config, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("the kernel is missing")

    monkeypatch.setattr("biddable.training.passes.accumulate_gradient", fail)
    stages = rehearse(config())
    assert (stages[-1].name, stages[-1].error) == ("step", "RuntimeError: the kernel is missing")


def test_a_comparison_that_fails_is_named_with_its_error(config, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("biddable.rehearsal.compare", fail)
    stages = rehearse(config())
    assert [stage.name for stage in stages if stage.error] == ["compare"]
    assert stages[-1].error == "OSError: no space left"
    assert not Path("comparison").exists()
