"""Compare a base with the model made of it, on the same items with the same decoding.

The base is asked in three forms, so that what training brought is not confused with what a prompt
brings; the headline sets the bare base against the instruct model with its template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from biddable.data.conversation import Message
from biddable.errors import EvaluationError
from biddable.evaluation.report import read_losses, render_report, write_text
from biddable.evaluation.runner import Event, Outcome, PromptForm, evaluate
from biddable.evaluation.sample import Sample
from biddable.evaluation.statistics import mcnemar, rate_of
from biddable.evaluation.suites import (
    HEADLINE_RINGS,
    fewshot_examples,
    is_headline,
    load_suite,
)
from biddable.evaluation.terminal import side_by_side, summary_table
from biddable.evaluation.tuning_cost import BUILT_IN, cost_of_tuning
from biddable.manifest import write_json
from biddable.models.loading import LoadedModel, load

SCHEMA = 1
DEMO_RUN = "runs/demo"
SHORT_ANSWER, LONG_ANSWER = 128, 256  # most new tokens on mimic, and elsewhere
CHANGES = ("fixed", "broken", "both", "neither")


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what one model made of a suite.

    Attributes:
        model: its name.
        prompt_form: how it was asked.
        decoding: how its answers were generated.
        outcomes: one for each item.
    """

    model: str
    prompt_form: PromptForm
    decoding: dict[str, Any]
    outcomes: list[Outcome]


