"""Offer ``biddable export``: what was trained, for other programs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from biddable.cli_options import AsJson, console, print_json, require_models, say

To = Annotated[
    Literal["merged", "adapter", "gguf"],
    typer.Option(
        help="merged: a transformers folder; adapter: for PEFT; gguf: for llama.cpp and Ollama."
    ),
]
Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="Folder to make; none: RUN-merged, RUN-gguf ...")
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Of the weights. merged: float32 (none), bfloat16, float16; gguf: q8_0 (none), f32,"
        " f16, q4_0, q4_1."
    ),
]
Comparison = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="What compare left; its figures go into the model card."),
]
BaseModel = Annotated[
    str | None, typer.Option(metavar="ID", help="Hub id of the base, for the card.")
]
License = Annotated[
    str | None, typer.Option(help="For the card, as apache-2.0; none: that of the base's card.")
]
Language = Annotated[
    str | None,
    typer.Option(metavar="CODE,CODE,...", help="For the card; none: likewise."),
]
MaxShardSize = Annotated[
    str, typer.Option(metavar="SIZE", help="Of a weights file of a merged folder.")
]
Push = Annotated[
    str | None,
    typer.Option(metavar="REPO", help="Upload it to the hub, private if new: owner/name."),
]


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or any MODEL.")],
    to: To = "merged",
    out: Out = None,
    dtype: Dtype = None,
    comparison: Comparison = None,
    base_model: BaseModel = None,
    license: License = None,
    language: Language = None,
    max_shard_size: MaxShardSize = "5GB",
    push: Push = None,
    as_json: AsJson = False,
) -> None:
    """Write a model for other programs, and check it is the same.

    Ids of prompts, logits or greedy answers are compared before the folder gets its name.
    """
    require_models(run)
    from biddable.serving.export import export as write
    from biddable.serving.model_card import CardDetails
    from biddable.serving.push import push_folder, require_access

    if push:
        require_access(push)
    codes = tuple(code.strip() for code in (language or "").split(",") if code.strip())
    with console(stderr=True).status("loading, writing, reading again"):
        found = write(
            run,
            to,
            out=out,
            dtype=dtype,
            card=CardDetails(comparison, base_model, license, codes),
            max_shard_size=max_shard_size,
        )
    for note in found.notes:
        say(note)
    address = push_folder(found.folder, push) if push else None
    if as_json:
        facts = {"folder": str(found.folder), "files": found.files, "use": found.use}
        print_json({**facts, "checks": found.checks, "notes": found.notes, "pushed": address})
        return
    typer.echo(f"{found.folder}: {', '.join(found.files)}")
    for line in found.told():
        typer.echo(line)
    typer.echo(f"use it: {found.use}")
    if address:
        typer.echo(f"pushed: {address}")
