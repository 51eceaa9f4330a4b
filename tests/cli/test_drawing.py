"""Answers that are drawn, and weights that are kept small, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def items() -> Path:
    path = Path("items.jsonl")
    check = {"kind": "contains", "all": ["a"]}
    rows = [{"instruction": f"Say {w}.", "response": w, "check": check} for w in ("a", "ba", "ca")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def test_evaluate_answers_each_item_once_for_each_seed(cli: Cli, base: Path, items: Path) -> None:
    asked = ("--suite", items, "--prompt-form", "bare", "--max-new-tokens", 3, "--temperature", 1.5)
    for out in ("a", "b"):
        ran = cli("evaluate", base, *asked, "--seeds", "0,1", "--top-p", 0.9, "--out", out)
        assert ran.code == 0, ran.err
    told = read("a/scores.json")
    assert told["n"] == 3
    assert told["decoding"]["seeds"] == [0, 1]
    assert told["scores"]["answer_correct"]["answers"] == 6
    assert len(Path("a/samples.jsonl").read_text().splitlines()) == 6
    assert Path("a/samples.jsonl").read_text() == Path("b/samples.jsonl").read_text()
    assert cli("compare", "a", "b", "--out", "c").code == 0
    assert read("c/comparison.json")["statistics"]["answers_per_item"] == 2


def test_compare_draws_for_both_sides(cli: Cli, base: Path, items: Path) -> None:
    ran = cli(
        "compare", base, base, "--suite", items, "--template", "inst", "--max-new-tokens", 3,
        "--temperature", 1, "--seeds", "4,5", "--no-forgetting", "--out", "c",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = read("c/comparison.json")
    assert (found["n"], found["decoding"]["temperature"]) == (3, 1.0)
    assert "once for each seed" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--seeds", "0,1"), 2, "nothing is drawn without --temperature"),
        (("--top-p", 0.5), 2, "nothing is drawn without --temperature"),
        (("--temperature", 1, "--seeds", "0;1"), 2, '"0;1" is no list of whole numbers; write 0,1'),
        (("--temperature", 1, "--seeds", "2,2"), 1, "seeds are [2, 2]; each must be another"),
        (("--temperature", -1), 2, "should be greater than or equal to 0"),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_what_cannot_be_drawn_is_refused_before_a_model_is_loaded(
    cli: Cli, base: Path, items: Path, *, verb: str, options: tuple[Any, ...], code: int, told: str
) -> None:
    models = (base,) if verb == "evaluate" else (base, base)
    ran = cli(verb, *models, "--suite", items, *options, "--out", "c")
    assert ran.code == code
    assert told in " ".join(ran.err.split())
    assert not Path("c/scores.json").exists()


def test_one_model_twice_shows_what_small_weights_cost(cli: Cli, base: Path, items: Path) -> None:
    pytest.importorskip("torchao")
    ran = cli(
        "compare", base, base, "--quantize-instruct", "int8", "--prompt-form", "template",
        "--template", "inst", "--suite", items, "--max-new-tokens", 3, "--out", "c",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = read("c/comparison.json")
    assert found["instruct_model"] == f"{base} in int8"
    assert found["base_model"] == str(base)
    assert 0 < found["forgetting"]["kl_to_base"] < 0.1
    both = cli(
        "compare", base, base, "--quantize", "int8", "--suite", items, "--template", "inst",
        "--max-new-tokens", 3, "--also", f"third={base}", "--out", "d",
    )  # fmt: skip
    assert both.code == 0, both.err
    found = read("d/comparison.json")
    assert found["base_model"] == found["pairs"]["third"]["model"] == f"{base} in int8"
    assert found["forgetting"]["kl_to_base"] == pytest.approx(0, abs=1e-6)


def test_generate_keeps_weights_small(cli: Cli, base: Path) -> None:
    pytest.importorskip("torchao")
    ran = cli("generate", base, "Say a.", "--bare", "--quantize", "int8", "--max-new-tokens", 2)
    assert ran.code == 0, ran.err
