"""Texts of tasks in pieces: bodies, results, pages of events.

Owns the reads whose size is that of a text. Promises that one read holds a piece of it at most,
however long the text is, and that no transaction is open between two pieces (a reader that takes
an hour never keeps the write-ahead log from being shortened). Never puts the pieces together.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice
from typing import Any, NamedTuple, TypeVar

from asyncsvc.errors import ReadRefused
from asyncsvc.storage.connection import Reader
from asyncsvc.storage.entries import EventRow, Piece
from asyncsvc.storage.refusals import Refusals

PIECE_BYTES = 512 * 1024
"""SQLite walks from a text's first page to the piece: 60 MB take 0.9 s in all, with pieces of
128 KiB 3.5 s (measured on 3.40.1)."""
PAGE_BYTES = 256 * 1024
"""Characters of data in the events of one read; a single event may be longer. With `PAGE` this
bounds what one follower can hold in memory."""
SO_FAR_ROWS = 4000

T = TypeVar("T")
Row = Sequence[Any]


class SQLiteTexts:
    """`TextReads` from SQLite."""

    def __init__(self, readers: Sequence[Reader], refusals: Refusals) -> None:
        self._readers = cycle(readers)
        self._refusals = refusals

    async def body(self, n: int, at: int = 0) -> Piece | None:
        return await self._run(lambda db: _at_once(db, lambda _: _piece(db, BODY, n, at)))

    async def result(self, n: int, at: int = 0, version: int | None = None) -> Piece | None:
        piece = await self._run(lambda db: _at_once(db, lambda _: _piece(db, RESULT, n, at)))
        if version is not None and (piece is None or piece.version != version):
            raise ReadRefused("the task was started anew while its result was being read")
        return piece

    async def volume(self, n: int) -> int:
        sql = "SELECT COALESCE(SUM(LENGTH(data)), 0) FROM events WHERE task_n = ?"
        return int(await self._run(lambda db: db.execute(sql, (n,)).fetchone()[0]))

    async def so_far(
        self, n: int, after: int = 0, limit: int = SO_FAR_ROWS
    ) -> tuple[int, list[tuple[int, str]], bool]:
        def read(connection: sqlite3.Connection) -> tuple[int, list[Row], bool]:
            sql = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE task_n = ? "
            sql += "AND type IN ('attempt', 'step')"
            (attempt,) = connection.execute(sql, (n,)).fetchone()
            sql = "SELECT seq, data FROM events WHERE task_n = ? AND type = 'chunk' AND seq > ?"
            begin = max(after, attempt)
            with closing(connection.execute(f"{sql} ORDER BY seq", (n, begin))) as rows:
                page = list(islice(_within(rows, 1), limit))
            end = page[-1][0] if page else begin
            more = connection.execute(f"{sql} LIMIT 1", (n, end)).fetchone() is not None
            return attempt, page, more

        attempt, page, more = await self._run(lambda connection: _at_once(connection, read))
        return attempt, [(seq, data) for seq, data in page], more

    async def events_of(self, n: int, kinds: Collection[str], after: int = 0) -> list[EventRow]:
        marks = ", ".join("?" * len(kinds))
        rows = await self.page(
            "SELECT id, task_n, seq, type, ts, data FROM events "
            f"WHERE task_n = ? AND seq > ? AND type IN ({marks}) ORDER BY seq",
            (n, after, *kinds),
            EventRow._fields.index("data"),
        )
        return [EventRow(*row) for row in rows]

    async def page(self, sql: str, values: Row, data: int) -> list[Row]:
        """Rows up to `PAGE_BYTES`, of which the column `data` is the long one; the first one in
        any case."""

        def read(connection: sqlite3.Connection) -> list[Row]:
            # Row by row: 500 rows of a megabyte must not all be read for the first of them.
            with closing(connection.execute(sql, values)) as rows:
                return list(_within(rows, data))

        try:
            return await self._run(read)
        except (OverflowError, UnicodeEncodeError):
            return []  # a value that SQLite cannot hold is in no row

    async def _run(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await next(self._readers).run(read)
        except sqlite3.Error as error:
            raise self._refusals.of_read(error) from error


def _at_once(connection: sqlite3.Connection, read: Callable[[sqlite3.Connection], T]) -> T:
    """Read in one transaction: all of it as of one moment."""
    connection.execute("BEGIN")
    try:
        return read(connection)
    finally:
        connection.execute("COMMIT")


class _InParts(NamedTuple):
    """A text of which all but the beginning may be stored in parts."""

    table: str
    column: str
    parts: str
    """The rows of its parts, by the number of the task."""


BODY = _InParts("bodies", "body", "body_parts WHERE task_id = (SELECT id FROM tasks WHERE n = ?1)")
RESULT = _InParts("results", "result", "result_parts WHERE task_n = ?1")


def _piece(connection: sqlite3.Connection, text: _InParts, n: int, at: int) -> Piece | None:
    """The bytes of a text from the offset `at`; None where there is no such text. Call it in a
    transaction."""
    sql = f"SELECT version, rest FROM tasks JOIN {text.table} ON task_n = n WHERE n = ?"
    found = connection.execute(sql, (n,)).fetchone()
    if found is None:
        return None
    version, rest = found
    with connection.blobopen(text.table, text.column, n, readonly=True) as begin:
        size = len(begin) + rest
        if at < len(begin) or not rest:
            begin.seek(min(at, len(begin)))
            return Piece(begin.read(PIECE_BYTES), at, size, version)
    sql = f"SELECT at, CAST(part AS BLOB) FROM {text.parts} AND at <= ?2 ORDER BY at DESC LIMIT 1"
    begins, part = connection.execute(sql, (n, at)).fetchone()
    return Piece(part[at - begins :], at, size, version)


def _within(rows: Iterable[Row], data: int) -> Iterator[Row]:
    """Rows up to `PAGE_BYTES`; the first one in any case."""
    size = 0
    for row in rows:
        size += len(row[data])
        if size > PAGE_BYTES and size > len(row[data]):
            return
        yield row
