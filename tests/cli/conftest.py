"""Run verbs in this process, through the function that the installed command calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_model, tiny_tokenizer


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Cli = Callable[..., Ran]
Config = Callable[..., Path]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    from biddable.cli import main

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with random weights, as a transformers folder."""
    folder = tmp_path_factory.mktemp("models") / "base"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def rows() -> Path:
    """A data file of twelve rows in the folder where the test runs."""
    path = Path("rows.jsonl")
    lines = [{"instruction": f"Say {n}.", "response": f"{n} it is."} for n in range(12)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def config(base: Path, rows: Path) -> Config:
    """Write a config that trains in a moment; keyword arguments change its top-level keys."""

    def write(**changes: object) -> Path:
        values = {
            "model": str(base),
            "data": {"train": str(rows), "held_out_rows": 4},
            "template": "inst",
            "training": {"epochs": 1, "batch_size": 4},
            "output": "runs/tiny",
        }
        path = Path("run.yaml")
        path.write_text(yaml.safe_dump(values | changes, sort_keys=False), encoding="utf-8")
        return path

    return write
