"""Judge one source of answers on a suite, and keep what it wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from biddable.counting import counted
from biddable.errors import EvaluationError
from biddable.evaluation.asking import AnswerSource, PromptForm
from biddable.evaluation.cluster_words import clusters_heading, over_clusters
from biddable.evaluation.comparison import SCHEMA, answer_limit
from biddable.evaluation.cost_table import memory_rows
from biddable.evaluation.loss_words import loss_rows
from biddable.evaluation.measured import how_measured, identity_of
from biddable.evaluation.memorisation import TrainingData, named_data
from biddable.evaluation.responses import ReadyResponses
from biddable.evaluation.runner import Event, Outcome, evaluate, tell_of_code
from biddable.evaluation.sampling import NOT_KNOWN, Sampling, decoding_facts, items_of
from biddable.evaluation.scores import scores
from biddable.evaluation.sources import as_source
from biddable.evaluation.suites import fewshot_examples, load_suite
from biddable.evaluation.terminal import RARE, percent, shown_figures
from biddable.evaluation.tuning_cost import memorisation_of
from biddable.manifest import write_json, write_text
from biddable.models.loading import LoadedModel


def score(  # noqa: PLR0913  (what is asked, and how, is one decision)
    model: str | LoadedModel | AnswerSource,
    *,
    suite: str | Path,
    prompt_form: PromptForm | None = None,
    template: str | None = None,
    max_new_tokens: int | None = None,
    run_code: bool = False,
    training_data: Sequence[str | Path] = (),
    command: str | None = None,
    sampling: Sampling | None = None,
    out: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Put a suite to one source of answers.

    Args:
        model: a model, its name, or another source; see ``open_source``.
        suite: as ``load_suite`` takes it.
        prompt_form: as ``choose_form`` takes it; so is the template.
        template: None for the model's own.
        max_new_tokens: most ids of an answer; None for 128 on mimic, 256 elsewhere.
        run_code: whether Python that differs from its reference is run, limited.
        training_data: names of what it learned, to be searched for copies; see ``named_data``.
        command: what was typed; None for a call from Python.
        sampling: draws answers, one for each item and seed; None takes the likeliest tokens.
        out: a folder for scores.json and samples.jsonl; None writes nothing.
        on_event: told about each stage; before them ``{"note"}``, if code should be run and is not.

    Returns:
        What scores.json holds; ``scores`` in it is a side's block as in comparison.json.

    Raises:
        EvaluationError: an item, the prompt form or a response does not fit.
        DataError: the suite or the training data cannot be read.
        CheckpointError: the results cannot be written.
    """
    samples, data = load_suite(suite), named_data(training_data)
    source = as_source(model)
    form = choose_form(source, prompt_form, template, sampling=sampling)
    judged = source.answered(samples) if isinstance(source, ReadyResponses) else samples
    tell_of_code(judged, on_event, run_code=run_code)
    limit = None if source.is_ready else max_new_tokens or answer_limit(suite)
    outcomes = evaluate(
        source,
        samples,
        prompt_form=form,
        template=template,
        max_new_tokens=limit or 0,
        run_code=run_code,
        shots=fewshot_examples(suite),
        sampling=sampling,
        on_event=on_event,
    )
    result = _result(source, suite, form, outcomes, template=template, data=data)
    result["measured"] = _measured(source, outcomes, command)
    drawn = NOT_KNOWN if source.is_ready else decoding_facts(sampling) | {"max_new_tokens": limit}
    result["decoding"] = {**drawn, "run_code": run_code}
    _write(out, result, outcomes)
    return result


def _measured(
    source: AnswerSource, outcomes: Sequence[Outcome], command: str | None
) -> dict[str, Any]:
    samples = [outcome.sample for outcome in outcomes]
    return how_measured(samples, {"model": identity_of(source, samples)}, command=command)


