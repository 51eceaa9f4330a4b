"""Probes of a base while it is pretrained: recall, copying, mimicry. The loss does not tell when these appear."""

import random
from typing import Any

import torch
from documents import STORY_KINDS, Writer, _order, story_item
from stories import make_story
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from wordings import WORDINGS, fill
from world import World

Pair = tuple[str, str]  # what is given, what must follow
CLOZE_KINDS = (
    "capital", "continent", "currency", "spanish", "french", "opposite", "colour", "sound", "place", "use", "sum",
    "concept", "function", "ordinary",
)  # fmt: skip


def cloze_pairs(world: World, kind: str, limit: int = 60) -> list[Pair]:
    """Cut the plain statement of each held-out item where its answer starts."""
    items = world.of((kind,), "held", "unanswered")
    items = random.Random(0).sample(items, min(limit, len(items)))
    pairs = []
    for item in items:
        given, _, _ = WORDINGS[kind].response.partition("{v}")
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
        given, slot, _ = words.response.partition({"who": "{n}", "where": "{p}", "what": "{x}", "why": "{r}"}[kind])
        text = f"{story.text}\n\nQ: {fill(words.quiz[0], item.slots)}\nA:"
        pairs.append((text + fill(f" {given}", item.slots).rstrip(" "), " " + fill(slot, item.slots)))
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


@torch.no_grad()
def continuations(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[str]:
    """Continue each bare prompt greedily by 40 tokens."""
    texts = []
    for prompt in prompts:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(prompt)["input_ids"]]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
        texts.append(tokenizer.decode(out[0, ids.shape[1] :]))
    return texts


def bare_prompts(world: World, num: int = 40) -> list[str]:
    """Word held-out items as an instruction would be, with nothing around it."""
    rng = random.Random(5)
    kinds = [*CLOZE_KINDS, "haiku", "danger"]
    return [_order(rng.choice(world.of((kinds[n % len(kinds)],), "held")), rng) for n in range(num)]


def starts_another(text: str) -> bool:
    """Tell whether a continuation asks or orders before it says anything else (a rough rule, for the log)."""
    first = text.replace("<|endoftext|>", "").strip().split("\n")[0]
    orders = {w.split(" ")[0] for words in WORDINGS.values() for w in words.train}
    word = first.split(" ")[0] if first else ""
    return "?" in first or word in orders or word[:1].isdigit() and "=" not in first


def probe(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World) -> dict[str, Any]:
    """Measure everything at once."""
    model.eval()
    cloze = {kind: round(recall(model, tokenizer, cloze_pairs(world, kind)), 3) for kind in CLOZE_KINDS}
    said = continuations(model, tokenizer, bare_prompts(world))
    copying = recall(model, tokenizer, copying_pairs(world))
    model.train()
    return {
        "cloze": round(sum(cloze.values()) / len(cloze), 3),
        "copying": round(copying, 3),
        "mimicry": sum(map(starts_another, said)) / len(said),
        "by_kind": cloze,
    }



