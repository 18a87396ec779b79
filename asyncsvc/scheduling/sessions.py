"""Sessions: tasks of one conversation run one after another, in the order of arrival.

Owns who is at the head of each session. Promises that at most one task of a session waits in
a lane or runs, also after a restart, as recovery enters the tasks in order of arrival. A head
that is scheduled or paused holds back those behind it: order is what a session is for.
Never knows what a task does.
"""

from collections import deque


class Sessions:
    """`enter` on arrival, `leave` when finished."""

    def __init__(self) -> None:
        self._participants: dict[str, deque[str]] = {}

    def enter(self, session_id: str, task_id: str) -> bool:
        """Line up; True where the task is the head."""
        participants = self._participants.setdefault(session_id, deque())
        if task_id not in participants:
            participants.append(task_id)
        return participants[0] == task_id

    def before(self, session_id: str, task_id: str | None = None) -> str | None:
        """Whom the task, or one that came now, would have to wait for."""
        participants = self._participants.get(session_id, ())
        found = None
        for participant in participants:
            if participant == task_id:
                break
            found = participant
        return found

    def leave(self, session_id: str, task_id: str) -> str | None:
        """Step out; the new head's id where the head has changed."""
        participants = self._participants.get(session_id)
        if participants is None or task_id not in participants:
            return None
        was_head = participants[0] == task_id
        participants.remove(task_id)
        if not participants:
            del self._participants[session_id]
            return None
        return participants[0] if was_head else None
