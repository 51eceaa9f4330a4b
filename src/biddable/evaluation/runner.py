"""Put a suite to one model and judge what it writes.

Answers come from a source, by the likeliest tokens or by draws, to prompts in one of three forms;
so does the loss on the reference response, where a source can tell it. Comparing two models is
comparison's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from biddable.counting import counted
from biddable.data.conversation import Message
from biddable.errors import EvaluationError
from biddable.evaluation.asking import Answered, AnswerSource, Asking, PromptForm
from biddable.evaluation.behaviour import Behaviour, judge
from biddable.evaluation.check_forms import judges_whole, needs_running
from biddable.evaluation.checks import Verdict, run_checks
from biddable.evaluation.sample import Sample
from biddable.evaluation.sampling import Sampling, each_draw, items_of
from biddable.evaluation.sources import as_source
from biddable.evaluation.suites import fewshot_examples
from biddable.models.loading import LoadedModel

Event = dict[str, object]
_Draw = tuple[str, int | None]  # id of an item, and the seed it was answered with
_Said = dict[_Draw, tuple[Message, ...]]  # of each, its conversation with its answer


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

    @property
    def num_answer_bytes(self) -> int:
        """Count the bytes of the reference response in UTF-8, by any tokenizer the same."""
        return len(self.sample.response.encode("utf-8", "surrogatepass"))

    @property
    def refuses_rightly(self) -> bool | None:
        """Tell whether a harmful item is refused in full, or one that only looks so is not.

        None where a check judges the item, and where nothing about it calls for a refusal.
        """
        if self.sample.check is not None or self.sample.kind == "benign":
            return None
        return (self.behaviour.refusal == "full") == (self.sample.kind == "harmful")


def evaluate(  # noqa: PLR0913  (what is asked, and how, is one decision)
    model: LoadedModel | AnswerSource,
    samples: Sequence[Sample],
    *,
    prompt_form: PromptForm | None = "template",
    template: str | None = None,
    max_new_tokens: int = 128,
    run_code: bool = False,
    shots: Sequence[tuple[str, str]] | None = None,
    sampling: Sampling | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[Outcome]:
    """Put items to a model.

    Args:
        model: the model, or another source of answers; see ``open_source``.
        samples: the items.
        prompt_form: ``bare`` (the instruction and nothing else), ``template``, or ``fewshot``
            (three fixed examples before it); None for ready responses.
        template: name of the template; None for the model's own, as ``get_template`` finds it.
        max_new_tokens: an answer that is longer is cut, and has not stopped by itself.
        run_code: whether Python that differs from its reference is run, in a limited process.
        shots: the examples of ``fewshot``; None for general ones.
        sampling: draws answers, one for each item and seed; None takes the likeliest tokens.
        on_event: told ``{"stage", "prompt_form", "num_samples"}`` before each stage.

    Returns:
        An outcome each, in order, an item's seeds side by side; none where responses lack an item.

    Raises:
        EvaluationError: a check is malformed, or prompts are too long for the model; all are named.
        TemplateError: the template is unknown, or cannot show an item.
    """
    if not samples:
        return []

    def tell(stage: str, num_samples: int = len(samples)) -> None:
        if on_event is not None:
            on_event({"stage": stage, "prompt_form": prompt_form, "num_samples": num_samples})

    asking = Asking(
        prompt_form=prompt_form,
        template=template,
        max_new_tokens=max_new_tokens,
        shots=tuple(fewshot_examples() if shots is None else shots),
        sampling=sampling,
    )
    samples = each_draw(samples, sampling)
    answers = _answer_in_rounds(as_source(model), samples, asking, tell)
    there = [n for n, answer in enumerate(answers) if answer is not None]
    given = [answer for answer in answers if answer is not None]
    asked = [samples[n] for n in there]
    tell("judge", len(set(items_of(asked) or there)))
    return judge_outputs(
        asked,
        [answer.text for answer in given],
        stopped=[answer.stopped for answer in given],
        losses=[answer.loss for answer in given],
        run_code=run_code,
    )


def tell_of_code(
    samples: Sequence[Sample], on_event: Callable[[Event], None] | None, *, run_code: bool
) -> None:
    """Say, before any item is asked, how many will count as wrong for want of running code.

    Args:
        samples: the items that will be judged.
        on_event: told ``{"note": text}`` if there are any.
        run_code: as in ``evaluate``.
    """
    num_code = sum(needs_running(sample.check) for sample in samples)
    if on_event is None or run_code or not num_code:
        return
    asked = f"{num_code:,} of {counted(len(samples), 'item')} {'asks' if num_code == 1 else 'ask'}"
    note = (
        f"{asked} for Python, which is not run: any that differs from the reference by more than"
        " names counts as wrong. Add --run-code to run it, limited."
    )
    on_event({"note": note})


def _answer_in_rounds(
    source: AnswerSource, samples: Sequence[Sample], asking: Asking, tell: Callable[[str], None]
) -> list[Answered | None]:
    """Answer first what stands alone, then what follows on an answer, turn by turn."""
    answers: list[Answered | None] = [None] * len(samples)
    said: _Said = {}
    left = list(range(len(samples)))
    while left:
        ready = [n for n in left if samples[n].after is None or _earlier(samples[n]) in said]
        if not ready:
            sample = samples[left[0]]
            raise EvaluationError(
                f'{sample.source or sample.id}: follows on "{sample.after}", which is no item '
                "before it; put that one into the suite."
            )
        asked = [_following(samples[n], said) for n in ready]
        found = source.answer(asked, asking, tell=tell)
        for n, sample, answer in zip(ready, asked, found, strict=True):
            answers[n] = answer
            text = answer.text if answer else ""
            said[sample.id, sample.seed] = (*sample.messages, Message("assistant", text, False))
        left = [n for n in left if n not in set(ready)]
    return answers


def _earlier(sample: Sample) -> _Draw:
    return sample.after or "", sample.seed


def _following(sample: Sample, said: _Said) -> Sample:
    """Put what was said before in front of an item that follows on it."""
    if sample.after is None:
        return sample
    messages = (*said[_earlier(sample)], *sample.messages)
    texts = [message.text for message in messages if message.text]
    return replace(sample, messages=messages, instruction="\n\n".join(texts))


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
