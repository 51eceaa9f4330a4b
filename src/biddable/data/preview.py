"""Show rows as the model will see them, with what it learns marked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from biddable.data.conversation import Conversation
from biddable.data.encoding import Example, encode_all
from biddable.data.segments import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEARNED_STYLE = "bold green underline"
PROMPT_STYLE = "dim"


def preview(
    conversations: Sequence[Conversation],
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int,
) -> RenderableType:
    """Show the first rows, decoded from their ids, and the share that is learned.

    Learned text is coloured and stands in ⟦ ⟧, which shows without colour too.

    Args:
        conversations: all rows; the last line counts them all.
        template: renders them.
        tokenizer: encodes them.
        limit: rows shown.

    Raises:
        DataError: there are no rows, or nothing in them is learned.
        TemplateError: the template cannot show some rows.
    """
    examples, report = encode_all(conversations, template, tokenizer, max_seq_len=None)
    shown: list[Text] = []
    for example in examples[:limit]:
        num_learned, num_ids = sum(example.loss_mask), len(example.input_ids)
        share = f"{num_ids} tokens, {num_learned} learned ({100 * num_learned / num_ids:.0f} %)"
        shown += [Text(f"{example.source}  {share}", style="bold"), _marked(example, tokenizer)]
        shown.append(Text(""))
    more = f"{min(limit, len(examples))} of {len(examples)} rows shown. All: {report.summary()}"
    return Group(*shown, *(Text(line) for line in report.dropped), Text(more))


def _marked(example: Example, tokenizer: PreTrainedTokenizerBase) -> Text:
    text = Text()
    pairs = zip(example.input_ids, example.loss_mask, strict=True)
    for is_learned, run in groupby(pairs, key=lambda pair: pair[1]):
        decoded = str(
            tokenizer.decode(
                [token_id for token_id, _ in run],
                skip_special_tokens=False,
                clean_up_tokenization_spaces=False,
            )
        )
        if is_learned:
            text.append(f"⟦{decoded}⟧", style=LEARNED_STYLE)
        else:
            text.append(decoded, style=PROMPT_STYLE)
    return text
