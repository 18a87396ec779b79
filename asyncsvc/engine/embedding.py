"""An embedding task: as many calls as its texts need, one after the other, under one permit.

Owns the putting together of their answers. Promises vectors in the order of the texts, usage
summed over the calls, and that each call counts for the account's rate and is on the disk
before it is made. Never keeps anything of an attempt that failed: the next asks for all again.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from asyncsvc.engine.outcome import Completed
from asyncsvc.engine.run import Run
from asyncsvc.providers.client import Client
from asyncsvc.providers.tokens import estimated_usage
from asyncsvc.tasks.journal import Change, Journal


async def embed(run: Run, client: Client, journal: Journal, body: dict[str, Any]) -> Completed:
    """Ask for all vectors; the first call has been announced already."""
    vectors: list[list[float]] = []
    usages: list[dict[str, Any]] = []
    for index, batch in enumerate(run.upstream.batches(body["input"])):
        if index:
            await _announce(run, journal)
        found = await client.embed(run.upstream, batch, body["params"], run.head)
        vectors += found.vectors
        usages.append(found.usage or estimated_usage("".join(batch), ""))
    return Completed(orjson.dumps(vectors).decode(), summed(usages))


async def _announce(run: Run, journal: Journal) -> None:
    """One more call: it waits for the rate as a task would, and a restart will know of it."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    run.heard_at = None
    await run.permit.again()
    run.waited_s += loop.time() - since
    if run.upstream.settings.counted:
        anyone = next(iter(run.members))
        await asyncio.shield(journal.append(Change(anyone, [], call=run.upstream.gate.name)))
    run.permit.sent()
    run.alive()


def summed(usages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The usage of several calls as one; estimated where one of them is."""
    if len(usages) == 1:
        return usages[0]
    counts: Counter[str] = Counter()
    for usage in usages:
        counts.update({name: n for name, n in usage.items() if type(n) is int})
    estimated = any(usage.get("estimated") for usage in usages)
    return dict(counts) | ({"estimated": True} if estimated else {})
