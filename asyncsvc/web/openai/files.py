"""`/v1/files`: JSON-lines files, the input and the output of `/v1/batches`.

A multipart form is parsed while it arrives: a file of any length goes to the disk piece by piece,
and exists as a whole or not at all. The content of a file is not read here.
"""

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asyncsvc.access import Permission
from asyncsvc.batches.files import Files, Upload
from asyncsvc.errors import InvalidRequest, NotFound, UnsupportedEncoding
from asyncsvc.intake.admission import Key, fingerprint
from asyncsvc.storage.entries import File
from asyncsvc.web.http.body import coding
from asyncsvc.web.http.errors import JSON, check_query
from asyncsvc.web.http.resources import caller, resource
from asyncsvc.web.http.state import services
from asyncsvc.web.http.streaming import Streamed
from asyncsvc.web.openai import requests, schemas
from asyncsvc.web.openai.errors import endpoint
from asyncsvc.web.tasks.routes import idempotency_key, integer
from asyncsvc.web.tasks.schemas import SubmitHeaders

PURPOSE = "batch"
FIELD_MOST = 1024
NAME_MOST = 255
PARTS_MOST = 16
LIST_MOST = 10_000
EXPIRY_LEAST_S, EXPIRY_MOST_S = 3600, 2_592_000
Object = dict[str, Any]


@endpoint(
    scope=Permission.SUBMIT,
    answer=schemas.FileObject,
    body=schemas.FileForm,
    takes="multipart/form-data",
    headers=SubmitHeaders,
    errors=("idempotency_conflict",),
)
async def upload_file(request: Request) -> Response:
    """POST /v1/files: a JSON-lines file for a batch, as a multipart form.

    It is on the disk when the answer is sent.
    """
    files = services(request).batches.files
    if coding(request.headers.getlist("content-encoding")) is not None:
        raise UnsupportedEncoding("a form is taken as it is, not compressed")
    key = idempotency_key(request.headers)
    form = Form(files, request.headers.get("content-type"), caller(request).owner, key)
    try:
        async for chunk in request.stream():
            await form.take(chunk)
        return JSON(shown(await form.done()))
    except ClientDisconnect:
        return Response(status_code=499)  # the client is gone
    finally:
        await form.close()


@endpoint(scope=Permission.READ, answer=schemas.FileList, query=schemas.FilesQuery)
async def list_files(request: Request) -> Response:
    """GET /v1/files: the files, newest first."""
    files, query = services(request).batches.files, request.query_params
    check_query(query, schemas.FilesQuery.__annotations__, None)
    limit = integer(query.get("limit"), "limit", LIST_MOST, 1, LIST_MOST)
    rising, after = requests.ascending(query.get("order")), query.get("after")
    n = None if after is None else await files.place(caller(request), after)
    found = await files.store.page(
        caller(request).only, query.get("purpose"), n, rising, limit + 1, files.now()
    )
    return JSON(schemas.listed([shown(one) for one in found], limit))


@endpoint(scope=Permission.READ, answer=schemas.FileObject, errors=("not_found",))
async def show_file(request: Request) -> Response:
    """GET /v1/files/{id}: one file, without its content."""
    files = services(request).batches.files
    return JSON(shown(await files.get(caller(request), request.path_params["file_id"])))


@endpoint(
    scope=Permission.READ, answer=str, media=("application/octet-stream",), errors=("not_found",)
)
async def file_content(request: Request) -> Response:
    """GET /v1/files/{id}/content: the content of a file."""
    files = services(request).batches.files
    found = await files.get(caller(request), request.path_params["file_id"])
    head = {"Content-Length": str(found.bytes), "X-Content-Type-Options": "nosniff"}
    media = "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers=head, media_type=media)
    return Download(files, found, headers=head, media_type=media)


@endpoint(scope=Permission.SUBMIT, answer=schemas.Deleted, errors=("not_found",))
async def delete_file(request: Request) -> Response:
    """DELETE /v1/files/{id}: a batch that reads it fails."""
    file_id = request.path_params["file_id"]
    await services(request).batches.files.delete(caller(request), file_id)
    return JSON({"id": file_id, "object": "file", "deleted": True})


class Download(Streamed):
    """A file's content; deleting the file meanwhile does not cut it."""

    def __init__(self, files: Files, found: File, **how: Any) -> None:
        super().__init__(_pieces(files, found), **how)
        self._files = files
        self._file = found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._files.reading(self._file.n):
            await super().__call__(scope, receive, send)


async def _pieces(files: Files, found: File) -> AsyncIterator[bytes]:
    offset = 0
    while offset < found.bytes:
        data = await files.store.piece(found.n, offset)
        if not data:
            raise NotFound(f"the content of file {found.id} ends at byte {offset}")
        offset += len(data)
        yield data


