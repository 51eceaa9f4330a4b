"""Look at a base before it is trained: can it learn to stop, and does it know the template's marks?

Call it once what trains is settled on the model, for the answer depends on that: a row that no
text ever trained is no obstacle where it is trained now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import encode
from biddable.data.problems import Problem
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import ConfigError, TemplateError
from biddable.models.causality import sees_ahead
from biddable.models.freezing import has_tied_head
from biddable.models.loading import LoadedModel
from biddable.models.rows import RowState, hidden_radius, matrix, reach, row_states
from biddable.models.token_rows import row_trains

_log = logging.getLogger(__name__)

Verdict = Literal["ok", "note", "warning", "error"]

_PROBES = (
    (Message("system", "S"), Message("user", "U"), Message("assistant", "A")),
    (Message("user", "U"), Message("assistant", "A")),
)
_STATES: dict[RowState, str] = {
    "trained": "trained",
    "zero": "untrained (below 1 % of the usual length of a row: zeros, or next to nothing)",
    "small": "untrained (far smaller than the vocabulary's)",
    "mean": "untrained (the mean of the others, as a resize leaves it)",
    "crowded": "untrained (in one place with other rows, as all that no text ever used)",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Hold one thing seen.

    Attributes:
        code: short and stable, for programs: ``stop-token``.
        text: what was found.
        verdict: ``ok``; ``note``, to know; ``warning``, may cost quality; ``error``, cannot work.
        advice: what to do; empty if nothing.
    """

    code: str
    text: str
    verdict: Verdict = "ok"
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Hold what was found.

    Attributes:
        template: its name.
        stop_text: the token that ends an answer.
        stop_id: its id.
        stop_state: of its row in the head.
        stop_trains: whether that row is trained now.
        stop_reach: the highest probability that the head, as it is, can give it; None if its row
            is trained.
        facts: line by line.
    """

    template: str
    stop_text: str
    stop_id: int
    stop_state: RowState
    stop_trains: bool
    stop_reach: float | None
    facts: tuple[Fact, ...]

    @property
    def is_ready(self) -> bool:
        """Say whether training can reach its end: that the model stops by itself."""
        return all(fact.verdict != "error" for fact in self.facts)

    @property
    def problems(self) -> list[Problem]:
        """List what is wrong."""
        return [
            Problem(
                fact.code,
                f"{fact.text}. {fact.advice}".strip(),
                severity="error" if fact.verdict == "error" else "warning",
            )
            for fact in self.facts
            if fact.verdict in ("warning", "error")
        ]


def assess(loaded: LoadedModel, template: ChatTemplate) -> Readiness:
    """Look at a base, given how turns are written and what trains.

    Args:
        loaded: the base; what trains is settled on it (``requires_grad``).
        template: made with its tokenizer.

    Returns:
        What was found, the stop token first.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    stop_id = int(str(tokenizer.convert_tokens_to_ids(template.stop_text)))
    embeddings, head = matrix(model.get_input_embeddings()), matrix(model.get_output_embeddings())
    trains = row_trains(model.get_output_embeddings(), stop_id)
    if stop_id >= len(head):
        state: RowState = "trained"
        reached = None
        facts = [_beyond(template.stop_text, stop_id, len(head))]
    else:
        state = row_states(head, [stop_id])[stop_id]
        reached = None if trains else _reach(model, stop_id)
        facts = [_stop_fact(template, state, trains=trains, reached=reached)]
    facts += _control_facts(loaded, template, embeddings=embeddings, stop_id=stop_id)
    facts += [Fact("template", note, "note") for note in template.notes]
    facts += _config_facts(loaded, template, stop_id=stop_id)
    facts += _shape_facts(model, tokenizer)
    return Readiness(
        template=template.name,
        stop_text=template.stop_text,
        stop_id=stop_id,
        stop_state=state,
        stop_trains=trains,
        stop_reach=reached,
        facts=tuple(facts),
    )


