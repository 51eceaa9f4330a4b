"""Measure how fast and in how much memory SmolLM2-135M is trained, beside TRL's SFTTrainer.

    python benchmarks/train.py                     print the figures as JSON
    python benchmarks/train.py --write             and keep them in benchmarks/results/train.json
    python benchmarks/train.py --only lora cache   some of the parts; the others stay as they were
    python benchmarks/train.py --tune              try TRL's micro-batches and keep the fastest

Each side is a process of its own that takes one optimizer step and waits while the other takes
the same step: the same rows in the same order, the same ids, mask, rate, and clipping, with full
float32 on two cores. Their losses are compared step by step. Of each pair the ratio is taken; the
median, the least and the largest are kept, with the peak memory of each process.

- full, lora: rows of `$BIDDABLE_TEST_DATA`'s rasbt_instructions in the Alpaca form, batches of 32.
- shared_context: one made document of 600 tokens, 8 questions on it, batches of 8.
- cache: the lower two thirds of the layers frozen, with and without their states kept, for all
  weights above the cut and for adapters above it.

A token counts once for each row that it stands in, padding apart. The needed work of a step is six
operations for each weight below the head and each different token (four where only adapters train),
six for each weight of the head and each place where something is learned, and attention between the
tokens that see each other. Its share is of the matrix peak: the fastest of a row of
products that the same process makes before each of its turns.
"""

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "src"))

RESULT = ROOT / "benchmarks" / "results" / "train.json"
NUM_CORES = 2
NUM_PAIRS = 5
NUM_LAYERS, NUM_FROZEN = 30, 20
LEARNING_RATE = 1e-4
Figures = dict[str, Any]
PARTS: dict[str, Figures] = {
    "full": {"rows": "alpaca", "batch_size": 32, "sides": ["ours", "trl"]},
    "lora": {"rows": "alpaca", "batch_size": 32, "sides": ["ours", "trl"], "rank": 8},
    "shared_context": {"rows": "document", "batch_size": 8, "sides": ["ours", "trl"]},
    "cache": {"rows": "alpaca", "batch_size": 32, "sides": ["ours", "plain"], "frozen": NUM_FROZEN},
    "cache_lora": {
        "rows": "alpaca",
        "batch_size": 32,
        "sides": ["ours", "plain"],
        "frozen": NUM_FROZEN,
        "rank": 8,
    },
}
# Rows of a forward pass of TRL that are fastest here; --tune finds them.
TRL_MICRO_BATCH = {"full": 8, "lora": 8, "shared_context": 2}


