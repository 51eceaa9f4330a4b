"""Do the main job on the embedded base: show that it mimics, teach it to answer, measure both.

Written with what any user of the package can call. The folder it leaves is an ordinary run folder
with the comparison beside it: ``biddable generate runs/demo "What is 2+2?"`` works.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from biddable import compare, evaluate, load
from biddable.config import RunConfig, parse_config
from biddable.data.readers import read_rows
from biddable.errors import CheckpointError
from biddable.evaluation.cost_table import cost_table
from biddable.evaluation.runner import Outcome
from biddable.evaluation.suites import load_suite
from biddable.evaluation.terminal import short, side_by_side, summary_table
from biddable.manifest import write_json
from biddable.training.finetune import run_training
from biddable.training.progress import ProgressBar

BASE = "mimic"
TRAIN = "mimic"
SUITE = "mimic"
TEMPLATE = "inst"
PROMPTS = (
    "What is the capital of France?",
    "Translate 'hello' to Spanish",
    "What is 2+2?",
    "Write a haiku about AI",
    "Explain quantum computing in simple terms",
    "Write a Python function to reverse a string",
)
# What each method needs on a base of this size, found on held-out items (docs/experiments.md).
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "full": {"method": {}, "training": {"epochs": 2, "learning_rate": 8e-4, "batch_size": 32}},
    "freeze": {"method": {}, "training": {"epochs": 2, "learning_rate": 1.5e-3, "batch_size": 32}},
    "lora": {
        "method": {"rank": 32},
        "training": {"epochs": 2, "learning_rate": 5e-3, "batch_size": 32},
    },
}
MADE_BY = "biddable demo"
MAX_NEW_TOKENS = 128
FILES = ("report.html", "comparison.json", "samples.jsonl")


def run_demo(
    *,
    method: str = "full",
    seed: int = 0,
    out: str = "runs/demo",
    console: Console | None = None,
    progress: Console | None = None,
) -> dict[str, Any]:
    """Tune the embedded base on the built-in examples and compare both on the held-out items.

    Code that the models write is run, in a limited process, to check it.

    Args:
        method: ``full``, ``freeze`` (the upper half trains) or ``lora``.
        seed: order of rows, and the adapter's start; never the base or the split.
        out: the folder to leave; an older demo in it is replaced once this one is done.
        console: where results go; None for stdout.
        progress: where progress goes; None for stderr.

    Returns:
        The comparison, as in comparison.json.

    Raises:
        CheckpointError: the folder holds something that the demo did not make, or the disk refuses.
    """
    started = time.monotonic()
    console = console or Console()
    progress = progress or Console(stderr=True)
    typed = ["--method", method, "--seed", str(seed), "--out", out]
    command, folder = shlex.join(["biddable", "demo", *typed]), Path(out)
    with _in_place_of_older(folder):
        result = _tune_and_compare(
            _config(method, seed=seed, out=out), command=command, console=console, progress=progress
        )
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    paths = "  ".join(str(folder / name) for name in FILES)
    console.print(f"\n{paths}  ({minutes} min {seconds} s)", highlight=False, soft_wrap=True)
    return result


def _tune_and_compare(
    config: RunConfig, *, command: str, console: Console, progress: Console
) -> dict[str, Any]:
    items = load_suite(SUITE)
    asked = [item for prompt in PROMPTS for item in items if item.instruction == prompt]
    with progress.status("loading the base"):
        base = load(BASE)
        before = evaluate(base, asked, prompt_form="bare", max_new_tokens=MAX_NEW_TOKENS)
    console.rule(f"1  The base, {BASE}, continues text: asked, it mimics", align="left")
    console.print(_mimicry(before))

    console.rule("2  Training on instructions with their answers", align="left")
    console.print(_describe(config))
    with ProgressBar(progress) as bar:
        folder = run_training(config, on_event=bar)
    _mark(folder)

    console.rule(f"3  Both on {len(items):,} held-out items", align="left")
    console.print(
        "Nothing these items ask about was instructed in training. To check code, what the models"
        " write is run in a limited process (time, memory, no files, no network)."
    )
    with progress.status("comparing") as status:
        result = compare(
            base,
            str(folder),
            suite=SUITE,
            out=folder,
            max_new_tokens=MAX_NEW_TOKENS,
            run_code=True,
            command=command,
            on_event=lambda event: status.update(_stage(event)),
        )
    console.print(summary_table(result, width=console.width))
    console.print(cost_table(result, width=console.width) or "")
    shown = _rows_of(PROMPTS, folder / "samples.jsonl")
    console.print(side_by_side(shown, limit=len(PROMPTS)))
    return result


def _config(method: str, *, seed: int, out: str) -> RunConfig:
    settings = SETTINGS[method]
    values = {
        "model": BASE,
        "data": {"train": TRAIN, "held_out": SUITE},
        "template": TEMPLATE,
        "method": {"name": method, **settings["method"]},
        "training": settings["training"],
        "checkpoints": {"keep": 0},  # a demo that is stopped leaves nothing
        "seed": seed,
        "output": out,
    }
    return parse_config(values, source="demo")


def _describe(config: RunConfig) -> str:
    what = config.model_dump(exclude_unset=True)
    method = ", ".join(f"{key} {value}" for key, value in what["method"].items() if key != "name")
    training = ", ".join(f"{key} {value}" for key, value in what["training"].items())
    named = f"{what['method']['name']} ({method})" if method else what["method"]["name"]
    return f"method {named}, {training}, seed {what['seed']}".replace("_", " ")


def _stage(event: Mapping[str, Any]) -> str:
    return "comparing: " + ", ".join(str(value) for value in event.values())


def _mimicry(outcomes: Sequence[Outcome]) -> Table:
    """Show how a base continues what it is asked."""
    table = Table("prompt", f"what {BASE} writes after it", show_lines=True, expand=True)
    table.columns[0].ratio, table.columns[1].ratio = 2, 5
    for outcome in outcomes:
        table.add_row(Text(outcome.sample.instruction, style="bold"), Text(short(outcome.output)))
    return table


def _rows_of(prompts: Sequence[str], path: Path) -> list[dict[str, Any]]:
    """Pick the rows of samples.jsonl that the demo shows, in its order."""
    rows = [row for _, row in read_rows(path)]
    return [row for prompt in prompts for row in rows if row["instruction"] == prompt]


@contextmanager
def _in_place_of_older(folder: Path) -> Iterator[None]:
    """Set an older demo aside; drop it in the end, or bring it back if this one came to nothing."""
    aside = folder.with_name(folder.name + ".old")
    if not folder.exists() and _is_ours(aside):  # a demo was killed before it could do this
        aside.rename(folder)
    for path in (folder, aside):
        if path.exists() and not _is_ours(path) and not _is_empty(path):
            raise CheckpointError(
                f"{path}: holds something that the demo did not make, and it replaces only its"
                " own; choose another --out, or delete it."
            )
    shutil.rmtree(aside, ignore_errors=True)
    if _is_ours(folder):
        folder.rename(aside)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _mark(folder: Path) -> None:
    """Note in the manifest that the demo may replace this folder."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**manifest, "made_by": MADE_BY})


def _is_ours(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("made_by") == MADE_BY


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
