"""How many runs an OpenClaw gateway takes at once, and whether the settings ask for more.

Owns the gateway's default. Promises a line for people where waiting would happen inside the
gateway, in silence and by no lane or priority of ours. Never refuses a setting: the gateway's own
(`agents.defaults.maxConcurrent`) may be higher, and it tells nobody.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from asyncsvc.providers.openclaw import sessions as openclaw
from asyncsvc.providers.upstream import Upstream

LEAST = 8
PER_CORE = 4
"""Measured with openclaw 2026.9.6: max(8, 4 × cores) runs at once, the rest waits unseen."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def crowded(upstreams: Iterable[Upstream], cores: int) -> list[str]:
    """A line for each gateway that may be given more than it takes. `cores` are this machine's,
    which are the gateway's where it is reached over loopback."""
    gateways: dict[str, list[Upstream]] = {}
    for upstream in upstreams:
        if upstream.preset.acts:
            gateways.setdefault(openclaw.origin(upstream.base_url), []).append(upstream)
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
