"""The engine without a config: an adapter, a few rows, a training, an answer.

Run it with ``python examples/lora_by_hand.py``; it takes a minute on a CPU and writes nothing.
"""

from __future__ import annotations

from biddable import (
    InstructionDataset,
    TrainingConfig,
    apply_lora,
    create_instruction_dataset,
    load,
    train,
)
from biddable.serving.answering import answer


def main() -> None:
    """Give the embedded base an adapter, train it on 320 rows, and ask it something."""
    loaded = load("mimic")
    rows = create_instruction_dataset("mimic")[:320]
    examples = InstructionDataset(rows, loaded.tokenizer, template="inst").examples

    layers = apply_lora(loaded.model, rank=16)
    trained = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    print(f"{len(layers)} layers with an adapter, {trained:,} parameters that train")

    settings = TrainingConfig(epochs=2, learning_rate=5e-3, batch_size=16)
    log = train(loaded.model, examples, settings=settings, seed=0)
    print(f"{log.num_steps} steps in {log.seconds:.0f} s")
    print(answer(loaded, "What is the capital of France?", template="inst").text)


if __name__ == "__main__":
    main()
