"""The simulator's own paths under ``/_sim/``: figures, records, settings at run time.

Owns their form. They take no key and count as no call. It reaches the simulator only through what
any other user of it may call.
"""

from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson

from asyncsvc.simulator import wire
from asyncsvc.simulator.exchange import Exchange
from asyncsvc.simulator.profile import Profile, ProfileError

MOST_RECORDS = 50_000


class Steerable(Protocol):
    """What the paths need of a simulator."""

    @property
    def profile(self) -> Profile: ...
    def stats(self) -> dict[str, Any]: ...
    def calls(self, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]: ...
    def configure(self, changes: dict[str, Any]) -> None: ...
    def reset(self) -> None: ...


async def answer(exchange: Exchange, simulator: Steerable) -> None:
    """Answer one request to ``/_sim/...``."""
    match exchange.method, exchange.path.removeprefix("/_sim/"):
        case "GET", "stats":
            await exchange.reply_json(200, simulator.stats())
        case "GET", "calls":
            await _calls(exchange, simulator)
        case "GET", "profile":
            await exchange.reply_json(200, _shown(simulator))
        case "POST", "profile":
            await _configure(exchange, simulator)
        case "POST", "reset":
            simulator.reset()
            await exchange.reply_json(200, {"ok": True})
        case method, path:
            await _refuse(exchange, 404, f"no such call: {method} /_sim/{path}", "not_found")


async def _calls(exchange: Exchange, simulator: Steerable) -> None:
    query = parse_qs(exchange.query.decode("latin-1"))
    try:
        after = int(query.get("after", ["0"])[-1])
        limit = min(int(query.get("limit", ["1000"])[-1]), MOST_RECORDS)
    except ValueError:
        await _refuse(exchange, 400, "'after' and 'limit' must be whole numbers", None)
        return
    await exchange.reply_json(200, {"calls": simulator.calls(after, limit)})


async def _configure(exchange: Exchange, simulator: Steerable) -> None:
    try:
        changes = orjson.loads(await exchange.read_body())
        if not isinstance(changes, dict):
            raise ProfileError("profile: must be a JSON object shaped as the profile file")
        simulator.configure(changes)
    except (orjson.JSONDecodeError, ProfileError) as error:
        await _refuse(exchange, 400, str(error), "invalid_profile")
        return
    await exchange.reply_json(200, _shown(simulator))


def _shown(simulator: Steerable) -> dict[str, Any]:
    """The profile as it stands, without its key."""
    return simulator.profile.model_dump(exclude={"server": {"api_key"}})


async def _refuse(exchange: Exchange, status: int, message: str, code: str | None) -> None:
    await exchange.reply_json(status, wire.error(message, "invalid_request_error", code))
