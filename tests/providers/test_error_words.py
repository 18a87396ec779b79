"""What providers' sentences mean, as public reports show them, and their cousins."""

import time
from typing import Any

import orjson
import pytest

from asyncsvc.errors import (
    AuthUnexplained,
    ConcurrencyLimited,
    ContentFiltered,
    ContextTooLong,
    ModelGone,
    ModelUnexplained,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooCostly,
    UpstreamAuth,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamUnsupported,
)
from asyncsvc.providers.errors import of_response, of_stream

NOW = 1_800_000_000_000


def means(status: int, body: Any, headers: dict[str, str] | None = None) -> ProviderError:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return of_response(status, content, [], "any", NOW, headers)


def words(text: str) -> dict[str, Any]:
    return {"error": {"message": text, "type": "invalid_request_error", "code": None}}


TOO_LONG = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001.",
    "This model's maximum prompt length is 131072 but the request contains 540000 tokens.",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: 40000",
    "Input is too long for requested model.",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
    "input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000",
    "Please reduce the length of the messages or completion.",
    "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Input tokens exceed the configured limit of 272000 tokens.",
    "Your input exceeds the context window of this model.",
    "too many tokens: total number of tokens in the prompt cannot exceed 4081",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
    "context length",
    "the request exceeds the available context size (4096 tokens), try increasing it",
    "The prompt is too long: 140000, model maximum context length: 131071",
    "Requested token count exceeds the model's maximum context length of 131072 tokens.",
    "The number of tokens to keep is greater than the context length (n_keep: 9 >= n_ctx: 4)",
    "Your request exceeded model token limit: 8192",
    "输入内容过长，超过模型上下文长度",
]


