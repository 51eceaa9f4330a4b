"""Changes that make a run fit: a run here is just the bytes that its parts take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from biddable.training.changes import Change, Changed, Search


@dataclass(frozen=True)
class Parts:
    weights: int = 100
    passes: int = 100
    rows: int = 100

    @property
    def needed(self):
        return self.weights + self.passes * self.rows // 100


def to(cost=0, **sizes):
    (setting,) = (f"{part}: {size}" for part, size in sizes.items())
    return Change(lambda run: Changed(replace(run, **sizes), setting), cost)


def found(*changes, limit):
    told = Search(Parts(), changes, lambda run: run.needed, limit).suggestions()
    by_change = {each.change: (each.needed, each.fits) for each in told}
    assert len(by_change) == len(told)
    return by_change


def test_a_combination_takes_what_its_parts_take_together():
    told = found(to(passes=50), to(rows=50), limit=130)
    assert told["passes: 50 and rows: 50"] == (125, True)  # each saves 50, together 75
    assert told["rows: 50"] == (150, False)


def test_what_later_changes_make_needless_is_left_out():
    told = found(to(passes=40), to(weights=50), to(1, passes=5), limit=60)
    assert told["weights: 50 and passes: 5"] == (55, True)
    told = found(to(passes=40), to(weights=50), to(1, passes=5), limit=10)
    assert told["weights: 50 and passes: 5"] == (55, False)


def test_costly_changes_are_made_only_where_the_others_are_too_little():
    changes = (to(1, rows=0), to(passes=40), to(weights=40))
    assert next(iter(found(*changes, limit=90))) == "passes: 40 and weights: 40"
    assert next(iter(found(*changes, limit=50))) == "rows: 0 and weights: 40"


def test_one_change_that_is_enough_is_not_combined():
    assert list(found(to(passes=50), to(weights=50), limit=150)) == ["passes: 50", "weights: 50"]
    assert list(found(to(1, passes=50), limit=150)) == ["passes: 50"]


def test_what_cannot_be_changed_is_no_part_of_a_combination():
    no = Change(lambda run: None)
    told = found(no, to(passes=50), to(weights=50), limit=110)
    assert next(iter(told)) == "passes: 50 and weights: 50"
    assert found(no, limit=10) == {}


def test_all_together_is_told_where_it_is_too_little():
    told = found(to(passes=50), to(weights=50), to(1, rows=90), limit=10)
    assert told["passes: 50, weights: 50 and rows: 90"] == (95, False)
