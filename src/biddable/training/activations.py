"""Keep what frozen lower layers give for each token, so that they are run once in a training.

The states lie in a mapped file, one for each node of the rows' common trees. It is filled before
the first step and in an order of its own, so that a resumed run has the same bits in it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from biddable.config_training import TrainingConfig
from biddable.data.batching import MICRO_BATCH_TOKENS, Batch, count_unique_tokens
from biddable.data.cache import cache_folder
from biddable.data.encoded import EncodedRows
from biddable.data.grouping import by_kind, group_by_starts
from biddable.data.trees import TreeBatch, build_tree, sort_rows, walk
from biddable.models.attention import tree_attention, why_not_exact
from biddable.models.freezing import lowest_trained
from biddable.models.head import Body
from biddable.models.lower_layers import num_constant_layers, quiet_layers, starting_from, up_to
from biddable.models.rope import AngleLimits
from biddable.training.layout import training_noise


class Activations:
    """Hold the states at the cut between the layers that stay as they are and those that train.

    Attributes:
        num_layers: how many layers are skipped.
        num_nodes: of the trees whose states are kept.
        num_bytes: how large the file is.
    """

    def __init__(self, model: PreTrainedModel, rows: EncodedRows, *, num_layers: int) -> None:
        """Find what is to be kept; nothing is run or written yet.

        Args:
            model: as it is going to be trained.
            rows: all that is trained on.
            num_layers: how many layers give always the same; at least one.
        """
        self.num_layers = num_layers
        self._model, self._rows = model, rows
        ordered = sort_rows(rows, range(len(rows)))
        kinds = AngleLimits.of(model).kinds(rows.lengths.tolist())
        self._groups = [
            group
            for part in by_kind(ordered, kinds)
            for group in group_by_starts(rows, part, max_tokens=MICRO_BATCH_TOKENS)
        ]
        self._width = model.config.get_text_config(decoder=True).hidden_size
        self.num_nodes = count_unique_tokens(rows, self._groups)
        self.num_bytes = self.num_nodes * self._width * model.dtype.itemsize
        self._places = np.zeros(len(rows.input_ids), np.int64)  # where each flat id's state is
        self._states = torch.zeros(0)

    def fill(self, folder: Path) -> None:
        """Run the lower layers over all rows and keep what they give.

        Args:
            folder: where the file is made; its name is removed at once, and the file is gone with
                this object or the process.

        Raises:
            OSError: it cannot be made there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="activations-") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is to show now
                os.posix_fallocate(file.fileno(), 0, self.num_bytes)
            size = self.num_nodes * self._width
            flat = torch.from_file(file.name, shared=True, size=size, dtype=self._model.dtype)
        self._states = flat.view(self.num_nodes, self._width)
        was_training = self._model.training
        self._model.train(False)
        try:
            with torch.no_grad(), up_to(self._model, self.num_layers) as seen:
                self._run(seen)
        finally:
            self._model.train(was_training)

    def applied(
        self, batch: Batch | TreeBatch, numbers: Sequence[int]
    ) -> AbstractContextManager[None]:
        """Let the model start at the cut.

        Args:
            batch: what it is going to be run on.
            numbers: of the batch's rows; in the order of a padded batch.
        """
        if isinstance(batch, TreeBatch):
            origins = batch.origins[None].numpy()  # (1, N)
        else:
            within = np.arange(batch.input_ids.shape[1])
            origins = self._rows.offsets[list(numbers)][:, None] + within  # (B, T)
            origins = origins.clip(max=len(self._places) - 1)  # of padding: any
        states = self._states[torch.from_numpy(self._places[origins])]
        return starting_from(self._model, states.to(self._model.device), self.num_layers)

    def _run(self, seen: list[Tensor]) -> None:
        body, offset = Body(self._model), 0
        for group in self._groups:
            tree = build_tree(self._rows, group).to(self._model.device)
            with tree_attention(self._model, tree):
                body.states(**tree.inputs())
            found = seen.pop()[0]  # (N, D)
            self._states[offset : offset + len(found)] = found.cpu()
            ordered = sort_rows(self._rows, group)
            for number, branch in zip(ordered, walk(self._rows, ordered), strict=True):
                start, end = self._rows.offsets[number : number + 2]
                self._places[start:end] = branch.path + offset
            offset += len(found)


def open_activations(
    model: nn.Module, rows: EncodedRows, *, num_epochs: int, limit_gb: float
) -> tuple[Activations | None, str]:
    """Keep the states of frozen layers if that saves anything and has room.

    Args:
        model: as it is going to be trained.
        rows: all that is trained on.
        num_epochs: passes over them.
        limit_gb: how large the file may be, in units of 10**9 bytes; 0 for none.

    Returns:
        The states, or None; and what was decided, in words, empty where there was nothing to.
    """
    activations, decided = find_activations(model, rows, num_epochs=num_epochs, limit_gb=limit_gb)
    if activations is None:
        return None, decided
    try:
        activations.fill(_folder())
    except OSError as error:
        what = f"the states below layer {activations.num_layers + 1}"
        return None, f"{what} cannot be kept in {_folder()} ({error.strerror}): run each epoch"
    return activations, decided


def find_activations(
    model: nn.Module, rows: EncodedRows, *, num_epochs: int, limit_gb: float
) -> tuple[Activations | None, str]:
    """Decide as `open_activations` does, and fill nothing yet; see there."""
    if num_epochs == 1 or not limit_gb or why_not_exact(model):
        return None, ""
    assert isinstance(model, PreTrainedModel)
    num_layers, noise = num_constant_layers(model), _noise_at_the_cut(model)
    if not num_layers:
        return None, f"the states of frozen layers are not kept: {noise}" if noise else ""
    activations = Activations(model, rows, num_layers=num_layers)
    size, what = activations.num_bytes / 1e9, f"the states below layer {num_layers + 1}"
    with suppress(OSError):
        limit_gb = min(limit_gb, shutil.disk_usage(_existing(_folder())).free / 2e9)
    if size > limit_gb:
        return None, f"{what} are {size:.2g} GB, over the {limit_gb:.2g} GB allowed: run each epoch"
    no_more = f"; no more of them: {noise}" if noise else ""
    return activations, f"{what} are run once and kept ({size:.2g} GB on disk){no_more}"


def planned_activations(
    model: nn.Module, rows: EncodedRows, *, settings: TrainingConfig, num_epochs: int
) -> tuple[Activations | None, str]:
    """Say which states `train` would keep, and why; none are computed."""
    limit_gb = cache_limit_gb(settings)
    with training_noise(model, settings):
        return find_activations(model, rows, num_epochs=num_epochs, limit_gb=limit_gb)


def cache_limit_gb(settings: TrainingConfig) -> float:
    """Say how large the file may be, in units of 10**9 bytes; 0 for none."""
    return settings.activation_cache_gb


def _noise_at_the_cut(model: PreTrainedModel) -> str:
    """Say what is drawn anew in each pass below layers that train; empty if nothing is."""
    count, noise = quiet_layers(model)
    return f"{noise} is drawn anew in each pass" if count < lowest_trained(model) else ""


def _folder() -> Path:
    return cache_folder().with_name("activations")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
