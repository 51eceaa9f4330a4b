"""Lay the rows of a micro-batch out as a tree of their common starts, each token once.

Causal attention sees what came before and nothing else, so rows that begin alike have the same
states as far as they do: one copy is enough, and no padding is needed. The loss and its gradient
stay exactly those of the rows one by one (docs/decisions/0012). After the idea of Tree Training
(arXiv 2511.00413), which needs kernels of its own; here the rows' branches are plain tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biddable.data.encoded import EncodedRows

Numbers = NDArray[np.int64]

# What one more attention call costs, in pairs of a query and a key.
_CALL_PAIRS = 2048


@dataclass(frozen=True, slots=True)
class Branches:
    """Hold G branches whose attention is computed in one call, filled up to a common size.

    Attributes:
        queries: (G, S), the nodes that a branch adds to the tree, then any nodes up to S.
        keys: (G, L), the nodes from the root to the end of a branch, then any nodes up to L; the
            node at place d has depth d. Those of a trunk are counted before the batch's own.
        starts: (G,), the depth of the first node of ``queries``.
    """

    queries: Tensor
    keys: Tensor
    starts: Tensor

    def to(self, device: torch.device) -> Branches:
        """Copy the tensors to a device."""
        return Branches(self.queries.to(device), self.keys.to(device), self.starts.to(device))


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Hold a micro-batch as a tree of N nodes in depth-first order.

    All rows of it may go on from a trunk, a common start of P nodes that was run before.

    Attributes:
        trunk: P.
        input_ids: (N,), int64.
        position_ids: (N,), the depth of each node, 0 for a root.
        subtree_ends: (P + N,), one past the last node below each, the trunk's first: q comes after
            k in some row if ``k <= q < subtree_ends[k]``.
        branches: every node is one branch's own.
        restore: (N,), where each node is among the queries of all calls, laid end to end.
        parents: (E,), for each token that some row learns, the node before it.
        targets: (E,), its id.
        weights: (E,), how many rows learn it.
        origins: (N,), where the token stands in the rows' flat ids.
    """

    trunk: int
    input_ids: Tensor
    position_ids: Tensor
    subtree_ends: Tensor
    branches: tuple[Branches, ...]
    restore: Tensor
    parents: Tensor
    targets: Tensor
    weights: Tensor
    origins: Tensor

    def inputs(self) -> dict[str, Tensor]:
        """Give what a transformers model is called with inside of `tree_attention`."""
        # with a mask given, transformers does not take the positions for those of packed rows
        mask = torch.ones_like(self.input_ids)
        named = {"input_ids": self.input_ids, "position_ids": self.position_ids}
        return {name: given[None] for name, given in {**named, "attention_mask": mask}.items()}

    def to(self, device: torch.device) -> TreeBatch:
        """Copy the tensors to a device; ``origins`` stay, they are looked up in files."""
        if self.input_ids.device == device:
            return self
        moved: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name, value in moved.items():
            if name == "branches":
                moved[name] = tuple(branch.to(device) for branch in value)
            elif name not in ("origins", "trunk"):
                moved[name] = value.to(device)
        return TreeBatch(**moved)


@dataclass(frozen=True, slots=True)
class Branch:
    """Say which nodes belong to a row.

    Attributes:
        start: the first node that it adds to the tree.
        end: one past the last.
        path: all nodes on its way from the root, (T,).
    """

    start: int
    end: int
    path: Numbers


def sort_rows(rows: EncodedRows, numbers: Sequence[int]) -> list[int]:
    """Order rows by their ids, so that those that begin alike stand together.

    Example:
        >>> from biddable.data.encoding import Example
        >>> rows = EncodedRows.of([Example(ids, [True] * 2) for ids in ([7, 2], [300, 1], [7, 1])])
        >>> sort_rows(rows, [0, 1, 2])
        [2, 0, 1]
    """
    # big-endian: bytes then sort as the ids do, a row right before those it begins
    keys = {
        n: rows.input_ids[rows.offsets[n] : rows.offsets[n + 1]].astype(">i4").tobytes()
        for n in numbers
    }
    return sorted(numbers, key=keys.__getitem__)


def shared_lengths(rows: EncodedRows, ordered: Sequence[int]) -> Numbers:
    """Count how many first ids each row has in common with the one before it; 0 for the first.

    Args:
        rows: the examples.
        ordered: numbers of R rows, as `sort_rows` has them.

    Returns:
        (R,).

    Example:
        >>> from biddable.data.encoding import Example
        >>> rows = EncodedRows.of([Example([1, 2, i], [False, True, True]) for i in (3, 4)])
        >>> shared_lengths(rows, [0, 1])
        array([0, 2])
    """
    later = np.asarray(ordered, np.int64)
    shared = np.zeros(len(later), np.int64)
    left, right = later[:-1], later[1:]
    lengths = np.minimum(rows.lengths[left], rows.lengths[right])  # (R - 1,)
    has_ids = lengths > 0
    if not has_ids.any():
        return shared
    firsts = np.cumsum(lengths) - lengths
    within = np.arange(lengths.sum()) - np.repeat(firsts, lengths)  # 0, 1, .. of each pair in turn
    ids = rows.input_ids
    differs = (
        ids[np.repeat(rows.offsets[left], lengths) + within]
        != ids[np.repeat(rows.offsets[right], lengths) + within]
    )
    until = np.where(differs, within, np.repeat(lengths, lengths))
    shared[1:][has_ids] = np.minimum.reduceat(until, firsts[has_ids])
    return shared


def build_tree(
    rows: EncodedRows, numbers: Sequence[int], *, trunk: int = 0, only_trunk: bool = False
) -> TreeBatch:
    """Build the tree of some rows, or one of the two parts that it is run in.

    Args:
        rows: the examples.
        numbers: of the rows, at least one, in any order.
        trunk: how many first ids all rows have in common that are left out, being run before.
        only_trunk: build what was left out instead. What follows its last node is learned from
            there, so it needs all rows that go on from it.

    Returns:
        The tree; rows that are the same add their weights.

    Raises:
        ValueError: there are no rows.

    Example:
        >>> from biddable.data.encoding import Example
        >>> rows = EncodedRows.of([Example([1, 2, i], [False, True, True]) for i in (3, 4)])
        >>> tree = build_tree(rows, [0, 1])
        >>> tree.input_ids.tolist(), tree.position_ids.tolist(), tree.subtree_ends.tolist()
        ([1, 2, 3, 4], [0, 1, 2, 2], [4, 4, 3, 4])
        >>> tree.parents.tolist(), tree.targets.tolist(), tree.weights.tolist()
        ([0, 1, 1], [2, 3, 4], [2, 1, 1])
    """
    if not len(numbers):
        raise ValueError("a tree needs at least one row.")
    ordered = sort_rows(rows, numbers)
    branches = list(walk(rows, ordered))
    num_nodes = branches[-1].end
    depths, parents = np.zeros(num_nodes, np.int64), np.full(num_nodes, -1)
    origins, weights = np.zeros(num_nodes, np.int64), np.zeros(num_nodes, np.int64)
    for number, branch in zip(ordered, branches, strict=True):
        own, start = slice(branch.start, branch.end), rows.offsets[number]
        depth = len(branch.path) - (branch.end - branch.start)
        depths[own] = np.arange(depth, len(branch.path))
        origins[own] = start + depths[own]
        if depth < len(branch.path):
            parents[own] = np.arange(branch.start - 1, branch.end - 1)
            parents[branch.start] = branch.path[depth - 1] if depth else -1
        weights[branch.path] += rows.loss_mask[start : start + len(branch.path)]
    first, last = (0, trunk) if only_trunk else (trunk, num_nodes)
    learned = np.flatnonzero((weights > 0) & (parents >= first) & (parents < last))
    input_ids = rows.input_ids[origins].astype(np.int64)
    calls, restore = _group(list(_within(branches, first, last)), first, last)
    return TreeBatch(
        trunk=first,
        input_ids=torch.from_numpy(input_ids[first:last]),
        position_ids=torch.from_numpy(depths[first:last]),
        subtree_ends=torch.from_numpy(_subtree_ends(depths[:last])),
        branches=calls,
        restore=restore,
        parents=torch.from_numpy(parents[learned] - first),
        targets=torch.from_numpy(input_ids[learned]),
        weights=torch.from_numpy(weights[learned]),
        origins=torch.from_numpy(origins[first:last]),
    )


