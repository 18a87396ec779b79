"""What providers answer, as their documentation and public issues show it, and what it means."""

import os
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.errors import (
    ConcurrencyLimited,
    ContentFiltered,
    ContextTooLong,
    ModelGone,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamAuth,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.providers import faults
from asyncsvc.providers.faults import MESSAGE_CHARS, clean, of_response, of_stream
from tests.upstreams import KEY


def openai(code: Any, message: str = "no", kind: str = "x") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def zhipu(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "您的账户已达到速率限制，请您控制请求频率"}}


def silicon(code: int | None, message: str) -> dict[str, Any]:
    return ({} if code is None else {"code": code}) | {"message": message, "data": None}


REAL: list[tuple[str, int, Any, type[ProviderError], str]] = [
    # OpenAI
    (
        *("openai no balance", 429, openai("insufficient_quota", "You exceeded your quota")),
        *(QuotaExhausted, "exceeded your quota"),
    ),
    ("openai billing", 429, openai("billing_hard_limit_reached"), QuotaExhausted, "no"),
    ("openai rate", 429, openai("rate_limit_exceeded", kind="requests"), RateLimited, "no"),
    ("openai key", 401, openai("invalid_api_key"), UpstreamAuth, "no"),
    ("openai context", 400, openai("context_length_exceeded"), ContextTooLong, "no"),
    ("openai policy", 400, openai("content_policy_violation"), ContentFiltered, "no"),
    ("openai model", 404, openai("model_not_found"), ModelGone, "no"),
    (
        *("openai parameter", 400, openai(None, "bad", "invalid_request_error")),
        *(UpstreamRejected, "bad"),
    ),
    ("openai server", 500, openai(None, "sorry", "server_error"), UpstreamOverloaded, "sorry"),
    # Zhipu: the code is a string; a 429 may be for ever
    ("zhipu no balance", 429, zhipu("1113"), QuotaExhausted, "速率限制"),
    ("zhipu prompt", 400, zhipu("1261"), ContextTooLong, "速率限制"),
    ("zhipu unsafe", 400, zhipu("1301"), ContentFiltered, "速率限制"),
    ("zhipu concurrency", 429, zhipu("1302"), RateLimited, "速率限制"),
    ("zhipu frequency", 429, zhipu("1303"), RateLimited, "速率限制"),
    ("zhipu busy", 429, zhipu("1305"), UpstreamOverloaded, "速率限制"),
    ("zhipu code as a number", 429, {"error": {"code": 1113, "message": "x"}}, QuotaExhausted, "x"),
    ("zhipu other code", 429, zhipu("1399"), RateLimited, "速率限制"),
    ("zhipu key", 401, zhipu("1000"), UpstreamAuth, "速率限制"),
    (
        *("hunyuan at once", 429, openai(429, "Too many concurrent requests")),
        *(ConcurrencyLimited, "concurrent"),
    ),
    ("at once", 429, openai("rate_limit_exceeded", "Concurrency is 5"), ConcurrencyLimited, "is 5"),
    ("at once in Chinese", 429, zhipu("x") | {"error": "并发数过高"}, ConcurrencyLimited, "并发"),
    ("no balance at once", 429, openai("1113", "concurrency 0"), QuotaExhausted, "0"),
    ("busy at once", 503, openai(None, "concurrency"), UpstreamOverloaded, "concurrency"),
    # NVIDIA: RFC 9457, or `error` as a string
    ("nvidia rate", 429, {"status": 429, "title": "Too Many Requests"}, RateLimited, "Too Many"),
    (
        *("nvidia gone", 410),
        {"type": "about:blank", "title": "Gone", "status": 410, "detail": "has reached its end"},
        *(ModelGone, "has reached its end"),
    ),
    (
        *("nvidia account", 404),
        {"status": 404, "title": "Not Found", "detail": "Function 'f': Not found for account"},
        *(ModelGone, "Not found for account"),
    ),
    (
        *("nvidia schema", 422),
        {
            "type": "urn:inference-service:problem-details:unprocessable-entity",
            "title": "Unprocessable",
            "detail": "extra field",
            "requestId": "r",
        },
        *(UpstreamRejected, "extra field"),
    ),
    ("nvidia bad", 400, openai(None, "template", "BadRequestError"), UpstreamRejected, "template"),
    (
        *("nvidia string", 400, {"error": "[{'type': 'extra_forbidden'}]"}),
        *(UpstreamRejected, "extra_forbidden"),
    ),
    # SiliconFlow: no `error` around it
    (
        *("silicon rate", 429, silicon(None, "Request was rejected: TPM limit reached.")),
        *(RateLimited, "TPM limit reached"),
    ),
    ("silicon model", 400, silicon(20012, "Model does not exist"), UpstreamRejected, "not exist"),
    ("silicon busy", 503, silicon(50603, "System is too busy"), UpstreamOverloaded, "too busy"),
    ("silicon key", 401, "Invalid token", UpstreamAuth, "Invalid token"),
    # Tencent TokenHub
    ("tokenhub key", 401, openai("401002"), UpstreamAuth, "no"),
    ("tokenhub quota", 402, openai("FREE_QUOTA_EXHAUSTED"), QuotaExhausted, "no"),
    ("tokenhub rate", 429, openai("429001", "dimension: rpm"), RateLimited, "dimension: rpm"),
    ("tokenhub content", 451, openai("451001"), ContentFiltered, "no"),
    ("tokenhub upstream", 502, openai("502001"), UpstreamOverloaded, "no"),
    # DeepSeek, OpenRouter, OpenClaw, proxies
    ("deepseek balance", 402, openai(None, "Insufficient Balance"), QuotaExhausted, "Insufficient"),
    ("openrouter credit", 402, {"error": {"code": 402, "message": "x"}}, QuotaExhausted, "x"),
    ("openclaw token", 401, openai(None, "Unauthorized", "unauthorized"), UpstreamAuth, "Unauth"),
    ("proxy page", 502, b"<html>\n<h1>Bad Gateway</h1>", UpstreamOverloaded, "Bad Gateway"),
    ("error null", 400, {"error": None, "message": "why"}, UpstreamRejected, "why"),
    ("error list", 400, {"error": ["one", 2]}, UpstreamRejected, "['one', 2]"),
    ("error empty", 400, {"error": {}}, UpstreamRejected, "{'error': {}}"),
    ("number", 400, 42, UpstreamRejected, "42"),
    ("nothing", 500, b"", UpstreamOverloaded, "no explanation given"),
    ("not UTF-8", 500, b"\xff\xfe broken", UpstreamOverloaded, "broken"),
]


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"), [row[1:] for row in REAL], ids=[row[0] for row in REAL]
)
def test_what_an_answer_means(status: int, body: Any, kind: type[ProviderError], said: str) -> None:
    error = of_response(status, body if isinstance(body, bytes) else orjson.dumps(body), [], 3.0)
    assert type(error) is kind
    assert str(error).startswith(f"the provider answered {status}: ")
    assert said in str(error)
    assert error.retry_after == 3.0


