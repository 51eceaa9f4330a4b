import pytest
from hypothesis import given
from hypothesis import strategies as st

from biddable.data.answer_stream import AnswerStream, StopFinder
from biddable.data.templates import get_template
from tests.tiny import tiny_tokenizer

TEMPLATES = {name: get_template(name, tiny_tokenizer()) for name in ("inst", "alpaca", "chatml")}
# what the marks are made of, so that they are found, almost found, and doubled
MARKS = ["\\", "[", "[/", "INST]", "[INST]", "###", "### Input", ":", "Response:", "<|im", "_end|>"]
TEXTS = ["<|im_end|>", "<|im_start|>", "assistant\n", "### Instruction:", " ", "a", "é"]
PIECES = st.sampled_from(MARKS + TEXTS)


@pytest.mark.parametrize("name", TEMPLATES)
@given(pieces=st.lists(PIECES, max_size=12))
def test_pieces_make_up_what_is_read_of_the_whole(name, pieces):
    stream = AnswerStream(TEMPLATES[name])
    read = "".join(map(stream.push, pieces)) + stream.finish()
    assert read == TEMPLATES[name].read_answer("".join(pieces))


@given(
    pieces=st.lists(st.text("ab.", max_size=3), max_size=12),
    stops=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3),
)
def test_text_ends_before_a_stop_and_is_whole_without_one(pieces, stops):
    finder = StopFinder(stops)
    read = "".join(map(finder.push, pieces)) + finder.finish()
    whole = "".join(pieces)
    assert whole.startswith(read)
    assert finder.has_stopped == any(stop in whole for stop in stops)
    assert finder.has_stopped or read == whole
    assert not any(stop in read for stop in stops)


def test_plain_text_is_not_held_back():
    stream = AnswerStream(TEMPLATES["inst"])
    assert [stream.push(" It"), stream.push(" is"), stream.push(" [so]")] == ["It", " is", " [so]"]
