"""Say what tuning cost: what the model forgot, what it repeats by heart, how its answers vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from biddable.data.segment_ids import stop_ids
from biddable.data.templates import get_template
from biddable.errors import BiddableError
from biddable.evaluation.diversity import measure_diversity
from biddable.evaluation.forgetting import measure_forgetting
from biddable.evaluation.memorisation import TrainingData, data_of_run, measure_memorisation
from biddable.evaluation.pages import Page, choose, read_pages
from biddable.evaluation.runner import Outcome
from biddable.evaluation.sampling import items_of
from biddable.evaluation.token_shift import measure_shift
from biddable.models.loading import LoadedModel

BUILT_IN = "built-in"
_NAME_IT = "Name the data with --training-data FILE."


class Answered(Protocol):
    """What is needed of a side: its outcomes."""

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """Give one for each item."""
        ...


def cost_of_tuning(
    base: Any,
    instruct: Any,
    sides: Mapping[str, Answered],
    *,
    text: str | Path | None = BUILT_IN,
    template: str | None = None,
    data: TrainingData | None = None,
) -> dict[str, Any]:
    """Measure what the gain was paid with.

    Args:
        base: the model before tuning.
        instruct: the model after it.
        sides: what each side wrote; ``base`` and ``instruct`` are among them.
        text: plain text to measure forgetting on: ``built-in`` (pages of the embedded base's world
            for it and what was made of it, else English ones) or as ``read_pages`` takes it; None
            leaves forgetting out.
        template: how the tuned model was asked; None for its own.
        data: what it was trained on; None for what its run's manifest names.

    Returns:
        ``forgetting``, ``memorisation`` and ``diversity`` of comparison.json, each None where it
        cannot be told, and ``cost_notes``, which say why.

    Raises:
        EvaluationError: there is no such text.
        DataError: it cannot be read.
    """
    base, instruct = (getattr(model, "loaded", model) for model in (base, instruct))
    notes: list[str] = []
    written = _written(sides)
    forgetting = None
    if text is not None and isinstance(base, LoadedModel) and isinstance(instruct, LoadedModel):
        name = _built_in_for(base) if str(text) == BUILT_IN else text
        pages = read_pages(name)
        chosen = choose(pages)
        if len(chosen) < len(pages):
            notes.append(f"forgetting: {len(chosen)} of {len(pages)} pages of {name} were read.")
        forgetting = {"text": str(name)} | _forgetting(
            base, instruct, chosen, written["instruct"], template=template
        )
        notes += _left_out(forgetting)
    elif text is not None:
        notes.append("forgetting was not measured: it needs the weights of both models.")
    try:
        data = data or data_of_run(getattr(instruct, "manifest", None))
    except BiddableError as error:
        notes.append(f"memorisation was not measured: {error} {_NAME_IT}")
    return {"forgetting": forgetting, **_of_outputs(written, data), "cost_notes": notes}


def cost_of_finished(
    sides: Mapping[str, Answered], *, data: TrainingData | None = None
) -> dict[str, Any]:
    """Measure what can be told by answers alone, and say what cannot.

    Args:
        sides: what each side wrote; ``base`` and ``instruct`` are among them.
        data: what the tuned model was trained on; None where that is not known.

    Returns:
        As ``cost_of_tuning`` does.
    """
    notes = [
        "forgetting was not measured: finished evaluations have no weights; compare the models"
        " themselves."
    ]
    if data is None:
        told = "finished evaluations do not say what the models were trained on"
        notes.append(f"memorisation was not measured: {told}. {_NAME_IT}")
    return {"forgetting": None, **_of_outputs(_written(sides), data), "cost_notes": notes}


def memorisation_of(written: Mapping[str, Sequence[Outcome]], data: TrainingData) -> dict[str, Any]:
    """Count what stands in the training answers word for word, in the items' references too.

    Args:
        written: outcomes of each side, by its name.
        data: what was trained on.

    Returns:
        As ``measure_memorisation`` does, with ``training_data``: the file and SHA-256 of each.
    """
    first = {name: _first(outcomes) for name, outcomes in written.items()}
    texts = {name: [o.output for o in outcomes] for name, outcomes in first.items()}
    texts["references"] = [o.sample.response for o in next(iter(first.values()))]
    files = [{key: file[key] for key in ("file", "sha256")} for file in data.files]
    return {"training_data": files, **measure_memorisation(texts, data.answers)}


def _written(sides: Mapping[str, Answered]) -> dict[str, list[Outcome]]:
    return {name: _first(sides[name].outcomes) for name in ("base", "instruct")}


def _of_outputs(
    written: Mapping[str, Sequence[Outcome]], data: TrainingData | None
) -> dict[str, Any]:
    outputs = {name: [o.output for o in outcomes] for name, outcomes in written.items()}
    return {
        "memorisation": None if data is None else memorisation_of(written, data),
        "diversity": measure_diversity(outputs),
    }


def _first(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Keep one answer to each item: lengths and overlaps count items, not draws."""
    items = items_of(outcome.sample for outcome in outcomes) or range(len(outcomes))
    first = {item: outcome for item, outcome in reversed(list(zip(items, outcomes, strict=True)))}
    return [first[item] for item in dict.fromkeys(items)]


def require_text(text: str | Path | None) -> None:
    """Refuse a text that is not there before any model is loaded.

    Raises:
        EvaluationError: there is no such text.
        DataError: it cannot be read.
    """
    if text is not None and str(text) != BUILT_IN:
        read_pages(text)


def _built_in_for(base: LoadedModel) -> str:
    """Choose the pages that a base can read: the embedded one knows no world but its own."""
    made_of = (base.manifest or {}).get("base_model")
    return "mimic" if "mimic" in (base.name, made_of) else "english"


def _forgetting(
    base: LoadedModel,
    instruct: LoadedModel,
    pages: Sequence[Page],
    outcomes: Sequence[Outcome],
    *,
    template: str | None,
) -> dict[str, Any]:
    name = template or instruct.template
    ends = instruct.end_ids()
    if name is not None:
        ends |= set(stop_ids(get_template(name, instruct.tokenizer), instruct.tokenizer))
    block = measure_forgetting(base, instruct, pages, stop_ids=sorted(ends))
    if not block["same_tokens"]:
        return block | {"prompts": None, "answers": None}
    return block | measure_shift(base, instruct, outcomes, template=template)


def _left_out(block: Mapping[str, Any]) -> list[str]:
    """Say which parts of the block are None, and why."""
    if not block["same_tokens"]:
        return [
            "forgetting: the tokenizers read the text differently, so there is no KL and no loss"
            " per token to compare; bits per byte are told."
        ]
    if block["answers"] is None:
        return [
            "forgetting: no KL on answers, for none fits both models: too long, or the tokenizers"
            " read it differently, or the template's control tokens are new to the base, and then"
            " prompts are bare."
        ]
    return []
