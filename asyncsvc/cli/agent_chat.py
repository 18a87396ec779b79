"""`chat --agent`: a conversation with an agent that keeps its workspace, and asks for approvals.

The first question is a new task; each further one is a fork of the task before it, so that the
conversation and the files go on. Ctrl-C cancels the task, also while a decision is asked for.
"""

import sys
from dataclasses import replace
from typing import Any

from asyncsvc.cli.agent_lines import call_text, how_to_decide
from asyncsvc.cli.client import Api, Unreachable
from asyncsvc.cli.conversation import PLAIN, Conversation, Look, Turn
from asyncsvc.cli.failures import Failure
from asyncsvc.cli.terminal import json_text, one_line
from asyncsvc.cli.transcript import Transcript, cancel, stream_or_cancel

APPROVE, DENY = frozenset({"y", "yes"}), frozenset({"n", "no"})
REVIEW = {"r": "rerun", "s": "skip", "f": "fail"}
SHORT_CHARS = 200
"""Arguments in so many characters stand in the question itself, and need no lines of their own."""


class AgentConversation(Conversation):
    """A conversation with an agent. `asks`: a person at the terminal decides about calls of tools;
    else the task waits until it is decided elsewhere."""

    def __init__(
        self,
        api: Api,
        fields: dict[str, Any],
        *,
        asks: bool,
        look: Look = PLAIN,
    ) -> None:
        super().__init__(api, fields, replace(look, asks=asks))
        self._asks = asks
        self._last: str | None = None
        """The task that the next question goes on from."""
        self._before: str | None = None
        """The same for the question before it."""

    @property
    def under_way(self) -> bool:
        return self._last is not None

    def answer(self, question: str, transcript: Transcript) -> Turn | None:
        task_id = self._submit(question)
        while not stream_or_cancel(self._api, task_id, transcript, until_asked=self._asks):
            if transcript.view.ended:
                break
            if not self._decided(task_id, transcript):
                return None
        task = self._api.task(task_id)
        lasting = bool(task["metadata"].get("steps"))  # else there is nothing to go on from
        if lasting:
            self._before, self._last = self._last, task_id
        text, completed = str(task.get("result") or ""), transcript.view.status == "completed"
        return Turn(question, text, transcript.view.name, completed, lasting)

    def forget_last(self) -> None:
        self._last = self._before

    def clear(self) -> None:
        super().clear()
        self._last = self._before = None

    def _submit(self, question: str) -> str:
        if self._last is not None:
            answer = self._api.fork(self._last, None, question)
        elif self.system is not None:
            answer = self._api.post("/tasks", self.fields | {"messages": self.messages(question)})
        else:
            answer = self._api.post("/tasks", self.fields | {"content": question})
        task_id: str = answer["task_id"]
        return task_id

    def _decided(self, task_id: str, transcript: Transcript) -> bool:
        """Ask about the call that waits; False where the person leaves it undecided."""
        asked = transcript.view.asked or {}
        try:
            verb, fields = _decision(asked)
        except EOFError:
            transcript.say(f"it waits: {how_to_decide(asked, task_id)}")
            return False
        except KeyboardInterrupt:
            cancel(self._api, task_id, transcript)
            return True
        try:
            self._api.command(task_id, verb, {"id": asked["id"], **fields})
        except Unreachable:
            raise
        except Failure as error:
            # Another decision was faster, or the task has ended; else the call still waits.
            transcript.say(f"not decided: {error}")
            waiting = self._api.task(task_id).get("approval") or {}
            if waiting.get("id") == asked["id"]:
                return self._decided(task_id, transcript)
        return True


def _decision(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a person types for a call that waits: the command, and its fields."""
    call = call_text(asked["name"], asked.get("arguments"))
    if asked.get("review"):
        question = f"{call} was cut off: [r]un it again / [s]kip it / [f]ail the task? "
        while (typed := _typed(question).lower()) not in (*REVIEW, *REVIEW.values()):
            pass
        return "resume", {"decision": REVIEW.get(typed, typed)}
    whole = json_text(asked.get("arguments"), indent=2)
    if not asked.get("diff") and len(whole) > SHORT_CHARS:
        print(whole, file=sys.stderr)
    while not (typed := _typed(f"allow {call}? [y]es / [n]o / why not: ")):
        pass
    if typed.lower() in APPROVE:
        return "approve", {}
    return "deny", {} if typed.lower() in DENY else {"reason": typed}


def _typed(question: str) -> str:
    return input(one_line(question)).strip()
