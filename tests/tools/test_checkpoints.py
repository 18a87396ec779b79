"""Checkpoints of trees: what is put back is what was there, whatever a program has made."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from asyncsvc.tools import checkpoints, trees
from asyncsvc.tools.checkpoints import prune, restore, settled, sync_changes, take
from asyncsvc.tools.packs import CheckpointDamaged, row_of
from asyncsvc.tools.trees import DEPTH_MOST, Entry, remove
from tests.memory import MEMORY
from tests.tools.trees import CHANGES, Snapshot, Step, change, snapshot

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links and rights")
MB = 1 << 20
MOST = 64 * MB
SECOND = 1_000_000_000


def wanted() -> None:
    """The work is wanted."""


class Tree:
    """A folder `work` with its checkpoints."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.folder = root / "checkpoints"
        self.work.mkdir()
        self.folder.mkdir()
        self._restored = 0

    def take(self, most: int = MOST, generation: int = 0) -> str | None:
        return take(self.work, self.folder, "c", generation, most, wanted)

    def taken(self, most: int = MOST) -> str:
        name = self.take(most)
        assert name is not None
        return name

    def restored(self, name: str) -> Path:
        self._restored += 1
        target = self.root / f"restored-{self._restored}"
        restore(self.folder, name, target, wanted)
        return target

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())}


@contextmanager
def somewhere() -> Iterator[Tree]:
    root = Path(tempfile.mkdtemp(dir=MEMORY))
    try:
        yield Tree(root)
    finally:
        remove(root)
        assert not root.exists()


@pytest.fixture
def tree() -> Iterator[Tree]:
    with somewhere() as found:
        yield found


@settings(max_examples=60)
@given(CHANGES, CHANGES, CHANGES)
def test_any_tree_is_put_back(first: list[Step], second: list[Step], third: list[Step]) -> None:
    with somewhere() as tree:
        states = []
        for steps in (first, second, third):
            change(tree.work, steps)
            states.append((snapshot(tree.work), tree.taken()))
        change(tree.work, first)
        for state, name in states:
            assert snapshot(tree.restored(name)) == state


def test_only_what_has_changed_is_copied(tree: Tree) -> None:
    for number in range(50):
        (tree.work / f"{number}").write_bytes(bytes(10_000))
    pass_time(tree.work)
    tree.taken()
    (tree.work / "7").write_bytes(b"new" * 1000)
    (tree.work / "8").rename(tree.work / "moved")
    (tree.work / "9").unlink()
    name = tree.taken()
    first, second = tree.sizes().values()
    assert first > 500_000
    assert 13_000 < second < 25_000
    assert snapshot(tree.restored(name)) == snapshot(tree.work)


def pass_time(folder: Path) -> None:
    """Wait until a change has another time than those before, by far."""
    probe = folder.parent / "probe"
    times: list[int] = []
    while not times or times[-1] - times[0] < 2 * checkpoints.TICK_NS:
        probe.touch()
        times.append(probe.stat().st_mtime_ns)
    probe.unlink()


def test_a_change_in_the_moment_of_the_copy_is_no_old_content() -> None:
    def row(changed: int) -> list[object]:
        return row_of(Entry("file", "a", 0o600, changed, 1, 1, changed), 0, [])

    began = 1_800_000_000 * SECOND + 500
    assert settled(row(began - 30_000_000), began)
    assert not settled(row(began - 10_000_000), began)
    assert not settled(row(began + 10_000_000), began)
    assert not settled(row(1_799_999_999 * SECOND), began), "the file system counts whole seconds"
    assert settled(row(1_799_999_990 * SECOND), began)


def test_a_file_that_keeps_its_size_and_time_is_copied_again(tree: Tree) -> None:
    (tree.work / "a").write_text("old")
    at = os.stat(tree.work / "a")
    pass_time(tree.work)
    tree.taken()
    (tree.work / "a").write_text("new")
    os.utime(tree.work / "a", ns=(at.st_mtime_ns, at.st_mtime_ns))
    assert (tree.restored(tree.taken()) / "a").read_text() == "new"


