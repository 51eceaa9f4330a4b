"""Measure full fine-tuning of SmolLM2-135M beside LitGPT's, in an interpreter of its own.

    python -m venv /tmp/litgpt && /tmp/litgpt/bin/pip install litgpt torch==2.13.0
    python benchmarks/train_litgpt.py /tmp/litgpt/bin/python            print the figures as JSON
    python benchmarks/train_litgpt.py /tmp/litgpt/bin/python --write    and keep them in results/
    python benchmarks/train_litgpt.py /tmp/litgpt/bin/python --tune     try LitGPT's micro-batches

LitGPT wants another huggingface-hub than this package, so the two share no installation. Both take
turns at the same steps of `train.py`'s part `full`: its rows, order, rate, clipping, and two cores.
LitGPT is given the same weights by its own converter, and trains by its own model, collate function
and loss as `litgpt finetune_full` does, in float32 on the CPU, but for three things. AdamW is the
fused one, which is faster. Head and embeddings share their weight, as in the base; there they are
trained apart, which takes more memory. And each micro-batch counts by its learned tokens, so that
the gradient is ours; there it is the mean of the means.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks import train, train_sides  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "train_litgpt.json"
PART = "full"
MICRO_BATCH = 4  # rows of a forward pass of LitGPT that are fastest here; --tune finds them
CONVERT = """
import pathlib, sys
from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint
convert_hf_checkpoint(pathlib.Path(sys.argv[1]), model_name="SmolLM2-135M", dtype="float32")
"""
Figures = dict[str, Any]


def main() -> None:
    """Let the two take turns, or be LitGPT's side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path, help="the interpreter that has LitGPT")
    parser.add_argument("--pairs", type=int, default=train.NUM_PAIRS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        train_by_turns(json.loads(arguments.side))
        return
    with tempfile.TemporaryDirectory() as folder:
        num_steps = 2 if arguments.tune else arguments.pairs + 1
        prepare(arguments.python, Path(folder), num_steps)
        if arguments.tune:
            print(json.dumps(tune(arguments.python, Path(folder))))
            return
        found = compare(arguments.python, Path(folder), arguments.pairs)
    if arguments.write:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def prepare(python: Path, folder: Path, num_steps: int) -> None:
    """Write the base as LitGPT has it, and the rows of each step."""
    loaded, rows, steps = train_sides.prepare(train_sides.PARTS[PART], num_steps)
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    written = [
        [[rows[n].input_ids, [int(m) for m in rows[n].loss_mask]] for n in step] for step in steps
    ]
    (folder / "steps.json").write_text(json.dumps(written))
    subprocess.run([python, "-c", CONVERT, folder], check=True, stdout=sys.stderr)


def compare(python: Path, folder: Path, num_pairs: int) -> Figures:
    """Let both take the same steps in turn, after a first of each that is not counted."""
    pairs: list[Figures] = []
    with (
        train.running(PART, ["ours"], num_pairs + 1) as ours,
        litgpt_side(python, folder, MICRO_BATCH) as litgpt,
    ):
        turns = {**ours, "litgpt": litgpt}
        versions = litgpt()
        for number in range(num_pairs + 1):
            names = list(turns) if number % 2 else list(turns)[::-1]
            pairs.append({name: turns[name]() for name in names})
            print(f"{number}: {json.dumps(pairs[-1])}", file=sys.stderr)
        peaks = {name: turn()["peak_gb"] for name, turn in turns.items()}
    counted = pairs[1:]
    ratios = [pair["litgpt"]["seconds"] / pair["ours"]["seconds"] for pair in counted]
    return {
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "memory_ratio": peaks["ours"] / peaks["litgpt"],
        "peak_gb": peaks,
        "tokens_per_s": {
            name: statistics.median(p[name]["tokens"] / p[name]["seconds"] for p in counted)
            for name in turns
        },
        "largest_loss_difference": max(abs(p["ours"]["loss"] - p["litgpt"]["loss"]) for p in pairs),
        "micro_batch_of_litgpt": MICRO_BATCH,
        "versions_of_litgpt": versions,
        "machine": train.machine(),
        "pairs": counted,
    }


def tune(python: Path, folder: Path) -> Figures:
    """Take one step with each size of micro-batch, after a first that is not counted."""
    seconds = {}
    for size in (2, 4, 8, 16):
        with litgpt_side(python, folder, size) as turn:
            turn(), turn()
            seconds[size] = turn()["seconds"]
        print(f"{size}: {seconds[size]:.1f} s", file=sys.stderr)
    return seconds


@contextlib.contextmanager
def litgpt_side(python: Path, folder: Path, micro_batch: int) -> Iterator[Callable[[], Figures]]:
    """Start LitGPT's side and give what lets it take its next turn; the first tells versions."""
    wanted = {"folder": str(folder), "micro_batch": micro_batch}
    process = subprocess.Popen(
        [python, __file__, str(python), "--side", json.dumps(wanted)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(train_sides.NUM_CORES), "HF_HUB_OFFLINE": "1"},
    )

    try:
        yield lambda: train.next_turn(process, "LitGPT's side")
    finally:
        process.kill()
        process.wait()


def train_by_turns(wanted: Figures) -> None:
    """Be LitGPT's side: take a step whenever a line comes in; nothing of biddable is here."""
    import litgpt
    import torch
    from litgpt.data.base import get_sft_collate_fn
    from litgpt.utils import chunked_cross_entropy

    torch.set_num_threads(train_sides.NUM_CORES)
    folder = Path(wanted["folder"])
    model = litgpt.GPT(litgpt.Config.from_file(folder / "model_config.yaml"))
    model.load_state_dict(torch.load(folder / "lit_model.pth", mmap=True))
    model.transformer.wte.weight = model.lm_head.weight
    steps = json.loads((folder / "steps.json").read_text())
    model.max_seq_length = max(len(ids) for step in steps for ids, _ in step)
    collate = get_sft_collate_fn()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train_sides.LEARNING_RATE, weight_decay=0.0, fused=True
    )
    sys.stdin.readline()
    tell({"torch": torch.__version__, "litgpt": version("litgpt")})
    for step in steps:
        sys.stdin.readline()
        started, loss_sum = time.perf_counter(), 0.0
        num_learned = sum(sum(mask[1:]) for _, mask in step)
        for start in range(0, len(step), wanted["micro_batch"]):
            batch = collate([sample(*row) for row in step[start : start + wanted["micro_batch"]]])
            targets = batch["labels"][..., 1:]
            logits = model(batch["input_ids"])
            mean = chunked_cross_entropy(logits[..., :-1, :], targets)
            part = mean * ((targets != -100).sum() / num_learned)
            part.backward()
            loss_sum += part.item()
            del logits, mean, part
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens = sum(len(ids) for ids, _ in step)
        tell({"seconds": time.perf_counter() - started, "loss": loss_sum, "tokens": tokens})
    sys.stdin.readline()
    tell({"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6})


def sample(ids: list[int], mask: list[int]) -> Figures:
    """Give a row as LitGPT's data sets give it."""
    import torch

    labels = [token if learned else -100 for token, learned in zip(ids, mask, strict=True)]
    counts = {"raw": len(ids), "raw_plus_prompt_template": len(ids)}
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "token_counts": counts,
    }


def version(name: str) -> str:
    """Ask the interpreter that runs this."""
    from importlib import metadata

    return metadata.version(name)


def tell(figures: Figures) -> None:
    """Give figures to the process that compares."""
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