@pytest.mark.parametrize("text", TOO_LONG)
@pytest.mark.parametrize("status", [400, 413, 422, 500])
def test_a_prompt_beyond_the_context_is_reported_by_its_sentence(status: int, text: str) -> None:
    assert type(means(status, words(text))) is ContextTooLong
    assert type(of_stream({"message": text}, [])) is ContextTooLong


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested "
            "14810, please reduce your message size and try again.",
            ContextTooLong,
        ),
        ("Request too large for gpt-4o: Limit 30,000, Requested 342,389.", ContextTooLong),
        ("Rate limit reached on TPM: Limit 6000, Used 100, Requested 7000", ContextTooLong),
        ("Request too large for this tier.", ContextTooLong),
        ("TPM limit reached: Limit 6000, Used 5900, Requested 200. Try again in 1s", RateLimited),
    ],
)
def test_a_request_beyond_the_whole_limit_never_passes(
    status: int, text: str, kind: type[ProviderError]
) -> None:
    body = {"error": {"message": text, "type": "tokens", "code": "rate_limit_exceeded"}}
    assert type(means(status, body)) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # Rates and quotas
        (400, words("Too many requests, please wait before trying again"), RateLimited),
        (403, {"error": {"message": "a secondary rate limit", "code": "x"}}, RateLimited),
        (503, words("upstream: rate limit exceeded"), RateLimited),
        (429, words("too many tokens per minute, slow down"), RateLimited),
        (400, words("too many tokens per minute, rate limit"), RateLimited),
        (500, words("insufficient balance (1008)"), QuotaExhausted),
        (403, words("Your credit balance is too low to access the API"), QuotaExhausted),
        (400, words("Your account is in arrears"), QuotaExhausted),
        (403, words("Key limit exceeded (total limit)."), QuotaExhausted),
        (429, words("Too many tokens, please wait before trying again."), RateLimited),
        (402, b"", QuotaExhausted),
        (402, words("or fewer max_tokens. You can only afford 13141"), RequestTooCostly),
        (429, {"error": {"message": "free-models-per-day", "code": 429}}, QuotaExhausted),
        (429, words("max organization concurrency: 3"), ConcurrencyLimited),
        # Keys and accounts
        (400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}],
         UpstreamAuth),
        (401, words("Incorrect API key provided: sk-ab***cd"), UpstreamAuth),
        (401, words("Authentication Fails, Your api key: ****1234 is invalid"), UpstreamAuth),
        (401, words("You didn't provide an API key"), UpstreamAuth),
        (401, {"error": {"message": "User not found.", "code": 401}}, UpstreamAuth),
        (403, words("Your account has been suspended"), UpstreamAuth),
        (400, words("This organization has been disabled."), UpstreamAuth),
        (401, words("该令牌已过期"), UpstreamAuth),
        (401, b"Invalid token", UpstreamAuth),
        (400, words("invalid token in logit_bias"), UpstreamRejected),
        (400, words("frequency_penalty(频率惩罚)错误"), UpstreamRejected),
        (400, words("max_tokens is too large: 100000. The model supports at most 16384 completion "
                    "tokens"), UpstreamRejected),
        (400, words("max_tokens (9000) exceeds the limit of 4096 tokens"), UpstreamRejected),
        (400, words("'max_tokens' is too large: 9000. This model's maximum context length is 8192"),
         ContextTooLong),
        (401, words("Access denied due to invalid subscription key or wrong API endpoint."),
         UpstreamAuth),
        (403, words("The security token included in the request is invalid."), UpstreamAuth),
        # Models
        (404, words("model 'x:7b' not found, try pulling it first"), ModelGone),
        (404, words("The model `qwen2.5` does not exist"), ModelGone),
        (400, words("Model Not Exist"), ModelGone),
        (400, words("x/y is not a valid model ID"), ModelGone),
        (400, words("The model `x` has been decommissioned and is no longer supported"), ModelGone),
        (404, words("No endpoints found for vendor/model."), ModelGone),
        # About the request alone
        (404, words("No endpoints found that support tool use."), UpstreamUnsupported),
        (404, words("model x does not support tools"), UpstreamUnsupported),
        (404, words("No allowed providers are available for the selected model."),
         UpstreamUnsupported),
        (403, words("Your input was flagged by moderation"), ContentFiltered),
        (400, words("The response was filtered due to Azure's content management policy"),
         ContentFiltered),
        (400, words("Input data may contain inappropriate content."), ContentFiltered),
        (400, words("Unrecognized request argument supplied: foo"), UpstreamRejected),
        # Neither key nor model is named
        (403, words("Access denied. Please check your network settings."), AuthUnexplained),
        (401, words("Unauthorized"), AuthUnexplained),
        (401, b"", AuthUnexplained),
        (403, words("Country, region, or territory not supported"), AuthUnexplained),
        (404, b"404 page not found\n", ModelUnexplained),
        (404, words("Invalid URL (POST /v1/v1/chat/completions)"), ModelUnexplained),
        (401, b"<html><title>Invalid API key</title>", AuthUnexplained),
        (403, b"<!DOCTYPE html><title>Your account is suspended</title>", AuthUnexplained),
        (404, b"<html><title>model not found</title>", ModelUnexplained),
        (410, b"<html><title>Gone</title>", ModelUnexplained),
        # Passing
        (409, words("Another request is in progress"), UpstreamOverloaded),
        (503, {"error": {"message": "No available channel for model m", "code": "model_not_found"}},
         UpstreamOverloaded),
    ],
)  # fmt: skip
def test_what_a_sentence_means(status: int, body: Any, kind: type[ProviderError]) -> None:
    assert type(means(status, body)) is kind


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}},
         AuthUnexplained),
        ({"error": {"message": "insufficient balance"}}, RateLimited),
        ({"error": {"message": "prompt is too long"}}, ContextTooLong),
    ],
)  # fmt: skip
def test_the_account_of_a_provider_behind_a_relay_is_not_ours(
    raw: Any, kind: type[ProviderError]
) -> None:
    metadata = {"raw": orjson.dumps(raw).decode(), "provider_name": "x"}
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}}
    error = means(400, body)
    assert type(error) is kind
    assert raw["error"]["message"] in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"base_resp": {"status_code": 1039, "status_msg": "x"}}, RateLimited),
        ({"base_resp": {"status_code": 1002, "status_msg": "x"}}, RateLimited),
        ({"base_resp": {"status_code": 1008, "status_msg": "x"}}, QuotaExhausted),
        ({"error_code": 18, "error_msg": "x"}, RateLimited),
        ({"error_code": 110, "error_msg": "x"}, UpstreamAuth),
        ("upstream request timeout", UpstreamOverloaded),
        ("no output tokens were generated", UpstreamOverloaded),
        ("<html><title>Just a moment...</title>", UpstreamOverloaded),
    ],
)
def test_what_an_error_inside_a_200_means(error: Any, kind: type[ProviderError]) -> None:
    assert type(of_stream(error, [])) is kind


# How long to wait -----------------------------------------------------------------------------

PLAIN = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
GEMINI = "You exceeded your current quota, please check your plan and billing details."


def gemini(quota: str, *, retry: str | None = None, text: str = "") -> Any:
    details: list[Any] = [{"@type": "QuotaFailure", "violations": [{"quotaId": quota}]}]
    details += [{"@type": "RetryInfo", "retryDelay": retry}] if retry else []
    message = f"{GEMINI} {text}"
    return [{"error": {"code": 429, "message": message, "status": "X", "details": details}}]


def openrouter(reset: str, remaining: str = "0") -> Any:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": remaining}
    metadata = {"headers": headers | {"X-RateLimit-Reset": reset}}
    return {"error": {"message": "Rate limit exceeded", "code": 429, "metadata": metadata}}


