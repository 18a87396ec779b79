import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.execution.chunk_writer import ROOM, ChunkWriter
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.answers.delta import Delta, joined
from asyncsvc.tasks.state import Draft, EventType, Task


class _Journal(Journal):
    """Takes appends and leaves it to the test when each is on the disk."""

    def __init__(self) -> None:
        self.appended: list[Sequence[Draft]] = []
        self.open: list[asyncio.Future[list[Task]]] = []

    def append(self, *entries: Any, then: Any = None) -> asyncio.Future[list[Task]]:
        (change,) = entries
        assert isinstance(change, Change) and change.task_id == "t"
        self.appended.append(change.drafts)
        self.open.append(asyncio.get_running_loop().create_future())
        return self.open[-1]

    async def on_disk(self) -> None:
        self.open.pop(0).set_result([])
        await asyncio.sleep(0)

    async def refused(self) -> None:
        self.open.pop(0).set_exception(StorageUnavailable("full"))
        await asyncio.sleep(0)

    @property
    def texts(self) -> list[list[str]]:
        return [[draft.data["text"] for draft in drafts] for drafts in self.appended]


def _chunk_writer() -> tuple[ChunkWriter, _Journal]:
    journal = _Journal()
    return ChunkWriter(journal, "t"), journal


async def test_with_time_each_piece_is_an_event() -> None:
    chunk_writer, journal = _chunk_writer()
    for piece in "abc":
        chunk_writer.write(Delta(piece))
        await journal.on_disk()
    assert journal.texts == [["a"], ["b"], ["c"]]
    assert (chunk_writer.text, chunk_writer.pieces) == ("abc", 3)


async def test_what_comes_during_an_append_becomes_one_event() -> None:
    chunk_writer, journal = _chunk_writer()
    for piece in "abcd":
        chunk_writer.write(Delta(piece))
    assert len(journal.open) == 1
    await journal.on_disk()
    assert journal.texts == [["a"], ["bcd"]]
    assert len(journal.open) == 1


async def test_thinking_and_answering_stay_apart_and_in_order() -> None:
    chunk_writer, journal = _chunk_writer()
    chunk_writer.write(Delta("x"))
    for delta in (Delta("h", True), Delta("m", True), Delta("a"), Delta("b"), Delta("?", True)):
        chunk_writer.write(delta)
    await journal.on_disk()
    assert [(d.type.value, d.data["text"]) for d in journal.appended[1]] == [
        ("reasoning", "hm"),
        ("chunk", "ab"),
        ("reasoning", "?"),
    ]
    assert chunk_writer.text == "xab"


async def test_drained_waits_for_everything() -> None:
    chunk_writer, journal = _chunk_writer()
    for piece in "ab":
        chunk_writer.write(Delta(piece))
    waiting = asyncio.create_task(chunk_writer.drained())
    await asyncio.sleep(0)
    await journal.on_disk()
    assert not waiting.done()
    await journal.on_disk()
    await waiting


async def test_an_idle_chunk_writer_is_drained_and_settled() -> None:
    chunk_writer, _ = _chunk_writer()
    await chunk_writer.drained()
    await chunk_writer.settled()
    assert chunk_writer.rest() == []


async def test_a_settled_chunk_writer_leaves_the_rest_to_the_closing_event() -> None:
    chunk_writer, journal = _chunk_writer()
    for piece in "abc":
        chunk_writer.write(Delta(piece))
    settling = asyncio.create_task(chunk_writer.settled())
    await asyncio.sleep(0)
    await journal.on_disk()
    await settling
    chunk_writer.write(Delta("d"))
    assert journal.texts == [["a"]]
    assert [draft.data["text"] for draft in chunk_writer.rest()] == ["bcd"]
    assert chunk_writer.text == "abcd"


async def test_what_the_disk_refuses_is_offered_again_in_its_place() -> None:
    chunk_writer, journal = _chunk_writer()
    for piece in "ab":
        chunk_writer.write(Delta(piece))
    await journal.refused()
    assert journal.texts == [["a"]]  # no spin: only the next piece tries again
    chunk_writer.write(Delta("c"))
    await journal.refused()
    chunk_writer.write(Delta("d"))
    assert journal.texts == [["a"], ["abc"], ["abcd"]]
    await journal.on_disk()
    await chunk_writer.drained()
    assert chunk_writer.rest() == []


async def test_a_wait_for_the_disk_raises_its_refusal() -> None:
    chunk_writer, journal = _chunk_writer()
    chunk_writer.write(Delta("a"))
    chunk_writer.write(Delta("x" * ROOM))
    await journal.refused()
    assert chunk_writer.full
    with pytest.raises(StorageUnavailable):
        await chunk_writer.drained()


async def test_what_was_refused_is_in_the_rest() -> None:
    chunk_writer, journal = _chunk_writer()
    for piece in "ab":
        chunk_writer.write(Delta(piece))
    settling = asyncio.create_task(chunk_writer.settled())
    await asyncio.sleep(0)
    await journal.refused()
    await settling
    assert [draft.data["text"] for draft in chunk_writer.rest()] == ["ab"] == [chunk_writer.text]


async def test_a_chunk_writer_reports_when_it_is_full() -> None:
    chunk_writer, journal = _chunk_writer()
    chunk_writer.write(Delta("first"))
    chunk_writer.write(Delta("x" * ROOM))
    assert not chunk_writer.full
    chunk_writer.write(Delta("y"))
    assert chunk_writer.full
    await journal.on_disk()
    assert not chunk_writer.full


async def test_an_append_that_was_abandoned_breaks_nothing() -> None:
    chunk_writer, journal = _chunk_writer()
    chunk_writer.write(Delta("a"))
    journal.open.pop(0).cancel()
    await asyncio.sleep(0)
    chunk_writer.write(Delta("b"))
    await journal.on_disk()
    await chunk_writer.drained()
    assert journal.texts == [["a"], ["b"]]


def _call(arguments: str, index: int = 0, **opening: str) -> Delta:
    """A piece of a tool call; with `id` and `name` where it begins."""
    named = {"name": opening["name"]} if "name" in opening else {}
    called = {"id": opening["id"], "type": "function"} if "id" in opening else {}
    function = named | {"arguments": arguments}
    return Delta("", call={"index": index} | called | {"function": function})


def test_pieces_of_one_tool_call_become_one_and_calls_stay_apart() -> None:
    pieces = [_call("", id="a", name="f"), _call("{"), _call("}"), Delta("x")]
    pieces += [_call("[", 1), _call("]", 1), _call("", 1, id="b", name="g")]
    assert joined(pieces) == [
        _call("{}", id="a", name="f"),
        Delta("x"),
        _call("[]", 1),
        _call("", 1, id="b", name="g"),
    ]


async def test_a_tool_call_is_an_event_and_no_text() -> None:
    chunk_writer, journal = _chunk_writer()
    chunk_writer.write(_call("{}", id="a", name="f"))
    (draft,) = journal.appended[0]
    assert (draft.type, chunk_writer.text) == (EventType.TOOL_CALL, "")
    assert draft.data["function"] == {"name": "f", "arguments": "{}"}