def choose_template(
    name: str | None, loaded: LoadedModel, **options: Any
) -> tuple[ChatTemplate, Readiness]:
    """Make the template, and where none is asked for, one whose stop token the base can learn.

    Tried in order: the tokenizer's own, then ``inst``. If its end-of-text token is the obstacle,
    another special token that the base knows takes its place in the tokenizer; that is logged and
    a fact of the result.

    Args:
        name: as in the config; None leaves the choice.
        loaded: the base; what trains is settled on it. Its ``tokenizer.eos_token`` may change.
        **options: what else ``get_template`` takes.

    Raises:
        TemplateError: the template is unknown, or the tokenizer lacks what it needs.
    """
    first = get_template(name, loaded.tokenizer, **options)
    found = assess(loaded, first)
    if found.is_ready:
        return first, found
    for template, readiness in _others(name, loaded, options):
        if readiness.is_ready:
            text = (
                f'{template.stop_text} ends an answer ("{template.name}"), since '
                f'{first.stop_text} ("{first.name}") could not be learned'
            )
            _log.info(text)
            facts = (Fact("stop-chosen", text, "note"), *readiness.facts)
            return template, replace(readiness, facts=facts)
    return first, found


def control_ids(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """List the ids of the added tokens of a rendered exchange, in order, each once."""
    controls = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids)
    controls.discard(tokenizer.unk_token_id)  # a letter of the probe that the vocabulary lacks
    for probe in _PROBES:
        try:
            ids = encode(Conversation(probe), template, tokenizer).input_ids
        except TemplateError:  # a template without a place for system messages
            continue
        return list(dict.fromkeys(token_id for token_id in ids if token_id in controls))
    return []


def require_ready(readiness: Readiness) -> None:
    """Refuse to train what cannot come out well.

    Raises:
        ConfigError: of the facts, one or more say so.
    """
    errors = [str(problem) for problem in readiness.problems if problem.severity == "error"]
    if errors:
        raise ConfigError("\n".join(errors))


def _others(
    name: str | None, loaded: LoadedModel, options: Mapping[str, Any]
) -> Iterator[tuple[ChatTemplate, Readiness]]:
    """Try what else could end an answer; the tokenizer is left as it was if none does."""
    tokenizer = loaded.tokenizer
    asked, eos = name or "inst", tokenizer.eos_token
    ends = [str(tokenizer.convert_ids_to_tokens(end)) for end in sorted(loaded.end_ids())]
    for token in dict.fromkeys((eos, *ends, tokenizer.bos_token, tokenizer.pad_token)):
        if token is None or (token == eos and name is not None):
            continue  # the latter is what did not do
        tokenizer.eos_token = token
        try:
            template = get_template(asked, tokenizer, **options)
        except TemplateError:
            continue
        if template.stop_text == token:
            yield template, assess(loaded, template)
    tokenizer.eos_token = eos


def _stop_fact(
    template: ChatTemplate, state: RowState, *, trains: bool, reached: float | None
) -> Fact:
    token = f'the stop token {template.stop_text} (template "{template.name}")'
    if trains:
        how = "" if state == "trained" else f"; it is {_STATES[state]} so far"
        return Fact("stop-token", f"{token} can be learned: its row in the head trains{how}")
    frozen = "its row in the head stays as it is"
    advice = (
        f'Set method.train_tokens: ["{template.stop_text}"], which trains its row alone (auto does'
        ' where it is untrained), or use method "full", or a template that ends with a token the'
        ' base knows ("inst" and "alpaca" end with the tokenizer\'s eos_token).'
    )
    if reached is not None and reached < 0.5:
        limit = f"{100 * reached:.2g} %"
        text = f"{token} can never be learned: {frozen}, {_STATES[state]}, and whatever the layers"
        return Fact("stop-token", f"{text} below do gives it at most {limit}", "error", advice)
    if state != "trained":
        text = f"{token} can never be learned well: it is {_STATES[state]}, and {frozen}"
        return Fact("stop-token", text, "error", advice)
    return Fact("stop-token", f"{token} can be learned; {frozen}, and can make it the likeliest")


