"""The service and the simulated provider of a demo, in one process, while something plays there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from asyncsvc import server
from asyncsvc.cli.client import Address, decoded
from asyncsvc.cli.options import INTERRUPTED
from asyncsvc.config.settings import Settings
from asyncsvc.simulator import Profile, running

LONGEST_S = 60.0
"""A play takes about ten seconds; on a machine that is very busy, more."""


async def served(
    profile: Profile,
    settings: Callable[[str], Settings],
    play: Callable[[str], Awaitable[int]],
    keep: bool,
) -> int:
    """Serve while `play` runs, which is given the service's URL and returns the exit code.

    `settings` is given the provider's base URL. `keep`: go on serving until Ctrl-C.
    """
    code = INTERRUPTED

    async def beside(url: str) -> None:
        nonlocal code
        code = await play(url)
        if keep:
            try:
                await asyncio.Event().wait()
            finally:
                print()  # the terminal's ^C stands on a line of its own

    async with running(profile) as provider:
        made = settings(provider.base_url)
        await server.serve(made, {}, lambda _: None, beside=beside)
    return code


def answered(answer: httpx.Response, address: Address) -> dict[str, Any]:
    """Return the JSON of an answer. Raises Failure."""
    return decoded(answer.status_code, answer.content, address)
