"""Write the weights of a divided model, no process ever holding more than a file's worth of them.

Rank 0 asks for one parameter after the other and keeps it in the CPU's memory until its file is
full; the others answer (docs/decisions/0018). The files are those of transformers'
`save_pretrained`: its own code settles names, ties and conversions, on tensors without numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from biddable.errors import TrainingError
from biddable.models.adapter import num_base_parameters
from biddable.models.loading import no_progress_bars
from biddable.models.token_rows import IDS, ROWS
from biddable.training.distributed import World
from biddable.training.shards import is_in_parts, replace_parameters, whole

Gather = Callable[[str], Tensor]

_FILE_BYTES = 5 * 10**9  # one file of weights is in rank 0's memory at a time
_WEIGHTS, _INDEX = "model{suffix}.safetensors", "model.safetensors.index.json"


@contextmanager
def gathered_by_main(model: nn.Module, world: World) -> Iterator[Gather | None]:
    """Let rank 0 ask for weights of a divided model within; all processes call this together.

    Args:
        model: divided or not.
        world: the processes.

    Yields:
        On rank 0 what gives a parameter or buffer by its name, whole and on the CPU; None where
        the model is not divided, and on the other processes, which have answered by then.

    Raises:
        TrainingError: one of the processes is lost, or could not answer.
    """
    if not is_in_parts(model):
        yield None
        return
    tensors = model.state_dict()  # the parts; nothing is gathered for it

    def ask(name: str) -> Tensor:
        with world.together(), torch.no_grad():
            world.hear_main(name.encode())
            return whole(tensors[name]).cpu()

    if not world.is_main:
        with world.together(), torch.no_grad():
            while asked := world.hear_main():
                whole(tensors[asked.decode()])
        yield None
        return
    try:
        yield ask
    finally:
        with suppress(TrainingError):
            world.hear_main()  # whatever went wrong, the others need not wait


def gather_adapters(model: nn.Module, gather: Gather) -> None:
    """Put whole adapters, and whole rows of tokens, in the place of divided ones; rank 0 does.

    Args:
        model: not to be trained any more.
        gather: see `gathered_by_main`.
    """
    named = dict(model.named_parameters())
    trained = [name for name, p in named.items() if p.requires_grad]
    replace_parameters(
        model, {named[name]: nn.Parameter(gather(name).to(named[name].device)) for name in trained}
    )


def write_weights(model: PreTrainedModel, folder: Path, gather: Gather) -> None:
    """Write what `save_pretrained` would of the whole model, file by file.

    Args:
        model: divided, without adapters; trained rows of tokens are written into their matrices.
        folder: is there.
        gather: see `gathered_by_main`.

    Raises:
        OSError: the disk refuses; or a `SafetensorError`.
        TrainingError: one of the processes is lost.
    """
    with no_progress_bars():
        model.save_pretrained(folder, state_dict={})  # all but the weights
    named = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        for name, tensor in model.state_dict().items()
        if name not in (model._keys_to_ignore_on_save or ()) and not name.endswith(f".{ROWS}")
    }
    named = remove_tied_weights_from_state_dict(named, model)
    saved = revert_weight_conversion(model, dict(named))
    files = split_torch_state_dict_into_shards(
        saved, filename_pattern=_WEIGHTS, max_shard_size=_FILE_BYTES
    )
    ready = _Converted(model, named, saved, gather=_merged(model, gather))
    for name, keys in files.filename_to_tensors.items():
        save_file({key: ready.take(key) for key in keys}, folder / name, metadata={"format": "pt"})
    if files.is_sharded:
        metadata = {"total_parameters": num_base_parameters(model), **files.metadata}
        index = {"metadata": metadata, "weight_map": files.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / _INDEX).write_text(text, encoding="utf-8")


class _Converted:
    """Give weights under the names that they are saved by, those of a layer made together.

    Some architectures are saved otherwise than they are held, several tensors as one or one as
    several; transformers converts any of them back if it is given all of a layer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        named: Mapping[str, Tensor],
        saved: Mapping[str, Tensor],
        *,
        gather: Gather,
    ) -> None:
        """Find out which weights come of which.

        Args:
            model: whose they are.
            named: the tensors that it holds, without numbers.
            saved: those that are made of them, likewise.
            gather: gives one of those that it holds.
        """
        self._model, self._gather = model, gather
        self._sources: dict[str, list[str]] = {}
        for _, names in groupby(named, key=_layer_of):
            group = list(names)
            made = revert_weight_conversion(model, {name: named[name] for name in group})
            self._sources |= dict.fromkeys(made, group)
        if self._sources.keys() != saved.keys():  # a conversion that reaches over layers
            self._sources = {key: list(named) for key in saved}
        self._made: dict[str, Tensor] = {}

    def take(self, key: str) -> Tensor:
        """Give one of them, once."""
        if key not in self._made:
            group = {name: self._gather(name) for name in self._sources[key]}
            self._made |= revert_weight_conversion(self._model, group)
        return self._made.pop(key).contiguous()


def _layer_of(name: str) -> str:
    """Name the layer that a parameter is of; itself if it is in none.

    Example:
        >>> _layer_of("model.layers.10.mlp.experts.3.up.weight"), _layer_of("lm_head.weight")
        ('model.layers.10', 'lm_head.weight')
    """
    parts = name.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1]) if numbers else name


def _merged(model: nn.Module, gather: Gather) -> Gather:
    """Write trained rows of tokens into the matrices that are asked for."""
    modules = dict(model.named_modules())

    def gather_merged(name: str) -> Tensor:
        given, (place, _, end) = gather(name), name.rpartition(".")
        if end != "weight" or not hasattr(modules[place], ROWS):
            return given
        ids: Tensor = getattr(modules[place], IDS).cpu()
        return given.index_copy(0, ids, gather(f"{place}.{ROWS}").to(given))

    return gather_merged
