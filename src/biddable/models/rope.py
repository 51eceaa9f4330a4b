"""Keep positions turned as in a pass of a row's own, in models whose angles depend on the longest.

transformers' RoPE types "longrope" and "dynamic" choose the frequencies of a whole pass by its
longest row: by one set up to a limit and another above it, or by one for each length above it. A
row beside a longer one then gets other states than alone, and "dynamic" keeps frequencies from one
pass to the next. Rows of one kind (`AngleLimits.kind`) may share a pass; `own_angles` sees to
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from biddable.models.replaced import replaced_output


@dataclass(frozen=True, slots=True)
class AngleLimits:
    """Say at which lengths of a row a model takes other angles; false where it never does.

    Attributes:
        switches: lengths above which it takes another set of frequencies.
        grows_above: length above which each has frequencies of its own; None if there is none.
    """

    switches: tuple[int, ...] = ()
    grows_above: int | None = None

    @classmethod
    def of(cls, *models: nn.Module) -> AngleLimits:
        """Read the limits of a model, or of several that are given the same rows."""
        switches: set[int] = set()
        growing: set[int] = set()
        for model in models:
            if not isinstance(model, PreTrainedModel):
                continue
            config: Any = model.config.get_text_config(decoder=True)
            longest = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
            for given in _rope_parameters(config):
                rope_type = given.get("rope_type") or given.get("type")
                if _switches(rope_type):
                    switches.add(given.get("original_max_position_embeddings") or longest)
                elif _grows(rope_type):
                    growing.add(longest)
        return cls(tuple(sorted(switches)), min(growing, default=None))

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self.switches) or self.grows_above is not None

    def kind(self, length: int) -> int:
        """Number the angles that a row gets when it is run alone; 0 below all limits.

        Args:
            length: of the row, in ids.

        Example:
            >>> limits = AngleLimits(switches=(16,), grows_above=64)
            >>> [limits.kind(length) for length in (16, 17, 64, 65, 66)]
            [0, 16, 16, 65, 66]
        """
        if self.grows_above is not None and length > self.grows_above:
            return length
        return max((limit for limit in self.switches if limit < length), default=0)

    def are_alike(self, length: int, other: int) -> bool:
        """Tell whether rows of two lengths get the same angles."""
        return self.kind(length) == self.kind(other)

    def kinds(self, lengths: Iterable[int]) -> list[int] | None:
        """Number the angles of rows; None where all lie below the limits."""
        found = [self.kind(length) for length in lengths] if self else []
        return found if any(found) else None

    def told(self, lengths: Collection[int]) -> str:
        """Say which rows share no pass; empty if all may."""
        found = self.kinds(lengths)
        if found is None or len(set(found)) == 1:
            return ""
        limits = [*self.switches, *([self.grows_above] if self.grows_above else [])]
        sides = " or ".join(f"{limit:,}" for limit in sorted(limits))
        grows = self.grows_above is not None and max(lengths) > self.grows_above
        alone = ", and longer ones only with rows of their own length" if grows else ""
        return (
            f"rows of up to {sides} tokens share no pass with longer ones{alone}: the model turns"
            " positions by angles that the longest row of a pass decides"
        )


NO_LIMITS = AngleLimits()


@contextmanager
def own_angles(model: nn.Module) -> Iterator[None]:
    """Let each row of a pass get the angles that it gets alone, whatever was run before.

    A pass whose rows are one line of positions, (1, T), as padded rows and trees are, gets those of
    its longest: its rows have to be of one kind.

    Args:
        model: a transformers causal LM.
    """
    limits = AngleLimits.of(model)
    with ExitStack() as stack:
        for module in model.modules() if limits else ():
            if _depends_on_the_longest(module):
                compute = partial(_angles, module.forward, limits)
                stack.enter_context(replaced_output(module, compute))
        yield


def _angles(
    run: Callable[..., Any],
    limits: AngleLimits,
    x: Tensor,
    position_ids: Tensor,
    *given: Any,
    **named: Any,
) -> Any:
    """Make what a rotary embedding makes of (.., B, T) positions, rows of a kind at a time."""
    if position_ids.is_meta:
        return run(x, position_ids, *given, **named)

    def of_one_kind(positions: Tensor) -> Any:
        if limits.grows_above is not None:  # a short pass makes it forget what it kept
            run(x, torch.zeros_like(positions[..., :1]), *given, **named)
        return run(x, positions, *given, **named)

    rows = position_ids if position_ids.dim() == 2 else position_ids.reshape(1, -1)
    kinds = [limits.kind(last + 1) for last in rows.amax(dim=1).tolist()]
    if len(set(kinds)) == 1:
        return of_one_kind(position_ids)
    numbers = torch.tensor(kinds, device=position_ids.device)
    places = [(numbers == kind).nonzero()[:, 0] for kind in sorted(set(kinds))]
    parts = [of_one_kind(position_ids[alike]) for alike in places]
    back = torch.cat(places).argsort()
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)[back]
    return tuple(torch.cat(each)[back] for each in zip(*parts, strict=True))


def _depends_on_the_longest(module: nn.Module) -> bool:
    found = getattr(module, "rope_type", None)  # of some models one for each kind of layer
    types = found.values() if isinstance(found, dict) else [found]
    return any(_switches(each) or _grows(each) for each in types)


def _switches(rope_type: object) -> bool:
    return rope_type == "longrope"


def _grows(rope_type: object) -> bool:
    return isinstance(rope_type, str) and "dynamic" in rope_type


def _rope_parameters(config: Any) -> list[dict[str, Any]]:
    """List the settings of each kind of layer."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [each for each in given.values() if isinstance(each, dict)]
    return nested or [given]
