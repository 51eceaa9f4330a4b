"""Divide weights, gradients and moments among the processes of a run, by torch's FSDP2.

Each process holds some rows of every weight; a layer is gathered when a pass comes to it, and its
gradient is summed and divided again (docs/decisions/0014). So all processes make as many passes,
through the same layers in the same order: one with fewer rows runs some that weigh nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from biddable.config_training import MethodConfig, TrainingConfig
from biddable.data.batching import Step
from biddable.data.encoded import EncodedRows
from biddable.errors import ConfigError
from biddable.models.freezing import decoder_layers
from biddable.models.head import Body, known_parts, take_parts
from biddable.models.loss import accumulate_gradient
from biddable.models.quantized import is_small
from biddable.training.distributed import World
from biddable.training.layout import Layout
from biddable.training.method import makes_base_small
from biddable.training.micro_batches import FittingCuts
from biddable.training.nonfinite import NotFiniteError, require_finite
from biddable.training.shards import (
    divide_like,
    emptied,
    is_divided,
    is_in_parts,
    layer_by_layer,
    own_part,
    release_weights,
    replace_parameters,
)

_KEY = "training.sharding: full"


class Sharding:
    """What of a model is divided among processes; nothing, where each holds all of it.

    Attributes:
        world: the processes.
        is_on: whether anything is divided.
        note: what the user is to know of it; empty if nothing was asked for.
    """

    def __init__(self, model: nn.Module, world: World, *, note: str = "") -> None:
        """Divide nothing yet; see `choose`."""
        self.world, self.note = world, note
        self.is_on = False
        self._model = model

    @classmethod
    def choose(cls, model: nn.Module, settings: TrainingConfig, world: World) -> Sharding:
        """Divide a model if the settings ask for it and there are several processes.

        Args:
            model: as it will be trained; its parameters are replaced by divided ones. Rank 0's
                are handed out, from any device; those of the others may be without numbers.
            settings: of the run.
            world: opened.

        Raises:
            ConfigError: the model cannot be divided.
            TrainingError: one of the processes is lost.
        """
        if not is_asked_for(settings):
            return cls(model, world)
        if world.size == 1:
            return cls(model, world, note=f"{_KEY}: one process, so nothing is divided")
        with world.together():  # the others may have no numbers to find them by
            take_parts(model, world.from_main(known_parts(model)))
        require_divisible(model)
        made = cls(model, world)
        with world.together():
            made._divide()
        made.note = (
            f"{_KEY}: weights, gradients and moments are divided among {world.size} processes;"
            " starts that rows of a step share are run in each pass, no activations are kept on the"
            " disk, micro-batches are not halved when memory runs out, and the run stops between"
            " steps only"
        )
        return made

    def add_up(
        self,
        step: Step,
        examples: EncodedRows,
        *,
        layout: Layout,
        cuts: FittingCuts,
    ) -> float:
        """Run forward and backward over this process's share of a step.

        Args:
            step: of the plan.
            examples: all rows.
            layout: of a pass.
            cuts: the limit of micro-batches, if a run that is resumed brought one.

        Returns:
            This process's share of the loss.

        Raises:
            NotFiniteError: on all processes, if a loss of one is no number.
            TrainingError: a pass broke off on one of them.
        """
        groups = cuts.cut(self.world.share(step.micro_batches, examples.lengths))
        num_loss_tokens = int(examples.loss_tokens[step.rows].sum())
        num_passes = self.world.most(len(groups))
        loss, bad = 0.0, None
        with self.world.together(), warnings.catch_warnings():
            # the head is given a view of the states, which nobody changes in place
            warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
            for number in range(num_passes):
                rows = groups[number] if number < len(groups) else step.rows[:1]
                share = accumulate_gradient(
                    self._model,
                    layout.batch(examples, rows),
                    num_loss_tokens=num_loss_tokens if number < len(groups) else math.inf,
                    in_one_part=True,
                )
                bad = bad or _find_bad(share, rows)
                loss += share.item()
        release_weights(self._model)  # a head that does not train is still gathered
        with self.world.agreed():
            if bad is not None:
                raise bad
        return loss

    def undivided(self, parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """Give those parameters whose gradients are still each process's own after a step."""
        return [p for p in parameters if not is_divided(p)]

    def clip(self, parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
        """Cut the gradients of all parameters together to a norm.

        Args:
            parameters: those that train, their gradients summed over the processes.
            max_norm: at most.

        Returns:
            The norm before, a scalar.
        """
        if not self.is_on:
            return nn.utils.clip_grad_norm_(parameters, max_norm)
        gradients = [p.grad for p in parameters if p.grad is not None]
        own = [own_part(g) for g in gradients]
        parts = [part for part, g in zip(own, gradients, strict=True) if is_divided(g)]
        wholes = [part for part, g in zip(own, gradients, strict=True) if not is_divided(g)]
        own_norm, rest = (nn.utils.get_total_norm(some).item() for some in (parts, wholes))
        (square,) = self.world.sum(own_norm * own_norm)
        norm = torch.tensor(math.sqrt(square + rest * rest), dtype=torch.float64)
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0).item()  # as torch has it
        torch._foreach_mul_(own, factor)
        return norm

    def _divide(self) -> None:
        model = self._model
        body = Body(model)
        decoder, heads = body.decoder, body.beside
        assert decoder is not None
        assert isinstance(model, PreTrainedModel)
        above = {id(p) for head in heads for p in head.parameters()}
        # a head's weight that is the embeddings' own would have to be in two groups
        shared = {p for p in decoder.parameters() if id(p) in above}
        given = dict(model.named_parameters())
        device = self.world.device
        empty = {p: emptied(p, device if p in shared else "meta") for p in given.values()}
        replace_parameters(model, empty)
        shared = {empty.pop(p) for p in shared}
        del empty  # or all that it was made from would stay
        mesh = init_device_mesh(device.type, (self.world.size,))
        parts = [fully_shard(layer, mesh=mesh) for layer in decoder_layers(model)]
        for part in (decoder, *heads):
            if any(p not in shared for p in part.parameters()):
                parts.append(
                    fully_shard(part, mesh=mesh, reshard_after_forward=False, ignored_params=shared)
                )
        for made in parts:
            made.set_gradient_divide_factor(1.0)  # a step's loss is divided once, by its tokens
            made.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        self._hand_out(given)
        self.is_on = True

    @torch.no_grad()
    def _hand_out(self, given: dict[str, nn.Parameter]) -> None:
        """Give each process rank 0's buffers, and its part of each weight, one after the other."""
        device = self.world.device
        self._model._apply(
            lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device)
        )
        for buffer in self._model.buffers():
            self.world.copy_from_main(buffer)
        for name, parameter in self._model.named_parameters():
            own = given.pop(name)
            sent = own.detach().to(device).contiguous() if self.world.is_main else None
            if sent is None:
                sent = torch.empty(own.shape, dtype=own.dtype, device=device)
            self.world.copy_from_main(sent)
            own_part(parameter).copy_(own_part(divide_like(sent, parameter)))


