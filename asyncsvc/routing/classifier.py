"""The classifier of prompts: a linear model over pieces of text, and why it decides as it does.

Owns the features of a prompt (short pieces of its text, and its shape), the weights and the reading
of their file (`classifier.bin`, made by `python -m tests.benchmarks.routing train`). Promises the
same answer for the same text in linear time, as no more than `HEAD` + `TAIL` characters are looked
at. Never calls a model and knows nothing of models and settings.
"""

import json
import math
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from typing import NamedTuple, Self

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


FILE = "classifier.bin"
SHOWN_FOR, SHOWN_AGAINST = 5, 3
CANDIDATES = 40
"""Passages that are looked at to find those to show."""
AMBIGUOUS = 0.5
"""A class that leads the second one by less than this is close to the border."""
_LANE = 24
_MASK = (1 << _LANE) - 1
_ZERO = 128
"""A weight is kept with this added, so that lanes do not borrow from each other."""
_LETTERS = re.compile(r"[a-z0-9']+")


class Hit(NamedTuple):
    """A feature of a text that speaks for `cls`, and how much (in log-odds, signed)."""

    name: str
    weight: float
    cls: str
    matched: str
    """The passage of the text; empty for a feature of its shape."""


Place = tuple[int, tuple[int, int]]
"""The packed weights of a piece, and where it begins and ends."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The class of a text. `scores` are log-odds up to a constant, one a class."""

    name: str
    scores: Mapping[str, float]
    hits: tuple[Hit, ...]

    @property
    def ambiguous(self) -> bool:
        first, second = sorted(self.scores.values(), reverse=True)[:2]
        return first - second < AMBIGUOUS

    def lead(self, name: str) -> float:
        """The lead of a class over the best of the others; below 0: another class leads."""
        return self.scores[name] - max(v for n, v in self.scores.items() if n != name)


@dataclass(frozen=True, slots=True)
class Classifier:
    """A weight of each piece for each class; `classify` a text with them.

    A text's pieces are weighed by how rare they are and divided by the length of that vector,
    so that a long text does not count for more than a short one. The weights of a piece are
    lanes of one integer, so that one sum adds them for all classes.
    """

    classes: tuple[str, ...]
    bias: tuple[float, ...]
    scales: tuple[float, ...]
    rarity_scale: float
    pieces: Mapping[str, int]

    @classmethod
    @cache
    def builtin(cls) -> Self:
        """The one that comes with the package, read once by each process."""
        return cls.of((resources.files("asyncsvc.routing") / FILE).read_bytes())

    @classmethod
    def of(cls, data: bytes) -> Self:
        """A classifier from bytes: a line of JSON, pieces one a line, a row of weights each."""
        end = data.index(b"\n")
        head = json.loads(data[:end])
        middle = end + 1 + head["bytes"]
        pieces = data[end + 1 : middle].decode("utf-8").split("\n")
        rows = struct.iter_unpack(f"{_row(head['classes'])}s", data[middle:])
        numbers = (int.from_bytes(row, "little") for (row,) in rows)
        packed = dict(zip(pieces, numbers, strict=True))
        bias, scales = tuple(head["bias"]), tuple(head["scales"])
        return cls(tuple(head["classes"]), bias, scales, head["rarity"], packed)

    def write(self) -> bytes:
        """The bytes that `of` reads."""
        pieces = "\n".join(self.pieces).encode("utf-8")
        head = {
            "classes": self.classes,
            "bias": self.bias,
            "scales": self.scales,
            "rarity": self.rarity_scale,
            "bytes": len(pieces),
        }
        size = _row(self.classes)
        rows = (number.to_bytes(size, "little") for number in self.pieces.values())
        return b"".join([json.dumps(head).encode(), b"\n", pieces, *rows])

    def classify(self, text: str) -> Verdict:
        """The class with the highest score, and the pieces that decided."""
        found = extract(text)
        known = self.pieces.get
        spans = [(n, span) for piece, span in found.spans.items() if (n := known(piece))]
        shape = [(n, name) for name in found.shape if (n := known(name))]
        numbers = [n for n, _ in spans] + [n for n, _ in shape]
        total, zero = sum(numbers), len(numbers) * _ZERO
        norm = math.sqrt(total >> len(self.classes) * _LANE) * self.rarity_scale
        factors = [scale / norm if norm else 0.0 for scale in self.scales]
        scores = {
            name: self.bias[lane] + factors[lane] * (_lane(total, lane) - zero)
            for lane, name in enumerate(self.classes)
        }
        first, second = sorted(scores, key=scores.__getitem__, reverse=True)[:2]
        contrast = _Contrast(self.classes, factors, first, second)
        return Verdict(first, scores, tuple(contrast.hits(found, spans, shape)))


