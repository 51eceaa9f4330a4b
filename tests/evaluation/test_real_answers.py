"""The rules of behaviour on what people really answered: hardly any of it may be flagged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from biddable.data.readers import read_conversations
from biddable.evaluation.behaviour import judge


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("rasbt_instructions/instruction-data.json", 0),
        ("dolly_small/dolly_hhrlhf_train_small.jsonl", 3),
    ],
)
def test_answers_of_people_are_not_flagged(
    test_data: Callable[[str], Path], name: str, most: int
) -> None:
    rows = read_conversations(test_data(name))[:300]
    flagged = []
    for row in rows:
        asked = "\n\n".join(message.text for message in row.messages[:-1])
        asked = asked.rpartition("### Instruction:")[2].partition("### Response")[0].strip()
        found = judge(asked, row.messages[-1].content, stopped=True)
        if found.mimicry or found.run_on or found.refusal == "full":
            flagged.append((asked[:80], found.reasons))
    assert len(flagged) <= most, flagged
