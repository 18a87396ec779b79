"""HTTP client of a running service: `reach` opens an `Api`; `following` has the event streams.

The address is that of --url, of ASYNCSVC_URL, or host and port of the settings. An answer
that is no JSON is a `Failure` of one line. Calls are never repeated, and each has a connection of
its own: a command makes few of them. Uses the standard library, which is imported in a quarter of
the time that an HTTP library takes.
"""

import json
import ssl
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from asyncsvc.cli.failures import MISUSED, Failure, program
from asyncsvc.cli.options import environment, settings_file
from asyncsvc.config.listening import is_loopback, listening
from asyncsvc.errors import SettingsError
from asyncsvc.net.web_addresses import parts_of

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}
"""Addresses that a server listens on but no client can call."""


class Address(NamedTuple):
    """Address of a service; `url` has no slash at its end. Shown without its token."""

    url: str
    token: str | None = None
    direct: bool = True

    def __repr__(self) -> str:
        return f"Address(url={self.url!r}, direct={self.direct!r})"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find(url: str | None, environ: Mapping[str, str]) -> Address:
    """Return the service's address: `url`, else that of ASYNCSVC_URL, else that of the settings.

    Raises Failure for an unusable `url`, SettingsError for an unusable file.
    """
    url = url or environ.get("ASYNCSVC_URL")
    found = _checked(url) if url else _of_settings(environ)
    host = urlsplit(found).hostname or ""
    return Address(found, environ.get("ASYNCSVC_TOKEN") or None, is_loopback(host))


