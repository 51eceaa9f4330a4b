"""Write a model card: what a model is, how it is asked, what was measured and what was not."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from biddable.counting import counted
from biddable.data.conversation import Message
from biddable.data.hub import is_hub_name
from biddable.data.templates import ChatTemplate
from biddable.errors import BiddableError, ExportError
from biddable.hub import model_card
from biddable.models.loading import LoadedModel, resolve
from biddable.models.rows import matrix

CARD = "README.md"
RESULTS = "card.md"
_LIBRARIES = {"merged": "transformers", "adapter": "peft", "gguf": "gguf"}
_LORA_SETTINGS = ("rank", "alpha", "target_modules", "rslora", "dora", "init", "quantize_base")
_COUNTS = ("num_rows", "num_kept", "num_tokens", "num_loss_tokens")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")  # a model's folder in the hub's cache
_FLAGS = {"base_model": "--base-model", "license": "--license", "language": "--language"}
_RELATIONS = {"merged": "finetune", "adapter": "adapter", "gguf": "finetune"}


@dataclass(frozen=True)
class CardDetails:
    """Hold what a user gives for a card; what is None is taken from the base's own card, if known.

    Attributes:
        comparison: a folder that ``compare`` left; None takes the run's own, if it has some.
        base_model: hub id of the base.
        license: as the hub writes them, ``apache-2.0`` for one.
        language: codes of two or three letters.
    """

    comparison: str | os.PathLike[str] | None = None
    base_model: str | None = None
    license: str | None = None
    language: tuple[str, ...] = ()


@dataclass(frozen=True)
class CardFacts:
    """Hold what is told of an export beside the model.

    Attributes:
        name: of the model.
        form: ``merged``, ``adapter`` or ``gguf``.
        dtype: of its weights.
        checks: what was compared after writing.
        results: the section with a comparison's figures, its heading included; None if there is
            none.
        details: what the user gave.
    """

    name: str
    form: str
    dtype: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    results: str | None = None
    details: CardDetails = CardDetails()


def read_comparison(folder: str | os.PathLike[str] | None, *, run: Path) -> str | None:
    """Read the figures that ``compare`` left for a card.

    Args:
        folder: that of the comparison; None takes the run's own.
        run: the run folder.

    Returns:
        A section of Markdown with its heading; None if no folder was named and the run has no
        comparison beside its weights.

    Raises:
        ExportError: the folder that was named holds no such figures.
    """
    place = Path(run if folder is None else folder)
    try:
        return (place / RESULTS).read_text(encoding="utf-8").strip()
    except OSError as error:
        if folder is None:
            return None
        what = "holds a comparison but" if (place / "comparison.json").is_file() else "has"
        raise ExportError(
            f"--comparison {place}: {what} no {RESULTS}; name a folder that biddable compare left"
            " (run it again if an older version did)."
        ) from error


def write_card(
    folder: Path, loaded: LoadedModel, facts: CardFacts, *, template: ChatTemplate | None
) -> tuple[str, ...]:
    """Write README.md of an exported model.

    Args:
        folder: is there.
        loaded: the model, with its run's manifest.
        facts: what else is told.
        template: its template; None for a model that was taught none.

    Returns:
        What the card's metadata lack because it is known neither here nor from the user, by the
        hub's names.
    """
    manifest = dict(loaded.manifest or {})
    known = _card_of(str(manifest.get("base_model") or ""), facts.details.base_model)
    base = _base_of(manifest, facts.details)
    metadata = _metadata(manifest, facts, base=base, known=known)
    lacking = tuple(name for name in _FLAGS if not metadata[name])
    if manifest.get("base_model") == "mimic":  # it is in this package, and on no hub
        lacking = tuple(name for name in lacking if name != "base_model")
    front = yaml.safe_dump(
        {key: value for key, value in metadata.items() if value is not None},
        sort_keys=False,
        allow_unicode=True,
    )
    source = resources.files("biddable.serving").joinpath("model_card.md.j2")
    page = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    ).from_string(source.read_text(encoding="utf-8"))
    text = page.render(
        front=front,
        facts=facts,
        version=(manifest.get("versions") or {}).get("biddable", ""),
        base=base,
        lacking={name: _FLAGS[name] for name in lacking},
        license=facts.details.license or known.get("license"),
        sources=_sources(manifest),
        manifest=manifest,
        method=_method(manifest),
        parts=_parts(manifest),
        outcome=manifest.get("results") or {},
        template=_describe_template(loaded, template),
        use=_use(folder, facts, loaded),
    )
    (folder / CARD).write_text(text, encoding="utf-8")
    return lacking


def _metadata(
    manifest: Mapping[str, Any],
    facts: CardFacts,
    *,
    base: Mapping[str, Any],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Put together what the hub reads; None where nothing is known."""
    given = facts.details
    licensed = {"license": given.license} if given.license else known
    return {
        "base_model": base["hub"],
        "base_model_relation": _RELATIONS[facts.form] if base["hub"] else None,
        "library_name": _LIBRARIES[facts.form],
        "pipeline_tag": "text-generation",
        "license": licensed.get("license"),
        "license_name": licensed.get("license_name"),
        "license_link": licensed.get("license_link"),
        "language": list(given.language) or known.get("language"),
        "datasets": _hub_datasets(manifest) or None,
        "tags": ["biddable", *(["sft", str(manifest.get("method"))] if manifest else [])],
    }


