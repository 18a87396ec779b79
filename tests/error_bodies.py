"""Error bodies as providers' documentation and public issues show them, and what each means.

One row a body: preset, status, body, the error that it stands for, words that it must keep.
"""

from typing import Any

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
    UpstreamOverloaded,
    UpstreamRejected,
)

Row = tuple[str, int, Any, type[ProviderError], str]


def openai(code: Any, message: str = "no", kind: str = "x") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def zhipu(code: str, message: str = "您的账户已达到速率限制，请您控制请求频率") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def silicon(code: int | None, message: str) -> dict[str, Any]:
    return ({} if code is None else {"code": code}) | {"message": message, "data": None}


def tokenhub(code: str, message: str, **more: str) -> dict[str, Any]:
    return {"error": {"type": "t", "code": code, "message": message, "source": "gateway", **more}}


def problem(status: int, title: str, **more: str) -> dict[str, Any]:
    """RFC 9457."""
    return {"type": "about:blank", "title": title, "status": status, **more}


def _codes(preset: str, status: int, kind: type[ProviderError], codes: str) -> list[Row]:
    """Rows that differ in their code only."""
    return [(preset, status, openai(code, f"code {code}"), kind, code) for code in codes.split()]


ROWS: list[Row] = [
    # OpenAI
    *_codes("openai", 429, QuotaExhausted, "insufficient_quota billing_hard_limit_reached"),
    ("openai", 429, openai("rate_limit_exceeded", kind="requests"), RateLimited, "no"),
    ("openai", 401, openai("invalid_api_key"), UpstreamAuth, "no"),
    ("openai", 400, openai("context_length_exceeded"), ContextTooLong, "no"),
    ("openai", 400, openai(None, "maximum context length is 8192"), ContextTooLong, "8192"),
    ("openai", 400, openai("content_policy_violation"), ContentFiltered, "no"),
    ("openai", 404, openai("model_not_found"), ModelGone, "no"),
    ("openai", 400, openai(None, "bad", "invalid_request_error"), UpstreamRejected, "bad"),
    ("openai", 500, openai(None, "sorry", "server_error"), UpstreamOverloaded, "sorry"),
    # Zhipu: the code is a string, sometimes with a request_id; a 429 may be for ever
    ("zhipu", 429, zhipu("1302"), ConcurrencyLimited, "速率限制"),
    ("zhipu", 429, zhipu("1302") | {"request_id": "2026"}, ConcurrencyLimited, "速率限制"),
    ("zhipu", 429, {"error": {"code": 1113, "message": "余额不足"}}, QuotaExhausted, "余额"),
    ("zhipu", 429, zhipu("1399"), RateLimited, "速率限制"),
    *_codes("zhipu", 429, QuotaExhausted, "1113 1304 1308 1309 1310"),
    *_codes("zhipu", 429, RateLimited, "1303 1313"),
    *_codes("zhipu", 429, UpstreamOverloaded, "1305 1312"),
    *_codes("zhipu", 401, UpstreamAuth, "1000 1001 1002 1003 1004"),
    *_codes("zhipu", 429, UpstreamAuth, "1110 1111 1112 1121 1220"),
    *_codes("zhipu", 400, UpstreamRejected, "1210 1213 1214 1215"),
    *_codes("zhipu", 400, ModelGone, "1211 1221 1222"),
    *_codes("zhipu", 429, ModelGone, "1311"),
    *_codes("zhipu", 500, UpstreamOverloaded, "1230 1234"),
    *_codes("zhipu", 400, ContextTooLong, "1261"),
    *_codes("zhipu", 400, ContentFiltered, "1301"),
    # Tencent Hunyuan
    *_codes("hunyuan", 429, ConcurrencyLimited, "FailedOperation.EngineServerLimitExceeded"),
    *_codes(
        *("hunyuan", 400, UpstreamOverloaded),
        "FailedOperation.EngineRequestTimeout FailedOperation.EngineServerError",
    ),
    *_codes(
        *("hunyuan", 400, QuotaExhausted),
        "LimitExceeded FailedOperation.FreeResourcePackExhausted "
        "FailedOperation.ResourcePackExhausted FailedOperation.ServiceStopArrears",
    ),
    *_codes("hunyuan", 400, UpstreamAuth, "FailedOperation.ServiceNotActivated"),
    ("hunyuan", 429, openai("x", "并发数超过限制"), ConcurrencyLimited, "并发"),
    # Tencent TokenHub
    ("tencent-tokenhub", 401, tokenhub("401002", "invalid key"), UpstreamAuth, "invalid key"),
    *_codes("tencent-tokenhub", 402, QuotaExhausted, "401007 401008 403004 FREE_QUOTA_EXHAUSTED"),
    (
        *("tencent-tokenhub", 429),
        tokenhub("429001", "rate limit exceeded on dimension: rpm", request_id="r"),
        *(RateLimited, "dimension: rpm"),
    ),
    (
        *("tencent-tokenhub", 429),
        tokenhub("429001", "rate limit exceeded on dimension: concurrency"),
        *(ConcurrencyLimited, "dimension: concurrency"),
    ),
    ("tencent-tokenhub", 451, tokenhub("451001", "filtered"), ContentFiltered, "filtered"),
    (
        *("tencent-tokenhub", 502),
        tokenhub("502001", "upstream", upstream_code="x", upstream_status="500"),
        *(UpstreamOverloaded, "upstream"),
    ),
    # NVIDIA: RFC 9457, or `error` as a string
    ("nvidia", 429, {"status": 429, "title": "Too Many Requests"}, RateLimited, "Too Many"),
    (
        *("nvidia", 410),
        problem(410, "Gone", detail="The model 'x' has reached its end of life on 2026-09-01"),
        *(ModelGone, "end of life"),
    ),
    (
        *("nvidia", 404),
        problem(404, "Not Found", detail="Function 'f': Not found for account 'a'"),
        *(ModelGone, "Not found for account"),
    ),
    (
        *("nvidia", 422),
        {
            "type": "urn:inference-service:problem-details:unprocessable-entity",
            "title": "Unprocessable",
            "status": 422,
            "detail": "extra field",
            "instance": "/v1/chat/completions",
            "requestId": "r",
        },
        *(UpstreamRejected, "extra field"),
    ),
    ("nvidia", 400, openai(None, "template", "BadRequestError"), UpstreamRejected, "template"),
    ("nvidia", 400, {"error": "[{'type': 'extra_forbidden'}]"}, UpstreamRejected, "extra_forb"),
    # SiliconFlow: no `error` around it
    (
        *("siliconflow", 429),
        silicon(None, "Request was rejected due to rate limiting. Details: TPM limit reached."),
        *(RateLimited, "TPM limit reached"),
    ),
    ("siliconflow", 400, silicon(20012, "Model does not exist"), ModelGone, "not exist"),
    ("siliconflow", 503, silicon(50603, "System is too busy now"), UpstreamOverloaded, "too busy"),
    ("siliconflow", 503, silicon(50508, "System is too busy now"), UpstreamOverloaded, "too busy"),
    ("siliconflow", 401, "Invalid token", UpstreamAuth, "Invalid token"),
    # OpenClaw
    ("openclaw", 401, openai(None, "Unauthorized", "unauthorized"), UpstreamAuth, "Unauth"),
    ("openclaw", 429, openai(None, "Too many failed", "rate_limited"), RateLimited, "Too many"),
    (
        *("openclaw", 503),
        openai(None, "Gateway is temporarily unavailable", "service_unavailable"),
        *(GatewayUnavailable, "temporarily"),
    ),
    ("openclaw", 500, openai(None, "internal", "api_error"), UpstreamOverloaded, "internal"),
    # The others
    ("deepseek", 402, openai(None, "Insufficient Balance"), QuotaExhausted, "Insufficient"),
    ("deepseek", 422, openai(None, "parameter"), UpstreamRejected, "parameter"),
    ("deepseek", 429, openai(None, "slower"), RateLimited, "slower"),
    ("deepseek", 503, openai(None, "busy"), UpstreamOverloaded, "busy"),
    (
        *("moonshot", 429, openai(None, "suspended", "exceeded_current_quota_error")),
        *(QuotaExhausted, "suspended"),
    ),
    ("moonshot", 429, openai(None, "max organization concurrency: 3"), ConcurrencyLimited, "3"),
    ("dashscope", 429, openai("Throttling.RateQuota"), RateLimited, "no"),
    ("dashscope", 429, openai("insufficient_quota", "tokens"), RateLimited, "tokens"),
    ("openrouter", 402, {"error": {"code": 402, "message": "x"}}, QuotaExhausted, "x"),
    (
        *("openrouter", 403, {"error": {"code": 403, "message": "input was flagged"}}),
        *(ContentFiltered, "flagged"),
    ),
    ("openrouter", 503, {"error": {"code": 503, "message": "none"}}, UpstreamOverloaded, "none"),
    ("vllm", 429, openai(None, "slower"), RateLimited, "slower"),
    ("ollama", 404, openai(None, "model 'x' not found"), ModelGone, "not found"),
    (
        *("llama.cpp", 400, openai(400, "too large", "exceed_context_size_error")),
        *(ContextTooLong, "too large"),
    ),
    ("llama.cpp", 503, openai(503, "Loading model"), UpstreamOverloaded, "Loading"),
    # Proxies and oddities
    ("openai", 502, b"<html>\n<h1>Bad Gateway</h1>", UpstreamOverloaded, "Bad Gateway"),
    ("openai", 400, {"error": None, "message": "why"}, UpstreamRejected, "why"),
    ("openai", 400, {"error": "why", "code": "model_not_found"}, ModelGone, "why"),
    ("openai", 400, {"error": ["one", 2]}, UpstreamRejected, "['one', 2]"),
    ("openai", 400, {"error": {}}, UpstreamRejected, "{'error': {}}"),
    ("openai", 400, 42, UpstreamRejected, "42"),
    ("openai", 500, b"", UpstreamOverloaded, "no explanation given"),
    ("openai", 500, b"\xff\xfe broken", UpstreamOverloaded, "broken"),
]
