"""The tools that run programs: exec_command, exec_python, git. All of them in the sandbox.

A program is named by its plain name and must be in `tools.exec_allow`; it gets an argument list,
never a shell line, so that `;` and `$()` mean nothing. What it writes comes while it runs.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field

from asyncsvc.config.settings import Tools
from asyncsvc.errors import InvalidRequest, SandboxUnavailable
from asyncsvc.sandbox import Command, Sandbox, Unavailable, choose
from asyncsvc.tools.tool import Effects, Parameters, Result, Surroundings, Tool, ToolFault

TIMEOUT_MOST_S = 3600.0
KILLED = 137
"""Exit code of a program that the sandbox has killed, as shells give it: 128 + SIGKILL."""
_SHOWS = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
GIT = {
    "init": ("--template=",),
    "status": ("--ignore-submodules=all",),
    "diff": _SHOWS,
    "log": _SHOWS,
    "show": _SHOWS,
    "add": (),
    "commit": ("--no-gpg-sign",),
    "restore": (),
}
"""The commands of git, with what each is given so that it starts no program of a repository."""
GIT_REFUSED = (
    "--ext-diff", "--textconv", "--output", "--submodule", "--ignore-submodules", "--gpg-sign",
    "--show-signature", "--template", "--separate-git-dir", "--recurse-submodules",
)  # fmt: skip
"""Options that undo this, write a file beside git's own, or look into another repository."""
GIT_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.editor=true",
    "protocol.allow=never",
    "commit.gpgSign=false",
    "log.showSignature=false",
    "init.defaultBranch=main",
    "advice.defaultBranchName=false",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=all",
    "status.submoduleSummary=false",
    "maintenance.auto=false",
    "gc.auto=0",
    "safe.directory=*",
)
GIT_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    # Over protocol.*.allow of a repository, from which a missing object would be fetched.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "agent",
    "GIT_AUTHOR_EMAIL": "agent@localhost",
    "GIT_COMMITTER_NAME": "agent",
    "GIT_COMMITTER_EMAIL": "agent@localhost",
}
PROGRAMS_OF_GIT = (
    "filter.", "alias.", "include.", "includeif.", "gpg.", "credential.", "core.sshcommand",
    "core.askpass", "core.gitproxy", "core.alternaterefscommand", "diff.external",
    "sequence.editor", "interactive.",
    "merge.", "mergetool.", "difftool.", "pager.", "uploadpack.", "receive.", "trailer.",
)  # fmt: skip
"""Keys of a repository's configuration that would start a program, or read another file."""
_PROGRAM_ENDS = (".command", ".textconv", ".driver", ".clean", ".smudge", ".process", ".program",
                 ".uploadpack", ".receivepack", ".vcs", ".proxy")  # fmt: skip


