"""Write the three forms of our own as Jinja, for programs that know a template in no other way.

The text is that of templates.py. Programs that render Jinja encode it in one piece, so that a
control token in a message would act as one; each is broken by a backslash, as marks that are
ordinary text are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from biddable.data.segments import ControlText


@dataclass(frozen=True, slots=True)
class Frame:
    """Say what a form of turns writes around messages, for one tokenizer.

    Attributes:
        bos: what opens the conversation; may be empty.
        end: what ends an answer: the text that belongs to it, and the stop.
        markers: marks that are ordinary text.
        control_tokens: what no text of a message may become.
        control_text: what becomes of a text that spells a marker.
    """

    bos: str
    end: str
    markers: tuple[str, ...]
    control_tokens: frozenset[str]
    control_text: ControlText


def inst_source(frame: Frame) -> str:
    """Write ``inst`` as Jinja."""
    return _source(
        frame,
        """\
{%- set turn = namespace(text="", open=false, asked=false) %}
{%- for message in messages %}
<<said>>
    {%- if message.role == "assistant" %}
<<require_user>>
        {{- "[INST] " + turn.text + " [/INST] " + said.text + <<end>> }}
        {%- set turn.text = "" %}
        {%- set turn.open = false %}
        {%- set turn.asked = false %}
    {%- elif message.role in ["system", "user"] %}
<<input>>
        {%- set turn.text = turn.text + ("\\n\\n" if turn.open else "") + said.text %}
        {%- set turn.open = true %}
        {%- set turn.asked = turn.asked or message.role == "user" %}
    {%- else %}
<<unknown_role>>
    {%- endif %}
{%- endfor %}
{%- if turn.open %}
<<require_user>>
    {{- "[INST] " + turn.text + " [/INST]" }}
{%- endif %}
""",
    )


def alpaca_source(frame: Frame, *, preamble: str, preamble_input: str) -> str:
    """Write ``alpaca`` as Jinja.

    Args:
        frame: the tokenizer's.
        preamble: opens the first turn.
        preamble_input: opens it where an input is given.
    """
    turn = f"""\
        {{{{- turn.opening + turn.told }}}}
        {{%- if turn.first %}}
            {{{{- ({_quoted(preamble_input)} if turn.given else {_quoted(preamble)}) + "\\n\\n" }}}}
        {{%- endif %}}
        {{{{- "### Instruction:\\n" + turn.text }}}}
        {{{{- "\\n\\n### Input:\\n" + turn.given if turn.given else "" }}}}
        {{{{- "\\n\\n### Response:\\n" }}}}
"""
    return _source(
        frame,
        """\
{%- set turn = namespace(text="", told="", given="", opening="", asked=false, first=true) %}
{%- for message in messages %}
<<said>>
    {%- if message.role == "assistant" %}
<<require_user>>
<<turn>>
        {{- said.text + <<end>> }}
        {%- set turn.text = "" %}
        {%- set turn.told = "" %}
        {%- set turn.given = "" %}
        {%- set turn.asked = false %}
        {%- set turn.opening = "\\n\\n" %}
        {%- set turn.first = false %}
    {%- elif message.role == "system" %}
        {%- set turn.told = turn.told + said.text + "\\n\\n" %}
    {%- elif message.role == "user" %}
        {%- set turn.text = turn.text + ("\\n\\n" if turn.asked else "") + said.text %}
        {%- set turn.asked = true %}
        {%- if said.input %}
            {%- set turn.given = turn.given + ("\\n\\n" if turn.given else "") + said.input %}
        {%- endif %}
    {%- else %}
<<unknown_role>>
    {%- endif %}
{%- endfor %}
{%- if turn.asked or turn.told %}
<<require_user>>
<<turn>>
{%- endif %}
""".replace("<<turn>>\n", turn),
    )


def chatml_source(frame: Frame) -> str:
    """Write ``chatml`` as Jinja."""
    return _source(
        frame,
        """\
{%- set turn = namespace(between="") %}
{%- for message in messages %}
<<said>>
    {{- turn.between + "<|im_start|>" + message.role + "\\n" }}
    {%- if message.role == "assistant" %}
        {{- said.text + <<end>> }}
        {%- set turn.between = "\\n" %}
    {%- elif message.role in ["system", "user", "tool"] %}
<<input>>
        {{- said.text + "<|im_end|>\\n" }}
        {%- set turn.between = "" %}
    {%- else %}
<<unknown_role>>
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- turn.between + "<|im_start|>assistant\\n" }}
{%- endif %}
""",
    )


_INPUT = """\
        {%- if said.input %}
            {%- set said.text = said.text + "\\n\\n" + said.input %}
        {%- endif %}"""
_REQUIRE_USER = """\
    {%- if not turn.asked %}
        {{- raise_exception("a message of the user should stand before each answer") }}
    {%- endif %}"""
_UNKNOWN_ROLE = """\
        {{- raise_exception("this template cannot show a message of role " + message.role) }}"""


def _source(frame: Frame, body: str) -> str:
    parts = {
        "said": _said(frame),
        "end": _quoted(frame.end),
        "input": _INPUT,
        "require_user": _REQUIRE_USER,
        "unknown_role": _UNKNOWN_ROLE,
    }
    for name, text in parts.items():
        body = body.replace(f"<<{name}>>", text)
    opening = f"{{{{- {_quoted(frame.bos)} }}}}\n" if frame.bos else ""
    return opening + body


def _said(frame: Frame) -> str:
    """Take a message's text, what it spells of marks and control tokens made harmless."""
    lines = [
        "    {%- if message.content is not string %}",
        '        {{- raise_exception("a content should be text") }}',
        "    {%- endif %}",
        '    {%- set said = namespace(text=message.content, input=message.input or "") %}',
    ]
    broken = [(token, f"{token[0]}\\{token[1:]}") for token in sorted(frame.control_tokens)]
    if frame.markers and frame.control_text == "refuse":
        lines += [
            f"    {{%- for mark in {_listed(frame.markers)} %}}",
            "        {%- if mark in said.text or mark in said.input %}",
            '            {{- raise_exception("a text spells the mark " + mark) }}',
            "        {%- endif %}",
            "    {%- endfor %}",
        ]
    else:
        broken += [(marker, f"\\{marker}") for marker in frame.markers]
    pairs = ", ".join(f"[{_quoted(spelled)}, {_quoted(kept)}]" for spelled, kept in broken)
    if pairs:
        lines += [
            f"    {{%- for spelled, kept in [{pairs}] %}}",
            "        {%- set said.text = said.text | replace(spelled, kept) %}",
            "        {%- set said.input = said.input | replace(spelled, kept) %}",
            "    {%- endfor %}",
        ]
    return "\n".join(lines)


def _listed(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    r"""Write a text as Jinja does in quotes.

    Example:
        >>> _quoted('say "a"\n')
        '"say \\"a\\"\\n"'
    """
    return json.dumps(text, ensure_ascii=False)
