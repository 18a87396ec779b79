"""`chat`: a conversation in the terminal, each answer a task of the running service.

Owns the history, which goes with every question as messages. Promises that Ctrl-C ends the
answer and not the conversation, that Ctrl-D leaves, that a restart of the service costs no text,
and that without a terminal each line of stdin is a question. Never keeps anything on the disk.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from asyncsvc.cli.client import Api
from asyncsvc.cli.failure import FAILED, Failure
from asyncsvc.cli.submitting import stream
from asyncsvc.cli.transcript import Transcript

PROMPT = "> "


class Conversation:
    """What was said; `ask` adds a question and its answer."""

    def __init__(self, api: Api, model: str | None) -> None:
        self._api = api
        self._model = model
        self._messages: list[dict[str, str]] = []

    def ask(self, question: str) -> bool:
        """Show the answer as it comes; False where there was none. Raises Failure."""
        messages = [*self._messages, {"role": "user", "content": question}]
        fields: dict[str, Any] = {"messages": messages, "lane": "priority"}
        if self._model is not None:
            fields["model"] = self._model
        task_id: str = self._api.post("/tasks", fields)["task_id"]
        transcript = Transcript(sys.stdout, sys.stderr)
        try:
            asyncio.run(stream(self._api, task_id, transcript))
        except KeyboardInterrupt:
            with contextlib.suppress(Failure):  # it ended at this very moment
                self._api.steer(task_id, "cancel")
            transcript.say("cancelled")
        answer = self._api.task(task_id)["result"] or ""
        if answer:
            # What was said before a Ctrl-C was said: "go on" means that.
            self._messages = [*messages, {"role": "assistant", "content": answer}]
        return bool(answer)


def converse(api: Api, model: str | None) -> int:
    """Until Ctrl-D or the end of stdin; 1 where the last question had no answer."""
    models = {item["name"]: item for item in api.get("/models")["models"]}
    if model is not None and (found := models.get(model)) is not None and not found["enabled"]:
        raise Failure(f"model {model} is disabled: {found['reason']}")
    if model is not None and model not in models:
        raise Failure(f"there is no model {model!r}; known: {', '.join(models) or 'none'}")
    conversation, answered = Conversation(api, model), True
    lively = sys.stdin.isatty()
    if lively:
        print(f"{model or 'routed'} at {api.address.url}; Ctrl-C cancels, Ctrl-D leaves")
    for question in _questions() if lively else _lines():
        try:
            answered = conversation.ask(question)
        except Failure as error:
            answered = False
            print(f"asyncsvc: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            answered = False
            print(file=sys.stderr)
    return 0 if answered or lively else FAILED


def _questions() -> Iterator[str]:
    """What a person types, line by line, with the keys that a shell has."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` uses it where it is loaded
    while True:
        try:
            line = input(PROMPT)
        except KeyboardInterrupt:
            print()
            continue
        except EOFError:
            print()
            return
        if line.strip():
            yield line


def _lines() -> Iterator[str]:
    for raw in sys.stdin.buffer:
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise Failure("what stdin holds is not UTF-8 text") from None
        if line:
            yield line
