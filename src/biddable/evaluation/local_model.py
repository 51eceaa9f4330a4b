"""Let a model that runs in this process answer items, and take the loss on their responses."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import transformers

from biddable.data.batching import collate
from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import Example, encode_all
from biddable.data.grouping import by_kind
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import EvaluationError, join_problems
from biddable.evaluation.answer_cache import AnswerCache, fill, hash_weights, key_of
from biddable.evaluation.asking import Answered, Asking, PromptForm, Tell, plain_text
from biddable.evaluation.sample import Sample
from biddable.evaluation.sampling import seed_of_prompt
from biddable.models import generation
from biddable.models.cpu_linear import fast_linears
from biddable.models.generation import generate_each
from biddable.models.loading import LoadedModel
from biddable.models.loss import next_token_loss
from biddable.models.rope import AngleLimits, own_angles

_BATCH_SIZE = 128
_MAX_LOGITS = 1 << 26  # values in one tensor of logits; 256 MB in float32


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Hold the prompts of a suite and, for the loss, the prompts with their responses."""

    prompts: list[list[int]]
    examples: list[Example]
    stop_ids: set[int]
    template: ChatTemplate | None


class LocalModel:
    """A loaded model as a source of answers; see ``AnswerSource``."""

    is_ready = False

    def __init__(self, loaded: LoadedModel, *, cache: AnswerCache | None = None) -> None:
        """Take the model, and where its answers are kept; None keeps none."""
        self.loaded = loaded
        self.cache = cache
        self.name = loaded.name
        self.source = loaded.source
        self.template = loaded.template
        self.manifest = loaded.manifest
        is_taught = bool((loaded.manifest or {}).get("template"))
        self.taught: PromptForm | None = "template" if is_taught else None

    def answer(
        self, samples: Sequence[Sample], asking: Asking, *, tell: Tell
    ) -> list[Answered | None]:
        """Answer items in batches, and take the loss on their reference responses.

        Raises:
            EvaluationError: prompts are too long for the model; all are named.
            TemplateError: the template is unknown, or cannot show an item.
        """
        prepared = _prepare(self.loaded, samples, asking)
        _check_lengths(self.loaded, samples, prepared.prompts, asking.prompt_form)
        known = self._fingerprint() if self.cache else ""
        tell("generate")
        written = self._generate(prepared, asking, [sample.seed for sample in samples], known)
        tell("loss")
        losses = self._losses(prepared.examples, known)
        ids = [row["ids"] for row in written]
        texts: list[str] = self.loaded.tokenizer.batch_decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if prepared.template is not None:
            texts = [prepared.template.read_answer(text) for text in texts]
        return [
            Answered(text, row["stopped"], loss)
            for text, row, loss in zip(texts, written, losses, strict=True)
        ]

    def _fingerprint(self) -> str:
        model = self.loaded.model
        device = next(model.parameters()).device.type
        versions = [torch.__version__, transformers.__version__, platform.machine()]
        facts = {"config": model.config.to_dict(), "device": device, "versions": versions}
        return hash_weights(model, facts=facts)

    def _generate(
        self, prepared: _Prepared, asking: Asking, seeds: Sequence[int | None], known: str
    ) -> list[Any]:
        prompts, sampling = prepared.prompts, asking.sampling
        decoding: dict[str, Any] = {
            "limit": asking.max_new_tokens,
            "stop": sorted(prepared.stop_ids),
        }
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p} if sampling else {}
        draws = [seed_of_prompt(seed or 0, ids) for seed, ids in zip(seeds, prompts, strict=True)]

        def compute(places: list[int]) -> Iterator[tuple[int, Any]]:
            by_length = sorted(places, key=lambda n: len(prompts[n]))
            for start in range(0, len(by_length), _BATCH_SIZE):
                chosen = by_length[start : start + _BATCH_SIZE]
                ended = generate_each(
                    self.loaded.model,
                    [prompts[n] for n in chosen],
                    stop_ids=prepared.stop_ids,
                    max_new_tokens=asking.max_new_tokens,
                    batch_size=_BATCH_SIZE,
                    seed=[draws[n] for n in chosen],
                    **drawn,
                )
                for row, made in ended:
                    yield chosen[row], {"ids": made.ids, "stopped": made.stopped}

        told = [{**drawn, "seed": seed} if sampling else {} for seed in seeds]
        keys = [
            key_of(model=known, prompt=prompt, **decoding, **facts)
            for prompt, facts in zip(prompts, told, strict=True)
        ]
        return fill(self.cache, keys, compute)

    def _losses(self, examples: Sequence[Example], known: str) -> list[tuple[float, int] | None]:
        keys = [key_of(model=known, ids=e.input_ids, mask=e.loss_mask) for e in examples]
        found = fill(self.cache, keys, lambda places: _losses_of(self.loaded, examples, places))
        return [None if loss is None else (loss[0], loss[1]) for loss in found]


def _prepare(loaded: LoadedModel, samples: Sequence[Sample], asking: Asking) -> _Prepared:
    if asking.prompt_form != "template":
        return _prepare_plain(loaded, samples, asking)
    form = get_template(
        asking.template or loaded.template, loaded.tokenizer, control_text=loaded.control_text
    )
    return _prepare_template(loaded, samples, form)


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


def _prepare_plain(loaded: LoadedModel, samples: Sequence[Sample], asking: Asking) -> _Prepared:
    """Prepare bare prompts, or prompts that open with examples in a form of no template."""
    tokenizer = loaded.tokenizer
    texts = [plain_text(sample.instruction, asking) for sample in samples]
    between = " " if asking.prompt_form == "fewshot" else "\n"
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
    prompt_form: PromptForm | None,
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
    return generation.longest_sequence(loaded.model)


@torch.no_grad()
def _losses_of(
    loaded: LoadedModel, examples: Sequence[Example], places: Sequence[int]
) -> Iterator[tuple[int, tuple[float, int] | None]]:
    """Add up the loss on reference responses; None where one does not fit the model."""
    model, longest = loaded.model, longest_sequence(loaded)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    # a prompt of the user's own has no reference response, and no forward is run for it
    fits = {
        n for n in places if len(examples[n].input_ids) <= longest and any(examples[n].loss_mask)
    }
    yield from ((n, None) for n in places if n not in fits)
    lengths = [len(e.input_ids) for e in examples]
    order = sorted(fits, key=lengths.__getitem__)
    parts = by_kind(order, AngleLimits.of(model).kinds(lengths))
    for rows in chain.from_iterable(
        _by_size(part, lengths, _MAX_LOGITS // vocabulary) for part in parts
    ):
        batch = collate([examples[n] for n in rows])
        device = next(model.parameters()).device
        labels = batch.labels.to(device)
        with fast_linears(model), own_angles(model):
            logits = model(input_ids=batch.input_ids.to(device), use_cache=False).logits
        for row, n in enumerate(rows):  # of (B, T, V)
            loss_sum, num_loss_tokens = next_token_loss(
                logits[row : row + 1], labels[row : row + 1]
            )
            known = int(num_loss_tokens)
            yield n, (float(loss_sum), known) if known else None


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