def _base_of(manifest: Mapping[str, Any], given: CardDetails) -> dict[str, Any]:
    """Name the base as everybody may read it, and as the hub knows it."""
    name = str(manifest.get("base_model") or "")
    try:
        is_hub = bool(name) and resolve(name).kind == "hub"
    except Exception:  # a folder that is gone; the name is all there is
        is_hub = False
    cached = _CACHED.search(name)
    hub = given.base_model or (name if is_hub else "/".join(cached.groups()) if cached else None)
    return {"name": hub or Path(name).name or None, "hub": hub}


def _card_of(base: str, given: str | None) -> dict[str, Any]:
    """Read the metadata of the base's own card: beside it, or on the hub by the id given for it."""
    try:
        source = resolve(base)
    except BiddableError:  # a folder that is gone
        source = None
    is_hub = source is not None and source.kind == "hub"
    beside = Path(source.place) / CARD if source and not is_hub else None
    name = given or (base if is_hub else None)
    try:
        if beside is not None and beside.is_file():
            text = beside.read_text(encoding="utf-8")
        else:
            text = (name and model_card(name)) or ""
        _, front, _ = text.split("---\n", 2)
        found = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError):  # none, or without metadata: nothing is known
        return {}
    return found if isinstance(found, dict) else {}


def _hub_datasets(manifest: Mapping[str, Any]) -> list[str]:
    """Name the data sets of the hub among a run's sources."""
    train = ((manifest.get("config") or {}).get("data") or {}).get("train") or []
    sources = train if isinstance(train, list) else [train]
    names = [s.get("path") if isinstance(s, Mapping) else s for s in sources]
    found = [str(name) for name in names if is_hub_name(str(name)) and not Path(str(name)).exists()]
    return ["/".join(name.partition(":")[0].split("/")[:2]) for name in found]


def _sources(manifest: Mapping[str, Any]) -> list[str]:
    """Name the files of each part, without their folders, and the hashes that know them again."""
    lines = []
    for part, about in (manifest.get("data") or {}).items():
        for file in about.get("files") or () if isinstance(about, Mapping) else ():
            name, digest = str(file.get("file")), file.get("sha256")
            shown = name if is_hub_name(name) else Path(name).name
            known_by = f", SHA-256 `{digest}`" if digest else ""
            lines.append(f"{part}: `{shown}`, {counted(file.get('num_rows', 0), 'row')}{known_by}")
    return lines


def _method(manifest: Mapping[str, Any]) -> str:
    """Say in a few words what was trained."""
    method = (manifest.get("config") or {}).get("method") or {}
    if not isinstance(method, Mapping):
        return str(method)
    name = str(method.get("name") or manifest.get("method"))
    settings = {"lora": _LORA_SETTINGS, "freeze": ("num_frozen_layers",)}.get(name, ())
    said = [f"{k} {method[k]}" for k in settings if method.get(k) not in (None, False, 1.0)]
    return ", ".join([name, *said])


def _parts(manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give each part's counts of rows, kept rows, tokens and learned tokens."""
    found = manifest.get("data") or {}
    return {
        part: [f"{about[key]:,}" if key in about else "?" for key in _COUNTS]
        for part, about in found.items()
        if isinstance(about, Mapping)
    }


def _describe_template(loaded: LoadedModel, form: ChatTemplate | None) -> dict[str, Any] | None:
    if form is None:
        return None
    asked = [Message("user", "What is the capital of France?"), Message("assistant", "Paris.")]
    segments = form.render(asked)
    config = loaded.model.generation_config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return {
        "name": form.name,
        "prompt": "".join(s.text for s in segments if not s.learned),
        "answer": "".join(s.text for s in segments if s.learned),
        "prefix": form.answer_prefix,
        "suffix": form.answer_suffix,
        "stops": loaded.tokenizer.convert_ids_to_tokens(ends),
        "markers": form.markers,
        "control_text": form.control_text,
        "is_ours": form.name in ("inst", "alpaca", "chatml"),
        "a_control": next(
            (mark for mark in loaded.tokenizer.convert_ids_to_tokens(ends) if mark), None
        ),
    }


def _use(folder: Path, facts: CardFacts, loaded: LoadedModel) -> dict[str, Any]:
    """Give the names that the examples of use need."""
    files = [path.name for path in folder.glob("*.gguf")]
    num_rows = len(matrix(loaded.model.get_input_embeddings()))
    num_base_rows = _num_rows(str((loaded.manifest or {}).get("base_model") or ""))
    return {
        "file": files[0] if files else None,
        "num_rows": num_rows if num_rows != num_base_rows else None,
        "max_new_tokens": 256,
        "model": facts.name,
    }


def _num_rows(base: str) -> int | None:
    """Read how many ids a base has a row for; None where its config is not on this machine."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(resolve(base).place, local_files_only=True)
    except Exception:  # it is gone, or never was here
        return None
    return int(config.vocab_size)
