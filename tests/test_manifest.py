from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from biddable import manifest
from biddable.config import parse_config
from biddable.errors import CheckpointError
from biddable.manifest import build_manifest, hash_file, hash_text, write_json


def _manifest(**changes: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "config": parse_config(
            {"model": "mimic", "data": "a.json", "method": "lora", "seed": 7, "output": "runs/a"}
        ).model_dump(mode="json"),
        "data": {"files": {"a.json": hash_text("[]")}, "num_rows": 3},
        "template": {"name": "inst", "hash": hash_text("inst")},
        "model": {"name": "mimic"},
        "results": {"seconds": 1.5, "tokens": 12, "steps": 1},
    }
    return build_manifest(**{**parts, **changes})


def test_manifest_says_what_the_run_was_made_of() -> None:
    made = _manifest()
    assert (made["schema"], made["base_model"], made["method"], made["seed"]) == (
        1,
        "mimic",
        "lora",
        7,
    )
    assert made["template"]["name"] == "inst"
    assert made["results"]["tokens"] == 12
    assert made["device"]["type"] == "cpu"
    assert {"python", "biddable", "torch", "transformers"} <= set(made["versions"])
    assert made["created"].endswith("+00:00")


def test_manifest_is_plain_json() -> None:
    made = _manifest()
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_method_may_be_a_plain_name() -> None:
    assert _manifest(config={"method": "freeze", "seed": 0})["method"] == "freeze"


def test_commit_is_ours_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = _manifest()["git_commit"]
    assert commit is None or len(commit) == 40
    installed = tmp_path / "project" / ".venv" / "biddable" / "manifest.py"
    monkeypatch.setattr(manifest, "__file__", str(installed))
    assert _manifest()["git_commit"] is None


def test_commit_is_none_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(manifest, "__file__", str(tmp_path / "src" / "biddable" / "manifest.py"))
    assert _manifest()["git_commit"] is None  # not a repository
    monkeypatch.setenv("PATH", "")
    assert _manifest()["git_commit"] is None  # no git at all


def test_write_json_replaces_the_file_and_leaves_nothing_else() -> None:
    path = Path("manifest.json")
    write_json(path, {"a": 1})
    write_json(path, {"a": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    assert "é" in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in Path().iterdir() if "partial" in entry.name] == []


def test_a_number_that_is_not_json_is_refused_and_the_old_file_stays() -> None:
    path = Path("manifest.json")
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_full_disk_is_one_line_and_the_old_file_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("manifest.json")
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError) as caught:
        write_json(path, {"a": 2})
    assert str(caught.value) == "manifest.json: cannot be written: No space left on device."
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in Path().iterdir() if "partial" in entry.name] == []


def test_a_missing_folder_is_one_line() -> None:
    with pytest.raises(CheckpointError, match=r"^none/manifest\.json: cannot be written: No such"):
        write_json("none/manifest.json", {})


def test_hashes_agree() -> None:
    Path("a.txt").write_text("é", encoding="utf-8")
    assert hash_file("a.txt") == hash_text("é")
    assert len(hash_text("")) == 64
