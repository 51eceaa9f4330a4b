"""Make responses near the edge of what IFEval's prompts ask for, the same ones each run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

WORDS = [
    "river",
    "the",
    "a",
    "of",
    "garden",
    "and",
    "STONE",
    "light",
    "paper",
    "we",
    "They",
    "never",
    "found",
    "under",
    "window",
    "NASA",
    "U.S.",
    "Dr.",
    "Mr.",
    "e.g.",
    "i.e.",
    "3.14",
    "1,000",
    "co-operate",
    "naïve",
    "don't",
    "it's",
    "CAN'T",
    "IT'S",
    "Ph.D.",
    "etc.",
    "p.m.",
    "Inc.",
    "A",
    "I",
    "X-RAY",
    "OK",
    "covid-19",
    "C++",
    "über",
    "ß",
    "ŞİŞ",
    "Σ",
]
ENDS = (
    ". ",
    ". ",
    ". ",
    "! ",
    "? ",
    "... ",
    "; ",
    ".\n",
    ".\n\n",
    "?! ",
    ".” ",
    '." ',
    " – ",
    ": ",
)
FOREIGN = (
    "El río cruza la ciudad y nadie sabe dónde empieza.",
    "Der Garten ist im Winter still, und niemand geht hinaus.",
    "La fenêtre reste ouverte toute la nuit malgré le froid.",
    "नदी शहर के बीच से होकर बहती है और सब लोग उसे देखते हैं।",
    "ನದಿಯು ನಗರದ ಮೂಲಕ ಹರಿಯುತ್ತದೆ.",
    "ਨਦੀ ਸ਼ਹਿਰ ਵਿੱਚੋਂ ਵਗਦੀ ਹੈ।",
    "நதி நகரம் வழியாக ஓடுகிறது.",
    "నది నగరం గుండా ప్రవహిస్తుంది.",
    "নদীটি শহরের মধ্য দিয়ে বয়ে গেছে।",
    "شہر کے بیچ سے دریا گزرتا ہے۔",
    "رودخانه از میان شهر می‌گذرد.",
    "النهر يمر عبر المدينة كل يوم.",
    "Река течёт через город, и никто не знает, откуда она.",
    "Реката минава през града и никой не знае защо.",
    "강은 도시를 가로질러 흐른다.",
    "แม่น้ำไหลผ่านเมือง",
    "Dòng sông chảy qua thành phố mỗi ngày.",
    "Mto unapita katikati ya mji kila siku.",
    "Joki virtaa kaupungin läpi joka päivä.",
    "Il fiume attraversa la città ogni giorno.",
    "O rio atravessa a cidade todos os dias.",
    "नदी शहराच्या मध्यातून वाहते आणि सगळे ती पाहतात.",
    "नदी सहरको बीचबाट बग्छ।",
    "નદી શહેરની વચ્ચેથી વહે છે.",
    "川は町の真ん中を流れている。",
    "河流穿过城市。",
)
PIECES = (
    "",
    " ",
    "\n",
    "\n\n",
    "\n\n\n",
    "\t",
    "\r\n",
    "\u00a0",
    "\u200b",
    "\u2028",
    "\x0b",
    "\x85",
    "***",
    "\n***\n",
    "\n\n***\n\n",
    "******",
    "\n******\n",
    "*",
    "**",
    "* ",
    "- ",
    "\n* a",
    "\n- b",
    "\n  - c",
    "\n** d",
    "\n*** e",
    "\n+ f",
    "\n• g",
    "\n1. h",
    "---",
    "*one*",
    "**two**",
    "***three***",
    "* *",
    "** **",
    "*a\nb*",
    "[",
    "]",
    "[name]",
    "[a\nb]",
    "[]",
    "[[x]]",
    "<<",
    ">>",
    "<<a>>",
    "<< >>",
    "<<<b>>>",
    "<<a\nb>>",
    '"',
    "'",
    "“",
    "”",
    "''",
    '""',
    "```",
    "```json\n",
    "\n```",
    "```Json",
    "P.S. x",
    "P.P.S x",
    "p. s. x",
    "P. P. S. x",
    "p.p.s",
    "PS: x",
    "P.P.S.",
    ",",
    "，",
    "、",
    ".",
    "?",
    "!",
    "SECTION 1",
    "Section 2",
    "section 3",
    "SECTION  4",
    "SECTION five",
    "Day 1",
    "PARAGRAPH 1",
    "Audience 2",
    "My answer is yes.",
    "My answer is no",
    "my answer is maybe.",
    "{}",
    "[1, 2]",
    "null",
    "NaN",
    "1e5",
    "😀",
    "é",
    "e\u0301",
    "ﬁ",
    "İ",
    "ı",
    "K",
    "١٢",
    "½",
    "A.B.C.",
    "www.x.org",
    "v2.0.1",
    "HELLO",
    "Mr. Smith",
    "_under_score_",
    "a-b",
    "O'NEIL",
    "I'M",
    "ABC123",
    "123",
    "A1",
    "Ⅷ",
    "Ω",
)


def responses(row: dict[str, Any], seed: int, count: int) -> Iterator[str]:
    """Give so many responses to a prompt: fitting ones, near misses, and both mangled."""
    draw = random.Random(f"{row['key']}-{seed}")
    for _ in range(count):
        text = _whole(draw, row)
        for _ in range(draw.choice((0, 0, 1, 1, 2, 4))):
            text = _mangle(draw, text)
        yield text


def _sentence(draw: random.Random) -> str:
    words = [draw.choice(WORDS) for _ in range(draw.randint(1, 12))]
    return " ".join(words).capitalize() + draw.choice(ENDS)


def _prose(draw: random.Random) -> str:
    if draw.random() < 0.15:
        return " ".join(draw.choices(FOREIGN, k=draw.randint(1, 3)))
    return "".join(_sentence(draw) for _ in range(draw.choice((0, 1, 3, 6, 12))))


def _whole(draw: random.Random, row: dict[str, Any]) -> str:
    text = _prose(draw)
    for kind, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
        given = {name: value for name, value in kwargs.items() if value is not None}
        text = _fit(draw, kind.partition(":")[2], given, text)
    return text


def _near(draw: random.Random, number: int) -> int:
    return max(0, number + draw.choice((-1, 0, 0, 0, 1)))


def _fit(draw: random.Random, kind: str, kwargs: dict[str, Any], text: str) -> str:  # noqa: C901, PLR0911, PLR0912
    numbers = [value for value in kwargs.values() if isinstance(value, int)]
    count = _near(draw, numbers[0]) if numbers else 0
    if kind in ("existence", "forbidden_words"):
        words = [draw.choice((w, w.upper(), w + "s", "x" + w)) for w in next(iter(kwargs.values()))]
        chosen = draw.sample(words, k=draw.choice((len(words), len(words) - 1, 0)))
        return text + " ".join(chosen)
    if kind == "frequency":
        return text + draw.choice((" ", ", ", "")).join([kwargs["keyword"]] * count)
    if kind == "letter_frequency":
        return "" if draw.random() < 0.05 else text + kwargs["letter"] * count
    if kind == "number_sentences":
        return " ".join(_sentence(draw).strip() for _ in range(count))
    if kind == "number_words":
        return " ".join(draw.choice(WORDS) for _ in range(count)) + draw.choice(("", ".", "\nEnd."))
    if kind == "number_paragraphs":
        divider = draw.choice(("\n\n***\n\n", "***", " *** ", "\n* * *\n", "****"))
        return divider.join(_sentence(draw) for _ in range(count))
    if kind == "nth_paragraph_first_word":
        parts = [_sentence(draw).strip() for _ in range(_near(draw, kwargs["num_paragraphs"]))]
        if len(parts) >= kwargs["nth_paragraph"]:
            word = draw.choice(('"{}"', "{},", "{}", "'{}'", "{}'s", "“{}”", "\n{}", "*{}*"))
            parts[kwargs["nth_paragraph"] - 1] = word.format(kwargs["first_word"]) + " and so on."
        return draw.choice(("\n\n", "\n\n", "\n\n\n", "\n\n\n\n", "\n \n")).join(parts)
    if kind == "number_placeholders":
        return text + draw.choice((" ", "\n", "")).join(["[place]"] * count)
    if kind == "postscript":
        marker = draw.choice((kwargs["postscript_marker"], "P.P.S", "P.S.", "P. S.", "PS"))
        return text + draw.choice(("\n\n", " ", "")) + draw.choice((marker, marker.lower())) + " Hi"
    if kind == "number_bullet_lists":
        sign = draw.choice(("* ", "- ", "  * ", "*", "\n* ", "-", "** "))
        return text + "\n" + "\n".join(sign + draw.choice(WORDS) for _ in range(count))
    if kind == "number_highlighted_sections":
        star = draw.choice(("*", "*", "**", "***", "_"))
        return text + draw.choice((" ", "\n", "")).join([f"{star}word{star}"] * count)
    if kind == "multiple_sections":
        name = draw.choice((kwargs["section_spliter"], kwargs["section_spliter"].lower(), "Part"))
        return "".join(f"{name} {n + 1}\n{_sentence(draw)}\n" for n in range(_near(draw, count)))
    if kind == "json_format":
        whole = json.dumps({"text": text[:80], "n": [1, 2.5, None, True]}, ensure_ascii=False)
        fence = draw.choice(
            ("{}", "```json\n{}\n```", "```\n{}\n```", "```JSON{}```", "x {}", "{},")
        )
        return fence.format(whole)
    if kind == "two_responses":
        parts = [text, draw.choice((text, _prose(draw)))]
        return draw.choice(("******", "\n******\n", "*****", "*******", "************")).join(parts)
    if kind == "repeat_prompt":
        prompt = kwargs["prompt_to_repeat"]
        return draw.choice((prompt, prompt.upper(), " " + prompt, prompt[:-1], '"' + prompt)) + text
    if kind == "end_checker":
        end = draw.choice((kwargs["end_phrase"], kwargs["end_phrase"].upper(), "The end"))
        return text + end + draw.choice(("", "", ".", " ", '"', "\n", ' "', "\nBye."))
    if kind == "quotation":
        return draw.choice(('"{}"', '"{}"', "“{}”", '"{}', "'{}'", ' "{}" ', '"{}".')).format(text)
    if kind == "capital_word_frequency":
        return text + " " + " ".join([draw.choice(("WORD", "A-B", "IT'S", "X", "1A"))] * count)
    if kind == "english_capital":
        return draw.choice((text.upper(), text.upper(), text))
    if kind == "english_lowercase":
        return draw.choice((text.lower(), text.lower(), text))
    if kind == "no_comma":
        return draw.choice((text.replace(",", ""), text))
    if kind == "title":
        return (
            draw.choice(("<<The River>>\n", "<<>>", "<The River>\n", "<< >>\n", "**<<Hi>>**\n"))
            + text
        )
    if kind == "constrained_response":
        return (
            draw.choice(("My answer is yes.", "My answer is no.", "Maybe. ", "my answer is no."))
            + text
        )
    return text


def _mangle(draw: random.Random, text: str) -> str:
    at, to = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
    lines = text.split("\n")
    return draw.choice(
        (
            text[:at] + draw.choice(PIECES) + text[at:],
            draw.choice(PIECES) + text,
            text + draw.choice(PIECES),
            text[:at] + text[to:],
            text[:to],
            text + text[at:to],
            text.upper(),
            text.lower(),
            text.swapcase(),
            text.replace(" ", "\n"),
            text.replace("\n", " "),
            "Sure! Here it is:\n" + text,
            text + "\nI hope that this helps.",
            "\n".join(draw.sample(lines, k=len(lines))),
            f"**{text}**",
            f"  {text}\n\n",
            text.replace(draw.choice("*-.,\"'[]<>`") or "x", ""),
            draw.choice(FOREIGN) + text,
            draw.choice(PIECES),
        )
    )
