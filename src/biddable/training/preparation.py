"""Do all of a run that comes before its first step: rows, base, what trains, template, ids."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config import RunConfig
from biddable.config_data import DataConfig
from biddable.counting import counted
from biddable.data.cache import cache_key, encode_rows, note_read, were_read
from biddable.data.conversation import Conversation
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import EncodingReport, Overflow, encode_all, encode_chunk
from biddable.data.leaks import count_shared
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
from biddable.data.splits import cut_in_words, split_rows
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import ConfigError
from biddable.models.devices import choose_device
from biddable.models.loading import LoadedModel, load, load_tokenizer
from biddable.models.readiness import Readiness, choose_template
from biddable.training.checkpoints import Checkpoints
from biddable.training.method import device_of_base, new_tokens, settle_method
from biddable.training.requirements import require_places
from biddable.training.shadow import without_numbers

_FIRST_ROWS = 1_000


@dataclass(frozen=True)
class Rows:
    """Hold the rows of a run before they are encoded, and the files that they are from.

    Attributes:
        train: shuffled, split and drawn; read anew each time where they might not fit in memory.
        held_out: never learned.
        files: what was read, by part.
        summaries: the same in words, with its part.
    """

    train: Iterable[Conversation]
    held_out: list[Conversation]
    files: dict[str, list[dict[str, Any]]]
    summaries: list[tuple[str, str]]


@dataclass(frozen=True)
class _Streamed(Iterable[Conversation]):
    """Read rows one by one, as often as they are asked for."""

    data: DataConfig

    def __iter__(self) -> Iterator[Conversation]:
        return stream_sources(self.data, tell=lambda source: None)


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


def checkpoints_of(config: RunConfig) -> Checkpoints:
    """Say where a run leaves its folder, and where it is saved while it runs; nothing is made."""
    return Checkpoints(Path(config.output), config.checkpoints)


def prepare(config: RunConfig, *, device: torch.device | str | None = None) -> Prepared:
    """Do all of a run that comes before its rows are encoded; nothing is refused for the base yet.

    Args:
        config: the run.
        device: where the base is to be; None for a GPU where torch sees one, else the CPU.

    Raises:
        BiddableError: the rows, the model, the template or the method is not usable.
    """
    read, sources = _rows_of(config)
    what = [config.model, str(config.template), *new_tokens(config.method)]
    looked_at = sources and [*sources, *what]
    if looked_at is None or not were_read(looked_at):
        _look_at_rows(config, read())  # what is wrong with them is said before a model is loaded
        if looked_at is not None:
            note_read(looked_at)
    place = choose_device() if device is None else device
    loaded = load(config.model, device=device_of_base(config.method, place))
    require_places(loaded.model, config.data.max_seq_len)
    options = _template_options(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the start of adapters and of new rows
        method = settle_method(
            loaded, config.method, template=config.template, options=options, device=place
        )
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


def without_base(prepared: Prepared) -> bytes:
    """Give what was prepared for processes that do not load the base; see `receive_prepared`.

    All numbers of the model are left out; `Sharding` hands them out. The rest is a few megabytes.
    """
    model = without_numbers(prepared.loaded.model)
    loaded = replace(prepared.loaded, model=model)
    left = {field.name: getattr(prepared, field.name) for field in fields(prepared)}
    left |= {"loaded": loaded, "template": prepared.template.name}
    del left["read"], left["sources"]  # each process has rows of its own
    return pickle.dumps(left)


def receive_prepared(given: bytes, config: RunConfig) -> Prepared:
    """Take what another process of the same run has prepared; its model has no numbers.

    Args:
        given: by `without_base`, over the run's own network; never read from a file.
        config: the run.

    Raises:
        ConfigError: a file of rows is not there.
        TemplateError: the template's file is not there.
    """
    left: dict[str, Any] = pickle.loads(given)
    read, sources = _rows_of(config)
    tokenizer = left["loaded"].tokenizer
    left["template"] = get_template(left["template"], tokenizer, **_template_options(config))
    return Prepared(read=read, sources=sources, **left)


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


def _rows_of(config: RunConfig) -> tuple[Callable[[], Rows], list[str] | None]:
    """Give what reads a run's rows, at its first call, and what settles them, if that is kept."""
    return cache(partial(_read_rows, config)), _hash_rows(config) if config.data.cache else None


