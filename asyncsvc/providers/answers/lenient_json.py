"""Reading JSON that is nearly JSON, and characters whose halves come apart.

`documents` reads strictly first, and only where that fails reads what providers send beyond the
standard: NaN and Infinity (read as null), a byte order mark, raw control characters in strings,
several documents one after the other, halves of surrogate pairs. `Halves` joins such halves, also
over two frames of a stream. Promises that every string given out is valid Unicode.
"""

import codecs
import json
import math
import re
from typing import Any

import orjson

from asyncsvc.net import json_bounds

Path = tuple[str | int, ...]

LENIENT_BYTES = 1024 * 1024
"""The longest text that is read leniently: halves of characters take 0.17 s a megabyte."""
REPLACEMENT = "\ufffd"
_BETWEEN = re.compile(r"(?:[\s\ufeff]|data:)*")
"""What may stand between two documents; some proxies write `data:` twice."""
_HALF = re.compile("([\ud800-\udbff][\udc00-\udfff])|([\udc80-\udcff]+)|([\ud800-\udfff])")
"""A pair in two halves, bytes of a cut character as `surrogateescape` gives them, a lone half."""


class NotJson(ValueError):
    """Nothing of the text is JSON."""


class TooMuch(NotJson):
    """It may be JSON, but more than may be built from it."""


class NotUtf8(NotJson):
    """The text holds bytes that are no part of any character."""


def documents(data: bytes, halves: "Halves") -> tuple[list[Any], str]:
    """The documents in the text, and what follows the last of them. Raises NotJson."""
    try:
        json_bounds.check(data)
        value = orjson.loads(data)
    except json_bounds.BeyondBounds as error:
        raise TooMuch(str(error)) from None
    except orjson.JSONDecodeError:
        if len(data) > LENIENT_BYTES:
            raise NotJson("it is no JSON, and too long to be mended") from None
        return _tolerant(data, halves)
    return [halves.mend(value) if halves.held else value], ""


def _tolerant(data: bytes, halves: "Halves") -> tuple[list[Any], str]:
    text = data.decode("utf-8", "surrogateescape")
    found: list[Any] = []
    at = _after(text, 0)
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            if found:
                break
            if not is_text(data):
                raise NotUtf8("it holds bytes of no character") from None
            raise NotJson(_shown(error)) from None
        found.append(halves.mend(value))
        at = _after(text, end)
    if not found:
        raise NotJson("it is empty")
    return found, text[at:].encode("utf-8", "replace").decode()


def is_text(data: bytes) -> bool:
    """Whether it is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _after(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _finite(number: str) -> float | None:
    """The number; None for `NaN`, `Infinity` and what is too large for a float."""
    value = float(number)
    return value if math.isfinite(value) else None


def _shown(error: Exception) -> str:
    """The reason without the text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return type(error).__name__


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite, strict=False)


class Halves:
    """The halves of characters that one stream's frames have left open.

    A text is continued by the text in the same place of a later frame. `final`: no frame follows,
    so that a lone half is replaced at once.
    """

    def __init__(self, *, final: bool = False) -> None:
        self.held: dict[Path, str] = {}
        self._final = final

    def mend(self, value: Any) -> Any:
        """The value with all its strings valid. Raises NotUtf8."""
        try:
            return self._mend(value, ())
        except UnicodeDecodeError as error:
            raise NotUtf8(error.reason) from None
        except RecursionError:
            raise NotJson("it is nested too deeply") from None

    def rest(self) -> Any:
        """A frame with what is still open in a choice's delta; None where nothing is."""
        delta = {
            str(path[3]): REPLACEMENT
            for path in self.held
            if path[:3] == ("choices", 0, "delta") and len(path) == 4
        }
        self.held.clear()
        return {"choices": [{"index": 0, "delta": delta}]} if delta else None

    def _mend(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, list):
            return [self._mend(each, (*path, at)) for at, each in enumerate(value)]
        if isinstance(value, dict):
            return {
                _HALF.sub(REPLACEMENT, name): self._mend(each, (*path, name))
                for name, each in value.items()
            }
        return value

    def _text(self, text: str, path: Path) -> str:
        if held := self.held.pop(path, "") if text else "":
            text = held + text
        if _HALF.search(text) is None:
            return text
        end = len(text)

        def joined(found: re.Match[str]) -> str:
            pair, escaped, lone = found.groups()
            last = found.end() == end and not self._final
            if pair:
                return str(pair.encode("utf-16", "surrogatepass").decode("utf-16"))
            if escaped:
                return self._bytes(escaped, path, last)
            if last and lone < "\udc00":
                self.held[path] = lone
                return ""
            return REPLACEMENT

        return _HALF.sub(joined, text)

    def _bytes(self, escaped: str, path: Path, last: bool) -> str:
        data = escaped.encode("utf-8", "surrogateescape")
        if not last:
            return data.decode()
        decoder = codecs.getincrementaldecoder("utf-8")()
        text = decoder.decode(data)
        if cut := decoder.getstate()[0]:
            self.held[path] = cut.decode("utf-8", "surrogateescape")
        return text
