"""Offer the verb ``evaluate``: one model, server or file of responses on a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biddable.cli_complete import model_names
from biddable.cli_options import (
    AsJson,
    MaxNewTokens,
    NoCache,
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

if TYPE_CHECKING:
    from biddable.evaluation.answer_cache import AnswerCache
    from biddable.evaluation.asking import AnswerSource

FILES = ("scores.json", "samples.jsonl")
_MAX_NAMED = 5

Evaluated = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="The model, or http://HOST:PORT/v1 of a server.",
        autocompletion=model_names,
    ),
]
Responses = Annotated[
    str | None,
    typer.Option(metavar="FILE", help='Judge what is ready: {"prompt", "response"} a line.'),
]
PromptForms = Annotated[
    Literal["bare", "template", "fewshot"] | None,
    typer.Option(help="How items are asked; may be left out for a run, which says."),
]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which of a server's models; none: its only one.")
]
LmEval = Annotated[
    list[str] | None,
    typer.Option(metavar="TASK", help="Run this task of lm-evaluation-harness; may repeat."),
]


def evaluate(
    context: typer.Context,
    model: Evaluated = None,
    responses: Responses = None,
    suite: Suite = None,
    prompt_form: PromptForms = None,
    template: TemplateName = None,
    model_name: ModelName = None,
    quantize: Quantize = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seeds: Seeds = None,
    run_code: RunCode = False,
    training_data: TrainingData = None,
    lm_eval: LmEval = None,
    no_cache: NoCache = False,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for the results.")
    ] = "runs/evaluate",
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Judge one model, server or file of responses on a suite.

    With --temperature and --seeds each item is answered once for each seed. A killed evaluation
    goes on where it was: answers are kept by model, prompt and decoding.
    """
    _require_one(model, responses, suite)
    sampling = sampling_of(temperature, top_p, seeds)
    folder = result_folder(out, FILES, replace=replace)
    from biddable.evaluation import held_out, scoring
    from biddable.evaluation.answer_cache import AnswerCache

    cache = None if no_cache or responses else AnswerCache()
    with told_stages("loading") as tell:
        source = _source(model, responses, model_name=model_name, quantize=quantize, cache=cache)
        result: dict[str, Any] = {}
        if suite is not None or not lm_eval:
            asked: dict[str, Any] = {
                "prompt_form": prompt_form,
                "template": template,
                "sampling": sampling,
            }
            asked |= {"max_new_tokens": max_new_tokens, "run_code": run_code}
            asked |= {"command": command_of(context), "out": folder}
            asked |= {"on_event": evaluation_events(tell), "training_data": training_data or ()}
            with held_out.suite_for(str(model), folder, suite) as named:
                result = scoring.score(source, suite=named, **asked)
        if lm_eval:
            tell("lm-evaluation-harness")
            result = _add_harness(result, source, tasks=lm_eval, out=str(folder))
    _tell_what_was_left(result, cache)
    if as_json:
        print_json(result)
    else:
        _print(result, folder)


def _require_one(model: str | None, responses: str | None, suite: str | None) -> None:
    """Refuse what names nothing to judge, or two things."""
    if (model is None) == (responses is None):
        raise typer.BadParameter("give MODEL, or --responses FILE.", param_hint="MODEL")
    if responses is not None and suite is None:
        wrong = "--responses needs the suite that was answered, as ifeval:input_data.jsonl."
        raise typer.BadParameter(wrong, param_hint="--suite")
    if model is not None:
        require_models(model)


def _source(
    model: str | None,
    responses: str | None,
    *,
    model_name: str | None,
    quantize: Literal["int8"] | None,
    cache: AnswerCache | None,
) -> AnswerSource:
    from biddable.evaluation.responses import ReadyResponses
    from biddable.evaluation.sources import open_source

    if responses is not None and quantize:
        wrong = "ready responses have no weights; leave it out."
        raise typer.BadParameter(wrong, param_hint="--quantize")
    if responses is not None:
        return ReadyResponses(responses)
    return open_source(str(model), model_name=model_name, quantize=quantize, cache=cache)


def _add_harness(
    result: dict[str, Any], source: AnswerSource, *, tasks: list[str], out: str
) -> dict[str, Any]:
    from biddable.errors import EvaluationError
    from biddable.evaluation.lm_harness import harness_scores
    from biddable.evaluation.local_model import LocalModel
    from biddable.manifest import write_json

    if not isinstance(source, LocalModel):
        raise EvaluationError(
            f"{source.name}: --lm-eval runs on models that are loaded here (a folder, a run, an "
            "adapter or a hub id)."
        )
    result = result or {"model": source.name}
    result |= {"lm_eval": harness_scores(source.loaded, tasks)}
    Path(out).mkdir(parents=True, exist_ok=True)
    write_json(Path(out) / FILES[0], result)
    return result


def _tell_what_was_left(result: dict[str, Any], cache: AnswerCache | None) -> None:
    missing = result.get("missing", ())
    if missing:
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        named = ", ".join(missing[:_MAX_NAMED])
        told = "1 item has" if len(missing) == 1 else f"{len(missing):,} items have"
        say(f"{told} no response, left out: {named}{more}")
    if cache is not None and cache.num_reused:
        total = cache.num_reused + cache.num_computed
        say(
            f"{cache.num_reused} of {total} answers and losses were there already"
            " (--no-cache makes them anew)"
        )


def _print(result: dict[str, Any], folder: Path) -> None:
    from biddable.evaluation import lm_harness, scoring

    screen = console()
    if "scores" in result:
        screen.print(scoring.score_table(result))
    if "lm_eval" in result:
        screen.print(lm_harness.harness_table(result["lm_eval"]))
    names = FILES if "scores" in result else FILES[:1]
    screen.print("  ".join(str(folder / name) for name in names), soft_wrap=True)
