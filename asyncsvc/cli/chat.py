"""`chat`: a conversation in the terminal.

Ctrl-C ends the answer, Ctrl-D the conversation. A broken connection or a restart of the service
costs no text.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import typer

from asyncsvc.cli.agent_chat import AgentConversation
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.options import (
    FAILED,
    THERE,
    AgentFlag,
    Approvals,
    Failure,
    Files,
    ModelOption,
    MostSteps,
    Tools,
    Url,
    agent_fields,
)
from asyncsvc.cli.terminal import say
from asyncsvc.cli.transcript import Transcript, stream_or_cancel

app = typer.Typer()


@app.command(rich_help_panel=THERE)
def chat(
    model: ModelOption = None,
    agent: AgentFlag = False,
    tool: Tools = None,
    approve: Approvals = None,
    max_steps: MostSteps = None,
    file: Files = None,
    url: Url = None,
) -> int:
    """Converse in the terminal: Ctrl-C cancels the answer, Ctrl-D leaves."""
    own = agent_fields(agent, tool, approve, max_steps, file)
    with reach(url) as api:
        _check_model(api, model)
        lively = sys.stdin.isatty()
        fields = {"lane": "priority"} | own | ({} if model is None else {"model": model})
        kind = AgentConversation(api, fields, asks=lively) if agent else Chat(api, fields)
        if lively:
            what = "agent, " if agent else ""
            say(f"{what}{model or 'routed'} at {api.address.url}; Ctrl-C cancels, Ctrl-D leaves")
        return _converse(kind, lively)


class Conversation(Protocol):
    """Answers to questions, each knowing those before it."""

    def ask(self, question: str) -> bool:
        """Show the answer as it comes; False where there was none. Raises Failure."""


def _check_model(api: Api, model: str | None) -> None:
    models = {item["name"]: item for item in api.get("/models")["models"]}
    if model is not None and model not in models:
        raise Failure(f"there is no model {model!r}; known: {', '.join(models) or 'none'}")
    if model is not None and not models[model]["enabled"]:
        raise Failure(f"model {model} is disabled: {models[model]['reason']}")


def _converse(conversation: Conversation, lively: bool) -> int:
    """Answer questions until Ctrl-D or the end of stdin; 1 where the last had no answer."""
    answered = True
    for question in _questions() if lively else _lines():
        try:
            answered = conversation.ask(question)
        except Failure as error:
            answered = False
            say(f"asyncsvc: {error}", sys.stderr)
        except KeyboardInterrupt:
            answered = False
            print(file=sys.stderr)
    return 0 if answered or lively else FAILED


class Chat:
    """A conversation without tools: each question is a task with all messages so far."""

    def __init__(self, api: Api, fields: dict[str, Any]) -> None:
        self._api = api
        self._fields = fields
        self._messages: list[dict[str, str]] = []

    def ask(self, question: str) -> bool:
        asked = {"role": "user", "content": question}
        fields = self._fields | {"messages": [*self._messages, asked]}
        task_id: str = self._api.post("/tasks", fields)["task_id"]
        stream_or_cancel(self._api, task_id, Transcript(sys.stdout, sys.stderr))
        answer = self._api.task(task_id)["result"] or ""
        if answer:
            # The text before a Ctrl-C belongs to the conversation: "go on" means that text.
            self._messages += [asked, {"role": "assistant", "content": answer}]
        return bool(answer)


def _questions() -> Iterator[str]:
    """Yield what a person types, line by line, with the keys of a shell."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - `input` uses it where it is loaded
    while True:
        try:
            line = input("> ")
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
