"""The whole of a training run: load, read, encode, choose what trains, train, save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config import MethodConfig, RunConfig, TrainingConfig
from biddable.data.builtin import builtin_names, builtin_path
from biddable.data.conversation import Conversation
from biddable.data.dataset import InstructionDataset
from biddable.data.encoding import EncodingReport, Example, encode_all
from biddable.data.readers import read_conversations
from biddable.data.segment_ids import stop_ids
from biddable.data.splits import split_rows
from biddable.data.templates import (
    ChatTemplate,
    JinjaTemplate,
    get_template,
    saved_name,
    template_hash,
)
from biddable.errors import ConfigError
from biddable.manifest import build_manifest, hash_file
from biddable.models.freezing import decoder_layers, freeze_layers, has_tied_head
from biddable.models.loading import LoadedModel, load
from biddable.models.lora import apply_lora
from biddable.training.checkpoint import RunRecord, require_free, save_run
from biddable.training.trainer import TrainingLog, train

OnEvent = Callable[[dict[str, Any]], None]


def finetune_instruct_model(
    base_model: str | LoadedModel | PreTrainedModel,
    instruct_dataset: InstructionDataset,
    epochs: float = 3,
    *,
    held_out: InstructionDataset | None = None,
    learning_rate: float | None = None,
    num_frozen_layers: int = 0,
) -> tuple[PreTrainedModel, TrainingLog]:
    """Teach a base model to answer, learning the answers of a dataset and nothing else.

    Args:
        base_model: a name that `load` takes, or a model that is loaded; that one is trained in
            place, not copied.
        instruct_dataset: made with the tokenizer of this model.
        epochs: passes over the data.
        held_out: data whose loss is measured before training and after each epoch.
        learning_rate: the peak; None chooses by size and says why in the log.
        num_frozen_layers: how many lower layers stay as they are, the embeddings with them; 0
            trains everything.

    Returns:
        The model, in evaluation mode, and the log of its training.

    Raises:
        ConfigError: the model's name is unknown, or as many layers cannot be frozen.
        TrainingError: a loss or gradient is not finite.
    """
    model = load(base_model).model if isinstance(base_model, str) else base_model
    if isinstance(model, LoadedModel):
        model = model.model
    if num_frozen_layers:
        freeze_layers(model, num_frozen_layers)
    log = train(
        model,
        instruct_dataset.examples,
        settings=TrainingConfig(epochs=epochs, learning_rate=learning_rate),
        held_out=held_out.examples if held_out is not None else (),
    )
    return model, log


def run_training(config: RunConfig, *, on_event: OnEvent | None = None) -> Path:
    """Do what a config says and leave a run folder.

    Nothing is written before training is over; an error or Ctrl-C leaves no folder.

    Args:
        config: the run.
        on_event: called with what the rows came to ("data"), what is trained ("method"), and every
            event of the trainer.

    Returns:
        The run folder.

    Raises:
        BiddableError: of the kind that fits; before the first step wherever that is possible.
    """
    folder = require_free(config.output)
    tell = on_event or (lambda event: None)
    rows = _read_rows(config)
    loaded = load(config.model)
    template = get_template(
        config.template,
        loaded.tokenizer,
        control_text=config.data.control_text,
        history=config.data.history,
    )
    data = _encode_rows(rows, loaded, template, config=config)
    for part, report in data.reports.items():
        event = {"event": "data", "part": part, "summary": report.summary()}
        tell({**event, "dropped": report.dropped})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the adapters' start
        tell({"event": "method", "summary": apply_method(loaded.model, config.method)})
    log = train(
        loaded.model,
        data.train,
        settings=config.training,
        held_out=data.held_out,
        seed=config.seed,
        on_event=on_event,
    )
    _settle_conversation(loaded, template)
    settings = config.model_dump(mode="json")
    manifest = build_manifest(
        config=settings,
        data=_describe_data(config, data),
        template=_describe_template(template),
        model=_describe_model(loaded),
        results=_describe_results(log),
    )
    return save_run(
        folder,
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        record=RunRecord(config=settings, manifest=manifest, log=log.records),
    )


def apply_method(model: PreTrainedModel, method: MethodConfig) -> str:
    """Settle which parameters of a model train, in place, and say it in words.

    Args:
        model: a transformers causal LM.
        method: its name and settings.

    Raises:
        ConfigError: a setting does not fit the model.
    """
    if method.name == "lora":
        names = apply_lora(
            model,
            rank=method.rank,
            alpha=method.alpha,
            dropout=method.dropout,
            target_modules=method.target_modules,
        )
        scale = 1.0 if method.alpha is None else method.alpha / method.rank
        return f"LoRA of rank {method.rank} and scale {scale:g} on {len(names)} linear layers"
    if method.name == "freeze":
        num_layers = len(decoder_layers(model))
        num_frozen = method.num_frozen_layers
        num_frozen = num_layers // 2 if num_frozen is None else num_frozen
        num_trained = freeze_layers(model, num_frozen)
        tied = ", and the head, which shares their weight," if has_tied_head(model) else ""
        return (
            f"the embeddings{tied} and {num_frozen} of {num_layers} layers are frozen; "
            f"{num_trained:,} parameters train"
        )
    return "all parameters train"


@dataclass(frozen=True)
class _Rows:
    train: list[Conversation]
    held_out: list[Conversation]
    files: dict[str, Path]  # what was read, by part


@dataclass(frozen=True)
class _Encoded:
    train: list[Example]
    held_out: list[Example]
    reports: dict[str, EncodingReport]
    files: dict[str, Path]


def _read_rows(config: RunConfig) -> _Rows:
    """Read, shuffle and split the rows as the config says."""
    data = config.data
    files = {"train": _data_file(data.train, split="train")}
    rows, held_out = split_rows(
        read_conversations(files["train"]),
        held_out_rows=data.held_out_rows,
        shuffle_seed=data.shuffle_seed,
    )
    if data.held_out is not None:
        files["held_out"] = _data_file(data.held_out, split="held_out")
        held_out = read_conversations(files["held_out"])
    wanted = data.train_rows
    if not rows or (wanted is not None and wanted > len(rows)):
        raise ConfigError(
            f"data: {data.train} has {len(rows) + len(held_out)} rows; train_rows "
            f"{wanted or 'none'} and held_out_rows {data.held_out_rows or 'none'} leave too few. "
            "Lower one of them."
        )
    return _Rows(rows[:wanted], held_out, files)


def _data_file(name: str, *, split: str) -> Path:
    return builtin_path(name, split) if name in builtin_names() else Path(name)


def _encode_rows(
    rows: _Rows, loaded: LoadedModel, template: ChatTemplate, *, config: RunConfig
) -> _Encoded:
    reports: dict[str, EncodingReport] = {}
    examples: dict[str, list[Example]] = {"train": [], "held_out": []}
    for part, conversations in (("train", rows.train), ("held_out", rows.held_out)):
        if conversations:
            examples[part], reports[part] = encode_all(
                conversations,
                template,
                loaded.tokenizer,
                max_seq_len=config.data.max_seq_len or _longest_sequence(loaded.model),
                overflow=config.data.overflow,
                learn=config.training.learn,
            )
    return _Encoded(examples["train"], examples["held_out"], reports, rows.files)


def _longest_sequence(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None)


def _settle_conversation(loaded: LoadedModel, template: ChatTemplate) -> None:
    """Let the saved folder ask and stop as the training taught it, in any program that loads it."""
    ends = stop_ids(template, loaded.tokenizer)
    if loaded.model.generation_config is not None:
        loaded.model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    if isinstance(template, JinjaTemplate) and template.name != "tokenizer":
        loaded.tokenizer.chat_template = template.saved_source


def _describe_data(config: RunConfig, data: _Encoded) -> dict[str, Any]:
    described: dict[str, Any] = {"shuffle_seed": config.data.shuffle_seed}
    for part, report in data.reports.items():
        file = data.files.get(part, data.files["train"])
        described[part] = {
            "file": str(file),
            "sha256": hash_file(file),
            "num_rows": report.num_rows,
            "num_kept": report.num_kept,
            "dropped": report.dropped,
            "num_tokens": report.num_tokens,
            "num_loss_tokens": report.num_loss_tokens,
            "num_examples": report.num_examples,
            "num_rows_expanded": report.num_rows_expanded,
            "num_rows_with_control_text": report.num_rows_with_control_text,
        }
    return described


def _describe_template(template: ChatTemplate) -> dict[str, Any]:
    described = {"name": saved_name(template), "hash": template_hash(template)}
    if described["name"] != template.name:
        described["file"] = template.name
    return {**described, "control_text": template.control_text}


def _describe_model(loaded: LoadedModel) -> dict[str, Any]:
    parameters: Sequence[torch.nn.Parameter] = list(loaded.model.parameters())
    return {
        "name": loaded.name,
        "source": loaded.source,
        "type": type(loaded.model).__name__,
        "num_parameters": sum(p.numel() for p in parameters),
        "num_trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "device": str(loaded.model.device),
    }


def _describe_results(log: TrainingLog) -> dict[str, Any]:
    losses = log.held_out_losses
    return {
        "seconds": log.seconds,
        "tokens": log.num_tokens,
        "loss_tokens": log.num_loss_tokens,
        "steps": log.num_steps,
        "learning_rate": log.learning_rate,
        "learning_rate_reason": log.learning_rate_reason,
        "held_out_loss_before": losses[0] if losses else None,
        "held_out_loss": losses[-1] if losses else None,
    }
