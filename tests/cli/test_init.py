"""Hold that a proposed config is short, gives every value a reason, and can be run as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from biddable.config import load_config
from biddable.errors import BiddableError, ConfigError, DataError
from biddable.proposal import Proposal, Wishes, propose
from biddable.training import estimate as estimating
from biddable.training.planner import plan_run
from tests.cli.conftest import Cli


def write_rows(
    num: int, *, name: str = "mine.jsonl", answer: str = "It is {n}.", long_from: int = 10_000
) -> str:
    rows = [
        {"instruction": f"Say {n}.", "output": answer.format(n=n) + "?" * 900 * (n >= long_from)}
        for n in range(num)
    ]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def every_value(text: str) -> list[str]:
    return [line for line in text.splitlines()[1:] if not line.endswith(":")]


def check(found: Proposal) -> None:
    lines = found.text.splitlines()
    assert len(lines) < 25
    assert all(re.search(r" # \S.{5,}", line) for line in every_value(found.text)), found.text
    assert not any("  # " in line or "None" in line for line in lines)
    assert all(len(line) <= 160 for line in lines)


def test_rows_of_a_user_become_a_config_that_trains(cli: Cli, base: Path) -> None:
    rows = write_rows(40)
    ran = cli("init", base, rows)
    assert ran.code == 0
    assert ran.out == Path("run.yaml").read_text(encoding="utf-8")
    assert "go on: biddable plan run.yaml, then biddable train run.yaml" in ran.err
    config = load_config("run.yaml")
    assert (config.method.name, config.template, config.output) == ("full", "inst", "runs/mine")
    assert (config.data.held_out_rows, config.data.shuffle_seed) == (5, 0)
    assert (config.training.batch_size, config.training.keep) == (4, "best")
    assert config.training.learning_rate == 1e-3
    assert config.data.max_seq_len == 64
    assert config.watch.prompts == ("Say 0.",)
    assert "40 rows, recognised as alpaca" in ran.out
    assert cli("plan", "run.yaml", "--no-measure").code == 0
    assert cli("train", "run.yaml").code == 0
    assert Path("runs/mine/manifest.json").is_file()
    ran = cli("init", base, rows, "--out", "again.yaml")
    assert load_config("again.yaml").output == "runs/mine-2"


def test_a_file_that_is_there_is_never_overwritten(cli: Cli, base: Path) -> None:
    Path("run.yaml").write_text("mine")
    ran = cli("init", base, "nowhere.jsonl")
    assert ran.code == 1
    assert ran.err.startswith("biddable: run.yaml: is there already; choose another name")
    assert Path("run.yaml").read_text() == "mine"


@pytest.mark.parametrize(("num", "held_out", "batch_size"), [(8, None, 4), (150, 15, 8)])
def test_few_rows_are_stepped_through_in_small_batches(
    base: Path, num: int, held_out: int | None, batch_size: int
) -> None:
    found = propose(str(base), write_rows(num), name="run.yaml")
    check(found)
    assert found.config.data.held_out_rows == held_out
    assert found.config.training.batch_size == batch_size
    assert found.config.training.keep == ("best" if held_out else "last")


def test_longer_rows_than_the_model_reads_are_counted(base: Path) -> None:
    found = propose(str(base), write_rows(30, long_from=26), name="r.yaml")
    check(found)
    assert found.config.data.max_seq_len == 256
    assert "what the model reads; 4 longer rows are dropped" in found.text


def test_what_is_settled_is_taken_over(base: Path) -> None:
    rows, apart = write_rows(30), write_rows(9, name="apart.jsonl", answer="No: {n}.")
    wishes = Wishes(method="lora", template="alpaca", held_out=apart, output="out/a: b")
    found = propose(str(base), rows, name="run.yaml", wishes=wishes)
    check(found)
    config = found.config
    assert (config.method.name, config.template, config.output) == ("lora", "alpaca", "out/a: b")
    assert (config.data.held_out, config.data.held_out_rows) == (apart, None)
    assert "method: lora # as asked; " in found.text
    assert config.training.learning_rate == 2e-3


def test_a_model_that_does_not_fit_gets_an_adapter_then_smaller_passes(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(8)
    monkeypatch.setattr(estimating, "free_memory", lambda device: -(10**12))  # nothing fits
    found = propose(str(base), rows, name="b.yaml")
    check(found)
    assert not found.fits
    training = found.config.training
    assert found.config.method.name == "lora"
    assert (training.micro_batch_size, training.gradient_checkpointing) == (1, True)
    assert "an adapter: all parameters would take" in found.text


def test_what_cannot_be_learned_is_refused_with_every_reason(base: Path) -> None:
    Path("rows.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        propose(str(base), "rows.jsonl", name="run.yaml")
    for model, rows in (("no-such-model", write_rows(30)), (str(base), "nowhere.jsonl")):
        with pytest.raises(BiddableError, match=r"no-such-model|nowhere"):
            propose(model, rows, name="run.yaml")
    with pytest.raises(ConfigError, match="every row is over 256 tokens"):
        propose(str(base), write_rows(30, long_from=0), name="run.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["mimic", "starter"])
def test_the_built_in_rows_with_the_embedded_base(data: str) -> None:
    found = propose("mimic", data, name="run.yaml")
    check(found)
    assert found.fits
    assert not plan_run(found.config, measure=False).refusals
    assert yaml.safe_load(found.text)["output"] == f"runs/{data}"
