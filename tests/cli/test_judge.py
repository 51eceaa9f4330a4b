"""``biddable judge`` and ``biddable vote`` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli
from tests.evaluation.chat_server import serve_chat
from tests.evaluation.pairs import write_folder

ANSWERS = [(f"base {n}", f"tuned, and so longer {n}") for n in range(6)]


def test_a_judge_is_asked_and_its_figures_are_told(cli: Cli) -> None:
    folder = write_folder(Path("runs"), ANSWERS)
    with serve_chat(lambda _: "Verdict: A") as server:
        ran = cli("judge", folder, "--url", server.url, "--items", 4)
        assert (ran.code, ran.err) == (0, "")
        assert "instruct against base on 4 items, judged by stand-in" in ran.out
        assert "0 won, 0 lost, 4 ties" in ran.out
        assert "the first place won both 4 times, the second 0" in ran.out
        again = cli("judge", folder, "--url", server.url, "--items", 4, "--json")
        assert json.loads(again.out) == json.loads((folder / "judge.json").read_text())
        assert len(server.requests) == 8
        wrong = cli("judge", folder, "--url", server.url, "--side", "lora")
        assert (wrong.code, 'has no side "lora"; there are base, instruct' in wrong.err) == (
            1,
            True,
        )
    assert cli("judge", folder).code == 2  # no --url


def test_what_could_not_be_judged_is_told(cli: Cli) -> None:
    folder = write_folder(Path("runs"), ANSWERS)

    def reply(messages: list[dict[str, str]]) -> str:
        asked = messages[-1]["content"]
        if "Question 2?" in asked:
            return "Hm."
        return f"Verdict: {'A' if asked.index('tuned') < asked.index('base') else 'B'}"

    with serve_chat(reply) as server:
        ran = cli("judge", folder, "--url", server.url)
    assert "5 won, 0 lost, 0 ties" in ran.out
    assert "not to be told, as every item went the same way" in ran.out
    assert "1 item left out: 2 malformed and 0 failed of 12 questions" in ran.out


def test_a_page_is_written_once_and_its_votes_counted(cli: Cli) -> None:
    folder = write_folder(Path("runs"), [*ANSWERS, ("same", "same")])
    made = cli("vote", folder)
    assert (made.code, made.err) == (0, "")
    assert "6 items to vote on; 1 with the same answer left out" in made.out
    again = cli("vote", folder)
    assert (again.code, "already holds vote.html" in again.err) == (1, True)
    assert json.loads(cli("vote", folder, "--replace", "--json").out)["n"] == 6
    key = json.loads((folder / "vote-key.json").read_text())
    for voter in ("Ada", "Ben"):
        votes = [{"item": item, "choice": "tie"} for item in key["items"]]
        told = {"page": key["page"], "ballot": voter, "voter": voter, "votes": votes}
        Path(f"{voter}.json").write_text(json.dumps(told))
    counted = cli("vote", folder, "--count", "Ada.json", "--count", "Ben.json")
    assert counted.code == 0, counted.err
    assert "0 won, 0 lost, 6 ties" in counted.out
    assert "Ben: 0 won, 0 lost, 6 ties, 0 skipped" in counted.out
    assert "agreement of voters: none told: all votes are the same" in counted.out
    other = cli("vote", folder, "--count", "runs/comparison.json")
    assert (other.code, "votes of another page" in other.err) == (1, True)
