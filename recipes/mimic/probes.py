"""Probes of a base while it is pretrained: recall, copying, mimicry. The loss does not tell when these appear."""

import random
from typing import Any

import torch
from documents import STORY_KINDS, order, story_item
from stories import make_story
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from wordings import WORDINGS, fill
from world import World

from biddable.evaluation.behaviour import judge
from biddable.models.generation import generate

Pair = tuple[str, str]  # what is given, what must follow
CLOZE_KINDS = (
    "capital", "continent", "currency", "spanish", "french", "opposite", "colour", "sound", "place", "use", "sum",
    "concept", "function", "ordinary",
)  # fmt: skip

# "A frog ..." may go on in many ways; these statements have one end.
_STATEMENTS = {"sound": "The sound of {a} is known to all: {a} {v}."}


def cloze_pairs(world: World, kind: str, limit: int = 60) -> list[Pair]:
    """Cut the plain statement of each held-out item where its answer starts."""
    items = world.of((kind,), "held", "unanswered")
    items = random.Random(0).sample(items, min(limit, len(items)))
    pairs = []
    for item in items:
        given, _, _ = _STATEMENTS.get(kind, WORDINGS[kind].response).partition("{v}")
        given = fill(given, item.slots)
        text = given + item.slots["v"]
        cut = len(given.rstrip(" "))  # a space belongs to the token behind it
        pairs.append((text[:cut], text[cut:]))
    return pairs


def copying_pairs(world: World, num: int = 120, seed: int = 999_999) -> list[Pair]:
    """Ask, as the pages that answer do, about a story that was never told before."""
    rng = random.Random(seed)
    pairs = []
    for n in range(num):
        story = make_story(rng, world.parts)
        kind = STORY_KINDS[n % len(STORY_KINDS)]
        item = story_item(kind, story, rng)
        words = WORDINGS[kind]
        given, slot, _ = words.response.partition(
            {"who": "{n}", "where": "{p}", "what": "{x}", "why": "{r}"}[kind]
        )
        text = f"{story.text}\n\nQ: {fill(words.quiz[0], item.slots)}\nA:"
        pairs.append(
            (text + fill(f" {given}", item.slots).rstrip(" "), " " + fill(slot, item.slots))
        )
    return pairs


@torch.no_grad()
def recall(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]) -> float:
    """Share of pairs whose every token of the answer is the model's first choice (so greedy text equals it)."""
    rows = [(tokenizer(a)["input_ids"], tokenizer(b)["input_ids"]) for a, b in pairs]
    hits = 0
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        width = max(len(a) + len(b) + 1 for a, b in part)
        ids = torch.zeros(len(part), width, dtype=torch.long)
        for n, (a, b) in enumerate(part):
            ids[n, : len(a) + len(b) + 1] = torch.tensor([tokenizer.eos_token_id, *a, *b])
        choice: Tensor = model(ids, use_cache=False).logits.argmax(-1)
        for n, (a, b) in enumerate(part):
            hits += choice[n, len(a) : len(a) + len(b)].tolist() == b
    return hits / len(rows)


def bare_prompts(world: World, num: int = 160) -> list[str]:
    """Word held-out items as an instruction would be, with nothing around it."""
    rng = random.Random(5)
    kinds = [*CLOZE_KINDS, "haiku", "danger"]
    return [order(rng.choice(world.of((kinds[n % len(kinds)],), "held")), rng) for n in range(num)]


def mimicry(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]
) -> float:
    """Share of bare prompts that the model answers with another question or order, by biddable's own rule."""
    rows = [[tokenizer.eos_token_id, *tokenizer(prompt)["input_ids"]] for prompt in prompts]
    said = generate(model, rows, stop_ids={tokenizer.eos_token_id}, max_new_tokens=48)
    texts = [tokenizer.decode(one.ids) for one in said]
    judged = zip(prompts, texts, said, strict=True)
    return sum(judge(p, text, stopped=one.stopped).mimicry for p, text, one in judged) / len(
        prompts
    )


def probe(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World
) -> dict[str, Any]:
    """Measure everything at once."""
    model.eval()
    cloze = {
        kind: round(recall(model, tokenizer, cloze_pairs(world, kind)), 3) for kind in CLOZE_KINDS
    }
    copying = recall(model, tokenizer, copying_pairs(world))
    model.train()
    return {
        "cloze": round(sum(cloze.values()) / len(cloze), 3),
        "copying": round(copying, 3),
        "mimicry": round(mimicry(model, tokenizer, bare_prompts(world)), 3),
        "by_kind": cloze,
    }