def compare(  # noqa: PLR0913  (the last is told of the others)
    base: str | LoadedModel,
    instruct: str | LoadedModel,
    *,
    suite: str | Path = "mimic",
    template: str | None = None,
    max_new_tokens: int | None = None,
    run_code: bool = False,
    forgetting_text: str | Path | None = BUILT_IN,
    out: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Put a suite to a base, in three prompt forms, and to the model made of it.

    Args:
        base: a model or its name.
        instruct: likewise.
        suite: as ``load_suite`` takes it.
        template: how both are asked; None for the one that the instruct model was trained with.
        max_new_tokens: most ids of an answer; None for 128 on mimic, 256 elsewhere.
        run_code: whether Python that differs from its reference is run, in a limited process.
        forgetting_text: as ``cost_of_tuning`` takes it; None measures no forgetting.
        out: a folder for comparison.json, samples.jsonl and report.html; None writes nothing.
        on_event: told about each stage.

    Returns:
        The comparison, as comparison.json has it.

    Raises:
        EvaluationError: an item is malformed, or too long for a model.
        DataError: the suite cannot be read.
        ConfigError: a model name leads nowhere.
    """
    samples, shots = load_suite(suite), fewshot_examples(suite)
    max_new_tokens = max_new_tokens or answer_limit(suite)
    decoding = {"method": "greedy", "temperature": 0.0, "max_new_tokens": max_new_tokens}
    base_model, tuned = (load(m) if isinstance(m, str) else m for m in (base, instruct))
    tell = on_event or (lambda event: None)

    def ask(name: str, model: LoadedModel, form: PromptForm) -> Side:
        outcomes = evaluate(
            model,
            samples,
            prompt_form=form,
            template=template or tuned.template,
            max_new_tokens=max_new_tokens,
            run_code=run_code,
            shots=shots,
            on_event=lambda event: tell({"side": name, **event}),
        )
        return Side(model.name, form, decoding, outcomes)

    sides, notes = _ask_all(ask, base_model, tuned)
    result = build_comparison(sides, suite=str(suite), manifest=tuned.manifest, notes=notes)
    result["decoding"] |= {"run_code": run_code, "template": template or tuned.template}
    tell({"side": "instruct", "stage": "cost of tuning"})
    result |= cost_of_tuning(base_model, tuned, sides, text=forgetting_text, template=template)
    if out is not None:
        write_comparison(result, sides, out=out, run_folder=tuned.source)
    return result


def answer_limit(suite: str | Path) -> int:
    """Give the most ids of an answer where none is set: mimic's answers are short."""
    return SHORT_ANSWER if str(suite) == "mimic" else LONG_ANSWER


def _ask_all(
    ask: Callable[[str, LoadedModel, PromptForm], Side], base: LoadedModel, instruct: LoadedModel
) -> tuple[dict[str, Side], list[str]]:
    """Ask the base in all forms and the instruct model in its own; say what had to be left out."""
    sides, notes = {"base": ask("base", base, "bare")}, []
    sides["base_templated"] = ask("base_templated", base, "template")
    try:
        sides["base_fewshot"] = ask("base_fewshot", base, "fewshot")
    except EvaluationError as error:  # three examples may be more than a small model can read
        first, _, rest = str(error).partition("\n")
        notes.append(f"base_fewshot was left out: {first}{' ...' if rest else ''}")
    sides["instruct"] = ask("instruct", instruct, "template")
    return sides, notes


def build_comparison(
    sides: dict[str, Side],
    *,
    suite: str,
    manifest: dict[str, Any] | None = None,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """Put together what comparison.json says.

    Args:
        sides: ``base`` and ``instruct``, and ``base_templated`` and ``base_fewshot`` if there.
        suite: its name.
        manifest: of the run that made the instruct model.
        notes: what a reader should know.

    Raises:
        EvaluationError: two sides differ in their items or their decoding.
    """
    base, instruct = sides["base"], sides["instruct"]
    for name, side in sides.items():
        if side.decoding != base.decoding:
            raise EvaluationError(
                f"base was decoded with {base.decoding} and {name} with {side.decoding}; "
                "evaluate both in the same way."
            )
        _require_same_items(base.outcomes, side.outcomes, name)
    results = (manifest or {}).get("results", {})
    return {
        "schema": SCHEMA,
        "base_model": base.model,
        "instruct_model": instruct.model,
        "suite": suite,
        "n": len(base.outcomes),
        "headline_rings": list(HEADLINE_RINGS),
        "decoding": dict(base.decoding),
        "prompt_form": {"base": base.prompt_form, "instruct": instruct.prompt_form},
        "base": scores(base.outcomes),
        **{
            name: scores(sides[name].outcomes) if name in sides else None
            for name in ("base_templated", "base_fewshot")
        },
        "instruct": scores(instruct.outcomes),
        "extra_models": {},
        "paired": _paired(base.outcomes, instruct.outcomes),
        "forgetting": None,
        "training": None
        if manifest is None
        else {
            "method": manifest.get("method"),
            "seed": manifest.get("seed"),
            **{
                key: results.get(key)
                for key in ("seconds", "tokens", "steps", "held_out_loss_before", "held_out_loss")
            },
        },
        "notes": list(notes),
    }


def scores(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Count one side's outcomes into rates, over the headline's rings; ``by_ring`` has them all.

    Args:
        outcomes: of one model in one prompt form.

    Returns:
        A side's block of comparison.json; what its items cannot tell is None.
    """
    counted = [o for o in outcomes if is_headline(o.sample)]

    def refusals(*kinds: str) -> object:
        asked = [o for o in counted if not kinds or o.sample.kind in kinds]
        return rate_of(o.behaviour.refusal == "full" for o in asked)

    def following_by(key: Callable[[Sample], str], chosen: Sequence[Outcome]) -> dict[str, Any]:
        names = sorted({key(o.sample) for o in chosen})
        return {
            name: rate_of(o.following for o in chosen if key(o.sample) == name) for name in names
        }

    return {
        "instruction_following": rate_of(o.following for o in counted),
        "answer_correct": rate_of(o.correct for o in counted),
        "mimicry": rate_of(o.behaviour.mimicry for o in counted),
        "run_on": rate_of(o.behaviour.run_on for o in counted),
        "stopped": rate_of(o.behaviour.stopped for o in counted),
        "refusal": refusals(),
        "refusal_harmful": refusals("harmful"),
        "refusal_benign": refusals("benign", "lookalike"),
        "refusal_lookalike": refusals("lookalike"),
        "refusal_partial": rate_of(o.behaviour.refusal == "partial" for o in counted),
        "answer_loss": _answer_loss(counted),
        "by_category": following_by(lambda sample: sample.category, counted),
        "by_ring": following_by(lambda sample: sample.ring, outcomes),
    }


def write_comparison(
    result: dict[str, Any], sides: dict[str, Side], *, out: str | Path, run_folder: str = ""
) -> None:
    """Write comparison.json, samples.jsonl and report.html into a folder.

    Args:
        result: of ``build_comparison``.
        sides: what it was built from.
        out: the folder; made if it is not there.
        run_folder: of the training, whose loss curve the report shows if there is a log.

    Raises:
        EvaluationError: the folder cannot be written.
        CheckpointError: likewise.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder}: cannot be made: {error.strerror}.") from error
    rows = sample_rows(sides)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(folder / "samples.jsonl", "".join(lines))
    write_text(folder / "report.html", render_report(result, rows, losses=read_losses(run_folder)))
    write_json(folder / "comparison.json", result)  # last: who finds it finds the others


def sample_rows(sides: dict[str, Side]) -> list[dict[str, Any]]:
    """Tell of each item what every side made of it, and why it was judged so."""
    rows = []
    for n, outcome in enumerate(sides["base"].outcomes):
        sample = outcome.sample
        row = {
            "id": sample.id,
            "category": sample.category,
            "ring": sample.ring,
            "kind": sample.kind,
            "source": sample.source,
            "instruction": sample.instruction,
            "reference": sample.response,
            "change": _change(outcome, sides["instruct"].outcomes[n]),
        }
        rows.append(row | {name: _told(side.outcomes[n]) for name, side in sides.items()})
    return rows


def compare_base_vs_instruct(
    base_model: str | LoadedModel | None = None,
    instruct_model: str | LoadedModel | None = None,
    prompts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Ask both models the same, print their answers side by side, and score them.

    Args:
        base_model: a model or its name; None for ``mimic``.
        instruct_model: likewise; None for the demo's run.
        prompts: what to ask; those that are built-in items are scored. None for all of these.

    Returns:
        The comparison, as comparison.json has it.

    Raises:
        EvaluationError: a model is neither a name nor one that ``load`` gave, or the demo was not
            run yet.
    """
    base = _given(base_model, "mimic")
    if instruct_model is None and not Path(DEMO_RUN).exists():
        raise EvaluationError(f"{DEMO_RUN} is not there; run `biddable demo`, or name a model.")
    instruct = _given(instruct_model, DEMO_RUN)
    items = {sample.instruction: sample for sample in load_suite("mimic")}
    if prompts is None:
        samples = list(items.values())
    else:
        samples = [items.get(text) or _unchecked(text, n) for n, text in enumerate(prompts, 1)]
    decoding = {"method": "greedy", "temperature": 0.0, "max_new_tokens": SHORT_ANSWER}
    sides = {}
    for name, model, form in (("base", base, "bare"), ("instruct", instruct, "template")):
        asked: PromptForm = "bare" if form == "bare" else "template"
        outcomes = evaluate(model, samples, prompt_form=asked, max_new_tokens=SHORT_ANSWER)
        sides[name] = Side(model.name, asked, decoding, outcomes)
    result = build_comparison(sides, suite="mimic", manifest=instruct.manifest)
    console = Console()
    console.print(summary_table(result))
    console.print(side_by_side(sample_rows(sides), limit=len(samples) if prompts else 6))
    return result


def _given(model: str | LoadedModel | None, default: str) -> LoadedModel:
    if model is None or isinstance(model, str):
        return load(model or default)
    if not isinstance(model, LoadedModel):
        raise EvaluationError(
            f"a {type(model).__name__} comes without its tokenizer; give a name, or "
            "LoadedModel(model, tokenizer, name=..., source=...)."
        )
    return model


def _unchecked(text: str, number: int) -> Sample:
    return Sample(
        id=f"prompt-{number}",
        instruction=text,
        response="",
        category="prompts",
        messages=(Message("user", text),),
    )


def _require_same_items(base: Sequence[Outcome], other: Sequence[Outcome], name: str) -> None:
    ours, theirs = [o.sample for o in base], [o.sample for o in other]
    if ours == theirs:
        return
    pairs = zip(ours, theirs, strict=False)
    first = next((f'"{a.id}" and "{b.id}"' for a, b in pairs if a != b), "their number")
    raise EvaluationError(
        f"base has {len(ours)} items and {name} {len(theirs)}, and they differ ({first}); "
        "put the same items to both."
    )


def _paired(base: Sequence[Outcome], instruct: Sequence[Outcome]) -> dict[str, Any] | None:
    changes = [_change(a, b) for a, b in zip(base, instruct, strict=True) if is_headline(a.sample)]
    if not any(changes):
        return None
    counts: dict[str, Any] = {name: changes.count(name) for name in CHANGES}
    return counts | {"mcnemar_p": mcnemar(counts["fixed"], counts["broken"])}


def _change(base: Outcome, instruct: Outcome) -> str | None:
    if base.following is None or instruct.following is None:
        return None
    return {(0, 1): "fixed", (1, 0): "broken", (1, 1): "both", (0, 0): "neither"}[
        int(base.following), int(instruct.following)
    ]


def _answer_loss(outcomes: Sequence[Outcome]) -> float | None:
    known = [o for o in outcomes if o.answer_loss_sum is not None]
    num_loss_tokens = sum(o.num_loss_tokens for o in known)
    if not num_loss_tokens:
        return None
    return sum(o.answer_loss_sum or 0.0 for o in known) / num_loss_tokens


def _told(outcome: Outcome) -> dict[str, Any]:
    behaviour = outcome.behaviour
    return {
        "output": outcome.output,
        "answer": behaviour.answer,
        "following": outcome.following,
        "correct": outcome.correct,
        "why": outcome.verdict.reason if outcome.verdict else None,
        "mimicry": behaviour.mimicry,
        "run_on": behaviour.run_on,
        "stopped": behaviour.stopped,
        "refusal": behaviour.refusal,
        "reasons": behaviour.reasons,
        "answer_loss_sum": outcome.answer_loss_sum,
        "num_loss_tokens": outcome.num_loss_tokens,
    }
