"""Say how figures were measured: which weights, items and versions, when, and by which command.

A reader who doubts a comparison can check the hashes and run it again. Nothing here changes what is
measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biddable.evaluation.answer_cache import hash_weights
from biddable.evaluation.asking import AnswerSource
from biddable.evaluation.sample import Sample
from biddable.evaluation.sources import is_url
from biddable.manifest import describe_device, git_commit, hash_file, hash_text, installed_versions
from biddable.models.loading import LoadedModel

ANSWER_TOKENS = "answer_tokens_sha256"
_WEIGHTS = ("*.safetensors", "*.gguf", "*.bin")
_BOOTSTRAP_SEED = 0  # that of every interval drawn in this room


def identity_of(source: AnswerSource, samples: Iterable[Sample] = ()) -> dict[str, Any]:
    """Tell which model answered, so that another can be told from it.

    Args:
        source: what answers.
        samples: the items that it was asked.

    Returns:
        ``sha256`` of its weights as they are in memory (an adapter merged), or of its file; None
        for a server, whose weights nobody here sees. ``files`` has the hash of each weight file,
        as ``sha256sum`` prints it. ``answer_tokens_sha256`` is of the ids that its tokenizer makes
        of the items' reference answers, by which tokenizers are told apart; None without any.
    """
    known: dict[str, Any] = {
        "name": source.name,
        "template": source.template,
        "sha256": None,
        "sha256_of": None,
        "files": {},
        ANSWER_TOKENS: None,
    }
    loaded = getattr(source, "loaded", None)
    place = Path("nowhere" if is_url(source.source) else source.source or "nowhere")
    if isinstance(loaded, LoadedModel):
        first = next(loaded.model.parameters())
        known |= {
            "sha256": hash_weights(loaded.model, facts={}),
            "sha256_of": "weights in memory",
            "num_parameters": sum(p.numel() for p in loaded.model.parameters()),
            "dtype": str(first.dtype).removeprefix("torch."),
            "device": first.device.type,
            ANSWER_TOKENS: _hash_answer_tokens(loaded, samples),
        }
    elif place.is_file():
        known |= {"sha256": hash_file(place), "sha256_of": f"file {place.name}"}
    if place.is_dir():
        found = sorted({path for pattern in _WEIGHTS for path in place.glob(pattern)})
        known["files"] = {path.name: hash_file(path) for path in found}
    return known


def _hash_answer_tokens(loaded: LoadedModel, samples: Iterable[Sample]) -> str | None:
    texts = list(dict.fromkeys(sample.response for sample in samples if sample.response))
    if not texts:
        return None
    ids = loaded.tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True, verbose=False
    )["input_ids"]
    return hash_text(json.dumps(ids))


def how_measured(
    samples: Iterable[Sample],
    models: Mapping[str, Mapping[str, Any] | None],
    *,
    command: str | None = None,
) -> dict[str, Any]:
    """Put together the block ``measured`` of comparison.json and scores.json.

    Args:
        samples: the items that were asked.
        models: of each model its ``identity_of``; None where that is not known.
        command: what was typed; None for a call from Python.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "items_sha256": hash_items(samples),
        "models": {name: dict(known) for name, known in models.items() if known},
        "seeds": {"bootstrap": _BOOTSTRAP_SEED},
        "versions": installed_versions(),
        "git_commit": git_commit(),
        "device": describe_device(None),
    }


def hash_items(samples: Iterable[Sample]) -> str:
    """Hash items by all that decides an answer or its verdict, wherever their file lies.

    Example:
        >>> hash_items([])[:8]
        '4f53cda1'
    """
    rows = [{**asdict(sample), "source": ""} for sample in samples]
    return hash_text(json.dumps(rows, sort_keys=True, ensure_ascii=False, default=str))
