"""Errors of calls name the model, the address, the variable, the key's end, and the remedy."""

import errno
import socket
import ssl
from types import SimpleNamespace
from typing import cast

import aiohttp
import pytest

from asyncsvc.errors import (
    AuthUnexplained,
    ModelGone,
    ModelUnexplained,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamRejected,
)
from asyncsvc.providers.explained import broken, explained, unconnected
from asyncsvc.providers.upstream import Upstream

KEY = "sk-" + "0123456789abcdefghij"
WORDS = "the provider answered 4xx: its words"


def upstream(key: str | None = KEY, base_url: str = "https://u:p@host/v1") -> Upstream:
    found = SimpleNamespace(
        name="mine", base_url=base_url, key=key, variable="MY_KEY", model_id="some-id"
    )
    return cast(Upstream, found)


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (UpstreamAuth(WORDS), "set a valid key, then reload: https://host/v1 refuses the key in "),
        (AuthUnexplained(WORDS), "check the key in MY_KEY (…ghij) and the address"),
        (QuotaExhausted(WORDS), "top up the account"),
        (ModelGone(WORDS), "set models.mine.model to an id that the account has: "),
        (ModelUnexplained(WORDS), "check models.mine.base_url"),
        (UpstreamRejected(WORDS), "mend the request: model mine (some-id) at https://host/v1"),
        (UpstreamDisconnected(WORDS), "model mine at https://host/v1"),
    ],
)
def test_the_remedy_stands_before_the_words_of_the_provider(
    error: ProviderError, beginning: str
) -> None:
    text = explained(error, upstream(), WORDS)
    assert text.startswith(beginning)
    assert text.endswith(f": {WORDS}")
    assert "https://host/v1" in text
    assert "u:p" not in text
    assert KEY[:-4] not in text


def test_of_a_short_key_nothing_is_shown() -> None:
    text = explained(UpstreamAuth(WORDS), upstream("short-one"), WORDS)
    assert "key in MY_KEY of" in text
    assert "one" not in text.replace(WORDS, "")


def test_without_a_key_the_setting_is_named() -> None:
    assert "models.mine.api_key_env" in explained(UpstreamAuth(WORDS), upstream(None), WORDS)


def test_what_asks_to_slow_down_stays_as_it_is() -> None:
    assert explained(RateLimited(WORDS), upstream(), WORDS) == WORDS


def test_an_address_that_is_none_is_no_fault_of_ours() -> None:
    assert "none" in explained(UpstreamDisconnected("x"), upstream(base_url="http://["), "x")


def connector(error: OSError) -> aiohttp.ClientConnectorError:
    key = SimpleNamespace(host="a.example", port=81, ssl=True, is_ssl=False)
    return aiohttp.ClientConnectorError(cast(aiohttp.client_reqrep.ConnectionKey, key), error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "nothing listens at a.example:81"),
        (socket.gaierror(-2, "Name or service not known"), "the name a.example is not known"),
        (ssl.SSLError(1, "wrong version number"), "no TLS at a.example:81"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "network is unreachable"),
    ],
)
def test_a_connection_that_cannot_be_made_is_put_into_words(error: OSError, words: str) -> None:
    text = unconnected(connector(error))
    assert words in text
    assert "Errno" not in text
    assert "ssl:" not in text


def test_a_connection_that_broke_is_put_into_words() -> None:
    reset = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert broken(reset) == "the connection broke: connection reset by peer"
    assert "without an answer" in broken(aiohttp.ServerDisconnectedError())
    assert broken(OSError()) == "the connection broke: OSError"
