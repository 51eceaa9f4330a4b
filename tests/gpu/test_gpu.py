"""What holds on a CPU holds on a GPU: the same losses, masks of trees, resumes and answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biddable.config import parse_config
from biddable.config_training import TrainingConfig
from biddable.data.batching import collate
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import build_tree
from biddable.evaluation.comparison import compare
from biddable.models.attention import why_no_trees
from biddable.models.freezing import freeze_layers
from biddable.models.generation import generate
from biddable.models.loading import load
from biddable.models.lora import apply_lora
from biddable.models.loss import Trunk, accumulate_gradient
from biddable.training import micro_batches
from biddable.training.finetune import run_training
from biddable.training.planner import plan_run
from biddable.training.trainer import train
from tests.models.test_attention import EXACT, GPT, NO_DROPOUT, build, rows_with_common_starts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
    pytest.mark.filterwarnings("default"),  # the compiler's own
]

WIDE = {"hidden_size": 128, "intermediate_size": 192}
ROWS = [{"instruction": f"Say {n}", "response": f"It is {n}."} for n in range(40)]


def wide(name: str) -> dict[str, Any]:
    """Give an architecture heads of 32 numbers: the kernel takes no narrower ones than 16."""
    if name == "gpt2":
        return {**GPT, **NO_DROPOUT, "n_embd": 128}
    sizes = {**EXACT[name], **WIDE}
    return {**sizes, "head_dim": 32} if "head_dim" in sizes else sizes


def gradients_of(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.double().cpu() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(e.abs().max()) for e in expected.values())
    for name, gradient in expected.items():  # Granite's scores are so large that a CPU is 7e-5 off
        assert float((found[name] - gradient).abs().max()) < 1.5e-4 * largest, name


@pytest.mark.parametrize("name", EXACT)
def test_a_tree_gives_the_gradient_of_its_rows_in_float64_on_a_cpu(name: str) -> None:
    model = build(name, wide(name))
    rows = rows_with_common_starts()
    exact = build(name, wide(name)).double()
    exact.load_state_dict(model.state_dict())
    total = sum(
        float(accumulate_gradient(exact, collate([row]), num_loss_tokens=100)) for row in rows
    )
    expected = gradients_of(exact)
    model.cuda()
    assert why_no_trees(model) is None
    loss = accumulate_gradient(model, build_tree(rows, range(len(rows))), num_loss_tokens=100)
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert_near(gradients_of(model), expected)


def test_a_tree_of_many_blocks_and_a_trunk_are_exact() -> None:
    torch.manual_seed(0)
    start = torch.randint(97, (300,)).tolist()
    rows = EncodedRows.of(
        [
            Example(start + torch.randint(97, (n,)).tolist(), [False] * 300 + [True] * n)
            for n in (40, 170, 290, 9, 130)
        ]
    )
    model = build("llama", {**wide("llama"), "max_position_embeddings": 1024})
    for row in rows:
        accumulate_gradient(model, collate([row]), num_loss_tokens=640)
    expected = gradients_of(model)
    model.cuda()
    accumulate_gradient(model, build_tree(rows, range(5)), num_loss_tokens=640)
    assert_near(gradients_of(model), expected)
    trunk = Trunk(
        model, build_tree(rows, range(5), trunk=300, only_trunk=True), num_loss_tokens=640
    )
    for numbers in ([0, 1, 2], [3, 4]):
        tree = build_tree(rows, numbers, trunk=300)
        accumulate_gradient(model, tree, num_loss_tokens=640, trunk=trunk)
    trunk.backward()
    assert_near(gradients_of(model), expected)


def test_passes_in_bfloat16_come_near_and_leave_float32_weights() -> None:
    base = build("llama", wide("llama")).cuda()
    rows = list(rows_with_common_starts())
    losses = {}
    for precision in ("float32", "mixed"):
        model = build("llama", wide("llama")).cuda()
        model.load_state_dict(base.state_dict())
        settings = TrainingConfig(epochs=6, batch_size=4, learning_rate=3e-3, precision=precision)
        log = train(model, rows, settings=settings, held_out=rows)
        losses[precision] = log.held_out_losses
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses["mixed"][0] == pytest.approx(losses["float32"][0], rel=0.01)
    assert losses["mixed"] == pytest.approx(losses["float32"], rel=0.2)
    assert losses["mixed"] != losses["float32"]
    assert losses["mixed"][-1] < 0.5 * losses["mixed"][0]


@pytest.mark.parametrize("method", ["full", "lora", "freeze", "recomputed"])
def test_steps_on_a_gpu_have_the_losses_of_steps_on_a_cpu(method: str) -> None:
    rows, logs = list(rows_with_common_starts()), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(3)
        model = build("llama", wide("llama")).to(device)
        if method == "lora":
            apply_lora(model, rank=4)
        if method == "freeze":
            freeze_layers(model, 2)
        settings = TrainingConfig(
            epochs=4,
            batch_size=4,
            learning_rate=1e-3,
            precision="float32",
            activation_cache_gb=1,
            gradient_checkpointing=method == "recomputed",
        )
        logs.append(train(model, rows, settings=settings))
        notes = [r["text"] for r in logs[-1].records if r["event"] == "note"]
        assert not [note for note in notes if "not compiled" in note]
    steps = [[r["loss"] for r in log.records if r["event"] == "step"] for log in logs]
    assert steps[1] == pytest.approx(steps[0], rel=1e-3)


def config_of(folder: str, **changes: Any) -> Any:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    training = {"epochs": 2, "batch_size": 8, **changes.pop("training", {})}
    values = {"model": "mimic", "data": {"train": "rows.jsonl", "held_out_rows": 4}}
    return parse_config({**values, "output": folder, "training": training, **changes})


class _CutError(Exception):
    pass


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_a_run_that_is_cut_off_resumes_bit_for_bit(method: str, precision: str) -> None:
    changes = {"method": {"name": method}, "training": {"precision": precision}}
    changes["checkpoints"] = {"every_steps": 1}

    def cut(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 6:
            raise _CutError

    whole = run_training(config_of("whole", **changes))
    with pytest.raises(_CutError):
        run_training(config_of("cut", **changes), on_event=cut)
    cut_off = run_training(config_of("cut", **changes), resume=True)
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert (whole / name).read_bytes() == (cut_off / name).read_bytes()
    assert json.loads((whole / "manifest.json").read_text())["model"]["device"] == "cuda:0"


def test_answers_on_a_gpu_are_those_of_a_cpu() -> None:
    loaded = load("mimic")
    assert loaded.model.device.type == "cuda"
    questions = [f"What is {word}?" for word in ("gravity", "coal", "a kite", "rain", "the sea")]
    prompts = [loaded.tokenizer(question)["input_ids"] for question in questions]
    found = generate(loaded.model, prompts, stop_ids=loaded.end_ids(), max_new_tokens=24)
    on_cpu = generate(
        load("mimic", device="cpu").model, prompts, stop_ids=loaded.end_ids(), max_new_tokens=24
    )
    assert [g.ids for g in found] == [g.ids for g in on_cpu]
    drawn = [
        generate(m, prompts, stop_ids=[], max_new_tokens=8, temperature=0.8, seed=5)
        for m in (loaded.model, loaded.model)
    ]
    assert drawn[0] == drawn[1]


def test_memory_that_runs_out_halves_the_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Example([n % 90 + 1] * 400, [True] * 400) for n in range(64)]
    settings = TrainingConfig(epochs=1, batch_size=32, precision="float32", layout="padded")
    monkeypatch.setattr(micro_batches, "free_for_activations", lambda model: 1 << 60)  # misjudged

    def run() -> list[dict[str, Any]]:
        torch.manual_seed(0)
        model = build("llama", {**wide("llama"), "max_position_embeddings": 512}).cuda()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return train(model, rows, settings=settings).records

    expected = run()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.7 * torch.cuda.max_memory_reserved() / total)
    try:
        found = run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    notes = [r["text"] for r in found if r["event"] == "note"]
    assert any("out of memory" in note for note in notes), notes
    losses = [[r["loss"] for r in log if r["event"] == "step"] for log in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_plan_knows_the_memory_of_a_gpu() -> None:
    config = config_of("run", training={"epochs": 1})
    estimate = plan_run(config).estimate
    assert estimate is not None
    assert estimate.device == "cuda:0"
    torch.cuda.reset_peak_memory_stats()
    seen = []
    run_training(config, on_event=lambda e: seen.append(e.get("memory_bytes", 0)))
    assert estimate.memory.needed == pytest.approx(max(seen), rel=0.25)


def test_base_and_run_are_compared_on_a_gpu() -> None:
    run = run_training(config_of("run"))
    items = [{"instruction": row["instruction"], "response": row["response"]} for row in ROWS[:6]]
    Path("suite.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    result = compare("mimic", str(run), suite=Path("suite.jsonl"), max_new_tokens=8, out="cmp")
    assert result["n"] == 6


def test_torchrun_takes_a_gpu_for_each_process() -> None:
    config_of("run")
    Path("config.yaml").write_text(
        "model: mimic\ndata: {train: rows.jsonl, held_out_rows: 4}\noutput: run\n"
        "training: {epochs: 1, batch_size: 8}\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node"]
    source = str(Path(sys.modules["biddable"].__file__ or "").parents[1])
    for number, expected in ((1, 0), (torch.cuda.device_count() + 1, 1)):
        done = subprocess.run(
            [*command, str(number), "-m", "biddable", "train", "config.yaml"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([source, *sys.path])},
        )
        told = done.stdout + done.stderr
        assert (done.returncode == 0) == (expected == 0), told
    assert json.loads(Path("run/manifest.json").read_text())["model"]["device"] == "cuda:0"
    assert "has no GPU of its own" in told
