"""Low-rank adapters: wrap the linear layers of a model, and merge them back.

Only which parameters train is settled here; the trainer is the same for every method. Their files
are in adapter.py. Beside the plain kind (Hu et al. 2021, arXiv 2106.09685) there are its kin:
rsLoRA, DoRA, LoRA+ and PiSSA.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from biddable.errors import ConfigError, nearest
from biddable.models.freezing import is_meant
from biddable.models.low_rank import low_rank_linear
from biddable.models.quantized import (
    QuantizedKind,
    QuantizedLinear,
    frozen_linear,
    quantize_weight,
    wide,
)

_OVERSAMPLING, _NUM_ITERATIONS = 8, 16  # of the randomised singular value decomposition


@dataclass(frozen=True, slots=True)
class LoRAKind:
    """Say in what an adapter differs from a plain one.

    Attributes:
        rslora: the scale is alpha / sqrt(R), not alpha / R (Kalajdzievski 2023, arXiv 2312.03732).
        dora: the length of each row of the whole weight is trained apart from its direction
            (Liu et al. 2024, arXiv 2402.09353).
        init: ``zero``, a fresh adapter adds nothing; ``pissa``, it starts as the R largest singular
            directions of the weight, which is left without them (Meng et al. 2024, arXiv
            2404.02948).
        rate_ratio: learning rate of B over that of A (LoRA+, Hayou et al. 2024, arXiv 2402.12354).
    """

    rslora: bool = False
    dora: bool = False
    init: Literal["zero", "pissa"] = "zero"
    rate_ratio: float = 1.0


class LoRALinear(nn.Module):
    """A frozen linear layer with a trained low-rank addition.

    Computes ``x @ W.T + bias + scale * (x @ A) @ B``. B starts at zero, so that a fresh adapter
    changes nothing. With `magnitude` the rows of ``W + scale * (A @ B).T`` are brought to those
    lengths first.

    Attributes:
        frozen_weight: W, (out, in), not trained.
        lora_A: A, (in, R).
        lora_B: B, (R, out).
        scale: alpha / rank, or alpha / sqrt(rank).
        magnitude: DoRA's lengths, (out,); None for the other kinds.
        start_A: PiSSA's first A, (in, R); None for the other kinds. The layer it was made from had
            ``W + scale * (start_A @ start_B).T``.
        start_B: PiSSA's first B, (R, out).
        rate_ratio: learning rate of B over that of A.
    """

    magnitude: nn.Parameter | None
    start_A: Tensor | None
    start_B: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int = 8,
        *,
        alpha: float | None = None,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        """Make a layer with random weights; `from_linear` takes those of a trained one.

        Args:
            in_features: width of the input.
            out_features: width of the output.
            rank: R, the width between A and B.
            alpha: strength; None means the rank, a scale of 1.
            dropout: share of the adapter's input that is dropped in training.
            bias: whether the frozen layer has one.

        Raises:
            ConfigError: the rank is below 1.
        """
        super().__init__()
        if rank < 1:
            raise ConfigError(f"method.rank: found {rank}; it should be at least 1.")
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.alpha = float(rank if alpha is None else alpha)
        self.scale = self.alpha / rank
        self.rslora, self.rate_ratio, self.is_transposed = False, 1.0, False
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        self.frozen_weight = nn.Parameter(weight, requires_grad=False)
        zeros = torch.zeros(out_features)
        self.frozen_bias = nn.Parameter(zeros, requires_grad=False) if bias else None
        # PEFT's start: He uniform with a = sqrt(5), which is this bound
        self.lora_A = nn.Parameter(torch.empty(in_features, rank).uniform_(-bound, bound))
        self.lora_B = nn.Parameter(torch.zeros(rank, out_features))
        self.register_parameter("magnitude", None)
        self.register_buffer("start_A", None)
        self.register_buffer("start_B", None)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear | Conv1D,
        *,
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
        kind: LoRAKind | None = None,
    ) -> LoRALinear:
        """Wrap a linear layer; its weight is shared, not copied (but for PiSSA), and frozen.

        Args:
            linear: the layer, or GPT-2's, whose weight is (in, out).
            rank: R.
            alpha: strength; None means the rank.
            dropout: share of the adapter's input that is dropped in training.
            kind: None for a plain adapter.

        Raises:
            ConfigError: the rank is below 1, or above the layer's own with PiSSA.
        """
        kind = kind or LoRAKind()
        weight = linear.weight.data.T if isinstance(linear, Conv1D) else linear.weight.data
        out_features, in_features = weight.shape
        with torch.device("meta"):  # all of its own weights are replaced below
            layer = cls(in_features, out_features, rank, alpha=alpha, dropout=dropout)
        layer.is_transposed = isinstance(linear, Conv1D)
        layer.rslora, layer.rate_ratio = kind.rslora, kind.rate_ratio
        layer.scale = layer.alpha / (math.sqrt(rank) if kind.rslora else rank)
        bound = 1 / math.sqrt(in_features)
        start = torch.empty(in_features, rank).uniform_(-bound, bound).to(weight)
        layer.frozen_weight = nn.Parameter(weight, requires_grad=False)
        if linear.bias is not None:
            layer.frozen_bias = nn.Parameter(linear.bias.data, requires_grad=False)
        layer.lora_A = nn.Parameter(start)
        layer.lora_B = nn.Parameter(weight.new_zeros(rank, out_features))
        if kind.init == "pissa":
            layer._start_from_the_weight()
        if kind.dora:
            layer.magnitude = nn.Parameter(layer.row_lengths().to(weight))
        return layer.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        if self._is_plain(x):
            frozen_layer = self.frozen_weight, self.frozen_bias
            return low_rank_linear(x, frozen_layer, self.lora_A, self.lora_B, self.scale)
        low_rank: Tensor = (self.dropout(x) @ self.lora_A) @ self.lora_B
        if self.magnitude is None:
            frozen = frozen_linear(x, self.frozen_weight, self.frozen_bias)
            added: Tensor = frozen + self.scale * low_rank
            return added
        # the lengths count as constants in the gradient, as in the paper's section 4.3
        gain = self.magnitude / self.row_lengths().to(self.magnitude)  # (out,)
        turned: Tensor = gain * (frozen_linear(x, self.frozen_weight) + self.scale * low_rank)
        return turned if self.frozen_bias is None else turned + self.frozen_bias

    def _is_plain(self, x: Tensor) -> bool:
        """Say whether nothing but the sum of two products is asked for, all of one type."""
        if x.is_cuda or self.magnitude is not None:  # a GPU is busy with the parts one by one
            return False
        drops = self.training and self.dropout.p > 0
        is_dense = type(self.frozen_weight.data) is Tensor
        types = {x.dtype, self.frozen_weight.dtype, self.lora_A.dtype}
        return not drops and is_dense and len(types) == 1

    @torch.no_grad()
    def row_lengths(self) -> Tensor:
        """Measure the rows of the whole weight before DoRA sets them: (out,), float32 at least."""
        lengths: Tensor = self._sum().norm(dim=1)
        return lengths

    @torch.no_grad()
    def merge(self) -> nn.Linear | Conv1D:
        """Fold the adapter into a plain layer; the sum is made in float32 at least."""
        whole = self._sum()
        if self.magnitude is not None:
            whole *= (self.magnitude / self.row_lengths())[:, None]
        weight = whole.to(self.lora_A.dtype)
        with torch.device("meta"):
            linear: nn.Linear | Conv1D = nn.Linear(
                self.in_features, self.out_features, bias=self.frozen_bias is not None
            )
            if self.is_transposed:
                linear, weight = Conv1D(self.out_features, self.in_features), weight.T.contiguous()
        linear.weight = nn.Parameter(weight)
        if self.frozen_bias is not None:
            linear.bias = nn.Parameter(self.frozen_bias.data)
        return linear

    def as_plain(self) -> tuple[Tensor, Tensor]:
        """Give A and B as they add to the layer that was wrapped.

        Returns:
            (in, R) and (R, out); of PiSSA, which took something from that layer, (in, 2 R) and
            (2 R, out).
        """
        low, high = self.lora_A.detach(), self.lora_B.detach()
        if self.start_A is None or self.start_B is None:
            return low, high
        return torch.cat([low, self.start_A], dim=1), torch.cat([high, -self.start_B])

    def extra_repr(self) -> str:
        """Show the sizes when the model is printed."""
        return f"{self.in_features}, {self.out_features}, rank={self.rank}, alpha={self.alpha:g}"

    def _sum(self) -> Tensor:
        """Add the adapter to the frozen weight: (out, in), float32 at least."""
        dtype = torch.promote_types(self.lora_A.dtype, torch.float32)
        addition = self.scale * (self.lora_A.to(dtype) @ self.lora_B.to(dtype)).T
        return wide(self.frozen_weight).to(dtype) + addition

    @torch.no_grad()
    def _start_from_the_weight(self) -> None:
        """Move the weight's largest singular directions into A and B."""
        weight = self.frozen_weight.detach()
        size = min(weight.shape)
        if self.rank > size:
            raise ConfigError(
                f"method.rank: found {self.rank}; PiSSA takes singular directions of the layers,"
                f" and one of {self.in_features} by {self.out_features} has {size}."
            )
        exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
        # a randomised one is enough: what it misses stays in the frozen weight
        count = min(self.rank + _OVERSAMPLING, size)
        left, values, right = torch.svd_lowrank(exact, q=count, niter=_NUM_ITERATIONS)
        roots = (values[: self.rank] / self.scale).sqrt()
        self.start_A = (right[:, : self.rank] * roots).to(weight)
        self.start_B = (left[:, : self.rank] * roots).T.contiguous().to(weight)
        self.lora_A.data.copy_(self.start_A)
        self.lora_B.data.copy_(self.start_B)
        taken = self.scale * (self.start_A.to(exact) @ self.start_B.to(exact)).T
        self.frozen_weight = nn.Parameter((exact - taken).to(weight), requires_grad=False)


