"""Measure how far tuning moved a model on prompts, and on the answers that it now gives.

Both models read the same ids: the prompt as the tuned model is asked, and the tuned model's own
greedy answer. Answers are told by the rank that the base gives each of their tokens, after Lin et
al. 2023 (The Unlocking Spell on Base LLMs, arXiv 2312.01552): at most places a tuned model says
what its base would have said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import encode
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import DataError, TemplateError
from biddable.evaluation.forgetting import encode_page
from biddable.evaluation.local_model import longest_sequence
from biddable.evaluation.runner import Outcome
from biddable.models.loading import LoadedModel
from biddable.models.token_scores import score_tokens

MAX_PROMPTS = 200
_AMONG = 3


@dataclass(frozen=True, slots=True)
class _Row:
    """Hold a prompt with its answer; ``start`` is the answer's first place in ``ids``."""

    ids: list[int]
    start: int


def measure_shift(
    base: LoadedModel,
    instruct: LoadedModel,
    outcomes: Sequence[Outcome],
    *,
    template: str | None = None,
) -> dict[str, Any]:
    """Let both models read prompts and the tuned model's answers.

    Args:
        base: the model before tuning.
        instruct: the model after it; its ids are read by both.
        outcomes: of the tuned model; 200 of them at most are taken, evenly.
        template: how it was asked; None for its own, or the bare prompt if it has none.

    Returns:
        ``prompts`` and ``answers``, each None where there is nothing to tell. Where the template's
        control tokens are new to the base, prompts are bare, and answers None.
    """
    name = template or instruct.template
    form = None
    if name is not None:
        form = get_template(name, instruct.tokenizer, control_text=instruct.control_text)
    num = min(len(outcomes), MAX_PROMPTS)
    chosen = [outcomes[n * len(outcomes) // num] for n in range(num)]
    rows = _readable(chosen, base, instruct, form)
    has_answers = bool(rows)
    if not rows and form is not None:
        name, rows = None, _readable(chosen, base, instruct, None)
    if not rows:
        return {"prompts": None, "answers": None}
    scores = score_tokens([base.model, instruct.model], [row.ids for row in rows])
    kls = [score.kl for score in scores if score.kl is not None]
    # the score at place t - 1 is that of the id at t
    asked = np.concatenate([kl[: r.start - 1] for r, kl in zip(rows, kls, strict=True)])
    told = np.concatenate([kl[r.start - 1 :] for r, kl in zip(rows, kls, strict=True)])
    ranks = np.concatenate([s.rank[0, r.start - 1 :] for r, s in zip(rows, scores, strict=True)])
    facts = {"form": name or "bare", "num_prompts": len(rows)}
    return {
        "prompts": {**facts, "kl_to_base": float(asked.mean()), "num_tokens": len(asked)}
        if len(asked)
        else None,
        "answers": {
            **facts,
            "kl_to_base": float(told.mean()),
            "num_tokens": len(told),
            "base_first_choice": float((ranks == 1).mean()),
            "base_first_three": float((ranks <= _AMONG).mean()),
        }
        if len(told) and has_answers
        else None,
    }


def _readable(
    outcomes: Sequence[Outcome],
    base: LoadedModel,
    instruct: LoadedModel,
    form: ChatTemplate | None,
) -> list[_Row]:
    """Encode those prompts, with their answers, that both models can read."""
    longest = min(longest_sequence(base), longest_sequence(instruct))
    known = min(_num_rows(base), _num_rows(instruct))
    shared = [outcome for outcome in outcomes if _is_shared(outcome, base, instruct)]
    rows = [row for row in (_row(o, instruct, form) for o in shared) if row is not None]
    return [row for row in rows if 1 < len(row.ids) <= longest and max(row.ids) < known]


def _is_shared(outcome: Outcome, base: LoadedModel, instruct: LoadedModel) -> bool:
    """Tell whether both tokenizers cut a prompt and its answer alike; else ids mean two texts."""
    return all(
        encode_page(text, base.tokenizer)[0] == encode_page(text, instruct.tokenizer)[0]
        for text in (outcome.sample.instruction, outcome.output)
    )


def _row(outcome: Outcome, instruct: LoadedModel, form: ChatTemplate | None) -> _Row | None:
    """Encode a prompt with its answer, its stop only if given; None if it cannot be shown."""
    sample, tokenizer = outcome.sample, instruct.tokenizer
    if form is None:
        ids, _ = encode_page(sample.instruction, tokenizer)
        whole, _ = encode_page(sample.instruction + outcome.output, tokenizer)
        return _Row(whole, len(ids)) if whole[: len(ids)] == ids else None
    asked = [Message(m.role, m.content, False, m.input) for m in sample.messages]
    answer = Message("assistant", outcome.output)
    try:
        example = encode(Conversation((*asked, answer)), form, tokenizer)
    except (TemplateError, DataError):  # what a model writes need not be what a template can show
        return None
    ids, start = list(example.input_ids), list(example.loss_mask).index(True)
    if outcome.behaviour.stopped is False:
        end = max(n for n, learned in enumerate(example.loss_mask) if learned)
        ids = ids[:end] if ids[end] in stop_ids(form, tokenizer) else ids
    return _Row(ids, start)


def _num_rows(loaded: LoadedModel) -> int:
    return int(loaded.model.get_output_embeddings().weight.shape[0])
