"""The tools that run programs, in the sandbox that this machine has, and in none."""

import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncsvc.config.settings import Tools
from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox import Unavailable
from asyncsvc.tools.execute import Runner, exec_tools
from asyncsvc.tools.registry import Toolbox, Workspaces
from asyncsvc.tools.tool import Result, Surroundings
from asyncsvc.tools.workspace import Workspace

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="programs run on Linux"),
]

ALLOWED = ["python3", "ls", "cat", "sh", "sleep"]


class Bench:
    """A workspace, and the tools that run programs in it."""

    def __init__(self, root: Path, runner: Runner) -> None:
        self.root = root
        self.written: list[str] = []
        self._toolbox = Toolbox(exec_tools(runner, ALLOWED), Workspaces(root.parent), runner)
        self._around = Surroundings(Workspace(root), None, 10_000, self.written.append)

    async def run(self, name: str, **values: Any) -> Result:
        tool = self._toolbox.tool(name)
        return await self._toolbox.run(tool, self._toolbox.given(tool, values), self._around)

    async def git(self, *args: str) -> Result:
        return await self.run("git", args=list(args))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runner() -> AsyncIterator[Runner]:
    found = Runner(Tools(timeout_s=20))
    sandbox = await found.sandbox()
    if isinstance(sandbox, Unavailable):
        pytest.skip(sandbox.reason)
    yield found
    await found.close()


@pytest.fixture
def bench(tmp_path: Path, runner: Runner) -> Bench:
    root = tmp_path / "ws"
    root.mkdir()
    (tmp_path / "secret").write_text("the secret")
    return Bench(root, runner)


async def test_a_program_runs_in_the_workspace(bench: Bench) -> None:
    (bench.root / "a.txt").write_text("hello")
    assert await bench.run("exec_command", argv=["cat", "a.txt"]) == Result(True, "hello")
    assert "".join(bench.written) == "hello"
    found = await bench.run("exec_command", argv=["cat"], stdin="from outside")
    assert found.output == "from outside"
    found = await bench.run("exec_command", argv=["ls", "none"])
    assert (found.ok, found.exit_code != 0) == (False, True)
    found = await bench.run("exec_command", argv=["cat", str(bench.root.parent / "secret")])
    assert not found.ok
    assert "the secret" not in found.output


async def test_python_runs_and_imports_from_the_workspace(bench: Bench) -> None:
    (bench.root / "mine.py").write_text("ANSWER = 42")
    assert (await bench.run("exec_python", code="import mine; print(mine.ANSWER)")).output == "42\n"
    found = await bench.run("exec_python", code="raise SystemExit(3)")
    assert (found.ok, found.exit_code) == (False, 3)
    code = "open('made', 'w').write('x'); import os; print(sorted(os.environ))"
    assert (await bench.run("exec_python", code=code)).ok
    assert (bench.root / "made").read_text() == "x"


async def test_a_program_that_takes_too_long_is_killed(bench: Bench) -> None:
    found = await bench.run("exec_command", argv=["sleep", "60"], timeout_s=0.5)
    assert (found.ok, found.exit_code) == (False, 137)
    assert "killed after 0.5 s" in found.output


@pytest.mark.parametrize(
    "argv", [["rm", "a"], ["/bin/sh"], ["./sh"], ["sh;ls"], [""], ["python3\x00"]]
)
async def test_only_programs_of_the_list_are_run(bench: Bench, argv: list[str]) -> None:
    found = await bench.run("exec_command", argv=argv)
    assert (found.ok, found.exit_code) == (False, 1)
    assert "not allowed" in found.output


