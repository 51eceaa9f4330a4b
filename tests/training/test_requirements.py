"""What is refused before the first step."""

import pytest

from biddable.config_training import TrainingConfig
from biddable.data.encoding import Example
from biddable.errors import ConfigError, DataError
from biddable.training.requirements import num_places, require_places
from biddable.training.trainer import train
from tests.tiny import tiny_gpt2, tiny_model, tiny_opt
from tests.training.rows import random_examples


@pytest.mark.parametrize(
    ("make", "expected"), [(tiny_gpt2, 256), (tiny_opt, 256), (tiny_model, None)]
)
def test_places_are_those_of_a_table_that_was_learned(make, expected):
    assert num_places(make()) == expected


def test_a_limit_above_the_places_is_refused():
    require_places(tiny_gpt2(), 256)
    require_places(tiny_gpt2(), None)
    require_places(tiny_model(), 100_000)  # turned positions have no end
    with pytest.raises(ConfigError, match=r"max_seq_len: found 257; .* places for 256 tokens"):
        require_places(tiny_gpt2(), 257)


def test_a_row_beyond_the_places_is_refused_and_named():
    rows, told = random_examples(3), []
    longer = Example([7] * 300, [False] * 299 + [True], "long.jsonl:5")
    nameless = Example(longer.input_ids, longer.loss_mask)
    for learned, held_out, name in (
        ([*rows, longer], [], "long.jsonl:5"),
        (rows, [*rows, longer], "long.jsonl:5"),
        (rows, [*rows, nameless], "row 4 of held_out"),
        ([nameless], rows, "row 1 of examples"),
    ):
        with pytest.raises(DataError, match=rf"^{name}: 300 tokens; .* has places for 256"):
            train(
                tiny_gpt2(),
                learned,
                settings=TrainingConfig(),
                held_out=held_out,
                on_event=told.append,
            )
    assert told == []
