"""Offer the verbs on files of rows: ``biddable data show`` and its siblings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biddable.cli_options import AsJson, TemplateName, console, print_json, require_models, say
from biddable.counting import counted
from biddable.data.conversation import CALLING, ROLES
from biddable.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from biddable.data.check import CheckReport, Ruler
    from biddable.data.readers import ReadOptions

DataFile = Annotated[str, typer.Argument(metavar="FILE", help='A data file, "mimic" or "starter".')]
ReadAs = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="FORMAT", help="The format of the rows; none: it is recognised."
    ),
]
RoleNames = Annotated[
    list[str] | None,
    typer.Option(
        "--role", metavar="NAME=ROLE", help="What a side is called in them: bot=assistant."
    ),
]
ROWS_IN_TERMINAL = 3
MAX_ROWS_ON_PAGE = 2000
MANY_ROWS = 4_000  # from here on, several processes look, and no tokenizer is guessed
MAX_PROCESSES = 8

app = typer.Typer(
    help="Check, show, split and convert files of rows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def require_page(name: str) -> None:
    """Refuse to write a page over a file that is none."""
    path = Path(name)
    if path.exists() and not (path.is_file() and path.read_bytes()[:9].lower() == b"<!doctype"):
        raise CheckpointError(f"{path}: is there and is no page; choose another --html.")


@app.command("show")
def data_show(
    file: DataFile,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="MODEL whose tokenizer reads it.")
    ] = "mimic",
    template: TemplateName = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows shown; none: 3, or 2,000 on a page.")
    ] = None,
    start: Annotated[int, typer.Option(min=1, help="The first row shown.")] = 1,
    search: Annotated[str | None, typer.Option(help="Show only rows that hold this text.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Mark the borders of tokens.")] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page that can be searched.")
    ] = None,
    read_as: ReadAs = None,
    role: RoleNames = None,
    as_json: AsJson = False,
) -> None:
    """Show rows as the model sees them, what it learns marked.

    Rows that cannot be shown are named with the reason, and the exit code is 1.
    """
    from biddable.data.readers import examine

    if html:
        require_page(html)
    reading = examine(_data_path(file), options=_read_options(read_as, role))
    require_models(model)
    from biddable.data.preview import encode_for_preview, find_rows, preview, preview_page
    from biddable.data.templates import get_template
    from biddable.manifest import write_text
    from biddable.models.loading import load

    loaded = load(model, device="cpu")
    form = get_template(template or loaded.template, loaded.tokenizer)
    examples, report, problems = encode_for_preview(reading, form, loaded.tokenizer)
    _say_passed_over(reading.passed_over)
    for note in form.notes:
        say(note)
    found = find_rows(examples, loaded.tokenizer, search=search, start=start)
    if html:
        caption = f"template {form.name}, tokens of {model}"
        limit = limit or MAX_ROWS_ON_PAGE
        tokenizer = loaded.tokenizer
        page = preview_page(found, report, tokenizer, limit=limit, title=file, caption=caption)
        write_text(html, page)
        say(f"{html}: {min(limit, len(found)):,} of {counted(len(found), 'row')}")
    limit = limit or ROWS_IN_TERMINAL
    if as_json:
        shown = {"template": form.name, "rows": [asdict(example) for example in found[:limit]]}
        shown |= {"errors": [problem.as_dict() for problem in problems]}
        print_json({"file": file, "num_found": len(found), **asdict(report), **shown})
    elif not html:
        table = preview(found, report, loaded.tokenizer, limit=limit, borders=tokens)
        console().print(table, highlight=False, soft_wrap=True)
    if problems:
        num_rows = len({(problem.path, problem.line) for problem in problems})
        say(f"{problems[0]} ({counted(num_rows, 'row')} cannot be shown)")
        raise typer.Exit(1)


@app.command("convert")
def data_convert(
    source: Annotated[str, typer.Argument(metavar="A", help="A data file, folder or hub name.")],
    target: Annotated[str, typer.Argument(metavar="B", help="The file; its ending says the kind.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="The format of its rows.")] = "messages",
    read_as: ReadAs = None,
    role: RoleNames = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite B.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write rows in another format, or as another kind of file.

    jsonl, json, csv (these also with .gz or .zst) or parquet.
    """
    from biddable.data.convert import convert

    if Path(target).exists() and not replace:
        raise ConfigError(f"{target}: is there already; choose another name, or add --replace.")
    options = _read_options(read_as, role)
    found = convert(_data_path(source), target, to=to, options=options)
    if as_json:
        print_json(asdict(found))
        return
    for file in found.files:
        say(file.summary())
    _say_passed_over(found.passed_over)
    typer.echo(f"{found.target}: {counted(found.num_rows, 'row')} written as {found.format}")


