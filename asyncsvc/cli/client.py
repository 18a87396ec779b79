"""HTTP and WebSocket client of a running service: `Api` for calls, `follow`, `feed` for events.

The address is that of --url, of ASYNCSVC_URL, or host and port of the settings. An answer
that is no JSON is a `Failure` of one line. Calls are never repeated; event streams reconnect
and give each numbered event once and in order.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from asyncsvc.cli.options import MISUSED, Failure, program, settings_file
from asyncsvc.config.load import load
from asyncsvc.config.settings import is_loopback
from asyncsvc.errors import SettingsError

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}
"""Addresses that a server listens on but no client can call."""


@dataclass(frozen=True, slots=True)
class Address:
    """Address of a service; `url` has no slash at its end."""

    url: str
    token: str | None = field(default=None, repr=False)
    direct: bool = True

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find(url: str | None, environ: Mapping[str, str]) -> Address:
    """Return the service's address: `url`, else that of the settings.

    Raises Failure for an unusable `url`, SettingsError for an unusable file.
    """
    found = _checked(url) if url else _of_settings(environ)
    host = urlsplit(found).hostname or ""
    return Address(found, environ.get("ASYNCSVC_TOKEN") or None, is_loopback(host))


def _checked(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise Failure(f"{url!r} is no address; one looks like http://127.0.0.1:8000", MISUSED)
    return full.rstrip("/")


def _of_settings(environ: Mapping[str, str]) -> str:
    file = settings_file(None)
    try:
        server = load(file, environ).server
    except SettingsError:
        # A service that other machines can reach needs its tokens in its own environment, not
        # in that of a client; on its own machine it answers on loopback too.
        server = load(file, environ, {"server": {"host": "127.0.0.1"}}).server
    host = ANYWHERE.get(server.host, server.host)
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"{server.scheme}://{shown}:{server.port}"


CONNECT_S = 5.0
ANSWER_S = 60.0
LONG_S = 3600.0
"""Limit for a copy or check of the whole database."""
FULL_ID = 36
"""Characters of an id. Fewer are taken for the end of one."""
PAGE_MOST = 500
"""Tasks that a page of the service holds at most."""
ALIKE = 20
"""Tasks that are read for the end of an id; one of them must be meant."""


class Unreachable(Failure):
    """No service answers at the address."""


class Api:
    """Calls of the service at an address; `reach` opens one."""

    def __init__(self, address: Address, http: httpx.Client) -> None:
        self.address = address
        self._http = http

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call("GET", path, params=given)

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        return self._call("POST", path, json=body, timeout=timeout_s)

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def send(self, path: str, content: bytes, query: Mapping[str, Any]) -> dict[str, Any]:
        """POST bytes as they are."""
        return self._call("POST", path, content=content, params=query, timeout=LONG_S)

    def discard(self, path: str) -> None:
        """DELETE; a failure does not matter."""
        with suppress(httpx.HTTPError):
            self._http.delete(path)

    def download(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[bytes]:
        """Yield the parts of an answer as they come. Raises Failure, also where it is cut."""
        try:
            with self._http.stream("GET", path, params=query, timeout=LONG_S) as answer:
                if answer.is_error:
                    answer.read()
                    decoded(answer, self.address)
                yield from answer.iter_bytes()
        except httpx.ConnectError as error:
            raise unreachable(self.address, error) from None
        except httpx.HTTPError as error:
            raise Failure(f"{self.address.url} broke off in the middle: {error}") from None

    def task(self, task_id: str) -> dict[str, Any]:
        return self.get(f"/tasks/{quote(task_id, safe='')}")

    def pages(self, query: Mapping[str, Any], most: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield pages of the list of tasks until `most` tasks, or (None) the end; each is read when
        it is asked for. A cursor in the query is where they begin."""
        cursor, left = query.get("cursor"), most
        while True:
            limit = PAGE_MOST if left is None else min(PAGE_MOST, left)
            page = self.get("/tasks", {**query, "limit": limit, "cursor": cursor})
            yield page
            left = None if left is None else left - len(page["tasks"])
            cursor = page["next_cursor"]
            if cursor is None or left == 0:
                return

    def listed(self, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield all tasks that the filters let through, newest first."""
        for page in self.pages(query):
            yield from page["tasks"]

    def command(
        self, task_id: str, verb: str, fields: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a command such as cancel or approve; return the answer, mostly the task as it then
        stands."""
        return self.post(f"/tasks/{quote(task_id, safe='')}/{verb}", fields)

    def fork(self, task_id: str, step: int | None, content: str | None) -> dict[str, Any]:
        """Start an agent that goes on after that step of another one, None: after its last step of
        which all calls of tools have ended."""
        fields = {"step": self._last_step(task_id) if step is None else step}
        return self.command(
            task_id, "fork", fields if content is None else {**fields, "content": content}
        )

    def _last_step(self, task_id: str) -> int:
        task = self.task(task_id)
        if task["status"] == "completed":
            return int(task["metadata"].get("steps") or 0)
        calls = self.get(f"/tasks/{quote(task_id, safe='')}/ledger")["calls"]
        unfinished = {call["step"] for call in calls if call["result"] is None}
        return max({call["step"] for call in calls} - unfinished, default=0)

    def resolve(self, given: str) -> str:
        """Return the id of the task whose id is or ends in `given`, as tables show only the end."""
        query = {"id_ends": given, "limit": ALIKE}
        return resolved(given, "task", lambda: self.get("/tasks", query)["tasks"])

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from None
        return decoded(answer, self.address)


def resolved(given: str, kind: str, items: Callable[[], list[dict[str, Any]]]) -> str:
    """Return the id that is or ends in `given`; `items` of this kind are asked for if needed."""
    if len(given) >= FULL_ID:
        return given
    ids = [str(item[f"{kind}_id"]) for item in items()]
    found = [one for one in ids if one.endswith(given)]
    if len(found) > 1:
        raise Failure(f"{len(found)} {kind}s end in {given!r}; give more of the id")
    if not found:
        raise Failure(f"there is no {kind} whose id is or ends in {given!r}")
    return found[0]


def decoded(answer: httpx.Response, address: Address) -> dict[str, Any]:
    """Return the JSON of an answer. Raises Failure with the service's message for an error."""
    if answer.status_code == 204:
        return {}
    try:
        body = answer.json()
        message = body["error"]["message"] if answer.is_error else None
    except (ValueError, KeyError, TypeError):
        body, message = None, f"answered {answer.status_code} without JSON"
    if message is None and isinstance(body, dict):
        return body
    if body is None:
        raise Failure(f"{address.url} {message}: is it asyncsvc that listens there?")
    hint = ""
    if answer.status_code == 401:
        hint = " (put it into the variable ASYNCSVC_TOKEN)"
    elif after := answer.headers.get("retry-after"):
        hint = f" (try again in {after} s)"
    raise Failure(f"{message}{hint}")


def unreachable(address: Address, error: Exception) -> Failure:
    """Return a Failure that names the address and how to start the service there."""
    if str(error).startswith("[SSL"):
        return untrusted(address, error)
    why = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "no answer"
    return Unreachable(
        f"cannot reach asyncsvc at {address.url} ({why}); start it with `{program()} serve`, "
        "or say where it is with --url URL or ASYNCSVC_URL"
    )


def untrusted(address: Address, error: Exception) -> Failure:
    """Return a Failure for a certificate that does not fit, or for no TLS at all."""
    return Unreachable(
        f"no trusted TLS connection to {address.url}: {error}; SSL_CERT_FILE may name the "
        "certificate of its authority, and --url the name that stands in the certificate"
    )


@contextmanager
def reach(url: str | None) -> Generator[Api]:
    """Open a client of the service. Raises Failure or SettingsError."""
    address = find(url, os.environ)
    secure = address.url.startswith("https:")
    with httpx.Client(
        base_url=address.url,
        # Python's own context knows the authorities of the system and those of SSL_CERT_FILE.
        verify=ssl.create_default_context() if secure else True,
        headers=address.headers,
        timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        trust_env=not address.direct,
    ) as http:
        yield Api(address, http)


Message = dict[str, Any]
Hello = Callable[[], tuple[str, list[Message]]]
"""Path to open and messages to send first; called for each connection, with its cursor."""
Lost = Callable[[str], None]
"""Called with the reason why a connection broke, before the next is tried."""

DONE, REFUSED, BAD, NO_TASK = 1000, 1008, 4400, 4404
FIRST_PAUSE_S = 0.2
LAST_PAUSE_S = 2.0
MOST_AWAY_S = 120.0
"""Longest absence of a service: a restart takes seconds, an hour is not a restart."""


async def messages(
    address: Address, hello: Hello, lost: Lost = lambda _: None
) -> AsyncGenerator[Message]:
    """Yield the service's messages, over as many connections as needed, until it closes with 1000.

    Raises Failure where the service refuses, and when it has been away for MOST_AWAY_S.
    """
    loop = asyncio.get_running_loop()
    last_frame, pause = loop.time(), FIRST_PAUSE_S
    while True:
        why = "no answer"
        try:
            async with _opened(address, hello) as socket:
                async for frame in socket:
                    last_frame, pause = loop.time(), FIRST_PAUSE_S
                    yield json.loads(frame)
                code, why = socket.close_code, socket.close_reason or "closed"
        except ConnectionClosed as closed:
            code, why = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "broken")
        except InvalidStatus as error:
            raise Failure(f"{address.url} refused: HTTP {error.response.status_code}") from None
        except ssl.SSLError as error:
            raise untrusted(address, error) from None
        except (OSError, InvalidHandshake, TimeoutError):
            code = None
        if code == DONE:
            return
        if code in (REFUSED, BAD, NO_TASK):
            raise Failure(f"the service closed the connection: {why or code}")
        if loop.time() - last_frame > MOST_AWAY_S:
            raise Failure(f"asyncsvc at {address.url} has been away for {MOST_AWAY_S:g} s; gave up")
        lost(why)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_PAUSE_S)