@pytest.mark.parametrize(
    ("body", "headers", "kind", "seconds"),
    [
        # Headers
        (PLAIN, {"retry-after": "7"}, RateLimited, 7),
        (PLAIN, {"retry-after": "1.5"}, RateLimited, 1.5),
        (PLAIN, {"retry-after": "1800000003"}, RateLimited, 3),
        (PLAIN, {"retry-after": "1800000003000"}, RateLimited, 3),
        (PLAIN, {"retry-after": "Fri, 15 Jan 2027 08:00:05 GMT"}, RateLimited, 5),
        (PLAIN, {"retry-after": "2027-01-15T08:00:09Z"}, RateLimited, 9),
        (PLAIN, {"retry-after": "5, 5"}, RateLimited, 5),
        (PLAIN, {"retry-after": "86400"}, RateLimited, 3600),
        *((PLAIN, {"retry-after": odd}, RateLimited, None) for odd in
          ("0", "-5", "nan", "inf", "soon", "99999999999999999999", "2099-01-01T00:00:00Z", "",
           "1799999999")),
        (PLAIN, {"retry-after-ms": "1500"}, RateLimited, 1.5),
        (PLAIN, {"retry-after-ms": "300", "retry-after": "1"}, RateLimited, 0.3),
        (PLAIN, {"x-ratelimit-reset-requests": "6m0s"}, RateLimited, 360),
        (PLAIN, {"x-ratelimit-reset": "1800000030"}, RateLimited, 30),
        (PLAIN, {"ratelimit-reset": "12", "ratelimit-remaining": "0"}, RateLimited, 12),
        (PLAIN, {"anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:21Z"}, RateLimited, 21),
        (PLAIN, {"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "1s",
                 "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "40s"},
         RateLimited, 40),
        # The body
        (gemini("PerMinute", retry="2s"), {}, RateLimited, 2),
        (gemini("PerMinute", retry="2s", text="Please retry in 2.5s."), {}, RateLimited, 2),
        (gemini("x", text="Please retry in 2.5s."), {}, RateLimited, 2.5),
        (gemini("GenerateRequestsPerMinutePerProject"), {}, RateLimited, None),
        (gemini("GenerateRequestsPerDayPerProject"), {}, QuotaExhausted, None),
        (gemini("GenerateRequestsPerDayPerProject", retry="31s"), {}, RateLimited, 31),
        (openrouter("1800000030000"), {}, RateLimited, 30),
        (openrouter("1800000030000", remaining="4"), {}, RateLimited, None),
        ({"error": {"code": "insufficient_quota", "message": "tokens per minute exceeded"}},
         {"retry-after": "600"}, RateLimited, 60),
        ({"error": {"code": "rate_limit_exceeded", "message": "slower", "retry_after": 4}},
         {}, RateLimited, 4),
        ({"error": {"code": "rate_limit_exceeded", "message": "x", "retry_after_ms": 400}},
         {}, RateLimited, 0.4),
        ({"error": {"code": "rate_limit_exceeded", "message": "x", "retry_count": 4}},
         {}, RateLimited, None),
        # Sentences
        (words("slow down, try again in 1m3.5s"), {}, RateLimited, 63.5),
        (words("slow down, try again in 1m3.5s"), {"retry-after": "20"}, RateLimited, 20),
        (words("requests per day (RPD): try again in 17m4s"), {}, RateLimited, 1024),
        (words("limit of requests per day reached"), {"retry-after": "40000"},
         QuotaExhausted, 40000),
        (words("请在30秒后重试"), {}, RateLimited, 30),
        (words("requests per second"), {"retry-after": "9"}, RateLimited, 9),
        ({"error": {"code": "insufficient_quota", "message": "billing"}},
         {"retry-after": "3"}, QuotaExhausted, 3),
    ],
)  # fmt: skip
def test_the_shortest_named_time_that_fits_the_limit_counts(
    body: Any, headers: dict[str, str], kind: type[ProviderError], seconds: float | None
) -> None:
    error = means(429, body, headers)
    assert type(error) is kind
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("Model is loading, try again in 20 s", 20), ("retry, or wait 24 hours for help", None)],
)
def test_a_fault_that_passes_is_tried_again_soon(text: str, seconds: float | None) -> None:
    assert means(500, words(text)).retry_after == seconds


BAD = [
    *("retry ", "again 1 m, ", "model ", "token ", "invalid a a ", "api key ", "exceeds "),
    *("account ", "<title ", "limit 1", "violates ", "2026-1-1 ", "Bearer ", "input "),
]


@pytest.mark.parametrize("piece", BAD)
def test_no_text_takes_long_to_read(piece: str) -> None:
    body = (piece * 65536)[:65536].encode()
    began = time.perf_counter()
    for content in (body, orjson.dumps({"error": {"message": body.decode()}})):
        of_response(400, content, ["a-secret-key"], "any", NOW, {})
    assert time.perf_counter() - began < 0.5
