"""Size the ways to spread a model over GPUs, by the formulas in docs/plan.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PreTrainedModel

from biddable.config_training import TrainingConfig
from biddable.models.quantized import is_small, plain_parts
from biddable.training.costs import OPTIMIZER_STATES, Memory, States, recomputed
from biddable.training.division import Division
from biddable.training.shadow import Shadow
from biddable.training.sharding import is_asked_for

Precision = Literal["float32", "mixed", "bfloat16"]

_PROBES = (256, 512)  # tokens


@dataclass(frozen=True, slots=True)
class Load:
    """Say what each GPU would be given.

    Attributes:
        micro_tokens: tokens of a forward pass on one GPU.
        precision: ``float32``; ``mixed``, weights in float32 and passes in bfloat16; or
            ``bfloat16`` for all of it, the optimizer too. By default what `train` has on a GPU.
        recompute: layers are computed again for the gradient.
    """

    micro_tokens: int = 4096
    precision: Precision = "mixed"
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """Hold what one way to spread a model takes on each GPU.

    Attributes:
        name: ``one GPU``, ``DDP`` or ``FSDP2``.
        memory: at its peak.
        host: bytes of the CPU's memory that a base takes at the start: rank 0's, which hands the
            weights out, or each process's, where frozen layers are made small one after the other;
            else 0, and it is loaded onto the GPU.
        is_asked_for: by the config's training.sharding; True for all ways where there is none.
        fits: within the usable part of the GPU.
        largest_micro_tokens: tokens of a forward pass that still fit; 0 if none do.
    """

    name: str
    memory: Memory
    host: int
    is_asked_for: bool
    fits: bool
    largest_micro_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Hold a model, and what a pass keeps in it, which takes long enough to be counted once.

    Attributes:
        model: without numbers, what trains settled on it.
        kept: bytes that layers keep for the gradient, of passes of 256 and of 512 tokens.
    """

    model: PreTrainedModel
    kept: tuple[int, ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Counted:
        """Count a model."""
        shadow = Shadow(model)
        return cls(model, tuple(shadow.kept(1, tokens) for tokens in _PROBES))


@dataclass(frozen=True, slots=True)
class Spreading:
    """Size each way to spread a model over GPUs.

    Attributes:
        load: of each GPU.
        usable: bytes of each.
        settings: that ask for one way, if any do.
    """

    load: Load
    usable: int
    settings: TrainingConfig | None

    def over(self, counted: Counted, num_gpus: int) -> list[Spread]:
        """Size the ways for so many GPUs.

        Args:
            counted: the model.
            num_gpus: 1 or more.
        """
        parts = _Parts(counted, self.load)
        ways: dict[str, Callable[[int], Memory]] = {"one GPU": parts.alone}
        asked = {"one GPU"}
        if num_gpus > 1:
            ways = {"DDP": parts.copied}
            if not parts.small:  # which are not divided: training/sharding.py
                ways["FSDP2"] = lambda tokens: parts.sharded(tokens, num_gpus)
            is_whole = self.settings is not None and not is_asked_for(self.settings)
            asked = set(ways) if self.settings is None else {"DDP" if is_whole else "FSDP2"}
        found = []
        for name, size in ways.items():
            memory = size(self.load.micro_tokens)
            host = parts.loaded if name == "FSDP2" or parts.small else 0
            fits, largest = memory.peak <= self.usable, _largest(size, self.usable)
            found.append(Spread(name, memory, host, name in asked, fits, largest))
        return found


class _Parts:
    """The parts that formulas are made of, in bytes; see docs/plan.md."""

    def __init__(self, counted: Counted, load: Load) -> None:
        model = counted.model
        # passes are in `passing` bytes a number, what the optimizer keeps in `kept`
        kept = 2 if load.precision == "bfloat16" else 4
        passing = model.dtype.itemsize
        self.is_mixed = kept != passing
        in_few_bits = [p for p in model.parameters() if is_small(p)]
        self.small = sum(part.nbytes for weight in in_few_bits for part in plain_parts(weight))
        # one of them at a time is made wide for its product
        self.widest = max((weight.numel() for weight in in_few_bits), default=0)
        numbers = [(p.numel(), p.requires_grad) for p in model.parameters() if not is_small(p)]
        trained = sum(size for size, trains in numbers if trains)
        self.weights = self.small + kept * (self.widest + sum(size for size, _ in numbers))
        self.loaded = 4 * sum(p.numel() for p in model.parameters())  # a base is loaded in float32
        self.gradients = kept * trained
        self.optimizer = OPTIMIZER_STATES * kept * trained
        self.division = Division.of(model)
        cast = sum(size for size, _ in numbers)
        if load.recompute:  # what autocast makes of a layer's weights goes with the layer
            cast = min(cast, self.division.gathered)
        self.passing_weights = passing * (self.widest + cast)
        self.kept_size, self.passing_size = kept, passing
        self.recomputes = load.recompute
        self.states = States.of(model)
        small, large = (
            recomputed(kept, tokens, model=model) if load.recompute else kept
            for kept, tokens in zip(counted.kept, _PROBES, strict=True)
        )
        self.per_token = (large - small) / (_PROBES[1] - _PROBES[0])

    def alone(self, tokens: int) -> Memory:
        """Hold everything on one GPU."""
        return Memory(
            program=0,
            weights=self.weights + (self.passing_weights if self.is_mixed else 0),
            gradients=self.gradients,
            optimizer=self.optimizer,
            activations=round(self.per_token * tokens),
            logits=self.states.logits(tokens),
        )

    def copied(self, tokens: int) -> Memory:
        """Hold everything on each GPU, and the buckets in which gradients travel."""
        alone = self.alone(tokens)
        return Memory(
            program=0,
            weights=alone.weights,
            gradients=2 * self.gradients,
            optimizer=self.optimizer,
            activations=alone.activations,
            logits=alone.logits,
        )

    def sharded(self, tokens: int, num_gpus: int) -> Memory:
        """Hold a share of everything, and what is gathered for a layer."""
        parts, kept, passing = self.division, self.kept_size, self.passing_size
        weights, trained = kept * parts.kept(num_gpus), kept * parts.kept_trained(num_gpus)
        # what autocast makes of a weight is kept for the gradient, and divided among nobody
        cast = parts.gathered if self.recomputes else parts.weights
        return Memory(
            program=0,
            weights=weights + kept * parts.gathered + (passing * cast if self.is_mixed else 0),
            gradients=trained + kept * parts.gathered_trained,
            optimizer=OPTIMIZER_STATES * trained,
            activations=round(self.per_token * tokens),
            logits=replace(self.states, is_divided=True).logits(tokens),
        )


def _largest(size: Callable[[int], Memory], usable: int) -> int:
    """Search the most tokens that fit."""
    low, high = 0, 1
    while size(high).peak <= usable and high < 2**24:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle).peak <= usable else (low, middle)
    return low
