"""Hold what the verbs share: their common options, and how they print."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biddable.cli_complete import model_names, suite_names, template_names
from biddable.errors import CheckpointError

if TYPE_CHECKING:
    from rich.console import Console

    from biddable.evaluation.sampling import Sampling

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model.", autocompletion=model_names)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
Suite = Annotated[
    str | None,
    typer.Option(
        metavar="SUITE",
        help="formatting, general, mimic, refusal, starter, a file of items or instructions, or "
        "KIND:FILE of ifeval, xstest, gsm8k, mt_bench, instructions; none: what the run held out.",
        autocompletion=suite_names,
    ),
]
TemplateName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="How turns are written; none: as the model was trained.",
        autocompletion=template_names,
    ),
]
MaxNewTokens = Annotated[
    int | None, typer.Option(min=1, help="Longest answer; none: 128 on mimic, 256 elsewhere.")
]
RunCode = Annotated[
    bool, typer.Option("--run-code", help="Check model-written code by running it, limited.")
]
ForgettingText = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Plain text, .txt or rows of text, that both read; none: built-in pages.",
    ),
]
NoForgetting = Annotated[
    bool, typer.Option("--no-forgetting", help="Do not measure what was forgotten.")
]
TrainingData = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Rows that the model was tuned on: how much it repeats of them; may be repeated.",
    ),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Generate all anew, and keep no answers for next time.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite the results in the folder.")]
Temperature = Annotated[
    float, typer.Option(min=0, help="Draw tokens, from logits divided by it; 0: the likeliest.")
]
TopP = Annotated[
    float, typer.Option(min=0.01, max=1, help="Share of probability that is drawn from.")
]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="N,N,...", help="Draw an answer to each item with each; none: 0."),
]
Quantize = Annotated[
    Literal["int8"] | None,
    typer.Option(help="Keep the weights in 8 bits: less memory, other answers. Extra: quant."),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]


def command_of(context: typer.Context) -> str:
    """Tell what was typed, so that a result can say which command makes it again."""
    return str(context.find_root().obj)


def require_models(*names: str) -> None:
    """Refuse unknown models before any of them is loaded."""
    from biddable.models.loading import resolve

    for name in names:
        is_elsewhere = name.startswith(("http://", "https://"))
        if not is_elsewhere and not (name.endswith(".jsonl") and Path(name).is_file()):
            resolve(name)


def sampling_of(temperature: float, top_p: float, seeds: str | None) -> Sampling | None:
    """Settle how answers are drawn; None where the likeliest tokens are taken."""
    if temperature == 0:
        for option, is_set in (("--top-p", top_p != 1), ("--seeds", seeds is not None)):
            if is_set:
                wrong = "nothing is drawn without --temperature, which is 0; add it, as 0.7."
                raise typer.BadParameter(wrong, param_hint=option)
        return None
    from biddable.evaluation.sampling import Sampling

    try:
        numbers = tuple(int(part) for part in (seeds or "0").split(","))
    except ValueError as error:
        wrong = f'"{seeds}" is no list of whole numbers; write 0,1,2.'
        raise typer.BadParameter(wrong, param_hint="--seeds") from error
    return Sampling(temperature, top_p, numbers)


def console(*, stderr: bool = False, hush: bool = False) -> Console:
    """Make what prints to the terminal."""
    from rich.console import Console

    return Console(stderr=stderr, quiet=hush)


def say(message: str) -> None:
    """Tell the user something on stderr."""
    typer.echo(f"biddable: {message}", err=True)


def print_json(value: object) -> None:
    """Print a value for a program to read."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def result_folder(out: str, names: Sequence[str], *, replace: bool) -> Path:
    """Refuse a folder for results that holds others, unless told to, or that cannot be made.

    It is made by what writes into it: a call that is refused leaves nothing behind.
    """
    folder = Path(out)
    there = [name for name in names if (folder / name).exists()]
    if there and not replace:
        raise CheckpointError(
            f"{folder}: already holds {there[0]}; choose another --out, or add --replace."
        )
    places = (folder, *folder.absolute().parents)
    there_already = next(place for place in places if os.path.lexists(place))
    if not there_already.is_dir():
        what = "is a file" if there_already.exists() else "is a link to nothing"
        raise CheckpointError(f"{folder}: cannot be made: {there_already} {what}.")
    if not os.access(there_already, os.W_OK | os.X_OK):
        raise CheckpointError(f"{folder}: cannot be made: {there_already} may not be written to.")
    return folder


def stage_of(event: Mapping[str, Any]) -> str:
    """Say in one line how far an evaluation is."""
    return ", ".join(str(value) for value in event.values())
