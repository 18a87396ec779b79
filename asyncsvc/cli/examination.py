"""The look of `doctor` at this machine: versions, clock, disk, port, files and sandbox.

Changes nothing but a small file, which it removes at once, to time the disk. Promises that no part
of it raises: what cannot be found out is a finding, too.
"""

import asyncio
import os
import platform
import re
import shutil
import socket
import statistics
import tempfile
import time
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import asyncsvc
from asyncsvc.cli.check import database
from asyncsvc.cli.findings import Finding
from asyncsvc.clock import now_ms, rfc3339
from asyncsvc.config.settings import MB, Settings, Tools
from asyncsvc.storage import own_files
from asyncsvc.storage.database import VERSION
from asyncsvc.tools.execute import Runner

FIRST_YEAR, LAST_YEAR = 2026, 2100
SET_BACK_S = 60.0
"""How far the database's last change may lie ahead of the clock."""
SYNCS, SLOW_S = 5, 0.05
_BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;(.*))?")


def versions() -> Iterator[Finding]:
    """Yield the versions of Python, SQLite and asyncsvc, and of libraries out of bounds."""
    python, needed = platform.python_version(), _project()
    text = f"asyncsvc {asyncsvc.__version__}, Python {python}, SQLite {VERSION}"
    yield Finding("versions", "ok", text)
    if not within(python, needed[0]):
        remedy = f"take Python {needed[0]}"
        yield Finding("versions", "wrong", f"Python {python} does not fit", remedy)
    for requirement in needed[1]:
        if (found := _REQUIREMENT.match(requirement)) is None or "extra" in (found[3] or ""):
            continue
        name, bounds = found[1], found[2].strip()
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not found[3]:  # one with a condition may be for another system
                yield Finding(
                    "versions", "wrong", f"{name} is missing", f'pip install "{name}{bounds}"'
                )
            continue
        if not within(there, bounds):
            remedy = f'pip install "{name}{bounds}"'
            yield Finding("versions", "wrong", f"{name} {there} is not {bounds}", remedy)


def _project() -> tuple[str, list[str]]:
    """The bounds of Python and the requirements, of the source tree or else of the package."""
    file = Path(asyncsvc.__file__).parents[1] / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if project["name"] == "asyncsvc":
            return project["requires-python"], project["dependencies"]
    except (OSError, ValueError, KeyError):
        pass
    try:
        found = metadata.metadata("asyncsvc")["Requires-Python"] or ""
        return found, metadata.requires("asyncsvc") or []
    except (metadata.PackageNotFoundError, KeyError):
        return "", []


def within(version: str, bounds: str) -> bool:
    """Whether a version lies within bounds such as `>=1.2,<2`; what is no number is left out."""
    there = _numbers(version)
    for sign, text in _BOUND.findall(bounds):
        bound = _numbers(text)
        size = max(len(there), len(bound))
        left, right = (each + (0,) * (size - len(each)) for each in (there, bound))
        fits = {
            ">=": left >= right,
            "<=": left <= right,
            "==": left == right,
            "!=": left != right,
            "<": left < right,
            ">": left > right,
        }
        if not fits[sign]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9.]*", version)
    return tuple(int(part) for part in (found[0] if found else "").split(".") if part)


def clock(path: Path | None) -> Finding:
    """Judge the clock by its year, and by the last change of the database."""
    now = now_ms()
    shown, year = rfc3339(now), time.gmtime(now / 1000).tm_year
    if not FIRST_YEAR <= year < LAST_YEAR:
        return Finding("clock", "wrong", f"it is {shown} here", "set the clock of this machine")
    ahead_s = 0.0
    for each in [path, path.with_name(f"{path.name}-wal")] if path is not None else ():
        try:
            ahead_s = max(ahead_s, each.stat().st_mtime - now / 1000)
        except OSError:
            continue
    if ahead_s > SET_BACK_S:
        return Finding(
            "clock",
            "warning",
            f"it is {shown} here, {ahead_s:.0f} s before the last change of the database",
            "the clock was set back; let NTP set it",
        )
    return Finding("clock", "ok", f"it is {shown}")


