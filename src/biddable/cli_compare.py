"""Offer the verb ``compare``: models, or finished evaluations, side by side, and gates on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from biddable.cli_complete import model_names
from biddable.cli_options import (
    AsJson,
    ForgettingText,
    MaxNewTokens,
    NoCache,
    NoForgetting,
    Quantize,
    Replace,
    RunCode,
    Seeds,
    Suite,
    Temperature,
    TemplateName,
    TopP,
    TrainingData,
    command_of,
    console,
    print_json,
    require_models,
    result_folder,
    sampling_of,
    say,
)
from biddable.cli_progress import evaluation_events, told_stages
from biddable.errors import EvaluationError

COMPARISON_FILES = ("comparison.json", "samples.jsonl", "report.html", "report.md", "card.md")

Also = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=MODEL", help="A further model beside them; may be repeated."),
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help='Exit with 1 if it holds: "instruct.instruction_following < 0.9"; may be repeated.',
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Older comparison.json; exit with 1 at a significant loss against it.",
    ),
]
BaseForm = Annotated[
    Literal["bare", "template", "fewshot"],
    typer.Option("--prompt-form", help="How the base is asked for the headline."),
]
QuantizeInstruct = Annotated[
    Literal["int8"] | None,
    typer.Option(help="The same for INSTRUCT alone; with one model twice, what it costs."),
]
Base = Annotated[
    str,
    typer.Argument(
        metavar="BASE",
        help="MODEL before training, or evaluate's folder.",
        autocompletion=model_names,
    ),
]
Instruct = Annotated[
    str,
    typer.Argument(
        metavar="INSTRUCT",
        help="MODEL after it, or evaluate's folder.",
        autocompletion=model_names,
    ),
]


def compare(
    context: typer.Context,
    base: Base,
    instruct: Instruct,
    also: Also = None,
    suite: Suite = None,
    prompt_form: BaseForm = "bare",
    template: TemplateName = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seeds: Seeds = None,
    quantize: Quantize = None,
    quantize_instruct: QuantizeInstruct = None,
    run_code: RunCode = False,
    forgetting_text: ForgettingText = None,
    no_forgetting: NoForgetting = False,
    training_data: TrainingData = None,
    no_cache: NoCache = False,
    fail_if: FailIf = None,
    baseline: Baseline = None,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for the results.")
    ] = "runs/compare",
    replace: Replace = False,
    show: Annotated[int, typer.Option(min=0, help="Answers shown side by side.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Put the same items to two to six models; say what changed.

    Two folders that `biddable evaluate` wrote are paired as they are; nothing is generated.
    """
    further = _further(also or ())
    small = _small(quantize, quantize_instruct, ["base", "instruct", *further])
    asked: dict[str, Any] = {"template": template, "max_new_tokens": max_new_tokens}
    asked |= {"run_code": run_code, "sampling": sampling_of(temperature, top_p, seeds)}
    is_set = any((suite, prompt_form != "bare", *asked.values(), *small.values()))
    is_done = _are_finished([base, instruct, *further.values()], is_set=is_set)
    from biddable.evaluation import comparison, finished, gates, held_out, sides
    from biddable.evaluation.answer_cache import AnswerCache

    asked |= {"quantize": small, "forgetting_text": _text(forgetting_text, is_off=no_forgetting)}
    settled = finished.suite_of(base) if is_done else suite
    conditions = gates.read_all(fail_if or (), baseline=baseline, suite=settled)  # early on
    sides.check_names(further)
    folder = result_folder(out, COMPARISON_FILES, replace=replace)
    given: dict[str, Any] = {"also": further, "command": command_of(context), "out": folder}
    given |= {"training_data": training_data or ()}
    with told_stages("loading") as tell:
        if is_done:
            result = finished.compare_finished(base, instruct, **given)
        else:
            asked |= {"base_form": prompt_form, "cache": None if no_cache else AnswerCache()}
            asked |= {"on_event": evaluation_events(tell)}
            with held_out.suite_for(instruct, folder, suite) as named:
                gates.require_suite(named, baseline)
                result = comparison.compare(base, instruct, suite=named, **asked, **given)
    _print(result, folder, show=show, as_json=as_json)
    failed = gates.failed(result, conditions, folder / "samples.jsonl", baseline=baseline)
    _exit_if(failed, baseline)


def _exit_if(failed: Sequence[str], baseline: str | None) -> None:
    for line in failed:
        say(line)
    if failed:
        raise typer.Exit(1)
    if baseline:
        say(f"no significant loss against {baseline}.")


def _print(result: dict[str, Any], folder: Path, *, show: int, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    from biddable.evaluation import cost_table, loss_words, rates_compared, side_names, terminal

    screen = console()
    screen.print(terminal.summary_table(result, width=screen.width))
    if (costs := cost_table.cost_table(result, width=screen.width)) is not None:
        screen.print(costs)
    notes = [*result["notes"], *result.get("cost_notes", ())]
    rates = rates_compared.rates_in_a_sentence(result)
    told = (rates, loss_words.loss_note(result), *terminal.further_lines(result), *notes)
    for line in filter(None, told):
        screen.print(line, highlight=False, markup=False)
    if show:
        labels = side_names.labels_of(result)
        names = (labels["base"], labels["instruct"])
        screen.print(terminal.side_by_side(folder / "samples.jsonl", limit=show, names=names))
    screen.print("  ".join(str(folder / name) for name in COMPARISON_FILES), soft_wrap=True)


def _text(given: str | None, *, is_off: bool) -> str | None:
    """Settle which text forgetting is measured on, before any model is loaded."""
    from biddable.evaluation import tuning_cost

    if is_off and given:
        wrong = "it cannot stand beside --forgetting-text."
        raise typer.BadParameter(wrong, param_hint="--no-forgetting")
    text = None if is_off else given or tuning_cost.BUILT_IN
    tuning_cost.require_text(text)
    return text


def _further(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, is_named, place = text.partition("=")
        if not (is_named and name.strip() and place.strip()) or name in found:
            why = "was given before" if name in found else "is not NAME=MODEL"
            raise typer.BadParameter(
                f'"{text}" {why}; write lora=runs/lora, each name once.', param_hint="--also"
            )
        found[name] = place
    return found


def _small(
    all_of_them: Literal["int8"] | None, instruct: Literal["int8"] | None, names: Sequence[str]
) -> dict[str, Literal["int8"] | None]:
    """Say of each side how its weights are kept."""
    return dict.fromkeys(names, all_of_them) | {"instruct": all_of_them or instruct}


def _are_finished(places: Sequence[str], *, is_set: bool) -> bool:
    """Tell whether all are evaluations, for which nothing may be set, or else all are models."""
    done = [place for place in places if (Path(place) / "scores.json").is_file()]
    if not done:
        require_models(*places)
    elif len(done) < len(places):
        other = next(place for place in places if place not in done)
        raise EvaluationError(
            f"{done[0]}: a finished evaluation, and {other} is none; evaluate {other} on the same"
            " suite first, or name models only."
        )
    elif is_set:
        raise typer.BadParameter(
            "they are finished, so how items are asked is settled; leave --suite, --prompt-form,"
            " --template, --max-new-tokens, --temperature, --quantize and --run-code out.",
            param_hint="BASE and INSTRUCT",
        )
    return bool(done)
