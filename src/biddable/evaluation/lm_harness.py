"""Run tasks of lm-evaluation-harness on a loaded model, beside our own suites.

The harness asks and counts in its own way; its figures are passed on as they are.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from biddable.errors import ConfigError, EvaluationError, how_to_install
from biddable.models.loading import LoadedModel

_DRAWS = 1000  # of the harness's bootstrap, where a figure has no standard error in closed form
_Z95 = 1.96


def harness_scores(
    loaded: LoadedModel, tasks: Sequence[str], *, limit: int | None = None
) -> dict[str, Any]:
    """Run tasks of the harness.

    Args:
        loaded: the model; its own chat template is used if it was taught one.
        tasks: names that the harness knows, or paths of .yaml files of tasks.
        limit: most items of a task; None for all.

    Returns:
        The figures of each task as the harness names them, and its version.

    Raises:
        ConfigError: the extra is not installed.
        EvaluationError: a task is unknown, or the harness fails on it.
    """
    try:
        import lm_eval
        from lm_eval import evaluator
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(f"--lm-eval needs packages: {how_to_install('lm-eval')}.") from error
    names, folders = _by_name(tasks)
    # it asks git for a commit, which complains on the terminal in a folder that has none
    evaluator.get_git_commit_hash = lambda: None
    is_taught = bool(loaded.template and loaded.tokenizer.chat_template)
    with contextlib.redirect_stdout(sys.stderr):  # the harness prints; results are ours to print
        manager = TaskManager(include_path=folders or None)
        unknown = [name for name in names if name not in manager.all_tasks]
        if unknown:
            raise EvaluationError(
                f'--lm-eval: no task "{unknown[0]}" in lm-eval {lm_eval.__version__}; give a name '
                "that `lm-eval ls tasks` lists, or the path of a .yaml file."
            )
        try:
            found = lm_eval.simple_evaluate(
                model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8),
                tasks=names,
                task_manager=manager,
                limit=limit,
                apply_chat_template=is_taught,
                log_samples=False,
                bootstrap_iters=_DRAWS,
            )
        except Exception as error:  # a task brings code and data of its own, from anywhere
            raise EvaluationError(f"--lm-eval {', '.join(names)}: {_reason(error)}") from error
    return {
        "version": lm_eval.__version__,
        "chat_template": is_taught,
        "results": {name: _plain(row) for name, row in (found or {})["results"].items()},
    }


def harness_table(result: Mapping[str, Any]) -> Table:
    """Lay out what the harness measured.

    Args:
        result: as ``harness_scores`` gives it.
    """
    table = Table("task", "figure", title=f"lm-evaluation-harness {result['version']}")
    table.add_column("value", justify="right")
    table.add_column("its 95 % interval", justify="right")
    for task, row in result["results"].items():
        for figure, value in row.items():
            if isinstance(value, float) and "stderr" not in figure:
                table.add_row(task, figure, f"{value:.4f}", _interval(row, figure))
    return table


def _interval(row: Mapping[str, Any], figure: str) -> str:
    """Make an interval of the harness's own standard error; a dash where it gives none."""
    name, _, way = figure.partition(",")
    error = row.get(f"{name}_stderr,{way}")
    if not isinstance(error, float):
        return "-"
    low, high = (row[figure] + side * _Z95 * error for side in (-1, 1))
    return f"{low:.4f} to {high:.4f}"


def _by_name(tasks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Turn files of tasks into the names that stand in them, and the folders to look into."""
    import yaml

    names, folders = [], []
    for task in tasks:
        path = Path(task)
        if path.suffix not in (".yaml", ".yml"):
            names.append(task)
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise EvaluationError(f"--lm-eval {task}: {error.strerror}.") from error
        loader: Any = type("_NamesOnly", (yaml.SafeLoader,), {})  # tasks name functions with tags
        loader.add_multi_constructor("!", lambda *_: None)
        found = yaml.load(text, Loader=loader)
        if not isinstance(found, dict) or not isinstance(found.get("task"), str):
            raise EvaluationError(f'--lm-eval {task}: lacks "task", the name of the task.')
        names.append(found["task"])
        folders.append(os.fspath(path.resolve().parent))
    return names, folders


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if isinstance(value, int | float | str)}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
