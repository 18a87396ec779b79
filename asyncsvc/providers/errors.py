"""What a provider means by an error: from status and body to the class that knows what to do.

Owns the order of judgement and the wording of the message. Promises a message in words with the
provider's own text, without keys and of bounded length, for any body: an object, a list, a
string, HTML, nothing. Never raises, and never branches on a provider's name.

The order: a request that can never pass, the body's codes in the dialect's table, then in the
table of all, words in the text, the status. A page of HTML and the words of a provider behind the
provider never speak of the account. Why: docs/decisions/0009-error-tables.md and
docs/decisions/0033-one-answer-one-request.md.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

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
from asyncsvc.limits import headers as named_times
from asyncsvc.limits.headers import DAY_S, HOUR_S, MINUTE_S, reset_in
from asyncsvc.providers import error_bodies
from asyncsvc.providers.error_bodies import Report, error_in
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

__all__ = [
    "DIALECTS",
    "EVERYBODY",
    "MESSAGE_CHARS",
    "clean",
    "error_in",
    "of_response",
    "of_stream",
]

MESSAGE_CHARS = 500
HEAD_CHARS, TAIL_CHARS = 3000, 1000
"""Of a long text, what is searched for words."""
SHORTEST_KEY = 8
"""A shorter secret is a placeholder such as `any`, and part of common words."""
LONG_KEY = 16
"""A secret from this length on is no word of a language: it goes wherever it stands."""

_KEY_LIKE = re.compile(r"\b(?:sk|nvapi|tp|key)-[A-Za-z0-9_*-]{6,}|Bearer\s+[^\s\"']+")


def of_response(
    status: int,
    body: bytes,
    secrets: Iterable[str],
    retry_after: float | None = None,
    dialect: str = "any",
    now_ms: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> ProviderError:
    """The error that an answer with that status stands for.

    `dialect` names the table of codes, `now_ms` is for moments that the answer names. Times are
    read from `headers`, or given as `retry_after`.
    """
    report = error_bodies.read_body(body)
    times = named_times.in_headers(headers, now_ms or 0) if headers is not None else []
    if retry_after is not None:
        times.append(retry_after)
    return _judged(f"answered {status}", status, report, secrets, times, dialect, now_ms)


def of_stream(
    error: Any, secrets: Iterable[str], dialect: str = "any", now_ms: int | None = None
) -> ProviderError:
    """The error that an error inside a stream of status 200 stands for: an object, a list, or
    plain words."""
    report = error_bodies.read(error)
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
    window_s = named_times.window_s(f"{text} {_limits(report)}")
    kind = _kind(status, report, text, dialect, window_s)
    times = named_times.in_sentence(text)
    if now_ms is not None:
        times += named_times.in_fields(report.named, now_ms)
    kind = _by_window(kind, window_s, times)
    if issubclass(kind, UpstreamOverloaded):
        times = [seconds for seconds in times if seconds <= MINUTE_S]  # advice for people
    if not times and now_ms is not None and issubclass(kind, QuotaExhausted):
        times += [] if (reset := reset_in(text, now_ms)) is None else [reset]
    if not (times or issubclass(kind, QuotaExhausted) or (window_s or 0.0) >= DAY_S):
        header_times = [min(seconds, HOUR_S) for seconds in header_times]
    asked = named_times.shortest(times, header_times)
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
    kind = BY_STATUS.get(status)
    if kind is not None:
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
    for secret in secrets:
        if len(secret) >= LONG_KEY:
            text = text.replace(secret, "[key]")
        elif len(secret) >= SHORTEST_KEY:
            # As a whole word, perhaps repeated: such a key may be part of other words.
            whole = rf"(?<![A-Za-z0-9])(?:{re.escape(secret)})+(?![A-Za-z0-9])"
            text = re.sub(whole, "[key]", text)
    text = " ".join(_KEY_LIKE.sub("[key]", text).split())
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"
