"""Compare a base with the model made of it, on the same items with the same decoding.

The base is asked in three forms, so that what training brought is not confused with what a prompt
brings; the headline sets the bare base against the instruct model with its template.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from biddable.counting import counted
from biddable.curves import read_losses
from biddable.errors import EvaluationError
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.asking import AnswerSource, PromptForm
from biddable.evaluation.measured import how_measured, identity_of
from biddable.evaluation.memorisation import named_data
from biddable.evaluation.pairing import (
    count_changes,
    describe_means,
    describe_pairs,
    figure_of,
    pairs_of,
)
from biddable.evaluation.rates_compared import compare_rates
from biddable.evaluation.responses import ReadyResponses
from biddable.evaluation.runner import Event, evaluate, tell_of_code
from biddable.evaluation.sample import Sample
from biddable.evaluation.sampling import NOT_KNOWN, Sampling, decoding_facts, items_of
from biddable.evaluation.scores import scores
from biddable.evaluation.sides import (
    OWN_SIDES,
    Side,
    check_names,
    common_decoding,
    require_same_items,
    same_tokens,
    write_comparison,
)
from biddable.evaluation.sources import as_source, is_responses, template_of_side
from biddable.evaluation.statistics import holm
from biddable.evaluation.suites import HEADLINE_RINGS, fewshot_examples, load_suite
from biddable.evaluation.tuning_cost import BUILT_IN, cost_of_tuning
from biddable.models.loading import LoadedModel

Model = str | LoadedModel | AnswerSource
Kind = Literal["int8"]  # how weights may be kept
_Opened = tuple[AnswerSource, AnswerSource, dict[str, Model]]  # the further ones by name

SCHEMA = 1
DEMO_RUN = "runs/demo"
_OF_DRAWS = (
    "Each item was answered once for each seed; where single answers are shown, and in what tuning"
    " cost, they are those of the first one."
)
SHORT_ANSWER, LONG_ANSWER = 128, 256  # most new tokens on mimic, and elsewhere


def compare(  # noqa: PLR0913  (what both are asked, and how, is one decision)
    base: Model,
    instruct: Model,
    *,
    also: Mapping[str, Model] | None = None,
    base_form: PromptForm = "bare",
    suite: str | Path = "mimic",
    template: str | None = None,
    max_new_tokens: int | None = None,
    run_code: bool = False,
    sampling: Sampling | None = None,
    quantize: Mapping[str, Kind | None] | None = None,
    forgetting_text: str | Path | None = BUILT_IN,
    training_data: Sequence[str | Path] = (),
    cache: AnswerCache | None = None,
    command: str | None = None,
    out: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> dict[str, Any]:
    """Put a suite to a base, in three prompt forms, and to the model made of it.

    Args:
        base: a model, its name, or another source of answers (`open_source`); so are the others.
        instruct: made of it.
        also: further models by the name each is shown under; up to four.
        base_form: how the base is asked for the headline.
        suite: as ``load_suite`` takes it.
        template: how all are asked; None for the one that the instruct model was trained with.
        max_new_tokens: most ids of an answer; None for 128 on mimic, 256 elsewhere.
        run_code: whether Python that differs from its reference is run, in a limited process.
        sampling: draws answers, one for each item and seed; None takes the likeliest tokens.
        quantize: how weights are kept, as ``load`` takes it, by the name of a side.
        forgetting_text: as ``cost_of_tuning`` takes it; None measures no forgetting.
        training_data: names of what the instruct model learned; none for what its run says.
        cache: where answers are kept; None keeps none.
        command: what was typed, to be told in the report; None for a call from Python.
        out: a folder for all that `write_comparison` writes; None writes nothing.
        on_event: told about each stage; before them ``{"note"}``, if code should be run and is not.

    Returns:
        The comparison, as comparison.json has it.

    Raises:
        EvaluationError, DataError, ConfigError: an item, the suite or a model's name does not fit.
    """
    samples, tell, kinds = load_suite(suite), on_event or (lambda event: None), dict(quantize or {})
    limits, data = _limits(suite, max_new_tokens, run_code, sampling), named_data(training_data)
    source, tuned, more = _settle(_open(base, instruct, also, kinds, cache), samples, tell, limits)

    def ask(name: str, model: Model, form: PromptForm | None) -> Side:
        asked = as_source(model, quantize=kinds.pop(name, None), cache=cache)
        named = template_of_side(asked, asked if name in more else tuned, template)
        told = {**limits, "template": named, "on_event": lambda e: tell({"side": name, **e})}
        return _side(asked, samples, form, _decoding(limits, template or tuned.template), told)

    sides, notes = _ask_all(ask, source, tuned, more, base_form)
    result = build_comparison(sides, suite=str(suite), command=command, notes=notes, **_run(tuned))
    result |= _costs(source, tuned, sides, tell, text=forgetting_text, template=template, data=data)
    write_comparison(result, sides, out=out)
    return result


def _run(instruct: AnswerSource) -> dict[str, Any]:
    return {"manifest": instruct.manifest, "run_folder": instruct.source}


def _costs(
    base: AnswerSource,
    instruct: AnswerSource,
    sides: Mapping[str, Side],
    tell: Callable[[Event], None],
    **asked: Any,
) -> dict[str, Any]:
    """Say that what tuning cost is measured now, and measure it."""
    tell({"side": "instruct", "stage": "cost of tuning"})
    return cost_of_tuning(base, instruct, sides, **asked)


def _settle(
    opened: _Opened,
    samples: Sequence[Sample],
    tell: Callable[[Event], None],
    limits: Mapping[str, Any],
) -> _Opened:
    """Tell what can be told before any item is asked: what cannot be paired, or is not run."""
    given = (opened[0], opened[1], *opened[2].values())
    found = [
        each.answered(samples) if isinstance(each, ReadyResponses) else list(samples)
        for each in given
    ]
    for source, own in zip(given, found, strict=True):
        known = {sample.id for sample in own}
        lacking = {s.id: s.source or s.id for other in found for s in other if s.id not in known}
        if lacking and isinstance(source, ReadyResponses):
            raise EvaluationError(
                f"{source.name}: has no response to {counted(len(lacking), 'item')} that another"
                f" side answers, the first of them {next(iter(lacking.values()))}; add it, or"
                " leave the item out of the suite."
            )
    tell_of_code(found[0], tell, run_code=limits["run_code"])
    return opened


def _side(
    asked: AnswerSource,
    samples: Sequence[Sample],
    form: PromptForm | None,
    decoding: dict[str, Any],
    told: dict[str, Any],
) -> Side:
    if isinstance(asked, ReadyResponses):
        asked.answered(samples)
        form, decoding = None, {**NOT_KNOWN, "run_code": decoding["run_code"]}
    outcomes = evaluate(asked, samples, prompt_form=form, **told)
    return Side(asked.name, form, decoding, outcomes, identity_of(asked, samples))


def _open(
    base: Model,
    instruct: Model,
    also: Mapping[str, Model] | None,
    kinds: dict[str, Kind | None],
    cache: AnswerCache | None,
) -> _Opened:
    """Open base, instruct model and files; take their kinds of weights out of those to come."""
    check_names(also or {})
    more = {
        name: as_source(model, quantize=kinds.pop(name, None))
        if isinstance(model, str) and is_responses(model)
        else model  # loaded when it is asked
        for name, model in (also or {}).items()
    }
    return (
        as_source(base, quantize=kinds.pop("base", None), cache=cache),
        as_source(instruct, quantize=kinds.pop("instruct", None), cache=cache),
        more,
    )


def _limits(
    suite: str | Path, max_new_tokens: int | None, run_code: bool, sampling: Sampling | None
) -> dict[str, Any]:
    """Give what `evaluate` is told of a suite."""
    longest, shots = max_new_tokens or answer_limit(suite), fewshot_examples(suite)
    decoding = {"max_new_tokens": longest, "run_code": run_code, "sampling": sampling}
    return {**decoding, "shots": shots}


def _decoding(limits: Mapping[str, Any], template: str | None) -> dict[str, Any]:
    drawn = decoding_facts(limits["sampling"])
    facts = {key: limits[key] for key in ("max_new_tokens", "run_code")}
    return {**drawn, **facts, "template": template}


def answer_limit(suite: str | Path) -> int:
    """Give the most ids of an answer where none is set: mimic's answers are short."""
    return SHORT_ANSWER if str(suite) == "mimic" else LONG_ANSWER