def common_start(rows: EncodedRows, ordered: Sequence[int]) -> int:
    """Count the first ids that all of some rows have in common, at least one less than any has.

    Args:
        rows: the examples.
        ordered: numbers of rows, as `sort_rows` has them.
    """
    shortest = int(rows.lengths[list(ordered)].min()) - 1
    return min(shortest, int(shared_lengths(rows, [ordered[0], ordered[-1]])[1]))


def walk(rows: EncodedRows, ordered: Sequence[int]) -> Iterator[Branch]:
    """Go through the rows of a tree in order and say which of its nodes are theirs.

    Args:
        rows: the examples.
        ordered: numbers of rows, as `sort_rows` has them.
    """
    shared = shared_lengths(rows, ordered)
    path = np.zeros(0, np.int64)
    num_nodes = 0
    for number, common in zip(ordered, shared.tolist(), strict=True):
        end = num_nodes + int(rows.lengths[number]) - common
        path = np.concatenate([path[:common], np.arange(num_nodes, end)])
        yield Branch(num_nodes, end, path)
        num_nodes = end


def _subtree_ends(depths: Numbers) -> Numbers:
    """Find for each node the next one that is not deeper: there its subtree is over."""
    ends = np.full(len(depths), len(depths))
    open_nodes: list[int] = []
    for node, depth in enumerate(depths.tolist()):
        while open_nodes and depths[open_nodes[-1]] >= depth:
            ends[open_nodes.pop()] = node
        open_nodes.append(node)
    return ends


def _within(branches: Sequence[Branch], first: int, last: int) -> Iterator[Branch]:
    """Cut branches so that the nodes they add are among some."""
    for branch in branches:
        start, end = max(branch.start, first), min(branch.end, last)
        if start < end:
            yield Branch(start, end, branch.path[: len(branch.path) - (branch.end - end)])


def _group(
    branches: Sequence[Branch], first_node: int, last_node: int
) -> tuple[tuple[Branches, ...], Tensor]:
    """Put branches into one call as long as filling them up costs less than another call."""
    ordered = sorted(branches, key=lambda b: (-(b.end - b.start), -len(b.path), b.start))
    groups: list[list[Branch]] = []
    for branch in ordered:
        size, length = branch.end - branch.start, len(branch.path)
        if groups:
            first = groups[-1][0]
            widest = first.end - first.start
            longest = max(length, *(len(b.path) for b in groups[-1]))
            grown = longest - max(len(b.path) for b in groups[-1])
            filled = widest * longest + grown * widest * len(groups[-1])
            if filled <= size * length + _CALL_PAIRS:
                groups[-1].append(branch)
                continue
        groups.append([branch])
    restore = np.zeros(last_node - first_node, np.int64)
    calls, offset = [], 0
    for group in groups:
        calls.append(_call(group, first_node))
        num_queries = calls[-1].queries.shape[1]
        for branch in group:
            start, end = branch.start - first_node, branch.end - first_node
            restore[start:end] = np.arange(end - start) + offset
            offset += num_queries
    return tuple(calls), torch.from_numpy(restore)


def _call(group: Sequence[Branch], first_node: int) -> Branches:
    num_queries = max(branch.end - branch.start for branch in group)
    num_keys = max(len(branch.path) for branch in group)
    queries = np.zeros((len(group), num_queries), np.int64)
    keys = np.zeros((len(group), num_keys), np.int64)
    for place, branch in enumerate(group):
        queries[place, : branch.end - branch.start] = (
            np.arange(branch.start, branch.end) - first_node
        )
        keys[place, : len(branch.path)] = branch.path
    starts = np.array([len(b.path) - (b.end - b.start) for b in group], np.int64)
    return Branches(torch.from_numpy(queries), torch.from_numpy(keys), torch.from_numpy(starts))
