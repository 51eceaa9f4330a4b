"""Hold that the configs in examples/ are ones that ``biddable train`` takes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from biddable import load_config
from biddable.cli import main
from biddable.data.sources import read_sources

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SIZES = EXAMPLES / "sizes"  # of the real models, as their config.json says
NUM_PARAMETERS = {
    "gpt2": 124_439_808,
    "llama3.2_1b": 1_235_814_400,
    "qwen2.5_0.5b": 494_032_768,
    "smollm2_1.7b": 1_711_376_384,
    "smollm2_135m": 134_515_008,
    "smollm2_360m": 361_821_120,
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_config(path: Path) -> None:
    config = load_config(path)
    assert config.output.startswith("runs/")
    assert f"biddable train examples/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_its_rows_are_there(path: Path) -> None:
    """A fresh clone can run it as it stands: more rows come with the package than it needs."""
    data = load_config(path).data
    num_rows = sum(len(source.reading.conversations) for source in read_sources(data))
    assert num_rows > (data.held_out_rows or 0) + (data.train_rows or 0)


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_a_config_of_a_real_base_is_planned_from_its_sizes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sizes = EXAMPLES / f"{name}.yaml", SIZES / f"{name}.json"
    config = load_config(path)
    monkeypatch.chdir(EXAMPLES.parent)
    said = path.read_text(encoding="utf-8")
    command = re.search(
        r"^#   biddable (plan .* --model-config .*?)(?:  +\(.*)?$", said, re.MULTILINE
    )
    assert command is not None
    assert ("--checkpointing" in command[1]) == config.training.gradient_checkpointing
    assert main([*shlex.split(command[1]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_parameters"] == NUM_PARAMETERS[name]
    limit = config.data.max_seq_len
    known = json.loads(sizes.read_text(encoding="utf-8"))
    longest = known.get("max_position_embeddings") or known["n_positions"]
    assert limit is None or limit <= longest


def test_every_config_of_a_real_base_has_its_sizes() -> None:
    own = {path.stem for path in EXAMPLES.glob("*.yaml")} - {"mimic_lora", "smollm2_lora"}
    assert own == set(NUM_PARAMETERS) == {path.stem for path in SIZES.glob("*.json")}
