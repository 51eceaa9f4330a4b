"""Find a model by name and load it with its tokenizer, whatever it is kept as.

A name means the same everywhere: an embedded model, a run folder, an adapter folder, a
transformers folder, a GGUF file, or a hub id. No code from a model folder is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from biddable.data.segments import ControlText
from biddable.errors import CheckpointError, ConfigError, how_to_install, nearest
from biddable.hub import asked_if_it_answers, hub_answers, is_cached, not_on_hub
from biddable.models.adapter import ADAPTER_CONFIG, load_adapter, read_adapter_config
from biddable.models.damage import cut_off_safetensors
from biddable.models.devices import choose_device
from biddable.models.gguf_file import read_gguf_facts
from biddable.models.gguf_weights import read_gguf_model
from biddable.models.lora import merge_lora
from biddable.models.quantized import quantize_linears
from biddable.models.token_rows import merge_token_rows

EMBEDDED = ("mimic", "smollm2")
MANIFEST = "manifest.json"

_ASSETS = Path(__file__).parents[1] / "assets"
_NO_TOKENIZER = "it has no tokenizer.json; copy it from where the model comes from."
_LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)


@dataclass
class LoadedModel:
    """A model ready to run, and what is known about it.

    Attributes:
        model: in evaluation mode; an adapter is already merged into it.
        tokenizer: its own.
        name: as it was asked for.
        source: the folder, file or hub id that it came from.
        template: name of the template it was trained with, ``tokenizer`` if its tokenizer brings
            one, None if neither is known (a base).
        manifest: of the run that made it, if a run did.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    template: str | None = None
    manifest: dict[str, Any] | None = None

    @property
    def control_text(self) -> ControlText:
        """Say what becomes of texts that spell a mark of the template, as in the training."""
        return control_text_of(self.manifest)

    def end_ids(self) -> set[int]:
        """Collect the ids by which the model itself says that a text has ended."""
        config = getattr(self.model, "generation_config", None)
        ends = getattr(config, "eos_token_id", None)
        found = set(ends) if isinstance(ends, list | tuple) else {ends}
        return {int(end) for end in found | {self.tokenizer.eos_token_id} if end is not None}


@dataclass(frozen=True)
class ModelSource:
    """Where a model name leads.

    Attributes:
        kind: how it is stored.
        place: path, or hub id; the name itself for ``smollm2``, which may not be here yet.
    """

    kind: Literal["folder", "adapter", "gguf", "smollm2", "hub"]
    place: str


def resolve(name: str) -> ModelSource:
    """Say where a model name leads, without loading anything.

    Args:
        name: an embedded name, a path, or a hub id ("org/name").

    Raises:
        ConfigError: it leads nowhere.
        CheckpointError: it is a folder that holds no model.
    """
    if name == "smollm2":
        return ModelSource("smollm2", name)
    path = _ASSETS / "mimic" if name == "mimic" else Path(name).expanduser()
    if path.name.endswith(".partial"):
        raise CheckpointError(f"{path}: an unfinished run; train again.")
    if (path / ADAPTER_CONFIG).is_file():
        return ModelSource("adapter", str(path))
    if (path / "config.json").is_file():
        return ModelSource("folder", str(path))
    if path.is_file() and path.suffix == ".gguf":
        return ModelSource("gguf", str(path))
    if path.is_dir() and len(found := sorted(path.glob("*.gguf"))) == 1:  # as export leaves it
        return ModelSource("gguf", str(found[0]))
    if path.exists():
        raise CheckpointError(
            f"{path}: no model in it; expected a folder with config.json or {ADAPTER_CONFIG}, "
            "or a .gguf file."
        )
    beside = Path(name).expanduser().parent
    if "/" in name and beside.is_dir():  # a run's name mistyped, say: nothing for the hub
        near = nearest(path.name, (entry.name for entry in beside.iterdir() if entry.is_dir()))
        raise ConfigError(f"model: there is no {path.name} in the folder {beside}.{near}")
    if _looks_like_hub_id(name):
        return ModelSource("hub", name)
    raise ConfigError(
        f'model: "{name}" is neither a known name ({", ".join(EMBEDDED)}), nor a folder or .gguf '
        f'file that is there, nor a hub id like "org/name".{nearest(name, EMBEDDED)}'
    )


