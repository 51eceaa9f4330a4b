"""Compare what `biddable plan` says a run takes with what the run then takes.

    python benchmarks/plan.py                         print the figures as JSON
    python benchmarks/plan.py --write                 and keep them in benchmarks/results/plan.json
    python benchmarks/plan.py --only mimic_full ...   some of the runs; the others stay as they were

Each run is planned in one process and made in another, from the same config and with the heap of
`biddable train`: whole, with its held-out measurements, and saved. Memory is the peak that the plan
tells against the most that the process of the run had resident; time is the whole training's. An
error is the difference as a share of what happened; the figures are the largest of all runs, the
medians stand beside them.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from biddable.cli_heap import VARIABLE, WITHOUT_CACHES  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "plan.json"
Figures = dict[str, Any]

MIMIC: Figures = {
    "model": "mimic",
    "data": {"train": "mimic", "train_rows": 1024, "held_out_rows": 128, "shuffle_seed": 0},
    "template": "inst",
    "training": {"epochs": 2, "batch_size": 32},
}
SMOLLM2: Figures = {
    "model": "smollm2",
    "data": {"train": "starter", "train_rows": 96, "held_out_rows": 32, "shuffle_seed": 0},
    "template": "alpaca",
    "training": {"epochs": 1, "batch_size": 32},
}
LONG = {"train_rows": 64, "shuffle_seed": 0}
RUNS: dict[str, Figures] = {
    "mimic_full": MIMIC,
    "mimic_lora": {**MIMIC, "method": {"name": "lora", "rank": 16}},
    "mimic_freeze": {**MIMIC, "method": "freeze"},
    "mimic_padded": {**MIMIC, "training": {**MIMIC["training"], "layout": "padded"}},
    "mimic_large_steps": {**MIMIC, "training": {"epochs": 1, "batch_size": 256}},
    "smollm2_full": SMOLLM2,
    "smollm2_lora": {**SMOLLM2, "method": "lora"},
    "smollm2_freeze": {
        **SMOLLM2,
        "method": {"name": "freeze", "num_frozen_layers": 20},
        "training": {"epochs": 2, "batch_size": 32},
    },
    "smollm2_padded": {
        **SMOLLM2,
        "training": {"epochs": 1, "batch_size": 16, "micro_batch_size": 8, "layout": "padded"},
    },
}


def main() -> None:
    """Plan and make the runs that are asked for, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--as", dest="part", choices=("plan", "train"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run = {"plan": tell_plan, "train": tell_run}[arguments.part]
        print(json.dumps(run(json.loads(sys.stdin.read()))))
        return
    runs: Figures = {}
    if RESULT.exists():
        runs = json.loads(RESULT.read_text())["runs"]
    for name in arguments.only:
        runs[name] = compare(RUNS[name])
        print(f"{name}: {json.dumps(runs[name])}", file=sys.stderr)
    errors = {
        key: [abs(run[key]) for run in runs.values()] for key in ("memory_error", "time_error")
    }
    found = {
        **{key: max(values) for key, values in errors.items()},
        **{f"median_{key}": statistics.median(values) for key, values in errors.items()},
        "runs": runs,
        "machine": machine(),
    }
    if arguments.write:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def compare(values: Figures) -> Figures:
    """Plan a run, then make it."""
    with tempfile.TemporaryDirectory() as folder:
        config = {**values, "output": str(Path(folder) / "run")}
        planned, happened = (in_a_process(part, config) for part in ("plan", "train"))
    return {
        "memory_error": planned["peak_gb"] / happened["peak_gb"] - 1,
        "time_error": planned["seconds"] / happened["seconds"] - 1,
        "planned": planned,
        "happened": happened,
    }


def in_a_process(part: str, config: Figures) -> Figures:
    """Run this script as one of its parts."""
    done = subprocess.run(
        [sys.executable, __file__, "--as", part],
        input=json.dumps(config),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={
            "OMP_NUM_THREADS": str(os.cpu_count()),
            VARIABLE: WITHOUT_CACHES,
            **os.environ,
            "HF_HUB_OFFLINE": "1",
        },
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def tell_plan(config: Figures) -> Figures:
    """Plan a run and give what matters here."""
    from biddable.config import parse_config
    from biddable.training.planner import plan_run

    plan = plan_run(parse_config(config))
    if plan.estimate is None or plan.estimate.pace is None or plan.estimate.measured is None:
        raise SystemExit(f"the plan has no estimate: {plan.refusals}")
    memory, pace = plan.estimate.memory, plan.estimate.pace
    return {
        "peak_gb": memory.peak / 1e9,
        "parts_gb": {name: getattr(memory, name) / 1e9 for name in memory.__slots__},
        "seconds": pace.total,
        "seconds_per_step": pace.per_step,
        "held_out_seconds": pace.held_out,
        "kept_states_seconds": pace.kept_states,
        "num_steps": plan.num_steps,
        "measuring_seconds": plan.estimate.measured.seconds,
        "memory_factor": plan.estimate.measured.memory_factor,
    }


def tell_run(config: Figures) -> Figures:
    """Make a run and give what it took."""
    import resource

    from biddable.config import parse_config
    from biddable.training.finetune import run_training

    events: list[Figures] = []
    run_training(parse_config(config), on_event=events.append)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = [event["seconds"] for event in events if event["event"] == "step"]
    between = [after - before for before, after in itertools.pairwise(seconds)]
    (end,) = [event for event in events if event["event"] == "end"]
    return {
        "peak_gb": peak / 1e9,
        "seconds": end["seconds"],
        "seconds_per_step": statistics.median(between),
        "num_steps": len(seconds),
    }


def machine() -> Figures:
    """Say where and with what this was measured."""
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
    }


if __name__ == "__main__":
    main()
