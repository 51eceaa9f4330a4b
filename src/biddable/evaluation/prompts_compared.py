"""Ask a base and the model made of it the same prompts, and print what both say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from biddable.data.conversation import Message
from biddable.errors import EvaluationError
from biddable.evaluation.asking import PromptForm
from biddable.evaluation.comparison import DEMO_RUN, SHORT_ANSWER, build_comparison
from biddable.evaluation.measured import identity_of
from biddable.evaluation.runner import evaluate
from biddable.evaluation.sample import Sample
from biddable.evaluation.sides import Side, sample_rows
from biddable.evaluation.sources import as_source
from biddable.evaluation.suites import load_suite
from biddable.evaluation.terminal import side_by_side, summary_table
from biddable.models.loading import LoadedModel, load


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
        identity = identity_of(as_source(model), samples)
        sides[name] = Side(model.name, asked, decoding, outcomes, identity)
    result = build_comparison(sides, suite="mimic", manifest=instruct.manifest)
    console = Console()
    console.print(summary_table(result, width=console.width))
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
