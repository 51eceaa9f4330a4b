"""Write a model card: what a model is, how it is asked, what was measured and what was not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from biddable import __version__
from biddable.data.conversation import Message
from biddable.data.templates import ChatTemplate
from biddable.errors import ExportError
from biddable.models.loading import LoadedModel, resolve
from biddable.models.rows import matrix

CARD = "README.md"
RESULTS = "card.md"
_LIBRARIES = {"merged": "transformers", "adapter": "peft", "gguf": "gguf"}
_LORA_SETTINGS = ("rank", "alpha", "target_modules", "rslora", "dora", "init", "quantize_base")
_COUNTS = ("num_rows", "num_kept", "num_tokens", "num_loss_tokens")
_RELATIONS = {"merged": "finetune", "adapter": "adapter", "gguf": "finetune"}


@dataclass(frozen=True)
class CardFacts:
    """Hold what is told of an export beside the model.

    Attributes:
        name: of the model.
        form: ``merged``, ``adapter`` or ``gguf``.
        dtype: of its weights.
        checks: what was compared after writing.
        results: Markdown with a comparison's figures; None if there is none.
    """

    name: str
    form: str
    dtype: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    results: str | None = None


def read_comparison(folder: str | os.PathLike[str] | None, *, run: Path) -> str | None:
    """Read the figures that ``compare`` left for a card.

    Args:
        folder: that of the comparison; None takes the run's own.
        run: the run folder.

    Returns:
        Markdown; None if no folder was named and the run has no comparison beside its weights.

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
) -> None:
    """Write README.md of an exported model.

    Args:
        folder: is there.
        loaded: the model, with its run's manifest.
        facts: what else is told.
        template: its template; None for a model that was taught none.
    """
    manifest = dict(loaded.manifest or {})
    base = _base_of(manifest)
    known = _card_of(str(manifest.get("base_model") or ""))
    metadata = {
        "base_model": base["hub"],
        "base_model_relation": _RELATIONS[facts.form] if base["hub"] else None,
        "library_name": _LIBRARIES[facts.form],
        "pipeline_tag": "text-generation",
        "license": known.get("license"),
        "license_name": known.get("license_name"),
        "license_link": known.get("license_link"),
        "language": known.get("language"),
        "datasets": _hub_datasets(manifest) or None,
        "tags": ["biddable", *(["sft", str(manifest.get("method"))] if manifest else [])],
    }
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
        version=__version__,
        base=base,
        license=known.get("license"),
        manifest=manifest,
        method=_method(manifest),
        parts=_parts(manifest),
        outcome=manifest.get("results") or {},
        template=_describe_template(loaded, template),
        use=_use(folder, facts, loaded),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def _base_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Name the base as everybody may read it, and as the hub knows it."""
    name = str(manifest.get("base_model") or "")
    if not name:
        return {"name": None, "hub": None}
    try:
        is_hub = resolve(name).kind == "hub"
    except Exception:  # a folder that is gone; the name is all there is
        is_hub = False
    return {"name": name if is_hub else Path(name).name, "hub": name if is_hub else None}


def _card_of(base: str) -> dict[str, Any]:
    """Read the metadata of the base's own card where it is on this machine."""
    try:
        source = resolve(base)
        place: Any = Path(source.place) / CARD
        if source.kind == "hub":
            from huggingface_hub import try_to_load_from_cache

            place = try_to_load_from_cache(base, CARD)
        text = Path(place).read_text(encoding="utf-8")
        _, front, _ = text.split("---\n", 2)
        found = yaml.safe_load(front)
    except Exception:  # no card, or one without metadata: then nothing is known
        return {}
    return found if isinstance(found, dict) else {}


def _hub_datasets(manifest: Mapping[str, Any]) -> list[str]:
    """Name the data sets of the hub among a run's sources."""
    train = ((manifest.get("config") or {}).get("data") or {}).get("train") or []
    sources = train if isinstance(train, list) else [train]
    names = [s.get("path") if isinstance(s, Mapping) else s for s in sources]
    found = [str(name).partition(":")[0] for name in names]
    return [n for n in found if n.count("/") == 1 and n[0] not in "./~" and not Path(n).exists()]


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
        "first_control": sorted(form.control_tokens)[0] if form.control_tokens else None,
    }


def _use(folder: Path, facts: CardFacts, loaded: LoadedModel) -> dict[str, Any]:
    """Give the names that the examples of use need."""
    files = [path.name for path in folder.glob("*.gguf")]
    num_rows = len(matrix(loaded.model.get_input_embeddings()))
    return {
        "file": files[0] if files else None,
        "num_rows": num_rows,
        "max_new_tokens": 256,
        "model": facts.name,
    }
