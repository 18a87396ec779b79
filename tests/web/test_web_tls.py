"""TLS: https and wss, the renewal of the certificate, handshakes that come to nothing."""

import asyncio
import json
import logging
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from asyncsvc.config.settings import Settings
from asyncsvc.errors import SettingsError
from asyncsvc.lifecycle.reload import Reloader
from asyncsvc.net.tls import server_context
from asyncsvc.server import serve
from tests.web.serving import Service, expect, refused, serving
from tests.web.wire import Wire, head

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
TRUSTED = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")


def install(folder: Path, name: str) -> dict[str, Any]:
    """Put a certificate and its key into the folder; the settings that name them."""
    for kind in ("pem", "key"):
        shutil.copy(CERTIFICATES / f"{name}.{kind}", folder / f"live.{kind}")
    return {"certfile": str(folder / "live.pem"), "keyfile": str(folder / "live.key")}


@asynccontextmanager
async def secured(folder: Path, **server: Any) -> AsyncIterator[Service]:
    settings = install(folder, "first") | {"client_timeout_s": 0.5} | server
    async with serving(folder, server=settings) as service:
        yield service


@asynccontextmanager
async def tls_wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=TRUSTED)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def name_of(line: Wire) -> str:
    """The name in the server's certificate."""
    certificate = line.writer.get_extra_info("peercert")
    return str(certificate["subject"][0][0][1])


async def test_tasks_and_sockets_work_over_tls(tmp_path: Path) -> None:
    async with secured(tmp_path) as service:
        assert service.url.startswith("https://")
        task = await service.http.post("/tasks", json={"content": "hello", "model": "fast"})
        task_id = expect(task, 202)["task_id"]
        assert "max-age=" in task.headers["strict-transport-security"]
        url = f"wss://127.0.0.1:{service.port}/ws/tasks/{task_id}"
        async with connect(url, ssl=TRUSTED, proxy=None) as socket:
            events = [json.loads(event) async for event in socket]
        assert events[-1]["data"]["status"] == "completed"


async def test_a_page_of_plain_http_is_another_site(tmp_path: Path) -> None:
    async with secured(tmp_path) as service:
        host = f"127.0.0.1:{service.port}"
        body = {"content": "hello", "model": "fast"}
        own = await service.http.post("/tasks", json=body, headers={"origin": f"https://{host}"})
        assert own.status_code == 202
        plain = await service.http.post("/tasks", json=body, headers={"origin": f"http://{host}"})
        refused(plain, 403, "forbidden_origin")


async def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    async with secured(tmp_path) as service:
        old = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", service.port, ssl=old)


@pytest.fixture
def reloaders(monkeypatch: pytest.MonkeyPatch) -> list[Reloader]:
    """The reloaders of the services that are opened."""
    found: list[Reloader] = []
    plain = Reloader.__init__

    def kept(self: Reloader, *parts: Any, **more: Any) -> None:
        plain(self, *parts, **more)
        found.append(self)

    monkeypatch.setattr(Reloader, "__init__", kept)
    return found


async def test_a_certificate_is_renewed_and_no_connection_is_dropped(
    tmp_path: Path, reloaders: list[Reloader]
) -> None:
    async with secured(tmp_path) as service, tls_wire(service.port) as line:
        assert name_of(line) == "first"
        install(tmp_path, "second")
        await reloaders[0].reload()
        assert (await line.ask(head("GET", "/livez"))).status == 200
        async with tls_wire(service.port) as later:
            assert name_of(later) == "second"
        shutil.copy(CERTIFICATES / "first.pem", tmp_path / "live.pem")
        with pytest.raises(SettingsError, match="KEY VALUES MISMATCH"):
            await reloaders[0].reload()
        answer = await service.http.post("/admin/reload")
        refused(answer, 422, "invalid_request")
        async with tls_wire(service.port) as later:
            assert name_of(later) == "second"


