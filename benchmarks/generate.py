"""Measure how fast SmolLM2-135M answers 64 prompts, beside transformers' own generate.

    python benchmarks/generate.py              print the figures as JSON
    python benchmarks/generate.py --write      and keep them in benchmarks/results/generate.json
    python benchmarks/generate.py --rounds 1   a quicker look

The prompts are the first 64 rows of `$BIDDABLE_TEST_DATA`'s rasbt_instructions in the Alpaca form;
each gets 32 new ids, the likeliest, in float32 on two cores. In every round the three sides take
turns on the same model: transformers on some of the prompts, one at a time (on all of them once
the rounds are over); transformers on all in one batch, padded on the left; biddable on all. A
first, short turn of each is not counted. Where ids differ from ours, the gap between the logits of
the two candidates tells a tie within rounding from an error.

The share of the matrix peak is that of reading the prompts: two operations for each weight below
the head and each token of the prompts' tree, and for each weight of the head and each prompt, over
the fastest of a row of products. The share of bandwidth is that of a further id: the bytes of the
weights and of the keys and values read, over the fastest of a row of copies.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from biddable.data.encoded import EncodedRows, Example  # noqa: E402
from biddable.data.trees import build_tree  # noqa: E402
from biddable.models.cpu_linear import fast_linears  # noqa: E402
from biddable.models.generation import generate  # noqa: E402
from biddable.models.loading import load  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "generate.json"
NUM_CORES, NUM_PROMPTS, NUM_NEW = 2, 64, 32
TIE = 1e-3  # of logits, whose size is some ten: what the order of additions may change
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}{input}\n\n### Response:\n"
)
Figures = dict[str, Any]
Ids = list[list[int]]


def main() -> None:
    """Let the sides take turns, and print or keep what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(NUM_CORES)
    loaded = load("smollm2")
    # every answer has the same length: none stops by itself
    loaded.model.generation_config = GenerationConfig(pad_token_id=0)
    found = measure(loaded.model, read_prompts(loaded.tokenizer), arguments.rounds)
    text = json.dumps({**found, "machine": machine()}, indent=1)
    if arguments.write:
        RESULT.write_text(text + "\n")
    print(text)


def measure(model: PreTrainedModel, prompts: Ids, num_rounds: int) -> Figures:
    """Time the sides in turn, compare their ids, and set ours beside what the machine can do."""
    sides: dict[str, Callable[[Ids, int], Ids]] = {
        "single": lambda rows, n: [transformers_ids(model, [row], n)[0] for row in rows],
        "batch": lambda rows, n: transformers_ids(model, rows, n),
        "ours": lambda rows, n: our_ids(model, rows, n),
    }
    runs: dict[str, list[float]] = {side: [] for side in sides}
    prefills: list[float] = []
    ids: dict[str, dict[int, list[int]]] = {side: {} for side in sides}
    for side in sides:
        sides[side](prompts[:2], 2)
    for number in range(num_rounds):
        for side in list(sides)[:: 1 if number % 2 else -1]:
            chosen = range(NUM_PROMPTS)
            if side == "single":
                chosen = range(number, NUM_PROMPTS, num_rounds)
            answer = partial(sides[side], [prompts[n] for n in chosen], NUM_NEW)
            seconds, written = timed(answer)
            ids[side].update(zip(chosen, written, strict=True))
            runs[side].append(len(chosen) * NUM_NEW / seconds)
            print(f"{number} {side}: {runs[side][-1]:.1f} ids/s", file=sys.stderr)
        prefills.append(timed(partial(our_ids, model, prompts, 1))[0])
    speed = {side: statistics.median(values) for side, values in runs.items()}
    whole_s = NUM_PROMPTS * NUM_NEW / speed["ours"]
    return {
        "ratio_single": speed["ours"] / speed["single"],
        "ratio_batch": speed["ours"] / speed["batch"],
        **shares(model, prompts, statistics.median(prefills), whole_s),
        "ids_per_s": speed,
        "ids_per_s_range": {side: [min(values), max(values)] for side, values in runs.items()},
        "same_ids": {
            side: compared(model, prompts, ids["ours"], ids[side]) for side in ("single", "batch")
        },
        "runs": {**runs, "prefill_s": prefills},
    }


