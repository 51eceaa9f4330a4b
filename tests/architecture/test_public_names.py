"""Pin the public API, as DESIGN section 4 lists it."""

from __future__ import annotations

import inspect

import pytest

import biddable

PINNED = [
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

# The names a learner knows, with the parameters that they know.
LEARNERS_PARAMETERS = {
    "create_instruction_dataset": ["name", "split"],
    "format_instruction_example": ["instruction", "response", "tokenizer", "template"],
    "InstructionDataset": ["examples", "tokenizer", "max_length"],
    "finetune_instruct_model": ["base_model", "instruct_dataset", "epochs"],
    "compare_base_vs_instruct": ["base_model", "instruct_model", "prompts"],
    "LoRALinear": ["in_features", "out_features", "rank"],
}


def test_public_names_are_pinned_and_sorted() -> None:
    assert biddable.__all__ == PINNED == sorted(PINNED)


@pytest.mark.parametrize("name", PINNED)
def test_public_names_resolve_and_are_documented(name: str) -> None:
    value = getattr(biddable, name)
    assert name in dir(biddable)
    assert name == "__version__" or inspect.getdoc(value)


@pytest.mark.parametrize(("name", "expected"), LEARNERS_PARAMETERS.items())
def test_signatures_of_the_learners_names(name: str, expected: list[str]) -> None:
    parameters = inspect.signature(getattr(biddable, name)).parameters
    assert list(parameters)[: len(expected)] == expected


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(AttributeError, match='Did you mean "compare"'):
        biddable.compar  # noqa: B018
