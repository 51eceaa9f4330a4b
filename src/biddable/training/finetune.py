"""The whole of a training run: load, read, encode, choose what trains, train, save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config import MethodConfig, RunConfig, TrainingConfig
from biddable.data.conversation import Conversation
from biddable.data.dataset import InstructionDataset
from biddable.data.encoding import EncodingReport, Example, Learn, Overflow, encode_all
from biddable.data.sources import draw, read_held_out, read_sources
from biddable.data.splits import split_rows
from biddable.data.templates import ChatTemplate, template_hash
from biddable.errors import ConfigError
from biddable.manifest import build_manifest
from biddable.models.freezing import decoder_layers, freeze_layers, has_tied_head
from biddable.models.loading import LoadedModel, load
from biddable.models.lora import apply_lora
from biddable.models.readiness import Readiness, choose_template, require_ready
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
        on_event: called with what was read ("source"), what the rows came to ("data"), what is
            trained ("method"), and every event of the trainer.

    Returns:
        The run folder.

    Raises:
        BiddableError: of the kind that fits; before the first step wherever that is possible.
    """
    folder = require_free(config.output)
    tell = on_event or (lambda event: None)
    prepared = prepare(config)
    for part, summary in prepared.rows.summaries:
        tell({"event": "source", "part": part, "summary": summary})
    require_ready(prepared.readiness)
    loaded, template = prepared.loaded, prepared.template
    data = _encode_rows(prepared)
    for part, report in data.reports.items():
        event = {"event": "data", "part": part, "summary": report.summary()}
        tell({**event, "dropped": report.dropped})
    notes = [f.text for f in prepared.readiness.facts if f.verdict in ("note", "warning")]
    tell({"event": "method", "summary": prepared.method, "notes": notes})
    log = train(
        loaded.model,
        data.train,
        settings=config.training,
        held_out=data.held_out,
        seed=config.seed,
        on_event=on_event,
    )
    _set_stop_token(loaded, template)
    settings = config.model_dump(mode="json")
    manifest = build_manifest(
        config=settings,
        data=_describe_data(config, data),
        template={"name": template.name, "hash": template_hash(template)},
        model=_describe_model(loaded),
        results=_describe_results(log),
    )
    return save_run(
        folder,
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        record=RunRecord(config=settings, manifest=manifest, log=log.records),
    )


@dataclass(frozen=True)
class Prepared:
    """Hold a run before its rows are encoded.

    Attributes:
        rows: read, shuffled and split.
        loaded: the base, with what trains settled on it.
        method: what trains, in words.
        template: how turns are written.
        readiness: whether the base can learn it.
        max_seq_len: ids a row may have; None for no limit.
        overflow: what happens to longer rows.
        learn: which tokens count in the loss.
        seed: of the order of rows.
        output: the run folder to make.
    """

    rows: Rows
    loaded: LoadedModel
    method: str
    template: ChatTemplate
    readiness: Readiness
    max_seq_len: int | None
    overflow: Overflow
    learn: Learn
    seed: int
    output: str


def prepare(config: RunConfig) -> Prepared:
    """Do all of a run that comes before its rows are encoded; nothing is refused for the base yet.

    Args:
        config: the run.

    Raises:
        BiddableError: the rows, the model, the template or the method is not usable.
    """
    rows = _read_rows(config)
    loaded = load(config.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the adapters' start
        method = apply_method(loaded.model, config.method)
    template, readiness = choose_template(config.template, loaded)
    return Prepared(
        rows=rows,
        loaded=loaded,
        method=method,
        template=template,
        readiness=readiness,
        max_seq_len=config.data.max_seq_len or _longest_sequence(loaded.model),
        overflow=config.data.overflow,
        learn=config.training.learn,
        seed=config.seed,
        output=config.output,
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
class Rows:
    """Hold the rows of a run before they are encoded, and the files that they are from."""

    train: list[Conversation]
    held_out: list[Conversation]
    files: dict[str, list[dict[str, Any]]]  # what was read, by part
    summaries: list[tuple[str, str]]  # the same in words, with its part


@dataclass(frozen=True)
class _Encoded:
    train: list[Example]
    held_out: list[Example]
    reports: dict[str, EncodingReport]
    files: dict[str, list[dict[str, Any]]]


def _read_rows(config: RunConfig) -> Rows:
    """Read, shuffle, split and draw the rows as the config says."""
    data = config.data
    sources = read_sources(data)
    files = {"train": [file for source in sources for file in source.describe()]}
    summaries = [("train", source.reading.summary()) for source in sources]
    pairs = [(n, row) for n, source in enumerate(sources) for row in source.reading.conversations]
    kept, cut = split_rows(pairs, held_out_rows=data.held_out_rows, shuffle_seed=data.shuffle_seed)
    held_out = [row for _, row in cut]
    rows, counts = draw(kept, [source.weight for source in sources], seed=config.seed)
    for source, count in zip(sources, counts, strict=True):
        if source.weight != 1:
            drawn = f"{source.name}: weight {source.weight:g}, {count:,} rows an epoch"
            summaries.append(("train", drawn))
    if data.held_out is not None:
        apart = read_held_out(data.held_out, data)
        files["held_out"] = apart.describe()
        summaries.append(("held_out", apart.reading.summary()))
        held_out = apart.reading.conversations
    wanted = data.train_rows
    if not rows or (wanted is not None and wanted > len(rows)):
        names = ", ".join(source.name for source in sources)
        raise ConfigError(
            f"data: {names} has {len(pairs)} rows; train_rows "
            f"{wanted or 'none'} and held_out_rows {data.held_out_rows or 'none'} leave too few. "
            "Lower one of them."
        )
    return Rows(rows[:wanted], held_out, files, summaries)


def _encode_rows(prepared: Prepared) -> _Encoded:
    rows, reports = prepared.rows, dict[str, EncodingReport]()
    examples: dict[str, list[Example]] = {"train": [], "held_out": []}
    for part, conversations in (("train", rows.train), ("held_out", rows.held_out)):
        if conversations:
            examples[part], reports[part] = encode_all(
                conversations,
                prepared.template,
                prepared.loaded.tokenizer,
                max_seq_len=prepared.max_seq_len,
                overflow=prepared.overflow,
                learn=prepared.learn,
            )
    return _Encoded(examples["train"], examples["held_out"], reports, rows.files)


def _longest_sequence(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None)


def _set_stop_token(loaded: LoadedModel, template: ChatTemplate) -> None:
    """Let the saved folder stop where the training taught it to, in any program that loads it."""
    stop_id = loaded.tokenizer.convert_tokens_to_ids(template.stop_text)
    if loaded.model.generation_config is not None:
        loaded.model.generation_config.eos_token_id = stop_id


def _describe_data(config: RunConfig, data: _Encoded) -> dict[str, Any]:
    described: dict[str, Any] = {"shuffle_seed": config.data.shuffle_seed}
    for part, report in data.reports.items():
        files = data.files.get(part, data.files["train"])
        one = files[0] if len(files) == 1 else {}
        described[part] = {
            "file": one.get("file"),
            "sha256": one.get("sha256"),
            "files": files,
            "num_rows": report.num_rows,
            "num_kept": report.num_kept,
            "dropped": report.dropped,
            "num_tokens": report.num_tokens,
            "num_loss_tokens": report.num_loss_tokens,
        }
    return described


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
