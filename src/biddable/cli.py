"""Offer the rooms as verbs: each parses, calls, and prints.

Results go to stdout, progress to stderr. A room is imported inside its verb, so that
``biddable --help`` loads no torch.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biddable import __version__
from biddable.cli_chat import chat
from biddable.cli_compare import compare
from biddable.cli_data import app as data_app
from biddable.cli_evaluate import evaluate
from biddable.cli_export import export
from biddable.cli_heap import keep_holes_small
from biddable.cli_help import PlainCommand
from biddable.cli_init import doctor, init
from biddable.cli_interrupt import never_lost
from biddable.cli_judge import judge, vote
from biddable.cli_options import (
    AsJson,
    Model,
    Quantize,
    Seed,
    Temperature,
    TemplateName,
    TopP,
    command_of,
    console,
    print_json,
    require_models,
    say,
)
from biddable.cli_plan import plan
from biddable.cli_serve import serve
from biddable.counting import counted
from biddable.errors import MAX_SHOWN_PROBLEMS, BiddableError, nearest

if TYPE_CHECKING:
    from rich.console import Console


app = typer.Typer(
    help="Turn a base language model into one that does what it is asked, and measure that it does."
    "\n\nMODEL is everywhere the same: an embedded name (mimic, smollm2), a run folder, an adapter"
    " folder, a transformers folder, a .gguf file or a hub id.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"biddable {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a failure's traceback; may stand anywhere.")
    ] = False,
) -> None:
    """Take the options of all verbs; ``main`` has read ``--debug`` already."""


@app.command()
def demo(
    method: Annotated[
        Literal["full", "freeze", "lora"],
        typer.Option(help="What is trained: everything, the upper half, or an adapter."),
    ] = "full",
    seed: Seed = 0,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder; an older demo is replaced.")
    ] = "runs/demo",
    as_json: AsJson = False,
) -> None:
    """Turn the embedded base into an instruct model, in minutes.

    Both are compared at the end. A CPU is enough.

    It runs code that the models write, in a limited process, to check their answers.
    """
    from biddable.demo import run_demo

    comparison = run_demo(method=method, seed=seed, out=out, console=console(hush=as_json))
    if as_json:
        print_json(comparison)


@app.command()
def train(
    context: typer.Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    events: Annotated[
        str | None, typer.Option(metavar="FILE", help="Every event, as it happens, in JSON lines.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run of this config that was cut off.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train what a config describes, and leave a run folder.

    Ctrl-C and SIGTERM save the run first; --resume goes on as if nothing had been.
    """
    from biddable.config import load_config

    settings = load_config(config)  # before torch is loaded: a typo is told at once
    from biddable.training.finetune import run_training
    from biddable.training.metrics import JsonlWriter
    from biddable.training.progress import ProgressBar

    errors = console(stderr=True)
    write = JsonlWriter(events, goes_on=resume) if events else None
    with ProgressBar(errors) as bar:

        def listen(event: dict[str, Any]) -> None:
            _tell_preparation(event, errors)
            bar(event)
            if write:
                write(event)

        try:
            folder = run_training(settings, resume=resume, on_event=listen)
        except BiddableError as error:
            if error.is_resumable:
                error.args = (f"{error} Go on: {_to_go_on(command_of(context))}",)
            raise
    if int(os.environ.get("RANK", "0")):  # of torchrun: the first process tells the results
        return
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({"run": str(folder), "results": manifest["results"]})
    else:
        line = _in_one_line(folder, manifest["results"])
        console().print(line, soft_wrap=True, highlight=False, markup=False)
        say(_next_steps(folder, manifest))


app.command()(init)
app.command()(doctor)
app.command()(plan)
app.command()(chat)


app.command()(compare)
app.command()(evaluate)
app.command()(export)
app.command()(judge)
app.command()(vote)
app.command()(serve)


