"""What providers answer, as their documentation and public issues show it, and what it means."""

import os
from typing import Any

import httpx
import orjson
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

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
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.providers.dialects import PLAIN, PRESETS
from asyncsvc.providers.error_tables import DIALECTS, EVERYBODY
from asyncsvc.providers.errors import (
    MESSAGE_CHARS,
    clean,
    of_response,
    of_stream,
)
from tests.error_bodies import ROWS, openai, zhipu
from tests.upstreams import ASK, KEY, URL, Sheet, client, upstream


@pytest.mark.parametrize(
    ("preset", "status", "body", "kind", "text"),
    ROWS,
    ids=[f"{n} {row[0]} {row[1]}" for n, row in enumerate(ROWS)],
)
async def test_what_an_answer_means(
    preset: str, status: int, body: Any, kind: type[ProviderError], text: str
) -> None:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    account = upstream(preset=PRESETS[preset])
    with respx.mock as router:
        router.post(f"{URL}/chat/completions").respond(
            status, content=content, headers={"retry-after": "3"}
        )
        async with client(httpx.MockTransport(router.async_handler)) as made:
            with pytest.raises(ProviderError) as found:
                await made.chat(account, ASK, {}, Sheet())
    error = found.value
    assert type(error) is kind
    assert f"the provider answered {status}: " in str(error)
    assert text in str(error)
    assert error.retry_after == pytest.approx(3.0)


def test_each_preset_has_its_table() -> None:
    used = {preset.errors for preset in [*PRESETS.values(), PLAIN]}
    assert used == DIALECTS.keys()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(row[1], row[2], row[3]) for row in ROWS if row[0] in ("zhipu", "siliconflow", "hunyuan")],
)
def test_a_provider_without_a_preset_is_understood_by_its_codes(
    status: int, body: Any, kind: type[ProviderError]
) -> None:
    assert type(of_response(status, orjson.dumps(body), [], PLAIN.errors)) is kind


def test_the_tables_that_stand_for_anybody_do_not_contradict_each_other() -> None:
    for name in ("zhipu", "hunyuan", "tokenhub", "siliconflow"):
        assert DIALECTS["any"].items() >= DIALECTS[name].items()


# When a quota comes back ----------------------------------------------------------------------

NOW = 1_800_000_000_000  # 2027-01-15 08:00 UTC, 16:00 in Beijing


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("已达到 5 小时的使用上限。您的限额将在 2027-01-15 18:30:00 重置。", 9000),
        ("将在 2027-01-15 16:00 以后, 2027/1/16 16:00 重置", 86_400),
        ("resets at 2027-01-15T08:00:30Z", 30),
        ("resets at 2027-01-15T08:00:30.250+00:00", 30),
        ("was reset at 2027-01-15 15:59:59", None),
        ("at 2027-13-45 99:99:99, or 0000-01-01 00:00:00", None),
        ("in 9999-12-31 23:59:59", None),
        ("soon", None),
    ],
)
def test_the_time_in_the_text_says_when_a_quota_comes_back(
    text: str, seconds: float | None
) -> None:
    body = zhipu("1308", text)
    error = of_response(429, orjson.dumps(body), [], "zhipu", NOW)
    assert (type(error), error.retry_after) == (QuotaExhausted, seconds)
    assert of_stream(body["error"], [], "zhipu", NOW).retry_after == seconds


def test_the_header_is_believed_before_the_text() -> None:
    body = orjson.dumps(zhipu("1308", "2027-01-15 18:30:00"))
    assert of_response(
        429, body, [], "zhipu", NOW, {"retry-after": "7"}
    ).retry_after == pytest.approx(7.0)


def test_a_time_in_another_error_is_no_reset() -> None:
    body = orjson.dumps(zhipu("1302", "2027-01-15 18:30:00"))
    assert of_response(429, body, [], "zhipu", NOW).retry_after is None


# Codes and statuses ---------------------------------------------------------------------------

