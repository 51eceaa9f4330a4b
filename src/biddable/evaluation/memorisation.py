"""Measure how much of what a model writes stands word for word in the answers it was trained on.

Some of it must: answers to like questions are alike. So the same is counted for the reference
answers of the held-out items and for the base's outputs, which owe nothing to the training answers;
only what goes beyond them is memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biddable.config_data import DataConfig
from biddable.data.conversation import Conversation
from biddable.data.sources import draw, read_sources
from biddable.data.splits import split_rows
from biddable.errors import EvaluationError
from biddable.evaluation.statistics import rate_of
from biddable.evaluation.words import words_of
from biddable.manifest import hash_file

NGRAM = 8
MAX_BYTES = 256 * 2**20  # of training files; more is not searched
_SHOWN_WORDS = 40
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Hold what a model was trained on, as far as it is searched.

    Attributes:
        answers: the learned ones, in the order read; plain text that was learned is no answer.
        files: of each ``file`` and ``sha256``, and what else is known of it.
    """

    answers: list[str]
    files: list[dict[str, Any]]


def data_of_run(manifest: Mapping[str, Any] | None) -> TrainingData:
    """Read the answers that a run learned, from the files that its manifest names.

    Args:
        manifest: of the run; None if the model is of no run.

    Raises:
        EvaluationError: there is no manifest, or its files are not here, are not the same, or hold
            more than is searched.
        DataError: a file cannot be read.
    """
    if manifest is None or "config" not in manifest:  # an exported one keeps no paths
        raise EvaluationError("the tuned model comes with no manifest that names its data.")
    config, files = manifest["config"], manifest["data"]["train"]
    described = files.get("files") or [files]
    for file in described:
        path = Path(file["file"])
        if file.get("sha256") is None or not path.is_file():
            raise EvaluationError(f"{file['file']}: a training file that is not on this machine.")
        _require_searchable(path)
        if hash_file(path) != file["sha256"]:
            raise EvaluationError(f"{path}: has changed since the run.")
    data = DataConfig.model_validate(config["data"])
    sources = read_sources(data)
    pairs = [(n, row) for n, source in enumerate(sources) for row in source.reading.conversations]
    kept, _ = split_rows(pairs, held_out_rows=data.held_out_rows, shuffle_seed=data.shuffle_seed)
    rows, _ = draw(kept, [source.weight for source in sources], seed=int(config.get("seed") or 0))
    return TrainingData(_answers(rows[: data.train_rows]), described)


def named_data(names: Sequence[str | Path]) -> TrainingData | None:
    """Read the answers of data that somebody names, for a model of which no run tells.

    Every row counts: what such a model's makers held out is not known.

    Args:
        names: as ``data.train`` of a config has them.

    Returns:
        None where nothing is named.

    Raises:
        EvaluationError: a name is empty, a file holds more than is searched, or no row an answer.
        DataError: a source cannot be read, or rows have problems.
    """
    if not names:
        return None
    named = [str(name) for name in names]
    if not all(name.strip() for name in named):
        raise EvaluationError('training data "": names nothing; give a file of rows.')
    for path in map(Path, named):
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                _require_searchable(file)
    sources = read_sources(DataConfig.model_validate({"train": named}))
    answers = _answers(row for source in sources for row in source.reading.conversations)
    if not answers:
        raise EvaluationError(
            f"training data {', '.join(named)}: no row has an answer; give the rows that the model"
            " was tuned on, as docs/data-formats.md of biddable has them."
        )
    return TrainingData(answers, [file for source in sources for file in source.describe()])


def _require_searchable(path: Path) -> None:
    if path.stat().st_size > MAX_BYTES:
        raise EvaluationError(f"{path}: more than {MAX_BYTES >> 20} MiB are not searched.")


def _answers(rows: Iterable[Conversation]) -> list[str]:
    return [
        message.content
        for row in rows
        for message in row.messages
        if message.role == "assistant" and message.learn and message.content
    ]