BY_STATUS = {
    UpstreamInvalid: [204, 206, 301, 307],
    UpstreamRejected: [400, 405, 409, 415, 418, 422],
    UpstreamAuth: [401, 403],
    QuotaExhausted: [402],
    ModelGone: [404, 410],
    UpstreamOverloaded: [408, 425, 500, 502, 503, 504, 520, 529],
    ContextTooLong: [413],
    RateLimited: [429],
    ContentFiltered: [451],
}


@pytest.mark.parametrize(
    ("status", "kind"), [(s, kind) for kind, statuses in BY_STATUS.items() for s in statuses]
)
@pytest.mark.parametrize(
    "body", [b"", b'{"error": {"code": "never_heard_of", "type": "nor_this"}}']
)
def test_the_status_decides_where_the_code_is_unknown(
    status: int, kind: type[ProviderError], body: bytes
) -> None:
    assert type(of_response(status, body, [], None)) is kind


@pytest.mark.parametrize("code", faults.BY_CODE)
def test_each_known_code_wins_over_the_status(code: str) -> None:
    assert type(of_response(418, orjson.dumps(openai(code)), [], None)) is faults.BY_CODE[code]


@pytest.mark.parametrize("code", [None, "never_heard_of"])
def test_a_known_type_stands_in_for_a_missing_or_unknown_code(code: str | None) -> None:
    body = orjson.dumps(openai(code, kind="rate_limit_error"))
    assert type(of_response(400, body, [], None)) is RateLimited


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "x"}, RateLimited),
        ({"code": "429", "message": "x"}, RateLimited),
        ({"code": 503, "message": "x"}, UpstreamOverloaded),
        ({"code": "1302", "message": "x"}, RateLimited),
        ({"code": "overloaded", "message": "x"}, UpstreamOverloaded),
        ({"code": "²²²", "message": "x"}, UpstreamOverloaded),
        ({"message": "x"}, UpstreamOverloaded),
        ("x", UpstreamOverloaded),
        ({"code": 401, "message": "x"}, UpstreamAuth),
    ],
)
def test_what_an_error_inside_a_stream_means(error: Any, kind: type[ProviderError]) -> None:
    found = of_stream(error, [])
    assert type(found) is kind
    assert str(found) == "the provider broke off: x"


