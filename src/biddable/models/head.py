"""Run a causal LM in two parts: all below its head, then the head on some places only.

The head is as dear as many layers, and in tuning most of its logits teach nothing. Whatever a
model does to its logits (caps, scales, a bias) is done by its own code: the part below is replaced
by its result for one call. What that part is, is seen as the model calls it, and what the two give
is held against the model's own logits once, on a few ids.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from biddable.models.replaced import replaced_output
from biddable.models.rope import own_angles

_log = logging.getLogger(__name__)

# The name of the part below a model's head, and why it is run whole; one of the two is empty.
Parts = tuple[str, str]
_FOUND = "_biddable_parts"  # the attribute of a model that holds them, for its copies too
_PROBE_SHAPE = (2, 4)  # ids on which the parts are tried
_NO_PART = "what is below it is no model of its own"
# How far logits may be apart, in parts of the largest: what the order of additions may change.
LIMITS = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


class Body:
    """The part of a model below its head.

    Attributes:
        model: a transformers causal LM.
        decoder: its part below the head; None where the head cannot be run by itself, and
            everything is run.
        why_whole: why it cannot, in words for the user; empty if it can.
    """

    def __init__(self, model: nn.Module, *, name: str | None = None) -> None:
        """Find the parts, by a few passes over 8 ids when it is first asked of a model.

        Args:
            model: in any mode, it is left in it; whole, with its own layers and attention, when it
                is first asked. Of one without numbers the parts are found and not tried.
            name: of the part below the head, where that is known.
        """
        self.model = model
        self._output: type[Any] = BaseModelOutputWithPast
        self.why_whole = ""
        if name is None:
            name, self.why_whole = known_parts(model)
        self.decoder: nn.Module | None = model.get_submodule(name) if name else None

    @property
    def beside(self) -> list[nn.Module]:
        """The modules beside the decoder, the head among them: with it, all of the model."""
        over = [module for module in self.model.modules() if self.decoder in [*module.modules()]]
        return [
            child
            for module in over
            if module is not self.decoder
            for child in module.children()
            if child not in over
        ]

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


def known_parts(model: nn.Module) -> Parts:
    """Find a model's parts, or give what was found before."""
    if _FOUND not in model.__dict__:
        take_parts(model, _find(model))
    found: Parts = model.__dict__[_FOUND]
    return found


def take_parts(model: nn.Module, found: Parts) -> None:
    """Take what was found elsewhere, as by a process that has the model's numbers."""
    model.__dict__[_FOUND] = found


def _find(model: nn.Module) -> Parts:
    """Give the name of the part below a model's head, or why the model is to be run whole."""
    config: Any = model.config
    first = next(model.parameters())
    num_ids = config.get_text_config(decoder=True).vocab_size
    ids = torch.arange(_PROBE_SHAPE[0] * _PROBE_SHAPE[1], device=first.device) % num_ids
    ids = ids.view(_PROBE_SHAPE)
    with undisturbed(model), own_angles(model), _first_called(model) as called:
        if any(parameter.is_meta for parameter in model.parameters()):
            with suppress(Exception):  # whatever its own code does without numbers
                model(input_ids=ids, use_cache=False)
            return (called[0], "") if called else ("", "")
        logits = model(input_ids=ids, use_cache=False).logits.flatten(0, 1)
        why = _why_whole(Body(model, name=called[0]), ids, logits) if called else _NO_PART
    if not why:
        return called[0], ""
    why = f"{type(model).__name__} is run whole, its head at all places: {why}"
    _log.info("%s", why)
    return "", why


def _why_whole(body: Body, ids: Tensor, expected: Tensor) -> str:
    """Say why a model's parts do not stand for it; empty if they do.

    Args:
        body: the parts.
        ids: (B, T).
        expected: (B * T, V), the model's own logits of them.
    """
    try:
        states = body.states(input_ids=ids)
        places = torch.arange(len(states) - 1, -1, -2, device=states.device)
        found = body.logits(states[places])
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a model's own code does with what it does not expect
        return f"run by itself the head fails ({type(error).__name__})"
    off, largest = (float(some.abs().max()) for some in (found - expected[places], expected))
    limit = max(LIMITS.get(given.dtype, 1e-9) for given in (states, expected))
    if off <= limit * largest:
        return ""
    return f"run by itself the head gives other logits (by {off / (largest or 1):.1g})"


@contextmanager
def _first_called(model: nn.Module) -> Iterator[list[str]]:
    """Note the names of the models within a model in the order in which they are called."""
    called: list[str] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if module is not model and isinstance(module, PreTrainedModel):
                note = partial(_note, called, name)
                stack.callback(module.register_forward_pre_hook(note).remove)
        yield called


def _note(called: list[str], name: str, *_: Any) -> None:
    called.append(name)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a model without dropout and gradients, and leave its modes and all generators as is."""
    gpus = sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})
    modes = [(module, module.training) for module in model.modules()]
    model.train(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=gpus):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
