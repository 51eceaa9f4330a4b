"""Refuse what cannot be trained on, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.errors import ConfigError, DataError, TrainingError

_LONGEST = "max_position_embeddings"


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


def require_room(model: nn.Module, **parts: EncodedRows) -> None:
    """Refuse rows that are longer than the model's table of positions.

    Args:
        model: that runs them.
        parts: the rows that it learns, and those that it is measured on, by their name.

    Raises:
        DataError: one is.
    """
    places = num_places(model)
    for part, rows in parts.items():
        if places is None or not (over := rows.lengths > places).any():
            continue
        n = int(over.argmax())
        raise DataError(
            f"{rows.sources[n] or f'row {n + 1} of {part}'}: {rows.lengths[n]:,} tokens; the"
            f" model has places for {places:,}. Set max_length to that, or shorten the row."
        )


def require_places(model: nn.Module, max_seq_len: int | None) -> None:
    """Refuse a limit above the places of a model that learned one vector for each.

    Raises:
        ConfigError: rows up to the limit could not be run.
    """
    places = num_places(model)
    if max_seq_len is not None and places is not None and max_seq_len > places:
        raise ConfigError(
            f"data.max_seq_len: found {max_seq_len:,}; the model has places for {places:,} tokens."
            " Lower it, or remove it, which means as many as the model can read."
        )


def num_places(model: nn.Module) -> int | None:
    """Give how many tokens a model's table of positions has rows for; None if it has no table."""
    config = getattr(model, "config", None)
    longest = getattr(config and config.get_text_config(decoder=True), _LONGEST, None)
    if longest is None:
        return None
    words = model.get_input_embeddings()  # type: ignore[operator]
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m is not words]
    # GPT-J keeps a buffer; OPT's table has two rows that no token reads
    sizes = [len(table) for table in (*tables, *model.buffers()) if table.dim() == 2]
    return longest if any(longest <= size <= longest + 2 for size in sizes) else None


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
