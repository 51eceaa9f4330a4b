"""Write the Modelfile by which Ollama runs a GGUF file.

Ollama applies no Jinja but a template of its own, in Go's language. What a chat template writes
between messages depends, in all that are known, on who spoke before and who speaks next; that table
is read off our own rendering, proven on longer conversations, and written down in Go.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from biddable.data.conversation import Message
from biddable.data.templates import ChatTemplate
from biddable.errors import TemplateError

START, END = "start", "end"
# Signs that no template writes, so that what is said can be found in its text.
_SAID = {role: chr(0xF8F4 + n) for n, role in enumerate(("system", "user", "assistant"))}
_SEEN = (
    ("user",),
    ("user", "assistant", "user"),
    ("system", "user"),
    ("system", "user", "assistant", "user"),
)
_PROVEN = (
    ("user", "assistant", "user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)

Frames = dict[tuple[str, str], str]


def frames_of(form: ChatTemplate, *, start: str = "") -> Frames | None:
    """Say what a template writes between messages, by who spoke before and who speaks next.

    Args:
        form: the template.
        start: the start token, where llama.cpp puts it there by itself; it is left out.

    Returns:
        The text for each pair of roles, ``start`` and ``end`` among them; None
        if that does not tell all that the template does.
    """
    frames: Frames = {}
    for roles in _SEEN:
        text = _rendered(form, roles, start)
        if text is None:
            continue  # as where a template has no system message
        for pair, frame in _cut(text, roles).items():
            if frames.setdefault(pair, frame) != frame:
                return None
    rendered = [(roles, _rendered(form, roles, start)) for roles in _PROVEN]
    shown = [(roles, text) for roles, text in rendered if text is not None]
    is_proven = shown and all(render(frames, _said(roles)) == text for roles, text in shown)
    return frames if is_proven else None


def render(frames: Frames, messages: Sequence[tuple[str, str]]) -> str:
    """Write a prompt by the table, as Ollama will.

    Args:
        frames: see `frames_of`.
        messages: role and text of each.

    Example:
        >>> frames = {("start", "user"): "<u>", ("user", "end"): "<a>"}
        >>> render(frames, [("user", "hi")])
        '<u>hi<a>'
    """
    roles = [START, *(role for role, _ in messages), END]
    texts = [*(text for _, text in messages), ""]
    return "".join(
        frames.get(pair, "") + text for pair, text in zip(pairwise(roles), texts, strict=True)
    )


def go_template(frames: Frames) -> str:
    """Write the table in Go's template language."""
    lines = ['{{- $last := "start" }}', "{{- range .Messages }}"]
    for number, role in enumerate(_SAID):
        lines.append(f'{{{{- {"else " if number else ""}if eq .Role "{role}" }}}}')
        lines += _choice({before: f for (before, after), f in frames.items() if after == role})
        lines.append("{{- .Content }}")
    lines += ["{{- end }}", "{{- $last = .Role }}", "{{- end }}"]
    lines += _choice({before: f for (before, after), f in frames.items() if after == END})
    return "\n".join(lines)


def modelfile(
    file_name: str,
    form: ChatTemplate | None,
    *,
    start: str,
    stops: Sequence[str],
    context: int,
) -> str:
    """Write the Modelfile.

    Args:
        file_name: of the GGUF file, beside it.
        form: the run's template; None for a model that was taught none.
        start: the start token, where llama.cpp puts it there by itself.
        stops: texts that end an answer.
        context: ids that the model takes at once.
    """
    lines = [f"FROM ./{file_name}", f"PARAMETER num_ctx {context}", "PARAMETER temperature 0"]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    frames = frames_of(form, start=start) if form is not None else None
    if form is None:
        lines.append('TEMPLATE "{{ .Prompt }}"')
    elif frames is None:
        lines.append(
            f"# The template {form.name} does more than stand between messages, so that it cannot"
            " be written here;\n# Ollama chooses one that it knows by itself. Check what it shows:"
            " ollama show --template NAME"
        )
    else:
        lines.append(f'TEMPLATE """{go_template(frames)}"""')
    return "\n".join(lines) + "\n"


def _choice(frames: dict[str, str]) -> list[str]:
    """Write the frame that fits the role before; one that is always the same, plainly."""
    if len(set(frames.values())) == 1:
        return [f"{{{{- {_quoted(next(iter(frames.values())))} }}}}"]
    lines = []
    for number, (before, frame) in enumerate(frames.items()):
        opening = "else if" if number else "if"
        lines.append(f'{{{{- {opening} eq $last "{before}" }}}}{{{{ {_quoted(frame)} }}}}')
    return [*lines, "{{- end }}"] if lines else []


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace('"""', '\\"\\"\\"')


def _said(roles: Sequence[str]) -> list[tuple[str, str]]:
    return [(role, _SAID[role]) for role in roles]


def _rendered(form: ChatTemplate, roles: Sequence[str], start: str) -> str | None:
    """Render a prompt of messages that say a sign each, without the start token."""
    try:
        segments = form.render_prompt([Message(role, text) for role, text in _said(roles)])
    except TemplateError:
        return None
    return "".join(segment.text for segment in segments).removeprefix(start)


def _cut(text: str, roles: Sequence[str]) -> Frames:
    """Cut a rendering at what was said."""
    frames: Frames = {}
    for pair in pairwise([START, *roles]):
        frame, _, text = text.partition(_SAID[pair[1]])
        frames[pair] = frame
    frames[roles[-1], END] = text
    return frames
