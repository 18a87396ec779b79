"""One more call under the permit of a run.

Owns the announcing of such a call, and the second call that follows where a provider does not know
a field that the service had added by itself. Promises that each call counts for the account's rate
and is on the disk before it is made; that a field is left out only where the provider named it, at
most once a call, and remembered only when the provider has accepted the call without it. Never
leaves out what a task or the settings ask for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncsvc.errors import FieldRefused, ProviderError
from asyncsvc.execution.call import Run
from asyncsvc.journal.journal import Change, Journal

T = TypeVar("T")


async def announce(run: Run, journal: Journal) -> None:
    """One more call: it waits for the rate as a task would, and a restart will know of it."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    run.heard_at = None
    await run.permit.again()
    run.waited_s += loop.time() - since
    if run.upstream.settings.counted:
        anyone = next(iter(run.participants))
        await asyncio.shield(journal.append(Change(anyone, [], call=run.upstream.gate.name)))
    run.permit.sent()
    run.alive()


async def without_refused_fields(run: Run, journal: Journal, call: Callable[[], Awaitable[T]]) -> T:
    """The call's answer; without the service's own fields where the provider refuses those."""
    try:
        return await call()
    except FieldRefused as refusal:
        fields = refusal.fields
    refused = run.upstream.refused
    added = fields - refused
    refused |= added
    await announce(run, journal)
    try:
        return await call()
    except ProviderError:
        if not run.begun:
            refused -= added  # perhaps they were not what the provider refused
        raise
