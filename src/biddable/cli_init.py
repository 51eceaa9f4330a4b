"""Offer the first steps: ``biddable init`` writes a config, ``biddable doctor`` looks around."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from biddable.cli_complete import data_names
from biddable.cli_options import AsJson, Model, TemplateName, console, print_json, say

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A file, a folder, a hub name, mimic or starter.",
        autocompletion=data_names,
    ),
]
Out = Annotated[str, typer.Option(metavar="FILE", help="The config to write.")]
Method = Annotated[
    Literal["full", "lora"] | None,
    typer.Option(help="What trains; none: chosen by size and memory."),
]
HeldOut = Annotated[
    str | None, typer.Option(metavar="DATA", help="Rows never learned; none: some of DATA.")
]
Output = Annotated[
    str | None, typer.Option(metavar="DIR", help="The run folder; none: runs/ and DATA's name.")
]
Measure = Annotated[
    bool, typer.Option("--measure/--no-measure", help="Time some matrix products; a second.")
]


def init(
    model: Model,
    data: Data,
    out: Out = "run.yaml",
    method: Method = None,
    template: TemplateName = None,
    held_out: HeldOut = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Write a config for a model and rows, each value with its reason.

    It is ready for biddable plan and biddable train. Nothing is asked, nothing is trained, and a
    file that is there is never overwritten.
    """
    from biddable.data.writing import refuse_existing, write_files

    path = Path(out)
    refuse_existing([path])
    from biddable.proposal import Wishes, propose

    wishes = Wishes(method=method, template=template, held_out=held_out, output=output)
    with console(stderr=True, hush=as_json).status("looking at model and rows"):
        found = propose(model, data, name=out, wishes=wishes)
    write_files({path: found.text})
    for fact in found.plan.readiness.facts:
        if fact.verdict == "warning":
            say(f"{fact.text}. {fact.advice}")
    if not found.fits:
        say("memory does not suffice for it here; biddable plan says what would help")
    if as_json:
        config = found.config.model_dump(mode="json")
        print_json({"file": out, "fits": found.fits, "config": config})
        return
    typer.echo(found.text, nl=False)
    say(f"written to {out}; go on: biddable plan {quote(out)}, then biddable train {quote(out)}")


def doctor(measure: Measure = True, as_json: AsJson = False) -> None:
    """Tell what this machine and installation can do, and what not."""
    from biddable.doctor import examine, findings_as_json, findings_table

    with console(stderr=True, hush=as_json).status("looking around"):
        found = examine(measure=measure)
    if as_json:
        print_json(findings_as_json(found))
    else:
        console().print(findings_table(found), highlight=False)