@app.command()
def generate(
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help='What to ask; "-": stdin.')],
    template: TemplateName = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Let it continue the text as it is.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    quantize: Quantize = None,
    as_json: AsJson = False,
) -> None:
    """Answer one prompt.

    A model that was never taught a template continues it instead.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise typer.BadParameter("it is empty; give some text.", param_hint="PROMPT")
    if bare and template:
        raise typer.BadParameter("it cannot stand beside --template.", param_hint="--bare")
    require_models(model)
    from biddable.models.loading import load
    from biddable.serving.answering import answer

    loaded = load(model, quantize=quantize)
    name = None if bare else template or loaded.template
    if name is None and not bare:
        say(f"{model} was taught no template, so it is given the bare prompt (see --template)")
    found = answer(
        loaded,
        text,
        template=name,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    if as_json:
        facts = {"text": found.text, "num_tokens": found.num_tokens, "stopped": found.stopped}
        print_json({"model": model, "template": name, "prompt": text, **facts})
        return
    typer.echo(found.text)
    if not found.stopped:
        say(f"cut after {counted(found.num_tokens, 'token')}: the model did not stop by itself")


for _verb in (*app.registered_commands, *data_app.registered_commands):
    _verb.cls = PlainCommand


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the program's name; None takes them from the process.

    Returns:
        The exit code: 0; 1 for a failure, 2 for wrong usage, 130 after Ctrl-C, 143
        after SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    debug = "--debug" in given[:end]  # taken anywhere, as it is added after a failure
    given = [word for n, word in enumerate(given) if n >= end or word != "--debug"]
    if arguments is None and given[:1] in (["train"], ["plan"]):  # a plan measures what train takes
        keep_holes_small()
    try:
        # verbs that tell how a result was made find there what was typed
        typed = join(["biddable", *given])
        with never_lost():
            code = app(given, prog_name="biddable", standalone_mode=False, obj=typed)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _fail(error)
    if code == 130:
        say("interrupted; nothing unfinished is left behind")
    return code if isinstance(code, int) else 0


def _fail(error: Exception) -> int:
    """Say in one line what went wrong, and choose the exit code."""
    if isinstance(error, BiddableError):
        if not error.is_told:
            say(str(error))
        return getattr(error, "exit_code", 1)
    told = getattr(error, "format_message", None)  # typer's own: a wrong option, a missing argument
    if told is not None:
        if told().startswith("Usage:"):  # no arguments at all: the help itself
            typer.echo(told(), err=True)
            return 2
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "biddable"
        text = _told_better(error, context) or told().replace("Value error, ", "")
        say(f"{text} See: {path} --help")
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        say(f"{place}{error.strerror or error}.")
        return 1
    say(f"internal error, please report it ({type(error).__name__}: {error}); see it with --debug")
    return 1


def _told_better(error: Exception, context: Any) -> str:
    """Point from a misplaced verb or option to where it belongs; empty if it is not seen."""
    option = getattr(error, "option_name", None)
    if option and context and type(error).__name__ == "NoSuchOption":
        given = [p for p in context.command.params if p.param_type_name == "argument"]
        meant = nearest(option.lstrip("-"), [str(p.name) for p in given])
        name = next((str(p.metavar or p.name) for p in given if f'"{p.name}"' in meant), None)
        return f"No such option: {option}. {name} is given by itself, without one." if name else ""
    extra = re.search(r"unexpected extra argument\S* \((.+)\)", str(getattr(error, "message", "")))
    if extra and context and context.params.get("base") is True:
        return f"--base takes no name; --base-model {extra[1]} shows that model."
    found = re.match(r"No such command '(.*?)'", str(getattr(error, "message", "")))
    verbs = [str(command.name) for command in data_app.registered_commands]
    if found and found[1] in verbs:
        return f"No such command '{found[1]}'. Did you mean 'data {found[1]}'?"
    return ""


def _to_go_on(typed: str) -> str:
    """Say which command goes on with a run that was cut off, from the one that was typed."""
    resumed = typed if "--resume" in typed.split() else f"{typed} --resume"
    size = os.environ.get("WORLD_SIZE", "1")  # torchrun says it, and how many of them are here
    if size == "1":
        return resumed
    if size == os.environ.get("LOCAL_WORLD_SIZE"):
        return f"torchrun --nproc-per-node {size} -m {resumed}"
    return f"on each machine as before, torchrun ... -m {resumed}"


def _next_steps(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Say how the run is tried and measured."""
    base = manifest["model"]["name"]
    suite = "" if manifest["results"].get("held_out_loss") is not None else " --suite general"
    run = quote(str(folder))
    compared = f"biddable compare {quote(base)} {run}{suite} --out {run}-compare"
    return f"go on: biddable chat {run}, or {compared}"


def _tell_preparation(event: Mapping[str, Any], screen: Console) -> None:
    """Say what the rows came to and what will train, the dropped rows by name."""
    if "summary" in event:
        part = f"{event['part']}: " if "part" in event else ""
        screen.print(part + event["summary"], highlight=False, markup=False)
    for dropped in event.get("dropped", ())[:MAX_SHOWN_PROBLEMS]:
        screen.print(f"  dropped {dropped}", highlight=False, markup=False)
    for note in event.get("notes", ()):
        screen.print(f"  {note}", highlight=False, markup=False)


def _in_one_line(folder: Path, results: Mapping[str, Any]) -> str:
    parts = [counted(results["steps"], "step"), counted(results["tokens"], "token")]
    parts.append(f"{results['seconds']:.0f} s")
    if num_resumed := len(results["resumed_at"]):
        parts[-1] += f" in {num_resumed + 1} parts"
    if results.get("held_out_loss") is not None:
        before, after = results["held_out_loss_before"], results["held_out_loss"]
        parts.append(f"held-out loss {before:.3f} -> {after:.3f}")
    return f"{folder}: {', '.join(parts)}"
