"""Workspaces as archives: taken along whole, and hostile ones held within their folder."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from asyncsvc.tools import archives, trees
from asyncsvc.tools.archives import ArchiveRefused, packed, unpack
from asyncsvc.tools.task_workspaces import TaskWorkspaces, TooLarge
from tests.memory import folder
from tests.tools.trees import CHANGES, Snapshot, Step, change, snapshot

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links and rights")
MB = 1 << 20
MOST = 4 * MB
TASK = "0193a7c5-0000-7000-8000-000000000001"


def wanted() -> None:
    """The work is wanted."""


@pytest.fixture
def root() -> Iterator[Path]:
    with folder() as found:
        yield Path(found)
        for path in Path(found).iterdir():
            if path.is_dir():
                trees.remove(path)


def seconds(state: Snapshot) -> Snapshot:
    """A state without the times of links and the parts of seconds, which an archive leaves out."""
    found: Snapshot = {}
    for path, (kind, mode, *rest) in state.items():
        found[path] = (kind, mode) if kind == "link" else (kind, mode, rest[0] // 10**9, *rest[1:])
    return found


@settings(max_examples=40)
@given(CHANGES, CHANGES)
def test_any_tree_is_taken_along(first: list[Step], second: list[Step]) -> None:
    with folder() as name:
        work, other = Path(name) / "work", Path(name) / "other"
        work.mkdir()
        change(work, first)
        change(work, second)
        data = b"".join(packed(work, MOST, bool(len(first) % 2), wanted))
        unpack(io.BytesIO(data), other, wanted, MOST)
        assert seconds(snapshot(other)) == seconds(snapshot(work))
        trees.remove(work)
        trees.remove(other)


async def test_a_workspace_is_taken_along(root: Path) -> None:
    workspaces = TaskWorkspaces(root, lambda: MB)
    await workspaces.begin(TASK, 0, {"a": "1", "d/b": "2" * 600_000})
    for compressed in (False, True):
        pieces = [piece async for piece in await workspaces.pack(TASK, 0, compressed)]
        assert (len(pieces) > 1) is not compressed
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            assert tar.getnames() == ["a", "d", "d/b"]
        target = f"copy-{compressed}"
        await workspaces.unpack(target, io.BytesIO(b"".join(pieces)))
        async with workspaces.use(target, 0) as workspace:
            assert workspace.read("d/b", MB) == b"2" * 600_000


async def test_an_empty_workspace_is_an_empty_archive(root: Path) -> None:
    workspaces = TaskWorkspaces(root, lambda: MB)
    data = b"".join([piece async for piece in await workspaces.pack(TASK, 0)])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == []


async def test_holes_count_in_an_archive(root: Path) -> None:
    workspaces = TaskWorkspaces(root, lambda: MB)
    await workspaces.begin(TASK, 0, {"a": "1"})
    os.truncate(root / "tasks" / TASK / "work-0/a", 1 << 40)
    with pytest.raises(TooLarge):
        await workspaces.pack(TASK, 0)


def test_a_file_that_changes_meanwhile_spoils_nothing_behind_it(root: Path) -> None:
    work = root / "work"
    work.mkdir()
    for name, size in (("a", 3000), ("b", 3000), ("c", 10)):
        (work / name).write_bytes(b"x" * size)
    pieces = packed(work, MOST, False, wanted)
    (work / "a").write_bytes(b"y" * 9000)
    (work / "b").unlink()
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        found = {header.name: tar.extractfile(header) for header in tar}
        assert {name: file.read() for name, file in found.items() if file is not None} == {
            "a": b"y" * 3000,
            "b": bytes(3000),
            "c": b"x" * 10,
        }


# Hostile archives -------------------------------------------------------------------------------


def tar_of(*entries: tuple[str, bytes, str | int]) -> bytes:
    """A tar archive of (name, type, target or size)."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, value in entries:
            header = tarfile.TarInfo(name)
            header.type, header.mode = kind, 0o755
            if isinstance(value, str):
                header.linkname = value
            else:
                header.size = value
            tar.addfile(header, io.BytesIO(bytes(header.size)))
    return found.getvalue()


FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
HOSTILE: dict[str, bytes] = {
    "path above": tar_of(("../a", FILE, 1)),
    "path above, deeper": tar_of(("d/../../a", FILE, 1)),
    "absolute path": tar_of(("/tmp/asyncsvc-escape", FILE, 1)),
    "through a link": tar_of(("d", LINK, "../outside"), ("d/a", FILE, 1)),
    "through a link to the root": tar_of(("d", LINK, "/"), ("d/tmp/asyncsvc-escape", FILE, 1)),
    "folder in place of a link": tar_of(("d", LINK, "../outside"), ("d", DIR, 0), ("d/a", FILE, 1)),
    "file in place of a link": tar_of(("a", LINK, "../outside/secret"), ("a", FILE, 1)),
    "hard link outside": tar_of(("a", HARD, "../outside/secret")),
    "hard link by a link": tar_of(("d", LINK, "../outside"), ("a", HARD, "d/secret")),
    "hard link to a link": tar_of(("a", LINK, "../outside/secret"), ("b", HARD, "a")),
    "hard link to nothing": tar_of(("a", HARD, "b")),
    "hard link to itself": tar_of(("a", HARD, "a")),
    "hard link to a folder": tar_of(("d", DIR, 0), ("a", HARD, "d")),
    "a file twice": tar_of(("a", FILE, 1), ("a", FILE, 1)),
    "file as a folder": tar_of(("a", FILE, 1), ("a/b", FILE, 1)),
    "too many bytes": tar_of(("a", FILE, 3 * MB), ("b", FILE, 3 * MB)),
    "a bomb": gzip.compress(tar_of(("a", FILE, 40 * MB))),
    "long name": tar_of(("x" * 300, FILE, 1)),
    "deep": tar_of(("/".join(["d"] * 500), DIR, 0)),
    "nothing": b"",
    "no archive": b"no archive " * 200,
    "a cut one": tar_of(("a", FILE, 3000))[:2000],
    "cut gzip": gzip.compress(tar_of(("a", FILE, 3000)))[:-12],
    "no gzip": b"\x1f\x8b" + b"no gzip " * 200,
}


def test_a_header_is_never_read_whole_at_once(root: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    with pytest.raises(ArchiveRefused, match="header"):
        unpack(io.BytesIO(header.tobuf() + bytes(5000)), root / "work", wanted, MOST)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_stays_in_its_folder(root: Path, name: str) -> None:
    outside = root / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the secret")
    with pytest.raises(ArchiveRefused):
        unpack(io.BytesIO(HOSTILE[name]), root / "work", wanted, MOST)
    assert sorted(path.name for path in root.iterdir()) == ["outside", "work"]
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "the secret"
    assert (outside / "secret").stat().st_nlink == 1
    assert not Path("/tmp/asyncsvc-escape").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda header: setattr(header, "mtime", -5),
        lambda header: setattr(header, "mtime", 1 << 60),
        lambda header: setattr(header, "pax_headers", {"mtime": "inf"}),
        lambda header: setattr(header, "mode", 0o7777),
        lambda header: setattr(header, "pax_headers", {"uid": "-1", "comment": "x" * 5000}),
    ],
)
def test_strange_headers_are_no_harm(root: Path, spoil: Callable[[tarfile.TarInfo], None]) -> None:
    header = tarfile.TarInfo("a")
    spoil(header)
    data = header.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    unpack(io.BytesIO(data), root / "work", wanted, MOST)
    assert (root / "work/a").stat().st_mode & 0o7000 == 0


def test_devices_and_their_like_are_left_out(root: Path) -> None:
    kinds = [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"]
    data = tar_of(*((f"{number}", kind, 0) for number, kind in enumerate(kinds)), ("a", FILE, 1))
    unpack(io.BytesIO(data), root / "work", wanted, MOST)
    assert {path.name for path in (root / "work").iterdir() if not path.is_file()} == set()


def test_entries_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ENTRIES_MOST", 10)
    data = tar_of(*((f"{number}", FILE, 0) for number in range(11)))
    with pytest.raises(ArchiveRefused, match="more than 10 files"):
        unpack(io.BytesIO(data), root / "work", wanted, MOST)


async def test_a_refused_archive_leaves_nothing(root: Path) -> None:
    workspaces = TaskWorkspaces(root, lambda: MB)
    with pytest.raises(ArchiveRefused):
        await workspaces.unpack(TASK, io.BytesIO(HOSTILE["through a link"]))
    assert not list((root / "tasks" / TASK).glob("work-*"))
