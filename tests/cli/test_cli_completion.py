"""What a shell is given to complete commands, options and their values."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncsvc.cli.completing import proposals
from asyncsvc.cli.parser import COMMANDS, run
from tests.cli.processes import MAIN, environment
from tests.cli.scripted_service import ScriptedService, scripted_service

SHELLS = ("bash", "zsh", "fish", "powershell")
TASKS = [
    {"task_id": "0-aaaa1111", "status": "running", "content_preview": "tea\nand\tmore"},
    {"task_id": "0-bbbb2222", "status": "failed", "content_preview": "cake"},
]
ANSWERS = {
    "GET /models": {
        "models": [
            {"name": "fast", "model": "fast-1", "enabled": True},
            {"name": "far:off", "model": "x", "enabled": False, "reason": "no key"},
        ]
    },
    "GET /tasks": {"tasks": TASKS},
    "GET /tools": {"tools": [{"name": "read_file", "description": "Read a file."}]},
    "GET /schedules": {
        "schedules": [{"schedule_id": "s-12345678", "cron": "@daily", "content_preview": "news"}]
    },
}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedService]:
    with scripted_service() as found:
        found.answers |= ANSWERS
        monkeypatch.setenv("ASYNCSVC_URL", found.url)
        yield found


def values(*line: str) -> list[str]:
    return [value for value, _ in proposals(line)]


def test_commands_are_proposed_first() -> None:
    names = {name for names in COMMANDS.values() for name in names}
    assert set(values("")) == names | {"-h", "--help", "--version"}
    assert values("sub") == ["submit"]
    assert values("nosuch", "") == []


def test_options_that_stand_already_are_not_proposed_again() -> None:
    found = values("submit", "hi", "--model", "fast", "--")
    assert "--lane" in found
    assert "--model" not in found
    assert values("submit", "--wa") == ["--wait"]


@pytest.mark.parametrize(
    "line", [["submit", "--lane", "s"], ["submit", "--lane=s"], ["submit", "--lane", "=", "s"]]
)
def test_a_choice(line: list[str]) -> None:
    assert values(*line) == ["short"]


def test_values_of_the_running_service(service: ScriptedService) -> None:
    assert values("submit", "--model", "") == ["fast", "far:off"]
    assert values("pause-model", "fas") == ["fast"]
    assert values("submit", "--agent", "--tool", "") == ["read_file"]
    assert values("tool", "re") == ["read_file"]
    assert values("show", "") == ["0-aaaa1111", "0-bbbb2222"]
    assert values("cancel", "bbbb") == ["bbbb2222"]
    assert values("cancel", "--yes", "a-first-one", "bbbb") == ["bbbb2222"]
    assert values("unschedule", "") == ["s-12345678"]
    assert values("tasks", "--model", "fast") == ["fast"]
    assert values("submit", "hi", "--session", "") == []  # no task has the id of a session
    assert values("submit", "hi", "") == []
    assert dict(proposals(["show", "aaaa"])) == {"aaaa1111": "running: tea\nand\tmore"}
    assert {path.partition("?")[0] for _, path, _ in service.requests} == {
        "/models",
        "/tools",
        "/tasks",
        "/schedules",
    }


def test_the_service_that_the_line_names_is_asked(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSVC_URL", "http://127.0.0.1:9")
    assert values("submit", "--url", service.url, "--model", "fa") == ["fast", "far:off"]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_each_shell_reads(
    shell: str, service: ScriptedService, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.url
    assert run(["completion", "--words", shell, "submit", "--model", "fa"]) == 0
    lines = {
        "bash": "fast\nfar:off\n",
        "zsh": "fast:fast-1\nfar\\:off:disabled: no key\n",
        "fish": "fast\tfast-1\nfar:off\tdisabled: no key\n",
        "powershell": "fast\tfast-1\nfar:off\tdisabled: no key\n",
    }
    assert capsys.readouterr().out == lines[shell]


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["bash"],
        ["bash", "show", ""],
        ["bash", "submit", "--model", ""],
        ["bash", "check", "--settings", ""],
        ["bash", "submit", "--url", "ftp://x", "--model", ""],
        ["nosuch", "\udcff"],
    ],
)
def test_nothing_is_proposed_in_silence(
    line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASYNCSVC_URL", "http://127.0.0.1:9")
    assert run(["completion", "--words", *line]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == "" or line == ["bash"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_hands_the_words_over(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/asyncsvc"])
    assert run(["completion", shell]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"asyncsvc completion --words {shell} " in shown.out
    assert f"asyncsvc completion {shell}" in shown.out.split("\n\n")[0]  # how to install it
    assert "_asyncsvc" in shown.out or "-CommandName asyncsvc" in shown.out


def test_a_program_that_no_shell_can_complete_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    assert run(["completion", "bash"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# ")
    assert "cannot complete `python main.py`" in shown.err


def test_bash_completes(service: ScriptedService, tmp_path: Path) -> None:
    program = tmp_path / "asyncsvc"
    program.write_text(f'#!/bin/sh\nexec "{MAIN[0]}" "{MAIN[1]}" "$@"\n')
    program.chmod(0o755)
    script = """
source <(asyncsvc completion bash 2>/dev/null)
complete_line() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _asyncsvc
    echo "${COMPREPLY[*]}"
}
complete_line asyncsvc sub
complete_line asyncsvc tasks --status ""
complete_line asyncsvc submit "two words" --model fa
complete_line asyncsvc check --settings ""
complete -p asyncsvc
"""
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment({"PATH": path, "ASYNCSVC_URL": service.url}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    submit, states, models, files, declared = done.stdout.splitlines()
    assert submit == "submit"
    assert "running" in states.split()
    assert models == "fast far:off"
    assert files == ""
    assert declared == "complete -o bashdefault -o default -F _asyncsvc asyncsvc"
