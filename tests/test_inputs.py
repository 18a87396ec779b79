"""The lines of a batch's input, in whatever pieces they come."""

import json
from typing import Any

import pytest

from asyncsvc.engine import inputs as module
from asyncsvc.engine.inputs import Inputs, validated
from asyncsvc.errors import InvalidRequest
from asyncsvc.tasks import files

CHAT = "/v1/chat/completions"


class Pieces:
    """Stands for a file whose pieces have this size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    async def piece(self, _: Any, n: int, offset: int) -> bytes:
        end = (offset // self._size + 1) * self._size
        return self._data[offset:end]


def line(custom_id: str, text: str = "é") -> bytes:
    value = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"t": text}}
    return json.dumps(value, ensure_ascii=False).encode()


def reading(
    monkeypatch: pytest.MonkeyPatch, data: bytes, size: int = 7, most: int = 10_000
) -> Inputs:
    monkeypatch.setattr(files, "piece", Pieces(data, size).piece)
    return Inputs(None, 1, most)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n \n"])
async def test_lines_are_the_same_in_all_pieces_and_from_all_offsets(
    monkeypatch: pytest.MonkeyPatch, size: int, end: bytes
) -> None:
    data = line("a") + b"\n\n" + line("b") + b"\r\n" + line("c") + end
    inputs = reading(monkeypatch, data, size)
    assert await validated(inputs, CHAT) == (3, [])
    offset, number, found = 0, 0, list[tuple[int, str]]()
    while True:
        some, offset = await inputs.some(offset, number, 1)
        if not some:
            break
        number += len(some)
        found += [(one.number, one.custom_id) for one in some]
    assert found == [(1, "a"), (2, "b"), (3, "c")]


async def test_a_step_ends_where_it_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = reading(monkeypatch, b"\n".join(line(str(i)) for i in range(10)), 50)
    monkeypatch.setattr(module, "STEP_BYTES", 2 * len(line("0")))
    some, offset = await inputs.some(0, 0, 9)
    assert [one.number for one in some] == [1, 2]
    assert (await inputs.some(offset, 2, 9))[0][0].custom_id == "2"


@pytest.mark.parametrize("end", [b"", b"\n"])
async def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    inputs = reading(monkeypatch, line("a") + b"\n" + line("b", "x" * 500) + end, 50, 200)
    total, [fault] = await validated(inputs, CHAT)
    assert (total, fault["code"], fault["line"]) == (1, "line_too_long", 2)
    with pytest.raises(InvalidRequest):
        await inputs.some(0, 0, 9)


async def test_not_too_many_lines_and_not_too_many_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_MOST", 3)
    inputs = reading(monkeypatch, b"\n".join(line(str(i)) for i in range(9)), 500)
    _, [fault] = await validated(inputs, CHAT)
    assert (fault["code"], fault["line"]) == ("too_many_lines", 4)
    monkeypatch.setattr(module, "ERRORS_MOST", 2)
    _, faults = await validated(reading(monkeypatch, b"{\n{\n{\n"), CHAT)
    assert [one["line"] for one in faults] == [1, 2]