def main() -> None:
    """Run the parts that are asked for, or be one of the two sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        take_turns(json.loads(arguments.side))
        return
    if arguments.tune:
        print(json.dumps({part: tune(part) for part in arguments.only if part in TRL_MICRO_BATCH}))
        return
    found: Figures = {"machine": machine()}
    if RESULT.exists():
        found = {**json.loads(RESULT.read_text()), **found}
    for part in arguments.only:
        found[part] = compare(part, arguments.pairs)
        print(f"{part}: {json.dumps(found[part])}", file=sys.stderr)
        if arguments.write:
            RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def compare(part: str, num_pairs: int) -> Figures:
    """Let the sides of a part take turns, after a first step of each that is not counted."""
    sides = PARTS[part]["sides"]
    pairs: list[Figures] = []
    with running(part, sides, num_pairs + 1) as turns:
        for number in range(num_pairs + 1):
            order = sides if number % 2 else sides[::-1]
            steps = {side: turns[side]() for side in order}
            print(f"{part} {number}: {json.dumps(steps)}", file=sys.stderr)
            if number:
                pairs.append(steps)
        ends = {side: turns[side]() for side in sides}
    ours, other = sides
    off = [abs(p[ours]["loss"] - p[other]["loss"]) for p in pairs]
    ratios = [p[other]["seconds"] / p[ours]["seconds"] for p in pairs]
    return {
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "memory_ratio": ends[ours]["peak_gb"] / ends[other]["peak_gb"],
        "peak_gb": {side: ends[side]["peak_gb"] for side in sides},
        "tokens_per_s": {
            side: statistics.median(p[side]["tokens"] / p[side]["seconds"] for p in pairs)
            for side in sides
        },
        "matrix_share": statistics.median(p[ours]["work"] / p[ours]["seconds"] for p in pairs)
        / ends[ours]["peak_flops"],
        "matrix_peak_gflops": ends[ours]["peak_flops"] / 1e9,
        "largest_loss_difference": max(off),
        "micro_batch_of_trl": TRL_MICRO_BATCH.get(part),
        "pairs": pairs,
    }


def tune(part: str) -> Figures:
    """Take one step of TRL with each size of micro-batch, after a first that is not counted."""
    sizes = [n for n in (1, 2, 4, 8, 16, 32) if n <= PARTS[part]["batch_size"]]
    seconds = {}
    for size in sizes:
        TRL_MICRO_BATCH[part] = size
        with running(part, ["trl"], 2) as turns:
            turns["trl"]()
            seconds[size] = turns["trl"]()["seconds"]
        print(f"{part} {size}: {seconds[size]:.1f} s", file=sys.stderr)
    return seconds


@contextlib.contextmanager
def running(
    part: str, sides: list[str], num_steps: int
) -> Iterator[dict[str, Callable[[], Figures]]]:
    """Start the sides and give what lets each take its next turn."""
    started: dict[str, subprocess.Popen[str]] = {}
    for side in sides:
        wanted = {"part": part, "side": side, "num_steps": num_steps}
        wanted["micro_batch"] = TRL_MICRO_BATCH.get(part)
        started[side] = subprocess.Popen(
            [sys.executable, __file__, "--side", json.dumps(wanted)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(NUM_CORES), "HF_HUB_OFFLINE": "1"},
        )

    def turn(side: str) -> Figures:
        process = started[side]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith('{"'):  # TRL prints dicts of its own
                return dict(json.loads(line))
        raise SystemExit(f"{part}: the side {side} ended before its turn")

    def bind(side: str) -> Callable[[], Figures]:
        return lambda: turn(side)

    try:
        yield {side: bind(side) for side in sides}
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def take_turns(wanted: Figures) -> None:
    """Be one side: take a step whenever a line comes in, and at last tell the peaks."""
    import torch

    torch.set_num_threads(NUM_CORES)
    torch.manual_seed(0)
    (train_trl if wanted["side"] == "trl" else train_ours)(wanted)
    sys.stdin.readline()
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    tell({"peak_gb": peak_gb, "peak_flops": max(_products)})


def train_ours(wanted: Figures) -> None:
    """Train with biddable; the side "plain" keeps no states of frozen layers."""
    from biddable.config_training import TrainingConfig
    from biddable.models.freezing import freeze_layers
    from biddable.training.trainer import train

    part = PARTS[wanted["part"]]
    loaded, rows, steps = prepare(part, wanted["num_steps"])
    if "rank" in part:
        adapt(loaded.model, part)
    elif "frozen" in part:
        freeze_layers(loaded.model, part["frozen"])
    started = 0.0

    def listen(event: Figures) -> None:
        nonlocal started
        if event["event"] == "step":
            seconds, numbers = time.perf_counter() - started, steps[event["step"] - 1]
            work = needed_work(loaded.model, rows, numbers, is_lora="rank" in part)
            tokens = int(rows.lengths[numbers].sum())
            tell({"seconds": seconds, "loss": event["loss"], "tokens": tokens, "work": work})
            if event["step"] == wanted["num_steps"]:
                raise _Done
        if event["event"] in ("start", "step"):
            started = wait()

    settings = TrainingConfig(
        epochs=wanted["num_steps"] + 1 if part["rows"] == "document" else 2,
        batch_size=part["batch_size"],
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_share=0.0,
        activation_cache_gb=8.0 if wanted["side"] == "ours" else 0.0,
    )
    with contextlib.suppress(_Done):
        train(loaded.model, rows, settings=settings, on_event=listen)


def adapt(model: Any, part: Figures) -> None:
    """Put adapters on the linear layers above the cut; each side starts from the same ones."""
    import torch

    from biddable.models.freezing import decoder_layers
    from biddable.models.lora import apply_lora

    layers = decoder_layers(model)[part.get("frozen", 0) :]
    adapted = {id(module) for layer in layers for module in layer.modules()}
    linear = [
        name
        for name, module in model.named_modules()
        if id(module) in adapted and isinstance(module, torch.nn.Linear)
    ]
    torch.manual_seed(0)
    apply_lora(model, rank=part["rank"], target_modules=linear)


def adapter_start(part: Figures) -> dict[str, Any]:
    """Give the start of each adapter's A, by PEFT's name of it."""
    from biddable.models.loading import load
    from biddable.models.lora import lora_layers

    model = load("smollm2").model
    adapt(model, part)
    return {
        f"base_model.model.{name}.lora_A.default.weight": layer.lora_A.detach().T.clone()
        for name, layer in lora_layers(model).items()
    }


def train_trl(wanted: Figures) -> None:
    """Train with TRL on the same ids, as fast as it can be set here."""
    import datasets
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    part = PARTS[wanted["part"]]
    loaded, rows, steps = prepare(part, wanted["num_steps"])
    chosen = [rows[n] for step in steps for n in step]
    table = {
        "input_ids": [row.input_ids for row in chosen],
        "completion_mask": [[int(m) for m in row.loss_mask] for row in chosen],
    }
    peft_config, start = None, {}
    if "rank" in part:
        from peft import LoraConfig

        peft_config = LoraConfig(
            r=part["rank"], lora_alpha=part["rank"], target_modules="all-linear", bias="none"
        )
        start = adapter_start(part)

    class Turns(TrainerCallback):
        """Wait before each step, and tell its time and loss when the loss is logged."""

        started = seconds = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.perf_counter() - self.started

        def on_log(self, _: Any, state: Any, *__: Any, logs: Figures, **___: Any) -> None:
            if "loss" in logs:
                tokens = int(rows.lengths[steps[state.global_step - 1]].sum())
                tell({"seconds": self.seconds, "loss": logs["loss"], "tokens": tokens})

    settings = SFTConfig(
        output_dir="/tmp/biddable-bench-trl",
        max_steps=wanted["num_steps"],
        per_device_train_batch_size=wanted["micro_batch"],
        gradient_accumulation_steps=part["batch_size"] // wanted["micro_batch"],
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        completion_only_loss=True,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=False,
        use_cpu=True,
        weight_decay=0.0,
    )
    tokenizer = loaded.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = SFTTrainer(
        model=loaded.model,
        args=settings,
        train_dataset=datasets.Dataset.from_dict(table),
        processing_class=tokenizer,
        callbacks=[Turns()],
        peft_config=peft_config,
    )
    for name, parameter in trainer.model.named_parameters():
        if name in start:
            parameter.data.copy_(start.pop(name))
    if start:
        raise SystemExit(f"PEFT has no {next(iter(start))}")
    trainer.train()


def prepare(part: Figures, num_steps: int) -> tuple[Any, Any, list[list[int]]]:
    """Load the model and encode the rows; give the rows of each step, too."""
    from biddable.data.batching import BatchPlan
    from biddable.data.encoded import EncodedRows
    from biddable.data.encoding import encode_all
    from biddable.data.templates import get_template
    from biddable.models.loading import load

    loaded = load("smollm2")
    template = get_template("alpaca", loaded.tokenizer)
    size = part["batch_size"]
    conversations = (
        document_rows(size) if part["rows"] == "document" else alpaca_rows(size * num_steps)
    )
    examples, _ = encode_all(
        conversations, template, loaded.tokenizer, max_seq_len=None, learn="answers"
    )
    rows = EncodedRows.of(examples)
    epochs = num_steps if part["rows"] == "document" else 1
    plan = BatchPlan(rows, batch_size=size, epochs=epochs, is_tree=True)
    return loaded, rows, [[n for group in step.micro_batches for n in group] for step in plan]


def alpaca_rows(num_rows: int) -> list[Any]:
    """Take the first rows of the real data."""
    from biddable.data.readers import read_conversations

    data = os.environ.get("BIDDABLE_TEST_DATA")
    if not data:
        raise SystemExit("set BIDDABLE_TEST_DATA to the folder that has rasbt_instructions")
    path = Path(data) / "rasbt_instructions" / "instruction-data.json"
    return list(read_conversations(path))[:num_rows]


def document_rows(num_rows: int) -> list[Any]:
    """Ask questions about one made document of about 600 tokens."""
    from biddable.data.conversation import Conversation, Message

    facts = [
        f"On day {day} the crew of the Lantern counted {7 * day % 31} seals near buoy {day * 3}, "
        f"wrote it into the log, and sailed {day % 5 + 2} miles further."
        for day in range(1, 20)
    ]
    document = " ".join(facts)
    return [
        Conversation(
            (
                Message("user", f"{document}\n\nHow many seals were counted on day {day}?"),
                Message("assistant", f"On day {day} there were {7 * day % 31} seals."),
            ),
            f"day {day}",
        )
        for day in range(1, num_rows + 1)
    ]


def needed_work(model: Any, rows: Any, numbers: list[int], *, is_lora: bool) -> float:
    """Count the floating-point operations that a step cannot do without."""
    from biddable.data.trees import build_tree

    config = model.config
    tree = build_tree(rows, numbers)
    num_nodes = len(tree.input_ids)
    width = config.hidden_size
    layers = [p for name, p in model.named_parameters() if ".layers." in name]
    body = sum(p.numel() for p in layers if p.dim() == 2)
    pairs = int((tree.position_ids + 1).sum())
    heads = 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    head = config.vocab_size * width * len(tree.parents.unique())
    passes = 4 if is_lora else 6
    return float(passes * body * num_nodes + passes * head + 3 * heads * pairs)


def wait() -> float:
    """Wait for the turn; find out meanwhile how fast a matrix product is now."""
    import torch

    sys.stdin.readline()
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    started = time.perf_counter()
    for _ in range(_NUM_PRODUCTS):
        left @ right
    _products.append(2 * 1024**3 * _NUM_PRODUCTS / (time.perf_counter() - started))
    return time.perf_counter()


def tell(figures: Figures) -> None:
    """Give figures to the process that compares."""
    print(json.dumps(figures), flush=True)


def machine() -> Figures:
    """Say where and with what this was measured."""
    names = ("torch", "transformers", "trl", "peft")
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
    }


class _Done(Exception):
    """All steps were taken."""


_NUM_PRODUCTS = 50
_products: list[float] = []

if __name__ == "__main__":
    main()
