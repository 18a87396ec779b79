"""A release: its version and notes, and a wheel and a source archive that work by themselves."""

import os
import re
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib import import_module
from pathlib import Path

import pytest

from asyncsvc import __version__
from tests.changelog import NoRelease, notes
from tests.test_supply_chain import files

yaml = import_module("yaml")  # it has no types of its own

ROOT = Path(__file__).parents[2]
LARGEST = 3 << 20
"""Bytes of a wheel: it is downloaded by each user."""
LONGEST_S = 60.0
BUILD = (
    "import sys; from hatchling.build import *; build_wheel(sys.argv[1]); build_sdist(sys.argv[1])"
)


@pytest.mark.slow
def test_what_is_released_is_whole_and_runs_by_itself(tmp_path: Path) -> None:
    """One test, as each process of pytest would build both for itself. They are built as
    `python -m build` does, without its environment of its own."""
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, check=True)
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    the_wheel_holds_the_package_and_nothing_else(wheel)
    the_source_archive_has_what_a_clone_has(source)
    the_wheel_runs_in_an_empty_folder(wheel, tmp_path)


def ours() -> set[str]:
    """The files of the package under version control."""
    found = {path.relative_to(ROOT).as_posix() for path in files() if path.is_file()}
    return {name for name in found if name.startswith("asyncsvc/") and "__pycache__" not in name}


def the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(about).decode())
    info = {name for name in names if ".dist-info/" in name}
    assert names - info == ours()
    for needed in ("py.typed", "cli/settings.toml", "web/page/static/index.html",
                   "web/page/static/vendor", "storage/migrations/0001_tasks.sql"):  # fmt: skip
        assert [name for name in names if name.startswith(f"asyncsvc/{needed}")], needed
    assert [name for name in info if name.endswith("licenses/LICENSE")]
    assert metadata["Version"] == __version__
    assert metadata["Name"] == "asyncsvc"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def the_wheel_runs_in_an_empty_folder(wheel: Path, folder: Path) -> None:
    place, empty = folder / "wheel", folder / "empty"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    empty.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ASYNCSVC_", "COVERAGE"))}
    env = kept | {"PYTHONPATH": str(place), "PYTHONUTF8": "1"}

    def output(*argv: str) -> str:
        return subprocess.run(
            [sys.executable, *argv], cwd=empty, env=env, check=True, capture_output=True,
            text=True, stdin=subprocess.DEVNULL, timeout=LONGEST_S,
        ).stdout  # fmt: skip

    assert output("-c", "import asyncsvc; print(asyncsvc.__file__)").startswith(str(place))
    assert output("-m", "asyncsvc", "--version") == f"asyncsvc {__version__}\n"
    output("-m", "asyncsvc", "init")
    assert sorted(path.name for path in empty.iterdir()) == [".env", "settings.toml"]
    # tests/cli/test_cli_demo.py runs it to its end: here the service and the provider are there.
    with subprocess.Popen(
        [sys.executable, "-m", "asyncsvc", "demo"], cwd=empty, env=env, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert "four tasks to http://127.0.0.1:" in demo.stdout.readline(), demo.stderr.read()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(LONGEST_S) == 130
        demo.stdout.read()


def the_source_archive_has_what_a_clone_has(source: Path) -> None:
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert ours() <= names
    for needed in ("main.py", "settings.toml", "README.md", "docs/README.zh-CN.md", "LICENSE",
                   "CHANGELOG.md", "docs/deploy/asyncsvc.service", "docs/examples/submit.py",
                   "tests/__main__.py", "pyproject.toml"):  # fmt: skip
        assert needed in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".db")]


def test_the_versions_of_python_are_those_that_ci_tries() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = "Programming Language :: Python :: "
    named = [line.removeprefix(python) for line in project["classifiers"] if python in line]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    tried = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]
    assert [version for version in named if "." in version] == tried
    assert project["requires-python"] == f">={tried[0]}"


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "asyncsvc/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_a_release_has_the_notes_of_its_version() -> None:
    text = "# C\n\n## Unreleased\n\n## 0.2.0 (2026-12-01)\n\n- b\n\n### Added\n\n- c\n\n"
    text += "## 0.1.0 (2026-11-01)\n\n- a\n"
    assert notes("v0.2.0", text, "0.2.0") == "- b\n\n### Added\n\n- c"
    assert notes("v0.1.0", text, "0.1.0") == "- a"


@pytest.mark.parametrize(
    ("tag", "text", "why"),
    [
        ("v0.3.0", "## 0.2.0 (2026-12-01)\n- a\n", "the tag is v0.3.0"),
        ("v0.2.0", "## 0.1.0 (2026-12-01)\n- a\n", "no part"),
        ("v0.2.0", "## 0.2.0\n- a\n", "no part"),
        ("v0.2.0", "## 0.2.0 (2026-12-01)\n\n## 0.1.0 (2026-11-01)\n- a\n", "empty"),
        ("v0.2.0", "## Unreleased\n- x\n## 0.2.0 (2026-12-01)\n- a\n", "Unreleased"),
    ],
)
def test_no_release_without_its_notes(tag: str, text: str, why: str) -> None:
    with pytest.raises(NoRelease, match=why):
        notes(tag, text, "0.2.0")


def test_the_workflow_checks_the_notes_before_it_builds() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for step in workflow["jobs"]["release"]["steps"]]
    (checked,) = [number for number, run in enumerate(steps) if "tests.changelog" in run]
    (built,) = [number for number, run in enumerate(steps) if "-m build" in run]
    (made,) = [number for number, run in enumerate(steps) if "gh release create" in run]
    assert checked < built < made
    assert "--notes-file notes.md" in steps[made]