def shown(one: File) -> schemas.FileObject:
    """A file in OpenAI's shape."""
    purpose: Any = one.purpose
    return {
        "id": one.id,
        "object": "file",
        "bytes": one.bytes,
        "created_at": one.created_at // 1000,
        "expires_at": None if one.expires_at is None else one.expires_at // 1000,
        "filename": one.filename,
        "purpose": purpose,
        "status": "processed",
    }


class Form:
    """A multipart form while it arrives: the part named `file` goes to an upload, small fields
    stay in memory. `take` each chunk, then `done`; `close` in any case. `key` is an
    Idempotency-Key."""

    def __init__(
        self, files: Files, content_type: str | None, owner: str | None, key: str | None
    ) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest("send the file as multipart/form-data with a boundary")
        self._files = files
        self._owner = owner
        self._key = key
        self._digest = None if key is None else sha256()
        """The digest of the file's content, which only an Idempotency-Key needs."""
        self._fields: dict[str, bytes] = {}
        self._upload: Upload | None = None
        self._whole = False
        self._parts = 0
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._events: list[tuple[str, bytes]] = []
        """The parser's findings in a chunk that are still to be processed."""
        self._name = self._filename = ""
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, a, b: self._header[0].extend(data[a:b]),
                "on_header_value": lambda data, a, b: self._header[1].extend(data[a:b]),
                "on_header_end": self._headed,
                "on_headers_finished": lambda: self._events.append(("head", self._disposition)),
                "on_part_data": lambda data, a, b: self._events.append(("data", data[a:b])),
                "on_end": lambda: self._events.append(("over", b"")),
            },
        )

    def _headed(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (bytearray(), bytearray())

    async def take(self, chunk: bytes) -> None:
        """Process a chunk of the body. Raises RequestError."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise InvalidRequest(f"the multipart form is not valid: {error}") from None
        events, self._events = self._events, []
        for kind, data in events:
            await self._see(kind, data)

    async def _see(self, kind: str, data: bytes) -> None:
        if kind == "head":
            await self._begin(data)
        elif kind == "data" and self._name == "file" and self._upload is not None:
            if self._digest is not None:
                self._digest.update(data)
            await self._upload.write(data)
        elif kind == "data":
            held = self._fields[self._name] = self._fields.get(self._name, b"") + data
            if len(held) > FIELD_MOST:
                raise InvalidRequest(f"{self._name} is too long", param=self._name)
        elif kind == "over":
            self._whole = True

    async def _begin(self, disposition: bytes) -> None:
        _, options = parse_options_header(disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")[:80]
        self._parts += 1
        if self._parts > PARTS_MOST:
            raise InvalidRequest(f"a form has at most {PARTS_MOST} parts")
        if self._name == "file":
            if self._upload is not None:
                raise InvalidRequest("send one file at a time", param="file")
            filename = options.get(b"filename", b"").decode("utf-8", "replace")[-NAME_MOST:]
            self._filename = filename or "upload.jsonl"
            self._upload = await self._files.upload(self._filename, PURPOSE, self._owner)

    async def done(self) -> File:
        """The file, whole and on the disk; with a known Idempotency-Key the file of the first
        upload. Raises RequestError."""
        if not self._whole:
            raise InvalidRequest("the multipart form has no end")
        upload = self._upload
        fields = {name: held.decode("utf-8", "replace") for name, held in self._fields.items()}
        if upload is None:
            raise InvalidRequest("a part named file is missing", param="file")
        if fields.get("purpose") != PURPOSE:
            raise InvalidRequest(f"purpose must be {PURPOSE}", param="purpose")
        if not upload.size:
            raise InvalidRequest("the file is empty", param="file")
        expires_s = _expiry(fields)
        expires_at = None if expires_s is None else self._files.now() + expires_s * 1000
        file = await self._files.take(upload, expires_at, self._made(expires_s))
        self._upload = None
        self._files.swept()
        return file

    def _made(self, expires_s: int | None) -> Key | None:
        if self._key is None or self._digest is None:
            return None
        asked = (self._filename, expires_s, self._digest.hexdigest())
        return Key.of(self._owner, self._key, fingerprint("file", *asked))

    async def close(self) -> None:
        """Remove the pieces of a file that has not become whole."""
        del self._parser  # which holds this form
        if self._upload is not None:
            await self._upload.abandon()
            self._files.swept()


def _expiry(fields: dict[str, str]) -> int | None:
    """Seconds until the file expires. Raises InvalidRequest."""
    seconds, anchor = (fields.get(f"expires_after[{name}]") for name in ("seconds", "anchor"))
    if seconds is None and anchor is None:
        return None
    name = "expires_after"
    if anchor != "created_at":
        raise InvalidRequest(f"{name}.anchor must be created_at", param=f"{name}.anchor")
    return integer(seconds, f"{name}.seconds", 0, EXPIRY_LEAST_S, EXPIRY_MOST_S)


ROUTES = [
    resource("/v1/files", GET=list_files, POST=upload_file),
    resource("/v1/files/{file_id}", GET=show_file, DELETE=delete_file),
    resource("/v1/files/{file_id}/content", GET=file_content),
]
