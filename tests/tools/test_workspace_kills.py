"""A process that ends at any system call leaves the old state of a workspace or the new one."""

import asyncio
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from asyncsvc.tools import trees
from asyncsvc.tools.task_workspaces import TaskWorkspaces
from tests.memory import folder
from tests.tools.system_calls import Killed, killed
from tests.tools.trees import Snapshot, snapshot

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links and rights")
linux = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
TASK = "0193a7c5-0000-7000-8000-000000000001"
MB = 1 << 20


class Place:
    """Workspaces that are opened anew after each kill."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.start()

    def start(self) -> None:
        self.workspaces = TaskWorkspaces(self.root, lambda: MB)

    def work(self, generation: int, task_id: str = TASK) -> Path:
        return self.root / "tasks" / task_id / f"work-{generation}"

    def state(self, generation: int, task_id: str = TASK) -> Snapshot:
        return snapshot(self.work(generation, task_id))

    async def prepare(self) -> str:
        """A workspace with a bit of everything, its checkpoint, and changes since."""
        await self.workspaces.begin(TASK, 0, {"a": "1", "d/b": "2", "d/c": "3"})
        work = self.work(0)
        (work / "empty").mkdir()
        (work / "link").symlink_to("a")
        (work / "d").chmod(0o500)
        checkpoint = await self.workspaces.take(TASK, 0, "c")
        assert checkpoint is not None
        (work / "d").chmod(0o700)
        (work / "a").write_text("changed")
        (work / "d/c").unlink()
        (work / "new").write_text("new")
        return checkpoint


@pytest.fixture
def place() -> Iterator[Place]:
    with folder() as root:
        yield Place(Path(root))
        trees.remove(Path(root) / "tasks")


async def at_each_call(
    place: Place, work: Callable[[], Awaitable[object]], check: Callable[[], Awaitable[None]]
) -> int:
    """Do work that ends at its first system call, at its second, and so on, each time from the
    same state, until it comes to its end; `check` what each has left. How many calls there are."""
    before = place.root.with_name(f"{place.root.name}-before")
    shutil.copytree(place.root, before, symlinks=True)
    try:
        for at in range(1, 1000):
            trees.remove(place.root)
            shutil.copytree(before, place.root, symlinks=True)
            place.start()
            ended = True
            with killed(at):
                try:
                    await work()
                except Killed:
                    ended = False
            place.start()
            await check()
            if ended:
                return at - 1
    finally:
        trees.remove(before)
    raise AssertionError("it has no end")


async def test_a_workspace_is_put_back_at_once_or_not_at_all(place: Place) -> None:
    checkpoint = await place.prepare()
    before = place.state(0)
    await place.workspaces.restore(TASK, 0, checkpoint)
    wanted = place.state(1)
    trees.remove(place.work(1))

    async def check() -> None:
        assert place.state(0) == before
        if place.work(1).exists():
            assert place.state(1) == wanted
        await place.workspaces.restore(TASK, 0, checkpoint)
        assert place.state(1) == wanted
        await place.workspaces.settle(TASK, 1)
        left = {path.name for path in place.work(1).parent.iterdir()}
        assert {name for name in left if not name.startswith("owner-")} == {"work-1", "checkpoints"}

    calls = await at_each_call(place, lambda: place.workspaces.restore(TASK, 0, checkpoint), check)
    assert calls > 30


async def test_a_checkpoint_is_there_or_not(place: Place) -> None:
    first = await place.prepare()
    await place.workspaces.restore(TASK, 0, first)
    wanted, now = place.state(1), place.state(0)
    trees.remove(place.work(1))

    async def check() -> None:
        assert place.state(0) == now
        await place.workspaces.restore(TASK, 0, first)
        assert place.state(1) == wanted
        second = await place.workspaces.take(TASK, 0, "next")
        assert second is not None
        await place.workspaces.restore(TASK, 1, second)
        assert place.state(2) == now

    assert await at_each_call(place, lambda: place.workspaces.take(TASK, 0, "next"), check) > 5


async def test_a_workspace_begins_with_all_files_or_none(place: Place) -> None:
    files = {"a": "1", "d/b": "2"}

    async def begin() -> None:
        await place.workspaces.begin(TASK, 0, files)

    async def check() -> None:
        await begin()
        found = {str(p.relative_to(place.work(0))): p for p in place.work(0).rglob("*")}
        assert {name: p.read_text() for name, p in found.items() if p.is_file()} == files

    await at_each_call(place, begin, check)


async def test_a_copy_is_whole_or_not_there(place: Place) -> None:
    checkpoint = await place.prepare()
    before = place.state(0)

    for given in (checkpoint, None):
        trees.remove(place.work(0, "copy").parent)
        await place.workspaces.copy(TASK, 0, given, "copy")
        wanted = place.state(0, "copy")
        trees.remove(place.work(0, "copy").parent)

        async def check(given: str | None = given, wanted: Snapshot = wanted) -> None:
            assert place.state(0) == before
            await place.workspaces.copy(TASK, 0, given, "copy")
            assert place.state(0, "copy") == wanted

        async def copy(given: str | None = given) -> None:
            await place.workspaces.copy(TASK, 0, given, "copy")

        assert await at_each_call(place, copy, check) > 20


async def test_a_removal_is_finished_by_the_next(place: Place) -> None:
    await place.prepare()
    await place.workspaces.begin("other", 0, {"a": "1"})

    async def keep(task_id: str) -> bool:
        return task_id == "other"

    async def check() -> None:
        await place.workspaces.sweep(keep)
        assert [path.name for path in (place.root / "tasks").iterdir()] == ["other"]
        assert (place.work(0, "other") / "a").read_text() == "1"

    assert await at_each_call(place, lambda: place.workspaces.remove(TASK), check) > 10


# Order of syncs ---------------------------------------------------------------------------------


@linux
async def test_what_has_a_name_is_on_the_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut keeps what was synced before, and any part of what was not."""
    checkpoint = await place.prepare()
    made: list[str] = []
    replace, rename, fsync = os.replace, os.rename, os.fsync

    def note(kind: str, call: Callable[..., None]) -> Callable[..., None]:
        def noted(*given: object) -> None:
            call(*given)
            at = given[0]
            name = os.readlink(f"/proc/self/fd/{at}") if isinstance(at, int) else str(given[-1])
            made.append(f"{kind} {Path(name).name}")

        return noted

    monkeypatch.setattr(os, "replace", note("name", replace))
    monkeypatch.setattr(os, "rename", note("name", rename))
    monkeypatch.setattr(os, "fsync", note("sync", fsync))
    monkeypatch.setattr(
        "asyncsvc.tools.checkpoints.sync_tree", lambda path: made.append(f"all {path.name}")
    )
    taken = await place.workspaces.take(TASK, 0, "c")
    assert made == [f"name {taken}", f"sync {taken}", "sync checkpoints"]
    made.clear()
    await place.workspaces.restore(TASK, 0, checkpoint)
    assert made == ["all work-1.new", "name work-1", f"sync {TASK}"]


