"""Finding the error in what a provider sends: JSON of any shape, plain text, HTML.

Owns the shapes of error bodies. `error_in` tells an error inside an answer of status 200,
`read` gathers codes, words and named times of an error. Promises never to raise and to look at a
bounded number of values. Never decides what an error means.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

DEEPEST = 6
MOST_VALUES = 600
ERROR_KEYS = ("error", "errors", "base_resp", "err")
WORD_KEYS = (
    *("message", "msg", "error_msg", "error_message", "errormessage", "errmsg", "err_msg"),
    *("status_msg", "error_description", "detail", "title", "description", "reason"),
)
"""The keys that hold the words, the more exact one first."""
CODE_KEYS = (
    *("code", "type", "error_code", "errorcode", "errcode", "err_code", "status_code", "status"),
)
NUMBERED = {"status_code": "base_resp", "error_code": "error_code"}
"""Codes that are plain numbers get the name of their key: other vendors use the same numbers."""
FINE = frozenset({"", "0", "200", "ok", "success", "succeeded", "null", "none", "false"})
"""Codes and words that stand for success or for nothing."""
_ANSWERS = ("choices", "data", "output", "usage", "embeddings", "candidates", "result")
_HTML = re.compile(r"\s*<(?:!doctype|html|head|body|title|\?xml|center|h1)\b", re.IGNORECASE)
_TITLE = re.compile(r"<(title|h1)[^<>]*>([^<]{1,400})", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def error_in(value: Any) -> Any | None:
    """The part of an answer with status 200 that says it is an error, None where nothing does.

    The result is what `faults.of_stream` takes. `error: {}`, `""`, null and `{"code": 0}` are
    no errors.
    """
    if isinstance(value, dict):
        # Nearly every chunk of a stream ends here.
        plain = "error" not in value and "base_resp" not in value and value.get("choices")
        return None if plain else _in_object(value)
    if isinstance(value, str):
        return value if _says(value) else None
    if isinstance(value, list):
        found = (error_in(each) for each in value[:16] if isinstance(each, dict))
        return next((error for error in found if error is not None), None)
    return None


def _in_object(value: dict[str, Any]) -> Any | None:
    error = value.get("error")
    if error is not None and _says(error):
        return error if isinstance(error, dict | list) else value
    if isinstance(base := value.get("base_resp"), dict) and _code(base.get("status_code")):
        return {"base_resp": base}
    if value.get("choices"):
        return None
    if isinstance(header := value.get("header"), dict) and _code(header.get("code")):
        return header  # iFlytek has code and message in a header beside the payload
    return value if _announced(value) or _bare(value) else None


def _announced(value: dict[str, Any]) -> bool:
    """Whether a key other than `error` says that this is an error."""
    if value.get("success") is False or value.get("ok") is False:
        return True
    if "error" in (value.get("type"), value.get("object"), value.get("event")):
        return True
    if _says(value.get("errors")) or _code(value.get("error_code")):
        return True
    inner = value.get("Response")
    return isinstance(inner, dict) and _says(inner.get("Error"))


def _bare(value: dict[str, Any]) -> bool:
    """Whether the value is an error with nothing around it: a code, or only words."""
    if any(value.get(name) for name in _ANSWERS):
        return False
    words = any(isinstance(value.get(n), str) and value[n] for n in WORD_KEYS)
    if any(_code(value.get(name)) for name in ("code", "status_code", "errcode")):
        return words or "choices" not in value
    if "code" in value and isinstance(value["code"], int | str):
        return False  # a code that stands for success
    return words and "choices" not in value


def _code(value: Any) -> bool:
    """Whether a code says that something went wrong."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return str(value).strip().lower() not in FINE


def _says(error: Any) -> bool:
    """Whether the value of an error's key says anything."""
    if isinstance(error, str):
        return error.strip().lower() not in FINE
    if isinstance(error, list):
        return any(_says(each) for each in error[:16])
    if isinstance(error, dict):
        words = [error[name] for name in error if str(name).lower() in WORD_KEYS]
        if any(_says(word) for word in words):
            return True
        return any(_says(value) for name, value in error.items() if str(name) not in WORD_KEYS)
    return bool(error)