def shares(
    model: PreTrainedModel, prompts: Ids, prefill_s: float, whole_s: float
) -> dict[str, float]:
    """Set the work of reading prompts, and the bytes of a further id, beside the machine's best."""
    config = model.config
    head = model.get_output_embeddings().weight.numel()
    below = sum(weight.numel() for weight in model.model.layers.parameters())
    rows = EncodedRows.of([Example(row, [True] * len(row)) for row in prompts])
    num_nodes = len(build_tree(rows, range(len(rows))).input_ids)
    work = 2 * (below * num_nodes + head * len(prompts))
    states = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    # the cache holds all rows filled up to the longest, and grows by one id a step
    places = len(prompts) * (max(map(len, prompts)) + NUM_NEW / 2)
    step_bytes = 4 * (below + head + states * places)
    step_s = (whole_s - prefill_s) / (NUM_NEW - 1)
    peak, bandwidth = matrix_peak(), copy_bandwidth()
    return {
        "bandwidth_share": step_bytes / step_s / bandwidth,
        "decode_matrix_share": 2 * (below + head) * len(prompts) / step_s / peak,
        "prefill_matrix_share": work / prefill_s / peak,
        "prefill_s": prefill_s,
        "step_s": step_s,
        "step_gb": step_bytes / 1e9,
        "prompt_ids": sum(map(len, prompts)),
        "tree_ids": num_nodes,
        "matrix_peak_gflops": peak / 1e9,
        "copy_gb_per_s": bandwidth / 1e9,
    }


def transformers_ids(model: PreTrainedModel, rows: Ids, num_new: int) -> Ids:
    """Let transformers continue rows in one batch, padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=num_new, do_sample=False
    )
    return [row[longest:] for row in out.tolist()]


def our_ids(model: PreTrainedModel, rows: Ids, num_new: int) -> Ids:
    """Let biddable continue rows."""
    return [found.ids for found in generate(model, rows, stop_ids=[], max_new_tokens=num_new)]


def compared(
    model: PreTrainedModel, prompts: Ids, ours: dict[int, list[int]], other: dict[int, list[int]]
) -> Figures:
    """Count the answers that are the same, that part at a tie, and that part elsewhere."""
    gaps = []
    for number, ids in other.items():
        if ids != ours[number]:
            at = next(n for n in range(len(ids)) if ids[n] != ours[number][n])
            with torch.no_grad():
                logits = model(torch.tensor([prompts[number] + ids[:at]])).logits[0, -1]
            gaps.append(float((logits[ids[at]] - logits[ours[number][at]]).abs()))
    return {
        "compared": len(other),
        "same": len(other) - len(gaps),
        "ties": sum(gap <= TIE for gap in gaps),
        "different": sum(gap > TIE for gap in gaps),
        "largest_gap": max(gaps, default=0.0),
    }


def matrix_peak() -> float:
    """Find the most operations a second, of products as large as the model's."""
    layer = torch.nn.Linear(576, 1536, bias=False)
    x = torch.randn(1024, 576)
    with torch.no_grad(), fast_linears(layer):
        best = min(timed(lambda: layer(x))[0] for _ in range(200))
    return 2 * x.numel() * 1536 / best


def copy_bandwidth() -> float:
    """Find the most bytes a second that are read and written by a copy larger than all caches."""
    source = torch.randn(1 << 26)
    target = torch.empty_like(source)
    best = min(timed(lambda: target.copy_(source))[0] for _ in range(10))
    return 2 * source.numel() * source.element_size() / best


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that it took, and what came out."""
    start = time.perf_counter()
    found = act()
    return time.perf_counter() - start, found


def read_prompts(tokenizer: PreTrainedTokenizerBase) -> Ids:
    """Encode the prompts."""
    path = Path(os.environ["BIDDABLE_TEST_DATA"]) / "rasbt_instructions" / "instruction-data.json"
    texts = []
    for row in json.loads(path.read_text(encoding="utf-8"))[:NUM_PROMPTS]:
        given = f"\n\n### Input:\n{row['input']}" if row["input"] else ""
        texts.append(ALPACA.format(instruction=row["instruction"], input=given))
    ids: Ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def machine() -> Figures:
    """Say where and with what this was measured."""
    names = ("torch", "transformers")
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    main()
