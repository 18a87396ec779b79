"""The client over tables of answers: what each of them becomes."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

import aiohttp
import httpx
import orjson
import pytest
import respx

from asyncsvc.config.settings import Limits, Timeouts
from asyncsvc.errors import (
    AuthUnexplained,
    ConnectTimeout,
    EmptyAnswer,
    ModelGone,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamTooLarge,
)
from asyncsvc.large_work import ASIDE_BYTES, LargeWork
from asyncsvc.providers.answers.size import LEAST, AnswerRoom
from asyncsvc.providers.client import ERROR_BYTES, Client
from asyncsvc.providers.dialects import SESSION_HEADER, Preset
from tests.upstreams import (
    ASK,
    DONE,
    GOOD,
    HELLO,
    KEY,
    STREAM,
    URL,
    Script,
    Sheet,
    chat,
    client,
    event,
    failure,
    in_turn,
    piece,
    standing_still,
    stream,
    upstream,
)

CHAT = f"{URL}/chat/completions"
T = TypeVar("T")

# What is sent ---------------------------------------------------------------------------------


async def test_a_request_is_what_the_upstream_says() -> None:
    with respx.mock as router:
        route = router.post(CHAT).respond(headers=STREAM, content=GOOD)
        async with client(httpx.MockTransport(router.async_handler)) as made:
            account = upstream(extra_headers={"x-agent": "main"})
            await made.chat(account, ASK, {"temperature": 1}, Sheet(), "s")
    request = route.calls.last.request
    assert orjson.loads(request.content) == account.chat_body(ASK, {"temperature": 1})
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "text/event-stream, application/json"
    assert (request.headers["x-agent"], request.headers[SESSION_HEADER]) == ("main", "s")


class Noted(LargeWork):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.asked = asyncio.Event()

    async def run(self, size: int, work: Callable[[], T]) -> T:
        self.sizes.append(size)
        self.asked.set()
        return await super().run(size, work)


LONG = "long " * 200_000
LONG_ANSWERS = {
    "an event": piece(LONG, "stop") + DONE,
    "events without blank lines": (piece(LONG) + piece(finish="stop") + DONE).replace(
        b"\n\n", b"\r"
    ),
    "a document": orjson.dumps(
        {"choices": [{"message": {"content": LONG}, "finish_reason": "stop"}]}
    ),
    "an event without an end": piece(LONG, "stop").rstrip(),
}


@pytest.mark.parametrize("name", LONG_ANSWERS)
async def test_a_long_event_is_read_beside_the_event_loop(name: str) -> None:
    body, noted = LONG_ANSWERS[name], Noted()
    parts = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    sheet = Sheet()
    async with Client(
        Timeouts(), standing_still, in_turn([stream(*parts)]), large_work=noted
    ) as one:
        await one.chat(upstream(), ASK, {}, sheet)
    assert sheet.text == LONG
    assert [size > ASIDE_BYTES for size in noted.sizes] == [True]


async def test_a_call_that_is_cancelled_does_not_wait_for_a_long_event() -> None:
    held, noted = threading.Event(), Noted()
    body = piece(LONG, "stop") + DONE
    parts = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    async with Client(
        Timeouts(), standing_still, in_turn([stream(*parts)]), large_work=noted
    ) as one:
        before = asyncio.ensure_future(LargeWork.run(noted, 1, held.wait))
        calling = asyncio.ensure_future(one.chat(upstream(), ASK, {}, Sheet()))
        await noted.asked.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        held.set()
        await before


# Right answers in odd shapes ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        GOOD.replace(b"data: ", b"data:"),
        b": keep-alive\n\n\n\n" + GOOD.replace(b"\n\n", b"\n\n: PROCESSING\n\n"),
        b"event: chunk\nid: 7\nretry: 5\n" + GOOD,
        piece(role="assistant", content="") + GOOD,
        event({"choices": []}) + GOOD.replace(DONE, event({"choices": [], "usage": {}}) + DONE),
        GOOD.removesuffix(DONE),
        GOOD.replace(piece(finish="stop"), b""),
        GOOD + piece(" and more") + b"data: {broken",
        # The standard, and how providers depart from it.
        b"\xef\xbb\xbf" + GOOD,
        b"\r\n\r\n" + GOOD,
        b"retry: 3000\n\nid: 0\n\nid\n\nevent: heartbeat\n\ndata\n\ndata:\n\ndata: \n\n" + GOOD,
        GOOD.replace(b"\n\n", b"\n"),
        GOOD.replace(b"\n\n", b"\r\n"),
        GOOD.replace(b"\n\n", b"\r"),
        GOOD.replace(b"data: ", b"data: data: "),
        GOOD.replace(b"data: ", b"data: data: ").replace(b"\n\n", b"\n"),
        GOOD.removesuffix(DONE).removesuffix(b"\n\n"),
        GOOD.removesuffix(b"\n\n"),
        GOOD.replace(b"[DONE]", b" [DONE] "),
        GOOD.replace(b"[DONE]", b"[DONE]\n\ndata: [DONE]"),
        b"x-trace: 1\nunknown\n" + GOOD,
        GOOD.replace(b"data: {", b"data: {\ndata:  "),
        GOOD.replace(b"data: {", b"data: \xef\xbb\xbf{"),
        # Frames that hold nothing of the answer.
        HELLO[:-2] + b"\n\ndata: {oops\n\n" + piece(finish="stop"),
        HELLO + b"data: ok\n\n" + piece(finish="stop"),
        HELLO + b"data: \xff\n\n" + piece(finish="stop"),
        HELLO + b"<!-- a proxy was here -->\n\n" + piece(finish="stop"),
        # NaN and Infinity where no number was asked for; a control character is no matter.
        GOOD.replace(b'"index":0', b'"index":0,"logprob":-Infinity,"p":NaN,"q":1e999'),
        # JSON in one piece, in several, and a line each.
        event({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})[6:],
        b"\xef\xbb\xbf \n"
        + event(
            {"choices": [{"text": "", "message": {"content": "Hello"}, "finish_reason": "stop"}]}
        )[6:],
        GOOD.replace(b"data: ", b"").replace(b"\n\n", b"\n"),
        b"["
        + GOOD.removesuffix(DONE)
        .removesuffix(b"\n\n")
        .replace(b"data: ", b"")
        .replace(b"\n\n", b",")
        + b"]",
    ],
)
async def test_a_right_answer_in_any_shape(body: bytes, size: int) -> None:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    answer, sheet = await chat(stream(*parts))
    assert (sheet.text, sheet.heads, answer.ended) == ("Hello", 1, True)


@pytest.mark.parametrize(
    "kind",
    [
        *(None, "", "text/plain", "Text/Event-Stream;Charset=UTF-8", "application/octet-stream"),
        *("text/html", "application/json", "text/event-stream;charset=ISO-8859-1", "nonsense"),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202, 206, 299])
async def test_the_first_byte_tells_what_a_body_is(kind: str | None, status: int) -> None:
    headers = {} if kind is None else {"content-type": kind}
    whole = {"choices": [{"message": {"content": "你好 é"}, "finish_reason": "stop"}]}
    for body in (piece("你好 é", "stop") + DONE, orjson.dumps(whole)):
        reply = httpx.Response(status, headers=headers, stream=Script([body]))
        answer, sheet = await chat(reply)
        assert (sheet.text, sheet.accepted, answer.ended) == ("你好 é", True, True)


async def test_a_page_is_reported_by_its_title_whatever_its_type_is() -> None:
    page = b"\n <!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"
    for kind in ("text/html", "application/json", "text/event-stream"):
        reply = httpx.Response(200, headers={"content-type": kind}, stream=Script([page]))
        error = await failure(reply)
        assert type(error) is UpstreamInvalid
        assert "Just a moment..." in str(error)


def named(content: str) -> bytes:
    """A piece whose text is written as it stands in JSON."""
    return event(b'{"choices":[{"index":0,"delta":{"content":"' + content.encode() + b'"}}]}')


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([r"a\ud83d", r"\ude00b"], "a😀b"),
        ([r"\ud83d\ude00", r"\ud83d", r"\udc80"], "😀💀"),
        ([r"a\ud83d", "b"], "a\ufffdb"),
        ([r"\ude00", "b"], "\ufffdb"),
        (["a", r"b\ud83d"], "ab\ufffd"),
        (["tab\tfeed\x0cescape\x1b"], "tab\tfeed\x0cescape\x1b"),
    ],
)
async def test_the_halves_of_a_character_are_joined(pieces: list[str], text: str) -> None:
    answer, sheet = await chat(stream(*map(named, pieces), piece(finish="stop"), DONE))
    assert sheet.text == text
    assert answer.ended


async def test_a_character_cut_between_two_frames_comes_whole() -> None:
    whole = named("a😀b你").split("你".encode())
    cut = whole[0].index("😀".encode()) + 2
    end = b'"}}]}\n\n'
    head = named("").removesuffix(end)
    parts = [whole[0][:cut] + end, head + whole[0][cut:] + whole[1]]
    _, sheet = await chat(stream(*parts, piece(finish="stop"), DONE))
    assert sheet.text == "a😀b"


@pytest.mark.parametrize("content", [b"\xff", b"a\xc3(", b"\xed\xa0\x80x", b"\xf0\x9f\x98x"])
async def test_a_piece_with_bytes_of_no_character_is_no_answer(content: bytes) -> None:
    bad = named("@").replace(b"@", content)
    error = await failure(stream(HELLO, bad, piece(finish="stop"), DONE))
    assert type(error) is UpstreamInvalid
    assert "not UTF-8" in str(error)


async def test_a_usage_after_done_counts() -> None:
    usage = event({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}})
    answer, sheet = await chat(stream(GOOD, usage, piece(" and more")))
    assert (sheet.text, answer.usage and answer.usage["completion_tokens"]) == ("Hello", 3)


async def test_what_is_left_out_is_logged_without_its_contents(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await chat(stream(HELLO, b"data: a secret\n\n", piece(finish="stop"), DONE))
    (record,) = [r for r in caplog.records if "left out" in r.message]
    assert "8 bytes" in record.message
    assert "secret" not in record.message


async def test_an_answer_without_text_says_what_could_not_be_read() -> None:
    error = await failure(stream(event(b"quota of the day used up"), piece(finish="stop"), DONE))
    assert "quota of the day used up" in str(error)


async def test_the_text_of_an_answer_is_bounded() -> None:
    parts = [piece("x" * (1 << 20))] * 40
    error = await failure(stream(*parts, piece(finish="stop"), DONE))
    assert type(error) is UpstreamTooLarge


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_where_the_parts_are_cut_makes_no_difference(size: int) -> None:
    body = piece("你好🌍") + piece("é", finish="stop") + DONE
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    assert (await chat(stream(*parts)))[1].text == "你好🌍é"


async def test_what_could_have_become_a_tag_is_not_lost_at_the_end() -> None:
    assert (await chat(stream(piece("<thi", finish="stop"), DONE)))[1].text == "<thi"
    sheet = Sheet()
    await failure(stream(piece(" \n<th"), httpx.ReadError("reset")), sheet=sheet)
    assert sheet.text == " \n<th"


async def test_nothing_but_thinking_is_an_answer_without_text() -> None:
    _, sheet = await chat(stream(piece("<think>h"), piece("m</think>\n", "stop"), DONE))
    assert (sheet.thoughts, sheet.text) == ("hm", "")


async def test_nothing_after_the_result_of_a_tool_is_an_answer_without_text() -> None:
    asked = [*ASK, {"role": "tool", "tool_call_id": "a", "content": "42"}]
    async with client(in_turn([stream(piece(finish="stop"), DONE)])) as made:
        answer = await made.chat(upstream(), asked, {}, Sheet())
    assert answer.finish_reason == "stop"


async def test_a_reason_in_each_frame_and_a_cut_is_no_answer() -> None:
    frames = [piece("Hello", "stop"), piece(" world", "stop")]
    for end in ([httpx.ReadError("reset")], []):
        error = await failure(stream(*frames, *end))
        assert type(error) is UpstreamDisconnected


async def test_separators_of_lines_inside_json_are_text() -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    raw = orjson.dumps({"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]})
    assert "\u2028".encode() in raw
    assert (await chat(stream(event(raw), DONE)))[1].text == text


@pytest.mark.parametrize("before", [b"", b"\n\n\n", b" \r\n"])
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
async def test_an_answer_that_does_not_stream(before: bytes, kind: str) -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning": "hm"}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}}
    body = before + orjson.dumps(whole)
    reply = httpx.Response(200, headers={"content-type": kind}, content=body)
    answer, sheet = await chat(reply)
    assert (sheet.text, sheet.thoughts) == ("Hello", "hm")
    assert answer.usage is None


async def test_thinking_tool_calls_and_usage_come_together() -> None:
    add = {"index": 0, "id": "c", "function": {"name": "add", "arguments": "{"}}
    rest = {"index": 0, "function": {"arguments": "}"}}
    answer, sheet = await chat(
        stream(
            piece(reasoning_content="hm"),
            piece(tool_calls=[add]),
            piece(tool_calls=[rest], finish="tool_calls"),
            event({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}),
            DONE,
        )
    )
    assert (sheet.thoughts, sheet.text) == ("hm", "")
    assert [delta.call["function"] for delta in sheet.deltas if delta.call] == [
        {"name": "add", "arguments": "{"},
        {"arguments": "}"},
    ]
    assert answer.usage == {"prompt_tokens": 2, "completion_tokens": 3}


async def test_how_the_connection_ends_after_the_answer_concerns_no_client() -> None:
    for end in (GOOD, GOOD.removesuffix(DONE)):
        for last in (httpx.ReadError("reset"), b"\xff", b"data: {\n\n", b"x" * (9 << 20)):
            assert (await chat(stream(end, last)))[1].text == "Hello"


# Wrong answers --------------------------------------------------------------------------------

WRONG: list[tuple[str, httpx.Response, type[ProviderError], str]] = [
    ("cut", stream(HELLO), UpstreamDisconnected, "in the middle"),
    ("reset", stream(HELLO, httpx.ReadError("x")), UpstreamDisconnected, "connection broke: x"),
    ("no text", stream(piece(finish="stop"), DONE), EmptyAnswer, "without any text"),
    ("nothing", stream(b""), UpstreamDisconnected, "sent nothing"),
    ("white space", stream(b" \r\n\n"), UpstreamDisconnected, "sent nothing"),
    ("only done", stream(DONE), EmptyAnswer, "without any text"),
    ("broken JSON", stream(HELLO, event(b'{"choices":[')), UpstreamInvalid, "broken JSON"),
    ("no object", stream(HELLO, event([1])), UpstreamDisconnected, "in the middle"),
    ("bad UTF-8", stream(HELLO, b"data: \xff\xfe\n\n"), UpstreamInvalid, "not UTF-8"),
    (
        *("error", stream(HELLO, event({"error": {"message": "m", "code": 429}}), DONE)),
        *(RateLimited, "broke off: m"),
    ),
    ("huge", stream(HELLO, *[b"x" * (1 << 20)] * 100), UpstreamTooLarge, "limits.answer_mb"),
    ("huge body", stream(b"{", *[b"x" * (1 << 20)] * 100), UpstreamTooLarge, "limits.answer_mb"),
    ("page", httpx.Response(200, html="<h1>Sorry</h1>"), UpstreamInvalid, "Sorry"),
    ("page later", stream(HELLO, b"<h1>Sorry</h1>\n"), UpstreamOverloaded, "Sorry"),
    ("words", stream(b"upstream is busy"), UpstreamInvalid, "upstream is busy"),
    ("words as data", stream(HELLO, event(b"request timed out")), UpstreamOverloaded, "timed out"),
    (
        *("bare error later", stream(HELLO, b'{"error": {"message": "m", "code": 429}}\n')),
        *(RateLimited, "broke off: m"),
    ),
    (
        *("named error", stream(HELLO, b'event: error\ndata: {"detail": "m"}\n\n')),
        *(UpstreamOverloaded, "broke off: m"),
    ),
    (
        *("list of errors", httpx.Response(200, json=[{"error": {"message": "m", "code": 429}}])),
        *(RateLimited, "broke off: m"),
    ),
    ("JSON error", httpx.Response(200, json={"error": "m"}), UpstreamOverloaded, "broke off: m"),
    ("JSON cut", httpx.Response(200, json={"choices": []}), UpstreamDisconnected, "middle"),
    (
        *("JSON bad UTF-8",),
        httpx.Response(200, headers={"content-type": "application/json"}, content=b'{"a":"\xff"}'),
        *(UpstreamInvalid, "not UTF-8"),
    ),
    (
        *("broken gzip",),
        httpx.Response(
            200,
            headers=STREAM | {"content-encoding": "gzip"},
            stream=Script([b"\x1f\x8bno gzip at all"]),
        ),
        *(UpstreamInvalid, "not the gzip"),
    ),
    (
        *("unasked encoding",),
        httpx.Response(200, headers=STREAM | {"content-encoding": "br"}, stream=Script([b"x"])),
        *(UpstreamInvalid, "'br', which was not asked for"),
    ),
    ("redirect", httpx.Response(307, headers={"location": "/x"}), UpstreamInvalid, "307"),
    ("no content", httpx.Response(204), UpstreamInvalid, "204"),
    (
        *("refused", httpx.Response(401, json={"error": {"message": "m"}})),
        *(AuthUnexplained, "401: m"),
    ),
    ("no key", httpx.Response(401, json={"error": {"message": "no API key"}}), UpstreamAuth, "API"),
    ("gone", httpx.Response(410, json={"detail": "ended"}), ModelGone, "410: ended"),
]


@pytest.mark.parametrize(
    ("reply", "kind", "text"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
async def test_a_wrong_answer_is_the_right_error(
    reply: httpx.Response, kind: type[ProviderError], text: str
) -> None:
    sheet = Sheet()
    error = await failure(reply, sheet=sheet)
    assert type(error) is kind
    assert text in str(error)
    assert sheet.text in ("", "Hello")
    # A refusal is an answer of the provider, but no beginning of what was asked for: an
    # agent gateway that says 503 has not acted.
    assert (sheet.heads, sheet.accepted) == (1, reply.status_code == 200)
    assert reply.is_closed


async def test_the_text_that_a_preset_takes_for_none() -> None:
    empty = upstream(preset=Preset(empty_answers=frozenset({"No response."})))
    with pytest.raises(EmptyAnswer):
        await chat(stream(piece("No "), piece("response.", finish="stop"), DONE), account=empty)


async def test_redirects_are_not_followed() -> None:
    with respx.mock(assert_all_called=False) as router:
        router.post(CHAT).respond(307, headers={"location": "http://elsewhere.test/"})
        elsewhere = router.route(host="elsewhere.test").respond(headers=STREAM, content=GOOD)
        async with client(httpx.MockTransport(router.async_handler)) as made:
            with pytest.raises(UpstreamInvalid):
                await made.chat(upstream(), ASK, {}, Sheet())
    assert not elsewhere.called


async def test_no_cookie_of_one_call_goes_out_with_the_next() -> None:
    with respx.mock as router:
        headers = STREAM | {"set-cookie": "session=1; Path=/"}
        route = router.post(CHAT).respond(headers=headers, content=GOOD)
        async with client(httpx.MockTransport(router.async_handler)) as made:
            for _ in range(2):
                await made.chat(upstream(), ASK, {}, Sheet())
    assert "cookie" not in route.calls.last.request.headers


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("12", 12.0), ("1.5", 1.5), (None, None), ("soon", None), ("-3", None)),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),  # virtual time 0 is 08:00
        ("Fri, 15 Jan 2027 07:00:00 GMT", None),
    ],
)
async def test_retry_after(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"retry-after": header}
    for status in (429, 503):
        assert (await failure(httpx.Response(status, headers=headers))).retry_after == seconds


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_key_that_the_provider_echoes_is_in_no_message(status: int) -> None:
    for echo in ({"error": {"message": f"bad {KEY}"}}, f"bad {KEY}", {"error": f"x{KEY}y"}):
        text = repr(await failure(httpx.Response(status, json=echo)))
        assert KEY not in text
        assert "[key]" in text


async def test_a_key_echoed_in_a_stream_is_in_no_message() -> None:
    text = repr(await failure(stream(event({"error": {"message": f"bad {KEY}"}}))))
    assert KEY not in text


@pytest.mark.parametrize("kind", ["ending", "unknown field", "name of a field", "broken head"])
async def test_a_key_that_comes_back_in_another_place_is_in_no_message(kind: str) -> None:
    reply: httpx.Response | Exception = stream(piece("x", finish=f"error {KEY}"), DONE)
    if kind == "unknown field":
        reply = stream(event({"Authorization": f"Bearer {KEY}", "x": 1}), DONE)
    elif kind == "name of a field":
        reply = stream(event({KEY: 1}), DONE)
    elif kind == "broken head":
        reply = httpx.ReadError(f"Bad status line: Authorization: {KEY}")
    try:
        ending = (await chat(reply))[0].ending
        text = ending.word if ending else ""
    except ProviderError as error:
        text = str(error)
    assert text
    assert KEY[:12] not in text


async def test_no_more_of_an_explanation_is_read_than_fits() -> None:
    body = Script([*[b"x" * 4096] * 17, RuntimeError("read on and on")])
    error = await failure(httpx.Response(500, stream=body))
    assert type(error) is UpstreamOverloaded
    assert body.closed
    assert len(str(error)) < ERROR_BYTES


async def test_the_status_is_enough_where_the_explanation_breaks() -> None:
    body = Script([b"{", httpx.ReadError("reset")])
    assert type(await failure(httpx.Response(402, stream=body))) is QuotaExhausted


# Connecting -----------------------------------------------------------------------------------

CONNECTOR = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (httpx.ConnectTimeout("x"), ConnectTimeout, "within 10 s"),
        (httpx.ConnectError("refused"), UpstreamDisconnected, "cannot connect: refused"),
        (httpx.ReadError("reset"), UpstreamDisconnected, "broke: reset"),
        (httpx.ReadError(""), UpstreamDisconnected, "broke"),
        (httpx.UnsupportedProtocol("ws"), UpstreamInvalid, "not an address"),
        (
            *(caused(httpx.ConnectTimeout("x"), aiohttp.ConnectionTimeoutError("y")),),
            *(ConnectTimeout, "within 10 s"),
        ),
        (
            *(caused(httpx.ConnectTimeout("x"), aiohttp.ServerDisconnectedError("left")),),
            *(UpstreamDisconnected, "broke: left"),
        ),
        (
            caused(
                httpx.ConnectError("x"), aiohttp.ClientConnectorError(CONNECTOR, OSError(111, "no"))
            ),
            *(UpstreamDisconnected, "cannot connect"),
        ),
        (aiohttp.ClientPayloadError("half"), UpstreamDisconnected, "broke: half"),
        (ConnectionResetError("gone"), UpstreamDisconnected, "broke: gone"),
        (httpx.InvalidURL("odd"), UpstreamInvalid, "not an address: odd"),
    ],
)
async def test_what_the_libraries_raise_is_translated(
    raised: Exception, kind: type[ProviderError], text: str
) -> None:
    sheet = Sheet()
    error = await failure(raised, sheet=sheet)
    assert type(error) is kind
    assert text in str(error)
    assert sheet.heads == 0


@pytest.mark.parametrize(
    "address", ["http://", "http://[", "http://h:99999", "ftp://h", "http://" + "a" * 300 + ".test"]
)
async def test_an_address_that_is_none(address: str) -> None:
    async with client(first_token_s=20) as made:
        with pytest.raises((UpstreamInvalid, UpstreamDisconnected)):
            await made.chat(upstream(address), ASK, {}, Sheet())


async def test_what_headers_tell_of_the_limits_reaches_the_gate() -> None:
    account = upstream()
    limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}
    reply = httpx.Response(200, headers=STREAM | limits, content=GOOD)
    await chat(reply, account=account)
    assert 8 < account.gate.wait() <= 9
    refusal = httpx.Response(429, headers=limits | {"x-ratelimit-reset-requests": "1m"})
    with pytest.raises(RateLimited) as found:
        await chat(refusal, account=account)
    assert found.value.retry_after == 60
    assert account.gate.wait() <= 9, "what a refusal asks for is weighed once, with its body"


async def test_all_answers_under_way_have_a_room_together() -> None:
    room = AnswerRoom(Limits(memory_mb=128, answer_mb=4))  # 8 MB for all
    room.held = 7 << 20
    room.check(3 << 20)
    room.held = 9 << 20
    room.check(LEAST)  # a small one is never cut for what others hold
    with pytest.raises(UpstreamTooLarge, match=r"more than 8 MB together.*this one 3 MB"):
        room.check(3 << 20)
    room.apply(Limits(memory_mb=1280, answer_mb=4))
    room.check(3 << 20)
    with pytest.raises(UpstreamTooLarge, match=r"larger than 4 MB"):
        room.check((4 << 20) + 1)