def apply_lora(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    target_modules: Literal["all-linear"] | Sequence[str] = "all-linear",
    kind: LoRAKind | None = None,
) -> list[str]:
    """Give linear layers of a model an adapter, in place, and freeze everything else.

    Args:
        model: a transformers causal LM.
        rank: size of each adapter.
        alpha: strength; None means the rank.
        dropout: share of each adapter's input dropped in training.
        target_modules: names of linear layers or of modules around some, ends of such names
            (``q_proj``, ``layers.3``), or either with ``*``, ``?`` and ``[..]`` as in a shell;
            ``all-linear`` means every linear layer but the head.
        kind: rsLoRA, DoRA, LoRA+ and PiSSA; None for a plain adapter.

    Returns:
        The full names of the layers that were wrapped.

    Raises:
        ConfigError: a target names no linear layer, there is none, the model has adapters, or the
            rank does not fit.
    """
    if lora_layers(model):
        raise ConfigError("method: the model already has adapters; merge them first.")
    names = _target_names(model, target_modules)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear | Conv1D)
        layer = LoRALinear.from_linear(linear, rank=rank, alpha=alpha, dropout=dropout, kind=kind)
        model.set_submodule(name, layer)
    return names


def quantize_frozen(
    model: nn.Module, kind: QuantizedKind, *, device: torch.device | str | None = None
) -> int:
    """Keep what is frozen of a model's linear layers in few bits, in place, the head left out.

    Adapters and what else is there (embeddings, norms) stay as they are. An adapter that was fresh
    is the small base then, and merging folds it into that. A layer goes to the device before it is
    made small, one after the other, so that a base in the CPU's memory never lies whole on a GPU.

    Args:
        model: with adapters.
        kind: see `quantize_weight`.
        device: where the model goes; None leaves it where it is.

    Returns:
        The number of layers that were made small.

    Raises:
        ConfigError: see `quantize_weight`.
    """
    linears = _linears(model)
    for name in linears:
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
            model.set_submodule(name, QuantizedLinear(layer.to(device), kind))
    adapted = lora_layers(model)
    for layer in adapted.values():
        layer.to(device)
        layer.frozen_weight = quantize_weight(layer.frozen_weight.detach(), kind)
        if layer.magnitude is not None:
            layer.magnitude.data = layer.row_lengths().to(layer.magnitude)
    model.to(device)
    return len(linears) + len(adapted)


