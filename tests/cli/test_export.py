"""biddable export, from a run that was just trained to the answer of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_a_run_is_exported_and_asked(cli: Cli, config) -> None:
    assert cli("train", config()).code == 0
    ran = cli("export", "runs/tiny")
    assert ran.code == 0, ran.err
    first, checked, use = ran.out.splitlines()
    assert first.startswith("runs/tiny-merged: README.md, chat_template.jinja, config.json")
    assert checked.startswith("checked with transformers alone: ids equal, logits within 0 of")
    assert use == "use it: biddable generate runs/tiny-merged 'What is the capital of France?'"
    asked = ("Say 3.", "--max-new-tokens", 4, "--json")
    answers = [
        json.loads(cli("generate", f"runs/{n}", *asked).out) for n in ("tiny", "tiny-merged")
    ]
    assert answers[0]["template"] == answers[1]["template"] == "inst"
    assert answers[0]["text"] == answers[1]["text"]
    assert cli("export", "runs/tiny").code == 1


def test_as_gguf_and_scored_like_its_run(cli: Cli, config, rows: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra gguf")
    assert cli("train", config()).code == 0
    ran = cli("export", "runs/tiny", "--to", "gguf", "--dtype", "f32", "--json")
    told = json.loads(ran.out)
    assert told["files"] == ["Modelfile", "README.md", "tiny-f32.gguf"]
    assert told["checks"]["num_same_answers"] == told["checks"]["num_probes"] == 3
    folder = told["folder"]
    given = ("--suite", rows, "--max-new-tokens", 6, "--json")
    scores = [
        json.loads(cli("evaluate", n, *given, "--out", f"out/{n}").out)
        for n in ("runs/tiny", folder)
    ]
    assert [s["prompt_form"] for s in scores] == ["template", "template"]
    outputs = [
        [json.loads(line)["output"] for line in path.read_text().splitlines()]
        for path in (Path(f"out/{n}/samples.jsonl") for n in ("runs/tiny", folder))
    ]
    assert outputs[0] == outputs[1]
    answers = [
        json.loads(cli("generate", n, "Say 3.", "--max-new-tokens", 6, "--json").out)["text"]
        for n in ("runs/tiny", folder, f"{folder}/tiny-f32.gguf")
    ]
    assert len(set(answers)) == 1


def test_bad_options(cli: Cli, base: Path) -> None:
    ran = cli("export", base, "--to", "onnx")
    assert (ran.code, "--to" in ran.err) == (2, True)
    ran = cli("export", base, "--dtype", "int4", "--out", "x")
    assert ran.code == 1
    assert '--dtype: found "int4"; --to merged takes float32' in ran.err
    ran = cli("export", base, "--push", "name", "--out", "x")
    assert (ran.code, 'found "name"; expected owner/name' in ran.err) == (1, True)
    assert not Path("x").exists()
