"""`serve`: what it says, what wins, how it ends."""

import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from asyncsvc.cli.serve import overrides
from tests.cli.processes import Place


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_what_it_found_and_ends_with_0(place: Place, number: signal.Signals) -> None:
    with place.served() as (process, there):
        assert httpx.get(f"{there.env['ASYNCSVC_URL']}/readyz").text == "ok"
        process.signal(number)
        ended = process.ended()
    assert ended.code == 0
    assert "A_KEY_THAT_IS_NOT_SET is not set" in ended.out
    assert "models enabled: fast, slow" in ended.err
    assert "Traceback" not in ended.err


def test_no_command_serves_and_flags_win(place: Place, tmp_path: Path) -> None:
    database = tmp_path / "flag" / "a.db"
    variables = {"ASYNCSVC_SERVER__PORT": "1", "ASYNCSVC_STORAGE__PATH": "never.db"}
    with place.start("--port", "0", "--db", str(database), **variables) as process:
        process.until("listening on http://127.0.0.1:")
        assert database.exists()
        process.signal(signal.SIGTERM)
        assert process.ended().code == 0


def test_a_signal_while_it_starts_ends_it_with_0(place: Place) -> None:
    with place.start("serve", PYTHONVERBOSE="1") as process:
        process.until("import 'uvicorn'", "err")
        process.signal(signal.SIGTERM)
        ended = process.ended()
    assert ended.code == 0
    assert "Traceback" not in ended.err


def test_a_taken_port_is_one_line_and_exit_code_1(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = place.run("serve", "--port", str(port))
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert str(port) in ended.err


def test_a_database_in_use_is_one_line_and_exit_code_1(service: Place) -> None:
    ended = service.run("serve")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "in use by another asyncsvc" in ended.err


def test_a_database_that_was_removed_is_the_last_line_and_exit_code_1(
    place: Place, tmp_path: Path
) -> None:
    database = tmp_path / "gone" / "a.db"
    with place.start("--port", "0", "--db", str(database)) as process:
        process.until("listening on http://127.0.0.1:")
        database.unlink()
        process.signal(signal.SIGTERM)
        ended = process.ended()
    assert ended.code == 1
    assert "Traceback" not in ended.err
    last = ended.err.strip().splitlines()[-1]
    assert str(database) in last
    assert "is no longer there" in last


def test_check_knows_a_running_service_whose_lock_file_was_removed(
    place: Place, tmp_path: Path
) -> None:
    database = tmp_path / "a.db"
    variables = {"ASYNCSVC_STORAGE__PATH": str(database)}
    with place.start("--port", "0", **variables) as process:
        process.until("listening on http://127.0.0.1:")
        Path(f"{database}.lock").unlink()
        checked = place.run("check", **variables)
        assert "in use by a running asyncsvc" in checked.out + checked.err
        assert place.run("restore", str(database), **variables).code != 0
        process.signal(signal.SIGTERM)
        process.ended()


def test_wrong_settings_are_all_written_and_exit_code_2(place: Place) -> None:
    (place.folder / "wrong.toml").write_text("[server]\nprot = 1\nport = 70000\n")
    ended = place.run("serve", "--settings", "wrong.toml")
    assert ended.code == 2
    assert "server.prot" in ended.err
    assert "server.port" in ended.err
    assert ended.err.count("\n") == 2


def test_serving_imports_neither_the_simulator_nor_our_tables(place: Place) -> None:
    with place.start("serve", PYTHONPROFILEIMPORTTIME="1") as process:
        process.until("listening on http://")
        process.signal(signal.SIGTERM)
        imported = process.ended().err
    assert "asyncsvc.server" in imported
    for name in ("asyncsvc.simulator", "asyncsvc.cli.tables", "asyncsvc.cli.client"):
        assert name not in imported


def test_flags_that_are_not_given_override_nothing() -> None:
    assert overrides(None, None, None) == {}
    assert overrides(None, 0, Path("a")) == {"server": {"port": 0}, "storage": {"path": "a"}}


def test_check_says_that_it_is_ready(place: Place) -> None:
    ended = place.run("check")
    assert ended.code == 0
    assert "will be made" in ended.out
    assert sqlite3.sqlite_version in ended.out
    assert f"Python {sys.version_info.major}." in ended.out
    assert "A_KEY_THAT_IS_NOT_SET is not set" in ended.out
    assert not (place.folder / "data").exists()


def test_check_works_beside_a_running_service(service: Place) -> None:
    ended = service.run("check")
    assert ended.code == 0
    assert "in use by a running asyncsvc" in ended.out


def test_check_says_where_a_gateway_is_given_more_than_it_takes(place: Place) -> None:
    model = '[models.claw]\npreset = "openclaw"\nmodel = "openclaw"\nconcurrency = {}\n'
    for concurrency, warned in ((5, False), (9999, True)):
        (place.folder / "settings.toml").write_text(model.format(concurrency))
        ended = place.run("check")
        assert ended.code == 0
        assert ("note      claw: 9999 runs at once" in ended.out) is warned


@pytest.mark.parametrize("wrong", ["x = [", "[server]\nport = 'a'", "[models.a]\nmodel = 'b'"])
def test_check_says_what_is_wrong_with_settings(place: Place, wrong: str) -> None:
    (place.folder / "settings.toml").write_text(wrong)
    ended = place.run("check")
    assert ended.code == 2
    assert ended.err.startswith("wrong ")
    assert ended.err.count("\n") == 1


def test_check_looks_at_the_secret_of_webhooks_and_never_shows_it(place: Place) -> None:
    assert "refused without a secret in ASYNCSVC_WEBHOOK_SECRET" in place.run("check").out
    good = place.run("check", ASYNCSVC_WEBHOOK_SECRET="whsec_" + "abcd" * 10)
    assert good.code == 0
    assert "signed with ASYNCSVC_WEBHOOK_SECRET" in good.out
    for command in ("check", "serve"):
        bad = place.run(command, ASYNCSVC_WEBHOOK_SECRET="hunter2hunter2")
        assert bad.code == 2
        assert "24 to 64 bytes in base64" in bad.err
        assert "hunter2" not in bad.out + bad.err
        assert "Traceback" not in bad.err


def test_check_refuses_what_is_no_database_of_ours(place: Place) -> None:
    (place.folder / "text.db").write_text("this is no database, and long enough to be one" * 9)
    with sqlite3.connect(place.folder / "other.db") as other:
        other.execute("CREATE TABLE other (x)")
    other.close()
    with sqlite3.connect(place.folder / "newer.db") as newer:
        newer.execute("CREATE TABLE tasks (x)")
        newer.execute("PRAGMA user_version=999")
    newer.close()
    reasons = {"text.db": "not a database", "other.db": "another program", "newer.db": "newer"}
    for name, why in reasons.items():
        ended = place.run("check", ASYNCSVC_STORAGE__PATH=name)
        assert (ended.code, why in ended.err) == (2, True), ended


@pytest.mark.parametrize("side", ["", "-wal", ".lock"])
def test_a_link_in_the_place_of_a_file_of_ours_is_one_line_and_exit_code_2(
    place: Place, side: str
) -> None:
    victim = place.folder / "victim"
    victim.write_text("precious")
    (place.folder / f"a.db{side}").symlink_to(victim)
    for command in (("serve", "--port", "0", "--db", "a.db"), ("check",)):
        ended = place.run(*command, ASYNCSVC_STORAGE__PATH="a.db")
        assert ended.code == 2
        assert f"a.db{side} is a symbolic link" in ended.err
        assert "Traceback" not in ended.err
    assert victim.read_text() == "precious"


def test_check_says_what_other_users_may_do(place: Place) -> None:
    with place.start("--port", "0", "--db", "own/a.db") as process:
        process.until("listening on http://127.0.0.1:")
        process.signal(signal.SIGTERM)
        process.ended()
    (place.folder / "own" / "a.db").chmod(0o644)
    ended = place.run("check", ASYNCSVC_STORAGE__PATH="own/a.db")
    assert ended.code == 0
    assert "a.db: other users may read it (mode 0644)" in ended.out
    assert (place.folder / "own" / "a.db").stat().st_mode & 0o777 == 0o644


LOADED = """
import gc, sys
from asyncsvc.cli.serve import import_server
import_server()
print(sorted({"asyncsvc.server", "httpx", "rich", "pygments"} & set(sys.modules)))
print(gc.isenabled())
"""


def test_the_server_is_imported_without_the_command_line_of_httpx() -> None:
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True)
    assert found.stdout.decode().split("\n")[:2] == ["['asyncsvc.server', 'httpx']", "True"]