def test_another_generation_is_copied_whole(tree: Tree) -> None:
    (tree.work / "a").write_bytes(bytes(100_000))
    pass_time(tree.work)
    tree.take(generation=0)
    tree.take(generation=1)
    assert all(size > 100_000 for size in tree.sizes().values())


# Sizes ------------------------------------------------------------------------------------------


def test_a_large_workspace_has_no_checkpoint(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.work / "a").write_bytes(os.urandom(2 * MB))
    opened: list[str] = []
    monkeypatch.setattr(trees.Folder, "open_file", lambda _, name: opened.append(name))
    assert tree.take(most=MB) is None
    assert opened == [], "it is known before anything is copied"
    assert tree.sizes() == {}


def test_many_files_have_no_checkpoint(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "ENTRIES_MOST", 20)
    for number in range(20):
        (tree.work / f"{number}").touch()
    assert tree.take() is not None
    (tree.work / "more").mkdir()
    assert tree.take() is None


def test_a_file_of_holes_takes_no_room(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    with open(tree.work / "a", "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"in the middle")
    found = tree.restored(tree.taken()) / "a"
    assert sum(tree.sizes().values()) < MB
    assert found.stat().st_size == 1 << 40
    assert found.stat().st_blocks * 512 < MB
    with open(found, "rb") as file:
        file.seek(1 << 39)
        assert file.read(13) == b"in the middle"


def test_the_oldest_go_and_the_newest_stays(tree: Tree) -> None:
    names = []
    for number in range(8):
        (tree.work / "changes").write_bytes(bytes([number]) * 300_000)
        names.append(tree.taken(most=MB))
    assert sum(tree.sizes().values()) <= MB
    assert list(tree.sizes()) == names[-len(tree.sizes()) :]
    assert (tree.restored(names[-2]) / "changes").read_bytes() == bytes([6]) * 300_000
    with pytest.raises(CheckpointDamaged):
        tree.restored(names[0])
    prune(tree.folder, 1)
    assert (tree.restored(names[-1]) / "changes").read_bytes() == bytes([7]) * 300_000
    assert list(tree.sizes()) == names[-1:]


def test_what_a_checkpoint_refers_to_stays_until_all_is_copied_anew(tree: Tree) -> None:
    states: dict[str, Snapshot] = {}
    stored: set[int] = set()
    for number in range(20):
        (tree.work / f"{number % 4}").write_bytes(os.urandom(100_000))
        pass_time(tree.work)
        states[tree.taken(most=MB)] = snapshot(tree.work)
        assert sum(tree.sizes().values()) <= MB
        stored.add(len(tree.sizes()))
    assert max(stored) > 5
    assert len(tree.sizes()) < 20
    restored = []
    for name in tree.sizes():
        with contextlib.suppress(CheckpointDamaged):
            assert snapshot(tree.restored(name)) == states[name]
            restored.append(name)
    assert len(restored) > 2
    assert restored == list(tree.sizes())[-len(restored) :], "the newest, without gaps"


# What programs leave ----------------------------------------------------------------------------


@contextmanager
def no_superuser() -> Iterator[None]:
    """Act as a user whom rights keep out."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_rights_that_keep_the_owner_out_are_put_back(tmp_path: Path) -> None:
    def fill(tree: Tree) -> None:
        (tree.work / "shut/in/deeper").mkdir(parents=True)
        (tree.work / "shut/in/a").write_text("1")
        (tree.work / "unread").write_text("2")
        for path, mode in (("unread", 0), ("shut/in", 0o400), ("shut", 0o000)):
            (tree.work / path).chmod(mode)

    with somewhere() as tree:  # so that all modules are loaded
        tree.restored(tree.taken())
    with no_superuser(), somewhere() as tree:
        fill(tree)
        before = snapshot(tree.work)
        found = tree.restored(tree.taken())
        assert snapshot(tree.work) == before
        assert snapshot(found) == before
        sync_changes(tree.work, tree.folder, 0, wanted)
        assert stat.S_IMODE((tree.work / "shut").stat().st_mode) == 0


def test_what_nobody_may_read_has_no_checkpoint(tree: Tree) -> None:
    def refused(_: trees.Folder, name: str) -> int:
        raise PermissionError(1, "not permitted", name)

    (tree.work / "a").touch()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trees.Folder, "open_file", refused)
        assert tree.take() is None
    assert tree.sizes() == {}


def test_folders_in_folders_end_somewhere(tree: Tree) -> None:
    deepest = tree.work.joinpath(*["d"] * DEPTH_MOST)
    deepest.mkdir(parents=True)
    assert tree.restored(tree.taken()).joinpath(*["d"] * DEPTH_MOST).is_dir()
    (deepest / "d").mkdir()
    assert tree.take() is None


def test_folders_deeper_than_a_path_is_long_are_removed(tree: Tree) -> None:
    fd = os.open(tree.work, os.O_RDONLY)
    for number in range(1100):
        os.mkdir("a-long-name", dir_fd=fd)
        deeper = os.open("a-long-name", os.O_RDONLY, dir_fd=fd)
        os.mkfifo("fifo", dir_fd=deeper)
        if number % 50 == 0:
            os.fchmod(fd, 0)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert tree.take() is None
    remove(tree.work)
    assert not tree.work.exists()
    remove(tree.work)


def test_a_folder_with_many_files_is_removed(tree: Tree) -> None:
    for number in range(2500):
        (tree.work / f"{number}").touch()
    remove(tree.work)
    assert not tree.work.exists()


def test_a_link_is_never_followed(tree: Tree) -> None:
    outside = tree.root / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the secret")
    (tree.work / "to-folder").symlink_to(outside)
    (tree.work / "to-file").symlink_to(outside / "secret")
    name = tree.taken()
    assert b"the secret" not in (tree.folder / name).read_bytes()
    found = tree.restored(name)
    assert os.readlink(found / "to-folder") == str(outside)
    remove(tree.work)
    assert (outside / "secret").exists()


def test_a_folder_that_becomes_a_link_is_not_followed(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tree.root / "outside"
    outside.mkdir()
    (outside / "a").write_text("the secret")
    (tree.work / "d").mkdir()
    (tree.work / "d/a").write_text("1")
    listed = trees.entries

    def exchanged(*given: object) -> list[Entry]:
        found = listed(*given)  # type: ignore[arg-type]
        shutil.rmtree(tree.work / "d")
        (tree.work / "d").symlink_to(outside)
        return found

    monkeypatch.setattr(checkpoints, "entries", exchanged)
    with pytest.raises(OSError, match="d"):
        tree.take()
    assert tree.sizes() == {}


def test_files_that_go_meanwhile_are_left_out(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "d/c"):
        (tree.work / name).parent.mkdir(exist_ok=True)
        (tree.work / name).write_text(name)
    os.link(tree.work / "a", tree.work / "same")
    listed = trees.entries

    def removed(*given: object) -> list[Entry]:
        found = listed(*given)  # type: ignore[arg-type]
        (tree.work / "a").unlink()
        shutil.rmtree(tree.work / "d")
        return found

    monkeypatch.setattr(checkpoints, "entries", removed)
    name = tree.taken()
    assert [path.name for path in tree.restored(name).rglob("*") if path.is_file()] == ["b"]


# Damage -----------------------------------------------------------------------------------------


def test_a_half_written_checkpoint_is_no_ground_for_the_next(tree: Tree) -> None:
    (tree.work / "a").write_bytes(bytes(10_000))
    pass_time(tree.work)
    good = tree.taken()
    (tree.folder / "000002-c").write_bytes(bytes(5000))
    (tree.folder / "000003-c.new").write_bytes(bytes(5000))
    name = tree.taken()
    assert list(tree.sizes()) == [good, name]
    assert tree.sizes()[name] < 1000, "the one before is still good for it"
    assert snapshot(tree.restored(name)) == snapshot(tree.work)


def test_a_checkpoint_whose_ground_is_gone_is_damaged(tree: Tree) -> None:
    (tree.work / "a").write_bytes(bytes(10_000))
    pass_time(tree.work)
    first, second = tree.taken(), tree.taken()
    (tree.folder / first).unlink()
    with pytest.raises(CheckpointDamaged, match="no longer there"):
        tree.restored(second)
    assert snapshot(tree.restored(tree.taken())) == snapshot(tree.work)
