"""Put a suite to one model and judge what it writes.

Prompts are made in one of three forms, answers are generated greedily, and the loss on the
reference response is taken under the same prompt. Comparing two models is comparison's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from biddable.data.batching import collate
from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import Example, encode_all
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import EvaluationError, join_problems
from biddable.evaluation.behaviour import Behaviour, judge
from biddable.evaluation.check_forms import judges_whole
from biddable.evaluation.checks import Verdict, run_checks
from biddable.evaluation.sample import Sample
from biddable.evaluation.suites import fewshot_examples
from biddable.models.generation import generate
from biddable.models.loading import LoadedModel
from biddable.models.loss import next_token_loss

PromptForm = Literal["bare", "template", "fewshot"]
Event = dict[str, object]

_BATCH_SIZE = 128
_MAX_LOGITS = 1 << 26  # values in one tensor of logits; 256 MB in float32


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say how a model fared on one item.

    Attributes:
        sample: the item.
        output: what the model wrote, without its stop token.
        verdict: of the item's check, on the answer alone; None without a check.
        behaviour: mimicry, run-on, stop and refusal.
        correct: the verdict passed; None without a check.
        following: correct, ended by itself and did not run on; None without a check.
        answer_loss_sum: nats, over the tokens of the reference response, its stop left out.
        num_loss_tokens: how many those are.
    """

    sample: Sample
    output: str
    verdict: Verdict | None
    behaviour: Behaviour
    correct: bool | None
    following: bool | None
    answer_loss_sum: float | None = None
    num_loss_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Hold the prompts of a suite and, for the loss, the prompts with their responses."""

    prompts: list[list[int]]
    examples: list[Example]
    stop_ids: set[int]
    template: ChatTemplate | None


def evaluate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    *,
    prompt_form: PromptForm = "template",
    template: str | None = None,
    max_new_tokens: int = 128,
    run_code: bool = False,
    shots: Sequence[tuple[str, str]] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[Outcome]:
    """Put items to a model.

    Args:
        loaded: the model.
        samples: the items.
        prompt_form: ``bare`` (the instruction and nothing else), ``template``, or ``fewshot``
            (three fixed examples before it).
        template: name of the template; None for the model's own, as ``get_template`` finds it.
        max_new_tokens: an answer that is longer is cut, and has not stopped by itself.
        run_code: whether Python that differs from its reference is run, in a limited process.
        shots: the examples of ``fewshot``; None for general ones.
        on_event: told ``{"stage", "prompt_form", "num_samples"}`` before each stage.

    Returns:
        An outcome each, in order.

    Raises:
        EvaluationError: a check is malformed, or prompts are too long for the model; all are named.
        TemplateError: the template is unknown, or cannot show an item.
    """
    tell = on_event or (lambda event: None)
    facts: Event = {"prompt_form": prompt_form, "num_samples": len(samples)}
    if not samples:
        return []
    prepared = _prepare(loaded, samples, prompt_form, template=template, shots=shots)

    tell({"stage": "generate", **facts})
    limits = {"max_new_tokens": max_new_tokens, "batch_size": _BATCH_SIZE}
    generations = generate(loaded.model, prepared.prompts, stop_ids=prepared.stop_ids, **limits)
    outputs = _decode(loaded, [g.ids for g in generations], prepared.template)
    tell({"stage": "loss", **facts})
    losses = _answer_losses(loaded, prepared.examples)
    tell({"stage": "judge", **facts})
    return judge_outputs(
        samples,
        outputs,
        stopped=[g.stopped for g in generations],
        losses=losses,
        run_code=run_code,
    )


def judge_outputs(
    samples: Sequence[Sample],
    outputs: Sequence[str],
    *,
    stopped: Sequence[bool | None] | None = None,
    losses: Sequence[tuple[float, int] | None] | None = None,
    run_code: bool = False,
) -> list[Outcome]:
    """Judge outputs that are already there.

    Args:
        samples: the items.
        outputs: one each.
        stopped: whether each ended by itself; None where that is not known, which fails nothing.
        losses: sum and count of each item's loss, where known.
        run_code: as in ``evaluate``.

    Raises:
        EvaluationError: the numbers differ, or a check is malformed.
    """
    stops = stopped if stopped is not None else [None] * len(samples)
    known_losses = losses if losses is not None else [None] * len(samples)
    if not len(samples) == len(outputs) == len(stops) == len(known_losses):
        raise EvaluationError(f"{len(samples)} items and {len(outputs)} outputs; give one each.")
    behaviours = [
        judge(s.instruction, output, stopped=stop, may_echo=s.may_echo, may_ask=s.may_ask)
        for s, output, stop in zip(samples, outputs, stops, strict=True)
    ]
    checked = [n for n, sample in enumerate(samples) if sample.check is not None]
    pairs = [
        (check, outputs[n] if judges_whole(check) else behaviours[n].answer)
        for n, check in ((n, samples[n].check or {}) for n in checked)
    ]
    found = run_checks(pairs, run_code=run_code)
    verdicts = dict(zip(checked, found, strict=True))
    outcomes = []
    for n, (sample, behaviour) in enumerate(zip(samples, behaviours, strict=True)):
        verdict = verdicts.get(n)
        is_clean = behaviour.stopped is not False and not (behaviour.mimicry or behaviour.run_on)
        loss_sum, num_loss_tokens = known_losses[n] or (None, 0)
        outcomes.append(
            Outcome(
                sample=sample,
                output=outputs[n],
                verdict=verdict,
                behaviour=behaviour,
                correct=None if verdict is None else verdict.passed,
                following=None if verdict is None else verdict.passed and is_clean,
                answer_loss_sum=loss_sum,
                num_loss_tokens=num_loss_tokens,
            )
        )
    return outcomes


def _prepare(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    prompt_form: PromptForm,
    *,
    template: str | None,
    shots: Sequence[tuple[str, str]] | None,
) -> _Prepared:
    if prompt_form == "template":
        form = get_template(
            template or loaded.template, loaded.tokenizer, control_text=loaded.control_text
        )
        prepared = _prepare_template(loaded, samples, form)
    else:
        given = fewshot_examples() if shots is None else shots
        prepared = _prepare_plain(loaded, samples, given if prompt_form == "fewshot" else ())
    _check_lengths(loaded, samples, prepared.prompts, prompt_form)
    return prepared


def _prepare_template(
    loaded: LoadedModel, samples: Sequence[Sample], template: ChatTemplate
) -> _Prepared:
    tokenizer = loaded.tokenizer
    stop_id = stop_ids(template, tokenizer)[0]
    conversations = [
        Conversation(
            (
                *(Message(m.role, m.content, False, m.input) for m in sample.messages),
                Message("assistant", sample.response),
            ),
        )
        for sample in samples
    ]
    encoded, _ = encode_all(conversations, template, tokenizer, max_seq_len=None)
    prompts, examples = [], []
    for sample, example in zip(samples, encoded, strict=True):
        start = example.loss_mask.index(True)
        prompts.append(example.input_ids[:start])
        mask = [
            learned and token_id != stop_id and bool(sample.response)
            for token_id, learned in zip(example.input_ids, example.loss_mask, strict=True)
        ]
        examples.append(Example(example.input_ids, mask))
    ends = {*stop_ids(template, tokenizer), *loaded.end_ids()}
    return _Prepared(prompts, examples, ends, template)


def _prepare_plain(
    loaded: LoadedModel, samples: Sequence[Sample], shots: Sequence[tuple[str, str]]
) -> _Prepared:
    """Prepare bare prompts, or prompts that open with examples in a form of no template."""
    tokenizer = loaded.tokenizer
    opening = "".join(f"Instruction: {asked}\nResponse: {given}\n\n" for asked, given in shots)
    texts = [
        f"{opening}Instruction: {sample.instruction}\nResponse:" if shots else sample.instruction
        for sample in samples
    ]
    between = " " if shots else "\n"
    answers = [between + sample.response for sample in samples]

    def encode(rows: list[str]) -> list[list[int]]:
        found: list[list[int]] = tokenizer(
            rows, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        return found

    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    prompts = [start + ids for ids in encode(texts)]
    examples = [
        Example(prompt + ids, [False] * len(prompt) + [bool(sample.response)] * len(ids))
        for sample, prompt, ids in zip(samples, prompts, encode(answers), strict=True)
    ]
    return _Prepared(prompts, examples, loaded.end_ids(), None)


def _check_lengths(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    prompts: Sequence[Sequence[int]],
    prompt_form: PromptForm,
) -> None:
    longest = longest_sequence(loaded)
    problems = [
        f"{sample.source or sample.id}: the prompt ({prompt_form}) has {len(prompt)} tokens; the "
        f"model takes {longest}, its answer counted. Leave the item out, or shorten it."
        for sample, prompt in zip(samples, prompts, strict=True)
        if len(prompt) >= longest
    ]
    if problems:
        raise EvaluationError(join_problems(problems))


def longest_sequence(loaded: LoadedModel) -> int:
    """Say how many ids the model takes at once."""
    config = loaded.model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def _decode(loaded: LoadedModel, rows: list[list[int]], template: ChatTemplate | None) -> list[str]:
    texts: list[str] = loaded.tokenizer.batch_decode(
        rows, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return texts if template is None else [template.read_answer(text) for text in texts]


@torch.no_grad()
def _answer_losses(
    loaded: LoadedModel, examples: Sequence[Example]
) -> list[tuple[float, int] | None]:
    """Add up the loss on each reference response; None where it does not fit the model."""
    model, longest = loaded.model, longest_sequence(loaded)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    losses: list[tuple[float, int] | None] = [None] * len(examples)
    order = sorted(
        (n for n, example in enumerate(examples) if len(example.input_ids) <= longest),
        key=lambda n: len(examples[n].input_ids),
    )
    for rows in _by_size(order, [len(e.input_ids) for e in examples], _MAX_LOGITS // vocabulary):
        batch = collate([examples[n] for n in rows])
        device = next(model.parameters()).device
        labels = batch.labels.to(device)
        logits = model(input_ids=batch.input_ids.to(device), use_cache=False).logits  # (B, T, V)
        for row, n in enumerate(rows):
            loss_sum, num_loss_tokens = next_token_loss(
                logits[row : row + 1], labels[row : row + 1]
            )
            if num_loss_tokens > 0:  # a prompt of the user's own has no reference response
                losses[n] = float(loss_sum), int(num_loss_tokens)
    return losses


def _by_size(order: Sequence[int], lengths: Sequence[int], most: int) -> list[list[int]]:
    """Group rows, sorted by length, so that a padded group has at most so many tokens."""
    limit = min(most, 8192)
    groups: list[list[int]] = []
    for n in order:
        if groups and (len(groups[-1]) + 1) * lengths[n] <= limit:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups
