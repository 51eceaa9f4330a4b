"""Count the votes that people gave on a voting page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from biddable.errors import EvaluationError, join_problems
from biddable.evaluation.statistics import mcnemar, rate, sign_flip
from biddable.evaluation.voting_page import KEY, name_of
from biddable.manifest import write_json

RESULT = "vote.json"
_CHOICES = ("won", "lost", "tie", "skip")

Ballot = dict[str, str]  # from an item's name on the page to one of _CHOICES


def count_votes(folder: str | Path, files: Sequence[str | Path]) -> dict[str, Any]:
    """Count ballots, and write vote.json.

    Args:
        folder: with the page's key.
        files: a votes.json of each voter.

    Returns:
        Each voter's counts; ``wins``, ``losses`` and ``ties`` of items, each decided by most of its
        votes; ``win_rate`` of the decided items with Wilson's interval; ``p`` of the sign test over
        whole clusters; ``agreement`` of voters; how often the left answer was chosen.

    Raises:
        EvaluationError: a file is no ballot of this page, or holds no vote.
        CheckpointError: the folder cannot be written.
    """
    key = _read(Path(folder) / KEY, lacking="make the page first: biddable vote FOLDER.")
    ballots, voters = _read_ballots(key, files)
    result = {
        "schema": 1,
        "suite": key["suite"],
        "sides": key["sides"],
        "models": key["models"],
        "samples_sha256": key.get("samples_sha256"),
        "num_items": len(key["items"]),
        "num_identical": key["num_identical"],
        **tally(ballots, {name: facts["cluster"] for name, facts in key["items"].items()}),
        "left_chosen": _left_chosen(ballots, key),
        "agreement": agreement(ballots),
        "voters": [
            {"voter": voter, **{choice: list(ballot.values()).count(choice) for choice in _CHOICES}}
            for voter, ballot in zip(voters, ballots, strict=True)
        ],
    }
    write_json(Path(folder) / RESULT, result)
    return result


def tally(ballots: Sequence[Ballot], clusters: Mapping[str, str]) -> dict[str, Any]:
    """Decide each item by most of its votes, and count the items.

    Several people's votes on one item are not independent, so the item is what counts.

    Args:
        ballots: one a voter.
        clusters: of each item.

    Example:
        >>> found = tally([{"x": "won", "y": "tie"}, {"x": "won", "y": "lost"}], {"x": "", "y": ""})
        >>> found["wins"], found["ties"]
        (1, 1)
    """
    sums: dict[str, int] = {}
    decided: Counter[str] = Counter()
    for item, cluster in clusters.items():
        votes = Counter(ballot[item] for ballot in ballots if ballot.get(item, "skip") != "skip")
        if not votes:
            continue
        (top, most), *others = votes.most_common()
        winner = "tie" if others and others[0][1] == most else top
        decided[winner] += 1
        sums[cluster] = sums.get(cluster, 0) + {"won": 1, "lost": -1, "tie": 0}[winner]
    wins, losses = decided["won"], decided["lost"]
    return {
        "n": decided.total(),
        "wins": wins,
        "losses": losses,
        "ties": decided["tie"],
        "win_rate": rate(wins, wins + losses),
        "p": sign_flip(sums.values()),
    }


def agreement(ballots: Sequence[Ballot]) -> dict[str, Any]:
    """Say how far voters agree beyond chance: Cohen's kappa of two, Fleiss' of more.

    Args:
        ballots: one a voter; the items that all of them voted on count, skipped ones do not.

    Returns:
        ``method``, ``n`` items, ``kappa``, ``ci95`` where the method has one (Cohen's), and ``why``
        there is no kappa.

    Example:
        >>> agreement([{"x": "won", "y": "lost"}, {"x": "won", "y": "lost"}])["kappa"]
        1.0
    """
    shared = [
        item
        for item in (ballots[0] if ballots else ())
        if all(ballot.get(item, "skip") != "skip" for ballot in ballots)
    ]
    found: dict[str, Any] = {"method": None, "n": len(shared), "kappa": None, "ci95": None}
    choices = _CHOICES[:3]
    votes = np.array([[choices.index(b[item]) for b in ballots] for item in shared], dtype=int)
    if len(ballots) < 2:
        return found | {"why": "one voter"}
    if len(shared) < 2:
        return found | {"why": "fewer than two items that all voted on"}
    if len(np.unique(votes)) == 1:
        return found | {"why": "all votes are the same, so chance explains all agreement"}
    table = aggregate_raters(votes, n_cat=len(choices))[0]
    if len(ballots) > 2:
        return found | {"method": "Fleiss", "kappa": float(fleiss_kappa(table)), "why": None}
    square = np.zeros((3, 3))
    np.add.at(square, (votes[:, 0], votes[:, 1]), 1)
    cohen = cohens_kappa(square)
    bounds = [float(cohen.kappa_low), float(cohen.kappa_upp)]
    interval = [max(-1.0, bounds[0]), min(1.0, bounds[1])]
    return found | {
        "method": "Cohen", "kappa": float(cohen.kappa), "ci95": interval, "why": None
    }  # fmt: skip


def _left_chosen(ballots: Sequence[Ballot], key: Mapping[str, Any]) -> dict[str, Any]:
    """Count how often the left answer was taken; far from half, the place had a say."""
    after = key["sides"]["after"]
    lefts = {item: "won" if facts["left"] == after else "lost"
             for item, facts in key["items"].items()}  # fmt: skip
    chosen = [
        choice == lefts[item]
        for ballot in ballots
        for item, choice in ballot.items()
        if choice in ("won", "lost")
    ]
    left = sum(chosen)
    return {"rate": rate(left, len(chosen)), "p": mcnemar(left, len(chosen) - left)}


def _read_ballots(
    key: Mapping[str, Any], files: Sequence[str | Path]
) -> tuple[list[Ballot], list[str]]:
    """Read each file; all problems are told at once."""
    ballots: list[Ballot] = []
    voters: list[str] = []
    seen: dict[str, Path] = {}
    problems: list[str] = []
    for path in map(Path, files):
        try:
            told = _read(path, lacking="expected a votes.json of the page.")
            ballot = _ballot_of(told, key, path)
        except EvaluationError as error:
            problems.append(str(error))
            continue
        mark = str(told.get("ballot"))
        if mark in seen:
            problems.append(f"{path}: the same ballot as {seen[mark]}; give each voter's once.")
        seen[mark] = path
        ballots.append(ballot)
        voters.append(str(told.get("voter") or f"voter {len(voters) + 1}"))
    if problems:
        raise EvaluationError(join_problems(problems))
    if not any(choice != "skip" for ballot in ballots for choice in ballot.values()):
        raise EvaluationError("no votes in any file; all is skipped or empty.")
    return ballots, voters


def _ballot_of(told: Mapping[str, Any], key: Mapping[str, Any], path: Path) -> Ballot:
    if told.get("page") != key["page"]:
        raise EvaluationError(
            f"{path}: votes of another page; expected page {key['page']}, found"
            f" {told.get('page')}. Count it in the folder of its own key."
        )
    ballot: Ballot = {}
    items: dict[Any, Any] = key["items"]
    for n, vote in enumerate(told.get("votes") or (), 1):
        item = vote.get("item") if isinstance(vote, dict) else None
        if item is None or item not in items or item in ballot:
            raise EvaluationError(
                f"{path}: vote {n} is on no item of the page, or a second on one."
            )
        choices = {"tie": "tie", "skip": "skip"}
        for side, meaning in (("after", "won"), ("before", "lost")):
            choices[name_of(key["salt"], items[item]["id"], key["sides"][side])] = meaning
        if vote.get("choice") not in choices:
            raise EvaluationError(
                f"{path}: vote {n} chooses {vote.get('choice')!r}; expected one of the item's two"
                " answers, tie or skip."
            )
        ballot[item] = choices[vote["choice"]]
    return ballot


def _read(path: Path, *, lacking: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: not there; {lacking}") from error
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(found, dict):
        raise EvaluationError(f"{path}: no JSON object; {lacking}")
    return found
