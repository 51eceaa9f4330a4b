"""Measure how fast and in how much memory SmolLM2-135M is trained, beside TRL's SFTTrainer.

    python benchmarks/train.py                     print the figures as JSON
    python benchmarks/train.py --write             and keep them in benchmarks/results/train.json,
                                                   or train_256.json without AVX-512
    python benchmarks/train.py --only lora cache   some of the parts; the others stay as they were
    python benchmarks/train.py --tune              try TRL's micro-batches
    python benchmarks/train.py --profile lora      tell what the time of our steps goes into

Each side is a process of its own that takes one optimizer step and waits while the other takes
the same step: the same rows in the same order, the same ids, mask, rate, and clipping, with full
float32 on two cores. Their losses are compared step by step. Of each pair the ratio is taken; the
median, the least and the largest are kept, with the peak memory of each process.

- full, lora: rows of `$BIDDABLE_TEST_DATA`'s rasbt_instructions in the Alpaca form, batches of 32.
- shared_context: one made document of 600 tokens, 8 questions on it, batches of 8.
- cache: the lower two thirds of the layers frozen, with and without their states kept, for all
  weights above the cut and for adapters above it.

A token counts once for each row that it stands in, padding apart. The needed work of a step is six
operations for each weight below the head and each different token (four where only adapters train,
two where nothing trains from there down, none where the states of such layers are kept), as many
for each weight of the head and each place where something is learned (four if the head is frozen),
and attention between the tokens that see each other. Its share is of the matrix peak: the fastest
of a row of products, by the faster of torch's libraries, that the same process makes before each
of its turns. Where both sides are ours, the quotient of their needed work is what the ratio could
be at best.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "src"))

from benchmarks import train_sides  # noqa: E402
from biddable.cli_heap import VARIABLE, WITHOUT_CACHES  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
NUM_PAIRS = 5
PARTS = train_sides.PARTS
Figures = dict[str, Any]
OUR_HEAP = {VARIABLE: WITHOUT_CACHES}  # as `biddable train` starts
# Rows of a forward pass of TRL that are fastest here; --tune finds them.
TRL_MICRO_BATCH = {"full": 4, "lora": 4, "shared_context": 2}


def main() -> None:
    """Run the parts that are asked for, or be one of the two sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pairs", type=int, default=NUM_PAIRS)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--profile", choices=PARTS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        train_sides.take_turns(json.loads(arguments.side))
        return
    if arguments.profile:
        print(json.dumps(train_sides.profile(arguments.profile), indent=1))
        return
    if arguments.tune:
        print(json.dumps({part: tune(part) for part in arguments.only if part in TRL_MICRO_BATCH}))
        return
    found: Figures = {"machine": machine()}
    is_wide = found["machine"]["processor"].startswith("AVX512")
    kept = RESULTS / ("train.json" if is_wide else "train_256.json")
    if kept.exists():
        found = {**json.loads(kept.read_text()), **found}
    for part in arguments.only:
        found[part] = compare(part, arguments.pairs)
        print(f"{part}: {json.dumps(found[part])}", file=sys.stderr)
        if arguments.write:
            kept.write_text(json.dumps(found, indent=1) + "\n")
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
    works = [p[other]["work"] / p[ours]["work"] for p in pairs if "work" in p[other]]
    return {
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        **({"ratio_at_best": statistics.median(works)} if works else {}),
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
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(train_sides.NUM_CORES),
                "HF_HUB_OFFLINE": "1",
                **({} if side == "trl" else OUR_HEAP),
            },
        )

    def bind(side: str) -> Callable[[], Figures]:
        return lambda: next_turn(started[side], f"{part}: the side {side}")

    try:
        yield {side: bind(side) for side in sides}
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def next_turn(process: subprocess.Popen[str], name: str) -> Figures:
    """Let a side take its next turn, and give what it tells of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith('{"'):  # trainers print dicts and lines of their own
            return dict(json.loads(line))
    raise SystemExit(f"{name} ended before its turn")


def machine() -> Figures:
    """Say where and with what this was measured."""
    import torch

    names = ("torch", "transformers", "trl", "peft")
    return {
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    main()
