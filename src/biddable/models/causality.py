"""Find out whether a model sees the tokens that it is to predict.

transformers loads models as causal LMs that are none: BERT and its kin without `is_decoder`, XLNet,
XLM. Their loss on next tokens falls like any other, and means nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.models.head import LIMITS, undisturbed

_NUM_IDS = 6


def sees_ahead(model: PreTrainedModel) -> bool:
    """Tell whether what a model says of a token depends on that token: one pass over a few ids.

    Args:
        model: a transformers causal LM, whole, in any mode; it is left as it was.
    """
    config: Any = model.config
    num_ids = config.get_text_config(decoder=True).vocab_size
    ids = torch.arange(2 * _NUM_IDS, device=model.device).view(2, -1)
    # from the middle: one of the first may be padding's, and XLM hides a last place for each
    ids = (num_ids // 2 + ids) % num_ids
    ids[1, :-1] = ids[0, :-1]  # two rows that differ in their last id alone
    with undisturbed(model):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    off = (logits[0] - logits[1]).abs().max()
    return bool(off > LIMITS.get(logits.dtype, 1e-9) * logits.abs().max())
