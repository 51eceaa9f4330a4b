"""Train single rows of a vocabulary's matrices while the rest of them stays as it is.

A control token that no text of the base's training held has a row that nothing set; where the
embeddings and the head are frozen it would stay so. PEFT's name for this is trainable tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from biddable.errors import ConfigError
from biddable.models.rows import matrix

ROWS, IDS = "token_rows", "token_row_ids"
_HOOK = "_token_row_hook"
_SPREAD = 0.02  # of a new row's noise, beside the usual distance of rows from their mean


def train_token_rows(model: PreTrainedModel, ids: Sequence[int]) -> list[str]:
    """Let some tokens' rows be trained wherever the embeddings or the head are frozen, in place.

    The rows start as they are, so that nothing changes yet. Matrices that are one (a tied head)
    get one set of rows.

    Args:
        model: a transformers causal LM.
        ids: the tokens; each has a row.

    Returns:
        The names of the modules whose rows are trained now; empty if both train whole.
    """
    attached: dict[int, nn.Parameter] = {}
    names = []
    for name, module in _vocabulary_modules(model).items():
        weight = matrix(module)
        if weight.requires_grad:
            continue
        rows = attached.get(id(weight))
        if rows is None:
            rows = nn.Parameter(weight.detach()[list(ids)].clone())
            attached[id(weight)] = rows
        attach_rows(module, ids, rows=rows)
        names.append(name)
    return names


def attach_rows(module: nn.Module, ids: Sequence[int], *, rows: nn.Parameter) -> None:
    """Make embeddings, or a head, use other rows for some tokens.

    It stays what it is, with the name and the weight it has; a hook puts the rows into its output,
    so that no (V, D) matrix is copied or gets a gradient.

    Args:
        module: an ``nn.Embedding``, or a linear head.
        ids: the tokens, N of them.
        rows: (N, D), in their order.
    """
    device = rows.device
    module.register_parameter(ROWS, rows)
    module.register_buffer(IDS, torch.tensor(ids, device=device), persistent=False)
    hook = _embed if isinstance(module, nn.Embedding) else _score
    setattr(module, _HOOK, module.register_forward_hook(hook))


def token_rows(model: nn.Module) -> dict[str, tuple[list[int], nn.Parameter]]:
    """Return the ids and rows of the modules that have some, by the modules' names.

    A tied head is not named beside its embeddings, for its rows are theirs.
    """
    found: dict[str, tuple[list[int], nn.Parameter]] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        rows = getattr(module, ROWS, None)
        if isinstance(rows, nn.Parameter) and id(rows) not in seen:
            seen.add(id(rows))
            found[name] = (getattr(module, IDS).tolist(), rows)
    return found


@torch.no_grad()
def merge_token_rows(model: nn.Module) -> nn.Module:
    """Write trained rows into their matrices, in place; a tied head stays tied."""
    for module in model.modules():
        rows = getattr(module, ROWS, None)
        if isinstance(rows, nn.Parameter):
            weight = matrix(module)
            weight[getattr(module, IDS)] = rows.to(weight)
            getattr(module, _HOOK).remove()
            for name in (ROWS, IDS, _HOOK):
                delattr(module, name)
    return model


def row_trains(module: nn.Module, token_id: int) -> bool:
    """Say whether a token's row in embeddings or in a head is trained."""
    if matrix(module).requires_grad:
        return True
    ids = getattr(module, IDS, None)
    return ids is not None and token_id in ids.tolist()


def add_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, tokens: Sequence[str]
) -> list[int]:
    """Add control tokens to a tokenizer, and rows for them to its model, in place.

    A new row starts as the mean of the others, with noise that sets the new ones apart.

    Args:
        model: a transformers causal LM; a tied head stays tied.
        tokenizer: its own.
        tokens: what they are called.

    Returns:
        The ids of all rows that are new.

    Raises:
        ConfigError: the model has a row for one of them already.
    """
    known, num_before = tokenizer.get_vocab(), len(matrix(model.get_input_embeddings()))
    if old := [token for token in tokens if known.get(token, num_before) < num_before]:
        raise ConfigError(
            f"method.new_tokens: the tokenizer has {', '.join(old)} already; name only what it"
            " lacks (method.train_tokens trains the rows of tokens that are there)."
        )
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    ids = {int(str(tokenizer.convert_tokens_to_ids(token))) for token in tokens}
    first = min(num_before, *ids)  # a model may have had rows to spare
    if max(ids) >= num_before:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
        ids |= set(range(num_before, max(ids) + 1))
    for module in {id(m.weight): m for m in _vocabulary_modules(model).values()}.values():
        _start_rows(module, sorted(ids), num_known=first)
    return sorted(ids)


@torch.no_grad()
def _start_rows(module: nn.Module, ids: Sequence[int], *, num_known: int) -> None:
    weight = matrix(module)
    known = weight[:num_known].float()
    noise = torch.randn(len(ids), known.shape[1]).to(known) * known.std(dim=0) * _SPREAD
    weight[list(ids)] = (known.mean(dim=0) + noise).to(weight)
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        bias[list(ids)] = bias[:num_known].mean()


def _vocabulary_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Name the embeddings, and the head if there is one."""
    wanted = [model.get_input_embeddings(), model.get_output_embeddings()]
    return {name: m for name, m in model.named_modules() if any(m is w for w in wanted)}


def _embed(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Put the rows where their tokens stand: ids (B, T), output (B, T, D)."""
    is_hit = args[0].unsqueeze(-1) == getattr(module, IDS)  # (B, T, N)
    rows = F.embedding(is_hit.int().argmax(dim=-1), getattr(module, ROWS))
    scale: Any = getattr(module, "embed_scale", 1.0)  # Gemma's embeddings are scaled after
    rows = rows * (scale.to(rows) if isinstance(scale, Tensor) else scale)
    return torch.where(is_hit.any(dim=-1, keepdim=True), rows.to(output), output)


def _score(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Put the rows' logits into their columns: states (.., D), output (.., V)."""
    ids, bias = getattr(module, IDS), getattr(module, "bias", None)
    columns = F.linear(args[0], getattr(module, ROWS), None if bias is None else bias[ids])
    # in place: the logits are the largest tensor there is, and a linear layer keeps none of them
    return output.index_copy_(-1, ids, columns.to(output))
