"""`submit` and `watch ID`: to the answer, through whatever happens."""

import json
import signal
import subprocess

import pytest

from tests.cli.processes import MAIN, Place, Terminal

SLOW = ("--model", "slow")
ENDLESS = "[[sim:tokens=2000]]"
"""A tag for an answer of 100 s from the slow model: it outlasts what a test does meanwhile."""


def test_without_wait_stdout_holds_the_id_alone(service: Place) -> None:
    ended = service.run("submit", "hello", "--model", "fast")
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.out.strip()) == 36


def test_a_terminal_is_reported_when_it_will_start(service: Place) -> None:
    ended = Terminal(service, 80, "submit", "hello", "--model", "fast").ended()
    assert ended.code == 0
    assert "pending, position 1, starts at once" in ended.out


def test_json_with_wait_still_cancels_on_ctrl_c(service: Place) -> None:
    mine = ("--session", "no-text-shown")  # tasks of other tests may run as well
    words = ("submit", f"no text shown {ENDLESS}", "--wait", "--json", *mine, *SLOW)
    with service.start(*words) as process:
        while not service.run("tasks", "--status", "running", "--json", *mine).json["tasks"]:
            pass
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert ended.code == 130
    assert ended.json["status"] == "cancelled"


def test_wait_streams_the_answer_alone(service: Place) -> None:
    ended = service.run("submit", "什么是AI？", "--wait", "--model", "fast")
    assert (ended.code, ended.err) == (0, "")
    assert "模拟器的回答" in ended.out
    assert ended.out.endswith("\n")


def test_stdin_is_read_for_a_dash(service: Place) -> None:
    ended = service.run("submit", "-", "--wait", "--json", "--model", "fast", text="from a pipe\n")
    assert ended.json["content"] == "from a pipe"
    assert ended.json["status"] == "completed"
    assert ended.json["result"]


def test_json_gives_the_services_own_answer(service: Place) -> None:
    accepted = service.run("submit", "hi", "--json", "--lane", "long", "--priority", "9").json
    assert accepted["status"] == "pending"
    task = service.run("show", accepted["task_id"], "--json").json
    assert (task["lane"], task["priority"]) == ("long", 9)


def test_a_failed_task_is_exit_code_1_with_the_reason(service: Place) -> None:
    ended = service.run("submit", "x [[sim:400]]", "--wait", "--model", "fast")
    assert (ended.code, ended.out) == (1, "")
    assert "upstream_rejected" in ended.err


def test_what_the_service_refuses_is_its_own_message(service: Place) -> None:
    ended = service.run("submit", "x", "--model", "off")
    assert ended.code == 1
    assert "A_KEY_THAT_IS_NOT_SET is not set" in ended.err
    assert ended.err.count("\n") == 1


def test_ctrl_c_cancels_the_task_that_is_waited_for(service: Place) -> None:
    with service.start("submit", f"slowly {ENDLESS}", "--wait", *SLOW) as process:
        process.until("#")
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert "cancelled" in ended.err
    newest = service.run("tasks", "--status", "cancelled", "--limit", "1", "--json").json
    assert newest["tasks"][0]["content_preview"].startswith("slowly")


def test_a_task_cancelled_by_another_is_exit_code_130(service: Place) -> None:
    with service.start("submit", f"by another {ENDLESS}", "--wait", *SLOW) as process:
        process.until("#")
        task_id = service.run("tasks", "--limit", "1", "--json").json["tasks"][0]["task_id"]
        assert service.run("cancel", task_id[-8:]).out.split() == [task_id, "cancelled"]
        assert process.ended().code == 130


def test_a_restart_of_the_service_neither_loses_nor_doubles_text(place: Place) -> None:
    prompt = "through a restart [[sim:tokens=60 rate=40]]"
    with place.served() as (process, there):
        port = there.env["ASYNCSVC_URL"].rsplit(":", 1)[1]
        with there.start("submit", prompt, "--wait", *SLOW) as waiting:
            waiting.until("#")
            process.signal(signal.SIGTERM)
            assert process.ended().code == 0
            waiting.until("connection lost", "err")
            with place.served("--port", port):
                ended = waiting.ended()
                newest = there.run("tasks", "--limit", "1", "--json").json["tasks"][0]
                result = there.run("show", newest["task_id"], "--json").json["result"]
    assert ended.code == 0
    assert "starting over" in ended.err
    assert ended.out.endswith(f"\n{result}\n")
    assert ended.out.count(result) == 1


def test_watching_a_task_gives_its_text_or_its_events(service: Place) -> None:
    task_id = service.run("submit", "watched", "--model", "fast").out.strip()
    text = service.run("watch", task_id)
    assert text.code == 0
    assert 'On "watched"' in text.out
    events = [json.loads(line) for line in service.run("watch", task_id, "--json").out.splitlines()]
    numbers = [event["seq"] for event in events if event["seq"] is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    joined = "".join(event["data"]["text"] for event in events if event["type"] == "chunk")
    assert text.out == joined + "\n"


def test_leaving_a_watched_task_lets_it_go_on(service: Place) -> None:
    task_id = service.run("submit", f"left alone {ENDLESS}", *SLOW).out.strip()
    with service.start("watch", task_id) as process:
        process.until("#")
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert service.run("show", task_id, "--json").json["status"] == "running"
    service.run("cancel", task_id)


def test_stdin_that_is_no_text_is_refused(service: Place) -> None:
    done = subprocess.run(
        [*MAIN, "submit", "-"],
        env=service.env,
        input=b"\xff\xfe\xfd",
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_watching_all_shows_every_change(service: Place, flag: list[str]) -> None:
    with service.start("watch", *flag) as process:
        for _ in range(50):  # the first may be submitted before the watching has begun
            task_id = service.run("submit", "seen", "--model", "fast").out.strip()
            if process.has(task_id):
                break
        process.until(task_id)
        process.until("completed")
        process.signal(signal.SIGINT)
        ended = process.ended()
    assert ended.code == 0
    assert ended.err == ""
