"""Refuse what cannot be trained on, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.errors import ConfigError, DataError, TrainingError


def require_learnable(model: nn.Module, rows: EncodedRows) -> None:
    """Refuse rows, or a model, of which nothing can be learned.

    Raises:
        DataError: there are no rows, or one has nothing to learn.
        TrainingError: every parameter is frozen.
    """
    if not rows:
        raise DataError("there are no rows to train on.")
    empty = (rows.loss_tokens == 0).nonzero()[0]
    if len(empty):
        name = rows.sources[empty[0]] or f"row {empty[0] + 1}"
        raise DataError(f"{name}: nothing in it is learned; it needs an answer.")
    if not any(p.requires_grad for p in model.parameters()):
        raise TrainingError("every parameter of the model is frozen; there is nothing to train.")


def require_held_out(settings: TrainingConfig, held_out: Sequence[Example]) -> None:
    """Refuse settings that measure on held-out rows where there are none.

    Raises:
        ConfigError: they do.
    """
    try:
        if not held_out:
            settings.refuse_without_held_out()
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
