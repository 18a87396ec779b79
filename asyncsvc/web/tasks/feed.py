"""What of the feed of all tasks a WebSocket is sent: every event, or text only where it begins."""

from collections.abc import Callable

from asyncsvc.storage.entries import Event
from asyncsvc.tasks.state import EventType

PIECES = frozenset({EventType.CHUNK.value, EventType.REASONING.value})
Keep = Callable[[Event], bool]
"""Whether an event is to be sent; asked once for each, in order."""


def whole(_: Event) -> bool:
    """Every event."""
    return True


class FirstPieces:
    """Of pieces of text that follow each other in one task, the first; and all other events."""

    def __init__(self) -> None:
        self._under_way: dict[str, str] = {}
        """The type of the piece that was sent, by the task's id, until another event comes."""

    def __call__(self, event: Event) -> bool:
        if event.type not in PIECES:
            self._under_way.pop(event.task_id, None)
            return True
        if self._under_way.get(event.task_id) == event.type:
            return False
        self._under_way[event.task_id] = event.type
        return True
