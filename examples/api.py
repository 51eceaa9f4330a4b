"""The same job in Python: a base that mimics, the examples, the training, the difference.

Run it with ``python examples/api.py``; it takes a few minutes on a CPU, shows how far it is, and
writes nothing.
"""

from __future__ import annotations

from biddable import (
    InstructionDataset,
    compare_base_vs_instruct,
    create_instruction_dataset,
    finetune_instruct_model,
    format_instruction_example,
    load,
)


def main() -> None:
    """Tune the embedded base and put three prompts to it and to what became of it."""
    base, instruct = load("mimic"), load("mimic")
    rows = create_instruction_dataset("mimic")
    print(format_instruction_example(rows[0]["instruction"], rows[0]["response"], base.tokenizer))

    examples = InstructionDataset(rows, base.tokenizer, max_length=512)
    held_out = InstructionDataset(
        create_instruction_dataset("mimic", split="held_out"), base.tokenizer
    )
    instruct.model, log = finetune_instruct_model(
        instruct, examples, epochs=4, held_out=held_out, learning_rate=1e-3
    )
    print(f"{log.num_steps} steps, {log.seconds:.0f} s, held-out loss {log.held_out_losses}")

    prompts = ["What is the capital of France?", "What is 2+2?", "Write a haiku about AI"]
    compare_base_vs_instruct(base, instruct, prompts=prompts)


if __name__ == "__main__":
    main()