def test_check_warns_of_weak_secrets_and_never_shows_them(place: Place) -> None:
    (place.folder / ".env").touch(mode=0o644)
    ended = place.run("check", ASYNCSVC_TOKENS="hunter2,hunter2")
    assert ended.code == 0
    warned = [line for line in ended.err.splitlines() if line.startswith("warning   ")]
    assert len(warned) == 4
    assert "token 1 of ASYNCSVC_TOKENS has 7 characters" in warned[0]
    assert "token 2 of ASYNCSVC_TOKENS is equal to token 1" in ended.err
    assert f"chmod 600 {place.folder / '.env'}" in warned[-1]
    assert "hunter2" not in ended.out + ended.err


def test_check_and_start_warn_of_names_that_no_tool_has(place: Place) -> None:
    variables = {
        "ASYNCSVC_TOOLS__APPROVE": '["exec_comand", "git", "fetch_url", "wiki.read", "other.read"]',
        "ASYNCSVC_TOOLS__MCP": '{"wiki": {"command": ["no-such-program"]}}',
    }
    ended = place.run("check", **variables)
    assert ended.code == 0
    warned = [line for line in ended.err.splitlines() if line.startswith("warning   ")]
    assert warned == [
        "warning   tools.approve names 'exec_comand', which no tool is called: did you mean "
        "exec_command?",
        "warning   tools.approve names 'other.read', which no tool is called: there is no MCP "
        "server 'other' in [tools.mcp]",
    ]
    with place.start("serve", **variables) as process:
        process.until("tools.approve names 'exec_comand'", "err")
        process.signal(signal.SIGTERM)
        assert process.ended().code == 0


def test_a_key_for_the_name_of_a_variable_is_refused_by_every_command_here(place: Place) -> None:
    key = "sk-" + "proj-0123456789abcdefABCDEF"
    for command in ("check", "serve", "route-eval"):
        arguments = [command, *(["x.jsonl"] if command == "route-eval" else [])]
        ended = place.run(*arguments, ASYNCSVC_MODELS__FAST__API_KEY_ENV=key)
        assert ended.code == 2
        assert "must be the name of an environment variable" in ended.err
        assert key not in ended.out + ended.err
