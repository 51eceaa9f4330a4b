"""Do all of a run that comes before its first step: rows, base, what trains, template, ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config import RunConfig
from biddable.config_data import DataConfig
from biddable.config_training import MethodConfig
from biddable.data.cache import cache_key, encode_rows
from biddable.data.conversation import Conversation
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import EncodingReport, Overflow, encode_all, encode_chunk
from biddable.data.segments import Learn
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
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import ConfigError
from biddable.models.control_rows import train_control_rows
from biddable.models.freezing import decoder_layers, freeze_layers, freeze_named, has_tied_head
from biddable.models.loading import LoadedModel, load
from biddable.models.lora import LoRAKind, apply_lora, lora_layers, quantize_frozen
from biddable.models.readiness import Readiness, choose_template
from biddable.models.token_rows import add_tokens
from biddable.training.checkpoint import require_free


@dataclass(frozen=True)
class Rows:
    """Hold the rows of a run before they are encoded, and the files that they are from.

    Attributes:
        train: shuffled, split and drawn; an iterator where they might not fit in memory.
        held_out: never learned.
        files: what was read, by part.
        summaries: the same in words, with its part.
    """

    train: Iterable[Conversation]
    held_out: list[Conversation]
    files: dict[str, list[dict[str, Any]]]
    summaries: list[tuple[str, str]]


@dataclass(frozen=True)
class Prepared:
    """Hold a run before its rows are encoded.

    Attributes:
        read: gives the rows; they are read at its first call.
        sources: settle together which rows there are; None if no encoded rows are kept.
        loaded: the base, with what trains settled on it.
        method: what trains, in words.
        template: how turns are written.
        readiness: whether the base can learn it.
        max_seq_len: ids a row may have; None for no limit.
        overflow: what happens to longer rows.
        learn: which tokens count in the loss.
        seed: of the order of rows.
        shuffle_seed: of the order in which files are cut; None for theirs.
        output: the run folder to make.
    """

    read: Callable[[], Rows]
    sources: list[str] | None
    loaded: LoadedModel
    method: str
    template: ChatTemplate
    readiness: Readiness
    max_seq_len: int | None
    overflow: Overflow
    learn: Learn
    seed: int
    shuffle_seed: int | None
    output: str


@dataclass(frozen=True)
class EncodedParts:
    """Hold the rows of a run as ids.

    Attributes:
        parts: ``train`` and ``held_out``; empty where there are no rows.
        reports: what became of the rows of each part that has some.
        about: what was read: the files of each part, and the same in words.
        from_cache: the parts that were encoded by an earlier run.
    """

    parts: dict[str, EncodedRows]
    reports: dict[str, EncodingReport]
    about: dict[str, Any]
    from_cache: frozenset[str]


def free_folder(config: RunConfig) -> Path:
    """Refuse an output folder that holds something, before any time is spent.

    Raises:
        CheckpointError: see `require_free`.
    """
    return require_free(config.output)


def prepare(config: RunConfig) -> Prepared:
    """Do all of a run that comes before its rows are encoded; nothing is refused for the base yet.

    Args:
        config: the run.

    Raises:
        BiddableError: the rows, the model, the template or the method is not usable.
    """
    read = cache(partial(_read_rows, config))
    sources = _hash_rows(config) if config.data.cache else None
    if sources is None:
        read()  # what is wrong with the rows is said before a model is loaded
    loaded = load(config.model)
    options = {"control_text": config.data.control_text, "history": config.data.history}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the start of adapters and of new rows
        method = _settle_method(loaded, config, options)
    template, readiness = choose_template(config.template, loaded, **options)
    return Prepared(
        read=read,
        sources=sources,
        loaded=loaded,
        method=method,
        template=template,
        readiness=readiness,
        max_seq_len=config.data.max_seq_len or _longest_sequence(loaded.model),
        overflow=config.data.overflow,
        learn=config.training.learn,
        seed=config.seed,
        shuffle_seed=config.data.shuffle_seed,
        output=config.output,
    )


def encode_parts(prepared: Prepared) -> EncodedParts:
    """Encode each part, or find it encoded; rows are read only if one of them is not there.

    Raises:
        DataError: rows are malformed, too long under ``overflow="error"``, or none is left.
        TemplateError: the template cannot show some rows.
    """
    read, template, tokenizer = prepared.read, prepared.template, prepared.loaded.tokenizer
    options: dict[str, Any] = {
        "max_seq_len": prepared.max_seq_len,
        "overflow": prepared.overflow,
        "learn": prepared.learn,
    }
    parts: dict[str, EncodedRows] = {"train": EncodedRows.of([]), "held_out": EncodedRows.of([])}
    reports: dict[str, EncodingReport] = {}
    from_cache = set()

    def about() -> dict[str, Any]:
        return {"files": read().files, "summaries": read().summaries}

    known: dict[str, Any] = {}
    for part in parts:
        key = None
        if prepared.sources is not None:
            names = [part, *prepared.sources]
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
    return EncodedParts(parts, reports, known or about(), frozenset(from_cache))


def _settle_method(loaded: LoadedModel, config: RunConfig, options: Mapping[str, Any]) -> str:
    """Settle what trains: as the method says, and the rows that the template needs beside it."""
    method = config.method
    new_ids: list[int] = []
    said: list[str] = []
    if method.new_tokens:
        new_ids = add_tokens(loaded.model, loaded.tokenizer, tokens=method.new_tokens)
        said = [f"{', '.join(method.new_tokens)} are new to the vocabulary"]
    said.insert(0, apply_method(loaded.model, method))
    if method.name != "full":
        template = get_template(config.template, loaded.tokenizer, **options)
        rows = train_control_rows(loaded, template, asked=method.train_tokens, new_ids=new_ids)
        said += [rows] if rows else []
    return "; ".join(said)


def apply_method(model: PreTrainedModel, method: MethodConfig) -> str:
    """Settle which parameters of a model train, in place, and say it in words.

    Args:
        model: a transformers causal LM.
        method: its name and settings.

    Raises:
        ConfigError: a setting does not fit the model.
    """
    if method.name == "lora":
        return _apply_lora(model, method)
    if method.name == "freeze":
        return _freeze(model, method)
    return "all parameters train"


def _apply_lora(model: PreTrainedModel, method: MethodConfig) -> str:
    ratio = method.lora_plus_ratio
    kind = LoRAKind(
        rslora=method.rslora, dora=method.dora, init=method.init, rate_ratio=ratio or 1.0
    )
    names = apply_lora(
        model,
        rank=method.rank,
        alpha=method.alpha,
        dropout=method.dropout,
        target_modules=method.target_modules,
        kind=kind,
    )
    scale = lora_layers(model)[names[0]].scale
    what = "DoRA" if kind.dora else "rsLoRA" if kind.rslora else "LoRA"
    how = ", from the base's own largest directions (PiSSA)" if kind.init == "pissa" else ""
    how += f", B at {ratio:g} times the learning rate (LoRA+)" if ratio else ""
    if method.quantize_base:
        num_small = quantize_frozen(model, method.quantize_base)
        how += f", {num_small} frozen layers in {method.quantize_base}"
    return f"{what} of rank {method.rank} and scale {scale:g} on {len(names)} linear layers{how}"


def _freeze(model: PreTrainedModel, method: MethodConfig) -> str:
    frozen, num_frozen = [], method.num_frozen_layers
    num_layers = len(decoder_layers(model))
    if num_frozen is None and not method.freeze:
        num_frozen = num_layers // 2
    if num_frozen is not None:
        num_trained = freeze_layers(model, num_frozen)
        tied = ", and the head, which shares their weight," if has_tied_head(model) else ""
        frozen.append(f"the embeddings{tied} and {num_frozen} of {num_layers} layers are frozen")
    if method.freeze:
        num_trained = freeze_named(model, method.freeze)
        frozen.append(f"what is called {', '.join(method.freeze)} is frozen")
    return f"{'; '.join(frozen)}; {num_trained:,} parameters train"


def _hash_rows(config: RunConfig) -> list[str] | None:
    """Tell all that settles which rows a run has; None if a source is not on this machine."""
    data = config.data
    hashes = hash_sources(data, seed=config.seed, held_out=data.held_out)
    return hashes and [*hashes, data.model_dump_json(exclude={"cache"})]


def _read_rows(config: RunConfig) -> Rows:
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
    return Rows(rows[:wanted], held_out, files, summaries)


def _stream_rows(config: RunConfig) -> Rows:
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
    return Rows(stream_sources(data, tell=note), held_out, files, summaries)


def _read_apart(
    name: str,
    data: DataConfig,
    files: dict[str, list[dict[str, Any]]],
    summaries: list[tuple[str, str]],
) -> list[Conversation]:
    apart = read_held_out(name, data)
    files["held_out"] = apart.describe()
    summaries.append(("held_out", apart.reading.summary()))
    learned = {file.get("sha256") for file in files["train"]} - {None}
    if any(file.get("sha256") in learned for file in files["held_out"]):
        raise ConfigError(
            f"data.held_out: {name} holds what data.train holds, so what is learned would be"
            " measured; name another file, or set data.held_out_rows."
        )
    return apart.reading.conversations


def _lazily(read: Callable[[], Rows], part: str) -> Iterator[Conversation]:
    yield from getattr(read(), part)


def _longest_sequence(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None)