def _beyond(token: str, token_id: int, num_rows: int) -> Fact:
    return Fact(
        "beyond-vocabulary",
        f"{token} has id {token_id}, and the model has {num_rows} rows",
        "error",
        f'Add a row for it (method.new_tokens: ["{token}"]), or use the tokenizer that belongs to'
        " the model.",
    )


def _control_facts(
    loaded: LoadedModel, template: ChatTemplate, *, embeddings: Tensor, stop_id: int
) -> list[Fact]:
    """Look at the control tokens that the prompt holds."""
    tokenizer = loaded.tokenizer
    facts = []
    ids = [token_id for token_id in control_ids(template, tokenizer) if token_id != stop_id]
    states = row_states(embeddings, [token_id for token_id in ids if token_id < len(embeddings)])
    for token_id in ids:
        token = str(tokenizer.convert_ids_to_tokens(token_id))
        if token_id not in states:
            facts.append(_beyond(token, token_id, len(embeddings)))
            continue
        text = f"the control token {token} is {_STATES[states[token_id]]}"
        trains = row_trains(loaded.model.get_input_embeddings(), token_id)
        if states[token_id] == "trained" or trains:
            suffix = " in the embeddings" + (", and trains" if trains else "")
            facts.append(Fact("control-token", text + suffix))
            continue
        text += " in the embeddings, and stays so: the model reads noise there"
        advice = 'Leave method.train_tokens at auto, or use a template in plain text ("inst").'
        facts.append(Fact("control-token", text, "warning", advice))
    for marker in template.markers:
        num_ids = len(tokenizer(marker, add_special_tokens=False).input_ids)
        facts.append(Fact("text-marker", f"{marker} is ordinary text, {num_ids} tokens", "ok"))
    return facts


def _config_facts(loaded: LoadedModel, template: ChatTemplate, *, stop_id: int) -> list[Fact]:
    """Hold the settings that travel with a base against the template."""
    tokenizer, facts = loaded.tokenizer, []
    ends = sorted(loaded.end_ids())
    names = ", ".join(str(tokenizer.convert_ids_to_tokens(end)) for end in ends) or "nothing"
    if stop_id not in ends:
        text = f"generation_config and tokenizer stop at {names}, not at {template.stop_text}"
        facts.append(Fact("generation-stop", f"{text}; the run folder will say the latter", "note"))
    else:
        facts.append(Fact("generation-stop", f"generation stops at {names}"))
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id == tokenizer.eos_token_id:
        text = f"padding is the end-of-text token, {tokenizer.eos_token}"
        facts.append(Fact("pad-is-eos", f"{text}; harmless here, padding is known by position"))
    return facts


def _shape_facts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Fact]:
    tied = has_tied_head(model)
    facts = [Fact("tied-head", f"embeddings and head {'share' if tied else 'do not share'} rows")]
    num_rows, num_tokens = len(matrix(model.get_input_embeddings())), len(tokenizer)
    if num_tokens > num_rows:
        text = f"the tokenizer has {num_tokens:,} tokens, and the model {num_rows:,} rows"
        advice = "A row of data that holds one of the others fails; resize the embeddings."
        facts.append(Fact("vocabulary", text, "warning", advice))
    else:
        spare = num_rows - num_tokens
        padded = f", {spare:,} of them beyond the tokenizer's" if spare else ""
        facts.append(Fact("vocabulary", f"{num_rows:,} rows in the vocabulary{padded}"))
    if sees_ahead(model):
        text = f"{type(model).__name__} sees the tokens that it is to predict: it is no causal LM"
        advice = "Set is_decoder in its config.json if it has that; or choose another base."
        facts.append(Fact("sees-ahead", text, "error", advice))
    config = model.config.get_text_config(decoder=True)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None:
        facts.append(Fact("positions", f"the base reads up to {longest:,} tokens"))
    return facts


def _reach(model: PreTrainedModel, token_id: int) -> float:
    return reach(model.get_output_embeddings(), token_id, radius=hidden_radius(model))
