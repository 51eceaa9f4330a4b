"""Offer ``biddable chat``: a conversation with a model, in a terminal or through a pipe."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from biddable.cli_complete import model_names
from biddable.cli_options import (
    AsJson,
    Model,
    Seed,
    TemplateName,
    console,
    require_models,
    say,
)
from biddable.errors import ConfigError

if TYPE_CHECKING:
    from biddable.models.loading import LoadedModel
    from biddable.serving.chat import Chat, Voice

System = Annotated[str, typer.Option(metavar="TEXT", help="System prompt.")]
WithBase = Annotated[
    bool, typer.Option("--base", help="Show what its base makes of the bare text, beside it.")
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        metavar="BASE",
        help="The base to show; none: the one that the run names.",
        autocompletion=model_names,
    ),
]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Longest answer.")]
Temperature = Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")]
TopP = Annotated[float, typer.Option(min=0.01, max=1, help="Share drawn from.")]
WhenFull = Annotated[
    Literal["drop", "refuse"],
    typer.Option(help="Once the model cannot read all: the first turns are left out, or refused."),
]


def chat(
    model: Model,
    system: System = "",
    base: WithBase = False,
    base_model: BaseModel = None,
    template: TemplateName = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    when_full: WhenFull = "drop",
    as_json: AsJson = False,
) -> None:
    """Talk with a model, in the terminal or through a pipe.

    What is said so far is part of every question.

    /help lists the commands; /save FILE.jsonl adds the conversation to rows to train on. Ctrl-C
    stops an answer. From a pipe each line is a question, and answers alone are printed.
    """
    require_models(model, *([base_model] if base_model else []))
    from biddable.models.cpu_linear import fast_linears
    from biddable.models.loading import load
    from biddable.serving.chat import Chat, Voice
    from biddable.serving.streaming import Sampling

    loaded = load(model)
    name = template or loaded.template
    if name is None:
        say(f"{model} was taught no template: each line is bare text by itself (see --template)")
    drawn = Sampling(max_new_tokens, temperature, top_p, seed)
    talk = Chat(Voice(loaded, name), sampling=drawn, when_full=when_full)
    talk.set_system(system)
    with ExitStack() as stack:
        stack.enter_context(fast_linears(loaded.model))
        beside = None
        if base or base_model:
            beside = Voice(load(base_model or _base_of(loaded)), None)
            stack.enter_context(fast_linears(beside.model))
        _converse(talk, beside, name=name, as_json=as_json)


def _base_of(loaded: LoadedModel) -> str:
    from biddable.serving.chat import base_of

    named = base_of(loaded)
    if named is None:
        raise ConfigError(
            f"--base: {loaded.name} does not say what it was made from; name it with --base-model."
        )
    return named


def _converse(talk: Chat, beside: Voice | None, *, name: str | None, as_json: bool) -> None:
    """Lead the conversation where it is typed, or through pipes."""
    from biddable.serving.chat_terminal import (
        PipeScreen,
        TerminalScreen,
        converse,
        lines_of,
        typed_lines,
    )

    model, base = talk.model_name, beside.name if beside else ""
    if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        screen = TerminalScreen(console(), (model, f"{base}, given the bare text"))
        form = "bare text" if name is None else f"template {name}"
        screen.note(f"{model}, {form}. /help lists the commands, Ctrl-D leaves.")
        with typed_lines() as read:
            converse(talk, base=beside, read=read, screen=screen)
        return
    piped = PipeScreen((model, base), tell=say, as_json=as_json)
    if not converse(talk, base=beside, read=lines_of(sys.stdin), screen=piped):
        raise typer.Exit(1)
