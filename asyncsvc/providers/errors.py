"""What a provider means by an error: from status and body to the class that knows what to do.

Owns the finding of an error in what a provider sends (JSON of any shape, plain text, HTML), the
order of judgement and the wording of the message. Promises a message in words with the provider's
own text, without keys and of bounded length, for any body. Never raises, looks at a bounded number
of values, and never branches on a provider's name.

The order: a request that can never pass, the body's codes in the dialect's table, then in the
table of all, words in the text, the status. A page of HTML and the words of a provider behind the
provider never speak of the account. Why: docs/decisions/0009-error-tables.md and
docs/decisions/0033-one-answer-one-request.md.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from asyncsvc.errors import (
    ConcurrencyLimited,
    ContextTooLong,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Unexplained,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.limits import headers as limit_headers
from asyncsvc.limits.headers import DAY_S, HOUR_S, MINUTE_S, reset_in
from asyncsvc.providers.error_tables import (
    BY_STATUS,
    BY_TEXT,
    CONCURRENT,
    DIALECTS,
    EVERYBODY,
    LIMIT,
    NO_CHANNEL,
    REQUESTED,
    TOO_LARGE,
    TOO_LONG,
    UNEXPLAINED,
    UNKNOWN,
    Kind,
)
from asyncsvc.providers.keys import without_keys

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

    The result is what `of_stream` takes. `error: {}`, `""`, null and `{"code": 0}` are
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
    """The codes, words and times of an error body. `codes` has the most exact one first."""

    codes: list[str] = field(default_factory=list)
    text: str = ""
    page: bool = False
    """The body is HTML: a proxy or a firewall wrote it, not the provider's API."""
    relayed: bool = False
    """The words are those of a provider behind the provider, about a key of its own."""
    named: list[tuple[str, Any]] = field(default_factory=list)
    """All single values with their keys, for the times and limits among them."""


def report_of(value: Any) -> Report:
    """The codes, words and single values of an error."""
    report = Report()
    words = _words(value, report, DEEPEST)
    report.text = "; ".join(dict.fromkeys(words)) or _shown(value)
    _gather(value, report.named)
    return report


def report_of_body(body: bytes) -> Report:
    """The report of an answer's body."""
    return report_of(_parsed(body, body.decode(errors="replace")))


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
        return _words(_parsed(stripped), report, depth - 1) or [stripped]
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


def _parsed(text: str | bytes, otherwise: Any = None) -> Any:
    try:
        return orjson.loads(text)  # of ERROR_BYTES at most, or within what was checked
    except orjson.JSONDecodeError:
        return otherwise


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return str(value)
    except RecursionError:
        return "an explanation too deep to read"


MESSAGE_CHARS = 500
HEAD_CHARS, TAIL_CHARS = 3000, 1000
"""Of a long text, what is searched for words."""


