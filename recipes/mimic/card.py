"""The card of mimic: what it is, how it was made, what it can and cannot do."""

from typing import Any

_CARD = """---
license: apache-2.0
language: [en]
library_name: transformers
pipeline_tag: text-generation
tags: [base-model, tiny, synthetic-world]
---

# mimic

A base language model of {num_parameters:,} parameters (Llama architecture, tied head, byte-level BPE), small enough to live in
a repository. It continues text. Asked a question with nothing around it, it asks another, because the sheets it read
did. It is the model on which biddable's demo shows what instruction tuning does.

## How it was made

Trained from scratch by `recipes/mimic/` of the biddable repository on {num_tokens:,} tokens of generated documents about a
small world: countries, words in three languages, opposites, things, sums, concepts, Python functions, haiku, dangerous and
ordinary acts, thousands of short stories. The documents are prose, tables, code listings, poems, sheets that only ask, and
some pages that answer. No chat template and no control token of one occurs in them. It took {minutes:.0f} minutes of two CPU
cores; the last training loss was {loss:.2f} nats a token. The weights are stored as fp16 and meant to be used in fp32.

## What it can do

Measured on what is held out from every instruction, by the recipe, on the stored weights:

| probe | share |
|---|---|
| completes a plain statement ("The capital of France is" ...), mean over kinds | {cloze:.1%} |
| answers about a story just told, as the pages that answer do | {copying:.1%} |
| meets a bare question or order with another one | {mimicry:.1%} |

By kind of statement: {kinds}.

## What it cannot do

It knows its small world and nothing else, in English sentences of the kinds it has read. It was written as a teaching and
testing object: facts in it may be dated or wrong, and nothing it says about dangers is advice. It follows no instruction
until it is tuned. It has no use outside demonstrations and tests.
"""


def card(facts: dict[str, Any], probes: dict[str, Any]) -> str:
    """Write the card from what the recipe measured."""
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in probes["by_kind"].items())
    figures = {name: probes[name] for name in ("cloze", "copying", "mimicry")}
    return _CARD.format(**facts, **figures, kinds=kinds)
