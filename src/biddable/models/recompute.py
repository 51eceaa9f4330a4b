"""Trade time for memory: keep no activations of layers, compute them again for the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from biddable.errors import ConfigError


@contextmanager
def recomputed_activations(model: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """Let a model's layers keep only their inputs while the block runs (gradient checkpointing).

    It is transformers' own, without re-entry: the gradient is the same to the last bit, dropout
    too, and what lies below the lowest trained layer still gets none.

    Args:
        model: a transformers causal LM in training mode.
        enabled: False does nothing.

    Raises:
        ConfigError: the model's code has no place for it.
    """
    if not enabled:
        yield
        return
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"training.gradient_checkpointing: {type(model).__name__} cannot do it; remove it, and"
            " lower training.micro_batch_size if memory is short."
        )
    # transformers renamed both in 5.23
    name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
    # only re-entry needs a gradient at the embeddings, and frozen layers would pay for it
    getattr(model, "disable_input_require_grads", lambda: None)()
    try:
        yield
    finally:
        getattr(model, f"{name}_checkpointing_disable")()
