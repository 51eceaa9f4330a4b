"""Hold what is told of machine and installation, and that nothing missing is an error."""

from __future__ import annotations

import io
import json
import tomllib
from pathlib import Path

import pytest
import torch
from rich.console import Console

from biddable import doctor
from biddable.doctor import EXTRAS, Finding, examine, findings_table
from biddable.errors import how_to_install
from tests.cli.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]


def by_name(found: dict[str, list[Finding]]) -> dict[str, Finding]:
    return {finding.name: finding for findings in found.values() for finding in findings}


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {
        name: {line.partition(">")[0] for line in lines}
        for name, lines in extras.items()
        if name != "dev"
    }
    assert {name: set(extra.packages) for name, extra in EXTRAS.items()} == declared


def test_as_json_and_in_80_columns(cli: Cli) -> None:
    ran = cli("doctor", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert list(found) == ["installation", "machine", "speed", "extras", "caches"]
    facts = {fact["name"]: fact for facts in found.values() for fact in facts}
    assert facts["torch"]["value"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert facts["memory"]["value"] > 0
    assert facts["float32"]["value"] > 1e8
    assert facts["bfloat16"]["value"] > 1e6


def test_what_is_missing_is_named_with_what_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    there = doctor._version
    lacking = ("torchao", "uvicorn", "datasets")
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in lacking else there(name))
    found = by_name(examine(measure=False))
    assert found["quant"].state == "missing"
    assert found["quant"].advice == how_to_install("quant")
    assert "(uvicorn not there)" in found["serve"].text
    assert found["datasets"].state == "missing"
    assert found["zstd"] == Finding("zstd", EXTRAS["zstd"].purpose, value=True)
    out = io.StringIO()
    Console(width=80, file=out).print(findings_table(examine(measure=False)))
    shown = out.getvalue()
    assert "pip install -c constraints.txt -e '.[quant]'" in shown
    assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())


def test_caches_are_sized(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    (root / "rows" / "a").mkdir(parents=True)
    (root / "rows" / "a" / "ids.bin").write_bytes(b"x" * 5_000_000)
    (root / "rows" / "gone").symlink_to(root / "nowhere")
    (root / "answers.sqlite").write_bytes(b"x" * 2_000_000)
    monkeypatch.setenv("BIDDABLE_CACHE", str(root))
    found = by_name(examine(measure=False))
    assert found["  rows"].text == "5 MB"
    assert found["  answers.sqlite"].value == 2_000_000


def test_fewer_threads_than_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_usable_cores", lambda: torch.get_num_threads() + 1)
    found = by_name(examine(measure=False))["processor"]
    assert found.state == "note"
    assert found.advice.startswith("OMP_NUM_THREADS=")


def test_little_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ROOM", 1 << 62)
    assert by_name(examine(measure=False))["disk here"].state == "note"


def test_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, total_memory = "Big One", 80 * 10**9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: Properties)
    assert by_name(examine(measure=False))["GPU 0"].text == "Big One, 80.0 GB"
