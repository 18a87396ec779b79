"""The lines of a batch: those of its input, and those of its output.

Owns the reading of JSON lines out of a file in pieces, from any offset, what each line must have,
and what a batch asks of the API whose requests its lines are. Promises to hold no more than a
piece and a line, to let others have the loop after each piece, and OpenAI's shape of a line of
output. Never looks into a line's body, never knows an endpoint.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from asyncsvc.clock import new_id
from asyncsvc.errors import InvalidRequest, RequestError
from asyncsvc.net import json_bounds
from asyncsvc.storage.entries import Row
from asyncsvc.storage.protocol import FileReads
from asyncsvc.tasks.submission import Submission

LINES_MOST = 50_000
ERRORS_MOST = 100
STEP_BYTES = 1 << 20
"""Where a step ends however few lines it has."""
BOM = b"\xef\xbb\xbf"
"""PowerShell and some editors put one at the head of a file in UTF-8, and so into the middle of
files that were joined."""
ID_MOST = 512
METHOD = "POST"
Fault = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    """One line; numbered from 1, blank ones not counted."""

    number: int
    custom_id: str
    body: dict[str, Any]


class Inputs:
    """The lines of one file."""

    def __init__(self, files: FileReads, n: int, line_most: int) -> None:
        self._files = files
        self._n = n
        self._line_most = line_most

    async def head(self) -> bytes:
        """The first bytes of the file."""
        return (await self._files.piece(self._n, 0))[:4]

    async def lines(self, offset: int) -> AsyncIterator[tuple[bytes, int]]:
        """(line, offset behind it) from an offset that is the start of a line. Raises
        InvalidRequest for a line that is too long."""
        held, at = bytearray(), offset
        while data := await self._files.piece(self._n, at):
            at += len(data)
            held += data
            start = 0
            while (end := held.find(b"\n", start)) >= 0:
                offset += end + 1 - start
                yield self._checked(bytes(held[start:end])).removeprefix(BOM), offset
                start = end + 1
            del held[:start]
            self._checked(held)
            await asyncio.sleep(0)
        if held:
            yield bytes(held).removeprefix(BOM), offset + len(held)

    async def some(self, offset: int, line: int, most: int) -> tuple[list[Read], int]:
        """At most so many lines behind `line`, and the offset behind them."""
        found: list[Read] = []
        size, begin = 0, offset
        async for text, behind in self.lines(begin):
            offset = behind
            if text.strip():
                value = orjson.loads(text)
                found.append(Read(line + len(found) + 1, value["custom_id"], value["body"]))
                size += len(text)
            if len(found) >= most or size >= STEP_BYTES:
                break
        return found, offset

    def _checked(self, line: Any) -> Any:
        if len(line) > self._line_most:
            raise InvalidRequest(
                f"this line is longer than {self._line_most} bytes, which a task may have"
            )
        return line


async def validated(inputs: Inputs, endpoint: str) -> tuple[int, list[Fault]]:
    """(how many lines there are, what is wrong with them)."""
    total, number, faults = 0, 0, list[Fault]()
    seen: set[bytes] = set()
    if (encoding := other_encoding(await inputs.head())) is not None:
        message = f"the file is in {encoding}; save it as UTF-8"
        return 0, [fault("invalid_encoding", message) | {"line": 1}]
    try:
        async for text, _ in inputs.lines(0):
            number += 1  # of the file, as an editor shows it
            if not text.strip():
                continue
            total += 1
            if (found := _fault(text, endpoint, seen)) is not None:
                faults.append(found | {"line": number})
            if total > LINES_MOST:
                message = f"a batch has at most {LINES_MOST} lines, this file has more"
                faults.append(fault("too_many_lines", message) | {"line": number})
            if len(faults) >= ERRORS_MOST or total > LINES_MOST:
                break
    except InvalidRequest as error:
        faults.append(fault("line_too_long", str(error)) | {"line": number + 1})
    if not total and not faults:
        faults.append(fault("empty_file", "the input file has no lines"))
    return total, faults


def other_encoding(head: bytes) -> str | None:
    """The encoding of JSON text that begins with these bytes, where it is not UTF-8."""
    if head[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        return "UTF-32"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "UTF-16"
    # JSON begins with an ASCII character: without a BOM its zero bytes tell.
    if head[:3] == b"\0\0\0" or (head[:1] != b"\0" and head[1:4] == b"\0\0\0"):
        return "UTF-32"
    return "UTF-16" if b"\0" in head[:2] else None


def _fault(text: bytes, endpoint: str, seen: set[bytes]) -> Fault | None:
    """What is wrong with a line; `seen` are digests of the custom_ids before it."""
    try:
        json_bounds.check(text)
        value = orjson.loads(text)
    except json_bounds.BeyondBounds as error:
        return fault("invalid_json_line", f"this line is not read: {error}")
    except orjson.JSONDecodeError as error:
        return fault("invalid_json_line", f"this line is not valid JSON: {error}")
    if not isinstance(value, dict):
        return fault("invalid_json_line", "this line is not a JSON object")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= ID_MOST:
        message = f"custom_id must be a string of 1 to {ID_MOST} characters"
        return fault("missing_required_parameter", message, "custom_id")
    digest = blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if digest in seen:
        message = f"the custom_id {custom_id[:80]!r} is there twice"
        return fault("duplicate_custom_id", message, "custom_id")
    seen.add(digest)
    if value.get("method") != METHOD:
        return fault("invalid_method", f"method must be {METHOD}", "method")
    if value.get("url") != endpoint:
        return fault("mismatched_url", f"url must be {endpoint}, as the batch's endpoint", "url")
    if not isinstance(value.get("body"), dict):
        return fault("missing_required_parameter", "body must be an object", "body")
    return None


def fault(code: str, message: str, param: str | None = None) -> Fault:
    """A fault of a line in OpenAI's shape, without the line's number."""
    return {"code": code, "message": message, "param": param, "line": None}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A line as a task. `form` says how its answer is wanted; `beside` makes, of the
    task's id, what is stored with it."""

    submission: Submission
    form: str | None = None
    beside: Callable[[str], Row] | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What the request would have been answered."""

    status: int
    body: dict[str, Any]
    task_id: str | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no answer at all."""

    code: str
    message: str


class BatchEndpoint(Protocol):
    """An endpoint whose requests the lines of a batch are."""

    async def prepare(
        self, body: dict[str, Any], headers: dict[str, str], owner: str | None
    ) -> Prepared:
        """The task of a line of that owner's batch. Raises RequestError."""

    def refused(self, error: RequestError) -> Answered:
        """The answer to a line that is no task."""

    async def answer(self, task_id: str, form: str | None) -> Answered:
        """The answer of a task that is finished or deleted."""


def output_line(custom_id: str, answer: Answered | Failed) -> bytes:
    """A line of an output file or of an error file."""
    response = error = None
    request_id = new_id(0)
    if isinstance(answer, Failed):
        error = {"code": answer.code, "message": answer.message}
    else:
        request_id = answer.task_id or request_id
        response = {"status_code": answer.status, "request_id": request_id, "body": answer.body}
    line = {
        "id": f"batch_req_{request_id}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
