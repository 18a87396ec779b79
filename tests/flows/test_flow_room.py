"""A disk that fills up by files: uploads stop before the rest is gone, and deleting helps."""

import asyncio
import shutil
from pathlib import Path

import httpx

from tests.flows.disks import small_disk
from tests.flows.process import Provider, Remote, service, settings
from tests.web.serving import expect, refused

MB = 1_000_000
KEPT_MB = 80
"""More than what the log may take, so that free pages count."""
SIZE = "200m"
DATABASE = "tasks.db"


async def upload(remote: Remote, megabytes: int) -> httpx.Response:
    content = b"x" * megabytes * MB
    return await remote.http.post(
        "/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "batch"}
    )


async def filled(remote: Remote) -> tuple[list[str], httpx.Response]:
    """The ids of files, until one was refused, and the refusal."""
    ids: list[str] = []
    while (answer := await upload(remote, 10)).status_code == 200:
        ids.append(answer.json()["id"])
    return ids, answer


async def test_uploads_leave_what_is_kept_free_and_deleting_makes_room(
    tmp_path: Path, sim: Provider
) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE, disk_free_mb=KEPT_MB)
        async with service(path) as remote:
            ids, answer = await filled(remote)
            error = refused(answer, 503, "overloaded")
            assert f"limits.disk_free_mb = {KEPT_MB}" in error["message"]
            assert int(answer.headers["retry-after"]) >= 1
            assert len(ids) >= 5
            assert shutil.disk_usage(disk).free > (KEPT_MB - 20) * MB
            for file_id in ids:
                expect(await remote.http.delete(f"/v1/files/{file_id}"), 200)
            async with asyncio.timeout(20):  # at once in free pages, later on the disk
                while (await upload(remote, 10)).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            assert expect(await remote.http.get("/health"), 200)["status"] in ("ok", "degraded")


async def test_no_call_is_begun_without_room_for_its_answer(tmp_path: Path, sim: Provider) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / DATABASE, disk_free_mb=KEPT_MB)
        async with service(path) as remote:
            await remote.done(await remote.submit("first"))
            later = [await remote.submit(f"[[id:later{n}]]", delay_s=4) for n in range(12)]
            ballast = disk / "ballast"
            ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - (KEPT_MB - 20) * MB))
            await asyncio.sleep(6)
            begun = [len(await sim.calls(f"later{n}")) for n in range(12)]
            assert sum(begun) <= 4  # of each slot that waited already
            ballast.unlink()
            for task_id in later:
                assert (await remote.done(task_id))["status"] == "completed"
