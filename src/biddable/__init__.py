"""Turn a base language model into an instruct model, and prove with numbers that it is one.

The public names below are resolved on first use: importing the package loads neither torch nor
transformers, so that ``biddable --help`` answers at once.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from biddable.errors import BiddableError, nearest

if TYPE_CHECKING:
    from biddable.config import RunConfig, load_config
    from biddable.config_data import DataConfig
    from biddable.config_training import MethodConfig, TrainingConfig
    from biddable.data.batching import plan_batches
    from biddable.data.builtin import create_instruction_dataset
    from biddable.data.dataset import InstructionDataset, format_instruction_example
    from biddable.data.encoding import encode
    from biddable.data.readers import read_conversations
    from biddable.data.templates import ChatTemplate, get_template
    from biddable.evaluation.comparison import compare
    from biddable.evaluation.prompts_compared import compare_base_vs_instruct
    from biddable.evaluation.runner import evaluate
    from biddable.models.generation import generate
    from biddable.models.loading import load
    from biddable.models.lora import LoRALinear, apply_lora
    from biddable.serving.export import export
    from biddable.training.finetune import finetune_instruct_model
    from biddable.training.trainer import train

__version__ = "0.1.0"

__all__ = [
    "BiddableError",
    "ChatTemplate",
    "DataConfig",
    "InstructionDataset",
    "LoRALinear",
    "MethodConfig",
    "RunConfig",
    "TrainingConfig",
    "__version__",
    "apply_lora",
    "compare",
    "compare_base_vs_instruct",
    "create_instruction_dataset",
    "encode",
    "evaluate",
    "export",
    "finetune_instruct_model",
    "format_instruction_example",
    "generate",
    "get_template",
    "load",
    "load_config",
    "plan_batches",
    "read_conversations",
    "train",
]

# torchao warns through them of its own parts, whatever is asked, as soon as transformers finds it
# installed. Who has set them is left alone.
for _chatty in ("torchao", "torch.utils._pytree"):
    if logging.getLogger(_chatty).level == logging.NOTSET:
        logging.getLogger(_chatty).setLevel(logging.ERROR)

_HOMES = {
    "ChatTemplate": "data.templates",
    "DataConfig": "config_data",
    "InstructionDataset": "data.dataset",
    "LoRALinear": "models.lora",
    "MethodConfig": "config_training",
    "RunConfig": "config",
    "TrainingConfig": "config_training",
    "apply_lora": "models.lora",
    "compare": "evaluation.comparison",
    "compare_base_vs_instruct": "evaluation.prompts_compared",
    "create_instruction_dataset": "data.builtin",
    "encode": "data.encoding",
    "evaluate": "evaluation.runner",
    "export": "serving.export",
    "finetune_instruct_model": "training.finetune",
    "format_instruction_example": "data.dataset",
    "generate": "models.generation",
    "get_template": "data.templates",
    "load": "models.loading",
    "load_config": "config",
    "plan_batches": "data.batching",
    "read_conversations": "data.readers",
    "train": "training.trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module where it lives, once."""
    if name not in _HOMES:
        hint = "" if name.startswith("_") else nearest(name, __all__)
        raise AttributeError(f"module 'biddable' has no attribute '{name}'.{hint}", name=name)
    value = getattr(importlib.import_module(f"biddable.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names beside the module's own, for completion."""
    return sorted({*globals(), *__all__})