def _checked(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    if parts_of(full) is None:
        raise Failure(f"{url!r} is no address; one looks like http://127.0.0.1:8000", MISUSED)
    return full.rstrip("/")


def _of_settings(environ: Mapping[str, str]) -> str:
    file = settings_file(None)
    scheme, host, port = listening(file, environ) or _judged(file, environ)
    host = ANYWHERE.get(host, host)
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"


def _judged(file: Path | None, environ: Mapping[str, str]) -> tuple[str, str, int]:
    """Where the service listens by all settings, which are read and checked."""
    from asyncsvc.config.load import load

    try:
        server = load(file, environ).server
    except SettingsError:
        # A service that other machines can reach needs its tokens in its own environment, not
        # in that of a client; on its own machine it answers on loopback too.
        server = load(file, environ, {"server": {"host": "127.0.0.1"}}).server
    return server.scheme, server.host, server.port


CONNECT_S = 5.0
ANSWER_S = 60.0
LONG_S = 3600.0
"""Limit for a copy or check of the whole database."""
PART_BYTES = 1 << 16
LASTING = frozenset({"no_model", "sandbox_unavailable"})
"""Codes of a 503 that lasts until the settings are mended: waiting does not help."""
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

    def __init__(
        self, address: Address, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S
    ) -> None:
        self.address = address
        self._connect_s = connect_s
        self._answer_s = answer_s

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._call("GET", with_query(path, query))

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> dict[str, Any]:
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._call("POST", path, content, headers, timeout_s)

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def send(self, path: str, content: bytes, query: Mapping[str, Any]) -> dict[str, Any]:
        """POST bytes as they are."""
        return self._call("POST", with_query(path, query), content, timeout_s=LONG_S)

    def discard(self, path: str) -> None:
        """DELETE; a failure does not matter."""
        with suppress(Failure):
            self.delete(path)

    def download(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[bytes]:
        """Yield the parts of an answer as they come. Raises Failure, also where it is cut."""
        with self._answer("GET", with_query(path, query), timeout_s=LONG_S) as answer:
            if answer.status >= 400:
                self._decoded(answer)
            size, whole = 0, answer.getheader("content-length")
            try:
                while part := answer.read(PART_BYTES):
                    size += len(part)
                    yield part
            except (OSError, HTTPException) as error:
                raise self._cut(error) from None
            if whole is not None and size < int(whole):
                raise self._cut(f"{size} of {whole} bytes came")

    def _cut(self, why: object) -> Failure:
        return Failure(f"{self.address.url} broke off in the middle: {why}")

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

    def _call(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        with self._answer(method, path, content, headers, timeout_s) as answer:
            return self._decoded(answer)

    def _decoded(self, answer: HTTPResponse) -> dict[str, Any]:
        return decoded(answer.status, answer.read(), self.address, answer.getheader("retry-after"))

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Generator[HTTPResponse]:
        """Make a call on a connection of its own. Raises Failure where there is no answer."""
        link, target, extra = connection(self.address, path, self._connect_s)
        try:
            link.connect()
            link.sock.settimeout(timeout_s or self._answer_s)
            with suppress(BrokenPipeError, ConnectionResetError):
                # A service that refuses a large body answers before it has read all of it.
                given = {**self.address.headers, **extra, **(headers or {})}
                link.request(method, target, content, given)
            yield link.getresponse()
        except (OSError, HTTPException) as error:
            raise unreachable(self.address, error) from None
        finally:
            link.close()


def with_query(path: str, query: Mapping[str, Any] | None) -> str:
    """Return the path with those parameters that have a value."""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


def connection(
    address: Address, path: str, timeout_s: float
) -> tuple[HTTPConnection, str, dict[str, str]]:
    """Return a connection that is not open yet, through a proxy where the environment names one,
    what to ask for on it, and headers for the proxy."""
    to = urlsplit(address.url)
    secure = to.scheme == "https"
    port = to.port or (443 if secure else 80)
    proxy = None if address.direct else proxy_for(to)
    near, near_port = (to.hostname, port) if proxy is None else (proxy.hostname, proxy.port or 80)
    link: HTTPConnection
    if secure:
        # Python's own context knows the authorities of the system and those of SSL_CERT_FILE.
        context = ssl.create_default_context()
        link = HTTPSConnection(near or "", near_port, timeout=timeout_s, context=context)
    else:
        link = HTTPConnection(near or "", near_port, timeout=timeout_s)
    target = f"{to.path}{path}"
    if proxy is None:
        return link, target, {}
    known = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}".encode()
    login = {"Proxy-Authorization": f"Basic {b64encode(known).decode()}"} if proxy.username else {}
    if secure:
        link.set_tunnel(to.hostname or "", port, headers=login)
        return link, target, {}
    return link, f"{to.scheme}://{to.netloc.rpartition('@')[2]}{target}", login


def proxy_for(to: SplitResult) -> SplitResult | None:
    """Return the proxy that the environment or the system names for an address."""
    from urllib.request import getproxies, proxy_bypass

    found = getproxies()
    named = found.get(to.scheme) or found.get("all")
    if not named or proxy_bypass(to.netloc.rpartition("@")[2]):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise Failure(
            f"the proxy for {to.scheme} is no http proxy: {proxy.scheme}://{proxy.hostname}; "
            "NO_PROXY may name the service's host",
            MISUSED,
        )
    return proxy


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


def decoded(
    status: int, content: bytes, address: Address, retry_after: str | None = None
) -> dict[str, Any]:
    """Return the JSON of an answer. Raises Failure with the service's message for an error."""
    if status == 204:
        return {}
    error: dict[str, Any] = {}
    try:
        body = json.loads(content)
        if status >= 400:
            error = body["error"] | {"message": str(body["error"]["message"])}
    except (ValueError, KeyError, TypeError):
        body = None
    if status < 400 and isinstance(body, dict):
        return body
    if not error:
        what = f"answered {status} without JSON"
        raise Failure(f"{address.url} {what}: is it asyncsvc that listens there?")
    hint = ""
    if status == 401:
        hint = " (put it into the variable ASYNCSVC_TOKEN)"
    elif retry_after and status in (429, 503) and error.get("code") not in LASTING:
        hint = f" (try again in {retry_after} s)"
    raise Failure(f"{error['message']}{hint}")


def unreachable(address: Address, error: Exception) -> Failure:
    """Return a Failure that names the address and how to start the service there."""
    if str(error).startswith("[SSL"):
        return untrusted(address, error)
    why = "took too long to answer" if isinstance(error, TimeoutError) else "no answer"
    if str(error).startswith("Tunnel"):
        why = f"the proxy refused: {error}"
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
    """Give a client of the service. Raises Failure or SettingsError."""
    yield Api(find(url, environment(settings_file(None))))
