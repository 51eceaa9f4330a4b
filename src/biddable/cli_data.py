"""Offer the verbs on files of rows: ``biddable data show`` and its siblings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from biddable.cli_options import AsJson, TemplateName, console, print_json, require_models, say
from biddable.data.conversation import ROLES
from biddable.errors import ConfigError

app = typer.Typer(help="Look at a file of rows.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def data_show(
    file: Annotated[str, typer.Argument(metavar="FILE", help='A data file, or "mimic".')],
    model: Annotated[str, typer.Option(help="MODEL whose tokenizer reads it.")] = "mimic",
    template: TemplateName = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows shown.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Show rows as the model sees them, what it learns marked, and the share of that."""
    from biddable.data.builtin import builtin_names, builtin_path
    from biddable.data.readers import read_conversations

    rows = read_conversations(builtin_path(file) if file in builtin_names() else file)
    require_models(model)
    from biddable.data.encoding import encode_all
    from biddable.data.preview import preview
    from biddable.data.templates import get_template
    from biddable.models.loading import load

    loaded = load(model)
    form = get_template(template or loaded.template, loaded.tokenizer)
    if not as_json:
        table = preview(rows, form, loaded.tokenizer, limit=limit)
        console().print(table, highlight=False, soft_wrap=True)
        return
    examples, report = encode_all(rows, form, loaded.tokenizer, max_seq_len=None)
    shown = {"template": form.name, "rows": [asdict(example) for example in examples[:limit]]}
    print_json({"file": file, **asdict(report), **shown})


@app.command("convert")
def data_convert(
    source: Annotated[str, typer.Argument(metavar="A", help="A data file, folder or hub name.")],
    target: Annotated[str, typer.Argument(metavar="B", help="The file; its ending says the kind.")],
    to: Annotated[str, typer.Option(help="The format of its rows.")] = "messages",
    read_as: Annotated[
        str | None, typer.Option("--from", help="The format of A; none: it is recognised.")
    ] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="What a side is called in A: bot=assistant.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite B.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write rows in another format: jsonl, json, csv (also with .gz or .zst) or parquet."""
    from pathlib import Path

    from biddable.data.builtin import builtin_names, builtin_path
    from biddable.data.convert import convert
    from biddable.data.readers import ReadOptions

    if Path(target).exists() and not replace:
        raise ConfigError(f"{target}: is there already; choose another name, or add --replace.")
    pairs = [entry.partition("=") for entry in role or []]
    wrong = [name for name, _, mapped in pairs if mapped not in ROLES]
    if wrong:
        raise ConfigError(f"--role {wrong[0]}: write it as {wrong[0]}=ROLE, of {', '.join(ROLES)}.")
    options = ReadOptions(read_as, {name: mapped for name, _, mapped in pairs})
    found = convert(
        builtin_path(source) if source in builtin_names() else source,
        target,
        to=to,
        options=options,
    )
    if as_json:
        print_json(asdict(found))
        return
    for file in found.files:
        say(file.summary())
    typer.echo(f"{found.target}: {found.num_rows:,} rows written as {found.format}")
