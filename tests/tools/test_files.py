"""The tools on files: what they do, and that no path leads out of the workspace."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import InvalidRequest, NotFound
from asyncsvc.tools.files import FILE_MOST, FILE_TOOLS
from asyncsvc.tools.registry import Toolbox, Workspaces
from asyncsvc.tools.tool import Result, Surroundings
from asyncsvc.tools.workspace import PathRefused, Workspace

unix = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links and FIFOs")


class Bench:
    """A workspace and the tools on files."""

    def __init__(self, root: Path, most: int = 65_536) -> None:
        self.root = root
        self.toolbox = Toolbox([tool() for tool in FILE_TOOLS], Workspaces(root.parent))
        self._around = Surroundings(Workspace(root), None, most, lambda _: None)

    async def run(self, name: str, **values: Any) -> Result:
        tool = self.toolbox.tool(name)
        return await self.toolbox.run(tool, self.toolbox.given(tool, values), self._around)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "ws"
    root.mkdir()
    (tmp_path / "secret").write_text("the secret")
    return Bench(root)


async def test_a_file_is_written_read_edited_listed_and_found(bench: Bench) -> None:
    text = "one\ntwo\nthree 好\n"
    assert await bench.run("write_file", path="a/b.txt", content=text) == Result(
        True, "wrote 18 bytes to a/b.txt"
    )
    assert (await bench.run("read_file", path="a/b.txt")).output == text
    assert (await bench.run("read_file", path="/ws/a/b.txt")).output == text
    assert (await bench.run("read_file", path="a/b.txt", offset=1, limit=1)).output == "two\n"
    edited = await bench.run("edit_file", path="a/b.txt", old="two", new="2")
    assert edited == Result(True, "edited a/b.txt at line 2")
    assert (bench.root / "a/b.txt").read_text(encoding="utf-8") == "one\n2\nthree 好\n"
    assert (await bench.run("create_directory", path="a/c/d")).ok
    assert (await bench.run("create_directory", path="a/c/d")).ok
    assert (await bench.run("list_directory", path="a")).output == "16\tb.txt\nfolder\tc/"
    assert (await bench.run("list_directory")).output == "folder\ta/"
    assert (await bench.run("search_files", pattern="*.txt")).output == "a/b.txt"
    assert (await bench.run("search_files", pattern="three")).output == "a/b.txt:3: three 好"
    assert (await bench.run("search_files", pattern="nothing")).output == ""


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("read_file", {"path": "none"}, "No such file"),
        ("read_file", {"path": "folder"}, "is no file"),
        ("read_file", {"path": "binary"}, "not text in UTF-8"),
        ("read_file", {"path": "large"}, "larger than 16 MB"),
        ("read_file", {"path": "file/x"}, "is no folder"),
        ("list_directory", {"path": "file"}, "is no folder"),
        ("edit_file", {"path": "file", "old": "zz", "new": ""}, "does not stand there"),
        ("edit_file", {"path": "file", "old": "a", "new": ""}, "stands there 2 times"),
        ("write_file", {"path": "folder", "content": ""}, "is no file"),
        ("write_file", {"path": ".", "content": ""}, "the workspace itself"),
        ("create_directory", {"path": "file/x"}, "is no folder"),
        ("search_files", {"pattern": "x", "path": "none"}, "No such file"),
    ],
)
async def test_what_cannot_be_done_is_a_text_for_the_model(
    bench: Bench, name: str, values: dict[str, Any], words: str
) -> None:
    (bench.root / "folder").mkdir()
    (bench.root / "file").write_text("a b a")
    (bench.root / "binary").write_bytes(b"\xff\xfe")
    with (bench.root / "large").open("wb") as sparse:
        sparse.truncate(FILE_MOST + 1)
    result = await bench.run(name, **values)
    assert (result.ok, result.exit_code) == (False, 1)
    assert words in result.output


OUT = [
    "../secret", "a/../../secret", "/etc/passwd", "//etc/passwd", "/ws/../secret", "..",
    "..\\secret", "/proc/self/root/etc/passwd", "x\0y", "a/" * 100 + "x", "n" * 300,
    "/workspace/x",
]  # fmt: skip


@pytest.mark.parametrize("path", OUT)
async def test_no_path_leads_out(bench: Bench, path: str) -> None:
    for name, values in (
        ("read_file", {}),
        ("write_file", {"content": "x"}),
        ("edit_file", {"old": "secret", "new": "x"}),
        ("list_directory", {}),
        ("create_directory", {}),
    ):
        result = await bench.run(name, path=path, **values)
        assert not result.ok, (name, result)
        assert "the secret" not in result.output
    assert (bench.root.parent / "secret").read_text() == "the secret"


@unix
async def test_no_link_is_followed(bench: Bench) -> None:
    (bench.root / "link").symlink_to(bench.root.parent / "secret")
    (bench.root / "out").symlink_to(bench.root.parent)
    (bench.root / "self").symlink_to(bench.root)
    os.mkfifo(bench.root / "fifo")
    for path in ("link", "out/secret", "self/link", "fifo"):
        for name, values in (("read_file", {}), ("edit_file", {"old": "secret", "new": "x"})):
            result = await bench.run(name, path=path, **values)
            assert not result.ok
            assert "a link" in result.output or "no file" in result.output
        if path != "self/link":
            assert not (await bench.run("write_file", path=path, content="x")).ok
    assert not (await bench.run("list_directory", path="out")).ok
    assert not (await bench.run("create_directory", path="out/new")).ok
    assert (await bench.run("search_files", pattern="secret")).output == ""
    listed = (await bench.run("list_directory")).output
    assert listed == "other\tfifo\nlink\tlink\nlink\tout\nlink\tself"
    assert sorted(path.name for path in bench.root.parent.iterdir()) == ["secret", "ws"]


@unix
def test_no_race_between_a_folder_and_a_link_leads_out(tmp_path: Path) -> None:
    """A folder changes places with a link to another one, 20,000 times, while it is read."""
    root = tmp_path / "ws"
    for folder in (root / "a", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("the secret" if folder.name == "outside" else "mine")
    (root / "link").symlink_to(tmp_path / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, two in (("a", "b"), ("link", "a"), ("a", "link"), ("b", "a")):
                os.rename(root / one, root / two)

    swapping = threading.Thread(target=swap)
    swapping.start()
    found: dict[bytes, int] = {}
    try:
        with Workspace(root) as workspace:
            for _ in range(20_000):
                try:
                    data = workspace.read("a/file", 100)
                except (PathRefused, OSError):
                    data = b""
                found[data] = found.get(data, 0) + 1
    finally:
        stop.set()
        swapping.join()
    assert found.keys() <= {b"", b"mine"}
    assert found.get(b"mine", 0) > 0
    assert found.get(b"", 0) > 0


async def test_output_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    bench = Bench(tmp_path / "ws", most=10)
    await bench.run("write_file", path="a", content="好" * 100)
    assert await bench.run("read_file", path="a") == Result(True, "好" * 3, truncated=True)
    for number in range(20):
        await bench.run("write_file", path=f"f{number}", content="")
    assert (await bench.run("list_directory")).truncated
    assert (await bench.run("search_files", pattern="f*")).truncated


async def test_a_wrong_call_is_named(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no tool 'rm'; tools: read_file"):
        bench.toolbox.tool("rm")
    for values, param in (
        ({}, "path"),
        ({"path": 1}, "path"),
        ({"path": "a", "mode": "r"}, "mode"),
        ({"path": "a", "offset": -1}, "offset"),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            bench.toolbox.given(bench.toolbox.tool("read_file"), values)
        assert refusal.value.param == param


async def test_a_workspace_belongs_to_its_owner(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "w")
    async with workspaces.use("alice", "x") as alices, workspaces.use("bob", "x") as bobs:
        alices.write("f", b"alice")
        assert bobs.items("") == []
    async with workspaces.use("alice", "x") as again:
        assert again.read("f", 10) == b"alice"
    async with workspaces.use("alice", None) as passing:
        passing.write("f", b"")
        folder = passing.root
    assert not folder.exists()
    for name in ("", "..", "a/b", ".x", "x" * 65, "a\n"):
        with pytest.raises(InvalidRequest):
            workspaces.folder("alice", name)


def test_each_tool_has_a_schema_that_a_provider_takes(bench: Bench) -> None:
    for one in bench.toolbox.listed(["write_file"]):
        function = one["function"]
        assert function["description"]
        assert function["parameters"]["type"] == "object"
        assert function["parameters"]["additionalProperties"] is False
        assert one["approval"] == (function["name"] == "write_file")
