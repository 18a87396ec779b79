from dataclasses import replace
from datetime import UTC

from asyncsvc.cron.crontab import Crontab
from asyncsvc.cron.schedules import SETTLED_MS, SPANS_KEPT, Schedule, loads
from tests.virtual_time import START_MS

MINUTE, HOUR = 60_000, 3_600_000
RULE = Crontab.read("0 * * * *", "UTC", START_MS)
NOON = START_MS - START_MS % HOUR + HOUR


def schedule(**fields: object) -> Schedule:
    made = Schedule("s", "0 * * * *", "UTC", None, "x", START_MS, NOON)
    return replace(made, **fields)  # type: ignore[arg-type]


def test_a_firing_moves_on_to_the_next_regular_time() -> None:
    after = schedule().fired(RULE, "t1", NOON + 5)
    assert (after.due_at, after.last_run_at, after.last_due_at) == (NOON + HOUR, NOON + 5, NOON)
    assert (after.last_task_id, after.runs) == ("t1", 1)


def test_a_late_firing_stands_for_all_that_were_missed() -> None:
    after = schedule().fired(RULE, "t1", NOON + 10 * HOUR + 1)
    assert (after.due_at, after.runs) == (NOON + 11 * HOUR, 1)


def test_a_clock_set_back_repeats_nothing() -> None:
    after = schedule().fired(RULE, "t1", NOON).fired(RULE, "t2", NOON + HOUR)
    assert after.awaiting(RULE, NOON - 10).due_at == NOON + 2 * HOUR


def test_a_clock_that_was_wrong_for_a_while_does_not_silence_it_for_a_year() -> None:
    year = 365 * 24 * HOUR
    wrong = schedule().fired(RULE, "t1", NOON + year).fired(RULE, "t2", NOON + year + HOUR)
    assert wrong.due_at == NOON + year + 2 * HOUR
    right = wrong.awaiting(RULE, NOON + 10)
    assert right.due_at == NOON + HOUR
    again = right.fired(RULE, "t3", NOON + HOUR)
    assert again.following(RULE, NOON + year - HOUR) == NOON + year + 2 * HOUR


def test_a_clock_corrected_by_a_moment_does_not_bring_back_what_was_missed() -> None:
    late = schedule().fired(RULE, "t1", NOON + 3 * HOUR + 2)
    assert late.awaiting(RULE, NOON + 3 * HOUR - 1).due_at == NOON + 4 * HOUR
    assert late.awaiting(RULE, NOON + 3 * HOUR - SETTLED_MS).due_at == NOON + 4 * HOUR


def test_a_missed_time_stays_due() -> None:
    assert schedule().awaiting(RULE, NOON + 5 * HOUR).due_at == NOON


def test_regular_firings_are_one_span() -> None:
    found = schedule()
    for hour in range(50):
        found = found.fired(RULE, f"t{hour}", NOON + hour * HOUR)
    assert found.done == ((NOON, NOON + 49 * HOUR),)


def test_spans_do_not_pile_up_and_lose_nothing_that_was_dealt_with() -> None:
    found, dues = schedule(), []
    for stop in range(4 * SPANS_KEPT):
        assert found.due_at is not None
        dues.append(found.due_at)
        found = found.fired(RULE, "t", NOON + stop * 10 * HOUR + 5 * MINUTE)
        assert len(found.done) <= SPANS_KEPT
    assert all(any(a <= due <= b for a, b in found.done) for due in dues)


def test_it_is_read_as_it_was_written() -> None:
    after = schedule(owner="me", last_error={"code": "queue_full"}).fired(RULE, "t", NOON + HOUR)
    assert loads(after.dumps()) == after


def test_what_is_never_due_again_stays_so() -> None:
    done = schedule(due_at=None)
    assert done.awaiting(Crontab("0 0 */31 2 MON#2", UTC), NOON) is done
