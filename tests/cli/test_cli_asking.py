"""The commands that ask once: a table for people, the service's JSON for scripts."""

import pytest

from tests.cli.processes import Place


@pytest.fixture(scope="module")
def finished(service: Place) -> str:
    ended = service.run("submit", "什么是AI？", "--wait", "--json", "--model", "fast")
    return str(ended.json["task_id"])


@pytest.mark.parametrize(
    ("argv", "key", "shown"),
    [
        (["tasks"], "tasks", "什么是AI？"),
        (["tasks", "--status", "completed", "--limit", "500"], "tasks", "completed"),
        (["models"], "models", "A_KEY_THAT_IS_NOT_SET"),
        (["stats"], "total", "completed"),
    ],
)
def test_table_and_json(
    service: Place, finished: str, argv: list[str], key: str, shown: str
) -> None:
    table = service.run(*argv)
    assert (table.code, table.err) == (0, "")
    assert shown in table.out
    assert "\x1b" not in table.out
    assert key in service.run(*argv, "--json").json


def test_a_task_is_shown_by_the_end_of_its_id(service: Place, finished: str) -> None:
    shown = service.run("show", finished[-8:])
    assert shown.code == 0
    for part in (finished, "completed", "什么是AI？", "模拟器的回答", "fast-1"):
        assert part in shown.out


def test_an_end_that_fits_several_ids_or_none_is_refused(service: Place, finished: str) -> None:
    service.run("submit", "one more", "--model", "fast")
    several, none = service.run("show", ""), service.run("show", "zzz")
    assert (several.code, none.code) == (1, 1)
    assert "give more of the id" in several.err
    assert "no task" in none.err


def test_a_task_is_paused_resumed_cancelled_and_retried(service: Place) -> None:
    task_id = service.run("submit", "[[sim:hang]] steered", "--model", "slow").out.strip()
    assert service.run("pause", task_id, "--json").json["status"] == "paused"
    assert service.run("resume", task_id, "--json").json["status"] == "pending"
    assert service.run("cancel", task_id, "--json").json["status"] == "cancelled"
    assert service.run("retry", task_id, "--json").json["status"] == "pending"
    assert service.run("cancel", task_id).code == 0


def test_what_a_state_does_not_allow_is_exit_code_1(service: Place, finished: str) -> None:
    ended = service.run("resume", finished)
    assert (ended.code, ended.out) == (1, "")
    assert "completed" in ended.err
    assert ended.err.count("\n") == 1


def test_a_task_is_explained(service: Place, finished: str) -> None:
    shown = service.run("explain", finished[-8:])
    assert (shown.code, shown.err) == (0, "")
    for part in (finished, "completed", "attempt 1 with fast", "fast (fast-1)", "tokens"):
        assert part in shown.out
    assert service.run("explain", finished, "--json").json["timeline"]
    assert service.run("explain", "zzz").code == 1


def test_all_tasks_are_explained(service: Place, finished: str) -> None:
    shown = service.run("explain", "--why-slow", "--since", "5m")
    assert (shown.code, shown.err) == (0, "")
    assert "tasks waited" in shown.out
    found = service.run("explain", "--why-slow", "--json").json
    assert found["tasks"] >= 1
    assert finished


def test_a_waiting_task_is_explained(service: Place) -> None:
    service.run("pause-model", "slow")
    task_id = service.run("submit", "waits", "--model", "slow").out.strip()
    shown = service.run("explain", task_id)
    service.run("cancel", task_id)
    service.run("resume-model", "slow")
    assert "now at position" in shown.out
    assert "slow is paused" in shown.out
    assert "the model was paused" in shown.out