def load(
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    quantize: Literal["int8"] | None = None,
    device: torch.device | str | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer by name.

    Args:
        name: see `resolve`.
        dtype: what the weights become.
        quantize: keep those of linear layers in 8 bits, with a scale for each row (torchao); the
            head, embeddings and norms stay. Only to answer with.
        device: where the model is to be; None for a GPU where torch sees one, else the CPU.

    Returns:
        The model, all of its parameters trainable but those in 8 bits, and what is known about it.

    Raises:
        ConfigError: the name leads nowhere, or an extra is missing.
        CheckpointError: what is there is not a whole causal language model.
    """
    source = resolve(name)
    target = choose_device() if device is None else torch.device(device)
    if source.kind == "adapter":
        loaded = _load_adapted(name, Path(source.place), dtype)
        manifest = _read_manifest(Path(source.place))
    elif source.kind == "gguf":
        loaded = _load_gguf(source, dtype)
        manifest = loaded.manifest
    else:
        place, where = _files_of(source)
        loaded = _load_plain(place, dtype, **where)
        manifest = _read_manifest(Path(source.place)) if Path(source.place).is_dir() else None
    template = template_of(manifest, loaded.tokenizer)
    loaded.model.to(target)  # type: ignore[arg-type]
    loaded.model.requires_grad_(True)
    loaded.model.train(False)
    if quantize is not None:
        quantize_linears(loaded.model, quantize)
        name = f"{name} in {quantize}"
    return replace(loaded, name=name, template=template, manifest=manifest)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer by the model's name, without its weights.

    Args:
        name: see `resolve`.

    Raises:
        ConfigError: the name leads nowhere, or an extra is missing.
        CheckpointError: there is no tokenizer.
    """
    source = resolve(name)
    if source.kind == "adapter":
        folder = Path(source.place)
        if not (folder / "tokenizer_config.json").is_file():
            return load_tokenizer(_base_of(name, folder))
        return _load_tokenizer(str(folder), local_files_only=True)
    if source.kind == "gguf" and (own := read_gguf_facts(source.place).tokenizer) is not None:
        return own
    place, where = _files_of(source)
    return _load_tokenizer(place, **where)


def template_of(
    manifest: Mapping[str, Any] | None, tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """Name the template that a model was taught; ``tokenizer`` if it merely brings one.

    Args:
        manifest: of the run that made it, if a run did.
        tokenizer: its own.
    """
    brought = "tokenizer" if tokenizer.chat_template else None
    described = (manifest or {}).get("template") or {}
    name: str | None = described.get("name", brought)
    return name


def control_text_of(manifest: Mapping[str, Any] | None) -> ControlText:
    """Say what became, in the training, of texts that spell a mark of the template."""
    described = (manifest or {}).get("template") or {}
    return "refuse" if described.get("control_text") == "refuse" else "escape"


def _load_gguf(source: ModelSource, dtype: torch.dtype) -> LoadedModel:
    """Rebuild what this package wrote; of any other file, load what transformers reads in it."""
    facts = read_gguf_facts(source.place)
    if facts.config is not None and facts.tokenizer is not None:
        model = read_gguf_model(source.place, facts.config, dtype=dtype)
        manifest = facts.manifest
        return LoadedModel(model, facts.tokenizer, "", source.place, manifest=manifest)
    place, where = _files_of(source)
    return replace(_load_plain(place, dtype, **where), source=source.place)


def _files_of(source: ModelSource) -> tuple[str, dict[str, Any]]:
    """Say where transformers finds a model, and what else it is to be told."""
    if source.kind == "gguf":
        path = Path(source.place)
        return str(path.parent), {"gguf_file": path.name}
    if source.kind == "smollm2":
        from biddable.models.smollm2 import cached_folder

        with no_progress_bars():
            return str(cached_folder()), {"local_files_only": True}
    if source.kind == "folder" or hub_answers():
        return source.place, {"local_files_only": source.kind == "folder"}
    if not is_cached(source.place):
        raise CheckpointError(not_on_hub(source.place))
    return source.place, {"local_files_only": True}


def _base_of(name: str, folder: Path) -> str:
    base_name = str(read_adapter_config(folder).get("base_model_name_or_path") or "")
    if base_name in ("", name) or Path(base_name).resolve() == folder.resolve():
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: names no base model to put it on.")
    return base_name


def _load_adapted(name: str, folder: Path, dtype: torch.dtype) -> LoadedModel:
    base = load(_base_of(name, folder), dtype=dtype, device="cpu")  # merged as for an export
    load_adapter(base.model, folder)
    merge_token_rows(merge_lora(base.model))
    tokenizer = base.tokenizer
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = _load_tokenizer(str(folder), local_files_only=True)
    return LoadedModel(base.model, tokenizer, name, str(folder))


def _load_plain(place: str, dtype: torch.dtype, **where: Any) -> LoadedModel:
    """Load what transformers itself can, and refuse weights that are not all there."""
    try:
        with no_progress_bars(), _reaching(place):
            found: Any = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, output_loading_info=True, trust_remote_code=False, **where
            )
    except _LOAD_ERRORS as error:
        raise _not_loaded(place, error) from error
    model, report = found
    missing = sorted(report["missing_keys"]) + [str(key) for key in report["mismatched_keys"]]
    if missing:
        raise CheckpointError(
            f"{place}: {len(missing)} weights are missing or of the wrong shape, "
            f"{missing[0]} for one; the folder is not whole."
        )
    return LoadedModel(model, _load_tokenizer(place, **where), place, place)


def _load_tokenizer(place: str, **where: Any) -> PreTrainedTokenizerBase:
    try:
        with _reaching(place):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                place, trust_remote_code=False, **where
            )
    except _LOAD_ERRORS as error:
        raise _not_loaded(place, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes an empty one up
        raise _not_loaded(place, ValueError(_NO_TOKENIZER))
    return tokenizer


def _reaching(place: str) -> AbstractContextManager[None]:
    """Keep transformers from asking again and again for what only the hub could have."""
    return nullcontext() if Path(place).exists() else asked_if_it_answers()


def _not_loaded(place: str, error: Exception) -> CheckpointError | ConfigError:
    if "gguf" in str(error) and isinstance(error, ImportError):
        return ConfigError(f"{place}: reading GGUF needs a package: {how_to_install('gguf')}.")
    if not Path(place).exists() and not hub_answers():
        return CheckpointError(not_on_hub(place))
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "backend tokenizer" in reason:
        reason = _NO_TOKENIZER
    if Path(place).is_dir():
        reason = cut_off_safetensors(place) or reason
    return CheckpointError(f"{place}: cannot be loaded as a causal language model: {reason}")


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}.") from error
    return manifest


def _looks_like_hub_id(name: str) -> bool:
    """Tell ``org/name`` from a path.

    Example:
        >>> _looks_like_hub_id("HuggingFaceTB/SmolLM2-135M"), _looks_like_hub_id("./run")
        (True, False)
    """
    organisation, slash, model = name.partition("/")
    return bool(slash and model) and "/" not in model and organisation[:1] not in ("", ".", "~")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()
