"""Workflows, dependencies and the files of the repository: what an attacker could come in by."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.secrets import KEY

yaml = import_module("yaml")  # it has no types of its own

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
WRITERS = {("release.yml", "release"): {"contents": "write"}}
"""The only jobs that may change anything, and what."""
ENTERED = {"uvicorn", "httptools", "httpx-aiohttp", "httpx", "rich", "websockets"}
"""Libraries of which more than the documented API is used, so that a new version may break it."""
FAKES = {
    "sk-very-secret-0123456789",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "sk-wrong-0123456789abcdef",
    "sk-proj-abcdef123456",
    "sk-the-very-secret-key-0123456789",
}
"""Keys of tests, made up or from a specification; a new one is put together at run time instead."""


def loaded(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_only_a_release_may_write(path: Path) -> None:
    workflow = loaded(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions") == WRITERS.get((path.name, name)), name
        assert job["timeout-minutes"] <= 60


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_a_commit_and_leave_no_token_behind(path: Path) -> None:
    steps = [step for job in loaded(path)["jobs"].values() for step in job["steps"]]
    used = [step for step in steps if "uses" in step]
    assert used
    for step in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]), step
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    # The version of a commit stands beside it, and Dependabot keeps it true.
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in lines)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_command_of_a_workflow_holds_text_of_others(path: Path) -> None:
    """Titles, branches and messages in a command would be run; an environment variable is not."""
    assert "pull_request_target" not in path.read_text(encoding="utf-8")
    for job in loaded(path)["jobs"].values():
        assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


def test_ci_looks_for_known_vulnerabilities_at_each_change_and_each_week() -> None:
    workflow = loaded(ROOT / ".github/workflows/ci.yml")
    runs = "".join(step.get("run", "") for step in workflow["jobs"]["audit"]["steps"])
    assert "pip-audit" in runs
    events = workflow[True]  # YAML reads the word `on` so
    assert {"push", "pull_request", "schedule"} <= events.keys()
    updated = loaded(ROOT / ".github/dependabot.yml")["updates"]
    assert {each["package-ecosystem"] for each in updated} == {"pip", "github-actions", "npm"}


def test_libraries_that_are_entered_are_bounded_above() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    given = {re.split(r"[<>=;\[ ]", line)[0]: line for line in project["dependencies"]}
    assert [name for name in ENTERED if "<" not in given[name].partition(";")[0]] == []
    assert all(">=" in line for line in given.values())


def files() -> Iterator[Path]:
    """The files under version control; all files where there is none, as in a released archive."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        yield from (ROOT / name for name in listed.stdout.split("\0") if name)
    else:
        yield from (
            path for name in ("asyncsvc", "tests", "docs") for path in (ROOT / name).rglob("*")
        )


def test_no_file_holds_a_key() -> None:
    found = []
    for path in files():
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            found += [
                f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
                for match in KEY.finditer(text)
                if match[0] not in FAKES
            ]
    assert found == []


def test_no_file_of_secrets_is_under_version_control() -> None:
    names = {path.name for path in files() if path.parent.name != "tls"}  # of tests alone
    assert not names & {".env", "id_rsa", "id_ed25519", ".netrc", ".pypirc", "credentials"}
    assert not [name for name in names if name.endswith((".pem", ".key", ".p12", ".pfx"))]
