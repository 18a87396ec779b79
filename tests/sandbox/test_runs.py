"""A command in each backend: its output, its exit code, its limits, and what remains of it."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from asyncsvc.errors import InvalidRequest, SandboxUnavailable
from asyncsvc.sandbox import Command, Ended, Sandbox
from asyncsvc.sandbox.choice import BACKENDS, make
from asyncsvc.sandbox.command import MOST_ARGUMENT_BYTES, MOST_STDIN_BYTES, Bounds
from tests.polling import until
from tests.sandbox.test_escapes import backend

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are for Linux")


@pytest.fixture(params=["none", *BACKENDS])
async def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return await backend(request.param)


@pytest.fixture
def run(sandbox: Sandbox, tmp_path: Path) -> Callable[..., asyncio.Future[Ended]]:
    async def ended(*argv: str, **rest: object) -> Ended:
        given: dict[str, object] = {"python": True, "timeout_s": 60.0, **rest}
        return await sandbox.run(Command(argv, tmp_path, **given), lambda _: None)  # type: ignore[arg-type]

    return lambda *argv, **rest: asyncio.ensure_future(ended(*argv, **rest))


Run = Callable[..., asyncio.Future[Ended]]


async def test_output_exit_code_and_stdin(run: Run) -> None:
    code = "import sys; print(sys.stdin.read().upper()); print('e', file=sys.stderr); sys.exit(3)"
    ended = await run("-c", code, stdin="grüße".encode())
    assert ended.exit_code == 3
    assert sorted(ended.output.split()) == ["GRÜSSE", "e"]
    assert not ended.truncated
    assert not ended.timed_out
    assert ended.duration_s > 0


async def test_a_program_by_its_name(run: Run) -> None:
    assert (await run("echo", "ü b", "$HOME;ls", python=False)).output == "ü b $HOME;ls\n"


async def test_a_program_that_is_missing(run: Run) -> None:
    ended = await run("no-such-program", python=False)
    assert ended.exit_code == 127
    assert "No such file" in ended.output


async def test_a_file_that_is_no_program(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    assert (await run("./text", python=False)).exit_code == 126


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
async def test_a_program_that_a_signal_ends(run: Run, number: int) -> None:
    ended = await run("-c", f"import os; os.kill(os.getpid(), {int(number)})")
    assert ended.exit_code == 128 + number


async def test_the_environment_holds_what_is_given_and_no_more(run: Run) -> None:
    ended = await run("-c", "import os; print(*sorted(os.environ))", environ={"MINE": "1"})
    assert set(ended.output.split()) - {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"} == {
        "HOME", "LANG", "MINE", "PATH", "TMPDIR",
    }  # fmt: skip


async def test_the_workspace_keeps_what_is_written(run: Run, tmp_path: Path) -> None:
    await run("-c", "open('kept', 'w').write('x')")
    assert (tmp_path / "kept").read_text() == "x"
    assert (tmp_path / "kept").stat().st_uid == os.getuid()


async def test_what_python_needs_works_in_it(run: Run) -> None:
    code = """
import asyncio, hashlib, multiprocessing, sqlite3, subprocess, tempfile
async def main():
    child = await asyncio.create_subprocess_exec("echo", "child", stdout=subprocess.PIPE)
    return await child.communicate()