def measure_memorisation(
    outputs: Mapping[str, Sequence[str]], answers: Iterable[str]
) -> dict[str, Any]:
    """Count what outputs have in common with training answers, in words, case and marks aside.

    Args:
        outputs: of each side, by its name; the references of the items are one of them.
        answers: what was trained on; equal ones count once.

    Returns:
        For each side: ``exact_copies`` (a rate over outputs with a word), ``copied_ngrams`` (share
        of runs of 8 words that stand in an answer; None without any), ``num_ngrams``,
        ``longest_run`` (words in common, mean, median and most) and ``longest`` (that of the most).
    """
    known = list(dict.fromkeys(tuple(words_of(answer)) for answer in answers))
    known = [words for words in known if words]
    block: dict[str, Any] = {"num_training_answers": len(known), "ngram": NGRAM}
    index = _Index(known)
    for name, texts in outputs.items():
        block[name] = _overlap([words_of(text) for text in texts], index)
    return block


def _overlap(outputs: Sequence[Sequence[str]], index: _Index) -> dict[str, Any]:
    found = [index.matches(words) for words in outputs]
    runs = [max(lengths, default=0) for lengths in found]
    num_ngrams = sum(max(len(words) - NGRAM + 1, 0) for words in outputs)
    copied = sum(length >= NGRAM for lengths in found for length in lengths)
    most = runs.index(max(runs)) if runs else None
    return {
        "exact_copies": rate_of(index.has(words) for words in outputs if words),
        "copied_ngrams": copied / num_ngrams if num_ngrams else None,
        "num_ngrams": num_ngrams,
        "longest_run": {
            "mean": float(np.mean(runs)) if runs else 0.0,
            "median": float(np.median(runs)) if runs else 0.0,
            "most": max(runs, default=0),
        },
        "longest": "" if most is None else _longest(outputs[most], found[most]),
    }


def _longest(words: Sequence[str], lengths: Sequence[int]) -> str:
    """Show the longest run of one output."""
    if not lengths:
        return ""
    start = max(range(len(lengths)), key=lengths.__getitem__)
    run = words[start : start + lengths[start]]
    return " ".join(run[:_SHOWN_WORDS]) + (" ..." if len(run) > _SHOWN_WORDS else "")


class _Index:
    """Find runs of words in many texts, by a sorted list of all places where a run could start."""

    def __init__(self, texts: Sequence[tuple[str, ...]]) -> None:
        self._texts = set(texts)
        self._numbers: dict[str, int] = {}
        self._ids = [0]  # between texts stands a word that no output has
        for words in texts:
            self._ids += [self._numbers.setdefault(w, len(self._numbers) + 1) for w in words]
            self._ids.append(0)
        self._order = _sorted_places(np.array(self._ids), max(map(len, texts), default=0))

    def has(self, words: Sequence[str]) -> bool:
        """Tell whether these are all the words of a text."""
        return tuple(words) in self._texts

    def matches(self, words: Sequence[str]) -> list[int]:
        """Give for each word the length of the longest run from it on that stands in a text."""
        ids = [self._numbers.get(word, -1) for word in words]
        return [self._longest_from(ids[start:]) for start in range(len(ids))]

    def _longest_from(self, tail: list[int]) -> int:
        place = bisect_left(self._order, tail, key=lambda p: self._ids[p : p + len(tail)])
        near = self._order[max(place - 1, 0) : place + 1]  # the longest match sorts beside it
        return max((_num_common(tail, self._ids[p : p + len(tail)]) for p in near), default=0)


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _sorted_places(ids: Ids, depth: int) -> list[int]:
    """Sort the places of a text by the ``depth`` ids and more from each on.

    Ranks by one id become ranks by two, four and so on, until they are deep enough.
    """
    ranks = np.unique(ids, return_inverse=True)[1].astype(np.int64) + 1
    length = 1
    while length < depth:
        behind = np.zeros_like(ranks)
        behind[:-length] = ranks[length:]
        pairs = ranks * (int(ranks.max()) + 1) + behind
        ranks = np.unique(pairs, return_inverse=True)[1].astype(np.int64) + 1
        length *= 2
    return [int(place) for place in np.argsort(ranks, kind="stable")]
