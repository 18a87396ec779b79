"""The tools on memory: short texts that an agent writes for its owner's later tasks.

A text is stored for one owner and found by the words that it shares with the query. The oldest go
where an owner has `KEPT_MOST`.
"""

import re
from typing import Any

import orjson
from pydantic import Field

from asyncsvc.clock import new_id
from asyncsvc.journal.journal import Journal, PersistedValue
from asyncsvc.tools.tool import Effects, Parameters, Result, Surroundings, Tool

KIND = "memory"
KEPT_MOST = 1000
FOUND_MOST = 10
TEXT_MOST = 10_000
_WORDS = re.compile(r"[A-Za-z0-9_]+|[^\W_]", re.UNICODE)


def words_of(text: str) -> set[str]:
    """The words of a text; of scripts without spaces, such as Chinese, each character."""
    return {word.lower() for word in _WORDS.findall(text)}


class Memories:
    """The texts of all owners, in the store."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def of(self, owner: str | None) -> list[tuple[str, dict[str, Any]]]:
        """(key, {text, tags}) of an owner, the oldest first."""
        start = f"{owner or ''}\x00"
        kept = await self._journal.store.persisted_values(KIND)
        return [(key, orjson.loads(value)) for key, _, value in kept if key.startswith(start)]

    async def add(self, owner: str | None, text: str, tags: list[str]) -> None:
        """Durable when it returns. Raises StorageUnavailable."""
        before = await self.of(owner)
        value = orjson.dumps({"text": text, "tags": tags}).decode()
        key = f"{owner or ''}\x00{new_id(self._journal.now())}"
        oldest = before[: max(len(before) + 1 - KEPT_MOST, 0)]
        spare = [PersistedValue(KIND, old, None) for old, _ in oldest]
        await self._journal.append(PersistedValue(KIND, key, value, durable=True), *spare)


class SearchParameters(Parameters):
    query: str = Field(min_length=1, max_length=TEXT_MOST, description="words to look for")


class MemorySearch(Tool[SearchParameters]):
    name = "memory_search"
    description = "Find what was written to memory by earlier tasks."
    effects = Effects.NONE
    parameters = SearchParameters

    def __init__(self, memories: Memories) -> None:
        self._memories = memories

    async def run(self, given: SearchParameters, around: Surroundings) -> Result:
        wanted = words_of(given.query)
        ranked = []
        for age, (_, found) in enumerate(reversed(await self._memories.of(around.owner))):
            words = words_of(" ".join([found["text"], *found["tags"]]))
            if shared := len(wanted & words):
                ranked.append((-shared, age, found))
        lines = [
            found["text"] + (f" [{', '.join(found['tags'])}]" if found["tags"] else "")
            for _, _, found in sorted(ranked, key=lambda one: one[:2])[:FOUND_MOST]
        ]
        return Result(True, "\n".join(lines) or "nothing was found")


class WriteParameters(Parameters):
    text: str = Field(min_length=1, max_length=TEXT_MOST, description="what to remember")
    tags: list[str] = Field([], max_length=20, description="words to find it by")


class MemoryWrite(Tool[WriteParameters]):
    name = "memory_write"
    description = "Write a short text for later tasks."
    effects = Effects.OUTSIDE
    parameters = WriteParameters

    def __init__(self, memories: Memories) -> None:
        self._memories = memories

    async def run(self, given: WriteParameters, around: Surroundings) -> Result:
        await self._memories.add(around.owner, given.text, given.tags)
        return Result(True, "written")


def memory_tools(memories: Memories) -> list[Tool[Any]]:
    """The tools on memory."""
    return [MemorySearch(memories), MemoryWrite(memories)]
