"""Write the reference pages that are made from the code, or check that they still agree.

python scripts/reference.py           write docs/reference/*.md
python scripts/reference.py --check   exit 1 if one differs, or if version and changelog do
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import biddable
from biddable import cli, config, errors
from biddable.config_data import SourceConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example", "Yields")
_WIDTH = 80
NOTE = "<!-- Written by `make docs` from the code; do not edit. -->\n\n"


def cli_page() -> str:
    """Describe every verb, its arguments and options."""
    group = typer.main.get_command(cli.app)
    parts = ["# The command line\n", f"{inspect.cleandoc(group.help)}\n", _parameter_table(group)]
    parts.append(
        "Results go to stdout, progress to stderr. Exit codes: 0, 1 for a failure (told in one"
        " line), 2 for wrong usage, 130 after Ctrl-C, 143 after SIGTERM while training.\n"
    )
    for name, command in _verbs(group, ""):
        parts.append(f"## `biddable {name}`\n\n{inspect.cleandoc(command.help)}\n")
        usage = " ".join([name, *_arguments(command), "[OPTIONS]"])
        parts.append(f"```\nbiddable {usage}\n```\n")
        parts.append(_parameter_table(command))
    return NOTE + "\n".join(part for part in parts if part)


def config_page() -> str:
    """Describe every key of a run's YAML file."""
    rows = []
    for key, meaning in config.config_fields().items():
        section, _, leaf = key.rpartition(".")
        model = config.SECTIONS.get(section, config.RunConfig)
        field = model.model_fields[leaf]
        default = "required" if field.is_required() else _code(field.default)
        rows.append(f"| `{key}` | {default} | {_cell(meaning)} |")
    return (
        NOTE + "# The config of a run\n\n"
        "What `biddable train CONFIG` reads. Paths are relative to where the command runs.\n\n"
        "| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "## A source of `data.train`\n\n" + _field_table(SourceConfig)
    )


def _field_table(section: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {'required' if field.is_required() else _code(field.default)} |"
        f" {_cell(field.description or '')} |"
        for name, field in section.model_fields.items()
    ]
    return "| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def errors_page() -> str:
    """Draw the error tree, each with when it is raised."""
    lines = [f"- `BiddableError`: {_prose(errors.BiddableError.__doc__)}"]
    lines += [
        f"    - `{child.__name__}`: {_prose(child.__doc__)}"
        for child in errors.BiddableError.__subclasses__()
        if child.__module__ == errors.__name__
    ]
    return NOTE + "# The errors\n\n" + "\n".join(lines) + "\n"


def api_page() -> str:
    """List the public names with their signatures and docstrings."""
    parts = []
    for name in biddable.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(biddable, name)
        signature = _signature(thing)
        shown = f"```python\n{name}{signature}\n```\n\n" if signature else ""
        parts.append(f"## `{name}`\n\n{shown}{_docstring(thing)}")
    return NOTE + "# The Python API\n\n`from biddable import ...`\n\n" + "\n".join(parts)


def _docstring(thing: object) -> str:
    """Turn a docstring's paragraphs and Google sections into Markdown."""
    text = inspect.cleandoc(thing.__doc__ or "").replace("\b", "")
    parts = []
    for block in re.split(r"\n\n(?=\S)", text):
        title, _, body = block.partition(":\n")
        if title not in _SECTIONS:
            parts.append(" ".join(block.split()))
        elif title == "Example":
            parts.append(f"**Example**\n\n```python\n{textwrap.dedent(body).strip()}\n```")
        else:
            parts.append(f"**{title}**\n\n" + "\n".join(_entries(textwrap.dedent(body))))
    return re.sub(r"(?<!`)``(?!`)", "`", "\n\n".join(parts)) + "\n"


def _entries(body: str) -> list[str]:
    """List a section's ``name: meaning`` entries; what is no such list is one paragraph."""
    entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", body.strip())]
    found = [re.fullmatch(r"([*\w]+(?: \([^)]*\))?): (.*)", entry) for entry in entries]
    if not all(found):
        return [" ".join(body.split())]
    return [f"- `{entry[1]}`: {entry[2]}" for entry in found if entry]


def decisions_page() -> str:
    """List what was decided, by the pages' own titles."""
    lines = []
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}](../decisions/{path.name})")
    intro = "What was decided, why, and what was rejected, each in half a page.\n\n"
    return NOTE + "# Decisions\n\n" + intro + "\n".join(lines) + "\n"


def release_problems() -> list[str]:
    """Hold the three places that tell the version against each other."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    top = re.search(r"^## \[?(\d[^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    found = {"CHANGELOG.md": top and top[1], "src/biddable/__init__.py": biddable.__version__}
    return [
        f"{place}: version {other}; pyproject.toml says {version}."
        for place, other in found.items()
        if other != version
    ]


# typer carries a click of its own, which is not to be named: we go by what its objects have.
def _verbs(group: Any, prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            found += _verbs(command, f"{prefix}{name} ")
        else:
            found.append((prefix + name, command))
    return found


def _arguments(command: Any) -> list[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    return [
        param.name.upper() if param.required else f"[{param.name.upper()}]" for param in arguments
    ]


def _is_hidden(param: Any) -> bool:
    return getattr(param, "hidden", False) or param.name == "help"


def _parameter_table(command: Any) -> str:
    rows = [_parameter_row(param) for param in command.params if not _is_hidden(param)]
    return "| | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n" if rows else ""


def _parameter_row(param: Any) -> str:
    names = [*param.opts, *param.secondary_opts]
    if param.param_type_name == "argument":
        names = [param.name.upper()]
    default = "required" if param.required else _code(param.default)
    label = ", ".join(f"`{name}`" for name in names)
    return f"| {label} | {default} | {_cell(getattr(param, 'help', None) or '')} |"


def _code(value: object) -> str:
    if value is None or callable(value) or "Undefined" in type(value).__name__:
        return ""
    return f"`{'yes' if value is True else 'no' if value is False else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _prose(text: str | None) -> str:
    """Take a docstring's first paragraph, on one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].replace("\b", "").split())


def _signature(thing: object) -> str:
    if isinstance(thing, type) and issubclass(thing, BaseModel | Exception):
        return ""
    if not callable(thing):
        return ""
    whole = inspect.signature(thing)
    if len(str(whole)) <= _WIDTH:
        return _unquoted(str(whole))
    # One parameter a line; the marks for keyword-only and positional ones stand where they do.
    parts = [str(parameter) for parameter in whole.parameters.values()]
    kinds = [parameter.kind for parameter in whole.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    ending = str(whole)[str(whole).rindex(") -> ") :] if ") -> " in str(whole) else ")"
    return _unquoted("(\n    " + ",\n    ".join(parts) + ",\n" + ending)


def _unquoted(signature: str) -> str:
    """Take the quotes off annotations, which are strings here; they say nothing to a reader."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)


PAGE_WRITERS = {
    "api.md": api_page,
    "cli.md": cli_page,
    "config.md": config_page,
    "decisions.md": decisions_page,
    "errors.md": errors_page,
}


def main(arguments: list[str]) -> int:
    """Write or check all pages; return the exit code."""
    problems = release_problems()
    for name, write in PAGE_WRITERS.items():
        page, text = PAGES / name, write()
        if "--check" not in arguments:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            problems.append(f"docs/reference/{name}: differs from the code; run `make docs`.")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
