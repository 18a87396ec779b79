"""What a provider means by an error: from status and body to the class that knows what to do.

Owns one table for each error dialect. Promises a message in words with the provider's own text,
without keys and of bounded length, for any body: an object, a string, HTML, nothing. Never
raises, and never branches on a provider's name.

The order of judgement: the body's codes in the dialect's table, then in everybody's, words in
the text, the status. Why: docs/decisions/0009-error-tables.md.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson

from asyncsvc.errors import (
    ConcurrencyLimited,
    ContentFiltered,
    ContextTooLong,
    GatewayUnavailable,
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
from asyncsvc.providers.error_bodies import error_in

__all__ = ["error_in", "of_response", "of_stream"]

MESSAGE_CHARS = 500
LONGEST_RESET_S = 32 * 86_400.0
"""Quotas are renewed by the month at the latest; a time beyond that was misread."""

Kind = type[ProviderError]
Kinds = Mapping[str, Kind]


def _each(kind: Kind, codes: str) -> dict[str, Kind]:
    return dict.fromkeys(codes.split(), kind)


EVERYBODY: Kinds = {
    **_each(
        QuotaExhausted,
        "insufficient_quota billing_hard_limit_reached exceeded_current_quota_error",
    ),
    **_each(ContextTooLong, "context_length_exceeded exceed_context_size_error"),
    **_each(ContentFiltered, "content_filter content_policy_violation"),
    **_each(ModelGone, "model_not_found"),
    **_each(UpstreamAuth, "invalid_api_key authentication_error"),
    **_each(RateLimited, "rate_limit_exceeded rate_limit_error rate_limited"),
}
_NUMBERED: Mapping[str, Kinds] = {
    # docs.bigmodel.cn, "api-code"; the codes come as strings, many of them with status 429.
    "zhipu": {
        **_each(UpstreamAuth, "1000 1001 1002 1003 1004 1110 1111 1112 1121 1220"),
        **_each(QuotaExhausted, "1113 1304 1308 1309 1310"),
        **_each(UpstreamRejected, "1210 1213 1214 1215"),
        # 1311 is a plan without that model: another id may be in the plan.
        **_each(ModelGone, "1211 1221 1222 1311"),
        **_each(UpstreamOverloaded, "1230 1234 1305 1312"),
        **_each(ContextTooLong, "1261"),
        **_each(ContentFiltered, "1301"),
        **_each(ConcurrencyLimited, "1302"),
        **_each(RateLimited, "1303 1313"),
    },
    # The native SDK's names; what the compatible endpoint sends is not documented.
    "hunyuan": {
        **_each(ConcurrencyLimited, "FailedOperation.EngineServerLimitExceeded"),
        **_each(
            UpstreamOverloaded,
            "FailedOperation.EngineRequestTimeout FailedOperation.EngineServerError",
        ),
        **_each(RateLimited, "RequestLimitExceeded"),
        **_each(
            QuotaExhausted,
            "LimitExceeded FailedOperation.FreeResourcePackExhausted "
            "FailedOperation.ResourcePackExhausted FailedOperation.ServiceStopArrears",
        ),
        **_each(UpstreamAuth, "FailedOperation.ServiceNotActivated AuthFailure"),
    },
    # cloud.tencent.com/document/product/1823/131595
    "tokenhub": {
        **_each(UpstreamAuth, "401001 401002 401003"),
        **_each(QuotaExhausted, "401007 401008 403004 FREE_QUOTA_EXHAUSTED"),
        **_each(RateLimited, "429001 429002"),
        **_each(ContentFiltered, "451001"),
        **_each(UpstreamOverloaded, "502001 503001"),
    },
    # docs.siliconflow.cn, "error-code"; its rate limits have no code, only status and text.
    "siliconflow": {
        **_each(ModelGone, "20012"),
        **_each(UpstreamOverloaded, "50603 50508 50501 50505"),
        **_each(QuotaExhausted, "30001"),
    },
}
DIALECTS: Mapping[str, Kinds] = {
    "openai": {},
    "nvidia": {},
    "openrouter": {},
    **_NUMBERED,
    # Here insufficient_quota is said of tokens a minute, not of money [help.aliyun.com,
    # model-studio/error-code, token-limit].
    "dashscope": {
        **_each(
            RateLimited,
            "Throttling Throttling.RateQuota Throttling.AllocationQuota insufficient_quota "
            "limit_requests",
        ),
        **_each(QuotaExhausted, "Arrearage AllocationQuota.FreeTierOnly"),
        **_each(ContentFiltered, "DataInspectionFailed data_inspection_failed"),
        **_each(UpstreamAuth, "InvalidApiKey"),
    },
    "openclaw": {
        **_each(GatewayUnavailable, "gateway_unavailable service_unavailable"),
        **_each(UpstreamAuth, "unauthorized"),
        **_each(UpstreamOverloaded, "api_error server_error"),
    },
    # For a provider without a preset, which may be a proxy before any of these: their codes
    # do not overlap, and mean nothing else anywhere.
    "any": {code: kind for table in _NUMBERED.values() for code, kind in table.items()},
}
"""What a code means, by the table that a preset names."""

_WORDS: tuple[tuple[str, frozenset[int], Kind], ...] = (
    (r"concurren|并发", frozenset({429}), ConcurrencyLimited),
    (
        r"context (?:length|window|size)|maximum context|too many tokens|prompt is too long"
        r"|exceeded model token limit|上下文长度",
        frozenset({400, 413, 422}),
        ContextTooLong,
    ),
    (
        r"insufficient (?:quota|balance|credit)|exceeded your current quota|余额不足|欠费",
        frozenset({400, 402, 403, 429}),
        QuotaExhausted,
    ),
    (r"\bmoderation\b|\bflagged\b", frozenset({403}), ContentFiltered),
    (r"not found for account|end of life", frozenset({400, 404, 410}), ModelGone),
    (r"gateway is temporarily unavailable", frozenset({503}), GatewayUnavailable),
)
BY_TEXT = tuple((re.compile(words, re.IGNORECASE), at, kind) for words, at, kind in _WORDS)
"""(words, statuses, class): for providers that put the reason into the text only."""

BY_STATUS: dict[int, Kind] = {
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
BY_FINISH: Kinds = {
    "content_filter": ContentFiltered,
    "sensitive": ContentFiltered,
    "network_error": UpstreamDisconnected,
    "model_context_window_exceeded": ContextTooLong,
}
"""Reasons for which a stream ends without being an answer."""

_KEY_LIKE = re.compile(r"\b(?:sk|nvapi|tp|key)-[A-Za-z0-9_*-]{6,}|Bearer\s+[^\s\"']+")
_MOMENT = re.compile(
    r"(\d{4})[-/](\d\d?)[-/](\d\d?)[ T](\d\d?):(\d\d)(?::(\d\d))?(?:\.\d+)?(Z|[+-]00:?00)?", re.A
)
_BEIJING = timezone(timedelta(hours=8))


def of_response(
    status: int,
    body: bytes,
    secrets: Iterable[str],
    retry_after: float | None,
    dialect: str = "any",
    now_ms: int | None = None,
) -> ProviderError:
    """The error that an answer with that status stands for. `dialect` names the table; `now_ms`
    is for times that the text names."""
    codes, text = read(body)
    kind = _kind(status, codes, text, dialect)
    return _error(kind, f"answered {status}", text, secrets, retry_after, now_ms)


def of_stream(
    error: Any, secrets: Iterable[str], dialect: str = "any", now_ms: int | None = None
) -> ProviderError:
    """The error that an error object inside a stream of status 200 stands for."""
    codes, text = _of_object({"error": error})
    otherwise = 400 if "invalid_request_error" in codes else 500
    status = next((int(c) for c in codes if c.isdecimal() and len(c) == 3), otherwise)
    kind = _kind(status, codes, text, dialect)
    return _error(kind, "broke off", text, secrets, None, now_ms)


def _error(
    kind: Kind,
    what: str,
    text: str,
    secrets: Iterable[str],
    retry_after: float | None,
    now_ms: int | None,
) -> ProviderError:
    if issubclass(kind, QuotaExhausted) and retry_after is None and now_ms is not None:
        retry_after = reset_in(text, now_ms)
    said = clean(text, secrets) or "no explanation given"
    return kind(f"the provider {what}: {said}", retry_after=retry_after)


def _kind(status: int, codes: list[str], text: str, dialect: str) -> Kind:
    for table in (DIALECTS[dialect], EVERYBODY):
        for code in codes:
            if code in table:
                return _sharper(table[code], text)
    for words, statuses, kind in BY_TEXT:
        if status in statuses and words.search(text):
            return kind
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500:
        return UpstreamOverloaded
    return UpstreamRejected if status >= 400 else UpstreamInvalid


def _sharper(kind: Kind, text: str) -> Kind:
    """Providers that have one code for all limits say in the text which one it was."""
    return ConcurrencyLimited if kind is RateLimited and BY_TEXT[0][0].search(text) else kind


def reset_in(text: str, now_ms: int) -> float | None:
    """Seconds until the first time to come that a text names; without a zone it is Beijing's,
    for only Chinese providers say it in words."""
    for match in _MOMENT.finditer(text):
        *parts, zone = match.groups(default="0")
        try:
            year, month, day, hour, minute, second = map(int, parts)
            place = _BEIJING if zone == "0" else UTC
            when = datetime(year, month, day, hour, minute, second, tzinfo=place)
        except ValueError:
            continue
        left = when.timestamp() - now_ms / 1000
        if 0 < left <= LONGEST_RESET_S:
            return left
    return None


def read(body: bytes) -> tuple[list[str], str]:
    """(codes, text) of an error body in any of the shapes that providers use."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return [], body.decode(errors="replace")
    if isinstance(value, dict):
        return _of_object(value)
    return [], value if isinstance(value, str) else body.decode(errors="replace")


def _of_object(value: dict[str, Any]) -> tuple[list[str], str]:
    error = value.get("error") or value
    if not isinstance(error, dict):
        return _codes(value), _words(error)
    text = error.get("message") or error.get("detail") or error.get("title") or error
    return _codes(error), _words(text)


def _codes(error: dict[str, Any]) -> list[str]:
    """The more exact one first; a type stands in for a code that is missing or unknown."""
    found = (error.get("code"), error.get("type"))
    return [str(code) for code in found if isinstance(code, str | int)]


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