async def silent(port: int, sent: bytes = b"") -> bytes:
    """What comes until the server closes a connection that makes no handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_handshake_that_does_not_come_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with secured(tmp_path) as service:
            sent = [b"", b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"\x16\x03\x01", b"\0" * 999]
            received = await asyncio.gather(*(silent(service.port, each) for each in sent))
            assert b"200" not in b"".join(received)
            async with tls_wire(service.port) as line:
                assert (await line.ask(head("GET", "/livez"))).status == 200
    assert caplog.text == ""


async def test_only_so_many_handshakes_are_under_way(tmp_path: Path) -> None:
    async with (
        secured(tmp_path, max_connections=3, client_timeout_s=60) as service,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            stack.callback(writer.close)
        await asyncio.sleep(0.1)
        assert await silent(service.port) == b""


async def test_what_is_sent_over_tls_and_not_read_does_not_hold_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncsvc.web.http.connections import Connections

    monkeypatch.setattr(Connections.__init__, "__defaults__", (0.3,))
    async with secured(tmp_path, max_connections=1) as service:
        async with tls_wire(service.port) as line:
            task = {"content": "y" * 5_000_000, "delay_s": 3600}
            body = json.dumps(task).encode()
            sent = head("POST", "/tasks", f"content-length: {len(body)}") + body
            task_id = (await line.ask(sent)).json()["task_id"]
        # Systems have room for megabytes that are not read; this socket has not.
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        small.connect(("127.0.0.1", service.port))
        small.setblocking(False)
        reader, writer = await asyncio.open_connection(
            sock=small, ssl=TRUSTED, server_hostname="127.0.0.1", limit=1
        )
        writer.write(head("GET", f"/tasks/{task_id}"))
        async with asyncio.timeout(20):
            while True:
                async with tls_wire(service.port) as line:
                    if (await line.ask(head("GET", "/tasks?limit=1"))).status == 200:
                        break
                await asyncio.sleep(0.1)
        writer.transport.abort()
        del reader


FAULTS = {
    "no file": ("none.pem", "live.key", "certfile"),
    "no key": ("live.pem", "none.key", "keyfile"),
    "another key": ("live.pem", "other.key", "MISMATCH"),
    "no certificate": ("live.key", "live.key", "NOT PEM"),
    "a folder": (".", "live.key", "certfile"),
}


@pytest.mark.parametrize(("certfile", "keyfile", "word"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, certfile: str, keyfile: str, word: str
) -> None:
    install(tmp_path, "first")
    shutil.copy(CERTIFICATES / "second.key", tmp_path / "other.key")
    with pytest.raises(SettingsError) as caught:
        server_context(str(tmp_path / certfile), str(tmp_path / keyfile))
    assert len(caught.value.lines) == 1
    assert word in caught.value.lines[0]


@pytest.mark.parametrize(
    ("server", "warned"),
    [
        ({}, True),
        ({"trusted_proxies": ["10.0.0.1"]}, False),
        ({"certfile": "x", "keyfile": "y"}, False),
        ({"host": "127.0.0.1"}, False),
    ],
)
async def test_tokens_in_plain_http_are_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, server: dict[str, Any], warned: bool
) -> None:
    if "certfile" in server:
        server = server | install(tmp_path, "first")
    server = {"host": "0.0.0.0", "port": 0, "grace_s": 0} | server
    storage = {"path": str(tmp_path / "tasks.db")}
    settings = Settings.model_validate({"server": server, "storage": storage})

    async def at_once(_: str) -> None:
        return

    with caplog.at_level(logging.WARNING, "asyncsvc.server"):
        await serve(settings, {"ASYNCSVC_TOKENS": "secret"}, lambda _: None, at_once)
    lines = [record.message for record in caplog.records if record.name == "asyncsvc.server"]
    assert [("server.certfile" in line) for line in lines] == [True] * warned
    assert "secret" not in caplog.text