def test_an_error_inside_a_stream_may_say_nothing() -> None:
    assert "no explanation given" in str(of_stream(" ", []))


# Keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"bad key %b", b'{"error": {"message": "Incorrect key: %b"}}'])
def test_a_key_that_is_echoed_is_not_passed_on(body: bytes) -> None:
    said = str(of_response(401, body.replace(b"%b", KEY.encode()), [KEY], None))
    assert KEY not in said
    assert "[key]" in said


def test_a_key_inside_a_stream_is_not_passed_on() -> None:
    assert KEY not in str(of_stream({"message": f"no such key {KEY}"}, [KEY]))


@pytest.mark.parametrize(
    "leak",
    ["sk-proj-abcdef123456", "sk-ab****cd12", "nvapi-AbC_123-xyz", "Bearer abc.def", "key-123456"],
)
def test_what_looks_like_a_key_goes_even_if_it_is_not_ours(leak: str) -> None:
    assert clean(f'Incorrect: "{leak}".', []).startswith('Incorrect: "[key]"')


def test_an_empty_secret_hides_nothing() -> None:
    assert clean("plain words", [""]) == "plain words"


def test_a_key_at_the_cut_does_not_show_its_first_half() -> None:
    text = "x" * (MESSAGE_CHARS - 10) + " 0123456789.zyxwvutsrq"
    assert "0123" not in clean(text, ["0123456789.zyxwvutsrq"])


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert clean("a\r\n\t b\x0b c", []) == "a b c"
    assert len(clean("word " * 10_000, [])) == MESSAGE_CHARS
    assert clean("y" * 501, []).endswith("y…")


# Never raises ---------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "detail", "title"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.integers(100, 599), st.binary() | json_values.map(orjson.dumps))
def test_any_body_is_some_error(status: int, body: bytes) -> None:
    assert isinstance(of_response(status, body, [KEY], None), ProviderError)


@given(json_values)
def test_any_value_inside_a_stream_is_some_error(error: Any) -> None:
    assert isinstance(of_stream(error, [KEY]), ProviderError)


@pytest.mark.parametrize("depth", [900, 1000, 1020, 100_000])
def test_a_body_nested_deeper_than_python_can_print(depth: int) -> None:
    body = b'{"error":' + b"[" * depth + b"]" * depth + b"}"
    assert isinstance(of_response(400, body, [], None), UpstreamRejected)


def test_a_key_of_random_bytes_never_shows() -> None:
    secret = os.urandom(24).hex() + "." + os.urandom(8).hex()
    body = orjson.dumps({"error": {"message": f"{secret}{secret} {secret}", "code": secret}})
    assert secret not in str(of_response(400, body, [secret], None))
