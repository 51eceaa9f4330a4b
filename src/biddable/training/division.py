"""Say what one of several processes holds of a model that they divide among them.

Pure counting, of what training/sharding.py does. The formulas stand in docs/plan.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from biddable.models.freezing import decoder_layers


@dataclass(frozen=True, slots=True)
class Division:
    """Count the parameters of a model by where they lie; in numbers, or in bytes.

    Attributes:
        weights: that are divided.
        trained: those of them that train.
        whole: that each process holds all of: what head and embeddings share.
        whole_trained: those of them that train.
        gathered: divided ones that a process has whole at a time: the layer at work, the next one,
            and what is in no layer.
        gathered_trained: whose gradients it has whole at a time: a layer's, or those of the rest.
    """

    weights: int
    trained: int
    whole: int
    whole_trained: int
    gathered: int
    gathered_trained: int

    @classmethod
    def of(cls, model: PreTrainedModel, *, in_bytes: bool = False) -> Division:
        """Count a model.

        Args:
            model: with what trains settled on it; may be without numbers.
            in_bytes: as its parameters are; else in numbers.
        """

        def count(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
            sizes = [(p.nbytes if in_bytes else p.numel(), p.requires_grad) for p in parameters]
            return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)

        layers = decoder_layers(model)
        inside = {id(p) for layer in layers for p in layer.parameters()}
        shared = _shared(model)
        of_layers = [count(layer.parameters()) for layer in layers]
        rest = count(p for p in model.parameters() if id(p) not in inside | shared)
        whole, whole_trained = count(p for p in model.parameters() if id(p) in shared)
        weights, trained = count(p for p in model.parameters() if id(p) not in shared)
        return cls(
            weights=weights,
            trained=trained,
            whole=whole,
            whole_trained=whole_trained,
            gathered=sum(sorted(size for size, _ in of_layers)[-2:]) + rest[0],
            gathered_trained=max(*(trained for _, trained in of_layers), rest[1]),
        )

    def kept(self, num_processes: int) -> int:
        """Count the weights that each process keeps."""
        return self.whole - (-self.weights // num_processes)

    def kept_trained(self, num_processes: int) -> int:
        """Count those that train of the weights that each process keeps."""
        return self.whole_trained - (-self.trained // num_processes)


def _shared(model: PreTrainedModel) -> set[int]:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embeddings is None:
        return set()
    above = {id(p) for p in head.parameters()}
    return {id(p) for p in embeddings.parameters() if id(p) in above}
