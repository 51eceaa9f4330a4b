"""Hold what the verbs share: their common options, and how they print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]
Suite = Annotated[
    str | None,
    typer.Option(
        help="general, mimic, refusal, starter, or a file of items or instructions; none: what "
        "the run held out."
    ),
]
TemplateName = Annotated[
    str | None, typer.Option(help="How turns are written; none: as the model was trained.")
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
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite the results in the folder.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]


def require_models(*names: str) -> None:
    """Refuse unknown models before any of them is loaded."""
    from biddable.models.loading import resolve

    for name in names:
        resolve(name)


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
