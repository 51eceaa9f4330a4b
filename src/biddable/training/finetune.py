"""The whole of a training run: load, read, encode, choose what trains, train, save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config import DataConfig, MethodConfig, RunConfig, TrainingConfig
from biddable.data.cache import cache_key, encode_rows
from biddable.data.conversation import Conversation
from biddable.data.dataset import InstructionDataset
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import EncodingReport, encode_all, encode_chunk
from biddable.data.segment_ids import stop_ids
from biddable.data.sources import (
    Source,
    draw,
    hash_sources,
    is_large,
    read_held_out,
    read_sources,
    stream_sources,
)
from biddable.data.splits import split_rows
from biddable.data.templates import (
    TEMPLATE_NAMES,
    ChatTemplate,
    JinjaTemplate,
    get_template,
    template_hash,
)
from biddable.errors import ConfigError
from biddable.manifest import build_manifest
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
        on_event: called with what was read ("source"), what the rows came to ("data"), what is
            trained ("method"), and every event of the trainer.

    Returns:
        The run folder.

    Raises:
        BiddableError: of the kind that fits; before the first step wherever that is possible.
    """
    folder = require_free(config.output)
    tell = on_event or (lambda event: None)
    read = cache(partial(_read_rows, config))
    sources = _hash_rows(config) if config.data.cache else None
    if sources is None:
        read()  # what is wrong with the rows is said before a model is loaded
    loaded = load(config.model)
    template = get_template(
        config.template,
        loaded.tokenizer,
        control_text=config.data.control_text,
        history=config.data.history,
    )
    data = _encode_parts(read, loaded, template, config=config, sources=sources)
    _tell_rows(data, tell)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the adapters' start
        tell({"event": "method", "summary": apply_method(loaded.model, config.method)})
    log = train(
        loaded.model,
        data.parts["train"],
        settings=config.training,
        held_out=data.parts["held_out"],
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


def _tell_rows(data: _Encoded, tell: OnEvent) -> None:
    for part, summary in data.about["summaries"]:
        tell({"event": "source", "part": part, "summary": summary})
    for part, report in data.reports.items():
        kept = " (kept from before)" if part in data.from_cache else ""
        event = {"event": "data", "part": part, "summary": report.summary() + kept}
        tell({**event, "dropped": report.dropped})


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
    train: Iterable[Conversation]
    held_out: list[Conversation]
    files: dict[str, list[dict[str, Any]]]  # what was read, by part
    summaries: list[tuple[str, str]]  # the same in words, with its part


@dataclass(frozen=True)
class _Encoded:
    parts: dict[str, EncodedRows]
    reports: dict[str, EncodingReport]
    about: dict[str, Any]  # what was read: the files of each part, and the same in words
    from_cache: frozenset[str]  # the parts that were encoded by an earlier run


def _hash_rows(config: RunConfig) -> list[str] | None:
    """Tell all that settles which rows a run has; None if a source is not on this machine."""
    data = config.data
    hashes = hash_sources(data, seed=config.seed, held_out=data.held_out)
    return hashes and [*hashes, data.model_dump_json(exclude={"cache"})]


def _read_rows(config: RunConfig) -> _Rows:
    """Read, shuffle, split and draw the rows as the config says."""
    data = config.data
    is_whole = data.train_rows is None and data.held_out_rows is None
    if is_whole and data.shuffle_seed is None and is_large(data):
        return _stream_rows(config)
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
        held_out = _read_apart(data.held_out, data, files, summaries)
    wanted = data.train_rows
    if not rows or (wanted is not None and wanted > len(rows)):
        names = ", ".join(source.name for source in sources)
        raise ConfigError(
            f"data: {names} has {len(pairs)} rows; train_rows "
            f"{wanted or 'none'} and held_out_rows {data.held_out_rows or 'none'} leave too few. "
            "Lower one of them."
        )
    return _Rows(rows[:wanted], held_out, files, summaries)


def _stream_rows(config: RunConfig) -> _Rows:
    """Read rows that are learned as they stand one by one, for they might not fit in memory."""
    data = config.data
    files: dict[str, list[dict[str, Any]]] = {"train": []}
    summaries: list[tuple[str, str]] = []

    def note(source: Source) -> None:
        files["train"] += source.describe()
        summaries.append(("train", source.reading.summary()))

    held_out: list[Conversation] = []
    if data.held_out is not None:
        held_out = _read_apart(data.held_out, data, files, summaries)
    return _Rows(stream_sources(data, tell=note), held_out, files, summaries)


def _read_apart(
    name: str,
    data: DataConfig,
    files: dict[str, list[dict[str, Any]]],
    summaries: list[tuple[str, str]],
) -> list[Conversation]:
    apart = read_held_out(name, data)
    files["held_out"] = apart.describe()
    summaries.append(("held_out", apart.reading.summary()))
    return apart.reading.conversations


def _encode_parts(
    read: Callable[[], _Rows],
    loaded: LoadedModel,
    template: ChatTemplate,
    *,
    config: RunConfig,
    sources: Sequence[str] | None,
) -> _Encoded:
    """Encode each part, or find it encoded; rows are read only if one of them is not there."""
    options: dict[str, Any] = {
        "max_seq_len": config.data.max_seq_len or _longest_sequence(loaded.model),
        "overflow": config.data.overflow,
        "learn": config.training.learn,
    }
    tokenizer = loaded.tokenizer
    parts: dict[str, EncodedRows] = {"train": EncodedRows.of([]), "held_out": EncodedRows.of([])}
    reports: dict[str, EncodingReport] = {}
    from_cache = set()

    def about() -> dict[str, Any]:
        return {"files": read().files, "summaries": read().summaries}

    known: dict[str, Any] = {}
    for part in parts:
        key = None
        if sources is not None:
            names = [part, *sources]
            key = cache_key(names, template, tokenizer=tokenizer, options=options)
        if key is not None:
            encode = partial(encode_chunk, template=template, tokenizer=tokenizer, **options)
            found = encode_rows(_lazily(read, part), key, encode=encode, about=about)
            known = found.about
            if found.report.num_rows:
                found.report.require_kept()
                parts[part], reports[part] = found.rows, found.report
            from_cache |= {part} if found.was_kept else set()
        elif rows := list(getattr(read(), part)):
            examples, reports[part] = encode_all(rows, template, tokenizer, **options)
            parts[part] = EncodedRows.of(examples)
    return _Encoded(parts, reports, known or about(), frozenset(from_cache))


def _lazily(read: Callable[[], _Rows], part: str) -> Iterator[Conversation]:
    yield from getattr(read(), part)


def _longest_sequence(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None)


def _settle_conversation(loaded: LoadedModel, template: ChatTemplate) -> None:
    """Let the saved folder ask and stop as the training taught it, in any program that loads it."""
    ends = stop_ids(template, loaded.tokenizer)
    if loaded.model.generation_config is not None:
        loaded.model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    if isinstance(template, JinjaTemplate):
        loaded.tokenizer.chat_template = template.saved_source


def _describe_data(config: RunConfig, data: _Encoded) -> dict[str, Any]:
    described: dict[str, Any] = {"shuffle_seed": config.data.shuffle_seed}
    for part, report in data.reports.items():
        files = data.about["files"].get(part, data.about["files"]["train"])
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
            "num_examples": report.num_examples,
            "num_rows_expanded": report.num_rows_expanded,
            "num_rows_with_control_text": report.num_rows_with_control_text,
        }
    return described


def _describe_template(template: ChatTemplate) -> dict[str, Any]:
    """Name the template as the saved folder knows it: a user's file becomes the tokenizer's own."""
    described = {"name": template.name, "hash": template_hash(template)}
    if template.name not in TEMPLATE_NAMES:
        described |= {"name": "tokenizer", "file": template.name}
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
