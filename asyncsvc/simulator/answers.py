"""The words of a simulated answer.

Owns tokens, language and composition. Promises: the tokens joined are the text; an answer has
exactly the number of tokens that it was asked for, save that a translation has a line for each
line; it says that it is simulated and echoes the start of the question, in the language of the
question. Two answers differ unless they were made with the same ``label`` and random numbers.
It knows nothing of HTTP, time or models.
"""

import random
import re
from collections.abc import Iterable, Sequence

from asyncsvc.simulator import phrases

ECHO_CHARS = 24
ECHO_WORDS_CHARS = 60

_CJK = "\u3000-\u303f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff00-\uffef"
_TOKEN = re.compile(rf"[{_CJK}]{{1,2}}| ?[A-Za-z0-9_'#]+|\s+|.", re.DOTALL)
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
_SPACE = re.compile(r"\s+")
_TRANSLATE = re.compile(r"翻译|译成|译为|\btranslat", re.IGNORECASE)
_TO_ENGLISH = re.compile(r"(成|为|到)(英文|英语)|\b(in)?to english\b", re.IGNORECASE)
_TO_CHINESE = re.compile(r"(成|为|到)(中文|汉语)|\b(in)?to (chinese|mandarin)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\s*(\d{1,4}[.、)）:：])\s*(\S.*)")


def tokenize(text: str) -> list[str]:
    """Split a text as a provider streams it: one or two Chinese characters, or a word."""
    return _TOKEN.findall(text)


def is_chinese(text: str) -> bool:
    """Whether a text reads as Chinese: a Chinese character weighs as much as two letters."""
    start = text[:400]
    han = len(_HAN.findall(start))
    return han > 0 and han * 2 >= len(_LATIN.findall(start))


def estimate_tokens(text: str) -> int:
    """About what a tokenizer would count: 0.6 a Chinese character, a quarter for the rest."""
    extra_bytes = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    wide = min((extra_bytes - len(text)) // 2, len(text))
    return max(1, round(wide * 0.6 + (len(text) - wide) / 4))


class Prose:
    """Sentences of one language, so indexed that any number of tokens can be filled exactly."""

    def __init__(self, sentences: Iterable[str], *, spaced: bool) -> None:
        joined = (" " + sentence if spaced else sentence for sentence in sentences)
        self._sentences = [tuple(tokenize(sentence)) for sentence in joined]
        self._shortest = min(len(sentence) for sentence in self._sentences)
        longest = max(len(sentence) for sentence in self._sentences)
        # fits[left]: the sentences after which the rest can still be filled, or nothing is left.
        self._fits = [
            [s for s in self._sentences if len(s) == left or len(s) <= left - self._shortest]
            for left in range(longest + self._shortest + 1)
        ]

    def fill(self, count: int, chance: random.Random) -> list[str]:
        """Exactly ``count`` tokens; whole sentences wherever that is possible."""
        tokens: list[str] = []
        last: tuple[str, ...] = ()
        while (left := count - len(tokens)) > 0:
            fitting = self._fits[min(left, len(self._fits) - 1)] or self._sentences
            sentence = chance.choice(fitting)
            if sentence is last:
                sentence = chance.choice(fitting)
            tokens.extend(sentence[:left])
            last = sentence
        return tokens


_ZH = Prose(phrases.ZH_SENTENCES, spaced=False)
_EN = Prose(phrases.EN_SENTENCES, spaced=True)
_ZH_THOUGHTS = Prose(phrases.ZH_THOUGHTS, spaced=False)
_EN_THOUGHTS = Prose(phrases.EN_THOUGHTS, spaced=True)


def compose(prompt: str, count: int, label: str, chance: random.Random) -> list[str]:
    """The tokens of an answer to ``prompt``, ``count`` of them.

    ``label`` tells this answer from others (a call's number); it comes first, so that it is there
    even where the answer is too short for anything else.
    """
    lines = _lines_to_translate(prompt)
    if lines:
        return _translation(prompt, lines, count, label, chance)
    if is_chinese(prompt):
        head = f"#{label}【模拟器的回答】关于「{_echo(prompt)}」："
        tokens = tokenize(head)
        return (tokens + _ZH.fill(count - len(tokens), chance))[:count]
    tokens = tokenize(f'#{label} [simulated answer] On "{_echo(prompt)}":')
    return (tokens + _EN.fill(count - len(tokens), chance))[:count]


def compose_thoughts(prompt: str, count: int, chance: random.Random) -> list[str]:
    """The tokens of simulated reasoning."""
    return (_ZH_THOUGHTS if is_chinese(prompt) else _EN_THOUGHTS).fill(count, chance)


def _echo(prompt: str) -> str:
    most = ECHO_CHARS if is_chinese(prompt) else ECHO_WORDS_CHARS
    start = _SPACE.sub(" ", prompt[: most * 4]).strip()
    return start if len(start) <= most else start[:most] + "…"


def _lines_to_translate(prompt: str) -> list[tuple[str, str]]:
    """(number or "", text) per line where the message asks for a translation of several lines."""
    if not _TRANSLATE.search(prompt[:2000]) or "\n" not in prompt:
        return []
    lines = [line for line in prompt.splitlines() if line.strip()]
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    if numbered:
        return [(match[1] + " ", match[2]) for match in numbered]
    return [("", line.strip()) for line in lines if not _TRANSLATE.search(line)]


def _translation(
    prompt: str,
    lines: Sequence[tuple[str, str]],
    count: int,
    label: str,
    chance: random.Random,
) -> list[str]:
    if _TO_ENGLISH.search(prompt):
        chinese = False
    else:
        chinese = bool(_TO_CHINESE.search(prompt)) or not is_chinese(lines[0][1])
    share = max(count // len(lines), 8)
    tokens: list[str] = []
    for index, (number, text) in enumerate(lines):
        mark = f"#{label} " if index == 0 else ""
        if chinese:
            head = tokenize(f"{number}{mark}（模拟译文：{text[:12]}）")
            line = head + _ZH.fill(max(share - len(head), 4), chance)
        else:
            head = tokenize(f"{number}{mark}(simulated translation: {text[:12]})")
            line = head + _EN.fill(max(share - len(head), 4), chance)
        tokens.extend(line)
        if index < len(lines) - 1:
            tokens.append("\n")
    return tokens
