"""Large bodies where the system gives little memory: refused as overload, and the service lives."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from tests.flows.process import Provider, service, settings
from tests.web.serving import expect, refused

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no limit can be set from outside")
MIB = 1 << 20
BODIES = (
    b'{"content": "' + b"x" * 9_000_000 + b'", "delay_s": 3600}',
    b'{"content": "' + "你".encode() * 3_000_000 + b'", "delay_s": 3600}',
    b'{"content": "' + b"\\u0001" * 1_500_000 + b'", "delay_s": 3600}',
)


def limit(pid: int, more: int) -> None:
    """Let the process take so many bytes of address space beyond what it has."""
    import resource

    room = psutil.Process(pid).memory_info().vms + more
    resource.prlimit(pid, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))


@pytest.mark.parametrize("more", [60, 250, 330, 400, 480])
async def test_twelve_large_submits_at_once(tmp_path: Path, sim: Provider, more: int) -> None:
    async with service(settings(tmp_path, sim.url)) as remote:
        await remote.submit("x", delay_s=3600)
        limit(remote.process.pid, more * MIB)
        counts: Counter[int] = Counter()
        dropped: Counter[str] = Counter()
        for path in ("/tasks", "/v1/chat/completions"):
            answers = await asyncio.gather(
                *(remote.http.post(path, content=BODIES[n % 3]) for n in range(12)),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, httpx.ReadError | httpx.RemoteProtocolError):
                    # Where the event loop gets no memory for the bytes of a socket, no code of the
                    # service is called: the loop closes the connection.
                    dropped[path] += 1
                    continue
                assert isinstance(answer, httpx.Response), answer
                counts[answer.status_code] += 1
                if answer.status_code == 503:
                    refused(answer, 503, "overloaded")
                    assert int(answer.headers["retry-after"]) >= 1
                elif path == "/tasks":
                    assert answer.status_code == 202, answer.text
                else:  # the body is read, and is not what the path takes
                    assert answer.status_code == 400
                    assert "model" in answer.text
        # With more, all fit where the requests happen to be read one after another.
        assert counts[503] or dropped.total() or more > 60
        assert dropped.total() <= 2, "a rare outcome; the answer to overload is 503"
        limit(remote.process.pid, 2048 * MIB)
        assert (await remote.done(await remote.submit("small")))["status"] == "completed"
        listed = expect(await remote.http.get("/tasks?limit=50&status=scheduled"), 200)["tasks"]
        assert 0 <= len(listed) - (1 + counts[202]) <= dropped["/tasks"]
        assert "Traceback" not in remote.process.log


async def test_a_large_task_is_shown_in_pieces_or_refused_where_there_is_no_memory(
    tmp_path: Path, sim: Provider
) -> None:
    async with service(settings(tmp_path, sim.url)) as remote:
        answer = await remote.http.post("/tasks", content=BODIES[0])
        task_id = expect(answer, 202)["task_id"]
        limit(remote.process.pid, 60 * MIB)
        shown = await remote.http.get(f"/tasks/{task_id}")
        if shown.status_code == 200:
            assert len(shown.json()["content"]) == 9_000_000
        else:
            refused(shown, 503, "overloaded")
        limit(remote.process.pid, 2048 * MIB)
        assert len((await remote.task(task_id))["content"]) == 9_000_000
        assert "Traceback" not in remote.process.log