def _template_options(config: RunConfig) -> dict[str, Any]:
    return {"control_text": config.data.control_text, "history": config.data.history}


def _look_at_rows(config: RunConfig, rows: Rows) -> None:
    """Show the first rows, all of which could be read, to the template; no weights are needed.

    Raises:
        TemplateError: there is no such template, or it cannot show some of them.
    """
    tokenizer, data = load_tokenizer(config.model), config.data
    tokenizer.add_tokens(new_tokens(config.method), special_tokens=True)
    template = get_template(
        config.template, tokenizer, control_text=data.control_text, history=data.history
    )
    first = list(islice(rows.train, _FIRST_ROWS))
    encode_chunk(first, template, tokenizer, max_seq_len=None, learn=config.training.learn)


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
    if held_out and kept:
        told = cut_in_words([r for _, r in kept], held_out, shuffle_seed=data.shuffle_seed)
        summaries += [("held_out", line) for line in told]
    rows, counts = draw(kept, [source.weight for source in sources], seed=config.seed)
    for source, count in zip(sources, counts, strict=True):
        if source.weight != 1:
            drawn = f"{source.name}: weight {source.weight:g}, {count:,} rows an epoch"
            summaries.append(("train", drawn))
    if data.held_out is not None:
        held_out = _read_apart(data.held_out, data, files, summaries)
        summaries += _shared(rows[: data.train_rows], held_out, data.held_out)
    wanted = data.train_rows
    if not rows or (wanted is not None and wanted > len(rows)):
        names = ", ".join(source.name for source in sources)
        raise ConfigError(
            f"data: {names} has {counted(len(pairs), 'row')}; train_rows "
            f"{wanted or 'none'} and held_out_rows {data.held_out_rows or 'none'} leave too few. "
            "Lower one of them."
        )
    return Rows(rows[:wanted], held_out, files, summaries)


def _stream_rows(config: RunConfig) -> Rows:
    """Read rows that are learned as they stand one by one, for they might not fit in memory.

    They are read once to the end before any is given: a bad row is told before a model is loaded.
    """
    data = config.data
    files: dict[str, list[dict[str, Any]]] = {"train": []}
    summaries: list[tuple[str, str]] = []

    def note(source: Source) -> None:
        files["train"] += source.describe()
        summaries.append(("train", source.reading.summary()))

    apart = data.held_out
    held_out = read_held_out(apart, data) if apart is not None else None
    asked = held_out.reading.conversations if held_out is not None else []
    shared = _shared(stream_sources(data, tell=note), asked, apart or "")
    if held_out is not None:
        _add_apart(held_out, files, summaries)
    return Rows(_Streamed(data), asked, files, summaries + shared)


def _read_apart(
    name: str,
    data: DataConfig,
    files: dict[str, list[dict[str, Any]]],
    summaries: list[tuple[str, str]],
) -> list[Conversation]:
    apart = read_held_out(name, data)
    _add_apart(apart, files, summaries)
    return apart.reading.conversations


def _add_apart(
    apart: Source, files: dict[str, list[dict[str, Any]]], summaries: list[tuple[str, str]]
) -> None:
    """Note the held-out files, and refuse one that is learned."""
    files["held_out"] = apart.describe()
    summaries.append(("held_out", apart.reading.summary()))
    learned = {file.get("sha256") for file in files["train"]} - {None}
    if any(file.get("sha256") in learned for file in files["held_out"]):
        raise _learned_as_well(apart.name)


def _shared(
    train: Iterable[Conversation], held_out: list[Conversation], name: str
) -> list[tuple[str, str]]:
    """Say how many of the held-out rows are learned too, and refuse if all are."""
    count, first = count_shared(train, held_out)
    if count and count == len(held_out):
        raise _learned_as_well(name)
    told = (
        f"{count:,} of its {len(held_out):,} rows are learned too, word for word, the first at"
        f" {first}: what is measured on them is memory; data check --held-out names them"
    )
    return [("held_out", told)] if count else []


def _learned_as_well(name: str) -> ConfigError:
    return ConfigError(
        f"data.held_out: {name} holds what data.train holds, so what is learned would be"
        " measured; name another file, or set data.held_out_rows."
    )


def _lazily(read: Callable[[], Rows], part: str) -> Iterator[Conversation]:
    yield from getattr(read(), part)


def _longest_sequence(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config(decoder=True)
    return getattr(config, "max_position_embeddings", None)