async def test_what_no_system_could_start_is_a_text_for_the_model(bench: Bench) -> None:
    for argv in (["ls", "a\x00b"], ["ls", "x" * 200_000]):
        found = await bench.run("exec_command", argv=argv)
        assert not found.ok
        assert "argv" in found.output


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
async def test_git_keeps_a_history(bench: Bench) -> None:
    begun = await bench.git("init")
    assert begun.output == "Initialized empty Git repository in /ws/.git/\n"
    assert not (bench.root / ".git/hooks").exists()
    (bench.root / "a").write_text("one\n")
    assert (await bench.git("status", "--short", "--branch")).output == (
        "## No commits yet on main\n?? a\n"
    )
    assert (await bench.git("add", "a")).ok
    committed = await bench.git("commit", "-m", "first")
    assert committed.ok, committed.output
    assert "first" in (await bench.git("log", "--oneline")).output
    (bench.root / "a").write_text("two\n")
    assert "+two" in (await bench.git("diff")).output
    assert "+one" in (await bench.git("show", "--text", "HEAD")).output
    assert "first" in (await bench.git("log", "-S", "one", "--format=%s")).output
    assert (await bench.git("restore", "a")).ok
    assert (bench.root / "a").read_text() == "one\n"


@needs_git
@pytest.mark.parametrize(
    "args",
    [
        ["push"],
        ["clone", "a"],
        ["config", "x", "y"],
        ["-c", "alias.x=!touch /ws/ran", "x"],
        ["--exec-path=/ws", "status"],
        ["--git-dir=/ws/other", "status"],
        ["-C", "/", "status"],
        ["diff", "--ext-diff"],
        ["diff", "--ext-d"],
        ["log", "--output=x"],
        ["log", "--outp", "x"],
        ["show", "--textc"],
        ["diff", "--submodule=diff"],
        ["diff", "--ignore-sub=none"],
        ["commit", "-Skey", "-m", "x"],
        ["commit", "--gpg", "-m", "x"],
        ["init", "--template=/ws/hostile"],
        ["init", "--separate-git-dir=/ws/other"],
        ["restore", "--recurse-submodules", "a"],
    ],
)
async def test_git_takes_no_option_that_starts_a_program(bench: Bench, args: list[str]) -> None:
    found = await bench.git(*args)
    assert (found.ok, found.exit_code) == (False, 1)
    assert "not allowed" in found.output


@needs_git
async def test_git_never_waits_for_a_person(bench: Bench) -> None:
    await bench.git("init")
    (bench.root / "a").write_text("one\n")
    await bench.git("add", "a")
    for args in (["commit"], ["commit", "-F", "-"], ["commit", "--interactive"]):
        found = await bench.git(*args)
        assert not found.ok
        assert "killed" not in found.output
    assert (await bench.git("commit", "-m", "first")).ok
    assert (await bench.git("commit", "--amend")).ok
    (bench.root / "a").write_text("two\n")
    for args in (["add", "-p"], ["restore", "-p"], ["diff", "--no-index", "a", "-"]):
        assert "killed" not in (await bench.git(*args)).output
    outside = await bench.git("diff", "--no-index", "/dev/null", str(bench.root.parent / "secret"))
    assert "the secret" not in outside.output


HOSTILE = [
    "filter.x.clean=touch /ws/ran",
    "diff.external=touch /ws/ran",
    "diff.x.textconv=touch /ws/ran",
    "core.sshCommand=touch /ws/ran",
    "alias.status=!touch /ws/ran",
    "include.path=/ws/other",
    "gpg.program=touch /ws/ran",
    "interactive.diffFilter=touch /ws/ran",
    "remote.x.uploadpack=touch /ws/ran",
    "filter.a b.clean=touch /ws/ran",
]


@needs_git
@pytest.mark.parametrize("file", ["config", "config.worktree"])
@pytest.mark.parametrize("setting", HOSTILE)
async def test_a_configuration_that_starts_programs_is_refused(
    bench: Bench, setting: str, file: str
) -> None:
    key, _, value = setting.partition("=")
    await bench.git("init")
    (bench.root / "a").write_text("one\n")
    (bench.root / ".gitattributes").write_text("* filter=x diff=x")
    set_up = (
        f"git config extensions.worktreeConfig true; git config -f .git/{file} '{key}' '{value}'"
    )
    assert (await bench.run("exec_command", argv=["sh", "-c", set_up])).ok
    for args in (["status"], ["diff"], ["add", "a"]):
        found = await bench.git(*args)
        assert "may start a program" in found.output
    assert not (bench.root / "ran").exists()