@dataclass(slots=True)
class Report:
    """What an error body holds. `codes` has the most exact one first."""

    codes: list[str] = field(default_factory=list)
    text: str = ""
    page: bool = False
    """The body is HTML: a proxy or a firewall wrote it, not the provider's API."""
    relayed: bool = False
    """The words are those of a provider behind the provider, about a key of its own."""
    named: list[tuple[str, Any]] = field(default_factory=list)
    """All single values with their keys, for the times and limits among them."""


def read(value: Any) -> Report:
    """The codes, words and single values of an error."""
    report = Report()
    words = _words(value, report, DEEPEST)
    report.text = "; ".join(dict.fromkeys(words)) or _shown(value)
    _gather(value, report.named)
    return report


def read_body(body: bytes) -> Report:
    """The same of the body of an answer."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = body.decode(errors="replace")
    return read(value)


def _words(value: Any, report: Report, depth: int) -> list[str]:
    if depth <= 0:
        return []
    if isinstance(value, str):
        return _of_text(value, report, depth)
    if isinstance(value, list):
        if not any(isinstance(each, dict) for each in value[:16]):
            return [_shown(value)] if value else []
        return [word for each in value[:16] for word in _words(each, report, depth - 1)]
    return _of_object(value, report, depth) if isinstance(value, dict) else []


def _of_text(text: str, report: Report, depth: int) -> list[str]:
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            value = orjson.loads(stripped)
        except orjson.JSONDecodeError:
            return [stripped]
        return _words(value, report, depth - 1) or [stripped]
    if _HTML.match(text):
        report.page = True
        found = _TITLE.search(text)
        shown = found[2] if found else _TAG.sub(" ", text)
        return ["an HTML page: " + " ".join(shown.split()[:60])]
    return [stripped] if stripped else []


def _of_object(given: dict[Any, Any], report: Report, depth: int) -> list[str]:
    value = {str(name).lower(): held for name, held in given.items()}
    if isinstance(inner := value.get("response"), dict) and "Error" in inner:
        value |= {"error": inner["Error"]}
    words: list[str] = []
    for name in ERROR_KEYS:
        if (error := value.get(name)) is not None and not words and not isinstance(error, bool):
            words = _words(error, report, depth - 1)
    for name in CODE_KEYS:
        if isinstance(code := value.get(name), str | int) and not isinstance(code, bool):
            report.codes.append(f"{NUMBERED[name]} {code}" if name in NUMBERED else str(code))
    if not words:
        words = next((w for n in WORD_KEYS if (w := _own(value.get(n), report, depth))), [])
    return words + _relayed(value, report, depth)


def _own(value: Any, report: Report, depth: int) -> list[str]:
    """The words under one key; a list of faults of a request's fields has a place for each."""
    if not isinstance(value, list):
        return _words(value, report, depth - 1)
    words = []
    for each in value[:16]:
        place = each.get("loc") if isinstance(each, dict) else None
        at = ".".join(map(str, place[:8])) + ": " if isinstance(place, list) else ""
        words += [at + word for word in _words(each, report, depth - 1)]
    return words


def _relayed(value: dict[str, Any], report: Report, depth: int) -> list[str]:
    """OpenRouter's `metadata.raw`: what the provider behind it has answered."""
    metadata = value.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not raw:
        return []
    report.relayed = True
    inner = Report()
    words = _words(raw, inner, depth - 1)
    report.codes += inner.codes
    return words


def _gather(value: Any, found: list[tuple[str, Any]]) -> None:
    """All single values below, breadth first, as many as are looked at."""
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(DEEPEST + 2):
        below: list[tuple[str, Any]] = []
        for name, each in level[:MOST_VALUES]:
            if isinstance(each, dict):
                below += [(str(key).lower(), held) for key, held in each.items()]
            elif isinstance(each, list):
                below += [(name, held) for held in each]
            elif isinstance(each, str) and each.lstrip()[:1] == "{" and name == "raw":
                below += [(name, _parsed(each))]
            elif name:
                found.append((name, each))
        level = below


def _parsed(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return str(value)
    except RecursionError:
        return "an explanation too deep to read"
