"""The answer with a whole task: at once where its texts are short, else as they are read.

Owns the JSON of long texts, which is made piece by piece from what is stored. Promises the same
bytes as `views.whole` gives, and that no more than a piece of a text is in memory. Where the rest
cannot be read any more, such as after a /retry, the answer is cut.
"""

import codecs
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.responses import Response

from asyncsvc.errors import DatabaseDamaged, ReadRefused
from asyncsvc.storage.entries import Piece, loads
from asyncsvc.storage.protocol import TextReads
from asyncsvc.tasks.state import Task
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.large_answers import large
from asyncsvc.web.http.state import Services
from asyncsvc.web.tasks import views

Page = tuple[int, list[tuple[int, str]], bool]
NOTHING = Piece(b"{}", 0, 2, 0)
"""The body of a task that was deleted a moment ago."""


async def answer(services: Services, task: Task, method: str) -> Response:
    """The response with the whole task. Raises Overloaded."""
    texts = services.journal.store.texts
    body = await texts.body(task.n) or NOTHING
    result, page = await texts.result(task.n), None
    if result is None and views.has_text_so_far(task):
        page = await texts.so_far(task.n)
    beside = await views.beside_texts(services, task)
    if body.whole and (result is None or result.whole) and not (page and page[2]):
        text = _short_result(task, result, page)
        return JSON(views.summary(task) | loads(body.data) | {"result": text} | beside)
    if method == "HEAD":
        return Response(media_type=JSON.media_type)
    if result is not None and views.is_vectors(task):
        content = _results(texts, task.n, result)  # it is stored as JSON
    elif result is not None:
        content = quoted(texts, task.n, result)
    else:
        content = _text_so_far(texts, task, page)
    content = _pieces(texts, task, body, content, beside)
    return await large(services.answers, content, method)


def _short_result(task: Task, result: Piece | None, page: Page | None) -> Any:
    if result is not None:
        return loads(result.data) if views.is_vectors(task) else _decoded(result.data)
    if page is None:
        return None
    return "".join(loads(data)["text"] for _, data in page[1]) or None


async def _pieces(
    texts: TextReads,
    task: Task,
    body: Piece,
    result: AsyncIterator[bytes],
    beside: dict[str, Any],
) -> AsyncIterator[bytes]:
    """The JSON object: what `views.whole` merges, one after the other without inner braces."""
    yield orjson.dumps(views.summary(task))[:-1]
    if body.size > len(NOTHING.data):
        yield b","
        async for part in _without_braces(texts, task.n, body):
            yield part
    yield b',"result":'
    async for part in result:
        yield part
    yield b"," + orjson.dumps(beside)[1:]


async def _without_braces(texts: TextReads, n: int, piece: Piece | None) -> AsyncIterator[bytes]:
    """The fields of a stored object."""
    while piece is not None:
        last = piece.end == piece.size
        yield piece.data[int(piece.at == 0) : len(piece.data) - last]
        if last:
            return
        piece = await texts.body(n, piece.end)
    raise ReadRefused("the task was deleted while it was being read")


async def quoted(texts: TextReads, n: int, first: Piece) -> AsyncIterator[bytes]:
    """A result as a JSON string, from its first piece on. Raises DatabaseDamaged, and ReadRefused
    where the task is started anew meanwhile."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    yield b'"'
    async for data in _results(texts, n, first):
        yield orjson.dumps(_decoded(data, decoder))[1:-1]
    _decoded(b"", decoder, final=True)
    yield b'"'


async def _results(texts: TextReads, n: int, first: Piece) -> AsyncIterator[bytes]:
    yield first.data
    end = first.end
    while end < first.size and (piece := await texts.result(n, end, first.version)):
        yield piece.data
        end = piece.end


def _decoded(
    data: bytes, decoder: codecs.IncrementalDecoder | None = None, final: bool = False
) -> str:
    """A stored text; with a `decoder`, a piece of one. Raises DatabaseDamaged."""
    try:
        return data.decode() if decoder is None else decoder.decode(data, final)
    except UnicodeDecodeError:
        raise DatabaseDamaged("the database is damaged: a text in it is not UTF-8") from None


async def _text_so_far(texts: TextReads, task: Task, page: Page | None) -> AsyncIterator[bytes]:
    """The text of the latest attempt as a JSON string; null where there is none."""
    begun = False
    while page is not None:
        attempt, chunks, more = page
        text = "".join(loads(data)["text"] for _, data in chunks)
        if text:
            yield (b"" if begun else b'"') + orjson.dumps(text)[1:-1]
            begun = True
        page = await texts.so_far(task.n, chunks[-1][0]) if more else None
        if page is not None and page[0] != attempt:
            raise ReadRefused("another attempt began while the text of the one before was read")
    yield b'"' if begun else b"null"
