"""The choice of the sandbox at start: the first backend that passes the self-test, or none.

Promises to fail closed: what cannot be shown to hold is not used, and says why. Without a sandbox
programs run only where the settings say so, which is logged at each start.
"""

import asyncio
import logging
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asyncsvc.config.settings import Tools
from asyncsvc.sandbox.bubblewrap import Bubblewrap, Programs, end_leftovers
from asyncsvc.sandbox.command import Bounds, Sandbox
from asyncsvc.sandbox.control_groups import find_groups
from asyncsvc.sandbox.mounts import mounts
from asyncsvc.sandbox.namespaces import Namespaces
from asyncsvc.sandbox.plain import Plain
from asyncsvc.sandbox.seccomp import filter_program, supported
from asyncsvc.sandbox.self_test import find_fault

log = logging.getLogger(__name__)
BACKENDS = ("bubblewrap", "namespaces")
"""In the order in which they are tried."""
FORBIDDING = {
    "kernel.apparmor_restrict_unprivileged_userns": "1",
    "kernel.unprivileged_userns_clone": "0",
    "user.max_user_namespaces": "0",
}
"""Settings of the kernel: those of Ubuntu, of Debian, and of every Linux."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No sandbox: tools that run programs are refused. `reason` is for people."""

    reason: str

    def __str__(self) -> str:
        return self.reason


async def choose(
    tools: Tools, backends: Sequence[str] = BACKENDS, bounds: Bounds | None = None
) -> Sandbox | Unavailable:
    """The sandbox to use until the next start. Takes about a second at most on an idle machine."""
    if tools.unsafe_no_sandbox:
        log.warning(
            "tools.unsafe_no_sandbox is true: programs of models run WITHOUT a sandbox, and can "
            "read, change and send whatever this service can"
        )
        return Plain()
    if lacking := _lacking():
        return Unavailable(lacking)
    if ended := await asyncio.to_thread(end_leftovers, tools.workspace):
        log.info("%d sandboxes that an earlier run of the service has left were ended", ended)
    reasons = []
    for name in backends:
        found = await _try(name, bounds or Bounds())
        if not isinstance(found, str):
            log.info("programs run in a sandbox: %s", name)
            return found
        reasons.append(f"{name}: {found}")
        log.info("the sandbox %s is not used: %s", name, found)
    return Unavailable("no sandbox holds here: " + "; ".join([*reasons, *_hints()]))


def _lacking() -> str | None:
    """What no backend can do without."""
    if sys.platform != "linux":
        return f"exec tools need Linux; this is {platform.system() or sys.platform}"
    if not supported(platform.machine()):
        return f"exec tools need an x86_64 or aarch64 processor; this is {platform.machine()}"
    return None


def _hints() -> list[str]:
    """What commonly forbids user namespaces, where it does so here."""
    hints = []
    for name, forbids in FORBIDDING.items():
        with suppress(OSError):
            if Path("/proc/sys", *name.split(".")).read_text().strip() == forbids:
                hints.append(f"user namespaces are restricted here ({name} = {forbids})")
    return hints


async def _try(name: str, bounds: Bounds) -> Sandbox | str:
    """A backend that has passed its test, or why there is none."""
    made = await make(name, bounds)
    if isinstance(made, str):
        return made
    return await find_fault(made, bounds) or made


async def make(name: str, bounds: Bounds) -> Sandbox | str:
    """A backend by its name, untested, or why it cannot be had. Raises KeyError for another."""
    if name == "none":
        return Plain()
    groups = find_groups(bounds)
    if name == "namespaces":
        return Namespaces(mounts(), filter_program(), bounds, groups)
    if name != "bubblewrap":
        raise KeyError(name)
    programs = await Programs.find()
    if isinstance(programs, str):
        return programs
    return Bubblewrap(programs, mounts(), filter_program(), bounds, groups)