def _ask_all(
    ask: Callable[[str, Model, PromptForm | None], Side],
    base: AnswerSource,
    instruct: AnswerSource,
    also: Mapping[str, Model],
    base_form: PromptForm,
) -> tuple[dict[str, Side], list[str]]:
    """Ask the base in all forms and the others in their own; say what had to be left out."""
    sides, notes = {"base": ask("base", base, base_form)}, []
    forms: tuple[PromptForm, ...] = () if base.is_ready else ("template", "fewshot")
    for form in forms:
        name = {"template": "base_templated"}.get(form, f"base_{form}")
        if form == base_form:
            sides[name] = sides["base"]
            continue
        try:
            sides[name] = ask(name, base, form)
        except EvaluationError as error:  # too long for a small model, or no template in a file
            first, _, rest = str(error).partition("\n")
            notes.append(f"{name} was left out: {first}{' ...' if rest else ''}")
    sides["instruct"] = ask("instruct", instruct, "template")
    for name, model in also.items():  # loaded in turn, so that one of them is held at a time
        sides[name] = ask(name, model, "template")
    ready = [side.model for side in sides.values() if side.prompt_form is None]
    notes += [f"{name}: ready responses; how they were decoded is not known." for name in ready]
    return sides, notes


def build_comparison(
    sides: dict[str, Side],
    *,
    suite: str,
    manifest: dict[str, Any] | None = None,
    run_folder: str | Path = "",
    command: str | None = None,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """Put together what comparison.json says.

    Args:
        sides: ``base`` and ``instruct``, ``base_templated`` and ``base_fewshot`` if there; any
            other name is that of a further model.
        suite: its name.
        manifest: of the run that made the instruct model.
        run_folder: where its log lies, if it left one.
        command: what was typed; None for a call from Python.
        notes: what a reader should know.

    Raises:
        EvaluationError: two sides differ in their items or their decoding.
    """
    base, instruct = sides["base"], sides["instruct"]
    decoding = common_decoding(sides)
    for name, side in sides.items():
        require_same_items(base.outcomes, side.outcomes, name)
    extras = {name: side for name, side in sides.items() if name not in OWN_SIDES}
    items = items_of(outcome.sample for outcome in base.outcomes)
    return {
        "schema": SCHEMA,
        "base_model": base.model,
        "instruct_model": instruct.model,
        "suite": suite,
        "n": len(set(items) if items else base.outcomes),
        "headline_rings": list(HEADLINE_RINGS),
        "decoding": decoding,
        "prompt_form": {"base": base.prompt_form, "instruct": instruct.prompt_form},
        "base": scores(base.outcomes),
        **{
            name: scores(sides[name].outcomes) if name in sides else None
            for name in ("base_templated", "base_fewshot")
        },
        "instruct": scores(instruct.outcomes),
        "extra_models": {name: scores(side.outcomes) for name, side in extras.items()},
        **(against := _set_against(base, instruct)),
        **_rates_told(base, instruct, against["statistics"]),
        **_losses_told(sides),
        "pairs": _set_all_beside(base, instruct, extras),
        "forgetting": None,
        "training": _training_of(manifest, run_folder),
        "measured": how_measured(
            [outcome.sample for outcome in base.outcomes],
            {name: sides[name].identity for name in ("base", "instruct", *extras)},
            command=command,
        ),
        "notes": [*notes, *([_OF_DRAWS] if items else [])],
    }


def _set_against(before: Side, after: Side) -> dict[str, Any]:
    """Count what changed from one side to another, and say how surely."""
    figure = figure_of(before.outcomes, after.outcomes)
    pairs = pairs_of(before.outcomes, after.outcomes, figure=figure)
    block = describe_pairs(pairs, figure=figure)
    if block is not None:
        same = same_tokens(before, after)
        block["means"] = describe_means(before.outcomes, after.outcomes, same_tokens=same)
    return {"paired": count_changes(pairs), "statistics": block}


def _rates_told(before: Side, after: Side, block: Mapping[str, Any] | None) -> dict[str, Any]:
    figure = None if block is None else block["figure"]
    return {"rates_compared": compare_rates(before.outcomes, after.outcomes, figure=figure)}


def _losses_told(sides: Mapping[str, Side]) -> dict[str, Any]:
    """Say how the loss changed, and whether all sides' tokenizers cut the references alike."""
    others = [side for name, side in sides.items() if name != "instruct"]
    known = {same_tokens(sides["instruct"], side) for side in others} - {None}
    return {
        "answer_loss_change": _loss_change(sides),
        "same_tokens": all(known) if known else None,
    }


def _loss_change(sides: Mapping[str, Side]) -> dict[str, Any] | None:
    """Say how the loss on reference answers changed, by item; checks are not needed for it.

    The base in the instruct model's own template comes before, if it was asked so: with any other
    prompt the change would be the prompt's as well.
    """
    instruct = sides["instruct"]
    for name in ("base_templated", "base"):
        if name in sides:
            before = sides[name]
            same = same_tokens(before, instruct)
            found = describe_means(before.outcomes, instruct.outcomes, same_tokens=same)
            if found["answer_loss"] is not None:
                bits = {"same_tokens": same, "bits_per_byte": found["answer_bits_per_byte"]}
                return {"from": name, **found["answer_loss"], **bits}
    return None


def _set_beside(base: Side, instruct: Side, side: Side) -> dict[str, Any]:
    """Set a further model against the base and against the instruct model."""
    return {
        "model": side.model,
        "prompt_form": side.prompt_form,
        "base": _set_against(base, side),
        "instruct": _set_against(instruct, side),
    }


def _set_all_beside(base: Side, instruct: Side, extras: Mapping[str, Side]) -> dict[str, Any]:
    """Set each further model beside both; the larger p-value, corrected for their number."""
    beside = {name: _set_beside(base, instruct, side) for name, side in extras.items()}
    found = [
        pair[other]["statistics"] for pair in beside.values() for other in ("base", "instruct")
    ]
    blocks = {str(n): block for n, block in enumerate(found) if block}
    larger = {n: max(block["p"], block["clusters"]["p"]) for n, block in blocks.items()}
    for n, p in holm(larger).items():
        blocks[n]["p_holm"] = p
    return beside


def _training_of(
    manifest: Mapping[str, Any] | None, run_folder: str | Path
) -> dict[str, Any] | None:
    if manifest is None:
        return None
    results = manifest.get("results", {})
    facts = ("seconds", "tokens", "steps", "held_out_loss_before", "held_out_loss")
    return {
        "method": manifest.get("method"),
        "seed": manifest.get("seed"),
        **{key: results.get(key) for key in facts},
        "losses": read_losses(run_folder),
    }
