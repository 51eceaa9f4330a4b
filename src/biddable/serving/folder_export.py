"""Write a model as a plain transformers folder, or its adapter as a PEFT folder, and check it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from biddable.data.templates import ChatTemplate
from biddable.errors import ExportError
from biddable.manifest import write_json
from biddable.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_adapter_config
from biddable.models.loading import LoadedModel, no_progress_bars, resolve
from biddable.serving.probes import Probe, make_probes, require_same_ids

LOGITS_BOUND = 1e-5  # between the model that is written and the folder that is read again


def write_merged(folder: Path, loaded: LoadedModel, *, max_shard_size: str) -> None:
    """Write a model whose adapter is merged; a tied head stays tied.

    Args:
        folder: is there.
        loaded: in the type to be written; its generation config names every stop, its tokenizer
            brings the template.
        max_shard_size: of a weights file, as "5GB".
    """
    with no_progress_bars():
        loaded.model.save_pretrained(folder, max_shard_size=max_shard_size)
    loaded.tokenizer.save_pretrained(folder)


def bring_to(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Bring a model's weights to a type, in place, and nothing that is computed: rotations stay."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def write_adapter(folder: Path, loaded: LoadedModel, source: Path) -> dict[str, Any]:
    """Copy a run's adapter with its tokenizer, the base named so that PEFT finds it.

    Args:
        folder: is there.
        loaded: the model, for its tokenizer.
        source: the run's adapter folder.

    Returns:
        The adapter's config as it was written.
    """
    config = read_adapter_config(source)
    base = resolve(str(config["base_model_name_or_path"]))
    if base.kind == "folder":  # an embedded name means nothing to PEFT
        config["base_model_name_or_path"] = str(Path(base.place).resolve())
    shutil.copyfile(source / ADAPTER_WEIGHTS, folder / ADAPTER_WEIGHTS)
    write_json(folder / ADAPTER_CONFIG, config)
    loaded.tokenizer.save_pretrained(folder)
    return config


@torch.no_grad()
def check_merged(
    folder: Path,
    loaded: LoadedModel,
    *,
    form: ChatTemplate | None,
    live: list[torch.Tensor],
) -> dict[str, Any]:
    """Read a folder again with nothing but transformers, and compare ids and logits.

    Args:
        folder: as `write_merged` left it.
        loaded: what was written.
        form: the template; None for a model that was taught none.
        live: logits (T, V) of each probe before the weights were brought to the type written.

    Returns:
        ``max_logit_difference`` to what was written, and ``max_live_difference`` and
        ``share_same_token`` to the model in float32.

    Raises:
        ExportError: something differs.
    """
    with no_progress_bars():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=loaded.model.dtype, local_files_only=True, trust_remote_code=False
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    probes = make_probes(loaded, form)

    def read(probe: Probe) -> list[int]:
        if probe.messages:
            asked = list(probe.messages)
            found: Any = tokenizer.apply_chat_template(
                asked, add_generation_prompt=True, return_dict=False
            )
            return list(found)
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return [*start, *tokenizer(probe.text, add_special_tokens=False)["input_ids"]]

    require_same_ids(probes, read, who="transformers")
    if is_tied(model) != is_tied(loaded.model):
        raise ExportError(f"{folder}: the head is tied in one of the two models only.")
    model = model.to(loaded.model.device)
    written, reread = probe_logits(loaded.model, probes), probe_logits(model, probes)
    difference = _furthest(written, reread)
    if not difference <= LOGITS_BOUND:
        raise ExportError(
            f"{folder}: read again, its logits are {difference:.2g} off; at most {LOGITS_BOUND:g}"
            " is allowed. Nothing was written. Please report it with the model's name."
        )
    same = [
        (a.argmax(-1) == b.argmax(-1)).float().mean() for a, b in zip(live, reread, strict=True)
    ]
    return {
        "max_logit_difference": difference,
        "max_live_difference": _furthest(live, reread),
        "share_same_token": float(torch.stack(same).mean()),
    }


@torch.no_grad()
def probe_logits(model: torch.nn.Module, probes: list[Probe]) -> list[torch.Tensor]:
    """Give the logits of each probe, (T, V) in float32."""
    device = next(model.parameters()).device
    return [
        model(torch.tensor([probe.ids], device=device), use_cache=False).logits[0].float()
        for probe in probes
    ]


def is_tied(model: Any) -> bool:
    """Say whether a model's head is its embeddings."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _furthest(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))