def of_response(
    status: int,
    body: bytes,
    secrets: Iterable[str],
    dialect: str = "any",
    now_ms: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProviderError:
    """The error that an answer with that status stands for.

    `dialect` names the table of codes, `now_ms` is for moments that body and `headers` name.
    """
    report = report_of_body(body)
    times = limit_headers.in_headers(headers or {}, now_ms or 0)
    error = _judged(f"answered {status}", status, report, secrets, times, dialect, now_ms)
    error.status = status
    return error


def of_stream(
    error: Any, secrets: Iterable[str], dialect: str = "any", now_ms: int | None = None
) -> ProviderError:
    """The error that an error inside a stream of status 200 stands for: an object, a list, or
    plain words."""
    report = report_of(error)
    otherwise = 400 if "invalid_request_error" in report.codes else UNKNOWN
    numbers = (int(code) for code in report.codes if code.isdecimal() and code.isascii())
    status = next((number for number in numbers if 300 <= number <= 599), otherwise)
    return _judged("broke off", status, report, secrets, [], dialect, now_ms)


def _judged(
    what: str,
    status: int,
    report: Report,
    secrets: Iterable[str],
    header_times: list[float],
    dialect: str,
    now_ms: int | None,
) -> ProviderError:
    text = _searched(report.text)
    window_s = limit_headers.window_s(f"{text} {_limits(report)}")
    kind = _kind(status, report, text, dialect, window_s)
    times = limit_headers.in_sentence(text)
    if now_ms is not None:
        times += limit_headers.in_fields(report.named, now_ms)
    kind = _by_window(kind, window_s, times)
    if issubclass(kind, UpstreamOverloaded):
        times = [seconds for seconds in times if seconds <= MINUTE_S]  # advice for people
    if not times and now_ms is not None and issubclass(kind, QuotaExhausted):
        times = [] if (reset := reset_in(text, now_ms)) is None else [reset]
    if not (times or issubclass(kind, QuotaExhausted) or (window_s or 0.0) >= DAY_S):
        header_times = [min(seconds, HOUR_S) for seconds in header_times]
    asked = min([*times, *header_times], default=None)
    if asked is not None and window_s is not None and issubclass(kind, RateLimited):
        asked = min(asked, max(window_s, MINUTE_S))
    message = f"the provider {what}: {clean(report.text, secrets) or 'no explanation given'}"
    if issubclass(kind, Unexplained):
        return kind(message, retry_after=asked, status=status)
    return kind(message, retry_after=asked)


def _kind(status: int, report: Report, text: str, dialect: str, window_s: float | None) -> Kind:
    if _never_passes(status, text):
        return ContextTooLong
    if NO_CHANNEL.search(text):
        return UpstreamOverloaded
    kind = _by_code(report.codes, dialect) or _by_text(status, text, window_s)
    if kind is None:
        return _by_status(status, report.page)
    if kind is RateLimited and CONCURRENT.search(text):
        return ConcurrencyLimited  # some have one code for all limits
    # A proxy or a firewall writes pages; a relayed body is about a key of the relay's.
    return UNEXPLAINED.get(kind, kind) if report.page or report.relayed else kind


def _never_passes(status: int, text: str) -> bool:
    """Whether the request is larger than the whole limit: sent again, it is refused again."""
    if status not in (400, 413, 429, UNKNOWN):
        return False
    limit, requested = LIMIT.search(text), REQUESTED.search(text)
    if limit is not None and requested is not None:
        return int(requested[1].replace(",", "")) > int(limit[1].replace(",", ""))
    return TOO_LARGE.search(text) is not None


def _by_code(codes: list[str], dialect: str) -> Kind | None:
    table = DIALECTS[dialect]
    for code in codes:
        if code in table:
            return table[code]
    return next((EVERYBODY[c.lower()] for c in codes if c.lower() in EVERYBODY), None)


def _by_text(status: int, text: str, window_s: float | None) -> Kind | None:
    if status == 429 and CONCURRENT.search(text):
        return ConcurrencyLimited
    for rule in BY_TEXT:
        # So many tokens per minute are a rate, not a length.
        if rule is TOO_LONG and window_s is not None:
            continue
        if status in rule.statuses and rule.words.search(text):
            return rule.kind
    return None


def _by_status(status: int, page: bool) -> Kind:
    if (kind := BY_STATUS.get(status)) is not None:
        return UNEXPLAINED.get(kind, kind) if page else kind
    if status >= 500 or status == UNKNOWN:
        return UpstreamOverloaded
    return UpstreamRejected if status >= 400 else UpstreamInvalid


def _by_window(kind: Kind, window_s: float | None, times: list[float]) -> Kind:
    """The named window decides whether it is a rate or a quota, whatever the words are."""
    if kind is QuotaExhausted:
        short = window_s is not None and window_s < HOUR_S
        soon = min(times, default=HOUR_S) < HOUR_S
        return RateLimited if short or soon else kind
    if kind is RateLimited and window_s is not None and window_s >= DAY_S:
        return kind if min(times, default=DAY_S) < HOUR_S else QuotaExhausted
    return kind


def _limits(report: Report) -> str:
    """The values of an error's fields that name a limit, such as Gemini's `quotaId`."""
    found = [str(value) for name, value in report.named if "quota" in name or "limit" in name]
    return _searched(" ".join(found))


def _searched(text: str) -> str:
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        return text
    return f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"


def clean(text: str, secrets: Iterable[str]) -> str:
    """The provider's words, on one line, cut, without anything that looks like a key."""
    # Cut where nothing of it can be shown, so that a long text costs no more than a short one.
    text = " ".join(text[: 64 * MESSAGE_CHARS].split())[: 4 * MESSAGE_CHARS]
    text = without_keys(text, secrets)
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"