def pack(weights: Sequence[int], rarity: int) -> int:
    """The weights (-127 to 127) of a piece and its rarity (1 to 255) as one integer.

    One lane a class, and above them the square of the rarity, which has no upper end.
    """
    number = rarity * rarity
    for weight in reversed(weights):
        number = number << _LANE | weight + _ZERO
    return number


def _row(classes: Sequence[str]) -> int:
    """Bytes of a packed integer in the file."""
    return len(classes) * _LANE // 8 + 2


def _lane(number: int, lane: int) -> int:
    """The sum of a class's weights in a packed integer."""
    return number >> lane * _LANE & _MASK


class _Contrast:
    """Which features of a text speak for the first class and which for the second."""

    def __init__(
        self, classes: Sequence[str], factors: Sequence[float], first: str, second: str
    ) -> None:
        self._first, self._second = first, second
        self._lanes = classes.index(first), classes.index(second)
        self._factors = tuple(factors[lane] for lane in self._lanes)

    def hits(
        self, found: Pieces, spans: Sequence[Place], shape: Sequence[tuple[int, str]]
    ) -> list[Hit]:
        """The strongest in both directions, the strongest first."""
        weights = self._weights([number for number, _ in shape])
        weighed = [
            (weight, name.removeprefix(SHAPE), "")
            for weight, (_, name) in zip(weights, shape, strict=True)
        ]
        for weight, begin, end in self._passages(found.text, spans):
            if matched := found.shown[begin:end].strip(START + END + PASTED + " "):
                weighed.append((weight, "text", matched))
        weighed.sort(key=lambda one: (-abs(one[0]), one[1:]))
        chosen = [one for one in weighed if one[0] > 0][:SHOWN_FOR]
        chosen += [one for one in weighed if one[0] < 0][:SHOWN_AGAINST]
        return [
            Hit(name, round(weight, 3), self._first if weight > 0 else self._second, matched)
            for weight, name, matched in chosen
        ]

    def _weights(self, numbers: Iterable[int]) -> list[float]:
        (one, other), (mine, theirs) = self._factors, (lane * _LANE for lane in self._lanes)
        zero = _ZERO * (one - other)
        return [
            one * (number >> mine & _MASK) - other * (number >> theirs & _MASK) - zero
            for number in numbers
        ]

    def _passages(self, text: str, spans: Sequence[Place]) -> Iterator[tuple[float, int, int]]:
        """Passages of the text that do not overlap: weight, begin and end, the strongest first.

        The weight of a piece is shared by its characters; a passage weighs what its characters do.
        """
        steps = [0.0] * (len(text) + 1)
        weights = self._weights([number for number, _ in spans])
        for (_, (begin, end)), weight in zip(spans, weights, strict=True):
            share = weight / (end - begin)
            steps[begin] += share
            steps[end] -= share
        sums = [0.0, *accumulate(accumulate(steps))]
        left, right = _word_borders(text)
        places = {(left[begin], right[end]) for begin, end in {span for _, span in spans}}
        ranked = sorted([(-abs(sums[end] - sums[begin]), begin, end) for begin, end in places])
        taken = bytearray(len(text))
        for _, begin, end in ranked[:CANDIDATES]:
            if not any(taken[begin:end]) and _readable(text[begin:end]):
                taken[begin:end] = b"\1" * (end - begin)
                yield sums[end] - sums[begin], begin, end


def _readable(passage: str) -> bool:
    """Words far apart in Chinese text are one piece, but no passage to show."""
    return len(passage) <= LONGEST or passage.isascii()


def _word_borders(text: str) -> tuple[list[int], list[int]]:
    """For each place in the text: where a word that it cuts begins, and where it ends."""
    left, right = list(range(len(text) + 1)), list(range(len(text) + 1))
    for word in _LETTERS.finditer(text):
        begin, end = word.span()
        left[begin + 1 : end] = [begin] * (end - begin - 1)
        right[begin + 1 : end] = [end] * (end - begin - 1)
    return left, right
