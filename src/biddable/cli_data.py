"""Offer the verbs on files of rows: ``biddable data show`` and its siblings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from biddable.cli_options import AsJson, TemplateName, console, print_json, require_models, say
from biddable.data.conversation import ROLES
from biddable.errors import CheckpointError, ConfigError

ROWS_IN_TERMINAL = 3
MAX_ROWS_ON_PAGE = 2000

app = typer.Typer(help="Look at a file of rows.", no_args_is_help=True, rich_markup_mode=None)


def require_page(name: str) -> None:
    """Refuse to write a page over a file that is none."""
    path = Path(name)
    if path.exists() and not (path.is_file() and path.read_bytes()[:9].lower() == b"<!doctype"):
        raise CheckpointError(f"{path}: is there and is no page; choose another --html.")


@app.command("show")
def data_show(
    file: Annotated[str, typer.Argument(metavar="FILE", help='A data file, "mimic" or "starter".')],
    model: Annotated[str, typer.Option(help="MODEL whose tokenizer reads it.")] = "mimic",
    template: TemplateName = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows shown; none: 3, or 2,000 on a page.")
    ] = None,
    start: Annotated[int, typer.Option(min=1, help="The first row shown.")] = 1,
    search: Annotated[str | None, typer.Option(help="Show only rows that hold this text.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Mark the borders of tokens.")] = False,
    html: Annotated[str | None, typer.Option(help="Write a page that can be searched.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show rows as the model sees them, what it learns marked, and the share of that."""
    from biddable.data.builtin import builtin_names, builtin_path
    from biddable.data.readers import read_conversations

    if html:
        require_page(html)
    rows = read_conversations(builtin_path(file) if file in builtin_names() else file)
    require_models(model)
    from biddable.data.encoding import encode_all
    from biddable.data.preview import find_rows, preview, preview_page
    from biddable.data.templates import get_template
    from biddable.manifest import write_text
    from biddable.models.loading import load

    loaded = load(model)
    form = get_template(template or loaded.template, loaded.tokenizer)
    examples, report = encode_all(rows, form, loaded.tokenizer, max_seq_len=None)
    found = find_rows(examples, loaded.tokenizer, search=search, start=start)
    if html:
        caption = f"template {form.name}, tokens of {model}"
        limit = limit or MAX_ROWS_ON_PAGE
        tokenizer = loaded.tokenizer
        page = preview_page(found, report, tokenizer, limit=limit, title=file, caption=caption)
        write_text(html, page)
        say(f"{html}: {min(limit, len(found)):,} of {len(found):,} rows")
    limit = limit or ROWS_IN_TERMINAL
    if as_json:
        shown = {"template": form.name, "rows": [asdict(example) for example in found[:limit]]}
        print_json({"file": file, "num_found": len(found), **asdict(report), **shown})
    elif not html:
        table = preview(found, report, loaded.tokenizer, limit=limit, borders=tokens)
        console().print(table, highlight=False, soft_wrap=True)


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
