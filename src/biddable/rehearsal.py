"""Do the whole path of a run small, in a folder that is gone afterwards: what breaks, breaks now.

A few rows of the run's own, its own base, template and method, and the same functions: only rows,
steps and answers are fewer.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from biddable.config import RunConfig, parse_config
from biddable.counting import counted
from biddable.data.conversation import Conversation
from biddable.data.problems import Problem
from biddable.data.row_writing import write_row
from biddable.errors import BiddableError, DataError
from biddable.evaluation.comparison import compare
from biddable.models.loading import load
from biddable.models.readiness import require_ready
from biddable.serving.answering import answer
from biddable.training.finetune import run_training
from biddable.training.preparation import prepare
from biddable.whole_folder import require_unused

STAGES = ("read", "encode", "step", "resume", "save", "generate", "compare")
NUM_ROWS = 4
MAX_NEW_TOKENS = 8
_LOOKED_AT = 256  # rows, of which the shortest are taken
_BATCH_SIZE = 2
_CUT_AT = 2  # steps; it is saved after the first


@dataclass
class Stage:
    """Hold one stage of a rehearsal.

    Attributes:
        name: what was done.
        seconds: that it took.
        told: what came of it, in words.
        error: why it failed; empty if it did not.
    """

    name: str
    seconds: float = 0.0
    told: str = ""
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give it for a program to read."""
        return {"ok": not self.error, **asdict(self)}


