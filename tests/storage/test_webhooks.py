"""What finished tasks owe, in the database."""

from pathlib import Path

from asyncsvc.journal.journal import Journal, Removal
from asyncsvc.storage.entries import Delivery, Owed, Tried
from asyncsvc.tasks.state import Cause, State
from tests.builders import AT, begun, ended, journal_at, moved, new_task

URL = "https://Hooks.example/x"
FAR = AT + 10_000


async def finish(journal: Journal, task_id: str, url: str | None = URL) -> None:
    await journal.append(new_task(task_id, b"12345", callback_url=url))
    await journal.append(begun(task_id))
    await journal.append(ended(task_id, "äöü"))


async def owed(journal: Journal, now: int = FAR, limit: int = 10, **more: list[str]) -> list[Owed]:
    return await journal.store.deliveries.due(now, [], more.get("shut", []), limit)


async def last_try(journal: Journal, task_id: str) -> Tried:
    return await journal.store.deliveries.last_try(await journal.task(task_id))


def after(one: Owed, state: Delivery, next_at: int | None = None) -> Tried:
    return Tried(one.task_n, one.seq, state, one.attempts + 1, 500, "answered 500", next_at)


async def test_a_delivery_is_owed_from_the_end_on(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        await journal.append(new_task("a", callback_url=URL))
        assert (await last_try(journal, "a")).state == Delivery.WAITING
        await journal.append(begun("a"))
        assert await owed(journal) == []
        assert not journal.owed.is_set()
        await journal.append(ended("a", "äöü"))
        assert journal.owed.is_set()
        (one,) = await owed(journal)
        assert one == Owed(1, "a", 4, "hooks.example", 0, 2 + 6)
        assert await journal.store.deliveries.pending() == 1
        assert await owed(journal, now=AT) == []
    async with journal_at(tmp_path / "t.db") as journal:
        assert await owed(journal) == [one]
        assert (await journal.task("a")).request.callback_url == URL


async def test_a_task_without_callback_owes_nothing(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        await finish(journal, "a", None)
        assert await owed(journal) == []
        assert not journal.owed.is_set()


async def test_each_way_to_end_is_reported(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        for task_id, cause in (("c", Cause.CANCELLED), ("f", Cause.FAILED)):
            await journal.append(new_task(task_id, callback_url=URL))
            await journal.append(moved(task_id, State.PENDING, cause))
        # A whole life in one commit.
        await journal.append(new_task("x", callback_url=URL), begun("x"), ended("x"))
        assert {one.task_id for one in await owed(journal)} == {"c", "f", "x"}


async def test_what_was_tried_is_kept_and_judged_by_its_time(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        await finish(journal, "a")
        (one,) = await owed(journal)
        await journal.append(after(one, Delivery.PENDING, FAR + 5))
        assert await owed(journal) == []
        assert await journal.store.deliveries.next_due(FAR) == FAR + 5
        (again,) = await owed(journal, now=FAR + 5)
        assert again == one._replace(attempts=1)
        await journal.append(after(again, Delivery.DELIVERED))
        assert await owed(journal, now=FAR + 99) == []
        assert await journal.store.deliveries.next_due(FAR) is None
        assert await last_try(journal, "a") == Tried(
            1, 4, Delivery.DELIVERED, 2, 500, "answered 500", None
        )


async def test_a_retry_withdraws_and_its_end_is_another(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        await journal.append(new_task("a", callback_url=URL))
        await journal.append(moved("a", State.PENDING, Cause.CANCELLED))
        (first,) = await owed(journal)
        assert await journal.store.deliveries.still_pending(first.task_n, first.seq)
        await journal.append(moved("a", State.CANCELLED, Cause.RERUN))
        assert await owed(journal) == []
        assert not await journal.store.deliveries.still_pending(first.task_n, first.seq)
        await journal.append(moved("a", State.PENDING, Cause.CANCELLED))
        (second,) = await owed(journal)
        assert second.seq > first.seq
        await journal.append(after(first, Delivery.DELIVERED))
        assert await owed(journal) == [second]


async def test_a_deleted_task_takes_its_delivery_with_it(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        await finish(journal, "a")
        (one,) = await owed(journal)
        await journal.append(Removal("a"))
        assert await owed(journal) == []
        await journal.append(after(one, Delivery.PENDING, AT))
        assert await journal.store.deliveries.pending() == 0


async def test_the_busy_and_the_shut_are_left_out_and_the_longest_due_come_first(
    tmp_path: Path,
) -> None:
    async with journal_at(tmp_path / "t.db") as journal:
        for task_id, host in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "three")):
            await finish(journal, task_id, f"http://{host}.example/")
        assert [one.task_id for one in await owed(journal)] == ["a", "b", "c", "d"]
        assert [one.task_id for one in await owed(journal, limit=2)] == ["a", "b"]
        left = await owed(journal, shut=["one.example"])
        assert [one.task_id for one in left] == ["b", "d"]
        found = await journal.store.deliveries.due(FAR, {1, 4}, ["two.example"], 10)
        assert [one.task_id for one in found] == ["c"]
