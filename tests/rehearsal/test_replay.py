"""What a replay does with tasks that failed, were cancelled, repeated or refused; its settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.settings import Settings
from asyncsvc.errors import SettingsError
from asyncsvc.rehearsal.comparison import compare, past_since
from asyncsvc.rehearsal.past import CallTimes, Part, PastTask, Run, past_of
from asyncsvc.rehearsal.replay import Replayed, replay
from asyncsvc.rehearsal.scenario import Scenario, changed, present
from asyncsvc.tasks.state import Request, State, Task
from tests.engine_services import model

T0 = 1_800_000_000_000


def past(
    number: int,
    at_s: float,
    call_s: float,
    state: State = State.COMPLETED,
    wanted: str | None = "a",
    **fields: Any,
) -> PastTask:
    """A task that came at a second and whose call took so long."""
    own = {name: fields.pop(name) for name in list(fields) if name in Task.__dataclass_fields__}
    more = {
        name: fields.pop(name) for name in list(fields) if name in PastTask.__dataclass_fields__
    }
    at = T0 + round(at_s * 1000)
    request = Request(f"t{number}", created_at=at, tokens=10, model=wanted, **fields)
    task = Task(request, state, n=number, name="a", started_at=at, **own)
    return PastTask(task, at, **({"last": Run(call_s / 2, call_s)} | more))


def settings(models: dict[str, Any] | None = None, **sections: Any) -> Settings:
    return Settings.model_validate({"models": models or {"a": model()}} | sections)


def replayed(tasks: Sequence[PastTask], under: Settings | None = None) -> Replayed:
    return replay(tasks, CallTimes(tasks), under or settings(), {}, {}, T0)


def waits(found: Replayed) -> list[float | None]:
    return [each.wait_s for each in found.tasks]


def test_one_slot_serves_one_task_after_the_other() -> None:
    found = replayed([past(1, 0, 10), past(2, 1, 5), past(3, 2, 5)])
    assert waits(found) == [0, 9, 13]
    assert found.accounts["a"].waited_s["concurrency"] == pytest.approx(22)
    assert found.accounts["a"].calls == 3
    assert found.accounts["a"].busy_s == pytest.approx(20)
    assert found.span_s == pytest.approx(20)


def test_a_failed_attempt_fails_again_and_is_tried_after_the_same_delay() -> None:
    one = past(1, 0, 4, failed=[Run(1, 3, again_s=30)])
    found = replayed([one, past(2, 1, 5)])
    assert [each.done_s for each in found.tasks] == [pytest.approx(3 + 30 + 4), pytest.approx(7)]


def test_a_failed_task_fails_with_its_error_and_one_that_takes_too_long_with_a_timeout() -> None:
    error = {"code": "content_filtered", "message": "no", "retryable": False}
    failed = past(1, 0, 2, State.FAILED, error=error)
    found = replayed([failed, past(2, 1, 20)], settings(timeouts={"short_s": 10}))
    assert [each.ended for each in found.tasks] == ["content_filtered", "timeout"]
    assert found.tasks[1].done_s == pytest.approx(11)


def test_a_cancelled_task_is_cancelled_as_long_after_it_came() -> None:
    waiting = past(2, 1, 5, State.CANCELLED, finished_at=T0 + 4000)
    under_way = past(3, 20, 50, State.CANCELLED, finished_at=T0 + 25_000)
    found = replayed([past(1, 0, 10), waiting, under_way, past(4, 21, 1)])
    assert [each.ended for each in found.tasks] == [
        "completed", "cancelled", "cancelled", "completed",
    ]  # fmt: skip
    assert waits(found) == [0, None, 0, 4]


def test_equal_tasks_share_a_call_and_then_the_cache_answers() -> None:
    same: dict[str, Any] = {"cache_key": "k", "cache": True}
    found = replayed([past(1, 0, 10, **same), past(2, 5, 10, **same), past(3, 60, 10, **same)])
    assert found.accounts["a"].calls == 1
    assert [each.done_s for each in found.tasks] == [10, 5, 0]


def test_an_answer_of_before_is_in_the_cache() -> None:
    cached = past(1, 0, 10, cache_key="k", cache=True, cached=True, last=None)
    assert replayed([cached]).accounts["a"].calls == 0
    off = settings(cache={"enabled": False})
    assert replayed([cached, past(2, 50, 7)], off).accounts["a"].calls == 2


def test_the_account_of_an_agent_is_free_while_its_tools_run() -> None:
    agent = past(1, 0, 0, type="agent", parts=[Part(True, 5), Part(False, 20), Part(True, 5)])
    found = replayed([agent, past(2, 1, 10)])
    assert [each.done_s for each in found.tasks] == [30, 14]
    assert found.accounts["a"].calls == 3


def test_what_the_queue_or_the_limits_of_a_client_would_have_refused_is_counted() -> None:
    tasks = [past(n, n / 10, 100, owner="ann") for n in range(5)]
    queue = replayed(tasks, settings(queue={"max_length": 3}))
    assert [each.refused for each in queue.tasks] == [None, None, None, "queue_full", "queue_full"]
    clients = {"ann": {"token_env": "ANN", "rpm": 1}}
    rate = replayed(tasks, settings(clients=clients))
    assert [each.refused for each in rate.tasks] == [None] + ["rate_limited"] * 4
    gone = replayed(tasks, settings({"b": model()}))
    assert {each.refused for each in gone.tasks} == {"model_not_found"}


def test_sessions_and_delays_hold() -> None:
    found = replayed(
        [
            past(1, 0, 10, session_id="s"),
            past(2, 1, 5, session_id="s"),
            past(3, 0, 5, run_at=T0 + 60_000),
        ],
        settings({"a": model(concurrency=9)}),
    )
    assert waits(found) == [0, 9, 0]
    assert found.tasks[2].done_s == 5


def test_the_calls_of_a_model_that_was_not_measured_are_those_of_the_others() -> None:
    tasks = [past(n, n * 100, 7) for n in range(3)] + [past(9, 1000, 3, wanted="b", last=None)]
    both = settings({"a": model(), "b": model()})
    found = replayed(tasks, both)
    assert (found.unknown, found.tasks[-1].done_s) == (frozenset({"b"}), 7)


def test_tasks_wait_by_weight_and_lane_as_in_the_service() -> None:
    tasks = [past(0, 0, 10)] + [past(n, 1 + n / 100, 10, owner="ab"[n % 2]) for n in range(1, 9)]
    even = replayed(tasks)
    heavy = replayed(tasks, settings(queue={"weights": {"a": 3}}))

    def mean(found: Replayed, owner: str) -> float:
        own = [o.wait_s or 0 for o in found.tasks if o.one.task.request.owner == owner]
        return sum(own) / len(own)

    assert mean(heavy, "a") < mean(even, "a") < mean(heavy, "b")


def test_a_replay_is_the_same_each_time() -> None:
    tasks = [past(n, n / 3, 1 + n % 7, wanted=None, route={"class": "general"}) for n in range(60)]
    models = {"a": model(), "b": model(rpm=5)}
    assert waits(replayed(tasks, settings(models))) == waits(replayed(tasks, settings(models)))


# The past of a task -----------------------------------------------------------------------------


def test_the_past_of_a_task_is_read_from_its_marks() -> None:
    marks = (
        ("first_token", T0 + 2000), ("answering", T0 + 3000), ("cut", T0 + 5000),
        ("retry", T0 + 5000), ("pending", T0 + 9000), ("first_token", T0 + 9500),
        ("answering", T0 + 10_000),
    )  # fmt: skip
    request = Request("t", created_at=T0)
    times: dict[str, Any] = {"queued_at": T0, "started_at": T0 + 2000, "finished_at": T0 + 12_000}
    task = Task(request, State.COMPLETED, marks=marks, name="a", **times)
    found = past_of(task, T0 + 99_000)
    assert (found.at, found.wait_s) == (T0, 2)
    assert found.failed == [Run(1, 3, 4)]
    assert found.last == Run(0.5, 2.5)


def test_a_run_that_the_end_of_the_service_cut_off_is_left_out() -> None:
    marks = (
        ("first_token", T0), ("cut", T0 + 5000), ("pending", T0 + 5000),
        ("first_token", T0 + 6000),
    )  # fmt: skip
    times: dict[str, Any] = {"queued_at": T0, "started_at": T0, "finished_at": T0 + 8000}
    task = Task(Request("t", created_at=T0), State.COMPLETED, marks=marks, name="a", **times)
    found = past_of(task, T0 + 8000)
    assert (found.failed, found.last) == ([], Run(2, 2))


def test_paused_tasks_and_those_of_the_future_take_no_part() -> None:
    later = Task(Request("later", created_at=T0, run_at=T0 + 9_000_000), State.SCHEDULED, n=1)
    paused = Task(Request("paused", created_at=T0), State.PAUSED, n=2)
    waiting = Task(Request("waiting", created_at=T0 - 5000), State.PENDING, n=3)
    (found,) = past_since([later, paused, waiting], T0, T0 + 60_000)
    assert (found.task.id, found.at, found.carried) == ("waiting", T0, True)


def test_a_fault_of_ours_ends_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Run:
        raise ZeroDivisionError

    monkeypatch.setattr(CallTimes, "of", broken)
    with pytest.raises(ZeroDivisionError):
        replayed([past(1, 0, 5), past(2, 1, 5)])


# Settings ---------------------------------------------------------------------------------------

FILE = """
[models.a]
base_url = "http://127.0.0.1:9/v1"
model = "id"
api_key_env = "KEY_A"
concurrency = 2
[models."b/x-1.5"]
base_url = "http://127.0.0.1:9/v1"
model = "id"
api_key_env = "KEY_B"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def accounts(scenario: Scenario) -> list[str]:
    return list(replay([], CallTimes([]), scenario.settings, scenario.environ, {}, T0).accounts)


