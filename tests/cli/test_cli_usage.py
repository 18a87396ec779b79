"""What a person types wrongly, and what cannot be reached."""

import os
import shlex
import subprocess

import pytest

from asyncsvc.cli.examples import EXAMPLES
from asyncsvc.cli.parser import COMMANDS, declared, run
from tests.cli.processes import MAIN, Place


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["submit"], "Missing argument"),
        (["serve", "--port", "x"], "--port"),
        (["serve", "--port", "70000"], "65535"),
        (["tasks", "--status", "odd"], "odd"),
        (["submit", "hi", "--lane", "odd"], "odd"),
        (["submit", "  "], "no text"),
        (["tasks", "--url", "ftp://x"], "no address"),
        (["simulator", "--profile", "absent.toml"], "absent.toml"),
        (["serve", "--settings", "absent.toml"], "no such file"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.count("\n") == 1


def test_a_process_says_the_same(place: Place) -> None:
    ended = place.run("--prot", "1")
    assert (ended.code, ended.out) == (2, "")
    assert "--prot" in ended.err
    assert ended.err.count("\n") == 1


HERE = ["serve", "demo", "simulator", "check", "init", "doctor", "selftest"]
STEERING = ["cancel", "pause", "resume", "retry"]
CONTROLS = ["schedules", "schedule", "unschedule", "pause-model", "resume-model"]
SOME = [*HERE, *STEERING, *CONTROLS, "submit", "tasks", "show", "watch", "models", "stats"]


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    top = capsys.readouterr().out
    for name in SOME:
        assert f" {name} " in top
        assert run([name, "--help"]) == 0
        assert f" {name} [OPTIONS]" in capsys.readouterr().out


def test_help_is_a_word_too(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["help"], ["help", "submit"]):
        assert run(argv) == 0
        shown = capsys.readouterr().out
        assert run([*argv[1:], "--help"]) == 0
        assert capsys.readouterr().out == shown
    assert run(["help", "nonsense"]) == 2


def test_each_example_is_one_that_its_command_takes(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for names in COMMANDS.values() for name in names]
    assert sorted(EXAMPLES) == sorted(names)
    commands = declared()
    for name, line in EXAMPLES.items():
        own, *argv = shlex.split(line)
        assert own == name
        # Unknown options and values that are not allowed are refused.
        assert commands[name].values(argv, {})
        assert run([name, "--help"]) == 0
        assert capsys.readouterr().out.endswith(f" {line}\n")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["-h"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    assert all(f"  {name} " in shown for name in EXAMPLES)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["sumbit"], "No such command 'sumbit'. Did you mean 'submit'? See asyncsvc --help"),
        (["xyzzy"], "No such command 'xyzzy'. See asyncsvc --help"),
        (
            ["tasks", "--statsu", "x"],
            "No such option: --statsu. Did you mean --status? See asyncsvc tasks --help",
        ),
        (["show"], "Missing argument 'ID'. See asyncsvc show --help"),
        (["show", "a", "b"], "Got unexpected extra argument(s) (b). See asyncsvc show --help"),
    ],
)
def test_bad_usage_ends_with_one_stop(
    argv: list[str],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/asyncsvc"])
    assert run(argv) == 2
    assert capsys.readouterr().err.endswith(f"{line}\n")


def test_the_version_is_written(place: Place) -> None:
    assert place.run("--version").out.startswith("asyncsvc ")


@pytest.mark.parametrize("argv", [["tasks"], ["submit", "hi", "--wait"], ["watch"], ["show", "x"]])
def test_a_service_that_is_down_is_one_line_and_exit_code_1(place: Place, argv: list[str]) -> None:
    ended = place.run(*argv, ASYNCSVC_URL="http://127.0.0.1:9")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "http://127.0.0.1:9" in ended.err
    assert "serve" in ended.err


def test_the_settings_say_where_the_service_is(service: Place, place: Place) -> None:
    port = service.env["ASYNCSVC_URL"].rsplit(":", 1)[1]
    assert place.run("stats", "--json", ASYNCSVC_SERVER__PORT=port).json["total"] >= 0
    elsewhere = place.run("stats", ASYNCSVC_SERVER__PORT="9")
    assert "http://127.0.0.1:9 " in elsewhere.err


def test_something_that_is_no_asyncsvc_is_written_to_be_none(place: Place, provider: str) -> None:
    ended = place.run("models", "--url", provider)
    assert ended.code == 1
    assert ended.err.count("\n") == 1


def test_a_reader_that_has_left_is_no_traceback(service: Place) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(
            [*MAIN, "stats"], env=service.env, stdout=stdout, stderr=subprocess.PIPE, timeout=30
        )
    assert (done.returncode, done.stderr) == (1, b"")