BY_STATUS = {
    UpstreamInvalid: [204, 206, 301, 307],
    UpstreamRejected: [400, 405, 415, 418, 422],
    AuthUnexplained: [401, 403],
    QuotaExhausted: [402],
    ModelUnexplained: [404],
    ModelGone: [410],
    UpstreamOverloaded: [408, 409, 421, 425, 498, 499, 500, 502, 503, 504, *range(520, 527), 529],
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
    assert type(of_response(status, body, [])) is kind


@pytest.mark.parametrize(
    ("dialect", "code"),
    [(name, code) for name, table in DIALECTS.items() for code in {**table, **EVERYBODY}],
)
def test_each_known_code_wins_over_the_status(dialect: str, code: str) -> None:
    kind = DIALECTS[dialect].get(code) or EVERYBODY[code]
    assert type(of_response(418, orjson.dumps(openai(code)), [], dialect)) is kind


def test_a_code_of_one_provider_means_nothing_at_another() -> None:
    body = orjson.dumps(openai("1113"))
    assert type(of_response(429, body, [], "zhipu")) is QuotaExhausted
    assert type(of_response(429, body, [], "nvidia")) is RateLimited


@pytest.mark.parametrize("code", [None, "never_heard_of"])
def test_a_known_type_stands_in_for_a_missing_or_unknown_code(code: str | None) -> None:
    body = orjson.dumps(openai(code, kind="rate_limit_error"))
    assert type(of_response(400, body, [])) is RateLimited


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "x"}, RateLimited),
        ({"code": "429", "message": "x"}, RateLimited),
        ({"code": 503, "message": "x"}, UpstreamOverloaded),
        ({"code": "1302", "message": "x"}, ConcurrencyLimited),
        ({"type": "invalid_request_error", "message": "x"}, UpstreamRejected),
        ({"code": {"no": "code"}, "type": ["x"], "message": "x"}, UpstreamOverloaded),
        ({"code": "overloaded", "message": "x"}, UpstreamOverloaded),
        ({"code": "²²²", "message": "x"}, UpstreamOverloaded),
        ({"message": "x"}, UpstreamOverloaded),
        ("x", UpstreamOverloaded),
        ({"code": 401, "message": "x"}, AuthUnexplained),
        ({"message": "x", "base_resp": 3}, UpstreamOverloaded),
        ([{"code": 429, "message": "x"}], RateLimited),
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
    text = str(of_response(401, body.replace(b"%b", KEY.encode()), [KEY]))
    assert KEY not in text
    assert "[key]" in text


def test_a_key_inside_a_stream_is_not_passed_on() -> None:
    assert KEY not in str(of_stream({"message": f"no such key {KEY}"}, [KEY]))


@pytest.mark.parametrize(
    "leak",
    ["sk-proj-abcdef123456", "sk-ab****cd12", "nvapi-AbC_123-xyz", "Bearer abc.def", "key-123456"],
)
def test_what_looks_like_a_key_goes_even_if_it_is_not_ours(leak: str) -> None:
    assert clean(f'Incorrect: "{leak}".', []).startswith('Incorrect: "[key]"')


@pytest.mark.parametrize("secret", ["", "any", "none", "EMPTY", "sk-1234"])
def test_a_placeholder_for_a_key_hides_nothing(secret: str) -> None:
    text = f"Too many words, none is EMPTY, {secret}."
    assert clean(text, [secret]) == text


def test_a_short_key_goes_as_a_whole_word_only() -> None:
    text = clean("many passwords, key=password and passwordpassword", ["password"])
    assert text == "many passwords, key=[key] and [key]"


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
    assert isinstance(of_response(status, body, [KEY]), ProviderError)


@given(json_values)
def test_any_value_inside_a_stream_is_some_error(error: Any) -> None:
    assert isinstance(of_stream(error, [KEY]), ProviderError)


@pytest.mark.parametrize("depth", [900, 1000, 1020, 100_000])
def test_a_body_nested_deeper_than_python_can_print(depth: int) -> None:
    body = b'{"error":' + b"[" * depth + b"]" * depth + b"}"
    assert isinstance(of_response(400, body, []), UpstreamRejected)


def test_a_key_of_random_bytes_never_shows() -> None:
    secret = os.urandom(24).hex() + "." + os.urandom(8).hex()
    body = orjson.dumps({"error": {"message": f"{secret}{secret} {secret}", "code": secret}})
    assert secret not in str(of_response(400, body, [secret]))
