"""One POST, over real sockets."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from asyncsvc.net.egress import Egress
from asyncsvc.net.pinned import Lookup, PinnedAddresses, Resolver
from asyncsvc.webhooks.posting import Answer, post
from tests.hooks import flood, hang_up, interim, nonsense, receiving, silence, slow_body, status

HERE = Egress(["127.0.0.1/32"])


async def unasked(host: str, port: int) -> list[str]:
    raise AssertionError("no name may be looked up")


def names(*answers: Sequence[str]) -> Lookup:
    """A name server that answers each question differently."""
    left = list(answers)

    async def lookup(host: str, port: int) -> list[str]:
        return list(left.pop(0))

    return lookup


async def send(
    url: str, egress: Egress = HERE, lookup: Lookup = unasked, timeout_s: float = 20
) -> Answer:
    async with asyncio.timeout(30):
        return await post(egress, url, b'{"a":1}', {"webhook-id": "x-1"}, timeout_s, lookup)


async def test_a_post_arrives_as_it_was_given() -> None:
    async with receiving(status(201, "Retry-After: 7")) as receiver:
        answer = await send(receiver.url + "?q=a%20b#f")
    assert answer == Answer(201, None, "7")
    (got,) = receiver.posts
    assert got.line == "POST /done?q=a%20b HTTP/1.1"
    assert got.body == b'{"a":1}'
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("asyncsvc/")
    assert got.headers["webhook-id"] == "x-1"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "accept-encoding" not in got.headers
    assert "cookie" not in got.headers


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as inner:
        location = f"Location: {inner.url}"
        async with receiving(status(307, location), status(302, location)) as receiver:
            assert (await send(receiver.url)).status == 307
            assert (await send(receiver.url)).status == 302
        assert inner.posts == []


async def test_an_address_that_is_not_admitted_is_never_connected() -> None:
    async with receiving() as receiver:
        answer = await send(receiver.url, Egress())
        assert answer.refused
        assert answer.error is not None
        assert "127.0.0.1 is loopback" in answer.error
        assert receiver.posts == []


async def test_a_name_is_asked_once_and_what_was_judged_is_what_is_connected() -> None:
    async with receiving() as receiver:
        rebinding = names(["127.0.0.1"], ["10.0.0.1"])
        url = f"http://hooks.example:{receiver.port}/done"
        assert (await send(url, lookup=rebinding)).status == 204
        assert receiver.posts[0].headers["host"] == f"hooks.example:{receiver.port}"
        second = await send(url, lookup=rebinding)
        assert second.refused
        assert second.status is None
        assert second.error is not None
        assert "hooks.example leads to 10.0.0.1" in second.error
        assert len(receiver.posts) == 1


async def test_a_name_that_turns_inside_after_it_was_judged_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The system's own resolver now says loopback: only what was judged may be connected.
    asked: list[object] = []

    def inside(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise AssertionError("the name was looked up a second time")

    async with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", inside)
        url = f"http://hooks.example:{receiver.port}/done"
        public = Egress()
        answer = await send(url, public, names(["203.0.113.9", "::ffff:127.0.0.1"]))
        assert answer.refused
        assert receiver.posts == []
        answer = await send(url, lookup=names(["10.0.0.1", "127.0.0.1"]))
        assert answer.status == 204
        assert asked == []


def test_the_maker_of_sockets_looks_again() -> None:
    pinned = PinnedAddresses(["127.0.0.1", "2606:4700::1"])
    family, kind, protocol = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    pinned.socket((family, kind, protocol, "", ("127.0.0.1", 80))).close()
    longer = (socket.AF_INET6, kind, protocol, "", ("2606:4700:0::1", 80, 0, 0))
    pinned.socket(longer).close()
    with pytest.raises(OSError, match="not an address that was admitted"):
        pinned.socket((family, kind, protocol, "", ("127.0.0.2", 80)))


async def test_an_address_of_ipv6_is_connected_however_it_is_written() -> None:
    try:
        async with receiving(host="::1") as receiver:
            url = f"http://[0:0:0:0:0:0:0:1]:{receiver.port}/done"
            assert (await send(url, Egress(["::1/128"]))).status == 204
    except OSError:
        pytest.skip("this machine has no IPv6")


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await send(receiver.url)).status == 204
        assert proxy.posts == []


async def test_the_status_counts_however_the_body_ends() -> None:
    async with receiving(slow_body, flood) as receiver:
        assert (await send(receiver.url, timeout_s=0.5)).status == 200
        assert (await send(receiver.url)).status == 200


async def test_no_answer_is_written_in_words() -> None:
    async with receiving(silence, hang_up, nonsense) as receiver:
        late = await send(receiver.url, timeout_s=0.05)
        assert late.error == "no answer within 0.05 s"
        for _ in range(2):
            answer = await send(receiver.url)
            assert answer.status is None
            assert not answer.refused
            assert answer.error is not None
            assert answer.error.startswith("no answer: ")
    closed = await send(receiver.url)
    assert closed.error is not None
    assert "no answer: Cannot connect" in closed.error


async def test_interim_answers_without_end_are_cut() -> None:
    async with receiving(interim) as receiver:
        answer = await send(receiver.url)
        assert answer.status is None
        assert answer.error == "no answer: more than 256 interim answers came before the response"


async def test_an_answer_of_endless_headers_is_cut() -> None:
    async with receiving(status(200, "x: " + "y" * 100_000)) as receiver:
        answer = await send(receiver.url)
        assert answer.status is None
        assert answer.error is not None


async def test_a_name_that_does_not_resolve_is_no_refusal() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    answer = await send("http://hooks.example/", lookup=lookup)
    assert answer.error == "its name cannot be resolved: Name or service not known"
    assert not answer.refused


async def test_the_system_is_asked_in_threads_of_our_own() -> None:
    resolver = Resolver("names")
    try:
        assert "127.0.0.1" in await resolver("localhost", 80)
        with pytest.raises(socket.gaierror):
            await resolver("does-not-exist.invalid", 80)
    finally:
        resolver.close()
