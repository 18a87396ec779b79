"""The features of a prompt: short pieces of its text, and its shape.

Owns their extraction. Promises the same features for the same text in linear time, as no more
than `HEAD` + `TAIL` characters are looked at. Knows nothing of classes and weights.
"""

import re
from bisect import bisect_right
from typing import NamedTuple

HEAD, TAIL = 800, 200
"""Characters of a prompt that are looked at."""
READ_HEAD, READ_TAIL = 180, 60
"""Characters of the request whose pieces are counted; pasted text is not part of the request."""
LONGEST = 5
WORDS = (1, 2)
START, END, WORD, SHAPE, PASTED = "\x02", "\x03", "\x1f", "\x1e", "§"

_QUOTE = re.compile(r'(["“「])[^"“”「」]{24,}(["”」])')
_DIGIT, _DIGITS = re.compile(r"\d"), re.compile(r"\d+")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|0+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_FULL_WIDTH = {0x3000: 0x20, **{0xFEE0 + plain: plain for plain in range(0x21, 0x7F)}}
_CODE = re.compile(r"```|[{}();=]{2}|\bdef |;\n|=>|</\w")
_OPERATOR = re.compile(r"[=+*/^<>≤≥√∑∫]")
_SENTENCE_END = re.compile(r"[.!?;](?:\s|$)|。")
_CAPITALS = re.compile(r"\b[A-Z]{4,}\b")
_STEPS = {
    "length": (12, 20, 30, 45, 60, 80, 110, 150, 200, 280, 400, 600, 1000),
    "numbers": (1, 2, 3, 4, 6, 9, 15),
    "largest number": (10, 20, 40, 100, 500),
    "question marks": (1, 2, 3),
    "line breaks": (1, 2, 4, 8),
    "commas": (1, 2, 3, 5, 8),
    "sentence ends": (1, 2, 3, 5),
}
_CJK_LENGTH = 2.8
"""A Chinese character stands for about as much text as this many Latin letters."""
_YEARS = range(1900, 2101)


class Pieces(NamedTuple):
    """The features of a text. Each piece of text has the place where it stands first."""

    shown: str
    """The request as it was read, without pasted text."""
    text: str
    """The same in lower case, with zeros for digits, place by place."""
    spans: dict[str, tuple[int, int]]
    """Each piece, and where in `text` it begins and ends."""
    shape: frozenset[str]
    """What the text looks like: length, numbers, punctuation."""


def extract(prompt: str) -> Pieces:
    """The features of a prompt."""
    seen = _ends(prompt, HEAD, TAIL)
    shown = START + " ".join(_ends(_request(seen), READ_HEAD, READ_TAIL).split()) + END
    text = _DIGIT.sub("0", shown.translate(_FULL_WIDTH).casefold())
    if len(shown) != len(text):
        shown = text
    spans = {
        text[at : at + size]: (at, at + size)
        for size in range(1, LONGEST + 1)
        for at in range(len(text) - size, -1, -1)
    }
    words = [(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]
    words = [(START, 0, 1), *words, (END, len(text) - 1, len(text))]
    for size in WORDS:
        for at in range(len(words) - size, -1, -1):
            chosen = words[at : at + size]
            piece = WORD.join([WORD, *(word for word, _, _ in chosen)])
            spans[piece] = (chosen[0][1], chosen[-1][2])
    return Pieces(shown, text, spans, _shape(seen.translate(_FULL_WIDTH), text))


def _ends(text: str, head: int, tail: int) -> str:
    """The beginning and the end of a text that is longer than both."""
    return text if len(text) <= head + tail else f"{text[:head]}\n{text[-tail:]}"


def _request(text: str) -> str:
    """The text without long quotations and without the lines between the first and the last."""
    text = _QUOTE.sub(rf"\1{PASTED}\2", text)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 3 or (len(lines) > 1 and len(text) > 160):
        text = f"{lines[0]} {PASTED} {lines[-1]}"
    return text


def _shape(seen: str, text: str) -> frozenset[str]:
    language = "zh" if len(_CJK.findall(text)) * 3 > len(text) else "en"
    numbers = _DIGITS.findall(seen)
    counted = (int(number) for number in numbers[:50] if len(number) < 9)
    length = len(text) * (_CJK_LENGTH if language == "zh" else 1)
    counts = {
        "length": length,
        f"{language} length": length,
        "numbers": len(numbers),
        "largest number": max((one for one in counted if one not in _YEARS), default=0),
        "question marks": seen.count("?"),
        "line breaks": seen.count("\n"),
        "commas": sum(map(text.count, ",、;")),
        "sentence ends": len(_SENTENCE_END.findall(text)),
    }
    found = {f"language {language}", f"ends with {_ending(text)}"}
    for name, count in counts.items():
        steps = _STEPS[name.removeprefix(f"{language} ")]
        found.update(f"{name} ≥ {step}" for step in steps[: bisect_right(steps, count)])
    found.update(name for name, holds in _marks(seen, text).items() if holds)
    return frozenset(SHAPE + name for name in found)


def _marks(seen: str, text: str) -> dict[str, bool]:
    return {
        "quotation": any(mark in text for mark in "\"'“「"),
        "pasted text": PASTED in text,
        "ellipsis": "..." in text or "…" in text,
        "code": _CODE.search(seen) is not None,
        "operator": _OPERATOR.search(text) is not None,
        "word in capitals": _CAPITALS.search(seen) is not None,
        "exclamation mark": "!" in text,
    }


def _ending(text: str) -> str:
    last = text[-2]
    return {"?": "a question mark", "!": "an exclamation mark"}.get(
        last, "a full stop" if last in ".。" else "no mark"
    )
