"""The lines of a batch's input, in whatever pieces they come."""

import json

import pytest

from asyncsvc.batches import lines as module
from asyncsvc.batches.lines import Inputs, validated
from asyncsvc.errors import InvalidRequest

CHAT = "/v1/chat/completions"


class Pieces:
    """Stands for a file whose pieces have this size."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = data
        self._size = size

    async def piece(self, n: int, offset: int) -> bytes:
        end = (offset // self._size + 1) * self._size
        return self._data[offset:end]


def line(custom_id: str, text: str = "é") -> bytes:
    value = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"t": text}}
    return json.dumps(value, ensure_ascii=False).encode()


def reading(data: bytes, size: int = 7, most: int = 10_000) -> Inputs:
    return Inputs(Pieces(data, size), 1, most)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n \n"])
async def test_lines_are_the_same_in_all_pieces_and_from_all_offsets(
    monkeypatch: pytest.MonkeyPatch, size: int, end: bytes
) -> None:
    data = line("a") + b"\n\n" + line("b") + b"\r\n" + line("c") + end
    inputs = reading(data, size)
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
    inputs = reading(b"\n".join(line(str(i)) for i in range(10)), 50)
    monkeypatch.setattr(module, "STEP_BYTES", 2 * len(line("0")))
    some, offset = await inputs.some(0, 0, 9)
    assert [one.number for one in some] == [1, 2]
    assert (await inputs.some(offset, 2, 9))[0][0].custom_id == "2"


@pytest.mark.parametrize("end", [b"", b"\n"])
async def test_a_line_that_is_too_long(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    inputs = reading(line("a") + b"\n" + line("b", "x" * 500) + end, 50, 200)
    total, [fault] = await validated(inputs, CHAT)
    assert (total, fault["code"], fault["line"]) == (1, "line_too_long", 2)
    with pytest.raises(InvalidRequest):
        await inputs.some(0, 0, 9)


async def test_not_too_many_lines_and_not_too_many_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_MOST", 3)
    inputs = reading(b"\n".join(line(str(i)) for i in range(9)), 500)
    _, [fault] = await validated(inputs, CHAT)
    assert (fault["code"], fault["line"]) == ("too_many_lines", 4)
    monkeypatch.setattr(module, "ERRORS_MOST", 2)
    _, faults = await validated(reading(b"{\n{\n{\n"), CHAT)
    assert [one["line"] for one in faults] == [1, 2]


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
async def test_a_bom_is_taken_at_the_head_and_where_files_were_joined(
    monkeypatch: pytest.MonkeyPatch, size: int, end: bytes
) -> None:
    bom = b"\xef\xbb\xbf"
    data = bom + line("a") + b"\r\n\r\n" + bom + line("b") + end
    inputs = reading(data, size)
    assert await validated(inputs, CHAT) == (2, [])
    first, offset = await inputs.some(0, 0, 1)
    second, _ = await inputs.some(offset, 1, 9)
    assert [one.custom_id for one in first + second] == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("bom", [False, True])
async def test_another_encoding_is_named(
    monkeypatch: pytest.MonkeyPatch, encoding: str, bom: bool
) -> None:
    text = ("\ufeff" if bom and encoding[-2:] in ("le", "be") else "") + line("a").decode() + "\n"
    total, [fault] = await validated(reading(text.encode(encoding), 5_000), CHAT)
    assert (total, fault["code"], fault["line"]) == (0, "invalid_encoding", 1)
    assert encoding[:6].upper() in fault["message"]
    assert "UTF-8" in fault["message"]


async def test_a_fault_has_the_number_that_an_editor_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\n\n" + line("a") + b"\n  \n{\n\n" + line("a") + b"\n"
    total, faults = await validated(reading(data, 50), CHAT)
    assert (total, [fault["line"] for fault in faults]) == (3, [5, 7])
    long = reading(b"\n" + line("a") + b"\n\n" + line("b", "x" * 500), 50, 200)
    _, [fault] = await validated(long, CHAT)
    assert (fault["code"], fault["line"]) == ("line_too_long", 4)
    assert "200 bytes" in fault["message"]


async def test_a_line_in_latin_1_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = line("a") + b"\n" + line("b").decode().encode("latin-1") + b"\n"
    _, [fault] = await validated(reading(data, 50), CHAT)
    assert (fault["code"], fault["line"]) == ("invalid_json_line", 2)


async def test_a_file_of_nothing_but_a_bom_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    _, [fault] = await validated(reading(b"\xef\xbb\xbf\r\n"), CHAT)
    assert fault["code"] == "empty_file"