def folder_of(path: Path) -> Path:
    """Return the nearest folder above a file that is there already."""
    return next(each for each in path.absolute().parents if each.exists())


def disk(settings: Settings) -> Iterator[Finding]:
    """Yield the room and the speed of the disk where the database lies."""
    folder, least = folder_of(Path(settings.storage.path)), settings.limits.disk_free_mb
    free = shutil.disk_usage(folder).free // MB
    text = f"{free} MB are free at {folder}"
    if free < least:
        remedy = f"make room: below limits.disk_free_mb = {least} no task is taken"
        yield Finding("disk", "wrong", text, remedy)
    else:
        yield Finding("disk", "ok", text)
    try:
        took_s = sync_s(folder)
    except OSError as error:
        remedy = "give the service's user the right to write there, or set storage.path"
        yield Finding("disk", "wrong", f"{folder}: {error.strerror or error}", remedy)
        return
    text = f"a write is safe on the disk after {took_s * 1000:.1f} ms"
    if took_s > SLOW_S:
        yield Finding("disk", "warning", text, "each submit waits so long; take a local disk")
    else:
        yield Finding("disk", "ok", text)


def sync_s(folder: Path) -> float:
    """Return how long a small write takes to be on the disk, in seconds. Raises OSError."""
    took = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".asyncsvc-") as file:
        for _ in range(SYNCS):
            begin = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begin)
    return statistics.median(took)


def files(settings: Settings) -> Iterator[Finding]:
    """Yield the state of the database and who can read it, and of the folder of agents."""
    path = Path(settings.storage.path)
    state, faults = database(path)
    if state:
        yield Finding("database", "ok", f"{path.absolute()} {state}")
    yield from (Finding("database", "wrong", fault) for fault in faults)
    for note in own_files.open_to_others(path) if not faults else ():
        yield Finding("database", "warning", note, "a start mends what is ours")
    if not settings.tools.enabled:
        return
    workspace = Path(settings.tools.workspace)
    folder = workspace if workspace.exists() else folder_of(workspace)
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        remedy = "give the service's user the right to write there, or set tools.workspace"
        yield Finding("agents", "wrong", f"{folder} cannot be written", remedy)


def port(settings: Settings) -> Finding:
    """Say whether the service could listen; only asked where none runs."""
    host, number = settings.server.host, settings.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name != "nt")
            listener.bind((host.strip("[]"), number))
        except OSError as error:
            text = f"cannot listen on {host}:{number}: {(error.strerror or str(error)).lower()}"
            return Finding("port", "wrong", text, "end what uses it, or choose another server.port")
    return Finding("port", "ok", f"{host}:{number} is free")


def sandbox(tools: Tools) -> Finding:
    """Try the sandbox of agents' programs, in a folder of its own."""
    if not tools.enabled:
        return Finding("sandbox", "note", "tools.enabled is false: agents have no tools")
    if tools.unsafe_no_sandbox:
        remedy = "set tools.unsafe_no_sandbox = false"
        return Finding("sandbox", "warning", "programs of models run without a sandbox", remedy)

    async def tried(folder: str) -> dict[str, str | None]:
        runner = Runner(tools.model_copy(update={"workspace": folder}))
        try:
            await runner.sandbox()
            return runner.as_dict()
        finally:
            await runner.close()

    with tempfile.TemporaryDirectory(prefix="asyncsvc-") as folder:
        return of_sandbox(asyncio.run(tried(folder)))


def of_sandbox(found: dict[str, str | None]) -> Finding:
    """Return the finding for what `/health` says of the sandbox."""
    if found["name"] is None:
        text = f"none, so agents cannot run programs: {found['reason']}"
        return Finding("sandbox", "warning", text)
    return Finding("sandbox", "ok", f"{found['name']} holds")