print(asyncio.run(main())[0], tempfile.TemporaryFile().fileno() > 0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
print(sqlite3.connect("data.db").execute("PRAGMA journal_mode=WAL").fetchone())
"""
    ended = await run("-c", code)
    assert ended.output == "b'child\\n' True\n[1, 2]\n('wal',)\n"


async def test_long_output_keeps_its_head_and_its_tail(run: Run) -> None:
    ended = await run(
        "-c", "print('head'); print('x' * 300_000); print('tail')", max_output_bytes=10_000
    )
    assert ended.exit_code == 0
    assert ended.truncated
    assert ended.output.startswith("head\n")
    assert ended.output.endswith("x\ntail\n")
    assert "bytes left out …]" in ended.output
    assert len(ended.output.encode()) <= 10_000


async def test_a_flood_of_output_is_killed(run: Run) -> None:
    ended = await run("-c", "while True: print('x' * 100_000)", max_output_bytes=2000)
    assert ended.exit_code is None
    assert not ended.timed_out
    assert ended.truncated
    assert "[killed after 1" in ended.output
    assert len(ended.output.encode()) <= 2000


async def test_a_program_that_takes_too_long_is_killed(run: Run) -> None:
    ended = await run("-c", "print('x', flush=True)\nwhile True: pass", timeout_s=3.0)
    assert ended.exit_code is None
    assert ended.timed_out
    assert ended.output in ("x\n", "")
    assert ended.duration_s < 8


async def test_a_grandchild_that_holds_the_pipe_does_not_hold_the_call(run: Run) -> None:
    code = """
import os, time
if not os.fork():
    os.setsid()
    time.sleep(20)
    os._exit(0)
print("parent")
"""
    ended = await run("-c", code)
    assert ended.output == "parent\n"
    assert ended.exit_code == 0
    assert ended.duration_s < 15


async def test_a_call_that_is_abandoned_leaves_no_process(run: Run, tmp_path: Path) -> None:
    code = "import time\nwhile True: open('pulse', 'a').write('.'); time.sleep(0.01)"
    call = run("-c", code)
    await until(lambda: asyncio.to_thread((tmp_path / "pulse").exists), bool)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.2)
    before = (tmp_path / "pulse").stat().st_size
    await asyncio.sleep(0.2)
    assert (tmp_path / "pulse").stat().st_size == before


async def test_no_descriptor_is_left(run: Run) -> None:
    await run("-c", "pass")
    before = len(os.listdir("/proc/self/fd"))
    for argv in (["-c", "pass"], ["-c", "import time; time.sleep(60)"]):
        await run(*argv, stdin=b"x", timeout_s=2.0)
    await run("no-such-program", python=False)
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_a_call_that_finds_no_more_descriptors_leaves_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    await run("-c", "pass")
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("asyncsvc.sandbox.supervisor.os.pipe", refused)
    ended = await asyncio.gather(run("-c", "pass"), return_exceptions=True)
    monkeypatch.undo()
    assert "too many open files" in str(ended) or "126" in str(ended)
    del ended
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("name", ["none", *BACKENDS])
def test_no_descriptor_of_the_service_is_passed_on(name: str, tmp_path: Path) -> None:
    async def opened() -> str:
        made = await backend(name)
        code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
        command = Command(["-c", code], tmp_path, python=True, timeout_s=60.0)
        return (await made.run(command, lambda _: None)).output

    source, sink = os.pipe()
    os.set_inheritable(sink, True)
    try:
        found = uvloop.run(opened())  # the loop of the service
    finally:
        os.close(source)
        os.close(sink)
    assert found == "[0, 1, 2, 3]\n"


async def test_calls_run_side_by_side(run: Run) -> None:
    ended = await asyncio.gather(*(run("-c", f"print({n})") for n in range(4)))
    assert [one.output for one in ended] == ["0\n", "1\n", "2\n", "3\n"]


@pytest.mark.parametrize(
    ("argv", "rest"),
    [
        ([], {"python": False}),
        ([""], {"python": False}),
        (["a\0b"], {}),
        (["x" * (MOST_ARGUMENT_BYTES + 1)], {}),
        (["x" * 100_000] * 12, {}),
        (["x"], {"environ": {"A": "\0"}}),
        (["x"], {"environ": {"A=B": "1"}}),
        *((["x"], {"timeout_s": seconds}) for seconds in (0, -1, float("inf"), float("nan"))),
        (["x"], {"stdin": bytes(MOST_STDIN_BYTES + 1)}),
    ],
)
async def test_what_no_system_could_start_is_refused(
    run: Run, argv: list[str], rest: dict[str, object]
) -> None:
    with pytest.raises(InvalidRequest):
        await run(*argv, **rest)


async def test_a_lone_surrogate_in_an_argument_is_no_fault_of_ours(run: Run) -> None:
    with pytest.raises(InvalidRequest):
        await run("-c", "print(1)", "\ud800")


async def test_a_workspace_that_is_missing(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        await sandbox.run(Command(["true"], tmp_path / "none"), lambda _: None)


async def test_a_workspace_by_a_relative_path_and_by_a_symlink(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for name in ("real", "link"):
        ended = await sandbox.run(Command(["touch", name], Path(name)), lambda _: None)
        assert ended.exit_code == 0, ended
    assert sorted(os.listdir("real")) == ["link", "real"]


async def test_a_receiver_of_the_output_that_fails_ends_the_call(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    def fail(text: str) -> None:
        raise ZeroDivisionError(text)

    code = "print('x', flush=True)\nimport time; time.sleep(600)"
    with pytest.raises(ZeroDivisionError):
        await sandbox.run(Command(["-c", code], tmp_path, timeout_s=600, python=True), fail)


async def test_no_stdin_is_no_file_of_the_machine(run: Run) -> None:
    ended = await run("-c", "import os; print(os.readlink('/proc/self/fd/0'), os.read(0, 1))")
    assert ended.output.startswith("/memfd:")
    assert ended.output.endswith("b''\n")


async def test_a_memory_bomb_is_a_failure_of_the_program(run: Run, sandbox: Sandbox) -> None:
    if sandbox.name == "none":
        pytest.skip("it would take memory of this machine")
    ended = await run("-c", "held = [bytearray(b'x') * (1 << 24) for _ in range(1000)]")
    assert ended.exit_code
    assert not ended.timed_out


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_program_that_fills_the_disk_is_killed(name: str, tmp_path: Path) -> None:
    await backend(name)
    sandbox = await make(name, Bounds(file=1 << 30, disk=32 << 20))
    assert not isinstance(sandbox, str)
    # A file that is deleted while it is open takes room all the same.
    code = """
import os
file = open("big", "wb")
os.unlink("big")
for _ in range(96):
    file.write(os.urandom(1 << 20))
    file.flush()
import time; time.sleep(600)
"""
    ended = await sandbox.run(
        Command(["-c", code], tmp_path, timeout_s=60, python=True), lambda _: None
    )
    assert ended.exit_code is None
    assert not ended.timed_out
    assert "too much of the disk" in ended.output


SERVICE = """
import asyncio, sys
from pathlib import Path
from asyncsvc.sandbox import Command
from asyncsvc.sandbox.choice import make
from asyncsvc.sandbox.command import Bounds
async def main():
    sandbox = await make(sys.argv[1], Bounds())
    code = "import time\\nwhile True: open('pulse', 'a').write('.'); time.sleep(0.01)"
    await sandbox.run(Command(["-c", code], Path(sys.argv[2]), timeout_s=600, python=True), print)
asyncio.run(main())
"""


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_service_that_is_killed_takes_its_programs_along(name: str, tmp_path: Path) -> None:
    await backend(name)
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVICE, name, str(tmp_path)
    )
    pulse = tmp_path / "pulse"
    await until(lambda: asyncio.to_thread(pulse.exists), bool)
    service.kill()
    await service.wait()
    await asyncio.sleep(0.3)
    before = pulse.stat().st_size
    await asyncio.sleep(0.3)
    assert pulse.stat().st_size == before
