"""Calls of the service: what is sent, by which way, and what an error says."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from asyncsvc.cli.client import Address, Api, Unreachable, decoded
from asyncsvc.cli.failures import Failure
from tests.cli.scripted_service import scripted_service

HERE = Address("http://127.0.0.1:8000")


def error(code: str) -> bytes:
    return json.dumps({"error": {"message": f"it is {code}", "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "helps"),
    [
        (429, "queue_full", True),
        (429, "rate_limited", True),
        (503, "overloaded", True),
        (503, "shutting_down", True),
        (503, "no_model", False),
        (503, "sandbox_unavailable", False),
        (400, "invalid_json", False),
        (409, "illegal_transition", False),
        (422, "invalid_request", False),
        (500, "internal", False),
    ],
)
def test_waiting_is_advised_only_where_it_helps(status: int, code: str, helps: bool) -> None:
    with pytest.raises(Failure) as caught:
        decoded(status, error(code), HERE, "7")
    hint = " (try again in 7 s)" if helps else ""
    assert str(caught.value) == f"it is {code}{hint}"


def test_a_missing_token_is_named() -> None:
    with pytest.raises(Failure, match=r"it is unauthorized \(put it into the variable ASYNC"):
        decoded(401, error("unauthorized"), HERE, "7")


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"\xff"),
        (502, b"<html>"),
        (502, b""),
        (404, b'{"detail": "no"}'),
        (404, b'{"error": "no"}'),
        (404, b"[]"),
    ],
)
def test_an_answer_of_something_else_is_one_line(status: int, content: bytes) -> None:
    with pytest.raises(Failure, match=rf"{status} without JSON: is it asyncsvc") as caught:
        decoded(status, content, HERE)
    assert "\n" not in str(caught.value)


def test_what_is_sent() -> None:
    with scripted_service() as service:
        service.answers["POST /tasks"] = {"task_id": "t"}
        service.answers["GET /tasks"] = {"tasks": []}
        service.answers["POST /prefix/admin/import"] = {"imported": 1}
        api = Api(Address(service.url, "a token"))
        api.post("/tasks", {"content": "你好"})
        api.get("/tasks", {"q": "a b&c", "limit": 2, "status": None})
        Api(Address(f"{service.url}/prefix")).send("/admin/import", b"{}", {"first_line": 1})
        api.discard("/nothing")
    assert service.requests == [
        ("POST", "/tasks", {"content": "你好"}),
        ("GET", "/tasks?q=a%20b%26c&limit=2", None),
        ("POST", "/prefix/admin/import?first_line=1", {}),
        ("DELETE", "/nothing", None),
    ]


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_service() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "inside.example")
        far = Address("http://tasks.example:81", direct=False)
        proxy.answers["GET http://tasks.example:81/models"] = {"models": []}
        assert Api(far).get("/models") == {"models": []}
        with pytest.raises(Unreachable, match=r"the proxy refused: Tunnel connection failed: 501"):
            monkeypatch.setenv("https_proxy", proxy.url)
            Api(Address("https://tasks.example", direct=False)).get("/models")
        assert len(proxy.requests) == 1
        with pytest.raises(Unreachable, match=r"inside\.example"):
            Api(Address("http://inside.example:1", direct=False), 0.01).get("/models")
        assert len(proxy.requests) == 1
        monkeypatch.setenv("http_proxy", "socks5://user:secret@127.0.0.1:1")
        with pytest.raises(Failure, match="no http proxy: socks5://127") as caught:
            Api(far).get("/models")
        assert "secret" not in str(caught.value)


@contextmanager
def raw(answer: bytes | None) -> Generator[str]:
    """A server that reads one request and sends these bytes; None: it never answers."""
    over = threading.Event()

    def serve() -> None:
        link, _ = listener.accept()
        with link:
            link.recv(65536)
            if answer is None:
                over.wait(60)
            else:
                link.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "head", ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
def test_a_download_that_is_cut_is_no_whole_one(head: str) -> None:
    with raw(f"HTTP/1.1 200 OK\r\n{head}".encode()) as url:
        parts = Api(Address(url)).download("/export")
        with pytest.raises(Failure, match="broke off in the middle"):
            list(parts)


@pytest.mark.parametrize("answer", [b"", b"no HTTP at all\r\n\r\n"])
def test_what_speaks_no_http_is_no_service(answer: bytes) -> None:
    with raw(answer) as url, pytest.raises(Unreachable, match="no answer"):
        Api(Address(url)).get("/models")


def test_a_service_that_does_not_answer_is_waited_for_no_longer_than_the_limit() -> None:
    with raw(None) as url, pytest.raises(Unreachable, match="took too long to answer"):
        Api(Address(url), answer_s=0.05).get("/models")


def test_an_error_of_a_download_is_that_of_the_service() -> None:
    with scripted_service() as service:
        answer: Any = {"error": {"message": "there is no such task", "code": "task_not_found"}}
        service.answers["GET /export"] = (404, answer)
        with pytest.raises(Failure, match="there is no such task"):
            list(Api(Address(service.url)).download("/export"))