@linux
@pytest.mark.parametrize("change", ["write", "make", "remove", "rename", "chmod", "folder", "none"])
async def test_what_a_call_has_changed_is_synced(
    place: Place, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    await place.workspaces.begin(TASK, 0, {"a": "1", "d/b": "2", "e/c": "3"})
    work = place.work(0)
    await asyncio.sleep(0.05)  # so that the change has another time than the file
    await place.workspaces.take(TASK, 0, "c")
    changes: dict[str, tuple[Callable[[], object], set[str]]] = {
        "write": (lambda: (work / "d/b").write_text("4"), {"b", "d"}),
        "make": (lambda: (work / "d/new").write_text("4"), {"new", "d"}),
        "remove": (lambda: (work / "d/b").unlink(), {"d"}),
        "rename": (lambda: (work / "d/b").rename(work / "e/b"), {"b", "d", "e"}),
        "chmod": (lambda: (work / "d/b").chmod(0o755), {"b", "d"}),
        "folder": (lambda: (work / "e/new").mkdir(), {"new", "e"}),
        "none": (lambda: None, set()),
    }
    make, wanted = changes[change]
    make()
    synced: set[str] = set()
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    await place.workspaces.sync(TASK, 0)
    assert synced == {"work-0"} | wanted


async def test_all_is_synced_where_there_is_no_checkpoint(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    await place.workspaces.sync(TASK, 0)
    await place.workspaces.begin(TASK, 0, {"a": "1"})
    monkeypatch.setattr(
        "asyncsvc.tools.checkpoints.sync_tree", lambda path: synced.append(path.name)
    )
    await place.workspaces.sync(TASK, 0)
    assert synced == ["work-0"]


# Cancelled --------------------------------------------------------------------------------------


async def test_what_is_cancelled_ends_before_its_cancellation_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.prepare()
    begun, go_on = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(fd: int) -> None:
        begun.set()
        go_on.wait()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    taking = asyncio.create_task(place.workspaces.take(TASK, 0, "c"))
    await asyncio.to_thread(begun.wait)
    settling = asyncio.create_task(place.workspaces.settle(TASK, 0))
    for _ in range(3):
        taking.cancel()
        await asyncio.sleep(0)
        assert not taking.done()
        assert not settling.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await settling
    assert await place.workspaces.take(TASK, 0, "c") is not None


async def test_a_cancelled_copy_of_much_stops_soon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.workspaces.begin(TASK, 0, {f"{number}": "1" for number in range(50)})
    begun, go_on, opened = threading.Event(), threading.Event(), list[str]()
    open_file = trees.Folder.open_file

    def slow(at: trees.Folder, name: str) -> int:
        opened.append(name)
        begun.set()
        go_on.wait()
        return open_file(at, name)

    monkeypatch.setattr(trees.Folder, "open_file", slow)
    taking = asyncio.create_task(place.workspaces.take(TASK, 0, "c"))
    await asyncio.to_thread(begun.wait)
    taking.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert len(opened) == 1
    assert list((place.work(0).parent / "checkpoints").iterdir()) == []


@linux
async def test_a_workspace_that_opens_for_one_who_is_gone_is_closed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    mkdir = os.mkdir

    def slow(*given: object, **named: object) -> None:
        begun.set()
        go_on.wait()
        mkdir(*given, **named)  # type: ignore[arg-type]

    async def use() -> None:
        async with place.workspaces.use(TASK, 0):
            raise AssertionError("it was cancelled")

    await asyncio.to_thread(len, "")  # so that the thread is there
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "mkdir", slow)
    using = asyncio.create_task(use())
    await asyncio.to_thread(begun.wait)
    using.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert len(os.listdir("/proc/self/fd")) == before
