"""Prompts and answers are told apart at the right place, and answers end where they ended."""

from __future__ import annotations

import pytest
import torch

from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.templates import get_template
from biddable.evaluation import token_shift
from biddable.evaluation.runner import Outcome, judge_outputs
from biddable.evaluation.token_shift import measure_shift
from biddable.models.loading import LoadedModel
from tests.evaluation.items import item
from tests.tiny import tiny_model, tiny_tokenizer

ASKED = item("f", "What is the capital?", "Paris")


def tiny(seed: int, vocab_size: int = 300) -> LoadedModel:
    model = tiny_model(seed, vocab_size)
    return LoadedModel(model, tiny_tokenizer(), name=f"tiny{seed}", source="")


def said(text: str, *, stopped: bool = True) -> list[Outcome]:
    return judge_outputs([ASKED], [text], stopped=[stopped])


@pytest.mark.parametrize("template", ["inst", "alpaca"])
def test_prompt_and_answer_are_the_ids_of_training(template: str) -> None:
    base, instruct = tiny(0), tiny(1)
    found = measure_shift(base, instruct, said("Paris is."), template=template)
    form = get_template(template, instruct.tokenizer)
    prompt = encode_prompt([Message("user", ASKED.instruction)], form, instruct.tokenizer)
    assert found["prompts"]["num_tokens"] == len(prompt) - 1  # the first is read, not scored
    assert found["prompts"]["form"] == template
    stopped = found["answers"]["num_tokens"]
    cut = measure_shift(base, instruct, said("Paris is.", stopped=False), template=template)
    assert cut["answers"]["num_tokens"] == stopped - 1  # no stop was given, so none is scored
    with torch.no_grad():
        first, last = (
            m.model(input_ids=torch.tensor([prompt])).logits[0, :-1] for m in (base, instruct)
        )
    log_first, log_last = first.log_softmax(-1), last.log_softmax(-1)
    kl = (log_last.exp() * (log_last - log_first)).sum(-1).mean()
    assert found["prompts"]["kl_to_base"] == pytest.approx(float(kl), rel=1e-4)


def test_a_model_says_what_it_would_have_said() -> None:
    """Its own greedy answer is its first choice at every place, in the bare form too."""
    from biddable.models.generation import generate

    model = tiny(0)
    ids = [0, *model.tokenizer(ASKED.instruction, add_special_tokens=False)["input_ids"]]
    (made,) = generate(model.model, [ids], stop_ids={0}, max_new_tokens=6)
    output = model.tokenizer.decode(made.ids)
    whole = model.tokenizer(ASKED.instruction + output, add_special_tokens=False)["input_ids"]
    found = measure_shift(model, model, said(output, stopped=False))
    assert found["prompts"]["form"] == "bare"
    assert found["prompts"]["kl_to_base"] == 0
    if [0, *whole] == ids + made.ids:
        assert found["answers"]["base_first_choice"] == 1
    assert found["answers"]["base_first_three"] >= found["answers"]["base_first_choice"]


def test_what_cannot_be_read_by_both_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"prompts": None, "answers": None}
    assert measure_shift(tiny(0), tiny(1), []) == nothing
    assert measure_shift(tiny(0), tiny(1), said("x" * 600), template="inst") == nothing
    grown = tiny(1, vocab_size=301)
    grown.tokenizer.add_tokens(["capital"])  # in the prompt itself, bare or not
    assert measure_shift(tiny(0), grown, said("Paris"), template="inst") == nothing
    swapped = tiny(1, vocab_size=301)  # each knows 301 ids, the last of which is another word
    swapped.tokenizer.add_tokens(["capital"])
    base = tiny(0, vocab_size=301)
    base.tokenizer.add_tokens(["Paris"])
    assert measure_shift(base, swapped, said("Paris"), template="inst") == nothing
    monkeypatch.setattr(token_shift, "MAX_PROMPTS", 2)
    found = measure_shift(tiny(0), tiny(1), said("Paris") * 5, template="inst")
    assert found["prompts"]["num_prompts"] == 2