@asynccontextmanager
async def _opened(address: Address, hello: Hello) -> AsyncGenerator[ClientConnection]:
    """Open a connection and send the first messages."""
    path, first = hello()
    async with connect(
        f"ws{address.url.removeprefix('http')}{path}",
        additional_headers=address.headers,
        compression=None,
        max_size=None,
        proxy=None if address.direct else True,
    ) as socket:
        for message in first:
            await socket.send(json.dumps(message))
        yield socket


async def follow(
    address: Address, task_id: str, after: int = 0, lost: Lost = lambda _: None
) -> AsyncGenerator[Message]:
    """Yield one task's events until its last one. Raises Failure."""
    seen = after

    def hello() -> tuple[str, list[Message]]:
        return f"/ws/tasks/{quote(task_id, safe='')}?after={seen}", []

    async with aclosing(messages(address, hello, lost)) as found:
        async for message in found:
            if "type" not in message:
                continue
            seq = message["seq"]
            if seq is not None and seq <= seen:
                continue
            seen = seen if seq is None else seq
            yield message


async def feed(
    address: Address, lost: Lost = lambda _: None, *, text: bool = True
) -> AsyncGenerator[Message]:
    """Yield the events of all tasks from now on, without an end; not `text`: of the text only where
    it begins. Raises Failure."""
    seen: int | None = None

    def hello() -> tuple[str, list[Message]]:
        cursor = {} if seen is None else {"after_id": seen}
        return "/ws", [{"op": "subscribe", "all": True, "text": text, **cursor}]

    async with aclosing(messages(address, hello, lost)) as found:
        async for message in found:
            if message.get("op") == "error":
                raise Failure(message["error"]["message"])
            if "type" not in message:
                seen = message["after_id"] if seen is None else seen
                continue
            number = message["id"]
            if number is not None and seen is not None and number <= seen:
                continue
            seen = seen if number is None else number
            yield message
