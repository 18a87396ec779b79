"""Contents of simulated answers: texts, tool calls, values of a JSON Schema, vectors.

The tokens of a text joined are the text. An answer says that it is simulated and repeats the start
of the question, in the question's language. Two answers differ unless they were made with the
same ``label`` and random numbers; values and vectors depend on schema and text alone.
"""

import math
import random
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

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


ZH_SENTENCES = (
    "先说结论。",
    "这很重要。",
    "原因有三个。",
    "我们一步步来。",
    "先看最简单的情形。",
    "这里有一个常见的误区。",
    "把大问题拆成小问题会更容易。",
    "换个角度看，答案就清楚了。",
    "实际使用时还要留意边界条件。",
    "如果条件改变，结论也会随之改变。",
    "第一步是弄清楚目标，第二步才是动手。",
    "经验表明，简单的做法往往走得最远。",
    "可以先做一个小实验，再决定要不要继续。",
    "数据够多的时候，趋势会自己显现出来。",
    "值得一提的是，细节常常决定最后的成败。",
    "打个比方，这就像在河里逆水行舟，不进则退。",
    "综合来看，稳妥的方案是先求正确，再求更快。",
    "最后，不要忘记检查一遍结果是否符合预期。",
)

EN_SENTENCES = (
    "It depends.",
    "Start small.",
    "Details matter here.",
    "There are three reasons.",
    "Consider the simple case first.",
    "A common mistake hides in this step.",
    "In practice the edges need some care.",
    "Splitting the problem makes each part easier.",
    "If the conditions change, the conclusion changes too.",
    "A short experiment often settles what arguments cannot.",
    "The first step is to state the goal plainly.",
    "Seen from the other side, the answer becomes clear.",
    "With enough data the trend shows up by itself.",
    "Experience says that plain solutions tend to last the longest.",
    "It helps to write down what would prove us wrong.",
    "On balance, get it right first and make it fast afterwards.",
    "Finally, check once more that the result is what you expected.",
)

ZH_THOUGHTS = (
    "让我想想。",
    "用户想要什么？",
    "先回忆相关的知识。",
    "这个思路似乎可行。",
    "再核对一遍，没有问题。",
    "也许还有更简单的办法，比较一下。",
    "列出几个要点，然后组织成一段回答。",
)

EN_THOUGHTS = (
    "Let me think.",
    "What is being asked?",
    "Recall the relevant facts first.",
    "This line of thought seems to work.",
    "Check again: no contradiction so far.",
    "There may be a simpler way, so compare both.",
    "List the main points, then turn them into an answer.",
)

_ZH = Prose(ZH_SENTENCES, spaced=False)
_EN = Prose(EN_SENTENCES, spaced=True)
_ZH_THOUGHTS = Prose(ZH_THOUGHTS, spaced=False)
_EN_THOUGHTS = Prose(EN_THOUGHTS, spaced=True)


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


MOST_LEVELS = 8
PIECE_CHARS = 8
MOST_DIMENSIONS = 65536
_PLAIN: dict[str, Any] = {
    "string": "simulated",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
}


def sample(schema: object, level: int = 0) -> Any:
    """Return a value for a schema, by its types, enums, defaults and properties."""
    if not isinstance(schema, dict) or level > MOST_LEVELS:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list) and schema[name]:
            return sample(schema[name][0], level + 1)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "array":
        return [sample(schema.get("items"), level + 1)]
    if kind == "object":
        properties = schema.get("properties")
        named = properties if isinstance(properties, dict) else {}
        return {name: sample(each, level + 1) for name, each in named.items()}
    return _PLAIN.get(str(kind))


def tool_calls(tools: list[tuple[str, Any]], count: int, label: str) -> list[dict[str, Any]]:
    """Return `count` calls, of each tool in turn; `tools` are (name, schema) pairs."""
    return [
        {
            "id": f"call_sim_{label}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": orjson.dumps(sample(schema)).decode()},
        }
        for index in range(count)
        for name, schema in [tools[index % len(tools)]]
    ]


def call_pieces(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls as a provider streams them: id and name first, then the arguments bit by bit."""
    found = []
    for index, call in enumerate(calls):
        function = call["function"]
        opening = {"name": function["name"], "arguments": ""}
        found.append({"index": index, "id": call["id"], "type": "function", "function": opening})
        text = function["arguments"]
        for start in range(0, len(text), PIECE_CHARS):
            piece = {"arguments": text[start : start + PIECE_CHARS]}
            found.append({"index": index, "function": piece})
    return found


@lru_cache(maxsize=4096)
def embed(text: str, dimensions: int) -> tuple[float, ...]:
    """The vector of a text: of length 1, ``dimensions`` numbers."""
    seed = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    chance = random.Random(seed)
    vector = [chance.uniform(-1.0, 1.0) for _ in range(dimensions)]
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return tuple(value / length for value in vector)
