"""Find what should not be learned by heart: keys and passwords, e-mail addresses, phone numbers.

What is found is shown by its first signs only, so that a report can be passed on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

# Keys that name their maker: nothing else is written like them.
_KEYS = {
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "OpenAI key": r"\bsk-(?:proj-|svcacct-)?(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,}",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "Stripe key": r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "SendGrid key": r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "PyPI token": r"\bpypi-AgE[A-Za-z0-9_-]{50,}",
    "Telegram bot token": r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "password in a URL": r"\b[a-z][a-z0-9+]{2,12}://[^\s:/@]{1,64}:[^\s:/@<>{}$*]{4,64}@[\w.-]+",
}
_ANY_KEY = re.compile("|".join(f"({pattern})" for pattern in _KEYS.values()))
_ASSIGNED = re.compile(
    r"(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key)"
    r"[\"']?\s*(?:[:=]|=>|:=)\s*[\"']?([A-Za-z0-9+/_=.~!@#$%^&*-]{12,})",
    re.IGNORECASE,
)
_MADE_UP = re.compile(
    r"your|example|sample|placeholder|change|insert|x{4}|\*{3}|\.{3}|1234567|abcdef|secret|token"
    r"|passw|getenv|environ|process\.|config|\(",
    re.IGNORECASE,
)
# Cheap to look for, and without one of them no pattern above can match.
_HINTS = re.compile(
    r"AKIA|ASIA|sk-|gh[pousr]_|github_pat_|glpat-|hf_|AIza|xox|k_live_|k_test_|SG\.|npm_|pypi-|:AA"
    r"|eyJ|-----BEGIN|://[^\s/]*@"
)
_EMAIL = re.compile(
    r"(?<![\w.+%/@-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.)+"
    r"[A-Za-z]{2,24}(?![\w@-])"
)
_NUMBERS = (
    r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]\d{2,4}){2,4}",
    r"\+\d{10,14}",
    r"(?:\+?1[ .-])?\(\d{3}\) ?\d{3}[-. ]\d{4}",
    r"(?:1-)?\d{3}-\d{3}-\d{4}",
    # As in Germany: long last groups, area codes that start with 0, slashes.
    r"(?:\+|00)[1-9]\d{1,2}[ ./-]?(?:\(0\) ?)?\(?[1-9]\d{0,4}\)? ?[ /-] ?\d{4,9}(?:-\d{1,4})?",
    r"(?:\+|00)[1-9]\d{1,2}[ ./-]?\(0\) ?[1-9]\d{1,4}(?: ?[ /-] ?\d{2,5}){2,4}",
    r"\(0 ?[1-9]\d{1,4}\) ?[/-]? ?[1-9]\d{2,8}(?:[ -]\d{1,4}){0,3}",
    r"\(0 ?[1-9]\d{1,4}\) ?[/-]? ?[1-9]\d(?: \d{2}){2,3}",
    r"0[1-9]\d{1,4} ?/ ?[1-9]\d{3,8}(?:-\d{1,4})?",
    r"0[1-9]\d{1,4} ?/ ?[1-9]\d{1,3}(?: \d{2,4}){1,3}",
    r"0[1-9]\d{1,4}-[1-9]\d{5,8}",
    r"0[2-9]\d{1,3} [1-9]\d{5,8}",
    r"01[5-7]\d{1,2}[ -]?(?:\d{7,8}|\d{3}(?: \d{2}){2}|\d{3} \d{4})",
)
_PHONE = re.compile(rf"(?<![\w.+/=-])(?:{'|'.join(_NUMBERS)})(?![\w/-]|\.\d)")
_MAY_BE_PHONE = re.compile(r"[+(]\d|\d-\d|(?<!\d)00?[1-9]\d")  # cheap, and in each of these
_MAX_SHOWN = 5
_MIN_BITS = 3.3  # a sign, on average; words and counters are below it


def private_findings(text: str) -> Iterator[tuple[str, str]]:
    """Say what a text gives away.

    Args:
        text: of one message.

    Returns:
        Pairs of code (``secret``, ``email-address``, ``phone-number``) and what was found.

    Example:
        >>> list(private_findings("Write to jane.roe@firm.org"))[0][0]
        'email-address'
    """
    secrets: dict[str, list[str]] = {}
    for kind, value in find_secrets(text):
        secrets.setdefault(kind, []).append(value)
        text = text.replace(value, "")  # what stands before its @ is no one's address
    for kind, values in secrets.items():
        yield "secret", _told_secrets(kind, values)
    if "@" in text:
        yield from _told("email-address", "e-mail address", _EMAIL.findall(text))
    if _MAY_BE_PHONE.search(text):
        numbers = [number for number in _PHONE.findall(text) if 9 <= _num_digits(number) <= 15]
        yield from _told("phone-number", "phone number", numbers)


def find_secrets(text: str) -> list[tuple[str, str]]:
    """Find the keys, tokens and passwords of a text.

    Returns:
        Pairs of kind and value, each value once: those that name their maker first, then what is
        assigned to a name such as ``password``.

    Example:
        >>> find_secrets("password = 'changeme-please-now'")
        []
    """
    found: dict[str, str] = {}
    if _HINTS.search(text):
        for key in _ANY_KEY.finditer(text):
            found.setdefault(key[0], list(_KEYS)[(key.lastindex or 1) - 1])
        text = _ANY_KEY.sub("", text)  # none of them is told again as a password
    for assigned in _ASSIGNED.finditer(text) if "=" in text or ":" in text else ():
        value = assigned[1]
        if not _MADE_UP.search(value) and _looks_random(value):
            found.setdefault(value, "password or key")
    return [(kind, value) for value, kind in found.items()]


def _looks_random(value: str) -> bool:
    has_both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return has_both and _bits_a_sign(value) >= _MIN_BITS


def _bits_a_sign(value: str) -> float:
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


def _num_digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _told_secrets(kind: str, values: list[str]) -> str:
    shown = ", ".join(map(_masked, values[:_MAX_SHOWN]))
    if len(values) == 1:
        article = "an" if kind[0] in "AO" else "a"
        return f"holds {article} {kind} ({shown}); take it out, and revoke it if it is real."
    more = f" and {len(values) - _MAX_SHOWN} more" if len(values) > _MAX_SHOWN else ""
    count = f"{len(values)} secrets of the kind {kind}"
    return f"holds {count} ({shown}{more}); take them out, and revoke those that are real."


def _told(code: str, name: str, found: list[str]) -> Iterator[tuple[str, str]]:
    if found:
        count = f"{len(found)} {name}{'es' if name[-1] == 's' else 's'}" if len(found) > 1 else name
        first = _masked(found[0])
        article = "" if len(found) > 1 else ("an " if name[0] in "eAO" else "a ")
        yield (
            code,
            f"holds {article}{count} ({first}); take it out, or put a made-up one in its place.",
        )


def _masked(value: str) -> str:
    return value[: min(4, len(value) // 3)] + "…"
