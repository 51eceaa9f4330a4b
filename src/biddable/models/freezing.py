"""Freeze parts of a model, so that only the others are trained: lower layers, or parts by name."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from biddable.errors import ConfigError, nearest

_log = logging.getLogger(__name__)


def freeze_layers(model: PreTrainedModel, num_frozen_layers: int) -> int:
    """Freeze the embeddings and the first decoder layers of a model, in place.

    A head that shares its weight with the embeddings stays frozen with them; that is logged.

    Args:
        model: a transformers causal LM.
        num_frozen_layers: how many layers, counted from the embeddings; with 0 only those freeze.

    Returns:
        The number of parameters that are still trained.

    Raises:
        ConfigError: the number is below 0 or leaves no layer to train.
    """
    layers = decoder_layers(model)
    if not 0 <= num_frozen_layers < len(layers):
        raise ConfigError(
            f"method.num_frozen_layers: found {num_frozen_layers}; the model has {len(layers)} "
            f"layers, so 0 to {len(layers) - 1} can be frozen."
        )
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    for module in (*embeddings, *layers[:num_frozen_layers]):  # those of positions, too
        module.requires_grad_(False)
    if has_tied_head(model):
        _log.info("the head shares its weight with the embeddings: both stay as they are")
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def freeze_named(model: PreTrainedModel, patterns: Sequence[str]) -> int:
    """Freeze the parameters of a model that have certain names, in place.

    Args:
        model: a transformers causal LM.
        patterns: each the name of a parameter or of a module that holds some, the end of such a
            name (``q_proj``, ``layers.0``), or either with ``*``, ``?`` and ``[..]`` as in a shell.

    Returns:
        The number of parameters that are still trained.

    Raises:
        ConfigError: a pattern fits nothing, or nothing is left to train.
    """
    # a parameter that is shared has several names, and each of them may be meant
    named = list(model.named_parameters(remove_duplicate=False))
    for pattern in patterns:
        meant = [p for name, p in named if is_meant(name, pattern)]
        if not meant:
            known = sorted({n for name, _ in named for n in _names_of(name)})
            ends = sorted({name.rpartition(".")[2] for name in known})
            hint = nearest(pattern, known) or nearest(pattern, ends)
            raise ConfigError(
                f'method.freeze: nothing in the model is called "{pattern}"; expected names like '
                f"{', '.join(_names_of(named[-1][0]))}, an end of one, or a pattern with *.{hint}"
            )
        for parameter in meant:
            parameter.requires_grad_(False)
    num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not num_trained:
        raise ConfigError(
            f"method.freeze: {', '.join(patterns)} freeze all of the model; leave something."
        )
    if has_tied_head(model) and not model.get_input_embeddings().weight.requires_grad:
        _log.info("the head shares its weight with the embeddings: both stay as they are")
    return num_trained


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of a causal LM's decoder layers, the lowest first.

    Raises:
        ConfigError: the model keeps its layers in no list of the configured length.
    """
    num_layers = num_decoder_layers(model.config)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    raise ConfigError(f"method: {type(model).__name__} has no list of layers; use method full.")


def num_decoder_layers(config: PretrainedConfig) -> int:
    """Give how many layers a causal LM has; of a model with an encoder, its decoder's.

    Example:
        >>> from transformers import BartConfig
        >>> num_decoder_layers(BartConfig(encoder_layers=12, decoder_layers=3))
        3
    """
    text = config.get_text_config(decoder=True)
    # a decoder by itself keeps the whole config, in which num_hidden_layers is the encoder's
    own = getattr(text, "decoder_layers", None) if text is config else None
    return int(own or text.num_hidden_layers)


def lowest_trained(model: PreTrainedModel) -> int:
    """Give the number of the lowest layer that a gradient goes through."""
    embeddings = model.get_input_embeddings()
    if embeddings is not None and any(p.requires_grad for p in embeddings.parameters()):
        return 0
    layers = decoder_layers(model)
    trained = [
        n for n, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())
    ]
    return trained[0] if trained else len(layers)


def has_tied_head(model: PreTrainedModel) -> bool:
    """Say whether the head's weight is the embeddings' own."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def is_meant(name: str, pattern: str) -> bool:
    """Say whether a pattern means a parameter or module: fits its name, or one around it.

    Example:
        >>> is_meant("model.layers.1.q_proj", "layers.1"), is_meant("layers.13.q_proj", "layers.1")
        (True, False)
    """
    return any(_fits(around, pattern) for around in _names_of(name))


def _names_of(parameter: str) -> Iterator[str]:
    """Give a parameter's name and those of the modules around it.

    Example:
        >>> list(_names_of("model.norm.weight"))
        ['model', 'model.norm', 'model.norm.weight']
    """
    parts = parameter.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")
