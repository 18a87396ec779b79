"""A conversation: its questions and answers, and what is kept of them for the next question.

Owns the turns, the model and the system message. Promises that a question without an answer leaves
nothing behind, and that it can be asked again.
"""

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from asyncsvc.cli.client import Api, Unreachable
from asyncsvc.cli.failures import Failure
from asyncsvc.cli.transcript import Transcript, stream_or_cancel


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer. `completed`: the agent came to its end; `lasting`: the next
    question can go on from it."""

    question: str
    answer: str
    model: str | None
    completed: bool = True
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """How answers are shown; see `Transcript`."""

    asks: bool = False
    names_model: bool = False
    markdown: bool = False


PLAIN = Look()


class Conversation(ABC):
    """Questions and answers, each knowing those before it. `fields` are those of each task."""

    def __init__(self, api: Api, fields: dict[str, Any], look: Look) -> None:
        self._api = api
        self.fields = fields
        self.system: str | None = None
        self.turns: list[Turn] = []
        self._look = look
        self._named = ("", "")
        self._question: str | None = None
        self._answered = False

    @property
    def under_way(self) -> bool:
        """Whether the model and the system message stand for as long as the conversation goes on.

        It ends with `clear`."""
        return False

    @abstractmethod
    def answer(self, question: str, transcript: Transcript) -> Turn | None:
        """Show the answer as it comes; None: there was none. Raises Failure."""

    @abstractmethod
    def forget_last(self) -> None:
        """Go on from the question before the last one that was answered."""

    def ask(self, question: str) -> bool:
        """Answer a question; False where there was no answer. Raises Failure."""
        self._question, self._answered = question, False
        transcript = Transcript(
            sys.stdout,
            sys.stderr,
            asks=self._look.asks,
            names_model=self._look.names_model,
            markdown=self._look.markdown,
        )
        transcript.named = self._named
        turn = self.answer(question, transcript)
        self._named = transcript.named
        if turn is not None and turn.lasting:
            self.turns.append(turn)
            self._answered = True
        return turn is not None and turn.completed

    def retry(self) -> bool:
        """Ask the last question again, in the place of its answer. Raises Failure."""
        if self._question is None:
            raise Failure("there is no question yet that could be asked again")
        if self._answered:
            self.turns.pop()
            self.forget_last()
        return self.ask(self._question)

    def clear(self) -> None:
        """Forget all questions and answers; the model and the system message stay."""
        self.turns.clear()
        self._question, self._answered = None, False

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return what is sent: the system message, all turns and the question."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *self.turn_messages(), {"role": "user", "content": question}]

    def turn_messages(self) -> list[dict[str, str]]:
        """Return all turns as messages."""
        found = []
        for turn in self.turns:
            found.append({"role": "user", "content": turn.question})
            found.append({"role": "assistant", "content": turn.answer})
        return found


class ModelConversation(Conversation):
    """A conversation without tools: each question is a task with all messages so far."""

    def answer(self, question: str, transcript: Transcript) -> Turn | None:
        body = self.fields | {"messages": self.messages(question)}
        task_id: str = self._api.post("/tasks", body)["task_id"]
        stream_or_cancel(self._api, task_id, transcript)
        try:
            answer = self._api.task(task_id)["result"] or ""
        except Unreachable:  # it has ended, so the stream gave all of it
            answer = transcript.view.text
        # The text before a Ctrl-C belongs to the conversation: "go on" means that text.
        return Turn(question, answer, transcript.view.name) if answer else None

    def forget_last(self) -> None:
        pass  # the messages are made of the turns
