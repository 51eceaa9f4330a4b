"""Offer the verbs ``judge`` and ``vote``: which answers a model, or people, prefer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from biddable.cli_options import (
    AsJson,
    Replace,
    Seed,
    console,
    print_json,
    result_folder,
    stage_of,
)
from biddable.counting import counted

Folder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="Of a comparison that `biddable compare` wrote.")
]
After = Annotated[str, typer.Option("--side", help="The side asked about.")]
Before = Annotated[str, typer.Option("--against", help="The side it is set against.")]
NumItems = Annotated[
    int | None, typer.Option("--items", min=1, help="How many items are drawn; none: all.")
]


def judge(
    folder: Folder,
    url: Annotated[
        str,
        typer.Option(
            help="Server of OpenAI's protocol, up to and with /v1. Key: BIDDABLE_API_KEY."
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="The judge; none: the server's only model.")
    ] = None,
    side: After = "instruct",
    against: Before = "base",
    items: NumItems = None,
    seed: Seed = 0,
    max_new_tokens: Annotated[int, typer.Option(min=8, help="Longest reply of the judge.")] = 512,
    timeout: Annotated[
        float, typer.Option(min=0.01, help="Seconds to wait for a reply; five tries.")
    ] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Let a model at a URL judge the answers of a comparison.

    They are judged in pairs, each in both orders.

    Writes judge.json into FOLDER, and shows it in the report there; the comparison's own figures
    stay as they are. A judge that was cut off goes on: its replies are kept in judge_replies.jsonl.
    """
    from biddable.evaluation import answer_pairs, judging, report
    from biddable.evaluation.url_model import UrlModel

    sides = answer_pairs.read_two_sides(folder, before=against, after=side)
    with console(stderr=True).status("asking the judge") as status:
        result = judging.judge(
            sides,
            UrlModel(url, model_name=model, timeout_s=timeout),
            num_items=items,
            seed=seed,
            max_new_tokens=max_new_tokens,
            on_event=lambda event: status.update(stage_of(event)),
        )
    report.rewrite_reports(folder)
    if as_json:
        print_json(result)
        return
    for line in _judged_lines(result):
        console().print(line, highlight=False, markup=False, soft_wrap=True)
    typer.echo(str(Path(folder) / judging.RESULT))


def vote(
    folder: Folder,
    count: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Count a voter's votes.json; may be repeated."),
    ] = None,
    side: After = "instruct",
    against: Before = "base",
    items: Annotated[int, typer.Option(min=1, help="How many items are drawn.")] = 50,
    seed: Seed = 0,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Write a page for blind votes between answers, or count them.

    Hand out vote.html; keep vote-key.json, which tells whose answers they are. Counted votes are
    shown in the report there; the comparison's own figures stay as they are.
    """
    from biddable.evaluation import answer_pairs, report, votes, voting_page

    if count:
        result = votes.count_votes(folder, count)
        report.rewrite_reports(folder)
        lines = [*_voted_lines(result), str(Path(folder) / votes.RESULT)]
    else:
        sides = answer_pairs.read_two_sides(folder, before=against, after=side)
        place = result_folder(folder, (voting_page.PAGE, voting_page.KEY), replace=replace)
        key = voting_page.write_page(sides, num_items=items, seed=seed)
        result = {name: key[name] for name in ("page", "sides", "seed", "num_identical")}
        result |= {"n": len(key["items"])}
        lines = [
            f"{counted(result['n'], 'item')} to vote on; {key['num_identical']} with the same"
            " answer left out",
            f"{place / voting_page.PAGE}: for those who vote",
            f"{place / voting_page.KEY}: keep it; votes are counted with it",
        ]
    if as_json:
        print_json(result)
        return
    for line in lines:
        console().print(line, highlight=False, markup=False, soft_wrap=True)


def _judged_lines(result: dict[str, Any]) -> list[str]:
    position, questions, length = (result[key] for key in ("position", "questions", "length"))
    controlled = result["win_rate_length_controlled"]
    agreement = position["agreement"]
    lines = [
        f"{_heading(result)}, judged by {result['judge']['model']}",
        f"  {_counts(result)}; {result['num_identical']} had the same answer",
        f"  win rate {_share(result['win_rate'])}, ties count half; p {_p(result['p'])}",
        f"  if answers were equally long: {_share(controlled)}"
        if controlled
        else f"  if answers were equally long: not to be told, as {length['why_not_controlled']}",
        f"  answers are {abs(length['mean_gap']):.0f} characters"
        f" {'longer' if length['mean_gap'] >= 0 else 'shorter'} on average; the longer"
        f" one won {_share(length['longer_won'])}",
        f"  both orders agree {_share(agreement)}; the first place won both"
        f" {position['first_both']} times, the second {position['second_both']}"
        f" (p {_p(position['p'])})",
    ]
    if length["is_extrapolated"] and controlled:
        lines.append("  one side is longer on every item: the controlled figure is extrapolated")
    if result["num_unjudged"]:
        lines.append(
            f"  {counted(result['num_unjudged'], 'item')} left out: {questions['malformed']}"
            f" malformed and {questions['failed']} failed of {counted(questions['n'], 'question')}"
        )
    if questions["first_failure"]:
        lines.append(f"  first failure: {questions['first_failure']}")
    return lines


def _voted_lines(result: dict[str, Any]) -> list[str]:
    found, left = result["agreement"], result["left_chosen"]
    kappa = (
        f"{found['method']}'s kappa {found['kappa']:.2f} on {counted(found['n'], 'item')}"
        if found["kappa"] is not None
        else f"none told: {found['why']}"
    )
    voters = [
        f"  {v['voter']}: {v['won']} won, {v['lost']} lost, {v['tie']} ties, {v['skip']} skipped"
        for v in result["voters"]
    ]
    return [
        f"{_heading(result)}, {counted(len(voters), 'voter')}",
        f"  {_counts(result)}",
        f"  win rate {_share(result['win_rate'])} of the decided; sign test p {_p(result['p'])}",
        f"  agreement of voters: {kappa}",
        f"  the left answer was chosen {_share(left['rate'])} (p {_p(left['p'])})",
        *voters,
    ]


def _heading(result: dict[str, Any]) -> str:
    sides = result["sides"]
    return f"{sides['after']} against {sides['before']} on {counted(result['n'], 'item')}"


def _counts(result: dict[str, Any]) -> str:
    return f"{result['wins']} won, {result['losses']} lost, {result['ties']} ties"


def _share(found: dict[str, Any] | None) -> str:
    if found is None:
        return "never, as there was none to decide"
    low, high = found["ci95"]
    return f"{100 * found['rate']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.4f}"
