"""Judge one model on a suite, and keep what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from biddable.evaluation.comparison import SCHEMA, answer_limit, scores
from biddable.evaluation.report import write_text
from biddable.evaluation.runner import Event, Outcome, PromptForm, evaluate
from biddable.evaluation.suites import fewshot_examples, load_suite
from biddable.evaluation.terminal import FIGURES, percent
from biddable.manifest import write_json
from biddable.models.loading import LoadedModel, load


def score(
    model: str | LoadedModel,
    *,
    suite: str | Path,
    prompt_form: PromptForm | None = None,
    template: str | None = None,
    max_new_tokens: int | None = None,
    run_code: bool = False,
    out: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Put a suite to one model.

    Args:
        model: a model or its name.
        suite: as ``load_suite`` takes it.
        prompt_form: None for ``template`` where one is given or known, else ``bare``.
        template: None for the model's own.
        max_new_tokens: most ids of an answer; None for 128 on mimic, 256 elsewhere.
        run_code: whether Python that differs from its reference is run, limited.
        out: a folder for scores.json and samples.jsonl; None writes nothing.
        on_event: told about each stage.

    Returns:
        What scores.json holds; ``scores`` in it is a side's block as in comparison.json.

    Raises:
        EvaluationError: an item is malformed, or too long for the model.
        DataError: the suite cannot be read.
        CheckpointError: the results cannot be written.
    """
    samples = load_suite(suite)
    loaded = load(model) if isinstance(model, str) else model
    form = prompt_form or ("template" if template or loaded.template else "bare")
    max_new_tokens = max_new_tokens or answer_limit(suite)
    outcomes = evaluate(
        loaded,
        samples,
        prompt_form=form,
        template=template,
        max_new_tokens=max_new_tokens,
        run_code=run_code,
        shots=fewshot_examples(suite),
        on_event=on_event,
    )
    decoding = {"method": "greedy", "temperature": 0.0, "max_new_tokens": max_new_tokens}
    result = {
        "schema": SCHEMA,
        "model": loaded.name,
        "suite": str(suite),
        "n": len(samples),
        "prompt_form": form,
        "template": (template or loaded.template) if form == "template" else None,
        "decoding": decoding | {"run_code": run_code},
        "scores": scores(outcomes),
    }
    if out is not None:
        _write(Path(out), result, outcomes)
    return result


def score_table(result: Mapping[str, Any]) -> Table:
    """Lay out one model's rates, with their 95 % intervals.

    Args:
        result: as ``score`` gives it.
    """
    title = f"{result['model']} ({result['prompt_form']}), {result['n']} items of {result['suite']}"
    table = Table("%, and its 95 % interval", title=title, title_justify="left")
    table.add_column(result["prompt_form"], justify="right", no_wrap=True)
    for figure, label in FIGURES:
        if result["scores"].get(figure):
            table.add_row(label, percent(result["scores"][figure]))
    unanswered = result["scores"]["by_ring"].get("unanswered")
    if unanswered:
        table.add_row("following, ring unanswered", percent(unanswered))
    if result["scores"]["answer_loss"] is not None:
        table.add_row("answer loss, nats per token", f"{result['scores']['answer_loss']:.3f}")
    return table


def _write(folder: Path, result: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    rows = [json.dumps(asdict(outcome), ensure_ascii=False) + "\n" for outcome in outcomes]
    write_text(folder / "samples.jsonl", "".join(rows))
    write_json(folder / "scores.json", result)  # last: who finds it finds the other