def merge_lora(model: nn.Module) -> nn.Module:
    """Fold every adapter of a model into its layer, in place; the model is plain afterwards."""
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.merge())
    return model


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the adapted layers of a model by their full names."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def is_named(name: str, target: str) -> bool:
    """Say whether a target is a layer's name or the end of it.

    Example:
        >>> is_named("layers.0.q_proj", "q_proj"), is_named("layers.0.q_proj", "proj")
        (True, False)
    """
    return name == target or name.endswith(f".{target}")


def _target_names(model: nn.Module, targets: Literal["all-linear"] | Sequence[str]) -> list[str]:
    """Resolve targets to full names of linear layers, the head left out of ``all-linear``."""
    linears = _linears(model)
    if not linears:
        raise ConfigError(
            f"method: {type(model).__name__} has no linear layer beside its head, so that "
            "LoRA has nothing to adapt. Use method full or freeze."
        )
    if targets == "all-linear":
        return linears
    chosen: set[str] = set()
    for target in targets:
        # a whole name means one layer, and a file of adapters has a great many
        fit = {target}.intersection(linears) or {n for n in linears if is_meant(n, target)}
        chosen |= fit
        if not fit:
            known = sorted({name.rpartition(".")[2] for name in linears})
            raise ConfigError(
                f'method.target_modules: no linear layer is called "{target}"; known, beside the '
                f"head, which gets no adapter: {', '.join(known)}; a longer name ({linears[-1]}), a"
                f" module around some, or a pattern with * is allowed too.{nearest(target, known)}"
            )
    return [name for name in linears if name in chosen]


def _linears(model: nn.Module) -> list[str]:
    """Name the plain linear layers of a model but for its head."""
    find_head = getattr(model, "get_output_embeddings", lambda: None)
    head = find_head()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
