"""The workspaces of agent tasks: what a task begins with, its checkpoints, and putting it back."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncsvc.tools.task_workspaces import CheckpointDamaged, TaskWorkspaces

TASK = "0193a7c5-0000-7000-8000-000000000001"
MB = 1 << 20
unix = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links and rights")


class Bench:
    """The workspaces of one root; `work` is the folder of the task."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.most = 64 * MB
        self.workspaces = TaskWorkspaces(root, lambda: self.most)
        self.generation = 0

    @property
    def work(self) -> Path:
        return self.folder(f"work-{self.generation}")

    def folder(self, name: str, task_id: str = TASK) -> Path:
        return self.root / "tasks" / task_id / name

    async def begin(self, **files: str) -> None:
        await self.workspaces.begin(TASK, self.generation, files)

    async def take(self, name: str = "c") -> str:
        taken = await self.workspaces.take(TASK, self.generation, name)
        assert taken is not None
        return taken

    async def restore(self, checkpoint: str) -> None:
        await self.workspaces.restore(TASK, self.generation, checkpoint)
        self.generation += 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "ws")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def shown(bench: Bench) -> list[str]:
    """What is in the task's folder, but the mark of its owner."""
    return [name for name in names(bench.folder("")) if not name.startswith("owner-")]


async def test_a_workspace_begins_with_the_files_of_the_task(bench: Bench) -> None:
    await bench.workspaces.begin(TASK, 0, {"a.py": "1", "src/b.py": "好"})
    (bench.work / "a.py").write_text("2")
    await bench.workspaces.begin(TASK, 0, {"a.py": "1"})
    assert (bench.work / "a.py").read_text() == "2", "a workspace that is there is left alone"
    assert (bench.work / "src/b.py").read_text(encoding="utf-8") == "好"
    assert shown(bench) == ["work-0"]


async def test_a_workspace_is_put_back_to_a_checkpoint(bench: Bench) -> None:
    await bench.begin(kept="1", changed="1", removed="1")
    checkpoint = await bench.take()
    (bench.work / "changed").write_text("2")
    (bench.work / "removed").unlink()
    (bench.work / "made").mkdir()
    old = bench.work
    await bench.restore(checkpoint)
    assert {p.name: p.read_text() for p in bench.work.iterdir()} == {
        "kept": "1",
        "changed": "1",
        "removed": "1",
    }
    assert (old / "changed").read_text() == "2", "the old state stays until it is settled"
    await bench.workspaces.settle(TASK, bench.generation)
    assert shown(bench) == ["checkpoints", "work-1"]


async def test_a_task_is_removed_with_its_checkpoints(bench: Bench) -> None:
    await bench.begin(a="1")
    await bench.take()
    await bench.workspaces.remove(TASK)
    await bench.workspaces.remove(TASK)
    assert names(bench.root / "tasks") == []


async def test_a_checkpoint_that_is_not_there_is_damaged(bench: Bench) -> None:
    await bench.begin(a="1")
    for name in ("000009-c", "../../secret", ""):
        with pytest.raises(CheckpointDamaged):
            await bench.workspaces.restore(TASK, 0, name)
    assert shown(bench) == ["work-0"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:2000] + b"?" + data[2001:],
    ],
    ids=["an end cut", "a half", "empty", "contents", "list"],
)
async def test_a_damaged_checkpoint_is_found_out(
    bench: Bench, spoil: Callable[[bytes], bytes]
) -> None:
    await bench.begin(a="1" * 1990, b="2")
    checkpoint = await bench.take()
    path = bench.folder("checkpoints") / checkpoint
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointDamaged):
        await bench.restore(checkpoint)
    assert shown(bench) == ["checkpoints", "work-0"]
    assert await bench.take() != checkpoint, "and the next one is whole"
    await bench.restore(await bench.take())
    assert (bench.work / "a").read_text() == "1" * 1990


async def test_folders_of_tasks_that_are_gone_are_removed(bench: Bench) -> None:
    asked: list[str] = []

    async def keep(task_id: str) -> bool:
        asked.append(task_id)
        return task_id == TASK

    assert await bench.workspaces.sweep(keep) == 0
    await bench.begin(a="1")
    await bench.workspaces.begin("gone", 0, {})
    others = TaskWorkspaces(bench.root, lambda: 0, owner="another list of tasks")
    await others.begin("theirs", 0, {})
    left = bench.root / "tasks/.gone-1/folder"
    left.mkdir(parents=True)
    assert await bench.workspaces.sweep(keep) == 1
    assert names(bench.root / "tasks") == [TASK, "theirs"]
    assert asked == [TASK, "gone"]


async def test_a_copy_is_spared_until_its_task_is_there(bench: Bench) -> None:
    async def none(_: str) -> bool:
        return False

    await bench.begin(a="1")
    checkpoint = await bench.take()
    (bench.work / "a").write_text("2")
    await bench.workspaces.copy(TASK, 0, checkpoint, "then")
    await bench.workspaces.copy(TASK, 0, None, "now")
    assert await bench.workspaces.sweep(none) == 1
    assert bench.folder("work-0/a", "then").read_text() == "1"
    assert bench.folder("work-0/a", "now").read_text() == "2"
    assert await bench.workspaces.sweep(none) == 2
