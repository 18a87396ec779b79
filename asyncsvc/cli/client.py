"""Speaking HTTP to a running service.

Owns httpx on this side. Promises that what comes back is JSON, and that everything else is a
Failure of one line: the service's own message, or where it was looked for. Never retries.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from asyncsvc.cli.address import Address
from asyncsvc.cli.failure import Failure
from asyncsvc.cli.serving import program

CONNECT_S = 5.0
ANSWER_S = 60.0
NO_CONTENT = 204
LONG_S = 3600.0
"""For what copies or checks everything there is."""
FULL_ID = 36
"""Characters of an id. Fewer are taken for the end of one."""
NEWEST = 500
"""Tasks among which the end of an id is looked for: the most that a page holds."""


class Unreachable(Failure):
    """Nobody answers at the address."""


class Api:
    """The service's calls. Use as `with Api(address) as api`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._http = httpx.Client(
            base_url=address.url,
            headers=address.headers,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=not address.direct,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return self._call("GET", path, params=given)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._call("POST", path, json=body) if body is not None else self._call("POST", path)

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def send(self, path: str, content: bytes, query: Mapping[str, Any]) -> dict[str, Any]:
        """POST bytes as they are."""
        return self._call("POST", path, content=content, params=query, timeout=LONG_S)

    def patiently(self, path: str) -> dict[str, Any]:
        """POST what may take a while."""
        return self._call("POST", path, timeout=LONG_S)

    def discard(self, path: str) -> None:
        """DELETE what may be left behind."""
        with suppress(httpx.HTTPError):
            self._http.delete(path)

    def load(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[bytes]:
        """The parts of an answer, as they come. Raises Failure, also where it is cut."""
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

    def steer(self, task_id: str, verb: str) -> dict[str, Any]:
        """`verb` is cancel, pause, resume or retry; the task as it then stands."""
        return self.post(f"/tasks/{quote(task_id, safe='')}/{verb}")

    def resolve(self, given: str) -> str:
        """The id that ends in what a person has typed, as tables show only its end."""
        if len(given) >= FULL_ID:
            return given
        page = self.get("/tasks", {"limit": NEWEST})["tasks"]
        found = [task["task_id"] for task in page if task["task_id"].endswith(given)]
        if len(found) > 1:
            raise Failure(f"{len(found)} tasks end in {given!r}; give more of the id")
        if not found:
            raise Failure(f"there is no task whose id is or ends in {given!r}")
        return str(found[0])

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from None
        return decoded(answer, self.address)


def decoded(answer: httpx.Response, address: Address) -> dict[str, Any]:
    """The JSON of an answer. Raises Failure with the service's message for an error."""
    if answer.status_code == NO_CONTENT:
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
    """One line: where we looked, and how to start it there."""
    why = "took too long to answer" if isinstance(error, httpx.TimeoutException) else "no answer"
    return Unreachable(
        f"cannot reach asyncsvc at {address.url} ({why}); start it with `{program()} serve`, "
        "or say where it is with --url URL or ASYNCSVC_URL"
    )
