"""The built-in data, found by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biddable.data import builtin
from biddable.data.builtin import builtin_names, builtin_path, create_instruction_dataset
from biddable.errors import ConfigError


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "assets"
    folder.mkdir()
    for split in builtin.SPLITS:
        row = {"instruction": split, "response": "b", "category": "c", "check": {"kind": "refuses"}}
        (folder / f"mimic_{split}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setattr(builtin, "_FOLDER", folder)
    return folder


@pytest.mark.usefixtures("assets")
def test_rows_are_given_whole() -> None:
    (train,) = create_instruction_dataset()
    assert train["instruction"] == "train"
    (held_out,) = create_instruction_dataset("mimic", split="held_out")
    assert held_out["check"] == {"kind": "refuses"}
    assert builtin_names() == ["mimic"]


def test_path_is_of_the_assets(assets: Path) -> None:
    assert builtin_path("mimic", "held_out") == assets / "mimic_held_out.jsonl"


def test_last_turns_of_a_conversation_are_named(assets: Path) -> None:
    turns = ["be brief", "what is it?", "a cat", "how old?", "two"]
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [{"role": r, "content": c} for r, c in zip(roles, turns, strict=True)]
    row = {"category": "talk", "messages": messages, "kind": "benign"}
    (assets / "mimic_train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (train,) = create_instruction_dataset()
    assert train == row | {"instruction": "how old?", "response": "two"}


@pytest.mark.usefixtures("assets")
def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        create_instruction_dataset("mimc")
    assert str(caught.value).startswith(
        'no built-in data "mimc" to train on; known: mimic. Did you mean "mimic"?'
    )
    with pytest.raises(ConfigError, match='no split "heldout"; known: train, held_out'):
        create_instruction_dataset("mimic", "heldout")


def test_a_suite_may_have_nothing_to_train_on(assets: Path) -> None:
    (assets / "quiz_held_out.jsonl").write_text("{}\n", encoding="utf-8")
    assert builtin_names() == ["mimic"]
    assert builtin_names("held_out") == ["mimic", "quiz"]
    assert builtin_path("quiz", "held_out") == assets / "quiz_held_out.jsonl"
    with pytest.raises(ConfigError, match='no built-in data "quiz" to train on; known: mimic'):
        builtin_path("quiz")


def test_the_folder_is_inside_the_package() -> None:
    assert builtin._FOLDER.parts[-3:] == ("biddable", "assets", "data")
