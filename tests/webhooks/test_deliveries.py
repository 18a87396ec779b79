"""When and how often deliveries are sent; the sending is scripted, the time virtual."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.settings import Webhooks as Rules
from asyncsvc.errors import InvalidRequest, SettingsError, StorageUnavailable
from asyncsvc.journal.journal import Removal
from asyncsvc.storage.webhooks import SQLiteDeliveries
from asyncsvc.tasks.state import Cause, State, Task
from asyncsvc.webhooks.deliveries import Webhooks
from asyncsvc.webhooks.posting import Answer
from tests.builders import Commits, journal_at, moved
from tests.hook_wire import (
    BAD,
    ENVIRON,
    GONE,
    OK,
    Wire,
    delivering,
    finish,
    last_try,
    made,
    until,
    view,
)
from tests.virtual_time import START_MS, virtual, wall_ms


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@virtual
async def _told_at_once(folder: Path, wire: Wire) -> None:
    async with delivering(folder) as (journal, hooks):
        await asyncio.sleep(1)
        await finish(journal, "t")
        await until(lambda: hooks.delivered == 1, 1)
        ((_, _, headers, body),) = wire.sent
        assert body == {"id": "t", "status": "completed"}
        assert headers["webhook-id"] == "t-4"
        assert headers["webhook-timestamp"] == str(START_MS // 1000 + 1)
        await asyncio.sleep(100)
        assert len(wire.sent) == 1
        assert hooks.under_way == 0
        assert (await last_try(journal))[2:] == ("delivered", 1, 204, None, None)


def test_an_end_is_reported_at_once_and_once(tmp_path: Path, wire: Wire) -> None:
    _told_at_once(tmp_path, wire)


@virtual
async def _schedule(folder: Path, wire: Wire) -> None:
    wire.replies["a"] = [BAD]
    async with delivering(folder) as (journal, hooks):
        await finish(journal, "t")
        await asyncio.sleep(4)
        tried = await last_try(journal)
        assert tried[2:6] == ("pending", 1, 500, "answered 500")
        assert tried.next_at == START_MS + 5_000
        await asyncio.sleep(90 * 3600)
        waits = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
        gone = [round(b - a) for a, b in zip(wire.times(), wire.times()[1:], strict=False)]
        assert gone == waits
        assert (await last_try(journal))[2:] == ("failed", 10, 500, "answered 500", None)
        assert (hooks.delivered, hooks.failures, hooks.given_up) == (0, 10, 1)
        assert len({headers["webhook-id"] for _, _, headers, _ in wire.sent}) == 1
        assert len({headers["webhook-timestamp"] for _, _, headers, _ in wire.sent}) == 10


def test_a_failure_is_tried_again_over_days_and_then_given_up(tmp_path: Path, wire: Wire) -> None:
    _schedule(tmp_path, wire)


@virtual
async def _answers(folder: Path, wire: Wire) -> None:
    wire.replies = {
        "gone": [GONE],
        "moved": [Answer(301), OK],
        "later": [Answer(503, retry_after="60"), OK],
        "sooner": [Answer(429, retry_after="0"), OK],
        "inside": [Answer(error="refused: it leads inside", refused=True)],
        "silent": [Answer(error="no answer within 20 s"), OK],
    }
    async with delivering(folder) as (journal, hooks):
        for host in wire.replies:
            await finish(journal, host, host)
        await asyncio.sleep(3)
        moved = await last_try(journal, "moved")
        assert moved.last_error == "answered 301; redirects are not followed"
        assert (await last_try(journal, "silent")).last_error == "no answer within 20 s"
        await asyncio.sleep(1000)
        tries = {host: [round(at) for at in wire.times(host)] for host in wire.replies}
        assert tries == {
            "gone": [0],
            "moved": [0, 5],
            "later": [0, 60],
            "sooner": [0, 5],
            "inside": [0],
            "silent": [0, 5],
        }
        assert (await last_try(journal, "gone"))[2:] == ("failed", 1, 410, "answered 410", None)
        inside = await last_try(journal, "inside")
        assert inside[2:] == ("failed", 1, None, "refused: it leads inside", None)
        assert (hooks.delivered, hooks.given_up) == (4, 2)


def test_what_an_answer_means(tmp_path: Path, wire: Wire) -> None:
    _answers(tmp_path, wire)


@virtual
async def _restart(folder: Path, wire: Wire) -> None:
    wire.replies["a"] = [BAD, BAD, OK]
    async with delivering(folder) as (journal, _):
        await finish(journal, "t")
        await asyncio.sleep(10)
        assert len(wire.sent) == 2
    await asyncio.sleep(100)
    async with delivering(folder) as (journal, hooks):
        await asyncio.sleep(150)
        assert len(wire.sent) == 2
        await until(lambda: hooks.delivered == 1, 60)
        assert [round(at) for at in wire.times()] == [0, 5, 305]
        assert len({headers["webhook-id"] for _, _, headers, _ in wire.sent}) == 1


def test_a_restart_goes_on_with_the_schedule(tmp_path: Path, wire: Wire) -> None:
    _restart(tmp_path, wire)


@virtual
async def _cut(folder: Path, wire: Wire) -> None:
    wire.takes["a"] = 10
    async with delivering(folder) as (journal, hooks):
        await finish(journal, "t")
        await until(lambda: len(wire.sent) == 1)
    async with delivering(folder) as (journal, hooks):
        await until(lambda: hooks.delivered == 1, 60)
        assert wire.tasks() == ["t", "t"]
        assert (await last_try(journal)).attempts == 1


def test_one_that_a_stop_has_cut_is_made_again(tmp_path: Path, wire: Wire) -> None:
    _cut(tmp_path, wire)


@virtual
async def _again(folder: Path, wire: Wire) -> None:
    wire.takes["a"] = 5
    async with delivering(folder) as (journal, hooks):
        await finish(journal, "t")
        await until(lambda: len(wire.sent) == 1)
        await journal.append(moved("t", State.COMPLETED, Cause.RERUN))
        await journal.append(moved("t", State.PENDING, Cause.CANCELLED))
        await until(lambda: hooks.delivered == 2)
        ids = [headers["webhook-id"] for _, _, headers, _ in wire.sent]
        assert ids == ["t-4", "t-6"]
        assert [body["status"] for *_, body in wire.sent] == ["completed", "cancelled"]
        assert (await last_try(journal))[1:4] == (6, "delivered", 1)


def test_a_rerun_is_reported_anew_whatever_became_of_the_first(tmp_path: Path, wire: Wire) -> None:
    _again(tmp_path, wire)


@virtual
async def _between(folder: Path, wire: Wire) -> None:
    async def slow_view(task: Task) -> dict[str, Any]:
        looked.append(task.id)
        await asyncio.sleep(1)
        return await view(task)

    looked: list[str] = []
    async with delivering(folder, slow_view) as (journal, hooks):
        await finish(journal, "t")
        await finish(journal, "u")
        await until(lambda: len(looked) == 2)
        await journal.append(moved("t", State.COMPLETED, Cause.RERUN))
        await journal.append(Removal("u"))
        await asyncio.sleep(100)
        assert wire.sent == []
        assert hooks.under_way == 0
        assert len(looked) == 2


def test_what_begins_anew_or_is_deleted_in_between_is_not_sent(tmp_path: Path, wire: Wire) -> None:
    _between(tmp_path, wire)


@virtual
async def _disk(folder: Path, wire: Wire) -> None:
    async with delivering(folder) as (journal, hooks):
        wire.takes["a"] = 1
        await finish(journal, "t")
        await until(lambda: len(wire.sent) == 1)
        commits = Commits(journal.store)
        commits.refuse()
        await asyncio.sleep(30)
        assert hooks.delivered == 1
        assert len(wire.sent) == 1
        commits.refusal = None
        await until(lambda: hooks.under_way == 0, 5)
        assert (await last_try(journal)).state == "delivered"


def test_a_disk_that_refuses_makes_no_second_delivery(tmp_path: Path, wire: Wire) -> None:
    _disk(tmp_path, wire)


@virtual
async def _unreadable(folder: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async with delivering(folder) as (journal, hooks):
        await asyncio.sleep(1)
        with monkeypatch.context() as patched:
            unreadable = Unreadable()
            patched.setattr(SQLiteDeliveries, "due", unreadable.read)
            await finish(journal, "t")
            await until(lambda: unreadable.asked > 2, 5)
            assert wire.sent == []
        await until(lambda: hooks.delivered == 1, 5)
        with monkeypatch.context() as patched:
            patched.setattr(SQLiteDeliveries, "still_pending", Unreadable().read)
            await finish(journal, "u", "b")
            await asyncio.sleep(3)
        await until(lambda: hooks.delivered == 2, 5)
        assert hooks.failures == 0


class Unreadable:
    """Reads of a disk that has failed."""

    def __init__(self) -> None:
        self.asked = 0

    async def read(self, *_: Any) -> Any:
        self.asked += 1
        raise StorageUnavailable("the disk is gone")


def test_a_disk_that_cannot_be_read_is_waited_for(
    tmp_path: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    _unreadable(tmp_path, wire, monkeypatch)


@virtual
async def _fault(folder: Path, wire: Wire) -> None:
    async def broken(task: Task) -> dict[str, Any]:
        raise ZeroDivisionError

    async with delivering(folder, broken, retry_s=[5]) as (journal, hooks):
        await finish(journal, "t")
        await until(lambda: hooks.given_up == 1, 60)
        assert wire.sent == []
        assert hooks.failures == 2
        tried = await last_try(journal)
        assert tried.last_error == "a fault of the service; its log says more"


def test_a_fault_of_ours_ends_too(
    tmp_path: Path, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    _fault(tmp_path, wire)
    assert "ZeroDivisionError" in caplog.text


@virtual
async def _no_secret(folder: Path, wire: Wire) -> None:
    async with delivering(folder) as (journal, _):
        wire.replies["a"] = [BAD]
        await finish(journal, "t")
        await asyncio.sleep(1)
    async with journal_at(folder / "t.db", wall_ms) as journal:
        hooks = Webhooks(journal, Rules(), {})
        running = asyncio.create_task(hooks.run(view))
        await asyncio.sleep(1000)
        running.cancel()
        assert len(wire.sent) == 1
        assert (await last_try(journal)).state == "pending"
        with pytest.raises(InvalidRequest, match="ASYNCSVC_WEBHOOK_SECRET must hold") as caught:
            hooks.check("https://example.com/")
        assert caught.value.param == "callback_url"
        hooks.check(None)


def test_without_a_secret_nothing_is_sent_and_nothing_forgotten(
    tmp_path: Path, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _no_secret(tmp_path, wire)
    assert "1 callbacks are owed but cannot be signed: ASYNCSVC_WEBHOOK_SECRET" in caplog.text


@virtual
async def _check(folder: Path) -> None:
    async with journal_at(folder / "t.db", wall_ms) as journal:
        hooks = made(journal, allow=["10.0.0.0/8"])
        hooks.check("https://example.com/x")
        hooks.check("http://10.1.1.1:99/x")
        for url in ("http://127.0.0.1/", "ftp://x/", "nonsense"):
            with pytest.raises(InvalidRequest, match=r"^callback_url: ") as caught:
                hooks.check(url)
            assert caught.value.param == "callback_url"
        with pytest.raises(SettingsError, match="ASYNCSVC_WEBHOOK_SECRET"):
            Webhooks(journal, Rules(), {"ASYNCSVC_WEBHOOK_SECRET": "word"})


def test_a_callback_that_could_never_be_delivered_is_refused(tmp_path: Path) -> None:
    _check(tmp_path)


@virtual
async def _jitter(folder: Path, wire: Wire) -> None:
    wire.replies["a"] = [BAD]
    for number, (drawn, wait) in enumerate(((0.0, 80), (0.5, 100), (1.0, 120))):
        async with journal_at(folder / f"{number}.db", wall_ms) as journal:
            rules = Rules.model_validate({"retry_s": [100]})
            hooks = Webhooks(journal, rules, ENVIRON, draw=iter([drawn]).__next__)
            running = asyncio.create_task(hooks.run(view))
            await finish(journal, "t")
            await asyncio.sleep(200)
            assert round(wire.times()[-1] - wire.times()[-2]) == wait
            running.cancel()


def test_a_wait_is_a_fifth_more_or_less_by_chance(tmp_path: Path, wire: Wire) -> None:
    _jitter(tmp_path, wire)
