"""Votes of people are counted as they were meant, and only with the key of their page."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation.answer_pairs import read_two_sides
from biddable.evaluation.votes import agreement, count_votes, tally
from biddable.evaluation.voting_page import write_page
from tests.evaluation.pairs import write_folder

ANSWERS = [(f"base says {n}", f"tuned says {n}") for n in range(12)]
MEANING = {"won": "tuned", "lost": "base"}


def page_data(folder: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', (folder / "vote.html").read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def make(folder: Path, answers: list[tuple[str, str]] = ANSWERS, **settings: Any) -> dict[str, Any]:
    write_folder(folder, answers)
    sides = read_two_sides(folder, before="base", after="instruct")
    write_page(sides, **settings)
    return page_data(folder)


def ballot(
    data: dict[str, Any], path: Path, wishes: list[str], *, name: str = "", **changes: Any
) -> Path:
    """Write a votes.json that prefers whose text a wish names, item by item of the suite."""
    votes = []
    for item in data["items"]:
        n = int(item["instruction"].removeprefix("Question ").rstrip("?"))
        wish = wishes[n]
        if wish in MEANING:
            sides = [item[side] for side in ("left", "right")]
            wish = next(s["answer"] for s in sides if s["text"].startswith(MEANING[wish]))
        votes.append({"item": item["item"], "choice": wish})
    told = {"schema": 1, "page": data["page"], "ballot": path.name, "voter": name, "votes": votes}
    path.write_text(json.dumps(told | changes))
    return path


def test_votes_are_counted_for_the_side_they_were_for(tmp_path: Path) -> None:
    data = make(tmp_path / "c", seed=3)
    before = (tmp_path / "c/comparison.json").read_bytes()
    wishes = ["won"] * 7 + ["lost"] * 2 + ["tie"] * 2 + ["skip"]
    found = count_votes(tmp_path / "c", [ballot(data, tmp_path / "v.json", wishes, name="Ada")])
    assert (found["wins"], found["losses"], found["ties"], found["n"]) == (7, 2, 2, 11)
    assert found["win_rate"]["rate"] == 7 / 9
    assert found["win_rate"]["ci95"] == pytest.approx([0.4526, 0.9368], abs=1e-4)  # Wilson's
    assert found["p"] == pytest.approx(2 * (1 + 9 + 36) / 2**9)
    assert found["voters"] == [{"voter": "Ada", "won": 7, "lost": 2, "tie": 2, "skip": 1}]
    assert found["agreement"]["why"] == "one voter"
    assert json.loads((tmp_path / "c/vote.json").read_text()) == found
    assert (tmp_path / "c/comparison.json").read_bytes() == before


def test_the_page_does_not_tell_whose_answers_they_are(tmp_path: Path) -> None:
    data = make(tmp_path / "c", [(f"one {n}", f"two {n}") for n in range(12)])
    page = (tmp_path / "c/vote.html").read_text()
    key = json.loads((tmp_path / "c/vote-key.json").read_text())
    for secret in (key["salt"], "instruct_", "tiny-", '"i0"', "base_"):
        assert secret not in page
    assert re.search(r"\b(instruct|base)\b", page) is None
    names = {item[side]["answer"] for item in data["items"] for side in ("left", "right")}
    assert len(names) == 24
    lefts = [facts["left"] for facts in key["items"].values()]
    assert lefts.count("instruct") == lefts.count("base") == 6
    assert len(set(pairwise(lefts))) > 2  # not by turns


def test_the_order_comes_from_the_seed(tmp_path: Path) -> None:
    def order(name: str, seed: int) -> list[tuple[str, str]]:
        data = make(tmp_path / name, seed=seed)
        return [(item["instruction"], item["left"]["text"]) for item in data["items"]]

    first, again, other = order("a", 1), order("b", 1), order("c", 2)
    assert first == again != other
    assert [n for n, _ in first] != sorted(n for n, _ in first)


def test_text_cannot_leave_its_place_in_the_page(tmp_path: Path) -> None:
    trick = '</script><script>alert("x")</script><!--'
    data = make(tmp_path / "c", [(trick, "b")])
    assert trick in {data["items"][0][side]["text"] for side in ("left", "right")}
    assert "alert(" not in (tmp_path / "c/vote.html").read_text().replace(
        "\\u003cscript\\u003ealert(", ""
    )


def test_equal_answers_are_left_out_and_some_are_drawn(tmp_path: Path) -> None:
    data = make(tmp_path / "c", [*ANSWERS, ("same", "same")])
    assert len(data["items"]) == 12
    assert json.loads((tmp_path / "c/vote-key.json").read_text())["num_identical"] == 1
    assert len(make(tmp_path / "d", num_items=5)["items"]) == 5
    with pytest.raises(EvaluationError, match="the same answers to all of 1 item;"):
        make(tmp_path / "e", [("same", "same")])


def test_several_voters_decide_an_item_by_most_of_their_votes(tmp_path: Path) -> None:
    data = make(tmp_path / "c", ANSWERS[:4])
    given = [
        ["won", "won", "lost", "tie"],
        ["won", "lost", "lost", "won"],
        ["lost", "won", "skip", "lost"],
    ]
    files = [ballot(data, tmp_path / f"v{n}.json", wishes) for n, wishes in enumerate(given)]
    found = count_votes(tmp_path / "c", files)
    assert (found["wins"], found["losses"], found["ties"]) == (2, 1, 1)
    assert (found["agreement"]["method"], found["agreement"]["n"]) == ("Fleiss", 3)
    assert [voter["voter"] for voter in found["voters"]] == ["voter 1", "voter 2", "voter 3"]


def test_kappa_of_two_is_cohens_and_of_more_fleiss() -> None:
    """Cohen 1960: po = 0.7, pe = 0.5. Fleiss on three voters computed by hand below."""
    one = dict(zip("abcdefghij", ["won"] * 5 + ["lost"] * 5, strict=True))
    two = one | {"a": "lost", "b": "lost", "f": "won"}
    found = agreement([one, two])
    assert (found["method"], found["n"]) == ("Cohen", 10)
    assert found["kappa"] == pytest.approx((0.7 - 0.5) / 0.5)
    assert found["ci95"][0] < 0.4 < found["ci95"][1]
    three = [{"a": "won", "b": "lost"}, {"a": "won", "b": "lost"}, {"a": "won", "b": "won"}]
    agreed, chance = (1 + 1 / 3) / 2, (4 / 6) ** 2 + (2 / 6) ** 2
    assert agreement(three)["kappa"] == pytest.approx((agreed - chance) / (1 - chance))
    assert agreement([one, {"a": "won"}])["why"] == "fewer than two items that all voted on"
    all_won = dict.fromkeys("ab", "won")
    assert "the same" in agreement([all_won, all_won])["why"]


def test_items_of_one_cluster_are_one_coin() -> None:
    ballots = [dict.fromkeys("abcdefgh", "won")]
    assert tally(ballots, {item: item for item in "abcdefgh"})["p"] == pytest.approx(2 / 2**8)
    assert tally(ballots, dict.fromkeys("abcdefgh", "one"))["p"] == 1.0


def test_a_voter_who_takes_the_left_is_seen(tmp_path: Path) -> None:
    data = make(tmp_path / "c")
    votes = [{"item": i["item"], "choice": i["left"]["answer"]} for i in data["items"]]
    path = ballot(data, tmp_path / "v.json", ["skip"] * 12, votes=votes)
    found = count_votes(tmp_path / "c", [path])
    assert (found["left_chosen"]["rate"]["rate"], found["wins"], found["losses"]) == (1.0, 6, 6)
    assert found["left_chosen"]["p"] < 0.001


def test_what_is_no_ballot_of_this_page_is_told(tmp_path: Path) -> None:
    data = make(tmp_path / "c")
    right = ballot(data, tmp_path / "v.json", ["won"] * 12)

    def refused(path: Path, problem: str) -> None:
        with pytest.raises(EvaluationError, match=problem):
            count_votes(tmp_path / "c", [right, path])

    refused(right, r"v.json: the same ballot as .*v.json; give each voter's once")
    refused(tmp_path / "no.json", r"no.json: not there; expected a votes.json")
    refused(ballot(data, tmp_path / "w.json", ["won"] * 12, page="other"), "votes of another page")
    wrong = [{"item": data["items"][0]["item"], "choice": data["items"][1]["left"]["answer"]}]
    refused(ballot(data, tmp_path / "w.json", ["won"] * 12, votes=wrong), "vote 1 chooses")
    twice = [{"item": data["items"][0]["item"], "choice": "tie"}] * 2
    refused(ballot(data, tmp_path / "w.json", ["won"] * 12, votes=twice), "a second on one")
    (tmp_path / "w.json").write_text("[")
    refused(tmp_path / "w.json", "cannot be read as JSON")
    (tmp_path / "w.json").write_text("[]")
    refused(tmp_path / "w.json", "no JSON object")
    empty = ballot(data, tmp_path / "w.json", ["skip"] * 12)
    with pytest.raises(EvaluationError, match="no votes in any file"):
        count_votes(tmp_path / "c", [empty])
    with pytest.raises(EvaluationError, match=r"vote-key.json: not there; make the page first"):
        count_votes(tmp_path, [right])
