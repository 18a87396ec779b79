import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.execution.call import ROOM, ChunkWriter
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.providers.answers.delta import Delta, joined
from asyncsvc.tasks.state import Draft, EventType, Request, Task


class _Journal(Journal):
    """Takes appends and leaves it to the test when each is on the disk."""

    def __init__(self) -> None:
        self.appended: list[Sequence[Draft]] = []
        self.open: list[asyncio.Future[list[Task]]] = []

    def append(self, *entries: Any, then: Any = None) -> asyncio.Future[list[Task]]:
        (change,) = entries
        assert isinstance(change, Change)
        assert change.task_id == "t"
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
    return ChunkWriter(journal, Task(Request("t"))), journal


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
    assert chunk_writer.waiting_chars > ROOM
    with pytest.raises(StorageUnavailable):
        await chunk_writer.drained()


@pytest.mark.parametrize("closing", [False, True])
async def test_a_long_piece_goes_to_the_disk_in_parts(closing: bool) -> None:
    chunk_writer, journal = _chunk_writer()
    text = "".join(f"{number:7} " for number in range(3 * ROOM // 8 + 5))
    chunk_writer.write(Delta("before"))
    chunk_writer.write(Delta(text))
    chunk_writer.write(Delta("after"))
    ending = asyncio.create_task(chunk_writer.settled() if closing else chunk_writer.drained())
    while journal.open:
        await journal.on_disk()
    await ending
    rest = [draft.data["text"] for draft in chunk_writer.rest()]
    stored = [text for texts in journal.texts for text in texts]
    assert "".join(stored + rest) == f"before{text}after" == chunk_writer.text
    assert all(len("".join(texts)) <= ROOM for texts in [*journal.texts, rest])
    assert bool(rest) is closing


async def test_the_parts_of_a_long_call_of_a_tool_are_joined_to_the_same_call() -> None:
    chunk_writer, journal = _chunk_writer()
    call = {"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    long = {"function": {"name": "f", "arguments": "x" * (2 * ROOM + 1)}}
    chunk_writer.write(Delta("", call=call | long))
    while journal.open:
        await journal.on_disk()
    pieces = [draft.data for drafts in journal.appended for draft in drafts]
    assert [len(piece["function"]["arguments"]) for piece in pieces] == [ROOM, ROOM, 1]
    assert [piece.get("id") for piece in pieces] == ["c", None, None]
    assert {piece["index"] for piece in pieces} == {1}


async def test_a_long_piece_that_the_disk_refuses_stays_whole_and_in_order() -> None:
    chunk_writer, journal = _chunk_writer()
    text = "ab" * ROOM
    chunk_writer.write(Delta(text))
    await journal.on_disk()
    await journal.refused()
    chunk_writer.write(Delta("c"))
    while journal.open:
        await journal.on_disk()
    stored = [texts for number, texts in enumerate(journal.texts) if number != 1]
    assert "".join(text for texts in stored for text in texts) == f"{text}c"


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
    assert chunk_writer.waiting_chars <= ROOM
    chunk_writer.write(Delta("y"))
    assert chunk_writer.waiting_chars > ROOM
    await journal.on_disk()
    assert chunk_writer.waiting_chars <= ROOM


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
