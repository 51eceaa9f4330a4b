"""Run a causal LM in two parts: all below its head, then the head on some places only.

The head is as dear as many layers, and in tuning most of its logits teach nothing. Whatever a
model does to its logits (caps, scales, a bias) is done by its own code: the part below is replaced
by its result for one call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from biddable.models.replaced import replaced_output
from biddable.models.rope import own_angles


class Body:
    """The part of a model below its head.

    Attributes:
        model: a transformers causal LM.
        decoder: its part below the head; None where it has none of its own, and everything is run.
    """

    def __init__(self, model: nn.Module) -> None:
        """Find the parts."""
        self.model = model
        decoder = getattr(model, "base_model", model)
        self.decoder: nn.Module | None = None if decoder is model else decoder
        self._output: type[Any] = BaseModelOutputWithPast

    def states(self, **inputs: Any) -> Tensor:
        """Run the part below the head.

        Args:
            inputs: as the model takes them; ids of (B, T).

        Returns:
            (B * T, D); the logits themselves, (B * T, V), where the model is in one piece.
        """
        with own_angles(self.model):
            if self.decoder is None:
                logits: Tensor = self.model(**inputs, use_cache=False).logits
                return logits.flatten(0, 1)
            output = self.decoder(**inputs, use_cache=False)
        self._output = type(output)
        states: Tensor = output.last_hidden_state
        return states.flatten(0, 1)

    def logits(self, states: Tensor) -> Tensor:
        """Run the head.

        Args:
            states: (K, D), as `states` gave them.

        Returns:
            (K, V).
        """
        if self.decoder is None:
            return states
        ids = torch.zeros((1, len(states)), dtype=torch.long, device=states.device)
        output = self._output(last_hidden_state=states[None])
        with replaced_output(self.decoder, lambda *_, **__: output):
            logits: Tensor = self.model(input_ids=ids, use_cache=False).logits
        return logits.flatten(0, 1)  # [0] would copy the whole of its gradient
