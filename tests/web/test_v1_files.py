"""/v1/files: uploads in pieces, lists, content, and forms that are no forms."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.polling import until
from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1 << 20


def form(*parts: tuple[str, str], end: str = "--X--\r\n") -> dict[str, Any]:
    """A request with a multipart form of (disposition, content)."""
    body = "".join(
        f"--X\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n"
        for head, content in parts
    )
    return {
        "content": (body + end).encode(),
        "headers": {"content-type": "multipart/form-data; boundary=X"},
    }


FILE = ('name="file"; filename="a.jsonl"', "{}\n")
PURPOSE = ('name="purpose"', "batch")


@pytest.mark.parametrize("size", [1, 256 * 1024, 256 * 1024 + 1, 3 * MIB + 17])
async def test_the_content_of_a_file_is_that_of_its_upload(sdk: AsyncOpenAI, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    made = await sdk.files.create(file=("a.jsonl", data), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (
        size,
        "a.jsonl",
        "batch",
        "processed",
    )
    assert (await sdk.files.content(made.id)).content == data
    assert (await sdk.files.retrieve(made.id)).to_dict() == made.to_dict()


async def test_lists_are_in_order_and_in_pages(sdk: AsyncOpenAI) -> None:
    made = [(await sdk.files.create(file=(f"{i}", b"x"), purpose="batch")).id for i in range(3)]
    newest = await sdk.files.list(limit=2)
    assert [one.id for one in newest.data] == [made[2], made[1]]
    assert newest.has_more
    every = [one.id async for one in sdk.files.list(limit=2, order="asc", purpose="batch")]
    assert every[-3:] == made
    assert [one.id async for one in sdk.files.list(purpose="assistants")] == []
    with pytest.raises(openai.BadRequestError):
        await sdk.files.list(order="up")  # type: ignore[arg-type]


async def test_a_deleted_file_is_gone_and_its_disk_space_is_free(tmp_path: Path) -> None:
    async with serving(tmp_path) as own:
        async with AsyncOpenAI(base_url=f"{own.url}/v1", api_key="x", max_retries=0) as sdk:
            made = await sdk.files.create(file=("a", b"x" * 5 * MIB), purpose="batch")
            assert (await sdk.files.delete(made.id)).deleted
            for ask in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
                with pytest.raises(openai.NotFoundError):
                    await ask(made.id)
            assert [one async for one in sdk.files.list()] == []
        with sqlite3.connect(tmp_path / "tasks.db") as database:

            async def left() -> int:
                return int(database.execute("SELECT COUNT(*) FROM files").fetchone()[0])

            await until(left, lambda count: count == 0)
            assert database.execute("SELECT COUNT(*) FROM pieces").fetchone()[0] == 0
        database.close()


async def test_a_file_above_the_limit_leaves_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    async with serving(tmp_path, storage={"path": path, "max_file_bytes": MIB}) as own:
        body = form(PURPOSE, ('name="file"; filename="a"', "x" * (MIB + 1)))
        answer = await own.http.post("/v1/files", **body)
        refused(answer, 413, "task_too_large")
        assert expect(await own.http.get("/v1/files"), 200)["data"] == []
        fits = form(('name="file"; filename="a"', "x" * MIB), PURPOSE)
        assert expect(await own.http.post("/v1/files", **fits), 200)["bytes"] == MIB


async def test_an_upload_that_breaks_off_is_no_file(service: Service) -> None:
    before = expect(await service.http.get("/v1/files"), 200)["data"]
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999\r\n"
    head += "Content-Type: multipart/form-data; boundary=X\r\n\r\n"
    start = form(PURPOSE, FILE, end="")["content"]
    writer.write(head.encode() + start)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader
    assert expect(await service.http.get("/v1/files"), 200)["data"] == before


async def test_expiry_is_as_asked(sdk: AsyncOpenAI, service: Service) -> None:
    made = await sdk.files.create(
        file=("a", b"x"),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert made.expires_at is not None
    assert 3590 < made.expires_at - made.created_at < 3610
    soon = ('name="expires_after[seconds]"', "5")
    anchor = ('name="expires_after[anchor]"', "created_at")
    answer = await service.http.post("/v1/files", **form(PURPOSE, FILE, soon, anchor))
    refused(answer, 400, "invalid_request")
    refused(
        await service.http.post("/v1/files", **form(PURPOSE, FILE, soon)), 400, "invalid_request"
    )


@pytest.mark.parametrize(
    "body",
    [
        form(PURPOSE),
        form(FILE),
        form(FILE, ('name="purpose"', "assistants")),
        form(PURPOSE, FILE, FILE),
        form(PURPOSE, ('name="file"; filename="a"', "")),
        form(PURPOSE, FILE, end=""),
        form(PURPOSE, FILE, ('name="long"', "x" * 2000)),
        form(*[PURPOSE] * 20, FILE),
        {"content": b"--Y", "headers": {"content-type": "multipart/form-data; boundary=X"}},
        {"content": b"{}", "headers": {"content-type": "application/json"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
    ],
)
async def test_a_wrong_form_is_refused(service: Service, body: dict[str, Any]) -> None:
    before = expect(await service.http.get("/v1/files"), 200)["data"]
    refused(await service.http.post("/v1/files", **body), 400, "invalid_request")
    assert expect(await service.http.get("/v1/files"), 200)["data"] == before


async def test_the_files_of_one_owner_have_a_quota(tmp_path: Path) -> None:
    async with serving(
        tmp_path, storage={"path": str(tmp_path / "x.db"), "max_files_mb": 2}
    ) as own:

        async def send(size: int, owner: str = "alice") -> httpx.Response:
            return await own.http.post(
                "/v1/files",
                files={"file": ("a", b"x" * size)},
                data={"purpose": "batch"},
                headers={"x-user": owner},
            )

        first = expect(await send(1_500_000), 200)["id"]
        for size in (600_000, 50_000_000):  # refused at its end, and while it comes
            error = refused(await send(size), 413, "task_too_large")
            assert "your files hold" in error["message"]
            assert "storage.max_files_mb" in error["message"]
            assert error["param"] == "file"
        expect(await send(1_500_000, "bob"), 200)
        expect(await send(400_000), 200)
        expect(await own.http.delete(f"/v1/files/{first}", headers={"x-user": "alice"}), 200)
        expect(await send(1_000_000), 200)


async def test_small_files_count_as_much_as_they_take(tmp_path: Path) -> None:
    async with serving(
        tmp_path, storage={"path": str(tmp_path / "x.db"), "max_files_mb": 1}
    ) as own:
        codes = [
            (
                await own.http.post(
                    "/v1/files", files={"file": ("a", b"x")}, data={"purpose": "batch"}
                )
            ).status_code
            for _ in range(260)
        ]
        assert codes[:240] == [200] * 240
        assert codes[-1] == 413
