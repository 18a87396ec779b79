"""Kills at exact system calls in short, and the reading of logs of system calls."""

import pytest

from tests.benchmarks import straced, syscalls
from tests.benchmarks.straced import order
from tests.needs import need

A, B = "01a1faf4-6a7c-7314-a7aa-7b7c3b02fac3", "01a1faf4-6a88-78e6-af18-940e254c1557"
WAL, BASE = "16</x/a.db-wal>", "15</x/a.db>"


def frame(*ids: str, last: bool = True) -> list[str]:
    pages = "\\21\\0" if last else "\\0\\0"
    return [
        f'7 pwrite64({WAL}, "\\0\\0\\0\\2\\0\\0{pages}$6?\\213\\205p\\224\\"\\3", 24, 4152) = 24',
        f'7 pwrite64({WAL}, "\\r\\0{" ".join(ids)}\\"\\0"..., 4096, 4176) = 4096',
    ]


def sent(task_id: str) -> str:
    return (
        f'1 write(23<socket:[9]>, "HTTP/1.1 202 Accepted\\r\\nlocation: /tasks/{task_id}", 90) = 90'
    )


SYNC = f"7 fdatasync({WAL}) = 0"
SYNC_BEGINS, SYNC_ENDS = f"7 fdatasync({WAL} <unfinished ...>", "7 <... fdatasync resumed>) = 0"
GOOD = [
    [*frame(A), SYNC, sent(A)],
    [*frame(A, B), SYNC, sent(B), sent(A)],
    [*frame(A, last=False), *frame(), SYNC, sent(A)],
    [*frame(A), SYNC_BEGINS, '1 write(9, "x", 1) = 1', SYNC_ENDS, sent(A)],
    [*frame(A), SYNC, *frame(A, B), sent(A), SYNC, sent(B)],
]
BAD = [
    [sent(A)],
    [*frame(A), sent(A), SYNC],
    [SYNC, *frame(A), sent(A)],
    [*frame(A, last=False), SYNC, *frame(), sent(A)],
    [*frame(A, last=False), SYNC, sent(A)],
    [*frame(A), SYNC_BEGINS, sent(A), SYNC_ENDS],
    [*frame(A), f"7 fdatasync({WAL}) = -1 EIO (Input/output error) (INJECTED)", sent(A)],
    [*frame(A), f"7 fdatasync({BASE}) = 0", sent(A)],
    [SYNC_BEGINS.replace("7 ", "8 "), *frame(A), SYNC_ENDS.replace("7 ", "8 "), sent(A)],
]


@pytest.mark.parametrize("log", GOOD)
def test_an_answer_after_its_sync_is_right(log: list[str]) -> None:
    found = order([f"{line}\n" for line in log], [A, B])
    assert found.exceptions == []
    assert found.acknowledged >= 1
    assert found.syncs >= 1


@pytest.mark.parametrize("log", BAD)
def test_an_answer_before_its_sync_is_found(log: list[str]) -> None:
    found = order(log, [A, B])
    assert len(found.exceptions) == found.acknowledged == 1


def test_other_answers_are_left_alone() -> None:
    assert order([sent(A)], [B]).acknowledged == 0


async def test_kills_at_system_calls_lose_nothing() -> None:
    need(straced.missing())
    report = await syscalls.run(kills=4, rate=30, seed=8, submits=60, reach=0.25)
    assert report.broken == []
