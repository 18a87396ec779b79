"""Schedules and held models from the command line."""

import re

import httpx
import pytest

from tests.cli.processes import Place, Terminal

DAILY = ("0 9 * * 1-5", "good morning")


def test_a_schedule_is_made_listed_and_deleted_by_the_end_of_its_id(service: Place) -> None:
    made = service.run("schedule", *DAILY, "--timezone", "Europe/Berlin", "--model", "fast")
    assert (made.code, made.err) == (0, "")
    schedule_id = made.out.strip()
    shown = service.run("schedules").out
    assert "Europe/Berlin" in shown
    assert "0 9 * * 1-5" in shown
    assert "good morning" in shown
    rows = service.run("schedules", "--json").json["schedules"]
    assert schedule_id in [row["schedule_id"] for row in rows]
    ended = service.run("unschedule", schedule_id[-8:])
    assert (ended.code, ended.out.strip()) == (0, f"{schedule_id}  deleted")
    again = service.run("unschedule", schedule_id)
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "no schedule" in again.err
    assert "no schedule whose id" in service.run("unschedule", schedule_id[-8:]).err


def test_a_schedule_of_a_known_name_is_replaced(service: Place) -> None:
    first = service.run("schedule", *DAILY, "--name", "news")
    again = service.run("schedule", "@weekly", "other", "--name", "news", "--json")
    assert (again.code, again.json["schedule_id"]) == (0, first.out.strip())
    assert (again.json["name"], again.json["cron"]) == ("news", "@weekly")
    assert service.run("unschedule", first.out.strip()).code == 0


def test_json_is_what_the_service_written(service: Place) -> None:
    made = service.run("schedule", "@daily", "-", "--priority", "9", "--json", text="from stdin")
    assert made.json["task"] == {"content": "from stdin", "lane": "short", "priority": 9}
    assert made.json["timezone"] == "UTC"
    assert service.run("unschedule", made.json["schedule_id"]).code == 0


def test_a_terminal_shows_the_first_run(service: Place) -> None:
    ended = Terminal(service, 80, "schedule", "@yearly", "x").ended()
    assert "first at 20" in ended.out
    assert "-01-01T00:00:00" in ended.out
    table = Terminal(service, 80, "schedules").ended().out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", table)
    assert "@yearly" in plain
    assert all(len(line) <= 80 for line in plain.splitlines()), plain


def test_an_end_that_fits_several_is_not_enough(service: Place) -> None:
    body = {"cron": "@yearly", "task": {"content": "x"}}
    url = f"{service.env['ASYNCSVC_URL']}/schedules"
    made = [httpx.post(url, json=body, trust_env=False).json() for _ in range(17)]
    ends = [schedule["schedule_id"][-1] for schedule in made]
    twice = next(end for end in ends if ends.count(end) > 1)
    ended = service.run("unschedule", twice)
    assert ended.code == 1
    assert "give more of the id" in ended.err


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("schedule", "61 * * * *", "x"), "bad minute"),
        (("schedule", "@daily", "x", "--timezone", "Mars/Base"), "no time zone 'Mars/Base'"),
        (("schedule", "@daily", "x", "--model", "nope"), "no model 'nope'"),
        (("pause-model", "nope"), "no model 'nope'"),
        (("resume-model", "a/b"), "no model 'a/b'"),
    ],
)
def test_what_the_service_refuses_is_one_line(
    service: Place, argv: tuple[str, ...], reason: str
) -> None:
    ended = service.run(*argv)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert reason in ended.err


def test_a_model_is_held_and_let_go(service: Place) -> None:
    ended = service.run("pause-model", "fast")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("fast  paused")
    assert "paused" in service.run("models").out
    assert service.run("pause-model", "fast", "--json").json["reason"] == "fast is paused"
    assert service.run("resume-model", "fast").out.startswith("fast  resumed")
    assert service.run("resume-model", "fast", "--json").json["paused"] is False
