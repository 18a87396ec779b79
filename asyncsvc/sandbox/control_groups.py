"""Control groups: bounds on the memory and the processes of a whole sandbox.

Owns the making and removing of a group for each call, in version 1 and 2. Promises that a group
which cannot be made is None and no error: what then holds is checked at start by trying it.
Never changes a group that it did not make.
"""

import asyncio
import itertools
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asyncsvc.errors import SandboxUnavailable
from asyncsvc.sandbox.command import Bounds

PREFIX = "asyncsvc-sandbox-"
CONTROLLERS = ("memory", "pids")
REMOVE_TRIES, REMOVE_WAIT_S = 100, 0.02
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Group:
    """The folders of one group: one in version 2, one a controller in version 1."""

    folders: tuple[Path, ...]

    @property
    def doors(self) -> list[str]:
        """Files into which a process writes 0 to join."""
        return [str(folder / "cgroup.procs") for folder in self.folders]

    async def remove(self) -> None:
        """Remove the group once its last process has gone."""
        for folder in self.folders:
            for _ in range(REMOVE_TRIES):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    await asyncio.sleep(REMOVE_WAIT_S)
                else:
                    break


class ControlGroups:
    """Makes groups beneath `parents`, one folder for each controller."""

    def __init__(self, parents: tuple[Path, ...], *, unified: bool) -> None:
        self._parents = parents
        self._unified = unified

    def make(self, bounds: Bounds) -> Group | None:
        """A new group with these bounds; None where the system does not let us."""
        name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        made: list[Path] = []
        try:
            for parent in self._parents:
                (parent / name).mkdir()
                made.append(parent / name)
            for folder, file, value in self._values(made, bounds):
                (folder / file).write_text(str(value))
        except OSError:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            return None
        # Without an account of swap there is no such file, and then there is nothing to bound.
        with suppress(OSError):
            file, swap = (
                ("memory.swap.max", 0)
                if self._unified
                else ("memory.memsw.limit_in_bytes", bounds.memory)
            )
            (made[0] / file).write_text(str(swap))
        return Group(tuple(made))

    def _values(self, made: list[Path], bounds: Bounds) -> list[tuple[Path, str, int]]:
        memory = "memory.max" if self._unified else "memory.limit_in_bytes"
        return [
            (made[0], memory, bounds.memory),
            (made[-1], "pids.max", bounds.processes),
        ]


def make_group(groups: ControlGroups | None, bounds: Bounds) -> Group | None:
    """A group for a call; None where this machine has none.

    Raises SandboxUnavailable where it had them at start: the bounds were tried with them.
    """
    if groups is None:
        return None
    if (made := groups.make(bounds)) is None:
        raise SandboxUnavailable("no control group can be made any more")
    return made


def find_groups(bounds: Bounds) -> ControlGroups | None:
    """The place where groups can be made, found by making one; None where there is none."""
    for found in _places():
        _sweep(found)
        groups = ControlGroups(found, unified=len(found) == 1)
        if (group := groups.make(bounds)) is not None:
            for folder in group.folders:
                folder.rmdir()
            return groups
    return None


def _sweep(parents: tuple[Path, ...]) -> None:
    """Remove what a process that was killed has left."""
    for parent in parents:
        for folder in parent.glob(f"{PREFIX}*"):
            with suppress(OSError, ValueError):
                if not Path("/proc", folder.name.removeprefix(PREFIX).split("-")[0]).exists():
                    folder.rmdir()


def _places() -> list[tuple[Path, ...]]:
    """Candidates for parents. Version 2 wants one whose own groups have the controllers."""
    try:
        own = _own_groups(Path("/proc/self/cgroup").read_text())
        mounted = _mounted(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return []
    places: list[tuple[Path, ...]] = []
    if "" in mounted and "" in own:
        root = mounted[""]
        beneath = root / own[""].lstrip("/")
        places += [(parent,) for parent in (beneath, beneath.parent, root) if _delegated(parent)]
    if all(name in mounted and name in own for name in CONTROLLERS):
        places.append(tuple(mounted[name] / own[name].lstrip("/") for name in CONTROLLERS))
        places.append(tuple(mounted[name] for name in CONTROLLERS))
    return places


def _delegated(folder: Path) -> bool:
    try:
        controllers = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
    return set(CONTROLLERS) <= set(controllers)


def _own_groups(text: str) -> dict[str, str]:
    """Our group by controller, "" for version 2. A line: `4:memory:/user.slice`."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _mounted(text: str) -> dict[str, Path]:
    """Where each controller is mounted, "" for version 2. See proc(5), mountinfo."""
    found: dict[str, Path] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        place = Path(before.split(" ")[4])
        if kind == "cgroup2":
            found.setdefault("", place)
        elif kind == "cgroup":
            for name in set(options.split(",")) & set(CONTROLLERS):
                found.setdefault(name, place)
    return found