class Runner:
    """Runs programs in the sandbox, which is chosen once; where there is none it refuses."""

    def __init__(self, settings: Tools) -> None:
        self._settings = settings
        self._choice: asyncio.Task[Sandbox | Unavailable] | None = None

    def begin(self) -> "asyncio.Task[Sandbox | Unavailable]":
        """Begin to try the sandboxes, for about a second."""
        if self._choice is None:
            self._choice = asyncio.create_task(choose(self._settings), name="sandbox")
        return self._choice

    async def sandbox(self) -> Sandbox | Unavailable:
        """The sandbox, or why there is none."""
        return await asyncio.shield(self.begin())

    def as_dict(self) -> dict[str, str | None]:
        """The sandbox for the health page: its name, or the reason why there is none."""
        if self._choice is None or not self._choice.done():
            return {"name": None, "reason": "it has not been tried yet"}
        found = self._choice.result()
        if isinstance(found, Unavailable):
            return {"name": None, "reason": found.reason}
        return {"name": found.name, "reason": None}

    async def close(self) -> None:
        """Stop trying."""
        if self._choice is not None:
            self._choice.cancel()
            await asyncio.gather(self._choice, return_exceptions=True)

    async def run(
        self,
        argv: Sequence[str],
        around: Surroundings,
        *,
        stdin: str | None = None,
        timeout_s: float | None = None,
        python: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> Result:
        """Raises ToolFault for what no system could start, and SandboxUnavailable."""
        sandbox = await self.sandbox()
        if isinstance(sandbox, Unavailable):
            raise SandboxUnavailable(str(sandbox))
        limit = min(timeout_s or self._settings.timeout_s, TIMEOUT_MOST_S)
        command = Command(
            argv=argv,
            workspace=around.workspace.root,
            stdin=(stdin or "").encode("utf-8", "replace"),
            timeout_s=limit,
            max_output_bytes=around.max_output_bytes,
            python=python,
            environ=environ or {},
        )
        try:
            ended = await sandbox.run(command, around.emit)
        except InvalidRequest as wrong:
            raise ToolFault(f"{wrong.param}: {wrong}") from None
        code = KILLED if ended.exit_code is None else ended.exit_code
        note = f"\n[killed after {limit:g} s]" if ended.timed_out else ""
        return Result(code == 0, ended.output + note, code, ended.truncated)


class CommandParameters(Parameters):
    argv: list[str] = Field(min_length=1, description="the program's name and its arguments")
    stdin: str | None = Field(None, description="what it reads")
    timeout_s: float | None = Field(None, gt=0, description="when it is killed")


class ExecCommand(Tool[CommandParameters]):
    name = "exec_command"
    effects = Effects.WORKSPACE
    parameters = CommandParameters

    def __init__(self, runner: Runner, allowed: Collection[str]) -> None:
        self._runner = runner
        self._allowed = allowed
        self.description = (
            "Run a program in the workspace, without a shell and without a network. Programs: "
            + ", ".join(sorted(allowed))
        )

    async def run(self, given: CommandParameters, around: Surroundings) -> Result:
        program = given.argv[0]
        if program not in self._allowed:
            raise ToolFault(
                f"{program[:80]!r} is not allowed; allowed are {', '.join(sorted(self._allowed))}"
            )
        return await self._runner.run(
            given.argv, around, stdin=given.stdin, timeout_s=given.timeout_s
        )


class PythonParameters(Parameters):
    code: str = Field(min_length=1, description="the program's text")
    stdin: str | None = Field(None, description="what it reads")
    timeout_s: float | None = Field(None, gt=0, description="when it is killed")


class ExecPython(Tool[PythonParameters]):
    name = "exec_python"
    description = "Run Python code in the workspace, without a network; print what matters."
    effects = Effects.WORKSPACE
    parameters = PythonParameters

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def run(self, given: PythonParameters, around: Surroundings) -> Result:
        return await self._runner.run(
            ["-E", "-s", "-c", given.code],
            around,
            stdin=given.stdin,
            timeout_s=given.timeout_s,
            python=True,
        )


class GitParameters(Parameters):
    args: list[str] = Field(
        min_length=1, description=f"a command and its arguments; commands: {', '.join(GIT)}"
    )


class Git(Tool[GitParameters]):
    name = "git"
    description = f"Run git in the workspace: {', '.join(GIT)}."
    effects = Effects.WORKSPACE
    parameters = GitParameters

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def run(self, given: GitParameters, around: Surroundings) -> Result:
        command, *rest = given.args
        if command not in GIT:
            raise ToolFault(f"git {command[:40]!r} is not allowed; allowed are {', '.join(GIT)}")
        for argument in rest:
            if _refused(command, argument):
                raise ToolFault(f"git {command}: {argument[:40]!r} is not allowed")
        await self._check_configuration(around)
        return await self._git(around, command, *GIT[command], *rest)

    async def _git(self, around: Surroundings, command: str, *rest: str) -> Result:
        settings = [part for setting in GIT_SETTINGS for part in ("-c", setting)]
        argv = ["git", "--no-pager", *settings, command, *rest]
        return await self._runner.run(argv, around, environ=GIT_ENVIRONMENT)

    async def _check_configuration(self, around: Surroundings) -> None:
        """Raises ToolFault for a configuration of the repository that starts programs."""
        quiet = Surroundings(around.workspace, around.owner, 1 << 20, lambda _: None)
        found = await self._git(quiet, "config", "--no-includes", "--name-only", "--list")
        if not found.ok or found.truncated:
            reason = found.output.strip()[-300:] if not found.ok else "it is too long"
            raise ToolFault(f"the repository's configuration cannot be read: {reason}")
        for key in found.output.lower().split():
            if key.startswith(PROGRAMS_OF_GIT) or key.endswith(_PROGRAM_ENDS):
                raise ToolFault(
                    f"the repository's configuration sets {key[:80]}, which may start a program; "
                    "remove it first"
                )


def _refused(command: str, argument: str) -> bool:
    """Whether an argument is an option that is refused, or a beginning of one, which git takes for
    the whole."""
    if command == "commit" and argument.startswith("-S"):
        return True
    name = argument.partition("=")[0]
    if len(name) < 4 or name == "--text":
        return False
    return any(option.startswith(name) for option in GIT_REFUSED)


def exec_tools(runner: Runner, allowed: Collection[str]) -> list[Tool[Any]]:
    """The tools that run programs."""
    return [ExecCommand(runner, allowed), ExecPython(runner), Git(runner)]
