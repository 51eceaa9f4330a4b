"""Measure how fast and in how much memory a model is trained on one GPU, beside TRL's SFTTrainer.

    python benchmarks/gpu.py --tokenizer FOLDER --model-config config.json --write

The model has the shape of that config and random weights, on which neither time nor memory
depends, so that nothing has to be downloaded. Each side is a process of its own: the same rows in
the same order, the same ids, mask and rate, passes in bfloat16 over float32 weights, no layers
computed again, fused AdamW. After some steps that are not counted, the time of each step is taken
with the GPU's work done. The sides take turns, twice each; of all steps the median counts.

- full, lora: rows of `$BIDDABLE_TEST_DATA`'s rasbt_instructions in the Alpaca form, batches of 32.
- shared_context: one made document of 600 tokens, 32 questions on it, batches of 32.

A token counts once for each row that it stands in, padding apart.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "src"))

from benchmarks.train_sides import alpaca_rows, document_rows  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
BATCH_SIZE, LEARNING_RATE = 32, 1e-4
NUM_WARM, NUM_STEPS, NUM_TURNS = 6, 20, 2
PARTS = ("full", "lora", "shared_context")
RANK = 8
Figures = dict[str, Any]


def main() -> None:
    """Run the parts that are asked for, or be one of the two sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True, help="a folder with a tokenizer")
    parser.add_argument("--model-config", required=True, help="a transformers config.json")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--trl-micro-batch", type=int, default=BATCH_SIZE)
    parser.add_argument("--layout", choices=("tree", "padded"), default="tree")
    parser.add_argument("--turns", type=int, default=NUM_TURNS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        found = (train_trl if arguments.side == "trl" else train_ours)(arguments)
        print(json.dumps(found), flush=True)
        return
    name = json.loads(Path(arguments.model_config).read_text())["_name_or_path"]
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results["machine"] = machine()
    measured = results.setdefault(name, {})
    for part in arguments.only:
        measured[part] = compare(part, arguments)
        print(f"{name}, {part}: {json.dumps(measured[part])}", flush=True)
        if arguments.write:
            RESULT.write_text(json.dumps(results, indent=1) + "\n")


def compare(part: str, arguments: argparse.Namespace) -> Figures:
    """Let the sides of a part take turns."""
    given = ["--tokenizer", arguments.tokenizer, "--model-config", arguments.model_config]
    given += ["--only", part, "--trl-micro-batch", str(arguments.trl_micro_batch)]
    given += ["--layout", arguments.layout]
    turns: dict[str, list[Figures]] = {"ours": [], "trl": []}
    for _ in range(arguments.turns):
        for side, found in turns.items():
            command = [sys.executable, __file__, *given, "--side", side]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {
        side: statistics.median(s for turn in found for s in turn["seconds"])
        for side, found in turns.items()
    }
    ratios = [
        statistics.median(trl["seconds"]) / statistics.median(ours["seconds"])
        for ours, trl in zip(turns["ours"], turns["trl"], strict=True)
    ]
    tokens = turns["ours"][0]["tokens"]
    return {
        "ratio": seconds["trl"] / seconds["ours"],
        "ratio_of_turns": ratios,
        "memory_ratio": turns["ours"][0]["peak_gb"] / turns["trl"][0]["peak_gb"],
        "peak_gb": {side: found[0]["peak_gb"] for side, found in turns.items()},
        "tokens_per_s": {side: tokens / (spent * NUM_STEPS) for side, spent in seconds.items()},
        "seconds_a_step": seconds,
        "losses": {side: found[0]["losses"] for side, found in turns.items()},
    }


def build(arguments: argparse.Namespace) -> tuple[Any, Any, Any, list[list[int]]]:
    """Make the model, its tokenizer, the rows, and the rows of each step."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from biddable.data.batching import BatchPlan
    from biddable.data.encoded import EncodedRows
    from biddable.data.encoding import encode_all
    from biddable.data.templates import get_template
    from biddable.models.devices import choose_device

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(arguments.model_config)
    with choose_device():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    template = get_template("alpaca", tokenizer)
    num_steps = NUM_WARM + NUM_STEPS
    in_common = arguments.only == ["shared_context"]
    talks = document_rows(BATCH_SIZE) if in_common else alpaca_rows(BATCH_SIZE * num_steps)
    examples, _ = encode_all(talks, template, tokenizer, max_seq_len=None, learn="answers")
    rows = EncodedRows.of(examples)
    epochs = num_steps if in_common else 1
    plan = BatchPlan(rows, batch_size=BATCH_SIZE, epochs=epochs, is_tree=True)
    steps = [[n for group in step.micro_batches for n in group] for step in plan]
    return model, tokenizer, rows, steps


class Clock:
    """Take the time of each step."""

    def __init__(self) -> None:
        """Start without steps."""
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._started = 0.0

    def start(self) -> None:
        """Begin a step."""
        import torch

        torch.cuda.synchronize()
        self._started = time.perf_counter()

    def stop(self) -> None:
        """End it."""
        import torch

        torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._started)

    def figures(self, rows: Any, steps: list[list[int]]) -> Figures:
        """Give what was measured after the first steps."""
        import torch

        counted = steps[NUM_WARM : NUM_WARM + NUM_STEPS]
        return {
            "seconds": self.seconds[NUM_WARM : NUM_WARM + NUM_STEPS],
            "losses": self.losses[: NUM_WARM + NUM_STEPS],
            "tokens": int(sum(rows.lengths[step].sum() for step in counted)),
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        }


class _Done(Exception):
    """All steps were taken."""


def train_ours(arguments: argparse.Namespace) -> Figures:
    """Train with biddable."""
    from biddable.config_training import TrainingConfig
    from biddable.models.lora import apply_lora
    from biddable.training.trainer import train

    model, _, rows, steps = build(arguments)
    if arguments.only == ["lora"]:
        apply_lora(model, rank=RANK)
    settings = TrainingConfig(
        epochs=len(steps) if arguments.only == ["shared_context"] else 1,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_share=0.0,
        precision="mixed",
        layout=arguments.layout,
    )
    clock = Clock()

    def listen(event: Figures) -> None:
        if event["event"] == "note":
            print(event["text"], file=sys.stderr)
        if event["event"] == "plan":
            print(event["layout"], file=sys.stderr)
        if event["event"] == "step":
            clock.stop()
            clock.losses.append(event["loss"])
            if event["step"] == NUM_WARM + NUM_STEPS:
                raise _Done
        if event["event"] in ("start", "step"):
            clock.start()

    with contextlib.suppress(_Done):
        train(model, rows, settings=settings, on_event=listen)
    return clock.figures(rows, steps)


def train_trl(arguments: argparse.Namespace) -> Figures:
    """Train with TRL on the same ids."""
    import datasets
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, tokenizer, rows, steps = build(arguments)
    chosen = [rows[n] for step in steps for n in step]
    table = {
        "input_ids": [list(row.input_ids) for row in chosen],
        "completion_mask": [[int(m) for m in row.loss_mask] for row in chosen],
    }
    peft_config = None
    if arguments.only == ["lora"]:
        from peft import LoraConfig

        peft_config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear")
    clock = Clock()

    class Turns(TrainerCallback):
        """Take the time of each step, and its loss when that is logged."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.stop()

        def on_log(self, *_: Any, logs: Figures, **__: Any) -> None:
            if "loss" in logs:
                clock.losses.append(logs["loss"])

    trainer = SFTTrainer(
        model,
        args=SFTConfig(**trl_settings(arguments.trl_micro_batch)),
        train_dataset=datasets.Dataset.from_dict(table),
        processing_class=tokenizer,
        callbacks=[Turns()],
        peft_config=peft_config,
    )
    in_order: Callable[..., Any] = lambda *_: range(len(chosen))  # noqa: E731
    trainer._get_train_sampler = in_order
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    return clock.figures(rows, steps)


def trl_settings(micro_batch: int) -> Figures:
    """Set TRL as our side is set."""
    return {
        "output_dir": "/tmp/biddable-bench-trl",
        "max_steps": NUM_WARM + NUM_STEPS,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": BATCH_SIZE // micro_batch,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "bf16": True,
        "gradient_checkpointing": False,
        "max_length": None,
        "completion_only_loss": True,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def machine() -> Figures:
    """Say where and with what this was measured."""
    import torch

    names = ("torch", "transformers", "trl", "peft")
    return {
        "gpu": torch.cuda.get_device_name(0),
        "cores": os.cpu_count(),
        "versions": {name: metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    main()