@needs_git
async def test_a_configuration_that_cannot_be_read_whole_is_refused(bench: Bench) -> None:
    await bench.git("init")
    config = bench.root / ".git/config"
    before = config.read_text()
    many = "".join(f"[s{number}]\n\tkey = value\n" for number in range(150_000))
    config.write_text(f'{before}{many}[filter "x"]\n\tclean = touch /ws/ran\n{many}')
    assert "it is too long" in (await bench.git("status")).output
    config.write_text(before + "[broken\n")
    assert "cannot be read" in (await bench.git("status")).output


@needs_git
async def test_no_object_is_fetched_from_where_a_repository_says(bench: Bench) -> None:
    await bench.git("init")
    (bench.root / "a").write_text("one\n")
    await bench.git("add", "a")
    await bench.git("commit", "-m", "first")
    promises = {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": "ext::touch /ws/ran",
        "protocol.ext.allow": "always",
    }
    set_up = "; ".join(f"git config {key} '{value}'" for key, value in promises.items())
    lose = "rm -f $(git rev-parse HEAD:a | sed 's|^..|.git/objects/&/|')"
    assert (await bench.run("exec_command", argv=["sh", "-c", f"{lose}; {set_up}"])).ok
    assert not (await bench.git("show", "HEAD:a")).ok
    assert not (bench.root / "ran").exists()
    unguarded = await bench.run("exec_command", argv=["sh", "-c", "git show HEAD:a"])
    assert not unguarded.ok
    assert (bench.root / "ran").exists()


@needs_git
async def test_hooks_of_a_repository_do_not_run(bench: Bench) -> None:
    hooks = "; ".join(
        f"printf '#!/bin/sh\\ntouch /ws/ran\\n' > .git/hooks/{name}; chmod +x .git/hooks/{name}"
        for name in ("pre-commit", "post-commit", "commit-msg", "prepare-commit-msg",
                     "post-index-change", "reference-transaction", "fsmonitor-watchman")
    )  # fmt: skip
    set_up = f"git init -q . && echo one > a; mkdir -p .git/hooks; {hooks}"
    assert (await bench.run("exec_command", argv=["sh", "-c", set_up])).ok
    assert (await bench.git("init")).ok
    assert (await bench.git("add", "a")).ok
    assert (await bench.git("commit", "-m", "first")).ok
    assert not (bench.root / "ran").exists()


@needs_git
async def test_a_repository_within_the_repository_starts_nothing(bench: Bench) -> None:
    await bench.git("init")
    set_up = """
    git init -q sub; cd sub
    echo one > a; echo '* filter=x' > .gitattributes
    git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x; git add .; cd ..
    git add sub; cd sub; git config filter.x.clean 'touch /ws/ran; cat'; echo two > a
    """
    await bench.run("exec_command", argv=["sh", "-c", set_up])
    (bench.root / ".gitmodules").write_text(
        '[submodule "sub"]\n\tpath = sub\n\turl = ./sub\n\tignore = none\n'
    )
    for args in (["status"], ["diff"], ["show"], ["add", ".gitmodules"], ["commit", "-m", "x"]):
        await bench.git(*args)
        assert not (bench.root / "ran").exists(), args
    await bench.run("exec_command", argv=["sh", "-c", "touch sub/a; git status"])
    assert (bench.root / "ran").exists()


async def test_without_a_sandbox_programs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(_: Tools) -> Unavailable:
        return Unavailable("exec tools need Linux; this is Darwin")

    monkeypatch.setattr("asyncsvc.tools.execute.choose", none)
    runner = Runner(Tools())
    assert runner.as_dict() == {"name": None, "reason": "it has not been tried yet"}
    bench = Bench(tmp_path, runner)
    with pytest.raises(SandboxUnavailable, match="this is Darwin"):
        await bench.run("exec_python", code="pass")
    assert runner.as_dict()["reason"] == "exec tools need Linux; this is Darwin"
    await runner.close()