@dataclass
class _Rehearsal:
    """The stages so far, and what one leaves for the next."""

    config: RunConfig
    folder: Path
    on_stage: Callable[[Stage], None]
    stages: list[Stage] = field(default_factory=list)
    rows: list[Conversation] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage, and tell it when it has ended, well or not."""
        stage = Stage(name)
        started = time.perf_counter()
        try:
            yield stage
        except Exception as error:
            self.end(stage, started, error)
            raise _FailedError from error
        self.end(stage, started)

    def end(self, stage: Stage, started: float, error: Exception | None = None) -> None:
        """Take a stage that is over."""
        stage.seconds = round(time.perf_counter() - started, 2)
        if error is not None:
            is_told = isinstance(error, BiddableError)
            stage.error = str(error) if is_told else f"{type(error).__name__}: {error}"
        self.stages.append(stage)
        self.on_stage(stage)


class _FailedError(Exception):
    """A stage failed, and has said why."""


class _CutError(Exception):
    """The run is broken off here, as by a crash."""


def rehearse(
    config: RunConfig, *, on_stage: Callable[[Stage], None] = lambda stage: None
) -> list[Stage]:
    """Read, encode, train, be cut off, resume, save, generate and compare, on a few rows.

    Args:
        config: the run; its output folder is neither made nor touched.
        on_stage: told about each stage when it is over.

    Returns:
        The stages, the last with an error if it failed; later ones are not tried.
    """
    with tempfile.TemporaryDirectory(prefix="biddable-rehearsal-") as folder:
        rehearsal = _Rehearsal(config, Path(folder), on_stage)
        try:
            _read(rehearsal)
            run = _train(rehearsal)
            _generate(rehearsal, run)
            _compare(rehearsal, run)
        except _FailedError:
            pass
        return rehearsal.stages


def stage_line(stage: Stage) -> RenderableType:
    """Lay a stage out for the terminal."""
    sign, style = ("✗", "bold red") if stage.error else ("✓", "green")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=10)
    table.add_column(min_width=8, justify="right")
    name = Text.assemble((sign, style), f" {stage.name}")
    table.add_row(name, f"{stage.seconds:.2f} s", Text(stage.error or stage.told))
    return table


def _read(rehearsal: _Rehearsal) -> None:
    """Read the rows, load the base, and take a few short rows."""
    with rehearsal.stage("read") as stage:
        require_unused(rehearsal.config.output)
        prepared = prepare(rehearsal.config)
        require_ready(prepared.readiness)
        found = list(islice(prepared.read().train, _LOOKED_AT))
        rehearsal.rows = sorted(found, key=_size)[:NUM_ROWS]
        shown = f"the {len(rehearsal.rows)} shortest of the first {counted(len(found), 'row')}"
        stage.told = f"{prepared.loaded.name}, {shown}, 1 held out"


def _train(rehearsal: _Rehearsal) -> Path:
    """Make a run of the rows, by the function that makes all of them: cut it off, and resume it."""
    names = iter(("encode", "step", "resume", "save"))
    stage, started = Stage(next(names)), time.perf_counter()
    losses: list[float] = []
    said: list[str] = []

    def close(told: str) -> None:
        nonlocal stage, started
        stage.told = told
        rehearsal.end(stage, started)
        stage, started = Stage(next(names, "")), time.perf_counter()

    def listen(event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind in ("data", "resume") and event.get("part") != "held_out":
            said.append(event["summary"])
        elif kind == "method" and stage.name == "encode":
            close(said.pop())
        elif kind == "step":
            losses.append(event["loss"])
            if stage.name == "step" and len(losses) == _CUT_AT:
                raise _CutError
        elif kind == "end":
            close(said.pop())

    try:
        config = _few(rehearsal)
        try:
            run_training(config, on_event=listen)
        except _CutError:
            close(f"{len(losses)} steps, loss {', '.join(f'{loss:.3f}' for loss in losses)}")
        folder = run_training(config, resume=True, on_event=listen)
        files = [file for file in folder.rglob("*") if file.is_file()]
        close(f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB in {len(files)} files")
    except Exception as error:
        rehearsal.end(stage, started, error)
        raise _FailedError from error
    return folder


def _generate(rehearsal: _Rehearsal, run: Path) -> None:
    """Load what was saved, and let it answer."""
    with rehearsal.stage("generate") as stage:
        loaded = load(str(run))
        prompt = _question(rehearsal.rows[0])
        found = answer(loaded, prompt, template=loaded.template, max_new_tokens=MAX_NEW_TOKENS)
        stage.told = f"{counted(found.num_tokens, 'token')}: {found.text[:40]!r}"


def _compare(rehearsal: _Rehearsal, run: Path) -> None:
    """Put two rows to the base and to what was saved."""
    with rehearsal.stage("compare") as stage:
        items = [
            {"instruction": _question(row), "response": _answer(row)} for row in rehearsal.rows[:2]
        ]
        suite = rehearsal.folder / "suite.jsonl"
        suite.write_text(_lines(items), encoding="utf-8")
        page = rehearsal.folder / "page.txt"  # for what was forgotten: the built-in ones are long
        page.write_text("\n".join(f"{i['instruction']} {i['response']}" for i in items), "utf-8")
        result = compare(
            rehearsal.config.model,
            str(run),
            suite=suite,
            max_new_tokens=MAX_NEW_TOKENS,
            forgetting_text=page,
            out=rehearsal.folder / "comparison",
        )
        stage.told = f"{counted(result['n'], 'item')} on both, and a report"


def _few(rehearsal: _Rehearsal) -> RunConfig:
    """Make the config of the small run: all as in the real one, but its rows and steps."""
    is_text = rehearsal.rows[0].text is not None
    rows = [write_row(row, "text" if is_text else "messages") for row in rehearsal.rows]
    for row in rows:
        if isinstance(row, Problem):
            raise DataError(str(row))
    path = rehearsal.folder / "rows.jsonl"
    path.write_text(_lines(rows), encoding="utf-8")
    values = rehearsal.config.model_dump(mode="json", exclude_unset=True)
    settings = values["data"] if isinstance(values["data"], dict) else {}
    kept = ("max_seq_len", "overflow", "history", "control_text")
    values["data"] = {key: settings[key] for key in kept if key in settings}
    values["data"] |= {"train": str(path), "held_out_rows": 1, "cache": False}
    values["training"] = {
        **values.get("training", {}),
        "epochs": 1,
        "batch_size": _BATCH_SIZE,
        "micro_batch_size": None,
    }
    values.pop("watch", None)  # nothing is to be sent anywhere
    values["checkpoints"] = {"every_steps": 1}
    return parse_config({**values, "output": str(rehearsal.folder / "run")}, source="rehearsal")


def _question(row: Conversation) -> str:
    if row.text is not None:
        return row.text[:80]
    return next((m.text for m in row.messages if m.role == "user"), row.messages[0].text)


def _answer(row: Conversation) -> str:
    return row.text[80:160] or "-" if row.text is not None else row.messages[-1].content


def _size(row: Conversation) -> int:
    return len(row.text or "") + sum(len(message.text) for message in row.messages)


def _lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
