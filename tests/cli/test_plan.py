"""``biddable plan`` through the real entry point: here, in small, and on paper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biddable.models import head
from tests.cli.conftest import Cli, Config


@pytest.fixture
def paper() -> Path:
    """A small Llama's config, in the folder where the test runs."""
    path = Path("llama.json")
    values = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
    path.write_text(json.dumps(values | sizes))
    return path


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_a_run_takes_fits_the_terminal(
    cli: Cli, config: Config, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    ran = cli("plan", config())
    assert ran.code == 0
    assert "at the peak, of" in ran.out
    assert " in all, " in ran.out
    assert max(map(len, ran.out.splitlines())) <= int(columns)
    assert "…" not in ran.out


def test_no_measure_tells_no_time(cli: Cli, config: Config) -> None:
    estimate = json.loads(cli("plan", config(), "--no-measure", "--json").out)["estimate"]
    assert estimate["pace"] is None
    assert estimate["memory"]["activations"] > 0


def test_a_model_that_is_run_whole_is_told(
    cli: Cli, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "_find", lambda model: ("", "Such is run whole, its head at all"))
    layout = json.loads(cli("plan", config(), "--no-measure", "--json").out)["layout"]
    assert layout.endswith("at their start is run once; Such is run whole, its head at all")


def test_the_dry_run_tells_its_stages_and_leaves_nothing(cli: Cli, config: Config) -> None:
    path = config(output="run")
    before = sorted(Path().iterdir())
    ran = cli("plan", path, "--dry-run")
    assert ran.code == 0
    assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("✓")] == [
        "read",
        "encode",
        "step",
        "resume",
        "save",
        "generate",
        "compare",
    ]
    assert sorted(Path().iterdir()) == before


def test_a_dry_run_that_fails_says_where_and_why(cli: Cli, config: Config) -> None:
    ran = cli("plan", config(data={"train": "nowhere.jsonl"}), "--dry-run")
    assert ran.code == 1
    assert ran.out.startswith("✗ read")
    assert "nowhere.jsonl" in ran.out
    ran = cli("plan", config(data={"train": "nowhere.jsonl"}), "--dry-run", "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["ok"], found["stages"][-1]["name"]) == (1, False, "read")


def test_on_paper(cli: Cli, paper: Path) -> None:
    ran = cli("plan", "--model-config", paper, "--gpus", 8, "--gpu-memory", "80GB")
    assert ran.code == 0
    assert "✓ FSDP2" in ran.out
    assert "give --gpu-tflops" in ran.out
    found = json.loads(
        cli("plan", "--model-config", paper, "--method", "lora", "--gpu-tflops", 100, "--json").out
    )
    assert found["fits"] is True
    assert found["tokens_per_s"] > 0
    assert found["spreads"][0]["memory"]["peak"] > 0


def test_on_paper_with_the_method_of_a_config(cli: Cli, config: Config, paper: Path) -> None:
    path = config(method={"name": "lora", "rank": 4})
    ran = cli("plan", path, "--model-config", paper)
    assert "LoRA of rank 4" in ran.out


def test_on_paper_a_config_says_how_it_is_spread(cli: Cli, config: Config, paper: Path) -> None:
    path = config(training={"sharding": "full", "batch_size": 4})
    ran = cli("plan", path, "--model-config", paper, "--gpus", 8)
    assert "✓ FSDP2" in ran.out
    assert "(DDP)" in ran.out
    assert "not what the config's training.sharding asks for" in ran.out


def test_on_paper_passes_are_as_train_makes_them_on_a_gpu(
    cli: Cli, config: Config, paper: Path
) -> None:
    def told(*arguments: object) -> tuple[str, bool]:
        load = json.loads(cli("plan", "--model-config", paper, "--json", *arguments).out)["load"]
        return load["precision"], load["recompute"]

    assert told() == ("mixed", False)
    assert told("--precision", "float32", "--checkpointing") == ("float32", True)
    assert told(config()) == ("mixed", False)
    training = {"precision": "float32", "gradient_checkpointing": True, "batch_size": 4}
    path = config(training=training)
    assert told(path) == ("float32", True)
    assert told(path, "--precision", "mixed") == ("mixed", True)


def test_on_paper_a_small_base(cli: Cli, paper: Path) -> None:
    asked = ("plan", "--model-config", paper, "--method", "lora")
    ran = cli(*asked, "--quantize-base", "int4", "--gpus", 2)
    assert "frozen layers in int4" in ran.out
    assert "each process's CPU memory" in ran.out
    assert "FSDP2" not in ran.out


def test_of_several_processes(cli: Cli, config: Config) -> None:
    path = config(training={"sharding": "full", "batch_size": 4})
    ran = cli("plan", path, "--no-measure", "--processes", 2)
    assert "2, which divide the model" in ran.out


def test_on_paper_what_does_not_fit_is_exit_code_1(cli: Cli, paper: Path) -> None:
    ran = cli("plan", "--model-config", paper, "--gpu-memory", "2GB")
    assert ran.code == 1
    assert "✗ one GPU" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "name a file, or give --model-config"),
        (["--model-config", "nowhere.json"], 1, "nowhere.json: cannot be read"),
        (["--model-config", "llama.json", "--gpu-memory", "80 apples"], 2, 'found "80 apples"'),
        (["--model-config", "llama.json", "--gpu-memory", "0GB"], 2, "expected a size"),
        (["--model-config", "llama.json", "--gpu-memory", "80"], 2, "80GB or 80GiB"),
        (["--model-config", "https://x/config.json"], 2, "https://x/config.json is an address"),
        (["--model-config", "llama.json", "--rank", "4"], 1, "method.rank"),
        (["--model-config", "llama.json", "--dry-run"], 2, "needs a model that is here"),
        (["--model-config", "llama.json", "--processes", "2"], 2, "on paper it is --gpus"),
        (["run.yaml", "--processes", "2", "--dry-run"], 2, "the dry run is of one process"),
        (["run.yaml", "--processes", "0"], 2, "greater than or equal to 1"),
        (["run.yaml", "--method", "lora"], 2, "write it into the config"),
        (["run.yaml", "--gpus", 8], 2, "--gpus"),
        (["run.yaml", "--precision", "float32"], 2, "--precision"),
        (["run.yaml", "--quantize-base", "int8"], 2, "--quantize-base"),
        (["llama.json", "--model-config", "llama.json", "--quantize-base", "int8"], 2, "leave one"),
        (["run.yaml", "--gpu-memory", "1GB"], 2, "--gpu-memory"),
        (["run.yaml", "--model-config", "llama.json", "--rank", "4"], 2, "leave one of the two"),
    ],
)
@pytest.mark.usefixtures("paper")
def test_wrong_usage(cli: Cli, config: Config, arguments: list[str], code: int, told: str) -> None:
    config()
    ran = cli("plan", *arguments)
    assert (ran.code, ran.err.count("\n")) == (code, 1)
    assert told in ran.err
