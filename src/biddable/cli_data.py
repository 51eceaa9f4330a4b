"""Offer the verbs on files of rows: ``biddable data show`` and its siblings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from biddable.cli_options import AsJson, TemplateName, console, print_json, require_models

app = typer.Typer(help="Look at a file of rows.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def data_show(
    file: Annotated[str, typer.Argument(metavar="FILE", help='A data file, "mimic" or "starter".')],
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
