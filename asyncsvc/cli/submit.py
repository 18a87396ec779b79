"""`submit` and `chat`: tasks from a person's text to the answer, streamed into the terminal.

Ctrl-C while `submit --wait` waits cancels the task; in `chat` it ends the answer, Ctrl-D the
conversation. A broken connection or a restart of the service costs no text.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import Annotated, Any

import typer

from asyncsvc.cli.client import Api, follow, reach
from asyncsvc.cli.options import (
    FAILED,
    INTERRUPTED,
    THERE,
    Failure,
    Json,
    Lane,
    ModelOption,
    Priority,
    Prompt,
    Url,
    print_json,
    read_text,
)
from asyncsvc.cli.transcript import Transcript

app = typer.Typer()


@app.command(rich_help_panel=THERE)
def submit(
    text: Prompt,
    model: ModelOption = None,
    lane: Lane = "short",
    priority: Priority = 5,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stream the answer; exit 0, 1 failed, 130 cancelled.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit one task and print its id, or see it through with --wait."""
    fields = {"content": read_text(text), "lane": lane, "priority": priority}
    if model is not None:
        fields["model"] = model
    with reach(url) as api:
        return _submit(api, fields, wait, as_json)


def _submit(api: Api, fields: dict[str, Any], wait: bool, as_json: bool) -> int:
    accepted = api.post("/tasks", fields)
    task_id: str = accepted["task_id"]
    if wait:
        return _see_through(api, task_id, as_json)
    if as_json:
        print_json(accepted)
        return 0
    print(task_id, flush=True)
    if sys.stderr.isatty():
        print(_expected(accepted), file=sys.stderr)
    return 0


def watch_one(api: Api, task_id: str, as_json: bool) -> int:
    """Stream a task from its beginning; Ctrl-C leaves it alone."""
    api.task(task_id)
    if as_json:
        return asyncio.run(_print_events(api, task_id))
    transcript = Transcript(sys.stdout, sys.stderr)
    try:
        asyncio.run(stream(api, task_id, transcript))
    except KeyboardInterrupt:
        transcript.say("left; the task goes on")
        return INTERRUPTED
    return transcript.exit_code


def _see_through(api: Api, task_id: str, as_json: bool) -> int:
    transcript = Transcript(None if as_json else sys.stdout, sys.stderr)
    try:
        asyncio.run(stream(api, task_id, transcript))
    except KeyboardInterrupt:
        with contextlib.suppress(Failure):  # it ended at this very moment
            api.steer(task_id, "cancel")
        transcript.say("cancelled")
        if as_json:
            print_json(api.task(task_id))
        return INTERRUPTED
    if as_json:
        print_json(api.task(task_id))
    return transcript.exit_code


async def stream(api: Api, task_id: str, transcript: Transcript) -> None:
    """One task's events into the transcript, across restarts of the service."""

    def lost(why: str) -> None:
        if not told:
            transcript.say(f"connection lost ({why}); looking for the service again")
            told.append(why)

    told: list[str] = []
    async with aclosing(follow(api.address, task_id, lost=lost)) as events:
        async for event in events:
            told.clear()
            transcript.take(event)


async def _print_events(api: Api, task_id: str) -> int:
    transcript = Transcript(None, sys.stderr)
    async with aclosing(follow(api.address, task_id)) as events:
        async for event in events:
            print(json.dumps(event, ensure_ascii=False), flush=True)
            transcript.view.take(event)
    return transcript.exit_code


def _expected(accepted: dict[str, Any]) -> str:
    place, eta = accepted.get("position"), accepted.get("eta_s")
    parts = [accepted["status"]]
    if place is not None:
        parts.append(f"position {place}")
    if eta is not None:
        parts.append("starts at once" if eta < 1 else f"starts in about {eta:.0f} s")
    return ", ".join(parts)


@app.command(rich_help_panel=THERE)
def chat(model: ModelOption = None, url: Url = None) -> int:
    """Converse in the terminal: Ctrl-C cancels the answer, Ctrl-D leaves."""
    with reach(url) as api:
        return converse(api, model)


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
