"""What a provider means by an error: from status and body to the class that knows what to do.

Owns the tables. Promises a message in words with the provider's own text, without keys and
of bounded length, for any body: an object, a string, HTML, nothing. Never raises.
"""

import re
from collections.abc import Iterable
from typing import Any

import orjson

from asyncsvc.errors import (
    ConcurrencyLimited,
    ContentFiltered,
    ContextTooLong,
    ModelGone,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
)

MESSAGE_CHARS = 500

BY_STATUS: dict[int, type[ProviderError]] = {
    401: UpstreamAuth,
    402: QuotaExhausted,
    403: UpstreamAuth,
    404: ModelGone,
    408: UpstreamOverloaded,
    410: ModelGone,
    413: ContextTooLong,
    425: UpstreamOverloaded,
    429: RateLimited,
    451: ContentFiltered,
}
BY_CODE: dict[str, type[ProviderError]] = {
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "context_length_exceeded": ContextTooLong,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "model_not_found": ModelGone,
    "invalid_api_key": UpstreamAuth,
    "authentication_error": UpstreamAuth,
    "rate_limit_exceeded": RateLimited,
    "rate_limit_error": RateLimited,
    "rate_limited": RateLimited,
    "invalid_request_error": UpstreamRejected,
    # Zhipu's numbers, all sent with status 429 or 400 [docs.bigmodel.cn, api-code].
    "1113": QuotaExhausted,
    "1261": ContextTooLong,
    "1301": ContentFiltered,
    "1302": RateLimited,
    "1303": RateLimited,
    "1305": UpstreamOverloaded,
}
BY_FINISH: dict[str, type[ProviderError]] = {
    "content_filter": ContentFiltered,
    "sensitive": ContentFiltered,
    "network_error": UpstreamDisconnected,
}
"""Reasons for which a stream ends without being an answer."""

_KEY_LIKE = re.compile(r"\b(?:sk|nvapi|tp|key)-[A-Za-z0-9_*-]{6,}|Bearer\s+[^\s\"']+")

_AT_ONCE = re.compile("concurren|并发", re.IGNORECASE)
"""Providers that say in words only that it was too many calls at once."""


def of_response(
    status: int, body: bytes, secrets: Iterable[str], retry_after: float | None
) -> ProviderError:
    """The error that an answer with that status stands for."""
    code, text = read(body)
    kind = _kind(status, code)
    if status == 429 and kind is RateLimited and _AT_ONCE.search(text):
        kind = ConcurrencyLimited
    said = clean(text, secrets) or "no explanation given"
    return kind(f"the provider answered {status}: {said}", retry_after=retry_after)


def of_stream(error: Any, secrets: Iterable[str]) -> ProviderError:
    """The error that an error object inside a stream of status 200 stands for."""
    code, text = _of_object({"error": error})
    status = int(code) if code and code.isdecimal() and len(code) == 3 else 500
    kind = _kind(status, code)
    return kind(f"the provider broke off: {clean(text, secrets) or 'no explanation given'}")


def _kind(status: int, code: str | None) -> type[ProviderError]:
    if code in BY_CODE:
        return BY_CODE[code]
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500:
        return UpstreamOverloaded
    return UpstreamRejected if status >= 400 else UpstreamInvalid


def read(body: bytes) -> tuple[str | None, str]:
    """(code, text) of an error body in any of the shapes that providers use."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, body.decode(errors="replace")
    if isinstance(value, dict):
        return _of_object(value)
    return None, value if isinstance(value, str) else body.decode(errors="replace")


def _of_object(value: dict[str, Any]) -> tuple[str | None, str]:
    error = value.get("error") or value
    if not isinstance(error, dict):
        return None, _words(error)
    code, kind = error.get("code"), error.get("type")
    known = isinstance(kind, str) and kind in BY_CODE
    if known and (code is None or (isinstance(code, str) and code not in BY_CODE)):
        code = kind
    text = error.get("message") or error.get("detail") or error.get("title") or error
    return None if code is None else _words(code), _words(text)


def _words(value: Any) -> str:
    try:
        return str(value)
    except RecursionError:
        return "an explanation too deep to read"


def clean(text: str, secrets: Iterable[str]) -> str:
    """The provider's words, on one line, cut, without anything that looks like a key."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[key]")
    text = " ".join(_KEY_LIKE.sub("[key]", text).split())
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 1] + "…"
