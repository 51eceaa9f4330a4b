"""Write what was trained in a form that other programs read, and prove that it is the same model.

Everything goes into a partial folder, is read again by the program it is meant for, and only then
gets its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import torch

from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import ExportError, how_to_install, nearest
from biddable.manifest import write_json
from biddable.models.gguf_weights import GGUF_KINDS, GgufKind
from biddable.models.loading import MANIFEST, LoadedModel, ModelSource, load, resolve
from biddable.serving.folder_export import (
    bring_to,
    check_merged,
    probe_logits,
    write_adapter,
    write_merged,
)
from biddable.serving.gguf_export import check_gguf, write_gguf, write_modelfile
from biddable.serving.model_card import CardDetails, CardFacts, read_comparison, write_card
from biddable.serving.probes import make_probes
from biddable.whole_folder import require_free, written_whole

ExportForm = Literal["merged", "adapter", "gguf"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_DEFAULTS = {"merged": "float32", "gguf": "q8_0"}
# of a run's manifest, what may be shown to everybody: no path and no setting of a machine
_SHOWN = ("schema", "created", "method", "seed", "template", "results", "versions", "git_commit")
_SHOWN_COUNTS = ("num_rows", "num_kept", "num_examples", "num_tokens", "num_loss_tokens")


@dataclass(frozen=True)
class Exported:
    """Say what was written.

    Attributes:
        folder: where it lies.
        files: names in it.
        use: the one command with which to use it.
        checks: what was compared, and how far apart it was.
        notes: what a user should know, a line each.
    """

    folder: Path
    files: tuple[str, ...]
    use: str
    checks: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def told(self) -> list[str]:
        """Say what the checks found, a line each."""
        found = self.checks
        if "max_logit_difference" in found:
            return [
                "checked with transformers alone: ids equal, logits within"
                f" {found['max_logit_difference']:.2g} of what was written and"
                f" {found['max_live_difference']:.2g} of float32"
            ]
        if found.get("checked"):
            pairs = zip(found["same_start"], found["num_tokens"], strict=True)
            starts = ", ".join(f"{same} of {whole}" for same, whole in pairs)
            lines = [
                f"checked with llama.cpp: ids equal, {found['num_same_answers']} of"
                f" {found['num_probes']} greedy answers equal (same tokens at the start: {starts})"
            ]
            if found["num_same_answers"] < found["num_probes"]:
                lines.append(
                    "other answers come of rounded weights, or of sums in another order with f32;"
                    " biddable compare with this file measures whether they are worse"
                )
            return lines
        return []


def export(
    run: str,
    to: ExportForm = "merged",
    *,
    out: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    card: CardDetails | None = None,
    max_shard_size: str = "5GB",
) -> Exported:
    """Write a model for other programs: a transformers folder, a PEFT adapter or a GGUF file.

    Args:
        run: a run folder, or another model as `load` takes it.
        to: ``merged``, a plain transformers folder; ``adapter``, of a run that trained one, for
            PEFT; ``gguf``, for llama.cpp and Ollama, with a Modelfile.
        out: the folder to make; None puts it beside the run, as ``RUN-merged``.
        dtype: of the weights: float32 (if None), bfloat16 or float16; of a GGUF file: f32, f16,
            q8_0 (if None), q4_0 or q4_1.
        card: what the model card is to say beside what is known: a comparison's figures, the base's
            hub id, licence, language.
        max_shard_size: of a weights file of a merged folder.

    Returns:
        What was written, and how it was checked.

    Raises:
        ConfigError: the name leads nowhere, or an extra is missing.
        CheckpointError: the run is not whole, the folder is taken, or the disk refuses.
        ExportError: it cannot be written in that form, or is not the same when it is read again.
    """
    source = resolve(run)
    chosen = _dtype(to, dtype)
    _require_form(run, source, to)
    card = card or CardDetails()
    results = read_comparison(card.comparison, run=Path(source.place))
    name = Path(run.rstrip("/")).name
    folder = require_free(out if out is not None else f"{_beside(run, source)}-{to}")
    loaded = load(run, device="cpu")
    form = _form(loaded)
    _settle(loaded, form)
    shown = shown_manifest(loaded.manifest, form)
    shown["exported"] = {"form": to, "dtype": chosen}
    with written_whole(folder) as partial:
        if to == "gguf":
            checks = _write_gguf(partial, name, loaded, form=form, shown=shown)
        elif to == "adapter":
            write_adapter(partial, loaded, Path(source.place))
            checks = {}
        else:
            checks = _write_merged(partial, loaded, form=form, shown=shown, shards=max_shard_size)
        if to != "gguf":  # the file itself carries it
            write_json(partial / MANIFEST, shown)
        facts = CardFacts(name, to, chosen, checks=checks, results=results, details=card)
        lacking = write_card(partial, loaded, facts, template=form)
    files = tuple(sorted(path.name for path in folder.iterdir()))
    notes = _notes(loaded, to, checks, lacking=lacking)
    return Exported(folder, files, _use(folder, to, files), checks, notes)


def shown_manifest(manifest: Mapping[str, Any] | None, form: ChatTemplate | None) -> dict[str, Any]:
    """Keep of a run's manifest what may be shown to everybody: no path is in it.

    Args:
        manifest: the run's; None if the model is of no run.
        form: the template; None for a model that was taught none.
    """
    manifest = manifest or {}
    shown = {key: manifest[key] for key in _SHOWN if key in manifest}
    if form is not None and "template" not in shown:
        shown["template"] = {"name": form.name}
    template = dict(shown.get("template", {}))
    template.pop("file", None)  # of this machine; the tokenizer brings what was in it
    if template:
        shown["template"] = template
    base = manifest.get("base_model")
    if base:
        shown["base_model"] = base if not _is_path(base) else Path(base).name
    shown["data"] = {
        part: {key: described[key] for key in _SHOWN_COUNTS if key in described}
        for part, described in manifest.get("data", {}).items()
        if isinstance(described, Mapping)
    }
    return shown


def _write_merged(
    folder: Path,
    loaded: LoadedModel,
    *,
    form: ChatTemplate | None,
    shown: Mapping[str, Any],
    shards: str,
) -> dict[str, Any]:
    live = probe_logits(loaded.model, make_probes(loaded, form))
    bring_to(loaded.model, _DTYPES[shown["exported"]["dtype"]])
    write_merged(folder, loaded, max_shard_size=shards)
    return check_merged(folder, loaded, form=form, live=live)


def _write_gguf(
    folder: Path,
    name: str,
    loaded: LoadedModel,
    *,
    form: ChatTemplate | None,
    shown: Mapping[str, Any],
) -> dict[str, Any]:
    kind: GgufKind = shown["exported"]["dtype"]
    file = f"{name}-{kind}.gguf"
    write_gguf(folder / file, loaded, kind=kind, form=form, manifest=shown)
    write_modelfile(folder, loaded, file=file, form=form)
    return check_gguf(folder / file, loaded, form=form)


def _dtype(to: str, dtype: str | None) -> str:
    allowed = {"merged": tuple(_DTYPES), "gguf": GGUF_KINDS, "adapter": ()}
    if to not in allowed:
        forms = tuple(allowed)
        raise ExportError(f'--to: found "{to}"; allowed: {", ".join(forms)}.{nearest(to, forms)}')
    if dtype is None:
        return _DEFAULTS.get(to, "as trained")
    if to == "adapter":
        raise ExportError(
            f"--dtype {dtype}: an adapter is written as it was trained; leave it out."
        )
    if dtype not in allowed[to]:
        raise ExportError(
            f'--dtype: found "{dtype}"; --to {to} takes {", ".join(allowed[to])}.'
            f"{nearest(dtype, allowed[to])}"
        )
    return dtype


def _require_form(run: str, source: ModelSource, to: str) -> None:
    if source.kind == "gguf":
        raise ExportError(
            f"{run}: is a GGUF file, whose weights may have lost bits; export the run or folder"
            " that it was made from."
        )
    if to == "adapter" and source.kind != "adapter":
        raise ExportError(
            f"{run}: has no adapter, all of its weights are its own; use --to merged or --to gguf."
        )


def _form(loaded: LoadedModel) -> ChatTemplate | None:
    if loaded.template is None:
        return None
    return get_template(loaded.template, loaded.tokenizer, control_text=loaded.control_text)


def _settle(loaded: LoadedModel, form: ChatTemplate | None) -> None:
    """Let any program that loads it ask and stop as the training taught it."""
    ends = sorted(loaded.end_ids())
    if form is not None:
        ends = list(dict.fromkeys([*stop_ids(form, loaded.tokenizer), *ends]))
        loaded.tokenizer.chat_template = form.saved_source
    config = loaded.model.generation_config
    if ends and config is not None:
        config.eos_token_id = ends if len(ends) > 1 else ends[0]
        if config.pad_token_id is None:
            pad = loaded.tokenizer.pad_token_id
            config.pad_token_id = ends[0] if pad is None else pad


def _beside(run: str, source: ModelSource) -> str:
    is_here = source.place == str(Path(run).expanduser())
    return run.rstrip("/") if is_here else Path(run).name


def _is_path(name: str) -> bool:
    return Path(name).exists() or name.startswith(("/", ".", "~")) or name.count("/") > 1


def _use(folder: Path, to: str, files: tuple[str, ...]) -> str:
    if to == "gguf":
        file = next(name for name in files if name.endswith(".gguf"))
        return f"biddable generate {quote(str(folder / file))} 'What is the capital of France?'"
    return f"biddable generate {quote(str(folder))} 'What is the capital of France?'"


def _notes(
    loaded: LoadedModel, to: str, checks: Mapping[str, Any], *, lacking: tuple[str, ...]
) -> tuple[str, ...]:
    notes = []
    if loaded.template is None:
        notes.append("no template is known: it is exported as a base, which continues text")
    if to == "gguf" and not checks.get("checked"):
        notes.append(f"not run by llama.cpp, which is not installed: {how_to_install('gguf')}")
    method = ((loaded.manifest or {}).get("config") or {}).get("method") or {}
    if isinstance(method, Mapping) and method.get("quantize_base"):
        notes.append(
            f"the adapter was learned on the base in {method['quantize_base']}; here, as wherever"
            " biddable loads it, it stands on the base in full"
        )
    if lacking and loaded.manifest:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in lacking)
        rest = "; license and language are read from that model's card on the hub"
        told = f"the card cannot say {', '.join(lacking)}; before you publish it: {flags}"
        notes.append(told + (rest if "base_model" in lacking and len(lacking) > 1 else ""))
    return tuple(notes)
