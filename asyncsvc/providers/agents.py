"""Agent gateways: the status of a run after a cut, and how many runs a gateway takes.

Owns what the rest of the service knows of the runs of an agent gateway: their status, the protocol
that asks for it, and how many runs a gateway takes at once. Never speaks to a gateway: a package
for each kind does, and only `client.py` imports that.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit

from asyncsvc.providers.upstream import Upstream

LEAST = 8
PER_CORE = 4
"""Measured with openclaw 2026.9.6: max(8, 4 × cores) runs at once, the rest waits unseen."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class RunState(StrEnum):
    """The state of a run after a cut."""

    ANSWERED = "answered"
    RUNNING = "running"
    LOST = "lost"
    NEVER = "never_began"
    AWAY = "gateway_away"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """`text` and `usage` where it is answered; `detail` in words."""

    state: RunState
    text: str = ""
    usage: dict[str, Any] | None = None
    detail: str = ""


def origin(base_url: str) -> str:
    """The gateway's root: scheme, host and port."""
    parts = urlsplit(base_url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"


class Runs(Protocol):
    """Runs that a provider goes on with when the connection is lost, by their session key, which
    `Upstream.session_key` gives."""

    async def run_status(self, upstream: Upstream, key: str) -> RunStatus:
        """The status of the run. Raises UpstreamAuth, nothing else."""
        ...

    async def abort(self, upstream: Upstream, key: str) -> str:
        """Abort the run; the gateway's reply, for people."""
        ...


def crowded(upstreams: Iterable[Upstream], cores: int) -> list[str]:
    """A line for each gateway that may be given more than it takes. `cores` are this machine's,
    which are the gateway's where it is reached over loopback."""
    gateways: dict[str, list[Upstream]] = {}
    for upstream in upstreams:
        if upstream.preset.acts:
            gateways.setdefault(origin(upstream.base_url), []).append(upstream)
    found = []
    for where, accounts in gateways.items():
        near = urlsplit(where).hostname in LOOPBACK
        room = max(LEAST, PER_CORE * cores) if near else LEAST
        names = ", ".join(dict.fromkeys(account.name for account in accounts))
        learned = any(account.settings.concurrency == "auto" for account in accounts)
        asked = sum(account.gate.concurrency for account in accounts)
        if learned:
            found.append(
                f'{names}: concurrency = "auto" learns nothing from an OpenClaw gateway, which '
                f"queues in silence; by default it runs {room} at once"
            )
        elif asked > room:
            found.append(
                f"{names}: {asked} runs at once, but by default the OpenClaw gateway at {where} "
                f"runs {room} and queues the rest in silence, without lanes and priorities; set a "
                "lower concurrency here or a higher agents.defaults.maxConcurrent there"
            )
    return found
