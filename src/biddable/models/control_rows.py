"""Choose the control tokens whose rows are to be trained beside an adapter or above frozen layers.

Readiness says which rows no text of the base ever trained; here those of them that the template
needs are let go, so that nobody has to train a whole vocabulary for two tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from biddable.data.templates import ChatTemplate
from biddable.errors import ConfigError, nearest
from biddable.models.loading import LoadedModel
from biddable.models.readiness import control_ids
from biddable.models.rows import matrix, row_states
from biddable.models.token_rows import row_trains, train_token_rows


def train_control_rows(
    loaded: LoadedModel,
    template: ChatTemplate,
    *,
    asked: Literal["auto", "none"] | Sequence[str] = "auto",
    new_ids: Sequence[int] = (),
) -> str:
    """Let rows of control tokens be trained where the matrices around them are frozen, in place.

    Args:
        loaded: the base; what else trains is settled on it.
        template: made with its tokenizer.
        asked: ``auto``, the template's tokens (its stop token among them) that look untrained in
            the embeddings or in the head; or the tokens' names.
        new_ids: tokens that were just added; theirs are always trained.

    Returns:
        What was done, in words; empty if nothing was.

    Raises:
        ConfigError: a name is not a token of the tokenizer, or has no row in the model.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    if asked == "none":
        ids = set()
    elif asked == "auto":
        ids = _untrained(loaded, template)
    else:
        ids = {_token_id(name, loaded) for name in asked}
    wanted = sorted(ids | set(new_ids))
    if not wanted or not (names := train_token_rows(model, wanted)):
        return ""
    tokens = ", ".join(str(tokenizer.convert_ids_to_tokens(token_id)) for token_id in wanted)
    why = " (they were untrained)" if asked == "auto" else ""
    return f"the rows of {tokens} in {' and '.join(names)} train too{why}"


def _untrained(loaded: LoadedModel, template: ChatTemplate) -> set[int]:
    """Find the template's tokens whose row looks untrained in a matrix that stays as it is."""
    tokenizer, found = loaded.tokenizer, set()
    stop_id = int(str(tokenizer.convert_tokens_to_ids(template.stop_text)))
    needed = {*control_ids(template, tokenizer), stop_id}
    modules = (loaded.model.get_input_embeddings(), loaded.model.get_output_embeddings())
    for module in {id(m.weight): m for m in modules}.values():
        weight = matrix(module)
        frozen = [i for i in needed if i < len(weight) and not row_trains(module, i)]
        states = row_states(weight, frozen) if frozen else {}
        found |= {token_id for token_id, state in states.items() if state != "trained"}
    return found


def _token_id(name: str, loaded: LoadedModel) -> int:
    vocabulary = loaded.tokenizer.get_vocab()
    num_rows = len(matrix(loaded.model.get_input_embeddings()))
    token_id = vocabulary.get(name)
    if token_id is None or token_id >= num_rows:
        added = [str(token) for token in loaded.tokenizer.added_tokens_decoder.values()]
        lack = "the tokenizer has no token" if token_id is None else "the model has no row for"
        raise ConfigError(
            f'method.train_tokens: {lack} "{name}"; its control tokens are '
            f"{', '.join(added[:20]) or 'none'}. method.new_tokens adds one."
            f"{nearest(name, added)}"
        )
    return int(token_id)
