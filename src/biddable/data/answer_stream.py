"""Read an answer while it is being written: what `ChatTemplate.read_answer` gives, piece by piece.

Nothing is passed on that could still turn out to be a part of what the template adds, or of a text
that ends the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from biddable.data.segments import ChatTemplate


class AnswerStream:
    """Take generated text in pieces, and give the answer in pieces."""

    def __init__(self, template: ChatTemplate) -> None:
        """Take the template that the prompt was written in."""
        self._template = template
        self._waiting = ""
        self._is_opened = not template.answer_prefix

    def push(self, text: str) -> str:
        """Take more of the text, and give what is settled by it."""
        self._waiting += text
        if not self._open(is_last=False):
            return ""
        end = self._settled()
        settled, self._waiting = self._waiting[:end], self._waiting[end:]
        return self._template.unescape(settled)

    def finish(self) -> str:
        """Give the rest, once nothing more comes.

        All that was given is then what ``read_answer`` makes of the whole text.
        """
        self._open(is_last=True)
        rest, self._waiting = self._waiting, ""
        return self._template.unescape(rest.removesuffix(self._template.answer_suffix))

    def _open(self, *, is_last: bool) -> bool:
        """Take off what stands before an answer; tell whether that is settled."""
        prefix = self._template.answer_prefix
        if not self._is_opened and (is_last or not prefix.startswith(self._waiting)):
            self._waiting = self._waiting.removeprefix(prefix)
            self._is_opened = True
        return self._is_opened

    def _settled(self) -> int:
        """Find where the text begins that may still become a mark, or the answer's end."""
        text, template = self._waiting, self._template
        end = len(text) - unsettled(text, (template.answer_suffix, *template.markers))
        if not template.markers:
            return end
        while end and text[end - 1] == "\\":  # they belong to a mark that may follow
            end -= 1
        for mark in template.marker_pattern.finditer(text):
            if mark.start() < end < mark.end():
                return mark.start()
        return end


class StopFinder:
    """Let text through until one of some texts comes, of which nothing is let through."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Take the texts, none empty."""
        self._stops = stops
        self._waiting = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        """Take more text, and give what cannot be part of a stop any more.

        Example:
            >>> finder = StopFinder(["END"])
            >>> finder.push("the E"), finder.push("nd, EN"), finder.push("D of it")
            ('the ', 'End, ', '')
            >>> finder.has_stopped
            True
        """
        if self.has_stopped:
            return ""
        self._waiting += text
        found = [at for stop in self._stops if (at := self._waiting.find(stop)) >= 0]
        self.has_stopped = bool(found)
        end = min(found) if found else len(self._waiting) - unsettled(self._waiting, self._stops)
        settled, self._waiting = self._waiting[:end], self._waiting[end:]
        return settled

    def finish(self) -> str:
        """Give the rest, once nothing more comes."""
        return "" if self.has_stopped else self._waiting


def unsettled(text: str, marks: Sequence[str]) -> int:
    """Count the characters at the end of a text that begin one of some marks, or are all of it.

    Example:
        >>> unsettled("a list [IN", ["[INST]", "[/INST]"]), unsettled("a list", ["[INST]"])
        (3, 0)
    """
    longest = min(max(map(len, marks), default=0), len(text))
    for size in range(longest, 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0
