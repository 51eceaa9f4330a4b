"""Measure how fast rows become ids and masks, beside the tokenizer alone and TRL.

    python benchmarks/data.py            print the figures as JSON
    python benchmarks/data.py --write    and keep them in benchmarks/results/data.json
    python benchmarks/data.py --profile 16384    print where our own time goes

Every turn is a process of its own with empty caches, on two cores. The sides take turns:

- ours: from the file of rows (reading included) to the finished cache entry.
- tokenizer: the tokenizer's own batch encoding of the same rendered text, on all cores, whichever
  of its two ways is faster: the call, or the batch method of its backend.
- trl: from the same file to a dataset that SFTTrainer can train on, all with two processes:
  `datasets` reads it and maps the rows to prompts and completions, then the trainer prepares them,
  loss on the completion only. Both sides have a limit of 1,024 tokens: TRL's own, and no row
  reaches it. Two other figures are kept beside it: without the limit, which spares TRL two passes,
  and of the trainer's part alone, which starts from prompts that are in memory.

Then our second start on the same file, and the memory that a million rows take, from the file to
the plan of an epoch: the sum over all our processes of the memory that each has to itself or
shares (PSS), and the largest RSS of the one that was started.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# a script finds its neighbours by its folder
from benchmarks.data_sides import NUM_CORES, SIDES, Figures, profile, write_rows  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "data.json"
NUM_ROWS = 52_000
PER_PAIR = (
    "ratio_vs_trl",
    "ratio_vs_trl_unlimited",
    "ratio_vs_trl_prepare_only",
    "share_of_tokenizer",
)


def run(side: str, rows: Path, *, cache: Path) -> Figures:
    """Run one side in a process of its own, on as many cores as all have."""
    cores = sorted(os.sched_getaffinity(0))[:NUM_CORES]
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("TOKENIZERS_PARALLELISM", None)
    found = subprocess.run(
        [sys.executable, __file__, "--side", side, "--rows", str(rows)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    figures: Figures = json.loads(found.stdout.splitlines()[-1])
    print(f"{side}: {figures['seconds']:.2f} s", file=sys.stderr)
    return figures


def measure(folder: Path, *, num_rows: int, num_large: int, num_turns: int) -> Figures:
    """Let the sides take turns, and put their figures together."""
    rows = write_rows(folder / "rows.jsonl", num_rows)
    pairs: list[Figures] = []
    first: Figures = {}
    for turn in range(num_turns):
        seconds, figures = {}, {}
        for side in ("ours", "tokenizer", "trl_unlimited", "trl"):
            first = run(side, rows, cache=folder / f"{side}-{turn}") if side == "ours" else first
            figures = first if side == "ours" else run(side, rows, cache=folder / f"{side}-{turn}")
            assert figures["num_rows"] == num_rows, figures
            seconds[side] = figures["seconds"]
        pairs.append(
            {
                "rows_per_s": {side: round(num_rows / s) for side, s in seconds.items()},
                "ratio_vs_trl": round(seconds["trl"] / seconds["ours"], 2),
                "ratio_vs_trl_unlimited": round(seconds["trl_unlimited"] / seconds["ours"], 2),
                "ratio_vs_trl_prepare_only": round(figures["prepare_only"] / seconds["ours"], 2),
                "share_of_tokenizer": round(seconds["tokenizer"] / seconds["ours"], 3),
            }
        )
    second = [run("ours", rows, cache=folder / "ours-0") for _ in range(3)]
    assert all(figures["was_kept"] for figures in second)
    large = write_rows(folder / "large.jsonl", num_large)
    held = run("memory", large, cache=folder / "large")
    return {
        "num_rows": num_rows,
        **{name: median_of(pairs, name) for name in PER_PAIR},
        "rows_per_s": {
            side: statistics.median(pair["rows_per_s"][side] for pair in pairs)
            for side in pairs[0]["rows_per_s"]
        },
        "second_start_s": round(statistics.median(s["to_first_batch_s"] for s in second), 3),
        "rss_1m_rows_gb": round(held["pss"] / 1e9, 3),
        "large": {
            "num_rows": num_large,
            "seconds": round(held["seconds"], 1),
            "rss_of_parent_gb": round(held["rss_of_parent"] / 1e9, 3),
            "before_reading_gb": round(held["pss_before"] / 1e9, 3),
            "plan": held["summary"],
        },
        "plan": first["summary"],
        "pairs": pairs,
    }


def median_of(pairs: list[Figures], name: str) -> float:
    """Take the median over the pairs."""
    return float(statistics.median(pair[name] for pair in pairs))


def main() -> None:
    """Measure, print, and keep the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=NUM_ROWS, help="rows that the sides encode")
    parser.add_argument("--rows-1m", type=int, default=1_000_000, help="rows of the memory's turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--profile", type=int, metavar="ROWS", help="print where our time goes")
    parser.add_argument("--write", action="store_true", help=f"keep them in {RESULT.name}")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        profile(options.profile)
        return
    if options.side:
        before = sum(os.times()[:4])
        figures = SIDES[options.side](options.rows)
        print(json.dumps({**figures, "cpu_s": sum(os.times()[:4]) - before}))
        return
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        figures = measure(
            Path(folder), num_rows=options.num, num_large=options.rows_1m, num_turns=options.turns
        )
    figures["machine"] = {
        "cores": NUM_CORES,
        "of": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[2], 2),
    }
    packages = ("biddable", "tokenizers", "transformers", "trl", "datasets", "numpy", "torch")
    figures["versions"] = {"python": platform.python_version()}
    figures["versions"] |= {name: metadata.version(name) for name in packages}
    text = json.dumps(figures, indent=2) + "\n"
    print(text, end="")
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
