"""Compare a base with the model made of it, on the same items with the same decoding.

The base is asked in three forms, so that what training brought is not confused with what a prompt
brings; the headline sets the bare base against the instruct model with its template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from biddable.data.conversation import Message
from biddable.errors import EvaluationError
from biddable.evaluation.pairing import (
    count_changes,
    describe_means,
    describe_pairs,
    pairs_of,
)
from biddable.evaluation.runner import Event, Outcome, PromptForm, evaluate
from biddable.evaluation.sample import Sample
from biddable.evaluation.sides import (
    OWN_SIDES,
    Side,
    check_names,
    require_same_items,
    sample_rows,
    write_comparison,
)
from biddable.evaluation.statistics import rate_of
from biddable.evaluation.suites import (
    HEADLINE_RINGS,
    fewshot_examples,
    is_headline,
    load_suite,
)
from biddable.evaluation.terminal import side_by_side, summary_table
from biddable.models.loading import LoadedModel, load

SCHEMA = 1
DEMO_RUN = "runs/demo"
SHORT_ANSWER, LONG_ANSWER = 128, 256  # most new tokens on mimic, and elsewhere


def compare(  # noqa: PLR0913  (what both are asked, and how, is one decision)
    base: str | LoadedModel,
    instruct: str | LoadedModel,
    *,
    also: Mapping[str, str | LoadedModel] | None = None,
    base_form: PromptForm = "bare",
    suite: str | Path = "mimic",
    template: str | None = None,
    max_new_tokens: int | None = None,
    run_code: bool = False,
    out: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Put a suite to a base, in three prompt forms, and to the model made of it.

    Args:
        base: a model or its name; so are the others.
        instruct: made of it.
        also: further models by the name each is shown under; up to four.
        base_form: how the base is asked for the headline.
        suite: as ``load_suite`` takes it.
        template: how all are asked; None for the one that the instruct model was trained with.
        max_new_tokens: most ids of an answer; None for 128 on mimic, 256 elsewhere.
        run_code: whether Python that differs from its reference is run, in a limited process.
        out: a folder for comparison.json, samples.jsonl and report.html; None writes nothing.
        on_event: told about each stage.

    Returns:
        The comparison, as comparison.json has it.

    Raises:
        EvaluationError: an item is malformed, or too long for a model.
        DataError, ConfigError: the suite cannot be read; a model name leads nowhere.
    """
    check_names(also or {})
    samples, limits = load_suite(suite), _limits(suite, max_new_tokens, run_code)
    decoding = {"method": "greedy", "temperature": 0.0, "max_new_tokens": limits["max_new_tokens"]}
    base_model, tuned = (load(m) if isinstance(m, str) else m for m in (base, instruct))
    tell = on_event or (lambda event: None)

    def ask(name: str, model: LoadedModel, form: PromptForm) -> Side:
        own = model.template if name not in OWN_SIDES else None
        outcomes = evaluate(
            model,
            samples,
            prompt_form=form,
            template=template or own or tuned.template,
            on_event=lambda event: tell({"side": name, **event}),
            **limits,
        )
        return Side(model.name, form, decoding, outcomes)

    sides, notes = _ask_all(ask, base_model, tuned, also or {}, base_form)
    result = build_comparison(sides, suite=str(suite), manifest=tuned.manifest, notes=notes)
    result["decoding"] |= {"run_code": run_code, "template": template or tuned.template}
    if out is not None:
        write_comparison(result, sides, out=out, run_folder=tuned.source)
    return result


def _limits(suite: str | Path, max_new_tokens: int | None, run_code: bool) -> dict[str, Any]:
    longest, shots = max_new_tokens or answer_limit(suite), fewshot_examples(suite)
    return {"max_new_tokens": longest, "run_code": run_code, "shots": shots}


def answer_limit(suite: str | Path) -> int:
    """Give the most ids of an answer where none is set: mimic's answers are short."""
    return SHORT_ANSWER if str(suite) == "mimic" else LONG_ANSWER


def _ask_all(
    ask: Callable[[str, LoadedModel, PromptForm], Side],
    base: LoadedModel,
    instruct: LoadedModel,
    also: Mapping[str, str | LoadedModel],
    base_form: PromptForm,
) -> tuple[dict[str, Side], list[str]]:
    """Ask the base in all forms and the instruct model in its own; say what had to be left out."""
    sides, notes = {"base": ask("base", base, base_form)}, []
    forms: tuple[tuple[str, PromptForm], ...] = (
        ("base_templated", "template"),
        ("base_fewshot", "fewshot"),
    )
    for name, form in forms:
        if form == base_form:
            sides[name] = sides["base"]
            continue
        try:
            sides[name] = ask(name, base, form)
        except EvaluationError as error:  # three examples may be more than a small model can read
            if form == "template":
                raise
            first, _, rest = str(error).partition("\n")
            notes.append(f"{name} was left out: {first}{' ...' if rest else ''}")
    sides["instruct"] = ask("instruct", instruct, "template")
    for name, model in also.items():  # loaded in turn, so that one of them is held at a time
        sides[name] = ask(name, load(model) if isinstance(model, str) else model, "template")
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
        sides: ``base`` and ``instruct``, ``base_templated`` and ``base_fewshot`` if there; any
            other name is that of a further model.
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
        require_same_items(base.outcomes, side.outcomes, name)
    extras = {name: side for name, side in sides.items() if name not in OWN_SIDES}
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
        "extra_models": {name: scores(side.outcomes) for name, side in extras.items()},
        **_set_against(base, instruct),
        "pairs": {name: _set_beside(base, instruct, side) for name, side in extras.items()},
        "forgetting": None,
        "training": _training_of(manifest),
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


def _set_against(before: Side, after: Side) -> dict[str, Any]:
    """Count what changed from one side to another, and say how surely."""
    pairs = pairs_of(before.outcomes, after.outcomes)
    block = describe_pairs(pairs)
    if block is not None:
        block["means"] = describe_means(before.outcomes, after.outcomes)
    return {"paired": count_changes(pairs), "statistics": block}


def _set_beside(base: Side, instruct: Side, side: Side) -> dict[str, Any]:
    """Set a further model against the base and against the instruct model."""
    return {
        "model": side.model,
        "prompt_form": side.prompt_form,
        "base": _set_against(base, side),
        "instruct": _set_against(instruct, side),
    }


def _training_of(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if manifest is None:
        return None
    results = manifest.get("results", {})
    facts = ("seconds", "tokens", "steps", "held_out_loss_before", "held_out_loss")
    return {
        "method": manifest.get("method"),
        "seed": manifest.get("seed"),
        **{key: results.get(key) for key in facts},
    }


def _answer_loss(outcomes: Sequence[Outcome]) -> float | None:
    known = [o for o in outcomes if o.answer_loss_sum is not None]
    num_loss_tokens = sum(o.num_loss_tokens for o in known)
    if not num_loss_tokens:
        return None
    return sum(o.answer_loss_sum or 0.0 for o in known) / num_loss_tokens
