"""An embedding task: as many calls as its texts need, one after the other, under one permit.

Owns the putting together of their answers. Promises vectors in the order of the texts, usage
summed over the calls, and that each call counts for the account's rate and is on the disk
before it is made. Never keeps anything of an attempt that failed: the next asks for all again.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from asyncsvc.execution.call import Run
from asyncsvc.execution.outcome import Completed
from asyncsvc.execution.repeated_call import announce, without_refused_fields
from asyncsvc.journal.journal import Journal
from asyncsvc.providers.answers.embeddings import same_length
from asyncsvc.providers.client import Client
from asyncsvc.providers.tokens import estimated_usage


async def embed(run: Run, client: Client, journal: Journal, body: dict[str, Any]) -> Completed:
    """Ask for all vectors; the first call has been announced already."""
    vectors: list[list[float]] = []
    usages: list[dict[str, Any]] = []
    for index, batch in enumerate(run.upstream.batches(body["input"])):
        if index:
            await announce(run, journal)
        found = await without_refused_fields(
            run,
            journal,
            partial(client.embed, run.upstream, batch, body["params"], run.head),
        )
        vectors += found.vectors
        usages.append(found.usage or estimated_usage("".join(batch), ""))
    same_length(vectors)
    return Completed(orjson.dumps(vectors).decode(), summed(usages))


def summed(usages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The usage of several calls as one; estimated where one of them is."""
    if len(usages) == 1:
        return usages[0]
    counts: Counter[str] = Counter()
    for usage in usages:
        counts.update({name: n for name, n in usage.items() if type(n) is int})
    estimated = any(usage.get("estimated") for usage in usages)
    return dict(counts) | ({"estimated": True} if estimated else {})
