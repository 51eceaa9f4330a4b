"""The sides that `train.py` lets take turns: biddable's training, and TRL's on the same ids."""

import contextlib
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

NUM_CORES = 2
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
    part = PARTS[wanted["part"]]
    loaded, rows, steps = prepare(part, wanted["num_steps"])
    kept = wanted["side"] == "ours" and "frozen" in part
    started = 0.0

    def listen(event: Figures) -> None:
        nonlocal started
        if event["event"] == "step":
            seconds, numbers = time.perf_counter() - started, steps[event["step"] - 1]
            work = needed_work(loaded.model, rows, numbers, part=part, kept=kept)
            tokens = int(rows.lengths[numbers].sum())
            tell({"seconds": seconds, "loss": event["loss"], "tokens": tokens, "work": work})
            if event["step"] == wanted["num_steps"]:
                raise _Done
        if event["event"] in ("start", "step"):
            started = wait()

    run(wanted, loaded.model, rows, listen)


def run(wanted: Figures, model: Any, rows: Any, listen: Any) -> None:
    """Train with biddable until the listener has had enough."""
    from biddable.config_training import TrainingConfig
    from biddable.models.freezing import freeze_layers
    from biddable.training.trainer import train

    part = PARTS[wanted["part"]]
    if "rank" in part:
        adapt(model, part)
    elif "frozen" in part:
        freeze_layers(model, part["frozen"])
    settings = TrainingConfig(
        epochs=wanted["num_steps"] + 1 if part["rows"] == "document" else 2,
        batch_size=part["batch_size"],
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_share=0.0,
        activation_cache_gb=8.0 if wanted["side"] == "ours" else 0.0,
    )
    with contextlib.suppress(_Done):
        train(model, rows, settings=settings, on_event=listen)


def profile(part_name: str, num_steps: int = 4) -> Figures:
    """Tell what the time of our steps goes into, by kind of operation; the first is left out."""
    import torch

    torch.set_num_threads(NUM_CORES)
    wanted = {"part": part_name, "side": "ours", "num_steps": num_steps}
    loaded, rows, _ = prepare(PARTS[part_name], num_steps)
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    started = 0.0

    def listen(event: Figures) -> None:
        nonlocal started
        if event["event"] == "step" and event["step"] == num_steps:
            profiler.stop()
            raise _Done
        if event["event"] == "step" and event["step"] == 1:
            profiler.start()
            started = time.perf_counter()

    run(wanted, loaded.model, rows, listen)
    seconds = time.perf_counter() - started
    by_kind: Counter[str] = Counter()
    by_name: Counter[str] = Counter()
    for entry in profiler.key_averages():
        by_kind[_kind_of(entry.key)] += entry.self_cpu_time_total / 1e6
        by_name[entry.key] += entry.self_cpu_time_total / 1e6
    return {
        "seconds_a_step": seconds / (num_steps - 1),
        "by_kind": {kind: spent / seconds for kind, spent in by_kind.most_common()},
        "not in any operation": 1 - by_kind.total() / seconds,
        "by_name": {name: spent / seconds for name, spent in by_name.most_common(25)},
    }


def _kind_of(name: str) -> str:
    kinds = (kind for kind, names in _KINDS.items() if any(part in name for part in names))
    return next(kinds, "between the layers")


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
    from trl import SFTTrainer

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

    tokenizer = loaded.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    trainer = SFTTrainer(
        model=loaded.model,
        args=settings_of_trl(wanted),
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


def settings_of_trl(wanted: Figures) -> Any:
    """Set TRL to take the same steps."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir="/tmp/biddable-bench-trl",
        max_steps=wanted["num_steps"],
        per_device_train_batch_size=wanted["micro_batch"],
        gradient_accumulation_steps=PARTS[wanted["part"]]["batch_size"] // wanted["micro_batch"],
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


def needed_work(model: Any, rows: Any, numbers: list[int], *, part: Figures, kept: bool) -> float:
    """Count the floating-point operations that a step cannot do without.

    Args:
        model: as it trains.
        rows: all of them.
        numbers: of the rows of the step.
        part: of the benchmark.
        kept: whether the states of frozen layers are.
    """
    from biddable.data.trees import build_tree

    config, num_frozen = model.config, part.get("frozen", 0)
    tree = build_tree(rows, numbers)
    layers = [p for name, p in model.named_parameters() if ".layers." in name]
    of_a_layer = sum(p.numel() for p in layers if p.dim() == 2) / config.num_hidden_layers
    pairs = int((tree.position_ids + 1).sum())
    attention = 4 * config.num_attention_heads * config.head_dim * pairs
    passes = 4 if "rank" in part else 6
    above = passes * of_a_layer * len(tree.input_ids) + 3 * attention
    below = 0 if kept else 2 * of_a_layer * len(tree.input_ids) + attention
    head = config.vocab_size * config.hidden_size * len(tree.parents.unique())
    passes_of_head = 4 if "rank" in part or num_frozen else 6  # it is tied to the embeddings
    num_trained = config.num_hidden_layers - num_frozen
    return float(num_trained * above + num_frozen * below + passes_of_head * head)


def wait() -> float:
    """Wait for the turn; find out meanwhile how fast a matrix product is now."""
    import torch

    from biddable.models.products import multiply

    sys.stdin.readline()
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    started = time.perf_counter()
    for _ in range(_NUM_PRODUCTS):
        multiply(left, right)
    _products.append(2 * 1024**3 * _NUM_PRODUCTS / (time.perf_counter() - started))
    return time.perf_counter()


def tell(figures: Figures) -> None:
    """Give figures to the process that compares."""
    print(json.dumps(figures), flush=True)


class _Done(Exception):
    """All steps were taken."""


# What the names of operations contain, by the kind of their work; the first that fits.
_KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn", "LowRank", "_Linear"),
    "attention": ("attention", "embedding", "index_select", "EmbeddingBackward"),
    "loss": ("logsumexp", "EdgeLoss", "exp_", "index_put"),
    "optimizer": ("adamw", "Optimizer", "norm", "foreach"),
    "memory": ("copy_", "aten::empty", "zero_", "fill_", "AccumulateGrad"),
}
_NUM_PRODUCTS = 50
_products: list[float] = []