@app.command("check")
def data_check(
    file: DataFile,
    held_out: Annotated[
        str | None, typer.Option(help="Rows that are asked later; none may be learned.")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="Texts that must not be learned: JSON, CSV or text. May be repeated."),
    ] = None,
    entity_key: Annotated[
        str | None, typer.Option(help="Key of the rows whose value may be on one side only.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="MODEL whose tokens are counted; none: mimic's, of small files."),
    ] = None,
    template: TemplateName = None,
    max_seq_len: Annotated[
        int | None, typer.Option(min=2, help="Tokens of a row; none: what MODEL can read.")
    ] = None,
    fix: Annotated[
        str | None, typer.Option(metavar="OUT", help="Write the rows, safely mended, as JSONL.")
    ] = None,
    html: Annotated[
        str | None, typer.Option(metavar="PAGE", help="Write the findings as a page.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Let warnings fail the check too.")
    ] = False,
    read_as: ReadAs = None,
    role: RoleNames = None,
    as_json: AsJson = False,
) -> None:
    """Look for what spoils training.

    Broken rows, duplicates, leaks, secrets, cut answers, and more (docs/data-check.md).
    The exit code is 1 if there are errors.
    """
    if entity_key and not held_out:
        raise typer.BadParameter("it needs --held-out beside it.", param_hint="--entity-key")
    from biddable.data import check as checking
    from biddable.data.writing import refuse_existing

    refuse_existing([Path(fix)] if fix else [])
    read = partial(checking.read_for_check, options=_read_options(read_as, role))
    rows = read(_data_path(file))
    against = checking.Against(
        held_out=read(_data_path(held_out)) if held_out else None,
        entity_key=entity_key,
        benchmark=[item for path in benchmark or () for item in checking.read_benchmark(path)],
    )
    ruler = _ruler(model, template, max_seq_len, num_rows=rows.num_rows)
    report = checking.check(rows, ruler=ruler, against=against, processes=_processes(rows.num_rows))
    _show_check(report, html=html, as_json=as_json)
    if fix:
        _write_fixed(rows.path, fix)
    if report.errors or (strict and report.warnings):
        raise typer.Exit(1)


@app.command("split")
def data_split(
    file: DataFile,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder for both files.")],
    held_out: Annotated[
        float, typer.Option(min=0.0001, max=0.9999, help="Share that is held out.")
    ] = 0.1,
    by: Annotated[
        str, typer.Option(metavar="KEY", help='Key whose rows go together, or "content".')
    ] = "content",
    read_as: ReadAs = None,
    role: RoleNames = None,
    as_json: AsJson = False,
) -> None:
    """Cut a file into train.jsonl and held_out.jsonl by a hash.

    A hash, so that a row keeps its side when others come or go.
    Rows that open with the same question are on the same side; with --by KEY, those of one value.
    """
    from biddable.data.split_file import split_file

    options = _read_options(read_as, role)
    result = split_file(_data_path(file), out, held_out=held_out, by=by, options=options)
    if as_json:
        print_json(result)
        return
    for name in ("train", "held_out"):
        typer.echo(f"{result['files'][name]}: {counted(result[name], 'row')}")


def _data_path(file: str) -> str:
    from biddable.data.builtin import builtin_names, builtin_path

    return str(builtin_path(file)) if file in builtin_names() else file


def _read_options(read_as: str | None, roles: Sequence[str] | None) -> ReadOptions:
    from biddable.data.readers import ReadOptions

    pairs = [entry.partition("=") for entry in roles or []]
    known = (*ROLES, CALLING)
    wrong = [name for name, _, mapped in pairs if mapped not in known]
    if wrong:
        raise ConfigError(f"--role {wrong[0]}: write it as {wrong[0]}=ROLE, of {', '.join(known)}.")
    return ReadOptions(read_as, {name: mapped for name, _, mapped in pairs})


def _say_passed_over(names: Sequence[str]) -> None:
    from biddable.data.files import tell_passed_over

    if names:
        say(tell_passed_over(names))


def _processes(num_rows: int) -> int:
    """Choose how many processes look at the rows; starting them costs more than few rows do."""
    return min(os.cpu_count() or 1, MAX_PROCESSES) if num_rows >= MANY_ROWS else 1


def _ruler(
    model: str | None, template: str | None, max_seq_len: int | None, *, num_rows: int
) -> Ruler | None:
    """Load what lengths are measured with; none for a large file whose model is not known."""
    if num_rows >= MANY_ROWS and not (model or template or max_seq_len):
        return None
    name = model or "mimic"
    require_models(name)
    from biddable.data.check import Ruler
    from biddable.data.templates import get_template
    from biddable.models.loading import load

    loaded = load(name, device="cpu")
    form = get_template(template or loaded.template, loaded.tokenizer)
    own = getattr(loaded.model.config, "max_position_embeddings", None)
    told = f"{name}, template {form.name}"
    limit = max_seq_len or (own if model else None)  # mimic alone says nothing of the user's model
    return Ruler(told, form, loaded.tokenizer, limit, reads=own)


def _show_check(report: CheckReport, *, html: str | None, as_json: bool) -> None:
    if html:
        from biddable.data.check_page import render_page
        from biddable.data.writing import write_files

        write_files({Path(html): render_page(report)}, replace=True)
    if as_json:
        print_json(report.as_dict())
        return
    from biddable.data.check_report import show_report

    console().print(show_report(report), highlight=False, soft_wrap=True)
    if html:
        typer.echo(html)


def _write_fixed(path: str, out: str) -> None:
    """Write the mended rows, and tell each change."""
    from biddable.data.check_fix import fix_rows
    from biddable.data.readers import read_rows
    from biddable.data.writing import rows_as_text, write_files

    try:
        rows = read_rows(path)
    except DataError as error:
        raise ConfigError(
            f"{out}: not written, for {path} has rows that cannot be read, as named above; mend"
            " these by hand, and then run --fix again."
        ) from error
    kept, changes = fix_rows(rows, path=path)
    write_files({Path(out): rows_as_text(kept)})
    for change in changes:
        typer.echo(str(change), err=True)
    num_dropped = len(rows) - len(kept)
    made = counted(len(changes), "change")
    say(f"{out}: {counted(len(kept), 'row')} written, {num_dropped:,} dropped, {made}")
