"""Say by formulas what training takes: operations, and memory in its parts.

Pure counting; nothing is run. The formulas stand in docs/plan.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from biddable.data.batching import Step
from biddable.data.encoded import EncodedRows
from biddable.data.trees import shared_lengths, sort_rows
from biddable.models.freezing import decoder_layers, lowest_trained, num_decoder_layers
from biddable.models.loss import logits_at_once
from biddable.models.quantized import plain_parts
from biddable.training.division import Division

OPTIMIZER_STATES = 2  # AdamW's two moments


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Hold what a forward pass costs by.

    Attributes:
        numbers: of its rows.
        num_tokens: that are run: unique ones in a tree, padding counted where rows are padded.
        num_pairs: a token and one that it sees.
        num_keys: of all rows one by one; a tree's attention gathers them so.
        num_places: whose logits are made.
        has_gradients: it is not the first of its step, so gradients are there before it.
        trunk: first ids of its step's rows that are run in a pass of their own; they are counted
            with the first micro-batch.
    """

    numbers: tuple[int, ...]
    num_tokens: int
    num_pairs: int
    num_keys: int
    num_places: int
    has_gradients: bool = False
    trunk: int = 0

    @classmethod
    def of(
        cls,
        rows: EncodedRows,
        numbers: Sequence[int],
        *,
        is_tree: bool,
        has_gradients: bool = False,
        trunk: int = 0,
    ) -> MicroBatch:
        """Count what some rows come to.

        Args:
            rows: all examples.
            numbers: of those in the micro-batch.
            is_tree: common starts are run once; else rows are padded.
            has_gradients: see the attribute.
            trunk: see the attribute.

        Example:
            >>> from biddable.data.encoding import Example
            >>> rows = EncodedRows.of([Example([1, 2, i], [False, True, True]) for i in (3, 4)])
            >>> tree = MicroBatch.of(rows, [0, 1], is_tree=True)
            >>> tree.num_tokens, tree.num_pairs, tree.num_keys
            (4, 9, 6)
            >>> padded = MicroBatch.of(rows, [0, 1], is_tree=False)
            >>> padded.num_tokens, padded.num_pairs
            (6, 12)
        """
        ordered = np.array(sort_rows(rows, numbers) if is_tree else list(numbers))
        lengths = rows.lengths[ordered].astype(np.int64)
        if is_tree:
            shared = shared_lengths(rows, ordered.tolist())
        else:
            lengths, shared = np.full_like(lengths, lengths.max()), np.zeros_like(lengths)
        num_tokens = int((lengths - shared).sum())
        pairs = (lengths * (lengths + 1) - shared * (shared + 1)) // 2
        apart = trunk if has_gradients else 0
        num_tokens -= apart
        num_places = min(int(rows.loss_tokens[ordered].sum()), num_tokens)
        return cls(
            numbers=tuple(numbers),
            num_tokens=num_tokens,
            num_pairs=int(pairs.sum()) - apart * (apart + 1) // 2,
            num_keys=int(lengths.sum()),
            num_places=num_places,
            has_gradients=has_gradients,
            trunk=trunk,
        )


def micro_batches_of(
    rows: EncodedRows, steps: Iterable[Step], *, is_tree: bool
) -> list[list[MicroBatch]]:
    """Count what each micro-batch of each step comes to."""
    return [
        [
            MicroBatch.of(rows, numbers, is_tree=is_tree, has_gradients=place > 0, trunk=step.trunk)
            for place, numbers in enumerate(step.micro_batches)
        ]
        for step in steps
    ]