def test_a_model_without_a_key_takes_part_where_it_served_tasks(file: Path) -> None:
    assert accounts(present(file, {}, {"a"})) == ["a"]
    assert accounts(present(file, {"KEY_B": "k"}, set())) == ["b/x-1.5"]


def test_a_model_that_only_the_new_settings_have_or_change_takes_part(file: Path) -> None:
    now = present(file, {}, {"a"})
    new = changed(now, file, {}, {"a"}, ["models.b/x-1.5.rpm=7"], None)
    assert accounts(new) == ["a", "b/x-1.5"]
    assert new.settings.models["b/x-1.5"].rpm == 7


def test_one_more_account_is_one_more_key_or_the_first_one(file: Path) -> None:
    now = present(file, {"KEY_A": "k"}, {"a"})
    assert accounts(changed(now, file, {"KEY_A": "k"}, {"a"}, [], "a")) == ["a#1", "a#2"]
    assert accounts(changed(now, file, {"KEY_A": "k"}, {"a"}, [], "b/x-1.5")) == ["a", "b/x-1.5"]
    bare = Scenario(settings(), {})
    free = file.with_name("free.toml")
    free.write_text(FILE.replace('api_key_env = "KEY_A"', ""), encoding="utf-8")
    assert accounts(changed(bare, free, {}, {"a"}, [], "a"))[:2] == ["a#1", "a#2"]


@pytest.mark.parametrize(
    ("value", "said_of"),
    [("rpm", "KEY=VALUE"), ("models.a.rmp=1", "rmp"), ("models.a.rpm=much", "models.a.rpm")],
)
def test_a_value_that_cannot_be_tried_is_named(file: Path, value: str, said_of: str) -> None:
    with pytest.raises(SettingsError) as refused:
        changed(present(file, {}, {"a"}), file, {}, {"a"}, [value], None)
    assert said_of in refused.value.lines[0]


def test_a_model_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(SettingsError, match="there is no model 'c'; known: a"):
        changed(present(file, {}, {"a"}), file, {}, {"a"}, [], "c")


def test_without_any_task_there_is_nothing_to_compare(file: Path) -> None:
    found = compare([], present(file, {}, {"a"}), None, {}, T0, T0 + 1000)
    assert (found["tasks"], found["waits"], found["ends"]) == (0, [], {"now": {}})
