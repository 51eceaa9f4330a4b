"""Hold what counts as a secret, an address and a number, and that none of them is repeated."""

from __future__ import annotations

import pytest

from biddable.data.privacy import find_secrets, private_findings

RANDOM = "q7Zk2Lw9Xv4Bn8Rt5Yp1Mc6Hd3Js0Gf"


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAQ4Z2M7RT8YB1XK3W",
        f"sk-proj-{RANDOM}",
        f"sk-ant-api03-{RANDOM}",
        f"ghp_{RANDOM}{RANDOM[:5]}",
        f"github_pat_{RANDOM}",
        f"hf_{RANDOM}",
        f"glpat-{RANDOM[:20]}",
        f"AIza{RANDOM}{RANDOM[:4]}",
        f"xoxb-{RANDOM}",
        f"sk_live_{RANDOM}",
        f"eyJ{RANDOM}.eyJ{RANDOM}.{RANDOM}",
        "-----BEGIN RSA PRIVATE KEY-----",
        "postgres://admin:hunter22@db.host.net/main",
        f"api_key = '{RANDOM}'",
        f'"password": "{RANDOM}"',
        f"SECRET_TOKEN={RANDOM}",
    ],
)
def test_a_secret_is_found_and_not_repeated(secret: str) -> None:
    [(code, text)] = private_findings(f"Set {secret} first.")
    assert code == "secret"
    assert secret[8:] not in text


@pytest.mark.parametrize(
    "text",
    [
        "api_key = 'YOUR_API_KEY_HERE_123'",
        "password: correcthorsebatterystaple",
        "token = os.environ['SERVICE_TOKEN_1']",
        "the password is long",
        "key: value",
        "task-force and risk-averse people ask-and-tell",
        "sk-learn is not a key, and neither is sk-something-very-long-but-plain",
        "https://example.org/path?x=1@2",
        "secret = hashlib.sha256(data1).hexdigest()",
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert find_secrets(text) == []


def test_every_secret_of_a_text_is_named_once_for_its_kind() -> None:
    first, second = "AKIAQ4Z2M7RT8YB1XK3W", "ASIAQ4Z2M7RT8YB1XK3V"
    text = f"Use {first}, then {second}, then {first}; token hf_{RANDOM} and password = '{RANDOM}'."
    told = [text for code, text in private_findings(text) if code == "secret"]
    assert len(told) == 3
    assert "2 secrets of the kind AWS key (AKIA…, ASIA…)" in told[0]
    assert "a Hugging Face token (hf_q…)" in told[1]
    assert "a password or key (q7Zk…)" in told[2]
    assert not any(value[5:] in " ".join(told) for value in (first, second, RANDOM))


def test_a_key_that_is_assigned_is_told_once() -> None:
    [(code, text)] = private_findings(f"api_key = 'sk-proj-{RANDOM}'")
    assert code == "secret"
    assert "OpenAI key" in text


def test_addresses() -> None:
    [(code, text)] = private_findings("Ask a.b+c@firm.co.uk or joe@firm.org.")
    assert code == "email-address"
    assert "2 e-mail addresses (a.b+…)" in text
    for plain in ("@handle", "a @ b", "x@y", "@app.route('/')", "user@localhost", "5@2.50"):
        assert list(private_findings(plain)) == []


@pytest.mark.parametrize(
    "number",
    [
        "+44 20 7946 0958", "+14155550132", "(415) 555-0132", "415-555-0132", "1-415-555-0132",
        "+49 30 1234567", "+49 171 1234567", "+49 171/1234567", "+49 (0)30 123456",
        "+49 (30) 123456",
        "+49 (0) 30 / 12 34 56", "0049 30 123456", "0171/1234567", "0171-1234567", "0171 1234567",
        "01711234567", "0171 123 45 67", "(030) 123456", "(030) 12 34 56", "(0 30) 123456",
        "030/123456", "030 / 123456-78", "030 12345678", "+43 1 5321234", "0800 1234567",
    ],
)  # fmt: skip
def test_phone_numbers(number: str) -> None:
    [(code, text)] = private_findings(f"Call {number}.")
    assert code == "phone-number"
    assert number not in text


@pytest.mark.parametrize(
    "text",
    [
        "1990-2005", "2023-10-11", "3.14159-2.71828", "10-20-30", "978-3-16-148410-0", "12+30",
        "01/02/2023", "2023/01/02", "0317-8471", "(0171) is a code", "0.0171 1234567",
        "00123456789",
        "010 020 030", "f(0171, 1234567)", "0 123456", "12/1234567", "007 1234", "(2030) 123456",
        "1/0171/1234567", "0123/456", "page 0171", "[0.030 123456]", "021 22 23 24", "(05) 1999",
        "a = b + 1234567890", "192.168.10.254", "1,234,567,890", "x-123-456-7890-y", "555-1234",
    ],
)  # fmt: skip
def test_what_is_no_phone_number(text: str) -> None:
    assert list(private_findings(text)) == []
