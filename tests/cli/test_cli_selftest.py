"""`selftest` on real processes: a service that holds, one that does not, and an early end."""

import asyncio
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import psutil
import pytest

from asyncsvc.cli.parser import run
from asyncsvc.cli.selftest_page import CHILD
from asyncsvc.cli.serve import fastest_loop
from asyncsvc.selftest import checks, processes
from asyncsvc.selftest.checks import Outcome
from asyncsvc.selftest.crashes import Crashes, Load
from asyncsvc.selftest.disk import IN_MEMORY, place
from asyncsvc.selftest.processes import Child, NotReady, Program, get, until
from tests.cli.processes import ROOT, Process, environment
from tests.selftest.sabotaged import STORED

pytestmark = pytest.mark.timeout(300)  # seven starts of a service; a busy machine takes its time
SABOTAGED = ROOT / "tests" / "selftest" / "sabotaged.py"


def test_a_service_that_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["selftest", "--kills", "2", "--dir", str(tmp_path), "--seed", "5", "--json"])
    page = json.loads(capsys.readouterr().out)
    in_memory = place(tmp_path).file_system in IN_MEMORY
    failed = [line for line in page["checks"] if line["outcome"] == "failed"]
    assert [line["name"] for line in failed] == (["disk"] if in_memory else []), failed
    assert (code, page["durable"]) == (int(in_memory), not in_memory)
    names = [line["name"] for line in page["checks"]]
    assert {"sandbox", "tasks", "finished", "events", "limits", "database", "clock"} <= {*names}
    assert list(tmp_path.iterdir()) == []


class Sabotaged(Crashes):
    """Kills a service as soon as its faults have come about."""

    async def kill_once(self, service: Child) -> None:
        await until(self._too_early if not self.evidence.lives.kills else self._too_many, 120)
        await service.kill()
        await self.look()
        await service.start()

    async def _too_early(self) -> bool:
        return len(self.evidence.ledger.accepted) > STORED + 3

    async def _too_many(self) -> bool:
        """Whether the limit was broken; and there are tasks that may begin again."""
        settings = tomllib.loads((self.folder / "settings.toml").read_text())
        provider = settings["models"]["limited"]["base_url"].removesuffix("/v1")
        models = (await get(self.client, f"{provider}/_sim/stats"))["models"]
        return bool(models["limited"]["violations"]["rate"]) and models["quick"]["answered"] > 9


async def test_a_service_that_does_not_hold(tmp_path: Path) -> None:
    program = Program([sys.executable, str(SABOTAGED), "early,again,twice,limit"], tmp_path)
    load = Load(kills=2, per_s=20, seed=5, rpm=2, window_s=60, drain_s=2)
    async with processes.session() as client:
        crashes = Sabotaged(program, tmp_path, client, load, lambda _: None)
        lines = {line.name: line for line in checks.of_run(await crashes.go(), load, 0.0)}
    for name, fault in (
        ("tasks", "lost"),
        ("finished", "had ended as"),
        ("events", "came after"),
        ("limits", "violations of limited's rate limit"),
    ):
        assert lines[name].outcome is Outcome.FAILED, name
        assert any(fault in detail for detail in lines[name].details), lines[name]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = ["selftest", "--kills", "50", "--dir", str(tmp_path)]
    process = Process(argv, tmp_path, environment())
    try:
        process.until("first start", "err")
        children = psutil.Process(process.popen.pid).children(recursive=True)
        process.signal(signal.SIGINT)
        ended = process.ended()
    finally:
        process.close()
    assert (ended.code, ended.out) == (130, "")
    assert "Traceback" not in ended.err
    assert [child for child in children if child.is_running()] == []
    assert list(tmp_path.iterdir()) == []


def test_a_child_ends_with_its_parent() -> None:
    argv = [sys.executable, str(CHILD), "simulator"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert b"listening" in child.stdout.readline()
        child.stdin.close()
        assert child.wait(60) == 1


def test_a_child_whose_start_is_cancelled_is_ended(tmp_path: Path) -> None:
    async def cancelled() -> Child:
        child = Child(tmp_path, "sleeper", [sys.executable, "-c", "input()"], "/readyz")
        launch = asyncio.create_task(child.launch())
        await asyncio.sleep(0)
        launch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launch
        await child.end()
        return child

    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        child = runner.run(cancelled())
    assert child.process.returncode is not None
    assert not psutil.pid_exists(child.process.pid)


async def test_a_child_that_is_not_ready_says_what_it_answered(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\nconnection: close\r\n\r\noverloaded: disk")
        writer.close()

    argv = [sys.executable, "-c", "import sys; print('slow', file=sys.stderr); input()"]
    child = Child(tmp_path, "sleeper", argv, "/readyz")
    child.most_ready_s = 0.5
    async with await asyncio.start_server(refuse, "127.0.0.1", child.port):
        with pytest.raises(NotReady, match=r"not ready within 0\.5 s .*overloaded: disk"):
            async with child:
                raise AssertionError
    assert child.process.returncode is not None
