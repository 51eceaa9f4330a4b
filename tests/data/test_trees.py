"""A tree holds every row, each common start once, and what each row learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import TreeBatch, build_tree

few_ids = st.lists(st.integers(0, 2), min_size=1, max_size=9)
examples = st.lists(
    few_ids.flatmap(
        lambda ids: st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)).map(
            lambda mask: Example(ids, mask)
        )
    ),
    min_size=1,
    max_size=8,
)


@given(examples)
def test_a_tree_is_the_trie_of_its_rows(rows: list[Example]) -> None:
    tree = build_tree(EncodedRows.of(rows), range(len(rows)))
    starts: dict[tuple[int, ...], int] = {}
    learned: dict[tuple[int, ...], int] = {}
    for row in rows:
        for end in range(1, len(row.input_ids) + 1):
            start = tuple(row.input_ids[:end])
            starts[start] = starts.get(start, 0) + 1
            if end > 1 and row.loss_mask[end - 1]:
                learned[start] = learned.get(start, 0) + 1
    ways = paths(tree)
    assert sorted(ways) == sorted(starts)
    assert tree.position_ids.tolist() == [len(way) - 1 for way in ways]
    edges = zip(tree.parents.tolist(), tree.targets.tolist(), tree.weights.tolist(), strict=True)
    assert {(*ways[parent], target): weight for parent, target, weight in edges} == learned


@given(examples)
def test_a_node_is_seen_from_its_subtree_alone(rows: list[Example]) -> None:
    tree = build_tree(EncodedRows.of(rows), range(len(rows)))
    ways = paths(tree)
    for k, way in enumerate(ways):
        below = [q for q, other in enumerate(ways) if other[: len(way)] == way]
        assert below == list(range(k, int(tree.subtree_ends[k])))


@given(examples)
def test_every_node_is_asked_for_once_with_its_way_as_keys(rows: list[Example]) -> None:
    tree = build_tree(EncodedRows.of(rows), range(len(rows)))
    ways = paths(tree)
    queries = torch.cat([call.queries.flatten() for call in tree.branches])
    assert queries[tree.restore].tolist() == list(range(len(ways)))
    ids = tree.input_ids
    for call in tree.branches:
        for own, keys, start in zip(call.queries, call.keys, call.starts.tolist(), strict=True):
            first = int(own[0])
            assert tuple(ids[keys[: start + 1]].tolist()) == ways[first]


@given(examples)
def test_tokens_are_found_again_in_the_rows(rows: list[Example]) -> None:
    encoded = EncodedRows.of(rows)
    tree = build_tree(encoded, range(len(rows)))
    np.testing.assert_array_equal(encoded.input_ids[tree.origins.numpy()], tree.input_ids.numpy())


def test_the_cost_of_attention_follows_the_rows_and_not_the_square_of_the_tree() -> None:
    lengths = range(10, 650, 10)
    rows = [Example([n] * length, [True] * length) for n, length in enumerate(lengths)]
    tree = build_tree(EncodedRows.of(rows), range(len(rows)))
    pairs = sum(call.keys.numel() * call.queries.shape[1] for call in tree.branches)
    needed = sum(length**2 for length in lengths)
    assert needed <= pairs < 1.1 * needed < len(tree.input_ids) ** 2 / 10


def test_a_shared_document_is_held_once_for_all_its_questions() -> None:
    document = list(range(600))
    rows = [Example([*document, 700 + n, 1], [False] * 601 + [True]) for n in range(8)]
    tree = build_tree(EncodedRows.of(rows), range(8))
    assert len(tree.input_ids) == 600 + 8 * 2
    assert sorted(call.queries.shape for call in tree.branches) == [(1, 602), (7, 2)]


def test_several_answers_to_one_prompt_are_asked_of_one_place() -> None:
    rows = [Example([1, 2, 3, answer], [False] * 3 + [True]) for answer in (7, 8, 7)]
    tree = build_tree(EncodedRows.of(rows), range(3))
    assert tree.parents.tolist() == [2, 2]
    assert tree.targets.tolist() == [7, 8]
    assert tree.weights.tolist() == [2, 1]


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        build_tree(EncodedRows.of([]), [])


def paths(tree: TreeBatch) -> list[tuple[int, ...]]:
    """Spell each node's way from the root, from depths in depth-first order alone."""
    way: list[int] = []
    found = []
    for token_id, depth in zip(tree.input_ids.tolist(), tree.position_ids.tolist(), strict=True):
        way = [*way[:depth], token_id]
        found.append(tuple(way))
    return found
