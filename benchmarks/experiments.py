"""Measure what the instruction tuning of mimic depends on: examples, epochs, the mask, LoRA's rank.

    python benchmarks/experiments.py examples epochs learn lora --seeds 0 1 2

Every run starts from the embedded base and is scored on the built-in held-out items of the rings
entity and wording, none of which shares an entity with any training row. Results are merged into
benchmarks/results/experiments.json run by run, so that what was cut off goes on where it stopped.
"""

import argparse
import json
import os
import platform
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from biddable.config import MethodConfig, TrainingConfig
from biddable.data.builtin import builtin_path
from biddable.data.encoding import encode_all
from biddable.data.readers import read_conversations
from biddable.data.templates import get_template
from biddable.demo import SETTINGS
from biddable.evaluation.runner import evaluate
from biddable.evaluation.suites import load_suite
from biddable.models.loading import load
from biddable.training.finetune import apply_method
from biddable.training.trainer import train

RESULTS = Path(__file__).parent / "results" / "experiments.json"
EXAMPLES = (50, 100, 200, 400, 800)
EPOCHS = (1, 2, 3, 4, 6)
RANKS = (1, 4, 16, 64)
STEPS_OF_EXAMPLES = 250  # every size gets the same number of steps, so that only the rows differ


def plans(what: str) -> Iterator[dict[str, Any]]:
    """List the runs of one experiment, without their seeds."""
    if what == "examples":
        for num in EXAMPLES:
            yield {"num_examples": num, "epochs": STEPS_OF_EXAMPLES * 16 / num}
    elif what == "epochs":
        yield from ({"epochs": num} for num in EPOCHS)
    elif what == "learn":
        yield from ({"learn": learn} for learn in ("answers", "all"))
    elif what == "lora":
        yield from ({"method": "lora", "rank": rank} for rank in RANKS)


def run(plan: dict[str, Any], seed: int) -> dict[str, Any]:
    """Tune the base once and score it."""
    name = plan.get("method", "full")
    method: dict[str, Any] = {"name": name, **SETTINGS[name].get("method", {})}
    if "rank" in plan:
        method["rank"] = plan["rank"]
    settings = TrainingConfig(
        **{**SETTINGS[name]["training"], **{k: plan[k] for k in ("epochs", "learn") if k in plan}}
    )
    loaded = load("mimic")
    rows = read_conversations(builtin_path("mimic", "train"))
    random.Random(seed).shuffle(rows)
    template = get_template("inst", loaded.tokenizer)
    examples, _ = encode_all(
        rows[: plan.get("num_examples")],
        template,
        loaded.tokenizer,
        max_seq_len=None,
        learn=settings.learn,
    )
    torch.manual_seed(seed)
    apply_method(loaded.model, MethodConfig(**method))
    log = train(loaded.model, examples, settings=settings, seed=seed)
    samples = [s for s in load_suite("mimic") if s.ring != "unanswered"]
    outcomes = evaluate(loaded, samples, prompt_form="template", template="inst", run_code=True)
    num = len(outcomes)
    return {
        "following": sum(bool(o.following) for o in outcomes) / num,
        "correct": sum(bool(o.correct) for o in outcomes) / num,
        "answer_loss": sum(o.answer_loss_sum or 0.0 for o in outcomes)
        / sum(o.num_loss_tokens for o in outcomes),
        "n": num,
        "steps": log.num_steps,
    }


def main() -> None:
    """Run what is asked and not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=["examples", "epochs", "learn", "lora"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"runs": []}
    results["machine"] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    done = [(r["experiment"], r["plan"], r["seed"]) for r in results["runs"]]
    for what in args.what:
        for plan in plans(what):
            for seed in args.seeds:
                if (what, plan, seed) in done:
                    continue
                record = {"experiment": what, "plan": plan, "seed": seed, **run(plan, seed)}
                sys.stderr.write(json.dumps(record) + "\n")
                results["runs"].append(record)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