@dataclass(frozen=True, slots=True)
class Work:
    """Hold the floating-point operations of a model's passes.

    Attributes:
        forward_token: for a token below the head.
        forward_place: for a place whose logits are made.
        forward_pair: for a token and one that it sees.
        train_token: as above, with the gradient.
        train_place: likewise.
        train_pair: likewise.
    """

    forward_token: float
    forward_place: float
    forward_pair: float
    train_token: float
    train_place: float
    train_pair: float

    @classmethod
    def of(cls, model: PreTrainedModel, *, num_skipped: int = 0) -> Work:
        """Count the operations of a model: two for each weight of a matrix and pass.

        The gradient takes a pass for a layer's input, where anything below it or in it trains,
        and one for its weights, where they train.

        Args:
            model: with what trains settled on it.
            num_skipped: lower layers that are not run, for what they give is kept.
        """
        layers = decoder_layers(model)
        sizes = [_matrix_sizes(layer.parameters()) for layer in layers]
        lowest = lowest_trained(model)
        run = range(num_skipped, len(layers))
        forward = 2.0 * sum(sizes[n][0] for n in run)
        inputs = 2.0 * sum(sizes[n][0] for n in run if n >= lowest)
        own = 2.0 * sum(sizes[n][1] for n in run)
        head = model.get_output_embeddings()
        head_size, head_trained = _matrix_sizes(head.parameters()) if head is not None else (0, 0)
        config = model.config.get_text_config(decoder=True)
        pair = 4.0 * attention_width(config)
        return cls(
            forward_token=forward,
            forward_place=2.0 * head_size,
            forward_pair=pair * len(run),
            train_token=forward + inputs + own,
            train_place=4.0 * head_size + 2.0 * head_trained,
            train_pair=pair * (len(run) + 2 * len([n for n in run if n >= lowest])),
        )

    def to_train(self, batch: MicroBatch) -> float:
        """Count the operations of a forward and backward pass."""
        return (
            self.train_token * batch.num_tokens
            + self.train_place * batch.num_places
            + self.train_pair * batch.num_pairs
        )

    def to_run(self, batch: MicroBatch) -> float:
        """Count the operations of a forward pass."""
        return (
            self.forward_token * batch.num_tokens
            + self.forward_place * batch.num_places
            + self.forward_pair * batch.num_pairs
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """Hold the memory of training at its peak, in bytes.

    Attributes:
        program: the interpreter and its libraries, rows and tokenizer; 0 on a GPU.
        weights: all of the model's, and buffers.
        gradients: of what trains; those that are there at the peak.
        optimizer: its states.
        activations: what the forward pass keeps for the gradient, and the room that it takes.
        logits: those that are made at a time, and what their gradient takes.
        cache: the states of frozen layers that are kept in a mapped file.
    """

    program: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    cache: int = 0

    @property
    def peak(self) -> int:
        """Add up all parts."""
        return sum(getattr(self, name) for name in self.__slots__)

    @property
    def needed(self) -> int:
        """Add up what has to be there: a mapped file gives way when memory is short."""
        return self.peak - self.cache


@dataclass(frozen=True, slots=True)
class States:
    """Hold what is there however rows are batched, in bytes.

    Attributes:
        weights: of all parameters and buffers.
        trained: of the parameters that train; their gradients take as much.
        head_trained: of the head, if it trains.
        vocabulary: V, logits of a place.
        itemsize: bytes of a number of the model.
        logits_at_once: most logits of a part of a batch.
        gathered_trained: gradients that are whole for a while, where a model is divided.
        is_divided: the model is, among processes.
    """

    weights: int
    trained: int
    head_trained: int
    vocabulary: int
    itemsize: int
    logits_at_once: int
    gathered_trained: int = 0
    is_divided: bool = False

    @classmethod
    def of(cls, model: PreTrainedModel) -> States:
        """Measure a model; a weight that is shared counts once."""
        head = model.get_output_embeddings()
        heads = [p for p in head.parameters() if p.requires_grad] if head is not None else []
        return cls(
            weights=sum(
                part.nbytes
                for tensor in (*model.parameters(), *model.buffers())
                for part in plain_parts(tensor)
            ),
            trained=sum(p.nbytes for p in model.parameters() if p.requires_grad),
            head_trained=sum(p.nbytes for p in heads),
            vocabulary=int(model.config.get_text_config(decoder=True).vocab_size),
            itemsize=model.dtype.itemsize,
            logits_at_once=logits_at_once(model.device),
        )

    def divided(self, division: Division, num_processes: int) -> States:
        """Give what one of some processes has of them, which divide the model.

        Args:
            division: of the same model, in bytes.
            num_processes: 2 or more.
        """
        buffers = self.weights - division.weights - division.whole
        return replace(
            self,
            weights=buffers + division.kept(num_processes) + division.gathered,
            trained=division.kept_trained(num_processes),
            gathered_trained=division.gathered_trained,
            is_divided=True,
        )

    @property
    def optimizer(self) -> int:
        """The optimizer's states."""
        return OPTIMIZER_STATES * self.trained

    def logits(self, num_places: int) -> int:
        """Say what the logits of a part of a batch take: twice their size, and the head's gradient.

        Args:
            num_places: in the whole batch; a divided model's head runs once for all of them.
        """
        at_once = min(num_places, max(self.logits_at_once // self.vocabulary, 1))
        at_once = num_places if self.is_divided else at_once
        return 2 * at_once * self.vocabulary * max(self.itemsize, 4) + self.head_trained

    def peak(self, batch: MicroBatch, *, activations: int, program: int, cache: int = 0) -> Memory:
        """Find the peak of a step whose micro-batches are at most like one.

        As the gradient is computed, activations go and gradients come, so that those of the first
        micro-batch of a step hardly meet; later ones find the gradients there.

        Args:
            batch: the micro-batch.
            activations: what it keeps, in bytes.
            program: see `Memory`.
            cache: see `Memory`.
        """
        logits = self.logits(batch.num_places)
        early = Memory(
            program=program,
            weights=self.weights,
            gradients=self.trained if batch.has_gradients else 0,
            optimizer=self.optimizer,
            activations=activations,
            logits=logits,
            cache=cache,
        )
        late = Memory(
            program=program,
            weights=self.weights,
            gradients=self.trained + self.gathered_trained,
            optimizer=self.optimizer,
            activations=0,
            logits=0,
            cache=cache,
        )
        return max(early, late, key=lambda memory: memory.peak)


def kept_per_token(config: Any, *, itemsize: int = 4, num_layers: int | None = None) -> int:
    """Say what a Llama-type model keeps of a token for the gradient, all weights training.

    A layer keeps its input, the sum after attention, both of them normed before and after the
    norm's weight, query, key, value and attention's result, and four states of the inner width.

    Args:
        config: of the model.
        itemsize: bytes of a number.
        num_layers: that have a gradient; None: all.

    Returns:
        Bytes.

    Example:
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig(hidden_size=8, intermediate_size=32, num_hidden_layers=2,
        ...                      num_attention_heads=2, num_key_value_heads=1)
        >>> kept_per_token(config)  # 2 * (6*8 + 2*8 + 2*4 + 4*32 + 2 + 2) * 4 + 2*8*4 + 4
        1700
    """
    text = config.get_text_config(decoder=True)
    width, heads = text.hidden_size, text.num_attention_heads
    head = getattr(text, "head_dim", None) or width // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * width
    queries, keys = heads * head, kv_heads * head
    layer = itemsize * (6 * width + 2 * queries + 2 * keys + 4 * inner) + 4 * (heads + 2)
    num_layers = num_decoder_layers(config) if num_layers is None else num_layers
    return int(num_layers * layer + 2 * width * itemsize + 4)


def recomputed(kept: int, num_tokens: int, *, model: PreTrainedModel) -> int:
    """Say what is kept if layers are computed again for the gradient: their inputs, and one layer.

    Args:
        kept: without that, in bytes.
        num_tokens: of the batch.
        model: with what trains settled on it.
    """
    num_layers = len(decoder_layers(model)) - lowest_trained(model)
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    inputs = num_layers * num_tokens * width * model.dtype.itemsize
    return min(kept, inputs + kept // max(num_layers, 1))


def attention_width(config: Any) -> int:
    """Multiply the heads of a layer by their width."""
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * int(width)


def _matrix_sizes(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """Count the weights of matrices, and those of them that train."""
    sizes = [(p.numel(), p.requires_grad) for p in parameters if p.dim() >= 2]
    return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
