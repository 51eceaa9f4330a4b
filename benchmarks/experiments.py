"""Measure what tuning mimic depends on: examples, epochs, the mask, LoRA's rank, replayed pages.

    python benchmarks/experiments.py examples epochs learn lora replay --seeds 0 1 2

    python benchmarks/experiments.py --plot docs/experiments.svg    draws what the files hold

Every run starts from the embedded base and is scored on the built-in held-out items of the rings
entity and wording, none of which shares an entity with any training row. Each experiment has its
file, benchmarks/results/experiments-NAME.json, written run by run, so that what was cut off goes on
where it stopped; a run that two experiments share is made once.
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

from biddable.config_training import MethodConfig, TrainingConfig
from biddable.data.builtin import builtin_path
from biddable.data.conversation import Conversation
from biddable.data.encoding import encode_all
from biddable.data.readers import read_conversations
from biddable.data.templates import get_template
from biddable.demo import SETTINGS
from biddable.evaluation.forgetting import measure_forgetting
from biddable.evaluation.pages import read_pages
from biddable.evaluation.runner import evaluate
from biddable.evaluation.suites import load_suite
from biddable.models.loading import load
from biddable.training.method import apply_method
from biddable.training.trainer import train

RESULTS = Path(__file__).parent / "results"
RECIPE = Path(__file__).parents[1] / "recipes" / "mimic"
EXPERIMENTS = ("examples", "epochs", "learn", "lora", "replay")
EXAMPLES = (50, 100, 200, 400, 800)
EPOCHS = (1, 2, 3, 6)
RANKS = (1, 4, 16, 64)
REPLAY = (0, 200, 600)  # pages beside the demo's rows; none of them is measured on
NUM_STEPS = 75  # of every run but those of "epochs": what differs is then not how long it trained
Plan = dict[str, Any]


def plans(what: str) -> Iterator[Plan]:
    """List the runs of one experiment, without their seeds."""
    size = EXAMPLES[-1]
    batch_size = SETTINGS["full"]["training"]["batch_size"]
    plain = {"method": "full", "num_examples": size, "learn": "answers"}
    plain["epochs"] = NUM_STEPS * batch_size / size
    if what == "examples":
        for num in EXAMPLES:
            yield {**plain, "num_examples": num, "epochs": NUM_STEPS * batch_size / num}
    elif what == "epochs":
        yield from ({**plain, "epochs": float(num)} for num in EPOCHS)
    elif what == "learn":
        yield from ({**plain, "learn": learn} for learn in ("answers", "all"))
    elif what == "lora":
        yield from ({**plain, "method": "lora", "rank": rank} for rank in RANKS)
    elif what == "replay":  # all rows and settings of the demo
        demo = {"num_examples": 4312, "epochs": 2.0}
        yield from ({**plain, **demo, "replay_pages": num} for num in REPLAY)


def run(plan: Plan, seed: int) -> dict[str, Any]:
    """Tune the base once and score it."""
    name = plan["method"]
    method: dict[str, Any] = {"name": name, **SETTINGS[name]["method"]}
    if "rank" in plan:
        method["rank"] = plan["rank"]
    chosen = {"epochs": plan["epochs"], "learn": plan["learn"]}
    settings = TrainingConfig(**{**SETTINGS[name]["training"], **chosen})
    loaded = load("mimic")
    rows = read_conversations(builtin_path("mimic", "train"))
    random.Random(seed).shuffle(rows)
    template = get_template("inst", loaded.tokenizer)
    examples, _ = encode_all(
        rows[: plan["num_examples"]] + replayed(plan.get("replay_pages", 0)),
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
    forgetting = {}
    if "replay_pages" in plan:
        forgetting["forgetting"] = measure_forgetting(load("mimic"), loaded, read_pages("mimic"))
        del forgetting["forgetting"]["moved"]
    return {
        "following": sum(bool(o.following) for o in outcomes) / num,
        "correct": sum(bool(o.correct) for o in outcomes) / num,
        "answer_loss": sum(o.answer_loss_sum or 0.0 for o in outcomes)
        / sum(o.num_loss_tokens for o in outcomes),
        "n": num,
        "steps": log.num_steps,
        **forgetting,
    }


def replayed(num_pages: int) -> list[Conversation]:
    """Write plain pages of mimic's world, to be learned beside the instruction rows."""
    if not num_pages:
        return []
    sys.path.append(str(RECIPE))
    from pages import replay_pages
    from world import load_world

    return [Conversation((), text=page["text"]) for page in replay_pages(load_world(), num_pages)]


def recorded() -> list[dict[str, Any]]:
    """Read the runs of all experiments that are there."""
    files = [RESULTS / f"experiments-{what}.json" for what in EXPERIMENTS]
    return [r for path in files if path.exists() for r in json.loads(path.read_text())["runs"]]


def result_of(plan: Plan, seed: int) -> dict[str, Any]:
    """Take a run from the files, or make it."""
    for record in recorded():
        if (record["plan"], record["seed"]) == (plan, seed):
            return record
    return {"plan": plan, "seed": seed, **run(plan, seed)}


def write(what: str, machine: dict[str, str], record: dict[str, Any]) -> None:
    """Add a run to an experiment's file, unless it is there."""
    path = RESULTS / f"experiments-{what}.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    if record not in runs:
        content = {"experiment": what, "machine": machine, "runs": [*runs, record]}
        path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def plot(path: Path) -> None:
    """Draw following against what was varied, a dot for each seed and a line through the means."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "biddable"  # the same picture gives the same file
    from matplotlib import pyplot

    shown = {"examples": "num_examples", "epochs": "epochs", "lora": "rank"}
    labels = {"examples": "examples", "epochs": "epochs (800 examples)", "lora": "LoRA's rank"}
    figure, panels = pyplot.subplots(1, len(shown), figsize=(10, 3.2), sharey=True)
    for panel, (what, key) in zip(panels, shown.items(), strict=True):
        runs = json.loads((RESULTS / f"experiments-{what}.json").read_text())["runs"]
        by_value: dict[float, list[float]] = {}
        for record in runs:
            by_value.setdefault(record["plan"][key], []).append(100 * record["following"])
        values = sorted(by_value)
        means = [sum(by_value[value]) / len(by_value[value]) for value in values]
        panel.plot(values, means, color="#14746f")
        for value in values:
            rates = by_value[value]
            panel.plot([value] * len(rates), rates, "o", color="#b5722a", markersize=4)
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.set_xlabel(labels[what])
        panel.grid(axis="y", color="#dddddd")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("following, %")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run what is asked and not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help=", ".join(EXPERIMENTS))
    parser.add_argument("--plot", type=Path, help="write a picture of what is there")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    if unknown := set(args.what) - set(EXPERIMENTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(EXPERIMENTS)}")
    machine = {"torch": torch.__version__, "python": platform.python_version()}
    machine["cores"] = str(os.cpu_count())
    RESULTS.mkdir(exist_ok=True)
    for what in args.what:
        for plan in plans(what):
            for seed in args.seeds:
                record = result_of(plan, seed)
                sys.stderr.write(json.dumps(record) + "\n")
                write(what, machine, record)
        print((RESULTS / f"experiments-{what}.json").read_text())
    if args.plot:
        plot(args.plot)


if __name__ == "__main__":
    main()
