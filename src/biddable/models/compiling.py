"""Let torch compile a model's layers for a GPU, which small passes keep waiting for its work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from biddable.models.freezing import decoder_layers
from biddable.models.replaced import replaced_output


class CompiledLayers:
    """The decoder layers of a model, compiled; all of one shape share what was made of the first.

    Attributes:
        is_on: whether there are any.
    """

    def __init__(self, model: nn.Module, *, is_asked_for: bool) -> None:
        """Prepare them; they are compiled when they are first run.

        Args:
            model: a transformers causal LM; one on a CPU is left as it is.
            is_asked_for: else none is compiled.
        """
        self._compiled: list[tuple[nn.Module, Callable[..., Any]]] = []
        if is_asked_for and isinstance(model, PreTrainedModel) and model.device.type == "cuda":
            self._compiled = [
                (layer, torch.compile(layer.forward, dynamic=True))
                for layer in decoder_layers(model)
            ]
        self.is_on = bool(self._compiled)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run them instead of the model's own, as long as the context lasts."""
        with ExitStack() as stack:
            for layer, compiled in self._compiled:
                stack.enter_context(replaced_output(layer, compiled))
            yield

    def try_out(self, run: Callable[[], Any]) -> str:
        """Run something with them, and go on without them if that fails.

        Args:
            run: a forward and a backward pass.

        Returns:
            Why they are left as they are; empty if they work, and if memory ran out.
        """
        try:
            with self.applied():
                run()
        except torch.OutOfMemoryError:  # says nothing of the compiler
            return ""
        except Exception as error:  # whatever the compiler does with a model's own code
            self._compiled, self.is_on = [], False
            reason = str(error).strip().splitlines()
            return f"{type(error).__name__}: {reason[0] if reason else ''}"
        return ""
