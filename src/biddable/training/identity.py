"""Tell whether two runs are the same run: by their config, their rows as ids, and their base."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biddable.config import SECTIONS, RunConfig
from biddable.data.encoded import EncodedRows
from biddable.manifest import hash_text
from biddable.models.quantized import plain_parts

# What may change on the way, for no number that is already there depends on it.
_FREE = (
    "output",
    "checkpoints",
    "training.on_nonfinite",
    "training.sharding",
    "data.cache",
    "watch.report_to",
)
_WORDS = {
    "template": "the template is another one",
    "train rows": "the rows of data.train, as they are encoded, are others",
    "held_out rows": "the held-out rows, as they are encoded, are others",
    "base": "the weights of the model before training are others",
}


def identify_config(config: RunConfig) -> dict[str, str]:
    """Give what a config settles of a run's numbers, key by key.

    Example:
        >>> from biddable.config import parse_config
        >>> config = parse_config({"model": "mimic", "data": "a.json", "output": "runs/a"})
        >>> identify_config(config)["config: training.epochs"]
        '3'
    """
    found = {}
    for name, value in config.model_dump(mode="json").items():
        section = value if name in SECTIONS else {"": value}
        for leaf, leaf_value in section.items():
            key = f"{name}.{leaf}" if leaf else name
            if key not in _FREE and name not in _FREE:
                is_whole = isinstance(leaf_value, float) and leaf_value.is_integer()
                plain = int(leaf_value) if is_whole else leaf_value  # 2.0 is 2
                found[f"config: {key}"] = json.dumps(plain, sort_keys=True)
    return found


def identify_run(
    config: RunConfig,
    model: nn.Module | None,
    *,
    template_hash: str,
    rows: Mapping[str, EncodedRows],
) -> dict[str, str]:
    """Give all that a run's numbers depend on, as short texts; bulk as its hash.

    Args:
        config: the run.
        model: before its first step, with what trains settled on it; None: another process has
            it, and tells what it is.
        template_hash: of the chat template.
        rows: the encoded rows of each part.
    """
    found = {**identify_config(config), "template": template_hash}
    for part, encoded in rows.items():
        arrays = (encoded.offsets, encoded.input_ids, encoded.loss_mask)
        found[f"{part} rows"] = hash_text("".join(_hash_all(arrays)))
        encoded.forget()
    return found if model is None else {**found, "base": hash_model(model)}


def hash_model(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers, their names and shapes included."""
    named = [*model.named_parameters(), *model.named_buffers()]
    names = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in named]
    parts = [plain_parts(tensor) for _, tensor in named]
    hashes = iter(_hash_all(part for tensors in parts for part in tensors))
    lines = [
        " ".join([name, *islice(hashes, len(p))]) for name, p in zip(names, parts, strict=True)
    ]
    return hash_text("\n".join(lines))


def find_differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say in words what of a run is not as it was; what is not known now is passed over.

    Example:
        >>> find_differences({"config: seed": "1", "base": "a"}, {"config: seed": "2", "base": "a"})
        ['seed was 1, and is 2']
    """
    found = []
    for key, value in now.items():
        before = then.get(key)
        if before == value:
            continue
        name = key.removeprefix("config: ")
        found.append(
            _WORDS.get(key)
            or f"{name} was {'not there' if before is None else before}, and is {value}"
        )
    return found


def describe_machine(model: nn.Module) -> dict[str, str]:
    """Name what bits depend on beside a run's own settings."""
    device = next(model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "torch": torch.__version__,
        "device": f"{device.type} {name}",
        "threads": str(torch.get_num_threads()),
    }


def _hash_all(arrays: Iterable[Tensor | NDArray[Any]]) -> list[str]:
    """Hash arrays on all cores: hashing lets other threads run."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_hash, arrays))


def _hash(array: Tensor | NDArray[Any]) -> str:
    if isinstance(array, Tensor):
        array = array.detach().cpu().contiguous()
        # a single number may have any stride, which view refuses
        array = array.as_strided((array.numel(),), (1,)).view(torch.uint8).numpy()
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