def _result(
    source: AnswerSource,
    suite: str | Path,
    form: PromptForm | None,
    outcomes: Sequence[Outcome],
    *,
    template: str | None,
    data: TrainingData | None,
) -> dict[str, Any]:
    """Put together what scores.json says."""
    items = items_of(outcome.sample for outcome in outcomes)
    return {
        "schema": SCHEMA,
        "model": source.name,
        "suite": str(suite),
        "n": len(set(items) if items else outcomes),
        "missing": source.missing if isinstance(source, ReadyResponses) else [],
        "prompt_form": form,
        "template": (template or source.template) if form == "template" else None,
        "decoding": {},
        "scores": scores(outcomes),
        "memorisation": memorisation_of({"model": outcomes}, data) if data else None,
    }


def choose_form(
    source: AnswerSource,
    prompt_form: PromptForm | None,
    template: str | None,
    *,
    sampling: Sampling | None = None,
) -> PromptForm | None:
    """Settle how items are asked, by what is known and never by a guess.

    Args:
        source: what is asked; its run's manifest may say how it was taught.
        prompt_form: what the user chose.
        template: likewise; it implies the form.
        sampling: likewise; ready responses are not drawn.

    Returns:
        The form; None for ready responses.

    Raises:
        EvaluationError: nothing says, or two things that exclude each other do.
    """
    if source.is_ready:
        asked = {"--prompt-form": prompt_form, "--template": template, "--temperature": sampling}
        for option, value in asked.items():
            if value is not None:
                raise EvaluationError(
                    f"{source.name}: responses are ready, so nothing is asked; leave {option} out."
                )
        return None
    if template is not None and prompt_form not in (None, "template"):
        raise EvaluationError(
            f'{source.name}: template "{template}" has no place in prompts of the form '
            f"{prompt_form}; leave --template out, or choose --prompt-form template."
        )
    form: PromptForm | None = prompt_form or ("template" if template else source.taught)
    if form is not None:
        return form
    brings = "brings a chat template" if source.template else "brings no chat template"
    raise EvaluationError(
        f"{source.name}: how should it be asked? It {brings}, and no manifest of a run says how it "
        "was taught. Choose --prompt-form template for a model that was taught to answer (with "
        "--template NAME if it brings none), bare for a base, or fewshot (three examples first)."
    )


def score_table(result: Mapping[str, Any]) -> Group:
    """Lay out one model's rates, with their 95 % intervals.

    Args:
        result: as ``score`` gives it.
    """
    form = result["prompt_form"] or "ready responses"
    title = f"{result['model']} ({form}), {counted(result['n'], 'item')} of {result['suite']}"
    table = Table("%, and its 95 % interval")
    table.add_column(form, justify="right", no_wrap=True)
    shown = [(result["scores"][key], label) for key, label in shown_figures([result["scores"]])]
    known = [(result["scores"].get(figure), label) for figure, label in RARE]
    if none := [label for rate, label in known if rate and not rate["rate"]]:
        table.caption, table.caption_justify = f"none: {', '.join(none)}", "left"
    unanswered = result["scores"]["by_ring"].get("unanswered")
    if unanswered:
        shown.append((unanswered, "following, ring unanswered"))
    if heading := clusters_heading(rate for rate, _ in shown):
        table.add_column(heading, justify="right")
    for rate, label in shown:
        table.add_row(label, percent(rate), *[over_clusters(rate)] * bool(heading))
    for label, losses in loss_rows([result["scores"]], same_tokens=False):
        table.add_row(label, *losses)
    for label, own, references in memory_rows(result["memorisation"], ("model", "references")):
        table.add_row(label, own)
        table.add_row("  the reference answers", references)
    return Group(Text(title, style="italic"), table)  # a title of the table wraps at its width


def _write(out: str | Path | None, result: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    if out is None:
        return
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder}: cannot be made: {error.strerror}.") from error
    rows = [json.dumps(asdict(outcome), ensure_ascii=False) + "\n" for outcome in outcomes]
    write_text(folder / "samples.jsonl", "".join(rows))
    write_json(folder / "scores.json", result)  # last: who finds it finds the other
