"""Prompts of every form, losses and judgements on a tiny model."""

from __future__ import annotations

import pytest
import torch

from biddable.data.encoding import encode_prompt
from biddable.data.templates import get_template
from biddable.errors import EvaluationError
from biddable.evaluation.runner import evaluate, judge_outputs
from biddable.models.loading import LoadedModel
from tests.evaluation.items import FRANCE, ITEMS, SUM, item
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return LoadedModel(tiny_model(), tiny_tokenizer(), name="tiny", source="tiny")


def nats(loaded: LoadedModel, prompt: list[int], answer: list[int]) -> float:
    """The plain way: one row, no padding."""
    logits = loaded.model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return -sum(float(logits[t, token]) for t, token in zip(places, answer, strict=True))


@torch.no_grad()
def test_the_loss_is_that_of_the_response_alone_in_every_form(loaded: LoadedModel) -> None:
    def ids(text: str) -> list[int]:
        return loaded.tokenizer(text, add_special_tokens=False)["input_ids"]

    shots = [("Say a.", "a"), ("Say b.", "b")]
    opening = "Instruction: Say a.\nResponse: a\n\nInstruction: Say b.\nResponse: b\n\n"
    bare, fewshot, template = (
        evaluate(loaded, [FRANCE, SUM], prompt_form=form, shots=shots, max_new_tokens=2)
        for form in ("bare", "fewshot", "template")
    )
    inst = get_template("inst", loaded.tokenizer)
    for n, sample in enumerate((FRANCE, SUM)):
        told, answer = sample.instruction, sample.response
        text = f"{opening}Instruction: {told}\nResponse:"
        for outcome, prompt, given in (
            (bare[n], [0, *ids(told)], ids("\n" + answer)),
            (fewshot[n], [0, *ids(text)], ids(" " + answer)),
            (
                template[n],
                encode_prompt(sample.messages, inst, loaded.tokenizer),
                ids(" " + answer),
            ),
        ):
            assert outcome.num_loss_tokens == len(given)
            assert outcome.answer_loss_sum == pytest.approx(nats(loaded, prompt, given), rel=1e-4)


def test_events_tell_the_stages_and_outcomes_keep_the_order(loaded: LoadedModel) -> None:
    events: list[dict[str, object]] = []
    outcomes = evaluate(loaded, ITEMS, prompt_form="bare", max_new_tokens=3, on_event=events.append)
    assert [event["stage"] for event in events] == ["generate", "loss", "judge"]
    assert [outcome.sample for outcome in outcomes] == ITEMS
    assert evaluate(loaded, []) == []


def test_prompts_that_do_not_fit_are_all_named(loaded: LoadedModel) -> None:
    long = item("long", "word " * 300, "yes", source="items.jsonl:3")
    with pytest.raises(EvaluationError, match=r"items.jsonl:3: the prompt \(bare\) has \d+ tokens"):
        evaluate(loaded, [FRANCE, long], prompt_form="bare")


def test_a_response_that_does_not_fit_has_no_loss(loaded: LoadedModel) -> None:
    long = item("long", "Say it.", "word " * 300)
    none = item("none", "Say it.", "")
    for form in ("bare", "template"):
        outcomes = evaluate(loaded, [long, none], prompt_form=form, max_new_tokens=2)
        assert [outcome.answer_loss_sum for outcome in outcomes] == [None, None]
        assert [outcome.correct for outcome in outcomes] == [None, None]


def test_following_needs_correct_stopped_and_no_run_on() -> None:
    outputs = ["Paris.", "Paris.", "Paris.\nName the capital of Peru.", "Lyon."]
    stops = [True, False, True, None]
    found = judge_outputs([FRANCE] * 4, outputs, stopped=stops)
    assert [outcome.correct for outcome in found] == [True, True, True, False]
    assert [outcome.following for outcome in found] == [True, False, False, False]
    assert judge_outputs([FRANCE], ["Paris."])[0].following is True  # not known fails nothing


def test_outputs_and_items_go_in_pairs() -> None:
    with pytest.raises(EvaluationError, match="5 items and 1 outputs"):
        judge_outputs(ITEMS, ["a"])
