"""Items that a client names by the id which it was given.

Owns the search for an item behind its id, in the stored responses. Promises that an item which an
earlier response of the conversation holds is not said twice. Never changes what is stored.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from asyncsvc.errors import InvalidRequest
from asyncsvc.web.openai import thoughts
from asyncsvc.web.openai.items import input_items

Object = dict[str, Any]
Find = Callable[[str], Awaitable[tuple[Object, list[Object]] | None]]
"""By a task's id: what is stored of the request, and the output of the response; None where there
is no response that can be read."""

_ID = re.compile(r"(?:msg|rs|fc|ctc|item)_(.+)_((?:in)?\d+)\Z", re.ASCII)


class References:
    """The items of one request. `known` holds the task ids of the conversation so far."""

    def __init__(self, find: Find, known: frozenset[str] = frozenset()) -> None:
        self._find = find
        self._known = known
        self._found: dict[str, dict[str, Object]] = {}

    async def resolved(self, items: list[Any]) -> list[Any]:
        """The input with the items that its references mean. Raises InvalidRequest."""
        resolved = []
        for index, item in enumerate(items):
            if _is_reference(item):
                resolved += await self._referenced(item.get("id"), f"input[{index}].id")
            elif _is_bare_thought(item):
                resolved.append(await self._stored(str(item.get("id"))) or item)
            else:
                resolved.append(item)
        return resolved

    async def _referenced(self, item_id: Any, where: str) -> list[Object]:
        match = _ID.match(item_id) if isinstance(item_id, str) else None
        if match and match[1] in self._known:
            return []
        found = await self._stored(item_id) if isinstance(item_id, str) else None
        if found is None:
            raise InvalidRequest(f"item with id {str(item_id)[:80]!r} not found", param=where)
        return [found]

    async def _stored(self, item_id: str) -> Object | None:
        match = _ID.match(item_id)
        if match is None:
            return None
        task_id = match[1]
        if task_id not in self._found:
            self._found[task_id] = await self._items(task_id)
        return self._found[task_id].get(item_id)

    async def _items(self, task_id: str) -> dict[str, Object]:
        found = await self._find(task_id)
        if found is None:
            return {}
        kept, output = found
        return {item["id"]: item for item in [*input_items(kept, task_id), *output]}


def refers(items: Any) -> bool:
    """Whether an input names items by their ids alone."""
    return isinstance(items, list) and any(
        _is_reference(item) or _is_bare_thought(item) for item in items
    )


def _is_reference(item: Any) -> bool:
    """Its type may be left out."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def _is_bare_thought(item: Any) -> bool:
    """A reasoning item whose text the client was not given, or has not kept."""
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    return isinstance(item.get("id"), str) and not thoughts.text(item)