@contextmanager
def running(model: nn.Module, world: World) -> Iterator[None]:
    """Let a model be run without gradients; one that is divided by all processes in lockstep.

    Args:
        model: divided or not; see `layer_by_layer`.
        world: the processes.

    Raises:
        TrainingError: on all processes, if a divided model could not be run on one of them.
    """
    if not is_in_parts(model):
        yield
        return
    with world.together(), layer_by_layer(model):
        yield


def is_asked_for(settings: TrainingConfig) -> bool:
    """Say whether several processes are to divide the model."""
    return settings.sharding == "full"


def divides(settings: TrainingConfig, world: World) -> bool:
    """Say whether a run's model is divided."""
    return is_asked_for(settings) and world.size > 1


def is_divisible(model: nn.Module) -> bool:
    """Say whether processes can divide a model."""
    return _has_parts(model) and not any(is_small(p) for p in model.parameters())


def require_divisible(model: nn.Module) -> None:
    """Refuse a model that processes cannot divide.

    Raises:
        ConfigError: it is one.
    """
    if not is_divisible(model):
        raise _indivisible(has_parts=_has_parts(model))


def require_plain_base(
    method: MethodConfig, *, settings: TrainingConfig, num_processes: int
) -> None:
    """Refuse to divide a base that is going to be made small, before it is loaded.

    Raises:
        ConfigError: the settings ask for both.
    """
    if is_asked_for(settings) and num_processes > 1 and makes_base_small(method):
        raise _indivisible(has_parts=True)


def _indivisible(*, has_parts: bool) -> ConfigError:
    what = "weights in few bits" if has_parts else "a model in one piece"
    return ConfigError(
        f"{_KEY}: found {what}, which cannot be divided; expected a transformers model with plain"
        " weights. Remove training.sharding" + (", or method.quantize_base." if has_parts else ".")
    )


def _has_parts(model: nn.Module) -> bool:
    return Body(model).decoder is not None


def _find_bad(share: Tensor, rows: Sequence[int]) -> NotFiniteError | None:
    try:
        require_finite(share, "loss", rows)
    except NotFiniteError as found:
        return found  # raised after the last pass, for the others are waiting in it
    return None
