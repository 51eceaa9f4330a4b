"""Find the items of a suite that belong together, so that nobody takes them for independent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from biddable.evaluation.sample import Sample

_USUAL_SHARE = 0.5


def clusters_of(samples: Iterable[Sample]) -> list[str]:
    """Name the cluster of each item.

    Items are of one cluster if they share an entity, a document (the text that an instruction works
    on, or a system text) or a conversation: turns of it, or the same first turn and reply. What is
    shared with a third item joins them as well. A system text of more than half the items is no
    document but the way in which they are asked.

    Args:
        samples: all items of a suite; draws of one are of its cluster.

    Returns:
        A name each: that of the entity, or of the cluster's first item.

    Example:
        >>> from biddable.data.conversation import Message
        >>> about = (Message("user", "Who?", input="Ada wrote."), Message("user", "When?"))
        >>> clusters_of(Sample(str(n), "", "", "all", (m,)) for n, m in enumerate(about))
        ['item 0', 'item 1']
    """
    given = list(samples)
    usual = _usual_texts(given)
    places: dict[Hashable, int] = {}
    links = [
        (n, len(given) + places.setdefault(key, len(places)))
        for n, sample in enumerate(given)
        for key in _keys_of(sample, usual)
    ]
    if not links:
        return []
    size = len(given) + len(places)  # a graph of items and of what they share
    rows, columns = np.array(links).T
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(size, size))
    _, found = connected_components(graph, directed=False)
    first: dict[int, Sample] = {}
    return [
        _name_of(first.setdefault(int(label), sample))
        for sample, label in zip(given, found, strict=False)
    ]


def _name_of(sample: Sample) -> str:
    return f"entity {sample.entity}" if sample.entity else f"item {sample.id}"


def _keys_of(sample: Sample, usual: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Give all that an item may share with others."""
    yield "item", sample.id
    if sample.entity:
        yield "entity", sample.entity
    for message in sample.messages:
        if message.input.strip():
            yield "document", message.input.strip()
        elif message.role == "system" and message.content.strip() not in usual:
            yield "document", message.content.strip()
    if sample.after is not None:
        yield "item", sample.after
        return
    opening = [message.text for message in sample.messages if message.role == "user"][:1]
    replies = [message.content for message in sample.messages if message.role == "assistant"]
    yield "opening", *opening, [*replies, sample.response][0]


def _usual_texts(samples: Sequence[Sample]) -> set[str]:
    """Give the system texts of so many items that they say how items are asked; empty ones too."""
    told = Counter(
        text
        for sample in samples
        for text in {m.content.strip() for m in sample.messages if m.role == "system"}
    )
    return {"", *(text for text, n in told.items() if n > _USUAL_SHARE * len(samples))}
