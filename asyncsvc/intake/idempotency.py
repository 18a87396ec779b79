"""Idempotency keys: one key of one owner makes one thing.

Owns the lock of each key in use, and the comparison of a request with the first one of its key.
Promises that requests with one key run one after the other, so that the second finds what the
first has stored; that a key with another body is refused, whichever endpoint either came to.
Never stores a key of a task: that is written with the task.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakValueDictionary

import orjson

from asyncsvc.errors import Conflict
from asyncsvc.journal.journal import Journal
from asyncsvc.storage.entries import KeyUsed, loads


@dataclass(frozen=True, slots=True)
class Key:
    """A key of one owner, with the fingerprint of the body that came with it."""

    name: str
    fingerprint: str

    @classmethod
    def of(cls, owner: str | None, key: str, fingerprint: str) -> Self:
        return cls(f"{owner or ''}\x00{key}", fingerprint)

    def made(self, made_id: str) -> KeyUsed:
        """The record that the key has made something which is no task."""
        return KeyUsed(self.name, self.fingerprint, made_id)


class Keys:
    """`once` for each request that comes with a key."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock lives as long as a request holds it or waits for it."""

    @asynccontextmanager
    async def once(self, key: Key) -> AsyncIterator[Any]:
        """The first answer of the key, None where there is none yet; the key is locked meanwhile.

        Raises Conflict where the first request had another body, and StorageUnavailable.
        """
        lock = self._locks.setdefault(key.name, asyncio.Lock())
        async with lock:
            first = await self._journal.store.first_answer(key.name)
            if first is None:
                yield None
                return
            if first[0] != key.fingerprint:
                raise Conflict(
                    "idempotency_conflict",
                    "this Idempotency-Key was used for another body; use a new key",
                )
            yield loads(first[1])


def fingerprint(kind: str, *parts: Any) -> str:
    """Tells the bodies of one key apart, and what they ask for."""
    data = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return f"{kind}:{hashlib.sha256(data).hexdigest()}"
